// A physics-informed solver of a resetting neuron: networks on causal windows, every spike from the equations alone.
#pragma once
#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "engine/ops.h"

namespace ranvier::pinn {

/// Izhikevich's neuron in the general quadratic form (mV, ms; currents in pA and C in pF, or all without units):
///   C v' = q2 v^2 + q1 v + q0 - u + I,   u' = a (b (v - v_b) - u),   at v = v_peak: v <- c, u <- u + d.
struct Neuron {
  std::string name;
  double C = 1, q2 = 0.04, q1 = 5, q0 = 140;
  double a = 0.02, b = 0.2, v_b = 0, c = -65, d = 8, v_peak = 30;
  double v0 = -65, u0 = -13;

  /// v' = 0.04 v^2 + 5 v + 140 - u + I, u' = a (b v - u) (Izhikevich 2003). Starts at v = -65, u = b v.
  static Neuron form2003(double a, double b, double c, double d);
  /// C v' = k (v - v_r)(v - v_t) - u + I, u' = a (b (v - v_r) - u) (Izhikevich 2007). Starts at v_r, 0.
  static Neuron form2007(double C, double k, double v_r, double v_t, double v_peak, double a, double b, double c,
                         double d);
  /// rs2003 ib2003 ch2003 fs2003 lts2003 tc2003 rz2003, rs2007 ib2007 ch2007; throws Error on another name.
  static Neuron preset(std::string_view name);
  /// Changes parameters by name, "a=0.03,d=50": C k v_r v_t q2 q1 q0 a b v_b c d v_peak v0 u0. A start at v_r or at
  /// u = b (v - v_b) moves with them, unless v0 or u0 is named.
  void set(std::string_view assignments);
  /// Throws Error where the equations make no spiking neuron: C <= 0, q2 <= 0, v_peak <= c, a <= 0, not finite.
  void check() const;

  /// v' and u'.
  double dv(double v, double u, double current) const { return (q2 * v * v + q1 * v + q0 - u + current) / C; }
  double du(double v, double u) const { return a * (b * (v - v_b) - u); }
};

/// A piecewise constant current.
struct Current {
  struct Step {
    double t_ms, value;
  };
  std::vector<Step> steps = {{0, 0}};  ///< value from t on; times rise, the first is 0

  /// "70", "step:70@100", "pulse:9@10..12", several joined by ';' add up. Throws Error naming what it cannot read.
  static Current parse(std::string_view spec);
  double at(double t_ms) const;
  /// The first time after t at which the value changes, or `end`.
  double next_change(double t_ms, double end) const;
};

/// How a solution is sought.
struct Options {
  int64_t hidden = 16;         ///< tanh units of a segment's network
  int64_t points = 96;         ///< collocation points of a segment
  double window_ms = 20;       ///< longest window; halved where a network does not meet its equation
  double shortest_ms = 0.01;   ///< a window below it fails the run
  double A_mv = 20;            ///< v = v_c + A tan(phi)
  double window_loss = 1e-12;  ///< mean squared residual at which a window is accepted
  double spike_loss = 1e-12;   ///< the same for a segment that ends in a spike
  double fresh_ratio = 2;      ///< residual on ten times as many new points, over that on the training points
  int64_t iterations = 1000;   ///< of the optimizer, a segment: what takes more is better halved
  bool levenberg_marquardt = false;
  uint64_t seed = 0;
  double budget_seconds = 1e9;  ///< the run fails beyond it, within a fit too, keeping what it has
  /// Options that aim at speed ("fast") or at accuracy ("best"); throws Error on another word.
  static Options quality(std::string_view word);
  /// Throws Error where a size, length or loss is not positive and finite, or the budget is negative.
  void check() const;
};

/// One network of the solution, on start <= t <= start + length, with s = (t - start) / length:
///   phi = phi0 + rise s + m(s) N_1(s),  u = u0 + scale s N_2(s),  v = v_c + A tan(phi),
/// m = s on a window, s (1 - s) on a segment that ends in a spike (there phi(1) = phi_peak by construction).
struct Segment {
  double start_ms = 0, length_ms = 0, current = 0;
  double phi0 = 0, rise = 0, u0 = 0;
  bool spike = false;
  std::vector<double> theta;  ///< the network's parameters
  double loss = 0, fresh_loss = 0;
  int64_t iterations = 0, evaluations = 0;
  std::vector<double> history;  ///< training loss after each iteration; not saved
};

struct Point {
  double v, u;
};

/// What `solve` found.
class Solution {
 public:
  Neuron neuron;
  Current current;
  double duration_ms = 0;  ///< asked for
  double reached_ms = 0;   ///< solved: less than `duration_ms` where a window failed
  double A_mv = 20, u_scale = 1;
  MlpShape shape;
  std::vector<Segment> segments;
  std::optional<Segment> unmet;  ///< where a window failed, the best network that it had: no part of the solution
  std::vector<double> spike_times_ms;
  std::string failure;  ///< empty, or what failed and where
  int64_t evaluations = 0;

  bool complete() const { return failure.empty(); }
  /// v (mV) and u at a time from 0 to `reached_ms`; at a spike, the state before the reset. Later than that, what the
  /// network of the failed window says.
  Point at(double t_ms) const;
  /// dv/dt - f and du/dt - g at a time: what is left of the equations.
  Point residual(double t_ms) const;
  /// Largest fresh over training residual of any segment above rounding, and the mean loss.
  double worst_fresh_ratio() const;
  double mean_loss() const;

  /// Writes networks, neuron, current and architecture to a safetensors file, and reads them. Throws Error where a file
  /// is of another kind or architecture.
  void save(const std::string& path) const;
  static Solution load(const std::string& path);

 private:
  const Segment& segment_at(double t_ms) const;
};

/// Where a run stands.
struct Progress {
  double t_ms, duration_ms, loss;
  int64_t windows;
  const std::vector<double>& spike_times_ms;
};

/// Solves the neuron for `duration_ms`. No reference value enters: the equations, the reset and the initial state are
/// all it knows. A window that cannot be met within the options ends the run: the solution then says so in `failure`.
Solution solve(const Neuron&, const Current&, double duration_ms, const Options&,
               const std::function<bool(const Progress&)>& progress = {});

/// A mean squared residual below which differences are rounding.
constexpr double rounding_loss = 1e-22;

}  // namespace ranvier::pinn
