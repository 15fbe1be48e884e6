// Permutations and batches: golden bits, coverage of every image, padding, and resuming inside an epoch.
#include "data/batches.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <numeric>
#include <set>

namespace ranvier::data {
namespace {

Dataset numbered(int64_t n) {
  Dataset data;
  data.classes = {"a", "b", "c"};
  data.height = data.width = 2;
  data.mean = {0.25f, 0.5f, 0.75f};
  for (int64_t i = 0; i < n; ++i) {
    data.labels.push_back(static_cast<int32_t>(i % 3));
    for (int64_t b = 0; b < data.image_bytes(); ++b) data.images.push_back(static_cast<uint8_t>(i * 16 + b));
  }
  return data;
}

// An independent Philox4x32-10, written from the definition in the paper of Salmon et al. (2011), one word at a time.
uint32_t philox_word(uint64_t seed, uint64_t stream, uint64_t step, uint64_t element) {
  std::array<uint64_t, 4> x = {element / 4, step & 0xffffffff, stream & 0xffffffff, stream >> 32};
  uint64_t k0 = seed & 0xffffffff, k1 = seed >> 32;
  for (int round = 0; round < 10; ++round) {
    const uint64_t a = x[0] * 0xD2511F53, b = x[2] * 0xCD9E8D57;
    x = {(b >> 32) ^ x[1] ^ k0, b & 0xffffffff, (a >> 32) ^ x[3] ^ k1, a & 0xffffffff};
    k0 = (k0 + 0x9E3779B9) & 0xffffffff;
    k1 = (k1 + 0xBB67AE85) & 0xffffffff;
  }
  return static_cast<uint32_t>(x[element % 4]);
}

std::vector<int64_t> expected_permutation(int64_t n, uint64_t seed, const std::string& stream, uint64_t step) {
  uint64_t hash = 14695981039346656037u;  // FNV-1a
  for (const unsigned char c : stream) hash = (hash ^ c) * 1099511628211u;
  std::vector<int64_t> order(static_cast<size_t>(n));
  std::iota(order.begin(), order.end(), int64_t{0});
  std::stable_sort(order.begin(), order.end(), [&](int64_t a, int64_t b) {
    return philox_word(seed, hash, step, static_cast<uint64_t>(a)) <
           philox_word(seed, hash, step, static_cast<uint64_t>(b));
  });
  return order;
}

TEST(Philox, KnownAnswers) {
  // Random123's kat_vectors: counter 0, key 0 and all ones.
  EXPECT_EQ(philox_word(0, 0, 0, 0), 0x6627e8d5u);
  EXPECT_EQ(philox_word(0, 0, 0, 1), 0xe169c58du);
  EXPECT_EQ(philox_word(0, 0, 0, 2), 0xbc57ac4cu);
  EXPECT_EQ(philox_word(0, 0, 0, 3), 0x9b00dbd8u);
}

TEST(Permutation, SortsByPhiloxKeyThenIndex) {
  for (const int64_t n : {0, 1, 2, 3, 5, 7, 64, 1001}) {
    EXPECT_EQ(permutation(n, 0x0123456789abcdefu, "batches", 3),
              expected_permutation(n, 0x0123456789abcdefu, "batches", 3));
    EXPECT_EQ(permutation(n, 1, "shuffle", 0), expected_permutation(n, 1, "shuffle", 0));
  }
}

TEST(Permutation, GoldenOrder) {
  EXPECT_EQ(permutation(10, 1, "batches", 0), (std::vector<int64_t>{8, 7, 5, 6, 2, 9, 1, 0, 3, 4}));
}

TEST(Permutation, DependsOnSeedStreamAndStep) {
  const auto base = permutation(100, 1, "batches", 0);
  EXPECT_NE(base, permutation(100, 2, "batches", 0));
  EXPECT_NE(base, permutation(100, uint64_t{1} | uint64_t{1} << 32, "batches", 0));
  EXPECT_NE(base, permutation(100, 1, "shuffle", 0));
  EXPECT_NE(base, permutation(100, 1, "batches", 1));
  EXPECT_EQ(base, permutation(100, 1, "batches", 0));
  EXPECT_THROW(permutation(-1, 1, "batches", 0), std::runtime_error);
}

TEST(Batches, TrainingDropsThePartialBatch) {
  const Batches batches = Batches::training(103, 10, 4, 7);
  ASSERT_EQ(batches.size(), 10);
  std::set<int64_t> seen;
  for (int64_t b = 0; b < batches.size(); ++b) {
    EXPECT_EQ(batches.valid(b), 10);
    for (const int64_t index : batches[b]) {
      EXPECT_GE(index, 0);
      EXPECT_LT(index, 103);
      EXPECT_TRUE(seen.insert(index).second) << index << " twice";
    }
  }
  EXPECT_EQ(seen.size(), 100u);
  EXPECT_THROW(batches[10], std::out_of_range);
  EXPECT_THROW(batches[-1], std::out_of_range);
}

TEST(Batches, ResumingInsideAnEpochGivesTheSameBatches) {
  const Batches whole = Batches::training(50, 8, 2, 9), resumed = Batches::training(50, 8, 2, 9);
  for (int64_t b = 3; b < resumed.size(); ++b) EXPECT_TRUE(std::ranges::equal(whole[b], resumed[b]));
}

TEST(Batches, EvaluationPadsTheLastBatchAndCountsWhatIsValid) {
  for (const int64_t n : {1, 7, 8, 9, 16, 17}) {
    const Batches batches = Batches::evaluation(n, 8);
    int64_t next = 0, valid = 0;
    for (int64_t b = 0; b < batches.size(); ++b) {
      ASSERT_EQ(batches[b].size(), 8u);
      for (int64_t i = 0; i < 8; ++i) {
        EXPECT_EQ(batches[b][static_cast<size_t>(i)], std::min(next, n - 1));
        EXPECT_EQ(i < batches.valid(b), next < n);
        ++next;
      }
      valid += batches.valid(b);
    }
    EXPECT_EQ(valid, n);
  }
}

TEST(Batches, RefusesImpossibleSizes) {
  EXPECT_THROW(Batches::training(5, 6, 0, 0), std::runtime_error);
  EXPECT_THROW(Batches::training(5, 0, 0, 0), std::runtime_error);
  EXPECT_THROW(Batches::evaluation(5, 0), std::runtime_error);
  EXPECT_THROW(Batches::evaluation(0, 5), std::runtime_error);
}

TEST(Batches, LoadGathersImagesAndLabels) {
  const Dataset data = numbered(11);
  const Batches batches = Batches::evaluation(11, 4);
  Batch batch;
  for (int64_t b = 0; b < batches.size(); ++b) {
    batches.load(data, b, batch);
    EXPECT_EQ(batch.valid, b == 2 ? 3 : 4);
    ASSERT_EQ(batch.images.size(), 4u * 12u);
    for (size_t i = 0; i < 4; ++i) {
      const int64_t index = std::min<int64_t>(b * 4 + static_cast<int64_t>(i), 10);
      EXPECT_EQ(batch.indices[i], index);
      EXPECT_EQ(batch.labels[i], index % 3);
      for (size_t p = 0; p < 12; ++p)
        EXPECT_EQ(batch.images[i * 12 + p], static_cast<uint8_t>(index * 16 + static_cast<int64_t>(p)));
    }
  }
  EXPECT_THROW(batches.load(numbered(12), 0, batch), std::runtime_error);
}

TEST(Batches, GatherRefusesWrongSizesAndIndices) {
  const Dataset data = numbered(3);
  std::vector<uint8_t> images(12);
  std::vector<int32_t> labels(1);
  const std::vector<int64_t> beyond = {3}, negative = {-1}, two = {0, 1};
  EXPECT_THROW(gather(data, beyond, images, labels), std::out_of_range);
  EXPECT_THROW(gather(data, negative, images, labels), std::out_of_range);
  EXPECT_THROW(gather(data, two, images, labels), std::runtime_error);
}

TEST(Limited, TakesTheFirstOfTheSeededShuffle) {
  const Dataset data = numbered(15), some = limited(data, 4, 5), all = limited(data, 99, 5);
  const std::vector<int64_t> order = permutation(15, 5, "shuffle", 0);
  ASSERT_EQ(some.size(), 4);
  EXPECT_EQ(all.size(), 15);
  for (int64_t i = 0; i < 4; ++i) {
    const int64_t index = order[static_cast<size_t>(i)];
    EXPECT_TRUE(std::ranges::equal(some.image(i), data.image(index)));
    EXPECT_EQ(some.labels[static_cast<size_t>(i)], data.labels[static_cast<size_t>(index)]);
  }
  EXPECT_EQ(some.mean, data.mean);
  EXPECT_EQ(some.classes, data.classes);
  EXPECT_EQ(all.images, shuffled(data, 5).images);
  EXPECT_THROW(limited(data, 0, 5), std::runtime_error);
}

}  // namespace
}  // namespace ranvier::data
