// Sums over pairs of units written out in f64, row by row: what the fused kernels are held against where a dense matrix
// would not fit.
#pragma once
#include <cmath>
#include <vector>

#include "kernels/coupling/law.h"

namespace ranvier::test {

/// The law at a squared distance that includes the softening, and its slope over the distance, d kappa / kappa / d dd.
struct DirectLaw {
  double kappa, slope;
};
inline DirectLaw direct_law(const kernels::CouplingLaw& law, double t) {
  const double l2 = law.length * law.length;
  if (law.kind == kernels::CouplingLaw::gaussian) return {std::exp(-t / (2 * l2)), -1 / l2};
  return {std::exp(-0.5 * law.power * std::log1p(t / l2) - std::sqrt(t) / law.decay),
          -law.power / (l2 + t) - 1 / (law.decay * std::sqrt(t))};
}
inline DirectLaw direct_law(const kernels::CouplingLaw& law, int64_t axes, const std::vector<double>& p, int64_t i,
                            int64_t j) {
  double t = law.softening * law.softening;
  for (int64_t a = 0; a < axes; ++a) {
    const double difference = p[i * axes + a] - p[j * axes + a];
    t += difference * difference;
  }
  return direct_law(law, t);
}

/// y_bi = sum_j kappa_ij x_bj, dx_bi = sum_j kappa_ij g_bj and dp_i, the gradient of sum g y, at chosen units.
struct DirectPairs {
  std::vector<double> y, dx, dp;  // (rows, batch), (rows, batch), (rows, axes)
};

inline DirectPairs direct_pairs(const kernels::CouplingLaw& law, int64_t batch, int64_t n, int64_t axes,
                                const std::vector<double>& x, const std::vector<double>& g,
                                const std::vector<double>& p, const std::vector<int64_t>& rows) {
  DirectPairs out;
  out.y.assign(rows.size() * batch, 0), out.dx = out.y, out.dp.assign(rows.size() * axes, 0);
#pragma omp parallel for
  for (size_t r = 0; r < rows.size(); ++r) {
    const int64_t i = rows[r];
    for (int64_t j = 0; j < n; ++j) {
      if (j == i) continue;
      const auto [kappa, slope] = direct_law(law, axes, p, i, j);
      double s = 0;
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

/// q_i = sum_j kappa_ij w_j S_ij^2 with S_ij = sum_b x_bi x_bj, and the gradients of sum g q in x, w and p, at chosen
/// units.
struct DirectSquares {
  std::vector<double> q, dx, dw, dp;  // (rows), (rows, batch), (rows), (rows, axes)
};

inline DirectSquares direct_squares(const kernels::CouplingLaw& law, int64_t batch, int64_t n, int64_t axes,
                                    const std::vector<double>& x, const std::vector<double>& w,
                                    const std::vector<double>& g, const std::vector<double>& p,
                                    const std::vector<int64_t>& rows) {
  DirectSquares out;
  out.q.assign(rows.size(), 0), out.dw = out.q;
  out.dx.assign(rows.size() * batch, 0), out.dp.assign(rows.size() * axes, 0);
#pragma omp parallel for
  for (size_t r = 0; r < rows.size(); ++r) {
    const int64_t i = rows[r];
    for (int64_t j = 0; j < n; ++j) {
      if (j == i) continue;
      const auto [kappa, slope] = direct_law(law, axes, p, i, j);
      const double both = (g[i] * w[j] + g[j] * w[i]) * kappa;
      double s = 0;
      for (int64_t b = 0; b < batch; ++b) s += x[b * n + i] * x[b * n + j];
      out.q[r] += kappa * w[j] * s * s, out.dw[r] += kappa * g[j] * s * s;
      for (int64_t b = 0; b < batch; ++b) out.dx[r * batch + b] += 2 * both * s * x[b * n + j];
      for (int64_t a = 0; a < axes; ++a)
        out.dp[r * axes + a] += both * s * s * slope * (p[i * axes + a] - p[j * axes + a]);
    }
  }
  return out;
}

}  // namespace ranvier::test
