// The first steps of `tiny` and `speednet` against golden runs of independent f64 scripts (tests/golden/*.py).
#include <gtest/gtest.h>

#include <fstream>
#include <nlohmann/json.hpp>

#include "engine/ops.h"
#include "models/vision.h"
#include "tests/golden/pictures.h"

namespace ranvier {
namespace {

constexpr std::array<float, 3> mean = {0.4914f, 0.4822f, 0.4465f}, deviation = {0.2470f, 0.2435f, 0.2616f};

nlohmann::json golden_file(const std::string& name) {
  std::ifstream file(std::string(RANVIER_SOURCE_DIR) + "/tests/golden/" + name);
  EXPECT_TRUE(file.good()) << name;
  return nlohmann::json::parse(file);
}

std::vector<double> values_of(State& state, const std::string& slab, const std::string& name) {
  if (state.parameter_type() == DType::f64) return state.get<double>(slab, name);
  const auto v = state.get<float>(slab, name);
  return {v.begin(), v.end()};
}

/// Shape, norm, sum and ends of a tensor as the golden file has them.
void expect_summary(State& state, const std::string& slab, const std::string& name, const nlohmann::json& golden,
                    double tolerance) {
  const std::vector<double> v = values_of(state, slab, name);
  double sum = 0, squares = 0;
  for (double x : v) sum += x, squares += x * x;
  EXPECT_NEAR(std::sqrt(squares), golden["norm"].get<double>(), tolerance * golden["norm"].get<double>() + 1e-12)
      << name;
  EXPECT_NEAR(sum, golden["sum"].get<double>(),
              tolerance * (1 + golden["norm"].get<double>() * std::sqrt(static_cast<double>(v.size()))))
      << name;
  for (size_t i = 0; i < golden["first"].size(); ++i)
    EXPECT_NEAR(v[i], golden["first"][i].get<double>(), tolerance * (1 + std::abs(v[i]))) << name << " element " << i;
}

/// Trains `recipe` on the golden pictures; the loss of every step per image.
struct GoldenRun {
  Session session;
  std::vector<double> losses;

