// Arrays in CUDA memory for tests of raw kernels: exactly as long as they say, so that AddressSanitizer sees the first
// byte beyond in the emulator.
#pragma once
#include <vector>

#include "engine/device_cuda.h"

namespace ranvier::test {

/// A copy of values on device 0, or `count` elements of bytes 0xA5.
template <class T>
class OnDevice {
 public:
  explicit OnDevice(int64_t count) : count_(static_cast<size_t>(count)), memory_(cuda::allocate(0, bytes())) {
    if (count_) cuda::fill(0, memory_.get(), 0xA5, bytes());
  }
  explicit OnDevice(const std::vector<T>& values) : OnDevice(static_cast<int64_t>(values.size())) {
    if (count_) cuda::copy(0, memory_.get(), values.data(), bytes(), cuda::Copy::to_device);
  }
  T* data() { return static_cast<T*>(memory_.get()); }
  operator T*() { return data(); }
  /// Waits for the device.
  std::vector<T> values() const {
    std::vector<T> result(count_);
    if (count_) cuda::copy(0, result.data(), memory_.get(), bytes(), cuda::Copy::to_host);
    cuda::synchronize(0);
    return result;
  }

 private:
  size_t bytes() const { return count_ * sizeof(T); }
  size_t count_;
  std::shared_ptr<void> memory_;
};

}  // namespace ranvier::test
