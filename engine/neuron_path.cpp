// Projections at work: spikes on their way, delivery, and plasticity.
#include <algorithm>
#include <cmath>
#include <tuple>

#include "engine/neuron_network_run.h"

namespace ranvier::neuron {
namespace {

namespace sy = kernels::synapse;

constexpr int32_t unchanged = int32_t{1} << sy::weight_bits;

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

/// Rows as groups of one delay.
void Path::make_groups(int64_t sources) {
  const auto& c = spec.connections;
  constexpr uint64_t most = 0xffff;
  first_group.assign(1, 0);
  for (int64_t s = 0; s < sources; ++s) {
    for (uint64_t i = c.offset[s], end = c.offset[s + 1]; i < end;) {
      const uint16_t delay = c.delay.empty() ? c.same_delay : c.delay[i];
      uint64_t next = c.delay.empty() ? end : i + 1;
      while (!c.delay.empty() && next < end && c.delay[next] == delay) ++next;
      for (; i < next; i += groups.back().count)
        groups.push_back({delay, static_cast<uint16_t>(std::min(next - i, most))});
    }
    first_group.push_back(groups.size());
  }
  groups.shrink_to_fit();
}

/// Targets of one delay in rising order, so that those of a range of neurons are neighbours.
void Path::sort_targets() {
  auto& c = spec.connections;
  std::vector<std::pair<uint32_t, float>> list;
  const auto target = [&](uint64_t i) { return c.target.begin() + static_cast<std::ptrdiff_t>(i); };
  for (size_t s = 0; s + 1 < first_group.size(); ++s) {
    Arrival a;
    if (!arrival(static_cast<uint32_t>(s), unchanged, 0, a)) continue;
    while (a.group < first_group[s + 1]) {
      const Stretch stretch = stretch_of(a);
      const uint64_t end = a.begin + static_cast<uint64_t>(stretch.count);
      if (!std::is_sorted(target(a.begin), target(end))) {
        list.clear();
        for (uint64_t i = a.begin; i < end; ++i) list.push_back({c.target[i], c.weight[i]});
        std::stable_sort(list.begin(), list.end(), [](const auto& x, const auto& y) { return x.first < y.first; });
        for (uint64_t i = a.begin; i < end; ++i) std::tie(c.target[i], c.weight[i]) = list[i - a.begin];
      }
      a.begin = end, a.group = stretch.next;
    }
  }
}

void Path::prepare(int64_t sources, int64_t targets, const NetworkSpec& network, double receptor_unit) {
  auto& c = spec.connections;
  unit = receptor_unit, targets_ = targets;
  dense = c.target.empty() && c.count() > 0;
  make_groups(sources);
  if (!c.target.empty()) sort_targets();
  int64_t longest = c.same_delay;
  for (const Group& g : groups) longest = std::max<int64_t>(longest, g.delay);
  due.resize(static_cast<size_t>(longest) + 2);
  for (auto& list : due) list.reserve(static_cast<size_t>(std::max<int64_t>(16, sources / 8)));
  if (spec.short_term) {
    const ShortTermRule& r = *spec.short_term;
    short_term = {r.U, r.tau_facilitation > 0 ? 1 / r.tau_facilitation : 0,
                  r.tau_depression > 0 ? 1 / r.tau_depression : 1e9};
    resources.resize(static_cast<size_t>(sources));
    last.assign(static_cast<size_t>(sources), -1e9);
  }
  if (spec.stdp) {
    slots = longest + 3;
    return make_plastic(sources, network);
  }
  fixed.resize(c.count());
  for (size_t i = 0; i < fixed.size(); ++i) fixed[i] = sy::fixed_point(c.weight[i], unit);
  c.weight = {};
  if (network.device.backend == Backend::cpu) make_compact();
}

/// The lists of static synapses as the CPU reads them.
void Path::make_compact() {
  auto& c = spec.connections;
  if (targets_ <= 0x10000)
    near_.assign(c.target.begin(), c.target.end());
  else
    far_.assign(c.target.begin(), c.target.end());
  c.target = {}, c.delay = {};
}

void Path::make_plastic(int64_t sources, const NetworkSpec& network) {
  auto& c = spec.connections;
  stdp = stdp_of(*spec.stdp, network.dt);
  if (stdp.accumulated) {
    interval = std::max<int64_t>(1, std::llround(spec.stdp->interval / network.dt));
    change.assign(c.count(), 0);
  }
  source_trace.assign(static_cast<size_t>(slots * sources), 0);
  target_trace.assign(static_cast<size_t>(targets_), 0);
  if (dense) {  // plastic rows are walked by their targets
    c.target.resize(c.count());
    for (size_t i = 0; i < c.target.size(); ++i) c.target[i] = static_cast<uint32_t>(i % static_cast<size_t>(targets_));
    dense = false;
  }
  incoming.assign(static_cast<size_t>(targets_) + 1, 0);
  for (uint32_t t : c.target) ++incoming[t + 1];
  for (int64_t t = 0; t < targets_; ++t) incoming[t + 1] += incoming[t];
  incoming_source.resize(c.count()), incoming_synapse.resize(c.count());
  std::vector<uint64_t> cursor(incoming.begin(), incoming.end() - 1);
  for (int64_t s = 0; s < sources; ++s)
    for (uint64_t i = c.offset[s]; i < c.offset[s + 1]; ++i) {
      const uint64_t to = cursor[c.target[i]]++;
      incoming_source[to] = static_cast<uint32_t>(s), incoming_synapse[to] = static_cast<uint32_t>(i);
    }
}

Path::Stretch Path::stretch_of(const Arrival& a) const {
  const Group& first = groups[a.group];
  Stretch out{first.count, a.group + 1};
  if (first.count == 0xffff)
    for (const uint64_t end = first_group[a.source + 1]; out.next < end && groups[out.next].delay == first.delay;)
      out.count += groups[out.next++].count;
  return out;
}

bool Path::arrival(uint32_t source, int32_t factor, int64_t delay, Arrival& out) const {
  out = {spec.connections.offset[source], first_group[source], source, factor};
  const uint64_t end = first_group[source + 1];
  while (out.group < end && groups[out.group].delay < delay) out.begin += groups[out.group++].count;
  return out.group < end;
}

void Path::send(uint32_t source, int64_t n, int64_t wait, double time) {
  Arrival a;
  if (!arrival(source, unchanged, 0, a)) return;
  if (spec.short_term) {
    a.factor = sy::fixed_factor(sy::release(short_term, resources[source], time - last[source]));
    last[source] = time;
  }
  due[static_cast<size_t>(n + wait + groups[a.group].delay) % due.size()].push_back(a);
}

template <class Index>
void Path::deliver_listed(const std::vector<Arrival>& list, const Index* target, Range range, int64_t* sums) {
  constexpr size_t ahead = 4;  // rows lie anywhere: what comes next is on its way meanwhile
  const auto fetch = [&](const Arrival& a) {
    const int64_t count = groups[a.group].count;
    const auto begin = static_cast<int64_t>(a.begin) + count * range.begin / targets_;
    const auto length = static_cast<size_t>(count * (range.end - range.begin) / targets_);
    constexpr int64_t margin = 16;  // where the range really begins and ends is looked for nearby
    sy::cpu::fetch(target + std::max<int64_t>(0, begin - margin),
                   std::min<size_t>(1024, sizeof(Index) * (length + 2 * margin)));
    if (!fixed.empty()) sy::cpu::fetch(fixed.data() + begin, std::min<size_t>(1024, sizeof(int32_t) * length));
  };
  for (size_t i = 0; i < std::min(ahead, list.size()); ++i) fetch(list[i]);
  for (size_t i = 0; i < list.size(); ++i) {
    if (i + ahead < list.size()) fetch(list[i + ahead]);
    const Arrival& a = list[i];
    const int64_t count = stretch_of(a).count;
    const Index* row = target + a.begin;
    const int64_t first = sy::cpu::below(count, row, range.begin, targets_);
    const int64_t last = sy::cpu::below(count, row, range.end, targets_), at = static_cast<int64_t>(a.begin) + first;
    if constexpr (std::is_same_v<Index, uint32_t>)
      if (spec.stdp) {
        sy::cpu::deliver_plastic(stdp, last - first, row + first, spec.connections.weight.data() + at,
                                 stdp.accumulated ? change.data() + at : nullptr, target_trace.data(), unit, a.factor,
                                 sums);
        continue;
      }
    sy::cpu::deliver(last - first, row + first, fixed.data() + at, a.factor, sums);
  }
}

void Path::deliver(int64_t n, Range range, int64_t* sums) {
  const auto& list = due[static_cast<size_t>(n) % due.size()];
  if (!near_.empty()) return deliver_listed(list, near_.data(), range, sums);
  if (!far_.empty()) return deliver_listed(list, far_.data(), range, sums);
  if (!dense) return deliver_listed(list, spec.connections.target.data(), range, sums);
  for (size_t i = 0; i < list.size(); ++i) {
    if (i + 1 < list.size()) sy::cpu::fetch(fixed.data() + list[i + 1].begin + range.begin, 1024);
    const Arrival& a = list[i];
    const auto row = static_cast<int64_t>(spec.connections.offset[a.source]);
    const int64_t first = std::max(range.begin, static_cast<int64_t>(a.begin) - row);
    const int64_t last = std::min(range.end, static_cast<int64_t>(a.begin) - row + stretch_of(a).count);
    if (first < last) sy::cpu::deliver_row(last - first, fixed.data() + row + first, a.factor, sums + first);
  }
}

int64_t Path::go_on(int64_t n) {
  auto& list = due[static_cast<size_t>(n) % due.size()];
  int64_t total = 0;
  for (const Arrival& a : list) {
    const Stretch s = stretch_of(a);
    total += s.count;
    if (s.next < first_group[a.source + 1])
      due[static_cast<size_t>(n + groups[s.next].delay - groups[a.group].delay) % due.size()].push_back(
          {a.begin + static_cast<uint64_t>(s.count), s.next, a.source, a.factor});
  }
  list.clear();
  return total;
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

void Path::check_arrival(const Arrival& a, const std::string& source) const {
  bool there = false;
  if (a.source + size_t{1} < spec.connections.offset.size()) {
    uint64_t begin = spec.connections.offset[a.source], group = first_group[a.source];
    while (group < first_group[a.source + 1] && begin < a.begin) begin += groups[group++].count;
    there = group < first_group[a.source + 1] && begin == a.begin && group == a.group;
  }
  if (!there) fail("{}: projection {} has a spike on its way that none of its synapses takes", source, spec.name);
}

void Path::state(StateArchive& archive) {
  for (auto& list : due) {  // in an order that is the same on every device; a source's spikes keep that of time
    if (!archive.loading)
      std::stable_sort(list.begin(), list.end(), [](const Arrival& a, const Arrival& b) { return a.begin < b.begin; });
    archive.list(list);
    if (archive.loading)
      for (const Arrival& a : list) check_arrival(a, archive.source);
  }
  archive.fixed(resources), archive.fixed(last);
  if (!spec.stdp) return;
  archive.fixed(spec.connections.weight), archive.fixed(change);
  archive.fixed(source_trace), archive.fixed(target_trace);
}

double Path::bytes() const {
  const auto of = [](const auto&... lists) { return (static_cast<double>(lists.size() * sizeof(lists[0])) + ...); };
  const Connections& c = spec.connections;
  return of(fixed, near_, far_, groups, c.weight, c.target, c.delay, change, incoming_source, incoming_synapse);
}

}  // namespace ranvier::neuron
