// Batch norm ops: every activation and pool, with and without gamma, against a plain computation; two orders.
#include <algorithm>

#include "tests/case.h"
#include "tests/support/files.h"

namespace ranvier::test {
namespace {

using testing::error_of;

struct Form {
  Activation activation;
  PoolPlace pool;
  bool gamma;
};

std::vector<Form> forms() {
  std::vector<Form> all;
  for (Activation act : {Activation::none, Activation::relu, Activation::gelu, Activation::silu})
    for (PoolPlace pool : {PoolPlace::none, PoolPlace::before, PoolPlace::after})
      for (bool gamma : {false, true}) all.push_back({act, pool, gamma});
  return all;
}

std::string name_of(const Form& form) {
  return fmt::format("batch_norm act {} pool {} gamma {}", static_cast<int>(form.activation),
                     static_cast<int>(form.pool), form.gamma);
}

BatchNormOptions options_of(const Form& form) { return {1e-3, form.activation, form.pool}; }

/// An operand with one value a channel: f32 beside 16-bit maps.
Operand per_channel(const Shape& shape, double low, double high) {
  Operand operand{{shape[3]}, {low, high}};
  operand.wide = true;
  return operand;
}

/// Operands x, beta and gamma.
std::vector<Operand> operands(const Shape& shape, const Form& form) {
  std::vector<Operand> in = {{shape, {-1, 1}}, per_channel(shape, -0.5, 0.5)};
  if (form.gamma) in.push_back(per_channel(shape, 0.5, 1.5));
  return in;
}

/// y, mean and variance.
std::vector<Tensor> build(const std::vector<Tensor>& in, const Form& form) {
  const auto gamma = form.gamma ? std::optional(in[2]) : std::nullopt;
  const BatchNormResult r = batch_norm(in[0], gamma, in[1], options_of(form));
  return {r.y, r.mean, r.variance};
}

/// y, mean, variance, and the gradients of the operands for a gradient of y that is one operand more.
OpCase with_gradients(const Shape& shape, const Form& form) {
  std::vector<Operand> in = operands(shape, form);
  const int64_t by = form.pool == PoolPlace::none ? 1 : 2;
  in.push_back({{shape[0], shape[1] / by, shape[2] / by, shape[3]}, {-1, 1}});
  OpCase test{name_of(form) + " of " + to_string(shape), in, [form](std::vector<Tensor> x) {
                const Tensor dy = x.back();
                x.pop_back();
                std::vector<Tensor> results = build(x, form);
                for (const Tensor& g : vjp(std::vector{results[0]}, std::vector{dy}, x)) results.push_back(g);
                return results;
              }};
  test.tolerance = 2e-5;
  test.cuda = mixed_cuda_types;
  return test;
}

double activated(double a, Activation act) {
  switch (act) {
    case Activation::relu:
      return std::max(a, 0.0);
    case Activation::gelu:
      return 0.5 * a * (1 + std::erf(a / std::sqrt(2.0)));
    case Activation::silu:
      return a / (1 + std::exp(-a));
    default:
      return a;
  }
}

/// Maxima of 2x2 windows of (n, h, w, c).
std::vector<double> pooled(const std::vector<double>& x, Shape& s) {
  const Shape out{s[0], s[1] / 2, s[2] / 2, s[3]};
  std::vector<double> y;
  for (int64_t n = 0; n < out[0]; ++n)
    for (int64_t i = 0; i < out[1]; ++i)
      for (int64_t j = 0; j < out[2]; ++j)
        for (int64_t c = 0; c < out[3]; ++c) {
          double best = -INFINITY;
          for (int64_t di = 0; di < 2; ++di)
            for (int64_t dj = 0; dj < 2; ++dj)
              best = std::max(best, x[static_cast<size_t>(((n * s[1] + 2 * i + di) * s[2] + 2 * j + dj) * s[3] + c)]);
          y.push_back(best);
        }
  s = out;
  return y;
}

struct Plain {
  std::vector<double> y, mean, variance;
};
Plain plainly(std::vector<double> x, Shape s, const std::vector<double>& beta, const std::vector<double>* gamma,
              const Form& form) {
  if (form.pool == PoolPlace::before) x = pooled(x, s);
  const auto c = static_cast<size_t>(s[3]);
  const double rows = static_cast<double>(x.size() / c);
  Plain p{x, std::vector<double>(c, 0.0), std::vector<double>(c, 0.0)};
  for (size_t i = 0; i < x.size(); ++i) p.mean[i % c] += x[i] / rows;
  for (size_t i = 0; i < x.size(); ++i) p.variance[i % c] += (x[i] - p.mean[i % c]) * (x[i] - p.mean[i % c]) / rows;
  for (size_t i = 0; i < x.size(); ++i) {
    const double z = (x[i] - p.mean[i % c]) / std::sqrt(p.variance[i % c] + 1e-3);
    p.y[i] = activated(z * (gamma ? (*gamma)[i % c] : 1.0) + beta[i % c], form.activation);
  }
  if (form.pool == PoolPlace::after) p.y = pooled(p.y, s);
  return p;
}

TEST(BatchNorm, AgainstAPlainComputation) {
  for (const Form& form : forms())
    for (const Shape& shape : {Shape{2, 4, 4, 3}, Shape{1, 5, 3, 17}, Shape{3, 2, 2, 1}}) {
      const OpCase test{name_of(form), operands(shape, form), [&](auto in) { return build(in, form); }};
      const auto x = draw(test.operands[0], 0), beta = draw(test.operands[1], 1);
      const auto gamma = form.gamma ? draw(test.operands[2], 2) : std::vector<double>{};
      const Plain p = plainly(x, shape, beta, form.gamma ? &gamma : nullptr, form);
      for (const bool decompose : {false, true}) {
        const auto results = evaluate(test, DType::f64, {.decompose = decompose});
        expect_close(results[0], p.y, 1e-12, test.name + " y");
        expect_close(results[1], p.mean, 1e-12, test.name + " mean");
        expect_close(results[2], p.variance, 1e-12, test.name + " variance");
      }
    }
}

TEST(BatchNorm, VariantsFusionAndDecomposition) {
  for (const Form& form : forms())
    for (const Shape& shape : {Shape{2, 4, 4, 3}, Shape{1, 5, 3, 17}, Shape{3, 2, 2, 1}, Shape{2, 5, 4, 8}})
      check_variants(with_gradients(shape, form));
}

// Several blocks of positions; several tiles of channels, in packs and in single channels; and packs that leave threads
// of a block idle.
TEST(BatchNorm, VariantsOfLargerMaps) {
  for (const Form& form :
       {Form{Activation::gelu, PoolPlace::before, false}, Form{Activation::relu, PoolPlace::after, true},
        Form{Activation::none, PoolPlace::none, true}, Form{Activation::silu, PoolPlace::after, true}})
    for (const Shape& shape : {Shape{3, 31, 30, 16}, Shape{1, 3, 2, 560}, Shape{1, 2, 3, 131}, Shape{2, 17, 19, 24}})
      check_variants(with_gradients(shape, form));
}

TEST(BatchNorm, CudnnIsCompared) {
  check_vendor(with_gradients({2, 5, 4, 8}, {Activation::none, PoolPlace::none, true}), "cudnn");
}

TEST(BatchNorm, Gradients) {
  for (const Form& form : forms()) {
    const OpCase test = op_case(name_of(form), operands({2, 4, 2, 2}, form),
                                [&](std::vector<Tensor> in) { return build(in, form)[0]; });
    check_gradients(test, 1);
    check_gradients(test, 2);
  }
}

TEST(BatchNorm, GradientsThroughTheStatistics) {
  for (const Form& form : forms()) {
    const OpCase test{name_of(form) + " statistics", operands({2, 3, 2, 2}, form), [&](std::vector<Tensor> in) {
                        std::vector<Tensor> results = build(in, form);
                        results[2] = sin(results[2]) * results[1];
                        return results;
                      }};
    check_gradients(test, 1);
    check_gradients(test, 2);
  }
}

// The rule of batch_norm emits batch_norm_grad for first gradients; here its own gradient is taken, which must reach x
// through the op's operands and through the statistics alike.
TEST(BatchNorm, SecondOrderGoesThroughTheGradientOp) {
  State state;
  Graph graph(state);
  const Tensor x = input(graph, "x", {DType::f64, {2, 4, 4, 3}}), beta = input(graph, "beta", {DType::f64, {3}});
  const Tensor y = batch_norm(x, {}, beta, {1e-3, Activation::gelu, PoolPlace::after}).y;
  const Tensor first = grad(sum(y * y), x);
  EXPECT_NE(graph.text().find("batch_norm_grad"), std::string::npos);
  const std::vector<Tensor> second = grad(sum(first * first), std::vector{x, beta});
  EXPECT_EQ(second[0].shape(), x.shape());
  EXPECT_EQ(second[1].shape(), beta.shape());
}

TEST(BatchNorm, Evaluation) {
  for (const Form& form : forms()) {
    for (int64_t channels : {3, 16}) {
      const Shape shape{2, 5, 4, channels};
      std::vector<Operand> in = {
          {shape, {-1, 1}}, per_channel(shape, -0.5, 0.5), per_channel(shape, -0.3, 0.3), per_channel(shape, 0.5, 1.5)};
      if (form.gamma) in.push_back(per_channel(shape, 0.5, 1.5));
      OpCase test = op_case(name_of(form) + " eval", in, [&](std::vector<Tensor> t) {
        const auto gamma = form.gamma ? std::optional(t[4]) : std::nullopt;
        return batch_norm_eval(t[0], gamma, t[1], t[2], t[3], options_of(form));
      });
      test.cuda = mixed_cuda_types;
      check_variants(test);
      if (channels > 3) continue;
      check_gradients(test, 1);
      check_gradients(test, 2);
    }
  }
}

// With the batch's own statistics, evaluation is training.
TEST(BatchNorm, EvaluationWithTheBatchsStatisticsIsTraining) {
  for (const Form& form : forms()) {
    const OpCase test{name_of(form), operands({2, 4, 5, 3}, form), [&](std::vector<Tensor> in) {
                        const std::vector<Tensor> r = build(in, form);
                        const auto gamma = form.gamma ? std::optional(in[2]) : std::nullopt;
                        return std::vector{r[0], batch_norm_eval(in[0], gamma, in[1], r[1], r[2], options_of(form))};
                      }};
    const auto results = evaluate(test, DType::f32, {});
    expect_close(results[0], results[1], 4e-6, test.name);
  }
}

TEST(BatchNorm, OneRowGivesBeta) {
  const OpCase test{"one row", {{{1, 1, 1, 5}}, {{5}}}, [](std::vector<Tensor> in) {
                      const BatchNormResult r = batch_norm(in[0], {}, in[1]);
                      EXPECT_EQ(r.rows, 1);
                      return std::vector{r.y, r.variance, grad(sum(square(r.y)), in[0])};
                    }};
  const auto results = evaluate(test, DType::f32, {});
  EXPECT_EQ(results[0], draw(test.operands[1], 1));
  EXPECT_EQ(results[1], std::vector<double>(5, 0.0));
  for (double dx : results[2]) EXPECT_NEAR(dx, 0, 1e-4);  // rounding times 1 / sqrt(eps), 316
}

TEST(BatchNorm, ErrorsNameTheLine) {
  State state;
  Graph graph(state);
  const auto at = [&](const Shape& s) { return full(graph, {DType::f32, s}, 0); };
  const auto expect = [](const char* text, const auto& body) { expect_error_at("tests/norm.cpp", text, body); };
  expect("(N, H, W, C)", [&] { batch_norm(at({2, 3}), {}, at({3})); });
  expect("one value a channel", [&] { batch_norm(at({2, 3, 3, 4}), {}, at({3})); });
  expect("one value a channel", [&] { batch_norm(at({2, 3, 3, 4}), at({5}), at({4})); });
  expect("one value a channel", [&] { batch_norm_eval(at({2, 3, 3, 4}), {}, at({4}), at({4}), at({1})); });
  expect("floating", [&] { batch_norm(at({2, 3, 3, 4}), {}, full(graph, {DType::f64, {4}}, 0)); });
  const Tensor half = full(graph, {DType::bf16, {2, 3, 3, 4}}, 0);
  EXPECT_EQ(batch_norm(half, {}, at({4})).mean.dtype(), DType::f32);
  EXPECT_EQ(batch_norm(half, {}, at({4})).y.dtype(), DType::bf16);
  expect("x is bf16, one of them bf16", [&] { batch_norm(half, {}, full(graph, {DType::bf16, {4}}, 0)); });
  expect("batch_norm", [&] { batch_norm(at({0, 3, 3, 4}), {}, at({4})); });
  expect("batch_norm", [&] { batch_norm(at({2, 1, 3, 4}), {}, at({4}), {1e-5, Activation::none, PoolPlace::after}); });
}

}  // namespace
}  // namespace ranvier::test
