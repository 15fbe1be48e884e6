// What the CUDA kernels of the coupling share: positions of units in shared memory, values of three storage types, and
// the cut of the sum over senders.
#pragma once
#include "kernels/common/half.h"
#include "kernels/common/launch.h"
#include "kernels/coupling/coupling.h"

namespace ranvier::kernels::cuda {

struct Position {
  float at[3];
};

/// Position of unit i, zeros in the axes that there are not; of a unit beyond the last one: the origin.
__device__ inline Position position_of(const float* positions, int64_t n, int axes, int64_t i) {
  Position p{};
  if (i < n)
    for (int a = 0; a < axes; ++a) p.at[a] = positions[i * axes + a];
  return p;
}

__device__ inline float squared_distance(const Position& p, const Position& q) {
  const float x = p.at[0] - q.at[0], y = p.at[1] - q.at[1], z = p.at[2] - q.at[2];
  return fused(z, z, fused(y, y, x * x));
}

/// Values whose storage type is known at run time: they are loaded into shared memory once and used many times, so that
/// a uniform branch per load costs nothing and two thirds of the instances are saved.
struct Values {
  const void* data;
  int storage;  // 0: f32, 1: bf16, 2: f16

  template <class T>
  static Values of(const T* x) {
    return {x, std::is_same_v<T, float> ? 0 : std::is_same_v<T, bf16> ? 1 : 2};
  }
  __device__ float operator[](int64_t i) const {
    if (storage == 0) return static_cast<const float*>(data)[i];
    if (storage == 1) return to_float(static_cast<const bf16*>(data)[i]);
    return to_float(static_cast<const f16*>(data)[i]);
  }
};

/// Pieces into which the senders are cut, for at least `wanted` blocks to run in all and a piece to have 128 senders: a
/// function of the sizes, never of the device. Partial sums of the pieces are added in order.
inline int64_t pair_splits(int64_t blocks, int64_t n, int64_t wanted) {
  int64_t splits = 1;
  while (blocks * splits < wanted && splits * 2 * 128 <= n) splits *= 2;
  return splits;
}
/// Senders of a piece, a multiple of the tile.
inline int64_t split_size(int64_t n, int64_t splits, int64_t tile) {
  const int64_t tiles = (n + tile - 1) / tile;
  return (tiles + splits - 1) / splits * tile;
}

/// The laws that have instances on a device; others take the general power.
template <class Body>
void dispatch_device_law(const CouplingLaw& law, Body&& body) {
  if (law.kind == CouplingLaw::gaussian) return body(Gaussian<float>(law));
  const bool decays = 1 / law.decay > 0, none = law.power == 0 || 1 / law.length == 0;
  if (none && decays) return body(ScreenedPower<float, 0, true>(law));
  if (none) return body(ScreenedPower<float, 0, false>(law));
  if (law.power == 3 && decays) return body(ScreenedPower<float, 3, true>(law));
  if (law.power == 3) return body(ScreenedPower<float, 3, false>(law));
  if (decays) return body(ScreenedPower<float, general_power, true>(law));
  return body(ScreenedPower<float, general_power, false>(law));
}

template <class Law>
__device__ __forceinline__ float weight(const Law& law, const Position& p, const Position& q, bool same) {
  float slope;
  const float kappa = law.template value<false>(squared_distance(p, q), slope);
  return same ? 0.0f : kappa;
}

/// One sum of a block that has 128 receivers of piece blockIdx.y: the result itself, or a part of it where y is null.
template <class T>
__device__ __forceinline__ void put_sum(float* parts, T* y, int64_t batch, int64_t n, int64_t b, int64_t i, float sum) {
  if (y)
    y[b * n + i] = from_float<T>(sum);
  else
    parts[(int64_t{blockIdx.y} * batch + b) * n + i] = sum;
}

/// Blocks of 128 receivers, pieces, and blocks of rows.
inline dim3 block_grid(const PairDims& d, int64_t splits, int64_t rows) {
  return {grid_of((d.n + 127) / 128), static_cast<unsigned>(splits),
          static_cast<unsigned>((d.batch + rows - 1) / rows)};
}

/// Adds partial sums (splits, size) in order and stores them as T.
template <class T>
void pair_finish(int64_t size, int64_t splits, const float* parts, T* y, CudaStream stream);

/// How many rows a block of a kernel takes at once, and how many of its blocks keep a large device busy.
struct RowBlocks {
  int64_t rows, wanted;
};
constexpr RowBlocks tile_blocks{64, 256};   // f32, and 16-bit values of up to 64 rows: two or three blocks at a time
constexpr RowBlocks panel_blocks{256, 96};  // 16-bit values of more rows: one block a multiprocessor

/// The product of many rows: f32 values on the ordinary units, 16-bit ones on tensor cores, where weights are made once
/// for 64 rows (`tensor`) or, by all threads of a block together, for 256 (`panel`). Sums go to `parts` (splits, batch,
/// n) in f32, or, of one piece, to `y`.
void pair_apply_tiles(const PairDims& dims, int64_t splits, const float* x, const float* positions, float* parts,
                      CudaStream stream);
template <class T>
void pair_apply_tensor(const PairDims& dims, int64_t splits, const T* x, const float* positions, float* parts, T* y,
                       CudaStream stream);
template <class T>
void pair_apply_panel(const PairDims& dims, int64_t splits, const T* x, const float* positions, float* parts, T* y,
                      CudaStream stream);

}  // namespace ranvier::kernels::cuda
