// The reference solver: Taylor series of the Izhikevich equation by the Parker-Sochacki recurrence, adaptive, in f64.
#pragma once
#include <array>

#include "kernels/izhikevich/model.h"

// Host only. Parker and Sochacki, "Implementing the Picard iteration", Neural, Parallel & Scientific Computations 4
// (1996); for spiking neurons: Stewart and Bair, J. Computational Neuroscience 27 (2009). The right-hand side is a
// polynomial, so the coefficients of v(t0 + s) = sum v_k s^k follow from one convolution a term.

namespace ranvier::kernels::izhikevich {

/// The solution around one time, as polynomials in s = t - t0.
struct Series {
  static constexpr int order = 24;
  std::array<double, order + 1> v, u;
  double reach;  ///< for |s| up to here the last terms are below the tolerance

  State<double> at(double s) const;
  /// v'(s).
  double slope(double s) const;
};

/// The series at y; the tail beyond `reach` is below `tolerance` relative to 1 + |v|.
Series expand(const Field<double, Ramp<double>>& f, State<double> y, double tolerance);

/// The first s in (0, h] where v rises through `level`, or a negative number: v below it before and at or above after.
/// `h` is at most the reach.
double first_crossing(const Series& series, double h, double level);

}  // namespace ranvier::kernels::izhikevich
