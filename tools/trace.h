// Times of a step's nodes in the format of Chrome's and Perfetto's trace viewers.
#pragma once
#include <string>
#include <vector>

#include "engine/program.h"

namespace ranvier::cli {

/// One complete event a node: its label, begin and duration, and in its arguments variant, GFLOP/s and GB/s.
std::string chrome_trace(const std::vector<StepTime>& times);

}  // namespace ranvier::cli
