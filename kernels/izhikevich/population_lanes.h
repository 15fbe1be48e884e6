// What the loops of a population share: lanes and their coefficients, a step of lanes, one neuron that spikes, shards.
#pragma once
#include <type_traits>

#include "kernels/common/parallel.h"
#include "kernels/izhikevich/located.h"
#include "kernels/izhikevich/pack.h"
#include "kernels/izhikevich/population.h"

// Private to population.cpp and population_method.h. A block is four packs: enough chains of dependent fma in flight
// for two ports.

namespace ranvier::kernels::izhikevich {

constexpr int packs = 4;
template <class T>
constexpr int block_width = packs* Pack<T>::lanes;

/// Adams-Bashforth 2: one-step methods have no memory, this one has the slope of the step before.
struct AdamsBashforth : Midpoint {
  static constexpr int evaluations = 1;
};
template <class Method>
constexpr bool has_memory = std::is_same_v<Method, AdamsBashforth>;

/// Lanes that do not lie side by side: the neurons of a list with an entry for every lane.
struct Chosen {
  const uint32_t* neuron;
};

template <class R, class T>
RANVIER_HD_INLINE R input(const T* values, int64_t first) {
  if constexpr (std::is_same_v<R, T>)
    return values[first];
  else
    return R::load(values + first);
}
template <class R, class T>
RANVIER_HD_INLINE R input(const T* values, Chosen chosen) {
  R lanes;
  for (int i = 0; i < R::lanes; ++i) lanes.x[i] = values[chosen.neuron[i]];
  return lanes;
}
/// Coefficients of the lanes from a neuron on or of chosen ones (R a pack), or of one neuron (R scalar).
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

/// A step of the lanes without their reset; `before` is the memory of Adams-Bashforth.
template <class Method, class Drive, class T>
RANVIER_HD_INLINE State<Pack<T>> map_lanes(const Method& method, const Field<Pack<T>, Drive>& f, State<Pack<T>> y,
                                           const Length<Pack<T>>& length, State<Pack<T>>& before) {
  if constexpr (has_memory<Method>) {
    const State<Pack<T>> now = f(y, Pack<T>(T(0)));
    State<Pack<T>> y1 = adams_bashforth(y, now, before, length);
    const PackMask<T> known = before.v >= before.v;
    if (bits(!known)) {
      const State<Pack<T>> restarted = midpoint_from(f, y, now, length);
      y1 = {select(known, y1.v, restarted.v), select(known, y1.u, restarted.u)};
    }
    before = now;
    return y1;
  } else {
    return method(f, y, length);
  }
}

/// Hears of the spikes in a located step.
template <class T, class Method>
struct SpikeObserver {
  std::vector<Event>* events;
  uint32_t* count;
  const Method& method;
  uint32_t neuron, step;
  bool zero;

