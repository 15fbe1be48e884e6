// The reverse sweep: what it reaches, what it refuses, and gradients of gradients.
#include "engine/grad.h"

#include <gtest/gtest.h>

#include <cmath>

#include "engine/op.h"
#include "engine/ops.h"
#include "engine/program.h"
#include "tests/support/files.h"

namespace ranvier {
namespace {

using testing::error_of;
using Doubles = std::vector<double>;

struct Trace {
  State state;
  Graph graph{state};
  Doubles values = {0.5, -1.25, 2.0};
  Tensor x = input(graph, "x", {DType::f64, {3}});

  Doubles run(Tensor y, const PlanOptions& options = {}) {
    Program program = compile(graph, std::vector{y}, options);
    program.set<double>("x", values);
    program.run();
    return program.get<double>(0);
  }
  void expect(Tensor y, const std::function<double(double)>& closed) {
    const Doubles result = run(y);
    ASSERT_EQ(result.size(), values.size());
    for (size_t i = 0; i < values.size(); ++i) EXPECT_NEAR(result[i], closed(values[i]), 1e-12) << i;
  }
};

/// a b + a, told by its decomposition alone.
std::vector<Type> infer_first(std::span<const Type> in, const Attrs&) { return {in[0]}; }
const OpDef fused_op{.name = "fused_multiply", .infer = infer_first, .decompose = [](Vjp& v) {
                       v.set_output(0, v.x(0) * v.x(1) + v.x(0));
                     }};
Tensor fused(Tensor a, Tensor b) {
  const Tensor in[] = {a, b};
  return a.graph->emit(fused_op, {}, in, Where::current());
}

/// Rounds towards zero and declares that it has no gradient.
constexpr Variant truncate_variants[] = {{.name = "reference", .run = [](const Call& call) {
                                            for (int64_t i = 0; i < call.node.out[0].shape.numel(); ++i)
                                              call.out<double>(0)[i] = std::trunc(call.in<double>(0)[i]);
                                          }}};
const OpDef truncate_op{
    .name = "truncate", .infer = infer_first, .variants = truncate_variants, .smoothness = Smoothness::none};
Tensor truncate(Tensor x, Where where = Where::current()) {
  return x.graph->emit(truncate_op, {}, std::span(&x, 1), where);
}

TEST(Grad, UnreachableIsZerosOfItsShape) {
  Trace t;
  const Tensor other = input(t.graph, "other", {DType::f64, {2, 3}});
  const Tensor later = sin(t.x);
  const std::vector<Tensor> gs = grad(sum(square(t.x)), std::vector{other, t.x, later});
  EXPECT_EQ(t.run(gs[0]), Doubles(6, 0.0));
  t.expect(gs[1], [](double x) { return 2 * x; });
  EXPECT_EQ(t.run(gs[2]), Doubles(3, 0.0));
  EXPECT_EQ(t.run(grad(sum(full(t.graph, {DType::f64, {4}}, 2)), t.x)), Doubles(3, 0.0));
}

TEST(Grad, StopGradientStopsOnePathOnly) {
  Trace t;
  t.expect(grad(sum(stop_gradient(square(t.x)) * t.x), t.x), [](double x) { return x * x; });
  EXPECT_EQ(t.run(grad(sum(stop_gradient(t.x)), t.x)), Doubles(3, 0.0));
  t.expect(grad(sum(stop_gradient(truncate(t.x)) * t.x), t.x), [](double x) { return std::trunc(x); });
}

TEST(Grad, ANonDifferentiableOpInThePathIsAnErrorThatNamesOpAndLine) {
  Trace t;
  const Tensor y = truncate(t.x);
  const auto made = std::to_string(__LINE__ - 1), asked = std::to_string(__LINE__ + 1);
  std::string error = error_of([&] { grad(sum(y * t.x), t.x); });
  EXPECT_NE(error.find("'truncate'"), std::string::npos) << error;
  EXPECT_NE(error.find("grad.cpp:" + made), std::string::npos) << error;
  EXPECT_NE(error.find("grad.cpp:" + asked), std::string::npos) << error;
  EXPECT_NE(error.find("stop_gradient"), std::string::npos) << error;
  EXPECT_NO_THROW(grad(sum(truncate(full(t.graph, t.x.type(), 1)) * t.x), t.x));  // not on the path
  error = error_of([&] { grad(sum(cast(argmax(t.x), DType::f64)), t.x); });
  EXPECT_NE(error.find("not differentiable"), std::string::npos) << error;
}

TEST(Grad, WithRespectToIntermediateValues) {
  Trace t;
  const Tensor a = sin(t.x), b = square(a), y = sum(b * a);
  const std::vector<Tensor> gs = grad(y, std::vector{b, a, t.x, b});
  t.expect(gs[0], [](double x) { return std::sin(x); });
  t.expect(gs[1], [](double x) { return 3 * std::sin(x) * std::sin(x); });
  t.expect(gs[2], [](double x) { return 3 * std::sin(x) * std::sin(x) * std::cos(x); });
  EXPECT_EQ(gs[3].value, gs[0].value);
  EXPECT_EQ(t.run(grad(t.x, t.x)), Doubles(3, 1.0));  // of itself
}

TEST(Grad, SharedSubexpressionsAddUp) {
  Trace t;
  const Tensor shared = exp(t.x);
  t.expect(grad(sum(shared * shared + sin(shared) + shared), t.x), [](double x) {
    const double e = std::exp(x);
    return e * (2 * e + std::cos(e) + 1);
  });
  Tensor y = t.x;
  for (int i = 0; i < 20; ++i) y = y + y;  // 2^20 paths through 20 nodes
  t.expect(grad(sum(y), t.x), [](double) { return 0x1p20; });
}

TEST(Grad, OfAGradient) {
  Trace t;
  const Tensor y = sin(t.x) * t.x;
  const Tensor first = grad(sum(y), t.x), second = grad(sum(first), t.x), third = grad(sum(second), t.x);
  t.expect(first, [](double x) { return std::cos(x) * x + std::sin(x); });
  t.expect(second, [](double x) { return 2 * std::cos(x) - x * std::sin(x); });
  t.expect(third, [](double x) { return -3 * std::sin(x) - x * std::cos(x); });
  // a penalty on the gradient, as used in a loss: d/dx of sum((dy/dx)^2)
  t.expect(grad(sum(square(first)), t.x),
           [](double x) { return 2 * (std::cos(x) * x + std::sin(x)) * (2 * std::cos(x) - x * std::sin(x)); });
}

TEST(Grad, FusedOpsAreDifferentiatedThroughTheirDecomposition) {
  Trace t;
  const Tensor b = cos(t.x);
  t.expect(fused(t.x, b), [](double x) { return x * std::cos(x) + x; });
  t.expect(grad(sum(fused(t.x, b)), t.x), [](double x) { return std::cos(x) - x * std::sin(x) + 1; });
  t.expect(grad(sum(fused(b, t.x)), b), [](double x) { return x + 1; });
  const Tensor same = sin(t.x);  // one value in both roles: s^2 + s
  t.expect(grad(sum(fused(same, same)), same), [](double x) { return 2 * std::sin(x) + 1; });
  t.expect(grad(sum(fused(same, same)), t.x), [](double x) { return (2 * std::sin(x) + 1) * std::cos(x); });
  t.expect(grad(sum(grad(sum(fused(t.x, t.x)), t.x)), t.x), [](double) { return 2.0; });
}

TEST(Grad, VectorJacobianProductOfSeveralResults) {
  Trace t;
  const std::vector<Tensor> ys = {square(t.x), sum(t.x)};
  const std::vector<Tensor> dys = {sin(t.x), full(t.graph, {DType::f64, {}}, 10)};
  t.expect(vjp(ys, dys, std::vector{t.x})[0], [](double x) { return 2 * x * std::sin(x) + 10; });
}

TEST(Grad, RefusesWhatHasNoGradient) {
  Trace t;
  const Tensor integer = input(t.graph, "i", {DType::i32, {3}});
  EXPECT_NE(error_of([&] { grad(integer, t.x); }).find("i32(3)"), std::string::npos);
  EXPECT_NE(error_of([&] { grad(sum(t.x), integer); }).find("i32(3)"), std::string::npos);
  EXPECT_NE(error_of([&] { grad(Tensor{}, t.x); }).find("empty"), std::string::npos);
  EXPECT_NE(error_of([&] { grad(sum(t.x), Tensor{}); }).find("empty"), std::string::npos);
  Graph other(t.state);
  const Tensor stranger = input(other, "x", {DType::f64, {3}});
  EXPECT_NE(error_of([&] { grad(sum(t.x), stranger); }).find("another trace"), std::string::npos);
  EXPECT_NE(error_of([&] { vjp(std::vector{t.x}, std::vector{sum(t.x)}, std::vector{t.x}); }).find("f64()"),
            std::string::npos);
  EXPECT_NE(error_of([&] { vjp(std::vector{t.x}, std::vector<Tensor>{}, std::vector{t.x}); }).find("0 gradients"),
            std::string::npos);
}

}  // namespace
}  // namespace ranvier
