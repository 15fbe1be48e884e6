// The CUDA passes of the fused batch norm by themselves: f32, bf16 and f16 maps against the f64 reference on equal
// inputs, statistics far from zero, ties and NaN, writing over operands.
#include <limits>

#include "kernels/norm/norm.h"
#include "tests/case.h"
#include "tests/guarded.h"
#include "tests/on_device.h"

#if defined(RANVIER_HAS_CUDA)

namespace ranvier::kernels {
namespace {
using namespace ranvier::test;

constexpr Activation acts[] = {Activation::none, Activation::relu, Activation::gelu, Activation::silu};
constexpr PoolPlace pools[] = {PoolPlace::none, PoolPlace::before, PoolPlace::after};

/// Values rounded to a stored type, and back.
template <class T>
std::vector<T> stored(const std::vector<float>& values) {
  std::vector<T> result;
  for (float v : values) result.push_back(from_float<T>(v));
  return result;
}
template <class T>
std::vector<double> as_doubles(const std::vector<T>& values) {
  std::vector<double> result;
  for (const T& v : values) result.push_back(to_float(v));
  return result;
}

/// Half a unit in the last place of T at 1: the relative error of one rounding.
template <class T>
constexpr double half_ulp() {
  return sizeof(T) == 4 ? 0x1p-24 : std::is_same_v<T, bf16> ? 0x1p-8 : 0x1p-11;
}

class NormCuda : public testing::Test {
 protected:
  void SetUp() override {
    if (!cuda_support().usable) GTEST_SKIP() << "skipped: " << cuda_support().why;
  }
};
template <class T>
class NormCudaTyped : public NormCuda {};
using MapTypes = testing::Types<float, bf16, f16>;
TYPED_TEST_SUITE(NormCudaTyped, MapTypes);

CudaStream stream() { return stream_of(Device::cuda()); }

struct Inputs {
  std::vector<float> x, gamma, beta, dy;
  explicit Inputs(const NormDims& d, unsigned seed, double mean = 0.3, double deviation = 1.7)
      : x(normal<float>(d.in_rows() * d.c, seed, mean, deviation)),
        gamma(normal<float>(d.c, seed + 1, 0.2, 1)),
        beta(normal<float>(d.c, seed + 2, 0, 0.5)),
        dy(normal<float>(d.out_rows() * d.c, seed + 3)) {}
};

struct Results {
  std::vector<double> y, mean, variance, rstd, pooled, dx, dgamma, dbeta, eval_y;
  std::vector<uint8_t> index;
  bool operator==(const Results&) const = default;
};

/// Forward, backward and evaluation on the device, with maps of type T.
template <class T>
Results on_device(const NormDims& d, const Inputs& in) {
  const int64_t ins = d.in_rows() * d.c, outs = d.out_rows() * d.c;
  const bool pool = d.pool != PoolPlace::none;
  OnDevice<T> x(stored<T>(in.x)), dy(stored<T>(in.dy)), y(outs), pooled(pool ? outs : 0), dx(ins), eval_y(outs);
  OnDevice<float> gamma(in.gamma), beta(in.beta), mean(d.c), variance(d.c), rstd(d.c), dgamma(d.c), dbeta(d.c);
  OnDevice<uint8_t> index(pool ? outs : 0), workspace(static_cast<int64_t>(cuda::norm_workspace<T>(d)));
  T* z = pool ? pooled.data() : nullptr;
  uint8_t* at = pool ? index.data() : nullptr;
  cuda::norm_forward<T>(d, {x, gamma, beta, y, mean, variance, rstd, z, at, workspace}, stream());
  cuda::norm_eval<T>(d, {x, gamma, beta, mean, variance, eval_y, workspace}, stream());
  cuda::norm_backward<T>(d,
                         {d.pool == PoolPlace::before ? nullptr : x.data(), z, at, dy, gamma, beta, mean, rstd, dx,
                          dgamma, dbeta, workspace},
                         stream());
  return {as_doubles(y.values()),        as_doubles(mean.values()),
          as_doubles(variance.values()), as_doubles(rstd.values()),
          as_doubles(pooled.values()),   as_doubles(dx.values()),
          as_doubles(dgamma.values()),   as_doubles(dbeta.values()),
          as_doubles(eval_y.values()),   index.values()};
}

/// The same by the reference in f64, on inputs rounded to T.
template <class T>
Results reference_of(const NormDims& d, const Inputs& in) {
  const auto ins = static_cast<size_t>(d.in_rows() * d.c), outs = static_cast<size_t>(d.out_rows() * d.c);
  const auto c = static_cast<size_t>(d.c);
  const std::vector<double> x = as_doubles(stored<T>(in.x)), dy = as_doubles(stored<T>(in.dy));
  const std::vector<double> gamma = as_doubles(in.gamma), beta = as_doubles(in.beta);
  const bool pool = d.pool != PoolPlace::none;
  Results r{std::vector<double>(outs),
            std::vector<double>(c),
            std::vector<double>(c),
            std::vector<double>(c),
            std::vector<double>(pool ? outs : 0),
            std::vector<double>(ins),
            std::vector<double>(c),
            std::vector<double>(c),
            std::vector<double>(outs),
            std::vector<uint8_t>(pool ? outs : 0)};
  double* z = pool ? r.pooled.data() : nullptr;
  uint8_t* at = pool ? r.index.data() : nullptr;
  reference::norm_forward<double>(d, {x.data(), gamma.data(), beta.data(), r.y.data(), r.mean.data(), r.variance.data(),
                                      r.rstd.data(), z, at, nullptr});
  reference::norm_eval<double>(
      d, {x.data(), gamma.data(), beta.data(), r.mean.data(), r.variance.data(), r.eval_y.data()});
  reference::norm_backward<double>(d, {x.data(), z, at, dy.data(), gamma.data(), beta.data(), r.mean.data(),
                                       r.rstd.data(), r.dx.data(), r.dgamma.data(), r.dbeta.data()});
  return r;
}

/// Errors allowed: those of f32 arithmetic, of the short polynomials beside 16-bit maps, and one rounding to T.
template <class T>
void compare(const NormDims& d, unsigned seed) {
  SCOPED_TRACE(testing::Message() << d.n << "x" << d.h << "x" << d.w << "x" << d.c << " act " << int(d.act) << " pool "
                                  << int(d.pool));
  const Inputs in(d, seed);
  const Results got = on_device<T>(d, in), want = reference_of<T>(d, in);
  const double fit = sizeof(T) == 2 && d.act == Activation::gelu ? 1e-4 : 0, ulp = 1.01 * half_ulp<T>();
  expect_near(got.mean, want.mean, 1e-7, 1e-6, "mean");
  expect_near(got.variance, want.variance, 1e-9, 1e-6, "variance");
  expect_near(got.rstd, want.rstd, 0, 1e-6, "rstd");
  expect_near(got.y, want.y, 4e-6 + fit, 1e-6 + ulp, "y");
  expect_near(got.eval_y, want.eval_y, 4e-6 + fit, 1e-6 + ulp, "eval y");
  expect_near(got.pooled, want.pooled, 0, 0, "pooled");
  ASSERT_EQ(got.index, want.index);
  const double scale = (1e-5 + fit) * std::sqrt(double(d.out_rows()));
  expect_near(got.dbeta, want.dbeta, scale, 1e-5, "dbeta");
  expect_near(got.dgamma, want.dgamma, scale, 1e-5, "dgamma");
  double most = 1;
  for (const double r : want.rstd) most = std::max(most, r);
  expect_near(got.dx, want.dx, (1e-5 + 3 * fit) * most, 1e-5 + ulp, "dx");
}

TYPED_TEST(NormCudaTyped, EqualsReference) {
  for (const Activation act : acts)
    for (const PoolPlace pool : pools)
      for (const int64_t c : {1, 8, 10, 12}) {
        compare<TypeParam>({3, 7, 5, c, 1e-5, act, pool}, 20);
        compare<TypeParam>({5, 2, 3, c, 1e-5, act, pool}, 22);
        if (pool == PoolPlace::none) compare<TypeParam>({4, 1, 9, c, 1e-5, act, pool}, 23);
      }
  compare<TypeParam>({5, 16, 16, 32, 1e-12, Activation::relu, PoolPlace::after}, 24);
  compare<TypeParam>({3, 31, 31, 64, 1e-12, Activation::gelu, PoolPlace::before}, 25);
  compare<TypeParam>({2, 15, 15, 520, 1e-12, Activation::gelu, PoolPlace::none}, 26);
}

/// So many positions that the passes that write come in two rounds of blocks, whose ranges are not all of one length.
TEST_F(NormCuda, SeveralRoundsOfBlocksTakeEveryPositionOnce) {
  compare<float>({1, 1351, 1001, 1, 1e-5, Activation::relu, PoolPlace::none}, 27);
}

TYPED_TEST(NormCudaTyped, OrderOfThreadsChangesNoBit) {
  const NormDims d{3, 13, 12, 24, 1e-5, Activation::silu, PoolPlace::after};
  const Inputs in(d, 31);
  const Results first = on_device<TypeParam>(d, in);
  in_every_emulated_mode([&] { EXPECT_TRUE(on_device<TypeParam>(d, in) == first); });
}

TYPED_TEST(NormCudaTyped, VarianceSurvivesAFarMean) {
  for (const PoolPlace pool : pools)
    for (const double mean : {1e3, 1e4, -3e4}) {
      const NormDims d{16, 16, 16, 8, 1e-12, Activation::none, pool};
      Inputs in(d, 41, mean, 1);
      in.x[0] = in.x[8] = static_cast<float>(mean + 1e4);  // an outlier in the first chunk must not spoil the rest
      const Results got = on_device<TypeParam>(d, in), want = reference_of<TypeParam>(d, in);
      expect_near(got.mean, want.mean, 0, 1.2e-7, "mean");
      expect_near(got.variance, want.variance, 0, 1e-6, "variance");
    }
}

TYPED_TEST(NormCudaTyped, ConstantChannelHasVarianceZero) {
  const NormDims d{8, 9, 9, 16, 1e-12, Activation::none, PoolPlace::none};
  Inputs in(d, 43);
  for (float& x : in.x) x = 1000.1f;
  const Results r = on_device<TypeParam>(d, in);
  for (size_t c = 0; c < 16; ++c) {
    EXPECT_EQ(r.mean[c], static_cast<double>(to_float(from_float<TypeParam>(1000.1f))));
    EXPECT_TRUE(r.variance[c] <= 1e-14);
  }
}

TYPED_TEST(NormCudaTyped, TiesGoToTheFirstAndNanWins) {
  const float nan = std::numeric_limits<float>::quiet_NaN();
  for (const PoolPlace pool : {PoolPlace::before, PoolPlace::after}) {
    const NormDims d{1, 2, 8, 1, 1e-5, Activation::none, pool};
    Inputs in(d, 51);
    in.x = {1, 1, 0, 2, 0, 0, 0, 0,  //
            1, 1, 2, 2, 0, 3, 3, 3};
    const std::vector<uint8_t> least{0, 0, 0, 0}, most{0, 1, 3, 2};
    for (const float gamma : {2.0f, -2.0f, 0.0f}) {
      in.gamma = {gamma};
      EXPECT_EQ(on_device<TypeParam>(d, in).index, pool == PoolPlace::after && gamma <= 0 ? least : most) << gamma;
    }
    in.gamma = {1};
    in.x[1] = nan, in.x[2] = nan, in.x[10] = nan;
    const Results r = on_device<TypeParam>(d, in);
    EXPECT_EQ(r.index, (std::vector<uint8_t>{1, 2, 3, 2}));
    for (const double y : r.y) EXPECT_TRUE(std::isnan(y));  // the statistics are NaN
  }
}

TYPED_TEST(NormCudaTyped, EvalPassesNanThroughItsWindowOnly) {
  for (const Activation act : acts)
    for (const PoolPlace pool : pools) {
      const NormDims d{1, 2, 4, 17, 1e-5, act, pool};
      std::vector<float> values = normal<float>(d.in_rows() * d.c, 52);
      values[17] = std::numeric_limits<float>::quiet_NaN();
      OnDevice<TypeParam> x(stored<TypeParam>(values)), y(d.out_rows() * d.c);
      OnDevice<float> mean(std::vector<float>(17, 0)), variance(std::vector<float>(17, 1));
      OnDevice<uint8_t> workspace(static_cast<int64_t>(cuda::norm_workspace<TypeParam>(d)));
      cuda::norm_eval<TypeParam>(d, {x, nullptr, nullptr, mean, variance, y, workspace}, stream());
      int nans = 0;
      for (const double v : as_doubles(y.values())) nans += std::isnan(v);
      EXPECT_EQ(nans, 1) << int(act) << " " << int(pool);
    }
}

TYPED_TEST(NormCudaTyped, BackwardMayWriteOverItsInputs) {
  using T = TypeParam;
  for (const PoolPlace pool : pools) {
    const NormDims d{3, 7, 6, 24, 1e-5, Activation::relu, pool};
    const Inputs in(d, 61);
    const Results want = on_device<T>(d, in);
    const auto floats = [](const std::vector<double>& v) { return std::vector<float>(v.begin(), v.end()); };
    for (const bool over_x : {true, false}) {
      if (!over_x && pool != PoolPlace::none) continue;
      OnDevice<T> x(stored<T>(in.x)), dy(stored<T>(in.dy)), pooled(stored<T>(floats(want.pooled)));
      OnDevice<float> gamma(in.gamma), beta(in.beta), mean(floats(want.mean)), rstd(floats(want.rstd));
      OnDevice<uint8_t> index(want.index), workspace(static_cast<int64_t>(cuda::norm_workspace<T>(d)));
      T* dx = over_x ? x.data() : dy.data();
      cuda::norm_backward<T>(d, {x, pooled, index, dy, gamma, beta, mean, rstd, dx, nullptr, nullptr, workspace},
                             stream());
      EXPECT_EQ(as_doubles((over_x ? x : dy).values()), want.dx);
    }
  }
}

TYPED_TEST(NormCudaTyped, ForwardWithoutSavedWinnersGivesTheSameOutput) {
  using T = TypeParam;
  for (const Activation act : {Activation::relu, Activation::gelu})
    for (const PoolPlace pool : {PoolPlace::before, PoolPlace::after}) {
      const NormDims d{3, 7, 6, 24, 1e-5, act, pool};
      const Inputs in(d, 62);
      OnDevice<T> x(stored<T>(in.x)), y(d.out_rows() * d.c);
      OnDevice<float> gamma(in.gamma), beta(in.beta), mean(d.c), variance(d.c), rstd(d.c);
      OnDevice<uint8_t> workspace(static_cast<int64_t>(cuda::norm_workspace<T>(d)));
      cuda::norm_forward<T>(d, {x, gamma, beta, y, mean, variance, rstd, nullptr, nullptr, workspace}, stream());
      EXPECT_EQ(as_doubles(y.values()), on_device<T>(d, in).y);
    }
}

TYPED_TEST(NormCudaTyped, ActivationsOverTheWholeRange) {
  using T = TypeParam;
  for (const Activation act : {Activation::gelu, Activation::silu}) {
    const NormDims d{1, 1, 20001, 1, 0, act, PoolPlace::none};  // the affine map is the identity
    std::vector<float> values(20001);
    for (int i = 0; i < 20001; ++i) values[i] = static_cast<float>((i - 10000) * 1e-3 * (i % 7 == 0 ? 30 : 1));
    OnDevice<T> x(stored<T>(values)), y(20001);
    OnDevice<float> zero(std::vector<float>{0}), one(std::vector<float>{1});
    OnDevice<uint8_t> workspace(static_cast<int64_t>(cuda::norm_workspace<T>(d)));
    cuda::norm_eval<T>(d, {x, nullptr, nullptr, zero, one, y, workspace}, stream());
    const std::vector<double> at = as_doubles(x.values()), got = as_doubles(y.values());
    for (size_t i = 0; i < got.size(); ++i) {
      const double v = at[i];
      const double want = act == Activation::gelu ? v / 2 * std::erfc(-v / std::sqrt(2.0)) : v / (1 + std::exp(-v));
      const double fit = sizeof(T) == 2 && act == Activation::gelu ? 1.8e-5 : 3e-7;
      ASSERT_TRUE(std::abs(got[i] - want) <= fit * std::max(1.0, std::abs(v)) + 1.01 * half_ulp<T>() * std::abs(want))
          << v << " gives " << got[i];
    }
  }
}

TEST_F(NormCuda, TheGradientOfAPoolNeedsItsWinners) {
  const NormDims d{1, 2, 2, 1, 1e-5, Activation::none, PoolPlace::before};
  EXPECT_THROW(cuda::norm_backward<float>(d, {}, stream()), std::runtime_error);
}

}  // namespace
}  // namespace ranvier::kernels

#endif
