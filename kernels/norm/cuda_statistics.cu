// Mean and variance per channel on a CUDA device, with the pool that comes before them or after, in one reading of x.
//
// Precision: eps may be 1e-12 and a mean may lie 1e5 deviations from zero, so no sum of plain squares is ever formed. A
// thread takes up to 8 values of a channel at a time, their mean first, then sums about it, and joins such chunks by
// Chan's formula (Chan, Golub, LeVeque 1983) with all means as offsets from its first one, which f32 holds exactly
// enough; threads and blocks are joined in f64 about a common pivot.
#include "kernels/norm/passes.cuh"

namespace ranvier::kernels {
namespace norm_cuda {
namespace {

/// Statistics of the values that a thread has seen: mean = pivot + offset, and squared distances from it.
template <int size>
struct Moments {
  float pivot[size] = {}, offset[size] = {}, square[size] = {};
  float rows = 0;

  /// Adds the first `count` of some packs, at least one.
  template <class T, int most>
  __device__ __forceinline__ void add(const Pack<T, size> (&x)[most], int count) {
    const auto here = static_cast<float>(count);
    const float all = rows + here, inverse = quotient(1.0f, here), share = quotient(here, all);
    const float weight = product(rows, share);
#pragma unroll
    for (int k = 0; k < size; ++k) {
      float total = 0;
#pragma unroll
      for (int i = 0; i < most; ++i)
        if (i < count) total += to_float(x[i].v[k]);
      const float middle = product(total, inverse);
      float rest = 0, about = 0;
#pragma unroll
      for (int i = 0; i < most; ++i)
        if (i < count) {
          const float delta = to_float(x[i].v[k]) - middle;
          rest += delta;
          about = fused(delta, delta, about);
        }
      const float correction = product(rest, inverse);  // middle is a rounded mean; this is what it lacks
      about = fused(-rest, correction, about);
      if (rows == 0) pivot[k] = middle;
      const float distance = ((middle - pivot[k]) + correction) - offset[k];
      offset[k] = fused(distance, share, offset[k]);
      square[k] += fused(product(distance, distance), weight, about);
    }
    rows = all;
  }
};

/// Joins the threads of a block and writes its mean and squares.
template <int size>
__device__ void write_partial(const Cut& cut, const Part& part, const Moments<size>& moments, int64_t channels,
                              const Scratch& scratch) {
  RANVIER_SHARED(float, pivots, [size][most_columns]);
  RANVIER_SHARED(double, sums, [2 * size + 1][threads]);
  if (part.row == 0) {
#pragma unroll
    for (int k = 0; k < size; ++k) pivots[k][part.column] = moments.pivot[k];
  }
  __syncthreads();
  double values[2 * size + 1];
  const double rows = moments.rows;
#pragma unroll
  for (int k = 0; k < size; ++k) {
    const double distance =
        static_cast<double>(moments.pivot[k]) - static_cast<double>(pivots[k][part.column]) + moments.offset[k];
    values[k] = rows * distance;
    values[size + k] = moments.square[k] + rows * distance * distance;
  }
  values[2 * size] = rows;
  sum_rows(cut, part, values, sums);
  if (part.row != 0 || !part.active) return;
  const double all = values[2 * size];
#pragma unroll
  for (int k = 0; k < size; ++k) {
    const int64_t at = blockIdx.x * channels + part.channel + k;
    const double mean = values[k] / all;  // from the pivot
    scratch.first[at] = pivots[k][part.column] + mean;
    scratch.second[at] = values[size + k] - values[k] * mean;
  }
  if (part.channel == 0) scratch.rows[blockIdx.x] = all;
}

/// Statistics of x as it is.
template <class T, int size>
__global__ void __launch_bounds__(threads) statistics_kernel(Cut cut, int64_t channels, const T* x, Scratch scratch) {
  constexpr int chunk = 8;
  const Part part(cut, size);
  Moments<size> moments;
  for (int64_t unit = part.first; unit < part.end; unit += int64_t{cut.rows} * chunk) {
    Pack<T, size> values[chunk];
    int count = 0;
#pragma unroll
    for (int i = 0; i < chunk; ++i)
      if (const int64_t at = unit + i * cut.rows; at < part.end) {
        values[i] = load_pack<size>(x + at * channels + part.channel);
        ++count;
      }
    moments.add(values, count);
  }
  write_partial(cut, part, moments, channels, scratch);
}

/// What decides the windows: x alone, and then statistics are taken over the winners; or x times the sign of gamma,
/// with statistics over everything.
template <class T, int size, PoolPlace place>
__global__ void __launch_bounds__(threads)
    pooled_statistics_kernel(Cut cut, Windows windows, const T* __restrict__ x, const float* gamma,
                             T* __restrict__ pooled, uint8_t* __restrict__ index, Scratch scratch) {
  constexpr int chunk = place == PoolPlace::before ? 4 : 1;
  const Part part(cut, size);
  Moments<size> moments;
  float sign[size];
  load_signs(place == PoolPlace::before ? nullptr : gamma, part, sign);
  for (int64_t unit = part.first; unit < part.end; unit += int64_t{cut.rows} * chunk) {
    Pack<T, size> values[4];
    int count = 0;
#pragma unroll
    for (int i = 0; i < chunk; ++i) {
      const int64_t at = unit + i * cut.rows;
      if (at >= part.end) continue;
      const Window window(windows, at);
      Pack<T, size> members[4];
      load_members(x, part, window, members);
      if constexpr (place == PoolPlace::after) {
        count = window.count;
#pragma unroll
        for (int m = 0; m < 4; ++m) values[m] = members[m];
        if (count < 4) continue;
      }
      const Winners<T, size> winners(members, [&](float v, int k) { return product(v, sign[k]); });
      if constexpr (place == PoolPlace::before) values[i] = winners.value, ++count;
      store_pack(pooled + window.out + part.channel, winners.value);
      if (index) store_pack(index + window.out + part.channel, winners.index);
    }
    moments.add(values, count);
  }
  write_partial(cut, part, moments, windows.c, scratch);
}

constexpr int finish_channels = 8, finish_lanes = threads / finish_channels;

/// Adds what every lane of a channel holds; the sums are lane 0's.
template <int n>
__device__ void sum_lanes(double (&values)[n]) {
  RANVIER_SHARED(double, shared, [n][threads]);
  const int tid = static_cast<int>(threadIdx.x), lane = tid / finish_channels;
#pragma unroll
  for (int k = 0; k < n; ++k) shared[k][tid] = values[k];
  for (int step = finish_lanes / 2; step > 0; step /= 2) {
    __syncthreads();
    if (lane < step) {
#pragma unroll
      for (int k = 0; k < n; ++k) shared[k][tid] = values[k] += shared[k][tid + step * finish_channels];
    }
  }
}

__global__ void finish_statistics_kernel(int64_t channels, int blocks, double eps, Scratch scratch, float* mean,
                                         float* variance, float* rstd) {
  const int tid = static_cast<int>(threadIdx.x);
  const int64_t c = int64_t{blockIdx.x} * finish_channels + tid % finish_channels;
  const double pivot = c < channels ? scratch.first[c] : 0;
  double values[3] = {};  // values, their distances from the pivot, squares of those
#pragma unroll 4          // loads under way at once: this kernel is all latency
  for (int b = tid / finish_channels; b < (c < channels ? blocks : 0); b += finish_lanes) {
    const double rows = scratch.rows[b], distance = scratch.first[b * channels + c] - pivot;
    values[0] += rows;
    values[1] += rows * distance;
    values[2] += scratch.second[b * channels + c] + rows * distance * distance;
  }
  sum_lanes(values);
  if (tid >= finish_channels || c >= channels) return;
  const double from_pivot = values[1] / values[0];
  const double v = (values[2] - values[1] * from_pivot) / values[0];
  const auto rounded = static_cast<float>(v < 0 ? 0 : v);  // rounding may take a constant channel just below zero
  mean[c] = static_cast<float>(pivot + from_pivot);
  variance[c] = rounded;
  rstd[c] = static_cast<float>(1 / root(static_cast<double>(rounded) + eps));  // eps may lie far below an ulp of 1
}

__global__ void finish_sums_kernel(int64_t channels, int blocks, double rows, Affine affine, Scratch scratch,
                                   float* dgamma, float* dbeta) {
  const int tid = static_cast<int>(threadIdx.x);
  const int64_t c = int64_t{blockIdx.x} * finish_channels + tid % finish_channels;
  double values[2] = {};
#pragma unroll 4  // loads under way at once: this kernel is all latency
  for (int b = tid / finish_channels; b < (c < channels ? blocks : 0); b += finish_lanes) {
    values[0] += scratch.first[b * channels + c];
    values[1] += scratch.second[b * channels + c];
  }
  sum_lanes(values);
  if (tid >= finish_channels || c >= channels) return;
  const double rstd = affine.rstd[c], gamma = affine.gamma ? affine.gamma[c] : 1.0f;
  const double scale = static_cast<float>(rstd * gamma), through = values[1] * rstd;
  if (dbeta) dbeta[c] = static_cast<float>(values[0]);
  if (dgamma) dgamma[c] = static_cast<float>(through);
  scratch.shift[c] = static_cast<float>(scale * values[0] / rows);
  scratch.tilt[c] = static_cast<float>(scale * through * rstd / rows);
}

LaunchConfig finish_config(int64_t channels, CudaStream stream) {
  return {blocks_for(channels, finish_channels), threads, 0, stream};
}

}  // namespace

template <class T>
void statistics(const NormDims& d, const NormForward<T, float>& a, CudaStream stream) {
  with_packs<T>(d, [&](auto size) {
    const Cut cut = statistics_cut(d, size());
    const Scratch scratch(d, cut.blocks, a.workspace);
    T* pooled = a.pooled ? a.pooled : a.y;
    if (d.pool == PoolPlace::before)
      launch(pooled_statistics_kernel<T, size(), PoolPlace::before>, cut.config(stream), cut, Windows(d, false), a.x,
             a.gamma, pooled, a.index, scratch);
    else if (d.pool == PoolPlace::after && monotone(d.act))
      launch(pooled_statistics_kernel<T, size(), PoolPlace::after>, cut.config(stream), cut, Windows(d, true), a.x,
             a.gamma, pooled, a.index, scratch);
    else
      launch(statistics_kernel<T, size()>, cut.config(stream), cut, d.c, a.x, scratch);
    launch(finish_statistics_kernel, finish_config(d.c, stream), d.c, cut.blocks, d.eps, scratch, a.mean, a.variance,
           a.rstd);
  });
}

void finish_sums(const NormDims& d, int blocks, const Affine& affine, const Scratch& scratch, float* dgamma,
                 float* dbeta, CudaStream stream) {
  launch(finish_sums_kernel, finish_config(d.c, stream), d.c, blocks, static_cast<double>(d.stat_rows()), affine,
         scratch, dgamma, dbeta);
}

template void statistics(const NormDims&, const NormForward<float, float>&, CudaStream);
template void statistics(const NormDims&, const NormForward<bf16, float>&, CudaStream);
template void statistics(const NormDims&, const NormForward<f16, float>&, CudaStream);

}  // namespace norm_cuda
}  // namespace ranvier::kernels
