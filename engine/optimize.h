// Optimizers for smooth deterministic objectives in f64: host loops that see a compiled program as a function of one
// parameter vector. Nothing is retraced between evaluations.
#pragma once
#include <cstdint>
#include <functional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "engine/program.h"

namespace ranvier::optimize {

using Vector = std::vector<double>;

/// Value at x, which may be NaN or infinite where the function is undefined; fills the gradient.
using Objective = std::function<double(std::span<const double> x, std::span<double> gradient)>;
/// Residuals at x; fills the Jacobian (residuals, parameters), row-major, where `jacobian` is not empty.
using Residuals =
    std::function<void(std::span<const double> x, std::span<double> residuals, std::span<double> jacobian)>;

/// Why a search ended.
enum class Reason : uint8_t {
  value,        ///< at or below the wanted value
  gradient,     ///< largest gradient element at or below the tolerance
  progress,     ///< no further decrease that the arithmetic can see
  iterations,   ///< budget used up
  not_finite,   ///< value or gradient is not finite at the start
  interrupted,  ///< the caller's `proceed` said no
};
std::string_view name_of(Reason);

struct Options {
  int64_t max_iterations = 1000;
  double wanted_value = 0;  ///< ends at or below it
  double gradient_tolerance = 1e-14;
  /// Ends when `patience` iterations together lower the value by less than this share; 0 never does.
  double stall_share = 0;
  int64_t patience = 100;
  /// Called after every iteration; false ends the search.
  std::function<bool(int64_t iteration, double value)> proceed = {};
  // Strong Wolfe conditions (Nocedal and Wright 2006, 3.7).
  double c1 = 1e-4, c2 = 0.9;
  int64_t max_trials = 25;
};

struct Result {
  Vector x;
  double value = 0;
  int64_t iterations = 0, evaluations = 0, skipped_updates = 0;
  Reason reason = Reason::iterations;
  std::vector<double> history;  ///< value after each iteration, the start first
};

/// Limited-memory BFGS (Nocedal 1980), two-loop recursion over `memory` pairs.
Result lbfgs(const Objective&, Vector start, const Options& = {}, int64_t memory = 50);

/// Dense BFGS on the inverse Hessian. With `self_scaled`, tau = min(1, y's / s'Bs) scales the matrix before each update
/// (Oren and Luenberger; Urban, Stefanou and Pons 2024, arXiv 2405.04230). O(P^2) an iteration.
Result bfgs(const Objective&, Vector start, const Options& = {}, bool self_scaled = true);

/// Levenberg-Marquardt on half the sum of squared residuals, each step by Householder QR of [J; sqrt(lambda) D] (never
/// J'J, which would square the condition number), gain-ratio damping after Nielsen 1999. `value` in options and result
/// is the mean square of the residuals.
Result levenberg_marquardt(const Residuals&, int64_t residuals, Vector start, const Options& = {});

/// Solves min |A x - b| for A (rows, columns) row-major, rows >= columns, by Householder QR; A and b are overwritten.
/// Returns false where A is singular to rounding.
bool least_squares(int64_t rows, int64_t columns, double* a, double* b, double* x);

/// A program's scalar output 0 and its gradient, output 1, as a function of the f64 state entry slab/name.
Objective objective(State&, Program&, std::string_view slab, std::string_view name);
/// A program's residuals, output 0 (any shape), and Jacobian, output 1, from `with_jacobian`; `alone` gives the
/// residuals only.
Residuals residuals(State&, Program& alone, Program& with_jacobian, std::string_view slab, std::string_view name);

}  // namespace ranvier::optimize
