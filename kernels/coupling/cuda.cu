// Sums over pairs on a CUDA device: the kernel of few rows, in which every thread keeps its receivers in registers, and
// the choice between it and the tiled ones.
#include "kernels/coupling/pairs.cuh"

namespace ranvier::kernels::cuda {
namespace {

// A thread has two receivers, a block 256; the senders pass through shared memory in tiles of 128. Per pair and row one
// fma; per pair about 9 instructions and one to three special functions, which is what the time is made of.
constexpr int threads = 128, receivers = 2, tile = 128;
constexpr int64_t few = 8;  // rows up to which this kernel serves

template <class Law, int rows>
__global__ void few_rows_kernel(Law law, int64_t n, int axes, int64_t batch, int64_t split, Values x,
                                const float* positions, float* parts) {
  RANVIER_SHARED(Position, places, [tile]);
  RANVIER_SHARED(float, values, [tile][rows]);
  const int64_t first = int64_t{blockIdx.x} * threads * receivers + threadIdx.x;
  const int64_t row = int64_t{blockIdx.z} * rows;
  const int64_t begin = int64_t{blockIdx.y} * split, end = begin + split < n ? begin + split : n;
  Position mine[receivers];
  float sums[receivers][rows] = {};
#pragma unroll
  for (int r = 0; r < receivers; ++r) mine[r] = position_of(positions, n, axes, first + r * threads);
  for (int64_t j = begin; j < end; j += tile) {
    const int64_t mine_j = j + threadIdx.x;
    places[threadIdx.x] = position_of(positions, n, axes, mine_j);
    for (int b = 0; b < rows; ++b)
      values[threadIdx.x][b] = mine_j < end && row + b < batch ? x[(row + b) * n + mine_j] : 0.0f;
    __syncthreads();
#pragma unroll 4
    for (int k = 0; k < tile; ++k) {
      const Position other = places[k];
#pragma unroll
      for (int r = 0; r < receivers; ++r) {
        float slope;
        float kappa = law.template value<false>(squared_distance(mine[r], other), slope);
        if (first + r * threads == j + k) kappa = 0;
#pragma unroll
        for (int b = 0; b < rows; ++b) sums[r][b] = fused(kappa, values[k][b], sums[r][b]);
      }
    }
    __syncthreads();
  }
#pragma unroll
  for (int r = 0; r < receivers; ++r) {
    const int64_t i = first + r * threads;
    for (int b = 0; b < rows; ++b)
      if (i < n && row + b < batch) parts[(int64_t{blockIdx.y} * batch + row + b) * n + i] = sums[r][b];
  }
}

template <class T>
__global__ void finish_kernel(int64_t size, int64_t splits, const float* parts, T* y) {
  const int64_t step = int64_t{gridDim.x} * blockDim.x;
  for (int64_t i = int64_t{blockIdx.x} * blockDim.x + threadIdx.x; i < size; i += step) {
    float sum = parts[i];
    for (int64_t s = 1; s < splits; ++s) sum += parts[s * size + i];
    y[i] = from_float<T>(sum);
  }
}

template <class Law>
__global__ void matrix_kernel(Law law, int64_t n, int axes, const float* positions, float* kappa) {
  const int64_t size = n * n, step = int64_t{gridDim.x} * blockDim.x;
  for (int64_t k = int64_t{blockIdx.x} * blockDim.x + threadIdx.x; k < size; k += step) {
    const int64_t i = k / n, j = k % n;
    float slope;
    const float t = squared_distance(position_of(positions, n, axes, i), position_of(positions, n, axes, j));
    kappa[k] = i == j ? 0.0f : law.template value<false>(t, slope);
  }
}

int64_t blocks_of(int64_t size, int64_t each) { return (size + each - 1) / each; }

int64_t splits_of(const PairDims& d) {
  if (d.batch <= few) return pair_splits(blocks_of(d.n, threads * receivers), d.n);
  return pair_splits(blocks_of(d.n, 128) * blocks_of(d.batch, 64), d.n);
}

template <int rows>
void few_rows(const PairDims& d, int64_t splits, Values x, const float* positions, float* parts, CudaStream stream) {
  const dim3 grid(grid_of(blocks_of(d.n, threads * receivers)), static_cast<unsigned>(splits),
                  static_cast<unsigned>(blocks_of(d.batch, rows)));
  dispatch_device_law(d.law, [&]<class Law>(const Law& law) {
    launch(few_rows_kernel<Law, rows>, {grid, threads, 0, stream}, law, d.n, static_cast<int>(d.axes), d.batch,
           split_size(d.n, splits, tile), x, positions, parts);
  });
}

}  // namespace

template <class T>
void pair_finish(int64_t size, int64_t splits, const float* parts, T* y, CudaStream stream) {
  launch(finish_kernel<T>, {blocks_for(size, 256), 256, 0, stream}, size, splits, parts, y);
}

template <class T>
size_t pair_apply_workspace(const PairDims& d) {
  const int64_t splits = splits_of(d);
  if (std::is_same_v<T, float> && splits == 1) return 0;
  return static_cast<size_t>(splits * d.batch * d.n) * sizeof(float);
}

template <class T>
void pair_apply(const PairDims& d, const T* x, const float* positions, T* y, void* workspace, CudaStream stream) {
  if (d.batch == 0 || d.n == 0) return;
  const int64_t splits = splits_of(d);
  const bool direct = std::is_same_v<T, float> && splits == 1;
  float* parts = direct ? reinterpret_cast<float*>(y) : static_cast<float*>(workspace);
  if (d.batch == 1)
    few_rows<1>(d, splits, Values::of(x), positions, parts, stream);
  else if (d.batch <= few)
    few_rows<8>(d, splits, Values::of(x), positions, parts, stream);
  else if constexpr (std::is_same_v<T, float>)
    pair_apply_tiles(d, splits, x, positions, parts, stream);
  else
    pair_apply_tensor(d, splits, x, positions, parts, stream);
  if (!direct) pair_finish(d.batch * d.n, splits, parts, y, stream);
}

void pair_matrix(const PairDims& d, const float* positions, float* kappa, CudaStream stream) {
  dispatch_device_law(d.law, [&]<class Law>(const Law& law) {
    launch(matrix_kernel<Law>, {blocks_for(d.n * d.n, 256), 256, 0, stream}, law, d.n, static_cast<int>(d.axes),
           positions, kappa);
  });
}

#define RANVIER_INSTANCE(T)                                                                    \
  template size_t pair_apply_workspace<T>(const PairDims&);                                    \
  template void pair_apply<T>(const PairDims&, const T*, const float*, T*, void*, CudaStream); \
  template void pair_finish<T>(int64_t, int64_t, const float*, T*, CudaStream);
RANVIER_INSTANCE(float)
RANVIER_INSTANCE(bf16)
RANVIER_INSTANCE(f16)
#undef RANVIER_INSTANCE

}  // namespace ranvier::kernels::cuda
