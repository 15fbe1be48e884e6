// Planted faults of pipelines: cp.async stages, and TMA loads that feed wgmma through mbarriers.
#include <hopper.h>

#include "kernels/common/half.h"
#include "kernels/common/ptx.cuh"
#include "tests/device_array.h"
#include "tests/faults/faults.h"

namespace ranvier::test {
namespace {

using kernels::bf16;

enum class Planted { nothing, weak_wait, no_block_barrier, no_wgmma_wait, early_release, short_count };

constexpr int stages = 3, copy_threads = 128, copy_steps = 7;

/// Each step brings 128 rows of four floats by cp.async; every thread adds the row that a thread of the next warp
/// brought.
template <Planted planted>
__global__ void __launch_bounds__(copy_threads) copy_pipeline(const float* x, float* y) {
  RANVIER_SHARED(float, ring, [stages][copy_threads][4]);
  const int me = static_cast<int>(threadIdx.x);
  const auto load = [&](int step) {
    if (step < copy_steps) kernels::ptx::cp_async_16(ring[step % stages][me], x + (step * copy_threads + me) * 4);
    kernels::ptx::cp_async_commit();
  };
  for (int step = 0; step < stages - 1; ++step) load(step);
  float sum = 0;
  for (int step = 0; step < copy_steps; ++step) {
    kernels::ptx::cp_async_wait<planted == Planted::weak_wait ? stages - 1 : stages - 2>();
    if (planted == Planted::no_block_barrier)
      __syncwarp();
    else
      __syncthreads();
    for (int i = 0; i < 4; ++i) sum += ring[step % stages][(me + 32) % copy_threads][i];
    load(step + stages - 1);
  }
  kernels::ptx::cp_async_wait<0>();
  y[me] = sum;
}

constexpr int side = 64, depth = 320, group = 128, ring_stages = 2;
constexpr size_t tile_bytes = side * 128;

/// c (64x64) = a (64x320) b (64x320)^T: a warpgroup multiplies what one thread of a fifth warp loads.
template <Planted planted>
__global__ void __launch_bounds__(group + 32) product_pipeline(emulator::TensorMap a, emulator::TensorMap b, float* c) {
  RANVIER_DYNAMIC_SHARED(bytes);
  RANVIER_SHARED(uint64_t, full, [ring_stages]);
  RANVIER_SHARED(uint64_t, empty, [ring_stages]);
  const auto tile = [&](int stage, int operand) { return bytes + (2 * stage + operand) * tile_bytes; };
  const int me = static_cast<int>(threadIdx.x), steps = depth / 64;
  if (me == 0)
    for (int i = 0; i < ring_stages; ++i) {
      emulator::mbarrier_init(&full[i], 1);
      emulator::mbarrier_init(&empty[i], planted == Planted::short_count ? group - 1 : group);
    }
  __syncthreads();
  if (me >= group) {
    for (int k = 0; me == group && k < steps; ++k) {
      const int stage = k % ring_stages;
      emulator::mbarrier_wait(&empty[stage], (k / ring_stages & 1) ^ 1u);
      emulator::mbarrier_arrive(&full[stage], 2 * tile_bytes);
      emulator::tma_load(tile(stage, 0), a, &full[stage], k * 64, 0);
      emulator::tma_load(tile(stage, 1), b, &full[stage], k * 64, 0);
    }
    return;
  }
  float d[32] = {};
  for (int k = 0; k < steps; ++k) {
    const int stage = k % ring_stages;
    emulator::mbarrier_wait(&full[stage], k / ring_stages & 1);
    for (uint64_t slice = 0; slice < 4; ++slice)
      emulator::wgmma_m64n64k16(d, emulator::descriptor(tile(stage, 0)) + slice * 2,
                                emulator::descriptor(tile(stage, 1)) + slice * 2);
    emulator::wgmma_commit();
    if (planted == Planted::early_release)
      emulator::wgmma_wait(1);
    else if (planted != Planted::no_wgmma_wait)
      emulator::wgmma_wait(0);
    emulator::mbarrier_arrive(&empty[stage]);
  }
  if (planted == Planted::early_release) emulator::wgmma_wait(0);
  const int row = me / 32 * 16 + me % 32 / 4, column = 2 * (me % 4);
  for (int i = 0; i < 32; ++i) c[(row + i / 2 % 2 * 8) * side + column + i / 4 * 8 + i % 2] = d[i];
}

/// Each half of the block exchanges values through its own barrier; the fault lets half of a half pass.
__global__ void halves_of_a_block(int count, float* y) {
  RANVIER_SHARED(float, tile, [copy_threads]);
  const int me = static_cast<int>(threadIdx.x), half = copy_threads / 2;
  tile[me] = static_cast<float>(me);
  emulator::block_barrier(1 + me / half, count, false, nullptr, emulator::here());
  y[me] = tile[me / half * half + (me + half / 2) % half];
}

std::vector<float> run_halves(bool faulty) {
  const DeviceArray<float> y(copy_threads);
  kernels::launch(halves_of_a_block, {1, copy_threads}, copy_threads / (faulty ? 4 : 2), y.data());
  return y.values();
}

template <Planted planted>
std::vector<float> run_copies(bool faulty) {
  std::vector<float> values(copy_steps * copy_threads * 4);
  for (size_t i = 0; i < values.size(); ++i) values[i] = static_cast<float>(i % 89);
  const DeviceArray<float> x(values), y(copy_threads);
  kernels::launch(faulty ? copy_pipeline<planted> : copy_pipeline<Planted::nothing>, {1, copy_threads}, x.data(),
                  y.data());
  return y.values();
}

template <Planted planted>
std::vector<float> run_products(bool faulty) {
  std::vector<bf16> left(side * depth), right(side * depth);
  for (size_t i = 0; i < left.size(); ++i) {
    left[i] = kernels::from_float<bf16>(static_cast<float>(i % 7) - 3);
    right[i] = kernels::from_float<bf16>(static_cast<float>(i % 5) - 2);
  }
  const DeviceArray<bf16> a(left), b(right);
  const DeviceArray<float> c(side * side);
  const auto map = [](const DeviceArray<bf16>& matrix) {
    return emulator::TensorMap{matrix.data(), 2, depth, side, depth * 2, 64, side};
  };
  kernels::launch(faulty ? product_pipeline<planted> : product_pipeline<Planted::nothing>,
                  {1, group + 32, 2 * ring_stages * tile_bytes}, map(a), map(b), c.data());
  return c.values();
}

constexpr Seen by_value{Notice::value};
constexpr Seen error(const char* text) { return {Notice::error, text}; }

constexpr Fault faults[] = {
    {"weak_wait", run_copies<Planted::weak_wait>, by_value, by_value, error("data race")},
    {"no_block_barrier", run_copies<Planted::no_block_barrier>, by_value, by_value, error("shared 'ring' byte")},
    {"no_wgmma_wait", run_products<Planted::no_wgmma_wait>, error("without waiting for its wgmma"),
     error("without waiting for its wgmma"), error("without waiting for its wgmma")},
    {"early_release", run_products<Planted::early_release>, by_value, by_value, error("data race")},
    {"halves_of_a_block", run_halves, by_value, by_value, error("shared 'tile' byte")},
    {"short_count", run_products<Planted::short_count>, {Notice::no}, {Notice::no}, error("data race")},
};

}  // namespace

std::span<const Fault> pipeline_faults() { return faults; }

}  // namespace ranvier::test
