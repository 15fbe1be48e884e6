// Pooling: the reference against hand-made maps and adjoint identities, the fast passes against the reference.
#include "kernels/pool/pool.h"

#include <limits>
#include <stdexcept>

#include "tests/guarded.h"

namespace ranvier::kernels {
namespace {
using namespace test;

int64_t in_size(const PoolDims& d) { return d.n * d.h * d.w * d.c; }
int64_t out_size(const PoolDims& d) { return d.n * d.p() * d.q() * d.c; }

template <class T>
struct Results {
  std::vector<T> y, taken, unpooled, average, spread;
  std::vector<int32_t> index;
};

/// All five functions on x (and z, dy); `Fast` chooses cpu or reference.
template <bool Fast, class T>
Results<T> run(const PoolDims& d, const std::vector<T>& x, const std::vector<T>& z, const std::vector<T>& dy) {
  Guarded<T> y(out_size(d)), taken(out_size(d)), unpooled(in_size(d)), average(out_size(d)), spread(in_size(d));
  Guarded<int32_t> index(out_size(d));
  if constexpr (Fast) {
    cpu::max_pool(d, x.data(), y, index), cpu::pool_take(d, z.data(), index, taken);
    cpu::max_unpool(d, dy.data(), index, unpooled);
    cpu::avg_pool(d, x.data(), average), cpu::avg_unpool(d, dy.data(), spread);
  } else {
    reference::max_pool<T>(d, x.data(), y, index), reference::pool_take<T>(d, z.data(), index, taken);
    reference::max_unpool<T>(d, dy.data(), index, unpooled);
    reference::avg_pool<T>(d, x.data(), average), reference::avg_unpool<T>(d, dy.data(), spread);
  }
  return {y.values(), taken.values(), unpooled.values(), average.values(), spread.values(), index.values()};
}

std::vector<PoolDims> cases() {
  std::vector<PoolDims> list;
  for (const int64_t c : {1, 3, 10, 17, 64}) {
    list.push_back({2, 6, 8, c});
    list.push_back({2, 7, 5, c});              // floor
    list.push_back({3, 7, 5, c, 3, 3, 2, 1});  // overlapping, padded
    list.push_back({1, 9, 4, c, 3, 2, 1, 1});  // stride 1
    list.push_back({1, 9, 9, c, 2, 2, 3, 0});  // gaps
    list.push_back({2, 3, 3, c, 3, 3, 3, 0});  // whole map
    list.push_back({2, 1, 5, c, 1, 2, 2, 0});  // one row
    list.push_back({2, 5, 6, c, 3, 3, 2, 1, true});
  }
  list.push_back({0, 6, 8, 3});
  return list;
}

TEST(Pool, ByHand) {
  const PoolDims d{1, 3, 4, 1};
  const std::vector<double> x{1, 5, 2, 2,  //
                              3, 5, 2, 2,  //
                              9, 9, 9, 9};
  const auto r = run<false>(d, x, x, {10, 20});
  EXPECT_EQ(r.y, (std::vector<double>{5, 2}));
  EXPECT_EQ(r.index, (std::vector<int32_t>{1, 2}));  // the first among equals
  EXPECT_EQ(r.unpooled, (std::vector<double>{0, 10, 20, 0, 0, 0, 0, 0, 0, 0, 0, 0}));
  EXPECT_EQ(r.average, (std::vector<double>{3.5, 2}));
  EXPECT_EQ(r.spread, (std::vector<double>{2.5, 2.5, 5, 5, 2.5, 2.5, 5, 5, 0, 0, 0, 0}));
}

TEST(Pool, PaddingCountsOnlyWhenAsked) {
  PoolDims d{1, 2, 2, 1, 3, 3, 2, 1};
  const std::vector<double> x{1, 2, 3, 6};
  EXPECT_DOUBLE_EQ(run<false>(d, x, x, {1}).average[0], 3);
  d.count_pad = true;
  EXPECT_DOUBLE_EQ(run<false>(d, x, x, {1}).average[0], 12.0 / 9);
  const std::vector<double> below{-1, -2, -3, -6};
  EXPECT_EQ(run<false>(d, below, below, {1}).y[0], -1);  // padding never wins
}

TEST(Pool, AdjointIdentities) {
  for (const PoolDims& d : cases()) {
    const auto x = normal<double>(in_size(d), 1), z = normal<double>(in_size(d), 2),
               dy = normal<double>(out_size(d), 3);
    const auto r = run<false>(d, x, z, dy);
    const auto dot = [](const std::vector<double>& a, const std::vector<double>& b) {
      double sum = 0;
      for (size_t i = 0; i < a.size(); ++i) sum += a[i] * b[i];
      return sum;
    };
    EXPECT_NEAR(dot(r.taken, dy), dot(z, r.unpooled), 1e-10);
    EXPECT_NEAR(dot(r.average, dy), dot(x, r.spread), 1e-10);
  }
}

TEST(Pool, FastEqualsReference) {
  for (const PoolDims& d : cases()) {
    SCOPED_TRACE(testing::Message() << d.h << "x" << d.w << "x" << d.c << " window " << d.r << "x" << d.s);
    std::vector<float> x = normal<float>(in_size(d), 4);
    const auto z = normal<float>(in_size(d), 5), dy = normal<float>(out_size(d), 6);
    for (float& v : x) v = std::round(v * 2) / 2;  // many ties
    const auto fast = run<true>(d, x, z, dy), want = run<false>(d, x, z, dy);
    EXPECT_EQ(fast.y, want.y);
    EXPECT_EQ(fast.index, want.index);
    EXPECT_EQ(fast.taken, want.taken);
    EXPECT_EQ(fast.unpooled, want.unpooled);
    expect_near(fast.average, want.average, 1e-6, 1e-6, "average");
    expect_near(fast.spread, want.spread, 1e-6, 1e-6, "spread");
  }
}

TEST(Pool, NanWins) {
  const float nan = std::numeric_limits<float>::quiet_NaN();
  const PoolDims d{1, 2, 4, 1};
  const std::vector<float> x{1, nan, 2, 3, nan, 9, 4, 1}, dy{1, 1};
  const auto fast = run<true>(d, x, x, dy), want = run<false>(d, x, x, dy);
  EXPECT_TRUE(std::isnan(fast.y[0]) && std::isnan(want.y[0]));
  EXPECT_EQ(fast.index, (std::vector<int32_t>{4, 6}));
  EXPECT_EQ(want.index, fast.index);
}

TEST(Pool, ThreadsDoNotChangeBits) {
  const PoolDims d{5, 33, 31, 40, 3, 3, 2, 1};
  const auto x = normal<float>(in_size(d), 7), dy = normal<float>(out_size(d), 8);
  Results<float> one, two;
  with_threads(1, [&] { one = run<true>(d, x, x, dy); });
  with_threads(2, [&] { two = run<true>(d, x, x, dy); });
  expect_same_bits(one.unpooled, two.unpooled, "unpooled"), expect_same_bits(one.spread, two.spread, "spread");
  expect_same_bits(one.y, two.y, "y"), expect_same_bits(one.average, two.average, "average");
}

TEST(Pool, BadDimensionsAreNamed) {
  const auto message = [](const PoolDims& d) -> std::string {
    try {
      validate(d);
    } catch (const std::runtime_error& e) {
      return e.what();
    }
    return "";
  };
  EXPECT_EQ(message({1, 4, 4, 1}), "");
  EXPECT_EQ(message({1, 4, 4, 1, 2, 2, 0}), "pool: stride 0 is not positive");
  EXPECT_EQ(message({1, 4, 4, 1, 2, 2, 2, 2}), "pool: pad 2 is not between 0 and half the window 2x2");
  EXPECT_EQ(message({1, 1, 4, 1}), "pool: window 2x2 does not fit a map of 1x4 with pad 0");
}

}  // namespace
}  // namespace ranvier::kernels
