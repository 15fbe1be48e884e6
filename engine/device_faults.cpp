// The list of fault sites, and the look at it after every wait for a device.
#include "engine/device_faults.h"

#include <algorithm>
#include <mutex>
#include <utility>
#include <vector>

#include "engine/device_cuda.h"

namespace ranvier {
namespace {

struct Sites {
  std::mutex mutex;
  std::vector<FaultSite*> list;
};
Sites& sites() {
  static Sites instance;
  return instance;
}

}  // namespace

FaultSite::FaultSite(Device device, std::function<void(int64_t)> tell)
    : device_(device), tell_(std::move(tell)), word_(cuda::allocate_shared(sizeof(Word))) {
  *word() = none;
  const std::lock_guard lock(sites().mutex);
  sites().list.push_back(this);
}

FaultSite::~FaultSite() {
  const std::lock_guard lock(sites().mutex);
  std::erase(sites().list, this);
}

void tell_faults(Device device) {
  std::function<void(int64_t)> tell;
  FaultSite::Word position = FaultSite::none;
  {
    const std::lock_guard lock(sites().mutex);
    for (FaultSite* site : sites().list) {
      if (site->device_ != device) continue;
      const FaultSite::Word found = std::exchange(*static_cast<volatile FaultSite::Word*>(site->word()), site->none);
      if (found == FaultSite::none || position != FaultSite::none) continue;
      position = found;
      tell = site->tell_;
    }
  }
  if (position != FaultSite::none) tell(static_cast<int64_t>(position));
}

}  // namespace ranvier
