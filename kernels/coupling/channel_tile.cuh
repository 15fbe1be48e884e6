// Rows of channels as they stream through shared memory, and their products with a matrix that stays in registers.
#pragma once
#include <algorithm>

#include "kernels/common/half.h"
#include "kernels/common/ptx.cuh"

namespace ranvier::kernels::channel_cuda {

// Blocks stay: each goes through tiles of 16 KB of x, four of them in shared memory, three on their way. A warp has 32
// channels of the result and, for all tiles, their columns of the matrix: 128 registers a lane of 256 channels. So a
// tile costs its own bytes, read once for every 32 channels from shared memory, and products that 256 channels need for
// about two thirds of the time that its bytes take on an H100.
constexpr int threads = 256, stages = 4, warp_columns = 32, tile_bytes = 16384;

template <int width>  // channels, padded by zeros
struct Tile {
  static constexpr int rows = tile_bytes / (2 * width), chunks = width / 8, groups = width / warp_columns;
  /// Byte offset of 8 channels of a row: ldmatrix reads 8 rows, and results are read 8 rows x 4 words, without a bank
  /// asked for twice.
  __device__ __forceinline__ static int offset(int row, int chunk) {
    return row * (2 * width) + ((chunk ^ (width >= 64 ? row & 7 : row >> 1 & 3)) << 4);
  }
};

/// What streams: `count` rows of channels, a multiple of 8.
template <class T>
struct Rows {
  int64_t count;
  int channels;
  const T* x;
};

/// Where a thread is in its warp, and its warp's 32 channels of the result and first row of a tile.
template <int width>
struct Place {
  int lane = static_cast<int>(threadIdx.x) % 32, warp = static_cast<int>(threadIdx.x) / 32;
  int g = lane / 4, q = lane % 4;
  int columns = warp % Tile<width>::groups * warp_columns, first_row = warp / Tile<width>::groups * 32;
};

/// Starts the copies of a tile, the tile from row `first`; what is not there becomes zeros.
template <class T, int width>
__device__ __forceinline__ void copy_tile(const Rows<T>& f, int64_t first, unsigned char* to) {
#pragma unroll
  for (int k = 0; k < tile_bytes / 16 / threads; ++k) {
    const int piece = k * threads + static_cast<int>(threadIdx.x), row = piece / Tile<width>::chunks,
              chunk = piece % Tile<width>::chunks;
    const bool there = first + row < f.count && 8 * chunk < f.channels;
    ptx::cp_async_16(to + Tile<width>::offset(row, chunk), there ? f.x + (first + row) * f.channels + 8 * chunk : f.x,
                     there ? 16 : 0);
  }
}

/// Calls body(first row, tile) for each tile of this block, all threads together; the one before is read by then.
template <class T, int width, class Body>
__device__ __forceinline__ void for_tiles(const Rows<T>& f, unsigned char* memory, Body&& body) {
  const int64_t stride = int64_t{gridDim.x} * Tile<width>::rows;
  int64_t row = int64_t{blockIdx.x} * Tile<width>::rows, coming = row;
  const auto start = [&](int slot) {
    if (coming < f.count) copy_tile<T, width>(f, coming, memory + slot * tile_bytes);
    ptx::cp_async_commit();
    coming += stride;
  };
#pragma unroll
  for (int s = 0; s < stages - 1; ++s) start(s);
  for (int slot = 0; row < f.count; row += stride, slot = (slot + 1) % stages) {
    ptx::cp_async_wait<stages - 2>();
    __syncthreads();
    start((slot + stages - 1) % stages);
    body(row, memory + slot * tile_bytes);
  }
  ptx::cp_async_wait<0>();
}

/// The matrix's columns of a warp as operands of its products.
template <class T, int width>
struct Matrix {
  uint32_t words[width / 16][4][2];

