// Polynomials and exp on sixteen-lane vectors.
#pragma once
#include "kernels/common/simd.h"

namespace ranvier::kernels::simd {

/// Terms [First, First + Count) of a polynomial, by Estrin's scheme: halves joined by powers of t, so that the chain of
/// dependent operations grows with the logarithm of the degree. `powers` holds t, t^2, t^4, t^8, t^16.
template <int First, int Count, int N>
RANVIER_INLINE Floats estrin(const float (&coefficients)[N], const Floats (&powers)[5]) {
  if constexpr (Count == 1) {
    return simd::splat(coefficients[First]);
  } else {
    constexpr int level = Count > 16 ? 4 : Count > 8 ? 3 : Count > 4 ? 2 : Count > 2 ? 1 : 0;
    constexpr int low = 1 << level;
    return simd::fma(estrin<First + low, Count - low>(coefficients, powers), powers[level],
                     estrin<First, low>(coefficients, powers));
  }
}

/// Coefficients from the constant one upwards.
template <int N>
RANVIER_INLINE Floats polynomial(const float (&coefficients)[N], Floats t) {
  Floats powers[5] = {t};
  for (int i = 1; i < 5; ++i) powers[i] = powers[i - 1] * powers[i - 1];
  return estrin<0, N>(coefficients, powers);
}

/// exp(x) for x <= 0: relative error about 1e-7, and 0 below -87 (where exp leaves the normal range); NaN stays NaN.
RANVIER_INLINE Floats exp_of_negative(Floats x) {
  const Floats shift = splat(12582912.0f);  // 1.5 * 2^23: adding it rounds to an integer held in the low bits
  const Floats shifted = fma(x, splat(1.44269504f), shift);
  const Floats n = shifted - shift;
  Floats r = fma(n, splat(-0.693145752f), x);  // ln 2 in two parts
  r = fma(n, splat(-1.42860677e-6f), r);
  static constexpr float taylor[] = {1, 1, 0.5f, 1.0f / 6, 1.0f / 24, 1.0f / 120, 1.0f / 720};
  // Adds n to the exponent field; unsigned, because far below the range it wraps before it is dropped.
  const auto scaled = reinterpret_cast<Words>(polynomial(taylor, r)) + (reinterpret_cast<Words>(shifted) << 23);
  return x < -87.0f ? Floats{} : x != x ? x : reinterpret_cast<Floats>(scaled);
}

}  // namespace ranvier::kernels::simd
