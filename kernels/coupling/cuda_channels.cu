// The field of coupled channels on tensor cores: x streams through shared memory once, its matrix stays in registers.
#include "kernels/common/half.h"
#include "kernels/common/ptx.cuh"
#include "kernels/coupling/channels.h"

namespace ranvier::kernels::cuda {
namespace {

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

template <class T>
struct Field {
  int64_t rows;
  int channels;
  const T *x, *a;
  T* y;
};

/// Starts the copies of a tile, the tile from row `first`; what is not there becomes zeros.
template <class T, int width>
__device__ __forceinline__ void copy_tile(const Field<T>& f, int64_t first, unsigned char* to) {
#pragma unroll
  for (int k = 0; k < tile_bytes / 16 / threads; ++k) {
    const int piece = k * threads + static_cast<int>(threadIdx.x), row = piece / Tile<width>::chunks,
              chunk = piece % Tile<width>::chunks;
    const bool there = first + row < f.rows && 8 * chunk < f.channels;
    ptx::cp_async_16(to + Tile<width>::offset(row, chunk), there ? f.x + (first + row) * f.channels + 8 * chunk : f.x,
                     there ? 16 : 0);
  }
}

/// Rows k and k + 1 of the matrix at a column, as an operand's word.
template <class T>
__device__ __forceinline__ uint32_t matrix_pair(const Field<T>& f, int k, int column) {
  if (column >= f.channels || k >= f.channels) return 0;  // channels are even
  return f.a[k * f.channels + column].bits | uint32_t{f.a[(k + 1) * f.channels + column].bits} << 16;
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

template <bool gate>
__device__ __forceinline__ float coupled(float x, float field) {
  if constexpr (!gate) return x + field;
  constexpr float binary = -2 * 1.44269504f;  // 1 + tanh f = 2 / (1 + 2^(-2 f log2 e)), without cancellation
  return 2 * x * ptx::fast_inverse(1 + ptx::fast_exp2(binary * field));
}

/// Results of the 16 rows from `at` of a tile, which starts at row `first`: a lane gets 8 neighbouring channels of
/// them.
template <class T, int width, bool gate>
__device__ __forceinline__ void put_rows(const Field<T>& f, int64_t first, int at, int columns,
                                         const unsigned char* tile, const float (&sums)[4][4]) {
  const int lane = static_cast<int>(threadIdx.x) % 32, g = lane / 4, q = lane % 4;
#pragma unroll
  for (int lower = 0; lower < 2; ++lower) {
    const int r = at + g + 8 * lower;
    uint32_t words[4];
#pragma unroll
    for (int c = 0; c < 4; ++c) {
      const uint32_t x = *reinterpret_cast<const uint32_t*>(tile + Tile<width>::offset(r, columns / 8 + c) + 4 * q);
      const T low{static_cast<uint16_t>(x)}, high{static_cast<uint16_t>(x >> 16)};
      words[c] = ptx::pack<T>(coupled<gate>(to_float(low), sums[c][2 * lower]),
                              coupled<gate>(to_float(high), sums[c][2 * lower + 1]));
    }
    turn(words);
    const int column = columns + 8 * q;
    if (first + r < f.rows && column < f.channels)
      *reinterpret_cast<uint4*>(f.y + (first + r) * f.channels + column) =
          make_uint4(words[0], words[1], words[2], words[3]);
  }
}

template <class T, int width, bool gate>
__global__ void __launch_bounds__(threads, width == 256 ? 1 : 2) channel_kernel(Field<T> f) {
  using Shape = Tile<width>;
  RANVIER_DYNAMIC_SHARED(memory);
  const int warp = static_cast<int>(threadIdx.x) / 32, lane = static_cast<int>(threadIdx.x) % 32;
  const int g = lane / 4, q = lane % 4;
  const int columns = warp % Shape::groups * warp_columns, first_row = warp / Shape::groups * 32;
  uint32_t matrix[width / 16][4][2];
#pragma unroll
  for (int k = 0; k < width / 16; ++k)
#pragma unroll
    for (int c = 0; c < 4; ++c)
#pragma unroll
      for (int upper = 0; upper < 2; ++upper)
        matrix[k][c][upper] = matrix_pair(f, 16 * k + 2 * q + 8 * upper, columns + 8 * c + g);
  const int64_t stride = int64_t{gridDim.x} * Shape::rows;
  int64_t row = int64_t{blockIdx.x} * Shape::rows, coming = row;
  const auto start = [&](int slot) {
    if (coming < f.rows) copy_tile<T, width>(f, coming, memory + slot * tile_bytes);
    ptx::cp_async_commit();
    coming += stride;
  };
#pragma unroll
  for (int s = 0; s < stages - 1; ++s) start(s);
  for (int slot = 0; row < f.rows; row += stride, slot = (slot + 1) % stages) {
    ptx::cp_async_wait<stages - 2>();
    __syncthreads();  // the tile is there, and the one before is read
    start((slot + stages - 1) % stages);
    const unsigned char* tile = memory + slot * tile_bytes;
#pragma unroll 1
    for (int half = 0; half < 2; ++half) {
      const int at = first_row + 16 * half;
      float sums[4][4] = {};
#pragma unroll
      for (int k = 0; k < width / 16; ++k) {
        uint32_t x[4];
        ptx::ldmatrix_x4(x, tile + Shape::offset(at + lane % 16, 2 * k + lane / 16));
#pragma unroll
        for (int c = 0; c < 4; ++c) ptx::mma_m16n8k16<T>(sums[c], x, matrix[k][c][0], matrix[k][c][1]);
      }
      put_rows<T, width, gate>(f, row, at, columns, tile, sums);
    }
  }
  ptx::cp_async_wait<0>();
}

template <class T, int width>
void run(const ChannelDims& d, const Field<T>& field, CudaStream stream) {
  constexpr int64_t resident = width == 256 ? 132 : 264;  // of a large device; fewer there only take turns
  const int64_t tiles = (d.rows + Tile<width>::rows - 1) / Tile<width>::rows;
  launch(d.gate ? channel_kernel<T, width, true> : channel_kernel<T, width, false>,
         {grid_of(tiles < resident ? tiles : resident), threads, stages * tile_bytes, stream}, field);
}

}  // namespace

bool has_channel_field(const ChannelDims& d) { return d.channels >= 8 && d.channels <= 256 && d.channels % 8 == 0; }

template <class T>
void channel_field(const ChannelDims& d, const T* x, const T* a, T* y, CudaStream stream) {
  const Field<T> field{d.rows, static_cast<int>(d.channels), x, a, y};
  if (d.channels <= 32)
    run<T, 32>(d, field, stream);
  else if (d.channels <= 64)
    run<T, 64>(d, field, stream);
  else if (d.channels <= 128)
    run<T, 128>(d, field, stream);
  else
    run<T, 256>(d, field, stream);
}

template void channel_field<bf16>(const ChannelDims&, const bf16*, const bf16*, bf16*, CudaStream);
template void channel_field<f16>(const ChannelDims&, const f16*, const f16*, f16*, CudaStream);

}  // namespace ranvier::kernels::cuda
