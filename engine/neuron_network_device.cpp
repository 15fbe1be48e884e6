// Networks on a CUDA device: which arrays travel when, batches of steps, and spikes on their way from one form to the
// other.
#include "engine/neuron_network_device.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <map>
#include <tuple>

#include "kernels/common/philox.h"
#if defined(RANVIER_HAS_CUDA)
#include "kernels/synapse/network_cuda.h"
#endif

namespace ranvier::neuron {

namespace sy = kernels::synapse;

namespace {

/// Places of a ring that a step may add `worst` spikes to, at first.
uint64_t ring_places(uint64_t worst) {
  constexpr uint64_t spare = 1024;
  return std::bit_ceil(worst + spare);
}

}  // namespace

std::vector<Sizes> device_sizes(const NetworkSpec& s) {
  std::vector<Sizes> parts;
  const double element = s.precision == Precision::f32 ? 4 : 8;
  const auto spikes = static_cast<uint64_t>(s.mode == Mode::accurate ? sy::most_spikes(sy::Resets::located) : 1);
  for (size_t p = 0; p < s.populations.size(); ++p) {
    const PopulationSpec& cells = s.populations[p];
    std::vector<SynapseModel> receptors;
    for (const ProjectionSpec& path : s.projections)
      if (path.target == static_cast<int>(p) &&
          std::find(receptors.begin(), receptors.end(), path.synapse) == receptors.end())
        receptors.push_back(path.synapse);
    double bytes = 2 * element + (cells.processes.empty() ? 0 : 4) + (s.kick ? 8 : 0);
    if (!cells.each.empty()) bytes += 11 * element;
    if (!cells.each.empty() || !cells.current_each.empty() || !cells.processes.empty()) bytes += element;
    for (const SynapseModel& r : receptors) bytes += 8 + element * sy::states(r.kind);
    parts.push_back({cells.name, static_cast<uint64_t>(cells.size), bytes});
    parts.push_back({"spikes of " + cells.name, ring_places(static_cast<uint64_t>(cells.size) * spikes), 16});
  }
  for (const ProjectionSpec& p : s.projections) {
    const Connections& c = p.connections;
    const bool listed = !c.target.empty() || p.stdp;
    double bytes = 4 + (listed ? 4 : 0) + (c.delay.empty() ? 0 : 2);
    if (p.stdp) bytes += 8 + (p.stdp->interval > 0 ? 4 : 0);
    parts.push_back({p.name, c.count(), bytes});
  }
  return parts;
}

#if defined(RANVIER_HAS_CUDA)

namespace {

namespace dev = sy::cuda;
using dev::Event;
using dev::Word;

constexpr int64_t longest_batch = 1024;        // steps
constexpr int64_t recorded = 16;               // steps that are recorded once and replayed as one
constexpr size_t most_ring_bytes = 64u << 20;  // larger rings are emptied rather than grown
constexpr int32_t whole_weight = int32_t{1} << sy::weight_bits;

/// A spike that has synapses before it.
struct Pending {
  int64_t base;  ///< its synapses of delay d are due in step base + d
  uint32_t source;
  int32_t factor;
  auto key() const { return std::pair(base, source); }
};

/// Spikes of a projection that are on their way at the start of step n, by base and source, each source's in the order
/// of time.
std::vector<Pending> pending_of(const Path& path, int64_t n) {
  std::vector<Pending> out;
  const auto size = static_cast<int64_t>(path.due.size());
  for (int64_t at = n; at < n + size; ++at)
    for (const Arrival& a : path.due[static_cast<size_t>(at % size)])
      out.push_back({at - path.groups[a.group].delay, a.source, a.factor});
  std::stable_sort(out.begin(), out.end(), [](const Pending& a, const Pending& b) { return a.key() < b.key(); });
  return out;
}

std::pair<int, int> delays_of(const Path& path) {
  int low = path.groups.front().delay, high = low;
  for (const Group& g : path.groups) low = std::min<int>(low, g.delay), high = std::max<int>(high, g.delay);
  return {low, high};
}

/// The most synapses of one source with one delay.
int64_t longest_group(const Path& path) {
  int64_t longest = 0;
  for (size_t s = 0; s + 1 < path.first_group.size(); ++s) {
    int64_t count = 0;
    for (uint64_t g = path.first_group[s]; g < path.first_group[s + 1]; ++g) {
      const bool same = g > path.first_group[s] && path.groups[g - 1].delay == path.groups[g].delay;
      count = path.groups[g].count + (same ? count : 0);
      longest = std::max(longest, count);
    }
  }
  return longest;
}

/// Device memory, owned here and never moved but for rings.
class Arena {
 public:
  explicit Arena(Device device) : device_(device) {}
  void* make(size_t bytes, int fill = 0) {
    blocks_.emplace_back(device_, bytes);
    if (bytes) fill_bytes(device_, blocks_.back().data(), fill, bytes);
    return blocks_.back().data();
  }
  template <class E>
  E* make_array(size_t count) {
    return static_cast<E*>(make(count * sizeof(E)));
  }
  /// A copy of the host's array, null of an empty one.
  template <class E>
  E* copy(const E* host, size_t count) {
    if (count == 0) return nullptr;
    blocks_.emplace_back(device_, count * sizeof(E));
    copy_to_device(device_, blocks_.back().data(), host, count * sizeof(E));
    return static_cast<E*>(blocks_.back().data());
  }
  template <class E, class Allocator>
  E* copy(const std::vector<E, Allocator>& host) {
    return copy(host.data(), host.size());
  }

