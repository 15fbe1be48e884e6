// The two printed Izhikevich schemes, expression by expression, without fused multiply-adds.
#pragma once
#include "kernels/izhikevich/model.h"

// They are not approximations of the differential equation to a stated order but what the papers' scripts compute: with
// smaller steps nine of the twenty patterns of 2004 change. Products go through `product`, so that nvcc fuses nothing.

namespace ranvier::kernels::izhikevich {

/// Coefficients as the scripts have them (C = 1).
template <class R>
struct Printed {
  R q2, q1, q0, a, b, v_b, e;
};

template <class R>
Printed<R> printed(const Parameters& p) {
  return {constant<R>(p.q2), constant<R>(p.q1),  constant<R>(p.q0), constant<R>(p.a),
          constant<R>(p.b),  constant<R>(p.v_b), constant<R>(p.e)};
}

/// 0.04*V^2 + 5*V + 140 - u + I
template <class R>
RANVIER_HD_INLINE R printed_slope(const Printed<R>& k, State<R> y, R current) {
  return product(k.q2, product(y.v, y.v)) + product(k.q1, y.v) + k.q0 - y.u + current;
}

/// b*V - u, or b*(V + 65) where e = 0: the same bits as either, since v_b or e is 0.
template <class R>
RANVIER_HD_INLINE R printed_recovery(const Printed<R>& k, State<R> y) {
  return product(k.b, y.v - k.v_b) - product(k.e, y.u);
}

/// The script of the pattern figure (Izhikevich, "Which model to use for cortical spiking neurons?", IEEE Trans. Neural
/// Networks 15, 2004): one Euler step of v, u from the new v, reset in the same step where v > 30. `fired` tells where.
/// `above` receives v before the reset.
template <class R>
RANVIER_HD_INLINE State<R> published_2004(const Printed<R>& k, const Reset<R>& reset, State<R> y, R current, R h,
                                          typename Lanes<R>::Mask& fired, R& above) {
  y.v = y.v + product(h, printed_slope(k, y, current));
  y.u = y.u + product(product(h, k.a), printed_recovery(k, y));
  fired = y.v > reset.v_peak;
  above = y.v;
  return {select(fired, reset.c, y.v), select(fired, y.u + reset.d, y.u)};
}

/// net.m and spnet (Izhikevich 2003 and 2006): first the reset where v >= 30, then two half steps of v, then u. Between
/// the two parts a network adds its synaptic input, so they are two functions.
template <class R>
RANVIER_HD_INLINE State<R> published_2003_reset(const Reset<R>& reset, State<R> y, typename Lanes<R>::Mask& fired) {
  fired = y.v >= reset.v_peak;
  return {select(fired, reset.c, y.v), select(fired, y.u + reset.d, y.u)};
}
/// The second part: v twice by half a step, then u.
template <class R>
RANVIER_HD_INLINE State<R> published_2003_update(const Printed<R>& k, State<R> y, R current, R h) {
  const R half = product(constant<R>(0.5), h);
  y.v = y.v + product(half, printed_slope(k, y, current));
  y.v = y.v + product(half, printed_slope(k, y, current));
  y.u = y.u + product(product(h, k.a), printed_recovery(k, y));
  return y;
}

}  // namespace ranvier::kernels::izhikevich
