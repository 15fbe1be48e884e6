// The gradient with respect to positions: per tile one product of the values, then the law's slope.
#include "kernels/coupling/cpu_tile.h"

namespace ranvier::kernels::cpu {
namespace {

constexpr int64_t strip_columns = 512;
constexpr int64_t depth_block = 256;  // rows of values that are multiplied at a time

template <class T>
struct Slot {
  T *product, *weights, *senders, *receivers, *block;  // tiles (256, 32) twice, packed values, sums of a tile
  double* sums;                                        // (strip, axes)
  static int64_t depth(const PairDims& d) { return std::min(2 * d.batch, depth_block); }
  static int64_t size(const PairDims& d) {
    return 2 * tile_rows * panel_width<T> + depth(d) * (tile_rows + strip_columns) + 3 * panel_width<T> +
           3 * strip_columns * static_cast<int64_t>(sizeof(double) / sizeof(T));
  }
  Slot(const PairDims& d, T* memory) {
    product = memory, weights = product + tile_rows * panel_width<T>;
    sums = reinterpret_cast<double*>(weights + tile_rows * panel_width<T>);
    senders = reinterpret_cast<T*>(sums + 3 * strip_columns), receivers = senders + depth(d) * tile_rows;
    block = receivers + depth(d) * strip_columns;
  }
};

/// Row k of the 2 batch rows [first; second].
template <class T>
const T* stacked(const PairDims& d, const T* first, const T* second, int64_t k) {
  return k < d.batch ? first + k * d.n : second + (k - d.batch) * d.n;
}

/// Columns of a shard's receivers, and the first of a panel of them.
struct Strip {
  int64_t first, last;
  template <class T>
  int64_t stride(int64_t i) const {
    return panel_columns<T>(last, i);
  }
};

/// Rows k.. of [g; x] of a strip's receivers, panel by panel.
template <class T>
void pack_receivers(const PairDims& d, const T* g, const T* x, const Strip& strip, int64_t k, int64_t depth,
                    const Slot<T>& slot) {
  for (int64_t i = strip.first; i < strip.last; i += panel_width<T>) {
    const int64_t columns = std::min(panel_width<T>, strip.last - i), stride = strip.stride<T>(i);
    T* panel = slot.receivers + (i - strip.first) * Slot<T>::depth(d);
    for (int64_t b = 0; b < depth; ++b) {
      std::copy_n(stacked(d, g, x, k + b) + i, columns, panel + b * stride);
      std::fill(panel + b * stride + columns, panel + (b + 1) * stride, T(0));
    }
  }
}
template <class T>
void pack_senders(const PairDims& d, const T* g, const T* x, int64_t j, int64_t rows, int64_t k, int64_t depth,
                  const Slot<T>& slot) {
  for (int64_t b = 0; b < depth; ++b) std::copy_n(stacked(d, x, g, k + b) + j, rows, slot.senders + b * tile_rows);
}

/// product[j, i] = S_ij + S_ji for a tile: [x; g]^T [g; x]. Values of at most `depth_block` rows are packed already.
template <class T>
void multiply_values(const PairDims& d, const T* g, const T* x, const Strip& strip, int64_t i, int64_t j, int64_t rows,
                     const Slot<T>& slot) {
  const int64_t stride = strip.stride<T>(i);
  for (int64_t k = 0; k < 2 * d.batch; k += depth_block) {
    const int64_t depth = std::min(depth_block, 2 * d.batch - k);
    if (2 * d.batch > depth_block) {
      pack_senders(d, g, x, j, rows, k, depth, slot);
      pack_receivers(d, g, x, {i, std::min(i + panel_width<T>, strip.last)}, k, depth, slot);
    }
    const T* panel = slot.receivers + (2 * d.batch > depth_block ? 0 : (i - strip.first) * depth);
    multiply_panel<T, true>(rows, {slot.senders, tile_rows, 1, depth, 0}, panel, slot.product, stride, stride, k > 0);
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
  const Strip strip{shard * strip_columns, std::min((shard + 1) * strip_columns, d.n)};
  const bool packed = 2 * d.batch <= depth_block;  // once a strip and once a row of tiles
  if (packed) pack_receivers(d, g, x, strip, 0, 2 * d.batch, slot);
  std::fill_n(slot.sums, d.axes * strip_columns, 0.0);
  for (int64_t j = 0; j < d.n; j += tile_rows) {
    const int64_t rows = std::min(tile_rows, d.n - j);
    if (packed) pack_senders(d, g, x, j, rows, 0, 2 * d.batch, slot);
    for (int64_t i = strip.first; i < strip.last; i += panel_width<T>) {
      const int64_t columns = std::min(panel_width<T>, strip.last - i), stride = strip.stride<T>(i);
      multiply_values(d, g, x, strip, i, j, rows, slot);
      fill_tile<true>(law, d, turned, i, columns, stride, j, rows, slot.weights);
      add_tile(d, turned, i, columns, stride, j, rows, slot, slot.sums + (i - strip.first) * d.axes);
    }
  }
  for (int64_t c = 0; c < (strip.last - strip.first) * d.axes; ++c)
    dp[strip.first * d.axes + c] = static_cast<T>(slot.sums[c]);
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
