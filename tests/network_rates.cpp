// The two published networks over many seeds against an independent program's rates: ctest -R network_rates.
#include <gtest/gtest.h>

#include <cmath>

#include "models/neurons/networks.h"
#include "tests/golden/networks.h"

namespace ranvier::neuron {
namespace {

golden::Mean mean_of(const std::vector<double>& x) {
  const auto n = static_cast<double>(x.size());
  double mean = 0, square = 0;
  for (double value : x) mean += value / n;
  for (double value : x) square += (value - mean) * (value - mean);
  return {mean, std::sqrt(square / (n - 1) / n)};
}

/// Within three standard errors of the difference.
void expect_agreement(const std::vector<double>& ours, golden::Mean theirs, const char* what) {
  const golden::Mean mean = mean_of(ours);
  EXPECT_NEAR(mean.value, theirs.value, 3 * std::hypot(mean.error, theirs.error)) << what;
  EXPECT_LT(mean.error, 0.2 * mean.value) << what;
}

TEST(NetworkRates, Cortical1000) {
  constexpr int64_t seeds = 20;
  std::vector<double> e(seeds), i(seeds), low(seeds), high(seeds);
  run_batch(
      seeds, 1000, [](int64_t k) { return network("cortical1000", {.seed = static_cast<uint64_t>(k)}).spec; },
      [&](int64_t k, const Network& n, std::vector<NetworkSpike>& spikes) {
        e[k] = static_cast<double>(n.spikes_of(0)) / 800, i[k] = static_cast<double>(n.spikes_of(1)) / 200;
        low[k] = power_share(spikes, 1000, 5, 15), high[k] = power_share(spikes, 1000, 30, 60);
      });
  expect_agreement(e, golden::cortical_excitatory, "excitatory rate");
  expect_agreement(i, golden::cortical_inhibitory, "inhibitory rate");
  EXPECT_NEAR(mean_of(low).value, golden::cortical_5_15_hz.value, 0.06);
  EXPECT_NEAR(mean_of(high).value, golden::cortical_30_60_hz.value, 0.06);
  EXPECT_NEAR(mean_of(low).value, 0.31, 0.06);
  EXPECT_NEAR(mean_of(high).value, 0.24, 0.06);
}

TEST(NetworkRates, Polychronous2006) {
  constexpr int64_t seeds = 8;
  std::vector<double> e(seeds), i(seeds), weight(seeds);
  run_batch(
      seeds, 2000, [](int64_t k) { return network("polychronous2006", {.seed = static_cast<uint64_t>(k)}).spec; },
      [&](int64_t k, const Network& n, std::vector<NetworkSpike>& spikes) {
        for (const NetworkSpike& s : spikes)
          if (s.time > 1000) (s.population == 0 ? e : i)[k] += s.population == 0 ? 1.0 / 800 : 1.0 / 200;
        double sum = 0, count = 0;
        for (int projection = 0; projection < 2; ++projection)
          for (float w : n.weights(projection)) {
            sum += static_cast<double>(w), ++count;
            ASSERT_TRUE(w >= 0 && w <= 10);
          }
        weight[k] = sum / count;
      });
  expect_agreement(e, golden::polychronous_excitatory, "excitatory rate");
  expect_agreement(i, golden::polychronous_inhibitory, "inhibitory rate");
  expect_agreement(weight, golden::polychronous_weight, "mean excitatory weight");
}

// Twenty seconds on: the NumPy port (tools/bench/peer_networks.py) has 4.7 and 16.6 to 17.4 Hz in the first second, 1.5
// and 7.6 Hz in the last and a mean weight of 6.29. tools/bench/study_polychronous.py prints the same of ours.
TEST(NetworkRates, Polychronous2006AfterTwentySeconds) {
  constexpr int64_t seeds = 4;
  std::vector<double> first[2], last[2], mean, at_low, at_high;
  for (auto* list : {&first[0], &first[1], &last[0], &last[1], &mean, &at_low, &at_high}) list->assign(seeds, 0);
  run_batch(
      seeds, 20000, [](int64_t k) { return network("polychronous2006", {.seed = static_cast<uint64_t>(k)}).spec; },
      [&](int64_t k, const Network& n, std::vector<NetworkSpike>& spikes) {
        for (const NetworkSpike& s : spikes) {
          const double one = 1.0 / static_cast<double>(n.spec().populations[s.population].size);
          if (s.time < 1000) first[s.population][k] += one;
          if (s.time >= 19000) last[s.population][k] += one;
        }
        double count = 0;
        for (int projection = 0; projection < 2; ++projection)
          for (float w : n.weights(projection))
            mean[k] += static_cast<double>(w), at_low[k] += w <= 1e-5f, at_high[k] += w >= 10 - 1e-5f, ++count;
        mean[k] /= count, at_low[k] /= count, at_high[k] /= count;
      });
  EXPECT_NEAR(mean_of(first[0]).value, 4.7, 0.3);
  EXPECT_NEAR(mean_of(first[1]).value, 17, 1.2);
  EXPECT_NEAR(mean_of(last[0]).value, 1.5, 0.3);
  EXPECT_NEAR(mean_of(last[1]).value, 7.6, 1.5);
  EXPECT_NEAR(mean_of(mean).value, 6.29, 0.05);
  EXPECT_LT(mean_of(at_low).value, 0.01);
  EXPECT_NEAR(mean_of(at_high).value, 0.09, 0.03);
}

}  // namespace
}  // namespace ranvier::neuron
