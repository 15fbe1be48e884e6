// A network's step in f32 or f64.
#include <algorithm>
#include <cmath>

#include "engine/neuron_network_device.h"
#include "engine/population_input.h"
#include "kernels/common/philox.h"
#include "kernels/common/team.h"
#include "kernels/izhikevich/located.h"
#include "kernels/izhikevich/published.h"
#include "kernels/izhikevich/steps.h"
#include "kernels/random/random.h"

namespace ranvier::neuron {
namespace {

namespace iz = kernels::izhikevich;
namespace sy = kernels::synapse;

constexpr int64_t least_share = 2048;  // neurons that a thread of its own is worth

sy::Method method_of(Solver solver) {
  switch (solver) {
    case Solver::euler:
      return sy::Method::euler;
    case Solver::izhikevich:
      return sy::Method::semi_implicit;
    case Solver::midpoint:
      return sy::Method::midpoint;
    case Solver::rk4:
      return sy::Method::rk4;
    case Solver::backward_euler:
      return sy::Method::backward_euler;
    case Solver::exponential:
      return sy::Method::exponential;
    case Solver::linear_implicit:
      return sy::Method::linear_implicit;
    default:
      fail("solver {} has no place in a network: its steps are not of one length and one memory", name(solver));
  }
}

sy::Resets resets_of(Mode mode) {
  switch (mode) {
    case Mode::published:
      return sy::Resets::grid;
    case Mode::published_2003:
      return sy::Resets::printed_2003;
    case Mode::published_2004:
      return sy::Resets::printed_2004;
    case Mode::accurate:
      break;
  }
  return sy::Resets::located;
}

bool printed(Mode mode) { return mode == Mode::published_2003 || mode == Mode::published_2004; }

/// The coefficients of neuron i: those of the population but for the ones that differ.
Parameters parameters_of(const PopulationSpec& p, int64_t i, double& v0, double& u0) {
  Parameters q = p.parameters;
  v0 = p.v0, u0 = p.u0;
  for (const auto& [key, values] : p.each) {
    double* to = key == "C"        ? &q.C
                 : key == "q2"     ? &q.q2
                 : key == "q1"     ? &q.q1
                 : key == "q0"     ? &q.q0
                 : key == "a"      ? &q.a
                 : key == "b"      ? &q.b
                 : key == "v_b"    ? &q.v_b
                 : key == "e"      ? &q.e
                 : key == "v_peak" ? &q.v_peak
                 : key == "c"      ? &q.c
                 : key == "d"      ? &q.d
                 : key == "v0"     ? &v0
                 : key == "u0"     ? &u0
                                   : nullptr;
    if (!to) fail("population {}: there is no parameter '{}'", p.name, key);
    if (static_cast<int64_t>(values.size()) != p.size)
      fail("population {}: {} values of {} for {} neurons", p.name, values.size(), key, p.size);
    *to = values[static_cast<size_t>(i)];
  }
  return q;
}

template <class T>
struct Receiver {
  SynapseModel model;
  double largest = 0;  ///< |weight|
  std::vector<int64_t> arrived;
  std::vector<T> decaying, rising;
};

/// What one thread stepped.
struct Shard {
  int64_t begin = 0;
  sy::Outcome outcome;
};

/// The neurons of n that belong to one of `threads`: whole tiles of noise and whole lines of memory.
Range range_of(int64_t n, int thread, int threads) {
  const auto cut = [&](int64_t k) {
    return k == threads ? n : n * k / threads / (2 * kernels::cpu::normal_tile) * (2 * kernels::cpu::normal_tile);
  };
  return {cut(thread), cut(thread + 1)};
}

/// A population.
template <class T>
struct Cells {
  PopulationSpec spec;
  int64_t padded = 0;
  std::vector<T> v, u, base;
  std::vector<std::vector<T>> columns;  ///< k, then v_peak c d
  std::vector<double> capacity, q0;     ///< of p0 = (q0 + I) / C
  std::vector<float> noise, field, external;
  std::vector<std::unique_ptr<Receiver<T>>> receivers;
  std::vector<sy::ReceptorArrays<T>> arrays;
  sy::Tick<T> tick;
  std::unique_ptr<sy::Spike[]> room;
  std::vector<sy::Spike> spikes;
  std::vector<Shard> shards;               ///< one a thread
  const Process* process = nullptr;        ///< the first noise, drawn where it is needed
  std::unique_ptr<PopulationSpec> driven;  ///< with the other processes, which change the constant current now and then
  std::unique_ptr<ExternalCurrent> processes;
  int64_t noise_steps = 1;
  uint64_t noise_stream = 0;
  double current_now = std::nan("");
  std::vector<double> own_current;  ///< scratch
  int kick = -1;                    ///< its receiver
};

template <class T>
class Running final : public Network::Implementation {
 public:
  explicit Running(NetworkSpec s);
  void run(int64_t steps, std::vector<NetworkSpike>* spikes) override;
  void fetch() const override {
    if (device_) device_->fetch_cells(), device_->fetch_paths(n);
  }
  double potential(int p, int64_t i, bool recovery) const override {
    if (device_) return static_cast<double>(device_->value(p, i, recovery));
    return static_cast<double>((recovery ? cells_[p].u : cells_[p].v)[i]);
  }
  double receptor_state(int p, int r, int64_t i) const override {
    if (device_) device_->fetch_cells();
    const auto& list = cells_.at(p).receivers.at(r)->decaying;
    return list.empty() ? 0 : static_cast<double>(list[i]);
  }
  std::span<float> external(int p) override;
  void state(StateArchive& archive) override;

