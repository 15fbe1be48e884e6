// Delivery of spikes: a stretch of one source's synapses into the sums of its targets.
#pragma once
#include <cstddef>
#include <cstdint>

#include "kernels/synapse/synapse.h"

namespace ranvier::kernels::synapse::cpu {

/// sums[target[i]] += weight[i] * factor / 2^30; factor 2^30 is exactly the weight.
void deliver(int64_t n, const uint32_t* target, const int32_t* weight, int32_t factor, int64_t* sums);

/// The same where the targets are n neighbours, `sums` the first one's.
void deliver_row(int64_t n, const int32_t* weight, int32_t factor, int64_t* sums);

/// Plastic synapses: delivers the weight as it stands, then lets the arrival change it, or `change` where the rule
/// keeps a sum (else null). `trace` is that of the targets.
void deliver_plastic(const Stdp& rule, int64_t n, const uint32_t* target, float* weight, float* change,
                     const float* trace, double unit, int32_t factor, int64_t* sums);

/// Asks the caches for what is needed soon.
inline void fetch(const void* data, size_t bytes) {
  for (size_t at = 0; at < bytes; at += 64) __builtin_prefetch(static_cast<const char*>(data) + at);
}

/// Synapses from begin on, below end, of the same delay.
int64_t same_delay(const uint16_t* delay, int64_t begin, int64_t end);

/// trace[n] *= decay.
void decay(int64_t n, float decay, const float* from, float* to);

}  // namespace ranvier::kernels::synapse::cpu
