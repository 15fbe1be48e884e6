// Which map positions a pooling window covers, and which windows cover a position.
#pragma once
#include "kernels/common/hd.h"
#include "kernels/pool/pool.h"

namespace ranvier::kernels {

/// Half-open range.
struct Span1 {
  int64_t first, last;
};

/// Positions inside a map of `extent` that window `out` covers along one axis.
RANVIER_HD_INLINE Span1 covered(int64_t out, int64_t stride, int64_t pad, int64_t window, int64_t extent) {
  const int64_t at = out * stride - pad, end = at + window;
  return {at < 0 ? 0 : at, end < extent ? end : extent};
}

/// a / b for a >= 0 and b > 0, by 32-bit division where both fit: a device divides 64-bit numbers slowly.
RANVIER_HD_INLINE int64_t fast_quotient(int64_t a, int64_t b) {
  return (a | b) >> 32 == 0 ? int64_t{static_cast<uint32_t>(a) / static_cast<uint32_t>(b)} : a / b;
}

/// Windows, of `outs`, that cover position `at` along one axis.
RANVIER_HD_INLINE Span1 covering(int64_t at, int64_t stride, int64_t pad, int64_t window, int64_t outs) {
  const int64_t reach = at + pad - window;  // the last position left of every covering window's start
  const int64_t first = reach < 0 ? 0 : fast_quotient(reach, stride) + 1;
  const int64_t last = fast_quotient(at + pad, stride) + 1;
  return {first, last < outs ? last : outs};
}

/// 1 / (positions an average divides by).
template <class T>
RANVIER_HD_INLINE T average_weight(const PoolDims& d, Span1 rows, Span1 columns) {
  return T(1) / static_cast<T>(d.count_pad ? d.r * d.s : (rows.last - rows.first) * (columns.last - columns.first));
}

}  // namespace ranvier::kernels
