// Vectors of the machine's full register width for float and double: AVX-512, AVX2 with FMA, or 16 portable bytes.
#pragma once
#include <cstdint>
#include <cstring>
#include <utility>

#if defined(__AVX512F__) || (defined(__AVX2__) && defined(__FMA__))
#include <immintrin.h>
#endif

#define RANVIER_FLATTEN inline __attribute__((always_inline))

namespace ranvier::kernels {

/// One register of T: `width` lanes, and the few operations that a matrix product and its transforms need.
/// `fma(a, b, c)` is a * b + c; the first two instruction sets round it once, the portable one twice.
template <class T>
struct Vec;

#if defined(__AVX512F__)
template <>
struct Vec<float> {
  static constexpr int width = 16;
  using Reg = __m512;
  static RANVIER_FLATTEN Reg zero() { return _mm512_setzero_ps(); }
  static RANVIER_FLATTEN Reg splat(float v) { return _mm512_set1_ps(v); }
  static RANVIER_FLATTEN Reg load(const float* p) { return _mm512_loadu_ps(p); }
  static RANVIER_FLATTEN Reg load(const float* p, int64_t count) { return _mm512_maskz_loadu_ps(mask(count), p); }
  static RANVIER_FLATTEN void store(float* p, Reg v) { _mm512_storeu_ps(p, v); }
  static RANVIER_FLATTEN void store(float* p, Reg v, int64_t count) { _mm512_mask_storeu_ps(p, mask(count), v); }
  static RANVIER_FLATTEN Reg fma(Reg a, Reg b, Reg c) { return _mm512_fmadd_ps(a, b, c); }
  static RANVIER_FLATTEN __mmask16 mask(int64_t count) { return static_cast<__mmask16>((1u << count) - 1u); }
};
template <>
struct Vec<double> {
  static constexpr int width = 8;
  using Reg = __m512d;
  static RANVIER_FLATTEN Reg zero() { return _mm512_setzero_pd(); }
  static RANVIER_FLATTEN Reg splat(double v) { return _mm512_set1_pd(v); }
  static RANVIER_FLATTEN Reg load(const double* p) { return _mm512_loadu_pd(p); }
  static RANVIER_FLATTEN Reg load(const double* p, int64_t count) { return _mm512_maskz_loadu_pd(mask(count), p); }
  static RANVIER_FLATTEN void store(double* p, Reg v) { _mm512_storeu_pd(p, v); }
  static RANVIER_FLATTEN void store(double* p, Reg v, int64_t count) { _mm512_mask_storeu_pd(p, mask(count), v); }
  static RANVIER_FLATTEN Reg fma(Reg a, Reg b, Reg c) { return _mm512_fmadd_pd(a, b, c); }
  static RANVIER_FLATTEN __mmask8 mask(int64_t count) { return static_cast<__mmask8>((1u << count) - 1u); }
};
/// Rows of the register block of a matrix product (its columns are two registers): 24 sums of 32 registers.
inline constexpr int micro_rows = 12;
#else

/// The parts that AVX2 and the portable registers share: partial loads and stores lane by lane.
template <class T, class Base>
struct VecTail : Base {
  using Reg = typename Base::Reg;
  using Base::load;
  using Base::store;
  static RANVIER_FLATTEN Reg load(const T* p, int64_t count) {
    T lanes[Base::width] = {};
    for (int64_t i = 0; i < count; ++i) lanes[i] = p[i];
    return Base::load(lanes);
  }
  static RANVIER_FLATTEN void store(T* p, Reg v, int64_t count) {
    T lanes[Base::width];
    Base::store(lanes, v);
    for (int64_t i = 0; i < count; ++i) p[i] = lanes[i];
  }
};

#if defined(__AVX2__) && defined(__FMA__)
struct Avx2Float {
  static constexpr int width = 8;
  using Reg = __m256;
  static RANVIER_FLATTEN Reg zero() { return _mm256_setzero_ps(); }
  static RANVIER_FLATTEN Reg splat(float v) { return _mm256_set1_ps(v); }
  static RANVIER_FLATTEN Reg load(const float* p) { return _mm256_loadu_ps(p); }
  static RANVIER_FLATTEN void store(float* p, Reg v) { _mm256_storeu_ps(p, v); }
  static RANVIER_FLATTEN Reg fma(Reg a, Reg b, Reg c) { return _mm256_fmadd_ps(a, b, c); }
};
struct Avx2Double {
  static constexpr int width = 4;
  using Reg = __m256d;
  static RANVIER_FLATTEN Reg zero() { return _mm256_setzero_pd(); }
  static RANVIER_FLATTEN Reg splat(double v) { return _mm256_set1_pd(v); }
  static RANVIER_FLATTEN Reg load(const double* p) { return _mm256_loadu_pd(p); }
  static RANVIER_FLATTEN void store(double* p, Reg v) { _mm256_storeu_pd(p, v); }
  static RANVIER_FLATTEN Reg fma(Reg a, Reg b, Reg c) { return _mm256_fmadd_pd(a, b, c); }
};
template <>
struct Vec<float> : VecTail<float, Avx2Float> {};
template <>
struct Vec<double> : VecTail<double, Avx2Double> {};
#else
/// 16 bytes as a compiler vector (GCC and Clang), which every instruction set has a form of.
template <class T>
struct PortableBase {
  static constexpr int width = 16 / sizeof(T);
  using Reg __attribute__((vector_size(16))) = T;
  static RANVIER_FLATTEN Reg zero() { return Reg{}; }
  static RANVIER_FLATTEN Reg splat(T v) { return Reg{} + v; }
  static RANVIER_FLATTEN Reg load(const T* p) {
    Reg v;
    std::memcpy(&v, p, sizeof v);
    return v;
  }
  static RANVIER_FLATTEN void store(T* p, Reg v) { std::memcpy(p, &v, sizeof v); }
  static RANVIER_FLATTEN Reg fma(Reg a, Reg b, Reg c) { return a * b + c; }
};
template <>
struct Vec<float> : VecTail<float, PortableBase<float> > {};
template <>
struct Vec<double> : VecTail<double, PortableBase<double> > {};
#endif
/// Rows of the register block of a matrix product (its columns are two registers): 12 sums of 16 registers.
inline constexpr int micro_rows = 6;
#endif

namespace transpose {

using Lanes = float __attribute__((vector_size(64)));

/// Exchanges the off-diagonal quarters of every 2*Step x 2*Step square of the lanes of two rows that are Step apart.
template <int Step, size_t... Lane>
RANVIER_FLATTEN void exchange(Lanes& upper, Lanes& lower, std::index_sequence<Lane...>) {
  const Lanes u = upper, l = lower;
  upper = __builtin_shufflevector(u, l, (Lane & Step ? 16 + Lane - Step : Lane)...);
  lower = __builtin_shufflevector(u, l, (Lane & Step ? 16 + Lane : Lane + Step)...);
}

template <int Step>
RANVIER_FLATTEN void stage(Lanes rows[16]) {
#pragma GCC unroll 16
  for (int i = 0; i < 16; ++i)
    if ((i & Step) == 0) exchange<Step>(rows[i], rows[i + Step], std::make_index_sequence<16>());
}

/// Transposes sixteen rows of sixteen lanes.
RANVIER_FLATTEN void all(Lanes rows[16]) {
  stage<8>(rows);
  stage<4>(rows);
  stage<2>(rows);
  stage<1>(rows);
}

}  // namespace transpose

/// to[j * to_stride + i] = from[i * from_stride + j] for i, j < 16.
inline void transpose_16x16(const float* from, int64_t from_stride, float* to, int64_t to_stride) {
  transpose::Lanes rows[16];
  for (int i = 0; i < 16; ++i) std::memcpy(&rows[i], from + i * from_stride, sizeof rows[i]);
  transpose::all(rows);
  for (int i = 0; i < 16; ++i) std::memcpy(to + i * to_stride, &rows[i], sizeof rows[i]);
}

/// Columns of a packed panel: two registers.
template <class T>
inline constexpr int64_t panel_width = 2 * Vec<T>::width;

}  // namespace ranvier::kernels
