// The networks: shapes of every layer, parameter counts and names, whitening and six views, a small ResNet that learns.
#include "models/vision.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <fstream>
#include <map>
#include <nlohmann/json.hpp>

#include "data/generated.h"
#include "engine/grad.h"
#include "engine/ops.h"
#include "engine/program.h"
#include "tests/support/files.h"

namespace ranvier {
namespace {

using testing::error_of;

/// A network traced for evaluation on four images of 32x32.
struct Traced {
  State state;
  Graph graph{state};
  Tensor logits;

  explicit Traced(const models::Classifier& net) { logits = net(input(graph, "x", {DType::f32, {4, 32, 32, 3}})); }

  /// Result shapes, without the batch, of the nodes of these ops, in order.
  std::vector<Shape> shapes(const std::vector<std::string>& ops) const {
    std::vector<Shape> found;
    for (uint32_t id = 0; id < graph.size(); ++id) {
      if (std::find(ops.begin(), ops.end(), graph.node(id).op->name) == ops.end()) continue;
      const Shape s = graph.output_types(id)[0].shape;
      EXPECT_EQ(s[0], 4);
      found.push_back(Shape(std::span(s.begin() + 1, s.end())));
    }
    return found;
  }
  int64_t parameters() const {
    int64_t count = 0;
    for (uint32_t id : state.slab("parameters")) count += state.entry(id).type.shape.numel();
    return count;
  }
  std::map<std::string, Shape> slab(std::string_view name) const {
    std::map<std::string, Shape> entries;
    for (uint32_t id : state.slab(name)) entries.emplace(state.entry(id).name, state.entry(id).type.shape);
    return entries;
  }
};

nlohmann::json golden_file(const std::string& name) {
  std::ifstream file(std::string(RANVIER_SOURCE_DIR) + "/tests/golden/" + name);
  EXPECT_TRUE(file.good()) << name;
  return nlohmann::json::parse(file);
}

Shape shape_of(const nlohmann::json& json) {
  const auto extents = json.get<std::vector<int64_t>>();
  return Shape(std::span<const int64_t>(extents));
}

TEST(Models, TinyLayersAndParameters) {
  const Traced tiny(models::Tiny{});
  EXPECT_EQ(tiny.parameters(), 113'962);
  EXPECT_EQ(tiny.shapes({"conv2d"}), (std::vector<Shape>{{32, 32, 32}, {16, 16, 64}, {8, 8, 128}}));
  EXPECT_EQ(tiny.shapes({"batch_norm_eval"}), (std::vector<Shape>{{16, 16, 32}, {8, 8, 64}, {4, 4, 128}}));
  EXPECT_EQ(tiny.logits.shape(), (Shape{4, 10}));
  std::map<std::string, Shape> wanted;
  const auto golden = golden_file("tiny.json");
  for (const auto& [name, summary] : golden["initial"].items()) wanted.emplace(name, shape_of(summary["shape"]));
  EXPECT_EQ(tiny.slab("parameters"), wanted);
  EXPECT_EQ(tiny.slab("buffers").size(), 6u);
}

TEST(Models, SpeednetLayersAndParameters) {
  const Traced net(models::Speednet{});
  EXPECT_EQ(net.parameters(), 1'971'352);
  const auto golden = golden_file("speednet.json");
  std::vector<Shape> convs, norms;
  bool pooled_before = false, conv_before = false;
  for (const auto& layer : golden["layers"]) {
    const auto kind = layer[0].get<std::string>();
    const Shape shape = shape_of(layer[2]);
    if (kind == "conv" || kind == "whiten") convs.push_back(shape);
    if (kind == "pool" && conv_before)  // its last row and column, which the pool drops, are not computed
      convs.back()[0] -= convs.back()[0] % 2, convs.back()[1] -= convs.back()[1] % 2;
    if (kind == "norm") {
      norms.push_back(shape);
      EXPECT_EQ(pooled_before, norms.size() % 2 == 1) << "the first norm of a group comes behind a pool";
    }
    pooled_before = kind == "pool";
    conv_before = kind == "conv";
    if (kind == "head") {
      EXPECT_EQ(net.logits.shape(), (Shape{4, shape[0]}));
    }
  }
  EXPECT_EQ(convs.size(), 7u);
  EXPECT_EQ(norms.size(), 6u);
  EXPECT_EQ(net.shapes({"conv2d"}), convs);
  EXPECT_EQ(net.shapes({"batch_norm_eval"}), norms);
  EXPECT_EQ(net.shapes({"max_pool"}), (std::vector<Shape>{{1, 1, 256}}));
  std::map<std::string, Shape> wanted, entries = net.slab("parameters");
  for (const auto& [name, summary] : golden["initial"].items()) wanted.emplace(name, shape_of(summary["shape"]));
  entries.insert(*net.slab("buffers").find("whiten.weight"));
  EXPECT_EQ(entries, wanted);
}

// 236.3 MFLOP an image in the network as published; 10.8 % of them are rows and columns that its pools drop.
TEST(Models, SpeednetComputesOnlyWhatItsPoolsRead) {
  Traced net(models::Speednet{});
  const Plan plan = make_plan(net.graph, std::vector{net.logits}, {.prepare = false});
  double flops = 0;
  for (const PlanStep& step : plan.steps)
    if (std::string(step.op->name) == "conv2d") flops += step.op->flops(step.view());
  EXPECT_EQ(flops, 4 * 210'715'200.0);
  const double dense = 236'289'600;
  EXPECT_NEAR(1 - flops / 4 / dense, 0.108, 0.0005);
}

TEST(Models, Resnet18LayersAndParameters) {
  const Traced net(models::Resnet18{});
  EXPECT_EQ(net.parameters(), 11'173'962);
  std::vector<Shape> wanted(5, Shape{32, 32, 64});
  for (int64_t stage = 1; stage < 4; ++stage)
    wanted.insert(wanted.end(), 5, Shape{32 >> stage, 32 >> stage, 64 << stage});
  EXPECT_EQ(net.shapes({"conv2d"}), wanted);
  EXPECT_EQ(net.shapes({"batch_norm_eval"}), wanted);
  const auto names = net.slab("parameters");
  for (const char* name : {"conv1.weight", "bn1.bias", "layer1.0.conv1.weight", "layer2.0.downsample.0.weight",
                           "layer2.0.downsample.1.weight", "layer4.1.bn2.weight", "fc.weight", "fc.bias"})
    EXPECT_TRUE(names.count(name)) << name;
  EXPECT_FALSE(names.count("layer1.0.downsample.0.weight"));
  EXPECT_EQ(names.at("layer2.0.downsample.0.weight"), (Shape{128, 1, 1, 64}));
  EXPECT_EQ(names.at("fc.weight"), (Shape{10, 512}));
  EXPECT_EQ(names.size(), 62u);
  EXPECT_EQ(net.slab("buffers").size(), 40u);
}

TEST(Models, OtherClassesAndSizes) {
  for (int64_t classes : {1, 2, 100}) {
    EXPECT_EQ(Traced(models::Tiny{classes}).logits.shape(), (Shape{4, classes}));
    EXPECT_EQ(Traced(models::Speednet{classes}).logits.shape(), (Shape{4, classes}));
    EXPECT_EQ(Traced(models::Resnet18{classes, 8}).logits.shape(), (Shape{4, classes}));
  }
}

/// Logits of images in evaluation, after buffers and parameters were filled with something.
std::vector<double> logits(const models::Classifier& net, bool augmented, const std::vector<double>& images) {
  State state(Device::cpu(), 11);
  state.set_parameter_type(DType::f64);
  Graph graph(state);
  const Tensor x = input(graph, "x", {DType::f64, {2, 32, 32, 3}});
  Program program = compile(graph, std::vector{augmented ? models::six_views(net, x) : net(x)});
  state.materialise();
  for (const Entry& entry : std::vector<Entry>(state.entries())) {
    if (entry.slab != "buffers") continue;
    std::vector<double> values(static_cast<size_t>(entry.type.shape.numel()));
    for (size_t i = 0; i < values.size(); ++i) values[i] = 1 + 0.5 * std::sin(static_cast<double>(7 * i));
    state.set<double>("buffers", entry.name, values);
  }
  program.set<double>("x", images);
  program.run();
  return program.get<double>(0);
}

const models::Speednet small_speednet{10, {4, 6, 8}};

TEST(Models, SixViewsOfAPlainPictureAreItsOwn) {
  std::vector<double> images(2 * 32 * 32 * 3);
  for (size_t i = 0; i < images.size(); ++i)
    images[i] = (i < images.size() / 2 ? 0.5 : -1) + 0.25 * static_cast<double>(i % 3);
  const auto one = logits(small_speednet, false, images), six = logits(small_speednet, true, images);
  for (size_t i = 0; i < one.size(); ++i) EXPECT_NEAR(six[i], one[i], 1e-12);
  EXPECT_GT(std::abs(one[0] - one[10]), 1e-6) << "the two pictures differ";
}

TEST(Models, SixViewsAreTheWeightedViews) {
  std::vector<double> images(2 * 32 * 32 * 3);
  for (size_t i = 0; i < images.size(); ++i) images[i] = std::sin(static_cast<double>(i * i % 1009));
  const auto at = [&](int64_t n, int64_t i, int64_t j, int64_t c) {
    i = i < 0 ? -i : i > 31 ? 62 - i : i;
    j = j < 0 ? -j : j > 31 ? 62 - j : j;
    return images[static_cast<size_t>(((n * 32 + i) * 32 + j) * 3 + c)];
  };
  std::vector<double> wanted(20, 0.0);
  for (int64_t shift : {-1, 0, 1})
    for (bool mirror : {false, true}) {
      std::vector<double> view;
      for (int64_t n = 0; n < 2; ++n)
        for (int64_t i = 0; i < 32; ++i)
          for (int64_t j = 0; j < 32; ++j)
            for (int64_t c = 0; c < 3; ++c) view.push_back(at(n, i + shift, (mirror ? 31 - j : j) + shift, c));
      const auto y = logits(small_speednet, false, view);
      for (size_t k = 0; k < 20; ++k) wanted[k] += (shift == 0 ? 0.25 : 0.125) * y[k];
    }
  const auto six = logits(small_speednet, true, images);
  for (size_t k = 0; k < 20; ++k) EXPECT_NEAR(six[k], wanted[k], 1e-12) << k;
}

TEST(Models, WhiteningMakesPatchesWhite) {
  const data::Dataset set = data::generated({.seed = 2, .train_per_class = 10, .test_per_class = 1}).train;
  const models::Whitening whitening = models::whitening(set.images, 32, 32, set.mean, set.std);
  double moment[12][12] = {};
  int64_t patches = 0;
  for (int64_t n = 0; n < set.size(); ++n)
    for (int64_t i = 0; i < 31; ++i)
      for (int64_t j = 0; j < 31; ++j, ++patches) {
        double response[12] = {};
        for (int64_t k = 0; k < 12; ++k)
          for (int64_t t = 0; t < 12; ++t) {
            const int64_t r = t / 6, s = t / 3 % 2, c = t % 3;
            const double x = (set.image(n)[static_cast<size_t>(((i + r) * 32 + j + s) * 3 + c)] / 255.0 -
                              set.mean[static_cast<size_t>(c)]) /
                             set.std[static_cast<size_t>(c)];
            response[k] += whitening.filters[static_cast<size_t>(k * 12 + t)] * x;
          }
        for (int k = 0; k < 12; ++k)
          for (int l = 0; l < 12; ++l) moment[k][l] += response[k] * response[l];
      }
  for (int k = 0; k < 12; ++k) {
    const double lambda = whitening.eigenvalues[static_cast<size_t>(k)];
    EXPECT_NEAR(moment[k][k] / static_cast<double>(patches), lambda / (lambda + 5e-4), 1e-4) << k;
    for (int l = 0; l < k; ++l) EXPECT_NEAR(moment[k][l] / static_cast<double>(patches), 0, 1e-3) << k << " " << l;
    if (k) {
      EXPECT_LE(lambda, whitening.eigenvalues[static_cast<size_t>(k - 1)]);
    }
  }
}

TEST(Models, ASmallResnetLearns) {
  const data::Dataset set = data::generated({.seed = 6, .train_per_class = 4, .test_per_class = 1}).train;
  models::Recipe recipe = models::recipe("resnet18", 10, 16);
  recipe.net = models::Resnet18{10, 8};
  recipe.flip = false;
  recipe.translate = 0;
  recipe.optimizer = optim::Sgd{.lr = 0.05, .momentum = 0.9};
  Session session(Device::cpu(), {.seed = 1});
  TrainStep step =
      session.train_step({16, {32, 32, 3}}, models::train_function(recipe, set.mean, set.std), recipe.optimizer, 12);
  std::vector<double> losses;
  const std::vector<int64_t> indices(16, 0);
  for (int t = 0; t < 12; ++t) {
    step.run(std::span(set.images).first(16 * 3072), std::span(set.labels).first(16), indices, 0);
    losses.push_back(step.loss());
  }
  EXPECT_NEAR(losses.front(), std::log(10.0), 0.8);
  EXPECT_LT(losses.back(), 0.5 * losses.front());
}

/// The training step of a small form of each model in a compute type, traced for a CUDA device.
struct Mixed {
  State state{Device::cuda()};
  Graph graph{state, true};
  Tensor loss, logits;
  std::vector<Tensor> parameters;

  Mixed(models::Recipe recipe, models::Classifier net, DType compute) {
    state.set_compute_type(compute);
    recipe.net = std::move(net);
    const Shape images{4, 32, 32, 3};
    const BatchTensors batch = {input(graph, "images", {DType::u8, images}), input(graph, "labels", {DType::i32, {4}}),
                                input(graph, "indices", {DType::i64, {4}}), input(graph, "epoch", {DType::i64, {}}),
                                input(graph, "valid", {DType::i32, {}})};
    const std::array<float, 3> mean{0.5f, 0.5f, 0.5f}, std{0.25f, 0.25f, 0.25f};
    const Objective objective = models::train_function(recipe, mean, std)(batch);
    loss = objective.loss, logits = objective.logits;
    for (uint32_t id : state.slab("parameters")) parameters.push_back(read(graph, "parameters", state.entry(id).name));
  }
};

std::vector<std::pair<std::string, models::Classifier>> small_models() {
  return {{"tiny", models::Tiny{10, {4, 8, 8}}}, {"speednet", small_speednet}, {"resnet18", models::Resnet18{10, 8}}};
}

TEST(Models, MixedPrecisionKeepsParametersStatisticsAndLossInF32) {
  for (const auto& [name, net] : small_models())
    for (DType compute : {DType::f32, DType::bf16, DType::f16}) {
      SCOPED_TRACE(name + " " + std::string(name_of(compute)));
      Mixed mixed(models::recipe(name), net, compute);
      EXPECT_EQ(mixed.logits.dtype(), DType::f32);
      EXPECT_EQ(mixed.loss.dtype(), DType::f32);
      for (const Entry& entry : mixed.state.entries()) {
        if (is_floating(entry.type.dtype)) {
          EXPECT_EQ(entry.type.dtype, DType::f32) << entry.slab << "/" << entry.name;
        }
      }
      const std::vector<Tensor> gradients = grad(mixed.loss, mixed.parameters);
      for (const Tensor& g : gradients) EXPECT_EQ(g.dtype(), DType::f32);
      int convs = 0, norms = 0;
      for (uint32_t id = 0; id < mixed.graph.size(); ++id) {
        const std::string op = mixed.graph.node(id).op->name;
        const auto type = [&](size_t i) { return mixed.graph.type(mixed.graph.inputs(id)[i]).dtype; };
        if (op.starts_with("conv2d") || op == "matmul") {
          ++convs;
          EXPECT_EQ(type(0), compute) << op;
          EXPECT_EQ(type(1), compute) << op;
        }
        if (op == "batch_norm" || op == "batch_norm_grad") {
          ++norms;
          EXPECT_EQ(type(0), compute) << op;
          EXPECT_EQ(type(op == "batch_norm" ? 1 : 3), DType::f32) << op;
        }
      }
      EXPECT_GT(convs, 8);
      EXPECT_GT(norms, 5);
    }
}

TEST(Models, RefusesUnknownNames) {
  const std::string error = error_of([] { models::recipe("alexnet"); });
  EXPECT_NE(error.find("alexnet"), std::string::npos) << error;
  EXPECT_NE(error.find("speednet"), std::string::npos) << error;
}

}  // namespace
}  // namespace ranvier
