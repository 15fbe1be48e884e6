// Paired statistics against values worked out by hand and printed in tables.
#include "models/robust/paired.h"

#include <gtest/gtest.h>

#include <cmath>

#include "tests/support/files.h"

namespace ranvier::robust {
namespace {

using testing::error_of;

TEST(Paired, SignFlipByCounting) {
  // all of one sign: only the two whole flips are as extreme
  EXPECT_DOUBLE_EQ(sign_flip_p(std::vector<double>{1, 2, 3, 4, 5, 6, 7, 8}), 2.0 / 256);
  // sums of +-1 +-2 +-3 are 6 4 2 0 0 -2 -4 -6: |sum| >= |1 + 2 - 3| always, >= 4 in four of eight
  EXPECT_DOUBLE_EQ(sign_flip_p(std::vector<double>{1, 2, -3}), 1);
  EXPECT_DOUBLE_EQ(sign_flip_p(std::vector<double>{-1, 2, 3}), 4.0 / 8);
  EXPECT_DOUBLE_EQ(sign_flip_p(std::vector<double>{0.1, 0.2, -0.3}), 1);  // 0.1 + 0.2 is not 0.3 in floating point
  EXPECT_DOUBLE_EQ(least_sign_flip_p(8), 2.0 / 256);
  EXPECT_DOUBLE_EQ(least_sign_flip_p(1), 1);
}

TEST(Paired, SignFlipOfManyPairsIsDrawn) {
  std::vector<double> clear(24, 1.0), null(24);
  for (size_t i = 0; i < 24; ++i) null[i] = i % 2 ? 1 : -1.5;
  EXPECT_NEAR(sign_flip_p(clear), least_sign_flip_p(24), 2e-6);
  const double p = sign_flip_p(null);
  EXPECT_GT(p, 0.1);
  EXPECT_LT(p, 0.9);
}

TEST(Paired, StudentsTables) {
  // two-sided 5 % points of Student's t as tables print them
  for (const auto& [degrees, t] : std::vector<std::pair<int64_t, double>>{
           {1, 12.7062}, {2, 4.30265}, {3, 3.18245}, {4, 2.77645}, {7, 2.36462}, {10, 2.22814}, {29, 2.04523}})
    EXPECT_NEAR(student_two_sided(t, degrees), 0.05, 2e-6) << degrees;
  EXPECT_DOUBLE_EQ(student_two_sided(0, 5), 1);
  // differences 1 2 3: t = 2 / (1 / sqrt 3), two degrees of freedom, p = 1 - t / sqrt(2 + t^2)
  const double t = 2 * std::sqrt(3.0);
  EXPECT_NEAR(paired_t_p(std::vector<double>{1, 2, 3}), 1 - t / std::sqrt(2 + t * t), 1e-12);
}

TEST(Paired, Intervals) {
  const std::vector<double> values = {1, 2, 3};
  const Interval t = t_interval(values);
  EXPECT_NEAR(t.low, 2 - 4.30265 / std::sqrt(3.0), 1e-4);
  EXPECT_NEAR(t.high, 2 + 4.30265 / std::sqrt(3.0), 1e-4);
  std::vector<double> many;  // symmetric and smooth: near mean +- 1.96 sd / sqrt n
  for (int i = -50; i <= 50; ++i) many.push_back(0.02 * i);
  const double half = 1.96 * deviation_of(many) / std::sqrt(101.0);
  EXPECT_NEAR(bca_interval(many).low, -half, 0.05 * half);
  EXPECT_NEAR(bca_interval(many).high, half, 0.05 * half);
  std::vector<double> skewed;
  for (int i = 1; i <= 12; ++i) skewed.push_back(std::exp(0.4 * i));
  const Interval b = bca_interval(skewed);
  EXPECT_GT(b.high - mean_of(skewed), mean_of(skewed) - b.low) << "the correction leans towards the tail";
  EXPECT_EQ(bca_interval(std::vector<double>{2, 2, 2}).low, 2);
}

TEST(Paired, HolmByHand) {
  const std::vector<double> p = holm(std::vector<double>{0.01, 0.04, 0.03, 0.005});
  EXPECT_NEAR(p[3], 0.02, 1e-15);
  EXPECT_NEAR(p[0], 0.03, 1e-15);
  EXPECT_NEAR(p[2], 0.06, 1e-15);
  EXPECT_NEAR(p[1], 0.06, 1e-15);  // no less than the one before it
  EXPECT_EQ(holm(std::vector<double>{0.6, 0.7})[0], 1);
}

TEST(Paired, BadInput) {
  EXPECT_NE(error_of([] { sign_flip_p(std::vector<double>{1}); }).find("at least two"), std::string::npos);
  EXPECT_NE(error_of([] { t_interval(std::vector<double>{1, NAN}); }).find("nan"), std::string::npos);
}

}  // namespace
}  // namespace ranvier::robust
