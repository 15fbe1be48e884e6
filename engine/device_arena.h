// Device memory of one owner: blocks that are made, never moved, and freed together.
#pragma once
#include <vector>

#include "engine/device.h"

namespace ranvier {

class DeviceArena {
 public:
  explicit DeviceArena(Device device) : device_(device) {}
  void* make(size_t bytes, int fill = 0) {
    blocks_.emplace_back(device_, bytes);
    if (bytes) fill_bytes(device_, blocks_.back().data(), fill, bytes);
    return blocks_.back().data();
  }
  template <class E>
  E* make_array(size_t count) {
    return static_cast<E*>(make(count * sizeof(E)));
  }
  /// A copy of the host's array, null of an empty one.
  template <class E>
  E* copy(const E* host, size_t count) {
    if (count == 0) return nullptr;
    blocks_.emplace_back(device_, count * sizeof(E));
    copy_to_device(device_, blocks_.back().data(), host, count * sizeof(E));
    return static_cast<E*>(blocks_.back().data());
  }
  template <class E, class Allocator>
  E* copy(const std::vector<E, Allocator>& host) {
    return copy(host.data(), host.size());
  }

 private:
  Device device_;
  std::vector<Memory> blocks_;
};

}  // namespace ranvier
