// Memory and copies on the host, device choice and description; CUDA devices are handed on to engine/device_cuda.cpp.
#include "engine/device.h"

#if defined(_OPENMP)
#include <omp.h>
#endif

#include <algorithm>
#include <chrono>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <new>
#include <thread>

#include "engine/device_cuda.h"
#include "engine/device_faults.h"
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

#if !defined(RANVIER_HAS_CUDA)
/// For what only a CUDA device does: a build without the backend cannot have made one.
[[noreturn]] void no_cuda() { fail("this build has no CUDA backend"); }
#endif

double wall_ms() {
  using Clock = std::chrono::steady_clock;
  return std::chrono::duration<double, std::milli>(Clock::now().time_since_epoch()).count();
}

}  // namespace

namespace cuda {
std::string why_not(const Machine& machine) {
  constexpr int oldest_major = 8;  // kernels are compiled for sm_80 and newer
  const auto version = [](int number) { return fmt::format("{}.{}", number / 1000, number % 1000 / 10); };
  if (machine.driver == 0) return "no CUDA driver is installed";
  if (machine.driver / 1000 < machine.toolkit / 1000)  // within a major version, newer toolkits run on older drivers
    return fmt::format("the CUDA driver ({}) is older than the toolkit of this build ({})", version(machine.driver),
                       version(machine.toolkit));
  if (!machine.trouble.empty()) return fmt::format("no CUDA device: {}", machine.trouble);
  if (machine.devices == 0) return "no CUDA device";
  if (machine.major < oldest_major)
    return fmt::format("{} is sm_{}{}, the kernels need sm_80 or newer", machine.name, machine.major, machine.minor);
  return "";
}
}  // namespace cuda

#if !defined(RANVIER_HAS_CUDA)
namespace cuda {  // what engine/device_cuda.cpp defines in a build with the backend
std::string why_not() { return "this build has no CUDA backend"; }
std::string description(int) { no_cuda(); }
std::shared_ptr<void> allocate(int, size_t) { no_cuda(); }
std::shared_ptr<void> allocate_shared(size_t) { no_cuda(); }
Stream stream(int) { no_cuda(); }
void synchronize(int) { no_cuda(); }
size_t free_memory(int) { no_cuda(); }
void copy(int, void*, const void*, size_t, Copy) { no_cuda(); }
void fill(int, void*, int, size_t) { no_cuda(); }
std::shared_ptr<void> record(int, const std::function<void()>&) { no_cuda(); }
void replay(int, void*) { no_cuda(); }
std::shared_ptr<void> mark(int) { no_cuda(); }
double milliseconds(void*, void*) { no_cuda(); }
}  // namespace cuda
#endif

CudaSupport cuda_support() {
  static const std::string why = cuda::why_not();
  return {why.empty(), why};
}

Device Device::best() { return cuda_support().usable ? cuda() : cpu(); }

Device Device::named(const std::string& name) {
  if (name == "cpu") return cpu();
  if (name == "auto") return best();
  if (name == "cuda") {
    if (const CudaSupport support = cuda_support(); !support.usable)
      fail("--device cuda: {}; use --device cpu or auto", support.why);
    return cuda();
  }
  fail("--device {}: unknown device; known are auto, cpu and cuda", name);
}

std::string Device::description() const {
  if (backend == Backend::cuda) return cuda::description(index);
  return fmt::format("cpu ({}, {} threads, {})", cpu_model(), ranvier::threads(), vector_extension());
}

Memory::Memory(Device device, size_t bytes) : bytes_(bytes) {
  if (device.backend == Backend::cuda) {
    data_ = cuda::allocate(device.index, bytes);
    return;
  }
  constexpr size_t alignment = 4096;
  const size_t rounded = (std::max<size_t>(bytes, 1) + alignment - 1) / alignment * alignment;
  void* data = std::aligned_alloc(alignment, rounded);
  if (!data) fail("out of memory: {} MB asked of the host", bytes >> 20);
  data_ = std::shared_ptr<void>(data, std::free);
}

Stream stream_of(Device device) { return device.backend == Backend::cuda ? cuda::stream(device.index) : nullptr; }

void synchronize(Device device) {
  if (device.backend != Backend::cuda) return;
  cuda::synchronize(device.index);
  tell_faults(device);
}

size_t free_memory(Device device) {
  return device.backend == Backend::cuda ? cuda::free_memory(device.index) : SIZE_MAX;
}

void copy_to_device(Device device, void* to, const void* host, size_t bytes) {
  if (!bytes) return;
  if (device.backend == Backend::cuda) return cuda::copy(device.index, to, host, bytes, cuda::Copy::to_device);
  std::memcpy(to, host, bytes);
}
void copy_to_host(Device device, void* host, const void* from, size_t bytes) {
  if (!bytes) return;
  if (device.backend != Backend::cuda) {
    std::memcpy(host, from, bytes);
    return;
  }
  cuda::copy(device.index, host, from, bytes, cuda::Copy::to_host);
  tell_faults(device);
}
void copy_on_device(Device device, void* to, const void* from, size_t bytes) {
  if (!bytes) return;
  if (device.backend == Backend::cuda) return cuda::copy(device.index, to, from, bytes, cuda::Copy::on_device);
  std::memcpy(to, from, bytes);
}
void fill_bytes(Device device, void* to, int byte, size_t bytes) {
  if (!bytes) return;
  if (device.backend == Backend::cuda) return cuda::fill(device.index, to, byte, bytes);
  std::memset(to, byte, bytes);
}

Recording::Recording(Device device, const std::function<void()>& body) : device_(device) {
  if (device.backend != Backend::cuda) fail("only a CUDA device records");
  graph_ = cuda::record(device.index, body);
}
void Recording::replay() const { cuda::replay(device_.index, graph_.get()); }

void Timeline::mark() {
  if (device_.backend == Backend::cuda)
    events_.push_back(cuda::mark(device_.index));
  else
    wall_.push_back(wall_ms());
}

std::vector<double> Timeline::milliseconds() const {
  std::vector<double> result;
  for (double wall : wall_) result.push_back(wall - wall_[0]);
  for (const auto& event : events_) result.push_back(cuda::milliseconds(events_[0].get(), event.get()));
  return result;
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
