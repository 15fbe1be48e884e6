// One segment of the solver as a compiled objective: the equations in theta form on a network's output, traced once and
// used for every window of a run.
#pragma once
#include <array>
#include <functional>
#include <memory>
#include <random>

#include "engine/grad.h"
#include "engine/optimize.h"
#include "models/pinn.h"

namespace ranvier::pinn {

/// The equations in phi, where v = v_c + A tan(phi), v_c = -q1 / (2 q2), h^2 = (q1^2 - 4 q2 q0) / (4 q2^2) (negative
/// where the parabola has no roots):
///   phi' = q2 A / C sin^2 phi + [(I - u) - q2 h^2] / (C A) cos^2 phi,  bounded where v' is not.
/// Beyond phi_peak the right sides stay at their value there, so that an overshooting window does no harm.
struct ThetaForm {
  double A, v_c, alpha, gamma, offset;  ///< phi' = alpha sin^2 + gamma (I - u - offset) cos^2
  ThetaForm(const Neuron&, double A_mv);
  double phi(double v) const;
  double v(double phi) const;
};

/// What u is measured in by a network's output and by the residual of its equation: a spike's jump d, unless that is
/// small against what moves u between spikes (b times the way to the peak) and against the current that moves v (q2
/// A^2).
double scale_of_u(const Neuron&, double A_mv);

/// Trains networks on segments of one neuron.
class SegmentSolver {
 public:
  SegmentSolver(const Neuron&, const Options&);

  /// Fits a window (rise 0) or a segment that ends in a spike (rise phi_peak - phi0, length trainable) in place; the
  /// random numbers start the network and choose the fresh points. `proceed`, asked after every iteration, may end it.
  void fit(Segment&, std::mt19937_64& random, const std::function<bool()>& proceed = {});
  /// A fit in parts, for those who train many segments at once: `begin` starts the network and chooses points; after
  /// training, `conclude` takes the result over and looks at fresh points. True: done; false: once more, at new points.
  struct Fit {
    std::vector<double> points, unknowns;  ///< where to train, and where the search starts: network, then tau
    double length_ms = 0;
    int64_t round = 0;
  };
  Fit begin(Segment&, std::mt19937_64& random);
  bool conclude(Segment&, Fit&, const optimize::Result&, std::mt19937_64& random);
  /// The segment as `segment_fit` wants it described: 16 numbers.
  std::vector<double> description(const Segment&) const;
  optimize::Options optimizer_options(const Segment&) const;

  /// phi and dphi/ds of a segment's network at s.
  std::pair<double, double> phi_at(const Segment&, double s) const;
  double u_at(const Segment&, double s) const;

  const ThetaForm& form() const { return form_; }
  double u_scale() const { return u_scale_; }
  double phi_peak() const { return phi_peak_; }
  const MlpShape& shape() const { return shape_; }

 private:
  struct Trace;
  void set(Program&, const Segment&, const std::vector<double>& s);
  /// Mean squared residual at these points, and each point's own in `each` where it is given.
  double evaluate(const Segment&, Program&, const std::vector<double>& s, std::vector<double>* each = nullptr);

  Neuron neuron_;
  Options options_;
  ThetaForm form_;
  MlpShape shape_;
  double u_scale_, phi_peak_;
  std::unique_ptr<State> state_;
  Program train_, fresh_, residuals_, rows_;  // the last two for Levenberg-Marquardt
};

/// Where a search for a network 1-H-2 starts: tanh(w (s - centre)), centres spread over [0, 1], slopes as steep as H
/// units need them, small random outputs.
std::vector<double> spread_units(const MlpShape&, std::mt19937_64& random);

/// Value and derivative of a network of one input and at most two outputs on the host.
struct NetworkPoint {
  std::array<double, 2> value{}, tangent{};
};
NetworkPoint network_at(const MlpShape&, const std::vector<double>& theta, double s);

}  // namespace ranvier::pinn
