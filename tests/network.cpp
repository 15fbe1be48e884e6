// Networks: two neurons by hand, receptors and plasticity against closed forms, rules, repeatability, bad input.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <algorithm>

#include <cmath>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <set>
#if defined(_OPENMP)
#include <omp.h>
#endif

#include "models/neurons/connectivity.h"
#include "models/neurons/networks.h"
#include "models/neurons/presets.h"
#include "tests/support/errors.h"
#include "tests/support/network.h"

namespace ranvier::neuron {
namespace {

using test::between;
using test::cells;
using test::error_of;
using testing::HasSubstr;

/// One driven neuron onto one silent one.
NetworkSpec pair(Mode mode, double dt, std::string_view synapse, double weight, double delay) {
  NetworkSpec s;
  s.mode = mode, s.dt = dt;
  s.populations = {cells("a", 1, 10), cells("b", 1)};
  ConnectSpec c = between(s, "ab", 0, 1);
  c.weight.a = weight, c.delay.a = delay;
  s.projections.push_back({"ab", 0, 1, synapse_named(synapse), connect(c)});
  return s;
}

std::filesystem::path scratch(const char* name) {
  const auto folder = std::filesystem::temp_directory_path() / fmt::format("ranvier-network-{}", getpid());
  std::filesystem::create_directories(folder);
  return folder / name;
}

// The source alone is the single neuron of `simulate`, bit for bit, and the pulse arrives at the first boundary at or
// after time + delay: there and nowhere else v leaves its path.
TEST(Network, TwoNeuronsByHand) {
  const double dt = 0.1, delay = 1.5;
  Protocol alone;
  alone.v0 = -70, alone.u0 = -14, alone.dt = dt, alone.duration = 200, alone.current = Stimulus::constant(10);
  const Result single = simulate(alone);
  ASSERT_GT(single.spikes.size(), 2u);
  Network network(pair(Mode::accurate, dt, "pulse", 5, delay)), silent(pair(Mode::accurate, dt, "pulse", 0, delay));
  std::vector<NetworkSpike> spikes;
  const auto due = static_cast<int64_t>(std::ceil((single.spikes[0] + delay) / dt));
  for (int64_t n = 0; n < 2000; ++n) {
    network.run(1, &spikes), silent.run(1);
    const double apart = network.v(1, 0) - silent.v(1, 0);
    if (n <= due) {
      ASSERT_NEAR(apart, n < due ? 0 : 5, n < due ? 0 : 0.15) << n;  // 5 x 1 ms of charge, C = 1
    }
  }
  std::vector<double> times;
  for (const auto& s : spikes)
    if (s.population == 0) times.push_back(s.time);
  ASSERT_EQ(times.size(), single.spikes.size());
  for (size_t i = 0; i < times.size(); ++i) EXPECT_NEAR(times[i], single.spikes[i], 1e-9);
  EXPECT_EQ(network.v(0, 0), single.v);
}

// The caller's current does what the same current of the description does, from the step it is written in.
TEST(Network, IsSteeredWhileItRuns) {
  NetworkSpec steered = pair(Mode::accurate, 0.1, "pulse", 5, 1), described = steered;
  steered.populations[0].current = Stimulus();
  Network a(std::move(steered)), b(std::move(described));
  std::ranges::fill(a.external(0), 10.0f);
  a.run(1000), b.run(1000);
  EXPECT_GT(b.spikes_of(0), 2);
  EXPECT_EQ(a.spikes_of(0), b.spikes_of(0));
  EXPECT_NEAR(a.v(1, 0), b.v(1, 0), 1e-6);
  std::ranges::fill(a.external(0), 0.0f);
  const int64_t before = a.spikes_of(0);
  a.run(3000);
  EXPECT_LE(a.spikes_of(0), before + 1);
}

// A pulse is 1 ms of its weight whatever the step: v of a neuron at rest ends up where it did.
TEST(Network, APulseHasTheSameChargeAtEveryStep) {
  for (const Precision precision : {Precision::f32, Precision::f64}) {
    std::vector<double> ends;
    for (const double dt : {0.5, 0.1, 0.02}) {
      NetworkSpec with = pair(Mode::accurate, dt, "pulse", 3, 1), without = pair(Mode::accurate, dt, "pulse", 0, 1);
      with.precision = without.precision = precision;
      Network a(std::move(with)), b(std::move(without));
      const auto until = static_cast<int64_t>(std::llround(15 / dt));  // one spike of the source
      a.run(until), b.run(until);
      ASSERT_EQ(a.spikes_of(0), 1);
      ends.push_back(a.v(1, 0) - b.v(1, 0));
    }
    EXPECT_GT(std::abs(ends[2]), 0.01);
    EXPECT_NEAR(ends[0], ends[2], 0.1 * std::abs(ends[2]));
    EXPECT_NEAR(ends[1], ends[2], 0.02 * std::abs(ends[2]));
  }
}

// The whole machinery in f32: rates of a second near those in f64, the same bits with any number of threads and from a
// saved state.
TEST(Network, F32RunsLikeF64) {
  const auto make = [](Precision precision) {
    return Network(network("cortical1000", {.seed = 3, .precision = precision}).spec);
  };
  Network narrow = make(Precision::f32), wide = make(Precision::f64);
  std::vector<NetworkSpike> a, b;
  narrow.run(1000, &a), wide.run(1000, &b);
  EXPECT_GT(a.size(), 5000u);
  // The same inputs until rounding has grown: the first 30 ms spike by spike, then the rates.
  const auto early = [](const std::vector<NetworkSpike>& spikes) {
    std::vector<std::pair<double, uint32_t>> list;
    for (const NetworkSpike& s : spikes)
      if (s.time <= 30) list.push_back({s.time, s.neuron});
    return list;
  };
  EXPECT_EQ(early(a), early(b));
  EXPECT_NEAR(static_cast<double>(a.size()), static_cast<double>(b.size()), 0.15 * static_cast<double>(b.size()));
  const std::string path = scratch("f32").string();
  Network first = make(Precision::f32), second = make(Precision::f32);
  std::vector<NetworkSpike> parts;
  first.run(321, &parts), first.save(path), second.load(path), second.run(679, &parts);
  ASSERT_EQ(parts.size(), a.size());
  for (size_t i = 0; i < a.size(); ++i) ASSERT_TRUE(a[i].time == parts[i].time && a[i].neuron == parts[i].neuron);
  EXPECT_THAT(error_of([&] { wide.load(path); }), HasSubstr("is not of this network"));
}

// published:2003 written out: reset, weight of the spikes of the step before, two half steps, u.
TEST(Network, PublishedSchemeByHand) {
  Network network(pair(Mode::published_2003, 1, "pulse", 7, 1));
  double v[2] = {-70, -70}, u[2] = {-14, -14};
  for (int n = 0; n < 300; ++n) {
    const bool fired = v[0] >= 30;
    double current[2] = {10, 0};
    for (int i = 0; i < 2; ++i)
      if (v[i] >= 30) v[i] = -65, u[i] += 8;
    if (fired) current[1] += 7;
    for (int i = 0; i < 2; ++i) {
      for (int k = 0; k < 2; ++k) v[i] += 0.5 * (0.04 * v[i] * v[i] + 5 * v[i] + 140 - u[i] + current[i]);
      u[i] += 0.02 * (0.2 * v[i] - u[i]);
    }
    network.run(1);
    for (int i = 0; i < 2; ++i)
      if (v[i] < 30) {
        ASSERT_NEAR(network.v(i, 0), v[i], 1e-5) << n << " neuron " << i;
      }
  }
  EXPECT_GT(network.spikes_of(0), 5);
}

TEST(Network, ReceptorsDecayAsTheirClosedForm) {
  for (const char* kind : {"exponential", "ampa", "nmda", "gaba_a", "gaba_b"}) {
    const double dt = 0.1, tau = synapse_named(kind).tau;
    Network network(pair(Mode::accurate, dt, kind, 0.001, 1));
    std::vector<NetworkSpike> spikes;
    while (spikes.empty()) network.run(1, &spikes);
    const auto due = static_cast<int64_t>(std::ceil((spikes[0].time + 1) / dt));
    while (network.step() <= due) network.run(1);
    const double first = network.receptor_state(1, 0, 0);
    EXPECT_NEAR(first, static_cast<double>(0.001f) * std::exp(-dt / tau), 1e-11) << kind;
    network.run(50);
    EXPECT_NEAR(network.receptor_state(1, 0, 0), first * std::exp(-50 * dt / tau), 1e-11) << kind;
  }
}

// A conductance of long duration holds v where the equation balances: 0.04 v^2 + 5 v + 140 - b v + g (E - v) = 0.
TEST(Network, ConductancePullsToItsReversal) {
  NetworkSpec s = pair(Mode::accurate, 0.1, "gaba_a", 0.5, 1);
  s.projections[0].synapse.tau = 1e7;
  Network network(std::move(s));
  std::vector<NetworkSpike> spikes;
  while (spikes.empty()) network.run(1, &spikes);
  network.run(600);
  const double g = network.receptor_state(1, 0, 0), v = network.v(1, 0);
  EXPECT_NEAR(0.04 * v * v + 5 * v + 140 - network.u(1, 0) + g * (-70 - v), 0, 0.05);
}

TEST(Network, ShortTermPlasticityFollowsItsRecursion) {
  using namespace kernels::synapse;
  const double U = 0.3, tau_f = 120, tau_d = 400;
  const ShortTerm rule{U, 1 / tau_f, 1 / tau_d};
  Resources state;
  double u = 0, x = 1;
  for (double gap : {1e9, 20.0, 5.0, 300.0, 0.5, 50.0}) {
    u = u * std::exp(-gap / tau_f), x = 1 - (1 - x) * std::exp(-gap / tau_d);
    u += U * (1 - u);
    EXPECT_NEAR(release(rule, state, gap), u * x, 1e-14);
    x -= u * x;
  }
  NetworkSpec s = pair(Mode::accurate, 0.1, "exponential", 2, 1);
  s.projections[0].synapse.tau = 1e9, s.projections[0].short_term = ShortTermRule{U, tau_d, tau_f};
  Network network(std::move(s));
  std::vector<NetworkSpike> spikes;
  network.run(3000, &spikes);
  double sum = 0, last = -1e9;
  u = 0, x = 1;
  for (const auto& spike : spikes) {
    if (spike.population != 0 || spike.time + 1 > 299.9) continue;
    const double gap = spike.time - last;
    u *= std::exp(-gap / tau_f), x = 1 - (1 - x) * std::exp(-gap / tau_d), u += U * (1 - u);
    sum += 2 * u * x, x -= u * x, last = spike.time;
  }
  EXPECT_NEAR(network.receptor_state(1, 0, 0), sum, 1e-5);
}

// Pair-based STDP on the grid against sums over all pairs of spikes.
TEST(Network, StdpIsTheSumOverPairs) {
  NetworkSpec s = pair(Mode::published_2003, 1, "pulse", 5, 3);
  s.populations[1].current = Stimulus::constant(8);
  StdpRule rule;
  rule.plus = 0.01, rule.minus = 0.012, rule.high = 100;
  s.projections[0].stdp = rule;
  Network network(std::move(s));
  std::vector<NetworkSpike> spikes;
  network.run(500, &spikes);
  double expected = 5;
  for (const auto& a : spikes)
    for (const auto& b : spikes) {
      if (a.population != 0 || b.population != 1) continue;
      const double arrival = a.time + 2;  // seen by a spike of the target from the end of the arrival's step on
      const double lag = b.time - (arrival + 1);
      if (lag >= 0) expected += rule.plus * std::exp(-lag / rule.tau_plus);
      if (arrival >= b.time && arrival < 500) expected -= rule.minus * std::exp(-(arrival - b.time) / rule.tau_minus);
    }
  EXPECT_NE(network.weights(0)[0], 5);
  EXPECT_NEAR(network.weights(0)[0], expected, 1e-4);
}

/// Bytes that a synapse takes in the lists of a network of one projection.
double bytes_a_synapse(uint32_t targets, bool own_delays, std::optional<StdpRule> stdp, Precision precision) {
  NetworkSpec s;
  s.precision = precision;
  s.populations = {cells("a", 1, 10), cells("b", targets)};
  Connections c;
  c.offset = {0, 60000};
  for (uint32_t i = 0; i < 60000; ++i) {
    c.target.push_back(i * 7919 % targets), c.weight.push_back(0.5f);
    if (own_delays) c.delay.push_back(static_cast<uint16_t>(i + 1));
    if (own_delays && !stdp) c.part.push_back(static_cast<uint8_t>(i));
  }
  s.projections.push_back({"ab", 0, 1, {}, std::move(c), {}, stdp});
  const std::string bill = Network(std::move(s)).bill();
  double bytes = 0;
  EXPECT_EQ(std::sscanf(bill.c_str() + bill.find("ab 60000"), "ab 60000 x %lf B", &bytes), 1) << bill;
  return bytes;
}

// At most 12 bytes static and 24 with STDP, whatever the delays and the number of targets.
TEST(Network, SynapsesAreSmall) {
  for (const Precision precision : {Precision::f32, Precision::f64})
    for (const uint32_t targets : {5000u, 70000u}) {
      const double index = targets > 65536 ? 4 : 2;
      EXPECT_NEAR(bytes_a_synapse(targets, false, {}, precision), 4 + index, 0.01);
      EXPECT_NEAR(bytes_a_synapse(targets, true, {}, precision), 8 + index, 0.01);
      StdpRule rule;
      EXPECT_NEAR(bytes_a_synapse(targets, false, rule, precision), 16, 0.01);
      EXPECT_NEAR(bytes_a_synapse(targets, true, rule, precision), 18, 0.01);
      rule.interval = 1000;
      EXPECT_NEAR(bytes_a_synapse(targets, false, rule, precision), 20, 0.01);
      EXPECT_NEAR(bytes_a_synapse(targets, true, rule, precision), 22, 0.01);
    }
}

TEST(Network, RulesGiveTheirDegrees) {
  NetworkSpec s;
  s.populations = {cells("a", 300), cells("b", 200)};
  ConnectSpec c = between(s, "ab", 0, 1);
  c.delay = {Draw::Kind::uniform, 1, 5};
  const auto distinct = [](const Connections& x, int64_t source) {
    const std::set<uint32_t> set(x.target.begin() + x.offset[source], x.target.begin() + x.offset[source + 1]);
    return set.size() == x.offset[source + 1] - x.offset[source];
  };
  c.rule.kind = Rule::Kind::in_degree;
  for (int64_t degree : {0, 7, 250, 300}) {
    c.rule.degree = degree;
    const Connections x = connect(c);
    std::vector<int64_t> in(200, 0);
    for (uint32_t t : x.target) ++in[t];
    for (int64_t count : in) ASSERT_EQ(count, degree);
    for (int64_t i = 0; i < 300; ++i) ASSERT_TRUE(distinct(x, i));
    for (int64_t i = 0; i < 300; ++i)
      for (uint64_t k = x.offset[i]; k + 1 < x.offset[i + 1]; ++k) ASSERT_LE(x.delay[k], x.delay[k + 1]);
  }
  c.rule.kind = Rule::Kind::probability, c.rule.p = 0.13;
  const Connections x = connect(c);
  EXPECT_NEAR(static_cast<double>(x.count()), 0.13 * 60000, 5 * std::sqrt(0.13 * 60000));
  EXPECT_LE(x.count(), expected_synapses(c));
  c.rule.kind = Rule::Kind::all_to_all, c.delay = {};
  c.delay.a = 1;
  EXPECT_EQ(connect(c).count(), 60000u);
  EXPECT_TRUE(connect(c).target.empty());
  ConnectSpec within = between(s, "aa", 0, 0);
  within.rule.kind = Rule::Kind::all_to_all, within.rule.self = false;
  EXPECT_EQ(connect(within).count(), 300u * 299u);
  within.rule.kind = Rule::Kind::one_to_one;
  EXPECT_EQ(connect(within).target[17], 17u);
  within.rule.kind = Rule::Kind::sheet, within.rule.p = 1, within.rule.sigma = 1e6, within.rule.cutoff = 0.21;
  within.sources = within.targets = 100, within.delay = {Draw::Kind::distance, 0.5, 0.1};
  const Connections sheet = connect(within);  // 10 x 10 cells of 0.1 mm: neuron 0 reaches (1,0) (2,0) (0,1) (1,1) (0,2)
  EXPECT_EQ(std::set<uint32_t>(sheet.target.begin(), sheet.target.begin() + sheet.offset[1]).size(), 5u);
  EXPECT_EQ(sheet.delay[sheet.offset[1] - 1], 25);  // 0.5 ms + 0.2 mm / 0.1 mm/ms
}

NetworkSpec busy(uint64_t seed = 3) {
  NamedNetwork n = network("cortical1000", {.seed = seed});
  return std::move(n.spec);
}

TEST(Network, OrderOfSynapsesDoesNotMatter) {
  NetworkSpec a = busy(), b = busy();
  for (auto& p : b.projections) {  // explicit lists, each row backwards
    Connections& c = p.connections;
    const auto targets = static_cast<uint64_t>(b.populations[p.target].size);
    c.target.resize(c.count());
    for (uint64_t i = 0; i < c.count(); ++i) c.target[i] = static_cast<uint32_t>(i % targets);
    for (size_t s = 0; s + 1 < c.offset.size(); ++s) {
      std::reverse(c.target.begin() + c.offset[s], c.target.begin() + c.offset[s + 1]);
      std::reverse(c.weight.begin() + c.offset[s], c.weight.begin() + c.offset[s + 1]);
    }
  }
  Network first(std::move(a)), second(std::move(b));
  first.run(150), second.run(150);
  for (int64_t i = 0; i < 800; ++i) ASSERT_EQ(first.v(0, i), second.v(0, i));
}

TEST(Network, ThreadsDoNotMatter) {
  const auto run = [](int threads) {
#if defined(_OPENMP)
    omp_set_num_threads(threads);
#else
    (void)threads;
#endif
    NetworkSpec s;
    s.mode = Mode::published_2003, s.dt = 1;
    s.populations = {cells("a", 20000, 12)};
    ConnectSpec c = between(s, "aa", 0, 0);
    c.rule.kind = Rule::Kind::out_degree, c.rule.degree = 50, c.weight = {Draw::Kind::normal, 0.1, 0.5};
    c.delay = {Draw::Kind::integers, 1, 6};
    s.projections.push_back({"aa", 0, 0, synapse_named("exponential"), connect(c)});
    Network network(std::move(s));
    network.run(40);
    std::vector<double> v;
    for (int64_t i = 0; i < 20000; ++i) v.push_back(network.v(0, i));
    return v;
  };
  const auto one = run(1);
  EXPECT_EQ(run(2), one);
  EXPECT_EQ(run(3), one);
}

TEST(Network, ResumesWithTheSameBits) {
  for (const char* which : {"cortical1000", "polychronous2006"}) {
    const std::string path = scratch("state").string();
    const auto make = [&] { return Network(network(which, {.seed = 5}).spec); };
    Network whole = make(), first = make(), second = make(), other(network(which, {.seed = 6}).spec);
    std::vector<NetworkSpike> a, b;
    whole.run(1200, &a), first.run(455, &b);
    first.save(path), second.load(path);
    second.run(1200 - 455, &b);
    ASSERT_EQ(a.size(), b.size());
    for (size_t i = 0; i < a.size(); ++i) ASSERT_TRUE(a[i].time == b[i].time && a[i].neuron == b[i].neuron);
    for (int64_t i = 0; i < 800; ++i) ASSERT_EQ(whole.v(0, i), second.v(0, i));
    EXPECT_EQ(whole.weights(0), second.weights(0));
    EXPECT_THAT(error_of([&] { other.load(path); }), HasSubstr("is not of this network"));
    std::filesystem::resize_file(path, std::filesystem::file_size(path) - 9);
    EXPECT_THAT(error_of([&] { second.load(path); }), HasSubstr("ends in the middle"));
  }
}

TEST(Network, ListsFromCsv) {
  ConnectSpec c;
  c.name = "list", c.sources = 3, c.targets = 4, c.dt = 0.5;
  const std::string path = scratch("edges.csv").string();
  const auto read = [&](const std::string& text) {
    std::ofstream(path) << text;
    return read_edges_csv(path, c);
  };
  const std::string head = "source,target,weight,delay_ms\n";
  const Connections x = read(head + "2,0,1.5,2\n0,3,0.5,1\n2,1,-1,0.5\n");
  EXPECT_EQ(x.offset, (std::vector<uint64_t>{0, 1, 1, 3}));
  EXPECT_EQ(x.target, (std::vector<uint32_t>{3, 1, 0}));
  EXPECT_EQ(x.delay, (std::vector<uint16_t>{2, 1, 4}));
  const auto error = [&](const std::string& text) { return error_of([&] { read(text); }); };
  EXPECT_THAT(error(head + "0,0,1,1\n3,0,1,1\n"), HasSubstr("edges.csv:3: source 3 of 3 neurons"));
  EXPECT_THAT(error(head + "0,4,1,1\n"), HasSubstr(":2: target 4 of 4"));
  EXPECT_THAT(error(head + "0,1,1,1\n1,1,1,1\n0,1,2,2\n"), HasSubstr(":4: 0 to 1 was there already, at"));
  EXPECT_THAT(error(head + "0,1,1,0.4\n"), HasSubstr(":2: delay 0.4 ms is under one step of 0.5 ms"));
  EXPECT_THAT(error(head + "0,x,1,1\n"), HasSubstr("'x' is not a neuron's number"));
  EXPECT_THAT(error(head + "0,1,1\n"), HasSubstr("3 columns where the heading has 4"));
  EXPECT_THAT(error("from,to\n"), HasSubstr(":1: the heading is not"));
}

TEST(Network, BadInput) {
  EXPECT_THAT(error_of([] { pair(Mode::accurate, 0.1, "pulse", 1, 0.05); }), HasSubstr("is under one step"));
  const auto network_error = [](auto change) {
    NetworkSpec s = pair(Mode::accurate, 0.1, "ampa", 1, 1);
    change(s);
    return error_of([&] { Network{std::move(s)}; });
  };
  EXPECT_THAT(network_error([](NetworkSpec& s) { s.dt = 0; }), HasSubstr("dt = 0"));
  EXPECT_THAT(network_error([](NetworkSpec& s) { s.dt = std::nan(""); }), HasSubstr("dt = nan"));
  EXPECT_THAT(network_error([](NetworkSpec& s) { s.populations[1].name = "a"; }), HasSubstr("called a"));
  for (const char* name : {"", "a/b", "../x", "a,b", "a\nb", "a b", "."})
    EXPECT_THAT(network_error([&](NetworkSpec& s) { s.populations[1].name = name; }),
                HasSubstr(fmt::format("population '{}': a name is made of letters", name)));
  EXPECT_THAT(network_error([](NetworkSpec& s) { s.projections[0].name = "a,b"; }), HasSubstr("projection 'a,b'"));
  EXPECT_THAT(network_error([](NetworkSpec& s) { s.populations[0].processes.push_back({.interval = 0.13}); }),
              HasSubstr("population a: noise_dt = 0.13 ms is not a whole number of steps of 0.1 ms"));
  EXPECT_THAT(network_error([](NetworkSpec& s) {
                s.kick = Kick{1, 0.04};
              }),
              HasSubstr("kick: interval = 0.04 ms is not a whole number of steps"));
  EXPECT_THAT(network_error([](NetworkSpec& s) {
                s.projections[0].stdp = StdpRule{};
                s.projections[0].stdp->interval = 0.25;
              }),
              HasSubstr("stdp interval = 0.25 ms is not a whole number of steps"));
  EXPECT_THAT(network_error([](NetworkSpec& s) {
                s.projections[0].stdp = StdpRule{};
                s.projections[0].stdp->high = 0.5;
              }),
              HasSubstr("synapse 0 begins with weight 1: stdp keeps weights from 0 to 0.5"));
  EXPECT_THAT(network_error([](NetworkSpec& s) { s.populations[0].parameters.v_peak = -70; }),
              HasSubstr("population a, neuron 0: neuron parameter v_peak"));
  EXPECT_THAT(network_error([](NetworkSpec& s) { s.projections[0].connections.target = {7}; }),
              HasSubstr("target 7 of 1"));
  EXPECT_THAT(network_error([](NetworkSpec& s) { s.projections[0].connections.weight[0] = -1; }),
              HasSubstr("negative"));
  EXPECT_THAT(network_error([](NetworkSpec& s) { s.projections[0].connections.same_delay = 0; }),
              HasSubstr("under one step"));
  EXPECT_THAT(network_error([](NetworkSpec& s) {
                s.projections[0].connections.part = {1, 2};
              }),
              HasSubstr("2 parts of 0 delays"));
  EXPECT_THAT(network_error([](NetworkSpec& s) {
                s.projections[0].stdp = StdpRule{}, s.projections[0].connections.same_part = 7;
              }),
              HasSubstr("projection ab: delays of plastic synapses are whole steps"));
  EXPECT_THAT(network_error([](NetworkSpec& s) { s.projections[0].target = 2; }), HasSubstr("2 populations"));
  EXPECT_THAT(network_error([](NetworkSpec& s) { s.solver = Solver::reference; }), HasSubstr("no place in a network"));
  EXPECT_THAT(network_error([](NetworkSpec& s) { s.memory_limit = 50; }), HasSubstr("larger than memory"));
  EXPECT_THAT(error_of([] {
                NetworkSpec s = pair(Mode::accurate, 0.1, "pulse", 1, 1);
                s.populations[0].parameters.d = -1e4, s.populations[0].parameters.c = 29;
                Network network(std::move(s));
                network.run(5000);
              }),
              HasSubstr("population a, neuron 0 runs away"));
}

TEST(Network, Files) {
  const std::string path = scratch("net.toml").string();
  const auto read = [&](const std::string& text) {
    std::ofstream(path) << text;
    return read_network(path);
  };
  const std::string good =
      "[network]\ndt_ms = 0.5\nseed = 2\n[[population]]\nname = 'e'\nsize = 40\nnoise_sd = 5\n"
      "each = { c = 'uniform -65 -55' }\n[[population]]\nname = 'i'\npreset = 'fs2003'\nsize = 10\n"
      "[[projection]]\nsource = 'e'\ntarget = 'i'\nrule = 'probability'\np = 0.5\nweight = 'uniform 0 2'\nsynapse = "
      "'ampa'\n";
  NamedNetwork n = read(good);
  EXPECT_EQ(n.spec.populations[1].parameters.a, 0.1);
  EXPECT_GT(n.spec.projections[0].connections.count(), 100u);
  Network(std::move(n.spec)).run(100);
  const auto error = [&](const std::string& text) { return error_of([&] { read(text); }); };
  EXPECT_THAT(error(good + "speed = 3\n"), HasSubstr("projection 1: unknown key 'speed'"));
  EXPECT_THAT(error(good + "[other]\n"), HasSubstr("unknown table 'other'"));
  EXPECT_THAT(error(good + "delay_ms = 0.1\n"), HasSubstr("under one step"));
  EXPECT_THAT(error(good + "[[projection]]\nsource = 'x'\ntarget = 'i'\n"), HasSubstr("no population 'x'"));
  EXPECT_THAT(error(good + "[[projection]]\nsource = 'e'\ntarget = 'e'\nrule = 'any'\n"),
              HasSubstr("rule 'any' is not one of"));
  EXPECT_THAT(error("[network]\ndt_ms = -1\n"), HasSubstr("dt_ms = -1 is not positive"));
  EXPECT_THAT(error("[[population]]\nname = 'a'\nsize = 3000000\n[[projection]]\nsource = 'a'\ntarget = 'a'\nrule = "
                    "'all_to_all'\n"),
              HasSubstr("larger than memory"));
  EXPECT_THAT(error("[network\n"), HasSubstr("net.toml:1"));
}

}  // namespace
}  // namespace ranvier::neuron
