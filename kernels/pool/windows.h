// Which map positions a pooling window covers, and which windows cover a position.
#pragma once
#include <algorithm>

#include "kernels/pool/pool.h"

namespace ranvier::kernels {

/// Half-open range.
struct Span1 {
  int64_t first, last;
};

/// Positions inside a map of `extent` that window `out` covers along one axis.
inline Span1 covered(int64_t out, int64_t stride, int64_t pad, int64_t window, int64_t extent) {
  const int64_t at = out * stride - pad;
  return {std::max<int64_t>(at, 0), std::min(at + window, extent)};
}

/// Windows, of `outs`, that cover position `at` along one axis.
inline Span1 covering(int64_t at, int64_t stride, int64_t pad, int64_t window, int64_t outs) {
  const int64_t reach = at + pad - window;  // the last position left of every covering window's start
  const int64_t first = reach < 0 ? 0 : reach / stride + 1;
  return {first, std::min((at + pad) / stride + 1, outs)};
}

/// 1 / (positions an average divides by).
template <class T>
T average_weight(const PoolDims& d, Span1 rows, Span1 columns) {
  return T(1) / static_cast<T>(d.count_pad ? d.r * d.s : (rows.last - rows.first) * (columns.last - columns.first));
}

}  // namespace ranvier::kernels
