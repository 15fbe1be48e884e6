// The gradient with respect to positions: per tile one product of the values, then the law's slope.
#include "kernels/coupling/cpu_tile.h"

namespace ranvier::kernels::cpu {
namespace {

constexpr int64_t strip_columns = 512;
constexpr int64_t depth_block = 256;  // rows of values that are multiplied at a time

template <class T>
struct Slot {
  T *product, *weights, *senders, *receivers, *block;  // tiles (256, 32) twice, packed values, sums of a tile
  static int64_t size(const PairDims& d) {
    const int64_t depth = std::min(2 * d.batch, depth_block);
    return 2 * tile_rows * panel_width<T> + depth * (tile_rows + panel_width<T>)+3 * panel_width<T>;
  }
  Slot(const PairDims& d, T* memory) {
    const int64_t depth = std::min(2 * d.batch, depth_block);
    product = memory, weights = product + tile_rows * panel_width<T>;
    senders = weights + tile_rows * panel_width<T>, receivers = senders + depth * tile_rows;
    block = receivers + depth * panel_width<T>;
  }
};

/// Row k of the 2 batch rows [first; second].
template <class T>
const T* stacked(const PairDims& d, const T* first, const T* second, int64_t k) {
  return k < d.batch ? first + k * d.n : second + (k - d.batch) * d.n;
}

/// product[j, i] = S_ij + S_ji for a tile: [x; g]^T [g; x].
template <class T>
void multiply_values(const PairDims& d, const T* g, const T* x, int64_t i, int64_t columns, int64_t stride, int64_t j,
                     int64_t rows, const Slot<T>& slot) {
  for (int64_t k = 0; k < 2 * d.batch; k += depth_block) {
    const int64_t depth = std::min(depth_block, 2 * d.batch - k);
    for (int64_t b = 0; b < depth; ++b) {
      std::copy_n(stacked(d, x, g, k + b) + j, rows, slot.senders + b * tile_rows);
      std::copy_n(stacked(d, g, x, k + b) + i, columns, slot.receivers + b * stride);
      std::fill(slot.receivers + b * stride + columns, slot.receivers + (b + 1) * stride, T(0));
    }
    multiply_panel<T, true>(rows, {slot.senders, tile_rows, 1, depth, 0}, slot.receivers, slot.product, stride, stride,
                            k > 0);
  }
}

/// Adds a tile's sums of W (p_i - p_j) to dp, in f64 across tiles.
template <class T>
void add_tile(const PairDims& d, const T* turned, int64_t i, int64_t columns, int64_t stride, int64_t j, int64_t rows,
              const Slot<T>& slot, double* sums) {
  for (int64_t a = 0; a < d.axes; ++a) {
    T* block = slot.block + a * panel_width<T>;
    std::fill_n(block, columns, T(0));
    const T* axis = turned + a * d.n;
    for (int64_t r = 0; r < rows; ++r) {
      const T p = axis[j + r];
      const T *weights = slot.weights + r * stride, *product = slot.product + r * stride;
#pragma omp simd
      for (int64_t c = 0; c < columns; ++c) block[c] = fused(weights[c] * product[c], axis[i + c] - p, block[c]);
    }
    for (int64_t c = 0; c < columns; ++c) sums[c * d.axes + a] += static_cast<double>(block[c]);
  }
}

/// -infinity of coincident units without softening times a difference of 0 would be NaN: it stays, and says so.
template <class T, class Law>
void positions_strip(const Law& law, const PairDims& d, const T* g, const T* x, const T* turned, int64_t shard, T* dp,
                     const Slot<T>& slot) {
  const int64_t first = shard * strip_columns, last = std::min(first + strip_columns, d.n);
  for (int64_t i = first; i < last; i += panel_width<T>) {
    const int64_t columns = std::min(panel_width<T>, last - i), stride = panel_columns<T>(last, i);
    double sums[3 * panel_width<T>] = {};
    for (int64_t j = 0; j < d.n; j += tile_rows) {
      const int64_t rows = std::min(tile_rows, d.n - j);
      multiply_values(d, g, x, i, columns, stride, j, rows, slot);
      fill_tile<true>(law, d, turned, i, columns, stride, j, rows, slot.weights);
      add_tile(d, turned, i, columns, stride, j, rows, slot, sums);
    }
    for (int64_t c = 0; c < columns * d.axes; ++c) dp[i * d.axes + c] = static_cast<T>(sums[c]);
  }
}

int64_t shards_of(const PairDims& d) { return (d.n + strip_columns - 1) / strip_columns; }

}  // namespace

template <class T>
size_t pair_positions_workspace(const PairDims& d) {
  return Carver::line + Carver::bytes<T>(d.axes * d.n) +
         Carver::bytes<T>(std::min(shards_of(d), most_slots) * Slot<T>::size(d));
}

template <class T>
void pair_positions(const PairDims& d, const T* g, const T* x, const T* positions, T* dp, void* workspace) {
  if (d.n == 0) return;
  if (d.batch == 0) {
    std::fill_n(dp, d.n * d.axes, T(0));
    return;
  }
  Carver carver(workspace);
  T* turned = carver.take<T>(d.axes * d.n);
  turn_positions(d, positions, turned);
  const int64_t shards = shards_of(d), slots = std::min(shards, most_slots);
  T* memory = carver.take<T>(slots * Slot<T>::size(d));
  dispatch_law<T>(d.law, [&](const auto& law) {
    parallel_for_slots(shards, slots, [&](int64_t shard, int64_t slot) {
      positions_strip(law, d, g, x, turned, shard, dp, Slot<T>(d, memory + slot * Slot<T>::size(d)));
    });
  });
}

#define RANVIER_INSTANCE(T)                                     \
  template size_t pair_positions_workspace<T>(const PairDims&); \
  template void pair_positions<T>(const PairDims&, const T*, const T*, const T*, T*, void*);
RANVIER_INSTANCE(float)
RANVIER_INSTANCE(double)
#undef RANVIER_INSTANCE

}  // namespace ranvier::kernels::cpu
