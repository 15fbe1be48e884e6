// Sixteen-lane float vectors for channel loops: compiler vectors, so one source gives the same bits on every machine.
#pragma once
#include <cmath>
#include <cstdint>
#include <cstring>

#if defined(__AVX512F__) || defined(__FMA__)
#include <immintrin.h>
#endif

namespace ranvier::kernels::simd {

inline constexpr int64_t lanes = 16;
using Floats = float __attribute__((vector_size(64)));
using Ints = int32_t __attribute__((vector_size(64)));
using Words = uint32_t __attribute__((vector_size(64)));
using Bytes = uint8_t __attribute__((vector_size(16)));

/// How many lanes of a vector lie in memory: all of them, or the first `count` (the tail of a channel loop).
struct Whole {
  static constexpr int64_t count = lanes;
};
struct Part {
  int64_t count;
};

#define RANVIER_INLINE inline __attribute__((always_inline))

RANVIER_INLINE Floats splat(float value) { return Floats{} + value; }

RANVIER_INLINE Floats load(const float* from, Whole) {
  Floats v;
  std::memcpy(&v, from, sizeof v);
  return v;
}
/// Lanes beyond the part are zero.
RANVIER_INLINE Floats load(const float* from, Part part) {
#if defined(__AVX512F__)
  return _mm512_maskz_loadu_ps(__mmask16((1u << part.count) - 1), from);
#else
  Floats v{};
  std::memcpy(&v, from, static_cast<size_t>(part.count) * sizeof(float));
  return v;
#endif
}
RANVIER_INLINE void store(float* to, Floats v, Whole) { std::memcpy(to, &v, sizeof v); }
RANVIER_INLINE void store(float* to, Floats v, Part part) {
#if defined(__AVX512F__)
  _mm512_mask_storeu_ps(to, __mmask16((1u << part.count) - 1), v);
#else
  std::memcpy(to, &v, static_cast<size_t>(part.count) * sizeof(float));
#endif
}

/// Bit patterns, unchanged.
RANVIER_INLINE Ints bits(Floats a) { return reinterpret_cast<Ints>(a); }
RANVIER_INLINE Floats from_bits(Ints a) { return reinterpret_cast<Floats>(a); }

/// Moves of 32-bit integers; their bits travel as floats do.
template <class Span>
RANVIER_INLINE Ints load(const int32_t* from, Span span) {
  return bits(load(reinterpret_cast<const float*>(from), span));
}
template <class Span>
RANVIER_INLINE void store(int32_t* to, Ints v, Span span) {
  store(reinterpret_cast<float*>(to), from_bits(v), span);
}

RANVIER_INLINE Ints load_bytes(const uint8_t* from, Whole) {
  Bytes bytes;
  std::memcpy(&bytes, from, sizeof bytes);
  return __builtin_convertvector(bytes, Ints);
}
RANVIER_INLINE Ints load_bytes(const uint8_t* from, Part part) {
  Bytes bytes{};
  std::memcpy(&bytes, from, static_cast<size_t>(part.count));
  return __builtin_convertvector(bytes, Ints);
}
template <class Span>
RANVIER_INLINE void store_bytes(uint8_t* to, Ints v, Span span) {
  const Bytes bytes = __builtin_convertvector(v, Bytes);
  std::memcpy(to, &bytes, static_cast<size_t>(span.count));
}

/// a * b + c with one rounding.
RANVIER_INLINE Floats fma(Floats a, Floats b, Floats c) {
#if defined(__AVX512F__)
  return _mm512_fmadd_ps(a, b, c);
#elif defined(__FMA__)
  __m256 x[2], y[2], z[2];
  std::memcpy(x, &a, sizeof x), std::memcpy(y, &b, sizeof y), std::memcpy(z, &c, sizeof z);
  for (int half = 0; half < 2; ++half) z[half] = _mm256_fmadd_ps(x[half], y[half], z[half]);
  Floats r;
  std::memcpy(&r, z, sizeof r);
  return r;
#else
  Floats r;
  for (int64_t i = 0; i < lanes; ++i) r[i] = std::fma(a[i], b[i], c[i]);
  return r;
#endif
}

RANVIER_INLINE Floats sqrt(Floats a) {
#if defined(__AVX512F__)
  return _mm512_sqrt_ps(a);
#else
  Floats r;
  for (int64_t i = 0; i < lanes; ++i) r[i] = std::sqrt(a[i]);
  return r;
#endif
}

RANVIER_INLINE Floats abs(Floats a) { return from_bits(bits(a) & 0x7fffffff); }
/// Magnitude of `a`, sign of `s`.
RANVIER_INLINE Floats copysign(Floats a, Floats s) {
  return from_bits((bits(a) & 0x7fffffff) | (bits(s) & static_cast<int32_t>(0x80000000)));
}

/// Calls `body(c, span)` for the vectors that tile channels 0..channels; only the last one may be a Part.
template <class Body>
RANVIER_INLINE void for_channels(int64_t channels, Body&& body) {
  int64_t c = 0;
  for (; c + lanes <= channels; c += lanes) body(c, Whole{});
  if (c < channels) body(c, Part{channels - c});
}

}  // namespace ranvier::kernels::simd
