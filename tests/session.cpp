// Whole training runs: the same bits for the same seed, accumulation, resumed runs, evaluation apart from neighbours.
#include "engine/session.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>

#include "data/generated.h"
#include "engine/checkpoint.h"
#include "engine/ops.h"
#include "models/vision.h"
#include "tests/support/files.h"

namespace ranvier {
namespace {

using testing::error_of;

constexpr int64_t batch = 32;

const data::Dataset& pictures() {
  static const data::Splits splits = data::generated({.seed = 4, .train_per_class = 24, .test_per_class = 4});
  return splits.train;
}

/// A small tiny with flips and dropout.
models::Recipe small_recipe() {
  models::Recipe recipe = models::recipe("tiny", 10, batch);
  recipe.net = [](Tensor x) { return models::Tiny{10, {8, 8, 16}}(dropout(x, 0.1)); };
  recipe.translate = 1;
  return recipe;
}

void run_batch(TrainStep& step, int64_t t, int64_t size = batch) {
  const data::Dataset& set = pictures();
  const int64_t first = t * size % (set.size() - size + 1), bytes = set.image_bytes();
  std::vector<int64_t> indices;
  for (int64_t i = first; i < first + size; ++i) indices.push_back(i);
  step.run(std::span(set.images).subspan(static_cast<size_t>(first * bytes), static_cast<size_t>(size * bytes)),
           std::span(set.labels).subspan(static_cast<size_t>(first), static_cast<size_t>(size)), indices, t / 7);
}

struct Training {
  Session session;
  TrainStep step;
  std::vector<double> losses;

  explicit Training(uint64_t seed, const std::string& variants = "", const models::Recipe& recipe = small_recipe(),
                    int64_t updates = 50)
      : session(Device::cpu(), {seed, variants}),
        step(session.train_step({recipe.batch, {32, 32, 3}},
                                models::train_function(recipe, pictures().mean, pictures().std), recipe.optimizer,
                                updates)) {}

