// Coupled neurons on the CPU: packs of sixteen or eight lanes, events of single lanes by the scalar code.
#include <algorithm>
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
#if defined(__AVX512F__)
    if constexpr (std::is_same_v<T, double>)  // GCC 12 makes five instructions of the conversion
      return typename Pack<T>::Values(_mm512_maskz_cvtps_pd(0xff, _mm256_loadu_ps(from)));
#endif
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

/// Currents and conductances of a few packs, made before these are stepped: a loop for each receptor, which knows its
/// kind.
template <class T>
class Inputs {
 public:
  using R = Pack<T>;
  static constexpr int64_t most = 256;  ///< neurons

  /// Of the packs from begin to end.
  Inputs(const Tick<T>& p, int64_t begin, int64_t end) : begin_(begin) {
    for (int64_t i = begin; i < end; i += R::lanes) {
      R current(T(0));
      if (p.noise) current = Arrays<R>::widened(p.noise + i);
      if (p.field) current = current + Arrays<R>::widened(p.field + i);
      current.store(current_ + i - begin), R(T(0)).store(conductance_ + i - begin);
    }
    for (int r = 0; r < p.receptor_count; ++r) add(p.receptors[r], p.v, end);
  }

  Input<R> at(int64_t i) const { return {R::load(current_ + i - begin_), R::load(conductance_ + i - begin_)}; }

 private:
  void add(const ReceptorArrays<T>& receptor, const T* v, int64_t end) {
    switch (receptor.kind) {
      case Kind::pulse:
        return add<Kind::pulse>(receptor, v, end);
      case Kind::exponential:
        return add<Kind::exponential>(receptor, v, end);
      case Kind::ampa:
      case Kind::gaba_a:
        return add<Kind::ampa>(receptor, v, end);
      case Kind::nmda:
        return add<Kind::nmda>(receptor, v, end);
      case Kind::gaba_b:
        return add<Kind::gaba_b>(receptor, v, end);
    }
  }

  template <Kind kind>
  void add(const ReceptorArrays<T> receptor, const T* v, int64_t end) {
    for (int64_t i = begin_; i < end; i += R::lanes) {
      Input<R> in = at(i);
      take(kind, receptor, i, R::load(v + i), in);
      in.current.store(current_ + i - begin_);
      if (is_conductance(kind)) in.conductance.store(conductance_ + i - begin_);
    }
  }

  int64_t begin_;
  alignas(64) T current_[most], conductance_[most];
};

/// What the packs of a tile are made of, read anew only where a neuron has values of its own.
template <class T, class Coefficients>
class Constants {
 public:
  using R = Pack<T>;
  Constants(const Tick<T>& p, int64_t i) : base(lanes_of<R>(p.base, i)), reset(reset_of<R>(p, i)) {
    read(p, i);
    for (const Column<T>& column : p.k) own_k_ = own_k_ || column.each;
    own_reset_ = p.v_peak.each || p.c.each || p.d.each;
  }

  /// Of the pack from i on.
  RANVIER_HD_INLINE void move(const Tick<T>& p, int64_t i) {
    if (p.base.each) base = R::load(p.base.data + i);
    if (own_k_) read(p, i);
    if (own_reset_) reset = reset_of<R>(p, i);
  }

  R base;
  Coefficients k;
  iz::Reset<R> reset;

 private:
  RANVIER_HD_INLINE void read(const Tick<T>& p, int64_t i) {
    if constexpr (std::is_same_v<Coefficients, iz::Printed<R>>)
      k = printed_of<R>(p, i);
    else
      k = rates_of<R>(p, i);
  }

  bool own_k_ = false, own_reset_ = false;
};

/// Calls body(inputs, begin, end) for tiles of the range until one returns false.
template <class T, class Body>
void for_tiles(const Tick<T>& p, int64_t begin, int64_t end, Body&& body) {
  for (int64_t i = begin; i < end; i += Inputs<T>::most) {
    const int64_t last = std::min(end, i + Inputs<T>::most);
    if (!body(Inputs<T>(p, i, last), i, last)) return;
  }
}

/// The differential equation with resets located or on the grid.
template <class T, class Method>
class Solved {
 public:
  Solved(const Method& method, bool located, double h)
      : method_(method), located_(located), whole_(iz::Length<T>::whole(h)), h_(h) {}

  Outcome operator()(const Tick<T>& p, int64_t begin, int64_t end, Spike* spikes) const {
    Outcome out;
    for_tiles(p, begin, end, [&](const Inputs<T>& inputs, int64_t first, int64_t last) {
      return tile(p, inputs, first, last, spikes, out);
    });
    return out;
  }

