// Convolution ops: gradients of two orders, every variant against the reference, unusual shapes, errors.
#include <algorithm>

#include "tests/case.h"
#include "tests/support/files.h"

namespace ranvier::test {
namespace {

using testing::error_of;

struct ConvCase {
  Shape x, w;
  Conv2dOptions options;
};
const ConvCase cases[] = {
    {{2, 5, 5, 3}, {4, 3, 3, 3}, {1, 1}},   {{1, 7, 6, 2}, {3, 3, 3, 2}, {2, 1}}, {{2, 6, 7, 3}, {5, 2, 2, 3}, {1, 0}},
    {{3, 1, 1, 5}, {2, 1, 1, 5}, {1, 0}},   {{1, 1, 1, 1}, {1, 1, 1, 1}, {1, 0}}, {{1, 3, 3, 1}, {1, 3, 3, 1}, {1, 0}},
    {{2, 8, 5, 4}, {17, 1, 1, 4}, {2, 0}},  {{1, 5, 9, 2}, {2, 5, 3, 2}, {3, 2}}, {{5, 9, 9, 1}, {33, 3, 3, 1}, {1, 1}},
    {{1, 4, 4, 19}, {3, 3, 3, 19}, {1, 2}},
};

/// y = conv2d(x, w), and dx and dw for a given dy, so that every one of the three ops runs.
OpCase three_passes(const ConvCase& c, const Fill& fill, bool exact) {
  const auto outputs = [&](int axis) { return (c.x[axis] + 2 * c.options.padding - c.w[axis]) / c.options.stride + 1; };
  return {"conv2d " + to_string(c.x) + " " + to_string(c.w),
          {{c.x, fill}, {c.w, fill}, {{c.x[0], outputs(1), outputs(2), c.w[0]}, fill}},
          [options = c.options](std::vector<Tensor> in) {
            const Tensor y = conv2d(in[0], in[1], options);
            std::vector<Tensor> results = {y};
            for (const Tensor& g : vjp(std::vector{y}, std::vector{in[2]}, std::vector{in[0], in[1]}))
              results.push_back(g);
            return results;
          },
          exact,
          3e-5,  // Winograd is the default where it pays
          {DType::f32, DType::bf16, DType::f16}};
}

std::string everywhere(const std::string& variant) {
  return "conv2d=" + variant + ",conv2d_dgrad=" + variant + ",conv2d_wgrad=" + variant;
}

TEST(Conv2d, Gradients) {
  for (const ConvCase& c : cases) {
    const OpCase test = op_case("conv2d " + to_string(c.x) + " " + to_string(c.w), {{c.x}, {c.w}},
                                [&](std::vector<Tensor> in) { return conv2d(sin(in[0]), in[1] * in[1], c.options); });
    check_gradients(test, 1);
    check_gradients(test, 2);
  }
}

// The loss is quadratic in dx and dw, so that the second gradient goes through the rules of conv2d_dgrad and _wgrad.
TEST(Conv2d, GradientsOfTheGradientOps) {
  for (const ConvCase& c : {cases[0], cases[1], cases[7]}) {
    const OpCase test = op_case("dgrad and wgrad", {{c.x}, {c.w}}, [&](std::vector<Tensor> in) {
      const std::vector<Tensor> g = grad(0.5 * sum(square(conv2d(in[0], in[1], c.options))), in);
      return sum(square(g[0])) * 0.1 + sum(square(g[1])) * 0.1;
    });
    check_gradients(test, 1);
    check_gradients(test, 2, 4e-6);
  }
}

TEST(Conv2d, ExactVariantsOnIntegersEqualTheReference) {
  if (checks_cuda_only()) return;
  std::vector<std::string> names = {"native"};
#if defined(RANVIER_HAS_ONEDNN)
  names.push_back("onednn");
#endif
  for (const ConvCase& c : cases) {
    const OpCase test = three_passes(c, {-2, 3, 0, true}, true);
    const auto oracle = evaluate(test, DType::f32, {.variants = "reference"});
    for (const std::string& name : names)
      EXPECT_EQ(evaluate(test, DType::f32, {.variants = everywhere(name)}), oracle) << test.name << " " << name;
    EXPECT_EQ(evaluate(test, DType::f64, {.variants = everywhere("native")}), oracle) << test.name << " native f64";
  }
}

TEST(Conv2d, ReferenceAgainstTheDefinition) {
  const ConvCase& c = cases[1];
  const OpCase test = three_passes(c, {-2, 3, 0, true}, true);
  const auto y = evaluate(test, DType::f64, {.variants = "reference"})[0];
  const auto x = draw(test.operands[0], 0), w = draw(test.operands[1], 1);
  size_t at = 0;
  for (int64_t n = 0; n < 1; ++n)
    for (int64_t p = 0; p < 4; ++p)
      for (int64_t q = 0; q < 3; ++q)
        for (int64_t k = 0; k < 3; ++k, ++at) {
          double sum = 0;
          for (int64_t r = 0; r < 3; ++r)
            for (int64_t s = 0; s < 3; ++s)
              for (int64_t ch = 0; ch < 2; ++ch) {
                const int64_t i = 2 * p + r - 1, j = 2 * q + s - 1;
                if (i < 0 || i >= 7 || j < 0 || j >= 6) continue;
                sum += x[static_cast<size_t>(((n * 7 + i) * 6 + j) * 2 + ch)] *
                       w[static_cast<size_t>(((k * 3 + r) * 3 + s) * 2 + ch)];
              }
          ASSERT_EQ(y[at], sum) << p << " " << q << " " << k;
        }
  EXPECT_EQ(at, y.size());
}

TEST(Conv2d, DefaultVariantsOnIntegersEqualTheReferenceOnCuda) {
  if (!cuda_support().usable) GTEST_SKIP() << "skipped: no CUDA device";
  for (const ConvCase& c : cases) check_cuda_variants(three_passes(c, {-2, 3, 0, true}, true));
}

TEST(Conv2d, VariantsOnRealNumbers) {
  for (const ConvCase& c : cases) check_variants(three_passes(c, {}, false));
}

TEST(Conv2d, CudnnIsCompared) {
  check_vendor(three_passes({{2, 8, 8, 32}, {32, 3, 3, 32}, {1, 1}}, {}, false), "cudnn");
}

TEST(Conv2d, WinogradIsCloseWhereItRuns) {
  const ConvCase maps[] = {{{2, 8, 8, 8}, {8, 3, 3, 8}, {1, 1}},
                           {{1, 7, 9, 5}, {3, 3, 3, 5}, {1, 1}},
                           {{3, 15, 6, 17}, {9, 3, 3, 17}, {1, 0}},
                           {{1, 1, 1, 1}, {1, 3, 3, 1}, {1, 1}},
                           {{2, 5, 5, 33}, {40, 3, 3, 33}, {1, 2}}};
  for (const ConvCase& c : maps) {
    const OpCase test = three_passes(c, {}, false);
    const auto oracle = evaluate(test, DType::f64, {.variants = "reference"});
    const auto fast = evaluate(test, DType::f32, {.variants = everywhere("winograd")});
    for (size_t k = 0; k < oracle.size(); ++k) {
      double largest = 0;
      for (double v : oracle[k]) largest = std::max(largest, std::abs(v));
      for (size_t i = 0; i < oracle[k].size(); ++i)
        ASSERT_TRUE(std::abs(fast[k][i] - oracle[k][i]) <= 3e-5 * largest)
            << test.name << " result " << k << " element " << i << ": " << fast[k][i] << " against " << oracle[k][i];
    }
  }
}

TEST(Conv2d, NamedVariantsAreTaken) {
  State state;
  Graph graph(state);
  const Tensor x = input(graph, "x", {DType::f32, {2, 8, 8, 8}}), w = input(graph, "w", {DType::f32, {8, 3, 3, 8}});
  const Tensor y = conv2d(x, w, {1, 1});
  std::vector<Tensor> outputs = grad(sum(square(y)), std::vector{x, w});
  for (const char* name : {"native", "reference", "winograd"}) {
    const Plan plan = make_plan(graph, outputs, {.variants = everywhere(name)});
    int found = 0;
    for (const PlanStep& step : plan.steps) {
      if (!std::string(step.op->name).starts_with("conv2d")) continue;
      EXPECT_STREQ(step.variant->name, name);
      ++found;
    }
    EXPECT_EQ(found, 3);
  }
}

/// conv, max-pool 2 and batch norm with its own pool, and the gradients of both results.
OpCase conv_and_pool(const Fill& fill, int64_t floor_to, bool norm) {
  return {
      "conv and pool", {{{2, 7, 5, 3}, fill}, {{4, 3, 3, 3}, fill}, {{2, 3, 2, 4}, fill}}, [=](std::vector<Tensor> in) {
        Tensor y = conv2d(in[0], in[1], {.padding = 1, .floor_to = floor_to});
        const Tensor beta = full(*y.graph, {y.dtype(), {4}}, 0.5);
        y = norm ? batch_norm(y, {}, beta, {.activation = Activation::gelu, .pool = PoolPlace::before}).y
                 : max_pool(y, 2);
        std::vector<Tensor> results = {y};
        for (const Tensor& g : vjp(std::vector{y}, std::vector{in[2]}, std::vector{in[0], in[1]})) results.push_back(g);
        return results;
      }};
}

// Rows and columns that the pool drops: without them every result keeps its bits.
TEST(Conv2d, FloorToLeavesOutWhatThePoolDrops) {
  if (checks_cuda_only()) return;
  for (const bool norm : {false, true})
    EXPECT_EQ(evaluate(conv_and_pool({}, 2, norm), DType::f32, {.variants = "reference"}),
              evaluate(conv_and_pool({}, 1, norm), DType::f32, {.variants = "reference"}));
  const Fill whole{-2, 3, 0, true};
  const auto dense = evaluate(conv_and_pool(whole, 1, false), DType::f32, {.variants = "reference"});
  std::vector<std::string> names = {"native", "winograd"};
#if defined(RANVIER_HAS_ONEDNN)
  names.push_back("onednn");
#endif
  for (const std::string& name : names) {
    const auto live = evaluate(conv_and_pool(whole, 2, false), DType::f32, {.variants = everywhere(name)});
    for (size_t k = 0; k < dense.size(); ++k)
      expect_close(live[k], dense[k], name == "winograd" ? 3e-5 : 0, "floor_to " + name);
  }
}

TEST(Conv2d, EmptyBatch) {
  const OpCase test = three_passes({{0, 5, 5, 2}, {3, 3, 3, 2}, {1, 1}}, {}, true);
  check_variants(test);
  const auto results = evaluate(test, DType::f32, {});
  EXPECT_TRUE(results[0].empty());
  EXPECT_EQ(results[2], std::vector<double>(54, 0.0));
}

TEST(Conv2d, ErrorsNameTheLine) {
  State state;
  Graph graph(state);
  const auto at = [&](const Shape& s) { return full(graph, {DType::f32, s}, 0); };
  const auto expect = [](const char* text, const auto& body) { expect_error_at("tests/conv2d.cpp", text, body); };
  expect("(N, H, W, C)", [&] { conv2d(at({2, 5, 5}), at({4, 3, 3, 3})); });
  expect("one C", [&] { conv2d(at({2, 5, 5, 3}), at({4, 3, 3, 2})); });
  expect("filter", [&] { conv2d(at({2, 2, 2, 3}), at({4, 3, 3, 3})); });
  expect("stride", [&] { conv2d(at({2, 5, 5, 3}), at({4, 3, 3, 3}), {0, 0}); });
  expect("padding", [&] { conv2d(at({2, 5, 5, 3}), at({4, 3, 3, 3}), {1, -1}); });
  expect("floor_to 0", [&] { conv2d(at({2, 5, 5, 3}), at({4, 3, 3, 3}), {1, 0, 0}); });
  expect("nothing is left", [&] { conv2d(at({2, 3, 3, 3}), at({4, 3, 3, 3}), {1, 0, 2}); });
  expect("floating", [&] { conv2d(at({2, 5, 5, 3}), full(graph, {DType::f64, {4, 3, 3, 3}}, 0)); });
  expect("winograd", [&] {
    const Tensor y = conv2d(input(graph, "x", {DType::f32, {1, 5, 5, 1}}), at({1, 2, 2, 1}));
    make_plan(graph, std::vector{y}, {.variants = "conv2d=winograd"});
  });
}

}  // namespace
}  // namespace ranvier::test
