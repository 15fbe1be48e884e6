// The C++ example of the README, compiled and run as it is printed there.
#include <gtest/gtest.h>

#include <fstream>
#include <sstream>

#include "data/generated.h"

// [example]
#include "data/batches.h"
#include "engine/checkpoint.h"
#include "models/vision.h"

using namespace ranvier;

void train_tiny(const data::Splits& data, int64_t epochs) {
  Session session(Device::best(), {.seed = 1});
  const models::Tiny net;  // a function Tensor -> Tensor; its parameters are state named by scope
  const auto logits = [&](Tensor images) { return net(normalize(images, data.train.mean, data.train.std)); };
  const int64_t steps = data.train.size() / 64;
  TrainStep step = session.train_step(
      {64, {32, 32, 3}},
      [&](const BatchTensors& batch) {
        const Tensor images = random_translate(random_flip(batch.images), 2);
        return cross_entropy(logits(images), batch.labels, {.label_smoothing = 0.1});
      },
      optim::Sgd{.lr = optim::triangle(0.05, 0.2), .momentum = 0.9, .nesterov = true}, epochs * steps);
  for (int64_t epoch = 0; epoch < epochs; ++epoch) {
    step.reset();
    for (const data::Batch& batch : data::training_batches(data.train, 64, epoch, 1)) step(batch, epoch);
    fmt::print("epoch {} loss {:.3f} test {:.2f} %\n", epoch + 1, step.mean_loss(),
               100 * session.accuracy(logits, data.test));
  }
  checkpoint::save(session.state(), "tiny.safetensors");
}
// [example]

namespace {

std::string read(const std::string& path) {
  std::ifstream file(path);
  std::stringstream text;
  text << file.rdbuf();
  return text.str();
}

TEST(Readme, ExampleIsTheOneThatIsTested) {
  const std::string source = read(std::string(RANVIER_SOURCE_DIR) + "/tests/readme_example.cpp"),
                    mark = "// [example]\n";
  const size_t begin = source.find(mark) + mark.size();
  const std::string example = source.substr(begin, source.find(mark, begin) - begin);
  EXPECT_NE(read(std::string(RANVIER_SOURCE_DIR) + "/README.md").find("```cpp\n" + example + "```"), std::string::npos)
      << "the README must show exactly this:\n"
      << example;
}

TEST(Readme, ExampleLearns) {
  const data::Splits data = data::generated({.seed = 3, .train_per_class = 64, .test_per_class = 20});
  testing::internal::CaptureStdout();
  train_tiny(data, 2);
  const std::string printed = testing::internal::GetCapturedStdout();
  double first = 0, last = 0;
  ASSERT_EQ(std::sscanf(printed.c_str(), "epoch 1 loss %lf", &first), 1) << printed;
  ASSERT_EQ(std::sscanf(printed.substr(printed.find('\n') + 1).c_str(), "epoch 2 loss %lf", &last), 1) << printed;
  EXPECT_LT(last, first);
  EXPECT_EQ(std::remove("tiny.safetensors"), 0);
}

}  // namespace
