// Activations and their derivatives on sixteen-lane vectors, for the passes that fuse them with normalisation.
#pragma once
#include "kernels/common/simd_math.h"
#include "kernels/norm/norm.h"

namespace ranvier::kernels::norm_detail {
using simd::Floats;

/// x P(t) with t = 2 (x / limit)^2 - 1 inside |x| <= limit, +-0.5 beyond it; NaN stays NaN. The coefficients are
/// minimax fits (Lawson iteration), well conditioned because t runs over [-1, 1].
template <int N>
RANVIER_INLINE Floats saturating_odd(const float (&coefficients)[N], float limit, Floats x) {
  const Floats t = simd::fma(x * x, simd::splat(2 / (limit * limit)), simd::splat(-1));
  const Floats inside = x * simd::polynomial(coefficients, t);
  return simd::abs(x) > limit ? simd::copysign(simd::splat(0.5f), x) : inside;
}

/// Phi(x) - 1/2 = erf(x / sqrt 2) / 2: absolute error at most 1.3e-7.
RANVIER_INLINE Floats normal_cdf_minus_half(Floats x) {
  static constexpr float p[] = {0.12855193f,    -0.0641724765f,  0.0477369875f,  -0.0387872681f,  0.0320817493f,
                                -0.0261124596f, 0.0202879366f,   -0.0146714021f, 0.0104687586f,   -0.00767460419f,
                                0.00423616543f, -0.00122945907f, 0.00102400861f, -0.00136880996f, 0.000538028427f};
  return saturating_odd(p, 5.5f, x);
}

/// d gelu / dx - 1/2 = Phi(x) - 1/2 + x phi(x): absolute error at most 2e-7.
RANVIER_INLINE Floats gelu_slope_minus_half(Floats x) {
  static constexpr float p[] = {0.123071827f,   -0.0622814074f, 0.0493672229f,  -0.0472942367f, 0.0517064817f,
                                -0.0595244132f, 0.0667546317f,  -0.070578441f,  0.0693848729f,  -0.0593585037f,
                                0.0431634262f,  -0.0349299125f, 0.0316925459f,  -0.0162186194f, 0.00106250006f,
                                -0.0028332721f, 0.00621696515f, -0.00244512432f};
  return saturating_odd(p, 5.75f, x);
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
