// Networks on a CUDA device: which arrays travel when, and batches of steps.
#include "engine/neuron_network_device.h"

#include <algorithm>
#include <cmath>
#include <tuple>

#include "engine/neuron_network_rings.h"
#include "kernels/common/philox.h"

namespace ranvier::neuron {

namespace sy = kernels::synapse;

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
  if (s.field)
    for (size_t p = 0; p < s.field->cells.size(); ++p)
      parts.push_back(
          {"field of " + s.populations[p].name, s.field->cells[p].diameters.size(), 7 * sizeof(double) + 4});
  for (const ProjectionSpec& p : s.projections) {
    const Connections& c = p.connections;
    const bool listed = !c.target.empty() || p.stdp;
    double bytes = 4 + (listed ? 4 : 0) + (c.delay.empty() ? 0 : 2) + (c.part.empty() ? 0 : 1);
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

constexpr int64_t longest_batch = 1024;  // steps
constexpr int64_t recorded = 16;         // steps that are recorded once and replayed as one

}  // namespace

template <class T>
struct NetworkOnDevice<T>::Implementation {
  Implementation(const NetworkSpec& s, std::vector<HostCells<T>> given, std::vector<Path>& given_paths, Field* f)
      : spec(s),
        device(s.device),
        host(std::move(given)),
        paths(given_paths),
        field(f),
        arena(device),
        rings(s, given_paths, projections) {}

  const NetworkSpec& spec;
  Device device;
  std::vector<HostCells<T>> host;
  std::vector<Path>& paths;
  Field* field;  // null: there is none
  DeviceArena arena;
  dev::Net<T> net;
  std::vector<dev::Cells<T>> cells;
  std::vector<dev::Projection> projections;
  DeviceRings rings;
  std::vector<std::vector<sy::ReceptorArrays<T>>> receptors;  // of the device
  std::vector<float*> field_currents;                         // of it; null of populations in no field
  std::vector<dev::FieldCells> field_cells;
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
    const bool feels = field && field->holds(p);
    field_currents.push_back(feels ? arena.make_array<float>(padded) : nullptr);
    c.tick.field = field_currents.back();
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
    dev::Ring kicked;
    if (spec.kick) {
      const auto& receptor = receptors[p][host[p].kick];
      kicked.kicked = receptor.arrived;
      kicked.kick = sy::fixed_point(static_cast<float>(spec.kick->current), 1 / static_cast<double>(receptor.unit));
    }
    rings.add(kicked, host[p].tick->n, host[p].padded, sy::most_spikes(net.stepping.resets));
  }

