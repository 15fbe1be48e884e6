// One step of each solver of the Izhikevich equation, as functors that every backend shares.
#pragma once
#include "kernels/izhikevich/model.h"

// y1 = Method{...}(field, y, length): the map over a smooth piece, no reset. Functors are branch-free and have
//   order         the order of convergence, held by tests/neuron_accuracy.cpp once resets are located,
//   evaluations   right-hand sides a step, and jacobians likewise,
//   may_fail      whether v can come out NaN from finite input because the step has no solution: then the caller takes
//                 shorter pieces (located.h), and never stores it.
// Methods of order 2 see a ramp at the middle of the step, implicit ones of order 1 at its end.

namespace ranvier::kernels::izhikevich {

/// Explicit Euler.
struct Euler {
  static constexpr int order = 1, evaluations = 1, jacobians = 0;
  static constexpr bool may_fail = false;

  template <class R, class Drive>
  RANVIER_HD_INLINE State<R> operator()(const Field<R, Drive>& f, State<R> y, const Length<R>& s) const {
    const State<R> k = f(y, R(0));
    return {fused(s.h, k.v, y.v), fused(s.h, k.u, y.u)};
  }
};

/// Euler for v, then u from the new v: the update of the published scripts as a solver.
struct SemiImplicit {
  static constexpr int order = 1, evaluations = 1, jacobians = 0;
  static constexpr bool may_fail = false;

  template <class R, class Drive>
  RANVIER_HD_INLINE State<R> operator()(const Field<R, Drive>& f, State<R> y, const Length<R>& s) const {
    const R v = fused(s.h, f.dv(y, f.drive.at(R(0))), y.v);
    return {v, fused(s.h, f.du({v, y.u}), y.u)};
  }
};

/// Explicit midpoint rule (Runge-Kutta of order 2) from a known first slope.
template <class R, class Drive>
RANVIER_HD_INLINE State<R> midpoint_from(const Field<R, Drive>& f, State<R> y, State<R> k1, const Length<R>& s) {
  const State<R> k2 = f({fused(s.half, k1.v, y.v), fused(s.half, k1.u, y.u)}, s.half);
  return {fused(s.h, k2.v, y.v), fused(s.h, k2.u, y.u)};
}

/// Explicit midpoint rule.
struct Midpoint {
  static constexpr int order = 2, evaluations = 2, jacobians = 0;
  static constexpr bool may_fail = false;

  template <class R, class Drive>
  RANVIER_HD_INLINE State<R> operator()(const Field<R, Drive>& f, State<R> y, const Length<R>& s) const {
    return midpoint_from(f, y, f(y, R(0)), s);
  }
};

/// The classical Runge-Kutta method.
struct Rk4 {
  static constexpr int order = 4, evaluations = 4, jacobians = 0;
  static constexpr bool may_fail = false;

  template <class R, class Drive>
  RANVIER_HD_INLINE State<R> operator()(const Field<R, Drive>& f, State<R> y, const Length<R>& s) const {
    const State<R> k1 = f(y, R(0));
    const State<R> k2 = f({fused(s.half, k1.v, y.v), fused(s.half, k1.u, y.u)}, s.half);
    const State<R> k3 = f({fused(s.half, k2.v, y.v), fused(s.half, k2.u, y.u)}, s.half);
    const State<R> k4 = f({fused(s.h, k3.v, y.v), fused(s.h, k3.u, y.u)}, s.h);
    const R two = constant<R>(2);
    return {fused(s.sixth, fused(two, k2.v + k3.v, k1.v) + k4.v, y.v),
            fused(s.sixth, fused(two, k2.u + k3.u, k1.u) + k4.u, y.u)};
  }
};

/// Adams-Bashforth of order 2 from the slopes at this step's start and at the one before, a step of the same length
/// earlier. Who keeps them restarts with Midpoint after a reset, an edge of the stimulus or a change of length.
template <class R>
RANVIER_HD_INLINE State<R> adams_bashforth(State<R> y, State<R> now, State<R> before, const Length<R>& s) {
  const R x = constant<R>(1.5), minus_half = constant<R>(-0.5);
  return {fused(s.h, fused(x, now.v, product(minus_half, before.v)), y.v),
          fused(s.h, fused(x, now.u, product(minus_half, before.u)), y.u)};
}

/// Backward Euler by the closed-form root of its quadratic in v1. The root is the one that tends to v as h -> 0; a step
/// without a real root gives NaN.
struct BackwardEuler {
  static constexpr int order = 1, evaluations = 1, jacobians = 0;
  static constexpr bool may_fail = true;

