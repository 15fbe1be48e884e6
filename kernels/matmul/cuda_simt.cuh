// The block of a matrix product on a CUDA device's ordinary units: f32 and f64 with one fused multiply-add a step of
// depth, in order.
#pragma once
#include "kernels/matmul/cuda_tiles.h"

namespace ranvier::kernels {

/// A size x size tile of the result by 256 threads, size / 16 rows and columns each; `depth` steps are in shared memory
/// at a time, the next ones on their way in registers. Every thread moves 16 bytes of each operand a stage.
///
/// For f32 and size 128, a step is 64 multiply-adds on 4 reads of 16 bytes a thread; a warp is 4 rows by 8 columns of
/// threads, so that each read of a warp touches every bank at most once. 64 sums, 16 operands and 8 values on their way
/// leave room for two blocks (512 threads) an SM.
template <class T_, int size_, int depth_>
struct SimtBlock {
  using T = T_;
  static constexpr int size = size_, depth = depth_, threads = 256, vector = 16 / static_cast<int>(sizeof(T));
  static constexpr int per = size / 16;  // rows and columns of a thread, in groups of four
  static constexpr int pitch = size + vector;
  static constexpr int shared_elements = 2 * 2 * depth * pitch;
  static constexpr int steps_at_once = sizeof(T) == 8 ? 2 : 8;  // more in f64 would not fit the registers
  static_assert(size * depth == threads * vector && per % 4 == 0);

  T sum[per][per];

  /// Rows and columns of a thread: groups of four, 64 apart.
  __device__ __forceinline__ static int place(int thread, int i) { return i / 4 * 64 + thread * 4 + i % 4; }
  __device__ __forceinline__ static int down() {
    return static_cast<int>(threadIdx.x) / 64 * 4 + (static_cast<int>(threadIdx.x) & 31) / 8;
  }
  __device__ __forceinline__ static int across() {
    return (static_cast<int>(threadIdx.x) / 32 & 1) * 8 + (static_cast<int>(threadIdx.x) & 7);
  }

  /// This thread's 16 bytes of an operand's stage: `first` counts rows of a or columns of b. With `depth_lines` the
  /// matrix's lines run along the other index, one for each step of depth.
  __device__ __forceinline__ static uint4 fetch(const MatrixView<T>& from, bool depth_lines, int64_t first,
                                                int64_t at) {
    const int per_line = depth_lines ? size / vector : depth / vector;
    const int64_t line = (depth_lines ? at : first) + static_cast<int>(threadIdx.x) / per_line;
    const int64_t element = (depth_lines ? first : at) + static_cast<int>(threadIdx.x) % per_line * vector;
    if (!from.vector) return gather_16(from, line, element);
    if (line >= from.lines || element >= from.length) return make_uint4(0, 0, 0, 0);
    return *reinterpret_cast<const uint4*>(from.data + line * from.pitch + element);
  }

  /// Puts them into a tile [depth][pitch].
  __device__ __forceinline__ static void put(T* tile, bool depth_lines, const uint4& bytes) {
    const int per_line = depth_lines ? size / vector : depth / vector;
    const int line = static_cast<int>(threadIdx.x) / per_line;
    const int element = static_cast<int>(threadIdx.x) % per_line * vector;
    if (depth_lines) {
      *reinterpret_cast<uint4*>(tile + line * pitch + element) = bytes;
      return;
    }
    alignas(16) T values[vector];
    *reinterpret_cast<uint4*>(values) = bytes;
#pragma unroll
    for (int e = 0; e < vector; ++e) tile[(element + e) * pitch + line] = values[e];
  }

  /// This thread's rows or columns of one step of depth.
  __device__ __forceinline__ static void operands(T (&to)[per], const T* step, int thread) {
#pragma unroll
    for (int i = 0; i < per; i += vector)
      *reinterpret_cast<uint4*>(&to[i]) = *reinterpret_cast<const uint4*>(step + place(thread, i));
  }

  /// Sets the sums to the product over depth [begin, end); `shared` has shared_elements elements.
  __device__ __forceinline__ void accumulate(T* shared, const MatmulViews<T>& views, bool transpose_a, bool transpose_b,
                                             int64_t row, int64_t column, int64_t begin, int64_t end) {
#pragma unroll
    for (int i = 0; i < per; ++i)
#pragma unroll
      for (int j = 0; j < per; ++j) sum[i][j] = 0;
    constexpr int tile_elements = depth * pitch;
    uint4 next_a = fetch(views.a, transpose_a, row, begin), next_b = fetch(views.b, !transpose_b, column, begin);
    put(shared, transpose_a, next_a), put(shared + tile_elements, !transpose_b, next_b);
    __syncthreads();
    int half = 0;
    for (int64_t at = begin; at < end; at += depth, half ^= 1) {
      const bool more = at + depth < end;
      if (more)
        next_a = fetch(views.a, transpose_a, row, at + depth),
        next_b = fetch(views.b, !transpose_b, column, at + depth);
      const T* tile = shared + half * 2 * tile_elements;
#pragma unroll(steps_at_once)
      for (int p = 0; p < depth; ++p) {
        alignas(16) T a[per], b[per];
        operands(a, tile + p * pitch, down());
        operands(b, tile + tile_elements + p * pitch, across());
#pragma unroll
        for (int i = 0; i < per; ++i)
#pragma unroll
          for (int j = 0; j < per; ++j) sum[i][j] = fused(a[i], b[j], sum[i][j]);
      }
      if (more) {  // into the half that was read before the last barrier
        T* to = shared + (half ^ 1) * 2 * tile_elements;
        put(to, transpose_a, next_a), put(to + tile_elements, !transpose_b, next_b);
      }
      __syncthreads();
    }
  }

  /// put(row, column, values) for every 16 bytes of neighbouring results of this thread, within the tile.
  template <class Put>
  __device__ __forceinline__ void for_each_vector(Put&& put) const {
#pragma unroll
    for (int i = 0; i < per; ++i)
#pragma unroll
      for (int j = 0; j < per; j += vector) {
        alignas(16) T values[vector];
#pragma unroll
        for (int e = 0; e < vector; ++e) values[e] = sum[i][j + e];
        put(place(down(), i), place(across(), j), values);
      }
  }
};

}  // namespace ranvier::kernels
