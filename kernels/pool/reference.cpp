// Pooling in plain loops: the oracle of the fast versions, in f32 and f64.
#include <cmath>
#include <stdexcept>
#include <string>

#include "kernels/pool/windows.h"

namespace ranvier::kernels {

void validate(const PoolDims& d) {
  const std::string window = std::to_string(d.r) + "x" + std::to_string(d.s);
  if (d.r < 1 || d.s < 1) throw std::runtime_error("pool: window " + window + " is empty");
  if (d.stride < 1) throw std::runtime_error("pool: stride " + std::to_string(d.stride) + " is not positive");
  if (d.pad < 0 || 2 * d.pad > std::min(d.r, d.s))
    throw std::runtime_error("pool: pad " + std::to_string(d.pad) + " is not between 0 and half the window " + window);
  if (d.h + 2 * d.pad < d.r || d.w + 2 * d.pad < d.s)
    throw std::runtime_error("pool: window " + window + " does not fit a map of " + std::to_string(d.h) + "x" +
                             std::to_string(d.w) + " with pad " + std::to_string(d.pad));
  if (d.h > INT32_MAX / d.w) throw std::runtime_error("pool: map of more than 2^31 positions");
}

namespace reference {
namespace {

/// Calls `body(output offset, map offset of n, c, rows, columns)` for every output element.
template <class Body>
void for_windows(const PoolDims& d, Body body) {
  for (int64_t n = 0; n < d.n; ++n)
    for (int64_t p = 0; p < d.p(); ++p)
      for (int64_t q = 0; q < d.q(); ++q)
        for (int64_t c = 0; c < d.c; ++c)
          body(((n * d.p() + p) * d.q() + q) * d.c + c, n * d.h * d.w * d.c + c, covered(p, d.stride, d.pad, d.r, d.h),
               covered(q, d.stride, d.pad, d.s, d.w));
}

}  // namespace

template <class T>
void max_pool(const PoolDims& d, const T* x, T* y, int32_t* index) {
  for_windows(d, [&](int64_t out, int64_t map, Span1 rows, Span1 columns) {
    int64_t best = rows.first * d.w + columns.first;
    for (int64_t i = rows.first; i < rows.last; ++i)
      for (int64_t j = columns.first; j < columns.last; ++j) {
        const T v = x[map + (i * d.w + j) * d.c];
        if (v > x[map + best * d.c] || std::isnan(v)) best = i * d.w + j;
      }
    y[out] = x[map + best * d.c];
    index[out] = static_cast<int32_t>(best);
  });
}

template <class T>
void max_unpool(const PoolDims& d, const T* dy, const int32_t* index, T* dx) {
  std::fill_n(dx, d.n * d.h * d.w * d.c, T(0));
  for_windows(d, [&](int64_t out, int64_t map, Span1, Span1) { dx[map + index[out] * d.c] += dy[out]; });
}

template <class T>
void pool_take(const PoolDims& d, const T* x, const int32_t* index, T* y) {
  for_windows(d, [&](int64_t out, int64_t map, Span1, Span1) { y[out] = x[map + index[out] * d.c]; });
}

template <class T>
void avg_pool(const PoolDims& d, const T* x, T* y) {
  for_windows(d, [&](int64_t out, int64_t map, Span1 rows, Span1 columns) {
    T sum = 0;
    for (int64_t i = rows.first; i < rows.last; ++i)
      for (int64_t j = columns.first; j < columns.last; ++j) sum += x[map + (i * d.w + j) * d.c];
    y[out] = sum * average_weight<T>(d, rows, columns);
  });
}

template <class T>
void avg_unpool(const PoolDims& d, const T* dy, T* dx) {
  std::fill_n(dx, d.n * d.h * d.w * d.c, T(0));
  for_windows(d, [&](int64_t out, int64_t map, Span1 rows, Span1 columns) {
    for (int64_t i = rows.first; i < rows.last; ++i)
      for (int64_t j = columns.first; j < columns.last; ++j)
        dx[map + (i * d.w + j) * d.c] += dy[out] * average_weight<T>(d, rows, columns);
  });
}

template void max_pool(const PoolDims&, const float*, float*, int32_t*);
template void max_pool(const PoolDims&, const double*, double*, int32_t*);
template void max_unpool(const PoolDims&, const float*, const int32_t*, float*);
template void max_unpool(const PoolDims&, const double*, const int32_t*, double*);
template void pool_take(const PoolDims&, const float*, const int32_t*, float*);
template void pool_take(const PoolDims&, const double*, const int32_t*, double*);
template void avg_pool(const PoolDims&, const float*, float*);
template void avg_pool(const PoolDims&, const double*, double*);
template void avg_unpool(const PoolDims&, const float*, float*);
template void avg_unpool(const PoolDims&, const double*, double*);

}  // namespace reference
}  // namespace ranvier::kernels
