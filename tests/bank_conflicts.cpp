// The shared-memory tiles of the tensor-core kernels are laid out so that no ldmatrix and no cp.async meets a bank
// conflict; the emulator counts them.
#include "tests/case.h"

namespace ranvier::test {
namespace {

/// Cycles lost by every kernel that a case needs on CUDA.
int64_t conflicts_of(const OpCase& test, DType floating) {
  return bank_conflicts("", [&] { evaluate(test, floating, {.device = Device::cuda()}); });
}

class BankConflicts : public testing::TestWithParam<DType> {
 protected:
  void SetUp() override {
    if (!cuda_support().usable) GTEST_SKIP() << "skipped: " << cuda_support().why;
    if (!emulator_bank_conflicts) GTEST_SKIP() << "skipped: only the emulator counts them";
  }
};

TEST_P(BankConflicts, NoneInProducts) {
  for (const bool ta : {false, true})
    for (const bool tb : {false, true}) {
      const Shape a = ta ? Shape{96, 136} : Shape{136, 96}, b = tb ? Shape{160, 96} : Shape{96, 160};
      const OpCase product = op_case("product", {{a}, {b}}, [=](auto x) { return matmul(x[0], x[1], ta, tb); });
      EXPECT_EQ(conflicts_of(product, GetParam()), 0) << "transposed: " << ta << " " << tb;
    }
}

TEST_P(BankConflicts, NoneInConvolutions) {
  const OpCase convolution = op_case("convolution", {{{2, 9, 9, 64}}, {{64, 3, 3, 64}}},
                                     [](auto x) { return conv2d(x[0], x[1], {.padding = 1}); });
  EXPECT_EQ(conflicts_of(convolution, GetParam()), 0);
}

TEST_P(BankConflicts, NoneInCoupledUnitsAndChannels) {
  OpCase units = op_case("units", {{{70, 64}}, {{64, 2}}}, [](auto x) { return pair_apply(x[0], x[1], {}); });
  units.operands[1].wide = true;
  EXPECT_EQ(conflicts_of(units, GetParam()), 0);
  for (int64_t n : {32, 64, 128, 256}) {
    const OpCase channels =
        op_case("channels", {{{300, n}}, {{n, n}}}, [](auto x) { return channel_field(x[0], x[1], false); });
    EXPECT_EQ(conflicts_of(channels, GetParam()), 0) << n;
  }
}

INSTANTIATE_TEST_SUITE_P(Types, BankConflicts, testing::Values(DType::bf16, DType::f16),
                         [](const auto& info) { return std::string(name_of(info.param)); });

}  // namespace
}  // namespace ranvier::test
