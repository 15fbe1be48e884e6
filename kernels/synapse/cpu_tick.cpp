// Coupled neurons on the CPU: packs of sixteen or eight lanes, events of single lanes by the scalar code.
#include <type_traits>

#include "kernels/izhikevich/izhikevich.h"
#include "kernels/izhikevich/pack.h"
#include "kernels/synapse/tick.h"

namespace ranvier::kernels::synapse {

int most_spikes(Resets resets) { return resets == Resets::located ? izhikevich::max_events : 1; }

namespace cpu {
namespace {

namespace iz = izhikevich;
using iz::Pack;
using iz::State;

template <class T>
Pack<T> lanes_of(const Column<T>& column, int64_t i) {
  return column.each ? Pack<T>::load(column.data + i) : Pack<T>(column.data[0]);
}
template <class T>
T lane_of(const Column<T>& column, int64_t i) {
  return column.data[column.each ? i : 0];
}

/// Sums as real numbers, the array left at zero.
template <class T>
Pack<T> take(int64_t* arrived, T unit) {
  typedef int64_t Sums __attribute__((vector_size(8 * Pack<T>::lanes)));
  Sums sums;
  std::memcpy(&sums, arrived, sizeof sums);
  std::memset(arrived, 0, sizeof sums);
  return product(Pack<T>(__builtin_convertvector(sums, typename Pack<T>::Values)), Pack<T>(unit));
}

template <class T>
Pack<T> widened(const float* from) {
  typedef float Narrow __attribute__((vector_size(4 * Pack<T>::lanes)));
  Narrow x;
  std::memcpy(&x, from, sizeof x);
  return Pack<T>(__builtin_convertvector(x, typename Pack<T>::Values));
}

template <class T>
Receptor<Pack<T>> spread(const Receptor<T>& k) {
  return {Pack<T>(k.decay), Pack<T>(k.mean), Pack<T>(k.rise_decay), Pack<T>(k.rise_mean), Pack<T>(k.reversal)};
}

/// Everything that flows into the lanes from i on but their constant current.
template <class T>
Input<Pack<T>> inputs(const Tick<T>& p, int64_t i, Pack<T> v) {
  Input<Pack<T>> in{Pack<T>(T(0)), Pack<T>(T(0))};
  if (p.noise) in.current = widened<T>(p.noise + i);
  if (p.field) in.current = in.current + widened<T>(p.field + i);
  for (int r = 0; r < p.receptor_count; ++r) {
    const ReceptorArrays<T>& receptor = p.receptors[r];
    const Pack<T> arrived = take(receptor.arrived + i, receptor.unit);
    const int count = states(receptor.kind);
    Pack<T> decaying(T(0)), rising(T(0));
    if (count > 0) decaying = Pack<T>::load(receptor.decaying + i);
    if (count > 1) rising = Pack<T>::load(receptor.rising + i);
    receive(receptor.kind, spread(receptor.step), arrived, v, decaying, rising, in);
    if (count > 0) decaying.store(receptor.decaying + i);
    if (count > 1) rising.store(receptor.rising + i);
  }
  return in;
}

/// One lane of a pack.
template <class T>
T lane(const Pack<T>& p, int i) {
  return p.x[i];
}

/// Tells of spikes inside a step.
template <class T>
struct Listener {
  Spike* to;
  uint32_t neuron;
  int count = 0;
  template <class F>
  void piece(const F&, State<T>, State<T>, T, T) {}
  void spike(T offset, State<T>) { to[count++] = {static_cast<double>(offset), neuron}; }
};

/// Lanes of this pack that are neurons.
template <class T>
uint32_t valid_lanes(int64_t i, int64_t end) {
  const int64_t count = end - i;
  return count >= Pack<T>::lanes ? (1u << Pack<T>::lanes) - 1 : (1u << count) - 1;
}

/// The differential equation with resets located or on the grid.
template <class T, class Method>
class Solved {
 public:
  Solved(const Method& method, bool located, double h)
      : method_(method), located_(located), whole_(iz::Length<T>::whole(h)), h_(h) {}

  Outcome operator()(const Tick<T>& p, int64_t begin, int64_t end, Spike* spikes) const {
    using R = Pack<T>;
    const iz::Length<R> length{R(whole_.h), R(whole_.half), R(whole_.sixth)};
    Outcome out;
    for (int64_t i = begin; i < end; i += R::lanes) {
      const State<R> y{R::load(p.v + i), R::load(p.u + i)};
      const Input<R> in = inputs(p, i, y.v);
      iz::Field<R> f;
      f.k = {lanes_of(p.k[0], i), lanes_of(p.k[1], i), lanes_of(p.k[2], i),
             lanes_of(p.k[3], i), lanes_of(p.k[4], i), lanes_of(p.k[5], i)};
      f.k.p1 = fused(-f.k.w, in.conductance, f.k.p1);  // the conductance, held, belongs to the equation
      f.drive.p0 = fused(f.k.w, in.current, lanes_of(p.base, i));
      State<R> y1 = method_(f, y, length);
      uint32_t events = iz::bits(!(y1.v < lanes_of(p.v_peak, i))) & valid_lanes<T>(i, end);
      for (; events; events &= events - 1) {
        const int l = __builtin_ctz(events);
        State<T> after;
        if (!event(p, f, y, y1, i, l, spikes + out.spikes, out, after)) return out;
        y1.v.x[l] = after.v, y1.u.x[l] = after.u;
      }
      y1.v.store(p.v + i), y1.u.store(p.u + i);
    }
    return out;
  }

