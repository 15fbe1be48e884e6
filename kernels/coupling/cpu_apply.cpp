// Weighted sums over all pairs: tiles of weights in the first-level cache, each used as the panel of a product.
#include "kernels/coupling/cpu_tile.h"

namespace ranvier::kernels::cpu {
namespace {

constexpr int64_t strip_columns = 512, strip_batch = 256;  // what one shard computes
constexpr int64_t few = 4;                                 // rows up to which symmetry pays
constexpr int64_t square_tile = 256;                       // receivers and senders of a symmetric tile
constexpr int64_t area_shards = 16;

// ---- many rows: y (batch, receivers) += x (batch, senders) tile (senders, receivers) ----

int64_t shards_of(const PairDims& d) {
  const auto strips = [](int64_t size, int64_t strip) { return (size + strip - 1) / strip; };
  return strips(d.batch, strip_batch) * strips(d.n, strip_columns);
}

template <class T>
int64_t slot_size(const PairDims& d) {
  return tile_rows * (panel_width<T> + std::min(d.batch, strip_batch));
}

template <class T, class Law>
void apply_strip(const Law& law, const PairDims& d, const T* x, const T* turned, int64_t shard, T* y, T* tile) {
  const int64_t strips = (d.n + strip_columns - 1) / strip_columns;
  const int64_t first_row = shard / strips * strip_batch, rows = std::min(strip_batch, d.batch - first_row);
  const int64_t first = shard % strips * strip_columns, last = std::min(first + strip_columns, d.n);
  T* packed = tile + tile_rows * panel_width<T>;
  for (int64_t j = 0; j < d.n; j += tile_rows) {
    const int64_t depth = std::min(tile_rows, d.n - j);
    for (int64_t b = 0; b < rows; ++b) std::copy_n(x + (first_row + b) * d.n + j, depth, packed + b * tile_rows);
    for (int64_t i = first; i < last; i += panel_width<T>) {
      const int64_t columns = std::min(panel_width<T>, last - i), stride = panel_columns<T>(last, i);
      fill_tile<false>(law, d, turned, i, columns, stride, j, depth, tile);
      multiply_panel<T, false>(rows, {packed, tile_rows, 1, depth, 0}, tile, y + first_row * d.n + i, d.n, columns,
                               j > 0);
    }
  }
}

// ---- few rows: each weight is made once and used for both of its pairs ----

/// First row of tiles of a shard, so that all shards have about the same number of tiles of the upper triangle.
int64_t first_tile_row(int64_t tiles, int64_t shard) {
  const int64_t total = tiles * (tiles + 1) / 2, wanted = shard_begin(total, area_shards, shard);
  int64_t row = 0, done = 0;
  while (row < tiles && done < wanted) done += tiles - row++;
  return row;
}

template <class T>
void use_tile(const PairDims& d, const T* x, const T* tile, int64_t i0, int64_t columns, int64_t j0, int64_t rows,
              bool both, T* y) {
  for (int64_t b = 0; b < d.batch; ++b) {
    const T *xi = x + b * d.n + i0, *xj = x + b * d.n + j0;
    T *yi = y + b * d.n + i0, *yj = y + b * d.n + j0;
    for (int64_t j = 0; j < rows; ++j) {
      const T* k = tile + j * square_tile;
      const T factor = xj[j];
      T sum = 0;
#pragma omp simd reduction(+ : sum)
      for (int64_t i = 0; i < columns; ++i) {
        yi[i] = fused(k[i], factor, yi[i]);
        sum = fused(k[i], xi[i], sum);
      }
      if (both) yj[j] += sum;
    }
  }
}

template <class T, class Law>
void apply_symmetric(const Law& law, const PairDims& d, const T* x, const T* turned, int64_t shard, T* y, T* tile) {
  const int64_t tiles = (d.n + square_tile - 1) / square_tile;
  std::fill_n(y, d.batch * d.n, T(0));
  const int64_t end = first_tile_row(tiles, shard + 1);
  for (int64_t r = first_tile_row(tiles, shard); r < end; ++r) {
    const int64_t i0 = r * square_tile, columns = std::min(square_tile, d.n - i0);
    for (int64_t c = r; c < tiles; ++c) {
      const int64_t j0 = c * square_tile, rows = std::min(square_tile, d.n - j0);
      constexpr int64_t band = 16;  // rows of weights that are used while they are in the first-level cache
      for (int64_t j = 0; j < rows; j += band) {
        const int64_t count = std::min(band, rows - j);
        fill_tile<false>(law, d, turned, i0, columns, square_tile, j0 + j, count, tile);
        use_tile(d, x, tile, i0, columns, j0 + j, count, c > r, y);
      }
    }
  }
}

template <class T>
void sum_shards(const PairDims& d, const T* parts, T* y) {
  const int64_t size = d.batch * d.n, pieces = shard_count(size, 4096);
  parallel_for(pieces, [&](int64_t piece) {
    const int64_t first = shard_begin(size, pieces, piece), last = shard_begin(size, pieces, piece + 1);
    for (int64_t k = first; k < last; ++k) y[k] = parts[k];
    for (int64_t shard = 1; shard < area_shards; ++shard)
      for (int64_t k = first; k < last; ++k) y[k] += parts[shard * size + k];
  });
}

bool symmetric(const PairDims& d) { return d.batch <= few && d.n > 2 * square_tile; }

}  // namespace

template <class T>
size_t pair_apply_workspace(const PairDims& d) {
  size_t bytes = Carver::line + Carver::bytes<T>(d.axes * d.n);
  if (symmetric(d))
    return bytes + Carver::bytes<T>(area_shards * (d.batch * d.n)) + Carver::bytes<T>(area_shards * 16 * square_tile);
  return bytes + Carver::bytes<T>(std::min(shards_of(d), most_slots) * slot_size<T>(d));
}

template <class T>
void pair_apply(const PairDims& d, const T* x, const T* positions, T* y, void* workspace) {
  if (d.batch == 0 || d.n == 0) return;
  Carver carver(workspace);
  T* turned = carver.take<T>(d.axes * d.n);
  turn_positions(d, positions, turned);
  if (symmetric(d)) {
    T* parts = carver.take<T>(area_shards * d.batch * d.n);
    T* tiles = carver.take<T>(area_shards * 16 * square_tile);
    dispatch_law<T>(d.law, [&](const auto& law) {
      parallel_for_slots(area_shards, area_shards, [&](int64_t shard, int64_t slot) {
        apply_symmetric(law, d, x, turned, shard, parts + shard * d.batch * d.n, tiles + slot * 16 * square_tile);
      });
    });
    return sum_shards(d, parts, y);
  }
  const int64_t shards = shards_of(d), slots = std::min(shards, most_slots);
  T* memory = carver.take<T>(slots * slot_size<T>(d));
  dispatch_law<T>(d.law, [&](const auto& law) {
    parallel_for_slots(shards, slots, [&](int64_t shard, int64_t slot) {
      apply_strip(law, d, x, turned, shard, y, memory + slot * slot_size<T>(d));
    });
  });
}

template <class T>
void pair_matrix(const PairDims& d, const T* positions, T* kappa) {
  // (n, axes) is read with a stride: the matrix is for layers of few units, where nothing here takes time.
  dispatch_law<T>(d.law, [&](const auto& law) {
    parallel_for(shard_count(d.n * d.n, 16384), [&](int64_t shard) {
      const int64_t shards = shard_count(d.n * d.n, 16384);
      for (int64_t i = shard_begin(d.n, shards, shard); i < shard_begin(d.n, shards, shard + 1); ++i) {
        for (int64_t j = 0; j < d.n; ++j) {
          T t = 0, slope = 0;
          for (int64_t a = 0; a < d.axes; ++a) {
            const T difference = positions[i * d.axes + a] - positions[j * d.axes + a];
            t = fused(difference, difference, t);
          }
          kappa[i * d.n + j] = law.template value<false>(t, slope);
        }
        kappa[i * d.n + i] = 0;
      }
    });
  });
}

#define RANVIER_INSTANCE(T)                                                    \
  template size_t pair_apply_workspace<T>(const PairDims&);                    \
  template void pair_apply<T>(const PairDims&, const T*, const T*, T*, void*); \
  template void pair_matrix<T>(const PairDims&, const T*, T*);
RANVIER_INSTANCE(float)
RANVIER_INSTANCE(double)
#undef RANVIER_INSTANCE

}  // namespace ranvier::kernels::cpu
