// The part of the CUDA runtime that the engine calls, over host memory: memory, copies, streams, events, and stream
// capture as a recorded list of calls. Linked instead of cudart into the emulated build.
#include <cuda_runtime_api.h>
#include <emulator.h>

#include <chrono>
#include <memory>
#include <set>
#include <vector>

namespace {

using Call = std::function<void()>;

struct Recording {
  std::vector<Call> calls;
};

// One stream is captured at a time; others must not be used meanwhile, as on a device with a global capture mode.
cudaStream_t capturing = nullptr;
std::unique_ptr<Recording> recording;
bool is_capturing = false;

/// Runs `call` now, or records it where its stream is being captured.
cudaError_t enqueue(cudaStream_t stream, Call call) {
  if (!is_capturing) {
    call();
    return cudaSuccess;
  }
  if (stream != capturing) return cudaErrorStreamCaptureImplicit;
  recording->calls.push_back(std::move(call));
  return cudaSuccess;
}

struct Event {
  std::chrono::steady_clock::time_point at;
};

}  // namespace

namespace emulator {
void launch(cudaStream_t stream, dim3 grid, dim3 block, size_t shared, std::function<void()> body) {
  const cudaError_t status = enqueue(stream, [=, body = std::move(body)] { run_grid(grid, block, shared, body); });
  if (status != cudaSuccess) throw Error("launch on another stream during a capture");
}
}  // namespace emulator

extern "C" {

const char* cudaGetErrorString(cudaError_t status) {
  switch (status) {
    case cudaSuccess:
      return "no error";
    case cudaErrorMemoryAllocation:
      return "out of memory";
    case cudaErrorStreamCaptureImplicit:
      return "a call on another stream during a capture";
    case cudaErrorStreamCaptureUnsupported:
      return "operation not permitted when a stream is capturing";
    default:
      return "an error of the emulated runtime";
  }
}
cudaError_t cudaGetLastError() { return cudaSuccess; }
// Tests ask for the emulated device; every other program of an emulated build runs on the CPU as it would without a
// GPU.
cudaError_t cudaGetDeviceCount(int* count) {
  *count = std::getenv("RANVIER_EMULATED_DEVICE") ? 1 : 0;
  return *count ? cudaSuccess : cudaErrorNoDevice;
}
cudaError_t cudaSetDevice(int) { return cudaSuccess; }
cudaError_t cudaDriverGetVersion(int* version) { return *version = CUDART_VERSION, cudaSuccess; }
cudaError_t cudaRuntimeGetVersion(int* version) { return *version = CUDART_VERSION, cudaSuccess; }
cudaError_t cudaGetDeviceProperties(cudaDeviceProp* properties, int) {
  *properties = {};
  std::strcpy(properties->name, "emulated");
  properties->major = 9;
  properties->totalGlobalMem = size_t{8} << 30;
  properties->multiProcessorCount = 132;
  return cudaSuccess;
}
cudaError_t cudaMemGetInfo(size_t* free_bytes, size_t* total) {
  return *free_bytes = *total = size_t{8} << 30, cudaSuccess;
}
cudaError_t cudaMalloc(void** p, size_t bytes) {
  if (is_capturing) return cudaErrorStreamCaptureUnsupported;
  // exact size, so that AddressSanitizer sees the first byte beyond
  if (posix_memalign(p, 256, bytes ? bytes : 1)) return cudaErrorMemoryAllocation;
  std::memset(*p, 0xff, bytes);
  emulator::register_global(*p, bytes, "device memory");
  return cudaSuccess;
}
cudaError_t cudaFree(void* p) {
  if (p) emulator::unregister_global(p);
  std::free(p);
  return cudaSuccess;
}
cudaError_t cudaMallocHost(void** p, size_t bytes) {
  return posix_memalign(p, 256, bytes ? bytes : 1) ? cudaErrorMemoryAllocation : cudaSuccess;
}
cudaError_t cudaFreeHost(void* p) { return std::free(p), cudaSuccess; }
cudaError_t cudaMemcpyAsync(void* to, const void* from, size_t bytes, cudaMemcpyKind, cudaStream_t stream) {
  return enqueue(stream, [=] { std::memmove(to, from, bytes); });
}
cudaError_t cudaMemsetAsync(void* to, int value, size_t bytes, cudaStream_t stream) {
  return enqueue(stream, [=] { std::memset(to, value, bytes); });
}
cudaError_t cudaStreamCreateWithFlags(cudaStream_t* stream, unsigned) {
  return *stream = reinterpret_cast<cudaStream_t>(new char), cudaSuccess;
}
cudaError_t cudaStreamDestroy(cudaStream_t stream) { return delete reinterpret_cast<char*>(stream), cudaSuccess; }
cudaError_t cudaStreamSynchronize(cudaStream_t) {
  return is_capturing ? cudaErrorStreamCaptureUnsupported : cudaSuccess;
}
cudaError_t cudaDeviceSynchronize() { return is_capturing ? cudaErrorStreamCaptureUnsupported : cudaSuccess; }
cudaError_t cudaStreamBeginCapture(cudaStream_t stream, cudaStreamCaptureMode) {
  if (is_capturing) return cudaErrorStreamCaptureImplicit;
  is_capturing = true, capturing = stream, recording = std::make_unique<Recording>();
  return cudaSuccess;
}
cudaError_t cudaStreamEndCapture(cudaStream_t stream, cudaGraph_t* graph) {
  if (!is_capturing || stream != capturing) return cudaErrorStreamCaptureImplicit;
  is_capturing = false;
  *graph = reinterpret_cast<cudaGraph_t>(recording.release());
  return cudaSuccess;
}
cudaError_t cudaGraphInstantiate(cudaGraphExec_t* exec, cudaGraph_t graph, unsigned long long) {
  *exec = reinterpret_cast<cudaGraphExec_t>(new Recording(*reinterpret_cast<Recording*>(graph)));
  return cudaSuccess;
}
cudaError_t cudaGraphLaunch(cudaGraphExec_t exec, cudaStream_t stream) {
  for (const Call& call : reinterpret_cast<Recording*>(exec)->calls)
    if (const cudaError_t status = enqueue(stream, call)) return status;
  return cudaSuccess;
}
cudaError_t cudaGraphDestroy(cudaGraph_t graph) { return delete reinterpret_cast<Recording*>(graph), cudaSuccess; }
cudaError_t cudaGraphExecDestroy(cudaGraphExec_t exec) {
  return delete reinterpret_cast<Recording*>(exec), cudaSuccess;
}
cudaError_t cudaEventCreateWithFlags(cudaEvent_t* event, unsigned) {
  return *event = reinterpret_cast<cudaEvent_t>(new Event), cudaSuccess;
}
cudaError_t cudaEventDestroy(cudaEvent_t event) { return delete reinterpret_cast<Event*>(event), cudaSuccess; }
cudaError_t cudaEventRecord(cudaEvent_t event, cudaStream_t) {
  return reinterpret_cast<Event*>(event)->at = std::chrono::steady_clock::now(), cudaSuccess;
}
cudaError_t cudaEventSynchronize(cudaEvent_t) { return cudaSuccess; }
cudaError_t cudaEventElapsedTime(float* ms, cudaEvent_t from, cudaEvent_t to) {
  *ms = std::chrono::duration<float, std::milli>(reinterpret_cast<Event*>(to)->at - reinterpret_cast<Event*>(from)->at)
            .count();
  return cudaSuccess;
}
}
