// Matrix products on a CUDA device: f32 and f64 on the ordinary units, the sums of split products, and the entry
// points.
#include "kernels/matmul/cuda_simt.cuh"
#include "kernels/matmul/cuda_tiles.h"

namespace ranvier::kernels {

// Defined, one element type each, by cuda_bf16.cu, cuda_f16.cu and cuda_tf32.cu.
template <class T>
void launch_tensor_matmul(const MatmulTiles& tiles, bool large, const T* a, const T* b, T* c, float* partial,
                          CudaStream stream);

namespace {

template <class Block>
__global__ void __launch_bounds__(Block::threads, 2)
    simt_matmul_kernel(MatmulTiles tiles, const typename Block::T* a, const typename Block::T* b, typename Block::T* c,
                       int64_t first_item) {
  using T = typename Block::T;
  RANVIER_SHARED(T, shared, [Block::shared_elements]);
  const MatmulDims& d = tiles.dims;
  const MatmulItem item = matmul_item(tiles, first_item + blockIdx.x);
  const int64_t row = int64_t{item.row} * Block::size, column = int64_t{item.column} * Block::size;
  const int64_t depth = item.split * tiles.split_depth;
  Block block;
  block.accumulate(shared, views_of(tiles, item, a, b), d.transpose_a, d.transpose_b, row, column, depth,
                   min(depth + tiles.split_depth, d.k));
  T* result = c + (item.split * d.batch + item.batch) * d.m * d.n;
  block.for_each_vector([&](int i, int j, const T(&values)[Block::vector]) {
    if (row + i >= d.m) return;
    T* to = result + (row + i) * d.n + column + j;
    if (tiles.vector_c) {
      if (column + j < d.n) *reinterpret_cast<uint4*>(to) = *reinterpret_cast<const uint4*>(values);
    } else {
#pragma unroll
      for (int e = 0; e < Block::vector; ++e)
        if (column + j + e < d.n) to[e] = values[e];
    }
  });
}

/// c = the sum of `splits` partial results in order.
template <class T>
__global__ void sum_splits_kernel(const compute_t<T>* partial, int64_t splits, int64_t size, T* c) {
  const int64_t stride = int64_t{blockDim.x} * gridDim.x;
  for (int64_t i = int64_t{blockIdx.x} * blockDim.x + threadIdx.x; i < size; i += stride) {
    compute_t<T> sum = partial[i];
#pragma unroll 8
    for (int64_t s = 1; s < splits; ++s) sum += partial[s * size + i];
    c[i] = narrow<T>(sum);
  }
}

template <class T>
__global__ void zero_kernel(int64_t size, T* c) {
  const int64_t stride = int64_t{blockDim.x} * gridDim.x;
  for (int64_t i = int64_t{blockIdx.x} * blockDim.x + threadIdx.x; i < size; i += stride) c[i] = T{};
}

constexpr unsigned pointwise_threads = 256;
unsigned pointwise_blocks(int64_t size) { return blocks_for(size, pointwise_threads, 132 * 8); }

/// An empty depth gives zeros; true where there was nothing else to do.
template <class T>
bool trivial(const MatmulDims& d, T* c, CudaStream stream) {
  if (d.c_size() == 0) return true;
  if (d.k > 0) return false;
  launch(zero_kernel<T>, {pointwise_blocks(d.c_size()), pointwise_threads, 0, stream}, d.c_size(), c);
  return true;
}

template <class T>
void sum_splits(const MatmulDims& d, const MatmulCudaCut& cut, const void* partial, T* c, CudaStream stream) {
  if (cut.splits == 1) return;
  launch(sum_splits_kernel<T>, {pointwise_blocks(d.c_size()), pointwise_threads, 0, stream},
         static_cast<const compute_t<T>*>(partial), cut.splits, d.c_size(), c);
}

template <class T>
void tensor_matmul(const MatmulDims& d, const MatmulCudaCut& cut, const T* a, const T* b, T* c, void* workspace,
                   CudaStream stream) {
  auto* partial = static_cast<float*>(workspace);
  const MatmulTiles tiles = cut.splits > 1 ? matmul_tiles(d, cut, a, b, partial, 2 * sizeof(float))
                                           : matmul_tiles(d, cut, a, b, c, 2 * sizeof(T));
  launch_tensor_matmul<T>(tiles, cut.tile == 128, a, b, c, partial, stream);
  sum_splits(d, cut, partial, c, stream);
}

template <class T>
void simt_matmul(const MatmulDims& d, const MatmulCudaCut& cut, const T* a, const T* b, T* c, void* workspace,
                 CudaStream stream) {
  T* to = cut.splits > 1 ? static_cast<T*>(workspace) : c;
  const MatmulTiles tiles = matmul_tiles(d, cut, a, b, to, 16);
  const auto run = [&]<class Block>() {
    launch_items(tiles.items(), [&](unsigned blocks, int64_t first) {
      launch(simt_matmul_kernel<Block>, {blocks, Block::threads, 0, stream}, tiles, a, b, to, first);
    });
  };
  if constexpr (sizeof(T) == 8)
    run.template operator()<SimtBlock<double, 64, 8>>();
  else if (cut.tile == 128)
    run.template operator()<SimtBlock<float, 128, 8>>();
  else
    run.template operator()<SimtBlock<float, 64, 16>>();
  sum_splits(d, cut, to, c, stream);
}

}  // namespace

template <class T>
void matmul_cuda(const MatmulDims& d, const MatmulCudaCut& cut, const T* a, const T* b, T* c, void* workspace,
                 CudaStream stream) {
  if (trivial(d, c, stream)) return;
  if constexpr (sizeof(T) == 2)
    tensor_matmul(d, cut, a, b, c, workspace, stream);
  else
    simt_matmul(d, cut, a, b, c, workspace, stream);
}

template void matmul_cuda(const MatmulDims&, const MatmulCudaCut&, const float*, const float*, float*, void*,
                          CudaStream);
template void matmul_cuda(const MatmulDims&, const MatmulCudaCut&, const double*, const double*, double*, void*,
                          CudaStream);
template void matmul_cuda(const MatmulDims&, const MatmulCudaCut&, const bf16*, const bf16*, bf16*, void*, CudaStream);
template void matmul_cuda(const MatmulDims&, const MatmulCudaCut&, const f16*, const f16*, f16*, void*, CudaStream);

void matmul_cuda_tf32(const MatmulDims& d, const MatmulCudaCut& cut, const float* a, const float* b, float* c,
                      void* workspace, CudaStream stream) {
  if (!trivial(d, c, stream)) tensor_matmul(d, cut, a, b, c, workspace, stream);
}

}  // namespace ranvier::kernels
