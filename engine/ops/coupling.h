// What the ops over pairs of units share: checks of their operands, and the dense form of the law.
#pragma once
#include "engine/ops.h"

namespace ranvier::pairs {

constexpr int64_t most_dense = 4096;  // units up to which an n x n matrix is made: 128 MB in f64

/// Throws Error where positions are not (units, 1 to 3 axes) of f32 or f64, or the law cannot be.
void check_positions(const Type& positions, const CouplingLaw& law);
/// The same for x (batch, n) and positions (n, axes) of one type; beside 16-bit values positions are f32.
void check(const Type& x, const Type& positions, const CouplingLaw& law);

/// The law over all pairs, in pieces that the ops need.
struct Dense {
  Tensor difference;  // (axes, n, n): p_i - p_j
  Tensor kappa;       // (n, n), zero diagonal
  Tensor slope;       // (n, n): f = 2 kappa'(t) / kappa
};
/// Refused above `most_dense` units.
Dense dense(Tensor positions, const CouplingLaw& law);

/// The identity matrix.
Tensor identity(Graph& graph, int64_t n, DType dtype);

}  // namespace ranvier::pairs
