// Point sets, weights and features of physics-informed networks.
#include "models/collocation.h"

#include <algorithm>
#include <cmath>
#include <numbers>
#include <numeric>

namespace ranvier::pinn {

double uniform(std::mt19937_64& random) { return static_cast<double>(random() >> 11) * 0x1p-53; }

std::vector<double> chebyshev(int64_t n) {
  std::vector<double> points(static_cast<size_t>(n), 0.5);
  for (int64_t i = 0; n > 1 && i < n; ++i) {
    const double half = std::sin(0.5 * std::numbers::pi * static_cast<double>(i) / static_cast<double>(n - 1));
    points[static_cast<size_t>(i)] = half * half;  // (1 - cos x) / 2 without cancellation
  }
  return points;
}

std::vector<double> chebyshev_sample(int64_t n, std::mt19937_64& random) {
  std::vector<double> points(static_cast<size_t>(n));
  for (int64_t i = 0; i < n; ++i) {
    const double part = (static_cast<double>(i) + uniform(random)) / static_cast<double>(n);
    const double half = std::sin(0.5 * std::numbers::pi * part);
    points[static_cast<size_t>(i)] = half * half;
  }
  return points;
}

std::vector<double> latin_hypercube(int64_t n, int64_t dimensions, std::mt19937_64& random) {
  std::vector<double> points(static_cast<size_t>(n * dimensions));
  std::vector<int64_t> order(static_cast<size_t>(n));
  for (int64_t d = 0; d < dimensions; ++d) {
    std::iota(order.begin(), order.end(), int64_t{0});
    for (size_t i = order.size(); i > 1; --i)
      std::swap(order[i - 1], order[static_cast<size_t>(uniform(random) * static_cast<double>(i))]);
    for (int64_t i = 0; i < n; ++i)
      points[static_cast<size_t>(i * dimensions + d)] =
          (static_cast<double>(order[static_cast<size_t>(i)]) + uniform(random)) / static_cast<double>(n);
  }
  return points;
}

std::vector<int64_t> residual_adaptive(std::span<const double> residuals, int64_t n, double power, double floor,
                                       std::mt19937_64& random) {
  if (n > static_cast<int64_t>(residuals.size()))
    fail("residual_adaptive: {} points of {} candidates", n, residuals.size());
  std::vector<double> weight(residuals.size());
  double mean = 0;
  for (size_t i = 0; i < weight.size(); ++i) mean += weight[i] = std::pow(std::abs(residuals[i]), power);
  mean /= static_cast<double>(weight.size());
  // Weighted draw without repetition: the n largest of log(u) / weight (Efraimidis and Spirakis 2006).
  std::vector<std::pair<double, int64_t>> keys;
  for (size_t i = 0; i < weight.size(); ++i)
    keys.emplace_back(std::log(uniform(random) + 0x1p-54) / (weight[i] + floor * mean + 1e-300),
                      static_cast<int64_t>(i));
  std::nth_element(keys.begin(), keys.begin() + (n ? n - 1 : 0), keys.end(), std::greater<>());
  std::vector<int64_t> chosen;
  for (int64_t i = 0; i < n; ++i) chosen.push_back(keys[static_cast<size_t>(i)].second);
  std::sort(chosen.begin(), chosen.end());
  return chosen;
}

Tensor causal_weights(Tensor losses, double epsilon) {
  const int64_t n = losses.shape()[0];
  std::vector<double> below(static_cast<size_t>(n * n), 0.0);
  for (int64_t i = 0; i < n; ++i)
    for (int64_t k = 0; k < i; ++k) below[static_cast<size_t>(i * n + k)] = 1;
  const Tensor earlier = cast(constant<double>(*losses.graph, {n, n}, below), losses.dtype());
  const Tensor sums = matmul(earlier, reshape(stop_gradient(losses), {n, 1}));
  return stop_gradient(exp(-epsilon * reshape(sums, {n})));
}

Jet fourier_features(const Jet& x, int64_t orders) {
  std::vector<Tensor> values = {x.value}, tangents = {x.tangent};
  for (int64_t k = 1; k <= orders; ++k) {
    const double frequency = 2 * std::numbers::pi * static_cast<double>(k);
    const Tensor s = sin(frequency * x.value), c = cos(frequency * x.value);
    values.push_back(s), values.push_back(c);
    tangents.push_back(frequency * c * x.tangent), tangents.push_back(-frequency * s * x.tangent);
  }
  return {concat(values, 1), concat(tangents, 1)};
}

Tensor implicit_root(Tensor s, const Jet& at_root, double level) {
  return stop_gradient(s) - (at_root.value - level) / stop_gradient(at_root.tangent);
}

}  // namespace ranvier::pinn
