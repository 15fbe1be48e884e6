// The inverse problem: parameters of a noisy recording within their intervals, and recordings that must be refused.
#include "models/pinn_inverse.h"

#include <cmath>
#include <map>
#include <random>

#include "engine/neuron.h"
#include "models/collocation.h"
#include "models/pinn_baseline.h"
#include "tests/case.h"
#include "tests/support/sanitized.h"

namespace ranvier::pinn {
namespace {

using test::error_of;

/// The integrator's trajectory (Taylor series of order 24, located events) every 0.1 ms: no network made it.
Recording exact(const Neuron& n, const Current& current, double duration) {
  neuron::Protocol protocol;
  protocol.parameters = {.C = n.C, .q2 = n.q2, .q1 = n.q1, .q0 = n.q0, .a = n.a, .b = n.b, .v_b = n.v_b};
  protocol.parameters.c = n.c, protocol.parameters.d = n.d, protocol.parameters.v_peak = n.v_peak;
  protocol.v0 = n.v0, protocol.u0 = n.u0, protocol.duration = duration;
  std::vector<neuron::Stimulus::Piece> pieces;
  for (const Current::Step& s : current.steps) pieces.push_back({.begin = s.t_ms, .value = s.value});
  protocol.current = neuron::Stimulus(pieces);
  protocol.solver = neuron::Solver::reference, protocol.trace = true;
  for (int64_t i = 0; 0.1 * static_cast<double>(i) <= duration; ++i)  // the neuron's v0 and u0 belong to the first
    protocol.samples.push_back(0.1 * static_cast<double>(i));
  const neuron::Result run = neuron::simulate(protocol, n.name);
  return {run.trace.t, run.trace.v};
}

/// The same with white noise of 1 mV.
Recording recording(const Neuron& neuron, const Current& current, double duration, uint64_t seed) {
  Recording r = exact(neuron, current, duration);
  std::mt19937_64 random(seed);
  for (double& v : r.v_mv) {
    const double u1 = uniform(random), u2 = uniform(random);
    v += std::sqrt(-2 * std::log(u1 + 0x1p-54)) * std::cos(2 * std::acos(-1.0) * u2);
  }
  return r;
}

/// Every estimate within 3.3 standard errors of the neuron's own value, and those within `share` of it.
void expect_found(const InverseResult& result, const Neuron& truth, double share) {
  EXPECT_EQ(result.failure, "");
  EXPECT_TRUE(result.describes()) << result.noise_mv << " mV left of " << result.recording_noise_mv;
  const std::map<std::string, double> values = {{"a", truth.a}, {"b", truth.b}, {"c", truth.c},
                                                {"d", truth.d}, {"C", truth.C}, {"k", truth.q2}};
  for (const Estimate& e : result.estimates) {
    EXPECT_TRUE(std::abs(e.value - values.at(e.name)) <= 3.3 * e.standard_error)
        << e.name << " = " << e.value << " +- " << e.standard_error << ", exact " << values.at(e.name);
    EXPECT_LE(e.standard_error, share * std::abs(values.at(e.name))) << e.name;
  }
}

// The exact trajectory's own misfit against the least: with white noise their difference is chi-squared with as many
// degrees of freedom as there are unknowns. A search that ends elsewhere, or equations that give way, is outside.
TEST(PinnInverse, FourParametersOfHighestLikelihood) {
  if (test::sanitized) GTEST_SKIP() << "skipped: minutes under a sanitizer; CapacitanceAndGain runs the same code";
  const Neuron truth = Neuron::preset("rs2007");
  const Current current = Current::parse("step:100@20");
  constexpr double duration = 200;
  const Recording r = recording(truth, current, duration, 1);
  EXPECT_NEAR(r.noise_mv(), 1, 0.1);
  Neuron guess = truth;
  guess.set("a=0.045,b=-1,c=-45,d=65");
  const InverseResult result = infer(r, guess, current, {});
  ASSERT_EQ(result.estimates.size(), 4u);
  expect_found(result, truth, 0.03);
  EXPECT_LE(result.physics_loss, 1e-11);
  const Recording clean = exact(truth, current, duration);
  double least = 0;
  int64_t samples = 0;
  for (size_t i = 0; i < r.t_ms.size(); ++i)
    if (r.t_ms[i] > 20 - 1e-9) {
      const double left = (r.v_mv[i] - clean.v_mv[i]) / result.recording_noise_mv;
      least += left * left, ++samples;
    }
  EXPECT_LE(std::abs(result.samples - samples), 1);
  EXPECT_TRUE(least - result.misfit > -0.1 && least - result.misfit < 18.5) << least << " " << result.misfit;
}

/// Neurons four to six times as quick as that: their pieces are shorter.
TEST(PinnInverse, QuickNeurons) {
  if (test::sanitized) GTEST_SKIP() << "skipped: minutes under a sanitizer; CapacitanceAndGain runs the same code";
  {
    const Neuron truth = Neuron::preset("rs2003");
    Neuron guess = truth;
    guess.c = -63, guess.d = 7;
    const Recording r = recording(truth, Current::parse("10"), 120, 1);
    expect_found(infer(r, guess, Current::parse("10"), {.unknown = {"c", "d"}}), truth, 0.02);
  }
  const Neuron truth = Neuron::preset("ch2007");
  Neuron guess = truth;
  guess.set("c=-42,d=130");
  const Current current = Current::parse("step:300@5");
  expect_found(infer(recording(truth, current, 60, 1), guess, current, {.unknown = {"c", "d"}}), truth, 0.02);
}

/// Any subset, C and k among them: what is known stays, the rest is found from elsewhere.
TEST(PinnInverse, CapacitanceAndGain) {
  const Neuron truth = Neuron::preset("rs2007");
  const Current current = Current::parse("step:100@20");
  const Recording r = recording(truth, current, 200, 3);
  Neuron guess = truth;
  guess.set("C=92,k=0.76");
  const InverseResult result = infer(r, guess, current, {.unknown = {"C", "k"}});
  ASSERT_EQ(result.estimates.size(), 2u);
  expect_found(result, truth, 0.01);
  EXPECT_ERROR(infer(r, guess, current, {.unknown = {"C", "C"}}), "'C' is to be estimated twice");
  EXPECT_ERROR(infer(r, guess, current, {.unknown = {"v_t"}}), "'v_t' cannot be estimated; known: a b c d C k");
}

// A current that never was: what is left is far above the recording's noise, and that is said.
TEST(PinnInverse, AWrongCurrentIsSeen) {
  const Recording r = recording(Neuron::preset("rs2007"), Current::parse("step:100@20"), 200, 2);
  const InverseResult result = infer(r, Neuron::preset("rs2007"), Current::parse("step:100@26"),
                                     {.unknown = {"c"}, .hidden = 10, .points = 48, .iterations = 30, .starts = 1});
  EXPECT_FALSE(result.failure.empty() && result.describes()) << result.noise_mv;
}

TEST(PinnInverse, BadRecordings) {
  Recording good;
  for (int i = 0; i < 200; ++i) good.t_ms.push_back(0.1 * i), good.v_mv.push_back(-60 + 0.01 * (i % 3));
  const auto refuse = [&](const std::function<void(Recording&)>& change, const char* saying) {
    Recording r = good;
    change(r);
    EXPECT_ERROR(infer(r, Neuron::preset("rs2007"), Current::parse("70"), {}), saying);
  };
  refuse([](Recording& r) { r.t_ms[50] = r.t_ms[49]; }, "sample 51: time 4.9 ms does not follow 4.9 ms");
  refuse(
      [](Recording& r) {
        for (size_t i = 100; i < 200; ++i) r.t_ms[i] += 1;
      },
      "gap of 1.1 ms after 9.9 ms");
  refuse([](Recording& r) { r.v_mv[7] = NAN; }, "sample 8 is not finite");
  refuse([](Recording& r) { r.v_mv.pop_back(); }, "200 times and 199 voltages");
  refuse([](Recording& r) { r.t_ms.resize(20), r.v_mv.resize(20); }, "20 samples are too few");
  refuse([](Recording&) {}, "holds 0 spikes");
}

TEST(PinnBaseline, TrainsAndRefuses) {
  const Neuron neuron = Neuron::preset("rs2007");
  const Current current = Current::parse("step:70@100");
  const Trace data = published_training_data(neuron, current, 1000);
  // the printed table of explicit Euler at 1 ms (a textbook's table 4.3a)
  const struct {
    size_t t;
    double v, u;
  } rows[] = {{0, -60, 0},
              {250, -54.4819, 6.2834},
              {500, -50.6154, 59.0910},
              {750, -49.5530, -12.4763},
              {1000, -53.6973, 1.5649}};
  for (const auto& row : rows) {
    EXPECT_NEAR(data.v_mv[row.t], row.v, 5e-5);
    EXPECT_NEAR(data.u[row.t], row.u, 5e-5);
  }
  for (const char* name : {"global", "causal", "pure", "guided", "curriculum"}) {
    Baseline design = Baseline::named(name, 1000, 0.004);
    design.hidden = {12, 12}, design.lbfgs_steps = std::min<int64_t>(design.lbfgs_steps, 2);
    BaselineTraining training(design, neuron, current, 1000, data, DType::f64, 1);
    training.train();
    EXPECT_TRUE(std::isfinite(training.history().back())) << name;
    EXPECT_LT(training.history().back(), training.history().front()) << name;
    if (design.needs_data) {
      EXPECT_ERROR(BaselineTraining(design, neuron, current, 1000, {}, DType::f64, 1), "a fit to data");
    }
  }
  EXPECT_ERROR(Baseline::named("x", 1000), "no baseline 'x'");
  BaselineTraining single(Baseline::named("global", 1000, 0.001), neuron, current, 1000, {}, DType::f32, 1);
  EXPECT_TRUE(std::isfinite(single.step(1e-3)));
  EXPECT_ERROR(single.train(), "needs f64");
}

TEST(PinnBaseline, Peaks) {
  const auto at = [](double t) { return Point{40 * std::sin((t + 0.3) * std::acos(-1.0) / 25), 0}; };
  EXPECT_EQ(peaks(at, 100), (std::vector<double>{12, 62}));
}

}  // namespace
}  // namespace ranvier::pinn
