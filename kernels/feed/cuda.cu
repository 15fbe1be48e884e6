// The windows of an order and the ring of results on a CUDA device: a few kilobytes a step.
#include "kernels/common/launch.h"
#include "kernels/feed/feed.h"

namespace ranvier::kernels::cuda {
namespace {

constexpr int threads = 256;

template <class I>
__global__ void window_kernel(int64_t n, int64_t batch, const I* order, const int64_t* counter, int64_t* window) {
  const I* from = order + wrapped(*counter, n / batch) * batch;
  const int64_t stride = int64_t{gridDim.x} * threads;
  for (int64_t i = int64_t{blockIdx.x} * threads + threadIdx.x; i < batch; i += stride) window[i] = from[i];
}

/// Units of T; where the ring is written over itself, only its row is touched.
template <class T>
__global__ void ring_kernel(int64_t size, int64_t row, const T* ring, const T* value, const int64_t* counter, T* out) {
  const int64_t begin = wrapped(*counter, size) * row, stride = int64_t{gridDim.x} * threads;
  const int64_t first = ring == out ? begin : 0, end = ring == out ? begin + row : size * row;
  for (int64_t i = first + int64_t{blockIdx.x} * threads + threadIdx.x; i < end; i += stride)
    out[i] = i >= begin && i < begin + row ? value[i - begin] : ring[i];
}

template <class T>
void write_units(int64_t size, size_t row, const void* ring, const void* value, const int64_t* counter, void* out,
                 CudaStream stream) {
  const auto units = static_cast<int64_t>(row / sizeof(T));
  const int64_t work = ring == out ? units : size * units;
  launch(ring_kernel<T>, {blocks_for(work, threads), threads, 0, stream}, size, units, static_cast<const T*>(ring),
         static_cast<const T*>(value), counter, static_cast<T*>(out));
}

}  // namespace

template <class I>
void batch_window(int64_t n, int64_t batch, const I* order, const int64_t* counter, int64_t* window,
                  CudaStream stream) {
  launch(window_kernel<I>, {blocks_for(batch, threads), threads, 0, stream}, n, batch, order, counter, window);
}
template void batch_window(int64_t, int64_t, const int32_t*, const int64_t*, int64_t*, CudaStream);
template void batch_window(int64_t, int64_t, const int64_t*, const int64_t*, int64_t*, CudaStream);

void ring_write(int64_t size, size_t row, const void* ring, const void* value, const int64_t* counter, void* out,
                CudaStream stream) {
  const auto run = row % 4 == 0 ? write_units<uint32_t> : write_units<uint8_t>;
  run(size, row, ring, value, counter, out, stream);
}

}  // namespace ranvier::kernels::cuda
