// Populations: the two printed schemes, the order of spikes, and which instance runs a call.
#include "kernels/izhikevich/population.h"

#include "kernels/izhikevich/population_method.h"

namespace ranvier::kernels::izhikevich {

RANVIER_POPULATION_METHOD(extern, Euler)
RANVIER_POPULATION_METHOD(extern, SemiImplicit)
RANVIER_POPULATION_METHOD(extern, AdamsBashforth)
RANVIER_POPULATION_METHOD(extern, Midpoint)
RANVIER_POPULATION_METHOD(extern, Rk4)
RANVIER_POPULATION_METHOD(extern, BackwardEuler)
RANVIER_POPULATION_METHOD(extern, LinearImplicit)
RANVIER_POPULATION_METHOD(extern, Exponential)

void order_by_step(ShardResult& shard, uint32_t steps) {
  if (steps <= 1 || shard.events.size() <= 1) return;
  shard.starts.assign(steps + 1, 0);
  for (const Event& event : shard.events) ++shard.starts[event.step + 1];
  for (uint32_t step = 0; step < steps; ++step) shard.starts[step + 1] += shard.starts[step];
  shard.ordered.resize(shard.events.size());
  for (const Event& event : shard.events) shard.ordered[shard.starts[event.step]++] = event;
  shard.events.swap(shard.ordered);
}

namespace {

template <class T>
void note_spikes(const PopulationCall<T>& call, PackMask<T> fired, int64_t first, uint32_t step, double offset,
                 ShardResult& out) {
  for (uint32_t word = bits(fired); word; word &= word - 1) {
    const int64_t neuron = first + __builtin_ctz(word);
    if (neuron >= call.n) return;
    if (call.events) out.events.push_back({static_cast<uint32_t>(neuron), step, offset});
    if (call.counts) ++call.counts[neuron];
  }
}

/// All steps of one block in a printed scheme. Lanewise: spikes are listed, else only counted.
template <Map Scheme, bool Shared, bool Lanewise, class T>
void run_printed(const PopulationCall<T>& call, int64_t first, ShardResult& out) {
  using R = Pack<T>;
  constexpr int lanes = R::lanes;
  const Printed<R> common = printed_of<R>(call, first);
  const Reset<R> common_reset = reset_of<R>(call, first);
  const R h = R(static_cast<T>(call.h)), zero = R(T(0));
  Printed<R> k[packs];
  Reset<R> reset[packs];
  R current[packs];
  State<R> y[packs];
  typename PackMask<T>::Bits counted[packs] = {};
#pragma GCC unroll 4
  for (int p = 0; p < packs; ++p) {
    const int64_t at = first + p * lanes;
    k[p] = Shared ? common : printed_of<R>(call, at);
    reset[p] = Shared ? common_reset : reset_of<R>(call, at);
    current[p] = coefficient<R>(call.drive, at);
    if (call.current) current[p] = current[p] + R::load(call.current + at);
    y[p] = {R::load(call.v + at), R::load(call.u + at)};
  }
  for (uint32_t step = 0; step < call.steps; ++step) {
    PackMask<T> fired[packs] = {};
#pragma GCC unroll 4
    for (int p = 0; p < packs; ++p) {
      if constexpr (Scheme == Map::printed_2004) {
        const R start = y[p].v;
        R above;
        y[p] = published_2004(k[p], reset[p], y[p], current[p], h, fired[p], above);
        if (Lanewise && call.zero) fired[p] = (start < zero) & (above >= zero);
      } else {
        if (!(Lanewise && call.update_only)) y[p] = published_2003_reset(reset[p], y[p], fired[p]);
        if (Lanewise && (call.zero || call.update_only)) fired[p] = zero < zero;
        const R start = y[p].v;
        if (!(Lanewise && call.reset_only)) y[p] = published_2003_update(k[p], y[p], current[p], h);
        if (Lanewise && call.zero) fired[p] = (start < zero) & (y[p].v >= zero);
      }
      if constexpr (!Lanewise) counted[p] -= fired[p].x;
    }
    if constexpr (Lanewise) {
      // The scripts' times: of the loop in which it is seen, but 0 mV in that of 2003 is seen after the update.
      const double offset = Scheme == Map::printed_2003 && call.zero ? call.h : 0;
      if (bits((fired[0] | fired[1]) | (fired[2] | fired[3])))
        for (int p = 0; p < packs; ++p) note_spikes(call, fired[p], first + p * lanes, step, offset, out);
    }
  }
#pragma GCC unroll 4
  for (int p = 0; p < packs; ++p) {
    const int64_t at = first + p * lanes;
    y[p].v.store(call.v + at), y[p].u.store(call.u + at);
    if constexpr (!Lanewise)
      if (call.counts)
        for (int i = 0; i < lanes; ++i) call.counts[at + i] += static_cast<uint32_t>(counted[p][i]);
    check_finite(call, at, y[p], out);
  }
}

template <Map Scheme, class T>
void advance_printed(const PopulationCall<T>& call, std::vector<ShardResult>& results) {
  const auto own = [](const Column<T>& column) { return column.each != nullptr; };
  const bool shared = !(own(call.p2) || own(call.p1) || own(call.q0) || own(call.a) || own(call.ab) || own(call.ae) ||
                        own(call.abv) || own(call.v_peak) || own(call.c) || own(call.d));
  const bool lanewise = call.events || call.zero || call.reset_only || call.update_only;
  const auto run = [&]<bool Shared, bool Lanewise>() {
    for_blocks(call, results, [](const PopulationCall<T>& c, int64_t first, ShardResult& out) {
      run_printed<Scheme, Shared, Lanewise>(c, first, out);
    });
  };
  if (shared)
    lanewise ? run.template operator()<true, true>() : run.template operator()<true, false>();
  else
    lanewise ? run.template operator()<false, true>() : run.template operator()<false, false>();
}

}  // namespace

template <class T>
void advance(const PopulationCall<T>& call, std::vector<ShardResult>& results) {
  switch (call.map) {
    case Map::euler:
      return advance_with(call, Euler{}, results);
    case Map::semi_implicit:
      return advance_with(call, SemiImplicit{}, results);
    case Map::backward_euler:
      return advance_with(call, BackwardEuler{}, results);
    case Map::midpoint:
      return advance_with(call, Midpoint{}, results);
    case Map::rk4:
      return advance_with(call, Rk4{}, results);
    case Map::ab2:
      return advance_with(call, AdamsBashforth{}, results);
    case Map::exponential:
      return advance_with(call, Exponential{call.doublings}, results);
    case Map::linear_implicit:
      return advance_with(call, LinearImplicit{}, results);
    case Map::printed_2003:
      return advance_printed<Map::printed_2003>(call, results);
    case Map::printed_2004:
      return advance_printed<Map::printed_2004>(call, results);
  }
}

template void advance(const PopulationCall<float>&, std::vector<ShardResult>&);
template void advance(const PopulationCall<double>&, std::vector<ShardResult>&);

}  // namespace ranvier::kernels::izhikevich
