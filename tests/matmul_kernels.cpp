// Every matrix product variant against the plain loops, in every orientation, between sentinels and on two thread
// counts.
#include <gtest/gtest.h>
#include <omp.h>

#include <cmath>
#include <cstring>
#include <functional>
#include <random>
#include <string>
#include <vector>

#include "kernels/matmul/matmul.h"
#include "tests/guarded.h"

namespace ranvier::kernels {
namespace {

using test::Guarded;
constexpr int64_t odd = 3;  // elements behind an aligned address: kernels may rely on no more than an element's own

template <class T>
struct Variant {
  const char* name;
  std::function<size_t(const MatmulDims&)> workspace;
  std::function<void(const MatmulDims&, const T*, const T*, T*, void*)> run;
};

template <class T>
Variant<T> native() {
  return {"native", matmul_native_workspace<T>, matmul_native<T>};
}

std::string name(const MatmulDims& d) {
  std::string s = "batch m n k transpose_a transpose_b =";
  for (int64_t v : {d.batch, d.m, d.n, d.k, int64_t{d.transpose_a}, int64_t{d.transpose_b}}) {
    s += ' ';
    s += std::to_string(v);
  }
  return s;
}

/// Sizes that are 0 and 1, that leave rests in every blocking (12 rows, 16 or 32 columns, 96 rows, 256 steps, 1024
/// columns) and that take every cut: rows, columns, depth, batch. Each with the four orientations.
std::vector<MatmulDims> cases() {
  const int64_t sizes[][4] = {
      {1, 1, 1, 1},     {1, 0, 5, 3},      {1, 5, 0, 3},      {1, 5, 3, 0},        {0, 5, 3, 2},     {1, 13, 17, 7},
      {1, 12, 32, 256}, {1, 97, 33, 257},  {1, 1, 100, 300},  {1, 300, 1, 100},    {1, 49, 1057, 9}, {1, 7, 1100, 31},
      {1, 130, 20, 1},  {1, 193, 64, 513}, {1, 64, 10, 2048}, {1, 33, 17, 1501},   {1, 2, 1, 5000},  {2, 50, 40, 60},
      {3, 1, 200, 200}, {7, 5, 6, 9},      {5, 100, 35, 300}, {1, 128, 128, 1100}, {1, 1, 1, 4096},  {1, 2, 3, 11000}};
  std::vector<MatmulDims> list;
  for (const auto& [batch, m, n, k] : sizes)
    for (const bool a : {false, true})
      for (const bool b : {false, true}) list.push_back({batch, m, n, k, a, b});
  return list;
}

template <class T>
bool same_bits(const std::vector<T>& values, const T* others) {
  return values.empty() || std::memcmp(values.data(), others, values.size() * sizeof(T)) == 0;
}

template <class T>
std::vector<T> run_guarded(const Variant<T>& variant, const MatmulDims& d, const std::vector<T>& a,
                           const std::vector<T>& b) {
  std::vector<T> results[2];
  const int threads_before = omp_get_max_threads();
  for (int threads : {1, 2}) {
    omp_set_num_threads(threads);
    Guarded<T> x(a.size(), odd), y(b.size(), odd), out(d.c_size(), odd);
    Guarded<char> workspace(variant.workspace(d), odd);
    std::copy(a.begin(), a.end(), x.data());
    std::copy(b.begin(), b.end(), y.data());
    variant.run(d, x.data(), y.data(), out.data(), workspace.data());
    EXPECT_EQ(omp_get_max_threads(), threads);
    EXPECT_TRUE(same_bits(a, x.data()) && same_bits(b, y.data())) << "changed an operand";
    results[threads - 1].assign(out.data(), out.data() + out.size());
  }
  omp_set_num_threads(threads_before);
  EXPECT_TRUE(same_bits(results[0], results[1].data())) << "one and two threads differ";
  return results[0];
}

/// Whole numbers have exact sums in f32, so that a variant that only reorders additions must give equal numbers.
template <class T>
void expect_exact(const Variant<T>& variant) {
  std::mt19937 random(1);
  const auto whole = [&](int64_t count) {
    std::vector<T> values(count);
    for (T& v : values) v = static_cast<T>(static_cast<int>(random() % 7) - 3);
    return values;
  };
  for (const MatmulDims& d : cases()) {
    SCOPED_TRACE(std::string(variant.name) + ", " + name(d));
    const auto a = whole(d.a_size()), b = whole(d.b_size());
    std::vector<T> expected(d.c_size());
    matmul_reference(d, a.data(), b.data(), expected.data());
    ASSERT_EQ(expected, run_guarded(variant, d, a, b));
  }
}

/// |error| <= 4 eps sqrt(k) * sum |a||b| is far above what any order of additions makes of normal numbers.
template <class T>
void expect_close(const Variant<T>& variant) {
  std::mt19937 random(2);
  std::normal_distribution<double> normal;
  for (const MatmulDims& d : cases()) {
    SCOPED_TRACE(std::string(variant.name) + ", " + name(d));
    std::vector<T> a(d.a_size()), b(d.b_size());
    for (T& v : a) v = static_cast<T>(normal(random));
    for (T& v : b) v = static_cast<T>(normal(random));
    std::vector<double> wide_a(a.begin(), a.end()), wide_b(b.begin(), b.end()), expected(d.c_size()), bound(d.c_size());
    matmul_reference(d, wide_a.data(), wide_b.data(), expected.data());
    for (double& v : wide_a) v = std::abs(v);
    for (double& v : wide_b) v = std::abs(v);
    matmul_reference(d, wide_a.data(), wide_b.data(), bound.data());
    const auto got = run_guarded(variant, d, a, b);
    const double eps = std::numeric_limits<T>::epsilon();
    for (size_t i = 0; i < got.size(); ++i) {
      ASSERT_TRUE(std::abs(got[i] - expected[i]) <= 4 * eps * std::sqrt(static_cast<double>(d.k)) * bound[i]) << i;
    }
  }
}

TEST(MatmulKernels, ReferenceFollowsTheDefinition) {
  for (const bool ta : {false, true})
    for (const bool tb : {false, true}) {
      const MatmulDims d{2, 3, 4, 5, ta, tb};
      std::vector<double> a(d.a_size()), b(d.b_size()), c(d.c_size());
      for (size_t i = 0; i < a.size(); ++i) a[i] = static_cast<double>(i * i % 11) - 5;
      for (size_t i = 0; i < b.size(); ++i) b[i] = static_cast<double>(i * 7 % 13) - 6;
      matmul_reference(d, a.data(), b.data(), c.data());
      for (int64_t batch = 0; batch < 2; ++batch)
        for (int64_t i = 0; i < 3; ++i)
          for (int64_t j = 0; j < 4; ++j) {
            double sum = 0;
            for (int64_t p = 0; p < 5; ++p) {
              sum += a[batch * 15 + (ta ? p * 3 + i : i * 5 + p)] * b[batch * 20 + (tb ? j * 5 + p : p * 4 + j)];
            }
            ASSERT_EQ(sum, c[batch * 12 + i * 4 + j]);
          }
    }
}

TEST(MatmulKernels, NativeIsExactInFloat) { expect_exact(native<float>()); }
TEST(MatmulKernels, NativeIsExactInDouble) { expect_exact(native<double>()); }
TEST(MatmulKernels, NativeRoundsLikeASumInFloat) { expect_close(native<float>()); }
TEST(MatmulKernels, NativeRoundsLikeASumInDouble) { expect_close(native<double>()); }

#if defined(RANVIER_HAS_ONEDNN)
const Variant<float> onednn{"onednn", matmul_onednn_workspace, matmul_onednn};
TEST(MatmulKernels, OnednnIsExact) { expect_exact(onednn); }
TEST(MatmulKernels, OnednnRoundsLikeASum) { expect_close(onednn); }
#endif

}  // namespace
}  // namespace ranvier::kernels
