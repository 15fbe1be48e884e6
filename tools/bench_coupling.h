// What the two halves of `ranvier bench coupling` share: the CPU's and a CUDA device's.
#pragma once
#include "tools/run.h"

namespace ranvier::cli {

struct BenchCouplingOptions {
  Common common;
  int64_t units = 16384, wide = 65536;
  int64_t steps = 20, repeats = 5;  ///< on the CPU
  int64_t rows = 1'000'000;         ///< of channels, on CUDA
  double seconds = 0.2;             ///< of each measurement on CUDA
  bool no_peaks = false;            ///< on CUDA: without the device's own limits, and so without shares of them
};

/// Numbers without meaning, from -1 to 1.
std::vector<float> numbers(int64_t count, uint64_t seed);

/// Forward and backward of a wide layer: activations and positions; time, memory, and errors against direct f64 sums.
void bench_wide(Device device, const BenchCouplingOptions& options, nlohmann::ordered_json& rows);

/// The kernels by themselves against the device's own limits.
void bench_coupling_on_device(Device device, const BenchCouplingOptions& options);

}  // namespace ranvier::cli
