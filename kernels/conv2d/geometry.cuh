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

/// The order in which positional tiles take the pixels of a map: those with the most taps first, so that the last
/// blocks of a launch are short ones. `rows` and `columns` are the ranges of such rows and columns.
struct PixelOrder {
  Taps rows = {0, 0}, columns = {0, 0};
  bool pixels_outside = false;  ///< all images of one pixel before the next pixel

  /// Entry `at` of 0 ... count - 1 with `first` moved to the front.
  RANVIER_HD_INLINE static int moved(const Taps& first, int at) {
    const int inside = first.end - first.begin;
    if (at < inside) return first.begin + at;
    return at - inside < first.begin ? at - inside : at;
  }
  /// Pixel number `at` of the order.
  RANVIER_HD_INLINE int pixel(int at, int width) const {
    const int tall = rows.end - rows.begin, wide = columns.end - columns.begin, sides = width - wide;
    int i, j;
    if (at < tall * wide) {
      i = at / wide, j = at % wide;
    } else if (at < tall * width) {
      at -= tall * wide;
      i = at / sides, j = wide + at % sides;
    } else {
      i = at / width, j = at % width;
    }
    return moved(rows, i) * width + moved(columns, j);
  }
};

/// The rows of `count` that have the most taps, all of them where those are not neighbours.
template <ConvPass pass>
Taps busiest(int in, int out, int filter, int stride, int pad) {
  const bool forward = pass == ConvPass::forward;
  const int count = forward ? out : in;
  const auto taps = [&](int row) {
    const Axis axis = axis_of<pass>(in, out, filter, stride, pad, forward ? 0 : row % stride);
    const Taps inside = taps_inside(axis, forward ? row : row / stride, forward ? in : out);
    return inside.end - inside.begin;
  };
  int most = 0;
  for (int row = 0; row < count; ++row) most = taps(row) > most ? taps(row) : most;
  int begin = 0, end = count;
  while (begin < end && taps(begin) < most) ++begin;
  while (end > begin && taps(end - 1) < most) --end;
  for (int row = begin; row < end; ++row)
    if (taps(row) < most) return {0, count};
  return {begin, end};
}

}  // namespace ranvier::kernels::conv
