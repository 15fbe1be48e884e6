// The main loop of every tiled convolution kernel: a ring of shared-memory stages filled by asynchronous copies while
// earlier ones are multiplied.
#pragma once
#include "kernels/common/stream.h"
#include "kernels/conv2d/tile.cuh"

namespace ranvier::kernels::conv {

constexpr int stages = 4;

/// One block computes one tile. `Tile` knows the problem: it says how many steps its reduction has (the same for all
/// threads), copies the next step's operands into a stage, and stores the result. Two blocks share an SM, so that one
/// multiplies while the other waits: at most 255 registers a thread and 100 KB a block.
template <class Tile>
__global__ void __launch_bounds__(threads, 2) tile_kernel(typename Tile::Problem problem) {
  RANVIER_DYNAMIC_SHARED(shared);
  constexpr int a_chunks = Tile::A::chunks, stage_chunks = a_chunks + Tile::B::chunks;
  Chunk* const ring = reinterpret_cast<Chunk*>(shared);
  Tile tile(problem);
  if (tile.outside()) return;  // the whole block
  typename Tile::Math math;
  const int steps = tile.steps();
  for (int s = 0; s < stages - 1; ++s) {
    if (s < steps) tile.load(ring + s * stage_chunks, ring + s * stage_chunks + a_chunks);
    ptx::cp_async_commit();  // a group a step, empty or not, keeps the count of the waits right
  }
  ptx::cp_async_wait<stages - 2>();
  __syncthreads();
  const Chunk* read = ring;
  Chunk* write = ring + (stages - 1) * stage_chunks;
  const auto next = [&](auto*& stage) {
    stage += stage_chunks;
    if (stage == ring + stages * stage_chunks) stage = ring;
  };
  if (steps > 0) math.load(read, read + a_chunks, 0, 0);
  for (int k = 0; k < steps; ++k) {
    // overwrites the stage of step k - 1: the barrier below came after every warp had its last fragments in registers
    if (k + stages - 1 < steps) tile.load(write, write + a_chunks);
    ptx::cp_async_commit();
    next(write);
#pragma unroll
    for (int part = 0; part < Tile::Math::parts; ++part) {
      if (part + 1 < Tile::Math::parts) {
        math.load(read, read + a_chunks, part + 1, (part + 1) % 2);
      } else {
        ptx::cp_async_wait<stages - 2>();
        __syncthreads();
        next(read);
        if (k + 1 < steps) math.load(read, read + a_chunks, 0, 0);
      }
      math.multiply(part % 2);
    }
  }
  ptx::cp_async_wait<0>();
  __syncthreads();
  tile.store(math, shared);
}

/// Bytes of dynamic shared memory that a tile needs.
template <class Tile>
constexpr size_t shared_bytes() {
  constexpr size_t ring = sizeof(Chunk) * stages * (Tile::A::chunks + Tile::B::chunks);
  return ring > Tile::store_bytes ? ring : Tile::store_bytes;
}

template <class Tile>
void launch_tiles(dim3 grid, const typename Tile::Problem& problem, CudaStream stream) {
  launch(tile_kernel<Tile>, {grid, threads, shared_bytes<Tile>(), stream}, problem);
}

// ---- storing a tile ----

/// Puts the results as T into rows of `bn` elements (and one chunk of padding against bank conflicts).
template <class T, class Shape, class Math>
__device__ void stage_results(const Math& math, T* rows) {
  constexpr int ld = Shape::bn + per_chunk<T>;
  if constexpr (!Math::pairs) {
    math.each([&](int row, int column, float value) { rows[row * ld + column] = narrow<T>(value); });
  } else {
    math.each_pair([&](int row, int column, float first, float second) {
      struct alignas(2 * sizeof(T)) Pair {
        T v[2];
      };
      *reinterpret_cast<Pair*>(rows + row * ld + column) = {narrow<T>(first), narrow<T>(second)};
    });
  }
  __syncthreads();
}

/// Stores a tile as rows of `columns` elements, of which the tile covers those from `column` on. `row_of(i)` is the
/// row's place in `out`, in rows, negative where the tile has no such row.
template <class T, class Shape, bool scalar, class Math, class RowOf>
__device__ void store_rows(const Math& math, unsigned char* shared, T* out, int columns, int column, RowOf&& row_of) {
  constexpr int e = per_chunk<T>, row_chunks = Shape::bn / e, ld = Shape::bn + e;
  T* const rows = reinterpret_cast<T*>(shared);
  stage_results<T, Shape>(math, rows);
  for (int i = static_cast<int>(threadIdx.x); i < Shape::bm * row_chunks; i += threads) {
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
template <bool scalar, class Math>
__device__ void store_sums(const Math& math, float* out, int rows, int columns, int row0, int column0) {
  const auto one = [&](int row, int column, float value) {
    if (row0 + row < rows && column0 + column < columns) out[int64_t{row0 + row} * columns + column0 + column] = value;
  };
  if constexpr (!Math::pairs) {
    math.each(one);
  } else if constexpr (scalar) {
    math.each_pair(
        [&](int row, int column, float first, float second) { one(row, column, first), one(row, column + 1, second); });
  } else {  // `columns` is even
    math.each_pair([&](int row, int column, float first, float second) {
      if (row0 + row < rows && column0 + column < columns)
        *reinterpret_cast<float2*>(out + int64_t{row0 + row} * columns + column0 + column) = float2{first, second};
    });
  }
}

}  // namespace ranvier::kernels::conv
