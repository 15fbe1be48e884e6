// Conversions between all element types, rounded once.
#pragma once
#include <cstdint>
#include <type_traits>

#include "kernels/common/half.h"

namespace ranvier::kernels {

/// x as an f32 that is exact or odd in its last place and on the same side of every shorter number as x: rounding it to
/// a 16-bit type gives what rounding x itself would (round to odd).
RANVIER_HD_INLINE float rounded_to_odd(double x) {
  const auto nearest = static_cast<float>(x);
  if (static_cast<double>(nearest) == x || x != x) return nearest;
  uint32_t bits = to_bits(nearest);
  if (std::fabs(static_cast<double>(nearest)) > std::fabs(x)) --bits;
  return from_bits(bits | 1u);
}
RANVIER_HD_INLINE float rounded_to_odd(int64_t x) {
  constexpr int64_t exact = int64_t{1} << 53;
  if (x > -exact && x < exact) return rounded_to_odd(static_cast<double>(x));
  return rounded_to_odd(static_cast<double>(x >> 11 | ((x & 2047) != 0)) *
                        2048.0);  // what was cut off, as a sticky bit
}
RANVIER_HD_INLINE float rounded_to_odd(int32_t x) { return rounded_to_odd(static_cast<double>(x)); }
RANVIER_HD_INLINE float rounded_to_odd(uint8_t x) { return static_cast<float>(x); }
RANVIER_HD_INLINE float rounded_to_odd(float x) { return x; }

template <class T>
inline constexpr bool is_16_bit = std::is_same_v<T, bf16> || std::is_same_v<T, f16>;

/// x as a To: to nearest even where To is narrower, truncated from floating to integer (unspecified beyond its range).
template <class To, class From>
RANVIER_HD_INLINE To convert(From x) {
  if constexpr (std::is_same_v<To, From>)
    return x;
  else if constexpr (is_16_bit<From>)
    return convert<To>(to_float(x));
  else if constexpr (is_16_bit<To>)
    return from_float<To>(rounded_to_odd(x));
  else
    return static_cast<To>(x);
}

}  // namespace ranvier::kernels
