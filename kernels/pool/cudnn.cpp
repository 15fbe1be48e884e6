// Average pooling by cuDNN's classic interface.
#include "kernels/pool/cudnn.h"

#include "kernels/common/cudnn.h"

namespace ranvier::kernels {
namespace {

constexpr float one = 1, zero = 0;

void check(cudnnStatus_t status, const char* what) { check_cudnn(status, "avg_pool", what); }

/// cuDNN's description of the windows.
class Windows {
 public:
  explicit Windows(const PoolDims& d) {
    check(cudnnCreatePoolingDescriptor(&raw_), "describing windows");
    const auto extent = [](int64_t e) { return cudnn_extent(e, "avg_pool"); };
    const cudnnPoolingMode_t mode =
        d.count_pad ? CUDNN_POOLING_AVERAGE_COUNT_INCLUDE_PADDING : CUDNN_POOLING_AVERAGE_COUNT_EXCLUDE_PADDING;
    const cudnnStatus_t status =
        cudnnSetPooling2dDescriptor(raw_, mode, CUDNN_PROPAGATE_NAN, extent(d.r), extent(d.s), extent(d.pad),
                                    extent(d.pad), extent(d.stride), extent(d.stride));
    if (status != CUDNN_STATUS_SUCCESS) cudnnDestroyPoolingDescriptor(raw_);
    check(status, "describing windows");
  }
  ~Windows() { cudnnDestroyPoolingDescriptor(raw_); }
  Windows(const Windows&) = delete;
  Windows& operator=(const Windows&) = delete;
  operator cudnnPoolingDescriptor_t() const { return raw_; }

 private:
  cudnnPoolingDescriptor_t raw_ = nullptr;
};

}  // namespace

struct CudnnAverage::Parts {
  Windows windows;
  CudnnMaps maps, pooled;
};

CudnnAverage::CudnnAverage(const PoolDims& d, CudnnType type)
    : parts_(new Parts{Windows(d), CudnnMaps(type, d.n, d.h, d.w, d.c, "avg_pool"),
                       CudnnMaps(type, d.n, d.p(), d.q(), d.c, "avg_pool")}) {}
CudnnAverage::~CudnnAverage() = default;

void CudnnAverage::pool(const void* x, void* y, CudaStream stream) const {
  const Parts& p = *parts_;
  check(cudnnPoolingForward(cudnn_handle(stream), p.windows, &one, p.maps, x, &zero, p.pooled, y), "averaging");
}

void CudnnAverage::unpool(const void* dy, void* dx, CudaStream stream) const {
  const Parts& p = *parts_;
  // y and x have no part in the adjoint of an average, but cuDNN wants pointers: dy and dx stand for them
  check(cudnnPoolingBackward(cudnn_handle(stream), p.windows, &one, p.pooled, dy, p.pooled, dy, p.maps, dx, &zero,
                             p.maps, dx),
        "the adjoint");
}

}  // namespace ranvier::kernels
