// A batch of small quasi-Newton searches as one op: what solves many resetting neurons in one program.
#pragma once
#include "engine/ops.h"

namespace ranvier {

/// Sizes and limits of a batch of fits; kernels/segment_fit/segment_fit.h says what is fitted and names the columns.
struct SegmentFit {
  int64_t hidden, points, launch_iterations, iterations, patience;
  double stall_share;

  int64_t unknowns() const { return 4 * hidden + 3; }
  int64_t memory() const;
};

struct SegmentFitResult {
  Tensor unknowns, memory, info;
};

/// Up to `launch_iterations` more iterations for every segment, all f64: s (batch, points), description (batch, 16),
/// unknowns (batch, unknowns), memory (batch, memory), info (batch, 8).
SegmentFitResult segment_fit(Tensor s, Tensor description, Tensor unknowns, Tensor memory, Tensor info,
                             const SegmentFit&, Where = Where::current());

}  // namespace ranvier
