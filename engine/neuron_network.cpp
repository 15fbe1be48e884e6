// Networks: names, checks, memory, checkpoints.
#include "engine/neuron_network.h"

#include <unistd.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <fstream>
#include <mutex>
#include <set>

#include "engine/atomic_file.h"
#include "engine/neuron_network_device.h"
#include "engine/population_run.h"

namespace ranvier::neuron {
namespace {

using kernels::synapse::Kind;

constexpr std::pair<Kind, std::string_view> kinds[] = {{Kind::pulse, "pulse"},   {Kind::exponential, "exponential"},
                                                       {Kind::ampa, "ampa"},     {Kind::nmda, "nmda"},
                                                       {Kind::gaba_a, "gaba_a"}, {Kind::gaba_b, "gaba_b"}};

void check(const std::string& what, const char* key, double value, bool good) {
  if (!std::isfinite(value) || !good) fail("{}: {} = {} is not allowed", what, key, value);
}

/// Names become parts of file contents, HDF5 paths and --record NAME:0.
void check_name(const char* what, const std::string& name) {
  const auto plain = [](unsigned char c) { return std::isalnum(c) || c == '_' || c == '-'; };
  if (name.empty() || !std::all_of(name.begin(), name.end(), plain))
    fail("{} '{}': a name is made of letters, digits, _ and -", what, name);
}

/// Times that the step's counter measures.
void check_whole(const std::string& what, const char* key, double value, double dt) {
  const double steps = std::round(value / dt);
  if (!(steps >= 1) || std::abs(steps * dt - value) > 1e-6 * dt)
    fail("{}: {} = {} ms is not a whole number of steps of {} ms", what, key, value, dt);
}

void check_connections(const ProjectionSpec& p, int64_t sources, int64_t targets) {
  const Connections& c = p.connections;
  if (static_cast<int64_t>(c.offset.size()) != sources + 1 || c.offset.back() != c.count())
    fail("projection {}: its rows are not those of {} source neurons", p.name, sources);
  if (c.count() != 0 &&
      (c.target.empty() ? c.count() != static_cast<uint64_t>(sources * targets) : c.target.size() != c.count()))
    fail("projection {}: {} targets for {} weights", p.name, c.target.size(), c.count());
  if (!c.delay.empty() && c.delay.size() != c.count())
    fail("projection {}: {} delays for {} weights", p.name, c.delay.size(), c.count());
  if (!c.part.empty() && c.part.size() != c.delay.size())
    fail("projection {}: {} parts of {} delays", p.name, c.part.size(), c.delay.size());
  if (p.stdp && c.fractional()) fail("projection {}: delays of plastic synapses are whole steps", p.name);
  for (size_t i = 0; i < c.target.size(); ++i)
    if (c.target[i] >= static_cast<uint64_t>(targets))
      fail("projection {}: synapse {} has target {} of {} neurons", p.name, i, c.target[i], targets);
  if (c.delay.empty() && c.same_delay == 0) fail("projection {}: its delay is under one step", p.name);
  for (size_t i = 0; i < c.delay.size(); ++i)
    if (c.delay[i] == 0) fail("projection {}: synapse {} has a delay under one step", p.name, i);
  for (size_t s = 0; s + 1 < c.offset.size(); ++s) {
    if (c.offset[s] > c.offset[s + 1]) fail("projection {}: the row of neuron {} ends before it begins", p.name, s);
    for (uint64_t i = c.offset[s] + 1; !c.delay.empty() && i < c.offset[s + 1]; ++i)
      if (c.delay_of(i) < c.delay_of(i - 1))
        fail("projection {}: the row of neuron {} is not ordered by delay", p.name, s);
  }
  for (size_t i = 0; i < c.weight.size(); ++i) {
    if (!std::isfinite(c.weight[i])) fail("projection {}: synapse {} has weight {}", p.name, i, c.weight[i]);
    if (kernels::synapse::is_conductance(p.synapse.kind) && c.weight[i] < 0)
      fail("projection {}: synapse {} has conductance {}, which is negative", p.name, i, c.weight[i]);
    if (const auto w = static_cast<double>(c.weight[i]);
        p.stdp && (w < p.stdp->low - 1e-6 * std::abs(p.stdp->low) || w > p.stdp->high + 1e-6 * std::abs(p.stdp->high)))
      fail("projection {}: synapse {} begins with weight {}: stdp keeps weights from {} to {}", p.name, i, c.weight[i],
           p.stdp->low, p.stdp->high);
  }
  if (p.stdp && c.count() > 0xffffffffu) fail("projection {}: more than 2^32 plastic synapses", p.name);
  if (c.count() >= uint64_t{1} << 29) {  // 2^29 synapses of one neuron, 8 spikes each, weights to 2^30: 62 bits
    std::vector<uint32_t> in(static_cast<size_t>(targets), 0);
    for (uint32_t t : c.target)
      if (++in[t] >= 1u << 29) fail("projection {}: neuron {} has 2^29 synapses, too many to add up", p.name, t);
  }
}

void check_projection(const ProjectionSpec& p, const NetworkSpec& s) {
  const auto populations = static_cast<int>(s.populations.size());
  if (p.source < 0 || p.source >= populations || p.target < 0 || p.target >= populations)
    fail("projection {}: there are {} populations, not number {} or {}", p.name, populations, p.source, p.target);
  const std::string what = "projection " + p.name;
  const SynapseModel& m = p.synapse;
  if (m.kind != Kind::pulse) check(what, "tau", m.tau, m.tau > 0);
  check(what, "tau_rise", m.tau_rise, m.tau_rise >= 0 && (m.tau_rise < m.tau || kernels::synapse::states(m.kind) < 2));
  check(what, "reversal", m.reversal, true);
  if (p.short_term) {
    check(what, "U", p.short_term->U, p.short_term->U > 0 && p.short_term->U <= 1);
    check(what, "tau_depression", p.short_term->tau_depression, p.short_term->tau_depression >= 0);
    check(what, "tau_facilitation", p.short_term->tau_facilitation, p.short_term->tau_facilitation >= 0);
  }
  if (p.stdp) {
    const StdpRule& r = *p.stdp;
    check(what, "tau_plus", r.tau_plus, r.tau_plus > 0), check(what, "tau_minus", r.tau_minus, r.tau_minus > 0);
    check(what, "plus", r.plus, true), check(what, "minus", r.minus, true);
    check(what, "high", r.high, r.high > r.low), check(what, "interval", r.interval, r.interval >= 0);
    if (r.interval > 0) check_whole(what, "stdp interval", r.interval, s.dt);
    check(what, "low", r.low, true), check(what, "drift", r.drift, true), check(what, "keep", r.keep, true);
  }
  check_connections(p, s.populations[p.source].size, s.populations[p.target].size);
}

void check_network(const NetworkSpec& s) {
  check("network", "dt", s.dt, s.dt > 0);
  if (const CudaSupport cuda = cuda_support(); s.device.backend == Backend::cuda && !cuda.usable)
    fail("network: device cuda: {}", cuda.why);
  if (s.populations.empty()) fail("network: it has no population");
  std::set<std::string> names;
  for (const PopulationSpec& p : s.populations) {
    check_name("population", p.name);
    for (const Process& noise : p.processes)
      if (noise.kind == Process::Kind::noise) check_whole("population " + p.name, "noise_dt", noise.interval, s.dt);
    if (p.size < 1 || p.size > int64_t{1} << 31) fail("population {}: its size is {}", p.name, p.size);
    if (!names.insert(p.name).second) fail("network: two populations are called {}", p.name);
  }
  for (const ProjectionSpec& p : s.projections) check_name("projection", p.name), check_projection(p, s);
  if (s.field) {
    std::vector<std::string> all;
    std::vector<int64_t> sizes;
    for (const PopulationSpec& p : s.populations) all.push_back(p.name), sizes.push_back(p.size);
    check_field(*s.field, all, sizes);
  }
  if (!s.kick) return;
  check("kick", "current", s.kick->current, true), check("kick", "interval", s.kick->interval, s.kick->interval > 0);
  check_whole("kick", "interval", s.kick->interval, s.dt);
}

/// Neurons and synapses with their bytes, the builder's lists included.
std::vector<Sizes> sizes_of(const NetworkSpec& s) {
  std::vector<Sizes> parts;
  const double element = s.precision == Precision::f32 ? 4 : 8;
  for (const PopulationSpec& p : s.populations) {
    const bool alike = p.each.empty() && p.current_each.empty() && p.processes.empty();
    parts.push_back({p.name, static_cast<uint64_t>(p.size),
                     element * (2 + static_cast<double>(own_columns(p, s.mode) + (alike ? 0 : 1))) +
                         (own_doubles(p) ? 2.0 * sizeof(double) : 0.0) + 16.0 +
                         (p.processes.empty() ? 0 : 4 + static_cast<double>(ExternalCurrent::bytes_per_neuron(p)))});
  }
  if (s.field)
    for (size_t p = 0; p < s.field->cells.size(); ++p)
      parts.push_back({"field of " + s.populations[p].name, s.field->cells[p].diameters.size(), Field::bytes_a_cell});
  for (const ProjectionSpec& p : s.projections) {
    const Connections& c = p.connections;
    const double list = (c.target.empty() ? 0 : 4) + (c.delay.empty() ? 0 : 2) + (c.part.empty() ? 0 : 1);
    parts.push_back({p.name, c.count(), 4 + list + (p.stdp ? 8.0 + (p.stdp->interval > 0 ? 4 : 0) : 0)});
  }
  return parts;
}

void add_projection(Fingerprint& f, const ProjectionSpec& p) {
  f.add(p.name), f.add(p.source), f.add(p.target);
  f.add(p.synapse.kind), f.add(p.synapse.tau), f.add(p.synapse.tau_rise), f.add(p.synapse.reversal);
  const Connections& c = p.connections;
  f.add(c.offset), f.add(c.target), f.add(c.weight), f.add(c.delay), f.add(c.same_delay);
  f.add(c.part), f.add(c.same_part);
  f.add(p.short_term.has_value()), f.add(p.stdp.has_value());
  if (p.short_term) f.add(p.short_term->U), f.add(p.short_term->tau_depression), f.add(p.short_term->tau_facilitation);
  if (!p.stdp) return;
  const StdpRule& r = *p.stdp;
  for (double x : {r.plus, r.minus, r.tau_plus, r.tau_minus, r.low, r.high, r.interval, r.drift, r.keep}) f.add(x);
  f.add(r.nearest);
}

/// All that decides what a state means, but for what the checkpoint's first line says in words.
uint64_t identity_of(const NetworkSpec& s) {
  Fingerprint f;
  for (const PopulationSpec& p : s.populations) f.add(p.name), add_cells(f, p), add_inputs(f, p);
  for (const ProjectionSpec& p : s.projections) add_projection(f, p);
  if (s.kick) f.add(s.kick->current), f.add(s.kick->interval);
  if (!s.field) return f.value();
  const FieldSpec& field = *s.field;
  for (double x : {field.lambda, field.sigma, field.current, field.reference, field.tau, field.tau_rise}) f.add(x);
  for (const FieldCells& c : field.cells) f.add(c.places), f.add(c.diameters), f.add(c.g_ratio), f.add(c.kappa);
  return f.value();
}

uint64_t available_memory() {
  std::ifstream file("/proc/meminfo");
  for (std::string key; file >> key;) {
    uint64_t kilobytes = 0;
    if (key == "MemAvailable:" && file >> kilobytes) return 1024 * kilobytes;
    file.ignore(256, '\n');
  }
  return static_cast<uint64_t>(sysconf(_SC_PHYS_PAGES)) * static_cast<uint64_t>(sysconf(_SC_PAGE_SIZE));
}

}  // namespace

std::string_view name(Kind kind) {
  for (const auto& [known, text] : kinds)
    if (known == kind) return text;
  return "?";
}

SynapseModel synapse_named(std::string_view text) {
  if (text == "pulse") return {Kind::pulse, 0, 0, 0};
  if (text == "exponential") return {Kind::exponential, 5, 0, 0};
  if (text == "ampa") return {Kind::ampa, 5, 0, 0};
  if (text == "nmda") return {Kind::nmda, 150, 2, 0};
  if (text == "gaba_a") return {Kind::gaba_a, 6, 0, -70};
  if (text == "gaba_b") return {Kind::gaba_b, 150, 10, -90};
  fail("synapse '{}' is not one of pulse, exponential, ampa, nmda, gaba_a, gaba_b", text);
}

StdpRule StdpRule::published_2006() {
  StdpRule rule;
  rule.tau_plus = rule.tau_minus = -1 / std::log(0.95);
  rule.nearest = true, rule.interval = 1000, rule.drift = 0.01, rule.keep = 0.9;
  return rule;
}

std::string check_memory(const std::vector<Sizes>& parts, uint64_t limit) {
  std::string bill;
  double total = 0;
  for (const Sizes& part : parts) {
    const double bytes = part.bytes_an_item * static_cast<double>(part.items);
    total += bytes;
    bill += fmt::format("{}{} {} x {:.3g} B", bill.empty() ? "" : ", ", part.name, part.items, part.bytes_an_item);
  }
  bill = fmt::format("{:.4g} MB: {}", 1e-6 * total, bill);
  const double room = static_cast<double>(limit ? limit : available_memory());
  if (total > room) fail("larger than memory ({:.4g} MB available): {}", 1e-6 * room, bill);
  return bill;
}

Network::Network(NetworkSpec spec) {
  check_network(spec);
  const std::vector<Sizes> parts = sizes_of(spec);
  check_memory(parts, spec.memory_limit);
  if (spec.device.backend == Backend::cuda) check_memory(device_sizes(spec), free_memory(spec.device));
  const uint64_t identity = identity_of(spec);
  implementation_ = make_network(std::move(spec));
  implementation_->identity = identity;
  implementation_->cells_bill.assign(parts.begin(),
                                     parts.end() - static_cast<std::ptrdiff_t>(implementation_->paths.size()));
  for (PopulationSpec& p : implementation_->spec.populations) p.each.clear();  // its cells have them in their own form
}

Network::~Network() = default;
Network::Network(Network&&) noexcept = default;

void Network::run(int64_t steps, std::vector<NetworkSpike>* spikes) { implementation_->run(steps, spikes); }

std::span<float> Network::external(int population) { return implementation_->external(population); }

const NetworkSpec& Network::spec() const { return implementation_->spec; }
int64_t Network::step() const { return implementation_->n; }
int64_t Network::spikes_of(int population) const { return implementation_->counts.at(population); }
int64_t Network::deliveries() const { return implementation_->deliveries; }
double Network::v(int population, int64_t neuron) const {
  return implementation_->potential(population, neuron, false);
}
double Network::field(int population, int64_t neuron) const {
  const Field* field = implementation_->field.get();
  if (field) implementation_->fetch();
  return field && field->holds(population) ? field->potential(population, neuron) : 0;
}
double Network::u(int population, int64_t neuron) const { return implementation_->potential(population, neuron, true); }
std::pair<double, double> Network::mean_state(int population) const {
  implementation_->fetch();
  double v_sum = 0, u_sum = 0;
  const int64_t size = spec().populations.at(static_cast<size_t>(population)).size;
  for (int64_t i = 0; i < size; ++i) v_sum += v(population, i), u_sum += u(population, i);
  return {v_sum / static_cast<double>(size), u_sum / static_cast<double>(size)};
}
double Network::receptor_state(int population, int receptor, int64_t neuron) const {
  return implementation_->receptor_state(population, receptor, neuron);
}

std::vector<float> Network::weights(int projection) const {
  implementation_->fetch();
  const Path& path = implementation_->paths.at(projection);
  if (path.spec.stdp) return path.spec.connections.weight;
  std::vector<float> out;
  for (int32_t w : path.fixed) out.push_back(static_cast<float>(w / path.unit));
  return out;
}

std::string Network::bill() const {
  std::vector<Sizes> parts = implementation_->cells_bill;
  for (const Path& path : implementation_->paths) {
    const uint64_t count = path.spec.connections.offset.back();
    parts.push_back({path.spec.name, count, count ? path.bytes() / static_cast<double>(count) : 0});
  }
  return check_memory(parts, ~uint64_t{0});
}

std::string Network::Implementation::fingerprint() const {
  std::string text = fmt::format("ranvier network 5; {} {} dt {} seed {}", method_text(spec.mode, spec.solver),
                                 name(spec.precision), spec.dt, spec.seed);
  for (const auto& p : spec.populations) text += fmt::format("; {} {}", p.name, p.size);
  for (const auto& p : paths) text += fmt::format("; {} {}", p.spec.name, p.spec.connections.offset.back());
  if (field) text += fmt::format("; a field of {} cells", field->state().size() / 2);
  return text + fmt::format("; parameters, inputs, rules and synapses {:016x}\n", identity);
}

void StateArchive::raw(void* data, size_t size) {
  if (!loading) {
    const auto* from = static_cast<const std::byte*>(data);
    bytes.insert(bytes.end(), from, from + size);
    return;
  }
  if (size > bytes.size() - at) fail("{}: ends in the middle of its state", source);
  if (size) std::memcpy(data, bytes.data() + at, size);
  at += size;
}

namespace {

/// What stands between a checkpoint's first line and its state.
struct StateLength {
  uint64_t bytes, checksum;
};

uint64_t checksum_of(std::span<const std::byte> state) {
  Fingerprint f;
  f.add(state.data(), state.size());
  return f.value();
}

}  // namespace

void Network::save(const std::string& path) const {
  StateArchive archive;
  const std::string head = implementation_->fingerprint();
  implementation_->state(archive);
  const StateLength length{archive.bytes.size(), checksum_of(archive.bytes)};
  AtomicFile file(path);
  file.write(std::as_bytes(std::span(head)), "the checkpoint");
  file.write(std::as_bytes(std::span(&length, 1)), "the checkpoint");
  file.write(archive.bytes, "the checkpoint");
  file.commit();
}

void Network::load(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  if (!file) fail("{}: cannot be read", path);
  const std::string bytes((std::istreambuf_iterator<char>(file)), {});
  const std::string head = implementation_->fingerprint();
  if (bytes.compare(0, 16, head, 0, 16) != 0) fail("{}: is no state of a network", path);
  if (bytes.compare(0, head.size(), head) != 0)
    fail("{}: is not of this network: {} against {}", path, bytes.substr(0, std::min(bytes.find('\n'), size_t{400})),
         head.substr(0, head.size() - 1));
  StateLength length{};
  if (bytes.size() < head.size() + sizeof length) fail("{}: ends in the middle of its state", path);
  std::memcpy(&length, bytes.data() + head.size(), sizeof length);
  const auto state = std::as_bytes(std::span(bytes)).subspan(head.size() + sizeof length);
  if (state.size() < length.bytes) fail("{}: ends in the middle of its state", path);
  if (state.size() > length.bytes) fail("{}: has bytes beyond its state", path);
  if (checksum_of(state) != length.checksum) fail("{}: is damaged: its checksum is another", path);
  StateArchive before;
  implementation_->state(before);
  StateArchive archive;
  archive.loading = true, archive.source = path;
  archive.bytes.assign(state.begin(), state.end());
  try {
    implementation_->state(archive);
    if (archive.at != archive.bytes.size()) fail("{}: has bytes beyond its state", path);
  } catch (const Error&) {
    before.loading = true;
    implementation_->state(before);
    throw;
  }
}

void run_batch(int64_t count, int64_t steps, const std::function<NetworkSpec(int64_t)>& make,
               const std::function<void(int64_t, const Network&, std::vector<NetworkSpike>&)>& finish) {
  std::exception_ptr error;
  std::mutex device;  // which all networks on it share
#pragma omp parallel for schedule(dynamic)
  for (int64_t i = 0; i < count; ++i) {
    try {
      NetworkSpec spec = make(i);
      std::unique_lock alone(device, std::defer_lock);
      if (spec.device.backend == Backend::cuda) alone.lock();
      Network network(std::move(spec));
      std::vector<NetworkSpike> spikes;
      network.run(steps, &spikes);
#pragma omp critical(ranvier_network_batch)
      finish(i, network, spikes);
    } catch (...) {
#pragma omp critical(ranvier_network_batch)
      if (!error) error = std::current_exception();
    }
  }
  if (error) std::rethrow_exception(error);
}

}  // namespace ranvier::neuron
