// Memory of whole training steps: the arena against what lives at once, and the bill of the default network.
#include <gtest/gtest.h>

#include <ostream>
#include <string>

#include "models/vision.h"

namespace ranvier {
namespace {

/// The plan of a training step, with the workspaces of prepared variants.
Plan plan_of(const std::string& model, int64_t batch, const std::string& variants = "") {
  Session session(Device::cpu(), {.variants = variants});
  const models::Recipe recipe = models::recipe(model, 10, batch);
  const std::array<float, 3> mean = {0.49f, 0.48f, 0.45f}, deviation = {0.25f, 0.24f, 0.26f};
  TrainStep step =
      session.train_step({batch, {32, 32, 3}}, models::train_function(recipe, mean, deviation), recipe.optimizer, 100);
  return step.program().plan();
}

size_t bill_of(const Plan& plan) {
  return plan.arena_bytes + plan.state_bytes + plan.input_bytes + plan.output_bytes + plan.constant_bytes;
}

struct Case {
  const char* model;
  int64_t batch;
};
void PrintTo(const Case& c, std::ostream* out) { *out << c.model << " " << c.batch; }
class Arena : public ::testing::TestWithParam<Case> {};

TEST_P(Arena, IsHardlyLargerThanWhatLives) {
  const Plan plan = plan_of(GetParam().model, GetParam().batch);
  EXPECT_GE(plan.arena_bytes, plan.peak_live_bytes);
  EXPECT_LE(static_cast<double>(plan.arena_bytes), 1.10 * static_cast<double>(plan.peak_live_bytes)) << plan.bill();
}
INSTANTIATE_TEST_SUITE_P(
    Networks, Arena, ::testing::Values(Case{"tiny", 64}, Case{"tiny", 512}, Case{"speednet", 64}, Case{"resnet18", 32}),
    [](const auto& info) { return std::string(info.param.model) + std::to_string(info.param.batch); });

TEST(Memory, TinyAt512StaysBelow200Megabytes) {
  const Plan plan = plan_of("tiny", 512);
  EXPECT_LE(bill_of(plan), 200'000'000u) << plan.bill();
  EXPECT_GT(bill_of(plan), 50'000'000u) << "activations of 512 images cannot be smaller";
}

TEST(Memory, NoVariantHidesMemory) {
  for (const char* variants : {"", "native", "winograd", "reference"}) {
    const Plan plan = plan_of("tiny", 64, variants);
    EXPECT_LE(bill_of(plan), 50'000'000u) << variants << ": " << plan.bill();
  }
}

// Parameters, momentum and running statistics, each once: nothing doubles the state.
TEST(Memory, StateIsParametersMomentsAndStatistics) {
  const Plan plan = plan_of("tiny", 8);
  const size_t wanted = (2 * 113'962 + 2 * (32 + 64 + 128)) * sizeof(float);
  EXPECT_GE(plan.state_bytes, wanted);
  EXPECT_LE(plan.state_bytes, wanted + 4096) << plan.bill();
  EXPECT_TRUE(plan.commits.size() <= 1) << "the weights are updated where they lie";
}

}  // namespace
}  // namespace ranvier