  void add(double offset) {
    if (events) events->push_back({neuron, step, offset});
    if (count) ++*count;
  }
  template <class F>
  void piece(const F& f, State<T> from, State<T> to, T offset, T length) {
    if (!(zero && from.v < T(0) && to.v >= T(0))) return;
    int maps = 0;
    const T share = crossing(method, f, from, to, length, T(0), maps);
    add(static_cast<double>(offset) + static_cast<double>(share) * static_cast<double>(length));
  }
  void spike(T offset, State<T>) {
    if (!zero) add(static_cast<double>(offset));
  }
};

inline void fail_at(ShardResult& out, Failure failure, int64_t neuron, uint32_t step) {
  if (out.failure != Failure::none) return;
  out.failure = failure, out.neuron = static_cast<uint32_t>(neuron), out.step = step;
}

/// Finishes one neuron's step from y to y1, which reached the peak (or 0 mV, or has no solution). Everything here is
/// scalar.
template <class Method, class Drive, bool Located, class T>
State<T> finish_neuron(const PopulationCall<T>& call, const Method& method, int64_t neuron, uint32_t step, State<T> y,
                       State<T> y1, bool& jumped, ShardResult& out) {
  const Reset<T> reset = reset_of<T>(call, neuron);
  const Field<T, Drive> f = field_of<Drive>(call, rates_of<T>(call, neuron), neuron);
  const Length<T> length = Length<T>::whole(call.h);
  const bool rose = call.zero && y.v < T(0) && y1.v >= T(0);
  uint32_t* count = call.counts ? call.counts + neuron : nullptr;
  std::vector<Event>* events = call.events ? &out.events : nullptr;
  const auto index = static_cast<uint32_t>(neuron);
  Ending ending = Ending::done;
  jumped = false;
  if constexpr (Located) {
    if (y1.v < reset.v_peak && !rose) return y1;
    const auto resolve = [&](const auto& map) {
      SpikeObserver<T, std::decay_t<decltype(map)>> observer{events, count, map, index, step, call.zero};
      const Outcome<T> outcome = locate(map, f, reset, y, y1, length.h, observer);
      y1 = outcome.y, ending = outcome.ending, jumped = outcome.events > 0;
      out.pieces += outcome.pieces;
    };
    if constexpr (has_memory<Method>) {  // events are located with midpoint, of the same order
      y1 = Midpoint{}(f, y, length);
      resolve(Midpoint{});
    } else {
      resolve(method);
    }
  } else {
    if (Method::may_fail && is_nan(y1.v)) {
      const Outcome<T> outcome = subdivide(method, f, reset, y, length.h);
      y1 = outcome.y, ending = outcome.ending;
      out.pieces += outcome.pieces;
    }
    const bool crossed = y.v < T(0) && y1.v >= T(0);
    y1 = grid_reset(reset, y1, jumped);
    if (call.zero ? crossed : jumped) {
      if (events) events->push_back({index, step, call.h});
      if (count) ++*count;
    }
  }
  if (ending == Ending::runaway) fail_at(out, Failure::runaway, neuron, step);
  if (ending == Ending::unsolvable) fail_at(out, Failure::unsolvable, neuron, step);
  return y1;
}

/// A slope that no Adams-Bashforth step takes up.
template <class T>
RANVIER_HD_INLINE T no_slope() {
  return from_bits(decltype(to_bits(T())){} - 1);  // a NaN
}

/// Names the first lane from `first` on that is not a finite number at the end of a call.
template <class T>
RANVIER_HD_INLINE void check_finite(const PopulationCall<T>& call, int64_t first, const State<Pack<T>>& y,
                                    ShardResult& out) {
  const Pack<T> zero = (y.v - y.v) + (y.u - y.u);  // NaN unless both are finite
  const uint32_t bad = bits(!(zero >= zero));
  if (!bad) return;
  if (const int64_t neuron = first + __builtin_ctz(bad); neuron < call.n)
    fail_at(out, Failure::diverged, neuron, call.steps - 1);
}

/// Orders a shard's events by step, keeping the order inside one: blocks came one after the other.
void order_by_step(ShardResult& shard, uint32_t steps);

/// Runs `body(begin, end, results)` over tiles of `together` shards on the team; `results` are those of its shards.
template <class T, class Body>
void for_shards(const PopulationCall<T>& call, std::vector<ShardResult>& results, int64_t together, const Body& body) {
  const int64_t shards = shards_of(call.n);
  results.resize(static_cast<size_t>(shards));
  parallel_for((shards + together - 1) / together, [&](int64_t tile) {
    const int64_t first = tile * together, last = std::min(shards, first + together);
    for (int64_t shard = first; shard < last; ++shard) {
      ShardResult& out = results[static_cast<size_t>(shard)];
      out.events.clear(), out.failure = Failure::none, out.pieces = 0;
    }
    body(first * shard_size, std::min(call.n, last * shard_size), &results[static_cast<size_t>(first)]);
  });
}

/// Runs `block(call, first, out)` over all blocks of all shards.
template <class T, class Body>
void for_blocks(const PopulationCall<T>& call, std::vector<ShardResult>& results, const Body& block) {
  for_shards(call, results, 1, [&](int64_t begin, int64_t end, ShardResult* out) {
    for (int64_t first = begin; first < end && out->failure == Failure::none; first += block_width<T>)
      block(call, first, *out);
    order_by_step(*out, call.steps);
  });
}

}  // namespace ranvier::kernels::izhikevich
