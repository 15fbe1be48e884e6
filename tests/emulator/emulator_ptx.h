// The instructions of kernels/common/ptx.cuh in plain C++: the same names, for kernels that run in the emulator.
#pragma once
#include <emulator.h>

#include <cmath>

#include "kernels/common/half.h"

namespace ranvier::kernels::ptx {

using emulator::here;
using emulator::Site;

struct LdmatrixCall {
  const void* row;
  uint32_t* r;
  bool trans;
  Site site;
};
void ldmatrix_run(void** lanes, unsigned mask);
struct MmaCall {
  float* d;
  const uint32_t* a;
  uint32_t b0, b1;
};
void mma_bf16_run(void** lanes, unsigned mask);
void mma_f16_run(void** lanes, unsigned mask);
void mma_tf32_run(void** lanes, unsigned mask);

inline uint32_t shared_address(const void* p) { return emulator::shared_addr(p); }

inline void ldmatrix_x4(uint32_t (&r)[4], const void* row, Site site = here()) {
  LdmatrixCall call{row, r, false, site};
  emulator::warp_collective(~0u, "ldmatrix", &call, ldmatrix_run, site);
}
inline void ldmatrix_x4_trans(uint32_t (&r)[4], const void* row, Site site = here()) {
  LdmatrixCall call{row, r, true, site};
  emulator::warp_collective(~0u, "ldmatrix.trans", &call, ldmatrix_run, site);
}

template <class T>
void mma_m16n8k16(float (&d)[4], const uint32_t (&a)[4], uint32_t b0, uint32_t b1, Site site = here()) {
  MmaCall call{d, a, b0, b1};
  emulator::warp_collective(~0u, "mma.m16n8k16", &call, std::is_same_v<T, bf16> ? mma_bf16_run : mma_f16_run, site);
}
inline void mma_m16n8k8_tf32(float (&d)[4], const uint32_t (&a)[4], uint32_t b0, uint32_t b1, Site site = here()) {
  MmaCall call{d, a, b0, b1};
  emulator::warp_collective(~0u, "mma.m16n8k8", &call, mma_tf32_run, site);
}
inline uint32_t to_tf32(float x) {
  const uint32_t bits = std::bit_cast<uint32_t>(x);
  if ((bits & 0x7fffffffu) > 0x7f800000u) return 0x7fffffffu;  // the one NaN that the instruction gives
  return (bits + 0x1000u) & ~0x1fffu;
}

template <class T>
uint32_t pack(float low, float high) {
  const auto rounded = [](float x) -> uint32_t {
    if (x != x) return 0x7fff;  // the one NaN that the instruction gives
    return from_float<T>(x).bits;
  };
  return rounded(low) | rounded(high) << 16;
}

/// Denormals as zeros of their sign.
inline float flushed(float x) { return std::fpclassify(x) == FP_SUBNORMAL ? std::copysign(0.0f, x) : x; }
inline float fast_exp2(float x) { return flushed(std::exp2(flushed(x))); }
inline float fast_log2(float x) { return std::log2(flushed(x)); }
inline float fast_inverse_root(float x) { return 1 / std::sqrt(flushed(x)); }
inline float fast_inverse(float x) { return flushed(1 / flushed(x)); }

inline void cp_async_16(void* to, const void* from, int bytes = 16, Site site = here()) {
  emulator::cp_async(to, from, 16, bytes, site);
}
inline void cp_async_4(void* to, const void* from, int bytes = 4, Site site = here()) {
  emulator::cp_async(to, from, 4, bytes, site);
}
inline void cp_async_commit() { emulator::cp_async_commit(); }
template <int pending>
void cp_async_wait(Site site = here()) {
  emulator::cp_async_wait(pending, site);
}

}  // namespace ranvier::kernels::ptx
