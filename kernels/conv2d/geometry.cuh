// Index maps of the tiled convolution kernels: which pixels a tap joins, in 32-bit arithmetic.
#pragma once
#include "kernels/common/hd.h"
#include "kernels/conv2d/conv2d.h"

namespace ranvier::kernels::conv {

/// Conv2dDims for kernels; `cuda_supports` holds them below what 32-bit indices of pixels and chunks reach.
struct Geometry {
  int n, h, w, c, k, r, s, stride_h, stride_w, pad_h, pad_w, p, q;
};

inline Geometry geometry_of(const Conv2dDims& d) {
  const auto i = [](int64_t v) { return static_cast<int>(v); };
  return {i(d.n),        i(d.h),        i(d.w),     i(d.c),     i(d.k),   i(d.r),  i(d.s),
          i(d.stride_h), i(d.stride_w), i(d.pad_h), i(d.pad_w), i(d.p()), i(d.q())};
}

/// One axis of a pass that reads one pixel of its source a tap. Row `at` of the result reads source row
/// at * scale + origin + sign * tap, and lies at at * out_stride + out_first; tap t uses filter row first + t * step.
/// The forward pass has one such axis. The gradient of a strided convolution has one for every remainder of the row by
/// the stride: a class of rows that are reached by the same taps, r = first, first + stride, ..., so that within it the
/// gradient is a convolution of stride 1.
struct Axis {
  int count, scale, origin, sign, taps, first, step, out_stride, out_first;

  RANVIER_HD_INLINE int source(int at) const { return at * scale + origin; }
};

template <ConvPass pass>
RANVIER_HD_INLINE Axis axis_of(int in, int out, int filter, int stride, int pad, int remainder) {
  if (pass == ConvPass::forward) return {out, stride, -pad, 1, filter, 0, 1, 1, 0};
  const int first = (remainder + pad) % stride;
  const int taps = first < filter ? (filter - first + stride - 1) / stride : 0;
  const int count = remainder < in ? (in - remainder + stride - 1) / stride : 0;
  return {count, 1, (remainder + pad - first) / stride, -1, taps, first, stride, stride, remainder};
}

/// A range of taps.
struct Taps {
  int begin, end;
};

/// The taps that join row `at` with a row inside the source.
RANVIER_HD_INLINE Taps taps_inside(const Axis& axis, int at, int source_rows) {
  const int o = axis.source(at);
  int begin = axis.sign > 0 ? -o : o - source_rows + 1, end = axis.sign > 0 ? source_rows - o : o + 1;
  begin = begin > 0 ? (begin < axis.taps ? begin : axis.taps) : 0;
  end = end < axis.taps ? end : axis.taps;
  return {begin, end > begin ? end : begin};
}

}  // namespace ranvier::kernels::conv
