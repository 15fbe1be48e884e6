// Exact and spectral solutions of the two equations.
#include "models/pde_references.h"

#include <cmath>
#include <numbers>

namespace ranvier::pde {
namespace {

constexpr double pi = std::numbers::pi;

}  // namespace

/// The Cole-Hopf transform's two integrals, by the trapezoidal rule (spectrally accurate: the integrands vanish at the
/// ends).
std::vector<double> burgers_exact(const std::vector<double>& x, double t) {
  const double nu = 0.01 / pi;
  std::vector<double> u;
  for (double at : x) {
    if (t == 0) {
      u.push_back(-std::sin(pi * at));
      continue;
    }
    const double width = std::sqrt(4 * nu * t);
    double above = 0, below = 0;
    for (int k = -1000; k <= 1000; ++k) {  // far out: the other factor is largest at y = +-1, e^100 above its least
      const double z = 20.0 * k / 1000, y = at - width * z;
      const double weight = std::exp(-z * z - (std::cos(pi * y) + 1) / (2 * pi * nu));
      above += std::sin(pi * y) * weight, below += weight;
    }
    u.push_back(-above / below);
  }
  return u;
}

/// Strang splitting on 512 points, 2,000 steps: diffusion exact by the periodic heat kernel, reaction exact.
std::vector<double> allen_cahn_spectral(const std::vector<double>& x, double until) {
  constexpr int n = 512, steps = 2000;
  const double dt = 1.0 / steps;
  static const std::vector<double> kernel = [&] {
    std::vector<double> row(n);
    for (int j = 0; j < n; ++j)
      for (int k = -n / 2; k < n / 2; ++k)
        row[static_cast<size_t>(j)] += std::exp(-1e-4 * (pi * k) * (pi * k) * dt) * std::cos(2 * pi * k * j / n) / n;
    return row;
  }();
  static std::vector<std::vector<double>> history = [&] {
    std::vector<double> u(n), next(n);
    for (int i = 0; i < n; ++i) {
      const double at = -1 + 2.0 * i / n;
      u[static_cast<size_t>(i)] = at * at * std::cos(pi * at);
    }
    const auto react = [&](double h) {
      for (double& v : u) v = v / std::sqrt(v * v + (1 - v * v) * std::exp(-10 * h));
    };
    std::vector<std::vector<double>> all = {u};
    for (int step = 0; step < steps; ++step) {
      react(0.5 * dt);
      for (int i = 0; i < n; ++i) {
        double sum = 0;
        for (int j = 0; j < n; ++j) sum += kernel[static_cast<size_t>(j)] * u[static_cast<size_t>((i + j) % n)];
        next[static_cast<size_t>(i)] = sum;
      }
      u.swap(next);
      react(0.5 * dt);
      all.push_back(u);
    }
    return all;
  }();
  const std::vector<double>& row = history[static_cast<size_t>(std::llround(until * steps))];
  std::vector<double> u;
  for (double at : x) u.push_back(row[static_cast<size_t>(std::llround((at + 1) * n / 2)) % n]);
  return u;
}

}  // namespace ranvier::pde
