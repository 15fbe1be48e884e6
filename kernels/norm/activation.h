// Activations and their derivatives on sixteen-lane vectors, for the passes that fuse them with normalisation.
#pragma once
#include "kernels/common/simd_math.h"
#include "kernels/norm/gelu.h"
#include "kernels/norm/norm.h"

namespace ranvier::kernels::norm_detail {
using simd::Floats;

/// See OddFit.
template <int N>
RANVIER_INLINE Floats saturating_odd(const float (&coefficients)[N], float limit, Floats x) {
  const Floats t = simd::fma(x * x, simd::splat(2 / (limit * limit)), simd::splat(-1));
  const Floats inside = x * simd::polynomial(coefficients, t);
  return simd::abs(x) > limit ? simd::copysign(simd::splat(0.5f), x) : inside;
}

/// Phi(x) - 1/2 = erf(x / sqrt 2) / 2: absolute error at most 1.3e-7.
RANVIER_INLINE Floats normal_cdf_minus_half(Floats x) {
  static constexpr auto fit = normal_cdf_fit();
  return saturating_odd(fit.c, fit.limit, x);
}

/// d gelu / dx - 1/2 = Phi(x) - 1/2 + x phi(x): absolute error at most 2e-7.
RANVIER_INLINE Floats gelu_slope_minus_half(Floats x) {
  static constexpr auto fit = gelu_slope_fit();
  return saturating_odd(fit.c, fit.limit, x);
}

RANVIER_INLINE Floats sigmoid(Floats x) {
  const Floats e = simd::exp_of_negative(-simd::abs(x));
  const Floats one = simd::splat(1);
  return (x < 0.0f ? e : one) / (one + e);
}

template <Activation A>
RANVIER_INLINE Floats activate(Floats v) {
  if constexpr (A == Activation::relu) return v < 0.0f ? simd::splat(0) : v;  // NaN passes
  if constexpr (A == Activation::gelu) return v * (normal_cdf_minus_half(v) + 0.5f);
  if constexpr (A == Activation::silu) return v * sigmoid(v);
  return v;
}

/// Derivative of the activation at v times `dy`; relu has slope 0 at 0.
template <Activation A>
RANVIER_INLINE Floats activation_gradient(Floats v, Floats dy) {
  if constexpr (A == Activation::relu) return v <= 0.0f ? simd::splat(0) : dy;
  if constexpr (A == Activation::gelu) return dy * (gelu_slope_minus_half(v) + 0.5f);
  if constexpr (A == Activation::silu) {
    const Floats s = sigmoid(v);
    return dy * (s * (1.0f + v * (1.0f - s)));
  }
  return dy;
}

}  // namespace ranvier::kernels::norm_detail