  /// a (channels, channels).
  __device__ __forceinline__ Matrix(const T* a, int channels, const Place<width>& at) {
    // rows k and k + 1 at a column; channels are even
    const auto pair = [&](int k, int column) {
      if (column >= channels || k >= channels) return 0u;
      return a[k * channels + column].bits | uint32_t{a[(k + 1) * channels + column].bits} << 16;
    };
#pragma unroll
    for (int k = 0; k < width / 16; ++k)
#pragma unroll
      for (int c = 0; c < 4; ++c)
#pragma unroll
        for (int upper = 0; upper < 2; ++upper)
          words[k][c][upper] = pair(16 * k + 2 * at.q + 8 * upper, at.columns + 8 * c + at.g);
  }

  /// 16 rows from `row` of a tile times it: sums[c][2 * lower + odd] is row g + 8 * lower, column 8 c + 2 q + odd.
  __device__ __forceinline__ void multiply(const unsigned char* tile, int row, int lane, float (&sums)[4][4]) const {
#pragma unroll
    for (int k = 0; k < width / 16; ++k) {
      uint32_t x[4];
      ptx::ldmatrix_x4(x, tile + Tile<width>::offset(row + lane % 16, 2 * k + lane / 16));
#pragma unroll
      for (int c = 0; c < 4; ++c) ptx::mma_m16n8k16<T>(sums[c], x, words[k][c][0], words[k][c][1]);
    }
  }
};

/// Neighbouring elements.
struct Pair {
  float low, high;
};
template <class T>
__device__ __forceinline__ Pair pair_of(const unsigned char* word) {
  const uint32_t x = *reinterpret_cast<const uint32_t*>(word);
  return {to_float(T{static_cast<uint16_t>(x)}), to_float(T{static_cast<uint16_t>(x >> 16)})};
}

/// words[c] of lane q of four becomes words[q] of lane c.
__device__ __forceinline__ void turn(uint32_t (&words)[4]) {
  const auto swap = [&](int apart, uint32_t& low, uint32_t& high) {
    const bool upper = threadIdx.x & static_cast<unsigned>(apart);
    const uint32_t other = __shfl_xor_sync(0xffffffffu, upper ? low : high, apart);
    low = upper ? other : low, high = upper ? high : other;
  };
  swap(1, words[0], words[1]), swap(1, words[2], words[3]);
  swap(2, words[0], words[2]), swap(2, words[1], words[3]);
}

/// Writes the 16 rows from `at` of a tile, which starts at row `first`: a lane gets 8 neighbouring channels of them. An
/// element is value(x, sum, column), all as f32.
template <class T, int width, class Value>
__device__ __forceinline__ void put_rows(const Rows<T>& f, int64_t first, int at, const Place<width>& place,
                                         const unsigned char* tile, const float (&sums)[4][4], T* y, Value&& value) {
#pragma unroll
  for (int lower = 0; lower < 2; ++lower) {
    const int r = at + place.g + 8 * lower;
    uint32_t words[4];
#pragma unroll
    for (int c = 0; c < 4; ++c) {
      const Pair x = pair_of<T>(tile + Tile<width>::offset(r, place.columns / 8 + c) + 4 * place.q);
      const int column = place.columns + 8 * c + 2 * place.q;
      words[c] =
          ptx::pack<T>(value(x.low, sums[c][2 * lower], column), value(x.high, sums[c][2 * lower + 1], column + 1));
    }
    turn(words);
    const int column = place.columns + 8 * place.q;
    if (first + r < f.count && column < f.channels)
      *reinterpret_cast<uint4*>(y + (first + r) * f.channels + column) =
          make_uint4(words[0], words[1], words[2], words[3]);
  }
}

/// Blocks that stay on a large device; fewer there only take turns. A constant: sums must not depend on the device.
constexpr int64_t resident(int width) { return width == 256 ? 132 : 264; }

/// Calls body with the least width that holds the channels as a constant.
template <class Body>
void with_width(int64_t channels, Body&& body) {
  if (channels <= 32) return body(std::integral_constant<int, 32>{});
  if (channels <= 64) return body(std::integral_constant<int, 64>{});
  if (channels <= 128) return body(std::integral_constant<int, 128>{});
  body(std::integral_constant<int, 256>{});
}

/// Blocks that go through that many rows.
template <int width>
int64_t blocks_of(int64_t rows) {
  return std::min((rows + Tile<width>::rows - 1) / Tile<width>::rows, resident(width));
}

}  // namespace ranvier::kernels::channel_cuda
