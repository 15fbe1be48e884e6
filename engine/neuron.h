// One Izhikevich neuron through time: solvers, modes, stimulus, and everything a run tells about itself.
#pragma once
#include <cstdint>
#include <functional>
#include <limits>
#include <string>
#include <string_view>
#include <vector>

#include "engine/error.h"
#include "kernels/izhikevich/adaptive.h"
#include "kernels/izhikevich/model.h"

// A neuron alone is a host loop, not a traced step: it has one state, and its solvers may choose their own steps. The
// arithmetic of a step is kernels/izhikevich, the same that populations run on every backend.

namespace ranvier::neuron {

using Parameters = kernels::izhikevich::Parameters;  ///< coefficients of the equation, see kernels/izhikevich/model.h
using AdaptiveRule = kernels::izhikevich::AdaptiveRule;

/// The schemes that step the equation.
enum class Solver {
  euler,
  izhikevich,  ///< Euler, u from the new v
  backward_euler,
  midpoint,
  rk4,
  ab2,
  exponential,
  linear_implicit,
  linear_implicit_adaptive,
  reference,  ///< Taylor series of order 24, adaptive, f64
};

/// What happens at a spike, and with it what is computed.
enum class Mode {
  accurate,        ///< crossings of v_peak located inside the step, steps split at edges of the stimulus
  published,       ///< the solver with its reset at the end of the step, current held from the step's start
  published_2003,  ///< net.m: reset first, two half steps of v, then u
  published_2004,  ///< the pattern script: v, then u from the new v, reset where v > 30
};

/// A script as printed, with its own steps: no solver is asked for.
inline bool printed(Mode mode) { return mode == Mode::published_2003 || mode == Mode::published_2004; }

enum class Precision { f32, f64 };

/// What a spike time is.
enum class SpikeEvent {
  peak,  ///< v reaches v_peak: the reset
  zero,  ///< v rises through 0 mV
};

// Names as the program takes and prints them.
std::string_view name(Solver);
std::string_view name(Mode);
std::string_view name(Precision);
std::string_view name(SpikeEvent);
/// "mode accurate, solver rk4", or the mode alone where it is printed.
std::string method_text(Mode, Solver);
/// Throw Error listing the names there are.
Solver solver_named(std::string_view);
Mode mode_named(std::string_view);
Precision precision_named(std::string_view);
SpikeEvent spike_event_named(std::string_view);
const std::vector<Solver>& all_solvers();

/// Input current, pA (2007) or the dimensionless unit of 2003: piecewise linear in time.
class Stimulus {
 public:
  /// From `begin` on (or from just after it) the current is value + slope (t - begin).
  struct Piece {
    double begin, value, slope = 0;
    bool after = false;  ///< at t == begin the earlier piece still holds: the printed t > begin
  };

  Stimulus() = default;
  /// Pieces in ascending order; before the first the current is 0. Throws Error on values that are not finite.
  explicit Stimulus(std::vector<Piece> pieces);
  static Stimulus constant(double value) { return Stimulus({{minus_infinity, value}}); }

  /// The current at a grid time.
  double at(double t) const;
  const std::vector<Piece>& pieces() const { return pieces_; }
  friend Stimulus operator+(const Stimulus&, const Stimulus&);

  static constexpr double minus_infinity = -std::numeric_limits<double>::infinity();

 private:
  std::vector<Piece> pieces_;
};

/// Normal values of this deviation, each held for `interval` ms from 0 on: the value of interval k is Philox of (seed,
/// step k, element `neuron`), in f32, so that every solver, step and type sees the same one.
Stimulus noise(double deviation, double interval, double duration, uint64_t seed, uint64_t neuron);

struct Result;

/// One run.
struct Protocol {
  Parameters parameters;
  double v0 = -65, u0 = -13;
  Stimulus current;
  Solver solver = Solver::rk4;
  Mode mode = Mode::accurate;
  Precision precision = Precision::f64;
  SpikeEvent spike_event = SpikeEvent::peak;
  double dt = 0.1, duration = 1000;         ///< ms; adaptive solvers sample at multiples of dt
  bool trace = false;                       ///< keep t, v, u of every step
  AdaptiveRule rule;                        ///< of linear_implicit_adaptive in mode accurate
  std::vector<double> samples;              ///< reference only: trace at these ascending times instead
  std::function<bool(const Result&)> stop;  ///< asked now and then how it stands: true ends the run after the step
};

/// States at the ends of steps, after resets; nothing computed is overwritten by a drawn peak.
struct Trace {
  std::vector<double> t, v, u;
  std::vector<double> h;  ///< length of the step that led there, or past there
};

/// What a run gives.
struct Result {
  std::vector<double> spikes;                         ///< ms
  double t = 0, v = 0, u = 0;                         ///< the end
  double v_min = 0, v_max = 0, u_min = 0, u_max = 0;  ///< of all computed values, peaks included
  int64_t steps = 0;                                  ///< accepted
  int64_t rejections = 0;                             ///< tries of an adaptive solver that were given up
  int64_t evaluations = 0;                            ///< of the right-hand side
  int64_t jacobians = 0;
  int64_t pieces = 0;  ///< shorter pieces of steps that had no solution at full length
  bool stopped = false;
  double seconds = 0;  ///< of the loop alone
  Trace trace;
};

/// A neuron that spikes without end or leaves the range of numbers; what happened before is kept.
struct Runaway : Error {
  Runaway(const std::string& what, Result run) : Error(what), run(std::move(run)) {}
  Result run;
};

/// Throws Error, naming key and value: C, q2 not positive, anything not finite, v_peak <= c, v0 >= v_peak.
void validate(const Parameters&);
void validate(const Protocol&);

/// Runs it. Throws Error on a bad setup and Runaway where the neuron has no bounded answer; `label` names it there.
/// published_2004 gives a spike the time of the script's loop, the start of its step; the others the step's end.
Result simulate(const Protocol&, std::string_view label = "neuron 0");

}  // namespace ranvier::neuron
