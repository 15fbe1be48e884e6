// Spikes on their way on a CUDA device, from the lists of the host to its rings and back.
#include "engine/neuron_network_rings.h"

#include <algorithm>
#include <bit>
#include <map>
#include <tuple>

namespace ranvier::neuron {

namespace sy = kernels::synapse;

uint64_t ring_places(uint64_t worst) {
  constexpr uint64_t spare = 1024;
  return std::bit_ceil(worst + spare);
}

#if defined(RANVIER_HAS_CUDA)

namespace {

constexpr size_t most_ring_bytes = 64u << 20;  // larger rings are emptied rather than grown
constexpr int32_t whole_weight = int32_t{1} << sy::weight_bits;

}  // namespace

DeviceRings::DeviceRings(const NetworkSpec& spec, std::vector<Path>& paths, std::vector<Projection>& projections)
    : spec_(spec), paths_(paths), projections_(projections), arena_(spec.device), ring_arena_(spec.device) {
  const size_t count = spec.populations.size();
  device_cursors_ = arena_.make_array<Word>(count), device_drained_ = arena_.make_array<Word>(count);
  cursors_.assign(count, 0), capacities_.assign(count, 0);
}

void DeviceRings::add(const Ring& kicked, int64_t neurons, int64_t padded, int most_spikes) {
  const auto p = static_cast<int>(rings_.size());
  Ring ring = kicked;
  ring.neurons = neurons;
  ring.worst = static_cast<Word>(neurons) * static_cast<Word>(most_spikes);
  bool asked = false;
  for (const Path& path : paths_) {
    if (path.spec.source == p && path.spec.connections.offset.back() > 0)
      ring.reach = std::max<int64_t>(ring.reach, path.longest + 1);
    asked = asked || (path.spec.stdp && (path.spec.source == p || path.spec.target == p));
  }
  ring.slots = ring.reach + 2;
  ring.starts = arena_.make_array<Word>(static_cast<size_t>(ring.slots));
  ring.cursor = device_cursors_ + p, ring.drained = device_drained_ + p;
  if (asked) ring.spiked = arena_.make_array<uint8_t>(static_cast<size_t>(padded));
  rings_.push_back(ring);
}

/// Spikes of a projection that are on their way at the start of step n, by step and source, each source's in the order
/// of time.
std::vector<DeviceRings::Pending> DeviceRings::pending_of(const Path& path, int64_t n) const {
  std::vector<Pending> out;
  const auto size = static_cast<int64_t>(path.due.size());
  for (int64_t at = n; at < n + size; ++at)
    for (const Arrival& a : path.due[static_cast<size_t>(at % size)])
      out.push_back({at - path.steps_of(a), a.source, static_cast<int>(a.moment), a.factor});
  std::stable_sort(out.begin(), out.end(), [](const Pending& a, const Pending& b) { return a.key() < b.key(); });
  return out;
}

void DeviceRings::make(int64_t n) {
  ring_arena_ = DeviceArena(spec_.device);
  for (size_t p = 0; p < rings_.size(); ++p) {
    std::map<std::tuple<int64_t, uint32_t, int>, Word> places;   // the most spikes a projection has under way, then
    std::vector<std::pair<size_t, std::vector<Pending>>> lists;  // where they begin
    for (size_t k = 0; k < paths_.size(); ++k) {
      if (paths_[k].spec.source != static_cast<int>(p)) continue;
      const auto& list = lists.emplace_back(k, pending_of(paths_[k], n)).second;
      for (size_t i = 0, same = 0; i < list.size(); ++i) {
        same = i > 0 && list[i - 1].key() == list[i].key() ? same + 1 : 1;
        Word& most = places[list[i].key()];
        most = std::max<Word>(most, same);
      }
    }
    std::vector<Event> events;
    for (auto& [key, place] : places) {
      const Word spikes = place;
      place = events.size();
      const auto& [step, source, moment] = key;
      const double offset = moment ? (moment - 0.5) / sy::step_parts * spec_.dt : 0;  // it says no more than its moment
      events.insert(events.end(), spikes, {source, static_cast<uint32_t>(step), offset});
    }
    fill(static_cast<int>(p), n, events, places);
    for (const auto& [k, list] : lists)
      if (paths_[k].spec.short_term) fill_factors(rings_[p], projections_[k], places, list);
  }
  device_rings_ = ring_arena_.copy(rings_), device_projections_ = ring_arena_.copy(projections_);
}

template <class Places>
void DeviceRings::fill(int p, int64_t n, const std::vector<Event>& events, const Places& places) {
  Ring& ring = rings_[p];
  const Word capacity = std::max<Word>(capacities_[p], ring_places(events.size() + ring.worst));
  capacities_[p] = capacity, ring.mask = capacity - 1;
  ring.events = ring_arena_.make_array<Event>(capacity);
  if (!events.empty()) copy_to_device(spec_.device, ring.events, events.data(), events.size() * sizeof(Event));
  std::vector<Word> starts(static_cast<size_t>(ring.slots), 0);
  for (int64_t m = n - ring.reach; m <= n; ++m) {
    const auto first = places.lower_bound({m, 0, 0});
    starts[static_cast<size_t>((m % ring.slots + ring.slots) % ring.slots)] =
        first == places.end() ? events.size() : first->second;
  }
  copy_to_device(spec_.device, ring.starts, starts.data(), starts.size() * sizeof(Word));
  cursors_[p] = events.size();
  copy_to_device(spec_.device, ring.cursor, &cursors_[p], sizeof(Word));
  copy_to_device(spec_.device, ring.drained, &cursors_[p], sizeof(Word));
}

template <class Places>
void DeviceRings::fill_factors(const Ring& ring, Projection& p, const Places& places,
                               const std::vector<Pending>& list) {
  std::vector<int32_t> factors(ring.mask + 1, whole_weight);
  for (size_t i = 0, same = 0; i < list.size(); ++i) {
    same = i > 0 && list[i - 1].key() == list[i].key() ? same + 1 : 0;
    factors[places.at(list[i].key()) + same] = list[i].factor;
  }
  p.factors = ring_arena_.copy(factors);
}

void DeviceRings::fetch(int64_t n) {
  for (Path& path : paths_)
    for (auto& list : path.due) list.clear();
  for (size_t p = 0; p < rings_.size(); ++p) {
    const Ring& ring = rings_[p];
    std::vector<Word> starts(static_cast<size_t>(ring.slots));
    copy_to_host(spec_.device, starts.data(), ring.starts, starts.size() * sizeof(Word));
    const int64_t oldest = n - ring.reach;
    const Word first = starts[static_cast<size_t>((oldest % ring.slots + ring.slots) % ring.slots)];
    const std::vector<Event> events = events_of(static_cast<int>(p), first, cursors_[p]);
    for (size_t k = 0; k < paths_.size(); ++k)
      if (paths_[k].spec.source == static_cast<int>(p)) fetch(paths_[k], projections_[k], ring, first, events, n);
  }
}

void DeviceRings::fetch(Path& path, const Projection& p, const Ring& ring, Word first, const std::vector<Event>& events,
                        int64_t n) const {
  std::vector<int32_t> factors;
  if (p.factors) {
    factors.resize(ring.mask + 1);
    copy_to_host(spec_.device, factors.data(), p.factors, factors.size() * sizeof(int32_t));
  }
  struct Due {
    int64_t step;
    Arrival arrival;
  };
  std::vector<Due> found;
  for (size_t i = 0; i < events.size(); ++i) {
    const Event& e = events[i];
    const int64_t step = n - static_cast<int64_t>(static_cast<uint32_t>(n) - e.step);
    const int moment = printed() ? 0 : sy::moment_of(e.offset, spec_.dt);
    const int32_t factor = factors.empty() ? whole_weight : factors[(first + i) & ring.mask];
    Arrival a;
    if (path.arrival(e.neuron, moment, factor, n - step, a)) found.push_back({step, a});
  }
  // Atomics order the ring; a source's spikes are in the order of time in it and stay so.
  std::stable_sort(found.begin(), found.end(), [](const Due& a, const Due& b) {
    return std::tie(a.step, a.arrival.source) < std::tie(b.step, b.arrival.source);
  });
  for (const Due& d : found) path.post(d.arrival, d.step);
}

std::vector<DeviceRings::Event> DeviceRings::events_of(int p, Word first, Word last) const {
  const Ring& ring = rings_[static_cast<size_t>(p)];
  std::vector<Event> events(last - first);
  for (Word done = 0; done < events.size();) {
    const Word at = (first + done) & ring.mask, count = std::min<Word>(events.size() - done, ring.mask + 1 - at);
    copy_to_host(spec_.device, events.data() + done, ring.events + at, count * sizeof(Event));
    done += count;
  }
  return events;
}

bool DeviceRings::grow(int64_t n, bool must) {
  bool worth = must;
  for (const Ring& ring : rings_) worth = worth || (ring.mask + 1) * sizeof(Event) < most_ring_bytes;
  if (!worth) return false;
  fetch(n);
  for (Word& capacity : capacities_)
    if (must || capacity * sizeof(Event) < most_ring_bytes) capacity *= 2;
  make(n);
  return true;
}

void DeviceRings::drain() {
  copy_to_device(spec_.device, device_drained_, cursors_.data(), cursors_.size() * sizeof(Word));
}

std::vector<DeviceRings::Word> DeviceRings::now() const {
  std::vector<Word> words(cursors_.size());
  copy_to_host(spec_.device, words.data(), device_cursors_, words.size() * sizeof(Word));
  return words;
}

#endif

}  // namespace ranvier::neuron
