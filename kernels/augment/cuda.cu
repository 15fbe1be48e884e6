// Image augmentation on a CUDA device: each thread makes 16 bytes of the result. What they come from is found by
// multiplications once: a row of the batch, in which the thread counts on.
#include <cmath>

#include "kernels/augment/augment.h"
#include "kernels/common/divide.h"
#include "kernels/common/half.h"
#include "kernels/common/launch.h"
#include "kernels/common/pack_convert.h"

namespace ranvier::kernels::cuda {
namespace {

constexpr int threads = 256;

/// Extents of a batch with the divisions that take an element's number apart.
template <class Index>
struct Layout {
  Divider<Index> c, w, h;
  int64_t elements;
  explicit Layout(const ImageDims& d) : c(d.c), w(d.w), h(d.h), elements(d.n * d.h * d.w * d.c) {}
};

/// An element's place: image, row, column, channel.
template <class Index>
struct Place {
  Index n, i, j, c;

  __device__ Place(const Layout<Index>& d, Index element) {
    const Index pixel = d.c.quotient(element), row = d.w.quotient(pixel);
    n = d.h.quotient(row);
    c = d.c.remainder(element, pixel), j = d.w.remainder(pixel, row), i = d.h.remainder(row, n);
  }
  /// Goes on to the next element.
  __device__ void advance(const Layout<Index>& d) {
    if (++c < d.c.divisor) return;
    c = 0;
    if (++j < d.w.divisor) return;
    j = 0;
    if (++i < d.h.divisor) return;
    i = 0, ++n;
  }
};

/// y = what `map.row(d, n, i)` says of the row of each element. Of such a row, run(j, last, c) is where the elements
/// from channel c of column j to column `last` lie side by side in memory, null where they do not, and at(j, c) is one
/// element.
template <class Index, class T, class Map>
__global__ void __launch_bounds__(threads) image_kernel(Layout<Index> d, T* y, Map map) {
  constexpr int pack = pack_size<T>;
  const auto n = static_cast<Index>(d.elements), stride = static_cast<Index>(gridDim.x) * threads * pack;
  for (Index first = (static_cast<Index>(blockIdx.x) * threads + threadIdx.x) * pack; first < n; first += stride) {
    Place<Index> place(d, first);
    Pack<T, pack> result;
    if (place.j * d.c.divisor + place.c + pack <= d.w.divisor * d.c.divisor) {  // all in one row
      const auto row = map.row(d, place.n, place.i);
      const Index last = place.j + d.c.quotient(place.c + pack - 1);
      if (const T* run = row.run(d, place.j, last, place.c)) {
        if (reinterpret_cast<uintptr_t>(run) % 16 == 0) {
          result = load_pack<pack>(run);
        } else {
#pragma unroll
          for (int k = 0; k < pack; ++k) result.v[k] = run[k];
        }
      } else {
#pragma unroll
        for (int k = 0; k < pack; ++k) {
          result.v[k] = row.at(d, place.j, place.c);
          if (++place.c == d.c.divisor) place.c = 0, ++place.j;
        }
      }
      store_pack(y + first, result);
    } else {  // also the last elements
#pragma unroll 1
      for (int k = 0; k < pack && first + k < n; ++k) {
        y[first + k] = map.row(d, place.n, place.i).at(d, place.j, place.c);
        place.advance(d);
      }
    }
  }
}

template <class T, class Map>
void images(const ImageDims& d, T* y, const Map& map, CudaStream stream) {
  const int64_t n = d.n * d.h * d.w * d.c;
  if (n == 0) return;
  // a stride past the end must not wrap: 2^18 blocks are 2^30 elements
  const LaunchConfig config{blocks_for(n, threads * pack_size<T>, 1 << 18), threads, 0, stream};
  if (n <= most_narrow / 2)
    launch(image_kernel<uint32_t, T, Map>, config, Layout<uint32_t>(d), y, map);
  else
    launch(image_kernel<uint64_t, T, Map>, config, Layout<uint64_t>(d), y, map);
}

/// Number of element (n, i, 0, 0).
template <class Index>
__device__ int64_t row_start(const Layout<Index>& d, Index n, int64_t i) {
  return (static_cast<int64_t>(n) * d.h.divisor + i) * d.w.divisor * d.c.divisor;
}

template <class T>
struct Flip {
  const T* x;
  const uint8_t* flags;

