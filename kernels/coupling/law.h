// The distance law of the coupling, on host and device: what is left in the pair loop when size and myelin are pulled
// out of it.
#pragma once
#include <cstdint>

#include "kernels/common/math.h"
#if defined(__CUDACC__)
#include "kernels/common/ptx.cuh"
#endif

namespace ranvier::kernels {

/// kappa of the distance d, d^2 = |p_i - p_j|^2 + softening^2.
///   screened_power: (1 + d^2 / length^2)^(-power / 2) exp(-d / decay)
///   gaussian:       exp(-d^2 / (2 length^2))
/// power 0 leaves the screened exponential, decay = infinity the inverse power (length much smaller than every distance
/// gives (length / d)^power), length = decay = infinity a constant. power is a real number of 0 or more.
struct CouplingLaw {
  enum Kind : int64_t { screened_power, gaussian };
  int64_t kind = screened_power;
  double length = 0.5, decay = 1, power = 3, softening = 0.05;

  /// kappa^2 is a law of the same family.
  CouplingLaw squared() const {
    CouplingLaw law = *this;
    if (kind == gaussian)
      law.length *= 0.70710678118654752440;
    else
      law.power *= 2, law.decay *= 0.5;
    return law;
  }
};

/// How (1 + d^2 / length^2)^(-power / 2) is computed: whole powers up to 3 by products, others by exp and log, which is
/// decided once a launch and not once a pair.
constexpr int general_power = -1;

// What a pair costs: on a device each of these is one special-function instruction (relative error about 2^-22, far
// below the sums' own), elsewhere the vectorised polynomials of math.h. Exponents are to base 2, as the device has
// them.
namespace pair_math {

constexpr double log2_e = 1.44269504088896340736;

/// Bounds that the vectorised forms need. They are members of a law, not literals: GCC splits a clamp to a literal into
/// two copies of the code that follows, under masks, a half more instructions.
template <class T>
struct Bounds {
  T least_exponent = sizeof(T) == 4 ? T(-125) : T(-1021), largest = math::Format<T>::largest;
};
/// 2^x of a number of 0 or less. Below the normal range (-126 in f32, -1022 in f64) it is 0 on a device, and the least
/// normal number elsewhere.
template <class T>
RANVIER_HD_INLINE T exp2(T x, const Bounds<T>& bounds) {
#if defined(__CUDA_ARCH__)
  if constexpr (sizeof(T) == 4) return ptx::fast_exp2(x);
#endif
  using F = math::Format<T>;
  x = math::at_least(x, bounds.least_exponent);
  const T n = (x + F::rounder) - F::rounder, r = product(x - n, F::ln2);
  return product(T(1) + fused(product(r, r), math::expm1_tail(r), r), math::power_of_two(n));
}
/// The logarithm to base 2 of a number of 1 or more.
template <class T>
RANVIER_HD_INLINE T log2(T x) {
#if defined(__CUDA_ARCH__)
  if constexpr (sizeof(T) == 4) return ptx::fast_log2(x);
#endif
  return math::log_normal_range(x) * math::Format<T>::log2_e;
}
template <class T>
RANVIER_HD_INLINE T inverse(T x) {
#if defined(__CUDA_ARCH__)
  if constexpr (sizeof(T) == 4) return ptx::fast_inverse(x);
#endif
  return T(1) / x;
}
/// True where inverse_root(0) is infinite.
template <class T>
RANVIER_HD_INLINE constexpr bool infinite_at_0() {
#if defined(__CUDA_ARCH__)
  return true;
#else
  return sizeof(T) == 8;
#endif
}
/// 1 / sqrt(x) of a number of 0 or more. A CPU takes roots and quotients in an eighth of the rate at which it
/// multiplies, so there f32 starts from the halved exponent (wrong by 3.4 %) and takes a step of third order and one of
/// second: within 2 units in the last place; of 0 and denormal numbers the result is large and finite.
template <class T>
RANVIER_HD_INLINE T inverse_root(T x, [[maybe_unused]] const Bounds<T>& bounds) {
  if constexpr (sizeof(T) == 8) {
    return T(1) / root(x);
  } else {
#if defined(__CUDA_ARCH__)
    return ptx::fast_inverse_root(x);
#else
    x = math::at_most(x, bounds.largest);
    T y = from_bits(0x5f3759dfu - (to_bits(x) >> 1));
    T off = fused(-product(x, y), y, T(1));
    y = fused(product(y, off), fused(off, T(0.375), T(0.5)), y);
    off = fused(-product(x, y), y, T(1));
    return fused(product(y, T(0.5)), off, y);
#endif
  }
}

}  // namespace pair_math

/// The screened power in numbers of type T; `decays` false where decay is infinite, which saves the root and the exp.
template <class T, int whole_power, bool decays>
struct ScreenedPower {
  T softening2, inverse_length2, half_power, power, inverse_decay, binary_decay;
  pair_math::Bounds<T> bounds;

