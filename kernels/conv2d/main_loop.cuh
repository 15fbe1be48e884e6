// The kernel of every tiled convolution: a block computes one tile of the result as a product of gathered operands.
#pragma once
#include "kernels/common/stream.h"
#include "kernels/conv2d/simt_product.cuh"

namespace ranvier::kernels::conv {

constexpr int stages = 4;       // of the ring in shared memory that copies run ahead in
constexpr int step_chunks = 4;  // a stage is 64 bytes of the reduction

/// 16 bytes: what a thread copies at once.
using Chunk = uint4;
template <class T>
constexpr int per_chunk = mma::chunk_elements<T>;
/// Elements of the reduction in a stage, a step of it.
template <class T>
constexpr int step_k = mma::stage_depth<T>;

/// Extents of a block's tile and of a warp's part of it: four warps, two blocks to a multiprocessor, or eight and one.
/// Warps of 64 x 64 read 16 KB of fragments for 128 x 128 x 16 products, narrower ones half as much again. What a tile
/// fetches is rows + columns for rows x columns products: an H100 that gets some 5 TB/s from its second-level cache
/// feeds 320 TFLOP/s of tiles of 128 x 128 and 425 of 256 x 128.
template <int bm_, int bn_, int wm_, int wn_>
struct TileShape {
  static constexpr int bm = bm_, bn = bn_, down = bm_ / wm_, across = bn_ / wn_;
  static constexpr int threads = down * across * 32, blocks = 256 / threads;  // of a block; that share a multiprocessor
  static_assert(threads == 128 || threads == 256);
  static constexpr int copy_rows = threads / step_chunks;  // copied at once where chunks run along the depth
};

/// The arithmetic of a tile: tensor cores for 16-bit types and for f32 rounded to tf32, else fma.
template <class T, class Shape, bool tensor>
struct Arithmetic {
  template <Major a, Major b>
  using Product =
      std::conditional_t<tensor, mma::BlockProduct<T, a, b, Shape::bm, Shape::bn, Shape::down, Shape::across, stages>,
                         SimtProduct<a, b, stages>>;
};

/// `Tile` knows the problem: it says how many steps its reduction has (the same for all threads), copies the next
/// step's operands into a stage, and stores the result. Eight warps share an SM, so that some multiply while others
/// wait: at most 255 registers a thread and 100 KB for every four warps.
template <class Tile>
__global__ void __launch_bounds__(Tile::Shape::threads, Tile::Shape::blocks)
    tile_kernel(typename Tile::Problem problem) {
  RANVIER_DYNAMIC_SHARED(shared);
  Tile tile(problem);
  if (tile.outside()) return;  // the whole block
  typename Tile::Product product;
  product.clear();
  if (tile.steps() > 0)
    product.accumulate(shared, tile.steps(), [&](int, unsigned char* a, unsigned char* b) { tile.load(a, b); });
  __syncthreads();
  tile.store(product, shared);
}

/// Bytes of dynamic shared memory that a tile needs.
template <class Tile>
constexpr size_t shared_bytes() {
  constexpr size_t ring = Tile::Product::shared_bytes;
  return ring > Tile::store_bytes ? ring : Tile::store_bytes;
}

template <class Tile>
void launch_tiles(dim3 grid, const typename Tile::Problem& problem, CudaStream stream) {
  launch(tile_kernel<Tile>, {grid, Tile::Shape::threads, shared_bytes<Tile>(), stream}, problem);
}

// ---- storing a tile ----

/// Puts the results as T into rows of `bn` elements (and one chunk of padding against bank conflicts).
template <class T, class Shape, class Product>
__device__ void stage_results(const Product& product, T* rows) {
  constexpr int ld = Shape::bn + per_chunk<T>;
  if constexpr (!requires { Product::warp_rows; }) {
    product.for_each([&](int row, int column, float value) { rows[row * ld + column] = narrow<T>(value); });
  } else {
    product.for_each_pair([&](int row, int column, float first, float second) {
      store_pack(rows + row * ld + column, narrow_pack<T, 2>({first, second}));
    });
  }
  __syncthreads();
}

/// Stores a tile as rows of `columns` elements, of which the tile covers those from `column` on. `row_of(i)` is the
/// row's place in `out`, in rows, negative where the tile has no such row.
template <class T, class Shape, bool scalar, class Product, class RowOf>
__device__ void store_rows(const Product& product, unsigned char* shared, T* out, int columns, int column,
                           RowOf&& row_of) {
  constexpr int e = per_chunk<T>, row_chunks = Shape::bn / e, ld = Shape::bn + e;
  T* const rows = reinterpret_cast<T*>(shared);
  stage_results<T, Shape>(product, rows);
  for (int i = static_cast<int>(threadIdx.x); i < Shape::bm * row_chunks; i += Shape::threads) {
    const int row = i / row_chunks, first = column + i % row_chunks * e;
    const int64_t place = row_of(row);
    if (place < 0 || first >= columns) continue;
    const T* from = rows + row * ld + i % row_chunks * e;
    T* to = out + place * columns + first;
    if constexpr (scalar) {
      for (int j = 0; j < e && first + j < columns; ++j) to[j] = from[j];
    } else {
      *reinterpret_cast<Chunk*>(to) = *reinterpret_cast<const Chunk*>(from);
    }
  }
}

/// Stores a tile of f32 sums straight from the registers: 32-byte pieces of a row, so that no sector is written twice.
template <bool scalar, class Product>
__device__ void store_sums(const Product& product, float* out, int rows, int columns, int row0, int column0) {
  const auto one = [&](int row, int column, float value) {
    if (row0 + row < rows && column0 + column < columns) out[int64_t{row0 + row} * columns + column0 + column] = value;
  };
  if constexpr (!requires { Product::warp_rows; }) {
    product.for_each(one);
  } else if constexpr (scalar) {
    product.for_each_pair(
        [&](int row, int column, float first, float second) { one(row, column, first), one(row, column + 1, second); });
  } else {  // `columns` is even
    product.for_each_pair([&](int row, int column, float first, float second) {
      if (row0 + row < rows && column0 + column < columns)
        *reinterpret_cast<float2*>(out + int64_t{row0 + row} * columns + column0 + column) = float2{first, second};
    });
  }
}

}  // namespace ranvier::kernels::conv
