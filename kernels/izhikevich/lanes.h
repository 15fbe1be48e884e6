// What the Izhikevich arithmetic asks of a number type, and the scalar answers.
#pragma once
#include "kernels/common/hd.h"
#include "kernels/common/math.h"

// Every function of this folder is a template on a real type R: float or double, or a vector of them whose lanes are
// neurons (pack.h; on the GPU a thread is a lane and R is scalar). A vector type brings
//   - a constructor from its Element, the operators + - * (and unary -), comparisons that give its Mask,
//   - found by argument-dependent lookup: fused, product, quotient, root (kernels/common/hd.h), select(mask, a, b), and
//     any(mask), whether it holds in some lane,
//   - a specialisation of Lanes.
// Step functors have no branch that depends on values, so one source serves both and lane i has the scalar's bits.

namespace ranvier::kernels::izhikevich {

/// Element and mask of a real type.
template <class R>
struct Lanes {
  using Element = R;
  using Mask = bool;
};

template <class R>
using Element = typename Lanes<R>::Element;

/// A constant in every lane, rounded once to the element type.
template <class R>
RANVIER_HD_INLINE R constant(double value) {
  return R(static_cast<Element<R>>(value));
}

/// a where the mask holds, else b; both are evaluated.
template <class T>
RANVIER_HD_INLINE T select(bool mask, T a, T b) {
  return mask ? a : b;
}

RANVIER_HD_INLINE bool any(bool mask) { return mask; }

/// True of a NaN, whatever the compiler assumes about them.
template <class T>
RANVIER_HD_INLINE bool is_nan(T x) {
  return !(x == x);
}

}  // namespace ranvier::kernels::izhikevich
