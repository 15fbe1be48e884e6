// The march of one neuron as a machine that says which segment it needs fitted next: `solve` fits it at once,
// `solve_many` fits those of many neurons together.
#include "models/pinn_march.h"

#include <algorithm>
#include <cmath>

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

}  // namespace

March::March(const Neuron& neuron, const Current& current, double duration, const Options& options)
    : options_(options), solver_(neuron, options), random_(options.seed) {
  neuron.check();
  solution_.neuron = neuron, solution_.current = current, solution_.duration_ms = duration;
  solution_.A_mv = options.A_mv, solution_.u_scale = solver_.u_scale(), solution_.shape = solver_.shape();
  phi_ = solver_.form().phi(neuron.v0), u_ = neuron.u0;
  window_ = options.window_ms;
  next_window();
}

bool March::running() const { return pending_.has_value(); }

void March::end(const std::string& failure) {
  solution_.failure = failure;
  pending_.reset();
}

void March::reset() {
  solution_.spike_times_ms.push_back(t_);
  phi_ = solver_.form().phi(solution_.neuron.c);
  u_ += solution_.neuron.d;
}

bool March::meets(const Segment& segment, double wanted) const {
  return segment.loss <= wanted && segment.fresh_loss <= options_.fresh_ratio * std::max(segment.loss, rounding_loss);
}

Segment March::segment(double length) const {
  Segment segment;
  segment.start_ms = t_, segment.length_ms = length, segment.phi0 = phi_, segment.u0 = u_;
  segment.current = solution_.current.at(t_);
  return segment;
}

void March::next_window() {
  pending_.reset();
  const double end = solution_.duration_ms;
  solution_.reached_ms = std::min(t_, end);
  if (t_ >= end) return;
  best_.reset();
  while (phi_ >= solver_.phi_peak()) reset();
  edge_ = solution_.current.next_change(t_, end);
  double length = std::min(window_, edge_ - t_);
  // A sliver before an edge would be a window of its own: two halves instead.
  if (edge_ - t_ - length > 0 && edge_ - t_ - length < 0.25 * length) length = 0.5 * (edge_ - t_);
  pending_ = segment(length);
}

bool March::fitted() {
  solution_.evaluations += pending_->evaluations;
  if (pending_->spike) {
    if (accept_spike()) return next_window(), true;
    shorten(window_fit_);
    return false;
  }
  if (meets(*pending_, options_.window_loss)) {
    const double crossing = first_crossing(solver_, *pending_);
    if (crossing < 0) {
      accept();
      return next_window(), true;
    }
    // the segment up to a spike near the crossing, pinned to phi_peak at its end
    window_fit_ = *pending_;
    Segment spike = segment(crossing * window_fit_.length_ms);
    spike.spike = true, spike.rise = solver_.phi_peak() - phi_;
    expected_ = spike.length_ms;
    pending_ = spike;
    return false;
  }
  shorten(*pending_);
  return false;
}

/// A shorter window. Even a poor network tells about where the peak is: the next window ends a little behind it.
void March::shorten(Segment failed) {
  keep_best(failed);
  const double crossing = first_crossing(solver_, failed);
  const double length = failed.length_ms * (crossing < 0 ? 0.5 : std::clamp(1.3 * crossing, 0.2, 0.6));
  if (length < options_.shortest_ms)
    return fail_at_window(failed, fmt::format("mean squared residual {:.2g} (fresh {:.2g}), wanted {:.2g}", failed.loss,
                                              failed.fresh_loss, options_.window_loss));
  pending_ = segment(length);
}

void March::accept() {
  const Segment& window = *pending_;
  t_ = t_ + window.length_ms >= edge_ - 1e-9 ? edge_ : t_ + window.length_ms;
  phi_ = solver_.phi_at(window, 1).first, u_ = solver_.u_at(window, 1);
  // Grow again slowly: a window that was hard to meet is rarely followed by one that can be twice as long.
  window_ = std::min(options_.window_ms, 1.5 * window.length_ms);
  solution_.segments.push_back(window);
}

bool March::accept_spike() {
  const Segment& spike = *pending_;
  if (!meets(spike, options_.spike_loss) ||
      !(std::abs(spike.length_ms - expected_) <= 0.1 * expected_ + 0.02 && spike.length_ms > 0) ||
      t_ + spike.length_ms > edge_ + 1e-9)
    return false;
  t_ = std::min(t_ + spike.length_ms, edge_);
  u_ = solver_.u_at(spike, 1);
  phi_ = solver_.phi_peak();
  window_ = options_.window_ms;
  solution_.segments.push_back(spike);
  return true;
}

void March::keep_best(const Segment& tried) {
  if (tried.evaluations && std::isfinite(tried.loss) && (!best_ || tried.loss < best_->loss)) best_ = tried;
}

void March::out_of_time() {
  keep_best(*pending_);
  fail_at_window(*pending_, "the time budget is used up");
}

void March::fail_at_window(const Segment& window, const std::string& why) {
  solution_.unmet = best_;
  end(fmt::format("window {} at {:.4f} ms, {:.4f} ms long, cannot be met: {}", solution_.segments.size() + 1,
                  window.start_ms, window.length_ms, why));
}

}  // namespace ranvier::pinn
