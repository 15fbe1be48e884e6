// The CUDA kernels of layers with 1 to 4 input channels.
#pragma once
#include "kernels/common/stream.h"
#include "kernels/conv2d/conv2d.h"

namespace ranvier::kernels::conv {

/// Forward and wgrad, filters up to 16 x 16 and strides up to 4 that fit in shared memory; T is float, bf16 or f16.
bool few_channels_supports(const Conv2dDims& dims, ConvPass pass);
/// Partial sums (splits, K, R, S, C) of wgrad, the workspace.
int few_channels_splits(const Conv2dDims& dims);
template <class T>
void few_channels_forward(const Conv2dDims& dims, const T* x, const T* filter, T* y, CudaStream stream);
template <class T>
void few_channels_wgrad(const Conv2dDims& dims, const T* x, const T* dy, T* dfilter, float* sums, CudaStream stream);

}  // namespace ranvier::kernels::conv
