// Steps with located resets: a tile of shards step by step, its spikes of a step located side by side. Private to
// population_method.h.
#pragma once
#include "kernels/izhikevich/population_lanes.h"

// A spike takes four to five maps one after the other, each as long as the chain of its operations: for one neuron that
// is the time of twenty packs that do not spike. So the neurons of a tile that reach the peak in a step are listed,
// and a pack of them goes through crossing, reset and the rest of the step at once. The state of a tile lies in the
// first-level cache meanwhile. What is left for the scalar code is rare: several spikes in a step, crossings of 0 mV,
// failures.

namespace ranvier::kernels::izhikevich {

/// Neurons that step together: as many as keep their state, twice, and their drive in the first-level cache. Whole
/// shards.
template <class T>
constexpr int64_t tile_size = 8192 / sizeof(T);
static_assert(tile_size<double> % shard_size == 0);

/// Neurons of a tile that reached the peak in a step, in their order. Read in whole packs.
struct Waiting {
  int count = 0;
  alignas(64) uint32_t index[tile_size<float>];  ///< in the tile

  void add(uint64_t lanes, int64_t first) {
    for (; lanes; lanes &= lanes - 1) index[count++] = static_cast<uint32_t>(first + __builtin_ctzll(lanes));
  }
  /// Repeats the first of the last pack in what is left of it.
  void fill(int lanes) {
    for (int i = count; i % lanes; ++i) index[i] = index[count / lanes * lanes];
  }
};

/// Where the states of a tile lie at a step's start or end.
template <class T>
struct States {
  T *v, *u;
};

/// A step of a pack of neurons with at most one spike each.
template <class T>
struct LocatedLanes {
  State<Pack<T>> y;
  Pack<T> offset;      ///< of the spike
  Pack<T> pieces;      ///< shorter ones
  PackMask<T> spiked;  ///< lanes with a spike
  PackMask<T> solved;  ///< lanes that this holds for
};

/// `locate` (located.h) of lanes that spike at most once, with the same operations on each; a lane whose piece is done
/// waits for the others.
template <class Method, class Drive, class T>
LocatedLanes<T> locate_lanes(const Method& method, const Field<Pack<T>, Drive>& whole, const Reset<Pack<T>>& reset,
                             State<Pack<T>> y, State<Pack<T>> y1, T h) {
  using R = Pack<T>;
  using Mask = PackMask<T>;
  const R zero = R(T(0)), one = R(T(1)), most = R(T(max_halvings));
  const Mask none = zero > zero;
  LocatedLanes<T> out{y, zero, zero, none, none};
  Field<R, Drive> f = whole;
  R offset = zero, rest = R(h), length = rest, halvings = zero;
  Mask active = !none;
  int maps = 0;
  for (;;) {
    Mask good = active;
    if constexpr (Method::may_fail) {
      const Mask failed = active & !(y1.v >= y1.v);
      halvings = select(failed, halvings + one, halvings);
      length = select(failed, product(length, R(T(0.5))), length);
      active = active & !(failed & (halvings > most));
      good = active & !failed;
      out.pieces = select(good & (halvings > zero), out.pieces + one, out.pieces);
    }
    const Mask hit = good & !(y1.v < reset.v_peak);
    active = active & !(hit & out.spiked), good = good & active;  // a second spike is not for here
    R moved = length;
    if (any(hit)) {
      moved = select(hit, product(crossing(method, f, y, y1, length, reset.v_peak, maps, hit), length), length);
      const State<R> peak = method(f, y, Length<R>::piece(moved));
      y1 = {select(hit, reset.c, y1.v), select(hit, peak.u + reset.d, y1.u)};
      out.offset = select(hit, offset + moved, out.offset), out.spiked = out.spiked | hit;
      halvings = select(hit, zero, halvings);
    }
    y = {select(good, y1.v, y.v), select(good, y1.u, y.u)};
    rest = select(good, rest - moved, rest), offset = select(good, offset + moved, offset);
    const Mask done = good & !(rest > zero);
    out.solved = out.solved | done, active = active & !done;
    if (!any(active)) return out.y = y, out;
    const Field<R, Drive> later = whole.from(offset);
    if constexpr (std::is_same_v<Drive, Ramp<R>>) f.drive.p0 = select(good, later.drive.p0, f.drive.p0);
    length = select(good & !((halvings > zero) & (length < rest)), rest, length);
    y1 = method(f, y, Length<R>::piece(length));
  }
}

/// Finishes the step of all who wait, from `start` to `end`, which holds the step without a reset.
template <class Method, bool Ramped, class T>
__attribute__((noinline)) void finish_waiting(const PopulationCall<T>& call, const Method& method, uint32_t step,
                                              int64_t begin, Waiting& waiting, const States<T>& start,
                                              const States<T>& end, ShardResult* results) {
  using R = Pack<T>;
  using Drive = std::conditional_t<Ramped, Ramp<R>, Held<R>>;
  using ScalarDrive = std::conditional_t<Ramped, Ramp<T>, Held<T>>;
  waiting.fill(R::lanes);
  for (int first = 0; first < waiting.count; first += R::lanes) {
    const Chosen here{waiting.index + first};
    uint32_t neurons[R::lanes];
    for (int lane = 0; lane < R::lanes; ++lane) neurons[lane] = static_cast<uint32_t>(begin) + here.neuron[lane];
    const Chosen chosen{neurons};
    LocatedLanes<T> located{};
    if (!call.zero) {
      const Field<R, Drive> f = field_of<Drive>(call, rates_of<R>(call, chosen), chosen);
      const Reset<R> reset = reset_of<R>(call, chosen);
      const State<R> y{input<R>(start.v, here), input<R>(start.u, here)};
      const T h = static_cast<T>(call.h);
      if constexpr (has_memory<Method>)
        located = locate_lanes(Midpoint{}, f, reset, y, Midpoint{}(f, y, Length<R>::whole(call.h)), h);
      else
        located = locate_lanes(method, f, reset, y, {input<R>(end.v, here), input<R>(end.u, here)}, h);
    }
    const uint32_t solved = bits(located.solved), spiked = bits(located.spiked);
    for (int lane = 0; lane < R::lanes && first + lane < waiting.count; ++lane) {
      const uint32_t neuron = neurons[lane], i = here.neuron[lane];
      ShardResult& out = results[i / shard_size];
      State<T> y{located.y.v.x[lane], located.y.u.x[lane]};
      bool jumped = (spiked >> lane & 1) != 0;
      if (solved >> lane & 1) {
        out.pieces += static_cast<int64_t>(located.pieces.x[lane]);
        if (jumped && call.events) out.events.push_back({neuron, step, static_cast<double>(located.offset.x[lane])});
        if (jumped && call.counts) ++call.counts[neuron];
      } else {
        y = finish_neuron<Method, ScalarDrive, true>(call, method, neuron, step, {start.v[i], start.u[i]},
                                                     {end.v[i], end.u[i]}, jumped, out);
      }
      end.v[i] = y.v, end.u[i] = y.u;
      if constexpr (has_memory<Method>)
        if (jumped) call.slope_v[neuron] = no_slope<T>();
    }
  }
}

/// What a step needs of a tile beside its states, which holds for a whole call.
template <class T, bool Ramped>
struct TileInput {
  alignas(64) T p0[tile_size<T>];  ///< drive, with what comes from synapses
  alignas(64) T slope[Ramped ? tile_size<T> : 1];

