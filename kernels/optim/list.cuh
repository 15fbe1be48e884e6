// Lists of tensors as kernel arguments: one launch covers all of them, and a captured launch keeps its list.
#pragma once
#include <algorithm>

#include "kernels/common/launch.h"
#include "kernels/common/pack.h"
#include "kernels/optim/optim.h"

namespace ranvier::kernels::cuda {

// The list travels in the arguments of the launch, of which CUDA gives a kernel 32764 bytes (12.1 and newer, from sm_70
// on): no copy, no allocation, and a CUDA graph holds its own. A longer list takes another launch.

/// Which blocks of a launch belong to which tensor: those of tensor k begin at first[k].
template <int most>
struct BlockMap {
  int32_t count = 0;
  uint32_t first[most + 1] = {};

  /// Appends a tensor that `blocks` blocks work on.
  void add(int64_t blocks) {
    first[count + 1] = first[count] + static_cast<uint32_t>(blocks);
    ++count;
  }
  uint32_t blocks() const { return first[count]; }
  /// The tensor of a block: the last one that begins at or before it.
  __device__ int find(uint32_t block) const {
    int low = 0, high = count;
    while (high - low > 1) {
      const int middle = (low + high) / 2;
      if (first[middle] <= block)
        low = middle;
      else
        high = middle;
    }
    return low;
  }
};

constexpr int piece_threads = 256;

/// A part of a list with the map of its pieces.
template <class T>
struct ListArgument {
  static constexpr int most = 384;
  BlockMap<most> map;
  ParamSlice<T> items[most];
};
static_assert(sizeof(ListArgument<double>) < 32764 - 128, "the arguments of a kernel have 32764 bytes");

/// Calls body(argument, pieces before it) for the parts of a list.
template <class T, class Body>
void for_each_part(const TensorList<T>& list, Body&& body) {
  int64_t pieces = 0;
  for (int64_t begin = 0; begin < list.count; begin += ListArgument<T>::most) {
    ListArgument<T> part;
    const int64_t end = std::min<int64_t>(list.count, begin + ListArgument<T>::most);
    for (int64_t k = begin; k < end; ++k) {
      part.items[part.map.count] = list.items[k];
      part.map.add(pieces_of(list.items[k].n));
    }
    body(part, pieces);
    pieces += part.map.blocks();
  }
}

/// Calls update(width, i) for the elements i ... i + width - 1 of a piece, `width` (an integral_constant) being what
/// one access moves: 16 bytes where all tensors of the slice are aligned so, else one element.
template <class T, class Update>
__device__ void for_each_in_piece(const ParamSlice<T>& s, int64_t piece, Update&& update) {
  constexpr int wide = pack_size<T>;
  const int64_t begin = piece * piece_elements, end = min(begin + piece_elements, s.n);
  const auto address = [](const T* p) { return reinterpret_cast<uintptr_t>(p); };
  const bool aligned = ((address(s.p) | address(s.g) | address(s.m) | address(s.v) | address(s.p_new) |
                         address(s.m_new) | address(s.v_new)) &
                        15) == 0;
  const int64_t split = aligned ? end - (end - begin) % wide : begin;
  for (int64_t i = begin + threadIdx.x * wide; i < split; i += piece_threads * wide)
    update(std::integral_constant<int, wide>{}, i);
  for (int64_t i = split + threadIdx.x; i < end; i += piece_threads) update(std::integral_constant<int, 1>{}, i);
}

/// The sum of a value over a block of piece_threads, the same in every thread, in a fixed order.
__device__ inline double sum_over_block(double value) {
  RANVIER_SHARED(double, warps, [piece_threads / 32]);
#pragma unroll
  for (int apart = 16; apart > 0; apart /= 2) value += __shfl_xor_sync(0xffffffffu, value, apart);
  __syncthreads();  // of an earlier sum
  if (threadIdx.x % 32 == 0) warps[threadIdx.x / 32] = value;
  __syncthreads();
  double sum = 0;
#pragma unroll
  for (int k = 0; k < piece_threads / 32; ++k) sum += warps[k];
  return sum;
}

}  // namespace ranvier::kernels::cuda
