// Two-dimensional convolution (cross-correlation): its dimensions, passes and variants.
#pragma once
#include <cstddef>
#include <cstdint>
#include <memory>

#include "kernels/common/half.h"
#include "kernels/common/stream.h"

namespace ranvier::kernels {

/// x (n, h, w, c), filter (k, r, s, c), y (n, p, q, k), all row-major and contiguous; no groups, no dilation.
/// y[n,p,q,k] = sum over r, s, c of x[n, p*stride_h + r - pad_h, q*stride_w + s - pad_w, c] * filter[k,r,s,c], where x
/// is zero outside the image. The last `drop_h` rows and `drop_w` columns that y would have are not part of it: work
/// that a pool without the room for another window would throw away.
struct Conv2dDims {
  int64_t n, h, w, c, k, r, s;
  int64_t stride_h = 1, stride_w = 1, pad_h = 0, pad_w = 0, drop_h = 0, drop_w = 0;
  int64_t p() const { return (h + 2 * pad_h - r) / stride_h + 1 - drop_h; }
  int64_t q() const { return (w + 2 * pad_w - s) / stride_w + 1 - drop_w; }
  int64_t x_size() const { return n * h * w * c; }
  int64_t filter_size() const { return k * r * s * c; }
  int64_t y_size() const { return n * p() * q() * k; }
  /// Multiplications and additions of one pass, taps on padding counted.
  double flops() const { return 2.0 * static_cast<double>(y_size()) * static_cast<double>(r * s * c); }
};

/// forward (x, filter) -> y;  dgrad (dy, filter) -> dx;  wgrad (x, dy) -> dfilter. Operands in this order as a, b, out.
enum class ConvPass { forward, dgrad, wgrad };

/// Throws std::runtime_error naming the dimensions when they make no sense: a size below 1 (n may be 0), a negative
/// padding, a filter larger than the padded image, or nothing left of y. Every other function here expects checked
/// dimensions.
void conv2d_check(const Conv2dDims& dims);

/// Plain loops; T is float or double, and sums are of type T. The oracle of the other variants.
template <class T>
void conv2d_reference(const Conv2dDims& dims, ConvPass pass, const T* a, const T* b, T* out);

/// Our direct convolution: an implicit matrix product out of zero-padded strips of the image, any shape, exact (only
/// the order of additions differs from the reference). T is float or double. Workspace in bytes; bit-equal results for
/// any number of threads.
template <class T>
size_t conv2d_native_workspace(const Conv2dDims& dims, ConvPass pass);
template <class T>
void conv2d_native(const Conv2dDims& dims, ConvPass pass, const T* a, const T* b, T* out, void* workspace);

/// Winograd F(4x4, 3x3) for 3x3 filters of stride 1 and padding at most 2, f32 (Lavin and Gray, arXiv 1509.09308), with
/// the interpolation points 0, +-5/8, +-3/2, infinity. Not exact: rms error about 1e-6 of the rms of the result (wgrad
/// 2e-6), largest about 1e-5. `pays` says, by shape alone, where it beats the direct variants. Bit-equal results for
/// any number of threads.
bool conv2d_winograd_supports(const Conv2dDims& dims, ConvPass pass);
bool conv2d_winograd_pays(const Conv2dDims& dims, ConvPass pass);
size_t conv2d_winograd_workspace(const Conv2dDims& dims, ConvPass pass);
void conv2d_winograd(const Conv2dDims& dims, ConvPass pass, const float* a, const float* b, float* out,
                     void* workspace);

#if defined(RANVIER_HAS_ONEDNN)
/// oneDNN's direct convolution on our layouts, f32. The batch is cut in shards fixed by the shape, each run on
/// primitives made for one thread, so results are bit-equal for any number of threads. `prepare` builds the primitives
/// once and throws std::runtime_error when oneDNN has none; the object is read-only afterwards. Not supported: dropped
/// rows or columns beyond those that read padding.
struct Conv2dOnednn;
bool conv2d_onednn_supports(const Conv2dDims& dims);
std::shared_ptr<Conv2dOnednn> conv2d_onednn_prepare(const Conv2dDims& dims, ConvPass pass);
size_t conv2d_onednn_workspace(const Conv2dOnednn& prepared);
void conv2d_onednn(const Conv2dOnednn& prepared, const float* a, const float* b, float* out, void* workspace);
#endif

#if defined(RANVIER_HAS_CUDA)
/// The handwritten CUDA kernels, all implicit matrix products (no im2col in memory). T is float, bf16 or f16; 16-bit
/// types run on tensor cores with f32 sums over the whole reduction, rounded once.
enum class ConvKernel {
  best,          ///< the fastest for the shape; exact on f32 (fma on CUDA cores)
  gather,        ///< rows of a tile are consecutive pixels: any shape
  positional,    ///< 16-bit: rows of a tile are one pixel of many images, and taps on padding are left out
  few_channels,  ///< forward and wgrad of 1 to 4 input channels, on CUDA cores
  tf32           ///< f32 operands rounded to tf32 (11 significant bits), on tensor cores: not exact
};
/// `element` is the size of T in bytes. Workspace in bytes. Sums are split by shape only and added in a fixed order.
bool conv2d_cuda_supports(const Conv2dDims& dims, ConvPass pass, size_t element, ConvKernel kernel);
size_t conv2d_cuda_workspace(const Conv2dDims& dims, ConvPass pass, size_t element, ConvKernel kernel);
/// Multiplications and additions of one run, padded rows and columns of tiles included and left-out taps not.
double conv2d_cuda_flops(const Conv2dDims& dims, ConvPass pass, size_t element, ConvKernel kernel);
template <class T>
void conv2d_cuda(const Conv2dDims& dims, ConvPass pass, ConvKernel kernel, const T* a, const T* b, T* out,
                 void* workspace, CudaStream stream);
#endif

}  // namespace ranvier::kernels
