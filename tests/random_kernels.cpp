// Tests of the random draws: published and golden bits, distributions, independence of streams, threads and sizes.
#include "kernels/random/random.h"

#include <gtest/gtest.h>
#include <omp.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <functional>
#include <numeric>
#include <vector>

#include "kernels/common/philox.h"

namespace {

using namespace ranvier::kernels;

constexpr uint64_t kStream = philox::stream_hash("tiny/dropout");
constexpr int64_t kRng[2] = {0x123456789abcdef0, 7};
constexpr philox::Key kKey{0x123456789abcdef0u, kStream, 7};

TEST(Philox, MatchesThePublishedAnswers) {
  // Random123's known-answer file: philox 4x32 10.
  const auto run = [](std::array<uint32_t, 4> c, uint32_t k0, uint32_t k1) {
    const philox::Words words = philox::philox4x32({{c[0], c[1], c[2], c[3]}}, k0, k1);
    return std::array<uint32_t, 4>{words.word[0], words.word[1], words.word[2], words.word[3]};
  };
  using A = std::array<uint32_t, 4>;
  EXPECT_EQ(run({0, 0, 0, 0}, 0, 0), (A{0x6627e8d5u, 0xe169c58du, 0xbc57ac4cu, 0x9b00dbd8u}));
  const uint32_t f = 0xffffffffu;
  EXPECT_EQ(run({f, f, f, f}, f, f), (A{0x408f276du, 0x41c83b0eu, 0xa20bc7c6u, 0x6d5451fdu}));
  EXPECT_EQ(run({0x243f6a88u, 0x85a308d3u, 0x13198a2eu, 0x03707344u}, 0xa4093822u, 0x299f31d0u),
            (A{0xd16cfe09u, 0x94fdccebu, 0x5001e420u, 0x24126ea1u}));
}

TEST(Philox, HashesStreamsByFnv) {
  EXPECT_EQ(philox::stream_hash(""), 0xcbf29ce484222325u);
  EXPECT_EQ(philox::stream_hash("a"), 0xaf63dc4c8601ec8cu);
  EXPECT_EQ(kStream, 0xafa16063fc1466a3u);
}

// From an independent big-integer implementation of the paper.
TEST(Philox, BitsAreGolden) {
  const uint32_t golden[12] = {0x8f58a373u, 0xa9e4e11cu, 0x1e20194bu, 0x90968c9eu, 0x531b51a7u, 0x78cfaa39u,
                               0xb7b13b93u, 0xfe27f3cdu, 0xd6b59fd3u, 0x12d071cdu, 0xf884c79cu, 0xa44e0377u};
  for (int e = 0; e < 12; ++e) EXPECT_EQ(philox::bits(kKey.seed, kStream, 7, e), golden[e]) << e;
  EXPECT_EQ(philox::bits(kKey.seed, kStream, 7, 4 * uint64_t{0x12345} + 2), 0xd0966fd5u);
  for (int e = 0; e < 12; ++e) EXPECT_EQ(philox::uniform(kKey, e), std::ldexp(float(golden[e] >> 8), -24));
}

TEST(Philox, NormalsFollowBoxAndMuller) {
  const double golden[8] = {-0.5560647579942305, -1.8996262917574651, -1.4767462531220241,  0.8139236797190625,
                            0.5309935078975533,  -0.1530970255033807, -0.22675652722154677, -0.886670992762417};
  for (int e = 0; e < 8; ++e) EXPECT_NEAR(philox::normal(kKey, e), golden[e], 4e-7) << e;
}

// The f32 bits themselves: a change of any polynomial, contraction or library would show here.
TEST(Philox, NormalAndExponentialBitsAreGolden) {
  uint64_t normals = 0, exponentials = 0, poissons = 0;
  for (int e = 0; e < 100000; ++e) {
    normals = (normals ^ to_bits(philox::normal(kKey, e))) * 0x100000001b3u;
    exponentials = (exponentials ^ to_bits(philox::exponential(kKey, e))) * 0x100000001b3u;
    if (e < 20000) {
      for (const double lambda : {0.3, 9.9, 10.0, 250.0, 1e6}) {
        poissons = (poissons ^ to_bits(philox::poisson(kKey, e, lambda))) * 0x100000001b3u;
      }
    }
  }
  EXPECT_EQ(normals, 5678708526152901800u);
  EXPECT_EQ(exponentials, 6352312028140123921u);
  EXPECT_EQ(poissons, 18335986255944220672u);
}

/// Chi-square statistic of counts against expected counts.
double chi_square(const std::vector<double>& counts, const std::vector<double>& expected) {
  double sum = 0;
  for (size_t i = 0; i < counts.size(); ++i) sum += (counts[i] - expected[i]) * (counts[i] - expected[i]) / expected[i];
  return sum;
}

/// A chi-square bound that a right generator misses with a chance near 1e-5 (Wilson and Hilferty's normal
/// approximation).
double chi_square_bound(size_t bins) {
  const double k = static_cast<double>(bins) - 1;
  return k * std::pow(1 - 2 / (9 * k) + 4.3 * std::sqrt(2 / (9 * k)), 3);
}

constexpr int kDraws = 1 << 20;

TEST(Fill, UniformIsFlatAndBelowOne) {
  std::vector<float> u(kDraws);
  cpu::fill_uniform(kDraws, 0, 1, kStream, kRng, u.data());
  std::vector<double> counts(256), pairs(256), expected(256, kDraws / 256.0), expected_pairs(256, kDraws / 512.0);
  for (int i = 0; i < kDraws; ++i) {
    ASSERT_TRUE(u[i] >= 0 && u[i] < 1);
    ++counts[static_cast<int>(u[i] * 256)];
    if (i & 1) ++pairs[static_cast<int>(u[i - 1] * 16) * 16 + static_cast<int>(u[i] * 16)];
  }
  EXPECT_LT(chi_square(counts, expected), chi_square_bound(256));
  EXPECT_LT(chi_square(pairs, expected_pairs), chi_square_bound(256));
}

TEST(Fill, NormalHasTheRightBinsAndMoments) {
  std::vector<float> z(kDraws);
  cpu::fill_normal(kDraws, 0, 1, kStream, kRng, z.data());
  std::vector<double> counts(62), expected(62);
  double moment[5] = {};
  for (const float value : z) {
    for (int k = 1; k <= 4; ++k) moment[k] += std::pow(double{value}, k) / kDraws;
    ++counts[std::clamp(static_cast<int>(std::floor(value * 10)) + 31, 0, 61)];
  }
  const auto below = [](double x) { return 0.5 * std::erfc(-x / std::sqrt(2.0)); };
  for (int i = 0; i < 62; ++i) {
    expected[i] = kDraws * ((i == 61 ? 1 : below((i - 30) / 10.0)) - (i == 0 ? 0 : below((i - 31) / 10.0)));
  }
  EXPECT_LT(chi_square(counts, expected), chi_square_bound(62));
  EXPECT_NEAR(moment[1], 0, 4.5 / std::sqrt(kDraws));
  EXPECT_NEAR(moment[2], 1, 4.5 * std::sqrt(2.0 / kDraws));
  EXPECT_NEAR(moment[3], 0, 4.5 * std::sqrt(15.0 / kDraws));
  EXPECT_NEAR(moment[4], 3, 4.5 * std::sqrt(96.0 / kDraws));
  std::vector<float> scaled(1001);
  cpu::fill_normal(1001, 3, 0.5f, kStream, kRng, scaled.data());
  for (int i = 0; i < 1001; ++i) EXPECT_EQ(scaled[i], std::fma(0.5f, z[i], 3.0f));
  std::vector<float> part(500);
  cpu::fill_normal_from(7 * cpu::normal_tile, 500, 3, 0.5f, kStream, kRng, part.data());
  for (int i = 0; i < 500; ++i) EXPECT_EQ(part[i], scaled[7 * cpu::normal_tile + i]);
}

TEST(Fill, ExponentialHasTheRightBins) {
  std::vector<float> t(kDraws);
  cpu::fill_exponential(kDraws, 2, kStream, kRng, t.data());
  std::vector<double> counts(50), expected(50);
  for (const float value : t) ++counts[std::min(static_cast<int>(value * 2 * 10), 49)];
  for (int i = 0; i < 50; ++i) expected[i] = kDraws * (std::exp(-i / 10.0) - (i == 49 ? 0 : std::exp(-(i + 1) / 10.0)));
  EXPECT_LT(chi_square(counts, expected), chi_square_bound(50));
}

TEST(Fill, PoissonHasTheRightBins) {
  const int draws = 200000;
  for (const double lambda : {0.05, 1.0, 9.99, 10.0, 33.3, 400.0, 12345.6}) {
    std::vector<double> k(draws);
    reference::fill_poisson(draws, lambda, kStream, kRng, k.data());
    const double spread = std::sqrt(lambda);
    const int64_t low = std::max<int64_t>(0, static_cast<int64_t>(lambda - 4 * spread));
    const int64_t width = std::max<int64_t>(1, static_cast<int64_t>(8 * spread / 40));
    std::vector<double> counts(60), expected(60);
    const auto bin = [&](double value) {
      return std::clamp<int64_t>((static_cast<int64_t>(value) - low) / width, 0, 59);
    };
    for (const double value : k) {
      ASSERT_EQ(value, std::floor(value));
      ASSERT_GE(value, 0);
      ++counts[bin(value)];
    }
    for (int64_t j = 0; j < static_cast<int64_t>(lambda + 20 * spread + 20); ++j) {
      expected[bin(static_cast<double>(j))] += draws * std::exp(j * std::log(lambda) - lambda - std::lgamma(j + 1.0));
    }
    std::vector<double> kept, kept_expected;  // bins too thin for chi-square are joined
    double count = 0, mass = 0;
    for (int i = 0; i < 60; ++i) {
      count += counts[i], mass += expected[i];
      if (mass >= 20) kept.push_back(count), kept_expected.push_back(mass), count = mass = 0;
    }
    kept.back() += count, kept_expected.back() += mass;
    EXPECT_LT(chi_square(kept, kept_expected), chi_square_bound(kept.size())) << lambda;
    EXPECT_NEAR(std::accumulate(k.begin(), k.end(), 0.0) / draws, lambda, 4.5 * spread / std::sqrt(draws));
  }
  float edge[2];
  reference::fill_poisson(2, 0.0, kStream, kRng, edge);
  EXPECT_EQ(edge[0], 0);
  for (const double bad : {-1.0, std::nan(""), double{INFINITY}}) {
    reference::fill_poisson(2, bad, kStream, kRng, edge);
    EXPECT_TRUE(std::isnan(edge[1])) << bad;
  }
}

TEST(Fill, IntegersCoverBothEnds) {
  std::vector<int32_t> k(100000);
  reference::fill_integers(100000, -2, 2, kStream, kRng, k.data());
  std::vector<double> counts(5), expected(5, 20000);
  for (const int32_t value : k) {
    ASSERT_TRUE(value >= -2 && value <= 2);
    ++counts[value + 2];
  }
  EXPECT_LT(chi_square(counts, expected), chi_square_bound(5));
  reference::fill_integers(10, INT32_MIN, INT32_MAX, kStream, kRng, k.data());
  for (int e = 0; e < 10; ++e) EXPECT_EQ(uint32_t(k[e]), philox::bits(kKey.seed, kStream, 7, e) ^ 0x80000000u);
}

using Fill = std::function<void(int64_t, float*)>;

TEST(Fill, FastEqualsReferenceBitForBitForAnySizeAndThreads) {
  std::vector<float> x(200001);
  for (size_t i = 0; i < x.size(); ++i) x[i] = std::sin(0.1f * static_cast<float>(i));
  const std::pair<Fill, Fill> pairs[] = {
      {[](int64_t n, float* y) { reference::fill_uniform(n, -0.3f, 1.7f, kStream, kRng, y); },
       [](int64_t n, float* y) { cpu::fill_uniform(n, -0.3f, 1.7f, kStream, kRng, y); }},
      {[](int64_t n, float* y) { reference::fill_normal(n, 0.1f, 1.3f, kStream, kRng, y); },
       [](int64_t n, float* y) { cpu::fill_normal(n, 0.1f, 1.3f, kStream, kRng, y); }},
      {[](int64_t n, float* y) { reference::fill_exponential(n, 0.7f, kStream, kRng, y); },
       [](int64_t n, float* y) { cpu::fill_exponential(n, 0.7f, kStream, kRng, y); }},
      {[](int64_t n, float* y) { reference::fill_bernoulli(n, 0.3f, kStream, kRng, y); },
       [](int64_t n, float* y) { cpu::fill_bernoulli(n, 0.3f, kStream, kRng, y); }},
      {[&](int64_t n, float* y) { reference::dropout(n, 0.3f, x.data(), kStream, kRng, y); },
       [&](int64_t n, float* y) { cpu::dropout(n, 0.3f, x.data(), kStream, kRng, y); }},
  };
  for (const auto& [plain, fast] : pairs) {
    for (const int64_t n : {0, 1, 2, 31, 33, 63, 64, 65, 1000, 200001}) {
      std::vector<float> expected(n + 1, -9), one(n + 1, -9), two(n + 1, -9);  // the last element is a sentinel
      plain(n, expected.data());
      const int threads = omp_get_max_threads();
      omp_set_num_threads(1);
      fast(n, one.data());
      omp_set_num_threads(2);
      fast(n, two.data());
      omp_set_num_threads(threads);
      EXPECT_EQ(one, expected) << n;
      EXPECT_EQ(two, expected) << n;
    }
  }
}

TEST(Fill, WiderTypesHoldTheSameDraws) {
  std::vector<float> f(1000);
  std::vector<double> d(1000);
  std::vector<uint8_t> mask(1000), fast_mask(1000);
  reference::fill_normal(1000, 0.0f, 1.0f, kStream, kRng, f.data());
  reference::fill_normal(1000, 0.0, 1.0, kStream, kRng, d.data());
  for (int i = 0; i < 1000; ++i) EXPECT_EQ(d[i], double{f[i]});
  reference::fill_bernoulli(1000, 0.25f, kStream, kRng, mask.data());
  cpu::fill_bernoulli(1000, 0.25f, kStream, kRng, fast_mask.data());
  reference::fill_uniform(1000, 0.0f, 1.0f, kStream, kRng, f.data());
  EXPECT_EQ(mask, fast_mask);
  for (int i = 0; i < 1000; ++i) EXPECT_EQ(mask[i], f[i] >= 0.25f);
}

TEST(Fill, StreamsStepsAndSeedsDifferAndAreUncorrelated) {
  const int n = 100000;
  const int64_t other_step[2] = {kRng[0], 8}, other_seed[2] = {kRng[0] + 1, 7},
                high_seed[2] = {kRng[0] ^ (1LL << 40), 7};
  std::vector<std::vector<float>> draws(5, std::vector<float>(n));
  cpu::fill_uniform(n, 0, 1, kStream, kRng, draws[0].data());
  cpu::fill_uniform(n, 0, 1, philox::stream_hash("tiny/dropout2"), kRng, draws[1].data());
  cpu::fill_uniform(n, 0, 1, kStream, other_step, draws[2].data());
  cpu::fill_uniform(n, 0, 1, kStream, other_seed, draws[3].data());
  cpu::fill_uniform(n, 0, 1, kStream, high_seed, draws[4].data());
  for (int a = 0; a < 5; ++a) {
    for (int b = 0; b < a; ++b) {
      double product = 0;
      for (int i = 0; i < n; ++i) product += (draws[a][i] - 0.5) * (draws[b][i] - 0.5) * 12 / n;
      EXPECT_NEAR(product, 0, 4.5 / std::sqrt(n)) << a << " " << b;
    }
  }
}

TEST(Dropout, KeepsTheMeanAndIsItsOwnAdjoint) {
  const int n = 100000;
  std::vector<double> ones(n, 1.0), y(n), dy(n), dx(n);
  reference::dropout(n, 0.2f, ones.data(), kStream, kRng, y.data());
  const double kept = static_cast<double>(std::count_if(y.begin(), y.end(), [](double v) { return v != 0; }));
  EXPECT_NEAR(kept / n, 0.8, 4.5 * std::sqrt(0.16 / n));
  for (const double v : y) EXPECT_TRUE(v == 0 || v == 1 / (1 - double{0.2f}));
  for (int i = 0; i < n; ++i) dy[i] = i % 17;
  reference::dropout(n, 0.2f, dy.data(), kStream, kRng, dx.data());
  for (int i = 0; i < n; ++i) ASSERT_EQ(dx[i], y[i] * dy[i]);
  const float bad[3] = {NAN, INFINITY, NAN};
  float out[3];
  reference::dropout(3, 0.99f, bad, kStream, kRng, out);
  for (const float v : out) EXPECT_EQ(v, 0.0f);
  for (const float share : {-0.1f, 1.0f, NAN}) {
    EXPECT_THROW(cpu::dropout(3, share, bad, kStream, kRng, out), std::runtime_error);
  }
}

TEST(Permutation, SortsByBitsAndIndex) {
  std::vector<uint64_t> workspace(permutation_workspace(50000));
  std::vector<int32_t> order(50000);
  permutation(10, kStream, kRng, workspace.data(), order.data());
  const int32_t golden[10] = {9, 2, 4, 5, 0, 3, 1, 6, 8, 7};
  for (int i = 0; i < 10; ++i) EXPECT_EQ(order[i], golden[i]) << i;
  permutation(50000, kStream, kRng, workspace.data(), order.data());
  std::vector<bool> seen(50000);
  double fixed = 0, drift = 0;
  for (int i = 0; i < 50000; ++i) {
    ASSERT_TRUE(order[i] >= 0 && order[i] < 50000 && !seen[order[i]]);
    seen[order[i]] = true;
    fixed += order[i] == i;
    drift += (order[i] - 24999.5) * (i - 24999.5);
  }
  EXPECT_LT(fixed, 10);  // Poisson of mean 1
  EXPECT_LT(std::fabs(drift) / (50000.0 * 50000 * 50000 / 12), 4.5 / std::sqrt(50000));
  permutation(0, kStream, kRng, workspace.data(), order.data());
  permutation(1, kStream, kRng, workspace.data(), order.data());
  EXPECT_EQ(order[0], 0);
  EXPECT_THROW(permutation(int64_t{1} << 31, kStream, kRng, workspace.data(), order.data()), std::runtime_error);
}

}  // namespace
