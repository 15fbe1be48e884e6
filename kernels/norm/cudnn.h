// Batch norm by cuDNN, NVIDIA's library: a variant to choose and to compare with, for norms without activation and
// pool.
#pragma once
#include <memory>

#include "kernels/common/cudnn_type.h"
#include "kernels/norm/norm.h"

namespace ranvier::kernels {

/// Batch norm prepared for one shape. Pointers are as in NormForward, NormEval and NormBackward; the maps have the type
/// given here, everything per channel is f32.
class CudnnNorm {
 public:
  CudnnNorm(const NormDims& dims, CudnnType type);
  ~CudnnNorm();
  CudnnNorm(const CudnnNorm&) = delete;
  CudnnNorm& operator=(const CudnnNorm&) = delete;
  /// Scratch bytes of the forward and evaluation, and of the gradient.
  size_t forward_workspace() const;
  size_t gradient_workspace() const;
  void forward(const NormForward<void, float>& args, CudaStream stream) const;
  void eval(const NormEval<void, float>& args, CudaStream stream) const;
  void gradient(const NormBackward<void, float>& args, CudaStream stream) const;

 private:
  struct Parts;
  std::unique_ptr<Parts> parts_;
};

/// cuDNN normalises alone, and gives the variance only as an unbiased one, of two values a channel at least.
bool cudnn_norm_supports(const NormDims& dims);

}  // namespace ranvier::kernels