  template <class Index>
  struct Row {
    const T* x;
    bool flipped;
    __device__ const T* run(const Layout<Index>& d, Index j, Index, Index c) const {
      return flipped ? nullptr : x + (j * d.c.divisor + c);
    }
    __device__ T at(const Layout<Index>& d, Index j, Index c) const {
      return x[(flipped ? d.w.divisor - 1 - j : j) * d.c.divisor + c];
    }
  };
  template <class Index>
  __device__ Row<Index> row(const Layout<Index>& d, Index n, Index i) const {
    return {x + row_start(d, n, i), flags[n] != 0};
  }
};

/// The row or column that position i shows, or -1.
__device__ int64_t source(int64_t i, int64_t size, Border border) {
  if (i >= 0 && i < size) return i;
  return border == Border::reflect ? reflect_index(i, size) : -1;
}

template <class T>
struct Translate {
  const T* x;
  const int32_t* offsets;
  Border border;

  template <class Index>
  struct Row {
    const T* x;  // null: beyond a border of zeros
    int64_t right;
    Border border;
    __device__ const T* run(const Layout<Index>& d, Index j, Index last, Index c) const {
      const int64_t from = static_cast<int64_t>(j) + right, to = static_cast<int64_t>(last) + right;
      return x && from >= 0 && to < static_cast<int64_t>(d.w.divisor) ? x + (from * d.c.divisor + c) : nullptr;
    }
    __device__ T at(const Layout<Index>& d, Index j, Index c) const {
      const int64_t column = source(static_cast<int64_t>(j) + right, d.w.divisor, border);
      return x && column >= 0 ? x[column * d.c.divisor + c] : T{};
    }
  };
  template <class Index>
  __device__ Row<Index> row(const Layout<Index>& d, Index n, Index i) const {
    const int64_t from = source(static_cast<int64_t>(i) + offsets[2 * static_cast<int64_t>(n)], d.h.divisor, border);
    return {from < 0 ? nullptr : x + row_start(d, n, from), offsets[2 * static_cast<int64_t>(n) + 1], border};
  }
};

/// Output positions that show row or column `at`, ascending: at most two, since a reflected border repeats after
/// 2 size - 2 positions and an image has at most as many.
struct Shown {
  int64_t first, second;
  bool has_first, has_second = false;

  __device__ Shown(int64_t at, int64_t offset, int64_t size, Border border) {
    if (border == Border::zero || size == 1) {
      first = border == Border::reflect ? 0 : at - offset;
      has_first = first >= 0 && first < size;
      return;
    }
    const int64_t period = 2 * (size - 1);
    int64_t a = (at - offset) % period, b = (-at - offset) % period;
    if (a < 0) a += period;
    if (b < 0) b += period;
    first = min(a, b), second = max(a, b);
    has_first = first < size, has_second = second < size && second != first;
  }
};

template <class T>
struct TranslateAdjoint {
  const T* dy;
  const int32_t* offsets;
  Border border;

  template <class Index>
  struct Row {
    const T* dy;  // the image
    Shown rows;
    int64_t right;
    Border border;
    __device__ const T* run(const Layout<Index>&, Index, Index, Index) const { return nullptr; }
    __device__ T at(const Layout<Index>& d, Index j, Index c) const {
      const Shown columns(j, right, d.w.divisor, border);
      compute_t<T> sum = 0;
      const auto add_row = [&](int64_t row) {
        const T* from = dy + row * d.w.divisor * d.c.divisor + c;
        if (columns.has_first) sum += widen(from[columns.first * d.c.divisor]);
        if (columns.has_second) sum += widen(from[columns.second * d.c.divisor]);
      };
      if (rows.has_first) add_row(rows.first);
      if (rows.has_second) add_row(rows.second);
      return narrow<T>(sum);
    }
  };
  template <class Index>
  __device__ Row<Index> row(const Layout<Index>& d, Index n, Index i) const {
    const auto image = static_cast<int64_t>(n);
    return {dy + row_start(d, n, 0), Shown(i, offsets[2 * image], d.h.divisor, border), offsets[2 * image + 1], border};
  }
};

template <class T>
struct Cutout {
  const T* x;
  const int32_t* centres;
  int64_t size;

