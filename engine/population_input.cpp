// Stimulus, noise, Ornstein-Uhlenbeck, Poisson and tabulated currents of a population.
#include "engine/population_input.h"

#include <algorithm>
#include <cmath>

#include "kernels/common/parallel.h"
#include "kernels/common/philox.h"
#include "kernels/izhikevich/population.h"
#include "kernels/random/random.h"

namespace ranvier::neuron {
namespace {

namespace philox = kernels::philox;
constexpr double two_pi = 6.283185307179586;

bool has_state(const Process& p) { return p.kind != Process::Kind::table && p.kind != Process::Kind::sinusoid; }

double wave(const Process& p, double t) {
  const double turns = p.frequency * 1e-3 * t + p.phase;
  return p.amplitude * kernels::math::sin(two_pi * (turns - std::floor(turns)));
}

/// Number of the interval that holds at t, edges up to `slack` later counted as passed.
int64_t interval_at(double interval, double t, double slack) {
  auto k = static_cast<int64_t>(std::floor(t / interval));
  while (static_cast<double>(k + 1) * interval <= t + slack) ++k;
  while (k > 0 && static_cast<double>(k) * interval > t + slack) --k;
  return k;
}

template <class Body>
void for_shards(int64_t n, const Body& body) {
  using kernels::izhikevich::shard_size;
  kernels::parallel_for(kernels::izhikevich::shards_of(n),
                        [&](int64_t shard) { body(shard * shard_size, std::min(n, (shard + 1) * shard_size)); });
}

}  // namespace

ExternalCurrent::ExternalCurrent(const PopulationSpec& spec)
    : spec_(spec),
      accurate_(spec.mode == Mode::accurate),
      slack_(accurate_ ? 1e-9 * spec.dt : 0),
      cursor_(spec.current) {
  for (const Process& p : spec.processes) {
    if (p.kind == Process::Kind::sinusoid) {
      sinusoids_.push_back(&p);
      continue;
    }
    RunningProcess running{&p, philox::stream_hash(p.stream), -1, {}};
    if (has_state(p)) running.state.resize(static_cast<size_t>(spec.size));
    if (p.kind == Process::Kind::ou) scratch_.resize(static_cast<size_t>(spec.size));
    running_.push_back(std::move(running));
  }
}

uint64_t ExternalCurrent::bytes_per_neuron(const PopulationSpec& spec) {
  uint64_t bytes = spec.current_each.empty() ? 0 : sizeof(double);
  bool scratch = false;
  for (const Process& p : spec.processes) {
    bytes += has_state(p) ? sizeof(float) : 0;
    scratch = scratch || p.kind == Process::Kind::ou;
    if (p.kind == Process::Kind::table) bytes += sizeof(double) * p.values.size() / static_cast<uint64_t>(spec.size);
  }
  return bytes + (scratch ? sizeof(float) : 0);
}

void ExternalCurrent::draw(RunningProcess& running, int64_t interval) {
  const Process& p = *running.process;
  const int64_t n = spec_.size;
  const auto normals = [&](int64_t k, float* out) {
    const philox::Key key{spec_.seed, running.stream, static_cast<uint64_t>(k)};
    const int64_t rng[2] = {static_cast<int64_t>(key.seed), k};
    if (spec_.first_element == 0) return kernels::cpu::fill_normal(n, 0.0f, 1.0f, key.stream, rng, out);
    for_shards(n, [&](int64_t first, int64_t end) {
      for (int64_t i = first; i < end; ++i)
        out[i] = philox::normal(key, spec_.first_element + static_cast<uint64_t>(i));
    });
  };
  if (p.kind == Process::Kind::noise) {
    normals(interval, running.state.data());
  } else if (p.kind == Process::Kind::ou) {
    const double decay = kernels::math::exp(-p.interval / p.tau);
    const auto keep = static_cast<float>(decay), fresh = static_cast<float>(std::sqrt(1 - decay * decay));
    for (int64_t k = running.interval + 1; k <= interval; ++k) {
      if (k == 0) {
        normals(0, running.state.data());
        continue;
      }
      normals(k, scratch_.data());
      for_shards(n, [&](int64_t first, int64_t end) {
        for (int64_t i = first; i < end; ++i)
          running.state[static_cast<size_t>(i)] =
              std::fma(keep, running.state[static_cast<size_t>(i)], fresh * scratch_[static_cast<size_t>(i)]);
      });
    }
  } else if (p.kind == Process::Kind::poisson) {
    const auto keep = static_cast<float>(p.tau > 0 ? kernels::math::exp(-p.interval / p.tau) : 0);
    const double mean = 1e-3 * p.rate * p.interval;
    for (int64_t k = running.interval + 1; k <= interval; ++k) {
      const philox::Key key{spec_.seed, running.stream, static_cast<uint64_t>(k)};
      for_shards(n, [&](int64_t first, int64_t end) {
        for (int64_t i = first; i < end; ++i) {
          float& sum = running.state[static_cast<size_t>(i)];
          const double count = philox::poisson(key, spec_.first_element + static_cast<uint64_t>(i), mean);
          sum = std::fma(keep, sum, static_cast<float>(count));
        }
      });
    }
  }
  running.interval = interval;
}

bool ExternalCurrent::move(double t) {
  bool changed = cursor_.advance(t, slack_) || (!accurate_ && !spec_.current.pieces().empty()) || !sinusoids_.empty();
  for (RunningProcess& running : running_) {
    int64_t k = interval_at(running.process->interval, t, slack_);
    if (running.process->kind == Process::Kind::table)
      k = std::min(k, static_cast<int64_t>(running.process->values.size()) / spec_.size - 1);
    if (k == running.interval) continue;
    draw(running, k);
    changed = true;
  }
  return changed;
}

double ExternalCurrent::next_edge() const {
  double next = cursor_.next_edge();
  for (const RunningProcess& running : running_) {
    const bool last = running.process->kind == Process::Kind::table &&
                      (running.interval + 1) * spec_.size >= static_cast<int64_t>(running.process->values.size());
    if (!last) next = std::min(next, static_cast<double>(running.interval + 1) * running.process->interval);
  }
  return next;
}

int64_t ExternalCurrent::held_steps(int64_t step, int64_t most) const {
  const double dt = spec_.dt, t = static_cast<double>(step) * dt;
  if (!sinusoids_.empty()) return 1;
  double edge = std::numeric_limits<double>::infinity();
  for (const Stimulus::Piece& piece : spec_.current.pieces()) {
    if (piece.begin <= t) {
      if (piece.begin == t && piece.after) return 1;
      if (piece.slope != 0 && (&piece == &spec_.current.pieces().back() || (&piece)[1].begin > t)) return 1;
      continue;
    }
    edge = std::min(edge, piece.begin);
    break;
  }
  for (const RunningProcess& running : running_)
    edge = std::min(edge, static_cast<double>(running.interval + 1) * running.process->interval);
  if (!(edge < static_cast<double>(step + most) * dt)) return most;
  int64_t count = std::max<int64_t>(1, static_cast<int64_t>(edge / dt) - step - 1);
  while (count < most && static_cast<double>(step + count) * dt < edge) ++count;
  return std::min(count, most);
}

double ExternalCurrent::shared(double t) const {
  double value = accurate_ ? cursor_.value(t) : spec_.current.at(t);
  for (const Process* p : sinusoids_) value += wave(*p, t);
  return value;
}

double ExternalCurrent::slope(double t, double h) const {
  double slope = cursor_.slope();
  for (const Process* p : sinusoids_) slope += (wave(*p, t + h) - wave(*p, t)) / h;
  return slope;
}

void ExternalCurrent::add(int64_t first, int64_t count, double* out) const {
  const auto at = static_cast<size_t>(first);
  if (!spec_.current_each.empty())
    for (int64_t i = 0; i < count; ++i) out[i] += spec_.current_each[at + static_cast<size_t>(i)];
  for (const RunningProcess& running : running_) {
    const Process& p = *running.process;
    if (p.kind == Process::Kind::table) {
      const double* row = p.values.data() + running.interval * spec_.size + first;
      for (int64_t i = 0; i < count; ++i) out[i] += row[i];
      continue;
    }
    const double scale = p.kind == Process::Kind::poisson ? p.weight : p.deviation;
    const float* state = running.state.data() + first;
    for (int64_t i = 0; i < count; ++i) out[i] += p.mean + scale * static_cast<double>(state[i]);
  }
}

}  // namespace ranvier::neuron
