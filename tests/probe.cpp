// The loops that measure a CUDA device's peaks do the arithmetic that they are said to do, in every thread.
#include <algorithm>

#include "engine/device.h"
#include "tests/case.h"

#if defined(RANVIER_HAS_CUDA)
#include "kernels/probe/probe.h"

namespace ranvier::test {
namespace {

using kernels::ProbeUnit;

std::vector<float> run(ProbeUnit unit, int rounds, double flops_of_a_round) {
  const Memory out(Device::cuda(), kernels::probe_outputs * sizeof(float));
  fill_bytes(Device::cuda(), out.data(), 0xFF, out.bytes());
  const double flops = kernels::probe_cuda(unit, rounds, static_cast<float*>(out.data()), stream_of(Device::cuda()));
  EXPECT_EQ(flops, rounds * flops_of_a_round);
  std::vector<float> values(kernels::probe_outputs);
  copy_to_host(Device::cuda(), values.data(), out.data(), out.bytes());
  return values;
}

template <class T>
void expect_multiply_adds(ProbeUnit unit) {
  constexpr int rounds = 3, chains = 8, threads = 256;
  const std::vector<float> values = run(unit, rounds, 2.0 * chains * kernels::probe_outputs);
  std::vector<float> expected(threads);
  for (int thread = 0; thread < threads; ++thread) {
    T total = 0;
    for (int c = 0; c < chains; ++c) {
      T sum = T(thread % 7 - 3 + c);
      for (int r = 0; r < rounds; ++r) sum = std::fma(sum, T(-0.999), T(0.001) * T(thread));
      total += sum;
    }
    expected[static_cast<size_t>(thread)] = static_cast<float>(total);
  }
  for (size_t i = 0; i < values.size(); ++i) ASSERT_EQ(values[i], expected[i % threads]) << i;
}

TEST(Probe, MultiplyAdds) {
  if (const CudaSupport support = cuda_support(); !support.usable)
    GTEST_SKIP() << "skipped: no CUDA device (" << support.why << ")";
  expect_multiply_adds<float>(ProbeUnit::f32);
  expect_multiply_adds<double>(ProbeUnit::f64);
}

TEST(Probe, TensorCores) {
  if (const CudaSupport support = cuda_support(); !support.usable)
    GTEST_SKIP() << "skipped: no CUDA device (" << support.why << ")";
  const double warps = kernels::probe_outputs / 32.0;
  for (const auto& [unit, flops] : {std::pair{ProbeUnit::tf32, 2.0 * 16 * 8 * 8},
                                    {ProbeUnit::bf16, 2.0 * 16 * 8 * 16},
                                    {ProbeUnit::f16, 2.0 * 16 * 8 * 16}}) {
    const std::vector<float> one = run(unit, 1, 8 * warps * flops), two = run(unit, 2, 8 * warps * flops);
    for (size_t i = 0; i < one.size(); ++i)  // equal addends: twice the rounds, twice the sum
      ASSERT_TRUE(one[i] != 0 && std::abs(two[i] - 2 * one[i]) <= 1e-5f * (1 + std::abs(two[i]))) << i;
    // operands of both signs: about half of the sums are negative
    const auto negative = std::count_if(one.begin(), one.end(), [](float sum) { return sum < 0; });
    EXPECT_GT(negative, kernels::probe_outputs / 4);
    EXPECT_LT(negative, kernels::probe_outputs * 3 / 4);
  }
}

}  // namespace
}  // namespace ranvier::test
#else
TEST(Probe, All) { GTEST_SKIP() << "skipped: this build has no CUDA backend"; }
#endif
