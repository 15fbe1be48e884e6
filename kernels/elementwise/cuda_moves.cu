// Fills, copies, casts and broadcasts on a CUDA device: one pass over memory in accesses of 16 bytes.
#include <algorithm>

#include "kernels/common/launch.h"
#include "kernels/common/pack.h"
#include "kernels/elementwise/convert.h"
#include "kernels/elementwise/elementwise.h"
#include "kernels/index/strided.h"

namespace ranvier::kernels {
namespace {

constexpr int threads = 256;
using Bytes = Pack<uint64_t, 2>;

/// The running thread's place among all, and how many there are.
__device__ int64_t first_index() { return int64_t{blockIdx.x} * blockDim.x + threadIdx.x; }
__device__ int64_t index_step() { return int64_t{gridDim.x} * blockDim.x; }

__global__ void fill_kernel(int64_t bytes, uint64_t pattern, unsigned char* y) {
  const int64_t packs = bytes / 16;
  for (int64_t i = first_index(); i < packs; i += index_step()) reinterpret_cast<Bytes*>(y)[i] = {{pattern, pattern}};
  const int64_t last = packs * 16 + first_index();
  if (last < bytes) y[last] = static_cast<unsigned char>(pattern >> last % 8 * 8);
}

__global__ void copy_kernel(int64_t bytes, const unsigned char* x, unsigned char* y) {
  const int64_t packs = bytes / 16;
  for (int64_t i = first_index(); i < packs; i += index_step())
    reinterpret_cast<Bytes*>(y)[i] = reinterpret_cast<const Bytes*>(x)[i];
  const int64_t last = packs * 16 + first_index();
  if (last < bytes) y[last] = x[last];
}

/// A thread takes 16 bytes of the narrower type.
template <class From, class To>
__global__ void cast_kernel(int64_t n, const From* x, To* y) {
  constexpr int size = std::max(pack_size<From>, pack_size<To>);
  const int64_t packs = n / size;
  for (int64_t i = first_index(); i < packs; i += index_step()) {
    const Pack<From, size> in = load_pack<size>(x + i * size);
    Pack<To, size> out;
#pragma unroll
    for (int k = 0; k < size; ++k) out.v[k] = convert<To>(in.v[k]);
    store_pack(y + i * size, out);
  }
  const int64_t last = packs * size + first_index();
  if (last < n) y[last] = convert<To>(x[last]);
}

}  // namespace

void fill_cuda(int64_t bytes, uint64_t pattern, void* y, CudaStream stream) {
  launch(fill_kernel, {blocks_for((bytes + 15) / 16, threads), threads, 0, stream}, bytes, pattern,
         static_cast<unsigned char*>(y));
}

void copy_cuda(int64_t bytes, const void* x, void* y, CudaStream stream) {
  launch(copy_kernel, {blocks_for((bytes + 15) / 16, threads), threads, 0, stream}, bytes,
         static_cast<const unsigned char*>(x), static_cast<unsigned char*>(y));
}

template <class From, class To>
void cast_cuda(int64_t n, const From* x, To* y, CudaStream stream) {
  constexpr int size = std::max(pack_size<From>, pack_size<To>);
  launch(cast_kernel<From, To>, {blocks_for((n + size - 1) / size, threads), threads, 0, stream}, n, x, y);
}

#define RANVIER_CAST(From, To) template void cast_cuda<From, To>(int64_t, const From*, To*, CudaStream);
#define RANVIER_CASTS(From)  \
  RANVIER_CAST(From, float)  \
  RANVIER_CAST(From, double) \
  RANVIER_CAST(From, bf16)   \
  RANVIER_CAST(From, f16) RANVIER_CAST(From, int32_t) RANVIER_CAST(From, int64_t) RANVIER_CAST(From, uint8_t)
RANVIER_CASTS(float)
RANVIER_CASTS(double)
RANVIER_CASTS(bf16)
RANVIER_CASTS(f16)
RANVIER_CASTS(int32_t)
RANVIER_CASTS(int64_t)
RANVIER_CASTS(uint8_t)

void broadcast_cuda(const BroadcastDims& d, const void* x, void* y, CudaStream stream) {
  StridedDims dims{d.rank, {}, {}, 0, 1, d.bytes};
  for (int64_t axis = 0; axis < d.rank; ++axis) {
    dims.extent[axis] = d.extent[axis], dims.stride[axis] = d.stride[axis];
    if (d.stride[axis] != 0) dims.source *= d.extent[axis];
  }
  strided_copy_cuda(dims, x, y, stream);
}

}  // namespace ranvier::kernels
