// Planted faults of barriers, bounds, alignment, initialisation and races, one kernel each.
#include <core.h>

#include "kernels/common/launch.h"
#include "tests/device_array.h"
#include "tests/faults/faults.h"

namespace ranvier::test {
namespace {

constexpr int threads = 64;

template <bool faulty>
__global__ void missing_barrier(const float* x, float* y) {
  RANVIER_SHARED(float, tile, [threads]);
  tile[threadIdx.x] = x[threadIdx.x];
  if (!faulty) __syncthreads();
  y[threadIdx.x] = tile[threads - 1 - threadIdx.x];
}

template <bool faulty>
__global__ void warp_synchronous(const float* x, float* y) {
  RANVIER_SHARED(float, sums, [threads]);
  const unsigned warp = threadIdx.x / 32, lane = threadIdx.x % 32;
  float* const mine = sums + warp * 32;
  mine[lane] = x[threadIdx.x];
  for (unsigned width = 16; width > 0; width /= 2) {
    if (!faulty) __syncwarp();
    if (lane < width) mine[lane] += mine[lane + width];
  }
  y[threadIdx.x] = lane == 0 ? mine[0] : 0;
}

template <bool faulty>
__global__ void write_after_read(const float* x, float* y) {
  RANVIER_SHARED(float, tile, [threads]);
  float sum = 0;
  for (int i = 0; i < 4; ++i) {
    tile[threadIdx.x] = x[i * threads + threadIdx.x];
    __syncthreads();
    sum += tile[(threadIdx.x + 1) % threads];
    if (!faulty) __syncthreads();
  }
  y[threadIdx.x] = sum;
}

template <bool faulty>
__global__ void past_shared_array(const float* x, float* y) {
  RANVIER_SHARED(float, tile, [threads]);
  float* const p = tile;  // past a pointer, bounds of types are no help
  tile[threadIdx.x] = 0;
  __syncthreads();
  p[threadIdx.x + (faulty ? 1 : 0)] = x[threadIdx.x];
  __syncthreads();
  y[threadIdx.x] = tile[threadIdx.x];
}

template <bool faulty>
__global__ void past_dynamic_shared(const float* x, float* y) {
  RANVIER_DYNAMIC_SHARED(bytes);
  auto* const tile = reinterpret_cast<float*>(bytes);
  tile[threadIdx.x] = 0;
  __syncthreads();
  tile[threadIdx.x + (faulty ? 1 : 0)] = x[threadIdx.x];
  __syncthreads();
  y[threadIdx.x] = tile[threadIdx.x];
}

template <bool faulty>
__global__ void past_a_row(const float* x, float* y) {
  RANVIER_SHARED(float, tile, [9][8]);
  const unsigned row = threadIdx.x / 8, column = threadIdx.x % 8;
  tile[row][column] = x[threadIdx.x];
  __syncthreads();
  y[threadIdx.x] = tile[row][column + (faulty ? 1 : 0)];
}

template <bool faulty>
__global__ void past_device_memory(const float* x, float* y) {
  y[threadIdx.x] = x[3 * threads + threadIdx.x + (faulty ? 1 : 0)];
}

template <bool faulty>
__global__ void misaligned_vector(const float* x, float* y) {
  if (threadIdx.x < threads / 4)
    reinterpret_cast<float4*>(y)[threadIdx.x] =
        *reinterpret_cast<const float4*>(x + (faulty ? 1 : 0) + threadIdx.x * 4);
}

template <bool faulty>
__global__ void barrier_after_returns(const float* x, float* y) {
  y[threadIdx.x] = x[threadIdx.x];
  if (faulty && threadIdx.x < 10) return;
  __syncthreads();
}

template <bool faulty>
__global__ void barrier_in_both_arms(const float* x, float* y) {
  if (threadIdx.x % 2) {
    y[threadIdx.x] = x[threadIdx.x];
    if (faulty) __syncthreads();
  } else {
    y[threadIdx.x] = -x[threadIdx.x];
    if (faulty) __syncthreads();
  }
  __syncthreads();
}

template <bool faulty>
__global__ void shuffle_in_one_arm(const float* x, float* y) {
  float v = x[threadIdx.x];
  if (threadIdx.x % 32 < 16) v += __shfl_xor_sync(faulty ? 0xffffffffu : 0xffffu, v, 1);
  y[threadIdx.x] = v;
}

template <bool faulty>
__global__ void uninitialised_shared(const float* x, float* y) {
  RANVIER_SHARED(float, tile, [threads]);
  if (!faulty || threadIdx.x < 60) tile[threadIdx.x] = x[threadIdx.x];
  __syncthreads();
  y[threadIdx.x] = tile[threadIdx.x];
}

template <bool faulty>
__global__ void two_threads_one_cell(const float* x, float* y) {
  y[faulty ? threadIdx.x % 32 : threadIdx.x] = x[threadIdx.x % 32];
  if (faulty) y[32 + threadIdx.x % 32] = x[threadIdx.x % 32];  // equal values: no result shows it
}

template <bool faulty>
__global__ void blocks_one_cell(const float* x, float* y) {
  if (blockIdx.x == 0) y[threadIdx.x] = x[threadIdx.x];
  if (faulty && blockIdx.x == 1) y[threadIdx.x] += 1;
}

/// Block 1 overwrites what block 0 reads; another thread of block 1 reads it too, last.
template <bool faulty>
__global__ void blocks_write_after_read(const float* x, float* y) {
  float sum = x[threadIdx.x];
  if (blockIdx.x == 0) sum += y[2 * threads];
  if (faulty && blockIdx.x == 1 && threadIdx.x == 0) {
    sum += y[2 * threads];
    y[2 * threads] = 1;
  }
  y[blockIdx.x * threads + threadIdx.x] = sum;
}

/// Neighbouring bytes of one word belong to different threads, which is legal; the fault makes two write one byte.
template <bool faulty>
__global__ void bytes_of_a_word(const float* x, float* y) {
  reinterpret_cast<unsigned char*>(y)[threadIdx.x - (faulty && threadIdx.x == 5 ? 1 : 0)] =
      static_cast<unsigned char>(threadIdx.x + (x[0] < -1e30f ? 1 : 0));
}

/// Lanes read what the same lane wrote and one lane overwrites it after a warp barrier: ordered, unless that is
/// missing.
template <bool faulty>
__global__ void warp_barrier_orders(const float* x, float* y) {
  RANVIER_SHARED(float, tile, [threads]);
  const unsigned lane = threadIdx.x % 32;
  tile[threadIdx.x] = x[threadIdx.x];
  __syncwarp();
  const float neighbour = tile[threadIdx.x - lane + (lane + 1) % 32];
  if (!faulty) __syncwarp();
  tile[threadIdx.x] = neighbour;
  y[threadIdx.x] = tile[threadIdx.x];
}

template <bool faulty>
__global__ void write_to_an_input(const float* x, float* y) {
  y[threadIdx.x] = x[threadIdx.x];
  if (faulty && threadIdx.x == 0) const_cast<float*>(x)[threads] = 0;
}

using Kernel = void (*)(const float*, float*);

template <Kernel good, Kernel bad, int blocks = 1, int results = threads>
std::vector<float> run(bool faulty) {
  std::vector<float> values(4 * threads);
  for (size_t i = 0; i < values.size(); ++i) values[i] = static_cast<float>(i * i % 97) + 1;
  const DeviceArray<float> x(values), y(std::vector<float>(2 * threads + 1));
  emulator::make_read_only(x.data());
  kernels::launch(faulty ? bad : good, {blocks, threads, threads * sizeof(float)}, x.data(), y.data());
  std::vector<float> result = y.values();
  result.resize(results);
  return result;
}

/// A word of its own beside 48 KiB of dynamic shared memory. On an H100 such a launch failed: invalid argument.
__global__ void word_beside_dynamic_shared(const float* x, float* y) {
  RANVIER_SHARED(float, word, [1]);
  RANVIER_DYNAMIC_SHARED(bytes);
  float* const copy = reinterpret_cast<float*>(bytes);
  if (threadIdx.x == 0) word[0] = x[0];
  copy[threadIdx.x] = x[threadIdx.x];
  __syncthreads();
  y[threadIdx.x] = copy[threadIdx.x] + word[0];
}

std::vector<float> run_without_asking(bool faulty) {
  const DeviceArray<float> x(std::vector<float>(threads, 1.0f)), y{std::vector<float>(threads)};
  emulator::launch(
      nullptr, dim3(1), dim3(threads), 48 * 1024, [&] { word_beside_dynamic_shared(x.data(), y.data()); }, !faulty);
  return y.values();
}

#define RANVIER_FAULT(name, ...) #name, run < name < false>, name < true>, ##__VA_ARGS__>
constexpr Seen unseen{Notice::no}, by_value{Notice::value};
constexpr Seen error(const char* text) { return {Notice::error, text}; }
constexpr Seen death(const char* text) { return {Notice::death, text}; }

constexpr Fault faults[] = {
    {RANVIER_FAULT(missing_barrier), by_value, by_value, error("shared 'tile' byte")},
    {RANVIER_FAULT(warp_synchronous), by_value, by_value, error("shared 'sums' byte")},
    {RANVIER_FAULT(write_after_read), by_value, by_value, error("data race")},
    {RANVIER_FAULT(past_shared_array), error("byte 256 of 'tile' was written, which has 256 bytes"),
     death("use-after-poison"), error("access out of bounds: shared 'tile' byte 256 of 256")},
    {RANVIER_FAULT(past_dynamic_shared), error("byte 256 of 'dynamic shared memory' was written"),
     death("use-after-poison"), error("access out of bounds: shared 'dynamic shared memory' byte 256 of 256")},
    {"shared_memory_not_asked_for", run_without_asking,
     error("a block asks for more than 49152 bytes of shared memory"), error("a block asks for more than 49152 bytes"),
     error("a block asks for more than 49152 bytes")},
    {RANVIER_FAULT(past_a_row), by_value, death("index 8 out of bounds"), error("uninitialised read of shared 'tile'")},
    {RANVIER_FAULT(past_device_memory), unseen, death("heap-buffer-overflow"), unseen},
    {RANVIER_FAULT(misaligned_vector), unseen, death("misaligned address"), error("misaligned access of 16 bytes")},
    {RANVIER_FAULT(barrier_after_returns), error("barrier divergence"), error("barrier divergence"),
     error("barrier divergence")},
    {RANVIER_FAULT(barrier_in_both_arms), error("barrier divergence"), error("barrier divergence"),
     error("barrier divergence")},
    {RANVIER_FAULT(shuffle_in_one_arm), error("__shfl_xor_sync"), error("__shfl_xor_sync"), error("__shfl_xor_sync")},
    {RANVIER_FAULT(uninitialised_shared), by_value, by_value, error("uninitialised read of shared 'tile' byte 2")},
    {RANVIER_FAULT(two_threads_one_cell), unseen, unseen, error("data race (write after write): device memory byte")},
    {RANVIER_FAULT(blocks_one_cell, 2), unseen, unseen, error("data race (read after write): device memory byte")},
    {RANVIER_FAULT(blocks_write_after_read, 2, 2 * threads), unseen, unseen, error("and an earlier block")},
    {RANVIER_FAULT(bytes_of_a_word, 1, threads / 4), by_value, by_value, error("device memory byte 4")},
    {RANVIER_FAULT(warp_barrier_orders), by_value, by_value, error("data race")},
    {RANVIER_FAULT(write_to_an_input), unseen, unseen, error("write to read-only memory: device memory byte 256")},
};

}  // namespace

std::span<const Fault> basic_faults() { return faults; }

}  // namespace ranvier::test
