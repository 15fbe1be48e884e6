// Weighted sums of squared products of pairs, and their gradients: per tile one product of the values, the law, and for
// the gradient with respect to values a second product.
#include "kernels/coupling/cpu_tile.h"

namespace ranvier::kernels::cpu {
namespace {

constexpr int64_t strip_columns = 512;  // receivers of a shard
constexpr int64_t value_block = 256;    // rows of values that are packed at a time

template <class T>
struct Slot {
  T *product, *weights, *receivers, *packed;  // tiles (256, 32) twice; rows of values of the receivers and the senders
  static int64_t size(const PairDims& d) {
    const int64_t rows = std::min(d.batch, value_block);
    return 2 * tile_rows * panel_width<T> + rows * (panel_width<T> + tile_rows);
  }
  Slot(const PairDims& d, T* memory) {
    product = memory, weights = product + tile_rows * panel_width<T>;
    receivers = weights + tile_rows * panel_width<T>;
    packed = receivers + std::min(d.batch, value_block) * panel_width<T>;
  }
};

/// Receivers i.. against senders j.. .
struct Place {
  int64_t i, columns, stride, j, rows;
};

template <class T>
void pack(const PairDims& d, const T* x, int64_t first, int64_t rows, const Place& at, T* packed) {
  for (int64_t b = 0; b < rows; ++b) std::copy_n(x + (first + b) * d.n + at.j, at.rows, packed + b * tile_rows);
}

/// product[j, i] = S_ij.
template <class T>
void multiply_values(const PairDims& d, const T* x, const Place& at, const Slot<T>& slot) {
  for (int64_t first = 0; first < d.batch; first += value_block) {
    const int64_t rows = std::min(value_block, d.batch - first);
    pack(d, x, first, rows, at, slot.packed);
    for (int64_t b = 0; b < rows; ++b) {
      T* to = slot.receivers + b * at.stride;
      std::copy_n(x + (first + b) * d.n + at.i, at.columns, to);
      std::fill(to + at.columns, to + at.stride, T(0));
    }
    multiply_panel<T, true>(at.rows, {slot.packed, tile_rows, 1, rows, 0}, slot.receivers, slot.product, at.stride,
                            at.stride, first > 0);
  }
}

/// Calls body(place, law's tile of weights or of weights times slopes, product) for every tile of the receivers of a
/// strip, then done(first receiver, receivers).
template <bool slopes, class T, class Law, class Start, class Body, class Done>
void for_each_tile(const Law& law, const PairDims& d, const T* x, const T* turned, int64_t shard, const Slot<T>& slot,
                   Start&& start, Body&& body, Done&& done) {
  const int64_t first = shard * strip_columns, last = std::min(first + strip_columns, d.n);
  for (int64_t i = first; i < last; i += panel_width<T>) {
    Place at{i, std::min(panel_width<T>, last - i), panel_columns<T>(last, i), 0, 0};
    start();
    for (at.j = 0; at.j < d.n; at.j += tile_rows) {
      at.rows = std::min(tile_rows, d.n - at.j);
      multiply_values(d, x, at, slot);
      fill_tile<slopes>(law, d, turned, i, at.columns, at.stride, at.j, at.rows, slot.weights);
      body(at);
    }
    done(at);
  }
}

template <class T, class Law>
void squares_strip(const Law& law, const PairDims& d, const T* x, const T* w, const T* turned, int64_t shard, T* q,
                   const Slot<T>& slot) {
  double sums[panel_width<T>];
  for_each_tile<false>(
      law, d, x, turned, shard, slot, [&] { std::fill(std::begin(sums), std::end(sums), 0.0); },
      [&](const Place& at) {
        T block[panel_width<T>] = {};
        for (int64_t r = 0; r < at.rows; ++r) {
          const T *k = slot.weights + r * at.stride, *s = slot.product + r * at.stride;
#pragma omp simd
          for (int64_t c = 0; c < at.columns; ++c) block[c] = fused(k[c] * w[at.j + r], s[c] * s[c], block[c]);
        }
        for (int64_t c = 0; c < at.columns; ++c) sums[c] += static_cast<double>(block[c]);
      },
      [&](const Place& at) {
        for (int64_t c = 0; c < at.columns; ++c) q[at.i + c] = static_cast<T>(sums[c]);
      });
}

template <class T, class Law>
void values_strip(const Law& law, const PairDims& d, const T* v, const T* x, const T* w, const T* turned, int64_t shard,
                  T* dx, const Slot<T>& slot) {
  for_each_tile<false>(
      law, d, x, turned, shard, slot, [] {},
      [&](const Place& at) {
        for (int64_t r = 0; r < at.rows; ++r) {
          const T vj = 2 * v[at.j + r], wj = 2 * w[at.j + r];
          T *k = slot.weights + r * at.stride, *s = slot.product + r * at.stride;
#pragma omp simd
          for (int64_t c = 0; c < at.columns; ++c) s[c] *= fused(v[at.i + c], wj, vj * w[at.i + c]) * k[c];
        }
        for (int64_t first = 0; first < d.batch; first += value_block) {
          const int64_t rows = std::min(value_block, d.batch - first);
          if (d.batch > value_block) pack(d, x, first, rows, at, slot.packed);  // else they lie there
          multiply_panel<T, false>(rows, {slot.packed, tile_rows, 1, at.rows, 0}, slot.product, dx + first * d.n + at.i,
                                   d.n, at.columns, at.j > 0);
        }
      },
      [](const Place&) {});
}

template <class T, class Law>
void positions_strip(const Law& law, const PairDims& d, const T* v, const T* x, const T* w, const T* turned,
                     int64_t shard, T* dp, const Slot<T>& slot) {
  double sums[3][panel_width<T>];
  for_each_tile<true>(
      law, d, x, turned, shard, slot, [&] { std::fill_n(&sums[0][0], 3 * panel_width<T>, 0.0); },
      [&](const Place& at) {
        for (int64_t a = 0; a < d.axes; ++a) {
          T block[panel_width<T>] = {};
          const T* axis = turned + a * d.n;
          for (int64_t r = 0; r < at.rows; ++r) {
            const T p = axis[at.j + r], vj = v[at.j + r], wj = w[at.j + r];
            const T *k = slot.weights + r * at.stride, *s = slot.product + r * at.stride;
#pragma omp simd
            for (int64_t c = 0; c < at.columns; ++c)
              block[c] =
                  fused(fused(v[at.i + c], wj, vj * w[at.i + c]) * k[c] * (s[c] * s[c]), axis[at.i + c] - p, block[c]);
          }
          for (int64_t c = 0; c < at.columns; ++c) sums[a][c] += static_cast<double>(block[c]);
        }
      },
      [&](const Place& at) {
        for (int64_t c = 0; c < at.columns; ++c)
          for (int64_t a = 0; a < d.axes; ++a) dp[(at.i + c) * d.axes + a] = static_cast<T>(sums[a][c]);
      });
}

int64_t shards_of(const PairDims& d) { return (d.n + strip_columns - 1) / strip_columns; }

/// Calls strip(law, turned positions, shard, slot) for every shard.
template <class T, class Strip>
void for_each_strip(const PairDims& d, const T* positions, void* workspace, Strip&& strip) {
  Carver carver(workspace);
  T* turned = carver.take<T>(d.axes * d.n);
  turn_positions(d, positions, turned);
  const int64_t shards = shards_of(d), slots = std::min(shards, most_slots), size = Slot<T>::size(d);
  T* memory = carver.take<T>(slots * size);
  dispatch_law<T>(d.law, [&](const auto& law) {
    parallel_for_slots(shards, slots, [&](int64_t shard, int64_t slot) {
      strip(law, turned, shard, Slot<T>(d, memory + slot * size));
    });
  });
}

}  // namespace

template <class T>
size_t pair_squares_workspace(const PairDims& d) {
  return Carver::line + Carver::bytes<T>(d.axes * d.n) +
         Carver::bytes<T>(std::min(shards_of(d), most_slots) * Slot<T>::size(d));
}

template <class T>
void pair_squares(const PairDims& d, const T* x, const T* w, const T* positions, T* q, void* workspace) {
  if (d.batch == 0) return void(std::fill_n(q, d.n, T(0)));
  for_each_strip<T>(d, positions, workspace, [&](const auto& law, const T* turned, int64_t shard, const Slot<T>& slot) {
    squares_strip(law, d, x, w, turned, shard, q, slot);
  });
}

template <class T>
void pair_squares_values(const PairDims& d, const T* v, const T* x, const T* w, const T* positions, T* dx,
                         void* workspace) {
  if (d.batch == 0) return;
  for_each_strip<T>(d, positions, workspace, [&](const auto& law, const T* turned, int64_t shard, const Slot<T>& slot) {
    values_strip(law, d, v, x, w, turned, shard, dx, slot);
  });
}

template <class T>
void pair_squares_positions(const PairDims& d, const T* v, const T* x, const T* w, const T* positions, T* dp,
                            void* workspace) {
  if (d.batch == 0) return void(std::fill_n(dp, d.n * d.axes, T(0)));
  for_each_strip<T>(d, positions, workspace, [&](const auto& law, const T* turned, int64_t shard, const Slot<T>& slot) {
    positions_strip(law, d, v, x, w, turned, shard, dp, slot);
  });
}

#define RANVIER_INSTANCE(T)                                                                                 \
  template size_t pair_squares_workspace<T>(const PairDims&);                                               \
  template void pair_squares<T>(const PairDims&, const T*, const T*, const T*, T*, void*);                  \
  template void pair_squares_values<T>(const PairDims&, const T*, const T*, const T*, const T*, T*, void*); \
  template void pair_squares_positions<T>(const PairDims&, const T*, const T*, const T*, const T*, T*, void*);
RANVIER_INSTANCE(float)
RANVIER_INSTANCE(double)
#undef RANVIER_INSTANCE

}  // namespace ranvier::kernels::cpu
