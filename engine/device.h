// Devices and their memory: the host here, CUDA behind the same few calls.
#pragma once
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "engine/op.h"

namespace ranvier {

/// A place where programs run.
struct Device {
  Backend backend = Backend::cpu;
  int index = 0;

  static Device cpu() { return {}; }
  static Device cuda(int index = 0) { return {Backend::cuda, index}; }
  /// The first CUDA device if it works, else the CPU.
  static Device best();
  /// "auto", "cpu" or "cuda"; throws Error where the wish cannot be met.
  static Device named(const std::string& name);
  /// "cpu (Intel(R) Xeon(R) Processor, 2 threads, AVX-512)" or "cuda (NVIDIA H100, sm_90, 79 GB)".
  std::string description() const;
  bool operator==(const Device&) const = default;
};

/// Whether CUDA programs can run here; where not, `why` is one line for the user ("no CUDA device", "the driver is
/// older than the toolkit", "this build has no CUDA backend").
struct CudaSupport {
  bool usable = false;
  std::string why;
};
CudaSupport cuda_support();

/// The stream that everything on a device is ordered by; null on the CPU.
Stream stream_of(Device device);
/// Waits until everything given to the device's stream has run; an error of a kernel, or what it found wrong with its
/// data (engine/device_faults.h), surfaces here and in `copy_to_host`.
void synchronize(Device device);
/// Free bytes of device memory now, or SIZE_MAX on the CPU, where nobody knows.
size_t free_memory(Device device);

/// What `prepare` may use of the device.
struct DeviceContext {
  Device device;
  Stream stream = nullptr;
};

/// An owned block of device memory, aligned to 4096 bytes on the host (so a vector load never straddles a page start),
/// to 256 on CUDA. Throws Error where there is not enough.
class Memory {
 public:
  Memory() = default;
  Memory(Device device, size_t bytes);
  void* data() const { return data_.get(); }
  size_t bytes() const { return bytes_; }

 private:
  std::shared_ptr<void> data_;
  size_t bytes_ = 0;
};

// Ordered by the device's stream. A copy to the device has read `host` when it returns; a copy to the host has arrived.
void copy_to_device(Device device, void* to, const void* host, size_t bytes);
void copy_to_host(Device device, void* host, const void* from, size_t bytes);
void copy_on_device(Device device, void* to, const void* from, size_t bytes);
void fill_bytes(Device device, void* to, int byte, size_t bytes);

/// A list of launches recorded once and replayed as one: a CUDA graph. Empty on the CPU, where nothing is recorded.
class Recording {
 public:
  Recording() = default;
  /// Runs `body` in capture mode on the device's stream: it must only launch, copy on the device and fill.
  Recording(Device device, const std::function<void()>& body);
  void replay() const;
  explicit operator bool() const { return graph_ != nullptr; }

 private:
  Device device_;
  std::shared_ptr<void> graph_;
};

/// Times between marks on the device's stream (on the CPU: of the wall clock).
class Timeline {
 public:
  explicit Timeline(Device device) : device_(device) {}
  void mark();
  /// Milliseconds from the first mark to each; waits for the last.
  std::vector<double> milliseconds() const;

 private:
  Device device_;
  std::vector<std::shared_ptr<void>> events_;
  std::vector<double> wall_;
};

/// Threads that CPU kernels use from here on (an OpenMP team); 0 means all cores.
void set_threads(int threads);
int threads();

}  // namespace ranvier