 private:
  Device device_;
  std::vector<Memory> blocks_;
};

}  // namespace

template <class T>
struct NetworkOnDevice<T>::Implementation {
  Implementation(const NetworkSpec& s, std::vector<HostCells<T>> given, std::vector<Path>& projections)
      : spec(s), device(s.device), host(std::move(given)), paths(projections), arena(device), ring_arena(device) {}

  const NetworkSpec& spec;
  Device device;
  std::vector<HostCells<T>> host;
  std::vector<Path>& paths;
  Arena arena, ring_arena;
  dev::Net<T> net;
  std::vector<dev::Ring> rings;
  std::vector<dev::Cells<T>> cells;
  std::vector<dev::Projection> projections;
  std::vector<std::vector<sy::ReceptorArrays<T>>> receptors;  // of the device
  std::vector<Word> cursors, capacities;
  Word *device_cursors = nullptr, *device_drained = nullptr;
  Recording recording;  // of a few steps; rings that moved want another
  bool host_newer = true, cells_newer = false, paths_newer = false;

  bool printed() const { return spec.mode == Mode::published_2003 || spec.mode == Mode::published_2004; }

  // ---- once ----

  T* column(const sy::Column<T>& c, int64_t padded) {
    return arena.copy(c.data, c.each ? static_cast<size_t>(padded) : 1);
  }

  void make_cells(int p) {
    const HostCells<T>& h = host[p];
    const auto padded = static_cast<size_t>(h.padded);
    dev::Cells<T> c;
    c.tick = *h.tick;
    c.tick.v = arena.make_array<T>(padded), c.tick.u = arena.make_array<T>(padded);
    for (size_t k = 0; k < h.coefficients; ++k) c.tick.k[k].data = column(h.tick->k[k], h.padded);
    for (auto member : {&sy::Tick<T>::v_peak, &sy::Tick<T>::c, &sy::Tick<T>::d, &sy::Tick<T>::base})
      (c.tick.*member).data = column(h.tick->*member, h.padded);
    if (h.process) {
      c.noise = arena.make_array<float>(padded), c.tick.noise = c.noise;
      c.noise_steps = h.noise_steps;
      c.noise_stream = kernels::philox::stream_hash(h.process->stream + "/" + spec.populations[p].name);
      c.mean = static_cast<float>(h.process->mean), c.deviation = static_cast<float>(h.process->deviation);
      net.shape.noise = true;
    }
    auto& list = receptors.emplace_back();
    for (int r = 0; r < h.tick->receptor_count; ++r) {
      sy::ReceptorArrays<T> a = h.tick->receptors[r];
      a.arrived = arena.make_array<int64_t>(padded);
      if (sy::states(a.kind) > 0) a.decaying = arena.make_array<T>(padded);
      if (sy::states(a.kind) > 1) a.rising = arena.make_array<T>(padded);
      list.push_back(a);
    }
    c.tick.receptors = arena.copy(list);
    c.first_block = net.shape.blocks;
    net.shape.blocks += (c.tick.n + dev::block_width - 1) / dev::block_width;
    net.shape.most_neurons = std::max(net.shape.most_neurons, c.tick.n);
    cells.push_back(c);
  }

