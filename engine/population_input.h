// The current that flows into a population from outside, step by step. Private to the engine.
#pragma once
#include <vector>

#include "engine/neuron_run.h"
#include "engine/population.h"

namespace ranvier::neuron {

/// A Process under way.
struct RunningProcess {
  const Process* process;
  uint64_t stream = 0;
  int64_t interval = -1;  ///< the one that holds
  std::vector<float>
      state;  ///< noise: the normal draw; ou: in units of its deviation; poisson: the sum of decayed events
};

/// Stimulus, constants and processes of a population. In mode accurate it walks from edge to edge like the loop of one
/// neuron; elsewhere the value at a step's start holds.
class ExternalCurrent {
 public:
  explicit ExternalCurrent(const PopulationSpec& spec);

  /// Goes to what holds from t on; true when that is something new.
  bool move(double t);
  /// Takes up a run at t, whose processes are restored, in a new object: edges before t are passed.
  void resume(double t) { cursor_.advance(t, -slack_); }
  /// No change before this time; infinity without any.
  double next_edge() const;
  /// Whether the current changes inside steps.
  bool grows() const { return accurate_ && (cursor_.slope() != 0 || !sinusoids_.empty()); }
  /// Steps from `step` on, at most `most`, that need no new value. Modes with the reset on the grid.
  int64_t held_steps(int64_t step, int64_t most) const;
  /// The part that all neurons share, at t, and its slope over the next h ms.
  double shared(double t) const;
  double slope(double t, double h) const;
  /// True where neurons differ.
  bool differs() const { return !spec_.current_each.empty() || !running_.empty(); }
  /// Adds the part of neurons first .. first + count - 1 to out.
  void add(int64_t first, int64_t count, double* out) const;

  std::vector<RunningProcess>& running() { return running_; }
  const std::vector<RunningProcess>& running() const { return running_; }
  static uint64_t bytes_per_neuron(const PopulationSpec& spec);

 private:
  void draw(RunningProcess& running, int64_t interval);

  const PopulationSpec& spec_;
  bool accurate_;
  double slack_;
  Cursor cursor_;
  std::vector<const Process*> sinusoids_;
  std::vector<RunningProcess> running_;
  std::vector<float> scratch_;
};

}  // namespace ranvier::neuron
