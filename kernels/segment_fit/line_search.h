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
  int64_t max_trials = 25;
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

/// Looks along a ray whose start has this value and slope (negative), `first` being the first step. `ray(step)` gives
/// the Trial there and leaves its caller at that point, which on success is the accepted one. A decrease that misses
/// the curvature condition is taken when trials run out.
template <class Ray>
RANVIER_HD bool line_search(Ray&& ray, double value, double slope, double first, const WolfeConditions& wolfe,
                            Trial& accepted) {
  const Trial start{0, value, slope};
  Bracket bracket{start, start, start};
  double step = first;
  for (int64_t trial = 0; trial < wolfe.max_trials; ++trial) {
    const Trial p = ray(step);
    const bool good = is_finite(p.value) && is_finite(p.slope), enough = p.value <= value + wolfe.c1 * p.step * slope;
    if (good && enough && (p.slope < 0 ? -p.slope : p.slope) <= -wolfe.c2 * slope) return accepted = p, true;
    bracket.learn(p, good, enough, trial == 0);
    step = bracket.next();
    if (bracket.exhausted()) break;
  }
  if (!(bracket.low.step > 0 && bracket.low.value < value)) return false;
  accepted = ray(bracket.low.step);
  return true;
}

}  // namespace ranvier::kernels
