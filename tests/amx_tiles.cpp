// Products in bf16 parts: nearer to the exact ones than plain f32 at any size, infinities told, NaN kept to its rows.
#include "kernels/matmul/amx_tiles.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <random>
#include <vector>

namespace ranvier::test {
namespace {

namespace amx = kernels::amx;

#define SKIP_WITHOUT_AMX() \
  if (!amx::available()) GTEST_SKIP() << "skipped: no AMX tiles on this machine or in this build"

struct Size {
  int64_t rows, depth, columns;
};

constexpr Size sizes[] = {{1, 1, 1},    {16, 32, 16}, {17, 33, 15}, {128, 128, 128},
                          {33, 31, 65}, {5, 500, 3},  {64, 2, 40}};

std::vector<float> drawn(int64_t count, uint32_t seed, float low = -1, float high = 1) {
  std::mt19937 bits(seed);
  std::uniform_real_distribution<float> range(low, high);
  std::vector<float> x(static_cast<size_t>(count));
  for (float& v : x) v = range(bits);
  return x;
}

/// Right-sized tiles that begin as NaN.
std::vector<uint16_t> tiles_for(int64_t rows, int64_t depth) {
  return std::vector<uint16_t>(static_cast<size_t>(amx::tiles_size(rows, depth)), uint16_t{0x7fc0});
}

/// a (rows, depth) b (columns, depth)^T in tiles, `stride` > columns, outside of it nothing touched.
std::vector<float> product(const Size& s, const std::vector<float>& a, const std::vector<float>& b,
                           std::vector<float> out, int64_t stride, bool accumulate) {
  std::vector<uint16_t> left = tiles_for(s.rows, s.depth), right = tiles_for(s.columns, s.depth);
  const amx::Session session;
  EXPECT_TRUE(amx::split_rows(a.data(), s.rows, s.depth, s.depth, left.data()));
  EXPECT_TRUE(amx::split_rows(b.data(), s.columns, s.depth, s.depth, right.data()));
  amx::turn(right.data(), s.columns, s.depth);
  amx::multiply(s.rows, s.depth, s.columns, left.data(), right.data(), out.data(), stride, accumulate);
  return out;
}

// Relative to sum |a b|, the scale of rounding errors; numbers of one sign would show a bias of the parts.
TEST(AmxTiles, NearerThanPlainSums) {
  SKIP_WITHOUT_AMX();
  for (const Size& s : sizes) {
    for (const float low : {-1.0f, 0.5f}) {
      const auto a = drawn(s.rows * s.depth, 1, low), b = drawn(s.columns * s.depth, 2, low);
      const int64_t stride = s.columns + 3;
      const float kept = 7;
      const auto out = product(s, a, b, std::vector<float>(static_cast<size_t>(s.rows * stride), kept), stride, false);
      double squares = 0, squares_plain = 0;
      for (int64_t i = 0; i < s.rows; ++i) {
        for (int64_t j = 0; j < s.columns; ++j) {
          double exact = 0, scale = 0;
          float plain = 0;
          for (int64_t k = 0; k < s.depth; ++k) {
            const float x = a[static_cast<size_t>(i * s.depth + k)], y = b[static_cast<size_t>(j * s.depth + k)];
            exact += static_cast<double>(x) * y;
            scale += std::abs(static_cast<double>(x) * y);
            plain = std::fma(x, y, plain);
          }
          const double error = std::abs(out[static_cast<size_t>(i * stride + j)] - exact) / scale;
          ASSERT_TRUE(error <= 3e-7) << error;
          squares += error * error;
          squares_plain += std::pow((plain - exact) / scale, 2);
        }
        for (int64_t j = s.columns; j < stride; ++j) EXPECT_EQ(out[static_cast<size_t>(i * stride + j)], kept);
      }
      EXPECT_LE(std::sqrt(squares),
                std::max(std::sqrt(squares_plain), 1e-7 * std::sqrt(static_cast<double>(s.rows * s.columns))))
          << s.rows << " x " << s.depth << " x " << s.columns;
    }
  }
}

// Small integers are exact in bf16, so that every form must give the same integers.
TEST(AmxTiles, FormsAgree) {
  SKIP_WITHOUT_AMX();
  for (const Size& s : sizes) {
    std::vector<float> a(static_cast<size_t>(s.rows * s.depth)), b(static_cast<size_t>(s.columns * s.depth));
    for (size_t i = 0; i < a.size(); ++i) a[i] = static_cast<float>(static_cast<int>(i * 7 % 15) - 7);
    for (size_t i = 0; i < b.size(); ++i) b[i] = static_cast<float>(static_cast<int>(i * 5 % 13) - 6);
    std::vector<float> a_turned(a.size()), b_turned(b.size());  // (depth, rows), (depth, columns)
    for (int64_t k = 0; k < s.depth; ++k) {
      for (int64_t i = 0; i < s.rows; ++i)
        a_turned[static_cast<size_t>(k * s.rows + i)] = a[static_cast<size_t>(i * s.depth + k)];
      for (int64_t j = 0; j < s.columns; ++j)
        b_turned[static_cast<size_t>(k * s.columns + j)] = b[static_cast<size_t>(j * s.depth + k)];
    }
    std::vector<uint16_t> turned = tiles_for(s.depth, s.rows), left = tiles_for(s.rows, s.depth),
                          right = tiles_for(s.columns, s.depth);
    const amx::Session session;
    EXPECT_TRUE(amx::split_rows(a_turned.data(), s.depth, s.rows, s.rows, turned.data()));
    amx::transpose(turned.data(), s.depth, s.rows, left.data());
    EXPECT_TRUE(amx::split_columns(b_turned.data(), s.columns, s.depth, s.columns, right.data()));
    std::vector<float> out(static_cast<size_t>(s.rows * s.columns), 3.0f);
    amx::multiply(s.rows, s.depth, s.columns, left.data(), right.data(), out.data(), s.columns, true);
    for (int64_t i = 0; i < s.rows; ++i)
      for (int64_t j = 0; j < s.columns; ++j) {
        float sum = 3;
        for (int64_t k = 0; k < s.depth; ++k)
          sum += a[static_cast<size_t>(i * s.depth + k)] * b[static_cast<size_t>(j * s.depth + k)];
        ASSERT_EQ(out[static_cast<size_t>(i * s.columns + j)], sum) << i << ", " << j;
      }
    EXPECT_EQ(product(s, a, b, std::vector<float>(out.size(), 3.0f), s.columns, true), out);
  }
}

TEST(AmxTiles, ExtremeNumbers) {
  SKIP_WITHOUT_AMX();
  const Size s{20, 40, 20};
  auto a = drawn(s.rows * s.depth, 1), b = drawn(s.columns * s.depth, 2);
  std::vector<uint16_t> tiles = tiles_for(s.rows, s.depth);
  for (const float bad : {std::numeric_limits<float>::infinity(), -std::numeric_limits<float>::infinity()}) {
    auto x = a;
    x[3 * 40 + 7] = bad;
    EXPECT_FALSE(amx::split_rows(x.data(), s.rows, s.depth, s.depth, tiles.data()));
    EXPECT_FALSE(amx::split_columns(x.data(), s.depth, s.rows, s.depth, tiles.data()));
  }
  const float largest = std::numeric_limits<float>::max();
  a[5 * 40 + 1] = largest;
  b.assign(b.size(), 0.0f);
  b[0 * 40 + 1] = 1;
  a[3 * 40 + 7] = std::numeric_limits<float>::quiet_NaN();
  const auto out = product(s, a, b, std::vector<float>(400, 0.0f), 20, false);
  EXPECT_EQ(out[5 * 20], largest);
  for (int64_t i = 0; i < s.rows; ++i)
    for (int64_t j = 0; j < s.columns; ++j) EXPECT_EQ(std::isnan(out[static_cast<size_t>(i * 20 + j)]), i == 3);
}

}  // namespace
}  // namespace ranvier::test
