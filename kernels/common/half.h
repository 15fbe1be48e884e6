// The 16-bit floating types bf16 and f16 as storage with exact conversions, on the host and on a CUDA device.
#pragma once
#include <cstdint>

#include "kernels/common/hd.h"

#if defined(__CUDACC__)
#include <cuda_fp16.h>
#endif

namespace ranvier::kernels {

/// bfloat16: the upper half of an f32. Arithmetic is done in f32; conversion rounds to nearest even and keeps NaN.
struct bf16 {
  uint16_t bits;
};

/// IEEE binary16. Arithmetic is done in f32; conversion rounds to nearest even, beyond 65504 to infinity.
struct f16 {
  uint16_t bits;
};

RANVIER_HD_INLINE float to_float(float x) { return x; }
RANVIER_HD_INLINE float to_float(bf16 x) { return from_bits(uint32_t{x.bits} << 16); }
RANVIER_HD_INLINE float to_float(f16 x) {
#if defined(__CUDA_ARCH__)
  return __half2float(__ushort_as_half(x.bits));
#else
  return static_cast<float>(__builtin_bit_cast(_Float16, x.bits));
#endif
}

/// The 16-bit value nearest to x, ties to even.
template <class T>
RANVIER_HD_INLINE T from_float(float x);
template <>
RANVIER_HD_INLINE float from_float<float>(float x) {
  return x;
}
template <>
RANVIER_HD_INLINE bf16 from_float<bf16>(float x) {
  const uint32_t bits = to_bits(x);
  if ((bits & 0x7fffffffu) > 0x7f800000u) return {static_cast<uint16_t>(bits >> 16 | 0x40u)};  // NaN, made quiet
  return {static_cast<uint16_t>((bits + 0x7fffu + (bits >> 16 & 1u)) >> 16)};
}
template <>
RANVIER_HD_INLINE f16 from_float<f16>(float x) {
#if defined(__CUDA_ARCH__)
  return {__half_as_ushort(__float2half_rn(x))};
#else
  return {__builtin_bit_cast(uint16_t, static_cast<_Float16>(x))};
#endif
}

/// The type that a kernel computes in for values stored as T: f32 for the 16-bit types, else T itself.
template <class T>
struct Compute {
  using type = T;
};
template <>
struct Compute<bf16> {
  using type = float;
};
template <>
struct Compute<f16> {
  using type = float;
};
template <class T>
using compute_t = typename Compute<T>::type;

/// A stored value in its compute type, and back.
template <class T>
RANVIER_HD_INLINE compute_t<T> widen(T x) {
  if constexpr (sizeof(compute_t<T>) == sizeof(T))
    return x;
  else
    return to_float(x);
}
template <class T>
RANVIER_HD_INLINE T narrow(compute_t<T> x) {
  if constexpr (sizeof(compute_t<T>) == sizeof(T))
    return x;
  else
    return from_float<T>(x);
}

}  // namespace ranvier::kernels
