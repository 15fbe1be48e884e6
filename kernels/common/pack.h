// Groups of neighbouring elements that a CUDA thread moves at once: up to 16 bytes in one access.
#pragma once
#include "kernels/common/hd.h"

namespace ranvier::kernels {

/// `n` elements that lie side by side. In memory it begins at a multiple of its size, at most of 16 bytes, as every
/// buffer of the engine does; nvcc turns its copies into the widest accesses there are.
template <class T, int n>
struct alignas(sizeof(T) * n < 16 ? sizeof(T) * n : 16) Pack {
  T v[n];
};

/// Elements of T in 16 bytes.
template <class T>
inline constexpr int pack_size = 16 / static_cast<int>(sizeof(T));

/// The pack that begins at `x`.
template <int n, class T>
RANVIER_HD_INLINE Pack<T, n> load_pack(const T* x) {
  return *reinterpret_cast<const Pack<T, n>*>(x);
}
template <int n, class T>
RANVIER_HD_INLINE void store_pack(T* y, const Pack<T, n>& pack) {
  *reinterpret_cast<Pack<T, n>*>(y) = pack;
}

}  // namespace ranvier::kernels
