// Softmax cross-entropy: the reference against closed forms and central differences, the fast passes against the
// reference.
#include "kernels/loss/loss.h"

#include <limits>

#include "tests/guarded.h"

namespace ranvier::kernels {
namespace {
using namespace test;

template <class T>
struct Results {
  std::vector<T> loss, probabilities, dlogits, hit;
};

template <bool Fast, class T>
Results<T> run(const LossDims& d, const std::vector<T>& z, const std::vector<int32_t>& labels,
               const std::vector<T>& dloss, const int32_t* valid = nullptr) {
  Guarded<T> loss(d.n), p(d.n * d.classes), dz(d.n * d.classes), hit(d.n);
  if constexpr (Fast) {
    cpu::softmax_cross_entropy(d, z.data(), labels.data(), valid, loss, p);
    cpu::softmax_cross_entropy_gradient(d, p, labels.data(), valid, dloss.data(), dz);
    cpu::correct(d, z.data(), labels.data(), valid, hit);
  } else {
    reference::softmax_cross_entropy<T>(d, z.data(), labels.data(), valid, loss, p);
    reference::softmax_cross_entropy_gradient<T>(d, p, labels.data(), valid, dloss.data(), dz);
    reference::correct<T>(d, z.data(), labels.data(), valid, hit);
  }
  return {loss.values(), p.values(), dz.values(), hit.values()};
}

std::vector<int32_t> labels_of(int64_t n, int64_t classes) {
  std::vector<int32_t> labels(static_cast<size_t>(n));
  for (int64_t i = 0; i < n; ++i) labels[i] = static_cast<int32_t>((i * 7 + 3) % classes);
  return labels;
}

TEST(Loss, ClosedForm) {
  // Probabilities 1/4, 3/4; smoothing 0.2 makes the target 0.1, 0.9.
  const std::vector<double> z{5, 5 + std::log(3.0)};
  const auto r = run<false, double>({1, 2, 0.2}, z, {1}, {2});
  EXPECT_NEAR(r.loss[0], -0.1 * std::log(0.25) - 0.9 * std::log(0.75), 1e-15);
  EXPECT_NEAR(r.dlogits[0], 2 * (0.25 - 0.1), 1e-15);
  EXPECT_NEAR(r.dlogits[1], 2 * (0.75 - 0.9), 1e-15);
  EXPECT_EQ(r.hit[0], 1);
}

TEST(Loss, GradientEqualsCentralDifferences) {
  for (const double smoothing : {0.0, 0.1, 1.0}) {
    const LossDims d{5, 7, smoothing};
    auto z = normal<double>(35, 1, 0, 2);
    const auto labels = labels_of(5, 7);
    const auto dloss = normal<double>(5, 2);
    const auto r = run<false>(d, z, labels, dloss);
    for (size_t i = 0; i < z.size(); ++i) {
      const double at = z[i], step = 1e-5;
      z[i] = at + step;
      const double up = run<false>(d, z, labels, dloss).loss[i / 7];
      z[i] = at - step;
      const double down = run<false>(d, z, labels, dloss).loss[i / 7];
      z[i] = at;
      ASSERT_TRUE(std::abs((up - down) / (2 * step) * dloss[i / 7] - r.dlogits[i]) <= 1e-6);
    }
  }
}

TEST(Loss, FastEqualsReference) {
  for (const int64_t classes : {1, 2, 10, 16, 17, 100, 1000})
    for (const double smoothing : {0.0, 0.2})
      for (const double scale : {1.0, 30.0, 1e4}) {
        const LossDims d{37, classes, smoothing};
        const auto z = normal<float>(d.n * classes, 3, scale, scale), dloss = normal<float>(d.n, 4);
        const std::vector<double> wide(z.begin(), z.end()), wide_dloss(dloss.begin(), dloss.end());
        const auto labels = labels_of(d.n, classes);
        const auto fast = run<true>(d, z, labels, dloss);
        const auto want = run<false>(d, wide, labels, wide_dloss);
        expect_near(fast.loss, want.loss, 2e-6, 1e-6, "loss");
        expect_near(fast.probabilities, want.probabilities, 1e-7, 2e-6, "probabilities");
        expect_near(fast.dlogits, want.dlogits, 1e-6, 2e-6, "dlogits");
        expect_near(fast.hit, want.hit, 0, 0, "hit");
      }
}

template <bool Fast>
void edges() {
  const LossDims d{6, 3, 0.1};
  const float nan = std::numeric_limits<float>::quiet_NaN();
  const std::vector<float> z{1, 2, 2, 1, 2, 2, 0, 0, 0, 1, nan, 0, 9, 9, 9, 5, 5, 5}, dloss(6, 1.0f);
  const std::vector<int32_t> labels{1, 2, -1, 0, 3, 0};
  const int32_t valid = 5;
  const auto r = run<Fast>(d, z, labels, dloss, &valid);
  EXPECT_EQ(r.hit,
            (std::vector<float>{1, 0, 0, 0, 0, 0}));  // the first among equals; a NaN row and bad labels are no hits
  for (const int i : {2, 3, 4}) {
    EXPECT_TRUE(std::isnan(r.loss[i])) << i;
    for (int k = 0; k < 3; ++k) EXPECT_TRUE(std::isnan(r.dlogits[i * 3 + k])) << i;
  }
  EXPECT_FALSE(std::isnan(r.loss[0]) || std::isnan(r.loss[1]));
  EXPECT_EQ(r.loss[5], 0);  // beyond the valid count
  for (int k = 15; k < 18; ++k) EXPECT_TRUE(r.dlogits[k] == 0 && r.probabilities[k] == 0);
}

TEST(Loss, BadLabelsNanAndPadding) {
  edges<true>();
  edges<false>();
  const int32_t none = 0;
  const auto r = run<true, float>({2, 2, 0}, {1, 2, 3, 4}, {0, 99}, {1, 1}, &none);
  EXPECT_EQ(r.loss, (std::vector<float>{0, 0}));
}

TEST(Loss, HugeLogitsStayFinite) {
  const auto r = run<true, float>({1, 3, 0.1}, {3e38f, -1e30f, 0}, {0}, {1});
  EXPECT_EQ(r.probabilities, (std::vector<float>{1, 0, 0}));
  EXPECT_TRUE(std::isfinite(r.dlogits[0]));
}

TEST(Loss, ThreadsDoNotChangeBits) {
  const LossDims d{501, 100, 0.1};
  const auto z = normal<float>(d.n * d.classes, 5), dloss = normal<float>(d.n, 6);
  Results<float> one, two;
  with_threads(1, [&] { one = run<true>(d, z, labels_of(d.n, 100), dloss); });
  with_threads(2, [&] { two = run<true>(d, z, labels_of(d.n, 100), dloss); });
  expect_same_bits(one.loss, two.loss, "loss"), expect_same_bits(one.dlogits, two.dlogits, "dlogits");
}

}  // namespace
}  // namespace ranvier::kernels