  void make_ring(int p) {
    dev::Ring ring;
    ring.neurons = host[p].tick->n;
    ring.worst = static_cast<Word>(ring.neurons) * static_cast<Word>(sy::most_spikes(net.stepping.resets));
    bool asked = false;
    for (const Path& path : paths) {
      if (path.spec.source == p && path.spec.connections.offset.back() > 0)
        ring.reach = std::max<int64_t>(ring.reach, delays_of(path).second + 1);
      asked = asked || (path.spec.stdp && (path.spec.source == p || path.spec.target == p));
    }
    ring.slots = ring.reach + 2;
    ring.starts = arena.make_array<Word>(static_cast<size_t>(ring.slots));
    ring.cursor = device_cursors + p, ring.drained = device_drained + p;
    if (asked) ring.spiked = arena.make_array<uint8_t>(static_cast<size_t>(host[p].padded));
    if (spec.kick) {
      const auto& receptor = receptors[p][host[p].kick];
      ring.kicked = receptor.arrived;
      ring.kick = sy::fixed_point(static_cast<float>(spec.kick->current), 1 / static_cast<double>(receptor.unit));
    }
    rings.push_back(ring);
  }

  void make_projection(const Path& path) {
    const Connections& c = path.spec.connections;
    dev::Projection p;
    p.source = path.spec.source, p.target = path.spec.target;
    p.sources = host[p.source].tick->n, p.target_count = host[p.target].tick->n;
    p.synapses = static_cast<int64_t>(c.offset.back());
    p.offset = arena.copy(c.offset), p.targets = arena.copy(c.target), p.delay = arena.copy(c.delay);
    if (p.synapses > 0) std::tie(p.shortest, p.longest) = delays_of(path);
    p.fixed = arena.copy(path.fixed), p.unit = path.unit;
    p.sums = receptors[p.target][path.receptor].arrived;
    if (path.spec.short_term) {
      p.short_term = path.short_term;
      p.resources = arena.copy(path.resources), p.last = arena.copy(path.last);
      net.shape.short_term = true;
    }
    net.shape.longest_group = std::max(net.shape.longest_group, longest_group(path));
    if (path.spec.stdp) make_plastic(path, p);
    projections.push_back(p);
  }

  void make_plastic(const Path& path, dev::Projection& p) {
    p.plastic = net.shape.plastic = true;
    p.stdp = path.stdp, p.interval = path.interval, p.slots = path.slots;
    p.weight = arena.copy(path.spec.connections.weight), p.change = arena.copy(path.change);
    p.source_trace = arena.copy(path.source_trace), p.target_trace = arena.copy(path.target_trace);
    p.incoming = arena.copy(path.incoming);
    p.incoming_source = arena.copy(path.incoming_source), p.incoming_synapse = arena.copy(path.incoming_synapse);
    for (size_t t = 0; t + 1 < path.incoming.size(); ++t)
      net.shape.longest_fan =
          std::max(net.shape.longest_fan, static_cast<int64_t>(path.incoming[t + 1] - path.incoming[t]));
    if (path.interval > 0) net.shape.most_gathered = std::max(net.shape.most_gathered, p.synapses);
  }

