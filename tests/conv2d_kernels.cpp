// Every convolution variant and pass against the plain loops: exact where it must be, bounded error for Winograd.
#include <gtest/gtest.h>
#include <omp.h>

#include <cmath>
#include <cstring>
#include <functional>
#include <random>
#include <stdexcept>
#include <string>
#include <vector>

#include "kernels/conv2d/conv2d.h"
#include "tests/guarded.h"

namespace ranvier::kernels {
namespace {

using test::Guarded;
constexpr int64_t odd = 3;  // elements behind an aligned address: kernels may rely on no more than an element's own

constexpr ConvPass passes[] = {ConvPass::forward, ConvPass::dgrad, ConvPass::wgrad};

struct Case {
  Conv2dDims dims;
  std::string name() const {
    const auto& d = dims;
    std::string s;
    for (int64_t v :
         {d.n, d.h, d.w, d.c, d.k, d.r, d.s, d.stride_h, d.stride_w, d.pad_h, d.pad_w, d.drop_h, d.drop_w}) {
      s += std::to_string(v) + " ";
    }
    return "n h w c k r s stride pad drop = " + s;
  }
};

int64_t size_of(const Conv2dDims& d, ConvPass pass, int operand) {  // 0: a, 1: b, 2: out
  const int64_t x = d.x_size(), f = d.filter_size(), y = d.y_size();
  const int64_t sizes[3][3] = {{x, f, y}, {y, f, x}, {x, y, f}};
  return sizes[static_cast<int>(pass)][operand];
}

template <class T>
using Run = std::function<void(const Conv2dDims&, ConvPass, const T*, const T*, T*, void*)>;

template <class T>
struct Variant {
  const char* name;
  std::function<bool(const Conv2dDims&, ConvPass)> supports;
  std::function<size_t(const Conv2dDims&, ConvPass)> workspace;
  Run<T> run;
};

template <class T>
Variant<T> native() {
  return {"native", [](const Conv2dDims&, ConvPass) { return true; }, conv2d_native_workspace<T>, conv2d_native<T>};
}

Variant<float> winograd() { return {"winograd", conv2d_winograd_supports, conv2d_winograd_workspace, conv2d_winograd}; }

#if defined(RANVIER_HAS_ONEDNN)
Variant<float> onednn() {
  return {"onednn", [](const Conv2dDims& d, ConvPass) { return conv2d_onednn_supports(d); },
          [](const Conv2dDims& d, ConvPass pass) { return conv2d_onednn_workspace(*conv2d_onednn_prepare(d, pass)); },
          [](const Conv2dDims& d, ConvPass pass, const float* a, const float* b, float* out, void* workspace) {
            conv2d_onednn(*conv2d_onednn_prepare(d, pass), a, b, out, workspace);
          }};
}
#endif

std::vector<Case> cases() {
  std::vector<Case> list = {
      {{1, 1, 1, 1, 1, 1, 1}},                      // nothing but one product
      {{2, 1, 1, 3, 7, 3, 3, 1, 1, 1, 1}},          // one pixel, eight taps on padding
      {{1, 2, 3, 1, 3, 2, 3, 1, 1, 0, 1}},          // filter not square
      {{3, 5, 4, 7, 5, 1, 1, 1, 1, 0, 0}},          // pointwise
      {{2, 6, 7, 16, 17, 1, 1, 2, 2, 0, 0}},        // pixels that no tap reaches
      {{2, 9, 8, 3, 16, 5, 5, 1, 1, 2, 2}},         //
      {{2, 9, 8, 3, 24, 5, 3, 2, 3, 2, 0}},         // strides and padding differ by direction
      {{2, 8, 8, 17, 3, 3, 3, 2, 2, 1, 1}},         // downsampling
      {{1, 7, 7, 24, 64, 3, 3, 1, 1, 1, 1}},        //
      {{3, 5, 5, 64, 24, 3, 3, 1, 1, 1, 1}},        //
      {{2, 10, 10, 3, 24, 2, 2, 1, 1, 0, 0}},       // whitening
      {{5, 12, 12, 3, 32, 3, 3, 1, 1, 1, 1}},       // first layer
      {{2, 3, 3, 33, 65, 3, 3, 1, 1, 1, 1}},        //
      {{1, 40, 33, 2, 5, 3, 3, 1, 1, 1, 1}},        //
      {{1, 6, 6, 4, 4, 3, 3, 3, 3, 0, 0}},          // stride = filter
      {{1, 7, 6, 4, 4, 2, 2, 3, 3, 0, 0}},          // stride > filter, last pixels unused
      {{2, 4, 4, 5, 6, 3, 3, 1, 1, 2, 2}},          // full correlation
      {{1, 3, 3, 2, 2, 1, 1, 1, 1, 2, 2}},          // padding beyond the filter: outputs of nothing but zeros
      {{19, 8, 8, 32, 48, 3, 3, 1, 1, 1, 1}},       // several shards
      {{0, 8, 8, 3, 4, 3, 3, 1, 1, 1, 1}},          // empty batch
      {{2, 7, 7, 16, 24, 3, 3, 1, 1, 1, 1, 1, 1}},  // without the last row and column
      {{1, 9, 8, 3, 5, 3, 2, 2, 1, 1, 0, 2, 1}},    // without more than a pool would drop
  };
  std::mt19937 random(7);
  const auto pick = [&](std::initializer_list<int64_t> of) { return of.begin()[random() % of.size()]; };
  while (list.size() < 60) {
    Conv2dDims d{pick({1, 2, 5}),
                 pick({1, 4, 7, 11, 16}),
                 pick({1, 3, 8, 13}),
                 pick({1, 3, 7, 16, 17, 24, 64}),
                 pick({1, 3, 7, 16, 17, 24, 64}),
                 pick({1, 2, 3, 5}),
                 pick({1, 2, 3, 5}),
                 pick({1, 1, 2}),
                 pick({1, 1, 2}),
                 pick({0, 1, 2}),
                 pick({0, 1, 2})};
    if (d.r <= d.h + 2 * d.pad_h && d.s <= d.w + 2 * d.pad_w) list.push_back({d});
  }
  return list;
}

/// Shapes for 3x3 filters of stride 1: every padding, tiles cut by the border, partial registers, several blocks.
std::vector<Case> winograd_cases() {
  return {{{1, 1, 1, 1, 1, 3, 3, 1, 1, 1, 1}},          {{2, 3, 3, 16, 16, 3, 3, 1, 1, 0, 0}},
          {{2, 4, 4, 16, 32, 3, 3, 1, 1, 1, 1}},        {{3, 5, 9, 17, 7, 3, 3, 1, 1, 2, 1}},
          {{2, 7, 7, 24, 64, 3, 3, 1, 1, 1, 1}},        {{2, 7, 7, 64, 24, 3, 3, 1, 1, 1, 1}},
          {{1, 31, 31, 24, 64, 3, 3, 1, 1, 1, 1}},      {{7, 15, 15, 48, 40, 3, 3, 1, 1, 1, 1}},
          {{1, 8, 8, 3, 5, 3, 3, 1, 1, 2, 2}},          {{33, 8, 8, 64, 128, 3, 3, 1, 1, 1, 1}},
          {{0, 8, 8, 16, 16, 3, 3, 1, 1, 1, 1}},        {{40, 3, 3, 272, 160, 3, 3, 1, 1, 1, 1}},
          {{2, 15, 15, 24, 32, 3, 3, 1, 1, 1, 1, 1, 1}}};
}

template <class T>
std::vector<T> whole_numbers(int64_t count, unsigned seed) {
  std::mt19937 random(seed);
  std::vector<T> values(count);
  for (T& v : values) v = static_cast<T>(static_cast<int>(random() % 7) - 3);
  return values;
}

std::vector<float> normals(int64_t count, unsigned seed) {
  std::mt19937 random(seed);
  std::normal_distribution<float> normal;
  std::vector<float> values(count);
  for (float& v : values) v = normal(random);
  return values;
}

template <class T>
bool same_bits(const std::vector<T>& values, const T* others) {
  return values.empty() || std::memcmp(values.data(), others, values.size() * sizeof(T)) == 0;
}

/// Runs a variant between sentinels, on one and on two threads; the results must agree bit for bit.
template <class T>
std::vector<T> run_guarded(const Variant<T>& variant, const Case& one, ConvPass pass, const std::vector<T>& a,
                           const std::vector<T>& b) {
  std::vector<T> results[2];
  const int threads_before = omp_get_max_threads();
  for (int threads : {1, 2}) {
    omp_set_num_threads(threads);
    Guarded<T> x(a.size(), odd), w(b.size(), odd), out(size_of(one.dims, pass, 2), odd);
    Guarded<char> workspace(variant.workspace(one.dims, pass), odd);
    std::copy(a.begin(), a.end(), x.data());
    std::copy(b.begin(), b.end(), w.data());
    variant.run(one.dims, pass, x.data(), w.data(), out.data(), workspace.data());
    EXPECT_TRUE(same_bits(a, x.data()) && same_bits(b, w.data())) << "changed an operand";
    results[threads - 1].assign(out.data(), out.data() + out.size());
  }
  omp_set_num_threads(threads_before);
  EXPECT_TRUE(same_bits(results[0], results[1].data())) << "one and two threads differ";
  return results[0];
}

/// Whole numbers have exact sums in f32, so that a variant that only reorders additions must give equal numbers.
template <class T>
void expect_exact(const Variant<T>& variant) {
  for (const Case& one : cases()) {
    for (ConvPass pass : passes) {
      if (!variant.supports(one.dims, pass)) {
        EXPECT_GT(one.dims.drop_h + one.dims.drop_w, 0) << variant.name << " " << one.name();
        continue;
      }
      SCOPED_TRACE(std::string(variant.name) + ", pass " + std::to_string(static_cast<int>(pass)) + ", " + one.name());
      const auto a = whole_numbers<T>(size_of(one.dims, pass, 0), 1),
                 b = whole_numbers<T>(size_of(one.dims, pass, 1), 2);
      std::vector<T> expected(size_of(one.dims, pass, 2));
      conv2d_reference(one.dims, pass, a.data(), b.data(), expected.data());
      ASSERT_EQ(expected, run_guarded(variant, one, pass, a, b));
    }
  }
}

struct Errors {
  double rms, largest;  // both relative to the rms of the result
};
Errors errors(const std::vector<float>& got, const std::vector<double>& expected) {
  double error = 0, size = 0, largest = 0;
  for (size_t i = 0; i < expected.size(); ++i) {
    const double e = got[i] - expected[i];
    error += e * e, size += expected[i] * expected[i];
    if (!(std::abs(e) <= largest)) largest = std::abs(e);
  }
  const double rms = std::sqrt(size / static_cast<double>(expected.size()));
  return {std::sqrt(error / size), largest / rms};
}

void expect_close(const Variant<float>& variant, const std::vector<Case>& list, double rms, double largest) {
  for (const Case& one : list) {
    for (ConvPass pass : passes) {
      ASSERT_TRUE(variant.supports(one.dims, pass)) << one.name();
      SCOPED_TRACE(std::string(variant.name) + ", pass " + std::to_string(static_cast<int>(pass)) + ", " + one.name());
      const auto a = normals(size_of(one.dims, pass, 0), 3), b = normals(size_of(one.dims, pass, 1), 4);
      const std::vector<double> wide_a(a.begin(), a.end()), wide_b(b.begin(), b.end());
      std::vector<double> expected(size_of(one.dims, pass, 2));
      conv2d_reference(one.dims, pass, wide_a.data(), wide_b.data(), expected.data());
      const auto got = run_guarded(variant, one, pass, a, b);
      if (one.dims.n == 0) {
        for (float v : got) ASSERT_EQ(v, 0.0f);
        continue;
      }
      const Errors e = errors(got, expected);
      EXPECT_TRUE(e.rms <= rms) << e.rms;
      EXPECT_TRUE(e.largest <= largest) << e.largest;
    }
  }
}

/// The definition itself, in another form: one output element at a time.
TEST(Conv2dKernels, ReferenceFollowsTheDefinition) {
  const Conv2dDims d{2, 5, 4, 3, 2, 3, 2, 2, 1, 1, 1};
  const auto x = whole_numbers<double>(d.x_size(), 5), f = whole_numbers<double>(d.filter_size(), 6);
  std::vector<double> y(d.y_size());
  conv2d_reference(d, ConvPass::forward, x.data(), f.data(), y.data());
  ASSERT_EQ(d.p(), 3);
  ASSERT_EQ(d.q(), 5);
  for (int64_t i = 0; i < d.y_size(); ++i) {
    const int64_t k = i % d.k, q = i / d.k % d.q(), p = i / (d.k * d.q()) % d.p(), n = i / (d.k * d.q() * d.p());
    double sum = 0;
    for (int64_t j = 0; j < d.r * d.s * d.c; ++j) {
      const int64_t c = j % d.c, s = j / d.c % d.s, r = j / (d.c * d.s);
      const int64_t row = p * d.stride_h + r - d.pad_h, col = q * d.stride_w + s - d.pad_w;
      if (row >= 0 && row < d.h && col >= 0 && col < d.w) {
        sum += x[((n * d.h + row) * d.w + col) * d.c + c] * f[((k * d.r + r) * d.s + s) * d.c + c];
      }
    }
    ASSERT_EQ(sum, y[i]);
  }
}

/// <dy, conv(x, f)> = <dgrad(dy, f), x> = <wgrad(x, dy), f>: the three passes are slots of one trilinear form.
TEST(Conv2dKernels, ReferencePassesAreAdjoint) {
  for (const Case& one : cases()) {
    const Conv2dDims& d = one.dims;
    const auto x = whole_numbers<double>(d.x_size(), 1), f = whole_numbers<double>(d.filter_size(), 2),
               dy = whole_numbers<double>(d.y_size(), 3);
    std::vector<double> y(d.y_size()), dx(d.x_size()), df(d.filter_size());
    conv2d_reference(d, ConvPass::forward, x.data(), f.data(), y.data());
    conv2d_reference(d, ConvPass::dgrad, dy.data(), f.data(), dx.data());
    conv2d_reference(d, ConvPass::wgrad, x.data(), dy.data(), df.data());
    const auto dot = [](const auto& u, const auto& v) {
      double sum = 0;
      for (size_t i = 0; i < u.size(); ++i) sum += u[i] * v[i];
      return sum;
    };
    EXPECT_EQ(dot(dy, y), dot(dx, x)) << one.name();
    EXPECT_EQ(dot(dy, y), dot(df, f)) << one.name();
  }
}

TEST(Conv2dKernels, NativeIsExactInFloat) { expect_exact(native<float>()); }
TEST(Conv2dKernels, NativeIsExactInDouble) { expect_exact(native<double>()); }
TEST(Conv2dKernels, NativeRoundsLikeASum) { expect_close(native<float>(), winograd_cases(), 1e-6, 1e-5); }

TEST(Conv2dKernels, WinogradStaysWithinItsStatedError) { expect_close(winograd(), winograd_cases(), 2e-6, 2e-5); }

TEST(Conv2dKernels, WinogradRefusesOtherFilters) {
  Conv2dDims d{1, 8, 8, 16, 16, 3, 3, 1, 1, 1, 1};
  EXPECT_TRUE(conv2d_winograd_supports(d, ConvPass::forward));
  EXPECT_TRUE(conv2d_winograd_pays(d, ConvPass::forward));
  d.stride_h = 2;
  EXPECT_FALSE(conv2d_winograd_supports(d, ConvPass::forward));
  d.stride_h = 1, d.r = 2;
  EXPECT_FALSE(conv2d_winograd_supports(d, ConvPass::forward));
  d.r = 3, d.pad_w = 3;
  EXPECT_FALSE(conv2d_winograd_supports(d, ConvPass::forward));
}

TEST(Conv2dKernels, NotANumberIsNotLost) {
  const Case one{{2, 8, 8, 16, 16, 3, 3, 1, 1, 1, 1}};
  for (const auto& variant : {native<float>(), winograd()}) {
    auto x = normals(one.dims.x_size(), 1);
    x[777] = NAN;
    const auto y = run_guarded(variant, one, ConvPass::forward, x, normals(one.dims.filter_size(), 2));
    EXPECT_TRUE(std::any_of(y.begin(), y.end(), [](float v) { return std::isnan(v); })) << variant.name;
  }
}

#if defined(RANVIER_HAS_ONEDNN)
TEST(Conv2dKernels, OnednnIsExact) { expect_exact(onednn()); }
TEST(Conv2dKernels, OnednnRoundsLikeASum) { expect_close(onednn(), winograd_cases(), 1e-6, 1e-5); }
#endif

TEST(Conv2dKernels, CheckNamesWhatIsWrong) {
  const auto message = [](const Conv2dDims& d) -> std::string {
    try {
      conv2d_check(d);
    } catch (const std::runtime_error& error) {
      return error.what();
    }
    return "";
  };
  EXPECT_EQ(message({1, 8, 8, 3, 4, 3, 3, 1, 1, 1, 1}), "");
  EXPECT_EQ(message({0, 8, 8, 3, 4, 3, 3, 1, 1, 1, 1}), "");
  EXPECT_NE(message({1, 8, 8, 0, 4, 3, 3}).find("a size is below 1"), std::string::npos);
  EXPECT_NE(message({1, 8, 8, 3, 4, 3, 3, 0, 1}).find("a stride is below 1"), std::string::npos);
  EXPECT_NE(message({1, 8, 8, 3, 4, 3, 3, 1, 1, 1, 1, 0, 8}).find("nothing is left"), std::string::npos);
  EXPECT_NE(message({1, 8, 8, 3, 4, 3, 3, 1, 1, -1, 0}).find("a padding is negative"), std::string::npos);
  EXPECT_EQ(
      message({1, 3, 8, 3, 4, 5, 3}),
      "conv2d: image 1x3x8x3, filter 4x5x3x3, stride 1x1, padding 0x0: the filter is larger than the padded image");
}

}  // namespace
}  // namespace ranvier::kernels
