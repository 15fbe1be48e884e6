// The network with its tangent: values against closed forms, gradients and Jacobian rows against differences, Taylor
// coefficients of order 2 to 4, variants against the reference, errors.
#include <omp.h>

#include <algorithm>

#include "tests/case.h"

namespace ranvier::test {
namespace {

struct NetCase {
  MlpShape shape;
  int64_t n, batch = 0;  // 0: no batch axis
};

std::vector<NetCase> cases() {
  return {{{{1, 1, 1}}, 1},    {{{1, 12, 2}}, 5},     {{{1, 20, 2}}, 17},      {{{2, 17, 5, 3}}, 33},
          {{{1, 3}}, 4},       {{{3, 40, 2}}, 9},     {{{1, 128, 33, 2}}, 63}, {{{5, 16, 16, 1}}, 65},
          {{{2, 34, 7}}, 0},   {{{1, 12, 2}}, 16, 3}, {{{1, 36, 2}}, 7, 2},    {{{1, 4, 4, 4, 4, 2}}, 40},
          {{{1, 6, 2}}, 1100}, {{{1, 33, 2}}, 700},   {{{40, 40}}, 700},       {{{2, 64, 48, 33, 2}}, 130}};
}

Shape with_batch(const NetCase& c, std::initializer_list<int64_t> extents) {
  Shape shape;
  if (c.batch) shape.push_back(c.batch);
  for (int64_t extent : extents) shape.push_back(extent);
  return shape;
}

/// Value, tangent, and the products of both that make the gradient see the cross terms.
OpCase net_case(const NetCase& c) {
  return {fmt::format("net {} n {} batch {}", fmt::join(c.shape.widths, "-"), c.n, c.batch),
          {{with_batch(c, {c.n, c.shape.widths[0]}), {-1.5, 1.5}},
           {with_batch(c, {c.n, c.shape.widths[0]}), {-1, 1}},
           {with_batch(c, {c.shape.parameters()}), {-0.7, 0.7}}},
          [c](std::vector<Tensor> in) {
            const Jet jet = mlp_jet(in[0], in[1], in[2], c.shape);
            return std::vector{jet.value, jet.tangent};
          },
          false,
          2e-5,
          {DType::f32, DType::f64}};
}

TEST(MlpJet, GradientsOfAnyOrder) {
  for (const NetCase& c :
       {NetCase{{{1, 5, 2}}, 6}, NetCase{{{2, 4, 3, 2}}, 3}, NetCase{{{1, 34, 1}}, 3}, NetCase{{{1, 3, 1}}, 4, 2}})
    for (int order = 1; order <= 2; ++order) {
      OpCase test = net_case(c);
      test.build = [c](std::vector<Tensor> in) {
        const Jet jet = mlp_jet(in[0], in[1], in[2], c.shape);
        return std::vector{jet.value * jet.tangent + square(jet.tangent), sin(jet.value)};
      };
      check_gradients(test, order, order == 1 ? 1e-6 : 4e-6);
    }
}

// x = f(theta) and theta are operands of one op: the gradient is the sum of both roles, each once.
TEST(MlpJet, DependentOperands) {
  OpCase test = op_case("dependent", {{{4, 1}}, {{13}}}, [](std::vector<Tensor> in) {
    const MlpShape shape{{1, 4, 1}};
    const Tensor x = in[0] * sum(square(in[1])), dx = x * 0.5;
    return mlp_jet(x, dx, in[1], shape).tangent;
  });
  for (int order = 1; order <= 2; ++order) check_gradients(test, order, 4e-6);
}

TEST(MlpJet, VariantsAndDecomposition) {
  for (const NetCase& c : cases()) {
    OpCase test = net_case(c);
    test.build = [c](std::vector<Tensor> in) {
      const Jet jet = mlp_jet(in[0], in[1], in[2], c.shape);
      const Tensor objective = sum(square(jet.value) + jet.value * jet.tangent + square(jet.tangent));
      std::vector<Tensor> results = {jet.value, jet.tangent};
      for (const Tensor& g : grad(objective, in)) results.push_back(g * (1.0 / static_cast<double>(c.n + 1)));
      results.push_back(grad(objective, in[2]) * (1.0 / static_cast<double>(c.n + 1)));  // without gx
      return results;
    };
    check_variants(test);
  }
}

// Numbers that AMX's parts cannot hold: a network that diverges does so alike in every variant.
TEST(MlpJet, InfiniteWeightsInEveryVariant) {
  for (const char* variants : {"", "mlp_jet=cpu,mlp_jet_grad=cpu", "mlp_jet=reference,mlp_jet_grad=reference"}) {
    for (const float bad : {std::numeric_limits<float>::infinity(), std::numeric_limits<float>::quiet_NaN()}) {
      State state;
      Graph graph(state);
      const MlpShape shape{{1, 40, 40, 1}};
      const Tensor x = input(graph, "x", {DType::f32, {3, 1}});
      const Tensor theta = input(graph, "theta", {DType::f32, {shape.parameters()}});
      const Jet jet = mlp_jet(x, full(graph, x.type(), 1), theta, shape);
      Program program = compile(graph, std::vector{jet.value, grad(sum(jet.value), theta)}, {.variants = variants});
      std::vector<float> weights(static_cast<size_t>(shape.parameters()), 0.01f);
      weights[80 + 40 * 3 + 5] = bad;  // from unit 5 to unit 3
      program.set<float>("theta", weights);
      program.set<float>("x", std::vector{-0.5f, 0.25f, 1.0f});
      program.run();
      const bool infinite = std::isinf(bad);  // tanh(inf) is 1
      for (const float y : program.get<float>(0)) EXPECT_EQ(std::isfinite(y), infinite) << variants;
      EXPECT_TRUE(std::isfinite(program.get<float>(1).back())) << variants;  // dL / d(last bias) = 1
    }
  }
}

/// Jacobian rows for any seeds, with and without a batch axis.
TEST(MlpJet, RowsOfVariants) {
  for (const NetCase& c : {NetCase{{{1, 12, 2}}, 17}, NetCase{{{1, 5, 4, 3}}, 33}, NetCase{{{2, 40, 70, 1}}, 9},
                           NetCase{{{1, 3}}, 4}, NetCase{{{1, 20, 2}}, 16, 3}, NetCase{{{1, 4, 2}}, 0}}) {
    OpCase test = net_case(c);
    test.name += " rows";
    test.operands.push_back({with_batch(c, {c.n, 3, 2, c.shape.widths.back()}), {-1, 1}});
    test.build = [c](std::vector<Tensor> in) {
      return std::vector{mlp_jet_rows(mlp_jet(in[0], in[1], in[2], c.shape), in[3])};
    };
    check_variants(test);
  }
}

/// One neuron v tanh(w s + b) + e: every derivative in closed form, in long double.
TEST(MlpJet, OneNeuronInClosedForm) {
  State state;
  Graph graph(state);
  const MlpShape shape{{1, 1, 1}};
  const int64_t n = 101;
  const Tensor s = input(graph, "s", {DType::f64, {n, 1}}), theta = input(graph, "theta", {DType::f64, {4}});
  const Tensor one = full(graph, s.type(), 1), zero = full(graph, s.type(), 0);
  const Jet jet = mlp_jet(s, one, theta, shape);
  std::vector<Tensor> outputs = mlp_taylor({s, one, zero, zero, zero}, theta, shape);
  outputs.push_back(jet.value), outputs.push_back(jet.tangent);
  Program program = compile(graph, outputs);
  const double w = 1.75, b = -0.625, v = 1.5, e = 0.25;
  std::vector<double> at;
  for (int64_t i = 0; i < n; ++i) at.push_back(-2 + 4.0 * static_cast<double>(i) / (n - 1));
  program.set<double>("s", at);
  program.set<double>("theta", std::vector{w, b, v, e});
  program.run();
  // Relative to the largest value of the derivative: h is stored rounded, so that 1 - h carries half an ulp of 1.
  const auto near = [&](long double wanted, double got, double tolerance, double largest, const char* what) {
    EXPECT_TRUE(std::abs(static_cast<double>(got - wanted)) <= tolerance * largest)
        << what << ": " << got << " against " << static_cast<double>(wanted);
  };
  for (size_t i = 0; i < at.size(); ++i) {
    const long double z = static_cast<long double>(w) * at[i] + b, h = std::tanh(z), c = 1 / std::cosh(z), q = c * c;
    const long double d1 = v * w * q, d2 = -2 * v * w * w * h * q, d3 = v * w * w * w * (4 * h * h * q - 2 * q * q),
                      d4 = v * w * w * w * w * (16 * h * q * q - 8 * h * h * h * q);
    EXPECT_NEAR(program.get<double>(5)[i], static_cast<double>(v * h + e), 5e-15);
    near(d1, program.get<double>(6)[i], 5e-15, v * w, "jet");
    near(d1, program.get<double>(1)[i], 5e-15, v * w, "order 1");
    near(d2, 2 * program.get<double>(2)[i], 1e-12, 0.77 * v * w * w, "order 2");
    near(d3, 6 * program.get<double>(3)[i], 1e-12, 2 * v * w * w * w, "order 3");
    near(d4, 24 * program.get<double>(4)[i], 1e-12, 4 * v * w * w * w * w, "order 4");
  }
}

// Derivatives along a direction through several layers against derivatives of the traced derivative.
TEST(MlpJet, TaylorAgainstRepeatedGradients) {
  State state;
  Graph graph(state);
  const MlpShape shape{{2, 6, 5, 1}};
  const Tensor s = input(graph, "s", {DType::f64, {7, 1}}),
               theta = input(graph, "theta", {DType::f64, {shape.parameters()}});
  const Tensor line = concat({0.3 + 0.8 * s, 0.1 - 0.5 * s}, 1);
  const double direction[] = {0.8, -0.5};
  const Tensor d = broadcast_to(constant<double>(graph, {1, 2}, direction), {7, 2}), zero = full(graph, d.type(), 0);
  const std::vector<Tensor> taylor = mlp_taylor({line, d, zero, zero, zero}, theta, shape);
  std::vector<Tensor> outputs = taylor;
  Tensor y = mlp_jet(line, d, theta, shape).value;
  for (int k = 0; k < 5; ++k) {
    outputs.push_back(y);
    y = grad(sum(y), s);
  }
  outputs.push_back(grad(sum(taylor[4] * taylor[2]), theta));
  Program program = compile(graph, outputs);
  program.set<double>("s", draw({{7}}, 1));
  program.set<double>("theta", draw({{shape.parameters()}}, 2));
  program.run();
  double factorial = 1;
  for (size_t k = 0; k < 5; ++k) {
    factorial *= k ? static_cast<double>(k) : 1;
    for (size_t i = 0; i < 7; ++i)
      EXPECT_NEAR(factorial * program.get<double>(k)[i], program.get<double>(5 + k)[i], 1e-12 * factorial);
  }
}

/// Rows against central differences of the residuals, and their sum against the gradient.
TEST(MlpJet, JacobianRows) {
  for (const MlpShape& shape : {MlpShape{{1, 6, 2}}, MlpShape{{2, 5, 4, 2}}, MlpShape{{1, 40, 2}}}) {
    const int64_t n = 19, parameters = shape.parameters(), inputs = shape.widths[0];
    State state;
    Graph graph(state);
    const Tensor x = input(graph, "x", {DType::f64, {n, inputs}}), dx = input(graph, "dx", {DType::f64, {n, inputs}});
    const Tensor theta = input(graph, "theta", {DType::f64, {parameters}});
    const Jet jet = mlp_jet(x, dx, theta, shape);
    const auto column = [](Tensor t, int64_t k) { return reshape(slice_axis(t, 1, k, 1), {t.shape()[0]}); };
    const Tensor y0 = column(jet.value, 0), y1 = column(jet.value, 1), d0 = column(jet.tangent, 0),
                 d1 = column(jet.tangent, 1);
    const std::vector<Tensor> residuals = {d0 - sin(y0) * y1, d1 * y1 + square(y0)};
    const Tensor rows = residual_rows(jet, residuals);
    Program program = compile(graph, std::vector{residuals[0], residuals[1], rows});
    Program parts = compile(graph, std::vector{rows}, {.decompose = true});
    for (Program* p : {&program, &parts}) {
      p->set<double>("x", draw({{n, inputs}}, 1));
      p->set<double>("dx", draw({{n, inputs}}, 2));
      p->set<double>("theta", draw({{parameters}}, 3));
      p->run();
    }
    const std::vector<double> j = program.get<double>(2);
    expect_close(parts.get<double>(0), j, 1e-13, "decomposition");
    std::vector<double> at = draw({{parameters}}, 3);
    for (int64_t p = 0; p < parameters; ++p) {
      const double h = 1e-5, value = at[static_cast<size_t>(p)];
      std::vector<double> low[2], high[2];
      for (const double sign : {-1.0, 1.0}) {
        at[static_cast<size_t>(p)] = value + sign * h;
        program.set<double>("theta", at);
        program.run();
        for (size_t r = 0; r < 2; ++r) (sign < 0 ? low : high)[r] = program.get<double>(r);
      }
      at[static_cast<size_t>(p)] = value;
      for (size_t i = 0; i < static_cast<size_t>(n); ++i)
        for (size_t r = 0; r < 2; ++r) {
          const double slope = (high[r][i] - low[r][i]) / (2 * h);
          const double row = j[(i * 2 + r) * static_cast<size_t>(parameters) + static_cast<size_t>(p)];
          ASSERT_TRUE(std::abs(row - slope) <= 1e-7 * std::max(1.0, std::abs(slope))) << row << " against " << slope;
        }
    }
  }
}

TEST(MlpJet, SameBitsForAnyNumberOfThreads) {
  const int before = omp_get_max_threads();
  for (const NetCase& c : cases()) {
    OpCase test = net_case(c);
    test.build = [c](std::vector<Tensor> in) {
      const Jet jet = mlp_jet(in[0], in[1], in[2], c.shape);
      return std::vector{jet.value, jet.tangent, grad(sum(jet.value * jet.tangent), in[2])};
    };
    std::vector<std::vector<double>> first;
    for (int threads : {1, 2, 3}) {
      omp_set_num_threads(threads);
      const auto results = evaluate(test, DType::f32, {});
      if (threads == 1) first = results;
      EXPECT_EQ(results, first) << test.name << " with " << threads << " threads";
    }
  }
  omp_set_num_threads(before);
}

TEST(MlpJet, Errors) {
  State state;
  Graph graph(state);
  const auto at = [&](const Type& type) { return full(graph, type, 0); };
  const MlpShape shape{{1, 4, 2}};
  const Type x{DType::f64, {5, 1}}, theta{DType::f64, {18}};
  EXPECT_ERROR(mlp_jet(at(x), at(x), at({DType::f64, {17}}), shape), "theta must be f64(18)");
  EXPECT_ERROR(mlp_jet(at({DType::f64, {5, 2}}), at(x), at(theta), shape), "x has 2 inputs, the network 1");
  EXPECT_ERROR(mlp_jet(at(x), at({DType::f64, {4, 1}}), at(theta), shape), "dx must be like x");
  EXPECT_ERROR(mlp_jet(at(x), at(x), at(theta), {{1}}), "1 to 8 layers");
  EXPECT_ERROR(mlp_jet(at(x), at(x), at(theta), {{1, 0, 2}}), "width 0 of layer 1");
  EXPECT_ERROR(mlp_jet_rows({at(x), at(x)}, at({DType::f64, {5, 1, 2, 2}})), "no result of mlp_jet");
  EXPECT_ERROR(mlp_taylor({at(x), at({DType::f64, {4, 1}})}, at(theta), shape), "coefficients must be (n, 1)");
  EXPECT_ERROR(mlp_taylor({}, at(theta), shape), "1 to 5 coefficients");
}

}  // namespace
}  // namespace ranvier::test
