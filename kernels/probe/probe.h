// What a CUDA device's arithmetic units can do at best: loops of independent instructions on registers alone, as the
// yardstick of benchmarks.
#pragma once
#include <cstddef>
#include <cstdint>

#include "kernels/common/stream.h"

namespace ranvier::kernels {

/// Units of a device: fused multiply-adds in f32 and f64, and mma.sync on the tensor cores. (From sm_90 on, wgmma
/// reaches a higher rate than mma.sync on the same tensor cores.)
enum class ProbeUnit { f32, f64, tf32, bf16, f16 };

/// Floats that a probe writes.
constexpr int64_t probe_outputs = int64_t{132} * 8 * 256;

/// Every thread of 1056 blocks of 256 runs `rounds` rounds of multiply-adds on numbers of both signs (operands of zeros
/// would draw less power and run faster). Returns the floating-point operations of the launch.
double probe_cuda(ProbeUnit unit, int rounds, float* out, CudaStream stream);

}  // namespace ranvier::kernels
