// The linearly implicit Euler method with adaptive steps, in f64 on the host.
#pragma once
#include "kernels/izhikevich/model.h"

// A step of length h is tried whole (y1) and as two halves (y2); their distance is the error, y2 is kept. The method
// stays of order 1 (nothing is extrapolated) and is named for what it is: its published form calls itself exponential.

namespace ranvier::kernels::izhikevich {

/// What decides about a step.
struct AdaptiveRule {
  double atol_v = 1e-3, atol_u = 1e-3;                ///< mV, and the unit of u
  double rtol = 1e-4;                                 ///< of |v| and |u|
  double shortest = 1e-6, longest = 2, first = 0.25;  ///< ms
  double safety = 0.9;                                ///< lengths change by safety / sqrt(error), within 0.1 to 5
  int max_retries = 40;                               ///< of one step; then it is an error
  bool euclidean = false;     ///< error = sqrt(dv^2 + du^2) / atol_v, units mixed, instead of the larger scaled one
  bool one_jacobian = false;  ///< the second half step has the Jacobian of the first

  /// As published (facts of the project that compared solvers first): absolute tolerance 0.5 on the mixed norm.
  static AdaptiveRule published();
};

/// One try.
struct Trial {
  State<double> y;
  double error;  ///< relative to the tolerance: accepted below 1
};

/// Tries a step of length h from y under a held or growing current.
Trial try_step(const AdaptiveRule& rule, const Field<double, Ramp<double>>& f, State<double> y, double h);

/// The length after a try of length h with this error.
double next_length(const AdaptiveRule& rule, double h, double error);

}  // namespace ranvier::kernels::izhikevich
