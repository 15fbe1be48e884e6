// Where a physics-informed network is held to its equation, how strongly, and what it sees of its input.
#pragma once
#include <cstdint>
#include <random>
#include <span>
#include <vector>

#include "engine/ops.h"

namespace ranvier::pinn {

/// Uniform on [0, 1) with 53 bits, the same on every machine (std::uniform_real_distribution is not).
double uniform(std::mt19937_64& random);

/// Chebyshev points (of the second kind) on [0, 1], rising: (1 - cos(pi i / (n - 1))) / 2.
std::vector<double> chebyshev(int64_t n);
/// n fresh points on [0, 1] with the density of Chebyshev points, one in each of n equal parts of its distribution: a
/// mean over them estimates the same integral as one over `chebyshev`.
std::vector<double> chebyshev_sample(int64_t n, std::mt19937_64& random);
/// Latin hypercube sample of [0, 1]^dimensions, (n, dimensions) row-major (McKay, Beckman and Conover 1979).
std::vector<double> latin_hypercube(int64_t n, int64_t dimensions, std::mt19937_64& random);
/// Residual-adaptive points: n of the candidates drawn without repetition, with weight |residual|^power + `floor` times
/// its mean (RAD of Wu et al. 2023, arXiv 2207.10289). Indices, rising.
std::vector<int64_t> residual_adaptive(std::span<const double> residuals, int64_t n, double power, double floor,
                                       std::mt19937_64& random);

/// Causal weights of squared residuals (chunks): w_i = exp(-epsilon sum_{k<i} loss_k), no gradient through them (Wang,
/// Sankaran and Perdikaris 2022, arXiv 2203.07404). Losses in order of time.
Tensor causal_weights(Tensor losses, double epsilon);

/// [x, sin(2 pi k x), cos(2 pi k x), ...] for k = 1 ... orders, with tangents: x (n, 1) -> (n, 1 + 2 orders).
Jet fourier_features(const Jet& x, int64_t orders);

/// The root s of `value(s) = level` as a differentiable value: s itself, with the derivative of the implicit function,
/// ds/dtheta = -(d value/d theta) / (d value/d s). `at_root` is the jet d/ds at s, one element like s. For losses on
/// the time of an event that the network does not have as an unknown: `square(implicit_root(s, jet, level) - wanted)`,
/// s found anew for each theta. (The window solver has each spike's time as an unknown, and needs none.)
Tensor implicit_root(Tensor s, const Jet& at_root, double level);

}  // namespace ranvier::pinn
