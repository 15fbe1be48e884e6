// Solving one neuron, and what its solution says at a time.
#include "models/pinn.h"

#include <algorithm>
#include <chrono>
#include <cmath>

#include "models/pinn_march.h"

namespace ranvier::pinn {

Solution solve(const Neuron& neuron, const Current& current, double duration_ms, const Options& options,
               const std::function<bool(const Progress&)>& progress) {
  neuron.check();
  if (!(duration_ms > 0 && std::isfinite(duration_ms))) fail("duration {} ms: must be positive", duration_ms);
  options.check();
  using Clock = std::chrono::steady_clock;
  const Clock::time_point began = Clock::now();
  const auto in_time = [&] {
    return std::chrono::duration<double>(Clock::now() - began).count() <= options.budget_seconds;
  };
  March march(neuron, current, duration_ms, options);
  while (march.running()) {
    march.solver().fit(march.pending(), march.random(), in_time);
    if (!in_time()) {
      march.out_of_time();
    } else if (march.fitted() && progress) {
      const Solution& s = march.solution();
      if (!progress({march.t_ms(), duration_ms, s.segments.back().loss, static_cast<int64_t>(s.segments.size()),
                     s.spike_times_ms}))
        march.end(fmt::format("interrupted at {:.3f} ms", march.t_ms()));
    }
  }
  return march.solution();
}

const Segment& Solution::segment_at(double t) const {
  if (unmet && (segments.empty() || t > reached_ms)) return *unmet;
  if (segments.empty()) fail("the solution is empty");
  // The last segment that starts before t, so that the time of a spike belongs to what led to it.
  const auto after = std::lower_bound(segments.begin(), segments.end(), t,
                                      [](const Segment& s, double time) { return s.start_ms < time; });
  return after == segments.begin() ? *after : *(after - 1);
}

Point Solution::at(double t) const {
  const Segment& segment = segment_at(t);
  const ThetaForm form(neuron, A_mv);
  const double s = std::clamp((t - segment.start_ms) / segment.length_ms, 0.0, 1.0);
  const NetworkPoint y = network_at(shape, segment.theta, s);
  const double m = segment.spike ? s * (1 - s) : s;
  return {form.v(segment.phi0 + segment.rise * s + m * y.value[0]), segment.u0 + u_scale * s * y.value[1]};
}

Point Solution::residual(double t) const {
  const Segment& segment = segment_at(t);
  const ThetaForm form(neuron, A_mv);
  const double s = std::clamp((t - segment.start_ms) / segment.length_ms, 0.0, 1.0);
  const NetworkPoint y = network_at(shape, segment.theta, s);
  const double m = segment.spike ? s * (1 - s) : s, dm = segment.spike ? 1 - 2 * s : 1;
  const double phi = segment.phi0 + segment.rise * s + m * y.value[0];
  const double dphi = segment.rise + dm * y.value[0] + m * y.tangent[0];
  const double u = segment.u0 + u_scale * s * y.value[1], du = u_scale * (y.value[1] + s * y.tangent[1]);
  const double v = form.v(phi), dv = A_mv * dphi / (std::cos(phi) * std::cos(phi));
  return {dv / segment.length_ms - neuron.dv(v, u, segment.current), du / segment.length_ms - neuron.du(v, u)};
}

double Solution::worst_fresh_ratio() const {
  double worst = 0;
  for (const Segment& s : segments) worst = std::max(worst, s.fresh_loss / std::max(s.loss, rounding_loss));
  return worst;
}

double Solution::mean_loss() const {
  double sum = 0;
  for (const Segment& s : segments) sum += s.loss;
  return segments.empty() ? 0 : sum / static_cast<double>(segments.size());
}

}  // namespace ranvier::pinn
