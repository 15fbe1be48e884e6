// A network's step in f32 or f64.
#include <algorithm>
#include <cmath>

#include "engine/neuron_network_cells.h"
#include "engine/neuron_network_device.h"
#include "kernels/common/philox.h"
#include "kernels/common/team.h"
#include "kernels/izhikevich/located.h"

namespace ranvier::neuron {
namespace {

namespace iz = kernels::izhikevich;
namespace sy = kernels::synapse;

constexpr int64_t least_share = 2048;  // neurons that a thread of its own is worth

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
  void make_device();
  void run_stretch(int64_t steps, std::vector<NetworkSpike>* spikes);
  void begin_step();
  void share(int thread, int threads);
  void end_step(std::vector<NetworkSpike>* spikes);
  void run_on_device(int64_t steps, std::vector<NetworkSpike>* spikes);
  void kick();
  void start_field();
  void feel();
  void gather(Cells<T>& c);
  void clear_padding();
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
  for (size_t p = 0; p < cells_.size(); ++p)
    make_cells(cells_[p], spec.populations[p], spec, stepping_), all_ += cells_[p].spec.size;
  for (Cells<T>& c : cells_) c.spec.each.clear();  // their columns have it
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
  for (auto& c : cells_) finish_receivers(c, spec.dt);
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
    stimulate(c, n, spec);
    host.push_back({&c.tick, c.padded, c.columns.size() - 3, c.noise.data(), c.process, c.noise_steps, c.kick});
  }
  device_ = std::make_unique<NetworkOnDevice<T>>(spec, stepping_, std::move(host), paths, field.get());
  for (Path& path : paths) path.leave_to_device();
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
    const int moment = printed(spec.mode) ? 0 : sy::moment_of(s.offset, spec.dt);
    for (Path& path : paths)
      if (path.spec.source == p) path.send(s.neuron, n, moment, time);
  }
}

/// What one thread does before the rest of the step.
template <class T>
void Running<T>::begin_step() {
  kick();
  for (auto& c : cells_) stimulate(c, n, spec);
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
    make_noise(c, own, n, spec.seed);
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
  for (const int64_t end = n + steps; n < end;) {
    int64_t until = n + 1;
    for (size_t p = 0; p < cells_.size(); ++p)
      if (stimulate(cells_[p], n, spec)) device_->base_changed(static_cast<int>(p));
    const auto held = [&](const Cells<T>& c) {
      if (c.processes && c.processes->held_steps(n, until - n + 1) <= until - n) return false;
      return shared_current(c, static_cast<double>(until) * spec.dt) == c.current_now;
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

/// Lanes beyond the last neuron go their own way on each device, and are one value in a file.
template <class T>
void Running<T>::clear_padding() {
  for (auto& c : cells_) {
    const auto clear = [&](auto& x, auto value) {
      for (auto i = static_cast<size_t>(c.spec.size); i < x.size(); ++i) x[i] = value;
    };
    clear(c.v, T(-65)), clear(c.u, T(0)), clear(c.noise, 0.0f);
    for (auto& r : c.receivers) clear(r->decaying, T(0)), clear(r->rising, T(0));
  }
}

template <class T>
void Running<T>::state(StateArchive& archive) {
  if (!archive.loading) fetch(), clear_padding();
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
