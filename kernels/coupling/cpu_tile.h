// Tiles of pair weights for the CPU: 32 receivers side by side, so that a tile is the packed panel of a matrix product.
#pragma once
#include <algorithm>

#include "kernels/common/parallel.h"
#include "kernels/coupling/coupling.h"
#include "kernels/matmul/micro_kernel.h"

namespace ranvier::kernels::cpu {

constexpr int64_t tile_rows = 256;  // senders of a tile: 32 KB of f32, and the depth of one sum
constexpr int64_t most_slots = 64;  // threads that work at once; more would only wait for memory

/// Positions as (axis, n), so that lanes load neighbours: turned once a call.
template <class T>
void turn_positions(const PairDims& d, const T* positions, T* turned) {
  for (int64_t a = 0; a < d.axes; ++a)
    for (int64_t i = 0; i < d.n; ++i) turned[a * d.n + i] = positions[i * d.axes + a];
}

/// tile[j * stride + i] = kappa(first_i + i, first_j + j), 0 on the diagonal and in the columns from `columns` to
/// `stride`; with `slopes`, that times f instead.
template <bool slopes, class T, class Law>
void fill_tile(const Law& law, const PairDims& d, const T* turned, int64_t first_i, int64_t columns, int64_t stride,
               int64_t first_j, int64_t rows, T* tile) {
  const T* axis[3];
  for (int64_t a = 0; a < 3; ++a) axis[a] = turned + std::min(a, d.axes - 1) * d.n;
  for (int64_t j = 0; j < rows; ++j) {
    T* to = tile + j * stride;
    T p[3];
    for (int a = 0; a < 3; ++a) p[a] = axis[a][first_j + j];
    const auto row = [&]<int axes>() {
#pragma omp simd
      for (int64_t i = 0; i < columns; ++i) {
        T t = 0;
        for (int a = 0; a < axes; ++a) {
          const T difference = axis[a][first_i + i] - p[a];
          t = fused(difference, difference, t);
        }
        T slope = 0;
        const T kappa = law.template value<slopes>(t, slope);
        to[i] = slopes ? kappa * slope : kappa;
      }
    };
    if (d.axes == 1)
      row.template operator()<1>();
    else if (d.axes == 2)
      row.template operator()<2>();
    else
      row.template operator()<3>();
    for (int64_t i = columns; i < stride; ++i) to[i] = 0;
    const int64_t diagonal = first_j + j - first_i;
    if (diagonal >= 0 && diagonal < columns) to[diagonal] = 0;
  }
}

}  // namespace ranvier::kernels::cpu