  void make(const sy::Stepping& stepping) {
    const size_t count = host.size();
    net.stepping = stepping, net.seed = spec.seed;
    device_cursors = arena.make_array<Word>(count), device_drained = arena.make_array<Word>(count);
    cursors.assign(count, 0), capacities.assign(count, 0);
    for (size_t p = 0; p < count; ++p) make_cells(static_cast<int>(p));
    for (size_t p = 0; p < count; ++p) make_ring(static_cast<int>(p));
    for (const Path& path : paths) make_projection(path);
    if (spec.kick) {
      net.kick.steps = std::max<int64_t>(1, std::llround(spec.kick->interval / spec.dt));
      net.kick.stream = kernels::philox::stream_hash("network/kick");
      for (const HostCells<T>& h : host) net.kick.neurons += static_cast<uint64_t>(h.tick->n);
    }
    net.clock = static_cast<dev::Clock*>(arena.make(sizeof(dev::Clock)));
    net.cells = arena.copy(cells);
    net.populations = static_cast<int>(count), net.projection_count = static_cast<int>(projections.size());
  }

  // ---- spikes on their way ----

  /// Rings that hold what the host has on its way at the start of step n, with room for more.
  void make_rings(int64_t n) {
    ring_arena = Arena(device), recording = {};
    const int wait = printed() ? 0 : 1;
    for (size_t p = 0; p < rings.size(); ++p) {
      std::map<std::pair<int64_t, uint32_t>, Word> places;  // the most spikes that a projection has under way, then
      std::vector<std::pair<size_t, std::vector<Pending>>> lists;  // where they begin
      for (size_t k = 0; k < paths.size(); ++k) {
        if (paths[k].spec.source != static_cast<int>(p)) continue;
        const auto& list = lists.emplace_back(k, pending_of(paths[k], n)).second;
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
        events.insert(events.end(), spikes,
                      {key.second, static_cast<uint32_t>(key.first - wait), spec.dt});  // its offset says no more
      }
      fill_ring(static_cast<int>(p), n, wait, events, places);
      for (const auto& [k, list] : lists)
        if (paths[k].spec.short_term) fill_factors(rings[p], projections[k], places, list);
    }
    net.rings = ring_arena.copy(rings), net.projections = ring_arena.copy(projections);
  }

  template <class Places>
  void fill_ring(int p, int64_t n, int wait, const std::vector<Event>& events, const Places& places) {
    dev::Ring& ring = rings[p];
    const Word capacity = std::max<Word>(capacities[p], ring_places(events.size() + ring.worst));
    capacities[p] = capacity, ring.mask = capacity - 1;
    ring.events = ring_arena.template make_array<Event>(capacity);
    if (!events.empty()) copy_to_device(device, ring.events, events.data(), events.size() * sizeof(Event));
    std::vector<Word> starts(static_cast<size_t>(ring.slots), 0);
    for (int64_t m = n - ring.reach; m <= n; ++m) {
      const auto first = places.lower_bound({m + wait, 0});
      starts[static_cast<size_t>((m % ring.slots + ring.slots) % ring.slots)] =
          first == places.end() ? events.size() : first->second;
    }
    copy_to_device(device, ring.starts, starts.data(), starts.size() * sizeof(Word));
    cursors[p] = events.size();
    copy_to_device(device, ring.cursor, &cursors[p], sizeof(Word));
    copy_to_device(device, ring.drained, &cursors[p], sizeof(Word));
  }

  template <class Places>
  void fill_factors(const dev::Ring& ring, dev::Projection& p, const Places& places, const std::vector<Pending>& list) {
    std::vector<int32_t> factors(ring.mask + 1, whole_weight);
    for (size_t i = 0, same = 0; i < list.size(); ++i) {
      same = i > 0 && list[i - 1].key() == list[i].key() ? same + 1 : 0;
      factors[places.at(list[i].key()) + same] = list[i].factor;
    }
    p.factors = ring_arena.copy(factors);
  }

