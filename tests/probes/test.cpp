// Each PTX wrapper against its definition in the PTX ISA, element by element. The same source runs in the emulator and
// on a GPU, so that a layout misread in one of them shows.
#include <gtest/gtest.h>

#include <array>
#include <bit>
#include <cmath>
#include <limits>

#include "engine/device.h"
#include "kernels/common/half.h"
#include "tests/emulated.h"
#include "tests/probes/probes.h"

namespace ranvier::test {
namespace {

class Ptx : public testing::Test {
 protected:
  void SetUp() override {
    if (const CudaSupport support = cuda_support(); !support.usable)
      GTEST_SKIP() << "skipped: no CUDA device (" << support.why << ")";
  }
};

/// Where the PTX ISA puts a lane's i-th element: (row, column).
struct Place {
  int row, column;
};

struct Layout {
  int depth;   // columns of a, rows of b
  int packed;  // elements in a register
  Place (*a)(int lane, int i);
  Place (*b)(int lane, int i);  // (k, n)
};

// "Matrix Fragments for mma.m16n8k16 with floating point type": groupID = lane >> 2, threadID_in_group = lane % 4.
constexpr Layout k16 = {16, 2,
                        [](int lane, int i) -> Place {
                          const bool upper = i < 2 || (i >= 4 && i < 6);
                          return {(lane >> 2) + (upper ? 0 : 8), lane % 4 * 2 + (i & 1) + (i < 4 ? 0 : 8)};
                        },
                        [](int lane, int i) -> Place {
                          return {lane % 4 * 2 + (i & 1) + (i < 2 ? 0 : 8), lane >> 2};
                        }};
// "Matrix Fragments for mma.m16n8k8", .tf32.
constexpr Layout k8 = {8, 1,
                       [](int lane, int i) -> Place {
                         return {(lane >> 2) + (i == 0 || i == 2 ? 0 : 8), lane % 4 + (i < 2 ? 0 : 4)};
                       },
                       [](int lane, int i) -> Place {
                         return {lane % 4 + (i == 0 ? 0 : 4), lane >> 2};
                       }};
// The same accumulator in both.
Place accumulator(int lane, int i) { return {(lane >> 2) + (i < 2 ? 0 : 8), lane % 4 * 2 + (i & 1)}; }

uint32_t encode(Multiply kind, float value) {
  switch (kind) {
    case Multiply::bf16_k16:
      return kernels::from_float<kernels::bf16>(value).bits;
    case Multiply::f16_k16:
      return kernels::from_float<kernels::f16>(value).bits;
    default:
      return kernels::to_bits(value);
  }
}

/// Registers of every lane for a matrix given by `value(place)`.
template <class Value>
void append_fragments(Multiply kind, const Layout& layout, int registers, Place (*place)(int, int), Value value,
                      std::vector<uint32_t>& out) {
  for (int lane = 0; lane < 32; ++lane)
    for (int r = 0; r < registers; ++r) {
      uint32_t word = 0;
      for (int p = 0; p < layout.packed; ++p)
        word |= encode(kind, value(place(lane, r * layout.packed + p))) << (32 / layout.packed * p) % 32;
      out.push_back(word);
    }
}

/// d + e(i, j) b for every (i, j): row i becomes row j of b added to row i of d, and each number is different.
void check_mma(Multiply kind, const Layout& layout) {
  const auto b_value = [](Place at) { return static_cast<float>(at.row * 8 + at.column + 1); };
  const auto d_value = [](Place at) { return static_cast<float>(1024 * (at.row * 8 + at.column + 1)); };
  std::vector<uint32_t> a, b;
  std::vector<float> d, want;
  for (int i = 0; i < 16; ++i)
    for (int j = 0; j < layout.depth; ++j) {
      append_fragments(
          kind, layout, 4, layout.a, [&](Place at) { return at.row == i && at.column == j ? 1.0f : 0.0f; }, a);
      append_fragments(kind, layout, 2, layout.b, b_value, b);
      for (int lane = 0; lane < 32; ++lane)
        for (int e = 0; e < 4; ++e) {
          const Place at = accumulator(lane, e);
          d.push_back(d_value(at));
          want.push_back(d_value(at) + (at.row == i ? b_value({j, at.column}) : 0));
        }
    }
  in_every_emulated_mode([&] { EXPECT_EQ(probe_mma(kind, a, b, d), want); });
}

TEST_F(Ptx, MmaBf16) { check_mma(Multiply::bf16_k16, k16); }
TEST_F(Ptx, MmaF16) { check_mma(Multiply::f16_k16, k16); }
TEST_F(Ptx, MmaTf32) { check_mma(Multiply::tf32_k8, k8); }

TEST_F(Ptx, MmaTellsTheHalfTypesApart) {
  // 1 as bf16 is 1.875 as f16, which a wrapper that took the other type would multiply
  const std::vector<uint32_t> a(128, encode(Multiply::bf16_k16, 1)), b(64, encode(Multiply::bf16_k16, 1));
  const std::vector<float> zero(128, 0.0f);
  EXPECT_EQ(probe_mma(Multiply::bf16_k16, a, b, zero)[0], 8);
  EXPECT_EQ(probe_mma(Multiply::f16_k16, a, b, zero)[0], 8 * 1.875f * 1.875f);
}

TEST_F(Ptx, Ldmatrix) {
  std::vector<uint16_t> tile(256);
  for (size_t i = 0; i < tile.size(); ++i) tile[i] = static_cast<uint16_t>(i + 1);
  std::vector<int> in_order, mixed;
  for (int lane = 0; lane < 32; ++lane) in_order.push_back(lane), mixed.push_back((lane * 11 + 5) % 32);
  for (const std::vector<int>& rows : {in_order, mixed, std::vector<int>(32, 7)})
    for (bool transposed : {false, true})
      in_every_emulated_mode([&] {
        const Fragments got = probe_ldmatrix(tile, rows, transposed);
        for (int lane = 0; lane < 32; ++lane)
          for (int m = 0; m < 4; ++m)
            for (int h = 0; h < 2; ++h) {  // element (lane / 4, 2 (lane % 4) + h) of matrix m
              const int row = lane / 4, column = lane % 4 * 2 + h;
              const int at_row = transposed ? column : row, at_column = transposed ? row : column;
              const uint16_t want =
                  tile[static_cast<size_t>(rows[static_cast<size_t>(8 * m + at_row)] * 8 + at_column)];
              const uint32_t word = got[static_cast<size_t>(lane)][static_cast<size_t>(m)];
              ASSERT_EQ(word >> (16 * h) & 0xffff, want)
                  << "lane " << lane << " matrix " << m << " half " << h << (transposed ? " transposed" : "");
            }
      });
}

TEST_F(Ptx, ToTf32RoundsToNearestTiesAway) {
  const auto from = [](uint32_t bits) { return kernels::from_bits(bits); };
  const std::vector<std::pair<uint32_t, uint32_t>> cases = {
      {0x3f800000, 0x3f800000},                                                      // 1
      {0x3f800fff, 0x3f800000},                                                      // below the tie
      {0x3f801000, 0x3f802000},                                                      // the tie, away from zero
      {0x3f803000, 0x3f804000},                                                      // the tie of an odd neighbour
      {0xbf801000, 0xbf802000},                                                      // negative
      {0x3fffffff, 0x40000000},                                                      // up into the next power of two
      {0x00000000, 0x00000000}, {0x80000000, 0x80000000}, {0x7f7fffff, 0x7f800000},  // the largest f32 becomes infinite
      {0x7f800000, 0x7f800000}, {0xff800000, 0xff800000}};
  std::vector<float> values;
  for (const auto& [bits, want] : cases) values.push_back(from(bits));
  values.push_back(std::numeric_limits<float>::quiet_NaN());
  in_every_emulated_mode([&] {
    const std::vector<uint32_t> got = probe_to_tf32(values);
    for (size_t i = 0; i < cases.size(); ++i) EXPECT_EQ(got[i], cases[i].second) << std::hex << cases[i].first;
    EXPECT_TRUE(std::isnan(from(got.back())));
  });
}

TEST_F(Ptx, PackRoundsToNearestEven) {
  const auto from = [](uint32_t bits) { return std::bit_cast<float>(bits); };
  const float nan = std::numeric_limits<float>::quiet_NaN(), infinity = std::numeric_limits<float>::infinity();
  const std::vector<float> values = {1,
                                     -2,
                                     from(0x3f808000),
                                     from(0x3f818000),
                                     from(0x3f808001),
                                     3.14159265f,
                                     1e-40f,
                                     -0.0f,
                                     infinity,
                                     -infinity,
                                     65504,
                                     65520,
                                     nan,
                                     1};
  in_every_emulated_mode([&] {
    for (const bool f16 : {false, true}) {
      const std::vector<uint32_t> words = probe_pack(f16, values);
      for (size_t i = 0; i + 2 < values.size(); ++i) {
        const uint32_t want = f16 ? kernels::from_float<kernels::f16>(values[i]).bits
                                  : kernels::from_float<kernels::bf16>(values[i]).bits;
        EXPECT_EQ(words[i / 2] >> 16 * (i % 2) & 0xffffu, want) << values[i] << " f16 " << f16;
      }
      EXPECT_EQ(words.back() & 0x7fffu, 0x7fffu) << "NaN";
    }
  });
}

TEST_F(Ptx, FastFunctions) {
  std::vector<float> values;
  for (int i = 0; i < 60; ++i) values.push_back(std::exp(0.7f * static_cast<float>(i - 30)));
  in_every_emulated_mode([&] {
    const auto near = [&](Fast function, const std::vector<float>& at, auto&& exact) {
      const std::vector<float> got = probe_fast(function, at);
      for (size_t i = 0; i < at.size(); ++i) {
        const double want = exact(static_cast<double>(at[i]));
        EXPECT_NEAR(got[i], want, 5e-7 * std::max(std::abs(want), 0.1))
            << static_cast<int>(function) << " of " << at[i];
      }
    };
    near(Fast::log2, values, [](double x) { return std::log2(x); });
    near(Fast::inverse_root, values, [](double x) { return 1 / std::sqrt(x); });
    near(Fast::inverse, values, [](double x) { return 1 / x; });
    near(Fast::exp2, {0, -0.5f, -1, -20.25f, -60, 3}, [](double x) { return std::exp2(x); });
    EXPECT_EQ(probe_fast(Fast::exp2, {-140, -1e30f}), (std::vector<float>{0, 0}));  // no denormals
    EXPECT_EQ(probe_fast(Fast::inverse, {std::numeric_limits<float>::infinity()}), std::vector<float>{0});
  });
}

// The 32 lanes of a load are served at once where they ask for words of 32 different banks.
TEST_F(Ptx, Tf32TilesAreReadWithoutBankConflicts) {
  for (const bool columns : {false, true})
    for (const int step : {0, 1})
      for (const std::array<uint32_t, 32>& load : probe_tf32_words(columns, step)) {
        std::array<int, 32> asked{};
        for (const uint32_t word : load) ++asked[word % 32];
        for (size_t bank = 0; bank < 32; ++bank)
          EXPECT_EQ(asked[bank], 1) << (columns ? "b" : "a") << ", step " << step << ", bank " << bank;
      }
}

TEST_F(Ptx, CpAsyncCopiesAndFillsWithZeros) {
  std::vector<uint8_t> source(512);
  for (size_t i = 0; i < source.size(); ++i) source[i] = static_cast<uint8_t>(i * 7 + 1);
  for (const int bytes : {16, 4})
    for (int valid = 0; valid <= bytes; ++valid)
      in_every_emulated_mode([&] {
        std::vector<uint8_t> want = source;
        for (size_t i = 0; i < want.size(); ++i) {
          const int at = static_cast<int>(i % 16);
          if (at >= valid) want[i] = at < bytes ? 0 : 0xEE;
        }
        EXPECT_EQ(probe_cp_async(source, bytes, valid), want) << bytes << " bytes, " << valid << " valid";
      });
}

TEST_F(Ptx, CpAsyncWaitsForTheOldestGroups) {
  std::vector<float> values;
  for (int i = 0; i < 96; ++i) values.push_back(static_cast<float>(i) + 0.5f);
  in_every_emulated_mode([&] { EXPECT_EQ(probe_wait_groups(values), values); });
}

TEST_F(Ptx, SharedAddressesAreBytes) {
  for (const int index : {0, 1, 99}) EXPECT_EQ(probe_shared_address(index), 4u * static_cast<unsigned>(index));
}

TEST_F(Ptx, BankConflictsAreCounted) {
  if (!emulator_bank_conflicts) GTEST_SKIP() << "skipped: only the emulator counts bank conflicts";
  for (const bool copies : {false, true}) {
    const auto conflicts = [&](bool swizzled, const char* file) {
      return bank_conflicts(file, [&] { probe_banks(swizzled, copies); });
    };
    // four groups of eight lanes; in one column of 128-byte rows each takes eight cycles in place of one
    EXPECT_EQ(conflicts(false, "probes/ptx.cu"), 4 * 7);
    EXPECT_EQ(conflicts(true, "probes/ptx.cu"), 0);
    EXPECT_EQ(conflicts(true, "another.cu"), -1);
  }
}

}  // namespace
}  // namespace ranvier::test
