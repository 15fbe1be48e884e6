// Attacks keep to their ball and find what is there to find; scores and statistics against values worked out by hand.
#include <gtest/gtest.h>

#include <cmath>
#include <numeric>

#include "data/generated.h"
#include "engine/draws.h"
#include "engine/ops.h"
#include "models/layers.h"
#include "models/robust/attacks.h"
#include "models/robust/calibration.h"
#include "models/robust/damage.h"
#include "models/robust/red_flags.h"
#include "models/vision.h"
#include "tests/support/files.h"

namespace ranvier::robust {
namespace {

using testing::error_of;

constexpr float epsilon = 8.0f / 255;
const std::array<float, 3> mean = {0.5f, 0.4f, 0.45f}, deviation = {0.25f, 0.2f, 0.3f};

/// Random pictures of 8x8, labelled by what the network says, so that all are right at the start.
Images right_images(AttackedModel& model, int64_t count) {
  Images images{8, 8, {}, {}};
  const Draws draws(3, "test.images");
  for (int64_t e = 0; e < count * images.values(); ++e)
    images.pixels.push_back(draws.uniform(0, static_cast<uint64_t>(e)));
  const std::vector<float> logits = model.logits(images.pixels);
  for (int64_t i = 0; i < count; ++i) {
    const auto row = logits.begin() + i * model.classes();
    images.labels.push_back(static_cast<int32_t>(std::max_element(row, row + model.classes()) - row));
  }
  return images;
}

struct Linear {
  Session session{Device::cpu(), {.seed = 2}};
  AttackedModel model;
  explicit Linear(int64_t classes, double scale = 1)
      : model(
            session, [=](Tensor x) { return models::linear(flatten(x), classes, "head") * scale; }, mean, deviation, 8,
            8, classes) {}
};

struct Convolutional {
  Session session{Device::cpu(), {.seed = 5}};
  AttackedModel model;
  explicit Convolutional(double scale = 1)
      : model(
            session,
            [=](Tensor x) {
              x = relu(models::conv(x, 8, 3, "conv", {.padding = 1}));
              return models::linear(flatten(max_pool(x)), 6, "head") * scale;
            },
            mean, deviation, 8, 8, 6) {}
};

void expect_in_ball(const Images& images, const AttackResult& result, double radius, const char* name) {
  ASSERT_EQ(result.pixels.size(), images.pixels.size()) << name;
  for (size_t e = 0; e < result.pixels.size(); ++e) {
    ASSERT_TRUE(std::abs(result.pixels[e] - images.pixels[e]) <= radius + 1e-6) << name << " " << e;
    ASSERT_TRUE(result.pixels[e] >= 0 && result.pixels[e] <= 1) << name << " " << e;
  }
}

/// A broken image is broken: the network, asked again, is wrong about the pixels that came back.
void expect_broken(AttackedModel& model, const Images& images, const AttackResult& result, const char* name) {
  const std::vector<float> logits = model.logits(result.pixels);
  for (int64_t i = 0; i < images.size(); ++i) {
    const auto row = logits.begin() + i * model.classes();
    const bool wrong = std::max_element(row, row + model.classes()) - row != images.labels[static_cast<size_t>(i)];
    EXPECT_EQ(wrong, result.broken[static_cast<size_t>(i)] != 0) << name << " image " << i;
  }
}

TEST(Attacks, StayInTheBallAndBreakWhatTheySay) {
  Convolutional net;
  const Images images = right_images(net.model, 40);
  for (const auto& [name, result] : std::vector<std::pair<const char*, AttackResult>>{
           {"fgsm", fgsm(net.model, images, 0.02)},
           {"pgd", pgd(net.model, images, {.epsilon = 0.02, .step = 0.005, .restarts = 2})},
           {"apgd-ce", apgd(net.model, images, {.epsilon = 0.02, .iterations = 30})},
           {"apgd-t", apgd(net.model, images, {.epsilon = 0.02, .iterations = 20, .goal = Goal::targeted_dlr})},
           {"square", square(net.model, images, {.epsilon = 0.02, .queries = 100})}}) {
    expect_in_ball(images, result, 0.02, name);
    expect_broken(net.model, images, result, name);
    EXPECT_GT(std::accumulate(result.broken.begin(), result.broken.end(), 0), 0) << name;
  }
}

TEST(Attacks, PgdOnALinearModelIsTheClosedForm) {
  Linear net(2);
  const Images images = right_images(net.model, 12);
  const AttackResult result =
      pgd(net.model, images, {.epsilon = epsilon, .step = epsilon / 4, .iterations = 12, .stop = false});
  const std::vector<float> w = net.session.state().get<float>("parameters", "head.weight");
  for (int64_t i = 0; i < images.size(); ++i)
    for (int64_t e = 0; e < images.values(); ++e) {
      const auto at = static_cast<size_t>(i * images.values() + e);
      const int32_t label = images.labels[static_cast<size_t>(i)];
      const float slope = w[static_cast<size_t>((1 - label) * images.values() + e)] -
                          w[static_cast<size_t>(label * images.values() + e)];
      const float best = std::clamp(images.pixels[at] + (slope > 0 ? epsilon : -epsilon), 0.0f, 1.0f);
      ASSERT_NEAR(result.pixels[at], best, 1e-6) << i << " " << e;
    }
}

TEST(Attacks, GradientsAreThoseOfDifferences) {
  Convolutional net;
  const Images images = right_images(net.model, 3);
  std::vector<int32_t> targets;
  for (int32_t label : images.labels) targets.push_back((label + 1) % 6);
  for (Goal goal : {Goal::cross_entropy, Goal::targeted_dlr}) {
    AttackedModel::Slope slope, above, below;
    net.model.slope(goal, images.pixels, images.labels, targets, slope);
    for (size_t e : {size_t{5}, size_t{100}, size_t{250}, size_t{500}}) {
      const float h = 1e-3f;
      std::vector<float> moved = images.pixels;
      moved[e] += h;
      net.model.slope(goal, moved, images.labels, targets, above);
      moved[e] -= 2 * h;
      net.model.slope(goal, moved, images.labels, targets, below);
      const size_t i = e / static_cast<size_t>(images.values());
      EXPECT_NEAR(slope.gradient[e], (above.goal[i] - below.goal[i]) / (2 * h), 2e-3) << e;
    }
  }
}

TEST(Attacks, TargetedDlrIsThePublishedRatio) {
  Linear net(5);
  const Images images = right_images(net.model, 4);
  const std::vector<int32_t> targets = {4, 3, 2, 1};
  AttackedModel::Slope slope;
  net.model.slope(Goal::targeted_dlr, images.pixels, images.labels, targets, slope);
  for (size_t i = 0; i < 4; ++i) {
    const float* z = slope.logits.data() + 5 * i;
    std::vector<float> sorted(z, z + 5);
    std::sort(sorted.rbegin(), sorted.rend());
    EXPECT_NEAR(slope.goal[i], -(z[images.labels[i]] - z[targets[i]]) / (sorted[0] - (sorted[2] + sorted[3]) / 2),
                1e-5);
  }
}

/// tiny at reduced width after some steps on drawn pictures, and the pictures that it is attacked on.
struct Trained {
  Session session{Device::cpu(), {.seed = 1}};
  data::Splits splits = data::generated({.seed = 4, .train_per_class = 40, .test_per_class = 6});
  models::Tiny net{10, {8, 8, 16}};
  Images images{32, 32, {}, splits.test.labels};
  Trained() {
    const auto logits = [&](Tensor x) { return net(normalize(x, splits.train.mean, splits.train.std)); };
    TrainStep step = session.train_step(
        {40, {32, 32, 3}}, [&](const BatchTensors& b) { return cross_entropy(logits(b.images), b.labels); },
        optim::Sgd{.lr = 0.1, .momentum = 0.9}, 120);
    for (int64_t t = 0; t < 120; ++t) {
      const auto first = static_cast<size_t>(t % 10 * 40);
      std::vector<int64_t> indices(40);
      std::iota(indices.begin(), indices.end(), static_cast<int64_t>(first));
      step.run(std::span(splits.train.images).subspan(first * 3072, 40 * 3072),
               std::span(splits.train.labels).subspan(first, 40), indices, 0);
    }
    for (uint8_t v : splits.test.images) images.pixels.push_back(static_cast<float>(v) / 255);
  }
};

TEST(Attacks, StrongerOnesBreakMoreOfATrainedNetwork) {
  Trained t;
  AttackedModel model(t.session, t.net, t.splits.train.mean, t.splits.train.std, 32, 32, 10);
  const double radius = 2.0 / 255;
  const double one = fgsm(model, t.images, radius).robust_accuracy();
  const double many = pgd(model, t.images, {.epsilon = radius, .step = radius / 4}).robust_accuracy();
  const double ce = apgd(model, t.images, {.epsilon = radius, .iterations = 40}).robust_accuracy();
  const double targeted =
      apgd(model, t.images, {.epsilon = radius, .iterations = 20, .goal = Goal::targeted_dlr}).robust_accuracy();
  EXPECT_GT(one, 0.02) << "nothing left to compare";
  EXPECT_LE(many, one);
  EXPECT_LE(ce, many);
  EXPECT_LE(targeted, many);
  EXPECT_EQ(pgd(model, t.images, {.epsilon = 0.5, .step = 0.125}).robust_accuracy(), 0);
}

TEST(Attacks, SquareNeverLosesGround) {
  Convolutional net;
  const Images images = right_images(net.model, 10);
  std::vector<double> last(10, INFINITY), first(10, 0);
  const auto watch = [&](int64_t i, double margin) {
    double& before = last[static_cast<size_t>(i)];
    ASSERT_TRUE(margin <= before);
    if (std::isinf(before)) first[static_cast<size_t>(i)] = margin;
    before = margin;
  };
  const AttackResult result = square(net.model, images, {.epsilon = 0.004, .queries = 200, .watch = watch});
  EXPECT_LT(std::accumulate(last.begin(), last.end(), 0.0), std::accumulate(first.begin(), first.end(), 0.0));
  EXPECT_EQ(result.gradients, 0);
  EXPECT_LE(result.queries, 10 * 201);
}

TEST(Attacks, OneSeedOneResult) {
  Convolutional net;
  const Images images = right_images(net.model, 10);
  const PgdOptions options = {.epsilon = 0.004, .step = 0.001, .iterations = 3, .stop = false, .seed = 1};
  PgdOptions other = options;
  other.seed = 2;
  EXPECT_EQ(pgd(net.model, images, options).pixels, pgd(net.model, images, options).pixels);
  EXPECT_NE(pgd(net.model, images, options).pixels, pgd(net.model, images, other).pixels);
}

TEST(Attacks, BadInput) {
  Linear net(3);
  const Images images = right_images(net.model, 2);
  EXPECT_NE(error_of([&] { apgd(net.model, images, {.goal = Goal::targeted_dlr}); }).find("four classes"),
            std::string::npos);
  EXPECT_NE(error_of([&] { fgsm(net.model, images, NAN); }).find("epsilon nan"), std::string::npos);
  EXPECT_NE(error_of([&] { pgd(net.model, images, {.epsilon = -1}); }).find("epsilon -1"), std::string::npos);
  EXPECT_NE(error_of([&] { pgd(net.model, images, {.step = 0}); }).find("step 0"), std::string::npos);
  EXPECT_NE(error_of([&] { square(net.model, images, {.queries = 0}); }).find("0 queries"), std::string::npos);
}

// ---- Gradient masking ----------------------------------------------------------------------------------------------

int raised(const std::vector<RedFlag>& flags) {
  int count = 0;
  for (const RedFlag& flag : flags) count += flag.state == RedFlag::State::raised;
  return count;
}

/// Logits so large that cross-entropy is exactly 0 in f32 and has no gradient: the oldest way to look robust.
TEST(RedFlags, AMaskedModelRaisesThem) {
  Convolutional masked(1e6);
  const Images images = right_images(masked.model, 40);
  const double radius = 8.0 / 255;
  const AttackResult one = fgsm(masked.model, images, radius);
  const AttackResult many = pgd(masked.model, images, {.random_start = false});
  const AttackResult blind = square(masked.model, images, {.queries = 300});
  const AttackResult far = pgd(masked.model, images, {.epsilon = 0.5, .step = 0.125, .random_start = false});
  int64_t alone = 0;
  for (size_t i = 0; i < 40; ++i) alone += blind.broken[i] && !many.broken[i];
  const std::vector<RedFlag> flags =
      red_flags({.fgsm = one.robust_accuracy(),
                 .pgd = many.robust_accuracy(),
                 .square = blind.robust_accuracy(),
                 .large_epsilon = far.robust_accuracy(),
                 .zero_gradients = static_cast<double>(one.zero_gradients) / static_cast<double>(one.gradients),
                 .square_alone = static_cast<double>(alone) / 40});
  EXPECT_GE(raised(flags), 3);
  for (size_t k : {2, 3, 4})
    EXPECT_EQ(flags[k].state, RedFlag::State::raised) << flags[k].name << " " << flags[k].detail;
}

TEST(RedFlags, ByTheNumbers) {
  const Evidence honest = {
      .fgsm = 0.1, .pgd = 0.01, .square = 0.05, .large_epsilon = 0, .zero_gradients = 0, .square_alone = 0};
  EXPECT_EQ(raised(red_flags(honest)), 0);
  const auto one = [&](auto change) {
    Evidence e = honest;
    change(e);
    return raised(red_flags(e));
  };
  EXPECT_EQ(one([](Evidence& e) {
              e.fgsm = 0;
              e.pgd = 0.015;
            }),
            1);
  EXPECT_EQ(one([](Evidence& e) { e.pgd = 0.021; }), 1);
  EXPECT_EQ(one([](Evidence& e) { e.large_epsilon = 0.001; }), 1);
  EXPECT_EQ(one([](Evidence& e) { e.square_alone = 0.02; }), 1);
  EXPECT_EQ(one([](Evidence& e) { e.zero_gradients = NAN; }), 1);
  for (const RedFlag& flag : red_flags({})) EXPECT_EQ(flag.state, RedFlag::State::unchecked) << flag.name;
}

// ---- Calibration ---------------------------------------------------------------------------------------------------

TEST(Calibration, ByHand) {
  // two classes, p = (0.8, 0.2), (0.8, 0.2), (0.4, 0.6)
  const float a = std::log(4.0f), b = std::log(1.5f);
  const std::vector<float> logits = {a, 0, a, 0, 0, b};
  const std::vector<int32_t> labels = {0, 1, 1};
  const Calibration c = calibration(logits, labels, 2);
  EXPECT_NEAR(c.nll, -(std::log(0.8) + std::log(0.2) + std::log(0.6)) / 3, 1e-6);
  EXPECT_NEAR(c.brier, (2 * 0.04 + 2 * 0.64 + 2 * 0.16) / 3, 1e-6);
  // bins of 1/15: two images at 0.8, of which one is right, and one right at 0.6
  EXPECT_NEAR(c.ece, (std::abs(1 - 1.6) + std::abs(1 - 0.6)) / 3, 1e-6);
  EXPECT_NEAR(calibration(logits, labels, 2, 1e9).nll, std::log(2.0), 1e-6);
}

TEST(Calibration, TemperatureOfAKnownAnswer) {
  // right in 3 of 4 images with logit gap 4: NLL is least where the probability is 3/4, gap / T = log 3
  const std::vector<float> logits = {4, 0, 4, 0, 4, 0, 4, 0};
  const std::vector<int32_t> labels = {0, 0, 0, 1};
  const double t = fit_temperature(logits, labels, 2);
  EXPECT_NEAR(t, 4 / std::log(3.0), 1e-4);
  EXPECT_LT(calibration(logits, labels, 2, t).nll, calibration(logits, labels, 2).nll);
  EXPECT_NEAR(calibration(logits, labels, 2, t).ece, 0, 1e-5);
}

TEST(Calibration, BadInput) {
  const std::vector<float> logits = {1, 2};
  EXPECT_NE(error_of([&] { calibration(logits, std::vector<int32_t>{2}, 2); }).find("label 2 of image 0"),
            std::string::npos);
  EXPECT_NE(error_of([&] { calibration(logits, std::vector<int32_t>{0}, 2, 0); }).find("temperature 0"),
            std::string::npos);
  EXPECT_NE(error_of([&] { calibration(logits, std::vector<int32_t>{0}, 3); }).find("2 logits"), std::string::npos);
}

// ---- Damage --------------------------------------------------------------------------------------------------------

TEST(Damage, NoiseAndAblationComeAndGo) {
  Convolutional net;
  net.session.state().materialise();
  right_images(net.model, 1);  // traces the network
  State& state = net.session.state();
  const auto weights = [&] { return state.get<float>("parameters", "head.weight"); };
  const std::vector<float> before = weights(), bias = state.get<float>("parameters", "head.bias");
  {
    const Undo undo(state);
    add_weight_noise(state, "parameters", 0.1, 1, 0);
    double change = 0, size = 0;
    const std::vector<float> after = weights();
    for (size_t e = 0; e < after.size(); ++e)
      change += std::pow(after[e] - before[e], 2), size += std::pow(before[e], 2);
    EXPECT_NEAR(std::sqrt(change / size), 0.1, 0.01);
    EXPECT_EQ(state.get<float>("parameters", "head.bias"), bias);
  }
  EXPECT_EQ(weights(), before);
  {
    const Undo undo(state);
    EXPECT_EQ(ablate_units(state, "parameters", 0.25, 1, 0), 32);  // of 4 x 4 x 8 features; colours are left alone
    const std::vector<float> after = weights();
    for (size_t unit = 0; unit < 128; ++unit) {
      const bool gone = after[unit] == 0;
      for (size_t c = 0; c < 6; ++c) EXPECT_EQ(after[c * 128 + unit], gone ? 0 : before[c * 128 + unit]);
    }
  }
  EXPECT_EQ(weights(), before);
  EXPECT_NE(error_of([&] { add_weight_noise(state, "parameters", NAN, 1, 0); }).find("level nan"), std::string::npos);
  EXPECT_NE(error_of([&] { ablate_units(state, "parameters", 1.5, 1, 0); }).find("1.5"), std::string::npos);
}

}  // namespace
}  // namespace ranvier::robust
