// Blocks of a product on the tensor cores, for whoever brings the operands (matmul, convolutions): tiles of shared
// memory that are read and written without bank conflicts, a warp's fragments and sums, and the pipeline of
// asynchronous copies.
//
// Sizes are given in bytes where the element type does not matter: a chunk is 16 bytes (8 elements of bf16 and f16, 4
// of f32), a stage of the pipeline covers 64 bytes of depth, and one mma instruction 32 bytes of it (m16n8k16 or, on
// f32 rounded to tf32, m16n8k8). Fragment layouts: PTX ISA, "Matrix fragments for mma.m16n8k16" and "... m16n8k8".
#pragma once
#include "kernels/common/pack_convert.h"
#include "kernels/common/ptx.cuh"

namespace ranvier::kernels::mma {

/// Elements of a 16-byte chunk, of a stage's depth (the reduction index) and of one instruction's depth.
template <class T>
constexpr int chunk_elements = 16 / static_cast<int>(sizeof(T));
template <class T>
constexpr int stage_depth = 64 / static_cast<int>(sizeof(T));
constexpr int steps_per_stage = 2;

/// Which index of an operand runs contiguously in memory: the depth, or the other one (a's row, b's column).
enum class Major { depth, extent };

/// An operand's tile of one stage in shared memory: `extent` rows of a (columns of b) times the stage's depth, kept as
/// it lies in global memory, in lines of chunks:
///   Major::depth   `extent` lines of 4 chunks (64 bytes): a row's stretch of depth each;
///   Major::extent  one line for each step of depth, of extent / chunk_elements chunks, cut into blocks of 8 chunks.
/// Chunks are permuted within a line so that the 8 lanes that read (ldmatrix, or tf32's plain loads) or write at once
/// touch 8 different groups of banks. `extent` is a multiple of 64. The tile must start on a multiple of 128 bytes.
template <class T, Major major, int extent>
struct OperandTile {
  static_assert(extent % 64 == 0);
  static constexpr int bytes = extent * 64;
  static constexpr int lines = major == Major::depth ? extent : stage_depth<T>;
  static constexpr int line_chunks = major == Major::depth ? 4 : extent / chunk_elements<T>;

  /// Byte offset of a chunk.
  __device__ __forceinline__ static int offset(int line, int chunk) {
    if constexpr (major == Major::depth) {
      return line * 64 + ((chunk ^ (line >> 1 & 3)) << 4);
    } else {
      // tf32 reads words at 4 lines and 8 neighbouring columns (2 chunks) at once, ldmatrix one chunk of 8 lines
      const int turn = sizeof(T) == 2 ? line & 7 : (line & 3) << 1;
      return (chunk >> 3) * (stage_depth<T> * 128) + line * 128 + (((chunk & 7) ^ turn) << 4);
    }
  }
  /// Byte offset of one element of a Major::extent tile.
  __device__ __forceinline__ static int element(int line, int at) {
    return offset(line, at / chunk_elements<T>) + at % chunk_elements<T> * static_cast<int>(sizeof(T));
  }
};

/// The 16 rows from `row` of a tile over step `step` of a stage, as mma's a operand.
template <class T, Major major, int extent>
__device__ __forceinline__ void load_a(uint32_t (&a)[4], const unsigned char* tile, int row, int step) {
  using Tile = OperandTile<T, major, extent>;
  const int lane = static_cast<int>(threadIdx.x) & 31;
  if constexpr (major == Major::depth) {
    ptx::ldmatrix_x4(a, tile + Tile::offset(row + (lane & 15), 2 * step + (lane >> 4)));
  } else if constexpr (sizeof(T) == 2) {
    ptx::ldmatrix_x4_trans(a, tile + Tile::offset(16 * step + (lane & 7) + (lane >> 4) * 8, row / 8 + (lane >> 3 & 1)));
  } else {
    const int g = lane >> 2, t = lane & 3;
#pragma unroll
    for (int i = 0; i < 4; ++i)
      a[i] =
          *reinterpret_cast<const uint32_t*>(tile + Tile::element(8 * step + t + (i >> 1) * 4, row + g + (i & 1) * 8));
  }
  if constexpr (sizeof(T) == 4)
#pragma unroll
    for (uint32_t& word : a) word = ptx::to_tf32(from_bits(word));
}

/// The 16 columns from `column` over step `step` of a stage, as mma's b operand: b[0], b[1] of the first 8 columns and
/// b[2], b[3] of the next.
template <class T, Major major, int extent>
__device__ __forceinline__ void load_b(uint32_t (&b)[4], const unsigned char* tile, int column, int step) {
  using Tile = OperandTile<T, major, extent>;
  const int lane = static_cast<int>(threadIdx.x) & 31;
  if constexpr (major == Major::depth) {
    ptx::ldmatrix_x4(b, tile + Tile::offset(column + (lane & 7) + (lane >> 4) * 8, 2 * step + (lane >> 3 & 1)));
  } else if constexpr (sizeof(T) == 2) {
    ptx::ldmatrix_x4_trans(b, tile + Tile::offset(16 * step + (lane & 15), column / 8 + (lane >> 4)));
  } else {
    const int g = lane >> 2, t = lane & 3;
#pragma unroll
    for (int i = 0; i < 4; ++i)
      b[i] = *reinterpret_cast<const uint32_t*>(tile +
                                                Tile::element(8 * step + t + (i & 1) * 4, column + g + (i >> 1) * 8));
  }
  if constexpr (sizeof(T) == 4)
#pragma unroll
    for (uint32_t& word : b) word = ptx::to_tf32(from_bits(word));
}

/// A block's product: rows x columns of the result by warps_down x warps_across warps, a pipeline of `stages` stages.
/// T is bf16, f16, or float for tf32. Shared memory of the block: `shared_bytes`, aligned to 128.
template <class T_, Major major_a_, Major major_b_, int rows_, int columns_, int warps_down, int warps_across,
          int stages_>
struct BlockProduct {
  using T = T_;
  static constexpr Major major_a = major_a_, major_b = major_b_;
  static constexpr int rows = rows_, columns = columns_, stages = stages_;
  static constexpr int threads = warps_down * warps_across * 32;
  static constexpr int warp_rows = rows / warps_down, warp_columns = columns / warps_across;
  static_assert(warp_rows % 16 == 0 && warp_columns % 16 == 0 && stages >= 3);
  using TileA = OperandTile<T, major_a, rows>;
  using TileB = OperandTile<T, major_b, columns>;
  static constexpr int stage_bytes = TileA::bytes + TileB::bytes;
  static constexpr int shared_bytes = stages * stage_bytes;
  static constexpr int row_pieces = warp_rows / 16, column_pieces = warp_columns / 8;

