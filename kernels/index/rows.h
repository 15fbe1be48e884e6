// Parallel loops over rows of elements.
#pragma once
#include <algorithm>

#include "kernels/common/parallel.h"

namespace ranvier::kernels {

/// Calls `body(row)` for every row, in shards of about 16384 elements.
template <class Body>
void for_rows(int64_t rows, int64_t row_size, Body&& body) {
  if (rows <= 0) return;
  const int64_t shards = shard_count(rows, std::max<int64_t>(16384 / std::max<int64_t>(row_size, 1), 1));
  parallel_for(shards, [&](int64_t shard) {
    for (int64_t row = shard_begin(rows, shards, shard); row < shard_begin(rows, shards, shard + 1); ++row) body(row);
  });
}

}  // namespace ranvier::kernels
