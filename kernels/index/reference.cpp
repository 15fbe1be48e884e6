// Ops that move elements, in plain loops over positions: the oracle of the fast versions.
#include <algorithm>
#include <cstring>
#include <limits>
#include <stdexcept>
#include <string>
#include <type_traits>

#include "kernels/index/index.h"

namespace ranvier::kernels {
namespace {

/// Position along every axis of the flat index `i`.
struct Position {
  int64_t at[max_rank];
  Position(const Dims& dims, int64_t i) {
    for (int k = dims.rank; k-- > 0; i /= dims.d[k]) at[k] = i % dims.d[k];
  }
};

int64_t flat(const Dims& dims, const int64_t* at) {
  int64_t i = 0;
  for (int k = 0; k < dims.rank; ++k) i = i * dims.d[k] + at[k];
  return i;
}

int64_t slice_source(const SliceDims& d, int64_t i) {
  Position p(d.y, i);
  for (int k = 0; k < d.y.rank; ++k) p.at[k] = d.begin[k] + p.at[k] * d.step[k];
  return flat(d.x, p.at);
}

int64_t reflect_source(const PadDims& d, int64_t i) {
  Position p(d.y, i);
  for (int k = 0; k < d.y.rank; ++k) {
    const int64_t last = d.x.d[k] - 1;
    p.at[k] = std::abs(p.at[k] - d.before[k]);
    if (p.at[k] > last) p.at[k] = 2 * last - p.at[k];
  }
  return flat(d.x, p.at);
}

void copy(size_t element, const void* x, int64_t from, void* y, int64_t to) {
  std::memcpy(static_cast<char*>(y) + to * static_cast<int64_t>(element),
              static_cast<const char*>(x) + from * static_cast<int64_t>(element), element);
}

template <class T>
constexpr T wrong() {
  return std::numeric_limits<T>::has_quiet_NaN ? std::numeric_limits<T>::quiet_NaN() : T(0);
}

[[noreturn]] void refuse(const std::string& what) { throw std::runtime_error(what); }

}  // namespace

void validate(const SliceDims& d) {
  if (d.x.rank != d.y.rank)
    refuse("slice: ranks " + std::to_string(d.x.rank) + " and " + std::to_string(d.y.rank) + " differ");
  for (int k = 0; k < d.y.rank; ++k) {
    if (d.step[k] == 0) refuse("slice: step of axis " + std::to_string(k) + " is 0");
    if (d.y.d[k] == 0) continue;
    const int64_t first = d.begin[k], last = first + (d.y.d[k] - 1) * d.step[k];
    if (std::min(first, last) < 0 || std::max(first, last) >= d.x.d[k])
      refuse("slice: axis " + std::to_string(k) + " takes " + std::to_string(first) + ".." + std::to_string(last) +
             " of " + std::to_string(d.x.d[k]));
  }
}

void validate(const TransposeDims& d) {
  bool seen[max_rank] = {};
  for (int k = 0; k < d.x.rank; ++k) {
    if (d.order[k] < 0 || d.order[k] >= d.x.rank || seen[d.order[k]])
      refuse("transpose: axis " + std::to_string(d.order[k]) + " at place " + std::to_string(k) +
             " makes no permutation");
    seen[d.order[k]] = true;
  }
}

void validate_reflect(const PadDims& d) {
  if (d.x.rank != d.y.rank)
    refuse("pad_reflect: ranks " + std::to_string(d.x.rank) + " and " + std::to_string(d.y.rank) + " differ");
  for (int k = 0; k < d.x.rank; ++k) {
    const int64_t before = d.before[k], after = d.y.d[k] - d.x.d[k] - before;
    if (std::min(before, after) < 0 || std::max(before, after) >= std::max<int64_t>(d.x.d[k], 1))
      refuse("pad_reflect: axis " + std::to_string(k) + " of " + std::to_string(d.x.d[k]) + " cannot mirror " +
             std::to_string(before) + " and " + std::to_string(after));
  }
}

namespace reference {

template <class T, class I>
int64_t gather(const GatherDims& d, const T* x, const I* indices, T* y) {
  int64_t bad = -1;
  for (int64_t j = d.count; j-- > 0;) {
    const bool good = indices[j] >= 0 && indices[j] < d.axis;
    if (!good) bad = j;
    for (int64_t o = 0; o < d.outer; ++o)
      for (int64_t i = 0; i < d.inner; ++i)
        y[(o * d.count + j) * d.inner + i] = good ? x[(o * d.axis + indices[j]) * d.inner + i] : wrong<T>();
  }
  return bad;
}

template <class T, class I>
int64_t scatter_add(const GatherDims& d, const T* dy, const I* indices, T* dx) {
  std::fill_n(dx, d.outer * d.axis * d.inner, T(0));
  int64_t bad = -1;
  for (int64_t j = 0; j < d.count; ++j) {
    if (indices[j] < 0 || indices[j] >= d.axis) {
      if (bad < 0) bad = j;
      continue;
    }
    for (int64_t o = 0; o < d.outer; ++o)
      for (int64_t i = 0; i < d.inner; ++i)
        dx[(o * d.axis + indices[j]) * d.inner + i] += dy[(o * d.count + j) * d.inner + i];
  }
  return bad;
}

template <class T, class I>
int64_t one_hot(int64_t n, int64_t classes, const I* labels, T* y) {
  int64_t bad = -1;
  for (int64_t j = n; j-- > 0;) {
    const bool good = labels[j] >= 0 && labels[j] < classes;
    if (!good) bad = j;
    for (int64_t k = 0; k < classes; ++k) y[j * classes + k] = good ? T(k == labels[j]) : wrong<T>();
  }
  return bad;
}

template <class T>
void argmax(int64_t outer, int64_t axis, int64_t inner, const T* x, int32_t* y) {
  for (int64_t o = 0; o < outer; ++o)
    for (int64_t i = 0; i < inner; ++i) {
      const auto at = [&](int64_t k) { return x[(o * axis + k) * inner + i]; };
      int64_t best = 0;
      for (int64_t k = 1; k < axis; ++k)
        if (at(best) == at(best) && (at(k) > at(best) || at(k) != at(k))) best = k;
      y[o * inner + i] = static_cast<int32_t>(best);
    }
}

void slice(const SliceDims& d, size_t element, const void* x, void* y) {
  for (int64_t i = 0; i < d.y.count(); ++i) copy(element, x, slice_source(d, i), y, i);
}

void unslice(const SliceDims& d, size_t element, const void* y, void* x) {
  std::memset(x, 0, static_cast<size_t>(d.x.count()) * element);
  for (int64_t i = 0; i < d.y.count(); ++i) copy(element, y, i, x, slice_source(d, i));
}

void pad_reflect(const PadDims& d, size_t element, const void* x, void* y) {
  for (int64_t i = 0; i < d.y.count(); ++i) copy(element, x, reflect_source(d, i), y, i);
}

template <class T>
void pad_reflect_adjoint(const PadDims& d, const T* dy, T* dx) {
  std::fill_n(dx, d.x.count(), T(0));
  for (int64_t i = 0; i < d.y.count(); ++i) dx[reflect_source(d, i)] += dy[i];
}

void concat(const ConcatDims& d, size_t element, const void* const* x, void* y) {
  int64_t to = 0;
  for (int64_t o = 0; o < d.outer; ++o)
    for (int part = 0; part < d.count; ++part)
      for (int64_t i = 0; i < d.extents[part] * d.inner; ++i, ++to)
        copy(element, x[part], o * d.extents[part] * d.inner + i, y, to);
}

void transpose(const TransposeDims& d, size_t element, const void* x, void* y) {
  Dims out{d.x.rank, {}};
  for (int k = 0; k < out.rank; ++k) out.d[k] = d.x.d[d.order[k]];
  for (int64_t i = 0; i < out.count(); ++i) {
    const Position to(out, i);
    int64_t from[max_rank];
    for (int k = 0; k < out.rank; ++k) from[d.order[k]] = to.at[k];
    copy(element, x, flat(d.x, from), y, i);
  }
}

#include "kernels/index/instances.h"

}  // namespace reference
}  // namespace ranvier::kernels
