// Image augmentation on a CUDA device: each thread makes four neighbouring elements of the result from their places in
// the batch, found by multiplications once and then counted on.
#include "kernels/augment/augment.h"
#include "kernels/common/divide.h"
#include "kernels/common/half.h"
#include "kernels/common/launch.h"
#include "kernels/common/pack.h"

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

/// y[e] = map(e, place of e).
template <class Index, class T, class Map>
__global__ void __launch_bounds__(threads) image_kernel(Layout<Index> d, T* y, Map map) {
  const auto n = static_cast<Index>(d.elements), stride = static_cast<Index>(gridDim.x) * threads * 4;
  for (Index first = (static_cast<Index>(blockIdx.x) * threads + threadIdx.x) * 4; first < n; first += stride) {
    Place<Index> place(d, first);
    Pack<T, 4> pack;
#pragma unroll
    for (int k = 0; k < 4; ++k) {
      if (first + k < n) pack.v[k] = map(d, static_cast<Index>(first + k), place);
      place.advance(d);
    }
    if (first + 4 <= n) {
      store_pack(y + first, pack);
    } else {
#pragma unroll
      for (int k = 0; k < 4; ++k)
        if (first + k < n) y[first + k] = pack.v[k];
    }
  }
}

template <class T, class Map>
void images(const ImageDims& d, T* y, const Map& map, CudaStream stream) {
  const int64_t n = d.n * d.h * d.w * d.c;
  if (n == 0) return;
  // a stride past the end must not wrap: 2^20 blocks are 2^30 elements
  const LaunchConfig config{blocks_for(n, threads * 4), threads, 0, stream};
  if (n <= most_narrow / 2)
    launch(image_kernel<uint32_t, T, Map>, config, Layout<uint32_t>(d), y, map);
  else
    launch(image_kernel<uint64_t, T, Map>, config, Layout<uint64_t>(d), y, map);
}

/// Number of element (n, i, j, c).
template <class Index>
__device__ int64_t at(const Layout<Index>& d, Index n, int64_t i, int64_t j, Index c) {
  return ((static_cast<int64_t>(n) * d.h.divisor + i) * d.w.divisor + j) * d.c.divisor + c;
}

template <class T>
struct Flip {
  const T* x;
  const uint8_t* flags;
  template <class Index>
  __device__ T operator()(const Layout<Index>& d, Index, const Place<Index>& p) const {
    return x[at(d, p.n, p.i, flags[p.n] ? static_cast<int64_t>(d.w.divisor) - 1 - p.j : static_cast<int64_t>(p.j),
                p.c)];
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
  __device__ T operator()(const Layout<Index>& d, Index, const Place<Index>& p) const {
    const int64_t row = source(static_cast<int64_t>(p.i) + offsets[2 * static_cast<int64_t>(p.n)], d.h.divisor, border);
    const int64_t column =
        source(static_cast<int64_t>(p.j) + offsets[2 * static_cast<int64_t>(p.n) + 1], d.w.divisor, border);
    return row < 0 || column < 0 ? T{} : x[at(d, p.n, row, column, p.c)];
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
  __device__ T operator()(const Layout<Index>& d, Index, const Place<Index>& p) const {
    const auto image = static_cast<int64_t>(p.n);
    const Shown rows(p.i, offsets[2 * image], d.h.divisor, border);
    const Shown columns(p.j, offsets[2 * image + 1], d.w.divisor, border);
    compute_t<T> sum = 0;
    const auto add_row = [&](int64_t row) {
      if (columns.has_first) sum += widen(dy[at(d, p.n, row, columns.first, p.c)]);
      if (columns.has_second) sum += widen(dy[at(d, p.n, row, columns.second, p.c)]);
    };
    if (rows.has_first) add_row(rows.first);
    if (rows.has_second) add_row(rows.second);
    return narrow<T>(sum);
  }
};

template <class T>
struct Cutout {
  const T* x;
  const int32_t* centres;
  int64_t size;
  template <class Index>
  __device__ T operator()(const Layout<Index>&, Index element, const Place<Index>& p) const {
    const int64_t down = p.i - (centres[2 * static_cast<int64_t>(p.n)] - size / 2);
    const int64_t right = p.j - (centres[2 * static_cast<int64_t>(p.n) + 1] - size / 2);
    return down >= 0 && down < size && right >= 0 && right < size ? T{} : x[element];
  }
};

/// Mean and deviation of every channel, by value: they are constants of the program.
template <class C>
struct Channels {
  C mean[most_normalized_channels], deviation[most_normalized_channels];
};

template <class T>
struct Normalize {
  const uint8_t* x;
  Channels<compute_t<T>> channels;
  template <class Index>
  __device__ T operator()(const Layout<Index>&, Index element, const Place<Index>& p) const {
    using C = compute_t<T>;
    C mean = channels.mean[0], deviation = channels.deviation[0];
#pragma unroll
    for (int k = 1; k < most_normalized_channels; ++k)  // selected, not indexed: that would put them in local memory
      if (p.c == static_cast<Index>(k)) mean = channels.mean[k], deviation = channels.deviation[k];
    return narrow<T>(quotient(quotient(static_cast<C>(x[element]), C(255)) - mean, deviation));
  }
};

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
  Normalize<T> map{x, {}};
  for (int64_t k = 0; k < d.c; ++k) {
    map.channels.mean[k] = static_cast<C>(mean[k]);
    map.channels.deviation[k] = static_cast<C>(deviation[k]);
  }
  images(d, y, map, stream);
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
