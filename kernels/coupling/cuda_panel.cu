// Many rows of 16-bit values on tensor cores: all threads of a block make a tile of weights together, once for 256
// rows, while they multiply the one before.
#include "kernels/common/mma_tile.cuh"
#include "kernels/coupling/pairs.cuh"

namespace ranvier::kernels::cuda {
namespace {

// A block has 128 receivers x 256 rows in 2 x 4 warps of 64 x 64, and goes in steps of 32 senders. In a step a thread
// makes 16 weights, two receivers times eight senders, which is two 16-byte chunks; a warp's 64 products of m16n8k16
// take about 400 clocks of a tensor core, the weights of its 32 threads about 150 issues of instructions. Weights are
// double-buffered in shared memory (2 x 8 KB), values come two steps ahead (3 x 16 KB).
constexpr int threads = 256, receivers = 128, rows = 256, depth = 32, stages = 3;
static_assert(rows == panel_blocks.rows);
template <class T>
using WeightTile = mma::OperandTile<T, mma::Major::depth, receivers>;
template <class T>
using ValueTile = mma::OperandTile<T, mma::Major::depth, rows>;

/// Shared memory of a block.
template <class T>
struct Panel {
  alignas(128) unsigned char weights[2][WeightTile<T>::bytes];
  alignas(128) unsigned char values[stages][ValueTile<T>::bytes];
  float4 places[2][depth];
};

/// What a block works on.
template <class T>
struct Operands {
  const T* x;
  const float* positions;
  int64_t n, batch, first_i, first_b, end;
  int axes;

