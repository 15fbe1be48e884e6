// The stream that a kernel is ordered by, as headers name it that must compile without the CUDA Toolkit.
#pragma once

struct CUstream_st;

namespace ranvier::kernels {

/// A cudaStream_t.
using CudaStream = CUstream_st*;

}  // namespace ranvier::kernels
