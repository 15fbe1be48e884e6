// Device memory for the fault kernels and probes: an exact allocation with values put in and read back.
#pragma once
#include <cuda_runtime_api.h>

#include <vector>

#include "kernels/common/launch.h"

namespace ranvier::test {

/// `size` elements; they start as NaN, or as bytes of 0xff.
template <class T>
class DeviceArray {
 public:
  explicit DeviceArray(size_t size) : size_(size) {
    kernels::check_cuda(cudaMalloc(reinterpret_cast<void**>(&data_), size * sizeof(T)), "allocating");
    kernels::check_cuda(cudaMemsetAsync(data_, 0xff, size * sizeof(T), nullptr), "filling");
  }
  explicit DeviceArray(const std::vector<T>& values) : DeviceArray(values.size()) {
    kernels::check_cuda(cudaMemcpyAsync(data_, values.data(), size_ * sizeof(T), cudaMemcpyHostToDevice, nullptr),
                        "copying");
    kernels::check_cuda(cudaDeviceSynchronize(), "copying");
  }
  ~DeviceArray() { cudaFree(data_); }
  DeviceArray(const DeviceArray&) = delete;
  DeviceArray& operator=(const DeviceArray&) = delete;
  T* data() const { return data_; }
  size_t size() const { return size_; }
  std::vector<T> values() const {
    std::vector<T> values(size_);
    kernels::check_cuda(cudaMemcpyAsync(values.data(), data_, size_ * sizeof(T), cudaMemcpyDeviceToHost, nullptr),
                        "copying");
    kernels::check_cuda(cudaDeviceSynchronize(), "running a kernel");
    return values;
  }

 private:
  T* data_ = nullptr;
  size_t size_;
};

}  // namespace ranvier::test
