// Reverse-mode differentiation of a trace: appends the gradient's ops to the same list.
#pragma once
#include <span>
#include <vector>

#include "engine/graph.h"

namespace ranvier {

class Vjp;

/// Gradients of the scalar (or, summed, of the tensor) `y` with respect to each of `wrt`, as new values of the same
/// trace: they can be differentiated again. A `wrt` that `y` does not depend on gives zeros. Throws Error where the
/// path goes through an op that is not differentiable, naming op and line.
std::vector<Tensor> grad(Tensor y, std::span<const Tensor> wrt, Where where = Where::current());
/// The same for one tensor.
Tensor grad(Tensor y, Tensor wrt, Where where = Where::current());

/// Vector-Jacobian product: like `grad`, starting from given gradients `dy` of several results `ys`.
std::vector<Tensor> vjp(std::span<const Tensor> ys, std::span<const Tensor> dys, std::span<const Tensor> wrt,
                        Where where = Where::current());

/// The gradients of a fused op's inputs through its decomposition: for rules that are fused in the usual case only.
void vjp_through_decomposition(Vjp&);

/// Replaces a fused op by its `decompose`: the outputs in primitive ops. Throws Error where the op has none.
std::vector<Tensor> decomposed(Graph& graph, uint32_t node);

}  // namespace ranvier
