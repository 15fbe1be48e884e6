// The published Izhikevich comparisons, row by row: each test names the row of the list of results that it holds.
#include <gtest/gtest.h>

#include <cmath>
#include <cstdlib>
#include <filesystem>

#include "kernels/izhikevich/izhikevich.h"
#include "kernels/izhikevich/pack.h"
#include "models/neurons/compare.h"
#include "models/neurons/files.h"
#include "models/neurons/presets.h"
#include "tests/golden/neurons.h"
#include "tests/support/files.h"
#include "tests/support/neurons.h"

namespace ranvier::neuron {
namespace {

namespace iz = kernels::izhikevich;
using test::exact_rs_spikes;
using test::expect_times;

TEST(NeuronRow01, Rs2003Has23Spikes) {
  const Result run = simulate(preset("rs2003").protocol(Solver::reference));
  ASSERT_EQ(run.spikes.size(), 23u);
  EXPECT_NEAR(run.spikes[0], 3.127055, 1e-6);
  EXPECT_NEAR(run.v, -65.104997682, 1e-7);
  EXPECT_NEAR(run.u, -6.455749522, 1e-7);
  Protocol shorter = preset("rs2003").protocol(Solver::reference);
  shorter.duration = 100;
  expect_times(simulate(shorter).spikes, {3.127055, 26.226025, 71.057097}, 1e-6);
  Preset chattering = preset("rs2003");
  set_parameters(chattering, "c=-50,d=2");
  const Result many = simulate(chattering.protocol(Solver::reference));
  EXPECT_EQ(many.spikes.size(), 87u);
  EXPECT_NEAR(many.v, -64.377437447, 1e-6);
  EXPECT_NEAR(many.u, -6.640909415, 1e-6);
}

TEST(NeuronRow02, PresetsOf2007) {
  EXPECT_EQ(simulate(preset("rs2007").protocol()).spikes.size(), 6u);
  const Result ch = simulate(preset("ch2007").protocol(Solver::reference));
  EXPECT_EQ(ch.spikes.size(), 35u);
  EXPECT_NEAR(ch.v, -45.085243270, 1e-6);
  EXPECT_NEAR(ch.u, 104.668566192, 1e-6);
  const Result ib = simulate(preset("ib2007").protocol(Solver::reference));
  ASSERT_EQ(ib.spikes.size(), 16u);
  expect_times({ib.spikes.begin(), ib.spikes.begin() + 5}, {116.375549, 128.061480, 146.290270, 210.195168, 270.977820},
               1e-6);
  EXPECT_NEAR(ib.spikes.back(), 954.954326, 1e-6);
  EXPECT_NEAR(ib.v, -55.615019201, 1e-6);
  EXPECT_NEAR(ib.u, 280.521151680, 1e-6);
}

/// Both forms are coefficients of one equation: a 2003 neuron written with C = 100 and every other unit scaled.
TEST(NeuronRow03, OneResetForBothForms) {
  const Protocol form_2003 = preset("rs2003").protocol();
  Protocol scaled = form_2003;
  const double c = 128;  // a power of two: the same roundings
  scaled.parameters.C = c, scaled.parameters.q2 *= c, scaled.parameters.q1 *= c, scaled.parameters.q0 *= c;
  scaled.parameters.b *= c, scaled.parameters.d *= c, scaled.u0 *= c;
  scaled.current = Stimulus::constant(10 * c);
  for (const Mode mode : {Mode::accurate, Mode::published}) {
    Protocol a = form_2003, b = scaled;
    a.mode = b.mode = mode;
    const Result one = simulate(a), other = simulate(b);
    EXPECT_EQ(one.spikes, other.spikes);
    EXPECT_EQ(one.v, other.v);
    EXPECT_EQ(one.u * c, other.u);
  }
}

TEST(NeuronRow04, StepsSplitAtRealOnsets) {
  // An onset anywhere inside a step of 0.5 ms moves every spike of RK4 by as much: no step holds half a current.
  Protocol protocol = preset("rs2007").protocol();
  protocol.dt = 0.5;
  const double base = 100;
  const Result reference = simulate(preset("rs2007").protocol(Solver::reference));
  for (const double shift : {0.0, 0.123456, 0.25, 0.499}) {
    protocol.current = Stimulus({{base + shift, 70}});
    const Result run = simulate(protocol);
    ASSERT_EQ(run.spikes.size(), 6u);
    for (size_t i = 0; i < 6; ++i) EXPECT_NEAR(run.spikes[i], reference.spikes[i] + shift, 2e-3) << shift;
  }
  // A pulse too short for the grid still delivers its charge.
  Protocol pulse = preset("rs2007").protocol(), exact = preset("rs2007").protocol(Solver::reference);
  pulse.duration = exact.duration = 20;
  pulse.current = exact.current = Stimulus({{10.02, 5000}, {10.07, 0}});
  EXPECT_NEAR(simulate(pulse).v, simulate(exact).v, 1e-6);
  EXPECT_GT(simulate(exact).v, -59.5);
}

TEST(NeuronRow05, OnsetShiftsEverySpikeByOneMillisecond) {
  Protocol protocol = preset("rs2007").protocol(Solver::reference);
  const Result at_100 = simulate(protocol);
  protocol.current = Stimulus({{101, 70}});
  const Result at_101 = simulate(protocol);
  expect_times(at_100.spikes, exact_rs_spikes, 1e-6);
  ASSERT_EQ(at_101.spikes.size(), 6u);
  for (size_t i = 0; i < 6; ++i) EXPECT_NEAR(at_101.spikes[i] - at_100.spikes[i], 1, 1e-10);
}

/// State at a grid time of a run with steps of dt.
std::pair<double, double> at(const Trace& trace, double t, double dt) {
  const auto row = static_cast<size_t>(std::llround(t / dt));
  EXPECT_NEAR(trace.t.at(row), t, 1e-9);
  return {trace.v.at(row), trace.u.at(row)};
}

Trace published_trace(const char* name, Solver solver, double dt, const Stimulus& current, double duration = 1000) {
  Protocol protocol = preset(name).protocol(solver, Mode::published);
  protocol.dt = dt, protocol.current = current, protocol.duration = duration, protocol.trace = true;
  return simulate(protocol).trace;
}

TEST(NeuronRow06, ExplicitEulerIsTheTextbookTable) {
  const Trace trace = published_trace("rs2007", Solver::euler, 1, Stimulus({{100, 70}}));
  const double table[][3] = {{0, -60, 0},
                             {250, -54.4819, 6.2834},
                             {500, -50.6154, 59.0910},
                             {750, -49.5530, -12.4763},
                             {1000, -53.6973, 1.5649}};
  const double recomputed[][2] = {
      {-60, 0}, {-54.481853, 6.283381}, {-50.615371, 59.090981}, {-49.552986, -12.476265}, {-53.697324, 1.564865}};
  for (size_t i = 0; i < 5; ++i) {
    const auto [v, u] = at(trace, table[i][0], 1);
    EXPECT_NEAR(v, table[i][1], 5e-5);
    EXPECT_NEAR(u, table[i][2], 5e-5);
    EXPECT_NEAR(v, recomputed[i][0], 5e-7);
    EXPECT_NEAR(u, recomputed[i][1], 5e-7);
  }
}

TEST(NeuronRow07, BackwardEulerIsTheIterationTable) {
  const Trace trace = published_trace("rs2007", Solver::backward_euler, 0.25, Stimulus::constant(100), 10);
  const double table[][3] = {
      {1, -59.7583, -0.0036}, {2, -59.5246, -0.0106}, {3, -59.2982, -0.0210}, {16, -56.8776, -0.4068}};
  for (const auto& [step, v, u] : table) {
    EXPECT_NEAR(trace.v.at(static_cast<size_t>(step)), v, 5e-5);
    EXPECT_NEAR(trace.u.at(static_cast<size_t>(step)), u, 5e-5);
  }
}

/// The published run loses a step at each spike (the reset is tested at the start of the next one, which then only
/// resets) and had 100 pA from t = 0: its values at 250 ... 1000, from our functor in that loop.
TEST(NeuronRow07, ThePublishedVariantIsReproduced) {
  const Parameters p = preset("rs2007").parameters;
  const iz::Field<double> field{iz::rates<double>(p), {iz::drive(p, 100)}};
  const auto length = iz::Length<double>::whole(0.25);
  iz::State<double> y{-60, 0};
  const double table[][3] = {
      {250, -47.5168, 0.7778}, {500, 35.0, -27.6208}, {750, -52.9402, 28.8782}, {1000, -49.2691, 5.6717}};
  int spikes = 0;
  size_t next = 0;
  for (int n = 0; n <= 4000; ++n) {
    const bool fires = y.v >= p.v_peak;  // tested at the start of the step, which only resets
    if (next < 4 && n == std::lround(table[next][0] / 0.25)) {
      EXPECT_NEAR(fires ? p.v_peak : y.v, table[next][1], 1e-4);  // their Newton iteration stopped at 1e-6
      EXPECT_NEAR(y.u, table[next][2], 1e-4);
      ++next;
    }
    spikes += fires;
    y = fires ? iz::State<double>{p.c, y.u + p.d} : iz::BackwardEuler{}(field, y, length);
  }
  EXPECT_EQ(next, 4u);
  EXPECT_EQ(spikes, 13);
}

TEST(NeuronRow07, StepsWithoutARealRootAreCutAndCounted) {
  // The published sweep stored whatever the failed root finder held in 3, 805, 405, 164, 84 steps and saw no spike.
  for (const double dt : {0.5, 1.0, 2.0, 5.0, 10.0}) {
    Protocol protocol = preset("rs2007").protocol(Solver::backward_euler, Mode::accurate);
    protocol.dt = dt;
    const Result run = simulate(protocol);
    EXPECT_GT(run.pieces, 0) << dt;
    EXPECT_GE(run.spikes.size(), 4u) << dt;
    EXPECT_LE(run.spikes.size(), 8u) << dt;
    EXPECT_LE(run.v_max, dt < 5 ? 35 + 1e-6 : 35.5) << dt;  // eight iterations where the map ends in a square root
  }
  Protocol fine = preset("rs2007").protocol(Solver::backward_euler, Mode::published);
  for (const double dt : {0.01, 0.05, 0.1}) {
    fine.dt = dt;
    EXPECT_EQ(simulate(fine).pieces, 0) << dt;
  }
}

TEST(NeuronRow08, MidpointIsThePublishedTable) {
  const Trace trace = published_trace("rs2007", Solver::midpoint, 1, Stimulus({{100, 70}}));
  const double table[][3] = {{250, -54.374022, 5.735891}, {1000, -53.183723, -0.951492}};
  for (const auto& [t, v, u] : table) {
    const auto [got_v, got_u] = at(trace, t, 1);
    EXPECT_NEAR(got_v, v, 1e-6);
    EXPECT_NEAR(got_u, u, 1e-6);
  }
  const double rounded[][3] = {{500, -53.592, 47.671}, {750, -48.973, -13.528}};
  for (const auto& [t, v, u] : rounded) {
    const auto [got_v, got_u] = at(trace, t, 1);
    EXPECT_NEAR(got_v, v, 5e-4);
    EXPECT_NEAR(got_u, u, 5e-4);
  }
  Protocol protocol = preset("rs2007").protocol(Solver::midpoint, Mode::published);
  protocol.dt = 1;
  expect_times(simulate(protocol).spikes, {201, 347, 493, 641, 789, 935}, 0);
}

/// |v error| 60 ms after rest at 70 pA, before any spike.
double early_error(Solver solver, double dt) {
  Protocol protocol = preset("rs2007").protocol(solver);
  protocol.current = Stimulus::constant(70), protocol.duration = 60, protocol.dt = dt;
  return std::abs(simulate(protocol).v + 49.30203215923517);
}

TEST(NeuronRow09, TruePhi1HasOrder2BeforeASpike) {
  EXPECT_NEAR(early_error(Solver::exponential, 1), 2.74e-3, 1e-5);
  EXPECT_NEAR(early_error(Solver::exponential, 0.125), 4.20e-5, 1e-7);
  EXPECT_NEAR(std::log2(early_error(Solver::exponential, 0.25) / early_error(Solver::exponential, 0.125)), 2, 0.05);
  // and the others of that table
  EXPECT_NEAR(early_error(Solver::euler, 1), 6.19e-2, 1e-4);
  EXPECT_NEAR(early_error(Solver::backward_euler, 1), 5.99e-2, 1e-4);
  EXPECT_NEAR(early_error(Solver::linear_implicit, 1), 6.77e-2, 1e-4);
  EXPECT_NEAR(early_error(Solver::midpoint, 1), 2.66e-3, 1e-5);
}

Result published_adaptive() {
  Protocol protocol = preset("rs2007").protocol(Solver::linear_implicit_adaptive, Mode::published);
  protocol.current = Stimulus({{101, 70}}), protocol.trace = true;
  return simulate(protocol);
}

TEST(NeuronRow10, LinearlyImplicitAdaptiveIsThePublishedTrace) {
  const Result run = published_adaptive();
  EXPECT_EQ(run.steps, 570);
  EXPECT_EQ(run.rejections, 83);
  ASSERT_EQ(run.spikes.size(), 6u);
  expect_times(run.spikes, {200.56, 347.64, 494.56, 641.47, 788.37, 935.27}, 5e-3);
  ASSERT_EQ(run.trace.t.size(), 571u);
  for (const auto& [row, t, v, u, h] : test::golden::linear_implicit_adaptive) {
    EXPECT_NEAR(run.trace.t[row + 1], t, 1e-9);
    EXPECT_NEAR(run.trace.v[row + 1], v, 1e-9);
    EXPECT_NEAR(run.trace.u[row + 1], u, 1e-9);
    EXPECT_NEAR(run.trace.h[row + 1], h, 1e-9);
  }
}

TEST(NeuronRow10, TheWholePublishedTrace) {
  const auto path = test::vector_file("linearly_implicit_adaptive_rs.csv");
  if (!path) GTEST_SKIP() << "skipped: RANVIER_VECTORS names no folder with linearly_implicit_adaptive_rs.csv";
  const Trace want = read_trace(*path), got = published_adaptive().trace;
  ASSERT_EQ(want.t.size(), 570u);
  for (size_t i = 0; i < want.t.size(); ++i) {
    EXPECT_NEAR(got.t[i + 1], want.t[i], 1e-9) << i;
    EXPECT_NEAR(got.v[i + 1], want.v[i], 1e-9) << i;
    EXPECT_NEAR(got.u[i + 1], want.u[i], 1e-9) << i;
  }
}

TEST(NeuronRow11, AdaptiveStepsEndAtEdgesAndAtT) {
  Protocol protocol = preset("rs2007").protocol(Solver::linear_implicit_adaptive);
  protocol.current = Stimulus({{100.123, 70}, {500.0625, 20}, {700.7, 90}});
  protocol.duration = 800.05, protocol.trace = true;
  const Result run = simulate(protocol);
  EXPECT_EQ(run.t, 800.05);
  for (const double edge : {100.123, 500.0625, 700.7})
    EXPECT_EQ(std::count(run.trace.t.begin(), run.trace.t.end(), edge), 1) << edge;
  EXPECT_GT(run.rejections, 0);
  // Mixed tolerances per variable: halving them four times over quarters the error of order 1 at least.
  const auto last_spike = [&](double scale) {
    Protocol s = preset("rs2007").protocol(Solver::linear_implicit_adaptive);
    s.rule.atol_v *= scale, s.rule.atol_u *= scale, s.rule.rtol *= scale;
    return std::abs(simulate(s).spikes.back() - exact_rs_spikes.back());
  };
  EXPECT_LT(last_spike(1.0 / 64), last_spike(1) / 4);
  // Retries are bounded: where no step can be short enough it is an error, not a loop.
  protocol.rule.shortest = 2, protocol.rule.atol_v = protocol.rule.atol_u = 1e-12, protocol.rule.rtol = 0;
  EXPECT_THROW(simulate(protocol), Runaway);
}

TEST(NeuronRow12, Rk4OnTheGridIsThePublishedTrace) {
  EXPECT_NEAR(std::log2(early_error(Solver::rk4, 1) / early_error(Solver::rk4, 0.5)), 4.1, 0.15);
  EXPECT_NEAR(early_error(Solver::rk4, 1), 2.18e-7, 1e-9);
  const Trace trace = published_trace("rs2007", Solver::rk4, 0.01, Stimulus::constant(300), 100);
  ASSERT_EQ(trace.t.size(), 10001u);
  for (const auto& [row, v, u] : test::golden::rk4_grid_reset) {
    EXPECT_NEAR(trace.v[row], v, 1e-8) << row;
    EXPECT_NEAR(trace.u[row], u, 1e-8) << row;
  }
}

TEST(NeuronRow12, TheWholePublishedTrace) {
  const auto path = test::vector_file("rk4_grid_reset_rs_i300.npy");
  if (!path) GTEST_SKIP() << "skipped: RANVIER_VECTORS names no folder with rk4_grid_reset_rs_i300.npy";
  const Trace want = read_trace(*path),
              got = published_trace("rs2007", Solver::rk4, 0.01, Stimulus::constant(300), 100);
  ASSERT_EQ(want.t.size(), got.t.size());
  int peaks = 0;
  for (size_t i = 0; i < want.t.size(); ++i) {
    const bool drawn = want.v[i] == 35;  // the sample before a reset, overwritten by its authors
    peaks += drawn;
    if (!drawn) {
      EXPECT_NEAR(got.v[i], want.v[i], 1e-8) << i;
    }
    EXPECT_NEAR(got.u[i], want.u[i], 1e-8) << i;
  }
  EXPECT_EQ(peaks, 6);
}

TEST(NeuronRow13, Ab2RestartsWithAValidHistory) {
  EXPECT_NEAR(std::log2(early_error(Solver::ab2, 0.5) / early_error(Solver::ab2, 0.25)), 2, 0.1);
  EXPECT_NEAR(std::log2(early_error(Solver::ab2, 0.25) / early_error(Solver::ab2, 0.125)), 2, 0.05);
  // One midpoint step a restart: start, edge at 100 ms, and one after each spike; events themselves cost more.
  Protocol quiet = preset("rs2007").protocol(Solver::ab2);
  quiet.current = Stimulus({{10, 20}}), quiet.duration = 50;
  const Result run = simulate(quiet);
  EXPECT_EQ(run.steps, 500);
  EXPECT_EQ(run.evaluations, 500 + 2);
}

TEST(NeuronRow14, TheReferenceHasTheExactSpikeTimes) {
  const Result run = simulate(preset("rs2007").protocol(Solver::reference));
  expect_times(run.spikes, exact_rs_spikes, 1e-6);
  EXPECT_NEAR(run.v, -53.681785447, 1e-8);
  EXPECT_NEAR(run.u, 1.482447302, 1e-8);
  EXPECT_NEAR(run.u_min, -37.027208, 1e-2);  // of the accepted steps
  EXPECT_NEAR(run.u_max, 63.078353, 1e-3);
  Protocol constant = preset("rs2007").protocol(Solver::reference);
  constant.current = Stimulus::constant(100);
  const Result tonic = simulate(constant);
  ASSERT_EQ(tonic.spikes.size(), 13u);
  EXPECT_NEAR(tonic.spikes[0], 48.180141, 1e-6);
  EXPECT_NEAR(tonic.spikes[1], 121.645897, 1e-6);
  EXPECT_NEAR(tonic.spikes[2], 197.769709, 1e-6);
  EXPECT_NEAR(tonic.spikes[12], 958.117381, 1e-6);
  EXPECT_NEAR(tonic.v, -50.357745522, 1e-8);
  constant.current = Stimulus::constant(300), constant.duration = 100;
  const Result fast = simulate(constant);
  expect_times(fast.spikes, {14.569022, 27.647622, 43.274521, 60.727669, 79.027934, 97.612241}, 1e-6);
  EXPECT_NEAR(fast.v, -48.587667284, 1e-8);
  EXPECT_NEAR(fast.u, 164.453214767, 1e-8);
}

/// Two more solvers of the published history, Heun and Runge-Kutta-Fehlberg 4(5), live here as independent oracles:
/// they share no code with the ones under test.
TEST(NeuronRow15, AnIndependentRungeKuttaFehlbergAgrees) {
  const std::vector<double> spikes = test::fehlberg_spikes(preset("rs2007").protocol(), 1e-13);
  expect_times(spikes, exact_rs_spikes, 1e-6);
  expect_times(simulate(preset("rs2007").protocol(Solver::reference)).spikes, spikes, 1e-8);
  const Protocol bursts = preset("ch2007").protocol(Solver::reference);
  expect_times(simulate(bursts).spikes, test::fehlberg_spikes(bursts, 1e-13), 1e-8);
  EXPECT_NEAR(test::heun_error(1) / test::heun_error(0.5), 4, 0.2);
}

TEST(NeuronRow16, LocatedResetsRestoreRk4) {
  Protocol protocol = preset("rs2007").protocol();
  protocol.trace = true;
  const Errors v = compare(protocol).v;
  EXPECT_LE(v.rmse, 1e-5);
  protocol.mode = Mode::published;
  EXPECT_GT(compare(protocol).v.rmse, 3);  // the published RK4 at this step: 3.8 mV
}

TEST(NeuronRow17, CountsOfARun) {
  Protocol protocol = preset("rs2007").protocol();
  protocol.current = Stimulus::constant(0), protocol.duration = 50;
  const std::pair<Solver, std::pair<int, int>> per_step[] = {
      {Solver::euler, {1, 0}},          {Solver::izhikevich, {1, 0}}, {Solver::backward_euler, {1, 0}},
      {Solver::midpoint, {2, 0}},       {Solver::rk4, {4, 0}},        {Solver::exponential, {1, 1}},
      {Solver::linear_implicit, {1, 1}}};
  for (const auto& [solver, counts] : per_step) {
    protocol.solver = solver;
    const Result run = simulate(protocol);
    EXPECT_EQ(run.steps, 500);
    EXPECT_EQ(run.evaluations, 500 * counts.first) << name(solver);
    EXPECT_EQ(run.jacobians, 500 * counts.second) << name(solver);
    EXPECT_EQ(run.rejections, 0);
  }
  protocol = preset("rs2007").protocol();
  EXPECT_GT(simulate(protocol).evaluations, 4 * 10000);  // locating six events costs more maps
}

/// RMSE of v of RK4 on the grid as its authors ran and scored it: the last stage of the step that ends at the onset has
/// the current already (a sixth of its weight), and the sample of a spike shows the peak.
double drawn_rmse(Protocol protocol) {
  protocol.trace = true;
  const Stimulus current = protocol.current;
  protocol.current = Stimulus({{100 - protocol.dt, 70.0 / 6}, {100, 70}});
  Result run = simulate(protocol);
  protocol.current = current;
  const Result reference = reference_of(protocol, run);
  for (const double spike : run.spikes)
    run.trace.v[static_cast<size_t>(std::llround(spike / protocol.dt))] = protocol.parameters.v_peak;
  return errors(run.trace.v, reference.trace.v).rmse;
}

/// The published sweep of RK4, recomputed against the exact solution: reset on the grid, and located.
TEST(NeuronRow18, SweepOfStepLengths) {
  const std::pair<double, double> grid[] = {{0.01, 1.164}, {0.05, 1.888}, {0.1, 3.756}};
  const std::pair<double, double> located[] = {{0.05, 4.9e-7}, {0.1, 7.5e-6}, {0.5, 2.8e-3}, {1, 2.6e-2}};
  Protocol protocol = preset("rs2007").protocol();
  for (const auto& [dt, rmse] : located) {
    protocol.dt = dt;
    EXPECT_NEAR(compare(protocol).v.rmse, rmse, 0.1 * rmse) << dt;
  }
  protocol.mode = Mode::published;
  for (const auto& [dt, rmse] : grid) {
    protocol.dt = dt;
    EXPECT_NEAR(drawn_rmse(protocol), rmse, 0.01 * rmse) << dt;
  }
  protocol.dt = 10;
  EXPECT_THROW(simulate(protocol), Runaway);  // NaN in the published sweep
}

TEST(NeuronRow19, TracesGoOutAndComeBack) {
  Protocol protocol = preset("rs2007").protocol(Solver::rk4, Mode::published);
  protocol.duration = 300, protocol.trace = true;
  const Result run = simulate(protocol);
  const testing::TemporaryFolder temporary;
  const std::string folder = temporary.path.string() + "/";
  write_trace_csv(folder + "trace.csv", run.trace);
  write_trace_npy(folder + "trace.npy", run.trace);
  for (const char* file : {"trace.csv", "trace.npy"}) {
    const Trace back = read_trace(folder + file);
    EXPECT_EQ(back.t, run.trace.t) << file;
    EXPECT_EQ(back.v, run.trace.v) << file;
    EXPECT_EQ(back.u, run.trace.u) << file;
  }
  ASSERT_EQ(run.spikes.size(), 1u);
  // The spike's row is the state after the reset, and no row is a drawn peak.
  const auto row = static_cast<size_t>(std::llround(run.spikes[0] / protocol.dt));
  EXPECT_EQ(run.trace.v[row], -50);
  EXPECT_EQ(std::count(run.trace.v.begin(), run.trace.v.end(), 35.0), 0);
  for (const char* bad : {"absent.csv", "absent.npy"}) EXPECT_THROW(read_trace(folder + bad), Error);
}

TEST(NeuronRow20, SeriesForPlots) {
  Protocol protocol = preset("rs2007").protocol(Solver::linear_implicit_adaptive);
  protocol.trace = true;
  const Result run = simulate(protocol);
  ASSERT_EQ(run.trace.h.size(), run.trace.t.size());
  double t = 0;
  for (size_t i = 1; i < run.trace.t.size(); ++i) {
    EXPECT_NEAR(run.trace.t[i] - t, run.trace.h[i], 1e-9);
    EXPECT_GT(run.trace.h[i], 0);
    t = run.trace.t[i];
  }
}

TEST(NeuronRow21, Metrics) {
  const std::vector<double> truth{0, 1, 2, 4}, got{0, 1, 2, 2};
  const Errors e = errors(got, truth);
  EXPECT_DOUBLE_EQ(e.rmse, 1);
  EXPECT_DOUBLE_EQ(e.mae, 0.5);
  EXPECT_DOUBLE_EQ(e.max, 2);
  EXPECT_DOUBLE_EQ(e.normalised, 0.25);
  EXPECT_DOUBLE_EQ(e.dtw, 0.5);  // the last 4 has nothing near it
  const std::vector<double> late{0, 0, 1, 2}, early{0, 1, 2, 2};
  EXPECT_EQ(dynamic_time_warping(late, early), 0);
  EXPECT_TRUE(std::isnan(errors({{0, std::nan(""), 2, 4}}, truth).rmse));
  EXPECT_THROW(errors(got, {{1}}), Error);
  const SpikeMatch same = match_spikes(exact_rs_spikes, exact_rs_spikes);
  EXPECT_EQ(same.matched, 6);
  EXPECT_EQ(same.max, 0);
  const SpikeMatch one_missed = match_spikes({{10.5, 30.25}}, {{10, 20, 30}});
  EXPECT_EQ(one_missed.matched, 2);
  EXPECT_EQ(one_missed.missed, 1);
  EXPECT_EQ(one_missed.extra, 0);
  EXPECT_DOUBLE_EQ(one_missed.mean, 0.375);
  EXPECT_DOUBLE_EQ(one_missed.max, 0.5);
  EXPECT_EQ(match_spikes({{1, 2, 3}}, {}).extra, 3);
  const Intervals isi = intervals({{10, 20, 40}});
  EXPECT_DOUBLE_EQ(isi.mean, 15);
  EXPECT_DOUBLE_EQ(isi.deviation, 5);
}

/// A vector of neurons with their own parameters and currents: every lane is the neuron run alone, to the bit.
TEST(NeuronRow22, LanesAreTheNeuronsRunAlone) {
  using Lanes = iz::Pack<double>;
  std::vector<Protocol> neurons;
  for (int i = 0; i < 64; ++i) {
    Preset p = preset(i % 3 == 0 ? "rs2003" : i % 3 == 1 ? "ch2003" : "fs2003");
    p.parameters.d += 0.03 * i, p.parameters.a *= 1 + 0.001 * i;
    p.current = Stimulus::constant(0.25 * i), p.duration = 100;
    neurons.push_back(p.protocol(Solver::rk4, Mode::published));
  }
  size_t spikes = 0;
  for (size_t first = 0; first < neurons.size(); first += Lanes::lanes) {
    const test::LaneRun lanes = test::run_lanes<double>({neurons.begin() + static_cast<long>(first), Lanes::lanes});
    for (size_t i = 0; i < Lanes::lanes; ++i) {
      const Result alone = simulate(neurons[first + i]);
      EXPECT_EQ(lanes.v[i], alone.v);
      EXPECT_EQ(lanes.u[i], alone.u);
      EXPECT_EQ(lanes.spikes[i], alone.spikes.size());
      spikes += alone.spikes.size();
    }
  }
  EXPECT_GT(spikes, 300u);
}

}  // namespace
}  // namespace ranvier::neuron
