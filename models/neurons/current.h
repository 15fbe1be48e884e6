// Input currents as text: what --current takes.
#pragma once
#include <cstdint>
#include <string_view>

#include "engine/neuron.h"

namespace ranvier::neuron {

/// What a noise current depends on.
struct CurrentContext {
  uint64_t seed = 0;
  uint64_t neuron = 0;
  double duration = 1000;  ///< ms
};

/// A sum of parts joined by ';':
///   70                       constant
///   step:70@100              70 from t >= 100 ms
///   pulse:9@10..12           9 in 10 <= t < 12
///   ramp:0..70@100..500      from 0 at 100 ms to 70 at 500 ms, 0 before, 70 after
///   noise:sd=5[,dt=1]        normal values held for dt ms, Philox of (seed, interval, neuron)
///   FILE or file:FILE        rows "t_ms,current" in ascending time, each held until the next; 0 before the first
/// Throws Error naming the part, or the file and line.
Stimulus parse_current(std::string_view spec, const CurrentContext& context);

}  // namespace ranvier::neuron