  template <class Index>
  struct Row {
    const T* x;
    int64_t left, end;  // columns of zeros
    __device__ const T* run(const Layout<Index>& d, Index j, Index last, Index c) const {
      const bool apart = static_cast<int64_t>(last) < left || static_cast<int64_t>(j) >= end;
      return apart ? x + (j * d.c.divisor + c) : nullptr;
    }
    __device__ T at(const Layout<Index>& d, Index j, Index c) const {
      const auto column = static_cast<int64_t>(j);
      return column >= left && column < end ? T{} : x[j * d.c.divisor + c];
    }
  };
  template <class Index>
  __device__ Row<Index> row(const Layout<Index>& d, Index n, Index i) const {
    const auto image = static_cast<int64_t>(n);
    const int64_t down = static_cast<int64_t>(i) - (centres[2 * image] - size / 2);
    const int64_t left = centres[2 * image + 1] - size / 2;
    return {x + row_start(d, n, i), left, down >= 0 && down < size ? left + size : left};
  }
};

/// Mean and deviation of every channel, by value: they are constants of the program. `inverse` is 1 / deviation, or 0
/// where numbers are so small or large that only a division is right.
template <class C>
struct Channels {
  C mean[most_normalized_channels], deviation[most_normalized_channels], inverse[most_normalized_channels];
};

/// y = (x / 255 - mean) / deviation. A thread makes 16 bytes of y (all of an f64 pair from two bytes of x).
template <class Index, class T>
__global__ void __launch_bounds__(threads)
    normalize_kernel(Layout<Index> d, const uint8_t* x, const __grid_constant__ Channels<compute_t<T>> given, T* y) {
  using C = compute_t<T>;
  constexpr int pack = pack_size<T>;
  RANVIER_SHARED(Channels<C>, channels, [1]);
  const auto tid = static_cast<int>(threadIdx.x);
  if (tid < most_normalized_channels) {
    channels[0].mean[tid] = given.mean[tid];
    channels[0].deviation[tid] = given.deviation[tid];
    channels[0].inverse[tid] = given.inverse[tid];
  }
  __syncthreads();
  const C byte_inverse = quotient(C(1), C(255));
  const auto n = static_cast<Index>(d.elements), stride = static_cast<Index>(gridDim.x) * threads * pack;
  for (Index first = (static_cast<Index>(blockIdx.x) * threads + threadIdx.x) * pack; first < n; first += stride) {
    Index c = d.c.remainder(first, d.c.quotient(first));
    const bool whole = first + pack <= n;
    Pack<uint8_t, pack> from = {};
    if (whole) {
      from = load_pack<pack>(x + first);
    } else {
#pragma unroll
      for (int k = 0; k < pack; ++k)
        if (first + k < n) from.v[k] = x[first + k];
    }
    C values[pack];
#pragma unroll
    for (int k = 0; k < pack; ++k) {
      const C unit = quotient_by(static_cast<C>(from.v[k]), C(255), byte_inverse);
      const C centred = unit - channels[0].mean[c], deviation = channels[0].deviation[c];
      const C inverse = channels[0].inverse[c];
      values[k] = inverse != 0 ? quotient_by(centred, deviation, inverse) : quotient(centred, deviation);
      if (++c == d.c.divisor) c = 0;
    }
    Pack<T, pack> to;
    if constexpr (sizeof(T) == 2) {
      to = narrow_pack<T>(values);
    } else {
#pragma unroll
      for (int k = 0; k < pack; ++k) to.v[k] = values[k];
    }
    if (whole) {
      store_pack(y + first, to);
    } else {
#pragma unroll
      for (int k = 0; k < pack; ++k)
        if (first + k < n) y[first + k] = to.v[k];
    }
  }
}

__global__ void toggle_kernel(int64_t n, const uint8_t* flags, const int64_t* count, uint8_t* y) {
  const auto odd = static_cast<uint8_t>(*count & 1);
  const int64_t stride = int64_t{gridDim.x} * threads;
  for (int64_t i = int64_t{blockIdx.x} * threads + threadIdx.x; i < n; i += stride)
    y[i] = static_cast<uint8_t>((flags[i] != 0) ^ odd);
}

}  // namespace

template <class T>
void flip(const ImageDims& d, const T* x, const uint8_t* flags, T* y, CudaStream stream) {
  images(d, y, Flip<T>{x, flags}, stream);
}
template <class T>
void translate(const ImageDims& d, const T* x, const int32_t* offsets, Border border, T* y, CudaStream stream) {
  images(d, y, Translate<T>{x, offsets, border}, stream);
}
template <class T>
void translate_adjoint(const ImageDims& d, const T* dy, const int32_t* offsets, Border border, T* dx,
                       CudaStream stream) {
  images(d, dx, TranslateAdjoint<T>{dy, offsets, border}, stream);
}
template <class T>
void cutout(const ImageDims& d, const T* x, const int32_t* centres, int64_t size, T* y, CudaStream stream) {
  images(d, y, Cutout<T>{x, centres, size}, stream);
}
template <class T>
void normalize(const ImageDims& d, const uint8_t* x, const double* mean, const double* deviation, T* y,
               CudaStream stream) {
  using C = compute_t<T>;
  if (d.c > most_normalized_channels)
    throw std::runtime_error("normalize: " + std::to_string(d.c) + " channels, at most " +
                             std::to_string(most_normalized_channels));
  Channels<C> channels{};
  for (int64_t k = 0; k < d.c; ++k) {
    channels.mean[k] = static_cast<C>(mean[k]);
    channels.deviation[k] = static_cast<C>(deviation[k]);
    const double size = std::abs(mean[k]), spread = std::abs(deviation[k]);
    const bool plain = (size == 0 || (size > 1e-12 && size < 1e6)) && spread > 1e-6 && spread < 1e6;
    channels.inverse[k] = plain ? quotient(C(1), channels.deviation[k]) : C(0);
  }
  const int64_t n = d.n * d.h * d.w * d.c;
  const LaunchConfig config{blocks_for(n, threads * pack_size<T>, 1 << 18), threads, 0, stream};
  if (n <= most_narrow / 2)
    launch(normalize_kernel<uint32_t, T>, config, Layout<uint32_t>(d), x, channels, y);
  else
    launch(normalize_kernel<uint64_t, T>, config, Layout<uint64_t>(d), x, channels, y);
}

void toggle(int64_t n, const uint8_t* flags, const int64_t* count, uint8_t* y, CudaStream stream) {
  launch(toggle_kernel, {blocks_for(n, threads), threads, 0, stream}, n, flags, count, y);
}

#define RANVIER_INSTANTIATE(T)                                                                 \
  template void flip(const ImageDims&, const T*, const uint8_t*, T*, CudaStream);              \
  template void translate(const ImageDims&, const T*, const int32_t*, Border, T*, CudaStream); \
  template void cutout(const ImageDims&, const T*, const int32_t*, int64_t, T*, CudaStream);
RANVIER_INSTANTIATE(uint8_t)
RANVIER_INSTANTIATE(float)
RANVIER_INSTANTIATE(double)
RANVIER_INSTANTIATE(bf16)
RANVIER_INSTANTIATE(f16)
#undef RANVIER_INSTANTIATE
#define RANVIER_INSTANTIATE(T)                                                                         \
  template void translate_adjoint(const ImageDims&, const T*, const int32_t*, Border, T*, CudaStream); \
  template void normalize(const ImageDims&, const uint8_t*, const double*, const double*, T*, CudaStream);
RANVIER_INSTANTIATE(float)
RANVIER_INSTANTIATE(double)
RANVIER_INSTANTIATE(bf16)
RANVIER_INSTANTIATE(f16)
#undef RANVIER_INSTANTIATE

}  // namespace ranvier::kernels::cuda
