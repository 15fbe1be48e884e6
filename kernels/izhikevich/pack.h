// Sixteen f32 or eight f64 neurons as one number: the vector type that the step functors take on the CPU.
#pragma once
#include <cmath>
#include <cstring>

#include "kernels/izhikevich/lanes.h"

#if defined(__AVX512F__)
#include <immintrin.h>
#endif

namespace ranvier::kernels::izhikevich {

using kernels::fused, kernels::product, kernels::quotient, kernels::root;  // beside the overloads below

/// 64 bytes of an element type.
template <class T>
struct Wide;
template <>
struct Wide<float> {
  typedef float Values __attribute__((vector_size(64)));
};
template <>
struct Wide<double> {
  typedef double Values __attribute__((vector_size(64)));
};

/// The comparison of two packs: all ones in the lanes where it holds.
template <class T>
struct PackMask {
  using Values = typename Wide<T>::Values;
  using Bits = decltype(Values{} < Values{});
  Bits x;
  friend RANVIER_HD_INLINE PackMask operator!(PackMask a) { return {~a.x}; }
  friend RANVIER_HD_INLINE PackMask operator&(PackMask a, PackMask b) { return {a.x & b.x}; }
  friend RANVIER_HD_INLINE PackMask operator|(PackMask a, PackMask b) { return {a.x | b.x}; }
};

/// 64 bytes of lanes.
template <class T>
struct Pack {
  using Values = typename Wide<T>::Values;
  static constexpr int lanes = 64 / sizeof(T);
  Values x;

  Pack() = default;
  RANVIER_HD_INLINE Pack(Values values) : x(values) {}
  RANVIER_HD_INLINE explicit Pack(T value) : x(value - Values{}) {}  // 0 - 0 and -0 - 0 keep their signs
  static RANVIER_HD_INLINE Pack load(const T* from) {
    Pack p;
    std::memcpy(&p.x, from, sizeof p.x);
    return p;
  }
  RANVIER_HD_INLINE void store(T* to) const { std::memcpy(to, &x, sizeof x); }

  friend RANVIER_HD_INLINE Pack operator+(Pack a, Pack b) { return a.x + b.x; }
  friend RANVIER_HD_INLINE Pack operator-(Pack a, Pack b) { return a.x - b.x; }
  friend RANVIER_HD_INLINE Pack operator*(Pack a, Pack b) { return a.x * b.x; }
  friend RANVIER_HD_INLINE Pack operator-(Pack a) { return -a.x; }
  friend RANVIER_HD_INLINE PackMask<T> operator<(Pack a, Pack b) { return {a.x < b.x}; }
  friend RANVIER_HD_INLINE PackMask<T> operator>(Pack a, Pack b) { return {a.x > b.x}; }
  friend RANVIER_HD_INLINE PackMask<T> operator>=(Pack a, Pack b) { return {a.x >= b.x}; }
  friend RANVIER_HD_INLINE PackMask<T> operator<=(Pack a, Pack b) { return {a.x <= b.x}; }
};

template <class T>
struct Lanes<Pack<T>> {
  using Element = T;
  using Mask = PackMask<T>;
};

template <class T>
RANVIER_HD_INLINE Pack<T> select(PackMask<T> mask, Pack<T> a, Pack<T> b) {
  return mask.x ? a.x : b.x;
}
template <class T>
RANVIER_HD_INLINE Pack<T> product(Pack<T> a, Pack<T> b) {
  return a.x * b.x;
}
template <class T>
RANVIER_HD_INLINE Pack<T> quotient(Pack<T> a, Pack<T> b) {
  return a.x / b.x;
}

RANVIER_HD_INLINE Pack<float> fused(Pack<float> a, Pack<float> b, Pack<float> c) {
#if defined(__AVX512F__)
  return Pack<float>::Values(_mm512_fmadd_ps(a.x, b.x, c.x));
#else
  for (int i = 0; i < Pack<float>::lanes; ++i) c.x[i] = std::fma(a.x[i], b.x[i], c.x[i]);
  return c;
#endif
}
RANVIER_HD_INLINE Pack<double> fused(Pack<double> a, Pack<double> b, Pack<double> c) {
#if defined(__AVX512F__)
  return Pack<double>::Values(_mm512_fmadd_pd(a.x, b.x, c.x));
#else
  for (int i = 0; i < Pack<double>::lanes; ++i) c.x[i] = std::fma(a.x[i], b.x[i], c.x[i]);
  return c;
#endif
}
RANVIER_HD_INLINE Pack<float> root(Pack<float> a) {
#if defined(__AVX512F__)
  return Pack<float>::Values(_mm512_maskz_sqrt_ps(static_cast<__mmask16>(-1), a.x));
#else
  for (int i = 0; i < Pack<float>::lanes; ++i) a.x[i] = std::sqrt(a.x[i]);
  return a;
#endif
}
RANVIER_HD_INLINE Pack<double> root(Pack<double> a) {
#if defined(__AVX512F__)
  return Pack<double>::Values(_mm512_maskz_sqrt_pd(static_cast<__mmask8>(-1), a.x));
#else
  for (int i = 0; i < Pack<double>::lanes; ++i) a.x[i] = std::sqrt(a.x[i]);
  return a;
#endif
}

/// One bit a lane.
RANVIER_HD_INLINE uint32_t bits(PackMask<float> mask) {
#if defined(__AVX512F__) && defined(__AVX512DQ__)
  return _mm512_movepi32_mask(reinterpret_cast<__m512i>(mask.x));
#else
  uint32_t word = 0;
  for (int i = 0; i < Pack<float>::lanes; ++i) word |= static_cast<uint32_t>(mask.x[i] & 1) << i;
  return word;
#endif
}
RANVIER_HD_INLINE uint32_t bits(PackMask<double> mask) {
#if defined(__AVX512F__) && defined(__AVX512DQ__)
  return _mm512_movepi64_mask(reinterpret_cast<__m512i>(mask.x));
#else
  uint32_t word = 0;
  for (int i = 0; i < Pack<double>::lanes; ++i) word |= static_cast<uint32_t>(mask.x[i] & 1) << i;
  return word;
#endif
}

/// Whether it holds in some lane.
template <class T>
RANVIER_HD_INLINE bool any(PackMask<T> mask) {
  return bits(mask) != 0;
}

}  // namespace ranvier::kernels::izhikevich
