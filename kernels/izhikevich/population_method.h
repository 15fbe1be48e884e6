// One call of a population with one solver: which loop, which instance. Private to the sources that instantiate it.
#pragma once
#include "kernels/izhikevich/population_grid.h"
#include "kernels/izhikevich/population_located.h"

namespace ranvier::kernels::izhikevich {

/// One call with one method: picks the instance of run_located or run_block.
template <class T, class Method>
void advance_with(const PopulationCall<T>& call, const Method& method, std::vector<ShardResult>& results) {
  const auto own = [](const Column<T>& column) { return column.each != nullptr; };
  const bool shared = !(own(call.p2) || own(call.p1) || own(call.w) || own(call.ab) || own(call.ae) || own(call.abv) ||
                        own(call.v_peak) || own(call.c) || own(call.d) || call.conductance);
  const auto located = [&]<bool Ramped, bool Shared>() {
    // Small populations need their few shards for the threads.
    const int64_t together = shards_of(call.n) < 16 ? 1 : tile_size<T> / shard_size;
    for_shards(call, results, together, [&](int64_t begin, int64_t end, ShardResult* out) {
      run_located<Method, Ramped, Shared>(call, method, begin, end, out);
    });
  };
  const auto grid = [&]<bool Shared, bool Lanewise>() {
    for_blocks(call, results, [&](const PopulationCall<T>& c, int64_t first, ShardResult& out) {
      run_block<Method, Shared, Lanewise>(c, method, first, out);
    });
  };
  if (call.located) {
    if (call.ramp)
      located.template operator()<true, false>();
    else if (shared)
      located.template operator()<false, true>();
    else
      located.template operator()<false, false>();
    return;
  }
  if constexpr (!Method::may_fail) {
    if (!call.events && !call.zero) {
      if (shared)
        grid.template operator()<true, false>();
      else
        grid.template operator()<false, false>();
      return;
    }
  }
  if (shared)
    grid.template operator()<true, true>();
  else
    grid.template operator()<false, true>();
}

// Instances: population_explicit.cpp, population_runge_kutta.cpp, population_implicit.cpp.
#define RANVIER_POPULATION_METHOD(prefix, method)                                                            \
  prefix template void advance_with(const PopulationCall<float>&, const method&, std::vector<ShardResult>&); \
  prefix template void advance_with(const PopulationCall<double>&, const method&, std::vector<ShardResult>&);

}  // namespace ranvier::kernels::izhikevich