  /// Starts the copies of the values of senders from j on; those that there are not become zeros.
  __device__ __forceinline__ void copy_values(unsigned char* tile, int64_t j, bool whole_chunks) const {
#pragma unroll
    for (int k = 0; k < rows * depth / 8 / threads; ++k) {
      const int piece = k * threads + static_cast<int>(threadIdx.x), line = piece / 4, chunk = piece % 4;
      const int64_t b = first_b + line, sender = j + 8 * chunk;
      unsigned char* to = tile + ValueTile<T>::offset(line, chunk);
      if (whole_chunks) {
        const bool there = b < batch && sender < end;
        ptx::cp_async_16(to, there ? x + b * n + sender : x, there ? 16 : 0);
      } else {
        T values[8];
#pragma unroll
        for (int e = 0; e < 8; ++e) values[e] = b < batch && sender + e < end ? x[b * n + sender + e] : T{0};
#pragma unroll
        for (int e = 0; e < 8; ++e) reinterpret_cast<T*>(to)[e] = values[e];
      }
    }
  }
  __device__ __forceinline__ Position place(int64_t j) const { return position_of(positions, n, axes, j); }
  __device__ __forceinline__ float4 sender(int64_t j) const {
    const Position p = place(j);
    return make_float4(p.at[0], p.at[1], p.at[2], 0);
  }
};

/// One chunk of weights: a receiver and eight senders, of which number `own` (if there is one) is the receiver itself.
template <class T, class Law>
__device__ __forceinline__ void make_chunk(const Law& law, const Position& mine, const float4* senders, int64_t own,
                                           unsigned char* to) {
  const auto weight = [&](int k) {
    const float4 other = senders[k];
    float slope;
    return law.template value<false>(squared_distance(mine, {{other.x, other.y, other.z}}), slope);
  };
  uint32_t words[4];
#pragma unroll
  for (int k = 0; k < 4; ++k) words[k] = ptx::pack<T>(weight(2 * k), weight(2 * k + 1));
  *reinterpret_cast<uint4*>(to) = make_uint4(words[0], words[1], words[2], words[3]);
  if (own >= 0 && own < 8) reinterpret_cast<T*>(to)[own] = T{0};
}

/// Adds the products of one step, two instructions deep, for this warp's 64 receivers and 64 rows; between the operands
/// and the products of instruction k calls between(k).
template <class T, class Between>
__device__ __forceinline__ void multiply_step(const unsigned char* weights, const unsigned char* values, int receiver,
                                              int row, float (&sums)[4][8][4], Between&& between) {
#pragma unroll
  for (int step = 0; step < 2; ++step) {
    uint32_t a[4][4];
#pragma unroll
    for (int m = 0; m < 4; ++m) mma::load_a<T, mma::Major::depth, receivers>(a[m], weights, receiver + 16 * m, step);
    between(step);
#pragma unroll
    for (int pair = 0; pair < 4; ++pair) {
      uint32_t b[4];
      mma::load_b<T, mma::Major::depth, rows>(b, values, row + 16 * pair, step);
#pragma unroll
      for (int m = 0; m < 4; ++m) {
        ptx::mma_m16n8k16<T>(sums[m][2 * pair], a[m], b[0], b[1]);
        ptx::mma_m16n8k16<T>(sums[m][2 * pair + 1], a[m], b[2], b[3]);
      }
    }
  }
}

/// One block a multiprocessor: 128 sums, fragments and the weights being made take most of 255 registers.
template <class T, class Law>
__global__ void __launch_bounds__(threads, 1) panel_kernel(Law law, int64_t n, int axes, int64_t batch, int64_t split,
                                                           const T* x, const float* positions, float* parts, T* y) {
  RANVIER_DYNAMIC_SHARED(memory);
  auto& panel = *reinterpret_cast<Panel<T>*>(memory);
  const int thread = static_cast<int>(threadIdx.x), warp = thread / 32, lane = thread % 32;
  const int64_t begin = int64_t{blockIdx.y} * split;
  const Operands<T> from{x,
                         positions,
                         n,
                         batch,
                         int64_t{blockIdx.x} * receivers,
                         int64_t{blockIdx.z} * rows,
                         begin + split < n ? begin + split : n,
                         axes};
  const bool whole_chunks = n % 8 == 0;
  // as a maker of weights: receivers `maker` and `maker + 64`, chunk `part` of the step's senders
  const int maker = thread % 64, part = thread / 64;
  const Position mine[2] = {from.place(from.first_i + maker), from.place(from.first_i + maker + 64)};
  const auto make_weights = [&](int64_t j, int slot, int half) {
    const int line = maker + 64 * half;
    make_chunk<T>(law, mine[half], &panel.places[slot][8 * part], from.first_i + line - (j + 8 * part),
                  panel.weights[slot] + WeightTile<T>::offset(line, part));
  };
  const int steps = from.end > begin ? static_cast<int>((from.end - begin + depth - 1) / depth) : 0;
  const auto start = [&](int s) {
    if (s < steps) from.copy_values(panel.values[s % stages], begin + int64_t{s} * depth, whole_chunks);
    ptx::cp_async_commit();
  };
  if (thread < 2 * depth) panel.places[thread / depth][thread % depth] = from.sender(begin + thread);
  start(0), start(1);
  __syncthreads();
  for (int half = 0; half < 2; ++half) make_weights(begin, 0, half);
  float sums[4][8][4] = {};
  const int warp_receiver = warp / 4 * 64, warp_row = warp % 4 * 64;
  for (int s = 0; s < steps; ++s) {
    const int64_t next = begin + int64_t{s + 1} * depth;
    ptx::cp_async_wait<1>();
    __syncthreads();  // values and weights of this step are there; the buffers of the step before are free
    start(s + 2);
    float4 later{};
    if (thread < depth) later = from.sender(next + depth + thread);
    multiply_step<T>(panel.weights[s % 2], panel.values[s % stages], warp_receiver, warp_row, sums,
                     [&](int half) { make_weights(next, (s + 1) % 2, half); });
    if (thread < depth) panel.places[s % 2][thread] = later;  // read last in the step before, next in the one after
  }
  ptx::cp_async_wait<0>();
#pragma unroll
  for (int m = 0; m < 4; ++m)
#pragma unroll
    for (int c = 0; c < 8; ++c)
#pragma unroll
      for (int e = 0; e < 4; ++e) {
        const int64_t i = from.first_i + warp_receiver + 16 * m + lane / 4 + e / 2 * 8,
                      b = from.first_b + warp_row + 8 * c + lane % 4 * 2 + e % 2;
        if (i < n && b < batch) put_sum(parts, y, batch, n, b, i, sums[m][c][e]);
      }
}

}  // namespace

template <class T>
void pair_apply_panel(const PairDims& d, int64_t splits, const T* x, const float* positions, float* parts, T* y,
                      CudaStream stream) {
  dispatch_device_law(d.law, [&]<class Law>(const Law& law) {
    launch(panel_kernel<T, Law>, {block_grid(d, splits, rows), threads, sizeof(Panel<T>), stream}, law, d.n,
           static_cast<int>(d.axes), d.batch, split_size(d.n, splits, depth), x, positions, parts,
           splits == 1 ? y : nullptr);
  });
}

template void pair_apply_panel<bf16>(const PairDims&, int64_t, const bf16*, const float*, float*, bf16*, CudaStream);
template void pair_apply_panel<f16>(const PairDims&, int64_t, const f16*, const float*, float*, f16*, CudaStream);

}  // namespace ranvier::kernels::cuda
