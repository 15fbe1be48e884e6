// One solver against the reference solution of the same neuron and stimulus.
#pragma once
#include "models/neurons/metrics.h"

namespace ranvier::neuron {

/// What a run is worth. Errors are at the run's own step ends, where the reference series is evaluated too.
struct Comparison {
  Result run;
  Errors v, u;
  SpikeMatch spikes;
  Intervals isi;
};

/// Runs the protocol with its trace and the reference beside it. A run that throws Runaway throws here.
Comparison compare(Protocol protocol);
/// The reference at the step ends of a run, with the protocol's stimulus.
Result reference_of(const Protocol& protocol, const Result& run);
Comparison compare(const Protocol& protocol, Result run, const Result& reference);

}  // namespace ranvier::neuron
