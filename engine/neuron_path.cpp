// Projections at work: spikes on their way, delivery, and plasticity.
#include <algorithm>
#include <bit>
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

/// Rows of static synapses as groups of one delay.
void Path::make_groups(int64_t sources) {
  const auto& c = spec.connections;
  first_group.assign(1, 0);
  for (int64_t s = 0; s < sources; ++s) {
    for (uint64_t i = c.offset[s], end = c.offset[s + 1]; i < end;) {
      const int64_t delay = c.delay_of(i);
      uint64_t next = c.delay.empty() ? end : i + 1;
      while (!c.delay.empty() && next < end && c.delay_of(next) == delay) ++next;
      const uint64_t count = next - i;
      const bool fits = count <= 0xff;
      groups.push_back({static_cast<uint16_t>(delay / sy::step_parts), static_cast<uint8_t>(delay % sy::step_parts),
                        static_cast<uint8_t>(fits ? count : 0)});
      if (!fits) groups.push_back(std::bit_cast<Group>(static_cast<uint32_t>(count)));
      i = next;
    }
    first_group.push_back(groups.size());
  }
  groups.shrink_to_fit();
}

uint64_t Path::group_count(uint64_t& group) const {
  const uint8_t count = groups[group++].count;
  return count ? count : std::bit_cast<uint32_t>(groups[group++]);
}

/// Targets of one delay in rising order, so that those of a range of neurons are neighbours.
void Path::sort_targets() {
  auto& c = spec.connections;
  std::vector<std::pair<uint32_t, float>> list;
  const auto target = [&](uint64_t i) { return c.target.begin() + static_cast<std::ptrdiff_t>(i); };
  for (size_t s = 0; s + 1 < c.offset.size(); ++s) {
    Arrival a;
    for (bool more = arrival(static_cast<uint32_t>(s), 0, unchanged, 0, a); more;) {
      const Stretch stretch = stretch_of(a);
      const uint64_t end = a.begin + static_cast<uint64_t>(stretch.count);
      if (!std::is_sorted(target(a.begin), target(end))) {
        list.clear();
        for (uint64_t i = a.begin; i < end; ++i) list.push_back({c.target[i], c.weight[i]});
        std::stable_sort(list.begin(), list.end(), [](const auto& x, const auto& y) { return x.first < y.first; });
        for (uint64_t i = a.begin; i < end; ++i) std::tie(c.target[i], c.weight[i]) = list[i - a.begin];
      }
      a = stretch.next, more = stretch.more;
    }
  }
}

void Path::prepare(int64_t sources, int64_t targets, const NetworkSpec& network, double receptor_unit) {
  auto& c = spec.connections;
  unit = receptor_unit, targets_ = targets;
  dense = c.target.empty() && c.count() > 0;
  shortest = longest = sy::steps_until(0, c.delay_of(0));
  for (uint64_t i = 0; i < c.delay.size(); ++i) {
    const int64_t steps = sy::steps_until(0, c.delay_of(i));
    shortest = std::min(shortest, steps), longest = std::max(longest, steps);
  }
  fractional = c.fractional();
  if (!spec.stdp) make_groups(sources);
  if (!c.target.empty()) sort_targets();
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
  c.target = {}, c.delay = {}, c.part = {};
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
  const auto& c = spec.connections;
  const uint64_t row_end = c.offset[a.source + 1];
  uint64_t end = row_end, next = a.group;
  if (!spec.stdp) {
    end = a.begin + group_count(next);
  } else if (!c.delay.empty()) {
    for (end = a.begin + 1; end < row_end && c.delay[end] == c.delay[a.begin];) ++end;
  }
  return {static_cast<int64_t>(end - a.begin), {end, next, a.moment, a.source, a.factor}, end < row_end};
}

int64_t Path::steps_of(const Arrival& a) const {
  if (spec.stdp) return sy::steps_until(a.moment, spec.connections.delay_of(a.begin));
  const Group& group = groups[a.group];
  return sy::steps_until(a.moment, int64_t{group.delay} * sy::step_parts + group.part);
}

int64_t Path::longest_stretch() const {
  int64_t most = 0;
  for (size_t s = 0; s + 1 < spec.connections.offset.size(); ++s) {
    Arrival a;
    int64_t count = 0, steps = 0;
    for (bool more = arrival(static_cast<uint32_t>(s), 0, unchanged, 0, a); more;) {
      if (steps_of(a) != steps) count = 0, steps = steps_of(a);
      const Stretch stretch = stretch_of(a);
      most = std::max(most, count += stretch.count);
      a = stretch.next, more = stretch.more;
    }
  }
  return most;
}

bool Path::arrival(uint32_t source, int moment, int32_t factor, int64_t steps, Arrival& out) const {
  out = {spec.connections.offset[source], spec.stdp ? 0 : first_group[source], static_cast<uint64_t>(moment), source,
         factor};
  for (const uint64_t end = spec.connections.offset[source + 1]; out.begin < end; out = stretch_of(out).next)
    if (steps_of(out) >= steps) return true;
  return false;
}

void Path::post(const Arrival& a, int64_t n) { due[static_cast<size_t>(n + steps_of(a)) % due.size()].push_back(a); }

template <class Body>
Path::Stretch Path::for_stretches(const Arrival& a, const Body& body) const {
  Stretch stretch = stretch_of(a);
  body(a, stretch.count);
  while (fractional && stretch.more && steps_of(stretch.next) == steps_of(a)) {  // whole delays are one a step
    const Arrival part = stretch.next;
    stretch = stretch_of(part);
    body(part, stretch.count);
  }
  return stretch;
}

