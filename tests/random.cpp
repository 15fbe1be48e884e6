// Random ops: draws depend on seed, step, scope and name alone, are the same bits in every variant, and never merge.
#include <algorithm>
#include <numeric>

#include "kernels/common/philox.h"
#include "kernels/random/random.h"
#include "tests/case.h"

namespace ranvier::test {
namespace {

using kernels::philox::stream_hash;

/// Values of the results of a trace for training.
std::vector<std::vector<double>> run(const std::function<std::vector<Tensor>(Graph&)>& build, uint64_t seed = 7,
                                     const std::string& variants = "", int64_t step = 0,
                                     Device device = Device::cpu()) {
  State state(device, seed);
  Graph graph(state, true);
  rng(graph);
  const std::vector<Tensor> results = build(graph);
  Program program = compile(graph, results, {.variants = variants});
  state.set<int64_t>("session", "rng", std::vector<int64_t>{static_cast<int64_t>(seed), step});
  program.run_checked();
  std::vector<std::vector<double>> values;
  for (size_t k = 0; k < results.size(); ++k) values.push_back(get(program, k));
  return values;
}

/// Every kind of draw, floating ones of the given type.
std::vector<Tensor> all_draws(Graph& graph, DType floating, int64_t n = 1000) {
  const Tensor x = full(graph, {floating, {n}}, 3.0);
  const Tensor numbers = constant<int64_t>(graph, Shape{3}, std::vector<int64_t>{0, 41, 1LL << 33});
  return {uniform(graph, "u", {n}, -2, 5, floating),
          normal(graph, "n", {n}, 1, 0.5, floating),
          bernoulli(graph, "b", {n}, 0.3),
          bernoulli(graph, "bf", {n}, 0.3, floating),
          integers(graph, "i", {n}, -3, 3),
          permutation(graph, "p", n),
          dropout(x, 0.25, "d"),
          bernoulli_at(numbers, "at")};
}

TEST(Random, EveryVariantDrawsTheSameBits) {
  for (int64_t n : {0, 1, 7, 64, 1000, 40001}) {
    const auto fast = run([&](Graph& g) { return all_draws(g, DType::f32, n); });
    const auto reference = run([&](Graph& g) { return all_draws(g, DType::f32, n); }, 7, "reference");
    EXPECT_EQ(fast, reference) << n;
    const auto wide = run([&](Graph& g) { return all_draws(g, DType::f64, n); });
    for (size_t k = 2; k < fast.size(); ++k) EXPECT_EQ(fast[k], wide[k]) << "draw " << k << " of " << n;
    expect_close(wide[0], fast[0], 1e-6, "uniform");
    expect_close(wide[1], fast[1], 1e-6, "normal");
  }
}

TEST(Random, CudaDrawsTheBitsOfTheCpu) {
  if (!cuda_support().usable) return;
  for (int64_t n : {0, 1, 2, 3, 5, 64, 1000, 2047, 2048, 2049, 4097, 10001})
    for (DType dtype : {DType::f32, DType::f64}) {
      const auto build = [&](Graph& g) { return all_draws(g, dtype, n); };
      const auto wanted = run(build, 0x123456789abcdefull, "", 5);
      in_every_emulated_mode(
          [&] { EXPECT_EQ(run(build, 0x123456789abcdefull, "", 5, Device::cuda()), wanted) << n << name_of(dtype); });
    }
}

TEST(Random, CudaSortsLongPermutations) {
  if (!cuda_support().usable) return;
  for (int64_t n : {4096, 8192, 8193, 50000}) {
    const auto build = [&](Graph& g) { return std::vector{permutation(g, "p", n)}; };
    EXPECT_EQ(run(build, 3, "", 1, Device::cuda()), run(build, 3, "", 1)) << n;
  }
}

TEST(Random, SixteenBitDrawsAreTheWideOnesRounded) {
  if (!cuda_support().usable) return;
  for (DType dtype : {DType::bf16, DType::f16})
    for (int64_t n : {1, 7, 1030}) {
      const auto draws = [&](DType type) {
        return [=](Graph& g) {
          return std::vector{uniform(g, "u", {n}, -2, 5, type), normal(g, "n", {n}, 1, 0.5, type),
                             bernoulli(g, "b", {n}, 0.3, type), dropout(full(g, {type, {n}}, 1.5), 0.3, "d")};
        };
      };
      auto wanted = run(draws(DType::f32));
      for (auto& values : wanted)
        for (double& value : values) value = rounded(value, dtype);
      in_every_emulated_mode(
          [&] { EXPECT_EQ(run(draws(dtype), 7, "", 0, Device::cuda()), wanted) << n << name_of(dtype); });
    }
}

#if defined(RANVIER_HAS_CUDA)
/// What a kernel writes to device memory.
template <class T>
std::vector<T> on_device(int64_t n, const std::function<void(const int64_t*, T*)>& kernel) {
  const Device device = Device::cuda();
  const int64_t rng[2] = {99, 4};
  const Memory state(device, sizeof rng), memory(device, sizeof(T) * static_cast<size_t>(n));
  copy_to_device(device, state.data(), rng, sizeof rng);
  kernel(static_cast<const int64_t*>(state.data()), static_cast<T*>(memory.data()));
  std::vector<T> values(static_cast<size_t>(n));
  copy_to_host(device, values.data(), memory.data(), memory.bytes());
  return values;
}

/// An element whose uniform draw is exactly the share dropped is kept.
TEST(Random, CoinsOnTheEdgeAreKept) {
  const int64_t rng[2] = {99, 4}, n = 64;
  std::vector<float> draws(n), coins(n), kept(n);
  kernels::reference::fill_uniform(n, 0.0f, 1.0f, stream_hash("b"), rng, draws.data());
  for (const int64_t at : {0, 17, 63}) {
    const float drop = draws[static_cast<size_t>(at)];
    kernels::reference::fill_bernoulli(n, drop, stream_hash("b"), rng, coins.data());
    EXPECT_EQ(coins[static_cast<size_t>(at)], 1);
    kernels::cpu::fill_bernoulli(n, drop, stream_hash("b"), rng, kept.data());
    EXPECT_EQ(kept, coins);
    if (!cuda_support().usable) continue;
    EXPECT_EQ(on_device<float>(n,
                               [&](const int64_t* state, float* out) {
                                 kernels::cuda::fill_bernoulli(n, drop, stream_hash("b"), state, out,
                                                               stream_of(Device::cuda()));
                               }),
              coins);
  }
}

TEST(Random, CudaExponentialsAndPoissonsAreThoseOfTheReference) {
  if (!cuda_support().usable) return;
  const Stream stream = stream_of(Device::cuda());
  const int64_t rng[2] = {99, 4}, n = 515;
  const auto compare = [&]<class T>(T) {
    std::vector<T> wanted(n);
    in_every_emulated_mode([&] {
      kernels::reference::fill_exponential<T>(n, T(1.7), 5, rng, wanted.data());
      EXPECT_EQ(on_device<T>(n, [&](auto* r, T* out) { kernels::cuda::fill_exponential(n, 1.7, 5, r, out, stream); }),
                wanted);
      for (double lambda : {0.0, 0.3, 9.9, 10.0, 1234.5}) {
        kernels::reference::fill_poisson<T>(n, lambda, 5, rng, wanted.data());
        EXPECT_EQ(on_device<T>(n, [&](auto* r, T* out) { kernels::cuda::fill_poisson(n, lambda, 5, r, out, stream); }),
                  wanted)
            << lambda;
      }
    });
  };
  compare(float{});
  compare(double{});
}
#endif

TEST(Random, ASeedGivesTheSameWeightsAndAugmentationsOnEveryDevice) {
  if (!cuda_support().usable) return;
  const auto run_on = [](Device device) {
    State state(device, 2026);
    Graph graph(state, true);
    const Tensor x = input(graph, "x", {DType::u8, {6, 9, 8, 3}}), index = input(graph, "index", {DType::i64, {6}});
    parameter(graph, "conv.weight", {7, 3, 3, 3}, init::normal(0.1));
    parameter(graph, "head.weight", {10, 33}, init::uniform(0.2));
    Tensor y = alternating_flip(x, index, input(graph, "epoch", {DType::i64, {}}));
    y = random_translate(random_flip(y, "coin"), 2);
    y = cutout(y, integers(graph, "centres", {6, 2}, 0, 7), 3);
    const double mean[] = {0.49, 0.48, 0.45}, deviation[] = {0.25, 0.24, 0.26};
    const Tensor z = dropout(normalize(y, mean, deviation), 0.2);
    advance_rng(graph);
    Program program = compile(graph, std::vector{y, z, permutation(graph, "order", 3000)});
    const std::vector<int64_t> numbers = {7, 1, 5000, 3, 2, 9}, epoch = {3};
    program.set<int64_t>("index", numbers), program.set<int64_t>("epoch", epoch);
    set(program, "x", DType::u8, draw({{6, 9, 8, 3}, {0, 256}, DType::u8}, 1));
    std::vector<std::vector<double>> values;
    for (int step = 0; step < 3; ++step) {
      step == 1 ? program.run_checked() : program.run();
      for (size_t k = 0; k < program.outputs(); ++k) values.push_back(get(program, k));
    }
    for (const char* name : {"conv.weight", "head.weight"}) {
      const auto weights = state.get<float>("parameters", name);
      values.emplace_back(weights.begin(), weights.end());
    }
    EXPECT_EQ(state.get<int64_t>("session", "rng"), (std::vector<int64_t>{2026, 3}));
    return values;
  };
  EXPECT_EQ(run_on(Device::cuda()), run_on(Device::cpu()));
}

TEST(Random, BitsAreThoseOfPhiloxAtScopeAndName) {
  const auto values = run(
      [](Graph& g) {
        const Scope block(g, "block1");
        return std::vector{uniform(g, "u", {6}), permutation(g, "p", 50)};
      },
      0x123456789abcdefull, "", 5);
  for (uint64_t e = 0; e < 6; ++e)
    EXPECT_EQ(values[0][e],
              (kernels::philox::bits(0x123456789abcdefull, stream_hash("block1.u"), 5, e) >> 8) * 0x1p-24);
  std::vector<double> order(50);
  std::iota(order.begin(), order.end(), 0);
  std::sort(order.begin(), order.end(), [](double a, double b) {
    const auto key = [](double i) {
      return kernels::philox::bits(0x123456789abcdefull, stream_hash("block1.p"), 5, static_cast<uint64_t>(i));
    };
    return std::pair(key(a), a) < std::pair(key(b), b);
  });
  EXPECT_EQ(values[1], order);
}

// From a separate Python implementation that reproduces Random123's known answers; the upper 24 bits of each word.
TEST(Random, GoldenBits) {
  const auto values = run([](Graph& g) { return std::vector{uniform(g, "golden", {6})}; }, 2024, "", 3);
  const uint32_t golden[] = {0x36a688, 0xe89bb0, 0x683756, 0x498696, 0xc242d8, 0xb9545e};
  for (size_t e = 0; e < 6; ++e) EXPECT_EQ(values[0][e], golden[e] * 0x1p-24) << e;
}

TEST(Random, SeedsOf64BitsStayApart) {
  const auto draw = [](uint64_t seed) {
    State state(Device::cpu(), seed);
    Graph graph(state, true);
    Program program = compile(graph, std::vector{uniform(graph, "u", {8}), rng(graph)});
    program.run();
    EXPECT_EQ(program.get<int64_t>(1), (std::vector<int64_t>{static_cast<int64_t>(seed), 0}));
    return program.get<float>(0);
  };
  EXPECT_NE(draw((1ull << 60) + 1), draw(1ull << 60));
  EXPECT_NE(draw(~0ull), draw(~0ull - 1));
  EXPECT_EQ(draw(16777217), draw(16777217));
}

TEST(Random, DropoutsOfEqualShapeDiffer) {
  const auto values = run([](Graph& g) {
    const Tensor x = full(g, {DType::f32, {256}}, 1.0);
    Scope outer(g, "outer");
    const Tensor a = dropout(x, 0.5, "a"), b = dropout(x, 0.5, "b");
    Scope inner(g, "inner");
    return std::vector{a, b, dropout(x, 0.5, "a")};
  });
  EXPECT_NE(values[0], values[1]);
  EXPECT_NE(values[0], values[2]);
  EXPECT_NE(values[1], values[2]);
}

TEST(Random, AnOpElsewhereChangesNoDraw) {
  const auto plain = run([](Graph& g) { return all_draws(g, DType::f32); });
  auto crowded = run([](Graph& g) {
    const Tensor noise = normal(g, "noise", {4}) * 2.0;
    {
      const Scope scope(g, "s"), deeper(g, "t");
      uniform(g, "u", {1000});
    }
    std::vector<Tensor> draws = all_draws(g, DType::f32);
    draws.push_back(sum(exp(noise)));
    return draws;
  });
  crowded.pop_back();
  EXPECT_EQ(plain, crowded);
}

TEST(Random, DuplicateNamesAreErrorsAtTheirLine) {
  State state;
  Graph graph(state, true);
  const Tensor x = input(graph, "x", {DType::f32, {4}});
  dropout(x, 0.5, "d");
  EXPECT_ERROR(dropout(x, 0.5, "d"), "tests/random.cpp:");
  EXPECT_ERROR(uniform(graph, "d", {3}), "random stream 'd' is already used at tests/random.cpp:");
  const Scope scope(graph, "other");
  EXPECT_EQ(error_of([&] { dropout(x, 0.5, "d"); }), "no error");
}

TEST(Random, EvaluationAndZeroAreTheIdentity) {
  State state;
  Graph eval(state, false), train(state, true);
  const Tensor x = input(eval, "x", {DType::f32, {4}}), y = input(train, "y", {DType::f32, {4}});
  EXPECT_EQ(dropout(x, 0.5, "d").value, x.value);
  EXPECT_EQ(dropout(x, 0.5, "d").value, x.value) << "an evaluation draws nothing, so names may repeat";
  EXPECT_EQ(dropout(y, 0, "d").value, y.value);
  EXPECT_NE(dropout(y, 0.5, "d").value, y.value);
}

TEST(Random, DropoutKeepsAShareAndScales) {
  const auto values = run([](Graph& g) { return std::vector{dropout(full(g, {DType::f32, {100000}}, 3.0), 0.25)}; })[0];
  int64_t kept = 0;
  for (double v : values) {
    ASSERT_TRUE(v == 0 || v == 4) << v;
    kept += v != 0;
  }
  EXPECT_NEAR(static_cast<double>(kept) / 1e5, 0.75, 0.007);  // 5 standard deviations
}

TEST(Random, DropoutGradients) {
  int name = 0;
  const OpCase test = op_case("dropout", {{{5, 9}}}, [&](auto x) {
    return square(dropout(x[0] * sin(x[0]), 0.4, "d" + std::to_string(name++)));
  });
  for (int order = 1; order <= 3; ++order) check_gradients(test, order);
  const auto same = [](auto x) { return dropout(x[0], 0.5, "d"); };
  for (Shape shape : {Shape{}, Shape{1}, Shape{0}, Shape{33, 17}, Shape{3, 7, 40000}})
    check_variants(op_case("dropout", {{shape}}, same, true));
}

TEST(Random, StepsAdvance) {
  State state(Device::cpu(), 11);
  Graph graph(state, true);
  const Tensor before = dropout(full(graph, {DType::f32, {64}}, 1.0), 0.5, "before");
  const Tensor u = uniform(graph, "u", {64});
  advance_rng(graph);
  const Tensor after = dropout(full(graph, {DType::f32, {64}}, 1.0), 0.5, "after");
  Program program = compile(graph, std::vector{before, u, after});
  std::vector<std::vector<float>> seen;
  for (int64_t step = 0; step < 3; ++step) {
    EXPECT_EQ(state.get<int64_t>("session", "rng"), (std::vector<int64_t>{11, step}));
    program.run();
    const auto draws = program.get<float>(1);
    for (uint64_t e = 0; e < 64; ++e)
      ASSERT_EQ(draws[e], (kernels::philox::bits(11, stream_hash("u"), static_cast<uint64_t>(step), e) >> 8) * 0x1p-24);
    const auto mask = program.get<float>(2);
    for (uint64_t e = 0; e < 64; ++e)
      ASSERT_EQ(mask[e] != 0, kernels::philox::bits(11, stream_hash("after"), static_cast<uint64_t>(step), e) >> 31)
          << "a draw after the assignment still belongs to this step";
    for (const auto& earlier : seen) EXPECT_NE(earlier, draws);
    seen.push_back(draws);
  }
}

TEST(Random, CoinsOfElementNumbersStay) {
  const auto coins = [](std::vector<int64_t> numbers, int64_t step) {
    return run(
        [&](Graph& g) {
          return std::vector{bernoulli_at(
              constant<int64_t>(g, Shape{static_cast<int64_t>(numbers.size())}, std::span<const int64_t>(numbers)),
              "c")};
        },
        7, "", step)[0];
  };
  std::vector<int64_t> forward(1000), backward(1000);
  std::iota(forward.begin(), forward.end(), 0);
  std::reverse_copy(forward.begin(), forward.end(), backward.begin());
  auto a = coins(forward, 0), b = coins(backward, 9);
  std::reverse(b.begin(), b.end());
  EXPECT_EQ(a, b);
  EXPECT_NEAR(std::accumulate(a.begin(), a.end(), 0.0), 500, 80);
  EXPECT_EQ(a, run([](Graph& g) { return std::vector{bernoulli(g, "c", {1000})}; })[0]) << "those of a draw at step 0";
}

TEST(Random, RangesAndProbabilities) {
  const auto values = run([](Graph& g) {
    return std::vector{bernoulli(g, "never", {500}, 0), bernoulli(g, "always", {500}, 1),
                       integers(g, "i", {2000}, -2, 3), uniform(g, "u", {2000}, 2, 3),
                       permutation(g, "p", 0),          permutation(g, "one", 1),
                       integers(g, "point", {5}, 4, 4)};
  });
  EXPECT_EQ(values[0], std::vector<double>(500, 0));
  EXPECT_EQ(values[1], std::vector<double>(500, 1));
  const auto [low, high] = std::minmax_element(values[2].begin(), values[2].end());
  EXPECT_EQ(*low, -2);
  EXPECT_EQ(*high, 3);
  for (double u : values[3]) ASSERT_TRUE(u >= 2 && u < 3);
  EXPECT_TRUE(values[4].empty());
  EXPECT_EQ(values[5], std::vector<double>{0});
  EXPECT_EQ(values[6], std::vector<double>(5, 4));
}

TEST(Random, BadArgumentsNameTheLine) {
  State state;
  Graph graph(state, true);
  const Tensor x = input(graph, "x", {DType::f32, {4}}), i = input(graph, "i", {DType::i32, {4}});
  EXPECT_ERROR(dropout(x, 1.0, "a"), "tests/random.cpp:");
  EXPECT_ERROR(dropout(x, 1.0, "a"), "dropout: p = 1 is not in [0, 1)");
  EXPECT_ERROR(dropout(x, -0.1, "a"), "p = -0.1");
  EXPECT_ERROR(dropout(x, NAN, "a"), "p = nan");
  EXPECT_ERROR(dropout(i, 0.5, "b"), "needs a floating type");
  EXPECT_ERROR(uniform(graph, "c", {2}, 1, 0), "no range from 1 to 0");
  EXPECT_ERROR(uniform(graph, "c", {2}, 0, 1, DType::i32), "i32 is not a floating type");
  EXPECT_ERROR(normal(graph, "d", {2}, 0, -1), "deviation -1");
  EXPECT_ERROR(bernoulli(graph, "e", {2}, 1.5), "probability 1.5");
  EXPECT_ERROR(bernoulli_at(x, "f"), "element numbers are i64");
  EXPECT_ERROR(integers(graph, "g", {2}, 1, 0), "no i32 range from 1 to 0");
  EXPECT_ERROR(integers(graph, "g", {2}, 0, 1LL << 40), "no i32 range");
  EXPECT_ERROR(permutation(graph, "h", -1), "n = -1");
  EXPECT_ERROR(advance(x), "i64(2)");
}

}  // namespace
}  // namespace ranvier::test
