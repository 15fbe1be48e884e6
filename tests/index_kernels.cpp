// Ops that move elements: the reference against values made by hand, the fast versions equal to the reference bit for
// bit.
#include "kernels/index/index.h"

#include <functional>
#include <limits>
#include <stdexcept>

#include "tests/guarded.h"

namespace ranvier::kernels {
namespace {
using namespace test;

template <class T>
std::vector<T> counting(int64_t n) {
  std::vector<T> v(static_cast<size_t>(n));
  for (int64_t i = 0; i < n; ++i) v[i] = static_cast<T>(i + 1);
  return v;
}

TEST(Index, GatherAndScatterByHand) {
  const GatherDims d{2, 3, 2, 4};
  const auto x = counting<float>(12);  // (2, 3, 2)
  const std::vector<int32_t> at{2, 0, 5, 2};
  const float nan = std::numeric_limits<float>::quiet_NaN();
  std::vector<float> y(16), dx(12);
  EXPECT_EQ(reference::gather(d, x.data(), at.data(), y.data()), 2);
  expect_same_bits(y, {5, 6, 1, 2, nan, nan, 5, 6, 11, 12, 7, 8, nan, nan, 11, 12}, "gather");
  const auto dy = counting<float>(16);
  EXPECT_EQ(reference::scatter_add(d, dy.data(), at.data(), dx.data()), 2);
  EXPECT_EQ(dx, (std::vector<float>{3, 4, 0, 0, 1 + 7, 2 + 8, 11, 12, 0, 0, 9 + 15, 10 + 16}));
}

template <class T, class I>
void compare_gather(const GatherDims& d, bool bad) {
  std::vector<I> at(static_cast<size_t>(d.count));
  for (int64_t j = 0; j < d.count; ++j) at[j] = static_cast<I>((j * 37 + 11) % d.axis);
  if (bad && d.count > 2) at[1] = -1, at[2] = static_cast<I>(d.axis);
  std::vector<T> x(static_cast<size_t>(d.outer * d.axis * d.inner)),
      dy(static_cast<size_t>(d.outer * d.count * d.inner));
  const auto random_x = normal<float>(static_cast<int64_t>(x.size()), 1, 0, 50);
  const auto random_dy = normal<float>(static_cast<int64_t>(dy.size()), 2, 0, 50);
  for (size_t i = 0; i < x.size(); ++i) x[i] = static_cast<T>(std::abs(random_x[i]));
  for (size_t i = 0; i < dy.size(); ++i) dy[i] = static_cast<T>(std::abs(random_dy[i]));
  Guarded<T> fast(d.outer * d.count * d.inner), want(d.outer * d.count * d.inner);
  EXPECT_EQ(cpu::gather(d, x.data(), at.data(), fast.data()), bad && d.count > 2 ? 1 : -1);
  reference::gather(d, x.data(), at.data(), want.data());
  expect_same_bits(fast.values(), want.values(), "gather");
  if constexpr (sizeof(T) > 1) {
    Guarded<T> sum(d.outer * d.axis * d.inner), expected(d.outer * d.axis * d.inner);
    EXPECT_EQ(cpu::scatter_add(d, dy.data(), at.data(), sum.data()), bad && d.count > 2 ? 1 : -1);
    reference::scatter_add(d, dy.data(), at.data(), expected.data());
    expect_same_bits(sum.values(), expected.values(), "scatter_add");
  }
}

TEST(Index, GatherAndScatterFastEqualsReference) {
  for (const bool bad : {false, true})
    for (const GatherDims& d : {GatherDims{1, 50, 1, 70}, GatherDims{3, 5, 1, 9}, GatherDims{2, 9, 17, 30},
                                GatherDims{1, 64, 1000, 40}, GatherDims{4, 3, 2, 0}, GatherDims{1, 1, 3, 5}}) {
      compare_gather<float, int32_t>(d, bad), compare_gather<double, int64_t>(d, bad);
      compare_gather<int32_t, int32_t>(d, bad), compare_gather<int64_t, int64_t>(d, bad);
      compare_gather<uint8_t, int32_t>(d, bad);
    }
}

TEST(Index, OneHot) {
  const std::vector<int32_t> labels{1, 0, 3, -1};
  Guarded<float> fast(12), want(12);
  EXPECT_EQ((cpu::one_hot<float, int32_t>(4, 3, labels.data(), fast)), 2);
  EXPECT_EQ((reference::one_hot<float, int32_t>(4, 3, labels.data(), want)), 2);
  expect_same_bits(fast.values(), want.values(), "one_hot");
  EXPECT_EQ(std::vector<float>(want.data(), want.data() + 6), (std::vector<float>{0, 1, 0, 1, 0, 0}));
  EXPECT_TRUE(std::isnan(want[6]) && std::isnan(want[11]));
  Guarded<int32_t> whole(12);
  EXPECT_EQ((cpu::one_hot<int32_t, int32_t>(4, 3, labels.data(), whole)), 2);
  EXPECT_EQ(whole.values(), (std::vector<int32_t>{0, 1, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0}));
}

TEST(Index, Argmax) {
  const float nan = std::numeric_limits<float>::quiet_NaN();
  const std::vector<float> x{1, 3, 3, 2, nan, 9, nan, 0, -1, -1, -1, -1};
  Guarded<int32_t> y(3);
  reference::argmax<float>(3, 4, 1, x.data(), y);
  EXPECT_EQ(y.values(), (std::vector<int32_t>{1, 0, 0}));
  for (const int64_t inner : {1, 3, 16, 65, 200})
    for (const int64_t axis : {1, 2, 10, 33}) {
      auto v = normal<float>(7 * axis * inner, 9);
      for (float& e : v) e = std::round(e * 3);  // ties
      v[v.size() / 2] = nan, v[v.size() / 3] = nan;
      Guarded<int32_t> fast(7 * inner), want(7 * inner);
      cpu::argmax<float>(7, axis, inner, v.data(), fast);
      reference::argmax<float>(7, axis, inner, v.data(), want);
      EXPECT_EQ(fast.values(), want.values()) << axis << " " << inner;
    }
}

/// Runs `move(x, y, element)` of both namespaces for every element size and compares; returns the bytes of size 1.
std::vector<uint8_t> compare_moves(int64_t from, int64_t to,
                                   const std::function<void(bool fast, size_t element, const void* x, void* y)>& move) {
  std::vector<uint8_t> bytes;
  for (const size_t element : {size_t{1}, size_t{2}, size_t{4}, size_t{8}}) {
    auto x = counting<uint8_t>(from * static_cast<int64_t>(element));
    for (size_t i = 250; i < x.size(); ++i) x[i] = static_cast<uint8_t>((i * 2654435761u) >> 24);  // no short period
    Guarded<uint8_t> fast(to * static_cast<int64_t>(element)), want(to * static_cast<int64_t>(element));
    move(true, element, x.data(), fast.data());
    move(false, element, x.data(), want.data());
    EXPECT_EQ(fast.values(), want.values()) << "element of " << element << " bytes";
    if (element == 1) bytes = want.values();
  }
  return bytes;
}

std::vector<uint8_t> compare_slice(const SliceDims& d) {
  validate(d);
  compare_moves(d.y.count(), d.x.count(), [&](bool fast, size_t element, const void* y, void* x) {
    (fast ? cpu::unslice : reference::unslice)(d, element, y, x);
  });
  return compare_moves(d.x.count(), d.y.count(), [&](bool fast, size_t element, const void* x, void* y) {
    (fast ? cpu::slice : reference::slice)(d, element, x, y);
  });
}

TEST(Index, Slice) {
  SliceDims d{{1, {10}}, {1, {3}}, {7}, {-3}};
  EXPECT_EQ(compare_slice(d), (std::vector<uint8_t>{8, 5, 2}));
  d = {{2, {2, 3}}, {2, {2, 2}}, {0, 1}, {1, 1}};
  EXPECT_EQ(compare_slice(d), (std::vector<uint8_t>{2, 3, 5, 6}));
  std::vector<uint8_t> x(6, 9);
  reference::unslice(d, 1, std::vector<uint8_t>{1, 2, 3, 4}.data(), x.data());
  EXPECT_EQ(x, (std::vector<uint8_t>{0, 1, 2, 0, 3, 4}));
  compare_slice({{4, {3, 8, 9, 5}}, {4, {3, 6, 7, 5}}, {0, 1, 2, 0}, {1, 1, 1, 1}});   // crop of NHWC
  compare_slice({{4, {3, 8, 9, 5}}, {4, {3, 8, 9, 5}}, {0, 0, 8, 0}, {1, 1, -1, 1}});  // flip
  compare_slice({{4, {3, 8, 9, 5}}, {4, {2, 3, 2, 2}}, {2, 1, 0, 4}, {-2, 3, 5, -3}});
  compare_slice({{6, {2, 3, 2, 3, 2, 40}}, {6, {1, 2, 2, 2, 1, 40}}, {1, 0, 0, 2, 1, 0}, {1, 2, 1, -1, 1, 1}});
  compare_slice({{3, {4, 5, 6}}, {3, {4, 0, 6}}, {0, 3, 0}, {1, 1, 1}});
  compare_slice({{0, {}}, {0, {}}});
  compare_slice({{2, {1, 1}}, {2, {1, 1}}});
}

TEST(Index, PadReflect) {
  const PadDims line{{1, {4}}, {1, {9}}, {3}};
  const auto compare = [](const PadDims& d) {
    validate_reflect(d);
    const auto dy = normal<float>(d.y.count(), 5);
    Guarded<float> fast(d.x.count()), want(d.x.count());
    cpu::pad_reflect_adjoint<float>(d, dy.data(), fast);
    reference::pad_reflect_adjoint<float>(d, dy.data(), want);
    expect_same_bits(fast.values(), want.values(), "adjoint");
    return compare_moves(d.x.count(), d.y.count(), [&](bool quick, size_t element, const void* x, void* y) {
      (quick ? cpu::pad_reflect : reference::pad_reflect)(d, element, x, y);
    });
  };
  EXPECT_EQ(compare(line), (std::vector<uint8_t>{4, 3, 2, 1, 2, 3, 4, 3, 2}));
  std::vector<double> dx(4);
  reference::pad_reflect_adjoint(line, counting<double>(9).data(), dx.data());
  EXPECT_EQ(dx, (std::vector<double>{4, 3 + 5 + 9, 2 + 6 + 8, 1 + 7}));
  compare({{4, {2, 5, 6, 3}}, {4, {2, 9, 10, 3}}, {0, 2, 2, 0}});
  compare({{3, {4, 3, 17}}, {3, {4, 7, 40}}, {0, 2, 16}});
  compare({{2, {1, 2}}, {2, {1, 4}}, {0, 1}});
  compare({{1, {1}}, {1, {1}}});
  compare({{0, {}}, {0, {}}});
}

TEST(Index, Concat) {
  const std::vector<int64_t> extents{2, 0, 3, 1};
  for (const int64_t outer : {1, 3})
    for (const int64_t inner : {1, 5, 64}) {
      const ConcatDims d{outer, inner, 4, extents.data()};
      const auto bytes =
          compare_moves(outer * 6 * inner, outer * 6 * inner, [&](bool fast, size_t element, const void* x, void* y) {
            const auto* at = static_cast<const char*>(x);
            const void* parts[4];
            for (int i = 0; i < 4; ++i) parts[i] = at, at += outer * extents[i] * inner * static_cast<int64_t>(element);
            (fast ? cpu::concat : reference::concat)(d, element, parts, y);
          });
      if (outer == 3 && inner == 1) {
        EXPECT_EQ(bytes, (std::vector<uint8_t>{1, 2, 7, 8, 9, 16, 3, 4, 10, 11, 12, 17, 5, 6, 13, 14, 15, 18}));
      }
    }
}

std::vector<uint8_t> compare_transpose(const TransposeDims& d) {
  validate(d);
  return compare_moves(d.x.count(), d.x.count(), [&](bool fast, size_t element, const void* x, void* y) {
    (fast ? cpu::transpose : reference::transpose)(d, element, x, y);
  });
}

TEST(Index, Transpose) {
  EXPECT_EQ(compare_transpose({{2, {2, 3}}, {1, 0}}), (std::vector<uint8_t>{1, 4, 2, 5, 3, 6}));
  compare_transpose({{2, {33, 50}}, {1, 0}});
  compare_transpose({{2, {64, 16}}, {1, 0}});
  compare_transpose({{4, {3, 17, 5, 7}}, {0, 2, 3, 1}});  // NCHW to NHWC
  compare_transpose({{4, {2, 6, 7, 20}}, {0, 3, 1, 2}});  // and back
  compare_transpose({{4, {2, 1, 7, 20}}, {2, 1, 0, 3}});
  compare_transpose({{6, {2, 3, 4, 2, 3, 5}}, {5, 3, 1, 0, 2, 4}});
  compare_transpose({{6, {2, 3, 4, 2, 3, 5}}, {4, 2, 0, 1, 3, 5}});
  compare_transpose({{3, {4, 5, 6}}, {0, 1, 2}});
  compare_transpose({{3, {1, 1, 1}}, {2, 0, 1}});
  compare_transpose({{3, {4, 0, 6}}, {2, 0, 1}});
  compare_transpose({{0, {}}, {}});
}

TEST(Index, ThreadsDoNotChangeBits) {
  const GatherDims d{2, 40, 900, 333};
  std::vector<int32_t> at(333);
  for (int j = 0; j < 333; ++j) at[j] = j * j % 40;
  const auto dy = normal<float>(2 * 333 * 900, 3);
  Guarded<float> one(2 * 40 * 900), two(2 * 40 * 900);
  with_threads(1, [&] { cpu::scatter_add(d, dy.data(), at.data(), one.data()); });
  with_threads(2, [&] { cpu::scatter_add(d, dy.data(), at.data(), two.data()); });
  expect_same_bits(one.values(), two.values(), "scatter_add");
}

TEST(Index, BadDimensionsAreNamed) {
  const auto message = [](auto call) -> std::string {
    try {
      call();
    } catch (const std::runtime_error& e) {
      return e.what();
    }
    return "";
  };
  EXPECT_EQ(message([] { validate(SliceDims{{1, {4}}, {1, {3}}, {2}, {1}}); }), "slice: axis 0 takes 2..4 of 4");
  EXPECT_EQ(message([] { validate(SliceDims{{1, {4}}, {1, {3}}, {2}, {0}}); }), "slice: step of axis 0 is 0");
  EXPECT_EQ(message([] {
              validate(TransposeDims{{2, {4, 4}}, {1, 1}});
            }),
            "transpose: axis 1 at place 1 makes no permutation");
  EXPECT_EQ(message([] {
              validate_reflect(PadDims{{1, {3}}, {1, {7}}, {3}});
            }),
            "pad_reflect: axis 0 of 3 cannot mirror 3 and 1");
}

}  // namespace
}  // namespace ranvier::kernels
