// The solver without data: spike times and states against published exact dynamics, its parts against closed forms,
// files, and input that must be refused.
#include "models/pinn.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <filesystem>
#include <random>

#include "engine/grad.h"
#include "engine/program.h"
#include "engine/safetensors.h"
#include "models/collocation.h"
#include "models/pinn_march.h"
#include "models/pinn_segment.h"
#include "tests/case.h"
#include "tests/support/files.h"
#include "tests/support/spikes.h"

namespace ranvier::pinn {
namespace {

using test::error_of;
using test::expect_spikes;

// Exact times: order-24 Taylor series with event location in long double.
TEST(Pinn, RegularSpiking2003) {
  const Solution solution = solve(Neuron::preset("rs2003"), Current::parse("10"), 80, Options::quality("fast"));
  expect_spikes(solution, {3.127055304, 26.226024650, 71.057097350}, 1e-4);
}

/// Current edges split windows: nothing happens before one, and the first spike of the 2007 neuron follows it.
TEST(Pinn, RegularSpiking2007WithAStep) {
  const Solution solution =
      solve(Neuron::preset("rs2007"), Current::parse("step:70@100"), 250, Options::quality("fast"));
  expect_spikes(solution, {200.022470957}, 1e-4);
  EXPECT_NEAR(solution.at(60).v, -60, 1e-5);
  EXPECT_NEAR(solution.at(250).v, -54.533103404, 1e-3);
  EXPECT_NEAR(solution.at(250).u, 6.536792633, 1e-3);
  EXPECT_NEAR(solution.at(solution.spike_times_ms[0]).v, 35, 1e-9) << "the peak is met by construction";
  bool split = false;
  for (const Segment& s : solution.segments) {
    split |= s.start_ms == 100;
    EXPECT_FALSE(s.start_ms < 100 && s.start_ms + s.length_ms > 100 + 1e-9) << "a window crosses the edge";
  }
  EXPECT_TRUE(split);
}

/// A burst: two spikes within 3 ms (chattering neuron; its early times as published).
TEST(Pinn, Chattering2007) {
  const Solution solution =
      solve(Neuron::preset("ch2007"), Current::parse("step:300@100"), 111.5, Options::quality("fast"));
  expect_spikes(solution, {107.432994, 110.325534}, 1e-4);
}

/// A parabola without roots (h^2 < 0): the neuron has no rest at any current below it.
TEST(Pinn, NoRestingPotential) {
  Neuron n = Neuron::preset("rs2003");
  n.set("q0=170");
  EXPECT_LT(n.q1 * n.q1 - 4 * n.q2 * n.q0, 0);
  EXPECT_LT(ThetaForm(n, 20).offset, 0);
  expect_spikes(solve(n, Current::parse("10"), 2.5, Options::quality("fast")), {1.102644562, 2.393093383}, 1e-4);
}

/// Three training points hold a network nowhere else: it meets the equations there, fresh points see that it does not
/// between them, and the window is refused.
TEST(Pinn, FreshPointsRefuseAnOverfittedWindow) {
  Options options = Options::quality("fast");
  options.points = 3;
  March march(Neuron::preset("rs2003"), Current::parse("10"), 5, options);
  Segment& window = march.pending();
  const double length = window.length_ms;
  march.solver().fit(window, march.random());
  EXPECT_LE(window.loss, options.window_loss) << "met at its own points";
  EXPECT_GT(window.fresh_loss, 1e3 * window.loss);
  EXPECT_FALSE(march.fitted());
  EXPECT_TRUE(march.solution().segments.empty());
  EXPECT_LT(march.pending().length_ms, length) << "a shorter one is next";
}

TEST(Pinn, TooLittleCurrentNeverFires) {
  const Solution solution = solve(Neuron::preset("rs2007"), Current::parse("40"), 60, Options::quality("fast"));
  EXPECT_TRUE(solution.complete());
  EXPECT_TRUE(solution.spike_times_ms.empty());
  EXPECT_EQ(solution.reached_ms, 60);
}

TEST(Pinn, StartsAbovePeak) {
  Neuron neuron = Neuron::preset("rs2003");
  neuron.set("v0=31,u0=0");
  const Solution solution = solve(neuron, Current::parse("0"), 1, Options::quality("fast"));
  ASSERT_EQ(solution.spike_times_ms.size(), 1u);
  EXPECT_EQ(solution.spike_times_ms[0], 0);
  EXPECT_NEAR(solution.at(0).v, neuron.c, 1e-12);
  EXPECT_NEAR(solution.at(0).u, neuron.d, 1e-12);
}

/// An optimizer that may do nothing cannot meet a window: the run says which, and keeps what came before.
TEST(Pinn, AWindowThatCannotBeMet) {
  Options options = Options::quality("fast");
  options.iterations = 3;
  const Solution solution = solve(Neuron::preset("rs2003"), Current::parse("10"), 5, options);
  EXPECT_FALSE(solution.complete());
  EXPECT_NE(solution.failure.find("window 1 at 0.0000 ms"), std::string::npos) << solution.failure;
  EXPECT_EQ(solution.reached_ms, 0);
  ASSERT_TRUE(solution.unmet.has_value()) << "the best network of the failed window is kept";
  EXPECT_GT(solution.unmet->loss, options.window_loss);
  EXPECT_NEAR(solution.at(0).v, -65, 1e-9);
  const testing::TemporaryFolder folder;
  solution.save((folder.path / "model.safetensors").string());
  const Solution again = Solution::load((folder.path / "model.safetensors").string());
  EXPECT_TRUE(again.segments.empty());
  ASSERT_TRUE(again.unmet.has_value());
  const double inside = 0.5 * solution.unmet->length_ms;
  EXPECT_EQ(again.at(inside).v, solution.at(inside).v);
  options = Options::quality("fast"), options.budget_seconds = 0;
  const Solution late = solve(Neuron::preset("rs2003"), Current::parse("10"), 5, options);
  EXPECT_NE(late.failure.find("budget"), std::string::npos);
  ASSERT_TRUE(late.unmet.has_value());
  EXPECT_EQ(late.unmet->iterations, 1) << "the budget ends a fit too";
}

TEST(Pinn, OneSeedOneAnswer) {
  Options options = Options::quality("fast");
  const auto run = [&](uint64_t seed) {
    options.seed = seed;
    return solve(Neuron::preset("rs2003"), Current::parse("10"), 2, options).segments.back().theta;
  };
  EXPECT_EQ(run(1), run(1));
  EXPECT_NE(run(1), run(2));
}

/// The theta form is the neuron's own equation in another variable.
TEST(Pinn, ThetaFormEqualsTheEquation) {
  for (const char* name : {"rs2003", "rs2007", "ib2007", "ch2007", "rz2003", "no roots"}) {
    Neuron n = Neuron::preset(name == std::string("no roots") ? "rs2003" : name);
    if (name == std::string("no roots")) n.q0 = 170;
    for (const double A : {10.0, 20.0, 40.0}) {
      const ThetaForm form(n, A);
      for (const double v : {-90.0, -61.0, -40.0, 0.0, 30.0}) {
        const double u = -3, current = 12, phi = form.phi(v), s = std::sin(phi), c = std::cos(phi);
        const double dphi = form.alpha * s * s + form.gamma * (current - u - form.offset) * c * c;
        EXPECT_NEAR(form.v(phi), v, 1e-12 * std::abs(v) + 1e-12);
        EXPECT_NEAR(A * dphi / (c * c), n.dv(v, u, current), 1e-11 * (1 + std::abs(n.dv(v, u, current)))) << name;
      }
    }
  }
}

TEST(Pinn, SavedAndLoaded) {
  const testing::TemporaryFolder folder;
  const Solution solution = solve(Neuron::preset("rs2003"), Current::parse("10"), 5, Options::quality("fast"));
  const std::string path = (folder.path / "model.safetensors").string();
  solution.save(path);
  const Solution again = Solution::load(path);
  EXPECT_EQ(again.spike_times_ms, solution.spike_times_ms);
  EXPECT_EQ(again.neuron.name, "rs2003");
  for (const double t : {0.0, 1.0, 3.0, 3.2, 5.0}) {
    EXPECT_EQ(again.at(t).v, solution.at(t).v);
    EXPECT_EQ(again.at(t).u, solution.at(t).u);
    EXPECT_EQ(again.residual(t).v, solution.residual(t).v);
  }
  safetensors::write(path, {{"format", "other"}}, {});
  EXPECT_ERROR(Solution::load(path), "is a 'other' file");
  safetensors::write(path, {}, {});
  EXPECT_ERROR(Solution::load(path), "is no PINN model");
  safetensors::write(path, {{"format", "ranvier.pinn.windows"}, {"architecture", R"({"widths":[1,4,3]})"}}, {});
  EXPECT_ERROR(Solution::load(path), "unknown architecture");
  const std::string wider = R"({"widths":[1,99,2],"activation":"tanh","form":"theta"})";
  const std::vector<double> row(9, 1.0), theta(static_cast<size_t>(solution.shape.parameters()), 0.5);
  const auto source = [](const char* name, Shape shape, const std::vector<double>& values) {
    return safetensors::Source{name, {DType::f64, shape}, [&values](std::byte* to) {
                                 std::memcpy(to, values.data(), values.size() * sizeof(double));
                               }};
  };
  const std::vector<safetensors::Source> sources = {source("segments", {1, 9}, row),
                                                    source("networks", {1, static_cast<int64_t>(theta.size())}, theta)};
  safetensors::write(path, {{"format", "ranvier.pinn.windows"}, {"architecture", wider}}, sources);
  EXPECT_ERROR(Solution::load(path), "tensor 'networks' is f64(1, 66), this architecture has f64(1, 398)");
}

TEST(Pinn, BadNeurons) {
  const auto with = [](const char* change) {
    Neuron neuron = Neuron::preset("rs2007");
    neuron.set(change);
    solve(neuron, Current::parse("70"), 1, Options::quality("fast"));
  };
  EXPECT_ERROR(with("C=0"), "C = 0 must be positive");
  EXPECT_ERROR(with("k=-1"), "k (q2) = -1 must be positive");
  EXPECT_ERROR(with("v_peak=-50"), "v_peak = -50 must be above the reset c = -50");
  EXPECT_ERROR(with("a=0"), "a = 0 must be positive");
  EXPECT_ERROR(with("e=0"), "no parameter 'e'");
  EXPECT_ERROR(with("a"), "'a' is not name=value");
  EXPECT_ERROR(with("a=x"), "'x' in 'a=x' is not a number");
  EXPECT_ERROR(Neuron::preset("rs"), "no neuron 'rs'");
  EXPECT_ERROR(solve(Neuron::preset("rs2007"), {}, 0, {}), "duration 0 ms");
  EXPECT_ERROR(solve(Neuron::preset("rs2007"), {}, INFINITY, {}), "duration inf ms");
  EXPECT_ERROR(Options::quality("good"), "'good'");
}

TEST(Pinn, BadOptions) {
  const auto with = [](const std::function<void(Options&)>& change) {
    Options options;
    change(options);
    solve(Neuron::preset("rs2007"), Current::parse("70"), 1, options);
  };
  EXPECT_ERROR(with([](Options& o) { o.window_ms = 0; }), "window 0: must be positive");
  EXPECT_ERROR(with([](Options& o) { o.A_mv = NAN; }), "A nan: must be positive");
  EXPECT_ERROR(with([](Options& o) { o.window_loss = 0; }), "loss of a window 0: must be positive");
  EXPECT_ERROR(with([](Options& o) { o.window_loss = NAN; }), "loss of a window nan: must be positive");
  EXPECT_ERROR(with([](Options& o) { o.spike_loss = -1; }), "loss of a spike's segment -1: must be positive");
  EXPECT_ERROR(with([](Options& o) { o.hidden = 0; }), "0 hidden units: must be from 1 to 1000");
  EXPECT_ERROR(with([](Options& o) { o.points = 2; }), "2 points: must be from 3 to 100000");
  EXPECT_ERROR(with([](Options& o) { o.iterations = -5; }), "-5 iterations: must be positive");
  EXPECT_ERROR(with([](Options& o) { o.budget_seconds = NAN; }), "budget nan s: must not be negative");
  EXPECT_ERROR(with([](Options& o) { o.budget_seconds = -1; }), "budget -1 s: must not be negative");
}

TEST(Pinn, ParametersByName) {
  Neuron n = Neuron::preset("rs2007");
  n.set("k=1.4,v_t=-42,d=50");
  EXPECT_EQ(n.q2, 1.4);
  EXPECT_NEAR(n.q1, 1.4 * 102, 1e-10);
  EXPECT_NEAR(n.q0, 1.4 * 60 * 42, 1e-9);
  EXPECT_EQ(n.v_b, -60);
  n.set("v_r=-62");
  EXPECT_EQ(n.v_b, -62);
  EXPECT_EQ(n.v0, -62) << "a start at rest moves with v_r";
  n.set("v0=-50,v_r=-61");
  EXPECT_EQ(n.v0, -50) << "one that was chosen does not";
  Neuron m = Neuron::preset("rs2003");
  m.set("b=0.25");
  EXPECT_EQ(m.u0, 0.25 * -65);
  m.set("u0=-10,b=0.2");
  EXPECT_EQ(m.u0, -10);
}

TEST(Pinn, Currents) {
  const Current current = Current::parse("5;step:70@100;pulse:-9@10..12.5");
  EXPECT_EQ(current.at(0), 5);
  EXPECT_EQ(current.at(10), -4);
  EXPECT_EQ(current.at(12.5), 5);
  EXPECT_EQ(current.at(100), 75);
  EXPECT_EQ(current.next_change(0, 1000), 10);
  EXPECT_EQ(current.next_change(12.5, 1000), 100);
  EXPECT_EQ(current.next_change(100, 1000), 1000);
  EXPECT_ERROR(Current::parse("ramp:0..70@100..500"), "ramp");
  EXPECT_ERROR(Current::parse("step:70"), "step:70");
  EXPECT_ERROR(Current::parse("pulse:1@5..4"), "ends before it begins");
  EXPECT_ERROR(Current::parse("step:1@-5"), "negative");
  EXPECT_ERROR(Current::parse(""), "is not a number");
}

TEST(Collocation, PointSets) {
  const auto points = chebyshev(5);
  EXPECT_EQ(points.front(), 0);
  EXPECT_EQ(points.back(), 1);
  EXPECT_NEAR(points[1], (1 - std::sqrt(0.5)) / 2, 1e-15);
  std::mt19937_64 random(1);
  const auto cube = latin_hypercube(50, 3, random);
  for (int64_t d = 0; d < 3; ++d) {
    std::vector<bool> hit(50);
    for (size_t i = 0; i < 50; ++i) hit[static_cast<size_t>(50 * cube[i * 3 + static_cast<size_t>(d)])] = true;
    for (bool h : hit) EXPECT_TRUE(h) << "each fiftieth of axis " << d << " holds one point";
  }
  double mean = 0;  // of s (1 - s) under the arcsine density: 1/8
  for (double s : chebyshev_sample(4000, random)) mean += s * (1 - s) / 4000;
  EXPECT_NEAR(mean, 0.125, 1e-4);
  std::vector<double> residuals(1000, 1e-6);
  for (size_t i = 500; i < 520; ++i) residuals[i] = 1;
  int near = 0;
  for (int64_t i : residual_adaptive(residuals, 20, 2, 0, random)) near += i >= 500 && i < 520;
  EXPECT_GE(near, 19);
}

TEST(Collocation, CausalWeightsAndFeatures) {
  State state;
  Graph graph(state);
  const Tensor losses = input(graph, "losses", {DType::f64, {3}}), x = input(graph, "x", {DType::f64, {2, 1}});
  const Jet features = fourier_features({x, full(graph, x.type(), 1)}, 2);
  Program program = compile(graph, std::vector{causal_weights(losses, 2), features.value, features.tangent,
                                               grad(sum(causal_weights(losses, 2)), losses)});
  program.set<double>("losses", std::vector{0.5, 0.25, 9.0});
  program.set<double>("x", std::vector{0.1, 0.7});
  program.run();
  const auto w = program.get<double>(0);
  EXPECT_NEAR(w[0], 1, 1e-15);
  EXPECT_NEAR(w[1], std::exp(-1.0), 1e-15);
  EXPECT_NEAR(w[2], std::exp(-1.5), 1e-15);
  const auto f = program.get<double>(1), df = program.get<double>(2);
  const double turn = 2 * std::acos(-1.0);
  EXPECT_NEAR(f[5 + 3], std::sin(2 * turn * 0.7), 1e-14);
  EXPECT_NEAR(df[2], -turn * std::sin(turn * 0.1), 1e-13);
  EXPECT_EQ(df[0], 1);
  for (double g : program.get<double>(3)) EXPECT_EQ(g, 0) << "no gradient through causal weights";
}

// A loss on the time of an event, which the solver needs nowhere (there a spike's time is an unknown of its own): the
// network is trained until its root lies where it is wanted, by the implicit derivative.
TEST(Collocation, AnEventTrainedToATime) {
  const MlpShape shape{{1, 4, 1}};
  State state;
  Graph graph(state);
  const Tensor s = input(graph, "s", {DType::f64, {1, 1}}), parameters = input(graph, "theta", {DType::f64, {13}});
  const Tensor root = implicit_root(s, mlp_jet(s, full(graph, s.type(), 1), parameters, shape), 0.3);
  const Tensor loss = sum(square(root - 0.7));
  Program program = compile(graph, std::vector{loss, grad(loss, parameters)});
  const auto root_of = [&](const std::vector<double>& theta) {
    double low = -1, high = 2;
    for (int i = 0; i < 60; ++i) {
      const double middle = 0.5 * (low + high);
      (network_at(shape, theta, middle).value[0] < 0.3 ? low : high) = middle;
    }
    return 0.5 * (low + high);
  };
  const std::vector<double> start = {1.1, 0.8, -0.6, 1.5, 0.1, -0.3, 0.2, -0.7, 0.9, 0.7, -0.8, 0.6, 0.05};
  const auto objective = [&](std::span<const double> theta, std::span<double> gradient) {
    const std::vector<double> at(theta.begin(), theta.end());
    program.set<double>("s", std::vector{root_of(at)});
    program.set<double>("theta", at);
    program.run();
    std::ranges::copy(program.get<double>(1), gradient.begin());
    return program.scalar(0);
  };
  EXPECT_GT(std::abs(root_of(start) - 0.7), 0.1);
  const optimize::Result found = optimize::bfgs(objective, start, {.max_iterations = 50, .wanted_value = 1e-20});
  EXPECT_NEAR(root_of(found.x), 0.7, 1e-9);
}

// The root of phi(s; theta) = level against the root of a changed network, by central differences.
TEST(Collocation, ImplicitRoot) {
  const MlpShape shape{{1, 4, 1}};
  std::vector<double> theta = {1.1, 0.8, -0.6, 1.5, 0.1, -0.3, 0.2, -0.7, 0.9, 0.7, -0.8, 0.6, 0.05};
  const auto root = [&] {
    double low = -1, high = 1;
    for (int i = 0; i < 60; ++i) {
      const double middle = 0.5 * (low + high);
      (network_at(shape, theta, middle).value[0] < 0.3 ? low : high) = middle;
    }
    return 0.5 * (low + high);
  };
  State state;
  Graph graph(state);
  const Tensor s = input(graph, "s", {DType::f64, {1, 1}}), parameters = input(graph, "theta", {DType::f64, {13}});
  const Tensor r = implicit_root(s, mlp_jet(s, full(graph, s.type(), 1), parameters, shape), 0.3);
  Program program = compile(graph, std::vector{r, grad(r, parameters)});
  program.set<double>("s", std::vector{root()});
  program.set<double>("theta", theta);
  program.run();
  EXPECT_NEAR(program.get<double>(0)[0], root(), 1e-14);
  const auto gradient = program.get<double>(1);
  for (size_t p = 0; p < theta.size(); ++p) {
    const double value = theta[p], h = 1e-5;
    theta[p] = value + h;
    const double up = root();
    theta[p] = value - h;
    const double down = root();
    theta[p] = value;
    EXPECT_NEAR(gradient[p], (up - down) / (2 * h), 1e-8);
  }
}

}  // namespace
}  // namespace ranvier::pinn