  TileInput(const PopulationCall<T>& call, int64_t begin, int64_t stop) {
    using R = Pack<T>;
    for (int64_t at = begin; at < stop; at += R::lanes) {
      const Field<R, Held<R>> f = field_of<Held<R>>(call, rates_of<R>(call, at), at);
      f.drive.p0.store(p0 + (at - begin));
      if constexpr (Ramped) coefficient<R>(call.slope, at).store(slope + (at - begin));
    }
  }
  template <class R>
  RANVIER_HD_INLINE auto drive(int64_t i) const {
    if constexpr (Ramped)
      return Ramp<R>{R::load(p0 + i), R::load(slope + i)};
    else
      return Held<R>{R::load(p0 + i)};
  }
};

/// All steps of the neurons begin .. stop - 1 of a tile, whose shards give `results`. Shared: all coefficients are.
template <class Method, bool Ramped, bool Shared, class T>
void run_located(const PopulationCall<T>& call, const Method& method, int64_t begin, int64_t stop,
                 ShardResult* results) {
  using R = Pack<T>;
  constexpr int64_t width = block_width<T>;
  PopulationCall<T> own = call;  // whose address nobody else has: its pointers stay in registers
  if (call.zero) own.v_peak = {nullptr, T(0)};
  const Rates<R> common = rates_of<R>(own, begin);
  const R common_peak = coefficient<R>(own.v_peak, begin);
  const Length<R> length = Length<R>::whole(own.h);
  const TileInput<T, Ramped> input(call, begin, stop);
  alignas(64) T other_v[tile_size<T>], other_u[tile_size<T>];
  uint64_t hit[tile_size<T> / width];
  States<T> start{call.v + begin, call.u + begin}, end{other_v, other_u};
  Waiting waiting;
  const auto step_lanes = [&](int64_t i) __attribute__((always_inline)) {
    const State<R> y{R::load(start.v + i), R::load(start.u + i)};
    State<R> before{}, y1;
    if constexpr (has_memory<Method>) before = {R::load(own.slope_v + begin + i), R::load(own.slope_u + begin + i)};
    const auto drive = input.template drive<R>(i);
    if constexpr (Shared)
      y1 = map_lanes(method, Field<R, std::decay_t<decltype(drive)>>{common, drive}, y, length, before);
    else
      y1 = map_lanes(method, Field<R, std::decay_t<decltype(drive)>>{rates_of<R>(own, begin + i), drive}, y, length,
                     before);
    if constexpr (has_memory<Method>) before.v.store(own.slope_v + begin + i), before.u.store(own.slope_u + begin + i);
    y1.v.store(end.v + i), y1.u.store(end.u + i);
    const R peak = Shared ? common_peak : coefficient<R>(own.v_peak, begin + i);
    return uint64_t{bits(!(y1.v < peak))};
  };
  const auto failed = [&] {
    return std::any_of(results, results + shards_of(stop - begin),
                       [](const ShardResult& r) { return r.failure != Failure::none; });
  };
  for (uint32_t step = 0; step < own.steps && !failed(); ++step) {
    for (int64_t i = 0; i < stop - begin; i += width)
      hit[i / width] = step_lanes(i) | step_lanes(i + R::lanes) << R::lanes |
                       step_lanes(i + 2 * R::lanes) << 2 * R::lanes | step_lanes(i + 3 * R::lanes) << 3 * R::lanes;
    waiting.count = 0;
    for (int64_t i = 0; i < stop - begin; i += width) {
      uint64_t lanes = hit[i / width];
      if (stop - begin - i < width) lanes &= (uint64_t{1} << (stop - begin - i)) - 1;
      waiting.add(lanes, i);
    }
    if (waiting.count) finish_waiting<Method, Ramped>(call, method, step, begin, waiting, start, end, results);
    std::swap(start, end);
  }
  for (int64_t i = 0; i < (stop - begin + width - 1) / width * width; i += R::lanes) {  // padding too
    const State<R> y{R::load(start.v + i), R::load(start.u + i)};
    y.v.store(call.v + begin + i), y.u.store(call.u + begin + i);
    check_finite(call, begin + i, y, results[i / shard_size]);
  }
}

}  // namespace ranvier::kernels::izhikevich
