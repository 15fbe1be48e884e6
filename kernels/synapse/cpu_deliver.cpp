// Delivery on the CPU.
#include "kernels/synapse/deliver.h"

namespace ranvier::kernels::synapse::cpu {
namespace {
constexpr int32_t whole = int32_t{1} << weight_bits;
}  // namespace

void deliver(int64_t n, const uint32_t* target, const int32_t* weight, int32_t factor, int64_t* sums) {
  if (factor == whole) {
    for (int64_t i = 0; i < n; ++i) sums[target[i]] += weight[i];
  } else {
    for (int64_t i = 0; i < n; ++i) sums[target[i]] += released(weight[i], factor);
  }
}

void deliver_row(int64_t n, const int32_t* __restrict weight, int32_t factor, int64_t* __restrict sums) {
  if (factor == whole) {
    for (int64_t i = 0; i < n; ++i) sums[i] += weight[i];
  } else {
    for (int64_t i = 0; i < n; ++i) sums[i] += released(weight[i], factor);
  }
}

void deliver_plastic(const Stdp& rule, int64_t n, const uint32_t* target, float* weight, float* change,
                     const float* trace, double unit, int32_t factor, int64_t* sums) {
  float* changed = rule.accumulated ? change : weight;
  for (int64_t i = 0; i < n; ++i) {
    const uint32_t j = target[i];
    sums[j] += released(fixed_point(weight[i], unit), factor);
    changed[i] = depressed(rule, changed[i], trace[j]);
  }
}

int64_t same_delay(const uint16_t* delay, int64_t begin, int64_t end) {
  const uint16_t first = delay[begin];
  int64_t i = begin + 1;
  for (constexpr int64_t width = 32; i + width <= end; i += width) {  // a vector at a time
    uint16_t different = 0;
    for (int64_t k = 0; k < width; ++k) different |= delay[i + k] ^ first;
    if (different) break;
  }
  while (i < end && delay[i] == first) ++i;
  return i;
}

void decay(int64_t n, float factor, const float* from, float* to) {
  for (int64_t i = 0; i < n; ++i) to[i] = from[i] * factor;
}

}  // namespace ranvier::kernels::synapse::cpu
