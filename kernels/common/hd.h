// Marks functions that run on the host and on a CUDA device, and gives them the arithmetic that both round alike.
#pragma once
#include <cmath>
#include <cstdint>

#if defined(__CUDACC__)
#define RANVIER_HD __host__ __device__
#else
#define RANVIER_HD
#endif

/// Forced inlining: a vectorised loop over a function that stayed a call would not be vectorised at all.
#if defined(__CUDACC__)
#define RANVIER_HD_INLINE __host__ __device__ __forceinline__
#else
#define RANVIER_HD_INLINE inline __attribute__((always_inline))
#endif

namespace ranvier::kernels {

// nvcc contracts a * b + c into an fma by default and our host flags forbid it. Code that must give the same bits on
// both writes each fma by name and every product that meets a sum as `product`.

/// a * b + c, rounded once.
RANVIER_HD_INLINE float fused(float a, float b, float c) { return ::fmaf(a, b, c); }
/// a * b + c, rounded once.
RANVIER_HD_INLINE double fused(double a, double b, double c) { return ::fma(a, b, c); }

/// a * b rounded by itself: never contracted with a later sum.
RANVIER_HD_INLINE float product(float a, float b) {
#if defined(__CUDA_ARCH__)
  return __fmul_rn(a, b);
#else
  return a * b;
#endif
}
/// a * b rounded by itself: never contracted with a later sum.
RANVIER_HD_INLINE double product(double a, double b) {
#if defined(__CUDA_ARCH__)
  return __dmul_rn(a, b);
#else
  return a * b;
#endif
}

/// IEEE quotient whatever -prec-div says.
RANVIER_HD_INLINE float quotient(float a, float b) {
#if defined(__CUDA_ARCH__)
  return __fdiv_rn(a, b);
#else
  return a / b;
#endif
}
/// IEEE quotient.
RANVIER_HD_INLINE double quotient(double a, double b) { return a / b; }

/// IEEE square root whatever -prec-sqrt says.
RANVIER_HD_INLINE float root(float a) {
#if defined(__CUDA_ARCH__)
  return __fsqrt_rn(a);
#else
  return ::sqrtf(a);
#endif
}
/// IEEE square root.
RANVIER_HD_INLINE double root(double a) { return ::sqrt(a); }

/// The bits of a number as an integer, and back.
RANVIER_HD_INLINE uint32_t to_bits(float x) {
#if defined(__CUDA_ARCH__)
  return __float_as_uint(x);
#else
  return __builtin_bit_cast(uint32_t, x);
#endif
}
/// The bits of a number as an integer.
RANVIER_HD_INLINE uint64_t to_bits(double x) {
#if defined(__CUDA_ARCH__)
  return static_cast<uint64_t>(__double_as_longlong(x));
#else
  return __builtin_bit_cast(uint64_t, x);
#endif
}
/// The f32 with these bits.
RANVIER_HD_INLINE float from_bits(uint32_t bits) {
#if defined(__CUDA_ARCH__)
  return __uint_as_float(bits);
#else
  return __builtin_bit_cast(float, bits);
#endif
}
/// The f64 with these bits.
RANVIER_HD_INLINE double from_bits(uint64_t bits) {
#if defined(__CUDA_ARCH__)
  return __longlong_as_double(static_cast<long long>(bits));
#else
  return __builtin_bit_cast(double, bits);
#endif
}

}  // namespace ranvier::kernels
