// Pooling on a CUDA device: a thread makes one pack of neighbouring channels of one position, in 16-byte accesses where
// the channels divide into packs. The adjoints gather over the windows that cover a position, so that no two threads
// meet and sums keep their order.
#include "kernels/common/divide.h"
#include "kernels/common/launch.h"
#include "kernels/common/pack_convert.h"
#include "kernels/pool/pool.h"
#include "kernels/pool/windows.h"

namespace ranvier::kernels::cuda {
namespace {

constexpr int threads = 256;

/// Image, row, column and first channel of an item.
struct Place {
  int64_t n, i, j, c;
};

/// Takes the running number of an item (row-major over images, rows, columns and packs of channels) apart.
struct Items {
  Items(int64_t n, int64_t rows, int64_t columns, int64_t packs)
      : count(n * rows * columns * packs),
        rows_(rows),
        columns_(columns),
        packs_(packs),
        narrow_(count <= most_narrow),
        by_rows_(narrow_ && count ? static_cast<uint64_t>(rows) : 1),
        by_columns_(narrow_ && count ? static_cast<uint64_t>(columns) : 1),
        by_packs_(narrow_ && count ? static_cast<uint64_t>(packs) : 1) {}
  int64_t count;

  template <int size>
  __device__ Place place(int64_t item) const {
    if (!narrow_) {
      const int64_t at = item / packs_, row = at / columns_;
      return {row / rows_, row % rows_, at % columns_, item % packs_ * size};
    }
    const auto small = static_cast<uint32_t>(item);
    const uint32_t at = by_packs_.quotient(small), row = by_columns_.quotient(at), n = by_rows_.quotient(row);
    return {n, by_rows_.remainder(row, n), by_columns_.remainder(at, row),
            int64_t{by_packs_.remainder(small, at)} * size};
  }

