// Products of f32 tiles by fma on CUDA cores: the exact counterpart of mma::BlockProduct.
#pragma once
#include "kernels/common/mma_tile.cuh"

namespace ranvier::kernels::conv {

using mma::Major;

/// A block's 128 x 64 product by 128 threads, 8 x 8 results each. Fragments are one chunk of the depth: four values of
/// each of the thread's 8 rows and 8 columns, so that 16 shared reads of 16 bytes feed 256 fmas.
template <Major major_a, Major major_b, int stages>
class SimtProduct {
 public:
  static constexpr int rows = 128, columns = 64;
  using TileA = mma::OperandTile<float, major_a, rows>;
  using TileB = mma::OperandTile<float, major_b, columns>;
  static constexpr int stage_bytes = TileA::bytes + TileB::bytes;
  static constexpr int shared_bytes = stages * stage_bytes;

  __device__ __forceinline__ void clear() {
#pragma unroll
    for (int i = 0; i < 8; ++i)
#pragma unroll
      for (int j = 0; j < 8; ++j) sum_[i][j] = 0;
  }

  /// As BlockProduct::accumulate.
  template <class Load>
  __device__ __forceinline__ void accumulate(unsigned char* shared, int count, Load&& load) {
    const auto start = [&](int s, int slot) {
      unsigned char* stage = shared + slot * stage_bytes;
      if (s < count) load(s, stage, stage + TileA::bytes);
      ptx::cp_async_commit();
    };
#pragma unroll
    for (int s = 0; s < stages - 1; ++s) start(s, s);
    int slot = 0;
    for (int s = 0; s < count; ++s) {
      ptx::cp_async_wait<stages - 2>();
      __syncthreads();
      start(s + stages - 1, slot == 0 ? stages - 1 : slot - 1);  // read for the last time before the barrier
      const unsigned char* stage = shared + slot * stage_bytes;
#pragma unroll
      for (int part = 0; part < 4; ++part) multiply(stage, stage + TileA::bytes, part);
      slot = slot + 1 == stages ? 0 : slot + 1;
    }
    ptx::cp_async_wait<0>();  // only empty groups are left
  }

  /// put(row, column, value) for every result of this thread.
  template <class Put>
  __device__ __forceinline__ void for_each(Put&& put) const {
#pragma unroll
    for (int i = 0; i < 8; ++i)
#pragma unroll
      for (int j = 0; j < 8; ++j) put(index<major_a, 16>(down(), i), index<major_b, 8>(across(), j), sum_[i][j]);
  }

 private:
  __device__ __forceinline__ static int down() { return static_cast<int>(threadIdx.x) / 8; }
  __device__ __forceinline__ static int across() { return static_cast<int>(threadIdx.x) % 8; }

  /// Row (or column) i of thread `t` of `count`: interleaved where chunks run along the depth, in fours where they run
  /// along the rows; either way the threads of a warp read different banks.
  template <Major major, int count>
  __device__ __forceinline__ static int index(int t, int i) {
    return major == Major::depth ? t + count * i : 4 * t + i % 4 + 4 * count * (i / 4);
  }

  template <class Tile, Major major, int count>
  __device__ __forceinline__ static void read(float (&to)[8][4], const unsigned char* tile, int part, int t) {
#pragma unroll
    for (int i = 0; i < 8; ++i) {
      const int k = i % 4, block = i / 4;  // of chunks along the rows: depth, and which four rows
      const int offset =
          major == Major::depth ? Tile::offset(t + count * i, part) : Tile::offset(4 * part + k, t + count * block);
      const float4 v = *reinterpret_cast<const float4*>(tile + offset);
      if constexpr (major == Major::depth)
        to[i][0] = v.x, to[i][1] = v.y, to[i][2] = v.z, to[i][3] = v.w;
      else
        to[4 * block][k] = v.x, to[4 * block + 1][k] = v.y, to[4 * block + 2][k] = v.z, to[4 * block + 3][k] = v.w;
    }
  }

  __device__ __forceinline__ void multiply(const unsigned char* tile_a, const unsigned char* tile_b, int part) {
    float a[8][4], b[8][4];
    read<TileA, major_a, 16>(a, tile_a, part, down());
    read<TileB, major_b, 8>(b, tile_b, part, across());
#pragma unroll
    for (int k = 0; k < 4; ++k)
#pragma unroll
      for (int i = 0; i < 8; ++i)
#pragma unroll
        for (int j = 0; j < 8; ++j) sum_[i][j] = fused(a[i][k], b[j][k], sum_[i][j]);
  }

  float sum_[8][8];
};

}  // namespace ranvier::kernels::conv
