// The machine's own limits, measured, as the yardstick of every benchmark.
#pragma once

namespace ranvier::cli {

struct Peak {
  double gflops;  ///< f32 fused multiply-adds from registers, all threads
  double gbs;     ///< bytes read and written per second by a copy larger than the caches, all threads
};
Peak measure_peak();

}  // namespace ranvier::cli