  void make_projection(const Path& path) {
    const Connections& c = path.spec.connections;
    dev::Projection p;
    p.source = path.spec.source, p.target = path.spec.target;
    p.sources = host[p.source].tick->n, p.target_count = host[p.target].tick->n;
    p.synapses = static_cast<int64_t>(c.offset.back());
    p.offset = arena.copy(c.offset), p.targets = arena.copy(c.target), p.delay = arena.copy(c.delay);
    p.part = arena.copy(c.part), p.fractional = path.fractional;
    p.same_delay = static_cast<int>(c.same_delay * sy::step_parts + c.same_part);
    if (p.synapses > 0) p.shortest = static_cast<int>(path.shortest), p.longest = static_cast<int>(path.longest);
    p.fixed = arena.copy(path.fixed), p.unit = path.unit;
    p.sums = receptors[p.target][path.receptor].arrived;
    if (path.spec.short_term) {
      p.short_term = path.short_term;
      p.resources = arena.copy(path.resources), p.last = arena.copy(path.last);
      net.shape.short_term = true;
    }
    net.shape.longest_group = std::max(net.shape.longest_group, path.longest_stretch());
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

  void make_field() {
    const Field::Tables& t = field->tables();
    dev::Field& f = net.field;
    f.cells = t.first.back(), f.lambda = t.lambda, f.unit = t.unit, f.h = spec.dt;
    for (int s = 0; s < 2; ++s) f.tau[s] = t.tau[s], f.decay[s] = t.decay[s], f.mean[s] = t.mean[s];
    f.places = arena.copy(t.places), f.charges = arena.copy(t.charges), f.radii = arena.copy(t.radii);
    f.state = arena.copy(field->state());
    for (size_t p = 0; p < cells.size(); ++p)
      field_cells.push_back({t.first[p], t.first[p + 1] - t.first[p], t.kappa[p], field_currents[p]});
    f.populations = arena.copy(field_cells);
  }

  void make(const sy::Stepping& stepping) {
    const size_t count = host.size();
    net.stepping = stepping, net.seed = spec.seed;
    for (size_t p = 0; p < count; ++p) make_cells(static_cast<int>(p));
    for (size_t p = 0; p < count; ++p) make_ring(static_cast<int>(p));
    for (const Path& path : paths) make_projection(path);
    if (field) make_field();
    if (spec.kick) {
      net.kick.steps = std::max<int64_t>(1, std::llround(spec.kick->interval / spec.dt));
      net.kick.stream = kernels::philox::stream_hash("network/kick");
      for (const HostCells<T>& h : host) net.kick.neurons += static_cast<uint64_t>(h.tick->n);
    }
    net.clock = static_cast<dev::Clock*>(arena.make(sizeof(dev::Clock)));
    net.cells = arena.copy(cells);
    net.populations = static_cast<int>(count), net.projection_count = static_cast<int>(projections.size());
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
    if (net.field.cells > 0) body(net.field.state, field->state().data(), field->state().size() * sizeof(double));
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
    for (size_t p = 0; p < field_cells.size(); ++p) {
      std::vector<float> current(static_cast<size_t>(field_cells[p].count));
      field->currents(static_cast<int>(p), current);
      if (!current.empty()) up(field_cells[p].current, current.data(), current.size() * sizeof(float));
    }
    rings.make(n), rings_moved();
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
    rings.fetch(n);
    paths_newer = false;
  }

  // ---- steps ----

  void rings_moved() { net.rings = rings.rings(), net.projections = rings.projections(), recording = {}; }

  dev::Clock launch(int64_t n, int64_t steps) {
    dev::Clock clock;
    clock.n = n, clock.end = n + steps;
    copy_to_device(device, net.clock, &clock, sizeof clock);
    rings.drain();
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
    for (size_t p = 0; p < rings.count(); ++p)
      for (const Event& e : rings.events(static_cast<int>(p), now[p]))
        found.push_back({n + static_cast<int64_t>(e.step - static_cast<uint32_t>(n)), static_cast<uint32_t>(p),
                         e.neuron, e.offset});
    std::sort(found.begin(), found.end(), [](const Found& a, const Found& b) {
      return std::tie(a.step, a.population, a.neuron, a.offset) < std::tie(b.step, b.population, b.neuron, b.offset);
    });
    for (const Found& f : found)
      out.push_back({static_cast<double>(f.step) * spec.dt + f.offset, f.population, f.neuron});
  }
};

template <class T>
NetworkOnDevice<T>::NetworkOnDevice(const NetworkSpec& spec, const sy::Stepping& stepping,
                                    std::vector<HostCells<T>> cells, std::vector<Path>& paths, Field* field)
    : implementation_(std::make_unique<Implementation>(spec, std::move(cells), paths, field)) {
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
  std::vector<Word> now = own.rings.now();
  if (out) own.take(n, now, *out);
  for (size_t p = 0; p < now.size(); ++p) ran.spikes.push_back(static_cast<int64_t>(now[p] - own.rings.cursor(p)));
  own.rings.advance(std::move(now));
  if (clock.failure) {
    const Word failure = ~clock.failure;
    ran.failed = true, ran.runaway = dev::is_runaway(failure);
    ran.population = static_cast<int>(dev::population_of(failure)), ran.neuron = dev::neuron_of(failure);
  }
  if (clock.full && own.rings.grow(clock.n, ran.steps == 0)) own.rings_moved();
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
                                    std::vector<Path>&, Field*) {}
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
