// The choice of CUDA kernel for a convolution: which family, which tile, how many splits. A function of shapes only.
#pragma once
#include "kernels/common/stream.h"
#include "kernels/conv2d/conv2d.h"

namespace ranvier::kernels::conv {

struct Plan {
  ConvKernel family;  ///< any but `best`
  bool scalar;        ///< channels do not come in chunks of 16 bytes, or the filter is beyond 16 x 16
  int bm, bn;         ///< rows and columns of a block's tile
  int unit, budget;   ///< wgrad: pixels a step, splits to share out
  /// Positional forward and dgrad: all images of a pixel before the next pixel, else all pixels of a tile of images.
  bool pixels_outside = false;
};

/// `element` is the size of T in bytes. `kernel` must be one that `conv2d_cuda_supports` allows.
Plan plan_of(const Conv2dDims& dims, ConvPass pass, size_t element, ConvKernel kernel);

/// Multiply-adds that a plan's tiles execute, to whole tiles (padding left out where the plan leaves it out) but not to
/// whole steps of the reduction.
double executed(const Conv2dDims& dims, ConvPass pass, const Plan& plan);

/// Runs a plan of families gather, positional or tf32; instances in cuda_16bit_*.cu and cuda_f32.cu. `sums` is the
/// workspace of wgrad.
template <class T>
void run_forward(const Plan& plan, const Conv2dDims& dims, const T* x, const T* filter, T* y, CudaStream stream);
template <class T>
void run_dgrad(const Plan& plan, const Conv2dDims& dims, const T* dy, const T* filter, T* dx, CudaStream stream);
template <class T>
void run_wgrad(const Plan& plan, const Conv2dDims& dims, const T* x, const T* dy, T* dfilter, float* sums,
               CudaStream stream);

}  // namespace ranvier::kernels::conv
