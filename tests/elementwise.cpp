// Pointwise ops: values against the C library, gradients to third order, fusion, broadcasting.
#include "kernels/elementwise/convert.h"
#include "tests/case.h"

namespace ranvier::test {
namespace {

using Unary = Tensor (*)(Tensor, Where);
struct UnaryCase {
  const char* name;
  Unary op;
  Fill fill;
  int order;  // highest order of derivative checked
};

const UnaryCase unary[] = {
    {"neg", neg, {}, 3},
    {"exp", exp, {-2, 2}, 3},
    {"log", log, {0.5, 3}, 3},
    {"sqrt", sqrt, {0.5, 3}, 3},
    {"rsqrt", rsqrt, {0.5, 3}, 3},
    {"tanh", tanh, {-2, 2}, 3},
    {"sigmoid", sigmoid, {-3, 3}, 3},
    {"sin", sin, {-3, 3}, 3},
    {"cos", cos, {-3, 3}, 3},
    {"erf", erf, {-2, 2}, 3},
    {"abs", abs, {-2, 2, 0.1}, 2},
    {"square", square, {}, 3},
    {"relu", relu, {-2, 2, 0.1}, 2},
    {"gelu", gelu, {-2, 2}, 3},
    {"silu", silu, {-3, 3}, 3},
    {"softplus", softplus, {-3, 3}, 3},
};

class UnaryOps : public testing::TestWithParam<UnaryCase> {};

TEST_P(UnaryOps, GradientsAndVariants) {
  const UnaryCase& c = GetParam();
  const OpCase test =
      op_case(c.name, {{{3, 7}, c.fill}}, [&](std::vector<Tensor> x) { return c.op(x[0], Where::current()); });
  for (int order = 1; order <= c.order; ++order) check_gradients(test, order);
  check_variants(in_every_type(test));
  for (Shape shape : {Shape{}, Shape{1}, Shape{0}, Shape{257}, Shape{5, 1031}})
    check_variants(in_every_type(
        op_case(c.name, {{shape, c.fill}}, [&](std::vector<Tensor> x) { return c.op(x[0], Where::current()); })));
}
INSTANTIATE_TEST_SUITE_P(All, UnaryOps, testing::ValuesIn(unary), [](const auto& info) { return info.param.name; });

using Binary = Tensor (*)(Tensor, Tensor, Where);
struct BinaryCase {
  const char* name;
  Binary op;
  Fill a, b;
  int order;
};
const BinaryCase binary[] = {
    {"add", add, {}, {}, 3},
    {"sub", sub, {}, {}, 3},
    {"mul", mul, {}, {}, 3},
    {"div", div, {}, {0.5, 2}, 3},
    {"pow", pow, {0.5, 2}, {-2, 2}, 2},
    {"maximum", maximum, {-1, 0}, {0.1, 1}, 2},
    {"minimum", minimum, {-1, 0}, {0.1, 1}, 2},
};
class BinaryOps : public testing::TestWithParam<BinaryCase> {};

TEST_P(BinaryOps, GradientsVariantsBroadcasts) {
  const BinaryCase& c = GetParam();
  const std::pair<Shape, Shape> shapes[] = {{{4, 6}, {4, 6}}, {{4, 6}, {6}},       {{4, 1}, {4, 6}},
                                            {{}, {5}},        {{2, 3, 4}, {3, 1}}, {{2, 1, 4}, {2, 3, 1}},
                                            {{0, 3}, {3}},    {{9, 32}, {32}},     {{9, 32}, {9, 1}}};
  for (const auto& [a, b] : shapes) {
    const OpCase test = op_case(
        c.name, {{a, c.a}, {b, c.b}}, [&](std::vector<Tensor> x) { return c.op(x[0], x[1], Where::current()); }, false,
        4e-6);
    for (int order = 1; order <= c.order; ++order) check_gradients(test, order);
    check_variants(in_every_type(test));
  }
}
INSTANTIATE_TEST_SUITE_P(All, BinaryOps, testing::ValuesIn(binary), [](const auto& info) { return info.param.name; });

TEST(Elementwise, SelectionOps) {
  const std::vector<Operand> two = {{{5, 9}, {-2, 2, 0.05}}, {{5, 9}, {-2, 2, 0.05}}};
  const OpCase cases[] = {
      op_case("where", two, [](auto x) { return where(less(x[0], x[1]), square(x[0]), sin(x[1])); }),
      op_case("clamp", {two[0]}, [](auto x) { return clamp(x[0] * 3.0, -1.01, 2.02); }),
      op_case("compare", two,
              [](auto x) { return x[0] * greater(x[0], x[1]) + x[1] * greater_equal(x[1], x[0]) + equal(x[0], x[0]); }),
      op_case("sign", {two[0]}, [](auto x) { return sign(x[0]) * x[0]; }),
  };
  for (const OpCase& test : cases) {
    check_gradients(test, 1);
    check_gradients(test, 2);
    check_variants(in_every_type(test));
  }
}

TEST(Elementwise, TiesShareTheGradient) {
  for (const Device& device : devices()) {
    State state(device);
    Graph graph(state);
    const Tensor x = input(graph, "x", {DType::f64, {2}}), y = input(graph, "y", {DType::f64, {2}});
    Program program = compile(graph, grad(sum(maximum(x, y)), std::vector{x, y}), {.device = device});
    program.set<double>("x", std::vector{1.0, 2.0});
    program.set<double>("y", std::vector{1.0, 1.0});
    program.run();
    EXPECT_EQ(program.get<double>(0), (std::vector{0.5, 1.0}));
    EXPECT_EQ(program.get<double>(1), (std::vector{0.5, 0.0}));
  }
}

TEST(Elementwise, NanAndInfinitySurvive) {
  const float inf = INFINITY, nan = NAN;
  for (const Device& device : devices()) {
    State state(device);
    Graph graph(state);
    const Tensor x = input(graph, "x", {DType::f32, {3}});
    Program program =
        compile(graph, std::vector{relu(x), tanh(x), softplus(x), maximum(x, full(graph, x.type(), 0)), gelu(x)},
                {.device = device});
    program.set<float>("x", std::vector<float>{nan, inf, -inf});
    program.run();
    for (size_t k = 0; k < 5; ++k) EXPECT_TRUE(std::isnan(program.get<float>(k)[0])) << k;
    EXPECT_EQ(program.get<float>(0)[1], inf);
    EXPECT_EQ(program.get<float>(0)[2], 0.0f);
    EXPECT_EQ(program.get<float>(1)[1], 1.0f);
    EXPECT_EQ(program.get<float>(1)[2], -1.0f);
    EXPECT_EQ(program.get<float>(2)[2], 0.0f);
  }
}

TEST(Elementwise, TanhFourTimesAgainstTheClosedForm) {
  State state;
  Graph graph(state);
  const Tensor x = input(graph, "x", {DType::f64, {41}});
  std::vector<Tensor> d = {tanh(x)};
  for (int order = 0; order < 4; ++order) d.push_back(grad(sum(d.back()), x));
  Program program = compile(graph, d);
  std::vector<double> points;
  for (int i = 0; i < 41; ++i) points.push_back(-3 + 0.15 * i);
  program.set<double>("x", points);
  program.run();
  for (size_t i = 0; i < points.size(); ++i) {
    const double t = std::tanh(points[i]), s = 1 - t * t;
    const double closed[] = {t, s, -2 * t * s, s * (6 * t * t - 2), s * t * (16 - 24 * t * t)};
    for (size_t k = 0; k < 5; ++k)
      EXPECT_NEAR(program.get<double>(k)[i], closed[k], 1e-12) << "order " << k << " at " << points[i];
  }
}

TEST(Elementwise, LongChainsSplitAtTheLimitsAndKeepTheirBits) {
  check_variants(in_every_type(op_case(
                                   "chain", {{{300}, {0.5, 1}}, {{300}, {0.5, 1}}},
                                   [](auto x) {
                                     Tensor y = x[0];
                                     for (int i = 0; i < 40; ++i) y = sin(y * (1.0 + 0.01 * i) + x[1]) + 0.25 * i;
                                     return y;
                                   },
                                   false, 1e-3),
                               64));  // each of 160 steps rounds a 16-bit value of up to 20
}

TEST(Elementwise, GradientsOfChainsKeepTheirBitsInEveryType) {
  // what a training step has of them: bias and activation, and the rule that takes its gradient
  for (const Shape& shape : {Shape{9, 24}, Shape{5, 7}, Shape{3, 64}})
    check_variants(in_every_type(op_case("gelu", {{shape}, {{shape[1]}}},
                                         [](auto x) {
                                           const Tensor y = gelu(x[0] + x[1]);
                                           return grad(sum(y * y), x[0]);
                                         }),
                                 16));
}

TEST(Elementwise, IntegersAddAndCompare) {
  for (const Device& device : devices())
    for (const bool fuse : {false, true}) {
      State state(device);
      Graph graph(state);
      const Tensor x = input(graph, "x", {DType::i64, {3}});
      Program program = compile(graph, std::vector{x + 1.0, x * x, cast(x, DType::f64), clamp(x * 3.0 - 1.0, -4, 9)},
                                {.device = device, .fuse = fuse});
      program.set<int64_t>("x", std::vector<int64_t>{1, -5, int64_t{1} << 40});
      program.run();
      EXPECT_EQ(program.get<int64_t>(0), (std::vector<int64_t>{2, -4, (int64_t{1} << 40) + 1}));
      EXPECT_EQ(program.get<int64_t>(1)[1], 25);
      EXPECT_EQ(program.get<double>(2)[2], 0x1p40);
      EXPECT_EQ(program.get<int64_t>(3), (std::vector<int64_t>{2, -4, 9}));
    }
}

/// What `x`, stored as `from`, is after a cast to `to`.
double cast_value(double x, DType from, DType to) {
  if (is_floating(from)) x = rounded(x, from);
  return is_floating(to) ? rounded(x, to) : std::trunc(x);
}

TEST(Elementwise, CastsBetweenAllTypes) {
  const bool cuda = cuda_support().usable;
  std::vector<DType> types = {DType::f32, DType::f64, DType::i32, DType::i64, DType::u8};
  if (cuda) types.insert(types.end(), {DType::bf16, DType::f16});
  for (DType from : types)
    for (DType to : types) {
      if (from == to) continue;
      for (int64_t n : {0, 1, 37, 1031}) {
        State state(cuda ? Device::cuda() : Device::cpu());
        Graph graph(state);
        const Tensor x = input(graph, "x", {from, {n}});
        Program program = compile(graph, std::vector{cast(x, to)}, {.device = cuda ? Device::cuda() : Device::cpu()});
        std::vector<double> values, want;
        for (int64_t i = 0; i < n; ++i)
          values.push_back(is_floating(from) ? 0.37 * static_cast<double>(i % 501) : i % 251);
        for (double value : values) want.push_back(cast_value(value, from, to));
        set(program, "x", from, values);
        in_every_emulated_mode([&] {
          program.run_checked();
          EXPECT_EQ(get(program, 0), want) << name_of(from) << " to " << name_of(to) << " of " << n;
        });
      }
    }
}

TEST(Elementwise, CastsTo16BitsRoundOnce) {
  // just above the middle between two neighbours: through a rounded f32 it would lie in the middle, and go down to even
  const double above = 1 + 0x1p-8 + 0x1p-40, below = 1 + 3 * 0x1p-8 - 0x1p-40;
  EXPECT_EQ(kernels::to_float(kernels::convert<kernels::bf16>(above)), 1 + 0x1p-7);
  EXPECT_EQ(kernels::to_float(kernels::convert<kernels::bf16>(below)), 1 + 0x1p-7);
  EXPECT_EQ(kernels::to_float(kernels::convert<kernels::bf16>(-above)), -1 - 0x1p-7);
  EXPECT_EQ(kernels::to_float(kernels::convert<kernels::f16>(1 + 0x1p-11 + 0x1p-40)), 1 + 0x1p-10);
  EXPECT_EQ(kernels::to_float(kernels::convert<kernels::bf16>((int64_t{1} << 60) + (int64_t{1} << 52) + 1)),
            0x1p60f + 0x1p53f);
  EXPECT_EQ(kernels::to_float(kernels::convert<kernels::bf16>(-(int64_t{1} << 60) - (int64_t{1} << 52) - 1)),
            -0x1p60f - 0x1p53f);
  EXPECT_EQ(kernels::to_float(kernels::convert<kernels::bf16>(1e300)), INFINITY);
  EXPECT_EQ(kernels::to_float(kernels::convert<kernels::f16>(-1e300)), -INFINITY);
  EXPECT_TRUE(std::isnan(kernels::to_float(kernels::convert<kernels::f16>(static_cast<double>(NAN)))));
}

TEST(Elementwise, ErrorsNameTheLine) {
  State state;
  Graph graph(state);
  const Tensor x = input(graph, "x", {DType::f32, {3}}), y = input(graph, "y", {DType::f32, {4}});
  try {
    x + y;
    FAIL();
  } catch (const Error& error) {
    EXPECT_NE(std::string(error.what()).find("tests/elementwise.cpp:"), std::string::npos) << error.what();
    EXPECT_NE(std::string(error.what()).find("(3) and (4)"), std::string::npos) << error.what();
  }
  EXPECT_THROW(clamp(x, 2, 1), Error);
  EXPECT_THROW(input(graph, "x", {DType::f32, {3}}), Error);
}

}  // namespace
}  // namespace ranvier::test
