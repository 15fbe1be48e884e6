// Networks on a CUDA device against the same ones on the CPU: states, weights, spikes and checkpoints with the same
// bits.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstring>
#include <filesystem>
#include <fstream>

#include "engine/fingerprint.h"
#include "kernels/common/philox.h"
#include "models/neurons/connectivity.h"
#include "models/neurons/networks.h"
#include "tests/case.h"

namespace ranvier::test {
namespace {

using neuron::Connections;
using neuron::ConnectSpec;
using neuron::Draw;
using neuron::Mode;
using neuron::Network;
using neuron::NetworkSpec;
using neuron::NetworkSpike;
using neuron::PopulationSpec;
using neuron::Precision;
using neuron::Rule;
using neuron::ShortTermRule;
using neuron::Solver;
using neuron::StdpRule;
using neuron::Stimulus;
using testing::HasSubstr;

constexpr std::string_view kinds[] = {"pulse", "exponential", "ampa", "nmda", "gaba_a", "gaba_b"};

double uniform(uint64_t stream, int64_t i) {
  return static_cast<double>(kernels::philox::uniform({8, stream, 0}, static_cast<uint64_t>(i)));
}

/// n neurons of the 2003 form that spike by themselves; where `own`, each has its parameters and current.
PopulationSpec cells(const char* name, int64_t n, double current, bool own = true) {
  PopulationSpec p;
  p.name = name, p.size = n, p.current = Stimulus::constant(current);
  for (int64_t i = 0; own && i < n; ++i) {
    const double r = uniform(1, i);
    p.each["c"].push_back(-65 + 15 * r * r), p.each["d"].push_back(8 - 6 * r * r);
    p.current_each.push_back(10 * uniform(2, i));
  }
  return p;
}

/// A projection with the rule; delays from 1 to `longest` ms.
void connect(NetworkSpec& s, int source, int target, std::string_view synapse, Rule rule, double longest = 4,
             double weight = 3) {
  ConnectSpec c;
  c.name = fmt::format("{}_{}_{}", s.populations[source].name, s.populations[target].name, synapse);
  c.dt = s.dt, c.seed = s.seed, c.sources = s.populations[source].size, c.targets = s.populations[target].size;
  c.same = source == target, c.rule = rule;
  c.weight = {Draw::Kind::uniform, 0, synapse == "pulse" || synapse == "exponential" ? weight : 0.02 * weight};
  c.delay.a = std::max(1.0, s.dt);
  if (longest > 1) c.delay = {Draw::Kind::uniform, c.delay.a, longest};
  s.projections.push_back({c.name, source, target, neuron::synapse_named(synapse), neuron::connect(c), {}, {}});
}

/// Makes a projection plastic; its delays are whole steps then.
void learns(neuron::ProjectionSpec& p, const StdpRule& rule) {
  p.stdp = rule, p.connections.part = {}, p.connections.same_part = 0;
}

Rule rule(Rule::Kind kind, int64_t degree = 5) {
  Rule r;
  r.kind = kind, r.degree = degree, r.p = 0.2;
  return r;
}

/// Two populations under every receptor, with delays.
NetworkSpec varied(Mode mode = Mode::accurate, double dt = 0.25) {
  NetworkSpec s;
  s.mode = mode, s.dt = dt, s.seed = 4;
  s.populations = {cells("e", 75, 6), cells("i", 33, 4, false)};
  for (const std::string_view kind : kinds) connect(s, 0, 1, kind, rule(Rule::Kind::out_degree));
  connect(s, 1, 0, "gaba_a", rule(Rule::Kind::probability));
  connect(s, 0, 0, "ampa", rule(Rule::Kind::in_degree), 2);
  return s;
}

/// Fewer of them.
NetworkSpec few(Mode mode) {
  NetworkSpec s = varied(mode);
  s.populations = {cells("e", 25, 9), cells("i", 10, 6, false)}, s.projections.clear();
  connect(s, 0, 1, "nmda", rule(Rule::Kind::out_degree)), connect(s, 0, 0, "pulse", rule(Rule::Kind::out_degree));
  connect(s, 1, 0, "gaba_a", rule(Rule::Kind::probability), 2);
  return s;
}

NetworkSpec on_device(NetworkSpec s) {
  s.device = Device::cuda();
  return s;
}

void expect_same_spikes(const std::vector<NetworkSpike>& a, const std::vector<NetworkSpike>& b) {
  ASSERT_EQ(a.size(), b.size());
  for (size_t k = 0; k < a.size(); ++k) {
    ASSERT_EQ(a[k].time, b[k].time) << k;
    ASSERT_EQ(a[k].population, b[k].population) << k;
    ASSERT_EQ(a[k].neuron, b[k].neuron) << k;
  }
}

/// Everything that one can ask of a network.
void expect_same_state(const Network& a, const Network& b, int projections) {
  ASSERT_EQ(a.step(), b.step());
  EXPECT_EQ(a.deliveries(), b.deliveries());
  for (int p = 0; p < static_cast<int>(a.spec().populations.size()); ++p) {
    EXPECT_EQ(a.spikes_of(p), b.spikes_of(p));
    for (int64_t i = 0; i < a.spec().populations[static_cast<size_t>(p)].size; ++i) {
      ASSERT_EQ(a.v(p, i), b.v(p, i)) << "population " << p << " neuron " << i;
      ASSERT_EQ(a.u(p, i), b.u(p, i)) << "population " << p << " neuron " << i;
    }
  }
  for (int k = 0; k < projections; ++k) {
    const std::vector<float> x = a.weights(k), y = b.weights(k);
    ASSERT_EQ(x.size(), y.size());
    for (size_t i = 0; i < x.size(); ++i) ASSERT_EQ(x[i], y[i]) << "projection " << k << " synapse " << i;
  }
}

/// Runs both in pieces of `chunk` steps; neurons must spike and reach each other, or nothing is said.
void expect_same(const NetworkSpec& spec, int64_t steps, int64_t chunk, size_t least = 0) {
  Network host(spec), device(on_device(spec));
  std::vector<NetworkSpike> there, here;
  for (int64_t done = 0; done < steps; done += chunk) {
    host.run(std::min(chunk, steps - done), &here), device.run(std::min(chunk, steps - done), &there);
    ASSERT_NO_FATAL_FAILURE(expect_same_spikes(here, there));
  }
  ASSERT_NO_FATAL_FAILURE(expect_same_state(host, device, static_cast<int>(spec.projections.size())));
  EXPECT_GT(here.size(), least ? least : static_cast<size_t>(spec.populations[0].size / 2));
  EXPECT_GT(host.deliveries(), 100);
}

std::filesystem::path scratch(const char* name) {
  const auto folder = std::filesystem::temp_directory_path() / fmt::format("ranvier-network-cuda-{}", getpid());
  std::filesystem::create_directories(folder);
  return folder / name;
}

std::string bytes_of(const std::filesystem::path& path) {
  std::ifstream file(path, std::ios::binary);
  return std::string((std::istreambuf_iterator<char>(file)), {});
}

class NetworkCuda : public testing::Test {
 protected:
  void SetUp() override {
    if (!cuda_support().usable) GTEST_SKIP() << "skipped: no CUDA device: " << cuda_support().why;
  }
};

TEST(NetworkWithoutCuda, ADeviceThatIsNotThereIsRefused) {
  if (cuda_support().usable) GTEST_SKIP() << "skipped: there is a CUDA device";
  EXPECT_THAT(error_of([] { Network{on_device(varied())}; }), HasSubstr("network: device cuda: "));
}

TEST_F(NetworkCuda, EverySolverModeAndType) {
  for (const Solver solver : {Solver::euler, Solver::izhikevich, Solver::backward_euler, Solver::midpoint, Solver::rk4,
                              Solver::exponential, Solver::linear_implicit})
    for (const Mode mode : {Mode::accurate, Mode::published})
      for (const Precision precision : {Precision::f32, Precision::f64}) {
        SCOPED_TRACE(fmt::format("{} {} {}", name(solver), name(mode), name(precision)));
        NetworkSpec spec = few(mode);
        spec.solver = solver, spec.precision = precision;
        expect_same(spec, 90, 57);
      }
}

TEST_F(NetworkCuda, PrintedSchemes) {
  for (const Mode mode : {Mode::published_2003, Mode::published_2004})
    for (const Precision precision : {Precision::f32, Precision::f64}) {
      SCOPED_TRACE(fmt::format("{} {}", name(mode), name(precision)));
      NetworkSpec spec = varied(mode, 0.5);
      spec.precision = precision;
      expect_same(spec, 80, 80);
    }
}

TEST_F(NetworkCuda, NoiseKicksAndStimuliThatChange) {
  for (const Mode mode : {Mode::accurate, Mode::published_2003}) {
    NetworkSpec spec = varied(mode, 0.5);
    spec.kick = neuron::Kick{20, 1.5};
    spec.populations[0].current = Stimulus({{0, 0}, {9.7, 6}, {30, 3, 0.05}, {60, 5}});
    for (PopulationSpec& p : spec.populations) p.processes.push_back({.mean = 1, .deviation = 3, .interval = 1});
    spec.populations[1].processes[0].interval = 0.5;
    expect_same(spec, 150, 61);
  }
}

// Several spikes of one neuron in a step, arriving together.
NetworkSpec bursting() {
  NetworkSpec s;
  s.dt = 2, s.seed = 9;
  s.populations = {cells("e", 24, 60), cells("i", 12, 40, false)};
  return s;
}

// Currents that are drawn or follow a wave; they change every few steps, or in each.
TEST_F(NetworkCuda, EveryProcess) {
  using neuron::Process;
  for (const bool wave : {false, true}) {
    NetworkSpec s = few(Mode::accurate);
    auto& e = s.populations[0].processes;
    e.push_back({.kind = Process::Kind::ou, .deviation = 3, .stream = "current/ou"});
    e.push_back({.kind = Process::Kind::noise, .deviation = 1, .interval = 2});
    e.push_back({.kind = Process::Kind::noise, .deviation = 1, .stream = "current/more"});
    s.populations[1].processes.push_back({.kind = Process::Kind::poisson, .rate = 100, .weight = 2});
    if (wave) e.push_back({.kind = Process::Kind::sinusoid, .amplitude = 3, .frequency = 20});
    expect_same(s, 200, 33);
  }
}

TEST_F(NetworkCuda, ShortTermPlasticity) {
  for (const double facilitation : {0.0, 200.0})
    for (const bool bursts : {false, true}) {
      NetworkSpec s = bursts ? bursting() : varied();
      s.projections.clear();
      connect(s, 0, 1, "ampa", rule(Rule::Kind::out_degree), 10);
      connect(s, 0, 1, "exponential", rule(Rule::Kind::all_to_all), 1, 0.5);
      connect(s, 1, 0, "gaba_a", rule(Rule::Kind::out_degree), 7);
      s.projections[0].short_term = ShortTermRule{0.3, 300, facilitation};
      s.projections[1].short_term = ShortTermRule{0.6, 0, facilitation};
      expect_same(s, 90, 40);
    }
}

StdpRule pairs(bool nearest, double interval) {
  StdpRule r;
  r.plus = 0.2, r.minus = 0.15, r.high = 4, r.nearest = nearest, r.interval = interval, r.drift = 0.01, r.keep = 0.9;
  return r;
}

TEST_F(NetworkCuda, SpikeTimingDependentPlasticity) {
  for (const bool nearest : {false, true})
    for (const double interval : {0.0, 20.0})
      for (const int which : {0, 1, 2}) {
        SCOPED_TRACE(fmt::format("{} {} {}", nearest, interval, which));
        NetworkSpec s = which == 0 ? bursting() : few(which == 1 ? Mode::accurate : Mode::published_2003);
        s.dt = which == 0 ? 2 : 0.5;
        s.projections.clear();
        const double scale = which == 0 ? 0.1 : 1;
        connect(s, 0, 1, "pulse", rule(Rule::Kind::out_degree), 10, 3 * scale);
        connect(s, 0, 0, "pulse", rule(Rule::Kind::all_to_all), 1, 0.5 * scale);
        connect(s, 1, 0, "exponential", rule(Rule::Kind::probability), 5, scale);
        for (auto& p : s.projections) learns(p, pairs(nearest, interval)), p.stdp->high *= scale;
        s.projections[0].short_term = ShortTermRule{0.4, 100, 50};
        expect_same(s, 60, 41);
        Network moved(on_device(s));
        moved.run(60);
        EXPECT_NE(moved.weights(0), s.projections[0].connections.weight);
      }
}

// Rows of all targets: by one delay, by delays that rise along them, longer than a warp's share.
TEST_F(NetworkCuda, DenseAndLongRows) {
  NetworkSpec s;
  s.dt = 0.5, s.seed = 2, s.mode = Mode::published_2003;
  s.populations = {cells("a", 20, 6), cells("b", 700, 3, false)};
  connect(s, 0, 1, "exponential", rule(Rule::Kind::all_to_all), 1, 0.4);
  connect(s, 0, 1, "pulse", rule(Rule::Kind::all_to_all), 1, 0.4);
  connect(s, 1, 0, "pulse", rule(Rule::Kind::all_to_all), 1, 0.01);
  learns(s.projections[2], pairs(false, 0));
  Connections& c = s.projections[1].connections;
  c.delay.resize(c.count());
  for (size_t i = 0; i < c.count(); ++i) c.delay[i] = static_cast<uint16_t>(1 + i % 700 / 300);
  ASSERT_TRUE(c.target.empty());
  expect_same(s, 100, 100);
}

// One delay between steps, and rows of all targets in which many of them end in one step, longer than a warp's share.
TEST_F(NetworkCuda, DelaysBetweenSteps) {
  NetworkSpec s;
  s.dt = 0.5, s.seed = 2;
  s.populations = {cells("a", 20, 8), cells("b", 700, 3, false)};
  connect(s, 0, 1, "exponential", rule(Rule::Kind::all_to_all), 1, 0.4);
  connect(s, 0, 1, "pulse", rule(Rule::Kind::all_to_all), 1, 0.4);
  connect(s, 1, 0, "ampa", rule(Rule::Kind::out_degree), 3, 0.1);
  s.projections[0].connections.same_part = 100;
  Connections& c = s.projections[1].connections;
  c.delay.resize(c.count()), c.part.resize(c.count());
  for (size_t i = 0; i < c.count(); ++i) {
    const size_t parts = 256 + i % 700;
    c.delay[i] = static_cast<uint16_t>(parts / 256), c.part[i] = static_cast<uint8_t>(parts);
  }
  EXPECT_TRUE(s.projections[2].connections.fractional());
  expect_same(s, 100, 37);
}

TEST_F(NetworkCuda, NetworksOfTheLiterature) {
  expect_same(neuron::network("cortical1000", {.seed = 3}).spec, 20, 20, 30);
  NetworkSpec s = neuron::network("polychronous2006", {.seed = 3}).spec;
  for (auto& p : s.projections)
    if (p.stdp) p.stdp->interval = 25;
  expect_same(s, 60, 60, 30);
}

TEST_F(NetworkCuda, AListOfSpikesThatIsTooShortIsEmptiedAsOftenAsItFills) {
  for (const Mode mode : {Mode::accurate, Mode::published_2003}) {
    NetworkSpec s;
    s.dt = 1, s.mode = mode, s.solver = Solver::midpoint;
    s.populations = {cells("e", 80, 90)};  // the list holds 2048  spikes at first
    connect(s, 0, 0, "pulse", rule(Rule::Kind::out_degree, 2), 20, 0.1);
    s.projections[0].short_term = ShortTermRule{0.5, 30, 0};
    Network host(s), device(on_device(s));
    std::vector<NetworkSpike> here, there;
    host.run(100, &here), device.run(100, &there);
    EXPECT_GT(here.size(), 2048u);
    expect_same_spikes(here, there);
    expect_same_state(host, device, 1);
    Network counted(on_device(s));
    counted.run(100);
    EXPECT_EQ(counted.spikes_of(0), host.spikes_of(0));
  }
}

/// Populations of whole packs, so that nothing stands in the padding.
NetworkSpec whole_packs(Precision precision) {
  NetworkSpec s = varied();
  s.precision = precision;
  s.populations = {cells("e", 48, 8), cells("i", 16, 5, false)};
  s.populations[0].processes.push_back({.deviation = 3, .interval = 1});
  s.projections.clear();
  connect(s, 0, 1, "nmda", rule(Rule::Kind::out_degree), 12);
  connect(s, 0, 1, "pulse", rule(Rule::Kind::all_to_all), 1, 0.2);
  connect(s, 1, 0, "gaba_b", rule(Rule::Kind::out_degree), 3);
  connect(s, 0, 0, "pulse", rule(Rule::Kind::out_degree), 9);
  s.projections[0].short_term = ShortTermRule{0.3, 300, 100};
  learns(s.projections[1], pairs(false, 0)), learns(s.projections[3], pairs(true, 15));
  s.projections[3].short_term = ShortTermRule{0.3, 300, 0};
  return s;
}

// Spikes of one neuron in one step take their ways at different moments: states are the same bytes all along.
TEST_F(NetworkCuda, StatesOfBurstsAreTheSameBytes) {
  NetworkSpec s = bursting();
  s.projections.clear();
  connect(s, 0, 1, "pulse", rule(Rule::Kind::out_degree), 9, 0.1);
  ASSERT_TRUE(s.projections[0].connections.fractional());
  Network host(s), device(on_device(s));
  const auto here = scratch("bursts_host"), there = scratch("bursts_device");
  int64_t bursts = 0;
  for (int step = 0; step < 40; ++step) {
    std::vector<NetworkSpike> spikes;
    host.run(1, &spikes), device.run(1);
    for (size_t k = 1; k < spikes.size(); ++k)
      bursts += spikes[k].population == spikes[k - 1].population && spikes[k].neuron == spikes[k - 1].neuron;
    host.save(here), device.save(there);
    ASSERT_TRUE(bytes_of(here) == bytes_of(there)) << "step " << step;
  }
  EXPECT_GT(bursts, 20);
}

TEST_F(NetworkCuda, StatesGoFromOneDeviceToTheOther) {
  for (const Precision precision : {Precision::f32, Precision::f64}) {
    const NetworkSpec spec = whole_packs(precision);
    Network host(spec), device(on_device(spec));
    std::vector<NetworkSpike> a, b, c;
    host.run(101, &a), device.run(101);
    const auto of_host = scratch("host"), of_device = scratch("device");
    host.save(of_host), device.save(of_device);
    EXPECT_TRUE(bytes_of(of_host) == bytes_of(of_device));
    Network resumed(spec), back(on_device(spec));
    back.run(33);  // and forgets it
    resumed.load(of_device), back.load(of_host);
    ASSERT_NO_FATAL_FAILURE(expect_same_state(resumed, back, 4));
    a.clear();
    host.run(100, &a), resumed.run(100, &b), back.run(100, &c), device.run(100);
    EXPECT_GT(a.size(), 30u);
    expect_same_spikes(a, b), expect_same_spikes(a, c);
    expect_same_state(host, resumed, 4), expect_same_state(host, back, 4), expect_same_state(host, device, 4);
    host.save(of_host), back.save(of_device);
    EXPECT_TRUE(bytes_of(of_host) == bytes_of(of_device));
  }
}

// A spike at the very start of a step arrives together with one of the step before, and after it: states are written in
// which neurons that have just spiked stand at the peak.
TEST_F(NetworkCuda, SpikesAtTheStartOfAStep) {
  NetworkSpec s = whole_packs(Precision::f32);
  Network host(s), device(on_device(s));
  std::vector<NetworkSpike> a, b;
  const auto path = scratch("written");
  int64_t twice = 0;
  for (int round = 0; round < 25; ++round) {
    const size_t before = a.size();
    host.run(6, &a), device.run(6, &b);
    host.save(path);
    std::string bytes = bytes_of(path);
    const size_t state = bytes.find('\n') + 1 + 16;  // after its length and checksum
    const size_t v = state + 8 * (2 + 2);            // step, deliveries, two counts
    for (size_t k = before; k < a.size(); ++k)
      if (a[k].population == 0 && a[k].time > host.time() - s.dt) {
        const float peak = 30;
        std::memcpy(bytes.data() + v + 4 * a[k].neuron, &peak, 4);
        ++twice;
      }
    Fingerprint checksum;
    checksum.add(bytes.data() + state, bytes.size() - state);
    const uint64_t value = checksum.value();
    std::memcpy(bytes.data() + state - 8, &value, 8);
    std::ofstream(path, std::ios::binary) << bytes;
    host.load(path), device.load(path);
  }
  EXPECT_GT(twice, 10);
  const auto at_start = std::count_if(
      a.begin(), a.end(), [&](const NetworkSpike& x) { return x.time == std::round(x.time / s.dt) * s.dt; });
  EXPECT_GT(at_start, twice / 2);  // but for those that fall
  host.run(60, &a), device.run(60, &b);
  expect_same_spikes(a, b);
  expect_same_state(host, device, 4);
}

TEST_F(NetworkCuda, FailuresNameTheNeuron) {
  for (const Device& where : {Device::cpu(), Device::cuda()}) {
    NetworkSpec s = varied();
    s.device = where;
    for (const int64_t i : {71, 17}) s.populations[0].current_each[static_cast<size_t>(i)] = 1e6;
    std::vector<NetworkSpike> spikes;
    Network runaway(s);
    EXPECT_THAT(error_of([&] { runaway.run(10, &spikes); }),
                HasSubstr("population e, neuron 17 runs away: more than 8 spikes in one step at t = 0 ms"));
    EXPECT_TRUE(spikes.empty());
    s = varied(Mode::published_2004);
    s.device = where;
    s.populations[1].current = Stimulus::constant(-1e308);
    s.populations[1].parameters.q2 = 1e300;
    Network lost(s);
    EXPECT_THAT(error_of([&] { lost.run(10); }), HasSubstr("population i, neuron 0 left the range of numbers"));
  }
}

/// Puts these populations into a field: cells of many sizes on a spiral, some at one place.
void put_in_field(NetworkSpec& s, std::initializer_list<int> populations) {
  s.field.emplace();
  s.field->cells.resize(s.populations.size());
  for (const int p : populations) {
    neuron::FieldCells& cells = s.field->cells[static_cast<size_t>(p)];
    cells.kappa = 0.02;
    for (int64_t i = 0; i < s.populations[static_cast<size_t>(p)].size; ++i) {
      const double t = 0.1 * static_cast<double>(i / 2);
      cells.places.insert(cells.places.end(), {0.01 * t * std::cos(t), 0.01 * t * std::sin(t), 0.002 * p});
      cells.diameters.push_back(10 + static_cast<double>(i % 7)), cells.g_ratio.push_back(0.6 + 0.01 * (i % 30));
    }
  }
}

// One population or both in a field, beside synapses or without: spikes, states and the field have the host's bits, a
// saved state goes on on the other device, and one field of many cells takes several blocks and tiles.
TEST_F(NetworkCuda, CellsInAField) {
  for (const Mode mode : {Mode::accurate, Mode::published_2003})
    for (const int which : {0, 1, 2}) {
      SCOPED_TRACE(fmt::format("{} {}", neuron::name(mode), which));
      NetworkSpec s = few(mode);
      if (which == 2) s.populations = {cells("e", 300, 14), cells("i", 10, 6, false)}, s.projections.resize(0);
      if (which == 2) connect(s, 0, 1, "ampa", rule(Rule::Kind::out_degree));
      s.precision = which == 1 ? neuron::Precision::f32 : neuron::Precision::f64;
      which == 0 ? put_in_field(s, {1}) : put_in_field(s, {0, 1});
      if (which == 1) s.field->tau_rise = 0;
      expect_same(s, 90, 37);
      NetworkSpec blind = s;
      blind.field->cells[which == 0 ? 1 : 0].kappa = 0;
      Network host(s), device(on_device(s)), other(blind);
      host.run(50), device.run(50), other.run(50);
      EXPECT_NE(host.v(which == 0 ? 1 : 0, 0), other.v(which == 0 ? 1 : 0, 0)) << "the field is not felt";
      const std::string here = scratch("field_host").string(), there = scratch("field_device").string();
      host.save(here), device.save(there);
      EXPECT_TRUE(bytes_of(here) == bytes_of(there));
      host.load(there), device.load(here);
      host.run(40), device.run(40);
      ASSERT_NO_FATAL_FAILURE(expect_same_state(host, device, 0));
      for (int p = 0; p < 2; ++p)
        for (int64_t i = 0; i < s.populations[static_cast<size_t>(p)].size; ++i)
          ASSERT_EQ(host.field(p, i), device.field(p, i)) << p << " " << i;
    }
}

TEST_F(NetworkCuda, WhatItDoesNotTake) {
  Network steered(on_device(varied()));
  EXPECT_THAT(error_of([&] { steered.external(0); }), HasSubstr("a current of the caller's is added on the CPU"));
  NetworkSpec unordered = varied();
  std::reverse(unordered.projections[0].connections.delay.begin(), unordered.projections[0].connections.delay.end());
  EXPECT_THAT(error_of([&] { Network{unordered}; }), HasSubstr("is not ordered by delay"));
}

TEST_F(NetworkCuda, BatchesOfNetworks) {
  std::vector<std::vector<NetworkSpike>> found[2];
  for (const bool there : {false, true}) {
    found[there].resize(4);
    neuron::run_batch(
        4, 80,
        [&](int64_t i) {
          NetworkSpec s = varied();
          s.populations[0].processes.push_back({.deviation = 3});
          s.seed = static_cast<uint64_t>(i);
          return there ? on_device(s) : s;
        },
        [&](int64_t i, const Network&, std::vector<NetworkSpike>& spikes) {
          found[there][static_cast<size_t>(i)] = spikes;
        });
  }
  for (size_t i = 0; i < 4; ++i) expect_same_spikes(found[0][i], found[1][i]);
  EXPECT_GT(found[0][0].size(), 50u);
}

}  // namespace
}  // namespace ranvier::test
