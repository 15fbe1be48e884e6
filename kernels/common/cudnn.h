// What the variants by cuDNN, NVIDIA's library, share: statuses, a handle a stream, and descriptors that clean up.
#pragma once
#include <cudnn.h>

#include <memory>
#include <stdexcept>
#include <string>

#include "kernels/common/cudnn_type.h"
#include "kernels/common/stream.h"

namespace ranvier::kernels {

/// Throws std::runtime_error with the op and the library's words where a call failed.
inline void check_cudnn(cudnnStatus_t status, const char* op, const char* what) {
  if (status != CUDNN_STATUS_SUCCESS)
    throw std::runtime_error(std::string(op) + ": cuDNN, " + what + ": " + cudnnGetErrorString(status));
}

/// The handle whose calls are ordered by `stream`: made at first use, kept for good. A handle serves one thread at a
/// time, as a session does.
cudnnHandle_t cudnn_handle(CudaStream stream);

inline cudnnDataType_t cudnn_data_type(CudnnType type) {
  return type == CudnnType::bf16 ? CUDNN_DATA_BFLOAT16 : type == CudnnType::f16 ? CUDNN_DATA_HALF : CUDNN_DATA_FLOAT;
}

/// An extent as cuDNN's classic interface takes it.
inline int cudnn_extent(int64_t extent, const char* op) {
  if (extent > INT32_MAX) throw std::runtime_error(std::string(op) + ": cuDNN takes no extent beyond 2^31");
  return static_cast<int>(extent);
}

/// Maps (n, h, w, c) of contiguous channels.
class CudnnMaps {
 public:
  CudnnMaps(CudnnType type, int64_t n, int64_t h, int64_t w, int64_t c, const char* op) {
    check_cudnn(cudnnCreateTensorDescriptor(&raw_), op, "describing maps");
    const auto extent = [&](int64_t e) { return cudnn_extent(e, op); };
    const cudnnStatus_t status = cudnnSetTensor4dDescriptor(raw_, CUDNN_TENSOR_NHWC, cudnn_data_type(type), extent(n),
                                                            extent(c), extent(h), extent(w));
    if (status != CUDNN_STATUS_SUCCESS) cudnnDestroyTensorDescriptor(raw_);
    check_cudnn(status, op, "describing maps");
  }
  ~CudnnMaps() { cudnnDestroyTensorDescriptor(raw_); }
  CudnnMaps(const CudnnMaps&) = delete;
  CudnnMaps& operator=(const CudnnMaps&) = delete;
  operator cudnnTensorDescriptor_t() const { return raw_; }

 private:
  cudnnTensorDescriptor_t raw_ = nullptr;
};

}  // namespace ranvier::kernels
