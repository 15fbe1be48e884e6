// Weighted sums of squared products of pairs on a CUDA device, and their gradients: per tile of 64 x 64 pairs one
// product of the values, the law, and for the gradient with respect to values a second product.
#include "kernels/coupling/pairs.cuh"
#include "kernels/matmul/cuda_simt.cuh"

namespace ranvier::kernels::cuda {
namespace {

// Products are fused multiply-adds in f32: S_ij is squared or multiplied on, so that the 8 or 11 bits of bf16 or tf32
// would miss the 1e-5 that the op promises by far. A block has 64 receivers (columns of its products) and walks over
// the senders (rows) in tiles of 64; thread (down, across) of 16 x 16 has 4 x 4 pairs of a tile.
using Block = SimtBlock<float, 64, 16>;
constexpr int side = Block::size, threads = Block::threads, per = Block::per, pitch = Block::pitch;

/// Operands, and the block's part of the pairs.
struct Squares {
  const float *v, *x, *w, *positions;  // v null where there is none
  int64_t n, batch, split;
  int axes;
  bool vector;  // rows of x may be read, and rows of results written, 16 bytes at a time

  __device__ int64_t first() const { return int64_t{blockIdx.x} * side; }
  __device__ int64_t begin() const { return int64_t{blockIdx.y} * split; }
  __device__ int64_t end() const { return begin() + split < n ? begin() + split : n; }
  /// Rows of x of which units from `end` on count as zeros.
  __device__ MatrixView<float> values(int64_t end) const { return {x, n, batch, end, vector}; }
  /// block.sum[r][c] = S of senders j.. and the block's receivers; nobody reads `staged` any more.
  __device__ __forceinline__ void multiply(Block& block, float* staged, int64_t j) const {
    block.accumulate(staged, {values(end()), values(n)}, true, false, j, first(), 0, batch);
  }
};

struct alignas(16) Staged {
  float at[Block::shared_elements];
};

/// What the law and the weights need of `side` units.
struct Units {
  Position place[side];
  float v[side], w[side];

