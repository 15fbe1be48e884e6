// The forward of the fused batch norm on a CUDA device: statistics, then y in a pass of its own; evaluation in one.
#include "kernels/norm/passes.cuh"

namespace ranvier::kernels {
namespace norm_cuda {
namespace {

/// y = act(affine(x)); y may be x.
template <class T, int size>
__global__ void __launch_bounds__(threads)
    apply_kernel(Cut cut, Affine affine, Activation act, int64_t channels, const T* x, T* y) {
  constexpr int chunk = 4;  // loads under way at once
  const Part part(cut, size);
  const Channels<size> channel = affine.load<size>(part);
  for (int64_t unit = part.first; unit < part.end; unit += int64_t{cut.rows} * chunk) {
    Pack<T, size> in[chunk] = {};
#pragma unroll
    for (int i = 0; i < chunk; ++i)
      if (const int64_t at = unit + i * cut.rows; at < part.end)
        in[i] = load_pack<size>(x + at * channels + part.channel);
    with_activation(act, [&](auto kind) {
#pragma unroll
      for (int i = 0; i < chunk; ++i) {
        const int64_t at = unit + i * cut.rows;
        if (at >= part.end) continue;
        float out[size];
#pragma unroll
        for (int k = 0; k < size; ++k) out[k] = activate<kind(), T>(channel.affine(to_float(in[i].v[k]), k));
        store_pack(y + at * channels + part.channel, narrow_pack<T>(out));
      }
    });
  }
}

/// Where the results of windows go; null is skipped.
template <class T>
struct WindowOutputs {
  T *y, *pooled;
  uint8_t* index;
};

/// y, and what else is wanted, of whole windows. Their order is that of x times the sign of gamma (null for 1), or with
/// `by_result` that of act(affine(x)) before it is rounded.
template <class T, int size, bool by_result>
__global__ void __launch_bounds__(threads) pool_kernel(Cut cut, Windows windows, Affine affine, const float* gamma,
                                                       Activation act, const T* __restrict__ x, WindowOutputs<T> out) {
  const Part part(cut, size);
  const Channels<size> channel = affine.load<size>(part);
  float sign[size];
  load_signs(gamma, part, sign);
  for (int64_t unit = part.first; unit < part.end; unit += cut.rows) {
    const Window window(windows, unit);
    Pack<T, size> members[4] = {};
    load_members(x, part, window, members);
    with_activation(act, [&](auto kind) {
      const auto result = [&](float v, int k) { return activate<kind(), T>(channel.affine(v, k)); };
      const Winners<T, size> winners(members, [&](float v, int k) {
        if constexpr (by_result) return result(v, k);
        return product(v, sign[k]);
      });
      float y[size];
#pragma unroll
      for (int k = 0; k < size; ++k) y[k] = by_result ? winners.key[k] : result(to_float(winners.value.v[k]), k);
      const int64_t to = window.out + part.channel;
      store_pack(out.y + to, narrow_pack<T>(y));
      if (out.pooled) store_pack(out.pooled + to, winners.value);
      if (out.index) store_pack(out.index + to, winners.index);
    });
  }
}

__global__ void rstd_kernel(int64_t channels, double eps, const float* variance, float* rstd) {
  const int64_t c = int64_t{blockIdx.x} * blockDim.x + threadIdx.x;
  if (c < channels) rstd[c] = static_cast<float>(1 / root(static_cast<double>(variance[c]) + eps));
}

template <class T>
void apply(const NormDims& d, const Affine& affine, int64_t rows, const T* x, T* y, CudaStream stream) {
  with_packs<T>(d, [&](auto size) {
    const Cut cut(rows, d.c, size(), write_depth, write_rounds);
    launch(apply_kernel<T, size()>, cut.config(stream), cut, affine, d.act, d.c, x, y);
  });
}

template <class T>
void pool(const NormDims& d, const Affine& affine, const T* x, const WindowOutputs<T>& out, CudaStream stream) {
  with_packs<T>(d, [&](auto size) {
    const Windows windows(d, false);
    const Cut cut(windows.count, d.c, size(), write_depth / 2, write_rounds);
    const bool by_result = d.pool == PoolPlace::after && !monotone(d.act);
    launch(by_result ? pool_kernel<T, size(), true> : pool_kernel<T, size(), false>, cut.config(stream), cut, windows,
           affine, d.pool == PoolPlace::before ? nullptr : affine.gamma, d.act, x, out);
  });
}

}  // namespace
}  // namespace norm_cuda

namespace cuda {
using namespace norm_cuda;

template <class T>
size_t norm_workspace(const NormDims& d) {
  size_t bytes = 0;
  with_packs<T>(d, [&](auto size) {
    bytes = Scratch::bytes(d, std::max(statistics_cut(d, size()).blocks, gradient_cut(d, size()).blocks));
  });
  return bytes;
}

template <class T>
void norm_forward(const NormDims& d, const NormForward<T, float>& a, CudaStream stream) {
  statistics(d, a, stream);
  const Affine affine{a.mean, a.rstd, a.gamma, a.beta};
  if (d.pool == PoolPlace::none) return apply(d, affine, d.in_rows(), a.x, a.y, stream);
  if (d.pool == PoolPlace::after && !monotone(d.act)) return pool<T>(d, affine, a.x, {a.y, a.pooled, a.index}, stream);
  apply<T>(d, affine, d.out_rows(), a.pooled ? a.pooled : a.y, a.y, stream);
}

template <class T>
void norm_eval(const NormDims& d, const NormEval<T, float>& a, CudaStream stream) {
  float* rstd = Scratch(d, 0, a.workspace).shift;
  launch(rstd_kernel, {blocks_for(d.c, threads), threads, 0, stream}, d.c, d.eps, a.variance, rstd);
  const Affine affine{a.mean, rstd, a.gamma, a.beta};
  if (d.pool == PoolPlace::none) return apply(d, affine, d.in_rows(), a.x, a.y, stream);
  pool<T>(d, affine, a.x, {a.y, nullptr, nullptr}, stream);
}

#define RANVIER_INSTANCES(T)                                                                    \
  template size_t norm_workspace<T>(const NormDims&);                                           \
  template void norm_forward(const NormDims&, const NormForward<T, float>&, CudaStream stream); \
  template void norm_eval(const NormDims&, const NormEval<T, float>&, CudaStream stream);
RANVIER_INSTANCES(float)
RANVIER_INSTANCES(bf16)
RANVIER_INSTANCES(f16)
#undef RANVIER_INSTANCES

}  // namespace cuda
}  // namespace ranvier::kernels
