// One step of a coupled neuron, or of a pack of them: its inputs, its equation, its end at the peak.
#pragma once
#include "kernels/izhikevich/located.h"
#include "kernels/izhikevich/published.h"
#include "kernels/synapse/tick.h"

// R is the type that steps: a pack on the CPU (izhikevich/pack.h), the element type T in what leaves the packs and on a
// GPU.

namespace ranvier::kernels::synapse {

/// How R comes from arrays: one lane here, a pack's lanes in cpu_tick.cpp.
template <class R>
struct Arrays {
  static RANVIER_HD_INLINE R load(const R* from) { return *from; }
  static RANVIER_HD_INLINE void store(R x, R* to) { *to = x; }
  static RANVIER_HD_INLINE R widened(const float* from) { return static_cast<R>(*from); }
  /// A sum as a real number; the array is left at zero.
  static RANVIER_HD_INLINE R taken(int64_t* sum) {
    const int64_t x = *sum;
    *sum = 0;
    return static_cast<R>(x);
  }
};

/// A coefficient of the lanes from i on.
template <class R, class T>
RANVIER_HD_INLINE R lanes_of(const Column<T>& column, int64_t i) {
  return column.each ? Arrays<R>::load(column.data + i) : R(column.data[0]);
}

/// What one receptor of this kind lets into the lanes from i on; takes what arrived.
template <class R, class T>
RANVIER_HD_INLINE void take(Kind kind, const ReceptorArrays<T>& receptor, int64_t i, R v, Input<R>& in) {
  const Receptor<T>& k = receptor.step;
  const Receptor<R> step{R(k.decay), R(k.mean), R(k.rise_decay), R(k.rise_mean), R(k.reversal)};
  const R arrived = product(Arrays<R>::taken(receptor.arrived + i), R(receptor.unit));
  const int count = states(kind);
  R decaying(T(0)), rising(T(0));
  if (count > 0) decaying = Arrays<R>::load(receptor.decaying + i);
  if (count > 1) rising = Arrays<R>::load(receptor.rising + i);
  receive(kind, step, arrived, v, decaying, rising, in);
  if (count > 0) Arrays<R>::store(decaying, receptor.decaying + i);
  if (count > 1) Arrays<R>::store(rising, receptor.rising + i);
}

/// Everything that flows into the lanes from i on but their constant current; takes what arrived.
template <class R, class T>
RANVIER_HD_INLINE Input<R> inputs(const Tick<T>& p, int64_t i, R v) {
  Input<R> in{R(T(0)), R(T(0))};
  if (p.noise) in.current = Arrays<R>::widened(p.noise + i);
  if (p.field) in.current = in.current + Arrays<R>::widened(p.field + i);
  for (int r = 0; r < p.receptor_count; ++r) take(p.receptors[r].kind, p.receptors[r], i, v, in);
  return in;
}

/// Coefficients of the equation of the lanes from i on.
template <class R, class T>
RANVIER_HD_INLINE izhikevich::Rates<R> rates_of(const Tick<T>& p, int64_t i) {
  return {lanes_of<R>(p.k[0], i), lanes_of<R>(p.k[1], i), lanes_of<R>(p.k[2], i),
          lanes_of<R>(p.k[3], i), lanes_of<R>(p.k[4], i), lanes_of<R>(p.k[5], i)};
}

/// Their equation over a step with these inputs.
template <class R>
RANVIER_HD_INLINE izhikevich::Field<R> field_of(const izhikevich::Rates<R>& k, R base, const Input<R>& in) {
  izhikevich::Field<R> f;
  f.k = k;
  f.k.p1 = fused(-f.k.w, in.conductance, f.k.p1);  // the conductance, held, belongs to the equation
  f.drive.p0 = fused(f.k.w, in.current, base);
  return f;
}
template <class R, class T>
RANVIER_HD_INLINE izhikevich::Field<R> field_of(const Tick<T>& p, int64_t i, const Input<R>& in) {
  return field_of(rates_of<R>(p, i), lanes_of<R>(p.base, i), in);
}

/// The same of the printed schemes.
template <class R, class T>
RANVIER_HD_INLINE izhikevich::Printed<R> printed_of(const Tick<T>& p, int64_t i) {
  return {lanes_of<R>(p.k[0], i), lanes_of<R>(p.k[1], i), lanes_of<R>(p.k[2], i), lanes_of<R>(p.k[3], i),
          lanes_of<R>(p.k[4], i), lanes_of<R>(p.k[5], i), lanes_of<R>(p.k[6], i)};
}

template <class R, class T>
RANVIER_HD_INLINE izhikevich::Reset<R> reset_of(const Tick<T>& p, int64_t i) {
  return {lanes_of<R>(p.v_peak, i), lanes_of<R>(p.c, i), lanes_of<R>(p.d, i)};
}

template <class T>
RANVIER_HD_INLINE bool is_finite(izhikevich::State<T> y) {
  return y.v - y.v == T(0) && y.u - y.u == T(0);
}

/// How one neuron's step ended that did not stay below its peak.
template <class T>
struct Finish {
  izhikevich::State<T> y;
  bool failed = false, runaway = false;
};

/// Tells `spikes.add(offset)` of spikes inside a step.
template <class Spikes>
struct SpikeListener {
  Spikes& spikes;

