// Parker-Sochacki series, their reach, and crossings of a level.
#include "kernels/izhikevich/taylor.h"

#include <algorithm>
#include <cmath>

namespace ranvier::kernels::izhikevich {

State<double> Series::at(double s) const {
  double x = v[order], y = u[order];
  for (int k = order - 1; k >= 0; --k) x = fused(x, s, v[k]), y = fused(y, s, u[k]);
  return {x, y};
}

double Series::slope(double s) const {
  double x = order * v[order];
  for (int k = order - 1; k >= 1; --k) x = fused(x, s, k * v[k]);
  return x;
}

Series expand(const Field<double, Ramp<double>>& f, State<double> y, double tolerance) {
  constexpr int order = Series::order;
  Series series;
  auto& v = series.v;
  auto& u = series.u;
  v[0] = y.v, u[0] = y.u;
  for (int k = 0; k < order; ++k) {
    double square = 0;
    for (int i = 0; i <= k; ++i) square = fused(v[i], v[k - i], square);
    const double drive = k == 0 ? f.drive.p0 : k == 1 ? f.drive.slope : 0.0;
    v[k + 1] = (fused(f.k.p2, square, fused(f.k.p1, v[k], drive)) - f.k.w * u[k]) / (k + 1);
    u[k + 1] = (fused(f.k.ab, v[k], -f.k.ae * u[k]) - (k == 0 ? f.k.abv : 0.0)) / (k + 1);
  }
  // From the last two terms of each, so that an accidental zero does not make the step long.
  const auto reach = [&](const std::array<double, order + 1>& x) {
    const double bound = tolerance * (1 + std::abs(x[0]));
    double h = 1e3;
    for (int k = order - 1; k <= order; ++k)
      if (x[k] != 0) h = std::min(h, std::pow(bound / std::abs(x[k]), 1.0 / k));
    return h;
  };
  series.reach = std::min(reach(v), reach(u));
  return series;
}

double first_crossing(const Series& series, double h, double level) {
  constexpr int samples = 8;
  double low = 0, high = 0;
  bool below = series.v[0] < level;
  for (int i = 1; i <= samples; ++i) {
    const double s = h * i / samples;
    const bool above = !(series.at(s).v < level);
    if (below && above) {
      high = s;
      break;
    }
    below = !above, low = s;
  }
  if (high == 0) return -1;
  double s = 0.5 * (low + high);
  for (int i = 0; i < 100; ++i) {  // Newton inside a bracket
    const double excess = series.at(s).v - level;
    (excess < 0 ? low : high) = s;
    double next = s - excess / series.slope(s);
    if (!(next > low && next < high)) next = 0.5 * (low + high);
    if (std::abs(next - s) <= 1e-15 * h || next == low || next == high) return next;
    s = next;
  }
  return s;
}

}  // namespace ranvier::kernels::izhikevich
