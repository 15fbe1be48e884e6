// Fast f32 pooling: channel vectors; forward shards are rows of outputs, adjoint shards rows of inputs, so no two meet.
#include <algorithm>

#include "kernels/common/parallel.h"
#include "kernels/common/simd.h"
#include "kernels/pool/windows.h"

namespace ranvier::kernels::cpu {
namespace {
using simd::Floats;
using simd::Ints;

int64_t shards_of(int64_t rows, int64_t row_size) { return shard_count(rows, std::max<int64_t>(16384 / row_size, 1)); }

RANVIER_INLINE Ints splat(int64_t value) { return Ints{} + static_cast<int32_t>(value); }

/// Calls `body(output offset, map offset, rows, columns, c, span)` for every channel vector of every output position.
template <class Body>
void for_outputs(const PoolDims& d, Body&& body) {
  const int64_t rows = d.n * d.p(), shards = shards_of(rows, d.w * d.c * d.stride), q_count = d.q();
  parallel_for(shards, [&](int64_t shard) {
    for (int64_t row = shard_begin(rows, shards, shard); row < shard_begin(rows, shards, shard + 1); ++row) {
      const int64_t map = row / d.p() * d.h * d.w * d.c;
      const Span1 i = covered(row % d.p(), d.stride, d.pad, d.r, d.h);
      for (int64_t q = 0; q < q_count; ++q) {
        const Span1 j = covered(q, d.stride, d.pad, d.s, d.w);
        simd::for_channels(d.c,
                           [&](int64_t c, auto span) { body((row * q_count + q) * d.c + c, map + c, i, j, span); });
      }
    }
  });
}

/// dx of every position as the sum over the windows that cover it, in row order: `term(out, position, p, q, span)`.
template <class Term>
void sum_windows(const PoolDims& d, float* dx, Term&& term) {
  const int64_t rows = d.n * d.h, shards = shards_of(rows, d.w * d.c), p_count = d.p(), q_count = d.q();
  parallel_for(shards, [&](int64_t shard) {
    for (int64_t row = shard_begin(rows, shards, shard); row < shard_begin(rows, shards, shard + 1); ++row) {
      const int64_t n = row / d.h, i = row % d.h;
      const Span1 ps = covering(i, d.stride, d.pad, d.r, p_count);
      for (int64_t j = 0; j < d.w; ++j) {
        const Span1 qs = covering(j, d.stride, d.pad, d.s, q_count);
        simd::for_channels(d.c, [&](int64_t c, auto span) {
          Floats sum{};
          for (int64_t p = ps.first; p < ps.last; ++p)
            for (int64_t q = qs.first; q < qs.last; ++q)
              sum += term(((n * p_count + p) * q_count + q) * d.c + c, i * d.w + j, p, q, span);
          store(dx + (row * d.w + j) * d.c + c, sum, span);
        });
      }
    }
  });
}

}  // namespace

void max_pool(const PoolDims& d, const float* x, float* y, int32_t* index) {
  for_outputs(d, [&](int64_t out, int64_t map, Span1 rows, Span1 columns, auto span) {
    Ints at = splat(rows.first * d.w + columns.first);
    Floats best = load(x + map + (rows.first * d.w + columns.first) * d.c, span);
    for (int64_t i = rows.first; i < rows.last; ++i)
      for (int64_t j = columns.first; j < columns.last; ++j) {
        const Floats v = load(x + map + (i * d.w + j) * d.c, span);
        const Ints take = (v > best) | (v != v);
        best = take ? v : best;
        at = take ? splat(i * d.w + j) : at;
      }
    store(y + out, best, span);
    store(index + out, at, span);
  });
}

void pool_take(const PoolDims& d, const float* x, const int32_t* index, float* y) {
  for_outputs(d, [&](int64_t out, int64_t map, Span1 rows, Span1 columns, auto span) {
    const Ints at = load(index + out, span);
    Floats taken{};
    for (int64_t i = rows.first; i < rows.last; ++i)
      for (int64_t j = columns.first; j < columns.last; ++j)
        taken = at == splat(i * d.w + j) ? load(x + map + (i * d.w + j) * d.c, span) : taken;
    store(y + out, taken, span);
  });
}

void max_unpool(const PoolDims& d, const float* dy, const int32_t* index, float* dx) {
  sum_windows(d, dx, [&](int64_t out, int64_t position, int64_t, int64_t, auto span) {
    return load(index + out, span) == splat(position) ? load(dy + out, span) : Floats{};
  });
}

void avg_pool(const PoolDims& d, const float* x, float* y) {
  for_outputs(d, [&](int64_t out, int64_t map, Span1 rows, Span1 columns, auto span) {
    Floats sum{};
    for (int64_t i = rows.first; i < rows.last; ++i)
      for (int64_t j = columns.first; j < columns.last; ++j) sum += load(x + map + (i * d.w + j) * d.c, span);
    store(y + out, sum * average_weight<float>(d, rows, columns), span);
  });
}

void avg_unpool(const PoolDims& d, const float* dy, float* dx) {
  const bool uniform = d.count_pad || d.pad == 0;
  const float everywhere = 1.0f / static_cast<float>(d.r * d.s);
  sum_windows(d, dx, [&](int64_t out, int64_t, int64_t p, int64_t q, auto span) {
    const float weight = uniform ? everywhere
                                 : average_weight<float>(d, covered(p, d.stride, d.pad, d.r, d.h),
                                                         covered(q, d.stride, d.pad, d.s, d.w));
    return load(dy + out, span) * weight;
  });
}

}  // namespace ranvier::kernels::cpu