  template <class R, class Drive>
  RANVIER_HD_INLINE State<R> operator()(const Field<R, Drive>& f, State<R> y, const Length<R>& s) const {
    const R one = R(1), zero = R(0), two = constant<R>(2);
    const R inverse = quotient(one, fused(s.h, f.k.ae, one)), hw = product(s.h, f.k.w);
    // A v1^2 - B v1 + D = 0 after u1 = (u + h (ab v1 - abv)) / (1 + h ae) is put in
    const R a = product(s.h, f.k.p2);
    const R b = fused(product(hw, inverse), product(s.h, f.k.ab), fused(-s.h, f.k.p1, one));
    const R kept = fused(-s.h, f.k.abv, y.u);
    const R d = fused(-product(hw, inverse), kept, fused(s.h, f.drive.at(s.h), y.v));
    const R square = root(fused(b, b, product(constant<R>(-4), product(a, d))));
    const auto stable = b >= zero;  // which writing of (B - sqrt) / (2 A) subtracts nothing
    const R v = quotient(select(stable, product(two, d), b - square), select(stable, b + square, product(two, a)));
    return {v, product(inverse, fused(product(s.h, f.k.ab), v, kept))};
  }
};

/// (I - h J)^-1 x with J at v, and the determinant: positive as long as h is below the pole of the resolvent.
template <class R, class Drive>
RANVIER_HD_INLINE R resolvent(const Field<R, Drive>& f, R v, State<R> x, R h, State<R>& solution) {
  const R one = R(1), left = fused(-h, f.dv_dv(v), one), right = fused(h, f.k.ae, one);
  const R hw = product(h, f.k.w), hab = product(h, f.k.ab);
  const R determinant = fused(left, right, product(hw, hab)), inverse = quotient(one, determinant);
  solution.v = product(inverse, fused(right, x.v, product(-hw, x.u)));
  solution.u = product(inverse, fused(left, x.u, product(hab, x.v)));
  return determinant;
}

/// Linearly implicit Euler, y1 = y + h (I - h J)^-1 f(y). Beyond the pole of the resolvent (h J at least 1, late in an
/// upstroke) it would turn back, which is no step: NaN.
struct LinearImplicit {
  static constexpr int order = 1, evaluations = 1, jacobians = 1;
  static constexpr bool may_fail = true;

  template <class R, class Drive>
  RANVIER_HD_INLINE State<R> operator()(const Field<R, Drive>& f, State<R> y, const Length<R>& s) const {
    State<R> k;
    const R determinant = resolvent(f, y.v, f(y, s.h), s.h, k);
    const R v = select(determinant > R(0), fused(s.h, k.v, y.v), constant<R>(__builtin_nan("")));
    return {v, fused(s.h, k.u, y.u)};
  }
};

/// phi_1(Z) = (e^Z - 1) / Z = p0 I + p1 Z of a 2x2 matrix.
template <class R>
struct Phi {
  R p0, p1;
};

/// phi_1 from trace and determinant of Z: Taylor series at Z / 2^doublings by Horner, with Z^2 = trace Z - determinant,
/// then phi_1(2Z) = phi_1(Z) (e^Z + I) / 2. No exponential, and real, equal and complex eigenvalues and a singular Z
/// alike. Degree 10 (f32) and 16 (f64) need |Z| / 2^doublings <= 1 (`doublings_for`): a doubling costs as much as five
/// degrees.
template <class R>
RANVIER_HD_INLINE Phi<R> phi_1(R trace, R determinant, int doublings) {
  constexpr int degree = sizeof(Element<R>) == 4 ? 10 : 16;
  const R half = constant<R>(0.5), two = constant<R>(2), quarter = constant<R>(0.25), four = constant<R>(4);
  for (int i = 0; i < doublings; ++i) trace = product(trace, half), determinant = product(determinant, quarter);
  constexpr double series[] = {1.0,
                               1.0 / 2,
                               1.0 / 6,
                               1.0 / 24,
                               1.0 / 120,
                               1.0 / 720,
                               1.0 / 5040,
                               1.0 / 40320,
                               1.0 / 362880,
                               1.0 / 3628800,
                               1.0 / 39916800,
                               1.0 / 479001600,
                               1.0 / 6227020800,
                               1.0 / 87178291200,
                               1.0 / 1307674368000,
                               1.0 / 20922789888000,
                               1.0 / 355687428096000};  // 1 / (k + 1)!
  Phi<R> p{constant<R>(series[degree]), R(0)};
#if defined(__CUDACC__)
#pragma unroll
#else
#pragma GCC unroll 16
#endif
  for (int k = degree - 1; k >= 0; --k)
    p = {fused(-determinant, p.p1, constant<R>(series[k])), fused(trace, p.p1, p.p0)};
  for (int i = 0; i < doublings; ++i) {
    const R e0 = fused(-determinant, p.p1, two), e1 = fused(trace, p.p1, p.p0);  // e^Z + I
    const R cross = product(p.p1, e1);
    const R p0 = fused(p.p0, e0, -product(determinant, cross));
    const R p1 = fused(p.p0, e1, fused(p.p1, e0, product(trace, cross)));
    p = {product(half, p0), product(quarter, p1)};  // a quarter: half of it because p1 now multiplies 2 Z
    trace = product(trace, two), determinant = product(determinant, four);
  }
  return p;
}

/// Doublings that phi_1 needs for steps of length h from -120 mV to the peak: the same for every step of a run, so
/// that no lane waits. Host.
int doublings_for(const Parameters& p, double h);

/// Exponential Rosenbrock-Euler, y1 = y + h phi_1(h J) f(y), with the true phi_1 of the 2x2 Jacobian.
struct Exponential {
  static constexpr int order = 2, evaluations = 1, jacobians = 1;
  static constexpr bool may_fail = false;
  int doublings = 3;

  template <class R, class Drive>
  RANVIER_HD_INLINE State<R> operator()(const Field<R, Drive>& f, State<R> y, const Length<R>& s) const {
    const State<R> k = f(y, s.half);
    const R j = f.dv_dv(y.v), hh = product(s.h, s.h);
    const R trace = product(s.h, j - f.k.ae);
    const R determinant = product(hh, fused(f.k.w, f.k.ab, -product(j, f.k.ae)));
    const Phi<R> phi = phi_1(trace, determinant, doublings);
    const R hp = product(s.h, phi.p1);  // y1 = y + h (p0 f + p1 h J f)
    const State<R> jf{fused(j, k.v, -product(f.k.w, k.u)), fused(f.k.ab, k.v, -product(f.k.ae, k.u))};
    return {fused(s.h, fused(hp, jf.v, product(phi.p0, k.v)), y.v),
            fused(s.h, fused(hp, jf.u, product(phi.p0, k.u)), y.u)};
  }
};

}  // namespace ranvier::kernels::izhikevich
