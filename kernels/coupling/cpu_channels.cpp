// Penalties of coupled channels and their gradients, made block by block of rows in the nearest caches.
#include <cmath>

#include "kernels/common/math.h"
#include "kernels/common/parallel.h"
#include "kernels/coupling/channels.h"
#include "kernels/matmul/micro_kernel.h"

namespace ranvier::kernels::cpu {
namespace {

constexpr int64_t block_rows = 2 * micro_rows;  // rows whose deviations are multiplied at a time
constexpr int64_t moment_rows = 128;            // rows of a block of second moments: two panels of them fit L1
constexpr int64_t sum_rows = 64;                // rows added up in T; from there on in f64

/// What the passes over x share. Sums and blocks of a shard of rows lie by shard; sums are added in that order.
template <class T>
struct Passes {
  int64_t rows, n;
  ChannelPenalty penalty;
  const T *x, *k;
  T* slope;

  int64_t width = padded_columns<T>(n);
  int64_t shards = shard_count(rows, 128, 32);
  /// Each has a matrix of its own: few where that is large.
  int64_t moment_shards = shard_count(rows, 512, std::clamp<int64_t>((int64_t{1} << 21) / (n * n), 2, 16));
  double *sums = nullptr, *mean = nullptr, *other = nullptr;  // (shards, 2, n); per channel
  T *centre = nullptr, *rest = nullptr, *scale = nullptr;     // the mean in two parts; 1 / sqrt(variance + eps)
  T *matrix = nullptr, *panels = nullptr;                     // (n, n), as it is and packed
  T *blocks = nullptr, *moments = nullptr;                    // by shard: standardised rows; (n, n)

  bool squared_products() const { return penalty.kind == ChannelPenalty::squared_products; }
  int64_t block_size() const { return width * (squared_products() ? moment_rows : 2 * block_rows + 2); }
  T* block_of(int64_t shard) const { return blocks + shard * block_size(); }
  double* sums_of(int64_t shard) const { return sums + shard * 2 * n; }
  T deviation(const T* row, int64_t c) const { return (row[c] - centre[c]) - rest[c]; }

