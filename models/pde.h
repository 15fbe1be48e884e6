// Partial differential equations on x in [-1, 1], t in [0, 1] by one network, hard constraints and second derivatives:
// two published problems, and the training that they share.
#pragma once
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "engine/ops.h"
#include "engine/optimize.h"
#include "engine/program.h"

namespace ranvier::pde {

/// The field and what is left of its equation, at points (n).
struct Field {
  Tensor u, residual;
};

/// A problem: its network, and the field traced from x, t (n, 1) and the network's parameters. Initial and boundary
/// values are built into the field.
struct Problem {
  std::string name;
  MlpShape shape;
  std::function<Field(Tensor x, Tensor t, Tensor theta, const MlpShape&)> field;
  /// The solution at (x, t), to score against: exact or from a spectral method; never seen in training.
  std::function<std::vector<double>(const std::vector<double>& x, double t)> reference;
  /// Relative L2 errors that others have published, and who.
  std::vector<std::pair<std::string, double>> published;
};

/// u_t + u u_x = (0.01 / pi) u_xx, u(x, 0) = -sin(pi x), u(+-1, t) = 0 (Raissi, Perdikaris and Karniadakis 2019).
Problem burgers();
/// u_t = 0.0001 u_xx + 5 (u - u^3), u(x, 0) = x^2 cos(pi x), periodic in x (the same).
Problem allen_cahn();
/// "burgers" or "allen-cahn"; throws Error on another name.
Problem named(std::string_view name);

struct Options {
  int64_t points = 2000;
  int64_t rounds = 24;       ///< each: fresh residual-adaptive points, then the optimizer
  int64_t iterations = 600;  ///< of the optimizer, a round
  uint64_t seed = 0;
};

struct Result {
  double loss = 0;
  double fresh_loss = 0;   ///< at points drawn after the training, uniform over the domain
  double relative_l2 = 0;  ///< against the reference on 256 x 101 points
  int64_t evaluations = 0;
};

/// Trains by self-scaled BFGS while the time that is held to the equation grows to 1 (causality), then scores.
Result solve(const Problem&, const Options&, const std::function<bool(int64_t round, double loss)>& progress = {});

}  // namespace ranvier::pde
