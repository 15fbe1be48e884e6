// Fast f32 gradient of the fused batch norm: one pass for the two sums per channel, one that writes dx.
#include <algorithm>

#include "kernels/norm/activation.h"
#include "kernels/norm/passes.h"

namespace ranvier::kernels {
namespace norm_detail {
namespace {

/// The member of a window that won, of the four at `x`.
RANVIER_INLINE Floats pick(const Floats (&x)[4], simd::Ints index) {
  Floats v = x[0];
  for (int i = 1; i < 4; ++i) v = index == simd::Ints{} + i ? x[i] : v;
  return v;
}

template <class Span>
RANVIER_INLINE void load_window(const float* x, const int64_t (&steps)[4], Span span, Floats (&values)[4]) {
  for (int i = 0; i < 4; ++i) values[i] = load(x + steps[i], span);
}

/// Adds sums of g and of g (x - mean) over `rows` rows to the shard's; `winner(r, c, span)` gives the x that made the
/// output.
template <Activation A, class WinnerOf>
void reduce_block(const NormDims& d, const Channels& p, int64_t rows, const float* dy, const Partial& sums,
                  WinnerOf winner) {
  simd::for_channels(d.c, [&](int64_t c, auto span) {
    Floats g_sum{}, hat_sum{};
    for (int64_t r = 0; r < rows; ++r) {
      const Floats x = winner(r, c, span);
      const Floats g = activation_gradient<A>(p.affine(x, c), load(dy + r * d.c + c, span));
      g_sum += g;
      hat_sum = simd::fma(g, x - load(p.mean + c, simd::Whole{}), hat_sum);
    }
    add_to(sums.sum + c, g_sum);
    add_to(sums.square + c, hat_sum);
  });
}

/// Sums over outputs [first, last), in rows of outputs, where the winners lie in memory one after another.
template <Activation A>
void reduce_rows(const NormDims& d, const Channels& p, const float* x, const float* dy, const Partial& sums,
                 int64_t first, int64_t last) {
  constexpr int64_t block = 64;
  for (int64_t r = first; r < last; r += block)
    reduce_block<A>(d, p, std::min(block, last - r), dy + r * d.c, sums,
                    [&](int64_t row, int64_t c, auto span) { return load(x + (r + row) * d.c + c, span); });
}

/// The same over map rows of windows, the winners being picked from x.
template <Activation A>
void reduce_windows(const NormDims& d, const NormBackward<float>& a, const Channels& p, const Partial& sums,
                    int64_t first, int64_t last) {
  const int64_t steps[4] = {0, d.c, d.w * d.c, d.w * d.c + d.c}, out_row = d.out_w() * d.c;
  for (int64_t o = first; o < last; ++o) {
    const float* x = a.x + (o / d.out_h() * d.h + o % d.out_h() * 2) * d.w * d.c;
    reduce_block<A>(d, p, d.out_w(), a.dy + o * out_row, sums, [&](int64_t q, int64_t c, auto span) {
      Floats values[4];
      load_window(x + 2 * q * d.c + c, steps, span, values);
      return pick(values, simd::load_bytes(a.index + o * out_row + q * d.c + c, span));
    });
  }
}

template <Activation A>
int64_t reduce(const NormDims& d, const NormBackward<float>& a, const Scratch& s) {
  const bool from_windows = d.pool != PoolPlace::none && !a.pooled;
  const int64_t rows = from_windows ? d.n * d.out_h() : d.out_rows();
  const int64_t shards = row_shards(rows, from_windows ? d.out_w() * d.c : d.c);
  parallel_for(shards, [&](int64_t shard) {
    const Partial sums = s.partial(shard);
    std::fill_n(sums.sum, s.padded, 0.0);
    std::fill_n(sums.square, s.padded, 0.0);
    const int64_t first = shard_begin(rows, shards, shard), last = shard_begin(rows, shards, shard + 1);
    if (from_windows) return reduce_windows<A>(d, a, s.channels, sums, first, last);
    reduce_rows<A>(d, s.channels, d.pool == PoolPlace::none ? a.x : a.pooled, a.dy, sums, first, last);
  });
  return shards;
}

/// Joins the shards' sums, writes dgamma and dbeta and the constants of dx = scale g - shift - (x - mean) tilt.
void finish_sums(const NormDims& d, const NormBackward<float>& a, const Scratch& s, int64_t shards) {
  const Partial total = s.partial(0);
  for (int64_t shard = 1; shard < shards; ++shard) {
    const Partial p = s.partial(shard);
    for (int64_t c = 0; c < d.c; ++c) total.sum[c] += p.sum[c], total.square[c] += p.square[c];
  }
  const Channels& k = s.channels;
  std::fill_n(k.shift, s.padded, 0.0f);
  std::fill_n(k.tilt, s.padded, 0.0f);
  const double rows = static_cast<double>(d.stat_rows());
  for (int64_t c = 0; c < d.c; ++c) {
    const double rstd = a.rstd[c], dgamma = total.square[c] * rstd, scale = k.scale[c];
    if (a.dbeta) a.dbeta[c] = static_cast<float>(total.sum[c]);
    if (a.dgamma) a.dgamma[c] = static_cast<float>(dgamma);
    k.shift[c] = static_cast<float>(scale * total.sum[c] / rows);
    k.tilt[c] = static_cast<float>(scale * dgamma * rstd / rows);
  }
}

/// dx from g and x of one vector.
RANVIER_INLINE Floats input_gradient(const Channels& p, Floats g, Floats x, int64_t c) {
  const simd::Whole whole;
  const Floats through_mean = simd::fma(g, load(p.scale + c, whole), -load(p.shift + c, whole));
  return simd::fma(load(p.mean + c, whole) - x, load(p.tilt + c, whole), through_mean);
}

template <Activation A>
void write_rows(const NormDims& d, const NormBackward<float>& a, const Channels& p) {
  const int64_t rows = d.in_rows(), shards = row_shards(rows, d.c);
  parallel_for(shards, [&](int64_t shard) {
    for (int64_t r = shard_begin(rows, shards, shard); r < shard_begin(rows, shards, shard + 1); ++r)
      simd::for_channels(d.c, [&](int64_t c, auto span) {
        const int64_t i = r * d.c + c;
        const Floats x = load(a.x + i, span), g = activation_gradient<A>(p.affine(x, c), load(a.dy + i, span));
        store(a.dx + i, input_gradient(p, g, x, c), span);
      });
  });
}

/// dx of the windows of one output row: all four members move with the statistics (`after`), or the winner alone
/// (`before`).
template <Activation A, PoolPlace P>
void write_windows(const NormDims& d, const NormBackward<float>& a, const Channels& p, int64_t in, int64_t out) {
  const int64_t steps[4] = {0, d.c, d.w * d.c, d.w * d.c + d.c};
  for (int64_t q = 0; q < d.out_w(); ++q)
    simd::for_channels(d.c, [&](int64_t c, auto span) {
      const int64_t to = in + 2 * q * d.c + c, from = out + q * d.c + c;
      const simd::Ints index = simd::load_bytes(a.index + from, span);
      Floats x[4], winner;
      if (P == PoolPlace::after || !a.pooled) {
        load_window(a.x + to, steps, span, x);
        winner = pick(x, index);
      } else {
        winner = load(a.pooled + from, span);
      }
      const Floats g = activation_gradient<A>(p.affine(winner, c), load(a.dy + from, span));
      const Floats alone = P == PoolPlace::before ? input_gradient(p, g, winner, c) : g;
      for (int i = 0; i < 4; ++i) {
        const Floats mine = index == simd::Ints{} + i ? alone : Floats{};
        store(a.dx + to + steps[i], P == PoolPlace::before ? mine : input_gradient(p, mine, x[i], c), span);
      }
    });
}

/// dx of positions that the pool's floor left out: only the statistics (`after`) or nothing (`before`) reaches them.
template <PoolPlace P>
void write_unpooled(const NormDims& d, const NormBackward<float>& a, const Channels& p, int64_t at, int64_t positions) {
  for (int64_t j = 0; j < positions; ++j)
    simd::for_channels(d.c, [&](int64_t c, auto span) {
      const int64_t i = at + j * d.c + c;
      store(a.dx + i, P == PoolPlace::before ? Floats{} : input_gradient(p, Floats{}, load(a.x + i, span), c), span);
    });
}

template <Activation A, PoolPlace P>
void write_maps(const NormDims& d, const NormBackward<float>& a, const Channels& p) {
  const int64_t pairs = (d.h + 1) / 2, units = d.n * pairs, row = d.w * d.c;
  const int64_t shards = row_shards(units, 2 * row);
  parallel_for(shards, [&](int64_t shard) {
    for (int64_t u = shard_begin(units, shards, shard); u < shard_begin(units, shards, shard + 1); ++u) {
      const int64_t n = u / pairs, i = u % pairs, in = (n * d.h + 2 * i) * row;
      if (i >= d.out_h()) {
        write_unpooled<P>(d, a, p, in, d.w);
        continue;
      }
      write_windows<A, P>(d, a, p, in, (n * d.out_h() + i) * d.out_w() * d.c);
      if (d.w % 2) {
        write_unpooled<P>(d, a, p, in + row - d.c, 1);
        write_unpooled<P>(d, a, p, in + 2 * row - d.c, 1);
      }
    }
  });
}

template <Activation A>
void backward(const NormDims& d, const NormBackward<float>& a, const Scratch& s) {
  const int64_t shards = reduce<A>(d, a, s);
  finish_sums(d, a, s, shards);
  switch (d.pool) {
    case PoolPlace::none:
      return write_rows<A>(d, a, s.channels);
    case PoolPlace::before:
      return write_maps<A, PoolPlace::before>(d, a, s.channels);
    case PoolPlace::after:
      return write_maps<A, PoolPlace::after>(d, a, s.channels);
  }
}

}  // namespace
}  // namespace norm_detail

namespace cpu {

void norm_backward(const NormDims& d, const NormBackward<float>& a) {
  const norm_detail::Scratch s(d, a.workspace);
  s.set_affine(d, a.mean, a.rstd, a.gamma, a.beta);
  norm_detail::with_activation(d.act, [&](auto act) { norm_detail::backward<act()>(d, a, s); });
}

}  // namespace cpu
}  // namespace ranvier::kernels
