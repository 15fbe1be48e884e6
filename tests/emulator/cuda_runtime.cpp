// The part of the CUDA runtime that the engine calls, over host memory: memory, copies, streams, events, and stream
// capture as a recorded list of calls. Linked in place of cudart into emulated builds.
#include <core.h>
#include <cuda_runtime_api.h>

#include <chrono>
#include <cstdlib>
#include <memory>
#include <mutex>
#include <optional>
#include <unordered_map>
#include <vector>

namespace {

using Call = std::function<void()>;

/// What stands behind a cudaGraph_t and a cudaGraphExec_t.
struct Recording {
  std::vector<Call> calls;
};

/// The capture under way. One stream is captured at a time; others must not be used meanwhile.
struct Capture {
  cudaStream_t stream;
  Recording recording;
  bool valid = true;  // a call that a capture forbids spoils it, and ending it says so
};
std::optional<Capture> capture;

/// The status of a call that a capture forbids: it allocates, frees or waits.
cudaError_t outside_captures() {
  if (!capture) return cudaSuccess;
  capture->valid = false;
  return cudaErrorStreamCaptureUnsupported;
}

/// Runs `call` now, or records it where its stream is being captured.
cudaError_t enqueue(cudaStream_t stream, Call call) {
  if (!capture) {
    call();
    return cudaSuccess;
  }
  if (stream != capture->stream) {
    capture->valid = false;
    return cudaErrorStreamCaptureImplicit;
  }
  capture->recording.calls.push_back(std::move(call));
  return cudaSuccess;
}

struct Event {
  std::chrono::steady_clock::time_point at;
};

Event* as_event(cudaEvent_t event) { return reinterpret_cast<Event*>(event); }
constexpr size_t memory_bytes = size_t{8} << 30;

/// What the emulated device has given away of its memory.
struct {
  std::mutex mutex;
  std::unordered_map<void*, size_t> blocks;
  size_t used = 0;
} device_memory;

cudaError_t allocate(void** p, size_t bytes) {
  // of the exact size, so that AddressSanitizer sees the first byte beyond
  return posix_memalign(p, 256, bytes ? bytes : 1) ? cudaErrorMemoryAllocation : cudaSuccess;
}

}  // namespace

namespace emulator {

void launch(cudaStream_t stream, dim3 grid, dim3 block, size_t shared_bytes, std::function<void()> body, bool asked) {
  const cudaError_t status =
      enqueue(stream, [=, body = std::move(body)] { run_grid(grid, block, shared_bytes, body, asked); });
  if (status != cudaSuccess) throw Error(std::string("launch of a kernel: ") + cudaGetErrorString(status));
}

}  // namespace emulator

extern "C" {

const char* cudaGetErrorString(cudaError_t status) {
  switch (status) {
    case cudaSuccess:
      return "no error";
    case cudaErrorMemoryAllocation:
      return "out of memory";
    case cudaErrorNoDevice:
      return "no CUDA-capable device is detected";
    case cudaErrorStreamCaptureImplicit:
      return "a call on another stream during a capture";
    case cudaErrorStreamCaptureUnsupported:
      return "operation not permitted when stream is capturing";
    case cudaErrorStreamCaptureInvalidated:
      return "operation failed due to a previous error during capture";
    case cudaErrorIllegalState:
      return "no capture is under way";
    default:
      return "an error of the emulated runtime";
  }
}
cudaError_t cudaGetLastError() { return cudaSuccess; }

// Tests ask for the emulated device; every other program of an emulated build runs on the CPU, as without a GPU.
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
  properties->totalGlobalMem = memory_bytes;
  properties->multiProcessorCount = 132;
  return cudaSuccess;
}

