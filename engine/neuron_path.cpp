// Projections at work: spikes on their way, delivery, and plasticity.
#include <algorithm>
#include <cmath>
#if defined(_OPENMP)
#include <omp.h>
#endif

#include "engine/neuron_network_run.h"

namespace ranvier::neuron {
namespace {

namespace sy = kernels::synapse;

constexpr int32_t unchanged = int32_t{1} << sy::weight_bits;

int threads_here() {
#if defined(_OPENMP)
  return omp_in_parallel() ? 1 : omp_get_max_threads();
#else
  return 1;
#endif
}

/// exp(-h / tau).
float decay_of(double h, double tau) { return static_cast<float>(kernels::math::exp(-h / tau)); }

sy::Stdp stdp_of(const StdpRule& r, double h) {
  return {static_cast<float>(r.plus),
          static_cast<float>(r.minus),
          decay_of(h, r.tau_plus),
          decay_of(h, r.tau_minus),
          static_cast<float>(r.low),
          static_cast<float>(r.high),
          static_cast<float>(r.drift),
          static_cast<float>(r.keep),
          r.nearest,
          r.interval > 0};
}

}  // namespace

int64_t Path::row_end(uint32_t source) const { return static_cast<int64_t>(spec.connections.offset[source + 1]); }

int64_t Path::end_of(const Arrival& a) const {
  const auto& c = spec.connections;
  if (c.delay.empty()) return row_end(a.source);
  return sy::cpu::same_delay(c.delay.data(), static_cast<int64_t>(a.begin), row_end(a.source));
}

void Path::prepare(int64_t sources, int64_t targets, const NetworkSpec& network, double receptor_unit) {
  auto& c = spec.connections;
  unit = receptor_unit;
  dense = c.target.empty() && c.count() > 0;
  const uint16_t longest = c.delay.empty() ? c.same_delay : *std::max_element(c.delay.begin(), c.delay.end());
  due.resize(longest + 2u);
  for (auto& list : due) list.reserve(static_cast<size_t>(std::max<int64_t>(16, sources / 8)));
  if (spec.short_term) {
    const ShortTermRule& r = *spec.short_term;
    short_term = {r.U, r.tau_facilitation > 0 ? 1 / r.tau_facilitation : 0,
                  r.tau_depression > 0 ? 1 / r.tau_depression : 1e9};
    resources.resize(static_cast<size_t>(sources));
    last.assign(static_cast<size_t>(sources), -1e9);
  }
  if (!spec.stdp) {
    fixed.resize(c.count());
    for (size_t i = 0; i < fixed.size(); ++i) fixed[i] = sy::fixed_point(c.weight[i], unit);
    c.weight = {};
    return;
  }
  stdp = stdp_of(*spec.stdp, network.dt);
  if (stdp.accumulated) {
    interval = std::max<int64_t>(1, std::llround(spec.stdp->interval / network.dt));
    change.assign(c.count(), 0);
  }
  slots = longest + 3;
  source_trace.assign(static_cast<size_t>(slots * sources), 0);
  target_trace.assign(static_cast<size_t>(targets), 0);
  if (dense) {  // plastic rows are walked by their targets
    c.target.resize(c.count());
    for (size_t i = 0; i < c.target.size(); ++i) c.target[i] = static_cast<uint32_t>(i % static_cast<size_t>(targets));
    dense = false;
  }
  incoming.assign(static_cast<size_t>(targets) + 1, 0);
  for (uint32_t t : c.target) ++incoming[t + 1];
  for (int64_t t = 0; t < targets; ++t) incoming[t + 1] += incoming[t];
  incoming_source.resize(c.count()), incoming_synapse.resize(c.count());
  std::vector<uint64_t> cursor(incoming.begin(), incoming.end() - 1);
  for (int64_t s = 0; s < sources; ++s)
    for (uint64_t i = c.offset[s]; i < c.offset[s + 1]; ++i) {
      const uint64_t to = cursor[c.target[i]]++;
      incoming_source[to] = static_cast<uint32_t>(s), incoming_synapse[to] = static_cast<uint32_t>(i);
    }
}

void Path::send(uint32_t source, int64_t n, int64_t wait, double time) {
  const auto& c = spec.connections;
  if (c.offset[source] == c.offset[source + 1]) return;
  int32_t factor = unchanged;
  if (spec.short_term) {
    factor = sy::fixed_factor(sy::release(short_term, resources[source], time - last[source]));
    last[source] = time;
  }
  const uint64_t begin = c.offset[source];
  const int64_t delay = c.delay.empty() ? c.same_delay : c.delay[begin];
  due[static_cast<size_t>(n + wait + delay) % due.size()].push_back({begin, source, factor});
}

int64_t Path::deliver(int64_t n, int64_t targets, std::vector<int64_t>& sums, std::vector<int64_t>& scratch) {
  auto& list = due[static_cast<size_t>(n) % due.size()];
  if (list.empty()) return 0;
  auto& c = spec.connections;
  int64_t total = 0;
  for (const Arrival& a : list) total += end_of(a) - static_cast<int64_t>(a.begin);
  if (spec.stdp) {
    for (const Arrival& a : list)
      sy::cpu::deliver_plastic(stdp, end_of(a) - static_cast<int64_t>(a.begin), c.target.data() + a.begin,
                               c.weight.data() + a.begin, stdp.accumulated ? change.data() + a.begin : nullptr,
                               target_trace.data(), unit, a.factor, sums.data());
  } else {
    deliver_static(list, total, targets, sums, scratch);
  }
  if (!c.delay.empty())  // the rest of each row is due later
    for (const Arrival& a : list) {
      const auto end = static_cast<uint64_t>(end_of(a));
      if (end < c.offset[a.source + 1])
        due[static_cast<size_t>(n + c.delay[end] - c.delay[a.begin]) % due.size()].push_back({end, a.source, a.factor});
    }
  list.clear();
  return total;
}

void Path::deliver_static(const std::vector<Arrival>& list, int64_t total, int64_t targets, std::vector<int64_t>& sums,
                          std::vector<int64_t>& scratch) const {
  const auto& c = spec.connections;
  const auto range = [&](size_t from, size_t to, int64_t* into) {
    for (size_t i = from; i < to; ++i) {
      const Arrival& a = list[i];
      const int64_t count = end_of(a) - static_cast<int64_t>(a.begin);
      if (dense)
        sy::cpu::deliver_row(count, fixed.data() + a.begin, a.factor, into + (a.begin - c.offset[a.source]));
      else
        sy::cpu::deliver(count, c.target.data() + a.begin, fixed.data() + a.begin, a.factor, into);
    }
  };
  // Sums of integers do not depend on who adds what, so threads may share the list as they are many.
  const int threads = total > (1 << 15) && total > 4 * targets ? threads_here() : 1;
  if (threads == 1) return range(0, list.size(), sums.data());
  const auto stride = static_cast<size_t>(sums.size());
  scratch.resize(stride * static_cast<size_t>(threads - 1));
#pragma omp parallel num_threads(threads)
  {
#if defined(_OPENMP)
    const auto id = static_cast<size_t>(omp_get_thread_num()), all = static_cast<size_t>(omp_get_num_threads());
#else
    const size_t id = 0, all = 1;
#endif
    int64_t* into = id == 0 ? sums.data() : scratch.data() + (id - 1) * stride;
    range(list.size() * id / all, list.size() * (id + 1) / all, into);
#pragma omp barrier
    const size_t from = stride * id / all, to = stride * (id + 1) / all;
    for (size_t other = 1; other < all; ++other) {
      int64_t* part = scratch.data() + (other - 1) * stride;
      for (size_t i = from; i < to; ++i) sums[i] += part[i], part[i] = 0;
    }
  }
}

void Path::learn(int64_t n, int64_t wait, std::span<const sy::Spike> source, std::span<const sy::Spike> target) {
  auto& c = spec.connections;
  const auto sources = static_cast<int64_t>(c.offset.size()) - 1;
  const auto row = [&](int64_t time) { return source_trace.data() + ((time + slots) % slots) * sources; };
  float* now = row(n + 1);
  sy::cpu::decay(sources, stdp.source_decay, row(n), now);
  sy::cpu::decay(static_cast<int64_t>(target_trace.size()), stdp.target_decay, target_trace.data(),
                 target_trace.data());
  for (const sy::Spike& s : source) now[s.neuron] = stdp.nearest ? 1.0f : now[s.neuron] + 1.0f;
  for (const sy::Spike& s : target) {
    target_trace[s.neuron] = stdp.nearest ? 1.0f : target_trace[s.neuron] + 1.0f;
    for (uint64_t i = incoming[s.neuron]; i < incoming[s.neuron + 1]; ++i) {
      const uint32_t synapse = incoming_synapse[i];
      const int64_t delay = c.delay.empty() ? c.same_delay : c.delay[synapse];
      float& value = stdp.accumulated ? change[synapse] : c.weight[synapse];
      value = sy::potentiated(stdp, value, row(n + 1 - delay - wait)[incoming_source[i]]);
    }
  }
  if (interval > 0 && (n + 1) % interval == 0)
    for (size_t i = 0; i < change.size(); ++i) c.weight[i] = sy::applied(stdp, c.weight[i], change[i]);
}

void Path::state(StateArchive& archive) {
  for (auto& list : due) {  // in an order that is the same on every device; a source's spikes keep that of time
    if (!archive.loading)
      std::stable_sort(list.begin(), list.end(), [](const Arrival& a, const Arrival& b) { return a.begin < b.begin; });
    archive.list(list);
  }
  archive.fixed(resources), archive.fixed(last);
  if (!spec.stdp) return;
  archive.fixed(spec.connections.weight), archive.fixed(change);
  archive.fixed(source_trace), archive.fixed(target_trace);
}

}  // namespace ranvier::neuron
