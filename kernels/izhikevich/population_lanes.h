// The loop of a population over blocks of lanes: private to the sources that instantiate it, one for each solver.
#pragma once
#include <type_traits>

#include "kernels/common/parallel.h"
#include "kernels/izhikevich/located.h"
#include "kernels/izhikevich/pack.h"
#include "kernels/izhikevich/population_fields.h"

// A block is four packs: enough chains of dependent fma in flight for two ports. Its state, drive and counts are in
// registers for all steps of a call; shared coefficients are too, others come from the first-level cache.

namespace ranvier::kernels::izhikevich {

constexpr int packs = 4;
template <class T>
constexpr int block_width = packs* Pack<T>::lanes;

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

/// Lanes of a block that left the fast path, in memory.
template <class T>
struct Outliers {
  alignas(64) T v[block_width<T>], u[block_width<T>], v1[block_width<T>], u1[block_width<T>], slope_v[block_width<T>];
};

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

/// Finishes one lane's step that reached the peak (or 0 mV, or has no solution). Everything here is scalar.
template <class Method, class Drive, bool Located, class T>
void finish_lane(const PopulationCall<T>& call, const Method& method, int64_t neuron, uint32_t step, int lane,
                 Outliers<T>& lanes, ShardResult& out) {
  const Field<T, Drive> f = field_of<Drive>(call, rates_of<T>(call, neuron), neuron);
  ListedSpikes spikes{call.events ? &out.events : nullptr, call.counts ? call.counts + neuron : nullptr,
                      static_cast<uint32_t>(neuron), step};
  const Finish<T> end =
      finish_step<Located>(method, f, reset_of<T>(call, neuron), Length<T>::whole(call.h), call.h, call.zero,
                           State<T>{lanes.v[lane], lanes.u[lane]}, State<T>{lanes.v1[lane], lanes.u1[lane]}, spikes);
  out.pieces += end.pieces;
  if (end.jumped && has_memory<Method>) lanes.slope_v[lane] = no_slope<T>();
  if (end.ending == Ending::runaway) fail_at(out, Failure::runaway, neuron, step);
  if (end.ending == Ending::unsolvable) fail_at(out, Failure::unsolvable, neuron, step);
  lanes.v1[lane] = end.y.v, lanes.u1[lane] = end.y.u;
}

/// The lanes of a block whose bits are set.
template <class Method, class Drive, bool Located, class T>
__attribute__((noinline)) void finish_lanes(const PopulationCall<T>& call, const Method& method, int64_t first,
                                            uint32_t step, uint64_t set, Outliers<T>& lanes, ShardResult& out) {
  for (; set; set &= set - 1) {
    const int lane = __builtin_ctzll(set);
    if (first + lane < call.n)
      finish_lane<Method, Drive, Located>(call, method, first + lane, step, lane, lanes, out);
    else
      lanes.v1[lane] = lanes.v[lane], lanes.u1[lane] = lanes.u[lane];
  }
}

/// Names the first lane of a block that is not a finite number at the end of a call.
template <class T>
void check_finite(const PopulationCall<T>& call, int64_t first, const State<Pack<T>> (&y)[packs], ShardResult& out) {
  uint64_t bad = 0;
  for (int p = 0; p < packs; ++p) {
    const Pack<T> zero = (y[p].v - y[p].v) + (y[p].u - y[p].u);  // NaN unless both are finite
    bad |= uint64_t{bits(!(zero >= zero))} << (p * Pack<T>::lanes);
  }
  for (; bad; bad &= bad - 1)
    if (const int64_t neuron = first + __builtin_ctzll(bad); neuron < call.n)
      return fail_at(out, Failure::diverged, neuron, call.steps - 1);
}

/// All steps of one block. Shared: all coefficients are. Lanewise: lanes at the peak leave the block; else (reset on
/// the grid, nobody wants to know when) they are reset where they are and counted.
template <class Method, bool Ramped, bool Located, bool Shared, bool Lanewise, class T>
void run_block(const PopulationCall<T>& call, const Method& method, int64_t first, ShardResult& out) {
  using R = Pack<T>;
  using Drive = std::conditional_t<Ramped, Ramp<R>, Held<R>>;
  constexpr int lanes = R::lanes;
  const Rates<R> common = rates_of<R>(call, first);
  const Reset<R> common_reset = reset_of<R>(call, first);
  const Length<R> length = Length<R>::whole(call.h);
  Field<R, Drive> f[packs];
  Reset<R> reset[packs];
  State<R> y[packs], before[packs] = {};
  typename PackMask<T>::Bits counted[packs] = {};
#pragma GCC unroll 4
  for (int p = 0; p < packs; ++p) {
    const int64_t at = first + p * lanes;
    f[p] = field_of<Drive>(call, Shared ? common : rates_of<R>(call, at), at);
    reset[p] = Shared ? common_reset : reset_of<R>(call, at);
    y[p] = {R::load(call.v + at), R::load(call.u + at)};
    if constexpr (has_memory<Method>) before[p] = {R::load(call.slope_v + at), R::load(call.slope_u + at)};
  }
  for (uint32_t step = 0; step < call.steps; ++step) {
    State<R> y1[packs];
#pragma GCC unroll 4
    for (int p = 0; p < packs; ++p) y1[p] = map_lanes(method, f[p], y[p], length, before[p]);
    if constexpr (Lanewise) {
      const R level = R(T(0));
      PackMask<T> hit[packs];
#pragma GCC unroll 4
      for (int p = 0; p < packs; ++p) hit[p] = !(y1[p].v < (call.zero ? level : reset[p].v_peak));
      if (bits((hit[0] | hit[1]) | (hit[2] | hit[3]))) {
        Outliers<T> outliers;
        uint64_t set = 0;
        for (int p = 0; p < packs; ++p) {
          set |= uint64_t{bits(hit[p])} << (p * lanes);
          y[p].v.store(outliers.v + p * lanes), y[p].u.store(outliers.u + p * lanes);
          y1[p].v.store(outliers.v1 + p * lanes), y1[p].u.store(outliers.u1 + p * lanes);
          if constexpr (has_memory<Method>) before[p].v.store(outliers.slope_v + p * lanes);
        }
        using ScalarDrive = std::conditional_t<Ramped, Ramp<T>, Held<T>>;
        finish_lanes<Method, ScalarDrive, Located>(call, method, first, step, set, outliers, out);
        for (int p = 0; p < packs; ++p) {
          y1[p] = {R::load(outliers.v1 + p * lanes), R::load(outliers.u1 + p * lanes)};
          if constexpr (has_memory<Method>) before[p].v = R::load(outliers.slope_v + p * lanes);
        }
        if (out.failure != Failure::none) return;
      }
#pragma GCC unroll 4
      for (int p = 0; p < packs; ++p) y[p] = y1[p];
    } else {
#pragma GCC unroll 4
      for (int p = 0; p < packs; ++p) {
        PackMask<T> fired;
        y[p] = grid_reset(reset[p], y1[p], fired);
        counted[p] -= fired.x;
        if constexpr (has_memory<Method>) before[p].v = select(fired, R(no_slope<T>()), before[p].v);
      }
    }
  }
#pragma GCC unroll 4
  for (int p = 0; p < packs; ++p) {
    const int64_t at = first + p * lanes;
    y[p].v.store(call.v + at), y[p].u.store(call.u + at);
    if constexpr (has_memory<Method>) before[p].v.store(call.slope_v + at), before[p].u.store(call.slope_u + at);
    if constexpr (!Lanewise)
      if (call.counts)
        for (int i = 0; i < lanes; ++i) call.counts[at + i] += static_cast<uint32_t>(counted[p][i]);
  }
  check_finite(call, first, y, out);
}

/// Orders a shard's events by step, keeping the order inside one: blocks came one after the other.
void order_by_step(ShardResult& shard, uint32_t steps);

/// Runs `block(call, first, out)` over all blocks of all shards.
template <class T, class Body>
void for_blocks(const PopulationCall<T>& call, std::vector<ShardResult>& results, const Body& block) {
  const int64_t shards = shards_of(call.n);
  results.resize(static_cast<size_t>(shards));
  parallel_for(shards, [&](int64_t shard) {
    ShardResult& out = results[static_cast<size_t>(shard)];
    out.events.clear(), out.failure = Failure::none, out.pieces = 0;
    const int64_t end = std::min(call.n, (shard + 1) * shard_size);
    for (int64_t first = shard * shard_size; first < end && out.failure == Failure::none; first += block_width<T>)
      block(call, first, out);
    order_by_step(out, call.steps);
  });
}

/// One call with one method: picks the instance of run_block.
template <class T, class Method>
void advance_with(const PopulationCall<T>& call, const Method& method, std::vector<ShardResult>& results) {
  const auto own = [](const Column<T>& column) { return column.each != nullptr; };
  const bool shared = !(own(call.p2) || own(call.p1) || own(call.w) || own(call.ab) || own(call.ae) || own(call.abv) ||
                        own(call.v_peak) || own(call.c) || own(call.d) || call.conductance);
  const auto run = [&]<bool Ramped, bool Located, bool Shared, bool Lanewise>() {
    for_blocks(call, results, [&](const PopulationCall<T>& c, int64_t first, ShardResult& out) {
      run_block<Method, Ramped, Located, Shared, Lanewise>(c, method, first, out);
    });
  };
  if (call.located) {
    if (call.ramp)
      run.template operator()<true, true, false, true>();
    else if (shared)
      run.template operator()<false, true, true, true>();
    else
      run.template operator()<false, true, false, true>();
    return;
  }
  if constexpr (!Method::may_fail) {
    if (!call.events && !call.zero) {
      if (shared)
        run.template operator()<false, false, true, false>();
      else
        run.template operator()<false, false, false, false>();
      return;
    }
  }
  if (shared)
    run.template operator()<false, false, true, true>();
  else
    run.template operator()<false, false, false, true>();
}

// Instances: population_explicit.cpp, population_runge_kutta.cpp, population_implicit.cpp.
#define RANVIER_POPULATION_METHOD(prefix, method)                                                            \
  prefix template void advance_with(const PopulationCall<float>&, const method&, std::vector<ShardResult>&); \
  prefix template void advance_with(const PopulationCall<double>&, const method&, std::vector<ShardResult>&);

}  // namespace ranvier::kernels::izhikevich
