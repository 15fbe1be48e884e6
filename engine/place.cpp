// Offsets of the arena: where each value lies, so that those alive at once never overlap and little is wasted.
#include <algorithm>

#include "engine/plan.h"

namespace ranvier {
namespace {

/// Gives each storage, in the order given, the lowest offset that is free during its life.
size_t place_in_order(const std::vector<Storage*>& order, std::vector<size_t>& offsets) {
  std::vector<size_t> placed;  // positions in `order`, by offset
  offsets.assign(order.size(), 0);
  size_t total = 0;
  for (size_t i = 0; i < order.size(); ++i) {
    size_t offset = 0;
    for (size_t other : placed) {
      if (order[other]->last < order[i]->first || order[i]->last < order[other]->first) continue;
      if (offsets[other] >= offset + aligned(order[i]->bytes)) break;
      offset = std::max(offset, offsets[other] + aligned(order[other]->bytes));
    }
    offsets[i] = offset;
    total = std::max(total, offset + aligned(order[i]->bytes));
    placed.insert(
        std::upper_bound(placed.begin(), placed.end(), i, [&](size_t a, size_t b) { return offsets[a] < offsets[b]; }),
        i);
  }
  return total;
}

}  // namespace

size_t live_bound(const std::vector<Storage*>& storages) {
  int64_t end = 0;
  for (const Storage* storage : storages) end = std::max(end, storage->last);
  std::vector<int64_t> change(static_cast<size_t>(end) + 2, 0);
  for (const Storage* storage : storages) {
    change[static_cast<size_t>(storage->first)] += static_cast<int64_t>(aligned(storage->bytes));
    change[static_cast<size_t>(storage->last) + 1] -= static_cast<int64_t>(aligned(storage->bytes));
  }
  int64_t live = 0, most = 0;
  for (int64_t delta : change) most = std::max(most, live += delta);
  return static_cast<size_t>(most);
}

size_t place(std::vector<Storage*> storages) {
  constexpr int most_tries = 200;
  std::sort(storages.begin(), storages.end(), [](const Storage* a, const Storage* b) {
    return a->bytes != b->bytes ? a->bytes > b->bytes : a->first < b->first;
  });
  const size_t bound = live_bound(storages);
  std::vector<size_t> offsets, best;
  std::vector<Storage*> order = storages, best_order = storages;
  size_t least = place_in_order(order, best);
  // Largest first is good, rarely the best. Moving some block to the front of the best order found so far closes most
  // of the gap; a fixed generator keeps the plan a function of the trace.
  uint64_t random = 0x9E3779B97F4A7C15ull;
  for (int attempt = 0; attempt<most_tries&& static_cast<double>(least)> 1.005 * static_cast<double>(bound);
       ++attempt) {
    order = best_order;
    for (int move = 0; move < 1 + attempt % 3; ++move) {
      random ^= random << 13, random ^= random >> 7, random ^= random << 17;
      const size_t large = std::min<size_t>(order.size(), 24);  // small blocks fill gaps wherever they stand
      const auto from = static_cast<std::ptrdiff_t>(random % large),
                 to = static_cast<std::ptrdiff_t>((random >> 32) % large);
      Storage* moved = order[static_cast<size_t>(from)];
      order.erase(order.begin() + from);
      order.insert(order.begin() + to, moved);
    }
    const size_t total = place_in_order(order, offsets);
    if (total > least) continue;
    least = total;
    best = offsets;
    best_order = order;
  }
  for (size_t i = 0; i < best_order.size(); ++i) best_order[i]->offset = best[i];
  return least;
}

}  // namespace ranvier