 private:
  /// False where a neuron failed.
  bool tile(const Tick<T> p, const Inputs<T>& inputs, int64_t begin, int64_t end, Spike* spikes, Outcome& out) const {
    using R = Pack<T>;
    const iz::Length<R> length{R(whole_.h), R(whole_.half), R(whole_.sixth)};
    Constants<T, iz::Rates<R>> constants(p, begin);
    for (int64_t i = begin; i < end; i += R::lanes) {
      constants.move(p, i);
      const State<R> y{R::load(p.v + i), R::load(p.u + i)};
      const iz::Field<R> f = field_of(constants.k, constants.base, inputs.at(i));
      State<R> y1 = method_(f, y, length);
      uint32_t events = iz::bits(!(y1.v < constants.reset.v_peak)) & valid_lanes<T>(i, end);
      for (; events; events &= events - 1) {
        const int l = __builtin_ctz(events);
        State<T> after;
        if (!event(p, f, y, y1, i, l, spikes + out.spikes, out, after)) return false;
        y1.v.x[l] = after.v, y1.u.x[l] = after.u;
      }
      y1.v.store(p.v + i), y1.u.store(p.u + i);
    }
    return true;
  }

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
class Printed {
 public:
  explicit Printed(const Stepping& stepping) : stepping_(stepping) {}

  Outcome operator()(const Tick<T>& p, int64_t begin, int64_t end, Spike* spikes) const {
    Outcome out;
    for_tiles(p, begin, end, [&](const Inputs<T>& inputs, int64_t first, int64_t last) {
      const Fired fired = stepping_.resets == Resets::printed_2003 ? tile<Resets::printed_2003>(p, inputs, first, last)
                                                                   : tile<Resets::printed_2004>(p, inputs, first, last);
      for (int64_t i = first; i < last; i += 64)
        for (uint64_t left = fired.from(i - first, last - first); left; left &= left - 1)
          spikes[out.spikes++] = {stepping_.h, static_cast<uint32_t>(i + __builtin_ctzll(left))};
      if (fired.lost) out.failed = first_lost(p, first, last);
      return out.failed < 0;
    });
    return out;
  }

 private:
  /// A bit a lane, looked at when the tile is done: a branch on it would wait for each pack's step.
  struct Fired {
    std::conditional_t<Pack<T>::lanes == 8, uint8_t, uint16_t> lanes[Inputs<T>::most / Pack<T>::lanes] = {};
    uint64_t from(int64_t i, int64_t end) const {
      uint64_t word;
      std::memcpy(&word, lanes + i / Pack<T>::lanes, sizeof word);
      return end - i >= 64 ? word : word & ((uint64_t{1} << (end - i)) - 1);
    }
    bool lost = false;  ///< some lane left the range of numbers, perhaps beyond the last neuron
  };

  static int64_t first_lost(const Tick<T>& p, int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i)
      if (!is_finite(State<T>{p.v[i], p.u[i]})) return i;
    return -1;
  }

  template <Resets Scheme>
  Fired tile(const Tick<T> p, const Inputs<T>& inputs, int64_t begin, int64_t end) const {
    using R = Pack<T>;
    const R h(static_cast<T>(stepping_.h));
    Constants<T, iz::Printed<R>> constants(p, begin);
    Fired out;
    R finite(T(0));  // NaN from where a state is no number
    for (int64_t i = begin; i < end; i += R::lanes) {
      constants.move(p, i);
      iz::PackMask<T> fired;
      const State<R> start{R::load(p.v + i), R::load(p.u + i)};
      const State<R> y =
          printed_step(Scheme, constants.k, constants.reset, constants.base, inputs.at(i), h, start, fired);
      y.v.store(p.v + i), y.u.store(p.u + i);
      finite = finite + ((y.v - y.v) + (y.u - y.u));
      out.lanes[(i - begin) / R::lanes] = static_cast<std::remove_reference_t<decltype(out.lanes[0])>>(iz::bits(fired));
    }
    out.lost = iz::any(!(finite >= R(T(0))));
    return out;
  }

  Stepping stepping_;
};

}  // namespace

template <class T>
Outcome tick(const Stepping& s, const Tick<T>& p, int64_t begin, int64_t end, Spike* spikes) {
  if (s.resets == Resets::printed_2003 || s.resets == Resets::printed_2004) return Printed<T>(s)(p, begin, end, spikes);
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