  GoldenRun(const models::Recipe& recipe, DType type, int64_t steps, const std::string& variants = "")
      : session(Device::cpu(), {golden::seed, variants, type}) {
    const std::vector<uint8_t> pictures = golden::all_pictures();
    const std::vector<int32_t> labels = golden::all_labels();
    TrainStep step = session.train_step({recipe.batch, {32, 32, 3}}, models::train_function(recipe, mean, deviation),
                                        recipe.optimizer, steps);
    session.state().materialise();
    if (recipe.whiten) models::set_whitening(session.state(), models::whitening(pictures, 32, 32, mean, deviation));
    for (int64_t t = 0; t < steps; ++t) {
      std::vector<int64_t> indices(static_cast<size_t>(recipe.batch), 0);
      step.run(std::span(pictures).subspan(static_cast<size_t>(t * recipe.batch * 3072),
                                           static_cast<size_t>(recipe.batch * 3072)),
               std::span(labels).subspan(static_cast<size_t>(t * recipe.batch), static_cast<size_t>(recipe.batch)),
               indices, 0);
      losses.push_back(step.loss() / (recipe.summed_loss ? static_cast<double>(recipe.batch) : 1.0));
    }
  }
};

/// Evaluation logits of the first pictures, (rows of the golden list).
void expect_logits(GoldenRun& run, const models::Recipe& recipe, bool augmented, const nlohmann::json& golden,
                   double tolerance) {
  const auto rows = static_cast<int64_t>(golden.size());
  Program program = run.session.compile([&](Graph& graph) {
    const Tensor images = input(graph, "images", {DType::u8, {rows, 32, 32, 3}});
    return std::vector{models::eval_function(recipe, mean, deviation, augmented)(images)};
  });
  const std::vector<uint8_t> pictures = golden::all_pictures();
  program.set<uint8_t>("images", std::span(pictures).first(static_cast<size_t>(rows * 3072)));
  program.run();
  const bool wide = program.output_type(0).dtype == DType::f64;
  const auto narrow = wide ? std::vector<float>{} : program.get<float>(0);
  const std::vector<double> logits = wide ? program.get<double>(0) : std::vector<double>(narrow.begin(), narrow.end());
  ASSERT_EQ(logits.size(), static_cast<size_t>(rows) * golden[0].size());
  for (size_t i = 0; i < logits.size(); ++i) {
    const double wanted = golden[i / golden[0].size()][i % golden[0].size()].get<double>();
    EXPECT_TRUE(std::abs(logits[i] - wanted) <= tolerance * (1 + std::abs(wanted)))
        << "logit " << i << ": " << logits[i] << " against " << wanted;
  }
}

models::Recipe tiny_recipe() {
  models::Recipe recipe = models::recipe("tiny", 10, 16);
  recipe.flip = false;
  recipe.optimizer = optim::Sgd{.lr = 0.0125, .momentum = 0.9, .nesterov = true, .weight_decay = 5e-4};
  return recipe;
}

models::Recipe speednet_recipe() {
  models::Recipe recipe = models::recipe("speednet", 10, 32);
  recipe.alternating_flip = false;
  recipe.translate = 0;
  const auto sgd = [](double rate, double until) {
    return optim::Sgd{
        .lr = optim::linear(rate, 0, until), .momentum = 0.85, .nesterov = true, .weight_decay = 2e-6 * 32 / rate};
  };
  recipe.optimizer = std::vector<optim::Rule>{
      {"^whiten\\.bias$", sgd(0.053, 8.0 / 20)},
      {"norm\\d\\.bias$", sgd(0.053, 1)},
      {"^head\\.weight$", sgd(0.67, 1)},
      {"conv\\d\\.weight$",
       optim::Muon{.lr = optim::linear(0.03), .momentum = 0.6, .iterations = 3, .renormalize = true}}};
  return recipe;
}

void expect_losses(const std::vector<double>& losses, const nlohmann::json& golden, size_t from, size_t to,
                   double tolerance) {
  for (size_t t = from; t < to; ++t) {
    const double wanted = golden["loss"][t].get<double>();
    EXPECT_TRUE(std::abs(losses[t] - wanted) <= tolerance * wanted)
        << "step " << t << ": " << losses[t] << " against " << wanted << ", relative "
        << std::abs(losses[t] - wanted) / wanted;
  }
}

TEST(Golden, PicturesFollowTheFormula) {
  const auto golden = golden_file("speednet.json");
  const auto pixels = golden::all_pictures();
  uint64_t hash = 0xcbf29ce484222325ull;
  for (uint8_t p : pixels) hash = (hash ^ p) * 0x100000001b3ull;
  EXPECT_EQ(fmt::format("{:016x}", hash), golden["pictures_fnv1a64"].get<std::string>());
  EXPECT_EQ(nlohmann::json(golden::all_labels()), golden["labels"]);
}

TEST(Golden, TinyInF64) {
  const auto golden = golden_file("tiny.json");
  GoldenRun run(tiny_recipe(), DType::f64, 10, "reference");
  EXPECT_EQ(run.session.parameter_count(), golden["trainable_parameters"].get<int64_t>());
  expect_losses(run.losses, golden, 0, 10, 1e-9);
  for (const auto& [name, summary] : golden["parameters_after_step9"].items())
    expect_summary(run.session.state(), "parameters", name, summary, 1e-8);
  for (const auto& [norm, expected] : golden["running_var"].items()) {
    const auto v = values_of(run.session.state(), "buffers", norm + ".running_var");
    for (size_t i = 0; i < v.size(); ++i) EXPECT_NEAR(v[i], expected[i].get<double>(), 1e-8 * (1 + v[i]));
  }
  expect_logits(run, tiny_recipe(), false, golden["eval_logits"], 1e-8);
}

TEST(Golden, TinyInF32) {
  const auto golden = golden_file("tiny.json");
  GoldenRun run(tiny_recipe(), DType::f32, 10);
  expect_losses(run.losses, golden, 0, 5, 1e-3);
}

TEST(Golden, SpeednetWhitening) {
  const auto golden = golden_file("speednet.json");
  const models::Whitening whitening = models::whitening(golden::all_pictures(), 32, 32, mean, deviation);
  for (size_t k = 0; k < 12; ++k) {
    const double lambda = golden["eigenvalues"][k].get<double>();
    EXPECT_NEAR(whitening.eigenvalues[k], lambda, 1e-9 * golden["eigenvalues"][0].get<double>());
    for (size_t i = 0; i < 12; ++i) {
      const double wanted = golden["filters"][k][i].get<double>();
      EXPECT_NEAR(whitening.filters[k * 12 + i], wanted, 1e-5 * (1 + std::abs(wanted))) << k << " " << i;
      EXPECT_EQ(whitening.filters[(12 + k) * 12 + i], -whitening.filters[k * 12 + i]);
    }
  }
}

TEST(Golden, SpeednetInF64) {
  const auto golden = golden_file("speednet.json");
  GoldenRun run(speednet_recipe(), DType::f64, 20);
  EXPECT_EQ(run.session.parameter_count(), 1'971'352);
  expect_losses(run.losses, golden, 0, 20, 1e-9);
  for (const auto& [name, summary] : golden["parameters_after_step19"].items())
    if (name != "whiten.weight") expect_summary(run.session.state(), "parameters", name, summary, 1e-7);
  expect_logits(run, speednet_recipe(), false, golden["eval_logits"], 1e-7);
  expect_logits(run, speednet_recipe(), true, golden["eval_logits_six_views"], 1e-7);
}

TEST(Golden, SpeednetInF32) {
  const auto golden = golden_file("speednet.json");
  GoldenRun run(speednet_recipe(), DType::f32, 20);
  expect_losses(run.losses, golden, 0, 5, 1e-4);
  expect_losses(run.losses, golden, 19, 20, 1e-2);
}

}  // namespace
}  // namespace ranvier
