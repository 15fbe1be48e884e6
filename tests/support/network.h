// Populations that tests of networks connect.
#pragma once
#include "models/neurons/connectivity.h"

namespace ranvier::test {

inline neuron::PopulationSpec cells(const char* name, int64_t size, double current = 0) {
  neuron::PopulationSpec p;
  p.name = name, p.size = size, p.v0 = -70, p.u0 = -14;  // at rest without a current
  p.current = neuron::Stimulus::constant(current);
  return p;
}

/// A projection of all to all, its weights 1 and its delays 1 ms, to start from.
inline neuron::ConnectSpec between(const neuron::NetworkSpec& s, const char* name, int source, int target) {
  neuron::ConnectSpec c;
  c.name = name, c.dt = s.dt, c.seed = s.seed;
  c.sources = s.populations[source].size, c.targets = s.populations[target].size, c.same = source == target;
  c.weight.a = 1;
  return c;
}

}  // namespace ranvier::test