// Memory: everything starts as NaN.
cudaError_t cudaMemGetInfo(size_t* free_bytes, size_t* total) {
  const std::lock_guard lock(device_memory.mutex);
  return *total = memory_bytes, *free_bytes = memory_bytes - device_memory.used, cudaSuccess;
}
cudaError_t cudaMalloc(void** p, size_t bytes) {
  if (const cudaError_t status = outside_captures()) return status;
  {
    const std::lock_guard lock(device_memory.mutex);
    if (bytes > memory_bytes - device_memory.used) return cudaErrorMemoryAllocation;
    if (const cudaError_t status = allocate(p, bytes)) return status;
    device_memory.used += device_memory.blocks[*p] = bytes;
  }
  std::memset(*p, 0xff, bytes);
  emulator::register_memory(*p, bytes, "device memory");
  return cudaSuccess;
}
cudaError_t cudaFree(void* p) {
  if (const cudaError_t status = outside_captures()) return status;
  if (!p) return cudaSuccess;
  emulator::unregister_memory(p);
  const std::lock_guard lock(device_memory.mutex);
  if (const auto block = device_memory.blocks.extract(p)) device_memory.used -= block.mapped();
  return std::free(p), cudaSuccess;
}
cudaError_t cudaMallocHost(void** p, size_t bytes) {
  if (const cudaError_t status = outside_captures()) return status;
  return allocate(p, bytes);
}
cudaError_t cudaHostAlloc(void** p, size_t bytes, unsigned) { return cudaMallocHost(p, bytes); }
cudaError_t cudaFreeHost(void* p) {
  if (const cudaError_t status = outside_captures()) return status;
  return std::free(p), cudaSuccess;
}
cudaError_t cudaMemcpyAsync(void* to, const void* from, size_t bytes, cudaMemcpyKind, cudaStream_t stream) {
  return enqueue(stream, [=] { std::memmove(to, from, bytes); });
}
cudaError_t cudaMemsetAsync(void* to, int value, size_t bytes, cudaStream_t stream) {
  return enqueue(stream, [=] { std::memset(to, value, bytes); });
}

// Streams.
cudaError_t cudaStreamCreateWithFlags(cudaStream_t* stream, unsigned) {
  return *stream = reinterpret_cast<cudaStream_t>(new char), cudaSuccess;
}
cudaError_t cudaStreamDestroy(cudaStream_t stream) { return delete reinterpret_cast<char*>(stream), cudaSuccess; }
cudaError_t cudaStreamSynchronize(cudaStream_t) { return outside_captures(); }
cudaError_t cudaDeviceSynchronize() { return outside_captures(); }

// Capture and replay.
cudaError_t cudaStreamBeginCapture(cudaStream_t stream, cudaStreamCaptureMode) {
  if (capture) return cudaErrorStreamCaptureImplicit;
  capture.emplace(Capture{stream, {}});
  return cudaSuccess;
}
cudaError_t cudaStreamEndCapture(cudaStream_t stream, cudaGraph_t* graph) {
  *graph = nullptr;
  if (!capture || stream != capture->stream) return cudaErrorIllegalState;
  const bool valid = capture->valid;
  if (valid) *graph = reinterpret_cast<cudaGraph_t>(new Recording(std::move(capture->recording)));
  capture.reset();
  return valid ? cudaSuccess : cudaErrorStreamCaptureInvalidated;
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

// Events: calls have run when they return, so that the wall clock is the stream's.
cudaError_t cudaEventCreateWithFlags(cudaEvent_t* event, unsigned) {
  return *event = reinterpret_cast<cudaEvent_t>(new Event), cudaSuccess;
}
cudaError_t cudaEventDestroy(cudaEvent_t event) { return delete as_event(event), cudaSuccess; }
cudaError_t cudaEventRecord(cudaEvent_t event, cudaStream_t) {
  return as_event(event)->at = std::chrono::steady_clock::now(), cudaSuccess;
}
cudaError_t cudaEventSynchronize(cudaEvent_t) { return outside_captures(); }
cudaError_t cudaEventElapsedTime(float* ms, cudaEvent_t from, cudaEvent_t to) {
  *ms = std::chrono::duration<float, std::milli>(as_event(to)->at - as_event(from)->at).count();
  return cudaSuccess;
}
}
