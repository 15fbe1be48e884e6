// The time of an op's variants by themselves, on operands of small values.
#pragma once
#include <vector>

#include "engine/device.h"
#include "engine/plan.h"

namespace ranvier::cli {

/// Operands of small values for one op, on which its variants are timed one after the other.
///
/// On the CPU one set of operands is used again and again. On CUDA the runs go around as many sets as make about 256 MB
/// (at most 64), so that large operands come from memory as they do in a step, and not from the cache; they are
/// recorded as a CUDA graph, whose launch costs nothing between kernels, and timed by the device's clock.
class OpTimer {
 public:
  OpTimer(Device device, const PlanStep& step);
  ~OpTimer();
  /// Median seconds of one run, measured for about `seconds`.
  double time(const Variant& variant, double seconds) const;

 private:
  class Operands;
  Device device_;
  const PlanStep& step_;
  std::vector<Operands> sets_;
};

}  // namespace ranvier::cli
