// Device memory with sentinels on both sides, filled with NaN first, for tests of raw CUDA kernels.
#pragma once
#include <gtest/gtest.h>

#include <algorithm>
#include <cstdint>
#include <vector>

#include "engine/device.h"

namespace ranvier::test {

/// `count` values on the CUDA device between guard zones of 256 bytes of 0xA5; the values start as 0xFF bytes.
template <class T>
class DeviceBuffer {
 public:
  explicit DeviceBuffer(int64_t count)
      : bytes_(static_cast<size_t>(count) * sizeof(T)), block_(Device::cuda(), bytes_ + 2 * zone) {
    fill_bytes(Device::cuda(), block_.data(), 0xA5, block_.bytes());
    fill_bytes(Device::cuda(), data(), 0xFF, bytes_);
  }
  explicit DeviceBuffer(const std::vector<T>& values) : DeviceBuffer(static_cast<int64_t>(values.size())) {
    copy_to_device(Device::cuda(), data(), values.data(), bytes_);
  }
  DeviceBuffer(const DeviceBuffer&) = delete;
  DeviceBuffer& operator=(const DeviceBuffer&) = delete;
  ~DeviceBuffer() {
    std::vector<uint8_t> all(block_.bytes());
    copy_to_host(Device::cuda(), all.data(), block_.data(), all.size());
    const auto intact = [](auto first, auto last) {
      return std::all_of(first, last, [](uint8_t b) { return b == 0xA5; });
    };
    EXPECT_TRUE(intact(all.begin(), all.begin() + zone)) << "bytes before a buffer were written";
    EXPECT_TRUE(intact(all.end() - zone, all.end())) << "bytes behind a buffer were written";
  }

  T* data() { return reinterpret_cast<T*>(static_cast<uint8_t*>(block_.data()) + zone); }
  operator T*() { return data(); }
  std::vector<T> values() {
    std::vector<T> host(bytes_ / sizeof(T));
    copy_to_host(Device::cuda(), host.data(), data(), bytes_);
    return host;
  }

 private:
  static constexpr int64_t zone = 256;
  size_t bytes_;
  Memory block_;
};

/// Values rounded to a stored type, and back.
template <class T>
std::vector<T> stored(const std::vector<float>& values) {
  std::vector<T> result;
  for (float v : values) result.push_back(kernels::from_float<T>(v));
  return result;
}
template <class T>
std::vector<double> as_doubles(const std::vector<T>& values) {
  std::vector<double> result;
  for (const T& v : values) result.push_back(kernels::to_float(v));
  return result;
}

/// Half a unit in the last place of T at 1: the relative error of one rounding.
template <class T>
constexpr double half_ulp() {
  return sizeof(T) == 4 ? 0x1p-24 : std::is_same_v<T, kernels::bf16> ? 0x1p-8 : 0x1p-11;
}

}  // namespace ranvier::test