  explicit ScreenedPower(const CouplingLaw& law)
      : softening2(static_cast<T>(law.softening * law.softening)),
        inverse_length2(static_cast<T>(1 / (law.length * law.length))),
        half_power(static_cast<T>(law.power / 2)),
        power(static_cast<T>(law.power)),
        inverse_decay(static_cast<T>(1 / law.decay)),
        binary_decay(static_cast<T>(pair_math::log2_e / law.decay)) {}

  /// kappa at t = |p_i - p_j|^2; `slope` is f = 2 (d kappa / d t) / kappa, the factor of (p_i - p_j) in the gradient
  /// of ln kappa with respect to p_i. Of coincident units without softening it is -infinity where the law decays.
  template <bool with_slope>
  RANVIER_HD_INLINE T value(T t, T& slope) const {
    const T d2 = t + softening2, q = fused(d2, inverse_length2, T(1));
    T kappa = T(1), exponent = T(0), inverse_d = T(0), inverse_q = T(0);
    if constexpr (whole_power == general_power) {
      exponent = -half_power * pair_math::log2(q);
      if constexpr (with_slope) inverse_q = pair_math::inverse(q);
    } else if constexpr (whole_power == 2) {
      kappa = inverse_q = pair_math::inverse(q);
    } else if constexpr (whole_power > 0) {
      const T part = pair_math::inverse_root(q, bounds);
      inverse_q = part * part;
      kappa = whole_power == 3 ? inverse_q * part : part;
    }
    if constexpr (decays) {
      inverse_d = pair_math::inverse_root(d2, bounds);
      T d = d2 * inverse_d;
      if constexpr (pair_math::infinite_at_0<T>())
        d = d2 > T(0) ? d : d2;
      else if constexpr (with_slope)
        inverse_d = d2 > T(0) ? inverse_d : math::infinity<T>();
      exponent = fused(-d, binary_decay, exponent);
    }
    if constexpr (decays || whole_power == general_power) kappa *= pair_math::exp2(exponent, bounds);
    if constexpr (with_slope) {
      slope = -power * inverse_length2 * inverse_q;
      if constexpr (decays) slope = fused(-inverse_decay, inverse_d, slope);
    }
    return kappa;
  }
};

/// The gaussian in numbers of type T: of t = |p_i - p_j|^2 it takes one fma and one power of 2.
template <class T>
struct Gaussian {
  T inverse_length2, factor, start;
  pair_math::Bounds<T> bounds;

  explicit Gaussian(const CouplingLaw& law)
      : inverse_length2(static_cast<T>(1 / (law.length * law.length))),
        factor(static_cast<T>(-0.5 * pair_math::log2_e / (law.length * law.length))),
        start(static_cast<T>(-0.5 * pair_math::log2_e * law.softening * law.softening / (law.length * law.length))) {}

  template <bool with_slope>
  RANVIER_HD_INLINE T value(T t, T& slope) const {
    if constexpr (with_slope) slope = -inverse_length2;
    return pair_math::exp2(fused(t, factor, start), bounds);
  }
};

/// Calls `body(law)` with the instance that a law needs in type T.
template <class T, class Body>
void dispatch_law(const CouplingLaw& law, Body&& body) {
  if (law.kind == CouplingLaw::gaussian) return body(Gaussian<T>(law));
  const bool decays = 1 / law.decay > 0;
  const auto with = [&]<int power>() {
    if (decays)
      body(ScreenedPower<T, power, true>(law));
    else
      body(ScreenedPower<T, power, false>(law));
  };
  if (law.power == 0 || 1 / law.length == 0) return with.template operator()<0>();
  if (law.power == 1) return with.template operator()<1>();
  if (law.power == 2) return with.template operator()<2>();
  if (law.power == 3) return with.template operator()<3>();
  with.template operator()<general_power>();
}

}  // namespace ranvier::kernels
