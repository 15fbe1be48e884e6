// Plain reductions: the oracle of the fast ones.
#include <limits>

#include "kernels/reduce/reduce.h"

namespace ranvier::kernels {
namespace {

/// Visits every (outer, inner) pair with the address of its first element.
template <class T, class Body>
void each(const ReduceDims& dims, const T* x, Body&& body) {
  for (int64_t o = 0; o < dims.outer; ++o)
    for (int64_t i = 0; i < dims.inner; ++i) body(o * dims.inner + i, x + o * dims.reduce * dims.inner + i);
}

}  // namespace

template <class T>
void sum_reference(const ReduceDims& dims, const T* x, T* y) {
  each(dims, x, [&](int64_t at, const T* first) {
    double sum = 0;  // an f32 oracle must be better than what it judges
    for (int64_t r = 0; r < dims.reduce; ++r) sum += static_cast<double>(first[r * dims.inner]);
    y[at] = static_cast<T>(sum);
  });
}

template <class T>
void max_reference(const ReduceDims& dims, const T* x, T* y) {
  each(dims, x, [&](int64_t at, const T* first) {
    T best = -std::numeric_limits<T>::infinity();
    for (int64_t r = 0; r < dims.reduce; ++r) {
      const T value = first[r * dims.inner];
      if (value > best || value != value) best = value;
      if (best != best) break;
    }
    y[at] = best;
  });
}

template <class T>
void argmax_reference(const ReduceDims& dims, const T* x, int32_t* index) {
  each(dims, x, [&](int64_t at, const T* first) {
    int64_t best = 0;
    for (int64_t r = 1; r < dims.reduce; ++r) {
      const T value = first[r * dims.inner], top = first[best * dims.inner];
      if (top != top) break;
      if (value > top || value != value) best = r;
    }
    index[at] = static_cast<int32_t>(best);
  });
}

#define RANVIER_REDUCE(T)                                          \
  template void sum_reference<T>(const ReduceDims&, const T*, T*); \
  template void max_reference<T>(const ReduceDims&, const T*, T*); \
  template void argmax_reference<T>(const ReduceDims&, const T*, int32_t*);
RANVIER_REDUCE(float)
RANVIER_REDUCE(double)

}  // namespace ranvier::kernels
