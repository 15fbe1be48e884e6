// Host memory and copies, device choice and description.
#include "engine/device.h"

#if defined(_OPENMP)
#include <omp.h>
#endif

#include <cstdlib>
#include <cstring>
#include <fstream>
#include <new>
#include <thread>

#include "engine/error.h"

namespace ranvier {
namespace {

std::string cpu_model() {
  std::ifstream info("/proc/cpuinfo");
  for (std::string line; std::getline(info, line);)
    if (line.starts_with("model name")) return line.substr(line.find(':') + 2);
  return "unknown processor";
}

const char* vector_extension() {
#if defined(__AVX512F__)
  return "AVX-512";
#elif defined(__AVX2__)
  return "AVX2";
#else
  return "baseline instruction set";
#endif
}

}  // namespace

Device Device::best() { return cpu(); }

Device Device::named(const std::string& name) {
  if (name == "cpu") return cpu();
  if (name == "auto") return best();
  if (name == "cuda") fail("--device cuda: this build has no CUDA backend; use --device cpu or auto");
  fail("--device {}: unknown device; known are auto, cpu and cuda", name);
}

std::string Device::description() const {
  return fmt::format("cpu ({}, {} threads, {})", cpu_model(), ranvier::threads(), vector_extension());
}

Memory::Memory(Device, size_t bytes) : bytes_(bytes) {
  constexpr size_t alignment = 4096;
  const size_t rounded = (std::max<size_t>(bytes, 1) + alignment - 1) / alignment * alignment;
  void* data = std::aligned_alloc(alignment, rounded);
  if (!data) fail("out of memory: {} MB asked of the host", bytes >> 20);
  data_ = std::shared_ptr<void>(data, std::free);
}

void copy_to_device(Device, void* to, const void* host, size_t bytes, Stream) {
  if (bytes) std::memcpy(to, host, bytes);
}
void copy_to_host(Device, void* host, const void* from, size_t bytes, Stream) {
  if (bytes) std::memcpy(host, from, bytes);
}
void copy_on_device(Device, void* to, const void* from, size_t bytes, Stream) {
  if (bytes) std::memcpy(to, from, bytes);
}
void fill_bytes(Device, void* to, int byte, size_t bytes, Stream) {
  if (bytes) std::memset(to, byte, bytes);
}

void set_threads(int threads) {
  if (threads < 0) fail("--threads {}: must be 0 (all cores) or more", threads);
#if defined(_OPENMP)
  omp_set_num_threads(threads ? threads : static_cast<int>(std::thread::hardware_concurrency()));
#endif
}

int threads() {
#if defined(_OPENMP)
  return omp_get_max_threads();
#else
  return 1;
#endif
}

}  // namespace ranvier
