// Fast gather, scatter, one-hot, argmax, concat and reflect adjoint: contiguous inner loops, shards that never share an
// output.
#include <algorithm>
#include <cstring>
#include <limits>

#include "kernels/common/parallel.h"
#include "kernels/index/index.h"
#include "kernels/index/rows.h"

namespace ranvier::kernels::cpu {
namespace {

template <class T>
constexpr T wrong() {
  return std::numeric_limits<T>::has_quiet_NaN ? std::numeric_limits<T>::quiet_NaN() : T(0);
}

template <class I>
int64_t first_bad(int64_t count, const I* indices, int64_t axis) {
  const auto* bad = std::find_if(indices, indices + count, [&](I i) { return i < 0 || i >= axis; });
  return bad == indices + count ? -1 : bad - indices;
}

}  // namespace

template <class T, class I>
int64_t gather(const GatherDims& d, const T* x, const I* indices, T* y) {
  for_rows(d.outer * d.count, d.inner, [&](int64_t row) {
    const int64_t o = row / d.count;
    const I at = indices[row % d.count];
    T* to = y + row * d.inner;
    if (at < 0 || at >= d.axis)
      std::fill_n(to, d.inner, wrong<T>());
    else if (d.inner == 1)
      *to = x[o * d.axis + at];
    else
      std::memcpy(to, x + (o * d.axis + at) * d.inner, static_cast<size_t>(d.inner) * sizeof(T));
  });
  return first_bad(d.count, indices, d.axis);
}

template <class T, class I>
int64_t scatter_add(const GatherDims& d, const T* dy, const I* indices, T* dx) {
  // A shard owns a band of the inner axis of one outer row and takes all indices in their order.
  const int64_t bands = shard_count(d.inner, 256), shards = d.outer * bands;
  parallel_for(shards, [&](int64_t shard) {
    const int64_t o = shard / bands, first = shard_begin(d.inner, bands, shard % bands);
    const int64_t width = shard_begin(d.inner, bands, shard % bands + 1) - first;
    T* to = dx + o * d.axis * d.inner + first;
    const T* from = dy + o * d.count * d.inner + first;
    for (int64_t k = 0; k < d.axis; ++k) std::fill_n(to + k * d.inner, width, T(0));
    for (int64_t j = 0; j < d.count; ++j) {
      if (indices[j] < 0 || indices[j] >= d.axis) continue;
      T* sum = to + indices[j] * d.inner;
      const T* term = from + j * d.inner;
#pragma omp simd
      for (int64_t i = 0; i < width; ++i) sum[i] += term[i];
    }
  });
  return first_bad(d.count, indices, d.axis);
}

template <class T, class I>
int64_t one_hot(int64_t n, int64_t classes, const I* labels, T* y) {
  for_rows(n, classes, [&](int64_t row) {
    const bool good = labels[row] >= 0 && labels[row] < classes;
    std::fill_n(y + row * classes, classes, good ? T(0) : wrong<T>());
    if (good) y[row * classes + labels[row]] = T(1);
  });
  return first_bad(n, labels, classes);
}

template <class T>
void argmax(int64_t outer, int64_t axis, int64_t inner, const T* x, int32_t* y) {
  constexpr int64_t band = 64;  // lanes carried along the axis side by side
  const int64_t bands = (inner + band - 1) / band;
  for_rows(outer * bands, axis * std::min(inner, band), [&](int64_t row) {
    const int64_t o = row / bands, first = row % bands * band, width = std::min(band, inner - first);
    T best[band];
    int32_t at[band] = {};
    const T* from = x + o * axis * inner + first;
    if (axis > 0) std::copy_n(from, width, best);
    for (int64_t k = 1; k < axis; ++k) {
      const T* v = from + k * inner;
#pragma omp simd
      for (int64_t i = 0; i < width; ++i) {
        const bool take = best[i] == best[i] && !(v[i] <= best[i]);
        at[i] = take ? static_cast<int32_t>(k) : at[i];
        best[i] = take ? v[i] : best[i];
      }
    }
    std::copy_n(at, width, y + o * inner + first);
  });
}

void concat(const ConcatDims& d, size_t element, const void* const* x, void* y) {
  int64_t total = 0;
  for (int part = 0; part < d.count; ++part) total += d.extents[part] * d.inner;
  for_rows(d.outer, total, [&](int64_t o) {
    char* to = static_cast<char*>(y) + o * total * static_cast<int64_t>(element);
    for (int part = 0; part < d.count; ++part) {
      const size_t bytes = static_cast<size_t>(d.extents[part] * d.inner) * element;
      if (bytes) std::memcpy(to, static_cast<const char*>(x[part]) + static_cast<size_t>(o) * bytes, bytes);
      to += bytes;
    }
  });
}

namespace {

/// The positions of y along one axis that mirror to position i of x, ascending.
struct Mirrors {
  int64_t at[3];
  int count = 0;
  Mirrors(int64_t i, int64_t extent, int64_t before, int64_t padded) {
    if (i > 0 && i <= before) at[count++] = before - i;
    at[count++] = before + i;
    const int64_t behind = before + 2 * (extent - 1) - i;
    if (i < extent - 1 && behind < padded) at[count++] = behind;
  }
};

/// Adds the rows (axes before `axis` chosen already, last axis free) of dy that mirror onto one row of dx.
template <class T>
void add_mirrored(const PadDims& d, const int64_t* position, int axis, int64_t base, const T* dy, T* dx) {
  const int last = d.x.rank - 1;
  if (axis == last) {
    const int64_t extent = d.x.d[last], padded = d.y.d[last], before = d.before[last];
    const T* from = dy + base * padded;
    if (extent == padded) {
#pragma omp simd
      for (int64_t i = 0; i < extent; ++i) dx[i] += from[i];
      return;
    }
    for (int64_t i = 0; i < extent; ++i) {
      const Mirrors m(i, extent, before, padded);
      for (int k = 0; k < m.count; ++k) dx[i] += from[m.at[k]];
    }
    return;
  }
  const Mirrors m(position[axis], d.x.d[axis], d.before[axis], d.y.d[axis]);
  for (int k = 0; k < m.count; ++k) add_mirrored(d, position, axis + 1, base * d.y.d[axis] + m.at[k], dy, dx);
}

}  // namespace

template <class T>
void pad_reflect_adjoint(const PadDims& d, const T* dy, T* dx) {
  if (d.x.rank == 0) {
    *dx = *dy;
    return;
  }
  const int64_t row_size = d.x.d[d.x.rank - 1];
  for_rows(row_size ? d.x.count() / row_size : 0, row_size, [&](int64_t row) {
    int64_t position[max_rank], rest = row;
    for (int k = d.x.rank - 1; k-- > 0; rest /= d.x.d[k]) position[k] = rest % d.x.d[k];
    std::fill_n(dx + row * row_size, row_size, T(0));
    add_mirrored(d, position, 0, 0, dy, dx + row * row_size);
  });
}

#include "kernels/index/instances.h"

}  // namespace ranvier::kernels::cpu
