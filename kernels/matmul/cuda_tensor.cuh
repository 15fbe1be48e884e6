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

/// Brings one operand's tiles, stage after stage. What a thread needs again and again is kept in few registers: where
/// its chunk of the first line lies, how far its lines are apart, and which of them exist.
template <class T, class Tile, Major major, int threads>
class OperandLoader {
  static constexpr bool by_depth = major == Major::depth;
  static constexpr int chunk_elements = mma::chunk_elements<T>, step = threads / Tile::line_chunks;
  static_assert(threads % Tile::line_chunks == 0 && Tile::lines % step == 0);

 public:
  /// The tile whose first row (of a) or column (of b) is `first`, depths from `depth` on.
  __device__ __forceinline__ OperandLoader(const MatrixView<T>& from, int64_t first, int64_t depth) {
    const int64_t line = (by_depth ? first : depth) + first_line(), at = (by_depth ? depth : first) + column();
    source_ = from.data + line * from.pitch + at;
    line_step_ = step * from.pitch;
    const int64_t left = by_depth ? from.lines - line : from.length - at;
    inside_ = static_cast<int>(left < 0 ? 0 : left < most ? left : most);
  }

  /// Starts the copies of the next stage, of which `limit` steps of depth exist. `anywhere` is a valid address.
  __device__ __forceinline__ void copy(int limit, bool vector, const T* anywhere, unsigned char* tile) {
    if (vector) {
#pragma unroll
      for (int i = 0; i < Tile::lines; i += step) {
        const bool exists = by_depth ? i < inside_ && column() < limit : inside_ > 0 && first_line() + i < limit;
        ptx::cp_async_16(tile + Tile::offset(first_line() + i, chunk()),
                         exists ? source_ + i / step * line_step_ : anywhere, exists ? 16 : 0);
      }
    } else {
      const T* line = source_;
#pragma unroll 1
      for (int i = 0; i < Tile::lines; i += step, line += line_step_) {
        const bool exists = by_depth ? i < inside_ : first_line() + i < limit;
        alignas(16) T values[chunk_elements];
#pragma unroll
        for (int e = 0; e < chunk_elements; ++e)
          values[e] = exists && (by_depth ? column() + e < limit : e < inside_) ? line[e] : T{};
        *reinterpret_cast<uint4*>(tile + Tile::offset(first_line() + i, chunk())) =
            *reinterpret_cast<const uint4*>(values);
      }
    }
    source_ += by_depth ? mma::stage_depth<T> : Tile::lines / step * line_step_;
  }

 private:
  static constexpr int64_t most = 1 << 20;
  __device__ __forceinline__ static int chunk() { return static_cast<int>(threadIdx.x) % Tile::line_chunks; }
  __device__ __forceinline__ static int column() { return chunk() * chunk_elements; }
  __device__ __forceinline__ static int first_line() { return static_cast<int>(threadIdx.x) / Tile::line_chunks; }

  const T* source_;
  int64_t line_step_;
  int inside_;  // lines (by depth) or elements of a line that exist from this thread's first one on
};

/// The sums of one block: rows from `row`, columns from `column`, depth [depth, depth_end), which is not empty. `any_a`
/// and `any_b` are any valid addresses; the kernel's own arguments cost no registers.
template <class Block>
__device__ __forceinline__ void product_of_block(Block& block, unsigned char* shared,
                                                 const MatmulViews<typename Block::T>& views,
                                                 const typename Block::T* any_a, const typename Block::T* any_b,
                                                 int64_t row, int64_t column, int64_t depth, int64_t depth_end) {
  using T = typename Block::T;
  constexpr int stage = mma::stage_depth<T>;
  OperandLoader<T, typename Block::TileA, Block::major_a, Block::threads> a(views.a, row, depth);
  OperandLoader<T, typename Block::TileB, Block::major_b, Block::threads> b(views.b, column, depth);
  const int count = static_cast<int>((depth_end - depth + stage - 1) / stage);
  const int last = static_cast<int>(depth_end - depth - int64_t{count - 1} * stage);
  block.clear();
  block.accumulate(shared, count, [&](int s, unsigned char* tile_a, unsigned char* tile_b) {
    const int limit = s + 1 == count ? last : stage;
    a.copy(limit, views.a.vector, any_a, tile_a);
    b.copy(limit, views.b.vector, any_b, tile_b);
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
__global__ void __launch_bounds__(Block::threads, 256 / Block::threads)
    tensor_matmul_kernel(MatmulTiles tiles, const typename Block::T* a, const typename Block::T* b,
                         typename Block::T* c, float* partial, int64_t first_item) {
  RANVIER_DYNAMIC_SHARED(shared);
  RANVIER_SHARED(MatmulItem, kept, [1]);  // until the sums are made: they and the operands need all the registers
  const MatmulDims& d = tiles.dims;
  Block block;
  {
    const MatmulItem item = matmul_item(tiles, first_item + blockIdx.x);
    if (threadIdx.x == 0) kept[0] = item;
    const int64_t depth = item.split * tiles.split_depth;
    product_of_block(block, shared, views_of(tiles, item, a, b), a, b, int64_t{item.row} * Block::rows,
                     int64_t{item.column} * Block::columns, depth, min(depth + tiles.split_depth, d.k));
  }
  const MatmulItem item = kept[0];
  const int64_t row = int64_t{item.row} * Block::rows, column = int64_t{item.column} * Block::columns;
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

/// tf32 fragments are twice as many as 16-bit ones: 8 warps of 64 x 32 keep them and the sums in registers.
template <class T, Major a, Major b>
using LargeBlock = mma::BlockProduct<T, a, b, 128, 128, 2, sizeof(T) == 4 ? 4 : 2, 4>;
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