  /// Of units first.. ; those from `end` on have no weight.
  __device__ void load(const Squares& s, int64_t first, int64_t end) {
    const int k = static_cast<int>(threadIdx.x);
    if (k >= side) return;
    const bool there = first + k < end;
    place[k] = position_of(s.positions, s.n, s.axes, first + k);
    v[k] = there && s.v ? s.v[first + k] : 0.0f;
    w[k] = there ? s.w[first + k] : 0.0f;
  }
};

/// v_i w_j + v_j w_i.
__device__ __forceinline__ float shared_weight(const Units& receivers, int i, const Units& senders, int j) {
  return fused(receivers.v[i], senders.w[j], senders.v[j] * receivers.w[i]);
}

/// Sums of one kind over the threads that share a receiver, in order: parts[piece, first + unit, a], a < width.
template <int most>
__device__ void put_over_senders(const Squares& s, const float (&rows)[16][side][most], int width, float* parts) {
  for (int k = static_cast<int>(threadIdx.x); k < side * width; k += threads) {
    const int unit = k / width, a = k % width;
    float sum = 0;
    for (int r = 0; r < 16; ++r) sum += rows[r][unit][a];
    if (s.first() + unit < s.n) parts[(int64_t{blockIdx.y} * s.n + s.first() + unit) * width + a] = sum;
  }
}

template <class Law>
__global__ void __launch_bounds__(threads, 3) squares_kernel(Law law, Squares s, float* parts) {
  RANVIER_SHARED(Staged, staged, [1]);
  RANVIER_SHARED(Units, senders, [1]);
  RANVIER_SHARED(float, rows, [16][side][1]);
  const int down = Block::down() * per, across = Block::across() * per;
  Position mine[per];
  float sums[per] = {};
#pragma unroll
  for (int c = 0; c < per; ++c) mine[c] = position_of(s.positions, s.n, s.axes, s.first() + across + c);
  for (int64_t j = s.begin(); j < s.end(); j += side) {
    Block block;
    senders[0].load(s, j, s.end());
    s.multiply(block, staged[0].at, j);
#pragma unroll
    for (int r = 0; r < per; ++r) {
      const Position other = senders[0].place[down + r];
      const float w = senders[0].w[down + r];
#pragma unroll
      for (int c = 0; c < per; ++c) {
        const float kappa = weight(law, mine[c], other, s.first() + across + c == j + down + r);
        sums[c] = fused(kappa * w, block.sum[r][c] * block.sum[r][c], sums[c]);
      }
    }
    __syncthreads();  // before the next senders
  }
#pragma unroll
  for (int c = 0; c < per; ++c) rows[Block::down()][across + c][0] = sums[c];
  __syncthreads();
  put_over_senders(s, rows, 1, parts);
}

template <class Law>
__global__ void __launch_bounds__(threads, 2) squares_positions_kernel(Law law, Squares s, float* parts) {
  RANVIER_SHARED(Staged, staged, [1]);
  RANVIER_SHARED(Units, units, [2]);  // receivers, senders
  RANVIER_SHARED(float, rows, [16][side][3]);
  const Units &receivers = units[0], &senders = units[1];
  const int down = Block::down() * per, across = Block::across() * per;
  float force[per][3] = {};
  units[0].load(s, s.first(), s.n);
  for (int64_t j = s.begin(); j < s.end(); j += side) {
    Block block;
    units[1].load(s, j, s.end());
    s.multiply(block, staged[0].at, j);
#pragma unroll
    for (int c = 0; c < per; ++c) {
      const Position mine = receivers.place[across + c];
#pragma unroll
      for (int r = 0; r < per; ++r) {
        const Position other = senders.place[down + r];
        float slope;
        const float kappa = law.template value<true>(squared_distance(mine, other), slope);
        // Of a unit and itself, and of a unit beyond the last one, the slope may be infinite: they must not count.
        const bool counts = s.first() + across + c != j + down + r && j + down + r < s.end();
        const float square = block.sum[r][c] * block.sum[r][c];
        const float a = shared_weight(receivers, across + c, senders, down + r) * (kappa * slope) * square;
#pragma unroll
        for (int axis = 0; axis < 3; ++axis)
          force[c][axis] = fused(counts ? a : 0.0f, mine.at[axis] - other.at[axis], force[c][axis]);
      }
    }
    __syncthreads();  // before the next senders
  }
#pragma unroll
  for (int c = 0; c < per; ++c)
#pragma unroll
    for (int axis = 0; axis < 3; ++axis) rows[Block::down()][across + c][axis] = force[c][axis];
  __syncthreads();
  put_over_senders(s, rows, s.axes, parts);
}

// ---- the gradient with respect to values: dx[b, i] = sum_j x[b, j] P_ji, P_ji = 2 A_ij S_ij, whose tile stays in
// shared memory; 64 rows of x at a time, whose sums are registers or, where there are more rows, what has been written
// ----

/// P of a tile, senders by receivers.
struct alignas(16) Weights {
  float at[side][pitch];
};

template <class Law>
__device__ __forceinline__ void make_weights(const Law& law, const Squares& s, const Block& block,
                                             const Units (&units)[2], int64_t j, Weights& weights) {
  const int down = Block::down() * per, across = Block::across() * per;
#pragma unroll
  for (int r = 0; r < per; ++r) {
    alignas(16) float p[per];
#pragma unroll
    for (int c = 0; c < per; ++c) {
      const float kappa =
          weight(law, units[0].place[across + c], units[1].place[down + r], s.first() + across + c == j + down + r);
      p[c] = 2 * shared_weight(units[0], across + c, units[1], down + r) * kappa * block.sum[r][c];
    }
    *reinterpret_cast<uint4*>(&weights.at[down + r][across]) = *reinterpret_cast<const uint4*>(p);
  }
}

/// Rows b.. of x at senders j.. : [sender][row], in the four stages that a product has.
__device__ __forceinline__ void load_rows(const Squares& s, float* staged, int64_t b, int64_t j) {
  static_assert(Block::shared_elements == side * pitch);
  uint4 fetched[side / Block::depth];
#pragma unroll
  for (int part = 0; part < side / Block::depth; ++part)
    fetched[part] = Block::fetch(s.values(s.end()), false, b, j + part * Block::depth);
#pragma unroll
  for (int part = 0; part < side / Block::depth; ++part)
    Block::put(staged + part * Block::depth * pitch, false, fetched[part]);
}

/// sums[r][c] += sum over the tile's senders of x[row r, sender] P[sender, receiver c].
__device__ __forceinline__ void add_product(const float* rows, const Weights& weights, float (&sums)[per][per]) {
#pragma unroll 8
  for (int k = 0; k < side; ++k) {
    alignas(16) float a[per], p[per];
    Block::operands(a, rows + k * pitch, Block::down());
    Block::operands(p, weights.at[k], Block::across());
#pragma unroll
    for (int r = 0; r < per; ++r)
#pragma unroll
      for (int c = 0; c < per; ++c) sums[r][c] = fused(a[r], p[c], sums[r][c]);
  }
}

/// This thread's sums of rows b.. : four neighbouring receivers of four rows of `parts` (batch, n).
template <class Access>
__device__ __forceinline__ void for_sums(const Squares& s, int64_t b, Access&& access) {
  const int64_t i = s.first() + Block::across() * per;
#pragma unroll
  for (int r = 0; r < per; ++r) {
    const int64_t row = b + Block::down() * per + r;
    if (row < s.batch && i < s.n) access(r, row * s.n + i, static_cast<int>(s.n - i < per ? s.n - i : per));
  }
}
__device__ __forceinline__ void read_sums(const Squares& s, int64_t b, const float* parts, float (&sums)[per][per]) {
  for_sums(s, b, [&](int r, int64_t at, int count) {
    if (s.vector) {
      const float4 four = *reinterpret_cast<const float4*>(parts + at);
      sums[r][0] = four.x, sums[r][1] = four.y, sums[r][2] = four.z, sums[r][3] = four.w;
    } else {
#pragma unroll
      for (int c = 0; c < per; ++c) sums[r][c] = c < count ? parts[at + c] : 0.0f;
    }
  });
}
__device__ __forceinline__ void write_sums(const Squares& s, int64_t b, const float (&sums)[per][per], float* parts) {
  for_sums(s, b, [&](int r, int64_t at, int count) {
    if (s.vector) {
      *reinterpret_cast<float4*>(parts + at) = make_float4(sums[r][0], sums[r][1], sums[r][2], sums[r][3]);
    } else {
#pragma unroll
      for (int c = 0; c < per; ++c)
        if (c < count) parts[at + c] = sums[r][c];
    }
  });
}

template <class Law>
__global__ void __launch_bounds__(threads, 2) squares_values_kernel(Law law, Squares s, float* all_parts) {
  RANVIER_SHARED(Staged, staged, [1]);
  RANVIER_SHARED(Weights, weights, [1]);
  RANVIER_SHARED(Units, units, [2]);  // receivers, senders
  float* parts = all_parts + int64_t{blockIdx.y} * s.batch * s.n;
  const bool resident = s.batch <= side;
  float sums[per][per] = {};
  units[0].load(s, s.first(), s.n);
  for (int64_t j = s.begin(); j < s.end(); j += side) {
    Block block;
    units[1].load(s, j, s.end());
    s.multiply(block, staged[0].at, j);
    make_weights(law, s, block, units, j, weights[0]);
    for (int64_t b = 0; b < s.batch; b += side) {
      load_rows(s, staged[0].at, b, j);
      if (!resident) {
#pragma unroll
        for (int r = 0; r < per; ++r)
#pragma unroll
          for (int c = 0; c < per; ++c) sums[r][c] = 0;
        if (j > s.begin()) read_sums(s, b, parts, sums);  // its own: no other thread has these
      }
      __syncthreads();
      add_product(staged[0].at, weights[0], sums);
      if (!resident) write_sums(s, b, sums, parts);
      __syncthreads();  // before the next rows, weights and senders
    }
  }
  if (resident || s.begin() >= s.end())  // a piece without senders has zeros for sums
    for (int64_t b = 0; b < s.batch; b += side) write_sums(s, b, sums, parts);
}

int64_t blocks_of(const PairDims& d) { return (d.n + side - 1) / side; }
int64_t splits_of(const PairDims& d) { return pair_splits(blocks_of(d), d.n, 512); }

/// Fewer pieces where partial sums of all rows would take more than 64 MB.
int64_t values_splits(const PairDims& d) {
  int64_t splits = splits_of(d);
  while (splits > 1 && splits * d.batch * d.n > int64_t{16} << 20) splits /= 2;
  return splits;
}

size_t parts_bytes(int64_t splits, int64_t size) {
  return splits == 1 ? 0 : static_cast<size_t>(splits * size) * sizeof(float);
}

/// Launches kernel(law)(law, squares, parts) and adds the pieces to a result of `size` numbers.
template <class Kernel>
void over_pairs(const PairDims& d, Squares s, int64_t splits, int64_t size, float* result, void* workspace,
                CudaStream stream, Kernel&& kernel) {
  if (size == 0) return;
  float* parts = splits == 1 ? result : static_cast<float*>(workspace);
  s.n = d.n, s.batch = d.batch, s.axes = static_cast<int>(d.axes), s.split = split_size(d.n, splits, side);
  s.vector = whole_vectors(s.x, d.n) && whole_vectors(parts, d.n);
  const dim3 grid(grid_of(blocks_of(d)), static_cast<unsigned>(splits));
  dispatch_device_law(d.law, [&]<class Law>(const Law& law) {
    launch(kernel(law), {grid, threads, 0, stream}, law, s, parts);
  });
  if (splits > 1) pair_finish(size, splits, parts, result, stream);
}

}  // namespace

size_t pair_squares_workspace(const PairDims& d) { return parts_bytes(splits_of(d), d.n); }
void pair_squares(const PairDims& d, const float* x, const float* w, const float* positions, float* q, void* workspace,
                  CudaStream stream) {
  over_pairs(d, {nullptr, x, w, positions}, splits_of(d), d.n, q, workspace, stream,
             []<class Law>(const Law&) { return squares_kernel<Law>; });
}

size_t pair_squares_values_workspace(const PairDims& d) { return parts_bytes(values_splits(d), d.batch * d.n); }
void pair_squares_values(const PairDims& d, const float* v, const float* x, const float* w, const float* positions,
                         float* dx, void* workspace, CudaStream stream) {
  over_pairs(d, {v, x, w, positions}, values_splits(d), d.batch * d.n, dx, workspace, stream,
             []<class Law>(const Law&) { return squares_values_kernel<Law>; });
}

size_t pair_squares_positions_workspace(const PairDims& d) { return parts_bytes(splits_of(d), d.n * d.axes); }
void pair_squares_positions(const PairDims& d, const float* v, const float* x, const float* w, const float* positions,
                            float* dp, void* workspace, CudaStream stream) {
  over_pairs(d, {v, x, w, positions}, splits_of(d), d.n * d.axes, dp, workspace, stream,
             []<class Law>(const Law&) { return squares_positions_kernel<Law>; });
}

}  // namespace ranvier::kernels::cuda
