// The ops that the planner itself must know: leaves, assignments, copies and views.
#pragma once
#include "engine/op.h"
#include "kernels/common/philox.h"

namespace ranvier::core {

/// Attributes of leaves and assignments.
struct Leaf {
  Type type;
  double value = 0;  ///< of full
  uint64_t id = 0;   ///< state entry of read and assign; hash of the name of input
};

struct CastAttrs {
  DType to;
};

extern const OpDef input_op, read_op, constant_op, full_op, assign_op, copy_op, reshape_op, stop_gradient_op, cast_op;

}  // namespace ranvier::core
