// Tests of the image augmentations: small images by hand, padded crops, adjoints, and equality of the fast versions.
#include "kernels/augment/augment.h"

#include <gtest/gtest.h>
#include <omp.h>

#include <cmath>
#include <numeric>
#include <random>
#include <vector>

namespace {

using namespace ranvier::kernels;

const ImageDims kCases[] = {{3, 5, 7, 3}, {1, 1, 1, 1},   {2, 1, 4, 2},  {2, 4, 1, 3},
                            {0, 3, 3, 3}, {9, 32, 32, 3}, {4, 6, 5, 17}, {70, 32, 32, 3}};

int64_t elements(const ImageDims& d) { return d.n * d.h * d.w * d.c; }

template <class T>
std::vector<T> random_image(const ImageDims& d, uint32_t seed) {
  std::mt19937 generator(seed);
  std::vector<T> x(elements(d));
  for (T& v : x) v = static_cast<T>(generator() % 256);
  return x;
}

std::vector<int32_t> random_pairs(int64_t n, int32_t low, int32_t high) {
  std::mt19937 generator(3);
  std::vector<int32_t> pairs(2 * n);
  for (int32_t& v : pairs) v = std::uniform_int_distribution<int32_t>(low, high)(generator);
  return pairs;
}

std::vector<uint8_t> random_flags(int64_t n) {
  std::vector<uint8_t> flags(n);
  for (int64_t i = 0; i < n; ++i) flags[i] = static_cast<uint8_t>(i * 7 % 3);
  return flags;
}

TEST(Augment, FlipsByHand) {
  const std::vector<float> x = {1, 2, 3, 4, 5, 6};
  std::vector<float> y(6);
  const uint8_t flags[1] = {1};
  reference::flip({1, 1, 3, 2}, x.data(), flags, y.data());
  EXPECT_EQ(y, (std::vector<float>{5, 6, 3, 4, 1, 2}));
}

TEST(Augment, TranslatesByHand) {
  const std::vector<float> x = {1, 2, 3, 4, 5, 6, 7, 8, 9};
  std::vector<float> y(9);
  const int32_t offsets[2] = {1, -2};
  reference::translate({1, 3, 3, 1}, x.data(), offsets, Border::zero, y.data());
  EXPECT_EQ(y, (std::vector<float>{0, 0, 4, 0, 0, 7, 0, 0, 0}));
  reference::translate({1, 3, 3, 1}, x.data(), offsets, Border::reflect, y.data());
  EXPECT_EQ(y, (std::vector<float>{6, 5, 4, 9, 8, 7, 6, 5, 4}));
}

TEST(Augment, TranslateIsACropOfThePaddedImage) {
  const ImageDims d{3, 5, 7, 3};
  const int64_t pad = 4;
  const std::vector<float> x = random_image<float>(d, 1);
  const std::vector<int32_t> offsets = random_pairs(d.n, -4, 4);
  for (const Border border : {Border::zero, Border::reflect}) {
    std::vector<float> y(elements(d));
    reference::translate(d, x.data(), offsets.data(), border, y.data());
    for (int64_t n = 0; n < d.n; ++n) {
      const int64_t wide = d.w + 2 * pad;
      std::vector<float> padded((d.h + 2 * pad) * wide * d.c);
      for (int64_t i = -pad; i < d.h + pad; ++i) {
        for (int64_t j = -pad; j < d.w + pad; ++j) {
          int64_t row = i < 0      ? -i
                        : i >= d.h ? 2 * d.h - 2 - i
                                   : i,
                  column = j < 0      ? -j
                           : j >= d.w ? 2 * d.w - 2 - j
                                      : j;
          const bool outside = row != i || column != j;
          for (int64_t c = 0; c < d.c; ++c) {
            padded[((i + pad) * wide + j + pad) * d.c + c] =
                outside && border == Border::zero ? 0 : x[((n * d.h + row) * d.w + column) * d.c + c];
          }
        }
      }
      for (int64_t i = 0; i < d.h; ++i) {
        for (int64_t k = 0; k < d.w * d.c; ++k) {
          const int64_t from = (i + pad + offsets[2 * n]) * wide + pad + offsets[2 * n + 1];
          EXPECT_EQ(y[(n * d.h + i) * d.w * d.c + k], padded[from * d.c + k]);
        }
      }
    }
  }
}

TEST(Augment, ReflectionFoldsBackFromAnyDistance) {
  const int64_t expected[] = {2, 1, 0, 1, 2, 3, 2, 1, 0, 1};
  for (int64_t i = -2; i < 8; ++i) EXPECT_EQ(reflect_index(i, 4), expected[i + 2]) << i;
  EXPECT_EQ(reflect_index(-1000003, 1), 0);
  EXPECT_EQ(reflect_index(600000 - 7, 4), 1);
}

TEST(Augment, CutsASquareClippedAtTheBorder) {
  const ImageDims d{4, 6, 5, 2};
  const std::vector<float> x(elements(d), 1);
  std::vector<float> y(elements(d));
  const int32_t centres[8] = {2, 2, 0, 0, 5, 4, -9, 40};
  for (const int64_t size : {0, 1, 3, 4, 20}) {
    reference::cutout(d, x.data(), centres, size, y.data());
    for (int64_t n = 0; n < d.n; ++n) {
      for (int64_t i = 0; i < d.h; ++i) {
        for (int64_t j = 0; j < d.w; ++j) {
          const int64_t a = i - centres[2 * n] + size / 2, b = j - centres[2 * n + 1] + size / 2;
          const float expected = a >= 0 && a < size && b >= 0 && b < size ? 0.0f : 1.0f;
          EXPECT_EQ(y[((n * d.h + i) * d.w + j) * d.c], expected);
          EXPECT_EQ(y[((n * d.h + i) * d.w + j) * d.c + 1], expected);
        }
      }
    }
  }
}

TEST(Augment, NormalizesByTheFormula) {
  const uint8_t x[6] = {0, 51, 255, 102, 204, 1};
  const double mean[3] = {0.5, 0.25, 0.125}, deviation[3] = {0.25, 0.5, 0.2};
  double y[6];
  reference::normalize({1, 1, 2, 3}, x, mean, deviation, y);
  for (int k = 0; k < 6; ++k) EXPECT_NEAR(y[k], (x[k] / 255.0 - mean[k % 3]) / deviation[k % 3], 1e-15);
  EXPECT_NEAR(y[1], -0.1, 1e-15);
}

double dot(const std::vector<double>& a, const std::vector<double>& b) {
  return std::inner_product(a.begin(), a.end(), b.begin(), 0.0);
}

// Whole numbers: both sides of <A x, g> = <x, A* g> are exact.
TEST(Augment, AdjointsMatchInnerProducts) {
  for (const ImageDims& d : kCases) {
    const std::vector<double> x = random_image<double>(d, 1), g = random_image<double>(d, 2);
    std::vector<double> y(elements(d)), back(elements(d), NAN);
    for (const int32_t reach : {0, 2, 50}) {
      const std::vector<int32_t> offsets = random_pairs(d.n, -reach, reach);
      for (const Border border : {Border::zero, Border::reflect}) {
        reference::translate(d, x.data(), offsets.data(), border, y.data());
        reference::translate_adjoint(d, g.data(), offsets.data(), border, back.data());
        EXPECT_EQ(dot(y, g), dot(x, back));
      }
    }
    const std::vector<uint8_t> flags = random_flags(d.n);
    reference::flip(d, x.data(), flags.data(), y.data());
    reference::flip(d, g.data(), flags.data(), back.data());
    EXPECT_EQ(dot(y, g), dot(x, back));
    const std::vector<int32_t> centres = random_pairs(d.n, 0, 31);
    reference::cutout(d, x.data(), centres.data(), 12, y.data());
    reference::cutout(d, g.data(), centres.data(), 12, back.data());
    EXPECT_EQ(dot(y, g), dot(x, back));
  }
}

/// Expects plain(out) and fast(out) to fill equal arrays and leave the sentinel behind them, with 1 and 2 threads.
template <class T, class Plain, class Fast>
void expect_equal(const ImageDims& d, Plain plain, Fast fast) {
  std::vector<T> expected(elements(d) + 1, T(77));
  plain(expected.data());
  const int threads = omp_get_max_threads();
  for (const int count : {1, 2}) {
    std::vector<T> y(elements(d) + 1, T(77));
    omp_set_num_threads(count);
    fast(y.data());
    EXPECT_EQ(y, expected) << d.n << "x" << d.h << "x" << d.w << "x" << d.c;
  }
  omp_set_num_threads(threads);
}

template <class T>
class AugmentFast : public testing::Test {};
using Types = testing::Types<uint8_t, float>;
TYPED_TEST_SUITE(AugmentFast, Types);

TYPED_TEST(AugmentFast, EqualsTheReference) {
  using T = TypeParam;
  for (const ImageDims& d : kCases) {
    const std::vector<T> x = random_image<T>(d, 1);
    const std::vector<uint8_t> flags = random_flags(d.n);
    expect_equal<T>(
        d, [&](T* y) { reference::flip(d, x.data(), flags.data(), y); },
        [&](T* y) { cpu::flip(d, x.data(), flags.data(), y); });
    for (const int32_t reach : {0, 2, 9, 100}) {
      const std::vector<int32_t> offsets = random_pairs(d.n, -reach, reach);
      for (const Border border : {Border::zero, Border::reflect}) {
        expect_equal<T>(
            d, [&](T* y) { reference::translate(d, x.data(), offsets.data(), border, y); },
            [&](T* y) { cpu::translate(d, x.data(), offsets.data(), border, y); });
      }
      for (const int64_t size : {0, 3, 12}) {
        expect_equal<T>(
            d, [&](T* y) { reference::cutout(d, x.data(), offsets.data(), size, y); },
            [&](T* y) { cpu::cutout(d, x.data(), offsets.data(), size, y); });
      }
    }
  }
}

TEST(AugmentFastFloat, AdjointAndNormalizeEqualTheReference) {
  std::vector<ImageDims> cases(std::begin(kCases), std::end(kCases));
  cases.push_back({2, 2, 3, 65});
  for (const ImageDims& d : cases) {
    std::vector<float> dy = random_image<float>(d, 1);
    for (float& v : dy) v = std::sin(v);
    for (const int32_t reach : {0, 2, 100}) {
      const std::vector<int32_t> offsets = random_pairs(d.n, -reach, reach);
      for (const Border border : {Border::zero, Border::reflect}) {
        expect_equal<float>(
            d, [&](float* dx) { reference::translate_adjoint(d, dy.data(), offsets.data(), border, dx); },
            [&](float* dx) { cpu::translate_adjoint(d, dy.data(), offsets.data(), border, dx); });
      }
    }
    const std::vector<uint8_t> x = random_image<uint8_t>(d, 4);
    std::vector<float> mean(d.c), deviation(d.c);
    for (int64_t c = 0; c < d.c; ++c) mean[c] = 0.4f + 0.01f * c, deviation[c] = 0.2f + 0.03f * c;
    expect_equal<float>(
        d, [&](float* y) { reference::normalize(d, x.data(), mean.data(), deviation.data(), y); },
        [&](float* y) { cpu::normalize(d, x.data(), mean.data(), deviation.data(), y); });
  }
}

/// Every byte over 255, and what is left of it over deviations of all mantissas.
TEST(AugmentKernels, QuotientsByReciprocalsAreThoseOfDivision) {
  for (int byte = 0; byte < 256; ++byte) {
    const float unit = quotient(static_cast<float>(byte), 255.0f);
    EXPECT_EQ(quotient_by(static_cast<float>(byte), 255.0f, 1 / 255.0f), unit);
    for (int i = 0; i < 400; ++i) {
      const float deviation = std::ldexp(1 + static_cast<float>(i * 20971 % (1 << 23)) * 0x1p-23f, i % 9 - 6);
      const float centred = unit - 0.4914f;
      ASSERT_EQ(quotient_by(centred, deviation, quotient(1.0f, deviation)), quotient(centred, deviation)) << deviation;
    }
  }
}

}  // namespace
