// Convolution by cuDNN, NVIDIA's library: the yardstick of our own kernels, and a variant to choose.
#pragma once
#include <memory>

#include "kernels/common/cudnn_type.h"
#include "kernels/conv2d/conv2d.h"

namespace ranvier::kernels {

/// A pass prepared for one shape by cuDNN's graph interface: the plan that the library's heuristics rank at place
/// `rank` (0 is best) among those that are deterministic, need at most 64 MB of scratch, and, unless `type` is tf32,
/// keep f32 operands whole. Throws std::runtime_error where there are not so many.
class CudnnConv {
 public:
  CudnnConv(const Conv2dDims& dims, ConvPass pass, CudnnType type, int rank, CudaStream stream);
  ~CudnnConv();
  CudnnConv(const CudnnConv&) = delete;
  CudnnConv& operator=(const CudnnConv&) = delete;
  /// Scratch bytes that run needs.
  size_t workspace() const;
  /// Operands and result as ConvPass says, aligned to 16 bytes.
  void run(const void* a, const void* b, void* out, void* workspace, CudaStream stream) const;

 private:
  struct Parts;
  std::unique_ptr<Parts> parts_;
};

/// Whether the shape can be said to cuDNN at all: it is not empty, and no more outputs are dropped than padding made.
bool cudnn_conv_supports(const Conv2dDims& dims);

}  // namespace ranvier::kernels
