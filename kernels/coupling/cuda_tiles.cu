// Many rows on a CUDA device: tiles of weights are made where they are multiplied. f32 values: weights in shared memory
// and register tiles of 4 x 4. 16-bit values: weights evaluated straight into the operand registers of tensor cores.
#include "kernels/common/ptx.cuh"
#include "kernels/coupling/pairs.cuh"

namespace ranvier::kernels::cuda {
namespace {

// ---- f32: a block makes 64 rows x 128 receivers, in steps of 16 senders: 8 weights a thread and step, 4 x 8 sums ----

constexpr int block_receivers = 128, block_rows = 64, depth = 16, threads = 256;

template <class Law>
__global__ void __launch_bounds__(threads) tiles_kernel(Law law, int64_t n, int axes, int64_t batch, int64_t split,
                                                        const float* x, const float* positions, float* parts) {
  RANVIER_SHARED(float, weights, [depth][block_receivers]);
  RANVIER_SHARED(float, values, [depth][block_rows + 1]);
  const int64_t first_i = int64_t{blockIdx.x} * block_receivers, first_b = int64_t{blockIdx.z} * block_rows;
  const int64_t begin = int64_t{blockIdx.y} * split, end = begin + split < n ? begin + split : n;
  // as a maker of weights: one receiver, every second sender; as a multiplier: receivers 16 apart, rows 16 apart
  const int maker = threadIdx.x % block_receivers, half = threadIdx.x / block_receivers;
  const int column = threadIdx.x % 16, row = threadIdx.x / 16;
  const Position mine = position_of(positions, n, axes, first_i + maker);
  float sums[4][8] = {};
  for (int64_t j = begin; j < end; j += depth) {
    for (int k = half; k < depth; k += threads / block_receivers) {
      float slope;
      const Position other = position_of(positions, n, axes, j + k);
      const float kappa = law.template value<false>(squared_distance(mine, other), slope);
      weights[k][maker] = first_i + maker == j + k ? 0.0f : kappa;
    }
    for (int k = threadIdx.x; k < depth * block_rows; k += threads) {
      const int sender = k % depth, b = k / depth;
      values[sender][b] = j + sender < end && first_b + b < batch ? x[(first_b + b) * n + j + sender] : 0.0f;
    }
    __syncthreads();
#pragma unroll 4
    for (int k = 0; k < depth; ++k) {
      float a[4], w[8];
#pragma unroll
      for (int r = 0; r < 4; ++r) a[r] = values[k][row + 16 * r];
#pragma unroll
      for (int c = 0; c < 8; ++c) w[c] = weights[k][column + 16 * c];
#pragma unroll
      for (int r = 0; r < 4; ++r)
#pragma unroll
        for (int c = 0; c < 8; ++c) sums[r][c] = fused(a[r], w[c], sums[r][c]);
    }
    __syncthreads();
  }
#pragma unroll
  for (int r = 0; r < 4; ++r)
#pragma unroll
    for (int c = 0; c < 8; ++c) {
      const int64_t b = first_b + row + 16 * r, i = first_i + column + 16 * c;
      if (b < batch && i < n) parts[(int64_t{blockIdx.y} * batch + b) * n + i] = sums[r][c];
    }
}

// ---- 16 bits: four warps, each 32 receivers x 64 rows. Lane (g, q) of an m16n8k16 product holds the weights of
// receivers g, g + 8 and senders 2q, 2q + 1, 2q + 8, 2q + 9: it evaluates just those. x (row, sender) is the "col"
// operand as it lies; its tile of 128-byte rows is swizzled by 16-byte chunks so that ldmatrix meets no bank twice.

constexpr int tensor_senders = 64, tensor_threads = 128;

__device__ int swizzled(int row, int column) {
  return row * tensor_senders + ((column / 8 ^ row % 8) * 8 + column % 8);
}

template <class T, class Law>
__global__ void __launch_bounds__(tensor_threads, 3)  // 140 registers: at four blocks a multiprocessor it would spill
    tensor_kernel(Law law, int64_t n, int axes, int64_t batch, int64_t split, const T* x, const float* positions,
                  float* parts, T* y) {
  RANVIER_SHARED(T, values, [block_rows * tensor_senders]);
  RANVIER_SHARED(Position, places, [tensor_senders]);
  const int warp = threadIdx.x / 32, lane = threadIdx.x % 32, g = lane / 4, q = lane % 4;
  const int64_t first_i = int64_t{blockIdx.x} * 128 + warp * 32, first_b = int64_t{blockIdx.z} * block_rows;
  const int64_t begin = int64_t{blockIdx.y} * split, end = begin + split < n ? begin + split : n;
  Position mine[4];  // receivers g, g + 8, g + 16, g + 24
#pragma unroll
  for (int r = 0; r < 4; ++r) mine[r] = position_of(positions, n, axes, first_i + g + 8 * r);
  float sums[2][8][4] = {};
  for (int64_t j = begin; j < end; j += tensor_senders) {
    for (int k = threadIdx.x; k < block_rows * tensor_senders; k += tensor_threads) {
      const int b = k / tensor_senders, sender = k % tensor_senders;
      const bool there = first_b + b < batch && j + sender < end;
      values[swizzled(b, sender)] = there ? x[(first_b + b) * n + j + sender] : T{0};
    }
    if (threadIdx.x < tensor_senders) places[threadIdx.x] = position_of(positions, n, axes, j + threadIdx.x);
    __syncthreads();
    // this lane's first receiver, counted from the tile's first sender; of a tile far from the diagonal: none of them
    const int64_t distance = first_i + g - j;
    const int own = distance > -64 && distance < 64 ? static_cast<int>(distance) : -64;
    // Not unrolled: 64 sums and the weights of one step fill the registers.
#pragma unroll 1
    for (int step = 0; step < tensor_senders; step += 16) {
      uint32_t a[2][4];
#pragma unroll
      for (int upper = 0; upper < 2; ++upper) {
        const int s = step + 2 * q + 8 * upper;
        const Position p0 = places[s], p1 = places[s + 1];
#pragma unroll
        for (int r = 0; r < 4; ++r) {
          const int i = own + 8 * r;
          a[r / 2][r % 2 + 2 * upper] =
              ptx::pack<T>(weight(law, mine[r], p0, i == s), weight(law, mine[r], p1, i == s + 1));
        }
      }
#pragma unroll
      for (int pair = 0; pair < 4; ++pair) {  // 16 rows of values: two n8 operands
        uint32_t b[4];
        const int row = pair * 16 + lane % 8 + lane / 16 * 8, column = step + lane / 8 % 2 * 8;
        ptx::ldmatrix_x4(b, &values[swizzled(row, column)]);
#pragma unroll
        for (int m = 0; m < 2; ++m) {
          ptx::mma_m16n8k16<T>(sums[m][2 * pair], a[m], b[0], b[1]);
          ptx::mma_m16n8k16<T>(sums[m][2 * pair + 1], a[m], b[2], b[3]);
        }
      }
    }
    __syncthreads();
  }
#pragma unroll
  for (int m = 0; m < 2; ++m)
#pragma unroll
    for (int c = 0; c < 8; ++c)
#pragma unroll
      for (int e = 0; e < 4; ++e) {
        const int64_t i = first_i + 16 * m + g + e / 2 * 8, b = first_b + 8 * c + 2 * q + e % 2;
        if (i < n && b < batch) put_sum(parts, y, batch, n, b, i, sums[m][c][e]);
      }
}

static_assert(block_rows == tile_blocks.rows);

}  // namespace

void pair_apply_tiles(const PairDims& d, int64_t splits, const float* x, const float* positions, float* parts,
                      CudaStream stream) {
  dispatch_device_law(d.law, [&]<class Law>(const Law& law) {
    launch(tiles_kernel<Law>, {block_grid(d, splits, block_rows), threads, 0, stream}, law, d.n,
           static_cast<int>(d.axes), d.batch, split_size(d.n, splits, depth), x, positions, parts);
  });
}

template <class T>
void pair_apply_tensor(const PairDims& d, int64_t splits, const T* x, const float* positions, float* parts, T* y,
                       CudaStream stream) {
  dispatch_device_law(d.law, [&]<class Law>(const Law& law) {
    launch(tensor_kernel<T, Law>, {block_grid(d, splits, block_rows), tensor_threads, 0, stream}, law, d.n,
           static_cast<int>(d.axes), d.batch, split_size(d.n, splits, tensor_senders), x, positions, parts,
           splits == 1 ? y : nullptr);
  });
}

template void pair_apply_tensor<bf16>(const PairDims&, int64_t, const bf16*, const float*, float*, bf16*, CudaStream);
template void pair_apply_tensor<f16>(const PairDims&, int64_t, const f16*, const float*, float*, f16*, CudaStream);

}  // namespace ranvier::kernels::cuda