  template <class Carve>
  void carve(Carve&& take) {
    take(sums, shards * 2 * n), take(mean, n), take(other, n);
    take(centre, n), take(rest, n), take(scale, n);
    take(matrix, n * n), take(panels, n * width), take(blocks, std::max(shards, moment_shards) * block_size());
    if (squared_products()) take(moments, moment_shards * n * n);
  }
  /// Calls body(first row, rows) for blocks of `size` rows of a shard.
  template <class Body>
  void for_blocks(int64_t shard, int64_t of, int64_t size, Body&& body) const {
    const int64_t end = shard_begin(rows, of, shard + 1);
    for (int64_t row = shard_begin(rows, of, shard); row < end; row += size) body(row, std::min(size, end - row));
  }
};

/// The sums of the shards, which `which` (0 or 1) names, over the rows.
template <class T>
void means_of(const Passes<T>& p, int which, double* mean) {
  std::fill_n(mean, p.n, 0.0);
  for (int64_t shard = 0; shard < p.shards; ++shard)
    for (int64_t c = 0; c < p.n; ++c) mean[c] += p.sums_of(shard)[which * p.n + c];
  for (int64_t c = 0; c < p.n; ++c) mean[c] /= static_cast<double>(p.rows);
}

/// Mean over rows of the deviations from `centre`, or of their squares.
template <bool squares, class T>
void mean_of_deviations(const Passes<T>& p) {
  parallel_for(p.shards, [&](int64_t shard) {
    T* partial = p.block_of(shard);
    double* sums = p.sums_of(shard);
    std::fill_n(sums, p.n, 0.0);
    p.for_blocks(shard, p.shards, sum_rows, [&](int64_t row, int64_t rows) {
      std::fill_n(partial, p.n, T(0));
      for (const T* from = p.x + row * p.n; rows > 0; --rows, from += p.n) {
#pragma omp simd
        for (int64_t c = 0; c < p.n; ++c) {
          const T d = p.deviation(from, c);
          partial[c] += squares ? d * d : d;
        }
      }
      for (int64_t c = 0; c < p.n; ++c) sums[c] += static_cast<double>(partial[c]);
    });
  });
  means_of(p, 0, p.mean);
}

/// Deviations are from the first row, then from the mean in two parts: no digits are lost where the mean is large.
template <class T>
void standardise(const Passes<T>& p) {
  std::copy_n(p.x, p.n, p.centre);
  std::fill_n(p.rest, p.n, T(0));
  mean_of_deviations<false>(p);
  for (int64_t c = 0; c < p.n; ++c) {
    const double mean = static_cast<double>(p.centre[c]) + p.mean[c];
    p.centre[c] = static_cast<T>(mean);
    p.rest[c] = static_cast<T>(mean - static_cast<double>(p.centre[c]));
  }
  mean_of_deviations<true>(p);
  for (int64_t c = 0; c < p.n; ++c) p.scale[c] = static_cast<T>(1 / std::sqrt(p.mean[c] + p.penalty.eps));
}

/// z of a block of rows.
template <class T>
void fill_standard(const Passes<T>& p, int64_t first, int64_t rows, T* z) {
  for (int64_t r = 0; r < rows; ++r) {
    const T* from = p.x + (first + r) * p.n;
#pragma omp simd
    for (int64_t c = 0; c < p.n; ++c) z[r * p.n + c] = p.deviation(from, c) * p.scale[c];
  }
}

template <class T>
void pack_matrix(const Passes<T>& p) {
  for (int64_t c = 0; c < p.n; c += panel_width<T>)
    pack_panel(p.matrix, p.n, p.n, c, p.n, int64_t{1}, p.panels + c * p.n);
}

/// out = u (rows, n) times the packed matrix.
template <class T>
void multiply(const Passes<T>& p, int64_t rows, const T* u, T* out) {
  for (int64_t c = 0; c < p.n; c += panel_width<T>)
    multiply_panel<T, false>(rows, {u, p.n, 1, p.n, 0}, p.panels + c * p.n, out + c, p.n,
                             std::min(panel_width<T>, p.n - c), false);
}

/// Element (i, j) of (k + k^T) / 2, which is all of k that a penalty sees.
template <class T>
T even_part(const Passes<T>& p, int64_t i, int64_t j) {
  return T(0.5) * (p.k[i * p.n + j] + p.k[j * p.n + i]);
}

// ---- products, and products of squares: w = u (k + k^T) / 2, where u is z or z^2 ----

/// slope takes w; the sums of shards are those of u w and of z w.
template <bool squares, class T>
void weigh(const Passes<T>& p, int64_t shard) {
  T *z = p.block_of(shard), *u = squares ? z + block_rows * p.width : z, *partial = z + 2 * block_rows * p.width;
  double* sums = p.sums_of(shard);
  std::fill_n(sums, 2 * p.n, 0.0);
  p.for_blocks(shard, p.shards, block_rows, [&](int64_t row, int64_t rows) {
    T* w = p.slope + row * p.n;
    fill_standard(p, row, rows, z);
    if (squares)
      for (int64_t e = 0; e < rows * p.n; ++e) u[e] = z[e] * z[e];
    multiply(p, rows, u, w);
    std::fill_n(partial, 2 * p.n, T(0));
    for (int64_t r = 0; r < rows; ++r) {
#pragma omp simd
      for (int64_t c = 0; c < p.n; ++c) {
        partial[c] = fused(u[r * p.n + c], w[r * p.n + c], partial[c]);
        if (squares) partial[p.n + c] = fused(z[r * p.n + c], w[r * p.n + c], partial[p.n + c]);
      }
    }
    for (int64_t c = 0; c < 2 * p.n; ++c) sums[c] += static_cast<double>(partial[c]);
  });
}

/// slope from w: through the square, the variance (what u w sums to) and the mean (what z w sums to).
template <bool squares, class T>
void finish(const Passes<T>& p, int64_t shard) {
  T *factor = p.block_of(shard), *spread = factor + p.n, *shift = spread + p.n;
  for (int64_t c = 0; c < p.n; ++c) {
    factor[c] = p.scale[c] * static_cast<T>((squares ? 2.0 : 1.0) / static_cast<double>(p.rows));
    spread[c] = static_cast<T>(p.mean[c]), shift[c] = static_cast<T>(p.other[c]);
  }
  const int64_t end = shard_begin(p.rows, p.shards, shard + 1);
  for (int64_t row = shard_begin(p.rows, p.shards, shard); row < end; ++row) {
    const T* from = p.x + row * p.n;
    T* w = p.slope + row * p.n;
#pragma omp simd
    for (int64_t c = 0; c < p.n; ++c) {
      const T z = p.deviation(from, c) * p.scale[c];
      w[c] = factor[c] * (squares ? fused(z, w[c] - spread[c], -shift[c]) : fused(-z, spread[c], w[c]));
    }
  }
}

template <bool squares, class T>
T penalty_by_rows(const Passes<T>& p) {
  for (int64_t i = 0; i < p.n; ++i)
    for (int64_t j = 0; j < p.n; ++j) p.matrix[i * p.n + j] = even_part(p, i, j);
  pack_matrix(p);
  parallel_for(p.shards, [&](int64_t shard) { weigh<squares>(p, shard); });
  means_of(p, 0, p.mean), means_of(p, 1, p.other);
  parallel_for(p.shards, [&](int64_t shard) { finish<squares>(p, shard); });
  double sum = 0;
  for (int64_t c = 0; c < p.n; ++c) sum += p.mean[c];
  return static_cast<T>(0.5 * sum);
}

// ---- squared products: R = z^T z / rows first, of which half is computed ----

/// Panels of z^T z on and above the diagonal, over a shard of the rows.
template <class T>
void add_moments(const Passes<T>& p, int64_t shard) {
  T *z = p.block_of(shard), *to = p.moments + shard * p.n * p.n;
  bool more = false;
  p.for_blocks(shard, p.moment_shards, moment_rows, [&](int64_t row, int64_t rows) {
    for (int64_t first = 0; first < p.n; first += panel_width<T>) {
      const int64_t columns = std::min(panel_width<T>, p.n - first), stride = panel_columns<T>(p.n, first);
      T* panel = z + first * moment_rows;
      for (int64_t r = 0; r < rows; ++r) {
        const T* from = p.x + (row + r) * p.n + first;
#pragma omp simd
        for (int64_t c = 0; c < columns; ++c)
          panel[r * stride + c] = ((from[c] - p.centre[first + c]) - p.rest[first + c]) * p.scale[first + c];
        std::fill(panel + r * stride + columns, panel + (r + 1) * stride, T(0));
      }
      for (int64_t left = 0; left <= first; left += panel_width<T>)
        multiply_panel<T, true>(std::min(panel_width<T>, p.n - left),
                                {z + left * moment_rows, panel_columns<T>(p.n, left), 1, rows, 0}, panel,
                                to + left * p.n + first, p.n, columns, more);
    }
    more = true;
  });
}

/// Row i of R, from its panel on: the shards' sums in order.
template <class T>
void sum_moments(const Passes<T>& p, int64_t i) {
  const T over = T(1) / static_cast<T>(p.rows);
  T* to = p.moments + i * p.n;
  for (int64_t c = i / panel_width<T> * panel_width<T>; c < p.n; ++c) {
    T sum = to[c];
    for (int64_t shard = 1; shard < p.moment_shards; ++shard) sum += to[shard * p.n * p.n + c];
    to[c] = sum * over;
  }
}

/// Row i of the matrix that takes z to the slope; returns the row's share of the penalty.
template <class T>
double slope_row(const Passes<T>& p, int64_t i) {
  const T twice = static_cast<T>(2.0 / static_cast<double>(p.rows));
  const int64_t from = i / panel_width<T> * panel_width<T>;
  double sum = 0;
  for (int64_t c = 0; c < p.n; ++c) {
    const T r = c < from ? p.moments[c * p.n + i] : p.moments[i * p.n + c], weighted = even_part(p, i, c) * r;
    sum += static_cast<double>(weighted * r);
    p.matrix[i * p.n + c] = twice * p.scale[c] * weighted;
  }
  p.matrix[i * p.n + i] -= twice * p.scale[i] * static_cast<T>(sum);  // through the variance
  return sum;
}

template <class T>
T penalty_by_moments(const Passes<T>& p) {
  parallel_for(p.moment_shards, [&](int64_t shard) { add_moments(p, shard); });
  const int64_t pieces = shard_count(p.n, 32);
  const auto for_rows = [&](auto&& body) {
    parallel_for(pieces, [&](int64_t piece) {
      for (int64_t i = shard_begin(p.n, pieces, piece); i < shard_begin(p.n, pieces, piece + 1); ++i) body(i);
    });
  };
  for_rows([&](int64_t i) { sum_moments(p, i); });
  for_rows([&](int64_t i) { p.mean[i] = slope_row(p, i); });
  pack_matrix(p);
  parallel_for(p.shards, [&](int64_t shard) {
    p.for_blocks(shard, p.shards, block_rows, [&](int64_t row, int64_t rows) {
      fill_standard(p, row, rows, p.block_of(shard));
      multiply(p, rows, p.block_of(shard), p.slope + row * p.n);
    });
  });
  double sum = 0;
  for (int64_t i = 0; i < p.n; ++i) sum += p.mean[i];
  return static_cast<T>(0.5 * sum);
}

}  // namespace

template <class T>
size_t channel_penalty_workspace(int64_t rows, int64_t n, const ChannelPenalty& penalty) {
  size_t bytes = Carver::line;
  Passes<T>{rows, n, penalty}.carve([&]<class E>(E*&, int64_t count) { bytes += Carver::bytes<E>(count); });
  return bytes;
}

template <class T>
void channel_penalty(int64_t rows, int64_t n, const ChannelPenalty& penalty, const T* x, const T* k, T* value, T* slope,
                     void* workspace) {
  Passes<T> p{rows, n, penalty, x, k, slope};
  Carver carver(workspace);
  p.carve([&]<class E>(E*& piece, int64_t count) { piece = carver.take<E>(count); });
  standardise(p);
  switch (penalty.kind) {
    case ChannelPenalty::products:
      *value = penalty_by_rows<false>(p);
      break;
    case ChannelPenalty::squared_products:
      *value = penalty_by_moments(p);
      break;
    default:
      *value = penalty_by_rows<true>(p);
      break;
  }
}

#define RANVIER_INSTANCE(T)                                                              \
  template size_t channel_penalty_workspace<T>(int64_t, int64_t, const ChannelPenalty&); \
  template void channel_penalty<T>(int64_t, int64_t, const ChannelPenalty&, const T*, const T*, T*, T*, void*);
RANVIER_INSTANCE(float)
RANVIER_INSTANCE(double)
#undef RANVIER_INSTANCE

}  // namespace ranvier::kernels::cpu