  /// The inverse: what is on its way at the start of step n, in the lists of the host.
  void fetch_spikes(int64_t n) {
    for (Path& path : paths)
      for (auto& list : path.due) list.clear();
    for (size_t p = 0; p < rings.size(); ++p) {
      const dev::Ring& ring = rings[p];
      std::vector<Word> starts(static_cast<size_t>(ring.slots));
      copy_to_host(device, starts.data(), ring.starts, starts.size() * sizeof(Word));
      const int64_t oldest = n - ring.reach;
      const Word first = starts[static_cast<size_t>((oldest % ring.slots + ring.slots) % ring.slots)];
      const std::vector<Event> events = events_of(static_cast<int>(p), first, cursors[p]);
      for (size_t k = 0; k < paths.size(); ++k)
        if (paths[k].spec.source == static_cast<int>(p)) fetch_spikes(paths[k], projections[k], ring, first, events, n);
    }
  }

  void fetch_spikes(Path& path, const dev::Projection& p, const dev::Ring& ring, Word first,
                    const std::vector<Event>& events, int64_t n) {
    std::vector<int32_t> factors;
    if (p.factors) {
      factors.resize(ring.mask + 1);
      copy_to_host(device, factors.data(), p.factors, factors.size() * sizeof(int32_t));
    }
    struct Due {
      int64_t step;
      Arrival arrival;
      size_t slot;
    };
    std::vector<Due> found;
    for (size_t i = 0; i < events.size(); ++i) {
      const Event& e = events[i];
      const int64_t step = n - static_cast<int64_t>(static_cast<uint32_t>(n) - e.step);
      const int64_t base = step + (printed() || !(e.offset > 0) ? 0 : 1);
      const int32_t factor = factors.empty() ? whole_weight : factors[(first + i) & ring.mask];
      Arrival a;
      if (!path.arrival(e.neuron, factor, n - base, a)) continue;
      found.push_back({step, a, static_cast<size_t>(base + path.groups[a.group].delay) % path.due.size()});
    }
    // Atomics order the ring; a source's spikes are in the order of time in it and stay so.
    std::stable_sort(found.begin(), found.end(), [](const Due& a, const Due& b) {
      return std::tie(a.step, a.arrival.source) < std::tie(b.step, b.arrival.source);
    });
    for (const Due& d : found) path.due[d.slot].push_back(d.arrival);
  }

  /// Spikes number `first` to `last` of a population.
  std::vector<Event> events_of(int p, Word first, Word last) const {
    const dev::Ring& ring = rings[p];
    std::vector<Event> events(last - first);
    for (Word done = 0; done < events.size();) {
      const Word at = (first + done) & ring.mask, count = std::min<Word>(events.size() - done, ring.mask + 1 - at);
      copy_to_host(device, events.data() + done, ring.events + at, count * sizeof(Event));
      done += count;
    }
    return events;
  }

  // ---- state ----

  /// Calls body(device array, host array, bytes) for what neurons keep.
  template <class Body>
  void for_cells(const Body& body) {
    for (size_t p = 0; p < host.size(); ++p) {
      const HostCells<T>& h = host[p];
      const auto padded = static_cast<size_t>(h.padded);
      body(cells[p].tick.v, h.tick->v, padded * sizeof(T)), body(cells[p].tick.u, h.tick->u, padded * sizeof(T));
      if (h.process) body(cells[p].noise, h.noise, padded * sizeof(float));
      for (int r = 0; r < h.tick->receptor_count; ++r) {
        const sy::ReceptorArrays<T>&here = h.tick->receptors[r], &there = receptors[p][r];
        if (there.decaying) body(there.decaying, here.decaying, padded * sizeof(T));
        if (there.rising) body(there.rising, here.rising, padded * sizeof(T));
      }
    }
  }

