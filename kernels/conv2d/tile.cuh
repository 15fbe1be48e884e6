// Tiles of the convolution kernels in shared memory, and the three ways of multiplying them: tensor cores on 16-bit
// operands, tensor cores on tf32, and f32 on CUDA cores.
#pragma once
#include "kernels/common/half.h"
#include "kernels/common/launch.h"
#include "kernels/common/ptx.cuh"

namespace ranvier::kernels::conv {

constexpr int threads = 128;    // of every block: four warps
constexpr int step_chunks = 4;  // a step of the reduction is 64 bytes of it

/// 16 bytes: what a thread copies at once.
using Chunk = uint4;
template <class T>
constexpr int per_chunk = 16 / static_cast<int>(sizeof(T));
/// Elements of the reduction in a step.
template <class T>
constexpr int step_k = step_chunks* per_chunk<T>;

/// An operand whose rows are its m (or n) and whose columns are the step's reduction: 64-byte rows. The chunk of a row
/// is moved by bits of the row number, so that ldmatrix reads 8 rows, and a warp writes 8 rows, without bank conflicts.
template <class T, int extent_>
struct KMajor {
  static constexpr bool k_major = true;
  static constexpr int extent = extent_, chunks = extent * step_chunks;
  __device__ static int at(int row, int chunk) { return row * step_chunks + (chunk ^ (row >> 1 & 3)); }
};

/// An operand whose rows are the step's reduction and whose columns are m (or n), in blocks of 128 bytes a row. For
/// 16-bit types 8 consecutive rows of one chunk lie in different banks (ldmatrix.trans); for f32 it is the 4 rows and 2
/// chunks that the threads of a tf32 fragment read.
template <class T, int extent_>
struct MnMajor {
  static constexpr bool k_major = false;
  static constexpr int extent = extent_, row_chunks = extent / per_chunk<T>, chunks = step_k<T> * row_chunks;
  static_assert(row_chunks % 8 == 0);
  __device__ static int at(int k, int chunk) {
    return chunk / 8 * (step_k<T> * 8) + k * 8 + (chunk % 8 ^ (sizeof(T) == 4 ? 2 * k & 7 : k & 7));
  }
};

/// Extents of a block's tile and of a warp's part of it.
template <int bm_, int bn_, int wm_, int wn_>
struct TileShape {
  static constexpr int bm = bm_, bn = bn_, wm = wm_, wn = wn_;
  static_assert(bm / wm * (bn / wn) * 32 == threads);
};

/// Products of 16-bit tiles by mma.m16n8k16 (or of f32 tiles, rounded to tf32, by mma.m16n8k8), accumulated in f32
/// registers over the whole reduction. A step has two parts, whose fragments are double-buffered.
template <class T, class Shape, class A, class B>
class TensorMath {
 public:
  static constexpr int parts = 2;
  static constexpr bool pairs = true;  // a thread holds results of neighbouring columns

  __device__ TensorMath()
      : lane_(static_cast<int>(threadIdx.x) % 32),
        m_(static_cast<int>(threadIdx.x) / 32 / (Shape::bn / Shape::wn) * Shape::wm),
        n_(static_cast<int>(threadIdx.x) / 32 % (Shape::bn / Shape::wn) * Shape::wn) {
#pragma unroll
    for (int i = 0; i < mt; ++i)
#pragma unroll
      for (int j = 0; j < nt; ++j)
#pragma unroll
        for (int e = 0; e < 4; ++e) acc_[i][j][e] = 0;
  }

  /// Fragments of one part into buffer `to`.
  __device__ void load(const Chunk* a, const Chunk* b, int part, int to) {
#pragma unroll
    for (int i = 0; i < mt; ++i) load_a(a_[to][i], a, part, m_ + 16 * i);
#pragma unroll
    for (int j = 0; j < nt; j += 2) load_b(b_[to][j], b_[to][j + 1], b, part, n_ + 8 * j);
  }

  __device__ void multiply(int from) {
#pragma unroll
    for (int i = 0; i < mt; ++i)
#pragma unroll
      for (int j = 0; j < nt; ++j) {
        if constexpr (sizeof(T) == 4)
          ptx::mma_m16n8k8_tf32(acc_[i][j], a_[from][i], b_[from][j][0], b_[from][j][1]);
        else
          ptx::mma_m16n8k16<T>(acc_[i][j], a_[from][i], b_[from][j][0], b_[from][j][1]);
      }
  }

  /// Calls f(row, column, value, value of the next column) for every pair of results that this thread holds.
  template <class F>
  __device__ void each_pair(F&& f) const {
#pragma unroll
    for (int i = 0; i < mt; ++i)
#pragma unroll
      for (int j = 0; j < nt; ++j)
#pragma unroll
        for (int half = 0; half < 2; ++half)
          f(m_ + 16 * i + 8 * half + lane_ / 4, n_ + 8 * j + 2 * (lane_ % 4), acc_[i][j][2 * half],
            acc_[i][j][2 * half + 1]);
  }

 private:
  static constexpr int mt = Shape::wm / 16, nt = Shape::wn / 8;

