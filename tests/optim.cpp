// Optimizers through optim::apply and Session: closed forms of one element, groups, schedules, clipping, averages.
#include "engine/optim.h"

#include <gtest/gtest.h>

#include <cmath>
#include <numbers>

#include "engine/ops.h"
#include "engine/program.h"
#include "engine/session.h"
#include "kernels/optim/muon.h"
#include "kernels/optim/optim.h"
#include "tests/case.h"
#include "tests/support/files.h"
#include "tests/support/series.h"

namespace ranvier {
namespace {

using testing::Doubles;
using testing::error_of;
using testing::expect_near;
using testing::waves;

struct Weight {
  std::string name;
  Doubles values;
  Shape shape;
  Doubles gradient;  // empty: the input "g.<name>" is set before every step, else this one stays
};

/// Where these tests run their updates.
Device device() { return test::checks_cuda_only() ? Device::cuda() : Device::cpu(); }

/// Parameters whose gradients are inputs, and one compiled update.
struct Trainer {
  State state{device()};
  std::vector<Weight> weights;
  Program program;
  bool has_norm = false;

  Trainer(const optim::Optimizer& optimizer, std::vector<Weight> w, int64_t updates = 1) : weights(std::move(w)) {
    state.set_parameter_type(DType::f64);
    Graph graph(state, true);
    std::vector<std::string> names;
    std::vector<Tensor> gradients;
    for (const Weight& weight : weights) {
      parameter(graph, weight.name, weight.shape, init::constant(0));
      names.push_back(weight.name);
      gradients.push_back(input(graph, "g." + weight.name, {DType::f64, weight.shape}));
    }
    const auto norm = optim::apply(graph, optimizer, names, gradients, updates);
    has_norm = norm.has_value();
    program = compile(graph, has_norm ? std::vector{*norm} : std::vector<Tensor>{});
    state.materialise();
    for (const Weight& weight : weights) state.set<double>("parameters", weight.name, weight.values);
    for (const Weight& weight : weights) program.set<double>("g." + weight.name, weight.gradient);
  }
  Doubles operator[](const std::string& name) { return state.get<double>("parameters", name); }
};

Weight scalar(const std::string& name, double value, double gradient) { return {name, {value}, Shape{1}, {gradient}}; }

TEST(Optim, SgdFollowsItsRecurrence) {
  for (double momentum : {0.0, 0.9})
    for (bool nesterov : {false, true})
      for (double decay : {0.0, 0.01}) {
        const optim::Sgd sgd{.lr = 0.1, .momentum = momentum, .nesterov = nesterov, .weight_decay = decay};
        Trainer trainer(sgd, {scalar("w", 1.5, 0.25)});
        double p = 1.5, m = 0;
        for (int step = 0; step < 6; ++step) {
          step % 2 ? trainer.program.run() : trainer.program.run_checked();
          const double g = 0.25 + decay * p;
          m = momentum * m + g;
          p -= 0.1 * (nesterov ? g + momentum * m : m);
          ASSERT_NEAR(trainer["w"][0], p, 1e-14) << momentum << nesterov << decay << " step " << step;
        }
        EXPECT_EQ(trainer.state.get<int64_t>("session", "updates")[0], 6);
        EXPECT_EQ(trainer.state.find("momentum", "w") >= 0, momentum != 0) << "buffers only where they are used";
      }
}

TEST(Optim, AdamWFollowsItsRecurrence) {
  const optim::AdamW adamw{.lr = 0.01, .beta1 = 0.8, .beta2 = 0.95, .eps = 1e-6, .weight_decay = 0.1};
  Trainer trainer(adamw, {scalar("w", -0.5, 0)});
  double p = -0.5, m = 0, v = 0;
  for (int t = 1; t <= 8; ++t) {
    const double g = std::sin(t);
    trainer.program.set<double>("g.w", Doubles{g});
    trainer.program.run();
    m = 0.8 * m + 0.2 * g;
    v = 0.95 * v + 0.05 * g * g;
    p -= 0.01 * 0.1 * p;
    p -= 0.01 * (m / (1 - std::pow(0.8, t))) / (std::sqrt(v / (1 - std::pow(0.95, t))) + 1e-6);
    ASSERT_NEAR(trainer["w"][0], p, 1e-13) << t;
  }
}

Doubles orthogonalised(int64_t rows, int64_t cols, Doubles u, int iterations) {
  kernels::NewtonSchulz config;
  config.iterations = iterations;
  Doubles work(static_cast<size_t>(kernels::muon_workspace(rows, cols))), out(u.size());
  kernels::reference::muon_orthogonalize<double>(rows, cols, u.data(), config, kernels::reference::gemm<double>,
                                                 work.data(), out.data());
  return out;
}

TEST(Optim, NewtonSchulzAgainstTheKernelsReference) {
  for (const auto& [rows, cols] : {std::pair<int64_t, int64_t>{4, 9}, {9, 4}, {5, 5}, {1, 7}, {7, 1}, {1, 1}})
    for (int iterations : {0, 1, 3, 5}) {
      State state;
      Graph graph(state);
      const Doubles u = waves(static_cast<size_t>(rows * cols), 1.7);
      const Tensor x = input(graph, "u", {DType::f64, {rows, cols}});
      Program program = compile(graph, std::vector{newton_schulz(x, iterations)});
      program.set<double>("u", u);
      program.run();
      expect_near(program.get<double>(0), orthogonalised(rows, cols, u, iterations), 1e-12,
                  fmt::format("{}x{} {} iterations", rows, cols, iterations));
    }
}

TEST(Optim, NewtonSchulzOfZeroIsZero) {
  State state;
  Graph graph(state);
  Program program = compile(graph, std::vector{newton_schulz(full(graph, {DType::f32, {3, 4}}, 0), 5)});
  program.run_checked();
  EXPECT_EQ(program.get<float>(0), std::vector<float>(12, 0.0f));
}

TEST(Optim, MuonFollowsTheKernelsReference) {
  for (bool nesterov : {false, true})
    for (bool renormalize : {false, true}) {
      const optim::Muon muon{
          .lr = 0.05, .momentum = 0.6, .nesterov = nesterov, .iterations = 3, .renormalize = renormalize};
      const Shape shape{5, 2, 2, 3};
      Trainer trainer(muon, {{"w", waves(60, 0.9), shape, waves(60, 2.3)}});
      kernels::MuonConfig config{.momentum = 0.6, .nesterov = nesterov, .renormalize = renormalize};
      config.newton_schulz.iterations = 3;
      Doubles w = waves(60, 0.9), m(60, 0.0), work(static_cast<size_t>(kernels::muon_workspace(5, 12)) + 60);
      const double lr = 0.05;
      for (int step = 0; step < 3; ++step) {
        const Doubles g = waves(60, 2.3 + step);
        trainer.program.set<double>("g.w", g);
        trainer.program.run();
        kernels::reference::muon_step<double>(5, 12, w.data(), g.data(), m.data(), config, &lr,
                                              kernels::reference::gemm<double>, work.data(), w.data(), m.data());
        expect_near(trainer["w"], w, 1e-12, "weight");
        expect_near(trainer.state.get<double>("momentum", "w"), m, 1e-13, "momentum");
      }
    }
}

TEST(Optim, MuonsDecayIsDecoupled) {
  const optim::Muon with{.lr = 0.05, .iterations = 2, .weight_decay = 0.3}, without{.lr = 0.05, .iterations = 2};
  Trainer a(with, {{"w", waves(6, 0.9), {2, 3}, waves(6, 2.3)}}),
      b(without, {{"w", waves(6, 0.9), {2, 3}, waves(6, 2.3)}});
  a.program.run();
  b.program.run();
  const Doubles w = waves(6, 0.9);
  Doubles wanted = b["w"];
  for (size_t i = 0; i < 6; ++i) wanted[i] -= 0.05 * 0.3 * w[i];
  expect_near(a["w"], wanted, 1e-14, "decayed");
}

TEST(Optim, GroupsTakeTheFirstRuleThatMatches) {
  const optim::Optimizer rules(std::vector<optim::Rule>{{"^frozen\\.", optim::Frozen{}},
                                                        {"bias$", optim::Sgd{.lr = 1}},
                                                        {"^head", optim::Sgd{.lr = 2}},
                                                        {"", optim::Sgd{.lr = 4, .momentum = 0.5}}});
  Trainer trainer(rules, {scalar("frozen.bias", 1, 1), scalar("conv.bias", 1, 1), scalar("head.bias", 1, 1),
                          scalar("head.weight", 1, 1), scalar("conv.weight", 1, 1)});
  trainer.program.run();
  EXPECT_EQ(trainer["frozen.bias"][0], 1);
  EXPECT_EQ(trainer["conv.bias"][0], 0);
  EXPECT_EQ(trainer["head.bias"][0], 0);
  EXPECT_EQ(trainer["head.weight"][0], -1);
  EXPECT_EQ(trainer["conv.weight"][0], -3);
  EXPECT_EQ(trainer.state.find("momentum", "frozen.bias"), -1) << "a frozen parameter has no moments";
  EXPECT_GE(trainer.state.find("momentum", "conv.weight"), 0);
}

TEST(Optim, RefusesWhatMakesNoSense) {
  const auto error = [](const optim::Optimizer& optimizer, const Weight& weight) {
    return error_of([&] { Trainer trainer(optimizer, {weight}); });
  };
  const auto expect = [&](const std::string& text, const std::vector<std::string>& parts) {
    for (const std::string& part : parts) EXPECT_NE(text.find(part), std::string::npos) << text;
    EXPECT_NE(text.find("tests/optim.cpp:"), std::string::npos) << text;
  };
  expect(error(std::vector<optim::Rule>{{"^head", optim::Sgd{}}}, scalar("conv.weight", 0, 0)),
         {"no rule matches", "conv.weight"});
  expect(error(std::vector<optim::Rule>{{"(", optim::Sgd{}}}, scalar("w", 0, 0)), {"'('", "regular expression"});
  expect(error_of([] {
           State state;
           Graph graph(state);
           const Tensor x = input(graph, "x", {DType::f32, {2}}), lr = full(graph, {DType::f32, {}}, 0.1);
           sgd(std::vector{x}, std::vector{x}, std::vector{x}, lr, {0, 0, false});
         }),
         {"lists of tensors differ in length"});
  expect(error(optim::Muon{}, scalar("conv.bias", 0, 0)), {"muon", "conv.bias"});
  expect(error(optim::Sgd{.lr = std::vector<optim::Schedule::Point>{{0.5, 1}, {0.5, 2}}}, scalar("w", 0, 0)),
         {"schedule"});
  expect(error(optim::Sgd{.lr = NAN}, scalar("w", 0, 0)), {"schedule", "not finite"});
  expect(error(optim::Sgd{.lr = std::vector<optim::Schedule::Point>{}}, scalar("w", 0, 0)), {"schedule", "0 points"});
}

/// Rates of the first `count` updates: with gradient -1, SGD adds the rate.
Doubles rates(const optim::Schedule& schedule, int64_t updates, int count) {
  Trainer trainer(optim::Sgd{.lr = schedule}, {scalar("w", 0, -1)}, updates);
  Doubles result;
  double last = 0;
  for (int i = 0; i < count; ++i) {
    trainer.program.run();
    result.push_back(trainer["w"][0] - last);
    last = trainer["w"][0];
  }
  return result;
}

TEST(Optim, Schedules) {
  expect_near(rates(0.25, 10, 3), {0.25, 0.25, 0.25}, 1e-15, "constant");
  expect_near(rates(optim::triangle(1, 0.4), 10, 12), {0, .25, .5, .75, 1, 5 / 6., 4 / 6., .5, 2 / 6., 1 / 6., 0, 0},
              1e-14, "triangle");
  expect_near(rates(optim::triangle(1, 0, 0.5), 4, 5), {1, .875, .75, .625, .5}, 1e-14, "triangle without warm-up");
  expect_near(rates(optim::linear(1, 0, 0.5), 8, 6), {1, .75, .5, .25, 0, 0}, 1e-14, "linear");
  Doubles half;
  for (int t = 0; t < 9; ++t)
    half.push_back(t < 2 ? t : 0.1 + 1.9 * 0.5 * (1 + std::cos(std::numbers::pi * (t - 2) / 6.0)));
  half[8] = 0.1;
  expect_near(rates(optim::cosine(2, 0.25, 0.1), 8, 9),
              {0, 1, half[2], half[3], half[4], half[5], half[6], half[7], 0.1}, 1e-14, "cosine");
  expect_near(rates(optim::linear(1, 0).scaled(3), 4, 2), {3, 2.25}, 1e-14, "scaled");
}

TEST(Optim, ClippingScalesAllGradientsAlike) {
  optim::Optimizer optimizer(optim::Sgd{.lr = 1});
  optimizer.clip_norm = 1;
  Trainer trainer(optimizer, {scalar("a", 0, 3), {"b", {0, 0}, {2}, {4, 0}}});
  ASSERT_TRUE(trainer.has_norm);
  trainer.program.run();
  EXPECT_EQ(trainer.program.scalar(0), 5);
  const double scale = 1 / (5 + 1e-6);
  EXPECT_NEAR(trainer["a"][0], -3 * scale, 1e-15);
  EXPECT_NEAR(trainer["b"][0], -4 * scale, 1e-15);
  trainer.program.set<double>("g.a", Doubles{0.25});  // now the norm is below the limit
  trainer.program.set<double>("g.b", Doubles{0, 0.5});
  const double a = trainer["a"][0], b = trainer["b"][1];
  trainer.program.run();
  EXPECT_EQ(trainer["a"][0], a - 0.25);
  EXPECT_EQ(trainer["b"][1], b - 0.5);
  trainer.program.set<double>("g.a", Doubles{NAN});
  trainer.program.run();
  EXPECT_TRUE(std::isnan(trainer["a"][0]) && std::isnan(trainer["b"][0]));
}

TEST(Optim, ClippingReachesAdamWAndMuon) {
  optim::Optimizer adamw(optim::AdamW{.lr = 0.1, .weight_decay = 0});
  adamw.clip_norm = 1;
  Trainer a(adamw, {scalar("w", 0, 10)});
  a.program.run();
  EXPECT_NEAR(a.state.get<double>("momentum", "w")[0], 0.1 * 10 / (10 + 1e-6), 1e-15);
  optim::Optimizer muon(optim::Muon{.lr = 0.1, .momentum = 0.5});
  muon.clip_norm = 1;
  Trainer m(muon, {{"w", {0, 0}, {1, 2}, {6, 8}}});
  m.program.run();
  EXPECT_NEAR(m.state.get<double>("momentum", "w")[1], 8 / (10 + 1e-6), 1e-15);
}

TEST(Optim, AverageFollowsTheNewWeights) {
  optim::Optimizer optimizer(std::vector<optim::Rule>{{"^a$", optim::Sgd{.lr = 1}}, {"", optim::Frozen{}}});
  optimizer.ema_decay = 0.9;
  State state;
  state.set_parameter_type(DType::f64);
  Graph graph(state, true);
  const Tensor a = parameter(graph, "a", {1}, init::constant(2));
  parameter(graph, "b", {1}, init::constant(5));
  const Tensor one = full(graph, a.type(), 1);
  optim::apply(graph, optimizer, {"a", "b"}, {one, one}, 10);
  Program program = compile(graph, std::vector<Tensor>{});
  double p = 2, average = 2;
  for (int step = 0; step < 5; ++step) {
    program.run();
    p -= 1;
    average = 0.9 * average + (1 - 0.9) * p;
    EXPECT_NEAR(state.get<double>("ema", "a")[0], average, 1e-14) << step;
    EXPECT_EQ(state.get<double>("parameters", "a")[0], p);
    EXPECT_NEAR(state.get<double>("ema", "b")[0], 5, 1e-14);
    EXPECT_EQ(state.get<double>("parameters", "b")[0], 5);
  }
}

// No copy after the step: new parameters and moments are written over the old ones where they lie.
TEST(Optim, StateIsUpdatedInPlace) {
  for (const optim::Optimizer& optimizer :
       {optim::Optimizer(optim::Sgd{.lr = 0.1, .momentum = 0.9}), optim::Optimizer(optim::AdamW{})}) {
    Trainer trainer(optimizer, {{"a", waves(100, 1), {100}, waves(100, 2)}, {"b", waves(64, 1), {8, 8}, waves(64, 3)}});
    trainer.program.run();
    const Plan& plan = trainer.program.plan();
    EXPECT_TRUE(plan.commits.empty()) << plan.text();
    EXPECT_LT(plan.arena_bytes, 512u) << plan.text();
  }
}

// The fast kernels and the reference give the same bits in f32.
TEST(Optim, VariantsAgreeToTheBit) {
  for (const optim::Optimizer& optimizer :
       {optim::Optimizer(optim::Sgd{.lr = 0.1, .momentum = 0.9, .nesterov = true, .weight_decay = 1e-3}),
        optim::Optimizer(optim::AdamW{})}) {
    std::vector<std::vector<float>> results;
    for (const char* variants : {"", "reference"}) {
      State state;
      Graph graph(state, true);
      const Tensor w = parameter(graph, "w", {37, 5}, init::uniform(1));
      optim::apply(graph, optimizer, {"w"}, {sin(w * 3.0)}, 10);
      Program program = compile(graph, std::vector<Tensor>{},
                                {.variants = fmt::format("sgd={0},adamw={0}", *variants ? variants : "cpu")});
      for (int step = 0; step < 5; ++step) step % 2 ? program.run() : program.run_checked();
      results.push_back(state.get<float>("parameters", "w"));
    }
    EXPECT_EQ(results[0], results[1]);
  }
}

// ---- loss scaling ----

TEST(Optim, AnOverflowSkipsTheUpdateAndShrinksTheScale) {
  for (bool captured : {false, true})
    for (const optim::Method& method : {optim::Method(optim::Sgd{.lr = optim::linear(1, 0), .momentum = 0.5}),
                                        optim::Method(optim::AdamW{.lr = 0.1}), optim::Method(optim::Sgd{.lr = 0.5})}) {
      optim::Optimizer plain(method), scaled(method);
      plain.ema_decay = scaled.ema_decay = 0.5;
      scaled.loss_scale = optim::LossScale{8, {.growth = 2, .backoff = 0.5, .interval = 3, .least = 2, .most = 16}};
      const std::vector<Weight> weights = {{"a", waves(70, 1.3), {70}, waves(70, 1)}, scalar("b", 1, 0)};
      Trainer without(plain, weights, 20), with(scaled, weights, 20);
      if (captured) with.program.capture();
      double factor = 8, clean = 0, skipped = 0;
      for (int step = 0; step < 14; ++step) {
        const bool overflow = step == 2 || step == 3 || (step >= 5 && step < 8);
        const Doubles g = waves(70, 2.1 + step);
        Doubles times_factor = g;
        for (double& value : times_factor) value *= factor;
        if (overflow) times_factor[static_cast<size_t>(step)] = step % 2 ? INFINITY : NAN;
        with.program.set<double>("g.a", times_factor);
        with.program.set<double>("g.b", Doubles{0.25 * factor});
        with.program.run();
        if (overflow) {
          factor = std::max(factor / 2, 2.0), clean = 0, ++skipped;
        } else {
          without.program.set<double>("g.a", g);
          without.program.set<double>("g.b", Doubles{0.25});
          without.program.run();
          if (++clean == 3) factor = std::min(factor * 2, 16.0), clean = 0;
        }
        // powers of two move exponents only: all that was not skipped is bit for bit what it is without a scale
        for (const char* slab : {"parameters", "momentum", "second_moment", "ema"})
          for (const char* name : {"a", "b"}) {
            if (without.state.find(slab, name) < 0) continue;
            ASSERT_EQ(with.state.get<double>(slab, name), without.state.get<double>(slab, name))
                << slab << " step " << step;
          }
        ASSERT_EQ(with.state.get<int64_t>("session", "updates"), without.state.get<int64_t>("session", "updates"));
        ASSERT_EQ(with.state.get<double>("session", "loss_scale")[0], factor) << step;
        ASSERT_EQ(with.state.get<int64_t>("session", "clean_updates")[0], clean) << step;
        ASSERT_EQ(with.state.get<int64_t>("session", "skipped_updates")[0], skipped) << step;
      }
    }
}

TEST(Optim, ClippingSeesUnscaledGradients) {
  optim::Optimizer optimizer(optim::Sgd{.lr = 1});
  optimizer.clip_norm = 1;
  optimizer.loss_scale = optim::LossScale{4, {.interval = 0}};
  Trainer trainer(optimizer, {scalar("a", 0, 12), {"b", {0, 0}, {2}, {16, 0}}});
  trainer.program.run();
  EXPECT_EQ(trainer.program.scalar(0), 5);
  EXPECT_NEAR(trainer["a"][0], -3 / (5 + 1e-6), 1e-15);
  EXPECT_NEAR(trainer["b"][0], -4 / (5 + 1e-6), 1e-15);
  for (int step = 0; step < 5; ++step) trainer.program.run();
  EXPECT_EQ(trainer.state.get<double>("session", "loss_scale")[0], 4) << "interval 0: it never grows";
}

TEST(Optim, MuonSkipsToo) {
  State state(device());
  Graph graph(state, true);
  parameter(graph, "w", {3, 5}, init::uniform(1));
  const Tensor g = input(graph, "g", {DType::f32, {3, 5}});
  optim::Optimizer optimizer(optim::Muon{.lr = 0.1, .iterations = 2});
  optimizer.loss_scale = optim::LossScale{4, {}};
  optim::apply(graph, optimizer, {"w"}, {g}, 10);
  Program program = compile(graph, std::vector<Tensor>{});
  std::vector<float> gradient(15, 0.5f);
  program.set<float>("g", gradient);
  program.run();
  const auto w = state.get<float>("parameters", "w"), m = state.get<float>("momentum", "w");
  EXPECT_EQ(m[0], 0.125f);
  gradient[7] = NAN;
  program.set<float>("g", gradient);
  program.run();
  EXPECT_EQ(state.get<float>("parameters", "w"), w);
  EXPECT_EQ(state.get<float>("momentum", "w"), m);
  gradient[7] = 0.5f;
  program.set<float>("g", gradient);
  program.run();
  EXPECT_NE(state.get<float>("parameters", "w"), w);
  EXPECT_EQ(state.get<int64_t>("session", "updates")[0], 2);
}

// The whole of it in a session: y = w x fitted to labels has a closed form for every step.
void follow_the_closed_form(std::optional<optim::LossScale> scale) {
  Session session(Device::cpu(), {.seed = 3, .parameters = DType::f64});
  const auto function = [](const BatchTensors& batch) -> Objective {
    const Tensor w = parameter(*batch.images.graph, "w", {1}, init::constant(0.5));
    const Tensor x = reshape(cast(batch.images, DType::f64), {batch.images.shape()[0]}) * 0.01;
    return mean(square(w * x - cast(batch.labels, DType::f64)));
  };
  optim::Optimizer optimizer(optim::Sgd{.lr = optim::linear(0.2, 0), .momentum = 0.5});
  optimizer.loss_scale = scale;
  TrainStep step = session.train_step({2, {1, 1, 1}}, function, optimizer, 4);
  const std::vector<uint8_t> images = {100, 200};
  const std::vector<int32_t> labels = {1, -1};
  const std::vector<int64_t> indices = {0, 1};
  double w = 0.5, m = 0;
  for (int t = 0; t < 4; ++t) {
    step.run(images, labels, indices, 0);
    EXPECT_NEAR(step.loss(), ((w - 1) * (w - 1) + (2 * w + 1) * (2 * w + 1)) / 2, 1e-13) << t;
    const double g = (w - 1) + 2 * (2 * w + 1);
    m = 0.5 * m + g;
    w -= 0.2 * (1 - t / 4.0) * m;
    EXPECT_NEAR(session.state().get<double>("parameters", "w")[0], w, 1e-13) << t;
    EXPECT_EQ(session.updates(), t + 1);
  }
}

TEST(Optim, SessionStepsFollowTheClosedForm) {
  follow_the_closed_form({});
  follow_the_closed_form(optim::LossScale{});
}

}  // namespace
}  // namespace ranvier
