// A device's own limits, measured, as the yardstick of every benchmark.
#pragma once
#include "engine/device.h"

namespace ranvier::cli {

struct Peak {
  double gflops = 0;  ///< f32 fused multiply-adds from registers, all threads
  double gbs = 0;     ///< bytes read and written per second by a copy larger than the caches
  /// On CUDA alone (0 elsewhere): f64 multiply-adds, and tensor cores on tf32, bf16 and f16: the better of mma.sync on
  /// registers and, where the build has it, cuBLAS on a square product of 8192.
  double gflops_f64 = 0, gflops_tf32 = 0, gflops_bf16 = 0, gflops_f16 = 0;

  /// What an op on floating operands of this type can reach; f32 on tf32 where `tf32`.
  double rate(DType operands, bool tf32) const;
};
Peak measure_peak(Device device);

}  // namespace ranvier::cli