 private:
  void make_cells(Cells<T>& c, const PopulationSpec& spec);
  void make_processes(Cells<T>& c);
  int receiver(Cells<T>& c, const SynapseModel& model, double largest, bool shared);
  void finish_receivers(Cells<T>& c);
  void make_device();
  void run_stretch(int64_t steps, std::vector<NetworkSpike>* spikes);
  void begin_step();
  void share(int thread, int threads);
  void end_step(std::vector<NetworkSpike>* spikes);
  void run_on_device(int64_t steps, std::vector<NetworkSpike>* spikes);
  double shared_current(const Cells<T>& c, int64_t step) const;
  bool stimulate(Cells<T>& c);
  void make_noise(Cells<T>& c, Range own);
  void kick();
  void start_field();
  void feel();
  void gather(Cells<T>& c);
  [[noreturn]] void fail_neuron(const Cells<T>& c, int64_t neuron, bool runaway) const;
  void send(int p, std::vector<NetworkSpike>* spikes);

  std::vector<Cells<T>> cells_;
  sy::Stepping stepping_;
  int64_t kick_steps_ = 1, all_ = 0;
  std::unique_ptr<NetworkOnDevice<T>> device_;
};

template <class T>
Running<T>::Running(NetworkSpec s) : Implementation(std::move(s)) {
  stepping_.method = method_of(spec.solver), stepping_.resets = resets_of(spec.mode), stepping_.h = spec.dt;
  stepping_.doublings = 0;
  cells_.resize(spec.populations.size());
  counts.assign(spec.populations.size(), 0);
  for (size_t p = 0; p < cells_.size(); ++p) make_cells(cells_[p], spec.populations[p]), all_ += cells_[p].spec.size;
  for (ProjectionSpec& projection : spec.projections) {
    Path path;
    path.spec = std::move(projection);
    double largest = 0;
    for (float w : path.spec.connections.weight) largest = std::max(largest, std::abs(static_cast<double>(w)));
    if (path.spec.stdp) largest = std::max({largest, std::abs(path.spec.stdp->high), std::abs(path.spec.stdp->low)});
    path.receptor = receiver(cells_[path.spec.target], path.spec.synapse, largest, true);
    paths.push_back(std::move(path));
  }
  spec.projections.clear();
  if (spec.kick) {
    kick_steps_ = std::max<int64_t>(1, std::llround(spec.kick->interval / spec.dt));
    for (auto& c : cells_) c.kick = receiver(c, {}, std::abs(spec.kick->current), false);
  }
  for (auto& c : cells_) finish_receivers(c);
  if (spec.field) start_field();
  for (Path& path : paths)
    path.prepare(cells_[path.spec.source].spec.size, cells_[path.spec.target].spec.size, spec,
                 1 / static_cast<double>(cells_[path.spec.target].arrays[path.receptor].unit));
  if (spec.device.backend == Backend::cuda) make_device();
}

template <class T>
void Running<T>::make_device() {
  std::vector<HostCells<T>> host;
  for (auto& c : cells_) {
    stimulate(c);
    host.push_back({&c.tick, c.padded, c.columns.size() - 3, c.noise.data(), c.process, c.noise_steps, c.kick});
  }
  device_ = std::make_unique<NetworkOnDevice<T>>(spec, stepping_, std::move(host), paths);
}

template <class T>
void Running<T>::make_cells(Cells<T>& c, const PopulationSpec& from) {
  c.spec = from;
  const int64_t n = from.size;
  c.padded = (n + 15) / 16 * 16;
  const auto padded = static_cast<size_t>(c.padded);
  c.v.assign(padded, T(-65)), c.u.assign(padded, T(0));
  const int64_t distinct = from.each.empty() ? 1 : n;
  const size_t k_count = printed(spec.mode) ? 7 : 6;
  c.columns.assign(k_count + 3, std::vector<T>(static_cast<size_t>(distinct == 1 ? 1 : c.padded), T(0)));
  for (int64_t i = 0; i < n; ++i) {
    double v0, u0;
    const Parameters q = parameters_of(from, i, v0, u0);
    c.v[i] = static_cast<T>(v0), c.u[i] = static_cast<T>(u0);
    if (i >= distinct) continue;
    try {
      validate(q);
      if (!(v0 < q.v_peak) || !std::isfinite(u0)) fail("v0 = {}, u0 = {}: not below v_peak = {}", v0, u0, q.v_peak);
      if (printed(spec.mode) && q.C != 1) fail("mode {} has no C = {}", name(spec.mode), q.C);
    } catch (const Error& error) {
      fail("population {}, neuron {}: {}", from.name, i, error.what());
    }
    const iz::Rates<T> r = iz::rates<T>(q);
    const iz::Printed<T> k = iz::printed<T>(q);
    const T values[2][7] = {{r.p2, r.p1, r.w, r.ab, r.ae, r.abv, T(0)}, {k.q2, k.q1, k.q0, k.a, k.b, k.v_b, k.e}};
    for (size_t j = 0; j < k_count; ++j) c.columns[j][i] = values[k_count == 7][j];
    const iz::Reset<T> reset = iz::reset<T>(q);
    c.columns[k_count][i] = reset.v_peak, c.columns[k_count + 1][i] = reset.c, c.columns[k_count + 2][i] = reset.d;
    c.capacity.push_back(q.C), c.q0.push_back(q.q0);
    if (spec.solver == Solver::exponential)
      stepping_.doublings = std::max(stepping_.doublings, iz::doublings_for(q, spec.dt));
  }
  if (!from.current_each.empty() && static_cast<int64_t>(from.current_each.size()) != n)
    fail("population {}: {} values of current for {} neurons", from.name, from.current_each.size(), n);
  make_processes(c);
  const bool alike = distinct == 1 && from.current_each.empty() && !(c.processes && c.processes->differs());
  c.base.assign(alike ? 1 : padded, T(0));
  sy::Tick<T>& t = c.tick;
  t.n = n, t.v = c.v.data(), t.u = c.u.data();
  const auto column = [](const std::vector<T>& x) { return sy::Column<T>{x.data(), x.size() > 1}; };
  for (size_t j = 0; j < k_count; ++j) t.k[j] = column(c.columns[j]);
  t.v_peak = column(c.columns[k_count]), t.c = column(c.columns[k_count + 1]), t.d = column(c.columns[k_count + 2]);
  t.base = column(c.base);
  t.noise = c.process ? c.noise.data() : nullptr;
  c.room.reset(new sy::Spike[static_cast<size_t>(n) * sy::most_spikes(stepping_.resets)]);
}

template <class T>
void Running<T>::make_processes(Cells<T>& c) {
  PopulationSpec others;
  for (const Process& process : c.spec.processes) {
    if (process.kind != Process::Kind::noise || c.process) {
      others.processes.push_back(process);
      others.processes.back().stream += "/" + c.spec.name;
      continue;
    }
    c.process = &process;
    c.noise_steps = std::max<int64_t>(1, std::llround(process.interval / spec.dt));
    c.noise.assign(static_cast<size_t>(c.padded), 0);
    c.noise_stream = kernels::philox::stream_hash(process.stream + "/" + c.spec.name);
  }
  if (others.processes.empty()) return;
  others.name = "population " + c.spec.name, others.size = c.spec.size, others.dt = spec.dt, others.seed = spec.seed;
  others.mode = Mode::published;  // what holds at a step's start holds through it
  validate(others);
  c.driven = std::make_unique<PopulationSpec>(std::move(others));
  c.processes = std::make_unique<ExternalCurrent>(*c.driven);
}

template <class T>
int Running<T>::receiver(Cells<T>& c, const SynapseModel& model, double largest, bool shared) {
  if (shared)
    for (size_t r = 0; r < c.receivers.size(); ++r)
      if (c.receivers[r]->model == model) {
        c.receivers[r]->largest = std::max(c.receivers[r]->largest, largest);
        return static_cast<int>(r);
      }
  auto made = std::make_unique<Receiver<T>>();
  made->model = model, made->largest = largest;
  c.receivers.push_back(std::move(made));
  return static_cast<int>(c.receivers.size()) - 1;
}

/// (1 - exp(-h / tau)) tau / h, the mean of exp(-t / tau) over a step.
double mean_of(double h, double tau) { return -kernels::math::expm1(-h / tau) * tau / h; }

template <class T>
void Running<T>::finish_receivers(Cells<T>& c) {
  const auto padded = static_cast<size_t>(c.padded);
  for (auto& r : c.receivers) {
    const SynapseModel& m = r->model;
    sy::ReceptorArrays<T> a;
    a.kind = m.kind;
    int exponent = 0;
    std::frexp(r->largest > 0 ? r->largest : 1.0, &exponent);
    a.unit = static_cast<T>(std::ldexp(1.0, exponent - sy::weight_bits));
    r->arrived.assign(padded, 0);
    const int count = sy::states(m.kind);
    if (m.kind == sy::Kind::pulse) a.step = {T(0), static_cast<T>(1 / spec.dt), T(0), T(0), T(0)};
    if (count > 0) r->decaying.assign(padded, T(0));
    if (count > 1) r->rising.assign(padded, T(0));
    if (count > 0) {
      double norm = 1;
      const bool rises = count > 1 && m.tau_rise > 0;
      if (rises) {
        const double ratio = m.tau / m.tau_rise;
        norm = 1 / (std::pow(ratio, -m.tau_rise / (m.tau - m.tau_rise)) * (1 - m.tau_rise / m.tau));
      }
      a.step = {static_cast<T>(kernels::math::exp(-spec.dt / m.tau)), static_cast<T>(norm * mean_of(spec.dt, m.tau)),
                rises ? static_cast<T>(kernels::math::exp(-spec.dt / m.tau_rise)) : T(0),
                rises ? static_cast<T>(norm * mean_of(spec.dt, m.tau_rise)) : T(0), static_cast<T>(m.reversal)};
    }
    a.arrived = r->arrived.data(), a.decaying = r->decaying.data(), a.rising = r->rising.data();
    c.arrays.push_back(a);
  }
  c.tick.receptors = c.arrays.data(), c.tick.receptor_count = static_cast<int>(c.arrays.size());
}

/// What all neurons get in a step.
template <class T>
double Running<T>::shared_current(const Cells<T>& c, int64_t step) const {
  const double t = static_cast<double>(step) * spec.dt;
  return c.spec.current.at(t) + (c.processes ? c.processes->shared(t) : 0);
}

/// The constant current of the step; true where it is another than before.
template <class T>
bool Running<T>::stimulate(Cells<T>& c) {
  const bool drawn = c.processes && c.processes->move(static_cast<double>(n) * spec.dt);
  const double current = shared_current(c, n);
  if (current == c.current_now && !drawn) return false;
  c.current_now = current;
  c.own_current.assign(c.base.size(), current);
  if (c.base.size() > 1 && c.processes) c.processes->add(0, c.spec.size, c.own_current.data());
  for (size_t i = 0; i < c.base.size(); ++i) {
    if (static_cast<int64_t>(i) >= c.spec.size) break;
    const double I = c.own_current[i] + (c.spec.current_each.empty() ? 0 : c.spec.current_each[i]);
    const size_t j = c.capacity.size() > 1 ? i : 0;
    c.base[i] = static_cast<T>(printed(spec.mode) ? I : (c.q0[j] + I) / c.capacity[j]);
  }
  return true;
}

template <class T>
void Running<T>::make_noise(Cells<T>& c, Range own) {
  if (!c.process || n % c.noise_steps != 0) return;
  const int64_t rng[2] = {static_cast<int64_t>(spec.seed), n / c.noise_steps};
  kernels::cpu::fill_normal_from(own.begin, own.end - own.begin, static_cast<float>(c.process->mean),
                                 static_cast<float>(c.process->deviation), c.noise_stream, rng,
                                 c.noise.data() + own.begin);
}

template <class T>
void Running<T>::kick() {
  if (!spec.kick) return;
  const uint64_t stream = kernels::philox::stream_hash("network/kick");
  auto chosen = static_cast<int64_t>(
      kernels::philox::integer_of(kernels::philox::bits(spec.seed, stream, static_cast<uint64_t>(n / kick_steps_), 0),
                                  0, static_cast<uint64_t>(all_)));
  for (auto& c : cells_) {
    if (chosen < c.spec.size) {
      const auto& a = c.arrays[c.kick];
      a.arrived[chosen] += sy::fixed_point(static_cast<float>(spec.kick->current), 1 / static_cast<double>(a.unit));
      return;
    }
    chosen -= c.spec.size;
  }
}

template <class T>
void Running<T>::start_field() {
  field = std::make_unique<Field>(*spec.field, spec.dt);
  for (int p = 0; p < static_cast<int>(cells_.size()); ++p) {
    Cells<T>& c = cells_[p];
    if (!field->holds(p)) continue;
    c.field.assign(static_cast<size_t>(c.padded), 0);
    c.tick.field = c.field.data();
  }
}

template <class T>
std::span<float> Running<T>::external(int p) {
  if (device_) fail("network: a current of the caller's is added on the CPU: --device cpu");
  Cells<T>& c = cells_.at(static_cast<size_t>(p));
  c.external.resize(static_cast<size_t>(c.padded)), c.field.resize(static_cast<size_t>(c.padded));
  c.tick.field = c.field.data();
  return std::span(c.external).first(static_cast<size_t>(c.spec.size));
}

/// Currents of the field and of the caller over the step.
template <class T>
void Running<T>::feel() {
  for (int p = 0; p < static_cast<int>(cells_.size()); ++p) {
    Cells<T>& c = cells_[p];
    const bool held = field && field->holds(p);
    if (held) field->currents(p, std::span(c.field).first(static_cast<size_t>(c.spec.size)));
    if (c.external.empty()) continue;
    if (!held) std::fill(c.field.begin(), c.field.end(), 0.0f);
    for (size_t i = 0; i < c.external.size(); ++i) c.field[i] += c.external[i];
  }
}

/// The spikes of the step, by neuron.
template <class T>
void Running<T>::gather(Cells<T>& c) {
  c.spikes.clear();
  for (const Shard& shard : c.shards) {
    const sy::Spike* first = c.room.get() + shard.begin * sy::most_spikes(stepping_.resets);
    c.spikes.insert(c.spikes.end(), first, first + shard.outcome.spikes);
    if (shard.outcome.failed >= 0) fail_neuron(c, shard.outcome.failed, shard.outcome.runaway);
  }
}

template <class T>
void Running<T>::fail_neuron(const Cells<T>& c, int64_t neuron, bool runaway) const {
  throw PopulationFailure(
      fmt::format("population {}, neuron {} {} at t = {:.6g} ms (steps of {} ms)", c.spec.name, neuron,
                  runaway ? fmt::format("runs away: more than {} spikes in one step", iz::max_events)
                          : "left the range of numbers",
                  static_cast<double>(n) * spec.dt, spec.dt),
      neuron);
}

template <class T>
void Running<T>::send(int p, std::vector<NetworkSpike>* out) {
  Cells<T>& c = cells_[p];
  counts[p] += static_cast<int64_t>(c.spikes.size());
  const double begin = static_cast<double>(n) * spec.dt;
  for (const sy::Spike& s : c.spikes) {
    const double time = begin + s.offset;
    if (out) out->push_back({time, static_cast<uint32_t>(p), s.neuron});
    if (field) field->spike(p, s.neuron, spec.dt - s.offset);
    const int64_t wait = printed(spec.mode) || !(s.offset > 0) ? 0 : 1;
    for (Path& path : paths)
      if (path.spec.source == p) path.send(s.neuron, n, wait, time);
  }
}

/// What one thread does before the rest of the step.
template <class T>
void Running<T>::begin_step() {
  kick();
  for (auto& c : cells_) stimulate(c);
}

/// A thread's part of a step: nobody else writes to the neurons that are its own, nor to what arrives at them.
template <class T>
void Running<T>::share(int thread, int threads) {
  for (Path& path : paths) {
    Cells<T>& c = cells_[path.spec.target];
    path.deliver(n, range_of(c.spec.size, thread, threads), c.receivers[path.receptor]->arrived.data());
  }
  for (auto& c : cells_) {
    const Range own = range_of(c.spec.size, thread, threads);
    make_noise(c, own);
    sy::Spike* room = c.room.get() + own.begin * sy::most_spikes(stepping_.resets);
    c.shards[static_cast<size_t>(thread)] = {own.begin, sy::cpu::tick(stepping_, c.tick, own.begin, own.end, room)};
  }
}

template <class T>
void Running<T>::end_step(std::vector<NetworkSpike>* out) {
  for (Path& path : paths) deliveries += path.go_on(n);
  for (auto& c : cells_) gather(c);
  for (int p = 0; p < static_cast<int>(cells_.size()); ++p) send(p, out);
  for (Path& path : paths)
    if (path.spec.stdp)
      path.learn(n, printed(spec.mode) ? 0 : 1, cells_[path.spec.source].spikes, cells_[path.spec.target].spikes);
  ++n;
}

/// Steps in which nothing comes from outside.
template <class T>
void Running<T>::run_stretch(int64_t steps, std::vector<NetworkSpike>* out) {
  if (steps == 0) return;
  kernels::Team team(all_ / least_share);
  for (auto& c : cells_) c.shards.assign(static_cast<size_t>(team.size()), {});
  begin_step();
  team.run([&](int thread) {
    for (int64_t left = steps; left > 0; --left) {
      share(thread, team.size());
      const bool good = team.one(thread, [&] {
        end_step(out);
        if (left > 1) begin_step();
      });
      if (!good) return;
    }
  });
}

/// Batches of steps under one stimulus.
template <class T>
void Running<T>::run_on_device(int64_t steps, std::vector<NetworkSpike>* out) {
  if (field) fail("network: the cells of a field are stepped on the CPU: --device cpu");
  for (const int64_t end = n + steps; n < end;) {
    int64_t until = n + 1;
    for (size_t p = 0; p < cells_.size(); ++p)
      if (stimulate(cells_[p])) device_->base_changed(static_cast<int>(p));
    const auto held = [&](const Cells<T>& c) {
      if (c.processes && c.processes->held_steps(n, until - n + 1) <= until - n) return false;
      return shared_current(c, until) == c.current_now;
    };
    while (until < end && until < n + 1024 && std::all_of(cells_.begin(), cells_.end(), held)) ++until;
    const auto ran = device_->run(n, until - n, out);
    n += ran.steps, deliveries += ran.deliveries;
    for (size_t p = 0; p < cells_.size(); ++p) counts[p] += ran.spikes[p];
    if (ran.failed) fail_neuron(cells_[static_cast<size_t>(ran.population)], ran.neuron, ran.runaway);
  }
}

template <class T>
void Running<T>::run(int64_t steps, std::vector<NetworkSpike>* out) {
  if (device_) return run_on_device(steps, out);
  if (!field) {
    feel();
    return run_stretch(steps, out);
  }
  for (int64_t i = 0; i < steps; ++i) {
    feel();
    run_stretch(1, out);
    field->advance();
  }
}

template <class T>
void Running<T>::state(StateArchive& archive) {
  if (!archive.loading) fetch();
  archive.value(n), archive.value(deliveries);
  archive.fixed(counts);
  for (auto& c : cells_) {
    archive.fixed(c.v), archive.fixed(c.u), archive.fixed(c.noise);
    for (auto& r : c.receivers) archive.fixed(r->decaying), archive.fixed(r->rising);
    if (!c.processes) continue;
    for (RunningProcess& r : c.processes->running()) archive.value(r.interval), archive.fixed(r.state);
    if (archive.loading) c.current_now = std::nan("");
  }
  if (field) archive.fixed(field->state());
  for (Path& path : paths) path.state(archive);
  if (archive.loading && device_) device_->changed();
}

}  // namespace

std::unique_ptr<Network::Implementation> make_network(NetworkSpec spec) {
  if (spec.precision == Precision::f32) return std::make_unique<Running<float>>(std::move(spec));
  return std::make_unique<Running<double>>(std::move(spec));
}

}  // namespace ranvier::neuron
