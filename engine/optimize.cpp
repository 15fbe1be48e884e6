// L-BFGS and self-scaled BFGS on a strong Wolfe line search, and how a program becomes their objective.
#include "engine/optimize.h"

#include <algorithm>
#include <cmath>
#include <deque>

#include "kernels/segment_fit/line_search.h"

namespace ranvier::optimize {
namespace {

double dot(std::span<const double> a, std::span<const double> b) {
  double sum = 0;
#pragma omp simd reduction(+ : sum)
  for (size_t i = 0; i < a.size(); ++i) sum += a[i] * b[i];
  return sum;
}
double largest(std::span<const double> a) {
  double most = 0;
  for (double v : a) most = std::abs(v) <= most ? most : std::abs(v);  // a NaN wins
  return most;
}

/// The objective along a ray: x + step d.
struct Ray {
  const Objective& f;
  const Vector &x, &d;
  Vector at, gradient;  // of the last trial

  kernels::Trial operator()(double step) {
    for (size_t i = 0; i < x.size(); ++i) at[i] = x[i] + step * d[i];
    const double value = f(at, gradient);
    return {step, value, dot(gradient, d)};
  }
};

/// What the quasi-Newton methods share: the loop, its ends and its records. `direction(g, d)` fills d = -H g;
/// `update(s, y, d, g, step)` learns from a step and returns false where it skipped; `restart()` forgets.
template <class Direction, class Update, class Restart>
Result descend(const Objective& f, Vector start, const Options& o, Direction&& direction, Update&& update,
               Restart&& restart) {
  const size_t n = start.size();
  Result result;
  Vector g(n), d(n), s(n), y(n);
  result.x = std::move(start);
  result.value = f(result.x, g);
  result.evaluations = 1;
  result.history = {result.value};
  if (!std::isfinite(result.value) || !std::isfinite(largest(g))) return result.reason = Reason::not_finite, result;
  Ray ray{f, result.x, d, Vector(n), Vector(n)};
  bool fresh = true;
  for (; result.iterations < o.max_iterations; ++result.iterations) {
    if (result.value <= o.wanted_value) return result.reason = Reason::value, result;
    if (largest(g) <= o.gradient_tolerance) return result.reason = Reason::gradient, result;
    direction(g, d);
    double slope = dot(g, d);
    if (!(slope < 0)) {
      restart(), fresh = true;
      direction(g, d);
      slope = dot(g, d);
    }
    const double first = fresh ? std::min(1.0, 1.0 / std::sqrt(dot(g, g))) : 1.0;
    kernels::LineSearch search(result.value, slope, first, {.c1 = o.c1, .c2 = o.c2, .max_trials = o.max_trials});
    kernels::Trial taken{};
    do {
      taken = ray(search.step());
      ++result.evaluations;
    } while (!search.learn(taken));
    if (!search.found()) {
      if (fresh) return result.reason = Reason::progress, result;
      restart(), fresh = true;  // steepest descent may still see a way down
      continue;
    }
    for (size_t i = 0; i < n; ++i) s[i] = ray.at[i] - result.x[i], y[i] = ray.gradient[i] - g[i];
    if (!update(s, y, g, taken.step, fresh)) ++result.skipped_updates;
    fresh = false;
    result.x = ray.at, g = ray.gradient, result.value = taken.value;
    result.history.push_back(result.value);
    if (o.proceed && !o.proceed(result.iterations + 1, result.value))
      return ++result.iterations, result.reason = Reason::interrupted, result;
    const size_t done = result.history.size(), back = static_cast<size_t>(o.patience);
    if (o.stall_share > 0 && done > back && result.value > (1 - o.stall_share) * result.history[done - 1 - back])
      return ++result.iterations, result.reason = Reason::progress, result;
  }
  if (result.value <= o.wanted_value) result.reason = Reason::value;
  return result;
}

bool curved(double ys, std::span<const double> s, std::span<const double> y) {
  return ys > 1e-12 * std::sqrt(dot(s, s) * dot(y, y));
}

}  // namespace

std::string_view name_of(Reason reason) {
  constexpr std::string_view names[] = {"value reached",     "gradient is zero", "no further progress",
                                        "out of iterations", "not finite",       "interrupted"};
  return names[static_cast<size_t>(reason)];
}

Result lbfgs(const Objective& f, Vector start, const Options& options, int64_t memory) {
  struct Pair {
    Vector s, y;
    double rho;
  };
  std::deque<Pair> pairs;
  std::vector<double> alpha;
  const auto direction = [&](const Vector& g, Vector& d) {
    d = g;
    alpha.assign(pairs.size(), 0);
    for (size_t k = pairs.size(); k-- > 0;) {
      alpha[k] = pairs[k].rho * dot(pairs[k].s, d);
      for (size_t i = 0; i < d.size(); ++i) d[i] -= alpha[k] * pairs[k].y[i];
    }
    if (!pairs.empty()) {
      const Pair& newest = pairs.back();
      const double scale = 1 / (newest.rho * dot(newest.y, newest.y));
      for (double& v : d) v *= scale;
    }
    for (size_t k = 0; k < pairs.size(); ++k) {
      const double beta = pairs[k].rho * dot(pairs[k].y, d);
      for (size_t i = 0; i < d.size(); ++i) d[i] += (alpha[k] - beta) * pairs[k].s[i];
    }
    for (double& v : d) v = -v;
  };
  const auto update = [&](const Vector& s, const Vector& y, const Vector&, double, bool) {
    const double ys = dot(y, s);
    if (!curved(ys, s, y)) return false;
    if (static_cast<int64_t>(pairs.size()) == memory) pairs.pop_front();
    pairs.push_back({s, y, 1 / ys});
    return true;
  };
  return descend(f, std::move(start), options, direction, update, [&] { pairs.clear(); });
}

Result bfgs(const Objective& f, Vector start, const Options& options, bool self_scaled) {
  const size_t n = start.size();
  std::vector<double> h(n * n);
  Vector q(n), a(n), b(n);
  const auto identity = [&](double scale) {
    std::fill(h.begin(), h.end(), 0.0);
    for (size_t i = 0; i < n; ++i) h[i * n + i] = scale;
  };
  identity(1);
  const auto multiply = [&](const Vector& v, Vector& out, double sign) {
    for (size_t i = 0; i < n; ++i) out[i] = sign * dot({&h[i * n], n}, v);
  };
  const auto update = [&](const Vector& s, const Vector& y, const Vector& g, double step, bool fresh) {
    const double ys = dot(y, s);
    if (!curved(ys, s, y)) return false;
    if (fresh) identity(ys / dot(y, y));
    multiply(y, q, 1);
    // d = -H g and s = step d give s'Bs = -step s'g; after `identity` B is known outright.
    const double sbs = fresh ? dot(y, y) / ys * dot(s, s) : -step * dot(s, g);
    const double tau = self_scaled ? std::min(1.0, ys / sbs) : 1.0;
    const double along = dot(y, q) / (tau * ys * ys) + 1 / ys, across = 1 / (tau * ys), scale = 1 / tau;
    for (size_t i = 0; i < n; ++i) a[i] = along * s[i] - across * q[i], b[i] = -across * s[i];
    for (size_t i = 0; i < n; ++i) {  // H <- H / tau + s a' + q b', symmetric to rounding
      double* row = &h[i * n];
      const double si = s[i], qi = q[i];
#pragma omp simd
      for (size_t j = 0; j < n; ++j) row[j] = scale * row[j] + (si * a[j] + qi * b[j]);
    }
    return true;
  };
  return descend(
      f, std::move(start), options, [&](const Vector& g, Vector& d) { multiply(g, d, -1); }, update,
      [&] { identity(1); });
}

namespace {

/// Copies host values into an f64 entry without looking its name up again.
class Entry {
 public:
  Entry(State& state, std::string_view slab, std::string_view name) : state_(&state) {
    const int64_t id = state.find(slab, name);
    if (id < 0) fail("optimize: there is no state entry {}/{}", slab, name);
    id_ = static_cast<uint32_t>(id);
    state.materialise();
    if (state.entry(id_).type.dtype != DType::f64) fail("optimize: {}/{} is not f64", slab, name);
  }
  void set(std::span<const double> x) const {
    if (static_cast<int64_t>(x.size()) != state_->entry(id_).type.shape.numel())
      fail("optimize: {} holds {} elements, {} were given", state_->entry(id_).name,
           state_->entry(id_).type.shape.numel(), x.size());
    state_->write(id_, x.data());
  }

 private:
  State* state_;
  uint32_t id_ = 0;
};

}  // namespace

Objective objective(State& state, Program& program, std::string_view slab, std::string_view name) {
  return [entry = Entry(state, slab, name), &program](std::span<const double> x, std::span<double> gradient) {
    entry.set(x);
    program.run();
    program.read<double>(1, gradient);
    double value;
    program.read<double>(0, {&value, 1});
    return value;
  };
}

Residuals residuals(State& state, Program& alone, Program& with_jacobian, std::string_view slab,
                    std::string_view name) {
  return [entry = Entry(state, slab, name), &alone, &with_jacobian](
             std::span<const double> x, std::span<double> residuals, std::span<double> jacobian) {
    entry.set(x);
    Program& program = jacobian.empty() ? alone : with_jacobian;
    program.run();
    program.read<double>(0, residuals);
    if (!jacobian.empty()) program.read<double>(1, jacobian);
  };
}

}  // namespace ranvier::optimize
