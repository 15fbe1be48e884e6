// Reductions and broadcasts: values against plain sums, gradients of three orders, ties, empty axes, errors.
#include <algorithm>
#include <map>

#include "tests/case.h"
#include "tests/support/files.h"

namespace ranvier::test {
namespace {

using testing::error_of;

struct ReduceCase {
  Shape shape;
  std::vector<int> axes;
};
const ReduceCase cases[] = {
    {{3, 5}, {}},        {{3, 5}, {0}}, {{3, 5}, {1}}, {{3, 5}, {-2}},         {{2, 3, 4}, {1}}, {{2, 3, 4}, {0, 2}},
    {{2, 3, 4}, {0, 1}}, {{7}, {0}},    {{1, 1}, {0}}, {{2, 1, 3, 2}, {3, 1}}, {{}, {}}};

/// Values of `f` over the reduced elements of each result, row-major, by walking over every index.
std::vector<double> plainly(const ReduceCase& c, const std::vector<double>& x,
                            const std::function<double(const std::vector<double>&)>& f) {
  const int rank = c.shape.rank();
  std::vector<bool> gone(static_cast<size_t>(rank), c.axes.empty());
  for (int axis : c.axes) gone[static_cast<size_t>(axis < 0 ? axis + rank : axis)] = true;
  std::map<std::vector<int64_t>, std::vector<double>> groups;
  for (size_t flat = 0; flat < x.size(); ++flat) {
    std::vector<int64_t> place(static_cast<size_t>(rank));
    auto rest = static_cast<int64_t>(flat);
    for (int axis = rank; axis-- > 0; rest /= c.shape[axis])
      place[static_cast<size_t>(axis)] = gone[static_cast<size_t>(axis)] ? 0 : rest % c.shape[axis];
    groups[place].push_back(x[flat]);
  }
  std::vector<double> results;
  for (const auto& [place, values] : groups) results.push_back(f(values));
  return results;
}

double sum_of(const std::vector<double>& v) {
  double sum = 0;
  for (double x : v) sum += x;
  return sum;
}
double mean_of(const std::vector<double>& v) { return sum_of(v) / static_cast<double>(v.size()); }
double variance_of(const std::vector<double>& v, double correction) {
  double squares = 0;
  for (double x : v) squares += (x - mean_of(v)) * (x - mean_of(v));
  return squares / (static_cast<double>(v.size()) - correction);
}

TEST(Reduce, ValuesGradientsVariants) {
  for (const ReduceCase& c : cases)
    for (bool keep : {false, true}) {
      const std::string at = to_string(c.shape) + (keep ? " keep" : "");
      const OpCase total = op_case("sum " + at, {{c.shape}}, [&](auto x) { return sum(x[0], c.axes, keep); });
      const OpCase average = op_case("mean " + at, {{c.shape}}, [&](auto x) { return mean(x[0], c.axes, keep); });
      const OpCase greatest = op_case("max " + at, {{c.shape}}, [&](auto x) { return max(x[0], c.axes, keep); });
      const auto x = draw(total.operands[0], 0);
      expect_close(evaluate(total, DType::f64, {})[0], plainly(c, x, sum_of), 1e-13, "sum " + at);
      expect_close(evaluate(average, DType::f64, {})[0], plainly(c, x, mean_of), 1e-13, "mean " + at);
      expect_close(evaluate(greatest, DType::f64, {})[0],
                   plainly(c, x, [](const auto& v) { return *std::max_element(v.begin(), v.end()); }), 0, "max " + at);
      for (const OpCase& test : {total, average, greatest}) {
        check_variants(in_every_type(test));
        OpCase curved = test;
        curved.build = [&](std::vector<Tensor> in) {
          return std::vector{square(test.build({in[0] * in[0] * in[0] + in[0] * 2.0})[0])};
        };
        for (int order = 1; order <= 3; ++order) check_gradients(curved, order, order == 3 ? 4e-6 : 1e-6);
      }
    }
}

TEST(Reduce, Variance) {
  for (const ReduceCase& c : {cases[0], cases[1], cases[5], cases[7]})
    for (int64_t correction : {0, 1}) {
      const OpCase test =
          op_case("variance", {{c.shape}}, [&](auto x) { return variance(x[0], c.axes, false, correction); });
      expect_close(evaluate(test, DType::f64, {})[0],
                   plainly(c, draw(test.operands[0], 0),
                           [&](const auto& v) { return variance_of(v, static_cast<double>(correction)); }),
                   1e-12, "variance");
      check_gradients(test, 1);
      check_gradients(test, 2);
      check_variants(in_every_type(test, 6));  // the deviation's own rounding enters squared
    }
}

// One block and several, rows and columns, whole packs and odd ends.
const ReduceCase long_cases[] = {{{20011}, {0}},     {{1031, 19}, {0}},  {{3, 4999}, {1}}, {{5, 301, 7}, {1}},
                                 {{3, 8200}, {1}},   {{7, 1024}, {1}},   {{700, 24}, {0}}, {{2, 300, 16}, {1}},
                                 {{9, 5, 264}, {1}}, {{1, 1040, 2}, {1}}};

TEST(Reduce, LongSumsOfIntegersAreExact) {
  for (const ReduceCase& c : long_cases)
    check_variants(in_every_type(op_case(
        "long sum", {{c.shape, {-9, 10, 0, true}}}, [&](auto x) { return sum(x[0], c.axes); }, true)));
}

TEST(Reduce, LongMaximaAreExact) {
  for (const ReduceCase& c : long_cases)
    check_variants(in_every_type(op_case(
        "long max", {{c.shape, {-900, 100}}}, [&](auto x) { return max(x[0], c.axes); }, true)));
}

TEST(Reduce, ManyShortRows) {
  check_variants(op_case(
      "short sums", {{{16400, 5}, {-9, 10, 0, true}}}, [](auto x) { return sum(x[0], {1}); }, true));
}

TEST(Reduce, LongSumsKeepTheirDigits) {
  for (const Shape& shape : {Shape{60000}, Shape{3000, 20}})
    check_variants(op_case(
        "long sum", {{shape, {0, 1}}}, [&](auto x) { return sum(x[0], {0}); }, false, 2e-7));
}

TEST(Reduce, ArgmaxTakesTheFirst) {
  for (const Device& device : devices()) {
    State state(device);
    Graph graph(state);
    const Tensor x = input(graph, "x", {DType::f32, {2, 3}});
    for (const char* variants : {"", "reference"}) {
      if (*variants && device.backend == Backend::cuda) continue;
      Program program = compile(graph, std::vector{argmax(x), argmax(x, 0)}, {.device = device, .variants = variants});
      program.set<float>("x", std::vector<float>{1, 3, 3, 4, NAN, 2});
      program.run();
      EXPECT_EQ(program.get<int32_t>(0), (std::vector<int32_t>{1, 1}));
      EXPECT_EQ(program.get<int32_t>(1), (std::vector<int32_t>{1, 1, 0}));
    }
  }
}

TEST(Reduce, TiesOfMaxShareTheGradient) {
  for (const Device& device : devices()) {
    State state(device);
    Graph graph(state);
    const Tensor x = input(graph, "x", {DType::f64, {2, 3}});
    Program program = compile(graph, std::vector{grad(sum(max(x, {1})), x), grad(max(x), x)}, {.device = device});
    program.set<double>("x", std::vector<double>{2, 5, 5, 5, 1, 0});
    program.run();
    EXPECT_EQ(program.get<double>(0), (std::vector<double>{0, 0.5, 0.5, 1, 0, 0}));
    const double third = 1.0 / 3;
    expect_close(program.get<double>(1), {0, third, third, third, 0, 0}, 1e-15, "max over both axes");
  }
}

TEST(Reduce, NanWins) {
  for (const Device& device : devices())
    for (size_t place = 0; place < 5000; place += 1666) {
      State state(device);
      Graph graph(state);
      const Tensor x = input(graph, "x", {DType::f32, {5000}}), columns = reshape(x, {2500, 2});
      Program program = compile(graph, std::vector{max(x), sum(x), mean(x), max(columns, {0}), sum(columns, {0})},
                                {.device = device});
      std::vector<float> values(5000, 1);
      values[place] = NAN;
      program.set<float>("x", values);
      program.run();
      for (size_t k = 0; k < 3; ++k) EXPECT_TRUE(std::isnan(program.scalar(k))) << k;
      for (size_t k = 3; k < 5; ++k) {
        EXPECT_TRUE(std::isnan(program.get<float>(k)[place % 2])) << k;
        EXPECT_FALSE(std::isnan(program.get<float>(k)[1 - place % 2])) << k;
      }
    }
}

TEST(Reduce, AveragesOf16BitsAreSummedInF32) {
  for (const Device& device : devices()) {
    if (device.backend != Backend::cuda) continue;
    for (const DType dtype : {DType::bf16, DType::f16}) {
      State state(device);
      Graph graph(state);
      const Tensor x = cast(input(graph, "x", {DType::f32, {2, 60000}}), dtype);
      const Tensor average = cast(mean(x, {1}), DType::f32), spread = cast(variance(x, {1}), DType::f32);
      Program program = compile(graph, std::vector{average, spread}, {.device = device});
      std::vector<float> values(120000);
      for (size_t i = 0; i < values.size(); ++i) values[i] = i % 2 == 0 ? 4.0f : 2.0f;  // sums 180000, beyond f16
      program.set<float>("x", values);
      program.run();
      EXPECT_EQ(program.get<float>(0), (std::vector<float>{3, 3})) << name_of(dtype);
      EXPECT_EQ(program.get<float>(1), (std::vector<float>{1, 1})) << name_of(dtype);
    }
  }
}

TEST(Reduce, EmptyAxes) {
  const OpCase test = op_case(
      "empty", {{Shape{0, 3}}}, [](auto x) { return sum(x[0], {0}); }, true);
  check_variants(in_every_type(test));
  EXPECT_EQ(evaluate(test, DType::f32, {})[0], std::vector<double>(3, 0.0));
  check_variants(in_every_type(op_case(
      "empty", {{Shape{2, 0}}}, [](auto x) { return sum(x[0], {0}); }, true)));
  for (const Device& device : devices()) {
    State state(device);
    Graph graph(state);
    Program program =
        compile(graph, std::vector{max(input(graph, "x", {DType::f32, {3, 0}}), {1})}, {.device = device});
    program.run();
    EXPECT_EQ(program.get<float>(0), std::vector<float>(3, -INFINITY));
  }
}

TEST(Reduce, Broadcasts) {
  const std::pair<Shape, Shape> pairs[] = {{{}, {2, 3}},
                                           {{3}, {2, 3}},
                                           {{2, 1}, {2, 3}},
                                           {{1, 1}, {1, 1}},
                                           {{2, 1, 4}, {3, 2, 5, 4}},
                                           {{1, 3}, {0, 3}},
                                           {{16}, {5, 16}},
                                           {{3, 1}, {3, 32}},
                                           {{2, 1, 16}, {2, 3, 16}},
                                           {{}, {1031}},
                                           {{2, 1, 3, 1, 2, 1}, {2, 3, 3, 2, 2, 5}}};
  for (const auto& [from, to] : pairs) {
    const OpCase out = op_case("broadcast_to", {{from}}, [&](auto x) { return broadcast_to(sin(x[0]), to); });
    const OpCase back = op_case("sum_to", {{to}}, [&](auto x) { return sum_to(sin(x[0]), from); });
    for (const OpCase& test : {out, back}) {
      check_gradients(test, 1);
      check_gradients(test, 2);
      check_variants(in_every_type(test));
    }
    // adjoint: <broadcast(x), y> = <x, sum_to(y)>
    check_variants(op_case(
        "adjoint", {{from, {-3, 4, 0, true}}, {to, {-3, 4, 0, true}}},
        [&](auto x) { return sum(broadcast_to(x[0], to) * x[1]) - sum(x[0] * sum_to(x[1], from)); }, true));
  }
}

TEST(Reduce, BroadcastsOfIntegersAndBytes) {
  for (const DType dtype : {DType::u8, DType::i32, DType::i64})
    for (const auto& [from, to] : {std::pair<Shape, Shape>{{3, 1}, {3, 32}}, {{16}, {5, 16}}, {{3, 1, 2}, {3, 5, 2}}})
      check_variants(op_case(
          "broadcast_to", {{from, {0, 200}, dtype}}, [&](auto x) { return broadcast_to(x[0], to); }, true));
}

TEST(Reduce, ErrorsNameTheLine) {
  State state;
  Graph graph(state);
  const auto at = [&](const Shape& s) { return full(graph, {DType::f32, s}, 0); };
  const auto expect = [](const char* text, const auto& body) { expect_error_at("tests/reduce.cpp", text, body); };
  expect("no axis 2", [&] { sum(at({2, 3}), {2}); });
  expect("no axis -3", [&] { max(at({2, 3}), {-3}); });
  expect("named twice", [&] { mean(at({2, 3}), {1, -1}); });
  expect("no elements", [&] { mean(at({0, 3}), {0}); });
  expect("needed at least", [&] { variance(at({1, 3}), {0}, false, 1); });
  expect("no maximum", [&] { argmax(at({2, 0})); });
  expect("broadcast", [&] { broadcast_to(at({2, 3}), {2, 4}); });
  expect("broadcast", [&] { broadcast_to(at({2, 3}), {3}); });
  expect("sum", [&] { sum_to(at({2, 3}), {2, 2}); });
  expect("floating", [&] { sum(full(graph, {DType::i32, {3}}, 0)); });
}

}  // namespace
}  // namespace ranvier::test
