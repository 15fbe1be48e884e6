// Max and average pooling over windows of NHWC maps, with the adjoints that keep both families closed under
// differentiation.
#pragma once
#include <cstdint>

#include "kernels/common/hd.h"
#include "kernels/common/stream.h"

namespace ranvier::kernels {

/// x is (n, h, w, c), y (n, p, q, c): window r x s every `stride` positions, `pad` on each side, floor mode.
struct PoolDims {
  int64_t n = 0, h = 0, w = 0, c = 0;
  int64_t r = 2, s = 2, stride = 2, pad = 0;
  bool count_pad = false;  // averages divide by r s everywhere, instead of by the positions inside the map

  RANVIER_HD int64_t p() const { return (h + 2 * pad - r) / stride + 1; }
  RANVIER_HD int64_t q() const { return (w + 2 * pad - s) / stride + 1; }
};

/// Throws std::runtime_error with one line unless window and stride are positive, pad is at most half the window (so
/// that no window lies outside the map) and at least one window fits.
void validate(const PoolDims& dims);

// Every output element is written; sums run over windows in row order. An index must come from max_pool with the same
// dims.

namespace reference {
/// y and index = i w + j, the winner's position in its map: the first among equals, the last NaN; padding never wins.
template <class T>
void max_pool(const PoolDims& dims, const T* x, T* y, int32_t* index);
/// dx from dy and the winners' index, zero where nothing won.
template <class T>
void max_unpool(const PoolDims& dims, const T* dy, const int32_t* index, T* dx);
/// y from any x at the winners' index: the adjoint of max_unpool.
template <class T>
void pool_take(const PoolDims& dims, const T* x, const int32_t* index, T* y);
/// Mean of each window, see PoolDims::count_pad.
template <class T>
void avg_pool(const PoolDims& dims, const T* x, T* y);
/// The adjoint of avg_pool.
template <class T>
void avg_unpool(const PoolDims& dims, const T* dy, T* dx);
}  // namespace reference

namespace cpu {
void max_pool(const PoolDims& dims, const float* x, float* y, int32_t* index);
void max_unpool(const PoolDims& dims, const float* dy, const int32_t* index, float* dx);
void pool_take(const PoolDims& dims, const float* x, const int32_t* index, float* y);
void avg_pool(const PoolDims& dims, const float* x, float* y);
void avg_unpool(const PoolDims& dims, const float* dy, float* dx);
}  // namespace cpu

/// The same on a CUDA device for float, bf16 and f16; averages are summed in f32 and rounded once.
namespace cuda {
template <class T>
void max_pool(const PoolDims& dims, const T* x, T* y, int32_t* index, CudaStream stream);
template <class T>
void max_unpool(const PoolDims& dims, const T* dy, const int32_t* index, T* dx, CudaStream stream);
template <class T>
void pool_take(const PoolDims& dims, const T* x, const int32_t* index, T* y, CudaStream stream);
template <class T>
void avg_pool(const PoolDims& dims, const T* x, T* y, CudaStream stream);
template <class T>
void avg_unpool(const PoolDims& dims, const T* dy, T* dx, CudaStream stream);
/// The place in its window of each of n map positions: see window_position of the engine's catalogue.
void window_position(int64_t n, int64_t width, int64_t window, const int32_t* index, uint8_t* place, CudaStream stream);
}  // namespace cuda

}  // namespace ranvier::kernels
