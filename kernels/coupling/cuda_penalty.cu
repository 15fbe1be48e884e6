// Penalties of coupled channels and their gradients in x: statistics, then two passes over x, products on tensor cores.
#include "kernels/coupling/channel_tile.cuh"
#include "kernels/coupling/channels.h"
#include "kernels/norm/passes.cuh"

// z is made anew from x in each pass and stored nowhere; beside the statistics x is read twice (thrice by the moments
// of more than 128 channels) and the gradient written once. Products take z, or z^2 - 1, whose mean is near 0 so that
// its 16 bits hold what fluctuates; moments take x as it is, without a rounding, but where its mean is large. Sums and
// all else are f32 and better, and cut by the shape only.

namespace ranvier::kernels {
namespace channel_cuda {
namespace {

constexpr int most_channels = 256, lanes = 32, by_block = threads / lanes;

/// Blocks that a multiprocessor has room for: beside the matrix there are constants to hold.
constexpr int at_once(int width) { return width >= 128 ? 1 : 2; }

/// Blocks that go through the rows, cut by the shape only.
template <int width>
int64_t penalty_blocks(int64_t rows) {
  return std::min(blocks_of<width>(rows), int64_t{132 * at_once(width)});
}

/// Per channel, on the device. A slope is factor / sqrt(variance + eps) (z (w - spread) - shift) for squares, else
/// factor / sqrt(variance + eps) (w - z spread), where w is the product. But for squares a channel's weight on itself
/// is left out: what it adds to w it adds to z spread, and the difference would be all rounding.
struct Channels {
  float *mean, *variance, *rstd;
  float *spread, *shift;
  float* share;   ///< of twice the penalty
  float* weight;  ///< on itself; of squares the sum over all channels
};

/// z, or z^2 - 1, of a tile; zeros beyond the rows and channels.
template <class T, int width, bool squares>
__device__ __forceinline__ void standardise(const Rows<T>& f, int64_t first, const float (&mean)[most_channels],
                                            const float (&rstd)[most_channels], const unsigned char* tile,
                                            unsigned char* to) {
#pragma unroll 1
  for (int k = 0; k < tile_bytes / 16 / threads; ++k) {
    const int piece = k * threads + static_cast<int>(threadIdx.x), row = piece / Tile<width>::chunks,
              chunk = piece % Tile<width>::chunks, at = Tile<width>::offset(row, chunk);
    const bool there = first + row < f.count;
    uint32_t words[4];
#pragma unroll
    for (int e = 0; e < 4; ++e) {
      const Pair x = pair_of<T>(tile + at + 4 * e);
      const int c = 8 * chunk + 2 * e;
      const float low = product(x.low - mean[c], rstd[c]), high = product(x.high - mean[c + 1], rstd[c + 1]);
      const float a = squares ? fused(low, low, -1.0f) : low, b = squares ? fused(high, high, -1.0f) : high;
      words[e] = there ? ptx::pack<T>(a, b) : 0;
    }
    *reinterpret_cast<uint4*>(to + at) = make_uint4(words[0], words[1], words[2], words[3]);
  }
}

/// A channel's constants in shared memory, zeros beyond the channels. They are there after the next barrier.
template <int count>
__device__ __forceinline__ void share(const float* const (&from)[count], int channels,
                                      float (&to)[count][most_channels]) {
#pragma unroll
  for (int k = 0; k < count; ++k)
    to[k][threadIdx.x] = static_cast<int>(threadIdx.x) < channels ? from[k][threadIdx.x] : 0.0f;
}

/// Sums over a block's rows of z w and, for squares, z^2 w (first) and z w: partial (parts, 2, channels), a part for
/// each warp of a column.
template <class T, int width, bool squares>
__global__ void __launch_bounds__(threads, at_once(width))
    sums_kernel(Rows<T> f, const T* weights, Channels channels, float* partial) {
  RANVIER_DYNAMIC_SHARED(memory);
  RANVIER_SHARED(float, constant, [2][most_channels]);
  share<2>({channels.mean, channels.rstd}, f.channels, constant);
  const Place<width> place;
  const Matrix<T, width> matrix(weights, f.channels, place);
  unsigned char* const operand = memory + stages * tile_bytes;
  float sum[2][4][2] = {};
  for_tiles<T, width>(f, memory, [&](int64_t first, const unsigned char* tile) {
    standardise<T, width, squares>(f, first, constant[0], constant[1], tile, operand);
    __syncthreads();
#pragma unroll 1
    for (int half = 0; half < 2; ++half) {
      const int at = place.first_row + 16 * half;
      float w[4][4] = {};
      matrix.multiply(operand, at, place.lane, w);
#pragma unroll
      for (int c = 0; c < 4; ++c)
#pragma unroll
        for (int lower = 0; lower < 2; ++lower) {
          const int column = place.columns + 8 * c + 2 * place.q;
          const Pair x =
              pair_of<T>(tile + Tile<width>::offset(at + place.g + 8 * lower, place.columns / 8 + c) + 4 * place.q);
#pragma unroll
          for (int odd = 0; odd < 2; ++odd) {
            const float z = product((odd ? x.high : x.low) - constant[0][column + odd], constant[1][column + odd]);
            const float term = product(z, w[c][2 * lower + odd]);
            sum[0][c][odd] = squares ? fused(z, term, sum[0][c][odd]) : sum[0][c][odd] + term;
            if (squares) sum[1][c][odd] += term;
          }
        }
    }
  });
  const int64_t part = int64_t{blockIdx.x} * (8 / Tile<width>::groups) + place.warp / Tile<width>::groups;
#pragma unroll
  for (int which = 0; which < 2; ++which)
#pragma unroll
    for (int c = 0; c < 4; ++c)
#pragma unroll
      for (int odd = 0; odd < 2; ++odd) {
        float all = sum[which][c][odd];
#pragma unroll
        for (int apart = 4; apart < 32; apart *= 2) all += __shfl_xor_sync(0xffffffffu, all, apart);
        const int column = place.columns + 8 * c + 2 * place.q + odd;
        if (place.g == 0 && column < f.channels) partial[(2 * part + which) * f.channels + column] = all;
      }
}

/// Adds what the 32 lanes of a channel hold, a channel for every 8th thread; all lanes have the sums afterwards.
template <int count>
__device__ void sum_lanes(double (&values)[count]) {
  RANVIER_SHARED(double, shared, [count][threads]);
  const int tid = static_cast<int>(threadIdx.x), lane = tid / by_block;
#pragma unroll
  for (int k = 0; k < count; ++k) shared[k][tid] = values[k];
  for (int step = lanes / 2; step > 0; step /= 2) {
    __syncthreads();
    if (lane < step)
#pragma unroll
      for (int k = 0; k < count; ++k) shared[k][tid] += shared[k][tid + step * by_block];
  }
  __syncthreads();
#pragma unroll
  for (int k = 0; k < count; ++k) values[k] = shared[k][tid % by_block];
}

/// Sums of the parts, and what follows from them for each channel.
template <bool squares>
__global__ void __launch_bounds__(threads)
    spread_kernel(int64_t rows, int n, int parts, double eps, const float* partial, Channels channels) {
  const int tid = static_cast<int>(threadIdx.x), c = static_cast<int>(blockIdx.x) * by_block + tid % by_block;
  double sum[2] = {};
  for (int p = tid / by_block; p < parts; p += lanes)
#pragma unroll
    for (int which = 0; which < 2; ++which) sum[which] += static_cast<double>(partial[(2 * p + which) * n + c]);
  sum_lanes(sum);
  if (tid >= by_block) return;
  const double through_variance = sum[0] / static_cast<double>(rows), weight = channels.weight[c];
  const double rstd = channels.rstd[c], off = -eps * rstd * rstd;  // mean of z^2, less 1
  channels.share[c] = static_cast<float>(through_variance + weight * (1 + off));
  // w lacks z times the weight on itself or, as the operand lacks 1, that of squares the sum of the weights
  channels.spread[c] = static_cast<float>(through_variance + weight * off);
  channels.shift[c] = squares ? static_cast<float>(sum[1] / static_cast<double>(rows)) : 0;
}

/// The gradient, and the penalty.
template <class T, int width, bool squares>
__global__ void __launch_bounds__(threads, at_once(width))
    slope_kernel(Rows<T> f, const T* weights, Channels channels, float factor, T* slope, float* penalty) {
  RANVIER_DYNAMIC_SHARED(memory);
  RANVIER_SHARED(float, constant, [4][most_channels]);
  share<4>({channels.mean, channels.rstd, channels.spread, channels.shift}, f.channels, constant);
  if (blockIdx.x == 0 && threadIdx.x == 0) {
    double sum = 0;
    for (int c = 0; c < f.channels; ++c) sum += static_cast<double>(channels.share[c]);
    *penalty = static_cast<float>(0.5 * sum);
  }
  const Place<width> place;
  const Matrix<T, width> matrix(weights, f.channels, place);
  unsigned char* const operand = memory + stages * tile_bytes;
  for_tiles<T, width>(f, memory, [&](int64_t first, const unsigned char* tile) {
    standardise<T, width, squares>(f, first, constant[0], constant[1], tile, operand);
    __syncthreads();
#pragma unroll 1
    for (int half = 0; half < 2; ++half) {
      const int at = place.first_row + 16 * half;
      float sums[4][4] = {};
      matrix.multiply(operand, at, place.lane, sums);
      put_rows<T, width>(f, first, at, place, tile, sums, slope, [&](float x, float w, int c) {
        const float rstd = constant[1][c], z = product(x - constant[0][c], rstd), spread = constant[2][c];
        const float inner = squares ? fused(z, w - spread, -constant[3][c]) : fused(-z, spread, w);
        return product(product(factor, rstd), inner);
      });
    }
  });
}

// ---- squared products: moments first ----

/// What is taken off a channel before its moments are summed: nothing, as long as its mean costs f32 sums few digits.
__device__ __forceinline__ float taken_off(float mean, float rstd) {
  return product(mean, rstd) > 2 || product(mean, rstd) < -2 ? mean : 0.0f;
}

/// How the warps of a block share the sums: each has groups of 16 channels against a slice of up to 128, for rows of
/// its own where there are warps to spare. A block has half of the columns of 256 channels.
template <int width>
struct Share {
  static constexpr int slice = width < 128 ? width : 128, groups = width / 16 < 8 ? width / 16 : 8;
  static constexpr int each = width / 16 / groups, cuts = 8 / groups;
};

/// Sums over rows of x_i x_j, less what is taken off: partial (blocks x cuts, channels, channels).
template <class T, int width>
__global__ void __launch_bounds__(threads, at_once(width))
    moments_kernel(Rows<T> f, Channels channels, float* partial) {
  using Own = Share<width>;
  RANVIER_DYNAMIC_SHARED(memory);
  RANVIER_SHARED(float, constant, [2][most_channels]);
  share<2>({channels.mean, channels.rstd}, f.channels, constant);
  constant[0][threadIdx.x] = taken_off(constant[0][threadIdx.x], constant[1][threadIdx.x]);
  constant[1][threadIdx.x] = 1;
  const int warp = static_cast<int>(threadIdx.x) / 32, lane = static_cast<int>(threadIdx.x) % 32, g = lane / 4,
            q = lane % 4;
  const int group = warp % Own::groups, cut = warp / Own::groups, column = static_cast<int>(blockIdx.y) * Own::slice;
  unsigned char* const operand = memory + stages * tile_bytes;
  float sum[Own::each][Own::slice / 8][4] = {};
  for_tiles<T, width>(f, memory, [&](int64_t first, const unsigned char* tile) {
    standardise<T, width, false>(f, first, constant[0], constant[1], tile, operand);
    __syncthreads();
#pragma unroll 1
    for (int row = 16 * cut; row < Tile<width>::rows; row += 16 * Own::cuts) {
      uint32_t left[Own::each][4];
#pragma unroll
      for (int e = 0; e < Own::each; ++e)
        ptx::ldmatrix_x4_trans(left[e], operand + Tile<width>::offset(row + lane % 8 + lane / 16 * 8,
                                                                      2 * (group + e * Own::groups) + lane / 8 % 2));
#pragma unroll
      for (int c = 0; c < Own::slice / 16; ++c) {
        uint32_t right[4];
        ptx::ldmatrix_x4_trans(right, operand + Tile<width>::offset(row + lane % 16, column / 8 + 2 * c + lane / 16));
#pragma unroll
        for (int e = 0; e < Own::each; ++e) {
          ptx::mma_m16n8k16<T>(sum[e][2 * c], left[e], right[0], right[1]);
          ptx::mma_m16n8k16<T>(sum[e][2 * c + 1], left[e], right[2], right[3]);
        }
      }
    }
  });
  const int64_t n = f.channels;
  float* const to = partial + (int64_t{blockIdx.x} * Own::cuts + cut) * n * n;
#pragma unroll
  for (int e = 0; e < Own::each; ++e)
#pragma unroll
    for (int c = 0; c < Own::slice / 8; ++c)
#pragma unroll
      for (int k = 0; k < 4; ++k) {
        const int i = 16 * (group + e * Own::groups) + g + k / 2 * 8, j = column + 8 * c + 2 * q + k % 2;
        if (i < n && j < n) to[i * n + j] = sum[e][c][k];
      }
}

// ---- the matrix ----

/// A row of the weights' even part, times the moments for squared products, and its sums: a block a row.
template <class T, int64_t kind>
__global__ void __launch_bounds__(threads) weights_kernel(int n, int64_t rows, double eps, const float* k, int parts,
                                                          const float* partial, T* weights, Channels channels) {
  RANVIER_SHARED(double, shared, [threads]);
  const int i = static_cast<int>(blockIdx.x), j = static_cast<int>(threadIdx.x);
  double weight = 0, share = 0;
  if (j < n) {
    weight = 0.5 * (static_cast<double>(k[i * n + j]) + static_cast<double>(k[j * n + i]));
    share = weight;
    if (kind == ChannelPenalty::squared_products) {
      double moment = 0;
#pragma unroll 4
      for (int p = 0; p < parts; ++p) moment += static_cast<double>(partial[(int64_t{p} * n + i) * n + j]);
      const auto rstd = [&](int c) { return static_cast<double>(channels.rstd[c]); };
      const auto left = [&](int c) {
        return static_cast<double>(channels.mean[c] - taken_off(channels.mean[c], channels.rstd[c]));
      };
      moment = (moment / static_cast<double>(rows) - left(i) * left(j)) * rstd(i) * rstd(j);
      if (i == j) moment = 1 - eps * rstd(i) * rstd(i);  // what it is without a rounding
      weight *= moment, share = weight * moment;
    }
    weights[i * n + j] =
        from_float<T>(kind != ChannelPenalty::products_of_squares && i == j ? 0.0f : static_cast<float>(weight));
  }
  if (kind == ChannelPenalty::products) {
    if (i == j) channels.weight[i] = static_cast<float>(weight);
    return;
  }
  RANVIER_SHARED(double, itself, [1]);
  if (i == j) itself[0] = weight;
  shared[j] = share;
  for (int step = threads / 2; step > 0; step /= 2) {
    __syncthreads();
    if (j < step) shared[j] += shared[j + step];
  }
  if (j != 0) return;
  const auto sum = static_cast<float>(shared[0]);
  if (kind == ChannelPenalty::products_of_squares)
    channels.weight[i] = sum;
  else
    channels.share[i] = sum, channels.spread[i] = static_cast<float>(shared[0] - itself[0]), channels.shift[i] = 0;
}

// ---- a call ----

/// Blocks of rows for the moments: each has matrices of its own in memory.
template <int width>
int64_t moment_blocks(int64_t rows) {
  return std::min(penalty_blocks<width>(rows), int64_t{width == 256 ? 66 : 132});
}

NormDims norm_of(int64_t rows, int64_t channels, double eps) { return {rows, 1, 1, channels, eps}; }

/// Pieces of the workspace, each from a multiple of 64 bytes.
template <class T>
struct Pieces {
  Channels channels{};
  T* weights = nullptr;
  float* partial = nullptr;
  void* norm = nullptr;
  size_t bytes = 0;

