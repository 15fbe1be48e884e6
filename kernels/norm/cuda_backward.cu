// The gradient of the fused batch norm on a CUDA device: one pass for the two sums per channel, one that writes dx.
#include <stdexcept>

#include "kernels/norm/passes.cuh"

namespace ranvier::kernels {
namespace norm_cuda {
namespace {

/// Sums of g and g (x - mean) of a block, g being the gradient at the affine map's output and x the value that made it.
template <class T, int size>
__global__ void __launch_bounds__(threads)
    sums_kernel(Cut cut, Affine affine, Activation act, int64_t channels, const T* x, const T* dy, Scratch scratch) {
  constexpr int chunk = 4;  // pairs of loads under way at once
  RANVIER_SHARED(double, shared, [2 * size][threads]);
  const Part part(cut, size);
  const Channels<size> channel = affine.load<size>(part);
  float sum[size] = {}, with_x[size] = {};
  for (int64_t unit = part.first; unit < part.end; unit += int64_t{cut.rows} * chunk) {
    Pack<T, size> in[chunk] = {}, above[chunk] = {};
#pragma unroll
    for (int i = 0; i < chunk; ++i)
      if (const int64_t at = unit + i * cut.rows; at < part.end) {
        in[i] = load_pack<size>(x + at * channels + part.channel);
        above[i] = load_pack<size>(dy + at * channels + part.channel);
      }
    with_activation(act, [&](auto kind) {
#pragma unroll
      for (int i = 0; i < chunk; ++i) {
        if (unit + i * cut.rows >= part.end) continue;
#pragma unroll
        for (int k = 0; k < size; ++k) {
          const float v = to_float(in[i].v[k]);
          const float g = activation_gradient<kind(), T>(channel.affine(v, k), to_float(above[i].v[k]));
          sum[k] += g;
          with_x[k] = fused(g, v - channel.mean[k], with_x[k]);
        }
      }
    });
  }
  double values[2 * size];
#pragma unroll
  for (int k = 0; k < size; ++k) values[k] = sum[k], values[size + k] = with_x[k];
  sum_rows(cut, part, values, shared);
  if (part.row != 0 || !part.active) return;
#pragma unroll
  for (int k = 0; k < size; ++k) {
    const int64_t at = blockIdx.x * channels + part.channel + k;
    scratch.first[at] = values[k];
    scratch.second[at] = values[size + k];
  }
}

/// What turns g and x into dx, per channel.
template <int size>
struct Gradient {
  Channels<size> channel;
  float shift[size], tilt[size];

