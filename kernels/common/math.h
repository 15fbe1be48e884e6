// Elementary functions without branches, the same bits on host and device, that compilers turn into vector code.
#pragma once
#include <cstdint>

#include "kernels/common/hd.h"
#include "kernels/common/trig_reduction.h"

// Accuracy, in units in the last place against correctly rounded values (tests/math_kernels.cpp holds these bounds):
//   f32, f64: exp, expm1, log, log1p, tanh, sigmoid, erf, sin, cos within 2 ulp
// Domain edges follow C: signed zeros, infinities, NaN, denormal arguments and results. Polynomials are minimax fits to
// the interval of their reduction, made for this file; coefficients are hexadecimal so that no compiler rounds them.
// Every fma is written out, so the bits do not depend on the compiler, the vector width or the machine.

namespace ranvier::kernels::math {

/// c0 + c1 x + c2 x^2 + ... by Horner's rule, one fma a term.
template <class T>
RANVIER_HD_INLINE T horner(T, T c0) {
  return c0;
}
template <class T, class... Rest>
RANVIER_HD_INLINE T horner(T x, T c0, Rest... rest) {
  return fused(x, horner(x, static_cast<T>(rest)...), c0);
}

/// Constants and polynomials of a type.
template <class T>
struct Format;

template <>
struct Format<float> {
  using Bits = uint32_t;
  static constexpr int mantissa_bits = 23, sign_bit = 31;
  static constexpr Bits bias = 127, mantissa_mask = 0x7fffffu, sign_mask = 0x80000000u;
  static constexpr float largest = 0x1.fffffep127f, smallest_normal = 0x1p-126f;
  static constexpr float rounder = 0x1.8p23f;   // adding it rounds to a whole number, left in the low bits of the sum
  static constexpr Bits counter = 0x4b000000u;  // bits of 2^23: an integer below 2^23 or-ed into it is 2^23 + integer
  static constexpr float counter_value = 0x1p23f, lift = 0x1p23f;
  static constexpr float log2_e = 0x1.715476p+0f, ln2 = 0x1.62e430p-1f, ln2_low = -0x1.05c610p-29f;
  static constexpr Bits root_half = 0x3f3504f3u, one = 0x3f800000u;
  static constexpr float exp_low = -104.0f, exp_high = 89.0f, tanh_high = 10.0f, erf_high = 3.95f;
  static constexpr float two_over_pi = 0x1.45f306p-1f;
  static constexpr float half_pi0 = 0x1.921fb6p+0f, half_pi1 = -0x1.777a5cp-25f, half_pi2 = -0x1.ee59dap-50f;
  static constexpr float trig_bound = 1e5f;
};

template <>
struct Format<double> {
  using Bits = uint64_t;
  static constexpr int mantissa_bits = 52, sign_bit = 63;
  static constexpr Bits bias = 1023, mantissa_mask = 0xfffffffffffffu, sign_mask = 0x8000000000000000u;
  static constexpr double largest = 0x1.fffffffffffffp1023, smallest_normal = 0x1p-1022;
  static constexpr double rounder = 0x1.8p52;
  static constexpr Bits counter = 0x4330000000000000u;
  static constexpr double counter_value = 0x1p52, lift = 0x1p52;
  static constexpr double log2_e = 0x1.71547652b82fep+0, ln2 = 0x1.62e42fefa39efp-1, ln2_low = 0x1.abc9e3b39803fp-56;
  static constexpr Bits root_half = 0x3fe6a09e667f3bcdu, one = 0x3ff0000000000000u;
  static constexpr double exp_low = -746.0, exp_high = 710.0, tanh_high = 20.0, erf_high = 5.95;
  static constexpr double two_over_pi = 0x1.45f306dc9c883p-1;
  static constexpr double half_pi0 = 0x1.921fb54442d18p+0, half_pi1 = 0x1.1a62633145c07p-54,
                          half_pi2 = -0x1.f1976b7ed8fbcp-110;
  static constexpr double trig_bound = 1e9;
};

/// |x|, also of a NaN.
template <class T>
RANVIER_HD_INLINE T magnitude(T x) {
  return from_bits(to_bits(x) & ~Format<T>::sign_mask);
}

/// The magnitude of `value` with the sign of `sign`.
template <class T>
RANVIER_HD_INLINE T with_sign(T value, T sign) {
  using F = Format<T>;
  return from_bits((to_bits(value) & ~F::sign_mask) | (to_bits(sign) & F::sign_mask));
}

/// A quiet NaN.
template <class T>
RANVIER_HD_INLINE T not_a_number() {
  using F = Format<T>;
  return from_bits(static_cast<typename F::Bits>(~F::sign_mask));
}

/// Positive infinity.
template <class T>
RANVIER_HD_INLINE T infinity() {
  using F = Format<T>;
  return from_bits(static_cast<typename F::Bits>(~F::sign_mask & ~F::mantissa_mask));
}

// ---- exponential family ----

/// (expm1(r) - r) / r^2 for |r| <= log(2) / 2; error relative to expm1 2^-28.7.
RANVIER_HD_INLINE float expm1_tail(float r) {
  return horner(r, 0x1p-1f, 0x1.555554p-3f, 0x1.5554b0p-5f, 0x1.11118ap-7f, 0x1.6d723ep-10f, 0x1.a032a8p-13f);
}
/// (expm1(r) - r) / r^2 for |r| <= log(2) / 2; error relative to expm1 2^-59.
RANVIER_HD_INLINE double expm1_tail(double r) {
  return horner(r, 0x1p-1, 0x1.5555555555559p-3, 0x1.555555555553ep-5, 0x1.111111110f6c5p-7, 0x1.6c16c16c1f0ddp-10,
                0x1.a01a01afdd7a4p-13, 0x1.a01a017bb29b6p-16, 0x1.71ddf863eafd8p-19, 0x1.27e5363f3d33ep-22,
                0x1.af5ea7f7dde40p-26, 0x1.1ee88da5d69c1p-29);
}

/// e^x = 2^n (1 + p).
template <class T>
struct ExpParts {
  T n;  ///< a whole number
  T p;  ///< expm1 of the reduced argument, |p| <= 0.42
};

/// Splits e^x; |x| at most some 10^3.
template <class T>
RANVIER_HD_INLINE ExpParts<T> exp_parts(T x) {
  using F = Format<T>;
  const T n = fused(x, F::log2_e, F::rounder) - F::rounder;
  const T r = fused(-n, F::ln2_low, fused(-n, F::ln2, x));
  return {n, fused(product(r, r), expm1_tail(r), r)};
}

/// 2^n for a whole n within the normal exponents.
template <class T>
RANVIER_HD_INLINE T power_of_two(T n) {
  using F = Format<T>;
  return from_bits(static_cast<typename F::Bits>((to_bits(n + F::rounder) + F::bias) << F::mantissa_bits));
}

/// min(x, high) that keeps a NaN.
template <class T>
RANVIER_HD_INLINE T at_most(T x, T high) {
  return x > high ? high : x;
}
/// max(x, low) that keeps a NaN.
template <class T>
RANVIER_HD_INLINE T at_least(T x, T low) {
  return x < low ? low : x;
}

/// e^x.
template <class T>
RANVIER_HD_INLINE T exp(T x) {
  using F = Format<T>;
  const ExpParts<T> e = exp_parts(at_least(at_most(x, F::exp_high), F::exp_low));
  // Two factors, since 2^n alone can overflow or be denormal where the result need not.
  const T half = (product(e.n, T(0.5)) + F::rounder) - F::rounder;
  return product(product(T(1) + e.p, power_of_two(half)), power_of_two(e.n - half));
}

/// e^x where the result is a normal number: |x| < 87 (f32), 708 (f64).
template <class T>
RANVIER_HD_INLINE T exp_normal_range(T x) {
  const ExpParts<T> e = exp_parts(x);
  return product(T(1) + e.p, power_of_two(e.n));
}

/// e^x - 1, accurate near 0.
template <class T>
RANVIER_HD_INLINE T expm1(T x) {
  using F = Format<T>;
  const ExpParts<T> e = exp_parts(at_least(at_most(x, F::exp_high), F::exp_low));
  const T half = (product(e.n, T(0.5)) + F::rounder) - F::rounder, other = e.n - half;
  const T scale = power_of_two(half);
  const T scaled = fused(scale, e.p, scale - power_of_two(-other));  // expm1 / 2^other
  return with_sign(product(scaled, power_of_two(other)), x);
}

/// numerator / (whole + part), all finite, |whole| >= |part|, with the rounding of the sum and of the quotient taken
/// back: 0.5 ulp plus the operands' own errors, where the plain expression adds 1.5.
template <class T>
RANVIER_HD_INLINE T quotient_of_sum(T numerator, T whole, T part) {
  const T sum = whole + part, lost = part - (sum - whole), inverse = quotient(T(1), sum);
  const T q = product(numerator, inverse);
  return fused(fused(-q, lost, fused(-q, sum, numerator)), inverse, q);
}

/// Hyperbolic tangent: m / (m + 2) with m = expm1(2 |x|), so it is accurate relative to x near 0 too.
template <class T>
RANVIER_HD_INLINE T tanh(T x) {
  const ExpParts<T> e = exp_parts(T(2) * at_most(magnitude(x), Format<T>::tanh_high));
  const T scale = power_of_two(e.n);
  const T m = fused(scale, e.p, scale - T(1));
  const bool big = m > T(2);
  return with_sign(quotient_of_sum(m, big ? m : T(2), big ? T(2) : m), x);
}

/// 1 / (1 + e^-x), from e^-|x| so that both tails keep their relative accuracy.
template <class T>
RANVIER_HD_INLINE T sigmoid(T x) {
  const T e = exp(-magnitude(x));
  return quotient_of_sum(x < T(0) ? e : T(1), T(1), e);
}

// ---- logarithms ----

/// log(1 + f) for 1 + f in [sqrt(1/2), sqrt(2)]; error 2^-27.6 relative.
RANVIER_HD_INLINE float log1p_reduced(float f) {
  const float tail = horner(f, -0x1.fffff8p-2f, 0x1.555550p-2f, -0x1.000426p-2f, 0x1.99a3f2p-3f, -0x1.54276ep-3f,
                            0x1.2271a4p-3f, -0x1.0f3768p-3f, 0x1.084832p-3f, -0x1.382f8ep-4f);
  return fused(product(f, f), tail, f);
}
/// log(1 + f) = f - (f^2/2 - s (f^2/2 + R)) with s = f / (2 + f): twice the series of artanh, fitted to 2^-59.
RANVIER_HD_INLINE double log1p_reduced(double f) {
  const double s = quotient(f, 2.0 + f), z = product(s, s), half_square = product(0.5 * f, f);
  const double series = horner(z, 0x1.5555555555592p-1, 0x1.999999997fd77p-2, 0x1.24924941f4f01p-2,
                               0x1.c71c5206148b2p-3, 0x1.74663f9f27883p-3, 0x1.39a1a74b2945ap-3, 0x1.2f06310b84531p-3);
  return f - fused(-s, fused(z, series, half_square), half_square);
}

/// x = 2^e (1 + f).
template <class T>
struct LogParts {
  T e;  ///< a whole number
  T f;  ///< 1 + f in [sqrt(1/2), sqrt(2))
};

/// Splits a positive normal number.
template <class T>
RANVIER_HD_INLINE LogParts<T> log_parts(T x) {
  using F = Format<T>;
  using Bits = typename F::Bits;
  const Bits shifted = to_bits(x) + (F::one - F::root_half);  // carries into the exponent from sqrt(2) up
  const T e = from_bits(static_cast<Bits>((shifted >> F::mantissa_bits) | F::counter)) -
              (F::counter_value + static_cast<T>(F::bias));
  return {e, from_bits(static_cast<Bits>((shifted & F::mantissa_mask) + F::root_half)) - T(1)};
}

/// log(x) for a positive normal x: the core without edges.
template <class T>
RANVIER_HD_INLINE T log_normal_range(T x) {
  using F = Format<T>;
  const LogParts<T> parts = log_parts(x);
  return fused(parts.e, F::ln2, fused(parts.e, F::ln2_low, log1p_reduced(parts.f)));
}

/// Natural logarithm: -inf at 0, NaN below.
template <class T>
RANVIER_HD_INLINE T log(T x) {
  using F = Format<T>;
  const bool denormal = x < F::smallest_normal;
  LogParts<T> parts = log_parts(denormal ? product(x, F::lift) : x);
  parts.e = parts.e - (denormal ? static_cast<T>(F::mantissa_bits) : T(0));
  T result = fused(parts.e, F::ln2, fused(parts.e, F::ln2_low, log1p_reduced(parts.f)));
  result = x > F::largest ? x : result;
  result = x > T(0) ? result : not_a_number<T>();
  return x == T(0) ? -infinity<T>() : result;
}

/// log(1 + x), accurate near 0: -inf at -1, NaN below.
template <class T>
RANVIER_HD_INLINE T log1p(T x) {
  using F = Format<T>;
  const T u = T(1) + x, back = u - T(1);
  const T lost = (T(1) - (u - back)) + (x - back);  // exactly 1 + x - u
  const LogParts<T> parts = log_parts(u);
  const T low = fused(parts.e, F::ln2_low, quotient(lost, u));
  T result = fused(parts.e, F::ln2, log1p_reduced(parts.f) + low);
  result = x > F::largest ? x : result;
  result = x > T(-1) ? result : not_a_number<T>();
  result = x == T(-1) ? -infinity<T>() : result;
  return x == T(0) ? x : result;
}

// ---- error function ----

/// erf(x) / x - 1 as a polynomial in z = x^2 <= 1.
RANVIER_HD_INLINE float erf_small(float z) {
  return horner(z, 0x1.06eba8p-3f, -0x1.81273ep-2f, 0x1.ce2cf6p-4f, -0x1.b7f908p-6f, 0x1.540588p-8f, -0x1.a3f5bep-11f,
                0x1.496696p-14f);
}
/// erf(x) / x - 1 as a polynomial in z = x^2 <= 1.
RANVIER_HD_INLINE double erf_small(double z) {
  return horner(z, 0x1.06eba8214db68p-3, -0x1.812746b0379bdp-2, 0x1.ce2f21a040d0ep-4, -0x1.b82ce311fa731p-6,
                0x1.565bccf926e53p-8, -0x1.c02db03d2f815p-11, 0x1.f9a2ba9910de2p-14, -0x1.f4ca4c769fe52p-17,
                0x1.b97fca2011c74p-20, -0x1.5c06ea8d469cdp-23, 0x1.d71967d574d4ep-27, -0x1.aba9498cc1970p-31);
}

/// exp(x^2) erfc(x) for 1 <= x <= 3.95, fitted with the weight exp(-x^2) that it gets.
RANVIER_HD_INLINE float erfcx(float x) {
  return horner(x - 2.0f, 0x1.05866cp-2f, -0x1.b57198p-4f, 0x1.56703ep-5f, -0x1.fa0942p-7f, 0x1.66d872p-8f,
                -0x1.e6ea90p-10f, 0x1.07f720p-11f, -0x1.a83c7ap-13f, 0x1.c035f6p-14f);
}
/// exp(x^2) erfc(x) for 1 <= x <= 5.95, fitted with the weight exp(-x^2) that it gets.
RANVIER_HD_INLINE double erfcx(double x) {
  return horner(x - 2.5, 0x1.afbb3f3b733bbp-3, -0x1.3086d7f01a2c4p-4, 0x1.98958a7ab5976p-6, -0x1.06320767c3622p-7,
                0x1.435c04cfa0794p-9, -0x1.809ce951c4a74p-11, 0x1.ba8a6b7d0cbbfp-13, -0x1.edd3e8322b510p-15,
                0x1.0bcbb3c990e50p-16, -0x1.1ad4e9311f1f4p-18, 0x1.2344db4ff700fp-20, -0x1.24de7c49a7f74p-22,
                0x1.2162f40e92cd5p-24, -0x1.16d933bf2aacfp-26, 0x1.f74bbeef90329p-29, -0x1.eb17115c1df6cp-31,
                0x1.15013d1263976p-32, -0x1.32fb7ef55865ep-35, 0x1.45d1337eafdedp-40, -0x1.1fc1fa8c8cd7ep-38,
                0x1.4a1f1528d0a83p-40);
}

/// Error function.
template <class T>
RANVIER_HD_INLINE T erf(T x) {
  const T a = at_most(magnitude(x), Format<T>::erf_high), z = product(a, a);
  const T small = fused(a, erf_small(z), a);
  const T large = fused(-exp_normal_range(-z), erfcx(a), T(1));
  return with_sign(a < T(1) ? small : large, x);
}

// ---- sine and cosine ----

/// (sin(r) - r) / r^3 in z = r^2, |r| <= pi / 4.
RANVIER_HD_INLINE float sin_tail(float z) {
  return horner(z, -0x1.555556p-3f, 0x1.111108p-7f, -0x1.a00f74p-13f, 0x1.6ccf5ep-19f);
}
/// (sin(r) - r) / r^3 in z = r^2, |r| <= pi / 4.
RANVIER_HD_INLINE double sin_tail(double z) {
  return horner(z, -0x1.5555555555548p-3, 0x1.111111110f78fp-7, -0x1.a01a019bf5759p-13, 0x1.71de356038ebfp-19,
                -0x1.ae5e546dc7edfp-26, 0x1.5d8dfcf206312p-33);
}
/// (cos(r) - 1 + r^2 / 2) / r^4 in z = r^2, |r| <= pi / 4.
RANVIER_HD_INLINE float cos_tail(float z) { return horner(z, 0x1.55554ap-5f, -0x1.6c0c28p-10f, 0x1.99e86cp-16f); }
/// (cos(r) - 1 + r^2 / 2) / r^4 in z = r^2, |r| <= pi / 4.
RANVIER_HD_INLINE double cos_tail(double z) {
  return horner(z, 0x1.555555555554bp-5, -0x1.6c16c16c14f47p-10, 0x1.a01a019c7cdc3p-16, -0x1.27e4f7e53fcc2p-22,
                0x1.1ee9d3dd755d7p-29, -0x1.8fa2915705f62p-37);
}

/// sin(r + quadrant * pi / 2) for |r| <= pi / 4; only the two low bits of quadrant count.
template <class T>
RANVIER_HD_INLINE T sin_quadrant(T r, typename Format<T>::Bits quadrant) {
  using F = Format<T>;
  using Bits = typename F::Bits;
  const T z = product(r, r);
  const T sine = fused(product(r, z), sin_tail(z), r);
  const T cosine = fused(z, fused(z, cos_tail(z), T(-0.5)), T(1));
  const T value = (quadrant & 1u) ? cosine : sine;
  return from_bits(static_cast<Bits>(to_bits(value) ^ ((quadrant & 2u) << (F::sign_bit - 1))));
}

/// sin(x + turn * pi / 2) for |x| <= Format<T>::trig_bound (1e5 in f32, 1e9 in f64), three-part Cody-Waite reduction.
template <class T>
RANVIER_HD_INLINE T sin_shifted(T x, typename Format<T>::Bits turn) {
  using F = Format<T>;
  const T rounded = fused(x, F::two_over_pi, F::rounder), q = rounded - F::rounder;
  const T r = fused(-q, F::half_pi2, fused(-q, F::half_pi1, fused(-q, F::half_pi0, x)));
  return sin_quadrant(r, static_cast<typename F::Bits>(to_bits(rounded) + turn));
}

/// Sine for |x| <= Format<T>::trig_bound, without a branch: for vector loops.
template <class T>
RANVIER_HD_INLINE T sin_bounded(T x) {
  return x == T(0) ? x : sin_shifted(x, typename Format<T>::Bits{0});
}
/// Cosine for |x| <= Format<T>::trig_bound, without a branch: for vector loops.
template <class T>
RANVIER_HD_INLINE T cos_bounded(T x) {
  return sin_shifted(x, typename Format<T>::Bits{1});
}

/// Sine or cosine (turn 1) beyond the bound; NaN of an infinity or NaN.
template <class T>
RANVIER_HD inline T sin_large(T x, uint32_t turn) {
  if (!(magnitude(x) <= Format<T>::largest)) return x - x;
  const Angle angle = reduce_large(static_cast<double>(x));
  return sin_quadrant(static_cast<T>(angle.rest), typename Format<T>::Bits{angle.quadrant + turn});
}

/// Sine of any x. The branch keeps a loop over it scalar: host loops use `sin_array`.
template <class T>
RANVIER_HD_INLINE T sin(T x) {
  return magnitude(x) <= Format<T>::trig_bound ? sin_bounded(x) : sin_large(x, 0);
}
/// Cosine of any x. The branch keeps a loop over it scalar: host loops use `cos_array`.
template <class T>
RANVIER_HD_INLINE T cos(T x) {
  return magnitude(x) <= Format<T>::trig_bound ? cos_bounded(x) : sin_large(x, 1);
}

/// cos(2 pi u) for 0 <= u < 1 in f32: the reduction is exact.
RANVIER_HD_INLINE float cos_turns(float u) {
  using F = Format<float>;
  const float rounded = fused(4.0f, u, F::rounder), rest = fused(4.0f, u, -(rounded - F::rounder));
  return sin_quadrant(product(rest, F::half_pi0), to_bits(rounded) + 1u);
}

/// y[i] = sin(x[i] + turn * pi / 2), the same bits as `sin` and `cos`: vector code block by block, one by one only in a
/// block that holds a value beyond the fast range.
template <class T>
void sin_shifted_array(int64_t n, const T* x, T* y, uint32_t turn) {
  constexpr int64_t block = 256;
  for (int64_t begin = 0; begin < n; begin += block) {
    const int64_t end = n - begin < block ? n : begin + block;
    int beyond = 0;
#pragma omp simd reduction(| : beyond)
    for (int64_t i = begin; i < end; ++i) beyond |= magnitude(x[i]) <= Format<T>::trig_bound ? 0 : 1;
    if (beyond) {
      for (int64_t i = begin; i < end; ++i) y[i] = turn ? cos(x[i]) : sin(x[i]);
    } else if (turn) {
#pragma omp simd
      for (int64_t i = begin; i < end; ++i) y[i] = cos_bounded(x[i]);
    } else {
#pragma omp simd
      for (int64_t i = begin; i < end; ++i) y[i] = sin_bounded(x[i]);
    }
  }
}

/// y[i] = sin(x[i]); y may be x.
template <class T>
void sin_array(int64_t n, const T* x, T* y) {
  sin_shifted_array(n, x, y, 0);
}
/// y[i] = cos(x[i]); y may be x.
template <class T>
void cos_array(int64_t n, const T* x, T* y) {
  sin_shifted_array(n, x, y, 1);
}

}  // namespace ranvier::kernels::math