  Pieces(int64_t rows, int64_t n, const ChannelPenalty& penalty, size_t norm_bytes, void* workspace) {
    const auto take = [&](auto*& piece, int64_t count) {
      using E = std::remove_reference_t<decltype(*piece)>;
      piece = reinterpret_cast<E*>(reinterpret_cast<uintptr_t>(workspace) + bytes);
      bytes += (static_cast<size_t>(count) * sizeof(E) + 63) / 64 * 64;
    };
    for (float** each : {&channels.mean, &channels.variance, &channels.rstd, &channels.spread, &channels.shift,
                         &channels.share, &channels.weight})
      take(*each, n);
    take(weights, n * n);
    with_width(n, [&](auto width) {
      const int64_t sums = penalty_blocks<width()>(rows) * (8 / Tile<width()>::groups) * 2 * n;
      const int64_t moments = moment_blocks<width()>(rows) * Share<width()>::cuts * n * n;
      take(partial, penalty.kind == ChannelPenalty::squared_products ? moments : sums);
    });
    unsigned char* last = nullptr;
    take(last, static_cast<int64_t>(norm_bytes));
    norm = last;
  }
};

template <class T, int width, bool squares>
void by_sums(const Rows<T>& rows, const ChannelPenalty& penalty, const Pieces<T>& p, const float* k,
             CudaStream stream) {
  constexpr int64_t kind = squares ? ChannelPenalty::products_of_squares : ChannelPenalty::products;
  const int64_t blocks = penalty_blocks<width>(rows.count);
  const int n = rows.channels;
  launch(weights_kernel<T, kind>, {grid_of(n), threads, 0, stream}, n, rows.count, penalty.eps, k, 0, p.partial,
         p.weights, p.channels);
  launch(sums_kernel<T, width, squares>, {grid_of(blocks), threads, (stages + 1) * tile_bytes, stream}, rows, p.weights,
         p.channels, p.partial);
  launch(spread_kernel<squares>, {grid_of(n / by_block), threads, 0, stream}, rows.count, n,
         static_cast<int>(blocks * (8 / Tile<width>::groups)), penalty.eps, p.partial, p.channels);
}

template <class T, int width>
void by_moments(const Rows<T>& rows, const ChannelPenalty& penalty, const Pieces<T>& p, const float* k,
                CudaStream stream) {
  const int64_t blocks = moment_blocks<width>(rows.count);
  const int n = rows.channels;
  launch(moments_kernel<T, width>,
         {dim3(grid_of(blocks), width / Share<width>::slice), dim3(threads), (stages + 1) * tile_bytes, stream}, rows,
         p.channels, p.partial);
  launch(weights_kernel<T, ChannelPenalty::squared_products>, {grid_of(n), threads, 0, stream}, n, rows.count,
         penalty.eps, k, static_cast<int>(blocks * Share<width>::cuts), p.partial, p.weights, p.channels);
}

}  // namespace
}  // namespace channel_cuda

namespace cuda {

template <class T>
size_t channel_penalty_workspace(int64_t rows, int64_t channels, const ChannelPenalty& penalty) {
  using namespace channel_cuda;
  const size_t norm = norm_workspace<T>(norm_of(rows, channels, penalty.eps));
  return Pieces<T>(rows, channels, penalty, norm, nullptr).bytes;
}

template <class T>
void channel_penalty(int64_t rows, int64_t channels, const ChannelPenalty& penalty, const T* x, const float* k,
                     float* value, T* slope, void* workspace, CudaStream stream) {
  using namespace channel_cuda;
  const NormDims norm = norm_of(rows, channels, penalty.eps);
  const Pieces<T> p(rows, channels, penalty, norm_workspace<T>(norm), workspace);
  const Channels& c = p.channels;
  norm_cuda::statistics<T>(norm, {x, nullptr, nullptr, nullptr, c.mean, c.variance, c.rstd, nullptr, nullptr, p.norm},
                           stream);
  const bool squares = penalty.kind == ChannelPenalty::products_of_squares;
  const float factor =
      static_cast<float>((penalty.kind == ChannelPenalty::products ? 1.0 : 2.0) / static_cast<double>(rows));
  with_width(channels, [&](auto width) {
    const Rows<T> all{rows, static_cast<int>(channels), x};
    if (penalty.kind == ChannelPenalty::squared_products)
      by_moments<T, width()>(all, penalty, p, k, stream);
    else if (squares)
      by_sums<T, width(), true>(all, penalty, p, k, stream);
    else
      by_sums<T, width(), false>(all, penalty, p, k, stream);
    launch(squares ? slope_kernel<T, width(), true> : slope_kernel<T, width(), false>,
           {grid_of(penalty_blocks<width()>(rows)), threads, (stages + 1) * tile_bytes, stream}, all, p.weights, c,
           factor, slope, value);
  });
}

template size_t channel_penalty_workspace<bf16>(int64_t, int64_t, const ChannelPenalty&);
template void channel_penalty(int64_t, int64_t, const ChannelPenalty&, const bf16*, const float*, float*, bf16*, void*,
                              CudaStream);

}  // namespace cuda
}  // namespace ranvier::kernels
