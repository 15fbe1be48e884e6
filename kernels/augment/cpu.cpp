// Fast CPU augmentation: threads over images, rows moved whole, border columns one by one.
#include <algorithm>
#include <cstring>

#include "kernels/augment/augment.h"
#include "kernels/common/parallel.h"

namespace ranvier::kernels::cpu {
namespace {

constexpr int64_t kGrain = int64_t{1} << 16;  // elements of a shard

/// Calls body(image) over all images, in shards of whole images.
template <class Body>
void for_each_image(const ImageDims& d, Body&& body) {
  const int64_t shards = std::min(shard_count(d.n * d.h * d.w * d.c, kGrain), d.n);
  parallel_for(shards, [&](int64_t shard) {
    const int64_t end = shard_begin(d.n, shards, shard + 1);
    for (int64_t n = shard_begin(d.n, shards, shard); n < end; ++n) body(n);
  });
}

/// Pixels of one row in reverse order; C channels, or d_c where C is 0.
template <int C, class T>
void mirror_row(int64_t w, int64_t d_c, const T* x, T* y) {
  const int64_t channels = C > 0 ? C : d_c;
  for (int64_t j = 0; j < w; ++j) {
    for (int64_t c = 0; c < channels; ++c) y[j * channels + c] = x[(w - 1 - j) * channels + c];
  }
}

/// Source of output index i shifted by `offset`, or -1 for a zero.
int64_t source(int64_t i, int64_t offset, int64_t size, Border border) {
  const int64_t index = i + offset;
  if (border == Border::reflect) return reflect_index(index, size);
  return index >= 0 && index < size ? index : -1;
}

/// y(j) = x(j + offset) over the pixels of one row.
template <class T>
void shift_row(int64_t w, int64_t c, int64_t offset, Border border, const T* x, T* y) {
  const int64_t begin = std::clamp<int64_t>(-offset, 0, w), end = std::clamp<int64_t>(w - offset, begin, w);
  const auto pixel = [&](int64_t j) {
    const int64_t from = source(j, offset, w, border);
    for (int64_t k = 0; k < c; ++k) y[j * c + k] = from < 0 ? T(0) : x[from * c + k];
  };
  for (int64_t j = 0; j < begin; ++j) pixel(j);
  if (end > begin) std::memcpy(y + begin * c, x + (begin + offset) * c, sizeof(T) * (end - begin) * c);
  for (int64_t j = end; j < w; ++j) pixel(j);
}

}  // namespace

template <class T>
void flip(const ImageDims& d, const T* x, const uint8_t* flags, T* y) {
  const int64_t row = d.w * d.c;
  for_each_image(d, [&](int64_t n) {
    const T* from = x + n * d.h * row;
    T* to = y + n * d.h * row;
    if (!flags[n]) {
      std::copy(from, from + d.h * row, to);
      return;
    }
    for (int64_t i = 0; i < d.h; ++i) {
      if (d.c == 3) {
        mirror_row<3>(d.w, d.c, from + i * row, to + i * row);
      } else {
        mirror_row<0>(d.w, d.c, from + i * row, to + i * row);
      }
    }
  });
}

template <class T>
void translate(const ImageDims& d, const T* x, const int32_t* offsets, Border border, T* y) {
  const int64_t row = d.w * d.c;
  for_each_image(d, [&](int64_t n) {
    for (int64_t i = 0; i < d.h; ++i) {
      const int64_t from = source(i, offsets[2 * n], d.h, border);
      T* to = y + (n * d.h + i) * row;
      if (from < 0) {
        std::fill(to, to + row, T(0));
      } else {
        shift_row(d.w, d.c, offsets[2 * n + 1], border, x + (n * d.h + from) * row, to);
      }
    }
  });
}

void translate_adjoint(const ImageDims& d, const float* dy, const int32_t* offsets, Border border, float* dx) {
  const int64_t row = d.w * d.c;
  for_each_image(d, [&](int64_t n) {
    const int64_t shift = offsets[2 * n + 1];
    const int64_t begin = std::clamp<int64_t>(-shift, 0, d.w), end = std::clamp<int64_t>(d.w - shift, begin, d.w);
    std::fill(dx + n * d.h * row, dx + (n + 1) * d.h * row, 0.0f);
    for (int64_t i = 0; i < d.h; ++i) {
      const int64_t target = source(i, offsets[2 * n], d.h, border);
      if (target < 0) continue;
      const float* from = dy + (n * d.h + i) * row;
      float* to = dx + (n * d.h + target) * row;
      const auto pixel = [&](int64_t j) {
        const int64_t column = source(j, shift, d.w, border);
        if (column < 0) return;
        for (int64_t k = 0; k < d.c; ++k) to[column * d.c + k] += from[j * d.c + k];
      };
      for (int64_t j = 0; j < begin; ++j) pixel(j);
      for (int64_t k = begin * d.c; k < end * d.c; ++k) to[k + shift * d.c] += from[k];
      for (int64_t j = end; j < d.w; ++j) pixel(j);
    }
  });
}

template <class T>
void cutout(const ImageDims& d, const T* x, const int32_t* centres, int64_t size, T* y) {
  const int64_t row = d.w * d.c;
  for_each_image(d, [&](int64_t n) {
    const int64_t top = centres[2 * n] - size / 2, left = centres[2 * n + 1] - size / 2;
    const int64_t row_end = std::clamp<int64_t>(top + size, 0, d.h),
                  column_end = std::clamp<int64_t>(left + size, 0, d.w);
    const int64_t row_begin = std::clamp<int64_t>(top, 0, row_end),
                  column_begin = std::clamp<int64_t>(left, 0, column_end);
    T* image = y + n * d.h * row;
    std::copy(x + n * d.h * row, x + (n + 1) * d.h * row, image);
    for (int64_t i = row_begin; i < row_end; ++i) {
      std::fill(image + i * row + column_begin * d.c, image + i * row + column_end * d.c, T(0));
    }
  });
}

void normalize(const ImageDims& d, const uint8_t* x, const float* mean, const float* deviation, float* y) {
  constexpr int64_t lanes = 16, most_channels = 64;
  const int64_t image = d.h * d.w * d.c;
  if (d.c > most_channels) {
    reference::normalize(d, x, mean, deviation, y);
    return;
  }
  // Mean and deviation repeated over 16 pixels: c whole vectors, whatever c is.
  alignas(64) float means[lanes * most_channels], deviations[lanes * most_channels];
  const int64_t period = lanes * d.c;
  for (int64_t k = 0; k < period; ++k) {
    means[k] = mean[k % d.c];
    deviations[k] = deviation[k % d.c];
  }
  for_each_image(d, [&](int64_t n) {
    const uint8_t* from = x + n * image;
    float* to = y + n * image;
    for (int64_t begin = 0; begin < image; begin += period) {
      const int64_t count = std::min(period, image - begin);
#pragma omp simd
      for (int64_t k = 0; k < count; ++k) {
        to[begin + k] = (static_cast<float>(from[begin + k]) / 255.0f - means[k]) / deviations[k];
      }
    }
  });
}

#define RANVIER_INSTANTIATE(T)                                                        \
  template void flip<T>(const ImageDims&, const T*, const uint8_t*, T*);              \
  template void translate<T>(const ImageDims&, const T*, const int32_t*, Border, T*); \
  template void cutout<T>(const ImageDims&, const T*, const int32_t*, int64_t, T*);
RANVIER_INSTANTIATE(uint8_t)
RANVIER_INSTANTIATE(float)
#undef RANVIER_INSTANTIATE

}  // namespace ranvier::kernels::cpu
