// Image augmentation on batches: mirror, shift, cutout and normalisation, with the adjoints that gradients need.
#pragma once
#include <cstdint>

#include "kernels/common/hd.h"
#include "kernels/common/stream.h"

namespace ranvier::kernels {

/// A batch of images, channels last: (n, h, w, c).
struct ImageDims {
  int64_t n, h, w, c;
};

/// What a shifted image shows beyond its border.
enum class Border {
  zero,     ///< 0
  reflect,  ///< the mirror image without repeating the edge: -1 shows 1, h shows h - 2; any distance folds back
};

// T is uint8_t, float or double for the forward functions, float or double for the adjoints. x and y do not overlap.
// Which images are mirrored, and by how much they shift, comes from arrays, so the random draws stay ops of their own.
// reference:: and cpu:: give the same bits: the forward functions move values or divide, and the one sum, in the
// adjoint of a reflecting shift, runs in ascending order of the output position.

namespace reference {

/// y(n, h, w, c) = x mirrored left-right where flags[n] is not 0. Its own adjoint.
template <class T>
void flip(const ImageDims& d, const T* x, const uint8_t* flags, T* y);

/// y(n, i, j, c) = x(n, i + dy, j + dx, c) with (dy, dx) = offsets (n, 2): the crop at (pad + dy, pad + dx) of the
/// image padded by `pad` on every side, for any pad >= |dy|, |dx|.
template <class T>
void translate(const ImageDims& d, const T* x, const int32_t* offsets, Border border, T* y);

/// dx = adjoint of `translate` at dy (n, h, w, c); positions that no output shows get 0.
template <class T>
void translate_adjoint(const ImageDims& d, const T* dy, const int32_t* offsets, Border border, T* dx);

/// y = x with zeros in the square of rows cy - size / 2 ... cy - size / 2 + size - 1 and likewise columns, clipped at
/// the border; (cy, cx) = centres (n, 2). Its own adjoint. DeVries and Taylor, arXiv 1708.04552.
template <class T>
void cutout(const ImageDims& d, const T* x, const int32_t* centres, int64_t size, T* y);

/// y(n, h, w, c) = (x / 255 - mean[c]) / deviation[c]. T: float or double.
template <class T>
void normalize(const ImageDims& d, const uint8_t* x, const T* mean, const T* deviation, T* y);

}  // namespace reference

namespace cpu {

/// As reference::flip, threads over images. T: uint8_t, float.
template <class T>
void flip(const ImageDims& d, const T* x, const uint8_t* flags, T* y);
/// As reference::translate: whole rows copied, only border columns one by one. T: uint8_t, float.
template <class T>
void translate(const ImageDims& d, const T* x, const int32_t* offsets, Border border, T* y);
/// As reference::translate_adjoint.
void translate_adjoint(const ImageDims& d, const float* dy, const int32_t* offsets, Border border, float* dx);
/// As reference::cutout. T: uint8_t, float.
template <class T>
void cutout(const ImageDims& d, const T* x, const int32_t* centres, int64_t size, T* y);
/// As reference::normalize, vectorised for up to 64 channels.
void normalize(const ImageDims& d, const uint8_t* x, const float* mean, const float* deviation, float* y);

}  // namespace cpu

/// Channels that the CUDA normalize takes at most.
inline constexpr int64_t most_normalized_channels = 8;

// The same bits as above, on a CUDA device, also for bf16 and f16 (sums and quotients in f32, rounded once). Images
// start at multiples of 16 bytes.
namespace cuda {

/// T: uint8_t, float, double, bf16, f16.
template <class T>
void flip(const ImageDims& d, const T* x, const uint8_t* flags, T* y, CudaStream stream);
template <class T>
void translate(const ImageDims& d, const T* x, const int32_t* offsets, Border border, T* y, CudaStream stream);
template <class T>
void cutout(const ImageDims& d, const T* x, const int32_t* centres, int64_t size, T* y, CudaStream stream);
/// T: float, double, bf16, f16.
template <class T>
void translate_adjoint(const ImageDims& d, const T* dy, const int32_t* offsets, Border border, T* dx,
                       CudaStream stream);
/// `mean` and `deviation` lie on the host: they are constants of the launch. T: float, double, bf16, f16.
template <class T>
void normalize(const ImageDims& d, const uint8_t* x, const double* mean, const double* deviation, T* y,
               CudaStream stream);
/// y[i] = (flags[i] != 0) xor (*count odd).
void toggle(int64_t n, const uint8_t* flags, const int64_t* count, uint8_t* y, CudaStream stream);

}  // namespace cuda

/// a / b rounded to nearest, from `inverse` = 1 / b rounded: three instructions instead of a division's twenty
/// (Markstein, IBM Journal of Research and Development 34, 1990). Neither a (unless it is 0), b nor their quotient may
/// lie near the ends of the exponents.
template <class C>
RANVIER_HD_INLINE C quotient_by(C a, C b, C inverse) {
  const C q = product(a, inverse);
  return fused(fused(-q, b, a), inverse, q);
}

/// Row or column that a reflecting border shows at position i of 0 ... size - 1 continued both ways (period 2 size -
/// 2).
RANVIER_HD inline int64_t reflect_index(int64_t i, int64_t size) {
  if (size == 1) return 0;
  const int64_t period = 2 * (size - 1);
  i %= period;
  if (i < 0) i += period;
  return i < size ? i : period - i;
}

}  // namespace ranvier::kernels
