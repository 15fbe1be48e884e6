// Devices and their memory: the host here, CUDA behind the same few calls.
#pragma once
#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>

#include "engine/op.h"

namespace ranvier {

/// A place where programs run.
struct Device {
  Backend backend = Backend::cpu;
  int index = 0;

  static Device cpu() { return {}; }
  /// The first CUDA device that works, else the CPU.
  static Device best();
  /// "auto", "cpu" or "cuda"; throws Error where the wish cannot be met.
  static Device named(const std::string& name);
  /// "cpu (Intel(R) Xeon(R) Processor, 2 threads, AVX-512)".
  std::string description() const;
  bool operator==(const Device&) const = default;
};

/// What `prepare` may use of the device.
struct DeviceContext {
  Device device;
  Stream stream = nullptr;
};

/// An owned block of device memory, aligned to 4096 bytes on the host (so a vector load never straddles a page start).
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

void copy_to_device(Device device, void* to, const void* host, size_t bytes, Stream stream = nullptr);
void copy_to_host(Device device, void* host, const void* from, size_t bytes, Stream stream = nullptr);
void copy_on_device(Device device, void* to, const void* from, size_t bytes, Stream stream = nullptr);
void fill_bytes(Device device, void* to, int byte, size_t bytes, Stream stream = nullptr);

/// Threads that CPU kernels use from here on (an OpenMP team); 0 means all cores.
void set_threads(int threads);
int threads();

}  // namespace ranvier
