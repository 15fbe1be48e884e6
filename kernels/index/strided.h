// What broadcasts, slices and transposes are on a CUDA device: reads at strides, written in order.
#pragma once
#include <cstdint>

#include "kernels/common/divide.h"
#include "kernels/common/stream.h"

namespace ranvier::kernels {

/// y[i] = x[base + sum of i[k] stride[k]] for every position i below the extents. Strides may be 0 or negative; every
/// place read must lie in x, which has `source` elements of `bytes` 1, 2, 4 or 8.
struct StridedDims {
  int64_t rank;
  int64_t extent[6], stride[6];
  int64_t base, source, bytes;
};

/// Results and sources of more than `narrow` elements are addressed by 64-bit indices.
void strided_copy_cuda(const StridedDims&, const void* x, void* y, CudaStream stream, int64_t narrow = most_narrow);

}  // namespace ranvier::kernels
