// Cross entropy, hits and softmax: values against plain formulas, gradients, smoothing, padding rows, bad labels.
#include <algorithm>

#include "tests/case.h"
#include "tests/support/files.h"

namespace ranvier::test {
namespace {

using testing::error_of;

/// Loss of one row from its definition.
double row_loss(const double* logits, int64_t classes, int64_t label, double smoothing) {
  double greatest = logits[0], sum = 0, loss = 0;
  for (int64_t k = 0; k < classes; ++k) greatest = std::max(greatest, logits[k]);
  for (int64_t k = 0; k < classes; ++k) sum += std::exp(logits[k] - greatest);
  for (int64_t k = 0; k < classes; ++k) {
    const double target = (k == label ? 1 - smoothing : 0) + smoothing / static_cast<double>(classes);
    loss -= target * (logits[k] - greatest - std::log(sum));
  }
  return loss;
}

struct LossCase {
  int64_t rows, classes;
  double smoothing;
  int32_t valid;  // -1: no such operand
};
const LossCase cases[] = {{5, 10, 0, -1}, {5, 10, 0.2, -1}, {4, 3, 0.1, 2}, {1, 1, 0, -1},
                          {3, 1, 0.3, 3}, {7, 33, 1, -1},   {6, 4, 0, 0},   {2, 100, 0.05, 1}};

/// Where and by which variants a trace is run.
struct Run {
  Device device;
  const char* variants;
};
std::vector<Run> runs() {
  std::vector<Run> list;
  if (!checks_cuda_only()) list = {{Device::cpu(), ""}, {Device::cpu(), "reference"}};
  if (cuda_support().usable) list.push_back({Device::cuda(), ""});
  return list;
}

Tensor loss_of(const std::vector<Tensor>& in, const LossCase& c) {
  CrossEntropyOptions options{c.smoothing};
  if (c.valid >= 0) options.valid = in[2];
  return softmax_cross_entropy(in[0], in[1], options);
}

OpCase loss_case(const LossCase& c) {
  OpCase test = op_case(
      fmt::format("loss {}x{} smoothing {} valid {}", c.rows, c.classes, c.smoothing, c.valid),
      {{{c.rows, c.classes}, {-3, 3}}, {{c.rows}, {0, static_cast<double>(c.classes)}, DType::i32}},
      [c](std::vector<Tensor> in) { return loss_of(in, c); }, false, 4e-6);
  if (c.valid >= 0) test.operands.push_back({{}, {static_cast<double>(c.valid), c.valid + 0.5}, DType::i32});
  return test;
}

TEST(Loss, AgainstTheDefinition) {
  for (const LossCase& c : cases) {
    const OpCase test = loss_case(c);
    const auto logits = draw(test.operands[0], 0), labels = draw(test.operands[1], 1);
    std::vector<double> wanted;
    for (int64_t i = 0; i < c.rows; ++i)
      wanted.push_back(c.valid >= 0 && i >= c.valid
                           ? 0.0
                           : row_loss(&logits[static_cast<size_t>(i * c.classes)], c.classes,
                                      static_cast<int64_t>(labels[static_cast<size_t>(i)]), c.smoothing));
    for (const bool decompose : {false, true})
      expect_close(evaluate(test, DType::f64, {.decompose = decompose})[0], wanted, 1e-13, test.name);
    expect_close(evaluate(test, DType::f32, {})[0], wanted, 2e-6, test.name);
  }
}

TEST(Loss, GradientsVariantsDecomposition) {
  for (const LossCase& c : cases) {
    const OpCase test = loss_case(c);
    for (int order = 1; order <= 3; ++order) {
      OpCase curved = test;
      curved.build = [&](std::vector<Tensor> in) {
        in[0] = in[0] + 0.3 * sin(in[0]);
        const Tensor loss = loss_of(in, c);
        return std::vector{loss + square(loss)};
      };
      check_gradients(curved, order, order == 3 ? 4e-6 : 1e-6);
    }
    OpCase whole = test;
    whole.build = [&](std::vector<Tensor> in) {
      const Tensor loss = loss_of(in, c);
      const Tensor first = grad(sum(loss + loss * loss), in[0]);  // of padding rows too, where loss is 0
      const Tensor probabilities = loss.output(1);
      return std::vector{loss, first, probabilities, grad(sum(probabilities * probabilities), in[0]),
                         grad(sum(first * first), in[0])};
    };
    whole.tolerance = 4e-5;
    check_variants(whole);
  }
}

// Values, probabilities, gradient and hits of every kernel by itself, with the gradient of the loss given.
TEST(Loss, CudaFollowsTheReference) {
  if (!cuda_support().usable) return;
  const std::vector<LossCase> more = {{3, 32, 0.1, -1}, {2, 65, 0.1, 1}, {131, 10, 0.2, 127}};
  std::vector<LossCase> all(std::begin(cases), std::end(cases));
  all.insert(all.end(), more.begin(), more.end());
  for (const LossCase& c : all) {
    OpCase test = loss_case(c);
    test.operands.push_back({{c.rows}, {-2, 2}});
    test.build = [&](std::vector<Tensor> in) {
      const Tensor loss = loss_of(in, c);
      const std::optional<Tensor> valid = c.valid >= 0 ? std::optional(in[2]) : std::nullopt;
      const Tensor dlogits = vjp(std::vector{loss}, std::vector{in.back()}, std::vector{in[0]})[0];
      return std::vector{loss, loss.output(1), dlogits, correct(in[0], in[1], valid)};
    };
    test.cuda = {DType::f32, DType::f64};
    check_cuda_variants(test);
  }
}

TEST(Loss, MeanOverTheBatch) {
  const LossCase c = {5, 10, 0.2, -1};
  OpCase test = loss_case(c);
  test.build = [&](std::vector<Tensor> in) {
    return std::vector{cross_entropy(in[0], in[1], {0.2}) - mean(softmax_cross_entropy(in[0], in[1], {0.2}))};
  };
  EXPECT_EQ(evaluate(test, DType::f64, {})[0][0], 0.0);
}

// One enormous logit: the shifted exponent must neither overflow nor lose the loss.
TEST(Loss, LargeLogits) {
  for (const auto& [device, variants] : runs()) {
    State state(device);
    Graph graph(state);
    const Tensor logits = input(graph, "logits", {DType::f32, {2, 3}});
    const Tensor labels = input(graph, "labels", {DType::i32, {2}});
    const Tensor loss = softmax_cross_entropy(logits, labels);
    const Tensor one = input(graph, "one", loss.type());
    const Tensor gradient = vjp(std::vector{loss}, std::vector{one}, std::vector{logits})[0];
    Program program = compile(graph, std::vector{loss, gradient}, {.variants = variants});
    program.set<float>("one", std::vector<float>{1, 1});
    program.set<float>("logits", std::vector<float>{1e4f, 0, -1e4f, 300, 100, -100});
    program.set<int32_t>("labels", std::vector<int32_t>{2, 0});
    program.run_checked();
    EXPECT_EQ(program.get<float>(0), (std::vector<float>{2e4f, 0}));
    EXPECT_EQ(program.get<float>(1), (std::vector<float>{1, 0, -1, 0, 0, 0})) << variants;
  }
}

// Wherever the greatest logit of a row stands, and whatever stands beside it, exponents are of at most 0.
TEST(Loss, TheGreatestLogitAnywhere) {
  constexpr int64_t classes = 70;
  std::vector<float> values(classes * classes), wanted(classes);
  for (int64_t row = 0; row < classes; ++row)
    for (int64_t k = 0; k < classes; ++k)
      values[static_cast<size_t>(row * classes + k)] = k == row ? 1000.0f : k < row ? 3.0f : -3.0f;
  std::vector<int32_t> labels(classes);
  for (size_t row = 0; row < classes; ++row) labels[row] = row % 2 == 0 ? static_cast<int32_t>(row) : 0;
  for (size_t row = 0; row < classes; ++row) wanted[row] = row % 2 == 0 ? 0 : 997;
  for (const auto& [device, variants] : runs()) {
    State state(device);
    Graph graph(state);
    const Tensor logits = input(graph, "logits", {DType::f32, {classes, classes}});
    Program program =
        compile(graph, std::vector{softmax_cross_entropy(logits, input(graph, "labels", {DType::i32, {classes}}))},
                {.variants = variants});
    program.set<float>("logits", values);
    program.set<int32_t>("labels", labels);
    program.run_checked();
    EXPECT_EQ(program.get<float>(0), wanted) << variants;
  }
}

// A class that is ruled out (logit -inf) leaves the loss of the others alone: without smoothing its weight is 0.
TEST(Loss, RuledOutClasses) {
  for (const auto& [device, variants] : runs()) {
    State state(device);
    Graph graph(state);
    const Tensor logits = input(graph, "logits", {DType::f32, {1, 3}});
    Program program =
        compile(graph, std::vector{softmax_cross_entropy(logits, input(graph, "labels", {DType::i32, {1}}))},
                {.variants = variants});
    program.set<float>("logits", std::vector<float>{-INFINITY, 1, 1});
    program.set<int32_t>("labels", std::vector<int32_t>{1});
    program.run();
    EXPECT_NEAR(program.get<float>(0)[0], std::log(2.0), 1e-6) << variants;
  }
}

TEST(Loss, ABadLabelMakesItsRowNan) {
  for (const auto& [device, variants] : runs()) {
    State state(device);
    Graph graph(state);
    const Tensor logits = input(graph, "logits", {DType::f32, {3, 2}});
    const Tensor labels = input(graph, "labels", {DType::i32, {3}});
    const Tensor loss = softmax_cross_entropy(logits, labels);
    const Tensor one = input(graph, "one", loss.type());
    const Tensor derivative = vjp(std::vector{loss}, std::vector{one}, std::vector{logits})[0];
    Program program = compile(graph, std::vector{loss, derivative, correct(logits, labels)}, {.variants = variants});
    program.set<float>("one", std::vector<float>{1, 1, 1});
    program.set<float>("logits", std::vector<float>{0, 0, 0, 0, 0, 0});
    program.set<int32_t>("labels", std::vector<int32_t>{2, 0, -1});
    program.run();
    const auto row = program.get<float>(0), gradient = program.get<float>(1);
    EXPECT_TRUE(std::isnan(row[0]) && std::isnan(row[2]));
    EXPECT_FLOAT_EQ(row[1], std::log(2.0f));
    EXPECT_TRUE(std::isnan(gradient[0]) && std::isnan(gradient[5]));
    EXPECT_EQ(gradient[2], -0.5f);
    EXPECT_EQ(program.get<float>(2), (std::vector<float>{0, 1, 0}));
  }
}

TEST(Loss, HitsOfValidRows) {
  for (const auto& [device, variants] : runs()) {
    State state(device);
    Graph graph(state);
    const Tensor logits = input(graph, "logits", {DType::f32, {5, 3}});
    const Tensor labels = input(graph, "labels", {DType::i32, {5}}), valid = input(graph, "valid", {DType::i32, {}});
    Program program =
        compile(graph, std::vector{correct(logits, labels), correct(logits, labels, valid)}, {.variants = variants});
    program.set<float>("logits", std::vector<float>{1, 2, 3, 3, 2, 1, 2, 2, 1, NAN, 1, 2, 0, 0, 1});
    program.set<int32_t>("labels", std::vector<int32_t>{2, 1, 0, 2, 2});
    program.set<int32_t>("valid", std::vector<int32_t>{4});
    program.run();
    EXPECT_EQ(program.get<float>(0), (std::vector<float>{1, 0, 1, 0, 1}));
    EXPECT_EQ(program.get<float>(1), (std::vector<float>{1, 0, 1, 0, 0}));
  }
}

TEST(Loss, Softmax) {
  for (int axis : {-1, 0, 1}) {
    const OpCase test = op_case("softmax", {{{3, 4, 2}, {-2, 2}}}, [&](auto x) { return softmax(x[0], axis); });
    for (int order = 1; order <= 3; ++order) check_gradients(test, order);
    check_variants(test);
    const OpCase one = op_case("sum of softmax", {{{3, 4, 2}, {-50, 50}}},
                               [&](auto x) { return sum(softmax(x[0] * 20.0, axis), {axis}); });
    for (double v : std::vector(evaluate(one, DType::f64, {})[0])) EXPECT_NEAR(v, 1.0, 1e-14);
  }
}

TEST(Loss, EmptyBatch) {
  const OpCase test = loss_case({0, 4, 0.1, -1});
  check_variants(test);
  EXPECT_TRUE(evaluate(test, DType::f32, {})[0].empty());
}

TEST(Loss, ErrorsNameTheLine) {
  State state;
  Graph graph(state);
  const auto at = [&](const Type& type) { return full(graph, type, 0); };
  const auto expect = [&](const char* text, const std::function<void()>& body) {
    const std::string error = error_of(body);
    EXPECT_NE(error.find(text), std::string::npos) << error;
    EXPECT_NE(error.find("tests/loss.cpp:"), std::string::npos) << error;
  };
  const Type logits{DType::f32, {4, 3}}, labels{DType::i32, {4}};
  expect("(N, classes)", [&] { softmax_cross_entropy(at({DType::f32, {4}}), at(labels)); });
  expect("labels must be i32", [&] { softmax_cross_entropy(at(logits), at({DType::i64, {4}})); });
  expect("labels must be i32", [&] { cross_entropy(at(logits), at({DType::i32, {5}})); });
  expect("valid count", [&] { cross_entropy(at(logits), at(labels), {0, at({DType::i32, {1}})}); });
  expect("label_smoothing 1.5", [&] { cross_entropy(at(logits), at(labels), {1.5}); });
  expect("label_smoothing", [&] { cross_entropy(at(logits), at(labels), {NAN}); });
  expect("labels must be i32", [&] { correct(at(logits), at({DType::f32, {4}})); });
  expect("not differentiable", [&] {
    const Tensor x = input(graph, "x", logits);
    grad(sum(correct(x, at(labels))), x);
  });
}

}  // namespace
}  // namespace ranvier::test
