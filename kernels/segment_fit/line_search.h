// The strong Wolfe line search of every quasi-Newton search here, on host and device (Nocedal and Wright 2006,
// algorithms 3.5 and 3.6).
#pragma once
#include "kernels/common/math.h"

namespace ranvier::kernels {

/// A point along a ray: the step, the function's value there and its slope along the ray.
struct Trial {
  double step, value, slope;
};

struct WolfeConditions {
  double c1 = 1e-4, c2 = 0.9;  ///< sufficient decrease, curvature
  int64_t max_trials = 25;     ///< at least one
};

RANVIER_HD_INLINE bool is_finite(double v) { return v - v == 0; }

/// The minimiser of the cubic through two points and their slopes, kept inside the bracket.
RANVIER_HD_INLINE double cubic_step(const Trial& a, const Trial& b) {
  const double low = a.step < b.step ? a.step : b.step, high = a.step < b.step ? b.step : a.step, span = high - low;
  const double d1 = a.slope + b.slope - 3 * (a.value - b.value) / (a.step - b.step);
  const double inside = d1 * d1 - a.slope * b.slope;
  double step = 0.5 * (low + high);
  if (inside >= 0) {
    const double size = root(inside), d2 = b.step > a.step ? size : -size;
    const double candidate = b.step - (b.step - a.step) * (b.slope + d2 - d1) / (b.slope - a.slope + 2 * d2);
    if (is_finite(candidate)) step = candidate;
  }
  const double least = low + 0.1 * span, most = high - 0.1 * span;
  return step < least ? least : step > most ? most : step;
}

/// What is known of where the conditions hold.
struct Bracket {
  Trial low, high, last;  ///< `low` has the least value that decreases enough; the minimum lies towards `high`
  bool closed = false;

  /// Learns a trial that misses the conditions; `first`: nothing was tried before it.
  RANVIER_HD void learn(const Trial& p, bool good, bool enough, bool first) {
    if (!good) {  // too far: stay below
      if (!closed) low = last;
      high = {p.step, math::infinity<double>(), 0}, closed = true;
    } else if (!closed) {
      if (!enough || (!first && p.value >= last.value)) {
        low = last, high = p, closed = true;
      } else if (p.slope >= 0) {
        low = p, high = last, closed = true;
      }
    } else if (!enough || p.value >= low.value) {
      high = p;
    } else {
      if (p.slope * (high.step - low.step) >= 0) high = low;
      low = p;
    }
    last = p;
  }

  RANVIER_HD double next() const {
    if (!closed) return 2.5 * last.step;
    return is_finite(high.value) ? cubic_step(low, high) : low.step + 0.25 * (high.step - low.step);
  }
  /// Whether the arithmetic sees nothing more inside.
  RANVIER_HD bool exhausted() const {
    const double span = high.step > low.step ? high.step - low.step : low.step - high.step;
    return closed && is_finite(high.value) && span <= 1e-14 * (low.step > 1 ? low.step : 1);
  }
};

/// A search along a ray whose start has this value and slope (negative), `first` being the first step. Its caller tries
/// `step()` and tells what is there, until it hears that the search is over: where it was `found`, the last trial is
/// the accepted one. A decrease that misses the curvature condition is taken when trials run out.
class LineSearch {
 public:
  RANVIER_HD LineSearch(double value, double slope, double first, const WolfeConditions& wolfe)
      : wolfe_(wolfe), start_{0, value, slope}, bracket_{start_, start_, start_}, step_(first) {}

  RANVIER_HD double step() const { return step_; }
  RANVIER_HD bool found() const { return found_; }

  /// Whether the search is over.
  RANVIER_HD bool learn(const Trial& p) {
    if (returns_) return found_ = true;
    const bool good = is_finite(p.value) && is_finite(p.slope),
               enough = p.value <= start_.value + wolfe_.c1 * p.step * start_.slope;
    if (good && enough && (p.slope < 0 ? -p.slope : p.slope) <= -wolfe_.c2 * start_.slope) return found_ = true;
    bracket_.learn(p, good, enough, trials_ == 0);
    step_ = bracket_.next();
    if (++trials_ < wolfe_.max_trials && !bracket_.exhausted()) return false;
    if (!(bracket_.low.step > 0 && bracket_.low.value < start_.value)) return true;
    step_ = bracket_.low.step, returns_ = true;
    return false;
  }

 private:
  WolfeConditions wolfe_;
  Trial start_;
  Bracket bracket_;
  double step_;
  int64_t trials_ = 0;
  bool returns_ = false, found_ = false;  ///< goes back to the best of its trials
};

}  // namespace ranvier::kernels
