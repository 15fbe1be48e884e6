// Runs a solver and the reference side by side.
#include "models/neurons/compare.h"

namespace ranvier::neuron {

Result reference_of(const Protocol& protocol, const Result& run) {
  Protocol reference = protocol;
  reference.solver = Solver::reference, reference.mode = Mode::accurate, reference.precision = Precision::f64;
  reference.trace = true, reference.samples = run.trace.t;
  reference.duration = std::max(protocol.duration, run.t);  // a published adaptive run ends beyond T
  return simulate(reference, "the reference");
}

Comparison compare(const Protocol& protocol, Result run, const Result& reference) {
  Comparison c;
  // Steps of an adaptive solver crowd at spikes: each counts as long as it is.
  const bool own_steps = protocol.solver == Solver::linear_implicit_adaptive;
  const std::vector<double> weights = own_steps ? run.trace.h : std::vector<double>{};
  c.v = errors(run.trace.v, reference.trace.v, weights);
  c.u = errors(run.trace.u, reference.trace.u, weights);
  std::vector<double> spikes = run.spikes, truth = reference.spikes;
  for (auto* times : {&spikes, &truth}) std::erase_if(*times, [&](double t) { return t > protocol.duration; });
  c.spikes = match_spikes(spikes, truth);
  c.isi = intervals(spikes);
  c.run = std::move(run);
  return c;
}

namespace {

Comparison stopped(Result run) {
  Comparison c;
  c.run = std::move(run), c.run.stopped = true;
  return c;
}

}  // namespace

Comparison compare(Protocol protocol) {
  protocol.trace = true;
  Result run = simulate(protocol);
  if (run.stopped) return stopped(std::move(run));
  const Result reference = reference_of(protocol, run);
  if (reference.stopped) return stopped(std::move(run));
  return compare(protocol, std::move(run), reference);
}

}  // namespace ranvier::neuron
