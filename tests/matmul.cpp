// Matrix products: gradients of three orders for every pair of flags, variants, odd and empty extents, errors.
#include <bit>

#include "engine/catalogue.h"
#include "kernels/matmul/matmul.h"
#include "tests/case.h"
#include "tests/support/files.h"

namespace ranvier::test {
namespace {

using testing::error_of;

struct Flags {
  bool a, b;
};
const Flags all_flags[] = {{false, false}, {true, false}, {false, true}, {true, true}};

Shape stored(std::vector<int64_t> batch, int64_t rows, int64_t cols, bool transposed) {
  batch.push_back(transposed ? cols : rows);
  batch.push_back(transposed ? rows : cols);
  return Shape(std::span<const int64_t>(batch));
}

struct Extents {
  std::vector<int64_t> batch;
  int64_t m, n, k;
};

OpCase product(const Extents& e, Flags flags, const Fill& fill, bool exact) {
  OpCase test = op_case(
      fmt::format("matmul {}x{}x{} flags {}{}", e.m, e.n, e.k, flags.a, flags.b),
      {{stored(e.batch, e.m, e.k, flags.a), fill}, {stored(e.batch, e.k, e.n, flags.b), fill}},
      [flags](std::vector<Tensor> in) { return matmul(in[0], in[1], flags.a, flags.b); }, exact);
  test.cuda = every_cuda_type;
  return test;
}

TEST(Matmul, GradientsToThirdOrder) {
  for (const Flags& flags : all_flags)
    for (const Extents& e : {Extents{{}, 3, 4, 2}, Extents{{2}, 2, 3, 3}, Extents{{}, 1, 1, 1}}) {
      const OpCase plain = product(e, flags, {}, false);
      OpCase curved = plain;
      curved.build = [flags](std::vector<Tensor> in) {
        return std::vector{matmul(sin(in[0]), sin(in[1]), flags.a, flags.b)};
      };
      for (int order = 1; order <= 3; ++order) check_gradients(curved, order);
      check_gradients(plain, 1);
      check_gradients(plain, 2);
    }
}

TEST(Matmul, ExactVariantsOnIntegersEqualTheReference) {
  std::vector<std::string> names = {"native"};
#if defined(RANVIER_HAS_ONEDNN)
  names.push_back("onednn");
#endif
  const Extents extents[] = {{{}, 1, 1, 1},    {{}, 1, 7, 5},    {{}, 7, 1, 3},  {{}, 5, 6, 1},
                             {{}, 33, 65, 17}, {{}, 3, 10, 257}, {{3}, 5, 4, 9}, {{2, 3}, 4, 3, 2}};
  for (const Flags& flags : all_flags)
    for (const Extents& e : extents) {
      const OpCase test = product(e, flags, {-3, 4, 0, true}, true);
      const auto oracle = evaluate(test, DType::f32, {.variants = "reference"});
      const auto a = draw(test.operands[0], 0), b = draw(test.operands[1], 1);
      int64_t batches = 1;
      for (int64_t extent : e.batch) batches *= extent;
      for (int64_t t = 0; t < batches; ++t)
        for (int64_t i = 0; i < e.m; ++i)
          for (int64_t j = 0; j < e.n; ++j) {
            double sum = 0;
            for (int64_t l = 0; l < e.k; ++l)
              sum += a[static_cast<size_t>(t * e.m * e.k + (flags.a ? l * e.m + i : i * e.k + l))] *
                     b[static_cast<size_t>(t * e.k * e.n + (flags.b ? j * e.k + l : l * e.n + j))];
            ASSERT_EQ(oracle[0][static_cast<size_t>((t * e.m + i) * e.n + j)], sum) << test.name;
          }
      for (const std::string& name : names)
        EXPECT_EQ(evaluate(test, DType::f32, {.variants = "matmul=" + name}), oracle) << test.name << " " << name;
      EXPECT_EQ(evaluate(test, DType::f64, {.variants = "matmul=native"}), oracle) << test.name << " native f64";
      check_variants(product(e, flags, {}, false));
    }
}

TEST(Matmul, SplitDepthsOfWeightGradients) {
  check_variants(product({{}, 12, 10, 520}, {true, false}, {-2, 3, 0, true}, true));
}

TEST(Matmul, Tf32RoundsOperandsAndNothingElse) {
  if (const CudaSupport support = cuda_support(); !support.usable)
    GTEST_SKIP() << "skipped: no CUDA device (" << support.why << ")";
  for (const Flags& flags : all_flags) {
    const OpCase test = product({{2}, 20, 12, 40}, flags, {}, false);
    const auto tf32 = [](double x) {
      const uint32_t bits = std::bit_cast<uint32_t>(static_cast<float>(x));
      return static_cast<double>(std::bit_cast<float>((bits + 0x1000u) & ~0x1fffu));
    };
    std::vector<double> a = draw(test.operands[0], 0), b = draw(test.operands[1], 1);
    const auto plain = evaluate(test, DType::f64, {.variants = "reference"})[0];
    std::transform(a.begin(), a.end(), a.begin(), tf32), std::transform(b.begin(), b.end(), b.begin(), tf32);
    std::vector<double> expected(plain.size());
    kernels::matmul_reference({2, 20, 12, 40, flags.a, flags.b}, a.data(), b.data(), expected.data());
    const auto got = evaluate(test, DType::f32, {.device = Device::cuda(), .variants = "tf32"})[0];
    expect_close(got, expected, 2e-6, test.name + " tf32");
    double most = 0;
    for (size_t i = 0; i < got.size(); ++i) most = std::max(most, std::abs(got[i] - plain[i]));
    EXPECT_GT(most, 1e-5) << test.name << ": not on tf32 at all";
  }
}

TEST(Matmul, CublasEqualsTheReference) {
  if (const CudaSupport support = cuda_support(); !support.usable)
    GTEST_SKIP() << "skipped: no CUDA device (" << support.why << ")";
  const std::vector<const OpDef*> ops = catalogue::matmul();
  if (std::none_of(ops[0]->variants.begin(), ops[0]->variants.end(),
                   [](const Variant& v) { return v.name == std::string_view("cublas"); }))
    GTEST_SKIP() << "skipped: no cuBLAS in this build";
  const Extents extents[] = {{{}, 1, 1, 1}, {{}, 33, 65, 17}, {{2, 3}, 4, 3, 2}, {{}, 64, 10, 2048}, {{}, 3, 2, 0}};
  for (const Flags& flags : all_flags)
    for (const Extents& e : extents) {
      const OpCase test = product(e, flags, {-2, 3, 0, true}, true);
      for (DType type : every_cuda_type) {
        std::vector<double> want = evaluate(test, DType::f64, {.variants = "reference"})[0];
        for (double& v : want) v = rounded(v, type);
        const auto run = [&](const char* variant) {
          return evaluate(test, type, {.device = Device::cuda(), .variants = variant})[0];
        };
        EXPECT_EQ(run("matmul=cublas"), want) << test.name << " " << name_of(type);
        if (type == DType::f32) {
          EXPECT_EQ(run("matmul=cublas_tf32"), want) << test.name;
        }
      }
    }
}

TEST(Matmul, CublasIsCompared) {
  for (const Flags& flags : all_flags) check_vendor(product({{2}, 64, 32, 48}, flags, {}, false), "cublas");
}

TEST(Matmul, HalfTypesNeedCuda) {
  State state;
  Graph graph(state);
  const Tensor a = input(graph, "a", {DType::bf16, {2, 2}});
  EXPECT_ERROR(compile(graph, std::vector{matmul(a, a)}), "matmul: nothing on cpu runs bf16");
}

TEST(Matmul, EmptyExtents) {
  for (const Flags& flags : all_flags)
    for (const Extents& e : {Extents{{}, 0, 3, 2}, Extents{{}, 3, 0, 2}, Extents{{}, 3, 2, 0}, Extents{{0}, 2, 2, 2}}) {
      const OpCase test = product(e, flags, {}, true);
      check_variants(test);
      const auto results = evaluate(test, DType::f32, {});
      for (double v : results[0]) EXPECT_EQ(v, 0.0);
    }
}

TEST(Matmul, NanAndInfinitySurvive) {
  std::vector<std::pair<Device, const char*>> choices = {
      {Device::cpu(), "reference"}, {Device::cpu(), "matmul=native"}, {Device::cpu(), ""}};
  if (cuda_support().usable) choices.insert(choices.end(), {{Device::cuda(), ""}, {Device::cuda(), "tf32"}});
  for (const auto& [device, variants] : choices) {
    State state(device);
    Graph graph(state);
    const Tensor a = input(graph, "a", {DType::f32, {2, 2}}), b = input(graph, "b", {DType::f32, {2, 2}});
    Program program = compile(graph, std::vector{matmul(a, b)}, {.variants = variants});
    program.set<float>("a", std::vector<float>{0, 0, 1, 0});
    program.set<float>("b", std::vector<float>{NAN, INFINITY, 0, 0});
    program.run();
    const auto y = program.get<float>(0);
    EXPECT_TRUE(std::isnan(y[0]) && std::isnan(y[1]) && std::isnan(y[2])) << variants;
    EXPECT_EQ(y[3], INFINITY) << variants;
  }
}

TEST(Matmul, ErrorsNameTheLine) {
  State state;
  Graph graph(state);
  const auto at = [&](const Shape& s) { return full(graph, {DType::f32, s}, 0); };
  const auto expect = [](const char* text, const auto& body) { expect_error_at("tests/matmul.cpp", text, body); };
  expect("inner extents 3 and 4 differ", [&] { matmul(at({2, 3}), at({4, 2})); });
  expect("inner extents 2 and 4 differ", [&] { matmul(at({2, 3}), at({4, 2}), true); });
  expect("rank", [&] { matmul(at({3}), at({3, 2})); });
  expect("rank", [&] { matmul(at({2, 3, 4}), at({4, 2})); });
  expect("batch extents differ", [&] { matmul(at({2, 3, 4}), at({3, 4, 2})); });
  expect("floating", [&] { matmul(at({2, 3}), full(graph, {DType::f64, {3, 2}}, 0)); });
  expect("floating", [&] { matmul(full(graph, {DType::i32, {2, 3}}, 0), full(graph, {DType::i32, {3, 2}}, 0)); });
}

}  // namespace
}  // namespace ranvier::test
