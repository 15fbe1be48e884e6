// Populations that tests of networks connect.
#pragma once
#include "engine/neuron_network.h"

namespace ranvier::test {

inline neuron::PopulationSpec cells(const char* name, int64_t size, double current = 0) {
  neuron::PopulationSpec p;
  p.name = name, p.size = size, p.v0 = -70, p.u0 = -14;  // at rest without a current
  p.current = neuron::Stimulus::constant(current);
  return p;
}

}  // namespace ranvier::test
