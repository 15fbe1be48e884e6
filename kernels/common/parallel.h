// Fixed-shard parallel loops: results never depend on the number of threads, because shards are cut by shape alone.
#pragma once
#include <algorithm>
#include <cstdint>

namespace ranvier::kernels {

/// Number of shards that cut `work` units into pieces of about `grain`, at most `most`: a function of the shape only.
inline int64_t shard_count(int64_t work, int64_t grain, int64_t most = 64) {
  return std::clamp<int64_t>((work + grain - 1) / std::max<int64_t>(grain, 1), 1, most);
}

/// First unit of shard `shard` of `shards` over `work` units; shard `shards` gives the end.
inline int64_t shard_begin(int64_t work, int64_t shards, int64_t shard) { return work * shard / shards; }

/// Calls `body(shard)` for every shard on the OpenMP team of the calling thread, in any order. A body writes only what
/// belongs to its shard; partial sums go to an array indexed by shard and are added afterwards in index order.
template <class Body>
void parallel_for(int64_t shards, Body&& body) {
  if (shards <= 1) {
    if (shards == 1) body(int64_t{0});
    return;
  }
#pragma omp parallel for schedule(static)
  for (int64_t shard = 0; shard < shards; ++shard) body(shard);
}

}  // namespace ranvier::kernels
