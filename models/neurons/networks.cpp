// The two networks of the literature.
#include "models/neurons/networks.h"

#include <algorithm>
#include <cmath>

#include "engine/draws.h"
#include "models/neurons/connectivity.h"
#include "models/neurons/presets.h"

namespace ranvier::neuron {
namespace {

NetworkSpec start(const NetworkOverrides& o, double dt) {
  NetworkSpec s;
  s.mode = o.mode.value_or(Mode::published_2003);
  s.solver = o.solver.value_or(Solver::rk4), s.precision = o.precision.value_or(Precision::f64);
  s.dt = o.dt.value_or(dt), s.seed = o.seed.value_or(0), s.memory_limit = o.memory_limit;
  return s;
}

PopulationSpec population(const char* name, int64_t size, double a, double b, double c, double d) {
  PopulationSpec p;
  p.name = name, p.size = size;
  p.parameters.a = a, p.parameters.b = b, p.parameters.c = c, p.parameters.d = d;
  p.v0 = -65, p.u0 = b * -65;
  return p;
}

/// r of neuron i: uniform, 53 bits.
double share(uint64_t seed, const char* stream, int64_t i) {
  return Draws(seed, stream).uniform53(0, static_cast<uint64_t>(i));
}

void add(NetworkSpec& s, ConnectSpec c, int source, int target, const SynapseModel& synapse = {},
         std::optional<StdpRule> stdp = {}) {
  c.sources = s.populations[source].size, c.targets = s.populations[target].size;
  c.same = source == target, c.dt = s.dt, c.seed = s.seed;
  c.whole_delays = stdp || s.mode != Mode::accurate;
  check_memory({{c.name, expected_synapses(c), stdp ? 22.0 : 8.0}}, s.memory_limit);
  s.projections.push_back({c.name, source, target, synapse, connect(c), {}, std::move(stdp)});
}

NamedNetwork cortical(const NetworkOverrides& o) {
  NamedNetwork n{"800 excitatory and 200 inhibitory neurons (Izhikevich 2003)", start(o, 1), o.duration.value_or(1000)};
  NetworkSpec& s = n.spec;
  PopulationSpec e = population("exc", 800, .02, .2, -65, 8), i = population("inh", 200, .02, .25, -65, 2);
  for (int64_t k = 0; k < e.size; ++k) {
    const double r = share(s.seed, "cortical1000/exc", k);
    e.each["c"].push_back(-65 + 15 * r * r), e.each["d"].push_back(8 - 6 * r * r);
  }
  for (int64_t k = 0; k < i.size; ++k) {
    const double r = share(s.seed, "cortical1000/inh", k);
    i.each["a"].push_back(.02 + .08 * r), i.each["b"].push_back(.25 - .05 * r);
    i.each["u0"].push_back((.25 - .05 * r) * -65);
  }
  Process noise;
  noise.deviation = 5, e.processes.push_back(noise);
  noise.deviation = 2, i.processes.push_back(noise);
  s.populations = {e, i};
  const char* names[2][2] = {{"exc_exc", "exc_inh"}, {"inh_exc", "inh_inh"}};
  for (int from = 0; from < 2; ++from)
    for (int to = 0; to < 2; ++to) {
      ConnectSpec c;
      c.name = names[from][to];
      c.weight = from == 0 ? Draw{Draw::Kind::uniform, 0, 0.5} : Draw{Draw::Kind::uniform, -1, 0};
      c.delay.a = s.dt;
      add(s, c, from, to);
    }
  return n;
}

/// 1000 neurons with 100 synapses each. Excitatory ones reach any neuron but themselves with 5 synapses of each delay
/// from 1 to 20 ms in the script: here each delay is equally likely.
NamedNetwork polychronous(const NetworkOverrides& o) {
  NamedNetwork n{"polychronization: delays and STDP (Izhikevich 2006)", start(o, 1), o.duration.value_or(1000)};
  NetworkSpec& s = n.spec;
  s.populations = {population("exc", 800, .02, .2, -65, 8), population("inh", 200, .1, .2, -65, 2)};
  s.kick = Kick{20, 1};
  // A synapse of 100 among 1000 neurons is drawn over both populations and cut into two projections.
  ConnectSpec whole;
  whole.name = "exc_all", whole.sources = 800, whole.targets = 1000, whole.same = whole.whole_delays = true;
  whole.rule.kind = Rule::Kind::out_degree, whole.rule.degree = 100, whole.rule.self = false;
  whole.weight.a = 6, whole.delay = {Draw::Kind::integers, 1, 20}, whole.dt = s.dt, whole.seed = s.seed;
  const Connections all = connect(whole);
  for (int to = 0; to < 2; ++to) {
    Connections part;
    part.offset.assign(1, 0);
    const uint32_t low = to == 0 ? 0 : 800, high = to == 0 ? 800 : 1000;
    for (int64_t i = 0; i < 800; ++i) {
      for (uint64_t k = all.offset[i]; k < all.offset[i + 1]; ++k)
        if (all.target[k] >= low && all.target[k] < high)
          part.target.push_back(all.target[k] - low), part.weight.push_back(6), part.delay.push_back(all.delay[k]);
      part.offset.push_back(part.target.size());
    }
    s.projections.push_back(
        {to == 0 ? "exc_exc" : "exc_inh", 0, to, {}, std::move(part), {}, StdpRule::published_2006()});
  }
  ConnectSpec inhibition;
  inhibition.name = "inh_exc";
  inhibition.rule.kind = Rule::Kind::out_degree, inhibition.rule.degree = 100;
  inhibition.weight.a = -5, inhibition.delay.a = 1;
  add(s, inhibition, 1, 0);
  return n;
}

/// Cells without a synapse that feel each other's field. Their drive lets each fire at some 20 Hz, noise sees to it
/// that they do not do so together by chance.
NamedNetwork ephaptic(const NetworkOverrides& o) {
  NamedNetwork n{"400 neurons without synapses in each other's field", start(o, 0.25), o.duration.value_or(2000)};
  NetworkSpec& s = n.spec;
  s.mode = o.mode.value_or(Mode::accurate);
  PopulationSpec cells = population("cells", 400, .02, .2, -65, 8);
  cells.current = Stimulus::constant(8);
  Process noise;
  noise.deviation = 2, cells.processes.push_back(noise);
  FieldCells f;
  f.kappa = 0.01;
  const Draws places(s.seed, "ephaptic400/places"), sizes(s.seed, "ephaptic400/diameters");
  for (int64_t i = 0; i < cells.size; ++i) {
    const auto e = static_cast<uint64_t>(i);
    cells.each["v0"].push_back(-70 + 20 * share(s.seed, "ephaptic400/v0", i));
    for (uint64_t axis = 0; axis < 3; ++axis) f.places.push_back((axis < 2 ? 0.3 : 0.1) * places.uniform53(axis, e));
    f.diameters.push_back(std::clamp(20 + 4 * static_cast<double>(sizes.normal(0, e)), 10.0, 30.0));
    f.g_ratio.push_back(0.6 + 0.4 * share(s.seed, "ephaptic400/g_ratio", i));
  }
  s.populations = {cells};
  s.field = FieldSpec{};
  s.field->cells = {f};
  return n;
}

}  // namespace

std::vector<std::string> network_names() { return {"cortical1000", "polychronous2006", "ephaptic400"}; }

bool is_network(std::string_view name) {
  const std::vector<std::string> names = network_names();
  return std::find(names.begin(), names.end(), name) != names.end();
}

NamedNetwork network(std::string_view name, const NetworkOverrides& overrides) {
  if (name == "cortical1000") return cortical(overrides);
  if (name == "polychronous2006") return polychronous(overrides);
  if (name == "ephaptic400") return ephaptic(overrides);
  fail("network '{}' is not one of {}", name, fmt::join(network_names(), ", "));
}

double power_share(const std::vector<NetworkSpike>& spikes, double duration, double low, double high) {
  std::vector<double> rate(static_cast<size_t>(duration), 0);
  for (const NetworkSpike& s : spikes)
    if (s.time >= 0 && s.time < static_cast<double>(rate.size())) rate[static_cast<size_t>(s.time)] += 1;
  return power_share(rate, low, high);
}

double power_share(const std::vector<double>& rate, double low, double high) {
  const auto bins = static_cast<int64_t>(rate.size());
  double mean = 0;
  for (double r : rate) mean += r / static_cast<double>(bins);
  double all = 0, band = 0;
  for (int64_t k = 1; k <= bins / 2; ++k) {  // 1 s gives 500 frequencies: no fast transform is called for
    double re = 0, im = 0;
    const double step = 2 * 3.14159265358979323846 * static_cast<double>(k) / static_cast<double>(bins);
    for (int64_t t = 0; t < bins; ++t) {
      re += (rate[t] - mean) * std::cos(step * static_cast<double>(t));
      im += (rate[t] - mean) * std::sin(step * static_cast<double>(t));
    }
    const double power = (re * re + im * im) * (2 * k == bins ? 0.5 : 1),
                 f = 1e3 * static_cast<double>(k) / static_cast<double>(bins);
    all += power;
    if (f >= low && f <= high) band += power;
  }
  return all > 0 ? band / all : 0;
}

double synchrony(const std::vector<NetworkSpike>& spikes, const NetworkSpec& spec, double begin, double end,
                 double bin) {
  std::vector<size_t> first = {0};
  for (const PopulationSpec& p : spec.populations) first.push_back(first.back() + static_cast<size_t>(p.size));
  const size_t neurons = first.back(), bins = static_cast<size_t>((end - begin) / bin);
  if (bins < 2) fail("synchrony: {} ms hold {} bins of {} ms", end - begin, bins, bin);
  std::vector<double> count(neurons * bins, 0), total(bins, 0);
  for (const NetworkSpike& s : spikes) {
    const double at = (s.time - begin) / bin;
    if (!(at >= 0) || at >= static_cast<double>(bins)) continue;
    ++count[(first[s.population] + s.neuron) * bins + static_cast<size_t>(at)], ++total[static_cast<size_t>(at)];
  }
  const auto variance = [&](const double* x) {
    double mean = 0, sum = 0;
    for (size_t b = 0; b < bins; ++b) mean += x[b] / static_cast<double>(bins);
    for (size_t b = 0; b < bins; ++b) sum += (x[b] - mean) * (x[b] - mean);
    return sum / static_cast<double>(bins);
  };
  double own = 0;
  for (size_t i = 0; i < neurons; ++i) own += variance(&count[i * bins]);
  const double size = static_cast<double>(neurons);
  return own > 0 ? variance(total.data()) / (size * own) : 0;
}

void set_kappa(NetworkSpec& spec, double kappa) {
  if (!spec.field) fail("kappa = {}: the network has no field", kappa);
  for (FieldCells& c : spec.field->cells) c.kappa = kappa;
}

}  // namespace ranvier::neuron
