// Sums over pairs: every variant against the f64 dense form, gradients of both orders, identities that hold to
// rounding, the limits of the law.
#include <omp.h>

#include <algorithm>
#include <limits>

#include "tests/case.h"

namespace ranvier::test {
namespace {

constexpr double infinity = std::numeric_limits<double>::infinity();

std::vector<CouplingLaw> laws() {
  return {{},
          {CouplingLaw::gaussian, 0.7, infinity, 0, 0.1},
          {CouplingLaw::screened_power, 0.4, infinity, 1, 0.02},
          {CouplingLaw::screened_power, 0.4, infinity, 2.5, 0.02},
          {CouplingLaw::screened_power, 0.9, 0.7, 0, 0.05},
          {CouplingLaw::screened_power, 0.3, 2, 2, 0.05},
          {CouplingLaw::screened_power, 0.3, 2, 1, 0.05},
          {CouplingLaw::screened_power, 0.6, 1.5, 4.5, 0.1},
          {CouplingLaw::screened_power, infinity, infinity, 2, 0}};
}

OpCase pair_case(int64_t batch, int64_t units, int64_t axes, const CouplingLaw& law) {
  OpCase test{fmt::format("pairs batch {} units {} axes {} kind {} power {} decay {}", batch, units, axes, law.kind,
                          law.power, law.decay),
              {{{batch, units}}, {{units, axes}, {-1.5, 1.5}}},
              {},
              false,
              1e-5};
  test.build = [law](std::vector<Tensor> in) {
    const double scale = 1.0 / static_cast<double>(in[1].shape()[0]);  // results of order 1, whatever the size
    const Tensor y = pair_apply(in[0], in[1], law) * scale;
    std::vector<Tensor> results = {y};
    for (const Tensor& g : grad(sum(y * in[0] + y) * scale, in)) results.push_back(g);
    return results;
  };
  return test;
}

TEST(Coupling, Variants) {
  for (const CouplingLaw& law : laws())
    for (int64_t axes : {1, 2, 3}) check_variants(pair_case(axes == 2 ? 7 : 3, 37, axes, law));
  const CouplingLaw law;
  for (auto [batch, units] : {std::pair<int64_t, int64_t>{1, 1}, {0, 5}, {1, 2}, {5, 33}, {70, 64}, {2, 129}})
    check_variants(pair_case(batch, units, 2, law));
  OpCase matrix = op_case("matrix", {{{37, 3}}}, [](std::vector<Tensor> in) { return pair_matrix(in[0], {}); });
  check_variants(matrix);
}

/// Tensor cores with 16-bit values, several pieces of the sum, tiles and tails; positions stay in f32.
TEST(Coupling, SixteenBitsAndPieces) {
  if (!cuda_support().usable) GTEST_SKIP() << "skipped: no CUDA device";
  for (const CouplingLaw& law : {laws()[0], laws()[1], laws()[3]})
    for (auto [batch, units] :
         {std::pair<int64_t, int64_t>{1, 260}, {9, 260}, {6, 40}, {70, 20}, {66, 40}, {70, 264}, {9, 5}}) {
      if (units > 100 && law.kind == CouplingLaw::gaussian) continue;  // pieces know nothing of the law
      if (units > 100 && law.power != 3) continue;
      OpCase test = pair_case(batch, units, 2, law);
      test.operands[1].wide = true;
      test.cuda = units > 100 ? std::vector{DType::f32, DType::bf16} : mixed_cuda_types;  // f16 differs in its rounding
      test.build = [law](std::vector<Tensor> in) {
        const double scale = 1.0 / static_cast<double>(in[1].shape()[0]);
        const Tensor y = pair_apply(in[0], in[1], law) * scale;
        std::vector<Tensor> results = {y};
        for (const Tensor& g : grad(sum(cast(y, in[1].dtype())), in)) results.push_back(g);
        return results;
      };
      check_variants(test);
    }
}

OpCase squares_case(int64_t batch, int64_t units, int64_t axes, const CouplingLaw& law) {
  OpCase test{
      fmt::format("squares batch {} units {} axes {} kind {} power {}", batch, units, axes, law.kind, law.power),
      {{{batch, units}}, {{1, units}}, {{units, axes}, {-1.5, 1.5}}},
      {},
      false,
      1e-5};
  test.build = [law, batch](std::vector<Tensor> in) {
    const double scale = 1.0 / static_cast<double>(std::max<int64_t>(batch * in[0].shape()[1], 1));
    const Tensor q = pair_squares(in[0], in[1], in[2], law) * scale;
    std::vector<Tensor> results = {q};
    for (const Tensor& g : grad(sum(q * sin(q)) + sum(q), in)) results.push_back(g);
    return results;
  };
  return test;
}

TEST(Coupling, SquaresOfProducts) {
  for (const CouplingLaw& law : laws())
    for (int64_t axes : {1, 2, 3}) check_variants(squares_case(axes == 2 ? 7 : 3, 37, axes, law));
  for (auto [batch, units] : {std::pair<int64_t, int64_t>{1, 1}, {0, 5}, {1, 2}, {5, 33}, {300, 64}, {2, 530}})
    check_variants(squares_case(batch, units, 2, {}));
  const CouplingLaw hard{CouplingLaw::screened_power, 0.5, 1, 3, 0};  // the slope of a unit and itself is infinite
  check_variants(squares_case(3, 37, 2, hard));
  for (int order = 1; order <= 2; ++order) {
    OpCase test = squares_case(3, 9, 2, laws()[0]);
    test.build = [](std::vector<Tensor> in) { return std::vector{sin(pair_squares(in[0], in[1], in[2], {}))}; };
    check_gradients(test, order, 1e-6);
  }
}

/// Tiles of the device's kernels, 64 units by 64 units and 64 rows: parts of one, one, several; pieces of the sum, the
/// last of them (of 516 units) without a unit; rows of whole 16 bytes and not.
TEST(Coupling, SquaresInTilesAndPieces) {
  if (!cuda_support().usable) GTEST_SKIP() << "skipped: no CUDA device";
  for (auto [batch, units] : {std::pair<int64_t, int64_t>{64, 1},
                              {1, 64},
                              {16, 65},
                              {17, 63},
                              {64, 128},
                              {65, 68},
                              {130, 66},
                              {3, 260},
                              {66, 516},
                              {65, 2}})
    check_variants(squares_case(batch, units, units % 3 + 1, laws()[units % 2]));
}

/// More units than the dense form may have, on a device: tiles there too, and nothing of the size of all pairs.
TEST(Coupling, SquaresOfManyUnitsAreNotDenseOnADevice) {
  if (!has_variant("handwritten")) GTEST_SKIP() << "skipped: built without CUDA";
  State state;
  Graph graph(state);
  const int64_t n = 65536, batch = 32;
  std::vector<Tensor> in = {input(graph, "x", {DType::f32, {batch, n}}), input(graph, "w", {DType::f32, {1, n}}),
                            input(graph, "p", {DType::f32, {n, 2}})};
  std::vector<Tensor> results = {pair_squares(in[0], in[1], in[2], {})};
  for (const Tensor& g : grad(sum(square(results[0])), in)) results.push_back(g);
  const Plan plan = make_plan(graph, results, {.device = Device::cuda(), .prepare = false});
  std::vector<std::string> tiled;
  for (const PlanStep& step : plan.steps) {
    if (std::string_view(step.op->name).starts_with("pair_squares")) tiled.push_back(std::string(step.op->name));
    EXPECT_NE(step.op->name, "matmul");
  }
  std::sort(tiled.begin(), tiled.end());
  EXPECT_EQ(tiled, (std::vector<std::string>{"pair_squares", "pair_squares", "pair_squares_positions",
                                             "pair_squares_values"}));
  EXPECT_LE(plan.arena_bytes, size_t{64} << 20);
}

OpCase channel_case(int64_t rows, int64_t channels, bool gate) {
  OpCase test = op_case(fmt::format("channels {} x {}{}", rows, channels, gate ? ", gate" : ""),
                        {{{rows, channels}}, {{channels, channels}, {-0.2, 0.2}}},
                        [gate](std::vector<Tensor> in) { return channel_field(in[0], in[1], gate); });
  test.cuda = mixed_cuda_types;
  return test;
}

/// Every width of the kernel, padded and not; rows of a part of a tile, of several tiles and of several rounds.
TEST(Coupling, FieldOfChannels) {
  for (const bool gate : {false, true}) {
    for (auto [rows, channels] : {std::pair<int64_t, int64_t>{0, 8},
                                  {1, 8},
                                  {300, 24},
                                  {129, 64},
                                  {70, 96},
                                  {33, 128},
                                  {40, 200},
                                  {33, 256},
                                  {5, 12},
                                  {5, 264}})
      check_variants(channel_case(rows, channels, gate));
    for (int order = 1; order <= 2; ++order) check_gradients(channel_case(5, 8, gate), order, 1e-6);
  }
  State state;
  Graph graph(state);
  EXPECT_ERROR(channel_field(input(graph, "x", {DType::f32, {2, 5}}), input(graph, "a", {DType::f32, {5, 4}}), false),
               "must be 5 x 5");
}

/// A block of the channels' kernel goes through more tiles than it keeps: every row is its own product.
TEST(Coupling, FieldOfManyRows) {
  if (!cuda_support().usable) GTEST_SKIP() << "skipped: no CUDA device";
  const int64_t rows = 264 * 256 * 5 + 3, n = 8;  // 264 blocks of 256 rows
  State state(Device::cuda());
  Graph graph(state);
  const Tensor x = input(graph, "x", {DType::bf16, {rows, n}}), a = input(graph, "a", {DType::bf16, {n, n}});
  Program program = compile(graph, std::vector{channel_field(x, a, false)}, {.device = Device::cuda()});
  std::vector<double> xs(static_cast<size_t>(rows * n)), as(static_cast<size_t>(n * n));
  for (size_t k = 0; k < xs.size(); ++k) xs[k] = static_cast<double>(k * 7 % 13) - 6;
  for (size_t k = 0; k < as.size(); ++k) as[k] = static_cast<double>(k * 5 % 3) - 1;
  set(program, "x", DType::bf16, xs), set(program, "a", DType::bf16, as);
  program.run();
  const std::vector<double> y = get(program, 0);
  int64_t wrong = 0;
  for (size_t r = 0; r < static_cast<size_t>(rows); ++r)
    for (size_t i = 0; i < 8; ++i) {
      double want = xs[r * 8 + i];
      for (size_t j = 0; j < 8; ++j) want += xs[r * 8 + j] * as[j * 8 + i];
      wrong += y[r * 8 + i] != want;  // whole numbers below 256: exact
    }
  EXPECT_EQ(wrong, 0);
}

TEST(Coupling, GradientsOfBothOrders) {
  for (const CouplingLaw& law : laws())
    for (int order = 1; order <= 2; ++order) {
      OpCase test = pair_case(3, 9, 2, law);
      test.build = [law](std::vector<Tensor> in) {
        return std::vector{pair_apply(in[0], in[1], law), sin(pair_apply(in[0] * in[0], in[1], law))};
      };
      check_gradients(test, order, 1e-6);
    }
  for (int order = 1; order <= 2; ++order) {  // a sample of the elements of 64 units
    OpCase test = pair_case(2, 64, 3, {});
    test.build = [](std::vector<Tensor> in) { return std::vector{sin(pair_apply(in[0], in[1], {}))}; };
    check_gradients(test, order, 1e-6);
  }
  OpCase matrix = op_case("matrix", {{{6, 2}}}, [](std::vector<Tensor> in) { return pair_matrix(in[0], {}); });
  for (int order = 1; order <= 2; ++order) check_gradients(matrix, order, 1e-6);
}

double relative_l2(const std::vector<double>& a, const std::vector<double>& b) {
  double difference = 0, size = 0;
  for (size_t i = 0; i < a.size(); ++i) difference += (a[i] - b[i]) * (a[i] - b[i]), size += b[i] * b[i];
  return std::sqrt(difference / std::max(size, 1e-300));
}

constexpr int64_t penalties[] = {ChannelPenalty::products, ChannelPenalty::squared_products,
                                 ChannelPenalty::products_of_squares};

OpCase penalty_case(int64_t kind, int64_t rows, int64_t channels, Fill fill = {-1, 3}) {
  OpCase test{fmt::format("penalty {} of {} x {}", kind, rows, channels),
              {{{rows, channels}, fill}, {{channels, channels}, {0, 1}}},
              {},
              false,
              1e-5};
  test.build = [kind](std::vector<Tensor> in) {
    const auto units = static_cast<double>(in[1].shape()[0]);  // results of order 1, so that y + y^2 magnifies nothing
    const Tensor y = channel_penalty(in[0], in[1], {kind, 1e-3}) * (1 / (units * units));
    std::vector<Tensor> results = {y};
    for (const Tensor& g : grad(y + y * y, in)) results.push_back(g);
    return results;
  };
  return test;
}

/// Blocks and shards of rows, panels of channels, with tails; derivatives of both orders; the dense form in f64.
TEST(Coupling, PenaltiesOfChannels) {
  for (int64_t kind : penalties) {
    for (auto [rows, channels] :
         {std::pair<int64_t, int64_t>{1, 2}, {5, 1}, {7, 12}, {130, 16}, {300, 33}, {700, 64}, {1100, 130}}) {
      // on a device the primitive ops run, which have cases of their own
      if (checks_cuda_only() && rows != 7) continue;
      const OpCase test = penalty_case(kind, rows, channels);
      check_variants(test);
      if (checks_cuda_only()) continue;
      const auto oracle = evaluate(test, DType::f64, {.variants = "reference", .decompose = true});
      const auto single = evaluate(test, DType::f32, {}), twice = evaluate(test, DType::f64, {});
      for (size_t k = 0; k < oracle.size(); ++k) {
        if (rows == 1 || channels == 1) continue;  // nothing varies or nothing is free: only rounding is left
        EXPECT_TRUE(relative_l2(single[k], oracle[k]) <= 1e-5)
            << test.name << " result " << k << ": " << relative_l2(single[k], oracle[k]);
        EXPECT_TRUE(relative_l2(twice[k], oracle[k]) <= 1e-10)
            << test.name << " result " << k << ": " << relative_l2(twice[k], oracle[k]);
      }
    }
    OpCase test = penalty_case(kind, 6, 5);
    test.build = [kind](std::vector<Tensor> in) { return std::vector{channel_penalty(in[0], in[1], {kind, 1e-3})}; };
    for (int order = 1; order <= 2; ++order) check_gradients(test, order, 1e-6);
  }
  State state;
  Graph graph(state);
  const Tensor x = input(graph, "x", {DType::f32, {2, 5}});
  EXPECT_ERROR(channel_penalty(x, input(graph, "k", {DType::f32, {5, 4}}), {}), "must be 5 x 5");
  EXPECT_ERROR(channel_penalty(input(graph, "e", {DType::f32, {0, 5}}), input(graph, "l", {DType::f32, {5, 5}}), {}),
               "no elements");
}

/// A penalty and its gradients of a bf16 map on a device, with f32 weights, against f64; the bits in every emulated
/// mode where `modes`. Primitive ops, which make the gradient in the weights and all where a kernel lacks, round more
/// often.
void expect_penalty_in_bf16(int64_t kind, int64_t rows, int64_t channels, Fill fill, bool modes) {
  OpCase test = penalty_case(kind, rows, channels, fill);
  test.operands[1].wide = true;
  test.build = [kind](std::vector<Tensor> in) {
    std::vector<Tensor> results = {channel_penalty(in[0], in[1], {kind, 1e-3})};
    for (const Tensor& g : grad(results[0], in)) results.push_back(g);
    return results;
  };
  const auto oracle = evaluate(test, DType::f64, {.variants = "reference"}, DType::bf16);
  std::vector<DType> types;
  std::vector<std::vector<double>> found;
  const auto once = [&] {
    types.clear();
    const auto result = evaluate(test, DType::bf16, {.device = Device::cuda()}, DType::f32, &types);
    if (found.empty()) found = result;
    EXPECT_EQ(result, found) << test.name << ": bits depend on the order of threads";
  };
  if (modes)
    in_every_emulated_mode(once);
  else
    once();
  EXPECT_EQ(types, (std::vector{DType::f32, DType::bf16, DType::f32})) << test.name;
  for (size_t k = 0; k < oracle.size(); ++k)
    EXPECT_TRUE(relative_l2(found[k], oracle[k]) <= (channels % 8 || k == 2 ? 8e-3 : 4e-3))
        << test.name << " result " << k << ": " << relative_l2(found[k], oracle[k]);
}

/// Every width of the kernels, with tails of rows and channels; no multiple of 8 channels.
TEST(Coupling, PenaltiesOfChannelsInBf16) {
  if (!cuda_support().usable) GTEST_SKIP() << "skipped: " << cuda_support().why;
  using Sizes = std::pair<int64_t, int64_t>;
  for (int64_t kind : penalties) {
    for (auto [rows, channels] : {Sizes{50, 7}, {9, 8}, {600, 16}, {300, 40}, {140, 104}, {70, 136}, {100, 256}})
      expect_penalty_in_bf16(kind, rows, channels, {-1, 3}, true);
    expect_penalty_in_bf16(kind, 130, 64, {2, 3}, true);
  }
  State state;
  Graph graph(state);
  EXPECT_ERROR(channel_penalty(input(graph, "h", {DType::f16, {9, 5}}), input(graph, "k", {DType::f32, {5, 5}}), {}),
               "must be (rows, channels) of f32, f64 or bf16");
}

/// Maps of which a block has several tiles.
TEST(Coupling, PenaltiesOfManyRowsInBf16) {
  if (!cuda_support().usable) GTEST_SKIP() << "skipped: " << cuda_support().why;
  for (int64_t kind : {ChannelPenalty::squared_products, ChannelPenalty::products_of_squares})
    expect_penalty_in_bf16(kind, 4387, 136, {-1, 3}, false);
}

/// Means 1,000 times the deviations cost the penalties and their gradients in x no digits; those in k are primitive
/// ops, whose means are rounded.
TEST(Coupling, PenaltiesOfChannelsWithLargeMeans) {
  if (checks_cuda_only()) return;
  for (int64_t kind : penalties) {
    const OpCase test = penalty_case(kind, 500, 20, {99.9, 100.1});
    const auto oracle = evaluate(test, DType::f64, {.variants = "reference", .decompose = true});
    const auto single = evaluate(test, DType::f32, {});
    for (size_t k = 0; k < oracle.size(); ++k)
      EXPECT_TRUE(relative_l2(single[k], oracle[k]) <= (k < 2 ? 1e-5 : 1e-4))
          << test.name << " result " << k << ": " << relative_l2(single[k], oracle[k]);
  }
}

/// Relative L2 distance of the fused f32 results from the dense f64 ones on equal inputs; gradients in f64.
TEST(Coupling, AgainstTheDenseOracle) {
  if (checks_cuda_only()) return;
  for (const CouplingLaw& law : {laws()[0], laws()[1], laws()[3]})
    for (auto [batch, units] : {std::pair<int64_t, int64_t>{1, 700}, {3, 1030}, {33, 600}, {300, 100}})
      for (const OpCase& test : {pair_case(batch, units, 2, law), squares_case(batch, units, 2, law)}) {
        const auto oracle = evaluate(test, DType::f64, {.variants = "reference", .decompose = true});
        const auto single = evaluate(test, DType::f32, {}), twice = evaluate(test, DType::f64, {});
        for (size_t k = 0; k < oracle.size(); ++k) {
          EXPECT_TRUE(relative_l2(single[k], oracle[k]) <= 1e-5)
              << test.name << " result " << k << ": " << relative_l2(single[k], oracle[k]);
          EXPECT_TRUE(relative_l2(twice[k], oracle[k]) <= 1e-10)
              << test.name << " result " << k << ": " << relative_l2(twice[k], oracle[k]);
        }
      }
}

/// In f64 the fused gradients, first and second, are those of the dense form that `decompose` builds.
TEST(Coupling, GradientsAreThoseOfTheDenseForm) {
  if (checks_cuda_only()) return;
  for (const CouplingLaw& law : laws())
    for (auto [batch, units] : {std::pair<int64_t, int64_t>{2, 64}, {7, 37}}) {
      OpCase test = pair_case(batch, units, 2, law);
      test.build = [law](std::vector<Tensor> in) {
        std::vector<Tensor> results = grad(sum(sin(pair_apply(in[0], in[1], law))), in);
        for (const Tensor& g : grad(sum(square(results[0])) + sum(square(results[1])), in)) results.push_back(g);
        return results;
      };
      const auto dense = evaluate(test, DType::f64, {.variants = "reference", .decompose = true});
      const auto fused = evaluate(test, DType::f64, {});
      for (size_t k = 0; k < dense.size(); ++k)
        EXPECT_TRUE(relative_l2(fused[k], dense[k]) <= 1e-10)
            << test.name << " result " << k << ": " << relative_l2(fused[k], dense[k]);
    }
}

TEST(Coupling, AnyNumberOfThreads) {
  if (checks_cuda_only()) return;
  for (int64_t batch : {2, 9, 260}) {
    const OpCase test = pair_case(batch, 1100, 2, {});
    const int before = omp_get_max_threads();
    omp_set_num_threads(1);
    const auto one = evaluate(test, DType::f32, {});
    omp_set_num_threads(3);
    EXPECT_EQ(evaluate(test, DType::f32, {}), one) << test.name;
    omp_set_num_threads(before);
  }
}

/// Pushing all units or turning the sheet changes nothing: the gradient's sum and its moment vanish.
TEST(Coupling, GradientOfPositionsHasNoForceAndNoTorque) {
  for (const Device device : devices()) {
    State state(device);
    Graph graph(state);
    const int64_t n = 300;
    const Tensor x = input(graph, "x", {DType::f32, {4, n}}), p = input(graph, "p", {DType::f32, {n, 2}});
    const Tensor dp = grad(sum(square(pair_apply(x, p, {}))), p);
    Program program = compile(graph, std::vector{dp}, {.device = device});
    const auto positions = draw({{n, 2}, {-1, 1}}, 5);
    set(program, "x", DType::f32, draw({{4, n}}, 4));
    set(program, "p", DType::f32, positions);
    program.run();
    const auto g = get(program, 0);
    double force[2] = {}, torque = 0, size = 0;
    for (size_t i = 0; i < static_cast<size_t>(n); ++i) {
      for (size_t a = 0; a < 2; ++a) force[a] += g[2 * i + a], size += std::abs(g[2 * i + a]);
      torque += positions[2 * i] * g[2 * i + 1] - positions[2 * i + 1] * g[2 * i];
    }
    for (double part : {force[0], force[1], torque})
      EXPECT_TRUE(std::abs(part) <= 1e-5 * size) << part << " of " << size;
  }
}

TEST(Coupling, BadInput) {
  State state;
  Graph graph(state);
  const Tensor x = input(graph, "x", {DType::f32, {2, 5}}), p = input(graph, "p", {DType::f32, {5, 2}});
  EXPECT_ERROR(pair_apply(x, p, {CouplingLaw::gaussian, -0.5}), "length -0.5");
  EXPECT_ERROR(pair_apply(x, p, {CouplingLaw::gaussian, NAN}), "length nan");
  EXPECT_ERROR(pair_apply(x, p, {CouplingLaw::screened_power, 1, 0}), "decay 0");
  EXPECT_ERROR(pair_apply(x, p, {CouplingLaw::screened_power, 1, 1, -2}), "power -2");
  EXPECT_ERROR(pair_apply(x, p, {CouplingLaw::screened_power, 1, 1, 2, -1}), "softening -1");
  EXPECT_ERROR(pair_apply(x, input(graph, "q", {DType::f32, {4, 2}}), {}), "4 positions");
  EXPECT_ERROR(pair_apply(x, input(graph, "r", {DType::f32, {5, 4}}), {}), "1 to 3 axes");
  EXPECT_ERROR(pair_matrix(input(graph, "s", {DType::f32, {5000, 2}}), {}), "5000 units");
}

}  // namespace
}  // namespace ranvier::test
