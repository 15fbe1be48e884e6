// A named range on the timeline of NVIDIA's profilers (NVTX), for as long as it lives; nothing in a build without CUDA.
#pragma once
#include <string>

#if defined(RANVIER_HAS_CUDA)
#include <nvtx3/nvToolsExt.h>
#endif

namespace ranvier {

class ProfilerRange {
 public:
#if defined(RANVIER_HAS_CUDA)
  explicit ProfilerRange(const std::string& label) { nvtxRangePushA(label.c_str()); }
  ~ProfilerRange() { nvtxRangePop(); }
#else
  explicit ProfilerRange(const std::string&) {}
#endif
  ProfilerRange(const ProfilerRange&) = delete;
  ProfilerRange& operator=(const ProfilerRange&) = delete;
};

}  // namespace ranvier
