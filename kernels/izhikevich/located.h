// A step with its resets: on the grid, or located inside the step, for one neuron.
#pragma once
#include "kernels/izhikevich/steps.h"

// A population runs y1 = method(field, y, whole) for all its lanes and comes here only for those where !(y1.v <
// v_peak), which is true of NaN and infinities too. What is templated on T is scalar, float or double.

namespace ranvier::kernels::izhikevich {

/// Spikes of one neuron in one step before it counts as a runaway.
constexpr int max_events = 8;
/// Halvings of a step that has no solution.
constexpr int max_halvings = 20;

/// How a step ended.
enum class Ending : uint8_t {
  done,
  runaway,     ///< more than max_events spikes in it
  unsolvable,  ///< no piece of it had a solution
};

/// What a step with resets gives.
template <class T>
struct Outcome {
  State<T> y;
  Ending ending = Ending::done;
  int events = 0;
  int pieces = 0;  ///< shorter pieces that steps without a solution were cut into
  int maps = 0;    ///< calls of the method
};

/// Ignores the pieces of a step.
struct Unobserved {
  template <class T, class F>
  RANVIER_HD_INLINE void piece(const F&, State<T>, State<T>, T, T) {}
  template <class T>
  RANVIER_HD_INLINE void spike(T, State<T>) {}
};

/// Where in a piece of length h from y to y1 = method(field, y, h) v crosses `level`: the share theta of h.
///
/// Newton's iteration in 1 / (v - v_c), v_c = -p1 / (2 p2) the vertex, because v runs like 1 / (t* - t) there, kept in
/// a bracket. Each iterate is the method's own map from the piece's start, so the crossing has the method's order. Two
/// iterations always, more (to eight) only while they move: a lane of a vector R that stands still keeps its theta
/// while others move, so it has the bits of the same neuron alone. Nothing is said of lanes that are not `active`.
template <class Method, class R, class Drive>
RANVIER_HD_INLINE R crossing(const Method& method, const Field<R, Drive>& f, State<R> y, State<R> y1, R h, R level,
                             int& maps, typename Lanes<R>::Mask active = R(1) > R(0)) {
  using Mask = typename Lanes<R>::Mask;
  const R zero = R(0), one = R(1), half = constant<R>(0.5);
  const R tolerance = constant<R>(sizeof(Element<R>) == 4 ? 1e-4f : 1e-6);
  const R vertex = quotient(-f.k.p1, product(constant<R>(2), f.k.p2));
  const R x0 = y.v - vertex, x1 = y1.v - vertex, x_level = level - vertex;
  const R r0 = quotient(one, x0);
  R theta = quotient(quotient(one, x_level) - r0, quotient(one, x1) - r0);
  const Mask hyperbola = (x0 > zero) & (x_level > zero) & (y1.v < constant<R>(1e6f));
  theta = select(hyperbola & (theta >= zero) & (theta <= one), theta, one);
  R low = zero, high = one;
  for (int i = 0; i < 8; ++i) {
    const R length = product(theta, h);
    const State<R> there = method(f, y, Length<R>::piece(length));
    ++maps;
    const Mask below = there.v < level;
    low = select(below, theta, low), high = select(below, high, theta);
    const R slope = f.dv(there, f.drive.at(length));
    const R step = quotient(product(there.v - level, there.v - vertex), product(product(x_level, h), slope));
    R next = theta - step;
    next = select((slope > zero) & (next >= low) & (next <= high), next, product(half, low + high));
    const R moved = select(next < theta, theta - next, next - theta);
    theta = select(active, next, theta);
    if (i == 0) continue;
    active = active & (moved > tolerance);
    if (!any(active)) break;
  }
  return theta;
}

/// A whole step with located resets: pieces from event to event, the rest of the step always from the reset state.
/// `y1` is method(field, y, whole) and has not stayed below the peak. The observer hears of each smooth piece
/// (field, start, end, offset in the step, length) and of each spike (offset, state before the reset).
template <class Method, class T, class Drive, class Observer>
RANVIER_HD_INLINE Outcome<T> locate(const Method& method, const Field<T, Drive>& whole, const Reset<T>& reset,
                                    State<T> y, State<T> y1, T h, Observer& observer) {
  Outcome<T> out;
  T offset = T(0), rest = h, length = h;
  int halvings = 0;
  Field<T, Drive> f = whole;
  for (;;) {
    if (Method::may_fail && is_nan(y1.v)) {  // no solution at this length
      if (++halvings > max_halvings) return out.y = y, out.ending = Ending::unsolvable, out;
      length = product(length, T(0.5));
    } else {
      T moved = length;
      if (halvings > 0) ++out.pieces;
      if (!(y1.v < reset.v_peak)) {
        moved = product(crossing(method, f, y, y1, length, reset.v_peak, out.maps), length);
        const State<T> peak = method(f, y, Length<T>::piece(moved));
        ++out.maps;
        observer.piece(f, y, peak, offset, moved);
        if (++out.events > max_events) return out.y = peak, out.ending = Ending::runaway, out;
        observer.spike(offset + moved, peak);
        y = {reset.c, peak.u + reset.d};
        halvings = 0;
      } else {
        observer.piece(f, y, y1, offset, length);
        y = y1;
      }
      rest = rest - moved;
      offset = offset + moved;
      if (!(rest > T(0))) break;
      f = whole.from(offset);
      length = halvings > 0 && length < rest ? length : rest;
    }
    y1 = method(f, y, Length<T>::piece(length));
    ++out.maps;
  }
  out.y = y;
  return out;
}

/// The state and whether it spiked after a step with the reset on the grid: at the end of the step in which v reached
/// the peak, v <- c, u <- u + d, u being that of the step's end.
template <class R>
RANVIER_HD_INLINE State<R> grid_reset(const Reset<R>& reset, State<R> y, typename Lanes<R>::Mask& fired) {
  fired = !(y.v < reset.v_peak);
  return {select(fired, reset.c, y.v), select(fired, y.u + reset.d, y.u)};
}

/// A whole step of a method that found no solution (NaN), in shorter pieces, until its end or the peak.
template <class Method, class T, class Drive>
RANVIER_HD_INLINE Outcome<T> subdivide(const Method& method, const Field<T, Drive>& whole, const Reset<T>& reset,
                                       State<T> y, T h) {
  Outcome<T> out;
  T offset = T(0), rest = h, length = product(h, T(0.5));
  for (int halvings = 1; halvings <= max_halvings;) {
    const State<T> y1 = method(whole.from(offset), y, Length<T>::piece(length));
    ++out.maps;
    if (is_nan(y1.v)) {
      length = product(length, T(0.5)), ++halvings;
      continue;
    }
    ++out.pieces;
    out.y = y = y1;
    offset = offset + length, rest = rest - length;
    if (!(y.v < reset.v_peak) || !(rest > T(0))) return out;
    length = length < rest ? length : rest;
  }
  out.y = y, out.ending = Ending::unsolvable;
  return out;
}

}  // namespace ranvier::kernels::izhikevich
