// Populations whose neurons differ, for tests.
#pragma once
#include "engine/population.h"
#include "kernels/common/philox.h"

namespace ranvier::test {

inline double uniform(uint64_t stream, int64_t i) {
  return static_cast<double>(kernels::philox::uniform({7, stream, 0}, static_cast<uint64_t>(i)));
}

/// n neurons of the 2003 form whose c, d and current differ, as in net.m; a and b too where `rates`.
inline neuron::PopulationSpec mixed(int64_t n, bool rates = true) {
  neuron::PopulationSpec spec;
  spec.size = n;
  spec.current = neuron::Stimulus::constant(1);
  for (int64_t i = 0; i < n; ++i) {
    const double r = uniform(1, i);
    spec.each["c"].push_back(-65 + 15 * r * r), spec.each["d"].push_back(8 - 6 * r * r);
    if (rates) spec.each["a"].push_back(0.02 + 0.08 * r), spec.each["b"].push_back(0.25 - 0.05 * r);
    spec.current_each.push_back(15 * uniform(2, i));
  }
  return spec;
}

}  // namespace ranvier::test
