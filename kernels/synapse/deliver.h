// Delivery of spikes: a stretch of one source's synapses into the sums of its targets.
#pragma once
#include <algorithm>
#include <atomic>
#include <cstddef>
#include <cstdint>

#include "kernels/synapse/synapse.h"

namespace ranvier::kernels::synapse::cpu {

/// sums[target[i]] += weight[i] * factor / 2^30; factor 2^30 is exactly the weight. Index: uint16_t, uint32_t.
template <class Index>
void deliver(int64_t n, const Index* target, const int32_t* weight, int32_t factor, int64_t* sums);

/// The same where the targets are n neighbours, `sums` the first one's.
void deliver_row(int64_t n, const int32_t* weight, int32_t factor, int64_t* sums);

/// Plastic synapses: delivers the weight as it stands, then lets the arrival change it, or `change` where the rule
/// keeps a sum (else null). `trace` is that of the targets.
void deliver_plastic(const Stdp& rule, int64_t n, const uint32_t* target, float* weight, float* change,
                     const float* trace, double unit, int32_t factor, int64_t* sums);

/// Asks the caches for the lines that are needed soon. The fence, which is no instruction, keeps them: GCC takes a
/// function that only prefetches for one without effect, and leaves out the calls.
inline void fetch(const void* data, size_t bytes) {
  const auto first = reinterpret_cast<uintptr_t>(data) / 64 * 64, end = reinterpret_cast<uintptr_t>(data) + bytes;
  for (uintptr_t line = first; line < end; line += 64) __builtin_prefetch(reinterpret_cast<const void*>(line));
  std::atomic_signal_fence(std::memory_order_seq_cst);
}

/// How many of n rising targets, drawn from `all` neurons, are below `bound`: looks first where an even spread has it.
template <class Index>
int64_t below(int64_t n, const Index* target, int64_t bound, int64_t all) {
  if (bound <= 0 || n == 0) return 0;
  if (bound >= all) return n;
  const int64_t guess = std::min(n - 1, n * bound / all);
  int64_t low = 0, high = n, step = 8;
  if (target[guess] < bound) {
    for (low = guess + 1, high = std::min(n, low + step); high < n && target[high - 1] < bound; step *= 2)
      low = high, high = std::min(n, low + step);
  } else {
    for (high = guess, low = std::max<int64_t>(0, high - step); low > 0 && !(target[low - 1] < bound); step *= 2)
      high = low - 1, low = std::max<int64_t>(0, high - step);
  }
  return std::lower_bound(target + low, target + high, static_cast<Index>(bound)) - target;
}

/// trace[n] *= decay.
void decay(int64_t n, float decay, const float* from, float* to);

}  // namespace ranvier::kernels::synapse::cpu
