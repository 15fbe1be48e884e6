// Changes of weights in their slab.
#include "models/robust/damage.h"

#include <algorithm>
#include <cmath>
#include <functional>
#include <numeric>
#include <vector>

#include "engine/draws.h"
#include "engine/error.h"

namespace ranvier::robust {
namespace {

/// Calls `change(entry, values)` on every weight of two axes or more, and writes the values back.
void each_weight(State& state, std::string_view slab,
                 const std::function<void(const Entry&, std::vector<float>&)>& change) {
  for (uint32_t id : state.slab(slab)) {
    const Entry entry = state.entry(id);
    if (entry.type.shape.rank() < 2) continue;
    std::vector<float> values = state.get<float>(slab, entry.name);
    change(entry, values);
    state.set<float>(slab, entry.name, values);
  }
}

}  // namespace

void add_weight_noise(State& state, std::string_view slab, double level, uint64_t seed, uint64_t draw) {
  if (!(level >= 0 && std::isfinite(level))) fail("weight noise of level {}: must be 0 or more", level);
  each_weight(state, slab, [&](const Entry& entry, std::vector<float>& values) {
    double squares = 0;
    for (float v : values) squares += double{v} * v;
    const double deviation = level * std::sqrt(squares / static_cast<double>(values.size()));
    const Draws draws(seed, "damage.noise." + entry.name);
    for (size_t e = 0; e < values.size(); ++e) values[e] += static_cast<float>(deviation * draws.normal(draw, e));
  });
}

int64_t ablate_units(State& state, std::string_view slab, double share, uint64_t seed, uint64_t draw) {
  if (!(share >= 0 && share <= 1)) fail("ablation of a share {} of the units: must be from 0 to 1", share);
  int64_t gone = 0;
  each_weight(state, slab, [&](const Entry& entry, std::vector<float>& values) {
    const int64_t units = entry.type.shape[-1];
    if (entry.type.shape.rank() == 4 && units == 3) return;  // colours
    const Draws draws(seed, "damage.units." + entry.name);
    std::vector<int64_t> order(static_cast<size_t>(units));
    std::iota(order.begin(), order.end(), 0);
    const auto key = [&](int64_t unit) { return draws.uniform(draw, static_cast<uint64_t>(unit)); };
    std::stable_sort(order.begin(), order.end(), [&](int64_t a, int64_t b) { return key(a) < key(b); });
    order.resize(static_cast<size_t>(std::llround(share * static_cast<double>(units))));
    for (int64_t unit : order)
      for (size_t e = static_cast<size_t>(unit); e < values.size(); e += static_cast<size_t>(units)) values[e] = 0;
    gone += static_cast<int64_t>(order.size());
  });
  return gone;
}

}  // namespace ranvier::robust
