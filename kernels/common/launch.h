// The one place where CUDA kernels are launched, and what a kernel's source needs of the language. The same .cu files
// are compiled by nvcc for a GPU and as plain C++ for the emulator of tests/emulator, which runs each CUDA thread as a
// fiber on the CPU.
#pragma once
#include <cuda_runtime_api.h>

#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <stdexcept>
#include <string>
#include <type_traits>
#include <utility>

#if defined(__CUDACC__)
/// Shared memory of a block: `RANVIER_SHARED(float, tile, [32][33]);` declares `float tile[32][33]`.
#define RANVIER_SHARED(type, name, extents) __shared__ type name extents
/// The launch's dynamic shared memory as bytes, aligned to 1024.
#define RANVIER_DYNAMIC_SHARED(name) extern __shared__ __align__(1024) unsigned char name[]
#else
#include <emulator.h>  // in tests/emulator, found by the emulated build only
#endif

namespace ranvier::kernels {

/// Blocks, threads and dynamic shared memory of a launch, and the stream it is ordered by.
struct LaunchConfig {
  dim3 grid, block;
  size_t shared = 0;
  cudaStream_t stream = nullptr;
};

/// Throws std::runtime_error with CUDA's own words where a call failed.
inline void check_cuda(cudaError_t status, const char* what) {
  if (status != cudaSuccess) throw std::runtime_error(std::string(what) + ": " + cudaGetErrorString(status));
}

/// Whether a launch with that much dynamic shared memory has to ask for it. A block has 48 KiB without asking, and what
/// the kernel declares itself counts towards them; as a launch does not know how much that is, it always asks.
constexpr bool asks_for_shared(size_t dynamic_bytes) { return dynamic_bytes > 0; }

#if defined(__CUDACC__)
/// Throws std::runtime_error where a launch failed, naming the kernel (mangled), its grid, block and shared memory.
inline void check_launch(cudaError_t status, const void* kernel, const LaunchConfig& config) {
  if (status == cudaSuccess) return;
  const char* name = nullptr;
  if (cudaFuncGetName(&name, kernel) != cudaSuccess || !name) name = "a kernel";
  char place[160];
  std::snprintf(place, sizeof place,
                ", grid (%u, %u, %u), block (%u, %u, %u), %zu bytes of dynamic shared memory: ", config.grid.x,
                config.grid.y, config.grid.z, config.block.x, config.block.y, config.block.z, config.shared);
  throw std::runtime_error(std::string("launch of ").append(name).append(place).append(cudaGetErrorString(status)));
}
#endif

/// Launches kernel(args...). An empty grid launches nothing. Errors of the launch itself throw; a kernel that fails
/// while it runs is reported by the next synchronising call.
template <class... Parameters, class... Args>
void launch(void (*kernel)(Parameters...), const LaunchConfig& config, Args&&... args) {
  if (config.grid.x == 0 || config.grid.y == 0 || config.grid.z == 0) return;
#if defined(__CUDACC__)
  if (asks_for_shared(config.shared))
    check_launch(cudaFuncSetAttribute(reinterpret_cast<const void*>(kernel),
                                      cudaFuncAttributeMaxDynamicSharedMemorySize, static_cast<int>(config.shared)),
                 reinterpret_cast<const void*>(kernel), config);
  kernel<<<config.grid, config.block, config.shared, config.stream>>>(Parameters(std::forward<Args>(args))...);
  check_launch(cudaGetLastError(), reinterpret_cast<const void*>(kernel), config);
#else
  emulator::launch(
      config.stream, config.grid, config.block, config.shared,
      [kernel, ... args = Parameters(args)] { kernel(args...); }, asks_for_shared(config.shared));
#endif
}

/// Blocks of `threads` that cover `work`, at most `most` (a grid-stride loop does the rest).
inline unsigned blocks_for(int64_t work, int64_t threads, int64_t most = 1 << 20) {
  const int64_t blocks = (work + threads - 1) / threads;
  return static_cast<unsigned>(blocks < most ? blocks : most);
}

/// A grid of that many blocks; throws where there are more than a launch may have.
inline unsigned grid_of(int64_t blocks) {
  if (blocks >= int64_t{1} << 31) throw std::runtime_error("a launch of " + std::to_string(blocks) + " blocks");
  return static_cast<unsigned>(blocks);
}

}  // namespace ranvier::kernels
