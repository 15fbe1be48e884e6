// Tests and intervals of paired differences.
#include "models/robust/paired.h"

#include <algorithm>
#include <cmath>
#include <numeric>

#include "engine/draws.h"
#include "engine/error.h"

namespace ranvier::robust {
namespace {

constexpr int64_t exact_pairs = 20;
constexpr int64_t random_flips = int64_t{1} << 20;
constexpr int64_t resamples = 10000;

void check(std::span<const double> values) {
  if (values.size() < 2) fail("{} paired values: at least two are needed", values.size());
  for (double v : values)
    if (!std::isfinite(v)) fail("a paired value is {}", v);
}

double normal_cdf(double z) { return std::erfc(-z / std::sqrt(2.0)) / 2; }

/// The point where a rising function reaches `level`.
template <class F>
double inverse(F&& rising, double level, double low, double high) {
  for (int i = 0; i < 200 && low < high; ++i) {
    const double middle = (low + high) / 2;
    (rising(middle) < level ? low : high) = middle;
  }
  return (low + high) / 2;
}

double normal_quantile(double p) { return inverse(normal_cdf, p, -40, 40); }

}  // namespace

double mean_of(std::span<const double> values) {
  return std::accumulate(values.begin(), values.end(), 0.0) / static_cast<double>(values.size());
}

double deviation_of(std::span<const double> values) {
  const double mean = mean_of(values);
  double squares = 0;
  for (double v : values) squares += (v - mean) * (v - mean);
  return std::sqrt(squares / static_cast<double>(values.size() - 1));
}

double sign_flip_p(std::span<const double> d, uint64_t seed) {
  check(d);
  double scale = 0;
  for (double v : d) scale += std::abs(v);
  // sums that differ by rounding only are the same sum
  const double observed = std::abs(std::accumulate(d.begin(), d.end(), 0.0)) - 1e-12 * scale;
  const auto n = static_cast<int64_t>(d.size());
  const bool exact = n <= exact_pairs;
  const Draws draws(seed, "paired.flips");
  const int64_t count = exact ? int64_t{1} << n : random_flips;
  int64_t extreme = exact ? 0 : 1;
  for (int64_t k = 0; k < count; ++k) {
    double sum = 0;
    for (int64_t i = 0; i < n; ++i) {
      const bool flipped = exact ? k >> i & 1 : draws.below(2, static_cast<uint64_t>(k), static_cast<uint64_t>(i)) != 0;
      sum += flipped ? -d[static_cast<size_t>(i)] : d[static_cast<size_t>(i)];
    }
    extreme += std::abs(sum) >= observed;
  }
  return static_cast<double>(extreme) / static_cast<double>(exact ? count : count + 1);
}

double least_sign_flip_p(int64_t pairs) {
  if (pairs < 1) return 1;
  return pairs <= exact_pairs ? std::ldexp(2.0, -static_cast<int>(pairs)) : 1.0 / static_cast<double>(random_flips + 1);
}

double student_two_sided(double t, int64_t degrees) {
  if (degrees < 1) fail("Student's t with {} degrees of freedom", degrees);
  const double theta = std::atan(std::abs(t) / std::sqrt(static_cast<double>(degrees)));
  const double c = std::cos(theta), s = std::sin(theta);
  const bool odd = degrees % 2;
  // sum of (2 4 6 ...)/(3 5 7 ...) c^k, or (1 3 5 ...)/(2 4 6 ...) c^k, in steps of c^2
  double sum = 0, term = odd ? c : 1;
  for (int64_t k = odd ? 1 : 0; k <= degrees - 2; k += 2) {
    sum += term;
    const auto v = static_cast<double>(k + 1);
    term *= c * c * v / (v + 1);
  }
  const double inside = odd ? 2 / std::acos(-1.0) * (theta + s * sum) : s * sum;
  return std::clamp(1 - inside, 0.0, 1.0);
}

double paired_t_p(std::span<const double> d) {
  check(d);
  const double error = deviation_of(d) / std::sqrt(static_cast<double>(d.size()));
  if (error == 0) return mean_of(d) == 0 ? 1 : 0;
  return student_two_sided(mean_of(d) / error, static_cast<int64_t>(d.size()) - 1);
}

Interval t_interval(std::span<const double> values) {
  check(values);
  const auto degrees = static_cast<int64_t>(values.size()) - 1;
  const double t = inverse([&](double x) { return 1 - student_two_sided(x, degrees); }, 0.95, 0, 1000);
  const double half = t * deviation_of(values) / std::sqrt(static_cast<double>(values.size()));
  return {mean_of(values) - half, mean_of(values) + half};
}

Interval bca_interval(std::span<const double> values, uint64_t seed) {
  check(values);
  const auto n = static_cast<int64_t>(values.size());
  const double mean = mean_of(values);
  if (deviation_of(values) == 0) return {mean, mean};
  const Draws draws(seed, "paired.bootstrap");
  std::vector<double> means;
  for (int64_t b = 0; b < resamples; ++b) {
    double sum = 0;
    for (int64_t i = 0; i < n; ++i)
      sum += values[static_cast<size_t>(draws.below(n, static_cast<uint64_t>(b), static_cast<uint64_t>(i)))];
    means.push_back(sum / static_cast<double>(n));
  }
  std::sort(means.begin(), means.end());
  const auto below = static_cast<double>(std::lower_bound(means.begin(), means.end(), mean) - means.begin());
  const double z0 = normal_quantile(std::clamp(below / resamples, 1.0 / resamples, 1 - 1.0 / resamples));
  double cubes = 0, squares = 0;  // of the jackknife's deviations, which are those of the values over -(n - 1)
  for (double v : values) cubes += std::pow(v - mean, 3), squares += (v - mean) * (v - mean);
  const double acceleration = cubes / (6 * std::pow(squares, 1.5));
  const auto bound = [&](double p) {
    const double z = z0 + normal_quantile(p);
    const double adjusted = normal_cdf(z0 + z / (1 - acceleration * z));
    return means[static_cast<size_t>(std::clamp(adjusted * resamples, 0.0, resamples - 1.0))];
  };
  return {bound(0.025), bound(0.975)};
}

std::vector<double> holm(std::span<const double> p) {
  std::vector<size_t> order(p.size());
  std::iota(order.begin(), order.end(), size_t{0});
  std::stable_sort(order.begin(), order.end(), [&](size_t a, size_t b) { return p[a] < p[b]; });
  std::vector<double> adjusted(p.size());
  double largest = 0;
  for (size_t k = 0; k < order.size(); ++k) {
    largest = std::max(largest, std::min(1.0, p[order[k]] * static_cast<double>(p.size() - k)));
    adjusted[order[k]] = largest;
  }
  return adjusted;
}

}  // namespace ranvier::robust
