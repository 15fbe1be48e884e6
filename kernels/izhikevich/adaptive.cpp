// Step doubling of the linearly implicit Euler method, and its controller.
#include "kernels/izhikevich/adaptive.h"

#include <algorithm>
#include <cmath>

#include "kernels/izhikevich/steps.h"

namespace ranvier::kernels::izhikevich {

AdaptiveRule AdaptiveRule::published() {
  AdaptiveRule rule;
  rule.atol_v = rule.atol_u = 0.5, rule.rtol = 0;
  rule.shortest = 0.01, rule.longest = 2, rule.first = 0.25;
  rule.euclidean = rule.one_jacobian = true, rule.safety = 1;
  return rule;
}

namespace {

/// y + h (I - h J)^-1 f(y) with J at `at`; the current is that of the step's end, as of a Rosenbrock method.
State<double> implicit_step(const Field<double, Ramp<double>>& f, State<double> y, double at, double h) {
  State<double> k;
  resolvent(f, at, f(y, h), h, k);
  return {fused(h, k.v, y.v), fused(h, k.u, y.u)};
}

}  // namespace

Trial try_step(const AdaptiveRule& rule, const Field<double, Ramp<double>>& f, State<double> y, double h) {
  const State<double> y1 = implicit_step(f, y, y.v, h);
  const State<double> half = implicit_step(f, y, y.v, h / 2);
  const State<double> y2 = implicit_step(f.from(h / 2), half, rule.one_jacobian ? y.v : half.v, h / 2);
  const double dv = std::abs(y1.v - y2.v), du = std::abs(y1.u - y2.u);
  if (rule.euclidean) return {y2, std::hypot(dv, du) / rule.atol_v};
  const double scale_v = rule.atol_v + rule.rtol * std::max(std::abs(y.v), std::abs(y2.v));
  const double scale_u = rule.atol_u + rule.rtol * std::max(std::abs(y.u), std::abs(y2.u));
  double error = std::max(dv / scale_v, du / scale_u);
  // Beyond the pole of the resolvent the step turned back: no error estimate sees that reliably.
  if (!(h * f.dv_dv(y.v) < 1) || !(h / 2 * f.dv_dv(half.v) < 1) || std::isnan(error)) error = std::max(error, 4.0);
  return {y2, std::isnan(error) ? 100.0 : error};
}

double next_length(const AdaptiveRule& rule, double h, double error) {
  const double factor = error > 0 ? rule.safety / std::sqrt(error) : 5.0;
  return std::clamp(h * std::clamp(factor, 0.1, 5.0), rule.shortest, rule.longest);
}

}  // namespace ranvier::kernels::izhikevich