 private:
  /// One lane that did not stay below its peak.
  bool event(const Tick<T>& p, const iz::Field<Pack<T>>& lanes, const State<Pack<T>>& y, const State<Pack<T>>& y1,
             int64_t i, int l, Spike* spikes, Outcome& out, State<T>& after) const {
    iz::Field<T> f;
    f.k = {lane(lanes.k.p2, l), lane(lanes.k.p1, l), lane(lanes.k.w, l),
           lane(lanes.k.ab, l), lane(lanes.k.ae, l), lane(lanes.k.abv, l)};
    f.drive.p0 = lane(lanes.drive.p0, l);
    const iz::Reset<T> reset{lane_of(p.v_peak, i + l), lane_of(p.c, i + l), lane_of(p.d, i + l)};
    const State<T> start{lane(y.v, l), lane(y.u, l)}, end{lane(y1.v, l), lane(y1.u, l)};
    const auto neuron = static_cast<uint32_t>(i + l);
    if (located_) {
      Listener<T> listener{spikes, neuron};
      const auto done = iz::locate(method_, f, reset, start, end, whole_.h, listener);
      out.spikes += listener.count;
      after = done.y;
      return settle(done.ending, after, neuron, out);
    }
    after = end;
    if (Method::may_fail && iz::is_nan(end.v)) {
      const auto done = iz::subdivide(method_, f, reset, start, whole_.h);
      after = done.y;
      if (!settle(done.ending, after, neuron, out)) return false;
    }
    bool fired;
    const bool finite = after.v - after.v == T(0) && after.u - after.u == T(0);
    after = iz::grid_reset(reset, after, fired);
    if (fired) spikes[0] = {h_, neuron}, ++out.spikes;
    if (!finite) out.failed = neuron;
    return finite;
  }

  static bool settle(iz::Ending ending, State<T> y, uint32_t neuron, Outcome& out) {
    const bool finite = y.v - y.v == T(0) && y.u - y.u == T(0);
    if (ending == iz::Ending::done && finite) return true;
    out.failed = neuron, out.runaway = ending == iz::Ending::runaway;
    return false;
  }

  Method method_;
  bool located_;
  iz::Length<T> whole_;
  double h_;
};

/// The two printed schemes. The one of 2003 resets at the start of a step what reached the peak in the step before:
/// here at that step's end, where nothing lies between.
template <class T>
Outcome printed(const Stepping& stepping, const Tick<T>& p, int64_t begin, int64_t end, Spike* spikes) {
  using R = Pack<T>;
  const R h(static_cast<T>(stepping.h));
  Outcome out;
  for (int64_t i = begin; i < end; i += R::lanes) {
    State<R> y{R::load(p.v + i), R::load(p.u + i)};
    const Input<R> in = inputs(p, i, y.v);
    const R current = lanes_of(p.base, i) + (in.current - product(in.conductance, y.v));
    const iz::Printed<R> k{lanes_of(p.k[0], i), lanes_of(p.k[1], i), lanes_of(p.k[2], i), lanes_of(p.k[3], i),
                           lanes_of(p.k[4], i), lanes_of(p.k[5], i), lanes_of(p.k[6], i)};
    const iz::Reset<R> reset{lanes_of(p.v_peak, i), lanes_of(p.c, i), lanes_of(p.d, i)};
    iz::PackMask<T> fired;
    if (stepping.resets == Resets::printed_2003) {
      y = iz::published_2003_update(k, y, current, h);
      y = iz::published_2003_reset(reset, y, fired);
    } else {
      R above;
      y = iz::published_2004(k, reset, y, current, h, fired, above);
    }
    y.v.store(p.v + i), y.u.store(p.u + i);
    const uint32_t valid = valid_lanes<T>(i, end);
    for (uint32_t events = iz::bits(fired) & valid; events; events &= events - 1)
      spikes[out.spikes++] = {stepping.h, static_cast<uint32_t>(i + __builtin_ctz(events))};
    const R zero = (y.v - y.v) + (y.u - y.u);
    const uint32_t finite = iz::bits(zero >= R(T(0)));  // false of NaN
    if (valid & ~finite) {
      out.failed = i + __builtin_ctz(valid & ~finite);
      return out;
    }
  }
  return out;
}

}  // namespace

template <class T>
Outcome tick(const Stepping& s, const Tick<T>& p, int64_t begin, int64_t end, Spike* spikes) {
  if (s.resets == Resets::printed_2003 || s.resets == Resets::printed_2004) return printed(s, p, begin, end, spikes);
  const auto with = [&](const auto& method) {
    return Solved<T, std::decay_t<decltype(method)>>(method, s.resets == Resets::located, s.h)(p, begin, end, spikes);
  };
  switch (s.method) {
    case Method::euler:
      return with(iz::Euler{});
    case Method::semi_implicit:
      return with(iz::SemiImplicit{});
    case Method::midpoint:
      return with(iz::Midpoint{});
    case Method::rk4:
      return with(iz::Rk4{});
    case Method::backward_euler:
      return with(iz::BackwardEuler{});
    case Method::exponential:
      return with(iz::Exponential{s.doublings});
    case Method::linear_implicit:
      return with(iz::LinearImplicit{});
  }
  return {};
}

template Outcome tick(const Stepping&, const Tick<float>&, int64_t, int64_t, Spike*);
template Outcome tick(const Stepping&, const Tick<double>&, int64_t, int64_t, Spike*);

}  // namespace cpu
}  // namespace ranvier::kernels::synapse
