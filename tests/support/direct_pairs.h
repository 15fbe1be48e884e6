// Sums over pairs of units written out in f64, row by row: what the fused kernels are held against where a dense matrix
// would not fit.
#pragma once
#include <cmath>
#include <vector>

#include "kernels/coupling/law.h"

namespace ranvier::test {

/// y_bi = sum_j kappa_ij x_bj, dx_bi = sum_j kappa_ij g_bj and dp_i, the gradient of sum g y, at chosen units.
struct DirectPairs {
  std::vector<double> y, dx, dp;  // (rows, batch), (rows, batch), (rows, axes)
};

inline DirectPairs direct_pairs(const kernels::CouplingLaw& law, int64_t batch, int64_t n, int64_t axes,
                                const std::vector<double>& x, const std::vector<double>& g,
                                const std::vector<double>& p, const std::vector<int64_t>& rows) {
  DirectPairs out;
  out.y.assign(rows.size() * batch, 0), out.dx = out.y, out.dp.assign(rows.size() * axes, 0);
  const double l2 = law.length * law.length;
#pragma omp parallel for
  for (size_t r = 0; r < rows.size(); ++r) {
    const int64_t i = rows[r];
    for (int64_t j = 0; j < n; ++j) {
      if (j == i) continue;
      double t = law.softening * law.softening, s = 0;
      for (int64_t a = 0; a < axes; ++a) t += std::pow(p[i * axes + a] - p[j * axes + a], 2);
      const bool gaussian = law.kind == kernels::CouplingLaw::gaussian;
      const double kappa = gaussian ? std::exp(-t / (2 * l2))
                                    : std::exp(-0.5 * law.power * std::log1p(t / l2) - std::sqrt(t) / law.decay);
      const double slope = gaussian ? -1 / l2 : -law.power / (l2 + t) - 1 / (law.decay * std::sqrt(t));
      for (int64_t b = 0; b < batch; ++b) {
        out.y[r * batch + b] += kappa * x[b * n + j], out.dx[r * batch + b] += kappa * g[b * n + j];
        s += g[b * n + i] * x[b * n + j] + g[b * n + j] * x[b * n + i];
      }
      for (int64_t a = 0; a < axes; ++a)
        out.dp[r * axes + a] += s * kappa * slope * (p[i * axes + a] - p[j * axes + a]);
    }
  }
  return out;
}

}  // namespace ranvier::test
