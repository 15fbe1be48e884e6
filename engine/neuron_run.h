// What the loops over one neuron's steps share: recording, bounds, and the stimulus step by step. Private to the
// engine.
#pragma once
#include <cmath>
#include <cstdint>

#include "engine/neuron.h"
#include "kernels/izhikevich/model.h"

namespace ranvier::neuron {

using kernels::izhikevich::State;

/// A run under way.
class Recorder {
 public:
  Recorder(const Protocol& protocol, std::string_view label);

  const Protocol& protocol;
  Result run;

  /// A spike at the peak or, where 0 mV is the event, a crossing of it.
  void spike(double time) { run.spikes.push_back(time); }
  /// A computed value that is not a step's end: a peak.
  void touch(double v, double u);
  /// The end of a step, of length h.
  void state(double t, double v, double u, double h);
  /// True when the run shall end here.
  bool stop();
  [[noreturn]] void runaway(double time);
  [[noreturn]] void diverged(double time);
  [[noreturn]] void unsolvable(double time);

 private:
  std::string label_;
  int64_t asked_ = 0;
};

/// Walks a piecewise linear stimulus forward in time.
class Cursor {
 public:
  explicit Cursor(const Stimulus& stimulus) : pieces_(&stimulus.pieces()) {}
  /// Moves to the piece that holds right after `t`; edges up to `slack` later count as passed. True when it changed.
  bool advance(double t, double slack);
  /// The next edge, or infinity.
  double next_edge() const;
  double value(double t) const;
  double slope() const { return index_ == 0 ? 0 : (*pieces_)[index_ - 1].slope; }

 private:
  const std::vector<Stimulus::Piece>* pieces_;
  size_t index_ = 0;  // pieces passed
};

/// Steps of length dt that cover the duration.
int64_t step_count(const Protocol&);

Result run_fixed(const Protocol&, std::string_view label);
Result run_adaptive(const Protocol&, std::string_view label);
Result run_reference(const Protocol&, std::string_view label);

}  // namespace ranvier::neuron
