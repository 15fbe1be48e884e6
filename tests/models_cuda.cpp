// Whole training steps of the models on a CUDA device or in the emulator, at reduced width: in f32 against the CPU, and
// in mixed precision against f32.
#include <gtest/gtest.h>

#include <cmath>
#include <optional>

#include "data/generated.h"
#include "engine/program.h"
#include "models/vision.h"
#include "tests/case.h"

namespace ranvier {
namespace {

using test::in_every_emulated_mode;

class ModelsCuda : public testing::Test {
 protected:
  void SetUp() override {
    if (!cuda_support().usable) GTEST_SKIP() << "skipped: " << cuda_support().why;
  }
};

const data::Dataset& pictures() {
  static const data::Splits splits = data::generated({.seed = 4, .train_per_class = 2, .test_per_class = 1});
  return splits.train;
}

/// A model of few channels, with everything its recipe does.
models::Recipe small(const std::string& name, int64_t batch) {
  models::Recipe recipe = models::recipe(name, 10, batch);
  if (name == "tiny") recipe.net = models::Tiny{10, {8, 8, 16}};
  if (name == "speednet") recipe.net = models::Speednet{10, {8, 16, 16}};
  if (name == "resnet18") recipe.net = models::Resnet18{10, 8};
  return recipe;
}

struct Trained {
  std::vector<double> losses;
  std::vector<std::vector<float>> parameters, buffers;
  std::vector<float> logits;
  bool operator==(const Trained&) const = default;
};

/// Updates, then the logits of a batch in evaluation.
Trained train(const std::string& name, Device device, std::optional<DType> compute, int64_t batch = 4,
              int64_t updates = 2) {
  const models::Recipe recipe = small(name, batch);
  const data::Dataset& set = pictures();
  Session session(device, {.seed = 3, .compute = compute});
  const BatchType type{batch, {32, 32, 3}};
  TrainStep step = session.train_step(type, models::train_function(recipe, set.mean, set.std), recipe.optimizer, 4);
  if (recipe.whiten)
    models::set_whitening(session.state(), models::whitening(set.images, set.height, set.width, set.mean, set.std));
  Trained result;
  const auto images = std::span(set.images).first(static_cast<size_t>(batch * set.image_bytes()));
  std::vector<int64_t> indices;
  for (int64_t i = 0; i < batch; ++i) indices.push_back(i);
  for (int64_t t = 0; t < updates; ++t) {
    step.run(images, std::span(set.labels).first(static_cast<size_t>(batch)), indices, t);
    result.losses.push_back(step.loss());
  }
  Program eval = session.eval_program(type, models::eval_function(recipe, set.mean, set.std));
  result.logits = session.logits(eval, images);
  for (const Entry& entry : std::vector<Entry>(session.state().entries())) {
    if (entry.slab == "parameters") result.parameters.push_back(session.state().get<float>(entry.slab, entry.name));
    if (entry.slab == "buffers") result.buffers.push_back(session.state().get<float>(entry.slab, entry.name));
  }
  return result;
}

/// Norm of the difference over the norm of what is wanted, over all tensors of a list.
double relative(const std::vector<std::vector<float>>& got, const std::vector<std::vector<float>>& want) {
  double difference = 0, norm = 0;
  EXPECT_EQ(got.size(), want.size());
  for (size_t k = 0; k < want.size(); ++k)
    for (size_t i = 0; i < want[k].size(); ++i) {
      difference += std::pow(static_cast<double>(got[k][i]) - want[k][i], 2);
      norm += std::pow(static_cast<double>(want[k][i]), 2);
    }
  return std::sqrt(difference / norm);
}

void expect_near(const Trained& got, const Trained& want, double tolerance, const std::string& what) {
  for (size_t t = 0; t < want.losses.size(); ++t) {
    const double error = std::abs(got.losses[t] - want.losses[t]) / std::abs(want.losses[t]);
    EXPECT_TRUE(error <= tolerance) << what << " loss " << t << " " << got.losses[t] << " against " << want.losses[t];
  }
  EXPECT_TRUE(relative(got.parameters, want.parameters) <= tolerance)
      << what << " parameters " << relative(got.parameters, want.parameters);
  EXPECT_TRUE(relative(got.buffers, want.buffers) <= tolerance)
      << what << " buffers " << relative(got.buffers, want.buffers);
  EXPECT_TRUE(relative({got.logits}, {want.logits}) <= 4 * tolerance)
      << what << " logits " << relative({got.logits}, {want.logits});
}

TEST_F(ModelsCuda, TrainingStepsFollowTheCpu) {
  for (const std::string name : {"tiny", "speednet", "resnet18"}) {
    const int64_t batch = name == "tiny" ? 4 : 2;  // the larger models take their time in the race checker
    const Trained cpu = train(name, Device::cpu(), {}, batch);
    expect_near(train(name, Device::cuda(), {}, batch), cpu, 1e-4, name + " f32");
    expect_near(train(name, Device::cuda(), DType::bf16, batch), cpu, 5e-2, name + " bf16");
    expect_near(train(name, Device::cuda(), DType::f16, batch), cpu, 1e-2, name + " f16");
  }
}

TEST_F(ModelsCuda, OrderOfThreadsChangesNoBit) {
  for (const std::string name : {"tiny", "speednet", "resnet18"}) {
    const int64_t updates = name == "tiny" ? 2 : 1;  // the larger models take their time in the race checker
    std::optional<Trained> first;
    in_every_emulated_mode([&] {
      const Trained trained = train(name, Device::cuda(), DType::bf16, 2, updates);
      if (!first) first = trained;
      EXPECT_TRUE(trained == *first) << name;
    });
  }
}

TEST(SessionTypes, TheCpuRefusesSixteenBits) {
  EXPECT_ERROR(Session(Device::cpu(), {.compute = DType::bf16}), "the CPU computes in f32 or f64");
}

}  // namespace
}  // namespace ranvier
