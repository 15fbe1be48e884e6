// A loop over rows on all cores, for models: what it computes never depends on the number of threads.
#pragma once
#include "kernels/common/parallel.h"

namespace ranvier {

/// Calls `body(begin, end)` for pieces of 0 ... rows, cut by their number alone into about `grain` rows each, in any
/// order. A body writes only what belongs to its rows.
template <class Body>
void for_rows(int64_t rows, int64_t grain, Body&& body) {
  const int64_t shards = kernels::shard_count(rows, grain);
  kernels::parallel_for(shards, [&](int64_t shard) {
    body(kernels::shard_begin(rows, shards, shard), kernels::shard_begin(rows, shards, shard + 1));
  });
}

}  // namespace ranvier