 private:
  int64_t rows_, columns_, packs_;
  bool narrow_;
  Divider<uint32_t> by_rows_, by_columns_, by_packs_;
};

__device__ int64_t first_item() { return int64_t{blockIdx.x} * blockDim.x + threadIdx.x; }
__device__ int64_t item_step() { return int64_t{gridDim.x} * blockDim.x; }

/// One output position: where its window lies in the map, and where the result goes.
struct Window {
  int64_t map, out;
  Span1 rows, columns;
};

template <int size>
__device__ Window window_of(const PoolDims& d, const Items& items, int64_t item) {
  const Place at = items.place<size>(item);
  return {at.n * d.h * d.w * d.c + at.c, item * size, covered(at.i, d.stride, d.pad, d.r, d.h),
          covered(at.j, d.stride, d.pad, d.s, d.w)};
}

template <class T, int size>
__global__ void max_pool_kernel(PoolDims d, Items items, const T* x, T* y, int32_t* index) {
  for (int64_t item = first_item(); item < items.count; item += item_step()) {
    const Window window = window_of<size>(d, items, item);
    const int64_t first = window.rows.first * d.w + window.columns.first;
    Pack<T, size> best = load_pack<size>(x + window.map + first * d.c);
    Pack<int32_t, size> at;
#pragma unroll
    for (int k = 0; k < size; ++k) at.v[k] = static_cast<int32_t>(first);
    for (int64_t i = window.rows.first; i < window.rows.last; ++i)
      for (int64_t j = window.columns.first; j < window.columns.last; ++j) {
        const Pack<T, size> other = load_pack<size>(x + window.map + (i * d.w + j) * d.c);
#pragma unroll
        for (int k = 0; k < size; ++k) {
          const float v = to_float(other.v[k]);
          const bool take = v > to_float(best.v[k]) || v != v;
          best.v[k] = take ? other.v[k] : best.v[k];
          at.v[k] = take ? static_cast<int32_t>(i * d.w + j) : at.v[k];
        }
      }
    store_pack(y + window.out, best);
    store_pack(index + window.out, at);
  }
}

template <class T, int size>
__global__ void pool_take_kernel(PoolDims d, Items items, const T* x, const int32_t* index, T* y) {
  for (int64_t item = first_item(); item < items.count; item += item_step()) {
    const Place place = items.place<size>(item);
    const Pack<int32_t, size> at = load_pack<size>(index + item * size);
    Pack<T, size> taken;
#pragma unroll
    for (int k = 0; k < size; ++k) taken.v[k] = x[(place.n * d.h * d.w + at.v[k]) * d.c + place.c + k];
    store_pack(y + item * size, taken);
  }
}

template <class T, int size>
__global__ void avg_pool_kernel(PoolDims d, Items items, const T* x, T* y) {
  for (int64_t item = first_item(); item < items.count; item += item_step()) {
    const Window window = window_of<size>(d, items, item);
    float sum[size] = {};
    for (int64_t i = window.rows.first; i < window.rows.last; ++i)
      for (int64_t j = window.columns.first; j < window.columns.last; ++j) {
        const Pack<T, size> other = load_pack<size>(x + window.map + (i * d.w + j) * d.c);
#pragma unroll
        for (int k = 0; k < size; ++k) sum[k] += to_float(other.v[k]);
      }
    const float weight = average_weight<float>(d, window.rows, window.columns);
#pragma unroll
    for (int k = 0; k < size; ++k) sum[k] *= weight;
    store_pack(y + window.out, narrow_pack<T>(sum));
  }
}

/// dx of every position as the sum over the windows that cover it, in row order: `add(sum, out, position, p, q)`.
template <class T, int size, class Add>
__device__ void sum_windows(const PoolDims& d, const Items& items, T* dx, Add add) {
  for (int64_t item = first_item(); item < items.count; item += item_step()) {
    const Place place = items.place<size>(item);
    const Span1 ps = covering(place.i, d.stride, d.pad, d.r, d.p()),
                qs = covering(place.j, d.stride, d.pad, d.s, d.q());
    float sum[size] = {};
    for (int64_t p = ps.first; p < ps.last; ++p)
      for (int64_t q = qs.first; q < qs.last; ++q)
        add(sum, ((place.n * d.p() + p) * d.q() + q) * d.c + place.c, place.i * d.w + place.j, p, q);
    store_pack(dx + item * size, narrow_pack<T>(sum));
  }
}

template <class T, int size>
__global__ void max_unpool_kernel(PoolDims d, Items items, const T* dy, const int32_t* index, T* dx) {
  sum_windows<T, size>(d, items, dx, [&](float(&sum)[size], int64_t out, int64_t position, int64_t, int64_t) {
    const Pack<T, size> g = load_pack<size>(dy + out);
    const Pack<int32_t, size> at = load_pack<size>(index + out);
#pragma unroll
    for (int k = 0; k < size; ++k) sum[k] += at.v[k] == position ? to_float(g.v[k]) : 0.0f;
  });
}

template <class T, int size>
__global__ void avg_unpool_kernel(PoolDims d, Items items, const T* dy, T* dx) {
  sum_windows<T, size>(d, items, dx, [&](float(&sum)[size], int64_t out, int64_t, int64_t p, int64_t q) {
    const Pack<T, size> g = load_pack<size>(dy + out);
    const float weight =
        average_weight<float>(d, covered(p, d.stride, d.pad, d.r, d.h), covered(q, d.stride, d.pad, d.s, d.w));
#pragma unroll
    for (int k = 0; k < size; ++k) sum[k] += product(to_float(g.v[k]), weight);
  });
}

__global__ void window_position_kernel(int64_t n, int64_t width, int64_t window, const int32_t* index, uint8_t* place) {
  for (int64_t e = first_item(); e < n; e += item_step()) {
    const int64_t row = fast_quotient(index[e], width), column = index[e] - row * width;
    const int64_t i = row - fast_quotient(row, window) * window, j = column - fast_quotient(column, window) * window;
    place[e] = static_cast<uint8_t>(i * window + j);
  }
}

/// Calls `body(items, size)` with the packs that the channels divide into: of 16 bytes, or single elements.
template <class T, class Body>
void with_packs(const PoolDims& d, int64_t rows, int64_t columns, Body body) {
  constexpr int wide = pack_size<T>;
  if (d.c % wide == 0) return body(Items(d.n, rows, columns, d.c / wide), std::integral_constant<int, wide>{});
  body(Items(d.n, rows, columns, d.c), std::integral_constant<int, 1>{});
}

LaunchConfig config(const Items& items, CudaStream stream) {
  return {blocks_for(items.count, threads), threads, 0, stream};
}

}  // namespace

template <class T>
void max_pool(const PoolDims& d, const T* x, T* y, int32_t* index, CudaStream stream) {
  with_packs<T>(d, d.p(), d.q(), [&](const Items& items, auto size) {
    launch(max_pool_kernel<T, size()>, config(items, stream), d, items, x, y, index);
  });
}

template <class T>
void pool_take(const PoolDims& d, const T* x, const int32_t* index, T* y, CudaStream stream) {
  with_packs<T>(d, d.p(), d.q(), [&](const Items& items, auto size) {
    launch(pool_take_kernel<T, size()>, config(items, stream), d, items, x, index, y);
  });
}

template <class T>
void avg_pool(const PoolDims& d, const T* x, T* y, CudaStream stream) {
  with_packs<T>(d, d.p(), d.q(), [&](const Items& items, auto size) {
    launch(avg_pool_kernel<T, size()>, config(items, stream), d, items, x, y);
  });
}

template <class T>
void max_unpool(const PoolDims& d, const T* dy, const int32_t* index, T* dx, CudaStream stream) {
  with_packs<T>(d, d.h, d.w, [&](const Items& items, auto size) {
    launch(max_unpool_kernel<T, size()>, config(items, stream), d, items, dy, index, dx);
  });
}

template <class T>
void avg_unpool(const PoolDims& d, const T* dy, T* dx, CudaStream stream) {
  with_packs<T>(d, d.h, d.w, [&](const Items& items, auto size) {
    launch(avg_unpool_kernel<T, size()>, config(items, stream), d, items, dy, dx);
  });
}

void window_position(int64_t n, int64_t width, int64_t window, const int32_t* index, uint8_t* place,
                     CudaStream stream) {
  launch(window_position_kernel, {blocks_for(n, threads), threads, 0, stream}, n, width, window, index, place);
}

#define RANVIER_INSTANCES(T)                                                           \
  template void max_pool(const PoolDims&, const T*, T*, int32_t*, CudaStream);         \
  template void max_unpool(const PoolDims&, const T*, const int32_t*, T*, CudaStream); \
  template void pool_take(const PoolDims&, const T*, const int32_t*, T*, CudaStream);  \
  template void avg_pool(const PoolDims&, const T*, T*, CudaStream);                   \
  template void avg_unpool(const PoolDims&, const T*, T*, CudaStream);
RANVIER_INSTANCES(float)
RANVIER_INSTANCES(bf16)
RANVIER_INSTANCES(f16)
#undef RANVIER_INSTANCES

}  // namespace ranvier::kernels::cuda
