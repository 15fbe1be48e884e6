// Planted faults of single instructions, which every build refuses.
#include "kernels/common/ptx.cuh"
#include "tests/device_array.h"
#include "tests/faults/faults.h"

namespace ranvier::test {
namespace {

namespace ptx = kernels::ptx;

template <bool faulty>
__global__ void ldmatrix_misaligned(const float* x, float* y) {
  RANVIER_SHARED(uint16_t, tile, [32][8]);
  for (int i = 0; i < 8; ++i) tile[threadIdx.x][i] = static_cast<uint16_t>(x[i]);
  __syncwarp();
  uint32_t r[4];
  ptx::ldmatrix_x4(r, &tile[threadIdx.x][0] + (faulty && threadIdx.x < 31 ? 4 : 0));
  y[threadIdx.x] = static_cast<float>(r[0] & 0xffff);
}

template <bool faulty>
__global__ void ldmatrix_of_device_memory(const float* x, float* y) {
  RANVIER_SHARED(uint16_t, tile, [32][8]);
  for (int i = 0; i < 8; ++i) tile[threadIdx.x][i] = static_cast<uint16_t>(x[i]);
  __syncwarp();
  uint32_t r[4];
  ptx::ldmatrix_x4(r, faulty ? static_cast<const void*>(x) : tile[threadIdx.x]);
  y[threadIdx.x] = static_cast<float>(r[0] & 0xffff);
}

template <bool faulty>
__global__ void tf32_not_rounded(const float* x, float* y) {
  float d[4] = {};
  const float v = x[threadIdx.x] + 0.1f;
  const uint32_t bits = faulty ? kernels::to_bits(v) : ptx::to_tf32(v);
  ptx::mma_m16n8k8_tf32(d, {bits, bits, bits, bits}, bits, bits);
  y[threadIdx.x] = d[0];
}

template <bool faulty>
__global__ void copy_misaligned(const float* x, float* y) {
  RANVIER_SHARED(float, tile, [32][4]);
  ptx::cp_async_16(tile[threadIdx.x], x + 4 * threadIdx.x + (faulty ? 1 : 0));
  ptx::cp_async_commit();
  ptx::cp_async_wait<0>();
  y[threadIdx.x] = tile[threadIdx.x][3];
}

template <bool faulty>
__global__ void copy_to_device_memory(const float* x, float* y) {
  RANVIER_SHARED(float, tile, [32]);
  tile[threadIdx.x] = 0;
  ptx::cp_async_4(faulty ? &y[threadIdx.x] : &tile[threadIdx.x], x + threadIdx.x);
  ptx::cp_async_commit();
  ptx::cp_async_wait<0>();
  y[threadIdx.x] = tile[threadIdx.x];
}

template <bool faulty>
__global__ void copy_never_waited_for(const float* x, float* y) {
  RANVIER_SHARED(float, tile, [32]);
  ptx::cp_async_4(&tile[threadIdx.x], x + threadIdx.x);
  ptx::cp_async_commit();
  if (!faulty) ptx::cp_async_wait<0>();
  y[threadIdx.x] = faulty ? 0 : tile[threadIdx.x];
}

template <bool faulty>
__global__ void shuffle_from_outside(const float* x, float* y) {
  float v = x[threadIdx.x];
  if (threadIdx.x < 16) v = __shfl_sync(0xffffu, v, faulty ? 20 : 3);
  y[threadIdx.x] = v;
}

template <bool faulty>
__global__ void caller_outside_mask(const float* x, float* y) {
  y[threadIdx.x] = x[threadIdx.x];
  __syncwarp(faulty ? 0x7fffffffu : 0xffffffffu);
}

template <bool faulty>
__global__ void different_operations(const float* x, float* y) {
  float v = x[threadIdx.x];
  if (faulty && threadIdx.x >= 16)
    v = __shfl_down_sync(0xffffffffu, v, 1);
  else
    v = __shfl_sync(0xffffffffu, v, 1);
  y[threadIdx.x] = v;
}

/// Sized past the limit only in the faulty launch.
__global__ void dynamic_shared(const float* x, float* y) {
  RANVIER_DYNAMIC_SHARED(bytes);
  bytes[threadIdx.x] = static_cast<unsigned char>(x[threadIdx.x]);
  y[threadIdx.x] = static_cast<float>(bytes[threadIdx.x]);
}

using Kernel = void (*)(const float*, float*);

std::vector<float> launch_with(Kernel kernel, int threads, size_t shared) {
  std::vector<float> values(160);
  for (size_t i = 0; i < values.size(); ++i) values[i] = static_cast<float>(i % 13);
  const DeviceArray<float> x(values), y(32);
  kernels::launch(kernel, {1, static_cast<unsigned>(threads), shared}, x.data(), y.data());
  return y.values();
}

template <Kernel good, Kernel bad>
std::vector<float> run(bool faulty) {
  return launch_with(faulty ? bad : good, 32, 0);
}

#define RANVIER_EVERYWHERE(name, text)                                                                                 \
  {                                                                                                                    \
#name, run < name < false>, name < true>>, {Notice::error, text }, {Notice::error, text }, { Notice::error, text } \
  }

#define RANVIER_LAUNCH(name, threads, shared, text)                                                             \
  {                                                                                                             \
    name, [](bool faulty) { return launch_with(dynamic_shared, faulty ? threads : 32, faulty ? shared : 32); }, \
        {Notice::error, text}, {Notice::error, text}, {                                                         \
      Notice::error, text                                                                                       \
    }                                                                                                           \
  }

constexpr Fault faults[] = {
    RANVIER_EVERYWHERE(ldmatrix_misaligned, "ldmatrix: a row address is not aligned to 16 bytes"),
    RANVIER_EVERYWHERE(ldmatrix_of_device_memory, "an address that must be in shared memory is not"),
    RANVIER_EVERYWHERE(tf32_not_rounded, "an operand was not rounded by to_tf32"),
    RANVIER_EVERYWHERE(copy_misaligned, "cp.async: an address is not aligned to 16 bytes"),
    RANVIER_EVERYWHERE(copy_to_device_memory, "cp.async: the destination is not in shared memory"),
    RANVIER_EVERYWHERE(copy_never_waited_for, "without waiting for its cp.async of"),
    RANVIER_EVERYWHERE(shuffle_from_outside, "lane 0 shuffles from a lane outside the mask"),
    RANVIER_EVERYWHERE(caller_outside_mask, "calls __syncwarp and is not in its mask"),
    RANVIER_EVERYWHERE(different_operations, "meets"),
    RANVIER_LAUNCH("too_much_shared", 32, 228 * 1024, "more than 232448 bytes of shared memory"),
    RANVIER_LAUNCH("no_dynamic_shared", 32, 0, "launched with none"),
    RANVIER_LAUNCH("too_many_threads", 1025, 32, "blocks of (1025,1,1) threads"),
    RANVIER_LAUNCH("half_a_warp_too_few", 0, 32, "blocks of (0,1,1) threads"),
};

}  // namespace

std::span<const Fault> instruction_faults() { return faults; }

}  // namespace ranvier::test
