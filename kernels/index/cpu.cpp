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

namespace {

template <class T>
void argmax_last(int64_t outer, int64_t axis, const T* x, int32_t* y) {
  for_rows(outer, axis, [&](int64_t row) {
    const T* v = x + row * axis;
    int64_t best = 0;
    for (int64_t k = 1; k < axis && v[best] == v[best]; ++k)
      if (!(v[k] <= v[best])) best = k;
    y[row] = static_cast<int32_t>(best);
  });
}

}  // namespace

template <class T>
void argmax(int64_t outer, int64_t axis, int64_t inner, const T* x, int32_t* y) {
  if (inner == 1) return argmax_last(outer, axis, x, y);
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

template <class T>
void add(int64_t count, const T* from, T* to) {
#pragma omp simd
  for (int64_t i = 0; i < count; ++i) to[i] += from[i];
}

}  // namespace

/// Reflect padding seen as rows: the last axis that is padded, times a block of the unpadded axes behind it.
template <class T>
struct MirroredRows {
  const PadDims& d;
  int rank;
  int64_t block, extent, padded, before;

  explicit MirroredRows(const PadDims& dims) : d(dims) {
    rank = merge_tail(
        d.x, [&](int k) { return d.x.d[k] == d.y.d[k]; }, block);
    extent = rank ? d.x.d[rank - 1] : 1, padded = rank ? d.y.d[rank - 1] : 1, before = rank ? d.before[rank - 1] : 0;
  }

  /// Adds one row of dy to the row of dx that it mirrors to: what folds in front, what lies inside, what folds behind.
  void add_row(const T* dy, T* dx) const {
    for (int64_t i = 1; i <= before; ++i) add(block, dy + (before - i) * block, dx + i * block);
    add(extent * block, dy + before * block, dx);
    for (int64_t i = before + extent; i < padded; ++i)
      add(block, dy + i * block, dx + (before + 2 * (extent - 1) - i) * block);
  }

  /// Adds every row of dy that mirrors to the row of dx at `position`, in the order of dy; `base` counts rows of the
  /// axes before `axis`.
  void add_rows(const int64_t* position, int axis, int64_t base, const T* dy, T* dx) const {
    if (axis >= rank - 1) return add_row(dy + base * padded * block, dx);
    const int64_t i = position[axis], last = d.x.d[axis] - 1, front = d.before[axis], size = d.y.d[axis];
    const auto from = [&](int64_t at) { add_rows(position, axis + 1, base * size + at, dy, dx); };
    if (i > 0 && i <= front) from(front - i);
    from(front + i);
    if (i < last && front + 2 * last - i < size) from(front + 2 * last - i);
  }
};

template <class T>
void pad_reflect_adjoint(const PadDims& d, const T* dy, T* dx) {
  const MirroredRows<T> m(d);
  const int64_t row_size = m.extent * m.block;
  for_rows(row_size ? d.x.count() / row_size : 0, row_size, [&](int64_t row) {
    int64_t position[max_rank], rest = row;
    for (int k = m.rank - 1; k-- > 0; rest /= d.x.d[k]) position[k] = rest % d.x.d[k];
    std::fill_n(dx + row * row_size, row_size, T(0));
    m.add_rows(position, 0, 0, dy, dx + row * row_size);
  });
}

#include "kernels/index/instances.h"

}  // namespace ranvier::kernels::cpu