  float sum[row_pieces][column_pieces][4];

  __device__ __forceinline__ static int warp() { return static_cast<int>(threadIdx.x) >> 5; }
  /// First row and column of this warp within the block.
  __device__ __forceinline__ static int warp_row() { return warp() / warps_across * warp_rows; }
  __device__ __forceinline__ static int warp_column() { return warp() % warps_across * warp_columns; }

  /// Operands of one step for this warp.
  struct Fragments {
    uint32_t a[row_pieces][4], b[column_pieces / 2][4];
    __device__ __forceinline__ void load(const unsigned char* stage, int step) {
#pragma unroll
      for (int i = 0; i < row_pieces; ++i) load_a<T, major_a, rows>(a[i], stage, warp_row() + 16 * i, step);
#pragma unroll
      for (int j = 0; j < column_pieces / 2; ++j)
        load_b<T, major_b, columns>(b[j], stage + TileA::bytes, warp_column() + 16 * j, step);
    }
  };

  __device__ __forceinline__ void clear() {
#pragma unroll
    for (int i = 0; i < row_pieces; ++i)
#pragma unroll
      for (int j = 0; j < column_pieces; ++j)
#pragma unroll
        for (int e = 0; e < 4; ++e) sum[i][j][e] = 0;
  }

  __device__ __forceinline__ void multiply(const Fragments& f) {
#pragma unroll
    for (int i = 0; i < row_pieces; ++i)
#pragma unroll
      for (int j = 0; j < column_pieces; ++j) {
        const uint32_t b0 = f.b[j / 2][j % 2 * 2], b1 = f.b[j / 2][j % 2 * 2 + 1];
        if constexpr (sizeof(T) == 2)
          ptx::mma_m16n8k16<T>(sum[i][j], f.a[i], b0, b1);
        else
          ptx::mma_m16n8k8_tf32(sum[i][j], f.a[i], b0, b1);
      }
  }

  /// Adds the product of `count` stages, at least one. load(s, tile_a, tile_b), called by all threads, starts the
  /// copies of stage s into shared memory (asynchronously or by plain stores) and commits nothing itself; what lies
  /// beyond the operands must be written as zeros. Every thread must pass a barrier before it writes `shared`
  /// afterwards.
  template <class Load>
  __device__ __forceinline__ void accumulate(unsigned char* shared, int count, Load&& load) {
    const auto start = [&](int s, int slot) {
      unsigned char* stage = shared + slot * stage_bytes;
      if (s < count) load(s, stage, stage + TileA::bytes);
      ptx::cp_async_commit();  // also where nothing was started: waiting counts groups
    };
#pragma unroll
    for (int s = 0; s < stages - 1; ++s) start(s, s);
    ptx::cp_async_wait<stages - 2>();
    __syncthreads();
    // Fragments of the next step are on their way while the tensor cores work on those of this one.
    Fragments now, next;
    now.load(shared, 0);
    int slot = 0;
    for (int s = 0; s < count; ++s) {
      // into the slot of stage s - 1, which was read for the last time before the last barrier
      start(s + stages - 1, slot == 0 ? stages - 1 : slot - 1);
      next.load(shared + slot * stage_bytes, 1);
      multiply(now);
      ptx::cp_async_wait<stages - 2>();
      __syncthreads();
      slot = slot + 1 == stages ? 0 : slot + 1;
      if (s + 1 < count) now.load(shared + slot * stage_bytes, 0);
      multiply(next);
    }
    ptx::cp_async_wait<0>();  // only empty groups are left
  }

  /// put(row, column, x, y) for every pair of neighbouring results of this thread: (row, column) and (row, column + 1)
  /// within the block, column even. A warp's pairs of one call form 8 rows of 8 columns.
  template <class Put>
  __device__ __forceinline__ void for_each_pair(Put&& put) const {
    const int lane = static_cast<int>(threadIdx.x) & 31;
    const int row = warp_row() + (lane >> 2), column = warp_column() + (lane & 3) * 2;
#pragma unroll
    for (int i = 0; i < row_pieces; ++i)
#pragma unroll
      for (int half = 0; half < 2; ++half)
#pragma unroll
        for (int j = 0; j < column_pieces; ++j)
          put(row + 16 * i + 8 * half, column + 8 * j, sum[i][j][2 * half], sum[i][j][2 * half + 1]);
  }
};

/// Two neighbouring values as a 16-bit type, in one word.
template <class T>
__device__ __forceinline__ uint32_t pack(float x, float y) {
  T pair[2];
  round_pair(x, y, pair);
  return pair[0].bits | uint32_t{pair[1].bits} << 16;
}

}  // namespace ranvier::kernels::mma
