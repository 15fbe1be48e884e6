// The CUDA runtime behind engine/device.h: one stream a device, memory, copies, graphs and events.
#include <cuda_runtime_api.h>

#include <array>
#include <mutex>

#include "engine/device_cuda.h"
#include "engine/error.h"

namespace ranvier::cuda {
namespace {

constexpr int most_devices = 16;

void check(cudaError_t status, const char* what) {
  if (status != cudaSuccess) fail("CUDA, {}: {}", what, cudaGetErrorString(status));
}

cudaDeviceProp properties(int index) {
  cudaDeviceProp prop{};
  check(cudaGetDeviceProperties(&prop, index), "reading the device's properties");
  return prop;
}

cudaStream_t raw_stream(int index) { return static_cast<cudaStream_t>(stream(index)); }

}  // namespace

std::string why_not() {
  Machine machine;
  cudaRuntimeGetVersion(&machine.toolkit);
  if (cudaDriverGetVersion(&machine.driver) != cudaSuccess) machine.driver = 0;
  cudaError_t status = cudaGetDeviceCount(&machine.devices);
  cudaDeviceProp prop{};
  if (status == cudaSuccess && machine.devices > 0) status = cudaGetDeviceProperties(&prop, 0);
  if (status != cudaSuccess) machine.trouble = cudaGetErrorString(status);
  machine.name = prop.name, machine.major = prop.major, machine.minor = prop.minor;
  return why_not(machine);
}

std::string description(int index) {
  const cudaDeviceProp prop = properties(index);
  return fmt::format("cuda ({}, sm_{}{}, {:.0f} GB)", prop.name, prop.major, prop.minor,
                     static_cast<double>(prop.totalGlobalMem) / 1e9);
}

std::shared_ptr<void> allocate(int index, size_t bytes) {
  check(cudaSetDevice(index), "choosing the device");
  void* data = nullptr;
  const cudaError_t status = cudaMalloc(&data, bytes ? bytes : 1);
  if (status == cudaErrorMemoryAllocation) {
    cudaGetLastError();  // the failure is told here and must not surface at the next launch
    fail("out of device memory: {} MB asked of the GPU, {} MB are free", bytes >> 20, free_memory(index) >> 20);
  }
  check(status, "allocating memory");
  return {data, [](void* p) { cudaFree(p); }};
}

std::shared_ptr<void> allocate_shared(size_t bytes) {
  void* data = nullptr;
  check(cudaHostAlloc(&data, bytes, cudaHostAllocMapped), "allocating pinned memory");
  return {data, [](void* p) { cudaFreeHost(p); }};
}

Stream stream(int index) {
  static std::array<std::once_flag, most_devices> once;
  static std::array<cudaStream_t, most_devices> streams{};
  if (index < 0 || index >= most_devices) fail("CUDA device {}: at most {} are known", index, most_devices);
  std::call_once(once[static_cast<size_t>(index)], [index] {
    check(cudaSetDevice(index), "choosing the device");
    check(cudaStreamCreateWithFlags(&streams[static_cast<size_t>(index)], cudaStreamNonBlocking), "making a stream");
  });
  return streams[static_cast<size_t>(index)];
}

void synchronize(int index) {
  const cudaError_t status = cudaStreamSynchronize(raw_stream(index));
  // which of the launches since the last wait it was, CUDA does not say
  if (status != cudaSuccess)
    fail("CUDA, a kernel or copy failed: {} (run with CUDA_LAUNCH_BLOCKING=1 to see in which op)",
         cudaGetErrorString(status));
}

size_t free_memory(int) {
  size_t free = 0, total = 0;
  check(cudaMemGetInfo(&free, &total), "asking for free memory");
  return free;
}

void copy(int index, void* to, const void* from, size_t bytes, Copy kind) {
  const cudaMemcpyKind kinds[] = {cudaMemcpyHostToDevice, cudaMemcpyDeviceToHost, cudaMemcpyDeviceToDevice};
  check(cudaMemcpyAsync(to, from, bytes, kinds[static_cast<int>(kind)], raw_stream(index)), "a copy");
  if (kind == Copy::to_host) synchronize(index);  // to the device: pageable memory was staged when the call returned
}

void fill(int index, void* to, int byte, size_t bytes) {
  check(cudaMemsetAsync(to, byte, bytes, raw_stream(index)), "filling memory");
}

std::shared_ptr<void> record(int index, const std::function<void()>& body) {
  const cudaStream_t on = raw_stream(index);
  check(cudaStreamBeginCapture(on, cudaStreamCaptureModeThreadLocal), "beginning a capture");
  cudaGraph_t graph = nullptr;
  try {
    body();
  } catch (...) {
    cudaStreamEndCapture(on, &graph);
    if (graph) cudaGraphDestroy(graph);
    throw;
  }
  check(cudaStreamEndCapture(on, &graph), "ending a capture");
  cudaGraphExec_t exec = nullptr;
  const cudaError_t status = cudaGraphInstantiate(&exec, graph, 0);
  cudaGraphDestroy(graph);
  check(status, "making a graph");
  return {exec, [](void* p) { cudaGraphExecDestroy(static_cast<cudaGraphExec_t>(p)); }};
}

void replay(int index, void* graph) {
  check(cudaGraphLaunch(static_cast<cudaGraphExec_t>(graph), raw_stream(index)), "replaying a graph");
}

std::shared_ptr<void> mark(int index) {
  cudaEvent_t event = nullptr;
  check(cudaEventCreateWithFlags(&event, cudaEventDefault), "making an event");
  check(cudaEventRecord(event, raw_stream(index)), "recording an event");
  return {event, [](void* p) { cudaEventDestroy(static_cast<cudaEvent_t>(p)); }};
}

double milliseconds(void* from, void* to) {
  check(cudaEventSynchronize(static_cast<cudaEvent_t>(to)), "waiting for an event");
  float ms = 0;
  check(cudaEventElapsedTime(&ms, static_cast<cudaEvent_t>(from), static_cast<cudaEvent_t>(to)), "reading an event");
  return ms;
}

}  // namespace ranvier::cuda
