// The Izhikevich neuron: parameters, the right-hand side with the current folded in, and the reset.
#pragma once
#include "kernels/izhikevich/lanes.h"

// C v' = q2 v^2 + q1 v + q0 - u + I,   u' = a (b (v - v_b) - e u),   v >= v_peak: v <- c, u <- u + d.
// v in mV, t in ms. The form of 2003 (Izhikevich, IEEE Trans. Neural Networks 14, 2003) is C = 1, q = (0.04, 5, 140),
// v_b = 0, v_peak = 30; that of 2007 (Dynamical Systems in Neuroscience, MIT Press, section 8.1.4),
// C v' = k (v - v_r)(v - v_t) - u + I, is q = (k, -k (v_r + v_t), k v_r v_t), v_b = v_r, with C in pF, u and I in pA.
// e is 1, and 0 in the accommodation pattern of Izhikevich 2004.

namespace ranvier::kernels::izhikevich {

/// Coefficients of one neuron, in f64 on the host.
struct Parameters {
  double C = 1, q2 = 0.04, q1 = 5, q0 = 140;
  double a = 0.02, b = 0.2, v_b = 0, e = 1;
  double v_peak = 30, c = -65, d = 8;
  friend bool operator==(const Parameters&, const Parameters&) = default;
};

/// The two variables.
template <class R>
struct State {
  R v, u;
};

/// The right-hand side's coefficients, divided out on the host in f64 and rounded once:
/// v' = p2 v^2 + p1 v + p0 - w u,   u' = ab v - ae u - abv.
template <class R>
struct Rates {
  R p2, p1, w, ab, ae, abv;
};

template <class R>
Rates<R> rates(const Parameters& p) {
  return {constant<R>(p.q2 / p.C), constant<R>(p.q1 / p.C), constant<R>(1 / p.C),
          constant<R>(p.a * p.b),  constant<R>(p.a * p.e),  constant<R>(p.a * p.b * p.v_b)};
}

/// p0 of a current: (q0 + I) / C, on the host.
inline double drive(const Parameters& p, double current) { return (p.q0 + current) / p.C; }

/// What a spike does.
template <class R>
struct Reset {
  R v_peak, c, d;
};

template <class R>
Reset<R> reset(const Parameters& p) {
  return {constant<R>(p.v_peak), constant<R>(p.c), constant<R>(p.d)};
}

/// p0 held over the step.
template <class R>
struct Held {
  R p0;
  RANVIER_HD_INLINE R at(R) const { return p0; }
  RANVIER_HD_INLINE Held from(R) const { return *this; }
};

/// p0 that grows linearly: p0 + slope * (time since the step's start).
template <class R>
struct Ramp {
  R p0, slope;
  RANVIER_HD_INLINE R at(R time) const { return fused(slope, time, p0); }
  /// The same ramp for a step that starts `time` later.
  RANVIER_HD_INLINE Ramp from(R time) const { return {at(time), slope}; }
};

/// The differential equation over one step: coefficients and current.
template <class R, class Drive = Held<R>>
struct Field {
  Rates<R> k;
  Drive drive;

  RANVIER_HD_INLINE R dv(State<R> y, R p0) const { return fused(fused(k.p2, y.v, k.p1), y.v, fused(-k.w, y.u, p0)); }
  RANVIER_HD_INLINE R du(State<R> y) const { return fused(k.ab, y.v, fused(-k.ae, y.u, -k.abv)); }
  /// (v', u') at `time` after the step's start: 5 fma, one more on a ramp.
  RANVIER_HD_INLINE State<R> operator()(State<R> y, R time) const { return {dv(y, drive.at(time)), du(y)}; }
  /// d v' / d v; the rest of the Jacobian is constant: -w, ab, -ae.
  RANVIER_HD_INLINE R dv_dv(R v) const { return fused(constant<R>(2) * k.p2, v, k.p1); }
  /// The same equation seen from a later start.
  RANVIER_HD_INLINE Field from(R time) const { return {k, drive.from(time)}; }
};

/// A step's length and its parts. Full steps are rounded once on the host (`whole`); inside a step a piece of length h
/// has half = h / 2, exact, and sixth = h * (1/6) (`piece`).
template <class R>
struct Length {
  R h, half, sixth;

  static Length whole(double h) { return {constant<R>(h), constant<R>(h / 2), constant<R>(h / 6)}; }
  static RANVIER_HD_INLINE Length piece(R h) {
    return {h, product(h, constant<R>(0.5)), product(h, constant<R>(1.0 / 6))};
  }
};

}  // namespace ranvier::kernels::izhikevich
