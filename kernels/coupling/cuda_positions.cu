// The gradient with respect to positions on a CUDA device: per tile of 64 x 64 pairs one product of the values, then
// the law's slope; every receiver's sum is made in a fixed order.
#include "kernels/coupling/pairs.cuh"

namespace ranvier::kernels::cuda {
namespace {

constexpr int side = 64, depth = 16, threads = 256;

/// depth rows of g and x at `side` units.
struct Panel {
  float g[depth][side], x[depth][side];
};

__device__ void load_panel(Panel& panel, Values g, Values x, int64_t n, int64_t batch, int64_t b, int64_t first,
                           int64_t end) {
  for (int k = threadIdx.x; k < depth * side; k += threads) {
    const int row = k / side, unit = k % side;
    const bool there = b + row < batch && first + unit < end;
    const int64_t at = (b + row) * n + first + unit;
    panel.g[row][unit] = there ? g[at] : 0.0f;
    panel.x[row][unit] = there ? x[at] : 0.0f;
  }
}

/// Two blocks a multiprocessor leave 128 registers a thread: with fewer it would spill. Thread (column, row) of 16 x 16
/// has receivers column + 16 k and senders row + 16 k, k < 4.
template <class Law>
__global__ void __launch_bounds__(threads, 2)
    positions_kernel(Law law, int64_t n, int axes, int64_t batch, int64_t split, Values g, Values x,
                     const float* positions, float* parts) {
  RANVIER_SHARED(Panel, receivers, [1]);
  RANVIER_SHARED(Panel, senders, [1]);
  RANVIER_SHARED(float, rows, [16][side][3]);
  const int column = threadIdx.x % 16, row = threadIdx.x / 16;
  const int64_t first = int64_t{blockIdx.x} * side;
  const int64_t begin = int64_t{blockIdx.y} * split, end = begin + split < n ? begin + split : n;
  Position mine[4];
  float force[4][3] = {};
#pragma unroll
  for (int c = 0; c < 4; ++c) mine[c] = position_of(positions, n, axes, first + column + 16 * c);
  for (int64_t j = begin; j < end; j += side) {
    float product[4][4] = {};
    for (int64_t b = 0; b < batch; b += depth) {
      load_panel(receivers[0], g, x, n, batch, b, first, n);
      load_panel(senders[0], g, x, n, batch, b, j, end);
      __syncthreads();
#pragma unroll 2
      for (int k = 0; k < depth; ++k)
#pragma unroll
        for (int c = 0; c < 4; ++c) {
          const float gi = receivers[0].g[k][column + 16 * c], xi = receivers[0].x[k][column + 16 * c];
#pragma unroll
          for (int r = 0; r < 4; ++r)
            product[c][r] =
                fused(gi, senders[0].x[k][row + 16 * r], fused(xi, senders[0].g[k][row + 16 * r], product[c][r]));
        }
      __syncthreads();
    }
#pragma unroll
    for (int r = 0; r < 4; ++r) {
      const Position other = position_of(positions, n, axes, j + row + 16 * r);
#pragma unroll
      for (int c = 0; c < 4; ++c) {
        float slope;
        const float kappa = law.template value<true>(squared_distance(mine[c], other), slope);
        // A unit beyond the last one has zeros for values, but its slope may be infinite: it must not count at all.
        const bool counts = first + column + 16 * c != j + row + 16 * r && j + row + 16 * r < end;
        const float w = counts ? product[c][r] * (kappa * slope) : 0.0f;
#pragma unroll
        for (int a = 0; a < 3; ++a) force[c][a] = fused(w, mine[c].at[a] - other.at[a], force[c][a]);
      }
    }
  }
#pragma unroll
  for (int c = 0; c < 4; ++c)
#pragma unroll
    for (int a = 0; a < 3; ++a) rows[row][column + 16 * c][a] = force[c][a];
  __syncthreads();
  for (int k = threadIdx.x; k < side * axes; k += threads) {
    const int unit = k / axes, a = k % axes;
    float sum = 0;
    for (int r = 0; r < 16; ++r) sum += rows[r][unit][a];
    if (first + unit < n) parts[(int64_t{blockIdx.y} * n + first + unit) * axes + a] = sum;
  }
}

int64_t splits_of(const PairDims& d) { return pair_splits((d.n + side - 1) / side, d.n, 512); }

}  // namespace

template <class T>
size_t pair_positions_workspace(const PairDims& d) {
  const int64_t splits = splits_of(d);
  return splits == 1 ? 0 : static_cast<size_t>(splits * d.n * d.axes) * sizeof(float);
}

template <class T>
void pair_positions(const PairDims& d, const T* g, const T* x, const float* positions, float* dp, void* workspace,
                    CudaStream stream) {
  if (d.n == 0) return;
  const int64_t splits = splits_of(d);
  float* parts = splits == 1 ? dp : static_cast<float*>(workspace);
  const dim3 grid(grid_of((d.n + side - 1) / side), static_cast<unsigned>(splits));
  dispatch_device_law(d.law, [&]<class Law>(const Law& law) {
    launch(positions_kernel<Law>, {grid, threads, 0, stream}, law, d.n, static_cast<int>(d.axes), d.batch,
           split_size(d.n, splits, side), Values::of(g), Values::of(x), positions, parts);
  });
  if (splits > 1) pair_finish(d.n * d.axes, splits, parts, dp, stream);
}

#define RANVIER_INSTANCE(T)                                     \
  template size_t pair_positions_workspace<T>(const PairDims&); \
  template void pair_positions<T>(const PairDims&, const T*, const T*, const float*, float*, void*, CudaStream);
RANVIER_INSTANCE(float)
RANVIER_INSTANCE(bf16)
RANVIER_INSTANCE(f16)
#undef RANVIER_INSTANCE

}  // namespace ranvier::kernels::cuda
