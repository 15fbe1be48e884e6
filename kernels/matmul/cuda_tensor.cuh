// The matrix product on tensor cores: bf16 and f16 operands, or f32 rounded to tf32, with f32 sums. Instantiated by
// cuda_bf16.cu, cuda_f16.cu and cuda_tf32.cu, one element type a file for the sake of compile time.
//
// Shapes of a block, 128 threads in 4 warps: 128 x 128 with warps of 64 x 64 where the result fills the device with
// them (128 registers of sums and 64 of fragments; a stage's 32 KB of fragment reads take 256 of the 512 clocks that
// its products take), else 64 x 64 with warps of 32 x 32. Four stages of 16 or 8 KB: two blocks, or four, fit an SM
// even with an A100's 164 KB, and copies run three stages, about 1500 clocks, ahead.
#pragma once
#include "kernels/common/mma_tile.cuh"
#include "kernels/matmul/cuda_tiles.h"

namespace ranvier::kernels {

using mma::Major;

/// Copies one operand of a stage into its tile: from line `line` and element `at` of its matrix on.
template <class Tile, class T, int threads>
__device__ __forceinline__ void copy_operand(const MatrixView<T>& from, int64_t line, int64_t at, unsigned char* tile) {
  constexpr int step = threads / Tile::line_chunks;
  static_assert(threads % Tile::line_chunks == 0 && Tile::lines % step == 0);
  const int chunk = static_cast<int>(threadIdx.x) % Tile::line_chunks;
  const int first = static_cast<int>(threadIdx.x) / Tile::line_chunks;
  line += first, at += chunk * mma::chunk_elements<T>;
  if (from.vector) {
    const T* source = from.data + line * from.pitch + at;
#pragma unroll
    for (int i = 0; i < Tile::lines; i += step) {
      const bool inside = at < from.length && line + i < from.lines;
      ptx::cp_async_16(tile + Tile::offset(first + i, chunk), inside ? source + i * from.pitch : from.data,
                       inside ? 16 : 0);
    }
  } else {
#pragma unroll 1
    for (int i = 0; i < Tile::lines; i += step)
      *reinterpret_cast<uint4*>(tile + Tile::offset(first + i, chunk)) = gather_16(from, line + i, at);
  }
}

/// The sums of one block: rows from `row`, columns from `column`, depth from `depth` to the end of the views.
template <class Block>
__device__ __forceinline__ void product_of_block(Block& block, unsigned char* shared,
                                                 const MatmulViews<typename Block::T>& views, int64_t row,
                                                 int64_t column, int64_t depth, int64_t depth_end) {
  using T = typename Block::T;
  constexpr int stage = mma::stage_depth<T>;
  const auto copy = [&]<class Tile, Major major>(const MatrixView<T>& from, int64_t first, int64_t at,
                                                 unsigned char* tile) {
    constexpr bool by_depth = major == Major::depth;
    copy_operand<Tile, T, Block::threads>(from, by_depth ? first : at, by_depth ? at : first, tile);
  };
  block.clear();
  block.accumulate(shared, static_cast<int>((depth_end - depth + stage - 1) / stage),
                   [&](int s, unsigned char* tile_a, unsigned char* tile_b) {
                     const int64_t at = depth + int64_t{s} * stage;
                     copy.template operator()<typename Block::TileA, Block::major_a>(views.a, row, at, tile_a);
                     copy.template operator()<typename Block::TileB, Block::major_b>(views.b, column, at, tile_b);
                   });
}

/// Writes a pair of results; `vector` where pairs are aligned and n is even.
template <class Out>
__device__ __forceinline__ void store_pair(Out* row, int64_t column, int64_t n, bool vector, float x, float y) {
  if (column >= n) return;
  if (vector) {
    if constexpr (sizeof(Out) == 2)
      *reinterpret_cast<uint32_t*>(row + column) = mma::pack<Out>(x, y);
    else
      *reinterpret_cast<float2*>(row + column) = make_float2(x, y);
    return;
  }
  row[column] = narrow<Out>(x);
  if (column + 1 < n) row[column + 1] = narrow<Out>(y);
}

/// c is the result; where the depth is split, the sums go to `partial` (split, batch, m, n) instead.
template <class Block>
__global__ void __launch_bounds__(Block::threads, 2)
    tensor_matmul_kernel(MatmulTiles tiles, const typename Block::T* a, const typename Block::T* b,
                         typename Block::T* c, float* partial, int64_t first_item) {
  RANVIER_DYNAMIC_SHARED(shared);
  const MatmulDims& d = tiles.dims;
  const MatmulItem item = matmul_item(tiles, first_item + blockIdx.x);
  const int64_t row = item.row * Block::rows, column = item.column * Block::columns;
  const int64_t depth = item.split * tiles.split_depth;
  Block block;
  product_of_block(block, shared, views_of(tiles, item, a, b), row, column, depth, min(depth + tiles.split_depth, d.k));
  const auto store = [&](auto* result) {
    block.for_each_pair([&](int i, int j, float x, float y) {
      if (row + i < d.m) store_pair(result + (row + i) * d.n, column + j, d.n, tiles.vector_c, x, y);
    });
  };
  if (tiles.splits > 1)
    store(partial + (item.split * d.batch + item.batch) * d.m * d.n);
  else
    store(c + item.batch * d.m * d.n);
}

template <class T, Major a, Major b>
using LargeBlock = mma::BlockProduct<T, a, b, 128, 128, 2, 2, 4>;
template <class T, Major a, Major b>
using SmallBlock = mma::BlockProduct<T, a, b, 64, 64, 2, 2, 4>;

/// Launches the kernel of a cut.
template <class T>
void launch_tensor_matmul(const MatmulTiles& tiles, bool large, const T* a, const T* b, T* c, float* partial,
                          CudaStream stream) {
  const auto run = [&]<class Block>() {
    launch_items(tiles.items(), [&](unsigned blocks, int64_t first) {
      launch(tensor_matmul_kernel<Block>, {blocks, Block::threads, Block::shared_bytes, stream}, tiles, a, b, c,
             partial, first);
    });
  };
  const auto by_layout = [&]<Major major_a, Major major_b>() {
    if (large)
      run.template operator()<LargeBlock<T, major_a, major_b>>();
    else
      run.template operator()<SmallBlock<T, major_a, major_b>>();
  };
  const bool ta = tiles.dims.transpose_a, tb = tiles.dims.transpose_b;
  if (ta && tb) return by_layout.template operator()<Major::extent, Major::depth>();
  if (ta) return by_layout.template operator()<Major::extent, Major::extent>();
  if (tb) return by_layout.template operator()<Major::depth, Major::depth>();
  by_layout.template operator()<Major::depth, Major::extent>();
}

}  // namespace ranvier::kernels
