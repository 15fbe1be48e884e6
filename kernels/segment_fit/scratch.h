// What the workers of a team share while they fit a segment.
#pragma once
#include "kernels/common/hd.h"
#include "kernels/segment_fit/segment_fit.h"

namespace ranvier::kernels::segment_fit {

/// Arrays of one segment; p unknowns, padded by zeros, n points, padded by points without weight.
struct Scratch {
  double* inverse;                                   // (p, p)
  double *x, *g, *at, *next_g, *d, *step, *product;  // (p)
  double* h;                                         // (hidden, n)
  double* seeds;                                     // (4, n): of N_1, N_1', N_2, N_2'
  double* terms;                                     // (2, n): slope of tau, weighted squares of the residuals
  double *s, *m, *weight;                            // (n): points, m(s), their share in the mean
  double* about;                                     // the description
  double *slope, *secant, *descent;                  // partial sums of one, four and two dots
  double* loss;                                      // twice the value at the last trial

  RANVIER_HD_INLINE Scratch(const FitDims& dims, double* from) {
    const int n = static_cast<int>(FitDims::padded(dims.points)),
              p = static_cast<int>(FitDims::padded(dims.unknowns())), sums = static_cast<int>(dims.partial_sums());
    inverse = from, x = inverse + p * p, g = x + p, at = g + p, next_g = at + p, d = next_g + p, step = d + p;
    product = step + p, h = product + p, seeds = h + static_cast<int>(dims.hidden) * n, terms = seeds + 4 * n;
    s = terms + 2 * n, m = s + n, weight = m + n, about = weight + n, slope = about + FitDims::columns;
    secant = slope + sums, descent = secant + 4 * sums, loss = descent + 2 * sums;
  }
};

}  // namespace ranvier::kernels::segment_fit
