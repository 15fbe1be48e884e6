// Parallel loops over rows of elements, and the merging of axes that move together into one block.
#pragma once
#include <algorithm>

#include "kernels/common/dims.h"
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

/// Trailing axes for which `whole(k)` holds, taken together as one block of elements: returns the axes that remain.
template <class Whole>
int merge_tail(const Dims& dims, Whole whole, int64_t& block) {
  int rank = dims.rank;
  block = 1;
  while (rank > 1 && whole(rank - 1)) block *= dims.d[--rank];
  return rank;
}

}  // namespace ranvier::kernels
