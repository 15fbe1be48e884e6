// Mean and variance per channel: f32 inside blocks that fit the first cache, f64 between blocks and shards, in fixed
// order.
#include "kernels/norm/passes.h"

namespace ranvier::kernels::norm_detail {
namespace {

/// Sums of one channel vector over a block, about the block's mean.
struct BlockSums {
  alignas(64) float pivot[simd::lanes], sum[simd::lanes], square[simd::lanes];
};

/// R rows at a time, each with sums of its own, so that additions of U vectors do not wait for each other.
template <int U, int R, class Span>
RANVIER_INLINE void block_sums(const float* x, int64_t rows, int64_t stride, Span span, BlockSums* out) {
  const int64_t whole = rows / R * R;
  Floats mean[R][U] = {}, sum[R][U] = {}, square[R][U] = {};
  const auto row = [&](int64_t r, int u) { return load(x + r * stride + u * simd::lanes, span); };
  for (int64_t r = 0; r < whole; r += R)
    for (int i = 0; i < R; ++i)
      for (int u = 0; u < U; ++u) mean[i][u] += row(r + i, u);
  for (int64_t r = whole; r < rows; ++r)
    for (int u = 0; u < U; ++u) mean[0][u] += row(r, u);
  const Floats inverse = simd::splat(1.0f / static_cast<float>(rows));
  for (int u = 0; u < U; ++u) {
    for (int i = 1; i < R; ++i) mean[0][u] += mean[i][u];
    mean[0][u] *= inverse;
  }
  const auto add = [&](int64_t r, int i, int u) {
    const Floats delta = row(r, u) - mean[0][u];
    sum[i][u] += delta;
    square[i][u] = simd::fma(delta, delta, square[i][u]);
  };
  for (int64_t r = 0; r < whole; r += R)
    for (int i = 0; i < R; ++i)
      for (int u = 0; u < U; ++u) add(r + i, i, u);
  for (int64_t r = whole; r < rows; ++r)
    for (int u = 0; u < U; ++u) add(r, 0, u);
  for (int u = 0; u < U; ++u) {
    for (int i = 1; i < R; ++i) sum[0][u] += sum[i][u], square[0][u] += square[i][u];
    store(out[u].pivot, mean[0][u], simd::Whole{});
    store(out[u].sum, sum[0][u], simd::Whole{});
    store(out[u].square, square[0][u], simd::Whole{});
  }
}

/// Shifts a block's sums to the shard's pivot and adds them.
RANVIER_INLINE void fold(const BlockSums& block, double rows, bool first, double* pivot, double* sum, double* square) {
  if (first) {
#pragma omp simd
    for (int i = 0; i < simd::lanes; ++i) pivot[i] = block.pivot[i], sum[i] = block.sum[i], square[i] = block.square[i];
    return;
  }
#pragma omp simd
  for (int i = 0; i < simd::lanes; ++i) {
    const double shift = static_cast<double>(block.pivot[i]) - pivot[i], s = block.sum[i];
    sum[i] += rows * shift + s;
    square[i] += block.square[i] + shift * (2 * s + rows * shift);
  }
}

}  // namespace

void add_block(const float* x, int64_t rows, int64_t c, const Partial& partial, bool first) {
  constexpr int wide = 4;
  const double count = static_cast<double>(rows);
  BlockSums sums[wide];
  const auto take = [&](int64_t at, int vectors) {
    for (int u = 0; u < vectors; ++u) {
      const int64_t i = at + u * simd::lanes;
      fold(sums[u], count, first, partial.pivot + i, partial.sum + i, partial.square + i);
    }
  };
  int64_t at = 0;
  for (; at + wide * simd::lanes <= c; at += wide * simd::lanes) {
    block_sums<wide, 2>(x + at, rows, c, simd::Whole{}, sums);
    take(at, wide);
  }
  for (; at + simd::lanes <= c; at += simd::lanes) {
    block_sums<1, 4>(x + at, rows, c, simd::Whole{}, sums);
    take(at, 1);
  }
  if (at == c) return;
  block_sums<1, 4>(x + at, rows, c, simd::Part{c - at}, sums);
  take(at, 1);
}

void merge_statistics(const NormDims& d, const Scratch& s, const Units& units, float* mean, float* variance) {
  const Partial total = s.partial(0);  // becomes: sum = mean so far, square = squared distances from it
  double count = 0;
  const int64_t shards = units.shards();
  for (int64_t shard = 0; shard < shards; ++shard) {
    const int64_t first = shard_begin(units.count, shards, shard), end = shard_begin(units.count, shards, shard + 1);
    const double rows = static_cast<double>(units.stat_rows(d, end) - units.stat_rows(d, first));
    if (rows == 0) continue;
    const Partial p = s.partial(shard);
    const double all = count + rows;
    for (int64_t c = 0; c < d.c; ++c) {
      const double m = p.pivot[c] + p.sum[c] / rows, squares = p.square[c] - p.sum[c] * p.sum[c] / rows;
      if (count == 0) {
        total.sum[c] = m, total.square[c] = squares;
        continue;
      }
      const double delta = m - total.sum[c];
      total.sum[c] += delta * rows / all;
      total.square[c] += squares + delta * delta * count * rows / all;
    }
    count = all;
  }
  for (int64_t c = 0; c < d.c; ++c) {
    mean[c] = static_cast<float>(total.sum[c]);
    const double v = total.square[c] / count;
    variance[c] = static_cast<float>(v < 0 ? 0 : v);  // rounding may take a constant channel just below zero
  }
}

}  // namespace ranvier::kernels::norm_detail
