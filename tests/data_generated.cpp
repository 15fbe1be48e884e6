// The generated set: golden bytes, balance, independence of size and threads, and that a linear map cannot read it.
#include "data/generated.h"

#include <gtest/gtest.h>
#include <omp.h>

#include <algorithm>
#include <cmath>

#include "data/md5.h"

namespace ranvier::data {
namespace {

constexpr GeneratedOptions small = {.seed = 1, .train_per_class = 30, .test_per_class = 10};

TEST(Generated, GoldenBytes) {
  const Splits splits = generated(small);
  EXPECT_EQ(md5(splits.train.images), "c54a556018087959951786cb11eb5edb");
  EXPECT_EQ(md5(splits.test.images), "3b815c69c5616a813b6f4e56a5bcd7cb");
}

TEST(Generated, BalancedRoundRobinLabels) {
  const Splits splits = generated(small);
  EXPECT_EQ(splits.train.classes.size(), 10u);
  EXPECT_EQ(splits.train.counts(), std::vector<int64_t>(10, 30));
  EXPECT_EQ(splits.test.counts(), std::vector<int64_t>(10, 10));
  for (size_t i = 0; i < 300; ++i) EXPECT_EQ(splits.train.labels[i], static_cast<int32_t>(i % 10));
  EXPECT_EQ(splits.train.images.size(), 300u * 3072);
  EXPECT_EQ(splits.test.mean, splits.train.mean);
  EXPECT_GT(splits.train.std[0], 0.1f);
}

TEST(Generated, AnImageDependsOnSeedSplitAndIndexOnly) {
  const Splits few = generated({.seed = 1, .train_per_class = 3, .test_per_class = 1}), many = generated(small);
  EXPECT_TRUE(std::equal(few.train.images.begin(), few.train.images.end(), many.train.images.begin()));
  EXPECT_NE(generated({.seed = 2, .train_per_class = 3, .test_per_class = 1}).train.images, few.train.images);
  EXPECT_FALSE(std::equal(few.test.images.begin(), few.test.images.end(), few.train.images.begin()));
}

TEST(Generated, ThreadsDoNotMatter) {
  const int threads = omp_get_max_threads();
  omp_set_num_threads(1);
  const Splits one = generated(small);
  omp_set_num_threads(3);
  const Splits three = generated(small);
  omp_set_num_threads(threads);
  EXPECT_EQ(one.train.images, three.train.images);
}

TEST(Generated, NoTwoImagesAreAlike) {
  const Splits splits = generated(small);
  for (int64_t i = 0; i < 300; ++i) {
    for (int64_t j = 0; j < i; ++j) {
      EXPECT_FALSE(std::ranges::equal(splits.train.image(i), splits.train.image(j))) << i << " and " << j;
    }
  }
}

// The nearest class mean, a linear classifier, must stay near chance (10 %).
TEST(Generated, ClassMeansDoNotTellTheClassesApart) {
  const Splits splits = generated({.seed = 5, .train_per_class = 200, .test_per_class = 50});
  std::vector<std::vector<double>> means(10, std::vector<double>(3072, 0.0));
  for (int64_t i = 0; i < splits.train.size(); ++i) {
    const auto image = splits.train.image(i);
    for (size_t p = 0; p < 3072; ++p) means[static_cast<size_t>(i % 10)][p] += image[p] / 200.0;
  }
  int right = 0;
  for (int64_t i = 0; i < splits.test.size(); ++i) {
    const auto image = splits.test.image(i);
    std::vector<double> distances(10, 0.0);
    for (size_t k = 0; k < 10; ++k) {
      for (size_t p = 0; p < 3072; ++p) distances[k] += std::pow(image[p] - means[k][p], 2);
    }
    right += std::min_element(distances.begin(), distances.end()) - distances.begin() == i % 10;
  }
  EXPECT_LT(right, 150) << "of 500";
}

TEST(Generated, RefusesEmptySets) {
  EXPECT_THROW(generated({.train_per_class = 0}), std::runtime_error);
  EXPECT_THROW(generated({.test_per_class = -1}), std::runtime_error);
}

}  // namespace
}  // namespace ranvier::data
