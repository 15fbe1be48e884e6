// How a batched product is cut into the blocks of a CUDA launch, and what a block's loaders and epilogue share.
#pragma once
#include "kernels/common/half.h"
#include "kernels/common/launch.h"
#include "kernels/matmul/matmul.h"

namespace ranvier::kernels {

/// A product and its cut, as the kernels take it.
struct MatmulTiles {
  MatmulDims dims;
  int64_t rows, columns;        // tiles down and across one result
  int64_t splits, split_depth;  // depth of every split but the last
  bool vector_a, vector_b;      // 16-byte reads are aligned and whole
  bool vector_c;                // pairs (tensor cores) or 16 bytes (other kernels) of the result are
  int64_t items() const { return splits * dims.batch * rows * columns; }
};

/// One block's part.
struct MatmulItem {
  int64_t batch;
  int split, row, column;  // row and column count tiles
};

/// Tiles follow each other in stripes of eight rows, so that blocks that run at once share operands in the L2 cache.
RANVIER_HD inline MatmulItem matmul_item(const MatmulTiles& tiles, int64_t item) {
  constexpr int64_t stripe = 8;
  const int64_t per_result = tiles.rows * tiles.columns, tile = item % per_result, outer = item / per_result;
  const int64_t first = tile / (stripe * tiles.columns) * stripe, within = tile - first * tiles.columns;
  const int64_t down = tiles.rows - first < stripe ? tiles.rows - first : stripe;
  return {outer % tiles.dims.batch, static_cast<int>(outer / tiles.dims.batch), static_cast<int>(first + within % down),
          static_cast<int>(within / down)};
}

/// `vector` bytes at a time of a contiguous matrix whose lines hold `line` elements.
template <class T>
bool whole_vectors(const T* data, int64_t line, size_t vector = 16) {
  return reinterpret_cast<uintptr_t>(data) % vector == 0 && line * sizeof(T) % vector == 0;
}

template <class T, class Out>
MatmulTiles matmul_tiles(const MatmulDims& d, const MatmulCudaCut& cut, const T* a, const T* b, const Out* c,
                         size_t vector_c) {
  MatmulTiles tiles{d};
  tiles.rows = (d.m + cut.tile - 1) / cut.tile, tiles.columns = (d.n + cut.tile - 1) / cut.tile;
  tiles.splits = cut.splits, tiles.split_depth = cut.split_depth;
  tiles.vector_a = whole_vectors(a, d.transpose_a ? d.m : d.k);
  tiles.vector_b = whole_vectors(b, d.transpose_b ? d.k : d.n);
  tiles.vector_c = whole_vectors(c, d.n, vector_c);
  return tiles;
}

/// A matrix as a loader sees it: `lines` lines of `length` elements, `pitch` apart; elements outside count as zeros.
template <class T>
struct MatrixView {
  const T* data;
  int64_t pitch, lines, length;
  bool vector;  // every group of 16 bytes of a line is aligned and either inside or outside
};

/// Both operands of one split of one product of the batch.
template <class T>
struct MatmulViews {
  MatrixView<T> a, b;
};
template <class T>
__device__ __forceinline__ MatmulViews<T> views_of(const MatmulTiles& tiles, const MatmulItem& item, const T* a,
                                                   const T* b) {
  const MatmulDims& d = tiles.dims;
  const int64_t end = min((item.split + 1) * tiles.split_depth, d.k);
  a += item.batch * d.m * d.k, b += item.batch * d.k * d.n;
  return {
      d.transpose_a ? MatrixView<T>{a, d.m, end, d.m, tiles.vector_a} : MatrixView<T>{a, d.k, d.m, end, tiles.vector_a},
      d.transpose_b ? MatrixView<T>{b, d.k, d.n, end, tiles.vector_b}
                    : MatrixView<T>{b, d.n, end, d.n, tiles.vector_b}};
}

/// The 16 bytes from element `at` of line `line`, elements outside being zeros.
template <class T>
__device__ __forceinline__ uint4 gather_16(const MatrixView<T>& from, int64_t line, int64_t at) {
  constexpr int count = 16 / static_cast<int>(sizeof(T));
  alignas(16) T values[count];
#pragma unroll
  for (int e = 0; e < count; ++e)
    values[e] = line < from.lines && at + e < from.length ? from.data[line * from.pitch + at + e] : T{};
  return *reinterpret_cast<const uint4*>(values);
}

/// Launches `items` blocks, kernel(..., first item), in pieces that fit a grid.
template <class Launch>
void launch_items(int64_t items, Launch&& one) {
  constexpr int64_t most = int64_t{1} << 30;
  for (int64_t first = 0; first < items; first += most)
    one(static_cast<unsigned>(items - first < most ? items - first : most), first);
}

}  // namespace ranvier::kernels
