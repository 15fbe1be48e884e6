// Batch norm by cuDNN's classic interface, spatial mode.
#include "kernels/norm/cudnn.h"

#include <cuda_runtime_api.h>

#include "kernels/common/cudnn.h"

namespace ranvier::kernels {
namespace {

constexpr cudnnBatchNormMode_t mode = CUDNN_BATCHNORM_SPATIAL;
constexpr float one = 1, zero = 0;

void check(cudnnStatus_t status, const char* what) { check_cudnn(status, "batch_norm", what); }
void check(cudaError_t status, const char* what) {
  if (status != cudaSuccess)
    throw std::runtime_error(std::string("batch_norm: ") + what + ": " + cudaGetErrorString(status));
}

/// Places in the scratch: a vector each, 256 bytes apart or more.
size_t vector_bytes(const NormDims& d) { return (static_cast<size_t>(d.c) * sizeof(float) + 255) / 256 * 256; }

}  // namespace

struct CudnnNorm::Parts {
  NormDims dims;
  CudnnType type;
  CudnnMaps maps, channels;

  Parts(const NormDims& d, CudnnType t)
      : dims(d),
        type(t),
        maps(t, d.n, d.h, d.w, d.c, "batch_norm"),
        channels(CudnnType::f32, 1, 1, 1, d.c, "batch_norm") {
    check(cudnnDeriveBNTensorDescriptor(channels, maps, mode), "describing the channels");
  }
  float* vector(void* workspace, int index) const {
    return reinterpret_cast<float*>(static_cast<char*>(workspace) + static_cast<size_t>(index) * vector_bytes(dims));
  }
  /// `values`, or a vector of `otherwise` in the scratch where there are none.
  const float* given(const float* values, float otherwise, void* workspace, int index, CudaStream stream) const {
    if (values) return values;
    float* made = vector(workspace, index);
    check(cudnnSetTensor(cudnn_handle(stream), channels, made, &otherwise), "filling a vector");
    return made;
  }
  size_t map_bytes() const {
    const size_t element = type == CudnnType::f32 ? 4 : 2;
    return static_cast<size_t>(dims.in_rows() * dims.c) * element;
  }
};

CudnnNorm::CudnnNorm(const NormDims& dims, CudnnType type) : parts_(new Parts(dims, type)) {}
CudnnNorm::~CudnnNorm() = default;

size_t CudnnNorm::forward_workspace() const { return 3 * vector_bytes(parts_->dims); }
size_t CudnnNorm::gradient_workspace() const { return vector_bytes(parts_->dims) + parts_->map_bytes(); }

void CudnnNorm::forward(const NormForward<void, float>& a, CudaStream stream) const {
  const Parts& p = *parts_;
  const float* gamma = p.given(a.gamma, 1, a.workspace, 0, stream);
  const float* beta = p.given(a.beta, 0, a.workspace, 1, stream);
  // with a factor of 1 the running values are this batch's; zeros, because the old ones are still multiplied by 0
  float* running_mean = p.vector(a.workspace, 2);
  check(cudnnSetTensor(cudnn_handle(stream), p.channels, running_mean, &zero), "filling a vector");
  check(cudnnSetTensor(cudnn_handle(stream), p.channels, a.variance, &zero), "filling a vector");
  check(cudnnBatchNormalizationForwardTraining(cudnn_handle(stream), mode, &one, &zero, p.maps, a.x, p.maps, a.y,
                                               p.channels, gamma, beta, 1.0, running_mean, a.variance, p.dims.eps,
                                               a.mean, a.rstd),
        "the forward pass");
  const auto rows = static_cast<double>(p.dims.stat_rows());
  const auto biased = static_cast<float>((rows - 1) / rows);
  check(cudnnScaleTensor(cudnn_handle(stream), p.channels, a.variance, &biased), "the biased variance");
}

void CudnnNorm::eval(const NormEval<void, float>& a, CudaStream stream) const {
  const Parts& p = *parts_;
  const float* gamma = p.given(a.gamma, 1, a.workspace, 0, stream);
  const float* beta = p.given(a.beta, 0, a.workspace, 1, stream);
  check(cudnnBatchNormalizationForwardInference(cudnn_handle(stream), mode, &one, &zero, p.maps, a.x, p.maps, a.y,
                                                p.channels, gamma, beta, a.mean, a.variance, p.dims.eps),
        "evaluation");
}

void CudnnNorm::gradient(const NormBackward<void, float>& a, CudaStream stream) const {
  const Parts& p = *parts_;
  const float* gamma = p.given(a.gamma, 1, a.workspace, 0, stream);
  // the plan may put dx where x or dy was; cuDNN reads both more than once
  const bool over = a.dx == a.x || a.dx == a.dy;
  void* dx = over ? static_cast<char*>(a.workspace) + vector_bytes(p.dims) : a.dx;
  check(cudnnBatchNormalizationBackward(cudnn_handle(stream), mode, &one, &zero, &one, &zero, p.maps, a.x, p.maps, a.dy,
                                        p.maps, dx, p.channels, gamma, a.dgamma, a.dbeta, p.dims.eps, a.mean, a.rstd),
        "the gradient");
  if (over) check(cudaMemcpyAsync(a.dx, dx, p.map_bytes(), cudaMemcpyDeviceToDevice, stream), "copying dx");
}

bool cudnn_norm_supports(const NormDims& d) {
  return d.act == Activation::none && d.pool == PoolPlace::none && d.stat_rows() > 1 && d.eps >= CUDNN_BN_MIN_EPSILON;
}

}  // namespace ranvier::kernels
