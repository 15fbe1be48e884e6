// Ops that move elements: values against NumPy's meaning spelled out, gradients to third order, variants, bad operands.
#include "tests/case.h"

namespace ranvier::test {
namespace {

/// A case whose results are smooth but not linear, so that higher derivatives are not all zero.
OpCase curved(std::string name, std::vector<Operand> operands, std::function<Tensor(std::vector<Tensor>)> build) {
  return op_case(std::move(name), std::move(operands), [build](std::vector<Tensor> x) {
    for (Tensor& t : x)
      if (is_floating(t.dtype())) t = t * sin(t);
    return square(build(x));
  });
}

/// Integer operands, compared to the bit.
OpCase exact(std::string name, std::vector<Operand> operands, std::function<Tensor(std::vector<Tensor>)> build) {
  for (Operand& operand : operands)
    if (is_floating(operand.dtype)) operand.fill = {-9, 9, 0, true};
  return in_every_type(op_case(std::move(name), std::move(operands), std::move(build), true));
}

void check_all(const std::string& name, const std::vector<Operand>& operands,
               const std::function<Tensor(std::vector<Tensor>)>& build, int order = 3) {
  for (int k = 1; k <= order; ++k) check_gradients(curved(name, operands, build), k);
  check_variants(exact(name, operands, build));
  check_variants(exact(name + " gradient", operands, [&](std::vector<Tensor> x) {
    const Tensor y = build(x);
    return grad(sum(y * y), x[0]);
  }));
}

/// Runs a trace of one i32 operand 0, 1, 2, ... and returns the result.
std::vector<double> on_range(const Shape& shape, const std::function<Tensor(Tensor)>& build, const Device& device,
                             std::string variants = "") {
  State state(device);
  Graph graph(state);
  Program program = compile(graph, std::vector{build(input(graph, "x", {DType::i32, shape}))},
                            {.device = device, .variants = variants});
  std::vector<int32_t> values(static_cast<size_t>(shape.numel()));
  for (size_t i = 0; i < values.size(); ++i) values[i] = static_cast<int32_t>(i);
  program.set<int32_t>("x", values);
  program.run_checked();
  return get(program, 0);
}

using Values = std::vector<double>;

TEST(Index, KnownValues) {
  std::vector<std::pair<Device, std::string>> places = {{Device::cpu(), ""}, {Device::cpu(), "reference"}};
  if (cuda_support().usable) places.emplace_back(Device::cuda(), "");
  for (const auto& [device, variants] : places) {
    const auto run = [&, &device = device, &variants = variants](Shape shape,
                                                                 const std::function<Tensor(Tensor)>& build) {
      return on_range(shape, build, device, variants);
    };
    EXPECT_EQ(run({2, 3}, [](Tensor x) { return transpose(x); }), (Values{0, 3, 1, 4, 2, 5}));
    EXPECT_EQ(run({2, 1, 3}, [](Tensor x) { return transpose(x, {2, 0, 1}); }), (Values{0, 3, 1, 4, 2, 5}));
    EXPECT_EQ(run({3, 4}, [](Tensor x) { return slice(x, {1, 1}, {2, 2}); }), (Values{5, 6, 9, 10}));
    EXPECT_EQ(run({3, 4}, [](Tensor x) { return slice(x, {-1, 0}, {-1, -1}, {-2, 3}); }), (Values{8, 11, 0, 3}));
    EXPECT_EQ(run({5}, [](Tensor x) { return slice_axis(x, -1, -2, -1); }), (Values{3, 4}));
    EXPECT_EQ(run({5}, [](Tensor x) { return slice(x, {4}, {2}, {-3}); }), (Values{4, 1}));
    EXPECT_EQ(run({1, 2}, [](Tensor x) { return pad(x, {0, 1}, {1, 2}); }), (Values{0, 0, 1, 0, 0, 0, 0, 0, 0, 0}));
    EXPECT_EQ(run({4}, [](Tensor x) { return pad_reflect(x, {3}, {2}); }), (Values{3, 2, 1, 0, 1, 2, 3, 2, 1}));
    EXPECT_EQ(run({2, 2},
                  [](Tensor x) {
                    return concat({x, slice_axis(x, 1, 0, 1), x}, 1);
                  }),
              (Values{0, 1, 0, 0, 1, 2, 3, 2, 2, 3}));
    EXPECT_EQ(run({3}, [](Tensor x) { return gather(x * x, slice(x, {2}, {3}, {-1})); }), (Values{4, 1, 0}));
    EXPECT_EQ(run({3}, [](Tensor x) { return scatter_add(x + x, x * 0.0, 0, 2); }), (Values{6, 0}));
    EXPECT_EQ(run({2}, [](Tensor x) { return one_hot(x, 3); }), (Values{1, 0, 0, 0, 1, 0}));
    EXPECT_EQ(run({2}, [](Tensor x) { return one_hot(x, 2, DType::i64); }), (Values{1, 0, 0, 1}));
  }
}

TEST(Index, Transpose) {
  check_all("2d", {{{3, 5}}}, [](auto x) { return transpose(x[0]); });
  check_all("nhwc", {{{2, 3, 4, 5}}}, [](auto x) { return transpose(x[0], {0, 3, 1, 2}); });
  check_all("six", {{{1, 2, 1, 3, 2, 2}}}, [](auto x) { return transpose(x[0], {5, -2, 3, 0, 1, 2}); });
  for (Shape shape : {Shape{33, 17}, Shape{0, 4}, Shape{1, 1}, Shape{64, 129}})
    check_variants(exact("size", {{shape}}, [](auto x) { return transpose(x[0]); }));
}

TEST(Index, SliceAndPad) {
  check_all("box", {{{4, 5, 3}}}, [](auto x) { return slice(x[0], {1, 2, 0}, {2, 3, 3}); });
  check_all("steps", {{{7, 5}}}, [](auto x) { return slice(x[0], {5, 0}, {3, 2}, {-2, 3}); });
  check_all(
      "nothing", {{{3, 2}}},
      [](auto x) {
        return slice(x[0], {0, 1}, {0, 1});
      },
      1);
  check_all("pad", {{{2, 3}}}, [](auto x) { return pad(x[0], {1, 0}, {2, 4}); });
  check_all("reflect", {{{2, 4, 3, 2}}}, [](auto x) { return pad_reflect(x[0], {0, 3, 1, 0}, {0, 2, 2, 0}); });
  check_all("reflect whole", {{{5}}}, [](auto x) { return pad_reflect(x[0], {4}, {4}); });
  for (Shape shape : {Shape{1, 9, 1, 3}, Shape{3, 31, 33, 5}, Shape{0, 5, 5, 2}})
    check_variants(exact("maps", {{shape}}, [](auto x) {
      const Tensor y = slice(x[0], {0, 1, 0, 0}, {-1, -1, -1, -1}, {1, 2, 1, 1});
      return pad(y, {0, 2, 2, 0}, {1, 2, 2, 0});
    }));
}

TEST(Index, SliceOfEverythingIsTheOperand) {
  State state;
  Graph graph(state);
  const Tensor x = input(graph, "x", {DType::f32, {3, 4}});
  for (const Tensor& y : {slice(x, {0, 0}, {3, 4}), slice(x, {0, 0}, {-1, -1}), pad(x, {0, 0}, {0, 0}),
                          pad_reflect(x, {0, 0}, {0, 0}), transpose(x, {0, 1}), concat({x}, 1)})
    EXPECT_EQ(y.value, x.value);
}

TEST(Index, Concat) {
  check_all("last", {{{3, 2}}, {{3, 1}}, {{3, 4}}}, [](auto x) { return concat(x, -1); });
  check_all("first", {{{1, 2, 2}}, {{3, 2, 2}}}, [](auto x) { return concat(x, 0); });
  check_all("twice", {{{2, 3}}}, [](auto x) { return concat({x[0], x[0] * 2.0, x[0]}, 1); });
  check_all(
      "empty part", {{{2, 3}}, {{0, 3}}}, [](auto x) { return concat(x, 0); }, 1);
  std::vector<Operand> many(23, Operand{{2, 1}});
  check_variants(exact("many", many, [](auto x) { return concat(x, 1); }));
}

TEST(Index, GatherAndScatter) {
  const Operand picks{{4}, {0, 5}, DType::i32}, table_of_picks{{2, 3}, {0, 5}, DType::i64};
  check_all("rows", {{{5, 3}}, picks}, [](auto x) { return gather(x[0], x[1]); });
  check_all("middle", {{{2, 5, 3}}, table_of_picks}, [](auto x) { return gather(x[0], x[1], 1); });
  check_all("last", {{{2, 5}}, picks}, [](auto x) { return gather(x[0], x[1], -1); });
  check_all("scatter rows", {{{4, 3}}, picks}, [](auto x) { return scatter_add(x[0], x[1], 0, 5); });
  check_all("scatter middle", {{{2, 2, 3, 2}}, table_of_picks}, [](auto x) { return scatter_add(x[0], x[1], 1, 7); });
  check_all("scatter last", {{{2, 4}}, picks}, [](auto x) { return scatter_add(x[0], x[1], -1, 5); });
  check_all(
      "no picks", {{{5, 3}}, {{0}, {0, 5}, DType::i32}}, [](auto x) { return gather(x[0], x[1]); }, 1);
  OpCase wide = exact("wide", {{{101, 600}}, {{257}, {0, 101}, DType::i64}},
                      [](auto x) { return scatter_add(gather(x[0], x[1]), x[1], 0, 101); });
  wide.cuda = {DType::f32};
  check_variants(wide);
  check_variants(op_case(
      "one_hot", {{{3, 5}, {0, 7}, DType::i64}}, [](auto x) { return one_hot(x[0], 7); }, true));
}

TEST(Index, BytesMoveLikeNumbers) {
  const Operand bytes{{3, 4, 2}, {0, 256}, DType::u8};
  for (const OpCase& test :
       {op_case(
            "transpose", {bytes},
            [](auto x) {
              return transpose(x[0], {2, 0, 1});
            },
            true),
        op_case(
            "slice", {bytes},
            [](auto x) {
              return slice(x[0], {2, 0, 1}, {-1, 2, 1}, {-1, 2, 1});
            },
            true),
        op_case(
            "pad", {bytes},
            [](auto x) {
              return pad(x[0], {0, 1, 0}, {1, 0, 0});
            },
            true),
        op_case(
            "reflect", {bytes},
            [](auto x) {
              return pad_reflect(x[0], {2, 3, 0}, {0, 1, 1});
            },
            true),
        op_case(
            "concat", {bytes},
            [](auto x) {
              return concat({x[0], x[0]}, 1);
            },
            true),
        op_case(
            "gather", {bytes, {{2}, {0, 3}, DType::i32}}, [](auto x) { return gather(x[0], x[1]); }, true)})
    check_variants(test);
}

TEST(Index, ArgmaxVariantsAgreeOnTiesAndNan) {
  State state;
  Graph graph(state);
  const Tensor x = input(graph, "x", {DType::f32, {3, 4}});
  const std::vector<float> values = {1, 3, 3, 2, -1, NAN, 5, NAN, -INFINITY, -INFINITY, -INFINITY, -INFINITY};
  for (const char* variants : {"argmax=cpu", "argmax=reference"}) {
    Program program = compile(graph, std::vector{argmax(x), argmax(x, 0)}, {.variants = variants});
    program.set<float>("x", values);
    program.run();
    EXPECT_EQ(program.get<int32_t>(0), (std::vector<int32_t>{1, 1, 0})) << variants;
    EXPECT_EQ(program.get<int32_t>(1), (std::vector<int32_t>{0, 1, 1, 1})) << variants;
  }
  for (Shape shape : {Shape{5, 1}, Shape{7, 10}, Shape{3, 11, 67}, Shape{0, 3}})
    for (int axis : {0, -1})
      if (shape[axis] > 0)
        check_variants(op_case(
            "argmax", {{shape, {0, 4, 0, true}}}, [&](auto x) { return argmax(x[0], axis); }, true));
}

TEST(Index, BadOperandsNameTheLine) {
  State state;
  Graph graph(state);
  const Tensor x = input(graph, "x", {DType::f32, {3, 4}}), i = input(graph, "i", {DType::i32, {2}});
  EXPECT_ERROR(transpose(x, {0, 0}), "tests/index.cpp:");
  EXPECT_ERROR(transpose(x, {0}), "transpose: f32(3, 4) has 2 axes, 1 are given");
  EXPECT_ERROR(transpose(i), "no two axes");
  EXPECT_ERROR(slice(x, {0}, {1}), "begin names 1");
  EXPECT_ERROR(slice(x, {2, 0}, {2, 4}), "tests/index.cpp:");
  EXPECT_ERROR(slice(x, {-4, 0}, {1, 4}), "slice(f32(3, 4))");
  EXPECT_ERROR(slice(x, {0, 0}, {3, 1}, {1, 0}), "step of axis 1 is 0");
  EXPECT_ERROR(slice(x, {0, 0}, {-2, 1}), "size -2 of axis 0 is negative");
  EXPECT_ERROR(slice_axis(x, 2, 0, 1), "no axis 2");
  EXPECT_ERROR(pad(x, {0, -1}, {0, 0}), "amounts -1 and 0 of axis 1");
  EXPECT_ERROR(pad_reflect(x, {3, 0}, {0, 0}), "pad_reflect(f32(3, 4))");
  EXPECT_ERROR(concat({}), "no parts");
  EXPECT_ERROR(concat({x, i}), "part 1 is i32(2)");
  EXPECT_ERROR(concat({x, transpose(x)}), "part 1 is f32(4, 3)");
  EXPECT_ERROR(concat({x, Tensor()}), "empty Tensor");
  EXPECT_ERROR(gather(x, x), "indices must be i32 or i64");
  EXPECT_ERROR(gather(x, i, 2), "no axis 2");
  EXPECT_ERROR(scatter_add(x, i, 0, 5), "shape of the indices");
  EXPECT_ERROR(scatter_add(x, i, 2, 5), "no axis 2");
  EXPECT_ERROR(one_hot(x, 3), "indices must be");
  EXPECT_ERROR(one_hot(i, 0), "0 classes");
}

TEST(Index, BadIndicesNamePositionAndValue) {
  State state;
  Graph graph(state);
  const Tensor x = input(graph, "x", {DType::f32, {3, 4}}), i = input(graph, "i", {DType::i64, {2, 2}});
  const std::vector<std::pair<Tensor, std::string>> cases = {
      {gather(x, i, 1), "gather: index 4 at position 2 of i64(2, 2) is outside 0 ... 3"},
      {scatter_add(reshape(x, {2, 2, 3}), i, 0, 4),
       "scatter_add: index 4 at position 2 of i64(2, 2) is outside 0 ... 3"},
      {one_hot(i, 4), "one_hot: index 4 at position 2"}};
  for (const auto& [result, text] : cases)
    for (const char* variants : {"", "reference"}) {
      Program program = compile(graph, std::vector{result}, {.variants = variants});
      program.set<int64_t>("i", std::vector<int64_t>{0, 3, 4, -1});
      EXPECT_ERROR(program.run(), text);
      EXPECT_ERROR(program.run(), "tests/index.cpp:");
      program.set<int64_t>("i", std::vector<int64_t>{0, 3, 1, -1});
      EXPECT_ERROR(program.run(), "index -1 at position 3");
      program.set<int64_t>("i", std::vector<int64_t>{0, 3, 1, 2});
      EXPECT_EQ(error_of([&] { program.run(); }), "no error");
    }
}

TEST(Index, BadIndicesOnADeviceAreToldWhenTheHostWaits) {
  if (!cuda_support().usable) GTEST_SKIP() << "skipped: no CUDA device";
  const Device device = Device::cuda();
  State state(device);
  Graph graph(state);
  const Tensor x = input(graph, "x", {DType::f32, {3, 4}}), i = input(graph, "i", {DType::i64, {2, 2}});
  const Tensor nothing =
      slice(x, {0, 0}, {0, 4});  // where no element is read or written, indices must be right all the same
  const std::vector<std::pair<Tensor, std::string>> cases = {
      {gather(x, i, 1), "gather: the index at position 2 of i64(2, 2) is outside 0 ... 3"},
      {gather(nothing, i, 1), "gather: the index at position 2 of i64(2, 2) is outside 0 ... 3"},
      {scatter_add(reshape(x, {2, 2, 3}), i, 0, 4),
       "scatter_add: the index at position 2 of i64(2, 2) is outside 0 ... 3"},
      {scatter_add(reshape(x, {2, 2, 3}), i, 0, 0), "scatter_add: the index at position 0 of"},
      {one_hot(i, 4), "one_hot: the index at position 2"}};
  for (const auto& [result, text] : cases)
    for (const int64_t captured : {0, 2}) {
      Program program = compile(graph, std::vector{result}, {.device = device});
      if (captured) program.capture(captured);
      const auto run = [&](std::vector<int64_t> indices) {
        program.set<int64_t>("i", indices);
        return error_of([&] {
          program.run();
          synchronize(device);
        });
      };
      const std::string told = run({0, 3, 4, -1});
      EXPECT_NE(told.find(text), std::string::npos) << told;
      EXPECT_NE(told.find("tests/index.cpp:"), std::string::npos) << told;
      EXPECT_EQ(error_of([&] { synchronize(device); }), "no error") << text << ": told twice";
      if (result.shape() == Shape{0, 3}) continue;  // no index is right
      EXPECT_NE(run({0, 3, 1, -1}).find("the index at position 3"), std::string::npos);
      EXPECT_EQ(run({0, 3, 1, 2}), "no error");
    }
}

}  // namespace
}  // namespace ranvier::test
