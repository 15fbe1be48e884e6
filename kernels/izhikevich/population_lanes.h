// What the loops of a population share: lanes and their coefficients, a step of lanes, one neuron that spikes, shards.
#pragma once
#include <type_traits>

#include "kernels/common/parallel.h"
#include "kernels/izhikevich/located.h"
#include "kernels/izhikevich/pack.h"
#include "kernels/izhikevich/population_fields.h"

// Private to population.cpp and population_method.h. A block is four packs: enough chains of dependent fma in flight
// for two ports.

namespace ranvier::kernels::izhikevich {

constexpr int packs = 4;
template <class T>
constexpr int block_width = packs* Pack<T>::lanes;

/// Lanes that do not lie side by side: the neurons of a list with an entry for every lane.
struct Chosen {
  const uint32_t* neuron;
};
template <class R, class T>
RANVIER_HD_INLINE R input(const T* values, Chosen chosen) {
  R lanes;
  for (int i = 0; i < R::lanes; ++i) lanes.x[i] = values[chosen.neuron[i]];
  return lanes;
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

inline void fail_at(ShardResult& out, Failure failure, int64_t neuron, uint32_t step) {
  if (out.failure != Failure::none) return;
  out.failure = failure, out.neuron = static_cast<uint32_t>(neuron), out.step = step;
}

/// Lists and counts the spikes of one neuron's step.
struct ListedSpikes {
  std::vector<Event>* events;
  uint32_t* count;
  uint32_t neuron, step;

  void add(double offset) {
    if (events) events->push_back({neuron, step, offset});
    if (count) ++*count;
  }
};

/// Finishes one neuron's step from y to y1, which reached the peak (or 0 mV, or has no solution). Everything here is
/// scalar.
template <class Method, class Drive, bool Located, class T>
State<T> finish_neuron(const PopulationCall<T>& call, const Method& method, int64_t neuron, uint32_t step, State<T> y,
                       State<T> y1, bool& jumped, ShardResult& out) {
  const Field<T, Drive> f = field_of<Drive>(call, rates_of<T>(call, neuron), neuron);
  ListedSpikes spikes{call.events ? &out.events : nullptr, call.counts ? call.counts + neuron : nullptr,
                      static_cast<uint32_t>(neuron), step};
  const Finish<T> end = finish_step<Located>(method, f, reset_of<T>(call, neuron), Length<T>::whole(call.h), call.h,
                                             call.zero, y, y1, spikes);
  out.pieces += end.pieces;
  jumped = end.jumped;
  if (end.ending == Ending::runaway) fail_at(out, Failure::runaway, neuron, step);
  if (end.ending == Ending::unsolvable) fail_at(out, Failure::unsolvable, neuron, step);
  return end.y;
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
