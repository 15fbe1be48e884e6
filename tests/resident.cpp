// A training step that feeds itself from the device: the same bits as one that the host feeds, captured or not, and
// `tiny` at reduced width on CUDA against the CPU.
#include <gtest/gtest.h>

#include <cmath>

#include "data/batches.h"
#include "data/generated.h"
#include "models/vision.h"
#include "tests/case.h"

namespace ranvier::test {
namespace {

constexpr int64_t batch = 8, steps = 3;

const data::Dataset& pictures() {
  static const data::Splits splits = data::generated({.seed = 4, .train_per_class = 4, .test_per_class = 1});
  return splits.train;
}

/// A small tiny with everything that draws: flip, shift and dropout.
models::Recipe small_recipe() {
  models::Recipe recipe = models::recipe("tiny", 10, batch);
  recipe.net = [](Tensor x) { return models::Tiny{10, {8, 8, 16}}(dropout(x, 0.1)); };
  recipe.translate = 1;
  return recipe;
}

struct Training {
  std::vector<double> losses;
  std::vector<float> weights;
};

SessionOptions options_for(DType compute) { return {.seed = 9, .parameters = DType::f32, .compute = compute}; }

std::vector<float> head_of(Session& session) { return session.state().get<float>("parameters", "head.weight"); }

/// Losses one by one, and a weight afterwards, of a step that the host feeds.
Training fed(Device device, DType compute = DType::f32) {
  const models::Recipe recipe = small_recipe();
  Session session(device, options_for(compute));
  TrainStep step = session.train_step(
      {batch, {32, 32, 3}}, models::train_function(recipe, pictures().mean, pictures().std), recipe.optimizer, steps);
  Training run;
  for (const data::Batch& one : data::training_batches(pictures(), batch, 0, 9)) {
    if (run.losses.size() == steps) break;
    step(one, 0);
    run.losses.push_back(step.loss());
  }
  run.weights = head_of(session);
  return run;
}

/// The same of a step that feeds itself.
Training resident(Device device, bool one_by_one, DType compute = DType::f32) {
  const models::Recipe recipe = small_recipe();
  Session session(device, options_for(compute));
  TrainStep step = session.resident_step(
      pictures(), batch, models::train_function(recipe, pictures().mean, pictures().std), recipe.optimizer, steps);
  const auto batches = data::Batches::training(pictures().size(), batch, 0, 9);
  step.begin_epoch(batches.order(), 0);
  Training run;
  double total = 0;
  for (int64_t s = 0; s < steps; ++s) {
    step.next();
    if (!one_by_one) continue;
    step.collect();
    run.losses.push_back(step.loss());
    total += step.loss();
  }
  step.collect();
  run.losses.push_back(step.mean_loss());
  run.weights = head_of(session);
  return run;
}

std::vector<Device> devices_here() {
  std::vector<Device> devices;
  if (!checks_cuda_only()) devices.push_back(Device::cpu());
  if (cuda_support().usable) devices.push_back(Device::cuda());
  return devices;
}

TEST(Resident, EqualsAStepThatTheHostFeedsBitForBit) {
  for (const Device device : devices_here()) {
    const Training expected = fed(device), one_by_one = resident(device, true), at_once = resident(device, false);
    double sum = 0;
    for (int64_t s = 0; s < steps; ++s) {
      EXPECT_EQ(static_cast<float>(expected.losses[s]), static_cast<float>(one_by_one.losses[s]))
          << device.description();
      sum += one_by_one.losses[s];
    }
    EXPECT_EQ(one_by_one.weights, expected.weights) << device.description();
    EXPECT_EQ(at_once.weights, expected.weights) << device.description();
    EXPECT_DOUBLE_EQ(at_once.losses[0], sum / steps) << device.description();
  }
}

TEST(Resident, CudaTrainsAsTheCpuDoes) {
  if (!cuda_support().usable) GTEST_SKIP() << "skipped: no CUDA device (" << cuda_support().why << ")";
  const Training cpu = fed(Device::cpu());
  for (const auto& [compute, tolerance] : {std::pair{DType::f32, 2e-5}, {DType::bf16, 4e-2}, {DType::f16, 4e-2}}) {
    const Training cuda = fed(Device::cuda(), compute);
    for (int64_t s = 0; s < steps; ++s)
      EXPECT_TRUE(std::abs(cuda.losses[s] - cpu.losses[s]) <= tolerance * cpu.losses[s])
          << name_of(compute) << " step " << s << ": " << cuda.losses[s] << " against " << cpu.losses[s];
  }
}

TEST(Resident, SeesEveryBatchOfTheOrderFromTheFirstAskedFor) {
  for (const Device device : devices_here()) {
    Session session(device, options_for(DType::f32));
    // a "loss" that is the sum of the labels of the batch, and no parameters: the step only reports
    TrainStep step = session.resident_step(
        pictures(), batch, [](const BatchTensors& b) -> Objective { return sum(cast(b.labels, DType::f32)); },
        optim::Sgd{}, 1);
    const auto batches = data::Batches::training(pictures().size(), batch, 5, 1);
    step.begin_epoch(batches.order(), 5, 2);
    for (int64_t b = 2; b < batches.size(); ++b) {
      step.next();
      step.collect();
      double labels = 0;
      for (int64_t index : batches[b]) labels += pictures().labels[static_cast<size_t>(index)];
      EXPECT_EQ(step.loss(), labels) << "batch " << b;
    }
  }
}

TEST(Resident, RefusesWhatIsNotForIt) {
  if (checks_cuda_only()) return;
  Session session(Device::cpu(), options_for(DType::f32));
  const auto loss = [](const BatchTensors& b) -> Objective { return sum(cast(b.labels, DType::f32)); };
  EXPECT_ERROR(session.resident_step(pictures(), 1000, loss, optim::Sgd{}, 1), "batch 1000 of 40 images");
  TrainStep step = session.resident_step(pictures(), batch, loss, optim::Sgd{}, 1);
  EXPECT_ERROR(step.begin_epoch(std::vector<int64_t>{1, 2, 3}, 0), "feed/order");
  TrainStep host = session.train_step({batch, {32, 32, 3}}, loss, optim::Sgd{}, 1);
  EXPECT_ERROR(host.next(), "given its images by the host");
}

}  // namespace
}  // namespace ranvier::test
