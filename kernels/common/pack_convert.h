// Packs of a stored type as f32 values and back: on a device two 16-bit values a conversion instruction.
#pragma once
#include "kernels/common/half.h"
#include "kernels/common/pack.h"

#if defined(__CUDACC__)
#include <cuda_bf16.h>
#endif

namespace ranvier::kernels {

/// The values of a pack in f32.
template <class T, int n>
RANVIER_HD_INLINE void widen_pack(const Pack<T, n>& pack, float (&values)[n]) {
#pragma unroll
  for (int k = 0; k < n; ++k) values[k] = to_float(pack.v[k]);
}

/// Two values rounded to nearest even. A NaN stays one; its bits may differ between host and device.
template <class T>
RANVIER_HD_INLINE void round_pair(float a, float b, T* pair) {
#if defined(__CUDA_ARCH__)
  if constexpr (std::is_same_v<T, bf16>) {
    const __nv_bfloat162_raw raw = __floats2bfloat162_rn(a, b);
    pair[0] = {raw.x}, pair[1] = {raw.y};
    return;
  } else if constexpr (std::is_same_v<T, f16>) {
    const __half2_raw raw = __floats2half2_rn(a, b);
    pair[0] = {raw.x}, pair[1] = {raw.y};
    return;
  }
#endif
  pair[0] = from_float<T>(a), pair[1] = from_float<T>(b);
}

/// The pack of these values, each rounded once.
template <class T, int n>
RANVIER_HD_INLINE Pack<T, n> narrow_pack(const float (&values)[n]) {
  Pack<T, n> pack;
  if constexpr (n % 2 == 0) {
#pragma unroll
    for (int k = 0; k < n; k += 2) round_pair(values[k], values[k + 1], pack.v + k);
  } else {
#pragma unroll
    for (int k = 0; k < n; ++k) pack.v[k] = from_float<T>(values[k]);
  }
  return pack;
}

}  // namespace ranvier::kernels
