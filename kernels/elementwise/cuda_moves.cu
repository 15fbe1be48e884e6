// Fills, copies, casts and broadcasts on a CUDA device: one pass over memory in accesses of 16 bytes.
#include <algorithm>

#include "kernels/common/divide.h"
#include "kernels/common/launch.h"
#include "kernels/common/pack.h"
#include "kernels/elementwise/convert.h"
#include "kernels/elementwise/elementwise.h"

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

/// A broadcast with axes merged that act as one; positions count packs of the result.
template <class Index>
struct BroadcastPlan {
  int rank;
  Index packs;
  Divider<Index> extent[6];
  Index stride[6];
};

/// How a pack of the result is made: from one element, from neighbours, or from one element repeated.
enum class Inner { single, contiguous, repeated };

template <class Word, class Index, Inner inner>
__global__ void broadcast_kernel(BroadcastPlan<Index> plan, const Word* x, Word* y) {
  constexpr int size = inner == Inner::single ? 1 : pack_size<Word>;
  for (Index i = static_cast<Index>(first_index()); i < plan.packs; i += static_cast<Index>(index_step())) {
    Index offset = 0, rest = i;
#pragma unroll
    for (int axis = 5; axis > 0; --axis) {
      if (axis >= plan.rank) continue;
      const Index quotient = plan.extent[axis].quotient(rest);
      offset += plan.extent[axis].remainder(rest, quotient) * plan.stride[axis];
      rest = quotient;
    }
    offset += rest * plan.stride[0];
    Pack<Word, size> out;
    if constexpr (inner == Inner::contiguous) {
      out = load_pack<size>(x + offset);
    } else {
      const Word value = x[offset];
#pragma unroll
      for (int k = 0; k < size; ++k) out.v[k] = value;
    }
    store_pack(y + static_cast<int64_t>(i) * size, out);
  }
}

/// Axes of extent 1 dropped, and neighbours merged whose strides make them one axis.
BroadcastDims merged(const BroadcastDims& dims) {
  BroadcastDims result{0, {1}, {0}, dims.bytes};
  for (int64_t axis = 0; axis < dims.rank; ++axis) {
    const int64_t extent = dims.extent[axis], stride = dims.stride[axis], last = result.rank - 1;
    if (extent == 1) continue;
    if (last >= 0 && result.stride[last] == stride * extent) {
      result.extent[last] *= extent;
      result.stride[last] = stride;
    } else {
      result.extent[result.rank] = extent;
      result.stride[result.rank++] = stride;
    }
  }
  result.rank = std::max<int64_t>(result.rank, 1);
  return result;
}

template <class Word, class Index, Inner inner>
void launch_broadcast(const BroadcastDims& dims, const void* x, void* y, CudaStream stream) {
  constexpr int size = inner == Inner::single ? 1 : pack_size<Word>;
  BroadcastPlan<Index> plan{};
  plan.rank = static_cast<int>(dims.rank);
  int64_t packs = 1;
  for (int64_t axis = 0; axis < dims.rank; ++axis) {
    const bool last = axis + 1 == dims.rank;
    const int64_t extent = last ? dims.extent[axis] / size : dims.extent[axis];
    plan.extent[axis] = Divider<Index>(static_cast<uint64_t>(extent));
    plan.stride[axis] = static_cast<Index>(last && inner == Inner::contiguous ? size : dims.stride[axis]);
    packs *= extent;
  }
  plan.packs = static_cast<Index>(packs);
  launch(broadcast_kernel<Word, Index, inner>, {blocks_for(packs, threads), threads, 0, stream}, plan,
         static_cast<const Word*>(x), static_cast<Word*>(y));
}

template <class Word, class Index>
void broadcast_as(const BroadcastDims& dims, const void* x, void* y, CudaStream stream) {
  const int64_t extent = dims.extent[dims.rank - 1], stride = dims.stride[dims.rank - 1];
  if (extent % pack_size<Word> != 0 || stride > 1)
    return launch_broadcast<Word, Index, Inner::single>(dims, x, y, stream);
  if (stride == 1) return launch_broadcast<Word, Index, Inner::contiguous>(dims, x, y, stream);
  return launch_broadcast<Word, Index, Inner::repeated>(dims, x, y, stream);
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

void broadcast_cuda(const BroadcastDims& given, const void* x, void* y, CudaStream stream, int64_t narrow) {
  const BroadcastDims dims = merged(given);
  int64_t n = 1;
  for (int64_t axis = 0; axis < dims.rank; ++axis) n *= dims.extent[axis];
  if (n == 0) return;
  const auto as = [&]<class Word>() {
    if (n <= narrow) return broadcast_as<Word, uint32_t>(dims, x, y, stream);
    return broadcast_as<Word, uint64_t>(dims, x, y, stream);
  };
  switch (dims.bytes) {
    case 1:
      return as.template operator()<uint8_t>();
    case 2:
      return as.template operator()<uint16_t>();
    case 4:
      return as.template operator()<uint32_t>();
    default:
      return as.template operator()<uint64_t>();
  }
}

}  // namespace ranvier::kernels
