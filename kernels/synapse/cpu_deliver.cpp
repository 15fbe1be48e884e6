// Delivery on the CPU.
#include "kernels/synapse/deliver.h"

namespace ranvier::kernels::synapse::cpu {
namespace {
constexpr int32_t whole = int32_t{1} << weight_bits;
}  // namespace

template <class Index>
void deliver(int64_t n, const Index* target, const int32_t* weight, int32_t factor, int64_t* sums) {
  if (factor == whole) {
    for (int64_t i = 0; i < n; ++i) sums[target[i]] += weight[i];
  } else {
    for (int64_t i = 0; i < n; ++i) sums[target[i]] += released(weight[i], factor);
  }
}

template void deliver(int64_t, const uint16_t*, const int32_t*, int32_t, int64_t*);
template void deliver(int64_t, const uint32_t*, const int32_t*, int32_t, int64_t*);

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

void decay(int64_t n, float factor, const float* from, float* to) {
  for (int64_t i = 0; i < n; ++i) to[i] = from[i] * factor;
}

}  // namespace ranvier::kernels::synapse::cpu