void Path::send(uint32_t source, int64_t n, int moment, double time) {
  Arrival a;
  if (!arrival(source, moment, unchanged, 0, a)) return;
  if (spec.short_term) {
    a.factor = sy::fixed_factor(sy::release(short_term, resources[source], time - last[source]));
    last[source] = time;
  }
  post(a, n);
}

/// About how many synapses a spike reaches in its step, without a look at them.
int64_t Path::expected_stretch(const Arrival& a) const {
  uint64_t group = a.group;
  if (!spec.stdp && !fractional) return static_cast<int64_t>(group_count(group));
  const auto left = static_cast<int64_t>(spec.connections.offset[a.source + 1] - a.begin);
  return std::min(left, left / (longest - steps_of({a.begin, a.group, 0, a.source, 0}) + 1) + 1);
}

template <class Index>
void Path::deliver_listed(const std::vector<Arrival>& list, const Index* target, Range range, int64_t* sums) {
  constexpr size_t ahead = 4;  // rows lie anywhere: what comes next is on its way meanwhile
  const void* weights = spec.stdp ? static_cast<const void*>(spec.connections.weight.data()) : fixed.data();
  const auto fetch = [&](const Arrival& a) {
    const int64_t count = expected_stretch(a);
    const auto begin = static_cast<int64_t>(a.begin) + count * range.begin / targets_;
    const auto length = static_cast<size_t>(count * (range.end - range.begin) / targets_);
    constexpr int64_t margin = 16;  // where the range really begins and ends is looked for nearby
    sy::cpu::fetch(target + std::max<int64_t>(0, begin - margin),
                   std::min<size_t>(1024, sizeof(Index) * (length + 2 * margin)));
    sy::cpu::fetch(static_cast<const int32_t*>(weights) + begin, std::min<size_t>(1024, sizeof(int32_t) * length));
  };
  for (size_t i = 0; i < std::min(ahead, list.size()); ++i) fetch(list[i]);
  for (size_t i = 0; i < list.size(); ++i) {
    if (i + ahead < list.size()) fetch(list[i + ahead]);
    for_stretches(list[i], [&](const Arrival& a, int64_t count) {
      const Index* row = target + a.begin;
      const int64_t first = sy::cpu::below(count, row, range.begin, targets_);
      const int64_t last = sy::cpu::below(count, row, range.end, targets_), at = static_cast<int64_t>(a.begin) + first;
      if constexpr (std::is_same_v<Index, uint32_t>)
        if (spec.stdp)
          return sy::cpu::deliver_plastic(stdp, last - first, row + first, spec.connections.weight.data() + at,
                                          stdp.accumulated ? change.data() + at : nullptr, target_trace.data(), unit,
                                          a.factor, sums);
      sy::cpu::deliver(last - first, row + first, fixed.data() + at, a.factor, sums);
    });
  }
}

void Path::deliver(int64_t n, Range range, int64_t* sums) {
  const auto& list = due[static_cast<size_t>(n) % due.size()];
  if (!near_.empty()) return deliver_listed(list, near_.data(), range, sums);
  if (!far_.empty()) return deliver_listed(list, far_.data(), range, sums);
  if (!dense) return deliver_listed(list, spec.connections.target.data(), range, sums);
  for (size_t i = 0; i < list.size(); ++i) {
    if (i + 1 < list.size()) sy::cpu::fetch(fixed.data() + list[i + 1].begin + range.begin, 1024);
    for_stretches(list[i], [&](const Arrival& a, int64_t count) {
      const auto row = static_cast<int64_t>(spec.connections.offset[a.source]);
      const int64_t first = std::max(range.begin, static_cast<int64_t>(a.begin) - row);
      const int64_t last = std::min(range.end, static_cast<int64_t>(a.begin) - row + count);
      if (first < last) sy::cpu::deliver_row(last - first, fixed.data() + row + first, a.factor, sums + first);
    });
  }
}

int64_t Path::go_on(int64_t n) {
  auto& list = due[static_cast<size_t>(n) % due.size()];
  int64_t total = 0;
  for (const Arrival& a : list) {
    const Stretch last = for_stretches(a, [&](const Arrival&, int64_t count) { total += count; });
    if (last.more) post(last.next, n - steps_of(a));
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

void Path::leave_to_device() {
  spec.connections.target = {}, incoming_source = {}, incoming_synapse = {};
  if (!spec.stdp) spec.connections.delay = {}, spec.connections.part = {};
}

void Path::check_arrival(const Arrival& a, const std::string& source) const {
  bool there = false;
  Arrival at;
  if (a.source + size_t{1} < spec.connections.offset.size() && a.moment <= sy::step_parts &&
      arrival(a.source, 0, unchanged, 0, at)) {
    for (bool more = true; more && !there && at.begin <= a.begin;) {
      there = at.begin == a.begin && at.group == a.group;
      const Stretch stretch = stretch_of(at);
      at = stretch.next, more = stretch.more;
    }
  }
  if (!there) fail("{}: projection {} has a spike on its way that none of its synapses takes", source, spec.name);
}

void Path::state(StateArchive& archive) {
  for (auto& list : due) {  // in an order that is the same on every device; a source's spikes keep that of time
    if (!archive.loading)
      std::stable_sort(list.begin(), list.end(), [&](const Arrival& a, const Arrival& b) {
        return std::tuple(a.begin, steps_of(b), uint64_t{a.moment}) <
               std::tuple(b.begin, steps_of(a), uint64_t{b.moment});
      });
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
  return of(fixed, near_, far_, groups, c.weight, c.target, c.delay, c.part, change, incoming_source, incoming_synapse);
}

}  // namespace ranvier::neuron