  // Row addresses of the four 8x8 matrices: of A (rows, reduction) quadrants in the order a0 to a3 of the instruction,
  // of B the two halves of the reduction for n, then for n + 8.
  __device__ void load_a(uint32_t (&r)[4], const Chunk* tile, int part, int m) const {
    if constexpr (A::k_major) {
      ptx::ldmatrix_x4(r, tile + A::at(m + lane_ % 16, 2 * part + lane_ / 16));
      round(r);
    } else if constexpr (sizeof(T) == 4) {
#pragma unroll
      for (int e = 0; e < 4; ++e) r[e] = word<A>(tile, 8 * part + lane_ % 4 + e / 2 * 4, m + lane_ / 4 + e % 2 * 8);
    } else {
      ptx::ldmatrix_x4_trans(r, tile + A::at(16 * part + lane_ % 8 + lane_ / 16 * 8, m / per_chunk<T> + lane_ / 8 % 2));
    }
  }
  __device__ void load_b(uint32_t (&first)[2], uint32_t (&second)[2], const Chunk* tile, int part, int n) const {
    uint32_t r[4];
    if constexpr (B::k_major) {
      ptx::ldmatrix_x4(r, tile + B::at(n + lane_ % 8 + lane_ / 16 * 8, 2 * part + lane_ / 8 % 2));
      round(r);
    } else if constexpr (sizeof(T) == 4) {
#pragma unroll
      for (int e = 0; e < 4; ++e) r[e] = word<B>(tile, 8 * part + lane_ % 4 + e % 2 * 4, n + lane_ / 4 + e / 2 * 8);
    } else {
      ptx::ldmatrix_x4_trans(r, tile + B::at(16 * part + lane_ % 16, n / per_chunk<T> + lane_ / 16));
    }
    first[0] = r[0], first[1] = r[1], second[0] = r[2], second[1] = r[3];
  }
  /// An f32 of a reduction-by-rows tile, rounded to tf32: ldmatrix transposes 16-bit elements only.
  template <class Layout>
  __device__ static uint32_t word(const Chunk* tile, int k, int mn) {
    return ptx::to_tf32(reinterpret_cast<const float*>(tile + Layout::at(k, mn / 4))[mn % 4]);
  }
  __device__ static void round(uint32_t (&r)[4]) {
    if constexpr (sizeof(T) == 4) {
#pragma unroll
      for (uint32_t& bits : r) bits = ptx::to_tf32(from_bits(bits));
    }
  }

  int lane_, m_, n_;
  float acc_[mt][nt][4];
  uint32_t a_[2][mt][4], b_[2][nt][2];
};

/// Products of f32 tiles by fma, 8 x 8 results a thread. A part is one chunk of the reduction: four values of each of
/// the thread's 8 rows and 8 columns, so that 16 shared reads of 16 bytes feed 256 fmas.
template <class Shape, class A, class B>
class SimtMath {
 public:
  static constexpr int parts = step_chunks;
  static constexpr bool pairs = false;
  static_assert(Shape::bm == 128 && Shape::bn == 64);

  __device__ SimtMath() {
#pragma unroll
    for (int i = 0; i < 8; ++i)
#pragma unroll
      for (int j = 0; j < 8; ++j) acc_[i][j] = 0;
  }

  __device__ void load(const Chunk* a, const Chunk* b, int part, int to) {
    load_one<A, 16>(a_[to], a, part, static_cast<int>(threadIdx.x) / 8);
    load_one<B, 8>(b_[to], b, part, static_cast<int>(threadIdx.x) % 8);
  }

  __device__ void multiply(int from) {
#pragma unroll
    for (int k = 0; k < 4; ++k)
#pragma unroll
      for (int i = 0; i < 8; ++i)
#pragma unroll
        for (int j = 0; j < 8; ++j) acc_[i][j] = fused(a_[from][i][k], b_[from][j][k], acc_[i][j]);
  }

  /// Calls f(row, column, value) for every result that this thread holds.
  template <class F>
  __device__ void each(F&& f) const {
#pragma unroll
    for (int i = 0; i < 8; ++i)
#pragma unroll
      for (int j = 0; j < 8; ++j)
        f(index<A, 16>(static_cast<int>(threadIdx.x) / 8, i), index<B, 8>(static_cast<int>(threadIdx.x) % 8, j),
          acc_[i][j]);
  }

 private:
  /// Row (or column) i of thread `t` of `count`: interleaved where 16 bytes run along the reduction, in fours where
  /// they run along the rows; either way the threads of a warp read different banks.
  template <class Layout, int count>
  __device__ static int index(int t, int i) {
    return Layout::k_major ? t + count * i : 4 * t + i % 4 + 4 * count * (i / 4);
  }
  template <class Layout, int count>
  __device__ static void load_one(float (&to)[8][4], const Chunk* tile, int part, int t) {
    if constexpr (Layout::k_major) {
#pragma unroll
      for (int i = 0; i < 8; ++i) {
        const float4 v = reinterpret_cast<const float4*>(tile)[Layout::at(t + count * i, part)];
        to[i][0] = v.x, to[i][1] = v.y, to[i][2] = v.z, to[i][3] = v.w;
      }
    } else {
#pragma unroll
      for (int k = 0; k < 4; ++k)
#pragma unroll
        for (int block = 0; block < 2; ++block) {
          const float4 v = reinterpret_cast<const float4*>(tile)[Layout::at(4 * part + k, t + count * block)];
          to[4 * block][k] = v.x, to[4 * block + 1][k] = v.y, to[4 * block + 2][k] = v.z, to[4 * block + 3][k] = v.w;
        }
    }
  }

  float acc_[8][8];
  float a_[2][8][4], b_[2][8][4];
};

}  // namespace ranvier::kernels::conv
