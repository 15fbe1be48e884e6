// Pooling ops: values against plain windows, gradients of two orders, variants, unusual maps, bad windows.
#include <limits>

#include "tests/case.h"

namespace ranvier::test {
namespace {

struct Window {
  Shape maps;
  int64_t window, stride, pad;
};
const Window windows[] = {{{2, 4, 4, 3}, 2, 2, 0}, {{1, 5, 7, 2}, 3, 2, 1}, {{2, 6, 5, 1}, 2, 1, 1},
                          {{1, 1, 1, 4}, 1, 1, 0}, {{2, 7, 3, 5}, 3, 3, 0}, {{3, 5, 5, 2}, 2, 3, 0}};

/// Distinct values in a shuffled order, so that no window has a tie and differences stay far from one.
Tensor spread(Tensor x) {
  std::vector<double> offsets(static_cast<size_t>(x.shape().numel()));
  for (size_t i = 0; i < offsets.size(); ++i) offsets[i] = 3.0 * static_cast<double>(i * 37 % 101);
  const Tensor far = cast(constant<double>(*x.graph, x.shape(), offsets), x.dtype());
  return x + far;
}

Shape pooled(const Window& w) {
  const auto out = [&](int64_t extent) { return (extent + 2 * w.pad - w.window) / w.stride + 1; };
  return {w.maps[0], out(w.maps[1]), out(w.maps[2]), w.maps[3]};
}

/// The gradient of x for one of y: nothing but the rule's own ops.
Tensor adjoint(Tensor y, Tensor dy, Tensor x) { return vjp(std::vector{y}, std::vector{dy}, std::vector{x})[0]; }

TEST(Pool, MaxPoolGradientsAndVariants) {
  for (const Window& w : windows) {
    const auto build = [&](std::vector<Tensor> x) {
      return max_pool(spread(sin(x[0])), w.window, w.stride, w.pad) * 0.01;
    };
    check_gradients(op_case("max_pool", {{w.maps}}, build), 1);
    check_gradients(op_case("max_pool", {{w.maps}}, [&](auto x) { return square(build(x)); }), 2);
    check_variants({"max_pool integers",
                    {{w.maps, {-9, 9, 0, true}}, {pooled(w), {-9, 9, 0, true}}, {w.maps, {-9, 9, 0, true}}},
                    [&](std::vector<Tensor> x) {
                      const Tensor y = max_pool(x[0], w.window, w.stride, w.pad);
                      const Tensor dx = adjoint(y, x[1], x[0]);    // unpool
                      const Tensor ddy = adjoint(dx, x[2], x[1]);  // take
                      return std::vector{y, y.output(1), dx, ddy, adjoint(ddy, x[1], x[2])};
                    },
                    true,
                    2e-6,
                    mixed_cuda_types});
  }
}

OpCase average_pool(const Window& w, bool count_pad) {
  return {"avg_pool and its adjoint",
          {{w.maps}, {pooled(w)}},
          [w, count_pad](std::vector<Tensor> x) {
            const Tensor y = avg_pool(x[0], w.window, w.stride, w.pad, count_pad);
            return std::vector{y, adjoint(y, x[1], x[0])};
          },
          false,
          2e-6,
          mixed_cuda_types};
}

TEST(Pool, AveragePoolGradientsAndVariants) {
  for (const Window& w : windows)
    for (bool count_pad : {false, true}) {
      const auto build = [&](std::vector<Tensor> x) {
        return square(avg_pool(x[0] * sin(x[0]), w.window, w.stride, w.pad, count_pad));
      };
      const OpCase test = op_case("avg_pool", {{w.maps}}, build);
      for (int order = 1; order <= 3; ++order) check_gradients(test, order);
      check_variants(average_pool(w, count_pad));
    }
}

TEST(Pool, CudnnIsCompared) { check_vendor(average_pool({{2, 8, 8, 8}, 2, 2, 0}, true), "cudnn"); }

TEST(Pool, LargerMapsAgree) {
  for (Shape maps :
       {Shape{2, 32, 32, 64}, Shape{1, 33, 31, 17}, Shape{0, 4, 4, 2}, Shape{3, 2, 2, 1}, Shape{1, 3, 5, 8}})
    check_variants({"sizes",
                    {{maps, {-64, 64, 0, true}}, {pooled({maps, 2, 2, 0}), {-64, 64, 0, true}}},
                    [&](std::vector<Tensor> x) {
                      const Tensor y = max_pool(x[0], 2);
                      return std::vector{y, y.output(1), adjoint(y, x[1], x[0]), avg_pool(x[0], 2)};
                    },
                    true,
                    2e-6,
                    mixed_cuda_types});
}

TEST(Pool, KnownValues) {
  State state;
  Graph graph(state);
  const Tensor x = input(graph, "x", {DType::f32, {1, 3, 3, 1}});
  const Tensor y = max_pool(x, 2, 1);
  const std::vector<Tensor> outputs = {
      y, y.output(1), grad(sum(y), x), avg_pool(x, 3, 2, 1), avg_pool(x, 3, 2, 1, false), global_avg_pool(x)};
  for (const char* variants : {"", "reference"}) {
    Program program = compile(graph, outputs, {.variants = variants});
    program.set<float>("x", std::vector<float>{1, 5, 5, 9, 5, -9, 0, 0, 9});
    program.run();
    EXPECT_EQ(program.get<float>(0), (std::vector<float>{9, 5, 9, 9}));
    EXPECT_EQ(program.get<int32_t>(1), (std::vector<int32_t>{3, 1, 3, 8})) << "the first among equals";
    EXPECT_EQ(program.get<float>(2), (std::vector<float>{0, 1, 0, 2, 0, 0, 0, 0, 1}));
    EXPECT_FLOAT_EQ(program.get<float>(3)[0], 20.0f / 9);
    EXPECT_FLOAT_EQ(program.get<float>(4)[0], 20.0f / 4);
    EXPECT_FLOAT_EQ(program.get<float>(5)[0], 25.0f / 9);
    const float nan = std::numeric_limits<float>::quiet_NaN(), inf = std::numeric_limits<float>::infinity();
    program.set<float>("x", std::vector<float>{nan, 5, 5, 9, 5, -inf, 0, 0, -inf});
    program.run();
    EXPECT_TRUE(std::isnan(program.get<float>(0)[0]));
    EXPECT_EQ(program.get<float>(0)[3], 5.0f);
  }
}

TEST(Pool, GlobalAverage) {
  const OpCase test =
      op_case("global_avg_pool", {{{3, 4, 5, 7}}}, [](auto x) { return square(global_avg_pool(x[0])); });
  for (int order = 1; order <= 2; ++order) check_gradients(test, order);
  if (!checks_cuda_only()) check_variants(test);  // made of mean alone
}

TEST(Pool, PlacesInWindows) {
  check_variants({"window_position",
                  {{{2, 5, 7, 3}, {-9, 9, 0, true}}},
                  [](std::vector<Tensor> x) {
                    const Tensor index = max_pool(x[0], 2).output(1);
                    return std::vector{window_position(index, 7, 2), pool_take(x[0], index, 2)};
                  },
                  true,
                  2e-6,
                  mixed_cuda_types});
}

TEST(Pool, TakeAndWindowPosition) {
  State state;
  Graph graph(state);
  const Tensor x = input(graph, "x", {DType::f32, {1, 5, 7, 1}}), index = max_pool(x, 2).output(1);
  Program program =
      compile(graph, std::vector{pool_take(x * 2.0, index, 2), max_pool(x, 2) * 2.0, window_position(index, 7, 2)});
  std::vector<float> values(35, 0.0f);
  for (int at : {0, 3, 11, 12, 21, 16, 25}) values[static_cast<size_t>(at)] = 1.0f + static_cast<float>(at);
  program.set<float>("x", values);
  program.run_checked();
  EXPECT_EQ(program.get<float>(0), program.get<float>(1));
  // windows of rows (0,1) win at 0, 3, 11|12 -> places 0, 1, 2 of (11: row 1 column 4), then rows (2,3)
  EXPECT_EQ(program.get<uint8_t>(2), (std::vector<uint8_t>{0, 1, 3, 2, 0, 2}));
}

TEST(Pool, BadWindowsNameTheLine) {
  State state;
  Graph graph(state);
  const Tensor x = input(graph, "x", {DType::f32, {1, 4, 4, 2}}), i = input(graph, "i", {DType::i32, {1, 4, 4, 2}});
  const Tensor empty = input(graph, "empty", {DType::f32, {1, 4, 0, 2}});
  EXPECT_ERROR(max_pool(x, 5), "tests/pool.cpp:");
  EXPECT_ERROR(max_pool(x, 5), "window 5x5 does not fit a map of 4x4");
  EXPECT_ERROR(max_pool(x, 0), "is empty");
  EXPECT_ERROR(max_pool(x, 2, -1), "stride -1 is not positive");
  EXPECT_ERROR(avg_pool(x, 2, 2, 2), "pad 2");
  EXPECT_ERROR(max_pool(i), "needs a floating type");
  EXPECT_ERROR(avg_pool(reshape(x, {4, 8})), "needs maps (n, h, w, c)");
  EXPECT_ERROR(max_pool(empty, 2, 1, 1), "empty");
  EXPECT_ERROR(global_avg_pool(reshape(x, {4, 8})), "is not (n, h, w, c)");
}

}  // namespace
}  // namespace ranvier::test
