// Loops of independent multiply-adds on registers, for the peak rates of a CUDA device.
#include "kernels/common/ptx.cuh"
#include "kernels/probe/probe.h"

namespace ranvier::kernels {
namespace {

constexpr int blocks = 132 * 8, threads = 256;
static_assert(probe_outputs == int64_t{blocks} * threads);
constexpr int chains = 8;  // independent sums of a thread or warp: with 8 warps a scheduler, enough to hide any latency

__device__ int64_t own_index() { return int64_t{blockIdx.x} * blockDim.x + threadIdx.x; }

template <class T>
__global__ void __launch_bounds__(threads) fma_probe_kernel(int rounds, float* out) {
  T sum[chains];
  for (int c = 0; c < chains; ++c) sum[c] = T(static_cast<int>(threadIdx.x) % 7 - 3 + c);
  const T a = T(-0.999), b = T(0.001) * T(threadIdx.x);
#pragma unroll 16  // so that counting costs next to nothing
  for (int r = 0; r < rounds; ++r)
#pragma unroll
    for (int c = 0; c < chains; ++c) sum[c] = fused(sum[c], a, b);
  T total = 0;
  for (int c = 0; c < chains; ++c) total += sum[c];
  out[own_index()] = static_cast<float>(total);
}

/// A word of two 16-bit numbers, or of one tf32, between 0.5 and 1 in magnitude, of random sign and mantissa.
template <class T>
__device__ uint32_t operand(uint32_t seed) {
  seed *= 2654435761u;
  seed ^= seed >> 15;
  const auto number = [](uint32_t bits) {
    const float magnitude = 0.5f + static_cast<float>(bits & 0xff) / 512.0f;
    return bits & 0x100 ? -magnitude : magnitude;
  };
  if constexpr (sizeof(T) == 4)
    return ptx::to_tf32(number(seed));
  else
    return from_float<T>(number(seed)).bits | uint32_t{from_float<T>(number(seed >> 16)).bits} << 16;
}

template <class T>
__global__ void __launch_bounds__(threads) mma_probe_kernel(int rounds, float* out) {
  float sum[chains][4] = {};
  uint32_t a[4], b[chains][2];
  for (int i = 0; i < 4; ++i) a[i] = operand<T>(threadIdx.x * 4 + i);
  for (int c = 0; c < chains; ++c)
    for (int i = 0; i < 2; ++i) b[c][i] = operand<T>(threadIdx.x * 2 * chains + 2 * c + i + 4096);
#pragma unroll 4
  for (int r = 0; r < rounds; ++r)
#pragma unroll
    for (int c = 0; c < chains; ++c) {
      if constexpr (sizeof(T) == 4)
        ptx::mma_m16n8k8_tf32(sum[c], a, b[c][0], b[c][1]);
      else
        ptx::mma_m16n8k16<T>(sum[c], a, b[c][0], b[c][1]);
    }
  float total = 0;
  for (int c = 0; c < chains; ++c)
    for (int i = 0; i < 4; ++i) total += sum[c][i];
  out[own_index()] = total;
}

}  // namespace

double probe_cuda(ProbeUnit unit, int rounds, float* out, CudaStream stream) {
  const LaunchConfig config{blocks, threads, 0, stream};
  const double instructions = static_cast<double>(rounds) * chains;
  const double thread_flops = 2.0 * blocks * threads * instructions, warps = blocks * threads / 32;
  switch (unit) {
    case ProbeUnit::f32:
      launch(fma_probe_kernel<float>, config, rounds, out);
      return thread_flops;
    case ProbeUnit::f64:
      launch(fma_probe_kernel<double>, config, rounds, out);
      return thread_flops;
    case ProbeUnit::tf32:
      launch(mma_probe_kernel<float>, config, rounds, out);
      return 2.0 * 16 * 8 * 8 * warps * instructions;
    case ProbeUnit::bf16:
      launch(mma_probe_kernel<bf16>, config, rounds, out);
      return 2.0 * 16 * 8 * 16 * warps * instructions;
    default:
      launch(mma_probe_kernel<f16>, config, rounds, out);
      return 2.0 * 16 * 8 * 16 * warps * instructions;
  }
}

}  // namespace ranvier::kernels
