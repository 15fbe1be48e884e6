// Average pooling by cuDNN, NVIDIA's library. It has no maxima with the winners' positions, so those stay our own.
#pragma once
#include <memory>

#include "kernels/common/cudnn_type.h"
#include "kernels/pool/pool.h"

namespace ranvier::kernels {

/// Averages of windows and their adjoint, prepared for one shape that is not empty.
class CudnnAverage {
 public:
  CudnnAverage(const PoolDims& dims, CudnnType type);
  ~CudnnAverage();
  CudnnAverage(const CudnnAverage&) = delete;
  CudnnAverage& operator=(const CudnnAverage&) = delete;
  void pool(const void* x, void* y, CudaStream stream) const;
  void unpool(const void* dy, void* dx, CudaStream stream) const;

 private:
  struct Parts;
  std::unique_ptr<Parts> parts_;
};

}  // namespace ranvier::kernels
