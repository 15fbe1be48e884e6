// The time of one op's variant by itself, on operands of small values.
#pragma once
#include "engine/device.h"
#include "engine/plan.h"

namespace ranvier::cli {

/// Median seconds of one run, measured for about `seconds`.
///
/// On the CPU one set of operands is used again and again. On CUDA the runs go around as many sets as make about 256 MB
/// (at most 64), so that large operands come from memory as they do in a step, and not from the cache; they are
/// recorded as a CUDA graph, whose launch costs nothing between kernels, and timed by the device's clock.
double time_variant(Device device, const PlanStep& step, const Variant& variant, double seconds);

}  // namespace ranvier::cli
