// Plain loops over (n, h, w, c): the oracle of the image augmentations.
#include <algorithm>

#include "kernels/augment/augment.h"

namespace ranvier::kernels::reference {
namespace {

int64_t at(const ImageDims& d, int64_t n, int64_t i, int64_t j, int64_t c) {
  return ((n * d.h + i) * d.w + j) * d.c + c;
}

/// Calls body(n, i, j, c) in ascending order.
template <class Body>
void for_each_element(const ImageDims& d, Body&& body) {
  for (int64_t n = 0; n < d.n; ++n) {
    for (int64_t i = 0; i < d.h; ++i) {
      for (int64_t j = 0; j < d.w; ++j) {
        for (int64_t c = 0; c < d.c; ++c) body(n, i, j, c);
      }
    }
  }
}

}  // namespace

template <class T>
void flip(const ImageDims& d, const T* x, const uint8_t* flags, T* y) {
  for_each_element(d, [&](int64_t n, int64_t i, int64_t j, int64_t c) {
    y[at(d, n, i, j, c)] = x[at(d, n, i, flags[n] ? d.w - 1 - j : j, c)];
  });
}

template <class T>
void translate(const ImageDims& d, const T* x, const int32_t* offsets, Border border, T* y) {
  for_each_element(d, [&](int64_t n, int64_t i, int64_t j, int64_t c) {
    int64_t row = i + offsets[2 * n], column = j + offsets[2 * n + 1];
    if (border == Border::reflect) {
      row = reflect_index(row, d.h);
      column = reflect_index(column, d.w);
    }
    const bool inside = row >= 0 && row < d.h && column >= 0 && column < d.w;
    y[at(d, n, i, j, c)] = inside ? x[at(d, n, row, column, c)] : T(0);
  });
}

template <class T>
void translate_adjoint(const ImageDims& d, const T* dy, const int32_t* offsets, Border border, T* dx) {
  std::fill(dx, dx + d.n * d.h * d.w * d.c, T(0));
  for_each_element(d, [&](int64_t n, int64_t i, int64_t j, int64_t c) {
    int64_t row = i + offsets[2 * n], column = j + offsets[2 * n + 1];
    if (border == Border::reflect) {
      row = reflect_index(row, d.h);
      column = reflect_index(column, d.w);
    }
    const bool inside = row >= 0 && row < d.h && column >= 0 && column < d.w;
    if (inside) dx[at(d, n, row, column, c)] += dy[at(d, n, i, j, c)];
  });
}

template <class T>
void cutout(const ImageDims& d, const T* x, const int32_t* centres, int64_t size, T* y) {
  for_each_element(d, [&](int64_t n, int64_t i, int64_t j, int64_t c) {
    const int64_t top = centres[2 * n] - size / 2, left = centres[2 * n + 1] - size / 2;
    const bool inside = i >= top && i < top + size && j >= left && j < left + size;
    y[at(d, n, i, j, c)] = inside ? T(0) : x[at(d, n, i, j, c)];
  });
}

template <class T>
void normalize(const ImageDims& d, const uint8_t* x, const T* mean, const T* deviation, T* y) {
  for_each_element(d, [&](int64_t n, int64_t i, int64_t j, int64_t c) {
    const int64_t k = at(d, n, i, j, c);
    y[k] = (T(x[k]) / T(255) - mean[c]) / deviation[c];
  });
}

#define RANVIER_INSTANTIATE(T)                                                        \
  template void flip<T>(const ImageDims&, const T*, const uint8_t*, T*);              \
  template void translate<T>(const ImageDims&, const T*, const int32_t*, Border, T*); \
  template void cutout<T>(const ImageDims&, const T*, const int32_t*, int64_t, T*);
RANVIER_INSTANTIATE(uint8_t)
RANVIER_INSTANTIATE(float)
RANVIER_INSTANTIATE(double)
#undef RANVIER_INSTANTIATE
template void translate_adjoint<float>(const ImageDims&, const float*, const int32_t*, Border, float*);
template void translate_adjoint<double>(const ImageDims&, const double*, const int32_t*, Border, double*);
template void normalize<float>(const ImageDims&, const uint8_t*, const float*, const float*, float*);
template void normalize<double>(const ImageDims&, const uint8_t*, const double*, const double*, double*);

}  // namespace ranvier::kernels::reference
