// The march: window after window as an initial value problem, the event found on the network, the spike's segment
// polished with its length as a parameter, the exact jump, and on.
#include "models/pinn.h"

#include <algorithm>
#include <chrono>
#include <cmath>

#include "models/pinn_segment.h"

namespace ranvier::pinn {
namespace {

/// First s in (0, 1] at which the network's phi rises through phi_peak, or a negative number. Bracketed on a grid finer
/// than the network's steepest unit, then by Newton steps that stay in the bracket.
double first_crossing(const SegmentSolver& solver, const Segment& segment) {
  constexpr int64_t grid = 512;
  double low = 0;
  for (int64_t i = 1; i <= grid; ++i) {
    double high = static_cast<double>(i) / grid;
    if (solver.phi_at(segment, high).first < solver.phi_peak()) {
      low = high;
      continue;
    }
    double s = 0.5 * (low + high);
    for (int step = 0; step < 60 && high - low > 1e-15; ++step) {
      const auto [phi, slope] = solver.phi_at(segment, s);
      (phi < solver.phi_peak() ? low : high) = s;
      const double newton = s - (phi - solver.phi_peak()) / slope;
      const double next = newton >= low && newton <= high ? newton : 0.5 * (low + high);
      if (std::abs(next - s) <= 1e-16) break;
      s = next;
    }
    return s;
  }
  return -1;
}

/// A run in progress.
class March {
 public:
  March(const Neuron& neuron, const Current& current, double duration, const Options& options,
        const std::function<bool(const Progress&)>& progress)
      : options_(options), progress_(progress), solver_(neuron, options), random_(options.seed) {
    solution_.neuron = neuron, solution_.current = current, solution_.duration_ms = duration;
    solution_.A_mv = options.A_mv, solution_.u_scale = solver_.u_scale(), solution_.shape = solver_.shape();
    phi_ = solver_.form().phi(neuron.v0), u_ = neuron.u0;
    window_ = options.window_ms;
  }

  Solution run() {
    const double end = solution_.duration_ms;
    while (t_ < end && solution_.failure.empty()) {
      if (phi_ >= solver_.phi_peak()) {
        reset();
        continue;
      }
      step(end);
      solution_.reached_ms = std::min(t_, end);
      if (progress_ && solution_.failure.empty() &&
          !progress_({t_, end, solution_.segments.back().loss, static_cast<int64_t>(solution_.segments.size()),
                      solution_.spike_times_ms}))
        solution_.failure = fmt::format("interrupted at {:.3f} ms", t_);
    }
    solution_.reached_ms = std::min(t_, end);
    return std::move(solution_);
  }

 private:
  using Clock = std::chrono::steady_clock;

  void reset() {
    solution_.spike_times_ms.push_back(t_);
    phi_ = solver_.form().phi(solution_.neuron.c);
    u_ += solution_.neuron.d;
  }

  bool meets(const Segment& segment, double wanted) const {
    return segment.loss <= wanted && segment.fresh_loss <= options_.fresh_ratio * std::max(segment.loss, rounding_loss);
  }

  /// One accepted window, or a segment up to a spike; `failure` is set where neither can be had.
  void step(double end) {
    const double edge = solution_.current.next_change(t_, end);
    double length = std::min(window_, edge - t_);
    // A sliver before an edge would be a window of its own: two halves instead.
    if (edge - t_ - length > 0 && edge - t_ - length < 0.25 * length) length = 0.5 * (edge - t_);
    for (;;) {
      Segment window = begin(length);
      fit(window);
      if (std::chrono::duration<double>(Clock::now() - began_).count() > options_.budget_seconds)
        return fail_at_window(window, "the time budget is used up");
      if (meets(window, options_.window_loss)) {
        const double crossing = first_crossing(solver_, window);
        if (crossing < 0) return accept(window, edge);
        if (accept_spike(crossing * length, edge)) return;
      }
      // Even a poor network tells about where the peak is: the next window ends a little behind it.
      const double crossing = first_crossing(solver_, window);
      length *= crossing < 0 ? 0.5 : std::clamp(1.3 * crossing, 0.2, 0.6);
      if (length < options_.shortest_ms)
        return fail_at_window(window, fmt::format("mean squared residual {:.2g} (fresh {:.2g}), wanted {:.2g}",
                                                  window.loss, window.fresh_loss, options_.window_loss));
    }
  }

  Segment begin(double length) const {
    Segment segment;
    segment.start_ms = t_, segment.length_ms = length, segment.phi0 = phi_, segment.u0 = u_;
    segment.current = solution_.current.at(t_);
    return segment;
  }

  void fit(Segment& segment) {
    solver_.fit(segment, random_);
    solution_.evaluations += segment.evaluations;
  }

  void accept(const Segment& window, double edge) {
    t_ = t_ + window.length_ms >= edge - 1e-9 ? edge : t_ + window.length_ms;
    phi_ = solver_.phi_at(window, 1).first, u_ = solver_.u_at(window, 1);
    // Grow again slowly: a window that was hard to meet is rarely followed by one that can be twice as long.
    window_ = std::min(options_.window_ms, 1.5 * window.length_ms);
    solution_.segments.push_back(window);
  }

  /// The segment up to a spike near `length`, pinned to phi_peak at its end.
  bool accept_spike(double length, double edge) {
    Segment segment = begin(length);
    segment.spike = true, segment.rise = solver_.phi_peak() - phi_;
    fit(segment);
    if (!meets(segment, options_.spike_loss) ||
        !(std::abs(segment.length_ms - length) <= 0.1 * length + 0.02 && segment.length_ms > 0) ||
        t_ + segment.length_ms > edge + 1e-9)
      return false;
    t_ = std::min(t_ + segment.length_ms, edge);
    u_ = solver_.u_at(segment, 1);
    phi_ = solver_.phi_peak();
    window_ = options_.window_ms;
    solution_.segments.push_back(segment);
    return true;
  }

  void fail_at_window(const Segment& window, const std::string& why) {
    solution_.failure = fmt::format("window {} at {:.4f} ms, {:.4f} ms long, cannot be met: {}",
                                    solution_.segments.size() + 1, window.start_ms, window.length_ms, why);
  }

  Options options_;
  const std::function<bool(const Progress&)>& progress_;
  SegmentSolver solver_;
  std::mt19937_64 random_;
  Solution solution_;
  Clock::time_point began_ = Clock::now();
  double t_ = 0, phi_ = 0, u_ = 0, window_ = 0;
};

}  // namespace

Solution solve(const Neuron& neuron, const Current& current, double duration_ms, const Options& options,
               const std::function<bool(const Progress&)>& progress) {
  neuron.check();
  if (!(duration_ms > 0 && std::isfinite(duration_ms))) fail("duration {} ms: must be positive", duration_ms);
  if (!(options.window_ms > 0 && options.A_mv > 0 && options.hidden > 0 && options.points > 2))
    fail("window {} ms, A {} mV, {} hidden units, {} points: each must be positive (points above 2)", options.window_ms,
         options.A_mv, options.hidden, options.points);
  return March(neuron, current, duration_ms, options, progress).run();
}

const Segment& Solution::segment_at(double t) const {
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