  Training& go(int64_t from, int64_t to) {
    for (int64_t t = from; t < to; ++t) run_batch(step, t), losses.push_back(step.loss());
    return *this;
  }
};

/// Sets the number of threads for as long as it lives.
struct Threads {
  int before = threads();
  explicit Threads(int count) { set_threads(count); }
  ~Threads() { set_threads(before); }
};

std::vector<std::string> variant_lists() {
  std::vector<std::string> lists = {"", "native"};
#if defined(RANVIER_HAS_ONEDNN)
  lists.push_back("onednn");
#endif
  return lists;
}

TEST(Session, TheSameSeedGivesTheSameBitsWithAnyNumberOfThreads) {
  for (const std::string& variants : variant_lists()) {
    std::vector<std::vector<double>> curves;
    std::vector<std::vector<float>> weights;
    for (int count : {1, 2, 1}) {
      const Threads with(count);
      Training run(7, variants);
      run.go(0, 50);
      curves.push_back(run.losses);
      weights.push_back(run.session.state().get<float>("parameters", "block3.conv.weight"));
    }
    for (size_t i = 1; i < curves.size(); ++i) {
      EXPECT_EQ(curves[i], curves[0]) << "variants '" << variants << "' run " << i;
      EXPECT_EQ(weights[i], weights[0]);
    }
    EXPECT_LT(curves[0].back(), curves[0].front()) << "it learns";
    for (double loss : curves[0]) ASSERT_TRUE(std::isfinite(loss));
  }
}

TEST(Session, AnotherSeedDiffers) {
  const auto a = Training(1).go(0, 3).losses, b = Training(2).go(0, 3).losses;
  for (size_t t = 0; t < 3; ++t) EXPECT_NE(a[t], b[t]);
}

TEST(Session, VariantsFollowTheSameCurve) {
  const auto oracle = Training(7, "reference").go(0, 3).losses;
  for (const std::string& variants : variant_lists()) {
    const auto losses = Training(7, variants).go(0, 3).losses;
    for (size_t t = 0; t < 3; ++t) EXPECT_NEAR(losses[t], oracle[t], 1e-4) << variants << " step " << t;
  }
}

TEST(Session, RandomDrawsMoveOnFromStepToStep) {
  Training run(7);
  run_batch(run.step, 0);
  const auto rng = [](Training& r) { return r.session.state().get<int64_t>("session", "rng"); };
  EXPECT_EQ(rng(run)[0], 7);
  EXPECT_EQ(rng(run)[1], 1);
  run_batch(run.step, 0);
  EXPECT_EQ(rng(run)[1], 2);
}

/// Without batch norm, whose statistics would differ between a batch and its halves.
Tensor plain_net(Tensor x) {
  x = max_pool(relu(models::conv(x, 4, 3, "conv", {.stride = 2, .padding = 1})), 4);
  return models::linear(flatten(x), 10, "head");
}

TEST(Session, AccumulationEqualsALargeBatch) {
  const auto trained = [](int accumulate, int64_t size) {
    Session session(Device::cpu(), {.seed = 5, .parameters = DType::f64});
    const auto function = [](const BatchTensors& b) -> Objective {
      const Tensor logits = plain_net(normalize(b.images, pictures().mean, pictures().std));
      return {cross_entropy(logits, b.labels), logits};
    };
    optim::Optimizer optimizer(optim::Sgd{.lr = optim::linear(0.1), .momentum = 0.9, .weight_decay = 1e-3});
    optimizer.accumulate = accumulate;
    optimizer.clip_norm = 2;
    optimizer.ema_decay = 0.5;
    TrainStep step = session.train_step({size, {32, 32, 3}}, function, optimizer, 4);
    for (int64_t t = 0; t < 4 * accumulate; ++t) run_batch(step, t, size);
    EXPECT_EQ(session.updates(), 4);
    std::vector<double> all = session.state().get<double>("parameters", "conv.weight");
    for (double v : session.state().get<double>("parameters", "head.weight")) all.push_back(v);
    for (double v : session.state().get<double>("ema", "head.weight")) all.push_back(v);
    return all;
  };
  const auto whole = trained(1, 12);
  for (const auto& [accumulate, size] : {std::pair<int, int64_t>{2, 6}, {3, 4}}) {
    const auto parts = trained(accumulate, size);
    ASSERT_EQ(parts.size(), whole.size());
    for (size_t i = 0; i < whole.size(); ++i) ASSERT_NEAR(parts[i], whole[i], 1e-12) << accumulate << " element " << i;
  }
}

TEST(Session, RefusesAnAccumulationOfZero) {
  Session session(Device::cpu());
  optim::Optimizer optimizer(optim::Sgd{});
  optimizer.accumulate = 0;
  const std::string error = error_of([&] {
    session.train_step(
        {2, {4, 4, 3}}, [](const BatchTensors& b) { return mean(cast(b.images, DType::f32)); }, optimizer);
  });
  EXPECT_NE(error.find("accumulate 0"), std::string::npos) << error;
}

TEST(Session, AResumedRunContinuesToTheBit) {
  const testing::TemporaryFolder folder;
  const std::string path = (folder.path / "run.safetensors").string();
  models::Recipe recipe = small_recipe();
  recipe.optimizer.ema_decay = 0.9;
  Training whole(9, "", recipe, 25);
  whole.go(0, 25);
  Training first(9, "", recipe, 25);
  first.go(0, 10);
  checkpoint::save(first.session.state(), path, {{"model", "tiny"}});
  Training second(1234, "", recipe, 25);  // everything comes from the file, the random numbers too
  checkpoint::load(second.session.state(), path, {.model = "tiny"});
  EXPECT_EQ(second.session.updates(), 10);
  second.go(10, 25);
  EXPECT_EQ(second.losses, std::vector<double>(whole.losses.begin() + 10, whole.losses.end()));
  for (const Entry& entry : whole.session.state().entries()) {
    if (entry.type.dtype != DType::f32) continue;
    EXPECT_EQ(second.session.state().get<float>(entry.slab, entry.name),
              whole.session.state().get<float>(entry.slab, entry.name))
        << entry.slab << "/" << entry.name;
  }
}

TEST(Session, LogitsOfAnImageDoNotDependOnItsNeighbours) {
  const data::Dataset& set = pictures();
  const auto bytes = static_cast<size_t>(set.image_bytes());
  for (const std::string& variants : variant_lists()) {
    Training run(3, variants);
    run.go(0, 10);
    const EvalFunction function = models::eval_function(small_recipe(), set.mean, set.std);
    Program program = run.session.eval_program({8, {32, 32, 3}}, function);
    Program single = run.session.eval_program({1, {32, 32, 3}}, function);
    const auto alone = run.session.logits(single, std::span(set.images).first(9 * bytes));
    std::vector<float> by_eight(90);  // one image at a time, padded to eight
    for (size_t i = 0; i < 9; ++i) {
      const auto logits = run.session.logits(program, std::span(set.images).subspan(i * bytes, bytes));
      ASSERT_EQ(logits.size(), 10u);
      std::copy(logits.begin(), logits.end(), by_eight.begin() + static_cast<int64_t>(10 * i));
    }
    // sgemm orders the sums of a product by its number of rows; everything else adds alike in a batch of any size
    for (size_t i = 0; i < 90; ++i) {
      if (variants == "native") {
        EXPECT_EQ(alone[i], by_eight[i]) << i;
      } else {
        EXPECT_NEAR(alone[i], by_eight[i], 1e-6) << variants << " " << i;
      }
    }
    for (size_t count : {size_t{0}, size_t{1}, size_t{7}, size_t{8}, size_t{9}})
      EXPECT_EQ(run.session.logits(program, std::span(set.images).first(count * bytes)),
                std::vector<float>(by_eight.begin(), by_eight.begin() + static_cast<int64_t>(10 * count)))
          << variants << ", " << count << " images";
    std::vector<uint8_t> reversed;
    for (size_t i = 8; i-- > 0;)
      reversed.insert(reversed.end(), set.image(static_cast<int64_t>(i)).begin(),
                      set.image(static_cast<int64_t>(i)).end());
    const auto backwards = run.session.logits(program, reversed);
    for (size_t i = 0; i < 8; ++i)
      for (size_t k = 0; k < 10; ++k) EXPECT_EQ(backwards[(7 - i) * 10 + k], by_eight[i * 10 + k]) << variants;
  }
}

TEST(Session, AccuracyCountsEveryImageOnce) {
  Training run(3);
  run.go(0, 20);
  const data::Dataset& set = pictures();
  const EvalFunction function = models::eval_function(small_recipe(), set.mean, set.std);
  const double whole = run.session.accuracy(function, set, 240);
  EXPECT_GT(whole, 0.12);
  for (int64_t size : {1, 7, 100, 500}) EXPECT_NEAR(run.session.accuracy(function, set, size), whole, 1e-9) << size;
}

TEST(Session, TheAverageIsEvaluatedByBinding) {
  models::Recipe recipe = small_recipe();
  recipe.optimizer.ema_decay = 0.99;
  Training run(3, "", recipe);
  run.go(0, 5);
  State& state = run.session.state();
  const auto image = std::span(pictures().images).first(3072);
  const EvalFunction function = models::eval_function(recipe, pictures().mean, pictures().std);
  Program own = run.session.eval_program({1, {32, 32, 3}}, function);
  Program averaged = run.session.eval_program({1, {32, 32, 3}}, function, {{"parameters", "ema"}});
  const auto before = run.session.logits(own, image), average = run.session.logits(averaged, image);
  EXPECT_NE(before, average);
  for (const Entry& entry : std::vector<Entry>(state.entries())) {
    if (entry.slab != "parameters") continue;
    state.set<float>("parameters", entry.name, state.get<float>("ema", entry.name));
  }
  EXPECT_EQ(run.session.logits(own, image), average) << "the average by another way";
  const std::string error = error_of([&] {
    run.session.eval_program({1, {32, 32, 3}}, function, {{"parameters", "nowhere"}});
  });
  EXPECT_NE(error.find("nowhere"), std::string::npos) << error;
}

/// The same step by run and by run_checked, from equal states.
void check_step(const models::Recipe& recipe) {
  std::vector<double> losses;
  for (bool checked : {false, true}) {
    Training run(3, "", recipe);
    const auto images = std::span(pictures().images).first(static_cast<size_t>(recipe.batch * 3072));
    run.session.state().materialise();
    if (recipe.whiten)
      models::set_whitening(run.session.state(),
                            models::whitening(pictures().images, 32, 32, pictures().mean, pictures().std));
    for (int t = 0; t < 2; ++t) {
      if (checked) {
        Program& program = run.step.program();
        std::vector<int64_t> indices;
        for (int64_t i = 0; i < recipe.batch; ++i) indices.push_back(i);
        program.set<uint8_t>("images", images);
        program.set<int32_t>("labels", std::span(pictures().labels).first(static_cast<size_t>(recipe.batch)));
        program.set<int64_t>("indices", indices);
        program.set<int64_t>("epoch", std::vector<int64_t>{0});
        program.run_checked();
        losses.push_back(program.scalar(0));
      } else {
        run_batch(run.step, 0, recipe.batch);
        losses.push_back(run.step.loss());
      }
    }
  }
  EXPECT_TRUE(std::isfinite(losses[0]));
  EXPECT_EQ(losses[0], losses[2]) << recipe.name;
  EXPECT_EQ(losses[1], losses[3]) << recipe.name;
}

TEST(Session, TinyTrainsUnderTheWatchdog) { check_step(models::recipe("tiny", 10, 6)); }

TEST(Session, SpeednetTrainsUnderTheWatchdog) {
  models::Recipe recipe = models::recipe("speednet", 10, 6);
  recipe.cutout = 8;
  recipe.optimizer.ema_decay = 0.9;
  recipe.optimizer.clip_norm = 1;
  check_step(recipe);
}

// A black picture has no deviation: dividing by it is the op to name.
TEST(Session, TheWatchdogNamesTheOpThatMakesANan) {
  Session session(Device::cpu(), {.seed = 1});
  const auto function = [](const BatchTensors& b) -> Objective {
    Tensor x = cast(b.images, DType::f32);
    {
      const Scope scope(*x.graph, "standardise");
      x = (x - mean(x, {1, 2}, true)) / sqrt(variance(x, {1, 2}, true));
    }
    const Tensor logits = plain_net(x);
    return {cross_entropy(logits, b.labels), logits};
  };
  TrainStep step = session.train_step({2, {32, 32, 3}}, function, optim::Sgd{.lr = 0.1});
  Program& program = step.program();
  std::vector<uint8_t> images(pictures().images.begin(), pictures().images.begin() + 2 * 3072);
  program.set<int32_t>("labels", std::vector<int32_t>{1, 2});
  program.set<int64_t>("indices", std::vector<int64_t>{0, 1});
  program.set<uint8_t>("images", images);
  program.run_checked();
  const auto before = session.state().get<float>("parameters", "conv.weight");
  std::fill(images.begin() + 3072, images.end(), uint8_t{0});
  program.set<uint8_t>("images", images);
  const std::string error = error_of([&] { program.run_checked(); });
  EXPECT_NE(error.find("standardise"), std::string::npos) << error;
  EXPECT_NE(error.find("tests/session.cpp:"), std::string::npos) << error;
  EXPECT_NE(error.find("(2, 32, 32, 3)"), std::string::npos) << error;
  EXPECT_NE(error.find("nan"), std::string::npos) << error;
  EXPECT_EQ(session.state().get<float>("parameters", "conv.weight"), before) << "a failed step changes nothing";
}

TEST(Session, RefusesBatchesOfAnotherSize) {
  Training run(1);
  const std::vector<uint8_t> images(31 * 3072);
  const std::vector<int32_t> labels(31);
  const std::vector<int64_t> indices(31);
  const std::string error = error_of([&] { run.step.run(images, labels, indices, 0); });
  EXPECT_NE(error.find("images"), std::string::npos) << error;
  EXPECT_NE(error.find("95232"), std::string::npos) << error;
}

TEST(Session, RefusesVariantsThatTheDeviceLacks) {
  for (const auto& [variants, saying] : {std::pair{"conv2d=fastest", "no variant 'fastest' on cpu, it has: "},
                                         {"conv2d=cudnn", "no variant 'cudnn' on cpu, it has: "},
                                         {"matmul=reference,conv9=native", "there is no op 'conv9'"},
                                         {"reference,handwritten", "no op has a variant 'handwritten' on cpu"},
                                         {"muon=handwritten", "it has: none, it runs as the ops it is made of"},
                                         {"=native", "there is no op ''"},
                                         {"reference,,native", "no op has a variant ''"}}) {
    const std::string error = error_of([&] { Session session(Device::cpu(), {.variants = variants}); });
    EXPECT_NE(error.find(saying), std::string::npos) << variants << ": " << error;
  }
}

TEST(Session, ShowsEveryPlanThatItCompiles) {
  std::vector<size_t> steps;
  Session session(Device::cpu(), {.planned = [&](const Plan& plan) { steps.push_back(plan.steps.size()); }});
  const auto trace = [](Graph& graph) { return std::vector{sum(input(graph, "x", {DType::f32, {4}}))}; };
  session.compile(trace);
  session.compile(trace);
  EXPECT_EQ(steps, (std::vector<size_t>{1, 1}));
}

}  // namespace
}  // namespace ranvier
