// What a population's call says of one neuron, or of a pack of them: coefficients, drive, memory of the method.
#pragma once
#include <type_traits>

#include "kernels/izhikevich/located.h"
#include "kernels/izhikevich/population.h"
#include "kernels/izhikevich/published.h"

// R is the type that steps: a pack on the CPU (pack.h), the element type T in what leaves the packs and on a GPU.

namespace ranvier::kernels::izhikevich {

/// Adams-Bashforth 2: one-step methods have no memory, this one has the slope of the step before.
struct AdamsBashforth : Midpoint {
  static constexpr int evaluations = 1;
};
template <class Method>
constexpr bool has_memory = std::is_same_v<Method, AdamsBashforth>;

/// A value of the lanes from a neuron on, or of one neuron.
template <class R, class T>
RANVIER_HD_INLINE R input(const T* values, int64_t first) {
  if constexpr (std::is_same_v<R, T>)
    return values[first];
  else
    return R::load(values + first);
}
/// Coefficients of the lanes from a neuron on or of chosen ones (R a pack), or of one neuron (R scalar); `at` says
/// which.
template <class R, class T, class At>
RANVIER_HD_INLINE R coefficient(const Column<T>& column, At at) {
  return column.each ? input<R>(column.each, at) : R(column.shared);
}

template <class R, class T, class At>
RANVIER_HD_INLINE Rates<R> rates_of(const PopulationCall<T>& call, At at) {
  Rates<R> k{coefficient<R>(call.p2, at), coefficient<R>(call.p1, at), coefficient<R>(call.w, at),
             coefficient<R>(call.ab, at), coefficient<R>(call.ae, at), coefficient<R>(call.abv, at)};
  if (call.conductance) k.p1 = fused(-k.w, input<R>(call.conductance, at), k.p1);
  return k;
}
template <class R, class T, class At>
RANVIER_HD_INLINE Reset<R> reset_of(const PopulationCall<T>& call, At at) {
  return {coefficient<R>(call.v_peak, at), coefficient<R>(call.c, at), coefficient<R>(call.d, at)};
}
template <class Drive, class R, class T, class At>
RANVIER_HD_INLINE Field<R, Drive> field_of(const PopulationCall<T>& call, const Rates<R>& k, At at) {
  R p0 = coefficient<R>(call.drive, at);
  if (call.current) p0 = fused(k.w, input<R>(call.current, at), p0);
  if (call.reversal) p0 = fused(k.w, input<R>(call.reversal, at), p0);
  if constexpr (std::is_same_v<Drive, Ramp<R>>)
    return {k, {p0, coefficient<R>(call.slope, at)}};
  else
    return {k, {p0}};
}

/// What stands for the slope of the step before where there is none: a NaN.
template <class T>
RANVIER_HD_INLINE T no_slope() {
  return from_bits(decltype(to_bits(T())){} - 1);
}

/// Tells `spikes` of the spikes in a located step: of the peak, or of upward crossings of 0 mV.
template <class Method, class Spikes>
struct SpikeObserver {
  const Method& method;
  Spikes& spikes;
  bool zero;

  template <class T, class F>
  RANVIER_HD_INLINE void piece(const F& f, State<T> from, State<T> to, T offset, T length) {
    if (!(zero && from.v < T(0) && to.v >= T(0))) return;
    int maps = 0;
    const T share = crossing(method, f, from, to, length, T(0), maps);
    spikes.add(static_cast<double>(offset) + product(static_cast<double>(share), static_cast<double>(length)));
  }
  template <class T>
  RANVIER_HD_INLINE void spike(T offset, State<T>) {
    if (!zero) spikes.add(static_cast<double>(offset));
  }
};

/// How one neuron's step ended that did not stay below the peak.
template <class T>
struct Finish {
  State<T> y;
  Ending ending = Ending::done;
  bool jumped = false;
  int pieces = 0;
};

/// Finishes one neuron's step y -> y1 = method(f, y, length) that reached the peak (or 0 mV where `zero`) or has no
/// solution; `h` is the step's length before it was rounded. `spikes.add(offset)` hears of each spike.
template <bool Located, class Method, class T, class Drive, class Spikes>
RANVIER_HD_INLINE Finish<T> finish_step(const Method& method, const Field<T, Drive>& f, const Reset<T>& reset,
                                        const Length<T>& length, double h, bool zero, State<T> y, State<T> y1,
                                        Spikes& spikes) {
  Finish<T> end{y1};
  if constexpr (Located) {
    const bool rose = zero && y.v < T(0) && y1.v >= T(0);
    if (y1.v < reset.v_peak && !rose) return end;
    const auto resolve = [&](const auto& map, State<T> there) {
      SpikeObserver<std::decay_t<decltype(map)>, Spikes> observer{map, spikes, zero};
      const Outcome<T> outcome = locate(map, f, reset, y, there, length.h, observer);
      end = {outcome.y, outcome.ending, outcome.events > 0, outcome.pieces};
    };
    if constexpr (has_memory<Method>)  // events are located with midpoint, of the same order
      resolve(Midpoint{}, Midpoint{}(f, y, length));
    else
      resolve(method, y1);
  } else {
    if (Method::may_fail && is_nan(y1.v)) {
      const Outcome<T> outcome = subdivide(method, f, reset, y, length.h);
      end = {outcome.y, outcome.ending, false, outcome.pieces};
    }
    const bool crossed = y.v < T(0) && end.y.v >= T(0);
    end.y = grid_reset(reset, end.y, end.jumped);
    if (zero ? crossed : end.jumped) spikes.add(h);
  }
  return end;
}

/// Coefficients of a printed scheme.
template <class R, class T>
RANVIER_HD_INLINE Printed<R> printed_of(const PopulationCall<T>& call, int64_t first) {
  return {coefficient<R>(call.p2, first), coefficient<R>(call.p1, first), coefficient<R>(call.q0, first),
          coefficient<R>(call.a, first),  coefficient<R>(call.ab, first), coefficient<R>(call.abv, first),
          coefficient<R>(call.ae, first)};
}

}  // namespace ranvier::kernels::izhikevich
