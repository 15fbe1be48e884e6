// How good one neuron is: the twenty patterns and eight cells in both modes, orders of convergence, f32 against f64.
#include <gtest/gtest.h>

#include <cmath>
#include <random>

#include "tests/support/neurons.h"

namespace ranvier::neuron {
namespace {

/// Spike count, first and last time (ms) of the published script and of the exact solution (dt -> 0, events located).
struct Row {
  const char* name;
  size_t figure;
  double first, last;
  size_t exact;
  double exact_first, exact_last;  // 0: the table gives the count only
};

constexpr Row table[] = {{"pattern:a", 5, 13, 86.75, 5, 12.63, 82.66},
                         {"pattern:b", 1, 43.75, 43.75, 1, 42.75, 42.75},
                         {"pattern:c", 28, 25, 204.5, 29, 24.49, 187.91},
                         {"pattern:d", 6, 39, 67.2, 8, 38.24, 68.83},
                         {"pattern:e", 6, 20, 131.5, 7, 19.45, 155.88},
                         {"pattern:f", 6, 10.25, 71.5, 6, 9.99, 68.25},
                         {"pattern:g", 10, 84.5, 290.5, 10, 83.94, 290.49},
                         {"pattern:h", 14, 105.75, 293, 18, 104.34, 299.98},
                         {"pattern:i", 1, 26.6, 26.6, 1, 16.59, 16.59},
                         {"pattern:j", 1, 26.5, 26.5, 1, 25.63, 25.63},
                         {"pattern:k", 1, 338, 338, 1, 336.73, 336.73},
                         {"pattern:l", 1, 20, 20, 1, 19.48, 19.48},
                         {"pattern:m", 1, 68, 68, 1, 57.63, 57.63},
                         {"pattern:n", 7, 68, 92.2, 14, 57.63, 102.89},
                         {"pattern:o", 1, 93.25, 93.25, 1, 91.89, 91.89},
                         {"pattern:p", 5, 45.25, 208, 7, 44.16, 263.31},
                         {"pattern:q", 1, 11.3, 11.3, 8, 11.1, 48.85},
                         {"pattern:r", 1, 311.5, 311.5, 1, 310.5, 310.5},
                         {"pattern:s", 3, 94.5, 236, 4, 93.22, 254.58},
                         {"cell:rs", 5, 0, 0, 6, 0, 0},
                         {"cell:ib", 7, 0, 0, 7, 0, 0},
                         {"cell:ch", 15, 0, 0, 17, 0, 0},
                         {"cell:fs", 15, 0, 0, 19, 0, 0},
                         {"cell:tc", 4, 0, 0, 6, 0, 0},
                         {"cell:tcb", 5, 0, 0, 7, 0, 0},
                         {"cell:rz", 2, 0, 0, 2, 0, 0},
                         {"cell:lts", 18, 0, 0, 20, 0, 0}};

TEST(NeuronPatterns, PublishedScriptToTheDigit) {
  for (const Row& row : table) {
    SCOPED_TRACE(row.name);
    const Result run = simulate(preset(row.name).protocol(Solver::euler, Mode::published_2004));
    ASSERT_EQ(run.spikes.size(), row.figure);
    if (row.first == 0) continue;
    EXPECT_NEAR(run.spikes.front(), row.first, 1e-9);
    EXPECT_NEAR(run.spikes.back(), row.last, 1e-9);
  }
  const Result t = simulate(preset("pattern:t").protocol(Solver::euler, Mode::published_2004));
  ASSERT_EQ(t.spikes.size(), 12u);
  EXPECT_NEAR(t.spikes.front(), 86.5, 1e-9);
  EXPECT_NEAR(t.spikes.back(), 204, 1e-9);
}

/// Ten trains of the scripts as OpenSourceBrain/IzhikevichModel keeps them count upward crossings of 0 mV: one earlier
/// sample where v passes 0 before 30.
TEST(NeuronPatterns, ZeroCrossingsOfThePublishedScript) {
  Protocol protocol = preset("pattern:a").protocol(Solver::euler, Mode::published_2004);
  protocol.spike_event = SpikeEvent::zero;
  const Result a = simulate(protocol);
  EXPECT_EQ(a.spikes.size(), 5u);
  EXPECT_EQ(a.spikes.front(), 13);
  EXPECT_EQ(a.spikes.back(), 86.75);
  protocol = preset("pattern:c").protocol(Solver::euler, Mode::published_2004);
  protocol.spike_event = SpikeEvent::zero;
  const Result c = simulate(protocol);
  EXPECT_EQ(c.spikes.size(), 28u);
  EXPECT_EQ(c.spikes.front(), 24.75);
  EXPECT_EQ(c.spikes.back(), 204.25);
}

void expect_exact(Solver solver, double dt) {
  for (const Row& row : table) {
    SCOPED_TRACE(testing::Message() << row.name << " " << name(solver) << " " << dt);
    Protocol protocol = preset(row.name).protocol(solver);
    if (dt > 0) protocol.dt = dt;
    const Result run = simulate(protocol);
    ASSERT_EQ(run.spikes.size(), row.exact);
    if (row.exact_first == 0) continue;
    EXPECT_NEAR(run.spikes.front(), row.exact_first, 0.01);
    EXPECT_NEAR(run.spikes.back(), row.exact_last, 0.01);
  }
}

TEST(NeuronPatterns, ReferenceHasTheExactColumn) { expect_exact(Solver::reference, 0); }
TEST(NeuronPatterns, Rk4LocatedHasTheExactColumn) {
  for (const double dt : {0.01, 0.025, 0.05}) expect_exact(Solver::rk4, dt);
}

/// Every spike, not only the ends that the table gives.
TEST(NeuronPatterns, Rk4LocatedAgreesSpikeBySpike) {
  double worst = 0;
  for (const Row& row : table) {
    SCOPED_TRACE(row.name);
    Protocol protocol = preset(row.name).protocol();
    protocol.dt = 0.05;
    const std::vector<double> exact = simulate(preset(row.name).protocol(Solver::reference)).spikes;
    const std::vector<double> got = simulate(protocol).spikes;
    ASSERT_EQ(got.size(), exact.size());
    for (size_t i = 0; i < got.size(); ++i) worst = std::max(worst, std::abs(got[i] - exact[i]));
  }
  EXPECT_LT(worst, 1e-3);
  RecordProperty("largest_spike_time_error_ms", fmt::format("{:.3g}", worst));
}

TEST(NeuronPatterns, TIsARunaway) {
  for (const Solver solver : {Solver::reference, Solver::rk4}) {
    Protocol protocol = preset("pattern:t").protocol(solver);
    if (solver == Solver::rk4) protocol.dt = 0.05;
    try {
      simulate(protocol, "pattern:t");
      FAIL() << "pattern T has no bounded answer";
    } catch (const Runaway& runaway) {
      EXPECT_NE(std::string(runaway.what()).find("pattern:t runs away"), std::string::npos) << runaway.what();
      ASSERT_GE(runaway.run.spikes.size(), 200u);
      EXPECT_LT(runaway.run.spikes[199], 145.5);
      EXPECT_GT(runaway.run.spikes[199], 144.5);
    }
  }
}

TEST(NeuronEvents, ZeroCrossingsOfRs2007) {
  // OpenSourceBrain/IzhikevichModel, MATLAB/izhi2007.m at 0.0025 ms
  const std::vector<double> want = {47.0325, 120.4975, 196.6175, 272.6525, 348.6875, 424.7225, 500.76};
  Protocol protocol = preset("rs2007").protocol(Solver::reference);
  protocol.current = Stimulus::constant(100), protocol.duration = 520;
  protocol.spike_event = SpikeEvent::zero;
  const Result zero = simulate(protocol);
  test::expect_times(zero.spikes, want, 0.0064);
  protocol.spike_event = SpikeEvent::peak;
  const Result peak = simulate(protocol);
  ASSERT_EQ(peak.spikes.size(), 7u);
  for (size_t i = 0; i < 7; ++i) EXPECT_NEAR(peak.spikes[i] - zero.spikes[i], 1.15, 0.01);
  for (const Solver solver : {Solver::rk4, Solver::midpoint, Solver::ab2, Solver::exponential}) {
    protocol.solver = solver, protocol.dt = 0.05, protocol.spike_event = SpikeEvent::zero;
    test::expect_times(simulate(protocol).spikes, zero.spikes, solver == Solver::rk4 ? 1e-6 : 0.02);
  }
  // The event changes what is recorded and nothing else.
  protocol.spike_event = SpikeEvent::peak, protocol.solver = Solver::rk4;
  const Result a = simulate(protocol);
  protocol.spike_event = SpikeEvent::zero;
  EXPECT_NEAR(simulate(protocol).v, a.v, 1e-12);
}

/// Least-squares slope of log error against log h; errors below 1e-10 do not count.
double slope(Solver solver, std::initializer_list<double> steps, const char* who = "rs2007") {
  Protocol protocol = preset(who).protocol(solver);
  const Result exact = simulate(preset(who).protocol(Solver::reference));
  std::vector<double> x, y;
  for (const double dt : steps) {
    protocol.dt = dt;
    const Result run = simulate(protocol);
    EXPECT_EQ(run.spikes.size(), exact.spikes.size()) << name(solver) << " " << dt;
    double worst = 0;
    for (size_t i = 0; i < std::min(run.spikes.size(), exact.spikes.size()); ++i)
      worst = std::max(worst, std::abs(run.spikes[i] - exact.spikes[i]));
    if (worst > 1e-10) x.push_back(std::log(dt)), y.push_back(std::log(worst));
  }
  EXPECT_GE(x.size(), 2u) << name(solver);
  double mx = 0, my = 0, sxy = 0, sxx = 0;
  for (size_t i = 0; i < x.size(); ++i)
    mx += x[i] / static_cast<double>(x.size()), my += y[i] / static_cast<double>(x.size());
  for (size_t i = 0; i < x.size(); ++i) sxy += (x[i] - mx) * (y[i] - my), sxx += (x[i] - mx) * (x[i] - mx);
  return sxy / sxx;
}

TEST(NeuronOrder, SlopesWithLocatedResets) {
  const std::pair<Solver, int> first_and_second[] = {
      {Solver::euler, 1},    {Solver::izhikevich, 1}, {Solver::backward_euler, 1}, {Solver::linear_implicit, 1},
      {Solver::midpoint, 2}, {Solver::ab2, 2},        {Solver::exponential, 2}};
  for (const auto& [solver, order] : first_and_second) {
    const double measured = slope(solver, {0.05, 0.025, 0.0125});
    EXPECT_GE(measured, order - 0.15) << name(solver);
    EXPECT_LE(measured, order + 0.5) << name(solver);
    RecordProperty(std::string(name(solver)), fmt::format("{:.3f}", measured));
  }
  const double rk4 = slope(Solver::rk4, {0.1, 0.05, 0.025});
  EXPECT_GE(rk4, 3.85);
  RecordProperty("rk4", fmt::format("{:.3f}", rk4));
}

/// Ramps keep the order: the current is seen inside the step.
TEST(NeuronOrder, SlopesOnARamp) {
  const auto error = [](Solver solver, double dt) {
    Protocol protocol = preset("rs2007").protocol(solver);
    protocol.current = Stimulus({{0, 0, 0.7}, {100, 70}}), protocol.duration = 90, protocol.dt = dt;
    Protocol exact = protocol;
    exact.solver = Solver::reference;
    return std::abs(simulate(protocol).v - simulate(exact).v);
  };
  for (const auto& [solver, order] : {std::pair{Solver::euler, 1},
                                      {Solver::backward_euler, 1},
                                      {Solver::linear_implicit, 1},
                                      {Solver::midpoint, 2},
                                      {Solver::ab2, 2},
                                      {Solver::exponential, 2},
                                      {Solver::rk4, 4}}) {
    const double coarse = order == 4 ? 1.0 : 0.25;
    EXPECT_NEAR(std::log2(error(solver, coarse) / error(solver, coarse / 2)), order, 0.15) << name(solver);
  }
}

/// 1000 RS neurons of 2003, I ~ U(0, 15), 1 s, midpoint with located resets, h = 0.1 ms.
TEST(NeuronPrecision, F32CountsAreThoseOfF64) {
  int equal = 0;
  std::mt19937 engine(1);
  std::uniform_real_distribution<double> current(0, 15);
  for (int i = 0; i < 1000; ++i) {
    Protocol protocol = preset("rs2003").protocol(Solver::midpoint);
    protocol.current = Stimulus::constant(static_cast<float>(current(engine)));
    const auto wide = static_cast<int64_t>(simulate(protocol).spikes.size());
    protocol.precision = Precision::f32;
    const auto narrow = static_cast<int64_t>(simulate(protocol).spikes.size());
    equal += wide == narrow;
    EXPECT_LE(std::abs(wide - narrow), 1) << i;
  }
  EXPECT_GE(equal, 990);
  RecordProperty("equal_counts_of_1000", equal);
}

TEST(NeuronStimulus, F32SeesTheSameNoise) {
  Protocol protocol = preset("rs2007").protocol();
  protocol.current = Stimulus::constant(60) + noise(20, 1, 1000, 7, 0);
  const Result wide = simulate(protocol);
  protocol.precision = Precision::f32;
  const Result narrow = simulate(protocol);
  EXPECT_GT(wide.spikes.size(), 2u);
  test::expect_times(narrow.spikes, wide.spikes, 0.05);
  protocol.current = Stimulus::constant(60) + noise(20, 1, 1000, 8, 0);
  EXPECT_NE(simulate(protocol).spikes, narrow.spikes);
}

}  // namespace
}  // namespace ranvier::neuron
