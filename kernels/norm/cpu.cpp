// Fast f32 batch norm with fused activation and 2x2 max-pool: channel vectors, each pass as few trips to memory as it
// can.
#include <algorithm>
#include <cmath>

#include "kernels/common/parallel.h"
#include "kernels/common/simd.h"
#include "kernels/norm/activation.h"
#include "kernels/norm/norm.h"
#include "kernels/norm/passes.h"

namespace ranvier::kernels {
namespace norm_detail {
namespace {

/// What decides a window: x itself, x times the sign of gamma (act(norm(x)) is monotone then), or act(norm(x)).
enum class Order { raw, by_sign, activated };

struct Winner {
  Floats key, value;
  simd::Ints index;
};

RANVIER_INLINE Winner winner(const Floats (&keys)[4], const Floats (&values)[4]) {
  Winner best{keys[0], values[0], simd::Ints{}};
  for (int i = 1; i < 4; ++i) {
    const simd::Ints take = (keys[i] > best.key) | (keys[i] != keys[i]);
    best.key = take ? keys[i] : best.key;
    best.value = take ? values[i] : best.value;
    best.index = take ? simd::Ints{} + i : best.index;
  }
  return best;
}

struct WindowOutputs {
  float *y, *pooled;
  uint8_t* index;
};

/// One row of output windows from the two rows of x at `x`: the winner, put through the affine map and activation where
/// `Apply` says so. Null outputs are skipped.
template <Order O, Activation A, bool Apply>
void pool_row(const NormDims& d, const Channels& p, const float* x, const WindowOutputs& out) {
  const int64_t steps[4] = {0, d.c, d.w * d.c, d.w * d.c + d.c};
  for (int64_t q = 0; q < d.out_w(); ++q) {
    simd::for_channels(d.c, [&](int64_t c, auto span) {
      Floats values[4], keys[4];
      const Floats sign = load(p.sign + c, simd::Whole{});
      for (int i = 0; i < 4; ++i) {
        values[i] = load(x + 2 * q * d.c + steps[i] + c, span);
        keys[i] = values[i];
        if constexpr (O == Order::by_sign) keys[i] = values[i] * sign;
        if constexpr (O == Order::activated) keys[i] = activate<A>(p.affine(values[i], c));
      }
      const Winner best = winner(keys, values);
      const int64_t to = q * d.c + c;
      Floats y = best.value;
      if constexpr (O == Order::activated) y = best.key;
      if constexpr (O != Order::activated && Apply) y = activate<A>(p.affine(best.value, c));
      if (out.y) store(out.y + to, y, span);
      if (out.pooled) store(out.pooled + to, best.value, span);
      if (out.index) store_bytes(out.index + to, best.index, span);
    });
  }
}

/// Pools the windows of units [first, last) (see Units) into maps of d.out_h() rows per image.
template <Order O, Activation A, bool Apply>
void pool_units(const NormDims& d, const Units& units, const Channels& p, const float* x, const WindowOutputs& out,
                int64_t first, int64_t last) {
  for (int64_t u = first; u < last; ++u) {
    if (!units.whole(u)) continue;
    const int64_t to = units.out_row(u) * d.out_w() * d.c;
    pool_row<O, A, Apply>(
        d, p, x + units.in_row(u) * d.w * d.c,
        {out.y ? out.y + to : nullptr, out.pooled ? out.pooled + to : nullptr, out.index ? out.index + to : nullptr});
  }
}

/// y = act(affine(x)) over `rows` rows of c channels.
template <Activation A>
void apply(const NormDims& d, const Channels& p, int64_t rows, const float* x, float* y) {
  const int64_t shards = row_shards(rows, d.c);
  parallel_for(shards, [&](int64_t shard) {
    for (int64_t r = shard_begin(rows, shards, shard); r < shard_begin(rows, shards, shard + 1); ++r)
      simd::for_channels(d.c, [&](int64_t c, auto span) {
        store(y + r * d.c + c, activate<A>(p.affine(load(x + r * d.c + c, span), c)), span);
      });
  });
}

/// Statistics of the shards, with the winners of their windows where those can be told before the statistics are known.
void statistics(const NormDims& d, const NormForward<float>& a, const Scratch& s, const Units& units) {
  const WindowOutputs winners{nullptr, a.pooled ? a.pooled : a.y, a.index};
  const Channels& p = s.channels;
  const int64_t in_row = d.w * d.c, out_row = d.out_w() * d.c, shards = units.shards();
  parallel_for(shards, [&](int64_t shard) {
    const Partial partial = s.partial(shard);
    const int64_t end = shard_begin(units.count, shards, shard + 1);
    bool first = true;
    for (int64_t u = shard_begin(units.count, shards, shard); u < end; u += units.block) {
      const int64_t stop = std::min(u + units.block, end);
      if (d.pool == PoolPlace::none) {
        add_block(a.x + u * d.c, stop - u, d.c, partial, first);
      } else if (d.pool == PoolPlace::before) {
        pool_units<Order::raw, Activation::none, false>(d, units, p, a.x, winners, u, stop);
        add_block(winners.pooled + units.out_row(u) * out_row, (stop - u) * d.out_w(), d.c, partial, first);
      } else {
        add_block(a.x + units.in_row(u) * in_row, (units.in_row(stop) - units.in_row(u)) * d.w, d.c, partial, first);
        if (monotone(d.act)) pool_units<Order::by_sign, Activation::none, false>(d, units, p, a.x, winners, u, stop);
      }
      first = false;
    }
  });
}

/// All windows of x in one pass, every output where it goes.
template <Order O, Activation A>
void pool_all(const NormDims& d, const Channels& p, const float* x, const WindowOutputs& out) {
  const Units units(d);
  const int64_t shards = units.shards();
  parallel_for(shards, [&](int64_t shard) {
    pool_units<O, A, true>(d, units, p, x, out, shard_begin(units.count, shards, shard),
                           shard_begin(units.count, shards, shard + 1));
  });
}

template <Activation A>
void finish_forward(const NormDims& d, const NormForward<float>& a, const Channels& p) {
  if (d.pool == PoolPlace::none) return apply<A>(d, p, d.in_rows(), a.x, a.y);
  if (d.pool == PoolPlace::after && !monotone(A))
    return pool_all<Order::activated, A>(d, p, a.x, {a.y, a.pooled, a.index});
  apply<A>(d, p, d.out_rows(), a.pooled ? a.pooled : a.y, a.y);
}

template <Activation A>
void eval(const NormDims& d, const NormEval<float>& a, const Channels& p) {
  const WindowOutputs out{a.y, nullptr, nullptr};
  if (d.pool == PoolPlace::none) return apply<A>(d, p, d.in_rows(), a.x, a.y);
  if (d.pool == PoolPlace::before) return pool_all<Order::raw, A>(d, p, a.x, out);
  if (monotone(A)) return pool_all<Order::by_sign, A>(d, p, a.x, out);
  pool_all<Order::activated, A>(d, p, a.x, out);
}

}  // namespace
}  // namespace norm_detail

size_t norm_workspace(const NormDims& d) { return norm_detail::Scratch(d, nullptr).bytes; }

namespace cpu {
using namespace norm_detail;

void norm_forward(const NormDims& d, const NormForward<float>& a) {
  const Scratch s(d, a.workspace);
  const Units units(d);
  s.set_signs(d, a.gamma);
  statistics(d, a, s, units);
  merge_statistics(d, s, units, a.mean, a.variance);
  for (int64_t c = 0; c < d.c; ++c)  // in f64: eps may lie far below an ulp of 1
    a.rstd[c] = static_cast<float>(1 / std::sqrt(static_cast<double>(a.variance[c]) + d.eps));
  s.set_affine(d, a.mean, a.rstd, a.gamma, a.beta);
  with_activation(d.act, [&](auto act) { finish_forward<act()>(d, a, s.channels); });
}

void norm_eval(const NormDims& d, const NormEval<float>& a) {
  const Scratch s(d, a.workspace);
  for (int64_t c = 0; c < d.c; ++c)
    s.channels.shift[c] = static_cast<float>(1 / std::sqrt(static_cast<double>(a.variance[c]) + d.eps));
  s.set_signs(d, a.gamma);
  s.set_affine(d, a.mean, s.channels.shift, a.gamma, a.beta);
  with_activation(d.act, [&](auto act) { eval<act()>(d, a, s.channels); });
}

}  // namespace cpu
}  // namespace ranvier::kernels