  template <class F, class T>
  RANVIER_HD_INLINE void piece(const F&, izhikevich::State<T>, izhikevich::State<T>, T, T) {}
  template <class T>
  RANVIER_HD_INLINE void spike(T offset, izhikevich::State<T>) {
    spikes.add(static_cast<double>(offset));
  }
};

/// Finishes one neuron's step y -> y1 = method(f, y, length) that did not stay below its peak; h is the step's length
/// before it was rounded.
template <class Method, class T, class Spikes>
RANVIER_HD_INLINE Finish<T> finish_step(const Method& method, bool located, const izhikevich::Field<T>& f,
                                        const izhikevich::Reset<T>& reset, T length, double h, izhikevich::State<T> y,
                                        izhikevich::State<T> y1, Spikes& spikes) {
  Finish<T> end{y1};
  const auto settle = [&](const izhikevich::Outcome<T>& outcome) {
    end.y = outcome.y;
    end.failed = outcome.ending != izhikevich::Ending::done || !is_finite(outcome.y);
    end.runaway = outcome.ending == izhikevich::Ending::runaway;
  };
  if (located) {
    SpikeListener<Spikes> listener{spikes};
    settle(izhikevich::locate(method, f, reset, y, y1, length, listener));
    return end;
  }
  if (Method::may_fail && izhikevich::is_nan(y1.v)) {
    settle(izhikevich::subdivide(method, f, reset, y, length));
    if (end.failed) return end;
  }
  end.failed = !is_finite(end.y);
  bool fired;
  end.y = izhikevich::grid_reset(reset, end.y, fired);
  if (fired) spikes.add(h);
  return end;
}

/// A step of a printed scheme. The one of 2003 resets at the start of a step what reached the peak in the step before:
/// here at that step's end, where nothing lies between.
template <class R>
RANVIER_HD_INLINE izhikevich::State<R> printed_step(Resets scheme, const izhikevich::Printed<R>& k,
                                                    const izhikevich::Reset<R>& reset, R base, const Input<R>& in, R h,
                                                    izhikevich::State<R> y,
                                                    typename izhikevich::Lanes<R>::Mask& fired) {
  const R current = base + (in.current - product(in.conductance, y.v));
  if (scheme == Resets::printed_2003)
    return izhikevich::published_2003_reset(reset, izhikevich::published_2003_update(k, y, current, h), fired);
  R above;
  return izhikevich::published_2004(k, reset, y, current, h, fired, above);
}
template <class R, class T>
RANVIER_HD_INLINE izhikevich::State<R> printed_step(Resets scheme, const Tick<T>& p, int64_t i, R h,
                                                    izhikevich::State<R> y,
                                                    typename izhikevich::Lanes<R>::Mask& fired) {
  return printed_step(scheme, printed_of<R>(p, i), reset_of<R>(p, i), lanes_of<R>(p.base, i), inputs(p, i, y.v), h, y,
                      fired);
}

}  // namespace ranvier::kernels::synapse