  /// The same of what projections keep, but for the spikes on their way.
  template <class Body>
  void for_paths(const Body& body) {
    const auto whole = [&](auto* there, auto& here) {
      if (there) body(there, here.data(), here.size() * sizeof(here[0]));
    };
    for (size_t k = 0; k < paths.size(); ++k) {
      const dev::Projection& p = projections[k];
      Path& path = paths[k];
      whole(p.resources, path.resources), whole(p.last, path.last);
      whole(p.weight, path.spec.connections.weight), whole(p.change, path.change);
      whole(p.source_trace, path.source_trace), whole(p.target_trace, path.target_trace);
    }
  }

  void push(int64_t n) {
    if (!host_newer) return;
    const auto up = [&](void* there, const void* here, size_t bytes) { copy_to_device(device, there, here, bytes); };
    for_cells(up), for_paths(up);
    make_rings(n);
    host_newer = false;
  }

  void fetch_cells() {
    if (!cells_newer) return;
    for_cells([&](const void* there, void* here, size_t bytes) { copy_to_host(device, here, there, bytes); });
    cells_newer = false;
  }

  void fetch_paths(int64_t n) {
    if (!paths_newer) return;
    for_paths([&](const void* there, void* here, size_t bytes) { copy_to_host(device, here, there, bytes); });
    fetch_spikes(n);
    paths_newer = false;
  }

  // ---- steps ----

  dev::Clock launch(int64_t n, int64_t steps) {
    dev::Clock clock;
    clock.n = n, clock.end = n + steps;
    copy_to_device(device, net.clock, &clock, sizeof clock);
    copy_to_device(device, device_drained, cursors.data(), cursors.size() * sizeof(Word));
    const auto run = [&](int64_t count) {
      for (int64_t k = 0; k < count; ++k) dev::step(net, stream_of(device));
    };
    if (steps >= recorded && !recording) recording = Recording(device, [&] { run(recorded); });
    for (int64_t k = 0; k < steps / recorded; ++k) recording.replay();
    run(steps % recorded);
    dev::close(net, stream_of(device));
    copy_to_host(device, &clock, net.clock, sizeof clock);
    return clock;
  }

  /// Spikes since the last time, ordered.
  void take(int64_t n, const std::vector<Word>& now, std::vector<NetworkSpike>& out) {
    struct Found {
      int64_t step;
      uint32_t population, neuron;
      double offset;
    };
    std::vector<Found> found;
    for (size_t p = 0; p < rings.size(); ++p)
      for (const Event& e : events_of(static_cast<int>(p), cursors[p], now[p]))
        found.push_back({n + static_cast<int64_t>(e.step - static_cast<uint32_t>(n)), static_cast<uint32_t>(p),
                         e.neuron, e.offset});
    std::sort(found.begin(), found.end(), [](const Found& a, const Found& b) {
      return std::tie(a.step, a.population, a.neuron, a.offset) < std::tie(b.step, b.population, b.neuron, b.offset);
    });
    for (const Found& f : found)
      out.push_back({static_cast<double>(f.step) * spec.dt + f.offset, f.population, f.neuron});
  }

