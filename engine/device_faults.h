// What kernels found wrong with their data, told as errors: a kernel cannot throw, so it leaves word for the host.
#pragma once
#include <cstdint>
#include <functional>
#include <memory>

#include "engine/device.h"

namespace ranvier {

/// A word that a kernel lowers (atomicMin) to the position of what it found wrong, and that the host looks at whenever
/// it has waited for the device: `synchronize` and `copy_to_host` then call `tell`, which throws. The word lies in host
/// memory that the device can reach, so that looking costs no copy and steps without a fault cost no wait.
class FaultSite {
 public:
  using Word = unsigned long long;  // what CUDA's 64-bit atomics take
  static constexpr Word none = ~Word{0};

  /// `tell` gets the least position that was reported since the last look, and throws Error.
  FaultSite(Device device, std::function<void(int64_t position)> tell);
  ~FaultSite();
  FaultSite(const FaultSite&) = delete;
  FaultSite& operator=(const FaultSite&) = delete;
  Word* word() const { return static_cast<Word*>(word_.get()); }

 private:
  friend void tell_faults(Device);
  Device device_;
  std::function<void(int64_t)> tell_;
  std::shared_ptr<void> word_;
};

/// Throws for the first site of the device that holds a fault, after clearing them all. The stream must be idle.
void tell_faults(Device device);

}  // namespace ranvier
