// CIFAR-10-C-style corruptions: golden pixels, one seed one result, severities in order, bad input.
#include "data/corruptions.h"

#include <gtest/gtest.h>
#include <omp.h>

#include <cmath>
#include <string>

#include "data/generated.h"
#include "tests/golden/corruptions.h"
#include "tests/support/files.h"

namespace ranvier::data {
namespace {

using testing::error_of;

std::vector<uint8_t> picture() {
  std::vector<uint8_t> pixels;
  for (int y = 0; y < 32; ++y)
    for (int x = 0; x < 32; ++x)
      for (int c = 0; c < 3; ++c)
        pixels.push_back(static_cast<uint8_t>((3 * x + 5 * y + 40 * c + (x * y * (c + 1)) % 50) % 256));
  return pixels;
}

const Dataset& pictures() {
  static const Splits splits = generated({.seed = 3, .train_per_class = 4, .test_per_class = 1});
  return splits.train;
}

double mean_change(std::span<const uint8_t> a, std::span<const uint8_t> b) {
  double sum = 0;
  for (size_t e = 0; e < a.size(); ++e) sum += std::abs(a[e] - b[e]);
  return sum / static_cast<double>(a.size());
}

TEST(Corruptions, GoldenPixels) {
  const std::vector<uint8_t> clean = picture();
  for (const golden::CorruptedPixels& row : golden::corrupted_pixels) {
    const std::vector<uint8_t> got = corrupt(row.name, row.severity, 7, clean, 32, 32);
    for (size_t i = 0; i < row.values.size(); ++i) {
      const auto [y, x, c] = golden::corrupted_places[i];
      // values are cut to whole ones, so that rounding in another order may lie one off
      EXPECT_NEAR(got[static_cast<size_t>((y * 32 + x) * 3 + c)], row.values[i], 1)
          << row.name << " " << row.severity << " at " << y << ", " << x << ", " << c;
    }
  }
}

TEST(Corruptions, ThirteenTypesCount) {
  int counted = 0;
  for (const Corruption& type : corruptions()) counted += type.counted;
  EXPECT_EQ(counted, 13);
  EXPECT_EQ(corruptions().size(), 15u);
}

TEST(Corruptions, OneSeedOneResult) {
  const Dataset& set = pictures();
  const std::span<const uint8_t> first = std::span(set.images).first(4 * 3072);
  const int threads = omp_get_max_threads();
  for (const Corruption& type : corruptions()) {
    omp_set_num_threads(1);
    const std::vector<uint8_t> one = corrupt(type.name, 3, 5, set.images, 32, 32);
    omp_set_num_threads(3);
    EXPECT_EQ(one, corrupt(type.name, 3, 5, set.images, 32, 32)) << type.name;
    const std::vector<uint8_t> few = corrupt(type.name, 3, 5, first, 32, 32);
    EXPECT_TRUE(std::equal(few.begin(), few.end(), one.begin())) << type.name << ": other images matter";
    const std::string name = type.name;
    const bool drawn =
        name.ends_with("noise") || name == "glass_blur" || name == "motion_blur" || name == "fog" || name == "elastic";
    EXPECT_EQ(one != corrupt(type.name, 3, 6, set.images, 32, 32), drawn) << type.name;
  }
  omp_set_num_threads(threads);
}

TEST(Corruptions, SeveritiesInOrder) {
  const Dataset& set = pictures();
  for (const Corruption& type : corruptions()) {
    const std::string name = type.name;
    std::vector<double> change;
    for (int severity = 1; severity <= severities; ++severity)
      change.push_back(mean_change(set.images, corrupt(name, severity, 1, set.images, 32, 32)));
    EXPECT_GT(change[0], 0.01) << name;
    EXPECT_LT(change[4], 128) << name;
    // the published constants of elastic trade shear for waves, those of glass blur less for rounds
    if (name == "elastic" || name == "glass_blur") continue;
    for (size_t s = 1; s < change.size(); ++s) EXPECT_GT(change[s], change[s - 1]) << name << " " << s + 1;
  }
}

TEST(Corruptions, NoiseHasItsStatistics) {
  const std::vector<uint8_t> grey(100 * 3072, 128);
  const auto deviation = [&](const char* name, int severity) {
    const std::vector<uint8_t> noisy = corrupt(name, severity, 1, grey, 32, 32);
    double squares = 0;
    for (uint8_t v : noisy) squares += (v + 0.5 - 128.0) * (v + 0.5 - 128.0);
    return std::sqrt(squares / static_cast<double>(noisy.size())) / 255;
  };
  EXPECT_NEAR(deviation("gaussian_noise", 3), 0.08, 0.001);
  EXPECT_NEAR(deviation("speckle_noise", 5), 0.2 * 128 / 255, 0.002);
  EXPECT_NEAR(deviation("shot_noise", 3), std::sqrt(128.0 / 255 / 100), 0.001);
  int64_t hit = 0;
  for (uint8_t v : corrupt("impulse_noise", 5, 1, grey, 32, 32)) hit += v == 0 || v == 255;
  EXPECT_NEAR(static_cast<double>(hit) / static_cast<double>(grey.size()), 0.07, 0.002);
}

TEST(Corruptions, OtherSizes) {
  const std::vector<uint8_t> image(20 * 48 * 3, 90);
  for (const Corruption& type : corruptions())
    EXPECT_EQ(corrupt(type.name, 5, 1, image, 20, 48).size(), image.size()) << type.name;
}

TEST(Corruptions, BadInput) {
  const std::vector<uint8_t> image(3072, 9);
  const auto error = [&](const char* name, int severity, int64_t height) {
    return error_of([&] { corrupt(name, severity, 0, image, height, 32); });
  };
  EXPECT_NE(error("rain", 1, 32).find("unknown corruption 'rain'; known are gaussian_noise"), std::string::npos);
  EXPECT_NE(error("fog", 0, 32).find("severity 0 is not in 1 ... 5"), std::string::npos);
  EXPECT_NE(error("fog", 6, 32).find("severity 6"), std::string::npos);
  EXPECT_NE(error("fog", 1, 33).find("3072 bytes are no whole number of 33x32"), std::string::npos);
  EXPECT_NE(error("fog", 1, 4).find("4x32"), std::string::npos);
}

}  // namespace
}  // namespace ranvier::data