  /// Larger rings, where that is better than emptying them more often, or the only way on.
  void grow(int64_t n, bool must) {
    bool worth = must;
    for (const dev::Ring& ring : rings) worth = worth || (ring.mask + 1) * sizeof(Event) < most_ring_bytes;
    if (!worth) return;
    fetch_spikes(n);
    for (Word& capacity : capacities)
      if (must || capacity * sizeof(Event) < most_ring_bytes) capacity *= 2;
    make_rings(n);
  }
};

template <class T>
NetworkOnDevice<T>::NetworkOnDevice(const NetworkSpec& spec, const sy::Stepping& stepping,
                                    std::vector<HostCells<T>> cells, std::vector<Path>& paths)
    : implementation_(std::make_unique<Implementation>(spec, std::move(cells), paths)) {
  implementation_->make(stepping);
}
template <class T>
NetworkOnDevice<T>::~NetworkOnDevice() = default;

template <class T>
typename NetworkOnDevice<T>::Ran NetworkOnDevice<T>::run(int64_t n, int64_t steps, std::vector<NetworkSpike>* out) {
  Implementation& own = *implementation_;
  own.push(n);
  own.cells_newer = own.paths_newer = true;
  const dev::Clock clock = own.launch(n, std::min(steps, longest_batch));
  Ran ran;
  ran.steps = clock.n - n, ran.deliveries = static_cast<int64_t>(clock.deliveries);
  std::vector<Word> now(own.cursors.size());
  copy_to_host(own.device, now.data(), own.device_cursors, now.size() * sizeof(Word));
  if (out) own.take(n, now, *out);
  for (size_t p = 0; p < now.size(); ++p) ran.spikes.push_back(static_cast<int64_t>(now[p] - own.cursors[p]));
  own.cursors = std::move(now);
  if (clock.failure) {
    const Word failure = ~clock.failure;
    ran.failed = true, ran.runaway = dev::is_runaway(failure);
    ran.population = static_cast<int>(dev::population_of(failure)), ran.neuron = dev::neuron_of(failure);
  }
  if (clock.full) own.grow(clock.n, ran.steps == 0);
  return ran;
}

template <class T>
T NetworkOnDevice<T>::value(int population, int64_t neuron, bool of_u) const {
  const Implementation& own = *implementation_;
  const auto p = static_cast<size_t>(population);
  const sy::Tick<T>&here = *own.host[p].tick, &there = own.cells[p].tick;
  T x = (of_u ? here.u : here.v)[neuron];
  if (own.cells_newer) copy_to_host(own.device, &x, (of_u ? there.u : there.v) + neuron, sizeof x);
  return x;
}
template <class T>
void NetworkOnDevice<T>::fetch_cells() {
  implementation_->fetch_cells();
}
template <class T>
void NetworkOnDevice<T>::fetch_paths(int64_t n) {
  implementation_->fetch_paths(n);
}
template <class T>
void NetworkOnDevice<T>::changed() {
  implementation_->host_newer = true, implementation_->cells_newer = implementation_->paths_newer = false;
}
template <class T>
void NetworkOnDevice<T>::base_changed(int population) {
  Implementation& own = *implementation_;
  const HostCells<T>& h = own.host.at(static_cast<size_t>(population));
  const size_t count = h.tick->base.each ? static_cast<size_t>(h.padded) : 1;
  copy_to_device(own.device, const_cast<T*>(own.cells[static_cast<size_t>(population)].tick.base.data),
                 h.tick->base.data, count * sizeof(T));
}

#else  // never made: the network refuses a device that is not there

template <class T>
struct NetworkOnDevice<T>::Implementation {};
template <class T>
NetworkOnDevice<T>::NetworkOnDevice(const NetworkSpec&, const sy::Stepping&, std::vector<HostCells<T>>,
                                    std::vector<Path>&) {}
template <class T>
NetworkOnDevice<T>::~NetworkOnDevice() = default;
template <class T>
typename NetworkOnDevice<T>::Ran NetworkOnDevice<T>::run(int64_t, int64_t, std::vector<NetworkSpike>*) {
  return {};
}
template <class T>
T NetworkOnDevice<T>::value(int, int64_t, bool) const {
  return {};
}
template <class T>
void NetworkOnDevice<T>::fetch_cells() {}
template <class T>
void NetworkOnDevice<T>::fetch_paths(int64_t) {}
template <class T>
void NetworkOnDevice<T>::changed() {}
template <class T>
void NetworkOnDevice<T>::base_changed(int) {}

#endif

template class NetworkOnDevice<float>;
template class NetworkOnDevice<double>;

}  // namespace ranvier::neuron
