// Input currents as text: what --current takes.
#pragma once
#include <cstdint>
#include <string_view>
#include <vector>

#include "engine/population.h"

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

/// A current of many neurons: what all share, what is each one's own, and what is drawn for each.
struct PopulationCurrent {
  Stimulus shared;
  std::vector<double> each;  ///< empty: none
  std::vector<Process> processes;
};

/// The parts of parse_current, noise drawn for each neuron, and
///   noise:sd=5[,mean=0][,dt=1]                        new every dt ms
///   ou:sd=5,tau=10[,mean=0][,dt=1]                    Ornstein-Uhlenbeck
///   poisson:rate=100,weight=2[,tau=5][,dt=1]          events of so many Hz, decaying with tau ms
///   sin:5@10[,0.25]                                   amplitude 5 at 10 Hz, phase in turns
///   each:FILE                                         a constant for each neuron: `size` values
///   table:FILE[,dt=1]                                 a row of `size` values every dt ms, the last one held
/// Files are NPY (f8, f4, i8, i4 in C order) or CSV.
PopulationCurrent parse_population_current(std::string_view spec, int64_t size, double duration);

}  // namespace ranvier::neuron
