// The field between neurons: two cells against the closed form, many against a direct f64 sum, kappa 0, the order of
// neurons, threads, devices, resumed runs, synchrony.
#include <gmock/gmock.h>
#include <omp.h>

#include <filesystem>
#include <numbers>
#include <numeric>

#include "engine/draws.h"
#include "kernels/coupling/field.h"
#include "models/neurons/networks.h"
#include "tests/case.h"

namespace ranvier::neuron {
namespace {

using test::devices;
using test::error_of;
using testing::HasSubstr;

PopulationSpec cells(const char* name, int64_t size, double current) {
  PopulationSpec p;
  p.name = name, p.size = size, p.v0 = -70, p.u0 = -14;
  p.current = Stimulus::constant(current);
  return p;
}

/// `n` cells that fire by themselves, none like another, in a box of 0.3 mm.
NetworkSpec crowd(int64_t n, double kappa, Device device = {}) {
  NetworkSpec s;
  s.dt = 0.25;
  PopulationSpec p = cells("cells", n, 0);
  FieldCells f;
  f.kappa = kappa;
  const Draws draws(1, "test/field");
  for (int64_t i = 0; i < n; ++i) {
    const auto e = static_cast<uint64_t>(i);
    p.current_each.push_back(7 + 3 * draws.uniform53(0, e));
    for (uint64_t a = 1; a <= 3; ++a) f.places.push_back(0.3 * draws.uniform53(a, e));
    f.diameters.push_back(10 + 20 * draws.uniform53(4, e));
    f.g_ratio.push_back(0.5 + 0.5 * draws.uniform53(5, e));
  }
  s.populations = {p};
  s.field = FieldSpec{};
  s.field->cells = {f}, s.device = device;
  return s;
}

/// The formula of engine/neuron_field.h, all spikes so far.
double direct(const FieldSpec& f, const std::vector<NetworkSpike>& spikes, size_t population, size_t cell, double now) {
  const double ratio = f.tau / f.tau_rise, at = std::log(ratio) * f.tau * f.tau_rise / (f.tau - f.tau_rise);
  const double peak = std::exp(-at / f.tau) - std::exp(-at / f.tau_rise);
  const FieldCells& receiver = f.cells[population];
  double sum = 0;
  for (const NetworkSpike& s : spikes) {
    if (s.population == population && s.neuron == cell) continue;
    const FieldCells& c = f.cells[s.population];
    double r2 = 0;
    for (size_t a = 0; a < 3; ++a) r2 += std::pow(receiver.places[3 * cell + a] - c.places[3 * s.neuron + a], 2);
    const double t = now - s.time, radius = c.diameters[s.neuron] / 2000;
    const double strength = std::pow(c.diameters[s.neuron] / f.reference * c.g_ratio[s.neuron], 2);
    sum += f.current * strength * (std::exp(-t / f.tau) - std::exp(-t / f.tau_rise)) / peak *
           std::exp(-std::sqrt(r2) / f.lambda) / (4 * std::numbers::pi * f.sigma * std::sqrt(r2 + radius * radius));
  }
  return sum;
}

// One cell is driven, the other silent and bare of synapses: what it feels is the formula, also after spikes inside a
// step; 1 nA at 50 um in 0.3 S/m is 5.3 uV where nothing screens it.
TEST(Field, TwoCellsAreTheClosedForm) {
  for (const Device device : devices()) {
    NetworkSpec s;
    s.populations = {cells("a", 1, 10), cells("b", 1, 0)};
    FieldSpec f;
    f.tau = 4, f.tau_rise = 1.5, s.device = device;
    f.cells = {{{0.01, 0.02, -0.01}, {24}, {0.7}, 0}, {{0.04, 0.02, 0.03}, {10}, {0.9}, 0.01}};
    s.field = f;
    Network network(std::move(s));
    std::vector<NetworkSpike> spikes;
    double largest = 0;
    while (network.time() < 200) {
      network.run(1, &spikes);
      const double want = direct(f, spikes, 1, 0, network.time());
      ASSERT_NEAR(network.field(1, 0), want, 1e-11) << network.time();
      ASSERT_EQ(network.field(0, 0), 0) << "a cell does not feel itself";
      largest = std::max(largest, want);
    }
    EXPECT_GT(spikes.size(), 3u);
    EXPECT_GT(largest, 1);
  }
  FieldSpec f;
  f.lambda = std::numeric_limits<double>::infinity(), f.tau_rise = 0;
  f.cells = {{{0, 0, 0}, {20}, {1}, 0}, {{0.05, 0, 0}, {20}, {1}, 0}};
  Field field(f, 0.1);
  field.spike(0, 0, 0), field.advance();
  EXPECT_NEAR(field.potential(1, 0), 1 / (4 * std::numbers::pi * 0.3 * std::hypot(0.05, 0.01)), 1e-12);
  EXPECT_NEAR(field.potential(1, 0), 5.2, 0.01);
  field.advance();
  EXPECT_NEAR(field.potential(1, 0), 5.2022 * std::exp(-0.1 / 3), 1e-3);
}

// Many cells, several blocks of receivers and tiles of sources: relative L2 1e-5 was asked for.
TEST(Field, ManyCellsAreTheDirectSum) {
  const int64_t n = 300;
  for (const Device device : devices()) {
    const NetworkSpec s = crowd(n, 0.003, device);
    Network network(s);
    std::vector<NetworkSpike> spikes;
    network.run(250, &spikes);
    ASSERT_GT(spikes.size(), 300u);
    double apart = 0, size = 0;
    for (size_t i = 0; i < static_cast<size_t>(n); ++i) {
      const double want = direct(*s.field, spikes, 0, i, network.time());
      apart += std::pow(network.field(0, static_cast<int64_t>(i)) - want, 2), size += want * want;
    }
    EXPECT_TRUE(std::sqrt(apart / size) <= 1e-10) << std::sqrt(apart / size);
  }
}

std::vector<double> potentials(const NetworkSpec& spec, int64_t steps) {
  Network network(spec);
  network.run(steps);
  std::vector<double> v;
  for (int64_t i = 0; i < spec.populations[0].size; ++i) v.push_back(network.v(0, i));
  return v;
}

TEST(Field, KappaZeroIsTheUncoupledNetwork) {
  NetworkSpec off = crowd(100, 0);
  const auto zero = potentials(off, 400), coupled = potentials(crowd(100, 0.01), 400);
  off.field.reset();
  EXPECT_EQ(potentials(off, 400), zero);
  EXPECT_NE(coupled, zero);
}

TEST(Field, OrderOfNeuronsDoesNotMatter) {
  const int64_t n = 150;
  const NetworkSpec a = crowd(n, 0.01);
  NetworkSpec b = a;
  for (int64_t i = 0; i < n; ++i) {  // neuron i of a is neuron 7 i + 3 of b
    const auto from = static_cast<size_t>(i), to = static_cast<size_t>((7 * i + 3) % n);
    b.populations[0].current_each[to] = a.populations[0].current_each[from];
    for (size_t k = 0; k < 3; ++k) b.field->cells[0].places[3 * to + k] = a.field->cells[0].places[3 * from + k];
    b.field->cells[0].diameters[to] = a.field->cells[0].diameters[from];
    b.field->cells[0].g_ratio[to] = a.field->cells[0].g_ratio[from];
  }
  const auto first = potentials(a, 600), second = potentials(b, 600);
  for (int64_t i = 0; i < n; ++i)
    ASSERT_EQ(first[static_cast<size_t>(i)], second[static_cast<size_t>((7 * i + 3) % n)]) << i;
}

TEST(Field, ThreadsAndDevicesGiveTheSameBits) {
  const int before = omp_get_max_threads();
  omp_set_num_threads(1);
  const auto one = potentials(crowd(600, 0.003), 120);
  omp_set_num_threads(2);
  EXPECT_EQ(potentials(crowd(600, 0.003), 120), one);
  omp_set_num_threads(before);
  for (const Device device : devices()) EXPECT_EQ(potentials(crowd(600, 0.003, device), 120), one);
}

// All pairs at once, tails of tiles and blocks, coincident cells.
TEST(Field, KernelsAgreeWithADoubleLoop) {
  for (auto [n, m] : {std::pair<int64_t, int64_t>{1, 1}, {2, 1}, {257, 130}, {700, 64}}) {
    const kernels::FieldDims dims{n, m, 0.15, kernels::field_unit(1e4)};
    std::vector<double> places(static_cast<size_t>(3 * n));
    const Draws draws(2, "test/kernels");
    for (size_t k = 0; k < places.size(); ++k) places[k] = draws.uniform53(0, k);
    if (n > 2)
      for (int64_t a = 0; a < 3; ++a) places[a * n + 2] = places[a * n + 1];
    std::vector<kernels::FieldSource> sources;
    for (int64_t k = 0; k < m; ++k) {
      const int64_t j = (5 * k) % n;
      sources.push_back({{places[j], places[n + j], places[2 * n + j]},
                         0.01 + 0.02 * draws.uniform53(1, k),
                         {draws.uniform53(2, k), -draws.uniform53(3, k)},
                         j});
    }
    std::vector<double> sums(static_cast<size_t>(2 * n), NAN);
    kernels::cpu::field_sums(dims, sources.data(), places.data(), sums.data());
    for (int64_t i = 0; i < n; ++i)
      for (int row = 0; row < 2; ++row) {
        double want = 0;
        for (const auto& s : sources) {
          if (s.cell == i) continue;
          const double r =
              std::hypot(s.place[0] - places[i], s.place[1] - places[n + i], s.place[2] - places[2 * n + i]);
          want += s.charge[row] * std::exp(-r / 0.15) / std::hypot(r, s.radius);
        }
        ASSERT_NEAR(sums[row * n + i], want, 1e-9) << n << " " << i;
      }
  }
}

TEST(Field, ResumesWithTheSameBits) {
  const std::string path =
      (std::filesystem::temp_directory_path() / fmt::format("ranvier-field-{}", getpid())).string();
  Network whole(crowd(80, 0.01)), first(crowd(80, 0.01)), second(crowd(80, 0.01)), other(crowd(81, 0.01));
  whole.run(500), first.run(333);
  first.save(path), second.load(path);
  second.run(500 - 333);
  for (int64_t i = 0; i < 80; ++i) {
    ASSERT_EQ(whole.v(0, i), second.v(0, i));
    ASSERT_EQ(whole.field(0, i), second.field(0, i));
  }
  EXPECT_THAT(error_of([&] { other.load(path); }), HasSubstr("is not of this network"));
  std::filesystem::remove(path);
}

TEST(Field, SynchronyRisesWithKappa) {
  double before = 0;
  for (double kappa : {0.0, 0.01, 0.03}) {
    NamedNetwork n = network("ephaptic400");
    set_kappa(n.spec, kappa);
    Network network(std::move(n.spec));
    std::vector<NetworkSpike> spikes;
    network.run(4000, &spikes);
    const double found = synchrony(spikes, network.spec(), 500, 1000);
    EXPECT_GT(found, 1.5 * before);
    before = found;
  }
  EXPECT_GT(before, 0.25);
}

TEST(Field, SynchronyOfKnownTrains) {
  NetworkSpec s;
  s.populations = {cells("a", 2, 0), cells("b", 2, 0)};
  std::vector<NetworkSpike> together, apart;
  for (uint32_t k = 0; k < 4; ++k) {
    for (double t : {7.0, 33.0}) together.push_back({t, k / 2, k % 2});
    apart.push_back({5.0 * k + 1, k / 2, k % 2});
  }
  EXPECT_NEAR(synchrony(together, s, 0, 50), 1, 1e-12);
  EXPECT_NEAR(synchrony(apart, s, 0, 20), 0, 1e-12);  // one in each bin: the mean never moves
  EXPECT_EQ(synchrony({}, s, 0, 50), 0);
}

TEST(Field, BadInput) {
  const auto error = [](auto change) {
    NetworkSpec s = crowd(3, 0.01);
    change(*s.field);
    return error_of([&] { Network{s}; });
  };
  EXPECT_THAT(error([](FieldSpec& f) { f.lambda = 0; }), HasSubstr("lambda = 0"));
  EXPECT_THAT(error([](FieldSpec& f) { f.sigma = -1; }), HasSubstr("sigma = -1"));
  EXPECT_THAT(error([](FieldSpec& f) { f.current = NAN; }), HasSubstr("current = nan"));
  EXPECT_THAT(error([](FieldSpec& f) { f.tau_rise = f.tau; }), HasSubstr("tau_rise = 3"));
  EXPECT_THAT(error([](FieldSpec& f) { f.cells[0].kappa = INFINITY; }), HasSubstr("kappa = inf"));
  EXPECT_THAT(error([](FieldSpec& f) { f.cells[0].diameters[1] = 0; }), HasSubstr("neuron 1: diameter = 0"));
  EXPECT_THAT(error([](FieldSpec& f) { f.cells[0].g_ratio[2] = 1.5; }), HasSubstr("neuron 2: g_ratio = 1.5"));
  EXPECT_THAT(error([](FieldSpec& f) { f.cells[0].places[4] = NAN; }), HasSubstr("neuron 1: place = nan"));
  EXPECT_THAT(error([](FieldSpec& f) { f.cells[0].places.pop_back(); }), HasSubstr("8 coordinates"));
  EXPECT_THAT(error([](FieldSpec& f) { f.cells.clear(); }), HasSubstr("cells of 0 populations"));
  NetworkSpec none;
  EXPECT_THAT(error_of([&] { set_kappa(none, 1); }), HasSubstr("no field"));
}

}  // namespace
}  // namespace ranvier::neuron
