// Coupled neurons on the CPU: packs of sixteen or eight lanes, events of single lanes by the scalar code.
#include <type_traits>

#include "kernels/izhikevich/pack.h"
#include "kernels/izhikevich/steps.h"
#include "kernels/synapse/tick_fields.h"

namespace ranvier::kernels::synapse {

namespace iz = izhikevich;
using iz::Pack;
using iz::State;

int most_spikes(Resets resets) { return resets == Resets::located ? iz::max_events : 1; }

template <class T>
struct Arrays<Pack<T>> {
  static RANVIER_HD_INLINE Pack<T> load(const T* from) { return Pack<T>::load(from); }
  static RANVIER_HD_INLINE void store(Pack<T> x, T* to) { x.store(to); }
  static RANVIER_HD_INLINE Pack<T> widened(const float* from) {
    typedef float Narrow __attribute__((vector_size(4 * Pack<T>::lanes)));
    Narrow x;
    std::memcpy(&x, from, sizeof x);
    return Pack<T>(__builtin_convertvector(x, typename Pack<T>::Values));
  }
  static RANVIER_HD_INLINE Pack<T> taken(int64_t* from) {
    typedef int64_t Sums __attribute__((vector_size(8 * Pack<T>::lanes)));
    Sums sums;
    std::memcpy(&sums, from, sizeof sums);
    std::memset(from, 0, sizeof sums);
    return Pack<T>(__builtin_convertvector(sums, typename Pack<T>::Values));
  }
};

namespace cpu {
namespace {

/// One lane of a pack.
template <class T>
T lane(const Pack<T>& p, int i) {
  return p.x[i];
}

/// Lists spikes of one neuron.
struct Listed {
  Spike* to;
  uint32_t neuron;
  int count = 0;
  void add(double offset) { to[count++] = {offset, neuron}; }
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
      const iz::Field<R> f = field_of(p, i, inputs(p, i, y.v));
      State<R> y1 = method_(f, y, length);
      uint32_t events = iz::bits(!(y1.v < lanes_of<R>(p.v_peak, i))) & valid_lanes<T>(i, end);
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
    const State<T> start{lane(y.v, l), lane(y.u, l)}, end{lane(y1.v, l), lane(y1.u, l)};
    const auto neuron = static_cast<uint32_t>(i + l);
    Listed listed{spikes, neuron};
    const Finish<T> done = finish_step(method_, located_, f, reset_of<T>(p, i + l), whole_.h, h_, start, end, listed);
    out.spikes += listed.count;
    after = done.y;
    if (done.failed) out.failed = neuron, out.runaway = done.runaway;
    return !done.failed;
  }

  Method method_;
  bool located_;
  iz::Length<T> whole_;
  double h_;
};

/// The two printed schemes.
template <class T>
Outcome printed(const Stepping& stepping, const Tick<T>& p, int64_t begin, int64_t end, Spike* spikes) {
  using R = Pack<T>;
  const R h(static_cast<T>(stepping.h));
  Outcome out;
  for (int64_t i = begin; i < end; i += R::lanes) {
    iz::PackMask<T> fired;
    const State<R> y = printed_step(stepping.resets, p, i, h, State<R>{R::load(p.v + i), R::load(p.u + i)}, fired);
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