  __device__ Gradient(const Affine& affine, const Scratch& scratch, const Part& part)
      : channel(affine.load<size>(part)), shift{}, tilt{} {
    if (!part.active) return;
#pragma unroll
    for (int k = 0; k < size; ++k) shift[k] = scratch.shift[part.channel + k], tilt[k] = scratch.tilt[part.channel + k];
  }
  __device__ __forceinline__ float input(float g, float x, int k) const {
    return fused(channel.mean[k] - x, tilt[k], fused(g, channel.scale[k], -shift[k]));
  }
};

/// dx without a pool; it may be x or dy, whose elements a thread reads before it writes them.
template <class T, int size>
__global__ void __launch_bounds__(threads) dx_kernel(Cut cut, Affine affine, Scratch scratch, Activation act,
                                                     int64_t channels, const T* x, const T* dy, T* dx) {
  constexpr int chunk = 2;
  const Part part(cut, size);
  const Gradient<size> gradient(affine, scratch, part);
  for (int64_t unit = part.first; unit < part.end; unit += int64_t{cut.rows} * chunk) {
    Pack<T, size> in[chunk] = {}, above[chunk] = {};
#pragma unroll
    for (int i = 0; i < chunk; ++i)
      if (const int64_t at = unit + i * cut.rows; at < part.end) {
        in[i] = load_pack<size>(x + at * channels + part.channel);
        above[i] = load_pack<size>(dy + at * channels + part.channel);
      }
    with_activation(act, [&](auto kind) {
#pragma unroll
      for (int i = 0; i < chunk; ++i) {
        const int64_t at = unit + i * cut.rows;
        if (at >= part.end) continue;
        float out[size];
#pragma unroll
        for (int k = 0; k < size; ++k) {
          const float v = to_float(in[i].v[k]);
          const float g = activation_gradient<kind(), T>(gradient.channel.affine(v, k), to_float(above[i].v[k]));
          out[k] = gradient.input(g, v, k);
        }
        store_pack(dx + at * channels + part.channel, narrow_pack<T>(out));
      }
    });
  }
}

/// dx of windows, with those that hang over an odd edge, which have no output. All members move with the statistics
/// (`after`), or the winner alone (`before`, where x is not read). dx may be x.
template <class T, int size, PoolPlace place>
__global__ void __launch_bounds__(threads)
    windows_dx_kernel(Cut cut, Windows windows, Affine affine, Scratch scratch, Activation act, const T* x,
                      const T* pooled, const uint8_t* index, const T* dy, T* dx) {
  const Part part(cut, size);
  const Gradient<size> gradient(affine, scratch, part);
  for (int64_t unit = part.first; unit < part.end; unit += cut.rows) {
    const Window window(windows, unit);
    const bool whole = window.count == 4;
    Pack<T, size> members[4] = {}, above = {};
    Pack<uint8_t, size> at = {};
    float winner[size] = {}, g[size] = {};
    if (place == PoolPlace::after) load_members(x, part, window, members);
    if (whole) {
      above = load_pack<size>(dy + window.out + part.channel);
      at = load_pack<size>(index + window.out + part.channel);
      if (place == PoolPlace::before) {
        widen_pack(load_pack<size>(pooled + window.out + part.channel), winner);
      } else {  // picked from what is in registers: less to load
#pragma unroll
        for (int k = 0; k < size; ++k)
#pragma unroll
          for (int i = 0; i < 4; ++i) {
            const float member = to_float(members[i].v[k]);
            winner[k] = at.v[k] == i ? member : winner[k];
          }
      }
      with_activation(act, [&](auto kind) {
#pragma unroll
        for (int k = 0; k < size; ++k) {
          const float v = winner[k];
          g[k] = activation_gradient<kind(), T>(gradient.channel.affine(v, k), to_float(above.v[k]));
          if (place == PoolPlace::before) g[k] = gradient.input(g[k], v, k);
        }
      });
    }
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      if (i >= window.count) continue;
      float out[size];
#pragma unroll
      for (int k = 0; k < size; ++k) {
        const float mine = whole && at.v[k] == i ? g[k] : 0.0f;
        out[k] = place == PoolPlace::before ? mine : gradient.input(mine, to_float(members[i].v[k]), k);
      }
      store_pack(dx + window.members[i] + part.channel, narrow_pack<T>(out));
    }
  }
}

template <class T, int size, PoolPlace place>
void write_windows(const NormDims& d, const NormBackward<T, float>& a, const Affine& affine, const Scratch& scratch,
                   CudaStream stream) {
  const Windows windows(d, true);
  const Cut cut(windows.count, d.c, size, write_depth / 2, write_rounds);
  launch(windows_dx_kernel<T, size, place>, cut.config(stream), cut, windows, affine, scratch, d.act, a.x, a.pooled,
         a.index, a.dy, a.dx);
}

}  // namespace
}  // namespace norm_cuda

namespace cuda {
using namespace norm_cuda;

template <class T>
void norm_backward(const NormDims& d, const NormBackward<T, float>& a, CudaStream stream) {
  const bool pools = d.pool != PoolPlace::none;
  if (pools && !a.pooled) throw std::runtime_error("norm: the gradient on CUDA needs the winners of the forward");
  with_packs<T>(d, [&](auto size) {
    const Cut sums = gradient_cut(d, size());
    const Affine affine{a.mean, a.rstd, a.gamma, a.beta};
    const Scratch scratch(d, sums.blocks, a.workspace);
    launch(sums_kernel<T, size()>, sums.config(stream), sums, affine, d.act, d.c, pools ? a.pooled : a.x, a.dy,
           scratch);
    finish_sums(d, sums.blocks, affine, scratch, a.dgamma, a.dbeta, stream);
    if (d.pool == PoolPlace::before) return write_windows<T, size(), PoolPlace::before>(d, a, affine, scratch, stream);
    if (d.pool == PoolPlace::after) return write_windows<T, size(), PoolPlace::after>(d, a, affine, scratch, stream);
    const Cut cut(d.in_rows(), d.c, size(), write_depth, write_rounds);
    launch(dx_kernel<T, size()>, cut.config(stream), cut, affine, scratch, d.act, d.c, a.x, a.dy, a.dx);
  });
}

template void norm_backward(const NormDims&, const NormBackward<float, float>&, CudaStream);
template void norm_backward(const NormDims&, const NormBackward<bf16, float>&, CudaStream);
template void norm_backward(const NormDims&, const NormBackward<f16, float>&, CudaStream);

}  // namespace cuda
}  // namespace ranvier::kernels
