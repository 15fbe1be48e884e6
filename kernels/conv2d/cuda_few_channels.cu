// The first layer of an image network, 1 to 4 input channels: too little reduction for tensor cores, so CUDA cores in
// f32 on patches of x in shared memory. Forward is bound by writing y, wgrad by reading dy.
#include "kernels/conv2d/few_channels.h"

#include <algorithm>

#include "kernels/common/launch.h"
#include "kernels/conv2d/split.cuh"

namespace ranvier::kernels::conv {
namespace {

constexpr int threads = 128;
constexpr int tile_q = 32;    // columns of y in a block's tile
constexpr int forward_p = 8;  // rows
constexpr int wgrad_p = 2;    // rows: dy of the tile is in shared memory too
constexpr int most_k = 64;    // output channels of a block
constexpr size_t most_shared = 44 << 10;

struct Problem {
  Geometry g;
  int tiles_p, tiles_q;  // of y
  int splits;            // wgrad: blocks that share the tiles
};

/// The patch of x under a tile of y: rows and columns, and its first row and column.
struct Patch {
  int height, width;

  RANVIER_HD_INLINE Patch(const Geometry& g, int rows)
      : height((rows - 1) * g.stride_h + g.r), width((tile_q - 1) * g.stride_w + g.s) {}
};

template <int c, class T>
__device__ void load_patch(const Geometry& g, const Patch& patch, const T* x, int n, int p, int q, float* to) {
  const int h0 = p * g.stride_h - g.pad_h, w0 = q * g.stride_w - g.pad_w;
  for (int i = static_cast<int>(threadIdx.x); i < patch.height * patch.width; i += threads) {
    const int h = h0 + i / patch.width, w = w0 + i % patch.width;
    const bool inside = h >= 0 && h < g.h && w >= 0 && w < g.w;
#pragma unroll
    for (int channel = 0; channel < c; ++channel)
      to[i * c + channel] = inside ? to_float(x[((int64_t{n} * g.h + h) * g.w + w) * c + channel]) : 0;
  }
}

/// A block computes 8 x 32 pixels of up to 64 channels; a thread 8 channels of 4 pixels of a row, 8 columns apart, so
/// that neighbouring threads write neighbouring channels and pixels. 2 reads of weights and 4 of x feed 32 fmas.
template <class T, int c>
__global__ void __launch_bounds__(threads) forward_kernel(Problem problem, const T* x, const T* filter, T* y) {
  RANVIER_DYNAMIC_SHARED(shared);
  const Geometry& g = problem.g;
  const Patch patch(g, forward_p);
  const int k0 = static_cast<int>(blockIdx.y) * most_k, channels = min(most_k, g.k - k0), groups = (channels + 7) / 8;
  const int taps = g.r * g.s;
  float* const weights = reinterpret_cast<float*>(shared);  // (taps, c, 8 groups)
  float* const pixels = weights + taps * c * groups * 8;    // (height, width, c)
  const int tile = static_cast<int>(blockIdx.x);
  const int q0 = tile % problem.tiles_q * tile_q, p0 = tile / problem.tiles_q % problem.tiles_p * forward_p;
  const int n = tile / (problem.tiles_q * problem.tiles_p);
  for (int i = static_cast<int>(threadIdx.x); i < taps * c * groups * 8; i += threads) {
    const int k = i % (groups * 8), j = i / (groups * 8);
    weights[i] = k < channels ? to_float(filter[int64_t{k0 + k} * taps * c + j]) : 0;
  }
  load_patch<c>(g, patch, x, n, p0, q0, pixels);
  __syncthreads();
  for (int item = static_cast<int>(threadIdx.x); item < forward_p * 8 * groups; item += threads) {
    const int group = item % groups, column = item / groups % 8, row = item / groups / 8;
    float sum[4][8] = {};
    for (int r = 0; r < g.r; ++r)
      for (int s = 0; s < g.s; ++s) {
        const float* const from = pixels + ((row * g.stride_h + r) * patch.width + column * g.stride_w + s) * c;
        const float* const w = weights + (r * g.s + s) * c * groups * 8 + group * 8;
#pragma unroll
        for (int channel = 0; channel < c; ++channel) {
          const float4 low = *reinterpret_cast<const float4*>(w + channel * groups * 8);
          const float4 high = *reinterpret_cast<const float4*>(w + channel * groups * 8 + 4);
          const float weight[8] = {low.x, low.y, low.z, low.w, high.x, high.y, high.z, high.w};
#pragma unroll
          for (int pixel = 0; pixel < 4; ++pixel) {
            const float value = from[pixel * 8 * g.stride_w * c + channel];
#pragma unroll
            for (int k = 0; k < 8; ++k) sum[pixel][k] = fused(value, weight[k], sum[pixel][k]);
          }
        }
      }
#pragma unroll
    for (int pixel = 0; pixel < 4; ++pixel) {
      const int p = p0 + row, q = q0 + column + 8 * pixel, k = k0 + group * 8;
      if (p >= g.p || q >= g.q) continue;
      T* const to = y + ((int64_t{n} * g.p + p) * g.q + q) * g.k + k;
      if (g.k % 8 == 0) {
        constexpr int e = 16 / static_cast<int>(sizeof(T));
#pragma unroll
        for (int part = 0; part < 8; part += e) {
          alignas(16) T out[e];
#pragma unroll
          for (int i = 0; i < e; ++i) out[i] = narrow<T>(sum[pixel][part + i]);
          *reinterpret_cast<uint4*>(to + part) = *reinterpret_cast<const uint4*>(out);
        }
      } else {
#pragma unroll
        for (int i = 0; i < 8; ++i)
          if (k + i < g.k) to[i] = narrow<T>(sum[pixel][i]);
      }
    }
  }
}

/// Adds dy (x) x over a share of the tiles of y. A thread owns 4 output channels x 4 of the filter's (tap, channel)
/// elements and every `lanes`-th pixel of a tile; the lanes' sums are added in order at the end. 1 read of dy (16
/// bytes) and 4 of x feed 16 fmas.
template <class T, int c>
__global__ void __launch_bounds__(threads) wgrad_kernel(Problem problem, const T* x, const T* dy, float* sums) {
  RANVIER_DYNAMIC_SHARED(shared);
  const Geometry& g = problem.g;
  const Patch patch(g, wgrad_p);
  constexpr int tile_pixels = wgrad_p * tile_q;
  const int k0 = static_cast<int>(blockIdx.y) * most_k, channels = min(most_k, g.k - k0), quads = (channels + 3) / 4;
  const int elements = g.r * g.s * c, blocks_j = threads / quads;  // quads of elements that a block has threads for
  const int j0 = static_cast<int>(blockIdx.z) * blocks_j * 4;
  const int own_j = min(blocks_j, (elements - j0 + 3) / 4), lanes = threads / (quads * own_j);
  float* const gradient = reinterpret_cast<float*>(shared);  // (pixels, 4 quads)
  float* const pixels = gradient + tile_pixels * quads * 4;  // (height, width, c)

  const int thread = static_cast<int>(threadIdx.x);
  const int quad = thread % quads, j = thread / quads % own_j, lane = thread / (quads * own_j);
  int offset[4];  // of x, from the pixel under tap (0, 0)
#pragma unroll
  for (int i = 0; i < 4; ++i) {
    const int element = min(j0 + j * 4 + i, elements - 1), tap = element / c;
    offset[i] = (tap / g.s * patch.width + tap % g.s) * c + element % c;
  }
  float sum[4][4] = {};
  const int64_t tiles = int64_t{g.n} * problem.tiles_p * problem.tiles_q;
  const int64_t end = tiles * (blockIdx.x + 1) / problem.splits;
  for (int64_t tile = tiles * blockIdx.x / problem.splits; tile < end; ++tile) {
    const int q0 = static_cast<int>(tile % problem.tiles_q) * tile_q;
    const int p0 = static_cast<int>(tile / problem.tiles_q % problem.tiles_p) * wgrad_p;
    const int n = static_cast<int>(tile / (problem.tiles_q * problem.tiles_p));
    load_patch<c>(g, patch, x, n, p0, q0, pixels);
    for (int i = thread; i < tile_pixels * quads * 4; i += threads) {
      const int k = i % (quads * 4), p = p0 + i / (quads * 4) / tile_q, q = q0 + i / (quads * 4) % tile_q;
      const bool inside = k < channels && p < g.p && q < g.q;
      gradient[i] = inside ? to_float(dy[((int64_t{n} * g.p + p) * g.q + q) * g.k + k0 + k]) : 0;
    }
    __syncthreads();
    for (int pixel = lane; pixel < tile_pixels && lane < lanes; pixel += lanes) {
      const float4 d = *reinterpret_cast<const float4*>(gradient + (pixel * quads + quad) * 4);
      const float* const from = pixels + (pixel / tile_q * g.stride_h * patch.width + pixel % tile_q * g.stride_w) * c;
#pragma unroll
      for (int i = 0; i < 4; ++i) {
        const float value = from[offset[i]];
        sum[0][i] = fused(d.x, value, sum[0][i]);
        sum[1][i] = fused(d.y, value, sum[1][i]);
        sum[2][i] = fused(d.z, value, sum[2][i]);
        sum[3][i] = fused(d.w, value, sum[3][i]);
      }
    }
    __syncthreads();
  }
  float* const parts = reinterpret_cast<float*>(shared);  // (threads, 16)
#pragma unroll
  for (int k = 0; k < 4; ++k)
#pragma unroll
    for (int i = 0; i < 4; ++i) parts[thread * 16 + k * 4 + i] = sum[k][i];
  __syncthreads();
  for (int i = thread; i < quads * own_j * 16; i += threads) {
    const int owner = i / 16, k = owner % quads * 4 + i % 16 / 4, element = j0 + owner / quads * 4 + i % 4;
    if (k >= channels || element >= elements) continue;
    float total = 0;
    for (int part = 0; part < lanes; ++part) total += parts[(part * quads * own_j + owner) * 16 + i % 16];
    sums[(int64_t{blockIdx.x} * g.k + k0 + k) * elements + element] = total;
  }
}

int64_t cover(int64_t n, int64_t tile) { return (n + tile - 1) / tile; }

size_t shared_bytes(const Conv2dDims& d, ConvPass pass) {
  const Geometry g = geometry_of(d);
  const Patch patch(g, pass == ConvPass::forward ? forward_p : wgrad_p);
  const int64_t pixels = int64_t{patch.height} * patch.width * d.c, k = std::min<int64_t>(d.k, most_k);
  const int64_t other =
      pass == ConvPass::forward ? d.r * d.s * d.c * cover(k, 8) * 8 : wgrad_p * tile_q * cover(k, 4) * 4;
  const int64_t floats = pixels + other;
  return static_cast<size_t>(pass == ConvPass::forward ? floats : std::max<int64_t>(floats, threads * 16)) *
         sizeof(float);
}

Problem problem_of(const Conv2dDims& d, ConvPass pass) {
  return {geometry_of(d), static_cast<int>(cover(d.p(), pass == ConvPass::forward ? forward_p : wgrad_p)),
          static_cast<int>(cover(d.q(), tile_q)), few_channels_splits(d)};
}

/// Calls body.operator()<C>().
template <class Body>
void with_channels(int64_t c, Body&& body) {
  switch (c) {
    case 1:
      return body.template operator()<1>();
    case 2:
      return body.template operator()<2>();
    case 3:
      return body.template operator()<3>();
    default:
      return body.template operator()<4>();
  }
}

}  // namespace

bool few_channels_supports(const Conv2dDims& d, ConvPass pass) {
  return pass != ConvPass::dgrad && d.c <= 4 && d.r <= 16 && d.s <= 16 && std::max(d.stride_h, d.stride_w) <= 4 &&
         shared_bytes(d, pass) <= most_shared;
}

int few_channels_splits(const Conv2dDims& d) {
  const int64_t tiles = d.n * cover(d.p(), wgrad_p) * cover(d.q(), tile_q);
  return static_cast<int>(std::clamp<int64_t>(tiles / 4, 1, 2 * resident_blocks));
}

template <class T>
void few_channels_forward(const Conv2dDims& d, const T* x, const T* filter, T* y, CudaStream stream) {
  const Problem problem = problem_of(d, ConvPass::forward);
  const dim3 grid(static_cast<unsigned>(d.n * problem.tiles_p * problem.tiles_q),
                  static_cast<unsigned>(cover(d.k, most_k)));
  with_channels(d.c, [&]<int c>() {
    launch(forward_kernel<T, c>, {grid, threads, shared_bytes(d, ConvPass::forward), stream}, problem, x, filter, y);
  });
}

template <class T>
void few_channels_wgrad(const Conv2dDims& d, const T* x, const T* dy, T* dfilter, float* sums, CudaStream stream) {
  const Problem problem = problem_of(d, ConvPass::wgrad);
  const int64_t quads = cover(std::min<int64_t>(d.k, most_k), 4);
  const dim3 grid(static_cast<unsigned>(problem.splits), static_cast<unsigned>(cover(d.k, most_k)),
                  static_cast<unsigned>(cover(cover(d.r * d.s * d.c, 4), threads / quads)));
  with_channels(d.c, [&]<int c>() {
    launch(wgrad_kernel<T, c>, {grid, threads, shared_bytes(d, ConvPass::wgrad), stream}, problem, x, dy, sums);
  });
  add_splits<T>(problem.g, {.fixed = problem.splits}, sums, dfilter, stream);
}

#define RANVIER_FEW_CHANNELS(T)                                                              \
  template void few_channels_forward(const Conv2dDims&, const T*, const T*, T*, CudaStream); \
  template void few_channels_wgrad(const Conv2dDims&, const T*, const T*, T*, float*, CudaStream);
RANVIER_FEW_CHANNELS(float)
RANVIER_FEW_CHANNELS(bf16)
RANVIER_FEW_CHANNELS(f16)
#undef RANVIER_FEW_CHANNELS

}  // namespace ranvier::kernels::conv
