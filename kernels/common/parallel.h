// Fixed-shard parallel loops: results never depend on the number of threads, because shards are cut by shape alone.
#pragma once
#include <algorithm>
#include <cstdint>

#if defined(_OPENMP)
#include <omp.h>
#endif

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

/// The same with scratch memory: calls `body(shard, slot)` on a team of at most `slots` threads, where no two bodies
/// that run at once share a slot. A slot is memory to work in and nothing else: a body may depend on nothing it finds
/// there.
template <class Body>
void parallel_for_slots(int64_t shards, [[maybe_unused]] int64_t slots, Body&& body) {
  if (shards <= 1) {
    if (shards == 1) body(int64_t{0}, int64_t{0});
    return;
  }
#if defined(_OPENMP)
  const int threads = static_cast<int>(std::min<int64_t>(std::min(shards, slots), omp_get_max_threads()));
#pragma omp parallel for schedule(static) num_threads(threads)
  for (int64_t shard = 0; shard < shards; ++shard) body(shard, int64_t{omp_get_thread_num()});
#else
  for (int64_t shard = 0; shard < shards; ++shard) body(shard, int64_t{0});
#endif
}

}  // namespace ranvier::kernels
