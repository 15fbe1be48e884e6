// Sums over pairs on a CUDA device: the kernel of few rows, in which every thread keeps its receivers in registers, and
// the choice between it and the tiled ones.
#include "kernels/coupling/pairs.cuh"

namespace ranvier::kernels::cuda {
namespace {

// A thread has four receivers, a block 512; the senders pass through shared memory in tiles of 128, each one 16-byte
// word that a warp reads at once: place and, of a single row, value. In the plane a pair of the gaussian then costs two
// differences, the square (2), the exponent (1), one power of 2 and the sum (1), and the special-function unit and the
// issue of instructions are about equally busy. Whether a pair is a unit with itself is asked only in tiles that the
// diagonal crosses.
constexpr int threads = 128, receivers = 4, tile = 128;
constexpr int64_t few = 8;            // rows up to which this kernel serves
constexpr int64_t few_blocks = 1024;  // eight blocks on each of some 130 multiprocessors

template <int rows>
struct Senders {
  static constexpr int quads = rows > 1 ? rows / 4 : 1;
  float4 places[tile];         // of a single row w is the value
  float4 values[tile][quads];  // of more rows
};

/// Four numbers as an array, by value: no address is taken of registers.
__device__ inline float element(const float4& v, int k) { return k == 0 ? v.x : k == 1 ? v.y : k == 2 ? v.z : v.w; }

/// Adds the sums over one tile; `own` is the first receiver counted from the tile's first sender.
template <int rows, bool flat, bool diagonal, class Law>
__device__ __forceinline__ void add_tile(const Law& law, const Senders<rows>& senders, int own,
                                         const Position (&mine)[receivers], float (&sums)[receivers][rows]) {
#pragma unroll 4
  for (int k = 0; k < tile; ++k) {
    const float4 other = senders.places[k];
    float value[rows];
    if constexpr (rows == 1) {
      value[0] = other.w;
    } else {
#pragma unroll
      for (int b = 0; b < rows; ++b) value[b] = element(senders.values[k][b / 4], b % 4);
    }
#pragma unroll
    for (int r = 0; r < receivers; ++r) {
      const float x = mine[r].at[0] - other.x, y = mine[r].at[1] - other.y;
      float t = fused(y, y, x * x), slope;
      if constexpr (!flat) {
        const float z = mine[r].at[2] - other.z;
        t = fused(z, z, t);
      }
      float kappa = law.template value<false>(t, slope);
      if (diagonal && own + r * threads == k) kappa = 0;
#pragma unroll
      for (int b = 0; b < rows; ++b) sums[r][b] = fused(kappa, value[b], sums[r][b]);
    }
  }
}

template <class Law, int rows, bool flat>
__global__ void __launch_bounds__(threads, rows == 1 ? 8 : 5)
    few_rows_kernel(Law law, int64_t n, int axes, int64_t batch, int64_t split, Values x, const float* positions,
                    float* parts) {
  RANVIER_SHARED(Senders<rows>, shared, [1]);
  Senders<rows>& senders = shared[0];
  const int64_t block = int64_t{blockIdx.x} * threads * receivers, first = block + threadIdx.x;
  const int64_t row = int64_t{blockIdx.z} * rows;
  const int64_t begin = int64_t{blockIdx.y} * split, end = begin + split < n ? begin + split : n;
  Position mine[receivers];
  float sums[receivers][rows] = {};
#pragma unroll
  for (int r = 0; r < receivers; ++r) mine[r] = position_of(positions, n, axes, first + r * threads);
  for (int64_t j = begin; j < end; j += tile) {
    const int64_t mine_j = j + threadIdx.x;
    const Position place = position_of(positions, n, axes, mine_j);
    const auto value = [&](int b) { return mine_j < end && row + b < batch ? x[(row + b) * n + mine_j] : 0.0f; };
    senders.places[threadIdx.x] = make_float4(place.at[0], place.at[1], place.at[2], rows == 1 ? value(0) : 0.0f);
    if constexpr (rows > 1)
#pragma unroll
      for (int b = 0; b < rows; b += 4)
        senders.values[threadIdx.x][b / 4] = make_float4(value(b), value(b + 1), value(b + 2), value(b + 3));
    __syncthreads();
    if (block < j + tile && j < block + threads * receivers)
      add_tile<rows, flat, true>(law, senders, static_cast<int>(first - j), mine, sums);
    else
      add_tile<rows, flat, false>(law, senders, 0, mine, sums);
    __syncthreads();
  }
#pragma unroll
  for (int r = 0; r < receivers; ++r) {
    const int64_t i = first + r * threads;
#pragma unroll
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

/// 16-bit values of more rows than one block of the lesser kernel takes.
template <class T>
bool by_panels(const PairDims& d) {
  return sizeof(T) == 2 && d.batch > tile_blocks.rows;
}

template <class T>
int64_t splits_of(const PairDims& d) {
  if (d.batch <= few)
    return pair_splits(blocks_of(d.n, threads * receivers) * blocks_of(d.batch, few), d.n, few_blocks);
  const RowBlocks blocks = by_panels<T>(d) ? panel_blocks : tile_blocks;
  return pair_splits(blocks_of(d.n, 128) * blocks_of(d.batch, blocks.rows), d.n, blocks.wanted);
}

/// True where kernels write results of type T themselves: one piece, and sums that need no other type.
template <class T>
bool writes_directly(const PairDims& d, int64_t splits) {
  return splits == 1 && (std::is_same_v<T, float> || d.batch > few);
}

template <int rows>
void few_rows(const PairDims& d, int64_t splits, Values x, const float* positions, float* parts, CudaStream stream) {
  const dim3 grid(grid_of(blocks_of(d.n, threads * receivers)), static_cast<unsigned>(splits),
                  static_cast<unsigned>(blocks_of(d.batch, rows)));
  dispatch_device_law(d.law, [&]<class Law>(const Law& law) {
    launch(d.axes < 3 ? few_rows_kernel<Law, rows, true> : few_rows_kernel<Law, rows, false>,
           {grid, threads, 0, stream}, law, d.n, static_cast<int>(d.axes), d.batch, split_size(d.n, splits, tile), x,
           positions, parts);
  });
}

}  // namespace

template <class T>
void pair_finish(int64_t size, int64_t splits, const float* parts, T* y, CudaStream stream) {
  launch(finish_kernel<T>, {blocks_for(size, 256), 256, 0, stream}, size, splits, parts, y);
}

template <class T>
size_t pair_apply_workspace(const PairDims& d) {
  const int64_t splits = splits_of<T>(d);
  return writes_directly<T>(d, splits) ? 0 : static_cast<size_t>(splits * d.batch * d.n) * sizeof(float);
}

template <class T>
void pair_apply(const PairDims& d, const T* x, const float* positions, T* y, void* workspace, CudaStream stream) {
  if (d.batch == 0 || d.n == 0) return;
  const int64_t splits = splits_of<T>(d);
  const bool direct = writes_directly<T>(d, splits);
  float* parts = direct && std::is_same_v<T, float> ? reinterpret_cast<float*>(y) : static_cast<float*>(workspace);
  if (d.batch == 1)
    few_rows<1>(d, splits, Values::of(x), positions, parts, stream);
  else if (d.batch <= few)
    few_rows<few>(d, splits, Values::of(x), positions, parts, stream);
  else if constexpr (std::is_same_v<T, float>)
    pair_apply_tiles(d, splits, x, positions, parts, stream);
  else if (by_panels<T>(d))
    pair_apply_panel(d, splits, x, positions, parts, y, stream);
  else
    pair_apply_tensor(d, splits, x, positions, parts, y, stream);
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
