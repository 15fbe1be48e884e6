// Fused batch norm: the reference against closed forms and central differences, the fast passes against the reference.
#include "kernels/norm/norm.h"

#include <limits>
#include <stdexcept>

#include "tests/guarded.h"

namespace ranvier::kernels {
namespace {
using namespace test;

constexpr Activation acts[] = {Activation::none, Activation::relu, Activation::gelu, Activation::silu};
constexpr PoolPlace pools[] = {PoolPlace::none, PoolPlace::before, PoolPlace::after};

template <class T>
struct Inputs {
  std::vector<T> x, gamma, beta, dy;
  explicit Inputs(const NormDims& d, unsigned seed, double mean = 0.3, double deviation = 1.7)
      : x(normal<T>(d.in_rows() * d.c, seed, mean, deviation)),
        gamma(normal<T>(d.c, seed + 1, 0.2, 1)),
        beta(normal<T>(d.c, seed + 2, 0, 0.5)),
        dy(normal<T>(d.out_rows() * d.c, seed + 3)) {}
};

template <class T>
struct Results {
  std::vector<T> y, mean, variance, rstd, pooled, dx, dgamma, dbeta, picked_dx, eval_y;
  std::vector<uint8_t> index;
};

/// Forward, backward (with the saved winners and without), evaluation; `Fast` chooses cpu or reference.
template <bool Fast, class T>
Results<T> run(const NormDims& d, const Inputs<T>& in) {
  const int64_t ins = d.in_rows() * d.c, outs = d.out_rows() * d.c;
  const bool pool = d.pool != PoolPlace::none;
  Guarded<T> y(outs), mean(d.c), variance(d.c), rstd(d.c), pooled(pool ? outs : 0), dx(ins), dgamma(d.c), dbeta(d.c),
      picked_dx(ins), eval_y(outs);
  Guarded<uint8_t> index(pool ? outs : 0), workspace(static_cast<int64_t>(norm_workspace(d)));
  T* z = pool ? pooled.data() : nullptr;
  uint8_t* at = pool ? index.data() : nullptr;
  const NormForward<T> forward{in.x.data(), in.gamma.data(), in.beta.data(), y, mean, variance, rstd, z, at, workspace};
  const NormBackward<T> backward{d.pool == PoolPlace::before ? nullptr : in.x.data(),
                                 z,
                                 at,
                                 in.dy.data(),
                                 in.gamma.data(),
                                 in.beta.data(),
                                 mean,
                                 rstd,
                                 dx,
                                 dgamma,
                                 dbeta,
                                 workspace};
  NormBackward<T> picking = backward;
  picking.x = in.x.data(), picking.pooled = nullptr, picking.dx = picked_dx, picking.dgamma = picking.dbeta = nullptr;
  const NormEval<T> eval{in.x.data(), in.gamma.data(), in.beta.data(), mean, variance, eval_y, workspace};
  if constexpr (Fast) {
    cpu::norm_forward(d, forward), cpu::norm_backward(d, backward), cpu::norm_backward(d, picking),
        cpu::norm_eval(d, eval);
  } else {
    reference::norm_forward(d, forward), reference::norm_backward(d, backward), reference::norm_backward(d, picking);
    reference::norm_eval(d, eval);
  }
  return {y.values(),      mean.values(),  variance.values(),  rstd.values(),   pooled.values(), dx.values(),
          dgamma.values(), dbeta.values(), picked_dx.values(), eval_y.values(), index.values()};
}

/// sum(y dy) as a function of the inputs, in f64.
double loss(const NormDims& d, const Inputs<double>& in) {
  const auto r = run<false>(d, in);
  double sum = 0;
  for (size_t i = 0; i < r.y.size(); ++i) sum += r.y[i] * in.dy[i];
  return sum;
}

TEST(Norm, ReferenceGradientsEqualCentralDifferences) {
  for (const Activation act : acts)
    for (const PoolPlace pool : pools) {
      const NormDims d{2, 5, 4, 3, 1e-5, act, pool};
      Inputs<double> in(d, 11);
      const auto r = run<false>(d, in);
      const auto check = [&](std::vector<double>& values, const std::vector<double>& gradient, const char* what) {
        for (size_t i = 0; i < values.size(); ++i) {
          const double at = values[i], step = 1e-5;
          values[i] = at + step;
          const double up = loss(d, in);
          values[i] = at - step;
          const double down = loss(d, in);
          values[i] = at;
          const double error = std::abs((up - down) / (2 * step) - gradient[i]);
          ASSERT_TRUE(error <= 1e-6 * std::max(1.0, std::abs(gradient[i])))
              << what << "[" << i << "] act " << int(act) << " pool " << int(pool) << " error " << error;
        }
      };
      check(in.x, r.dx, "dx"), check(in.gamma, r.dgamma, "dgamma"), check(in.beta, r.dbeta, "dbeta");
      expect_near(r.picked_dx, r.dx, 0, 0, "dx with winners picked from x");
    }
}

TEST(Norm, ClosedForm) {
  // Channel values 1, 2, 3, 6: mean 3, variance 3.5.
  const NormDims d{1, 2, 2, 1, 0.5, Activation::none, PoolPlace::none};
  Inputs<double> in(d, 1);
  in.x = {1, 2, 3, 6}, in.gamma = {4}, in.beta = {-1};
  const auto r = run<false>(d, in);
  EXPECT_DOUBLE_EQ(r.mean[0], 3);
  EXPECT_DOUBLE_EQ(r.variance[0], 3.5);
  EXPECT_DOUBLE_EQ(r.rstd[0], 0.5);
  expect_near(r.y, std::vector<double>{-5, -3, -1, 5}, 1e-15, 0, "y");
  const NormDims pooled{1, 2, 2, 1, 0.5, Activation::gelu, PoolPlace::after};
  const auto p = run<false>(pooled, in);
  EXPECT_NEAR(p.y[0], 5 * 0.5 * std::erfc(-5 / std::sqrt(2.0)), 1e-15);
  EXPECT_EQ(p.index[0], 3);
}

void compare(const NormDims& d, unsigned seed) {
  SCOPED_TRACE(testing::Message() << d.n << "x" << d.h << "x" << d.w << "x" << d.c << " act " << int(d.act) << " pool "
                                  << int(d.pool));
  const Inputs<float> in(d, seed);
  Inputs<double> exact(d, seed);
  const auto widen = [](const std::vector<float>& from) { return std::vector<double>(from.begin(), from.end()); };
  exact.x = widen(in.x), exact.gamma = widen(in.gamma), exact.beta = widen(in.beta), exact.dy = widen(in.dy);
  const auto fast = run<true>(d, in);
  const auto want = run<false>(d, exact);
  expect_near(fast.mean, want.mean, 1e-7, 1e-6, "mean");
  expect_near(fast.variance, want.variance, 1e-9, 1e-6, "variance");
  expect_near(fast.rstd, want.rstd, 0, 1e-6, "rstd");
  expect_near(fast.y, want.y, 4e-6, 1e-6, "y");
  expect_near(fast.eval_y, want.eval_y, 4e-6, 1e-6, "eval y");
  expect_near(fast.pooled, want.pooled, 0, 0, "pooled");
  ASSERT_EQ(fast.index, want.index);
  const double scale = 1e-5 * std::sqrt(double(d.out_rows()));
  expect_near(fast.dbeta, want.dbeta, scale, 1e-5, "dbeta");
  expect_near(fast.dgamma, want.dgamma, scale, 1e-5, "dgamma");
  double most = 1;
  for (const double r : want.rstd) most = std::max(most, r);
  expect_near(fast.dx, want.dx, 1e-5 * most, 1e-5, "dx");
  expect_near(fast.picked_dx, want.dx, 1e-5 * most, 1e-5, "dx with winners picked from x");
}

TEST(Norm, FastEqualsReference) {
  for (const Activation act : acts)
    for (const PoolPlace pool : pools)
      for (const int64_t c : {1, 3, 10, 16, 17, 64, 100}) {
        compare({3, 7, 5, c, 1e-5, act, pool}, 20);
        compare({2, 4, 6, c, 1e-5, act, pool}, 21);
        compare({5, 2, 3, c, 1e-5, act, pool}, 22);
        if (pool == PoolPlace::none) compare({4, 1, 9, c, 1e-5, act, pool}, 23);
      }
  compare({33, 16, 16, 32, 1e-12, Activation::relu, PoolPlace::after}, 24);
  compare({9, 31, 31, 64, 1e-12, Activation::gelu, PoolPlace::before}, 25);
}

TEST(Norm, ThreadsDoNotChangeBits) {
  for (const Activation act : acts)
    for (const PoolPlace pool : pools) {
      const NormDims d{11, 13, 12, 40, 1e-5, act, pool};
      const Inputs<float> in(d, 31);
      Results<float> one, two, three;
      with_threads(1, [&] { one = run<true>(d, in); });
      with_threads(2, [&] { two = run<true>(d, in); });
      with_threads(3, [&] { three = run<true>(d, in); });
      for (const auto* other : {&two, &three}) {
        expect_same_bits(one.y, other->y, "y"), expect_same_bits(one.mean, other->mean, "mean");
        expect_same_bits(one.rstd, other->rstd, "rstd"), expect_same_bits(one.dx, other->dx, "dx");
        expect_same_bits(one.dgamma, other->dgamma, "dgamma"), expect_same_bits(one.dbeta, other->dbeta, "dbeta");
      }
    }
}

TEST(Norm, VarianceSurvivesAFarMean) {
  for (const PoolPlace pool : pools)
    for (const double mean : {1e3, 1e4, -3e5}) {
      const NormDims d{16, 16, 16, 20, 1e-12, Activation::none, pool};
      Inputs<float> in(d, 41, mean, 1);
      in.x[0] = in.x[d.c] = static_cast<float>(mean + 1e4);  // an outlier in the first block must not spoil the rest
      Inputs<double> exact(d, 41);
      exact.x.assign(in.x.begin(), in.x.end());
      const auto fast = run<true>(d, in);
      const auto want = run<false>(d, exact);
      expect_near(fast.mean, want.mean, 0, 1.2e-7, "mean");
      expect_near(fast.variance, want.variance, 0, 1e-6, "variance");
    }
}

TEST(Norm, ConstantChannelHasVarianceZero) {
  const NormDims d{8, 9, 9, 18, 1e-12, Activation::none, PoolPlace::none};
  Inputs<float> in(d, 43);
  for (size_t i = 0; i < in.x.size(); ++i) in.x[i] = 1000.1f;
  const auto r = run<true>(d, in);
  for (int64_t c = 0; c < d.c; ++c) {
    EXPECT_EQ(r.mean[c], 1000.1f);
    EXPECT_TRUE(r.variance[c] <= 1e-14f);
  }
}

TEST(Norm, TiesGoToTheFirstAndNanWins) {
  const float nan = std::numeric_limits<float>::quiet_NaN();
  for (const PoolPlace pool : {PoolPlace::before, PoolPlace::after}) {
    const NormDims d{1, 2, 8, 1, 1e-5, Activation::none, pool};
    Inputs<float> in(d, 51);
    in.x = {1, 1, 0, 2, 0, 0, 0, 0,  //
            1, 1, 2, 2, 0, 3, 3, 3};
    in.gamma = {2};
    EXPECT_EQ(run<true>(d, in).index, (std::vector<uint8_t>{0, 1, 3, 2}));
    EXPECT_EQ(run<false>(d, in).index, (std::vector<uint8_t>{0, 1, 3, 2}));
    in.gamma = {-2};  // `after` now prefers the least
    const std::vector<uint8_t> least{0, 0, 0, 0}, most{0, 1, 3, 2};
    EXPECT_EQ(run<true>(d, in).index, pool == PoolPlace::after ? least : most);
    EXPECT_EQ(run<false>(d, in).index, pool == PoolPlace::after ? least : most);
    in.gamma = {0};
    EXPECT_EQ(run<true>(d, in).index, pool == PoolPlace::after ? least : most);
    EXPECT_EQ(run<false>(d, in).index, pool == PoolPlace::after ? least : most);
    in.gamma = {1};
    in.x[1] = nan, in.x[2] = nan, in.x[10] = nan;
    for (const auto& r : {run<true>(d, in), run<false>(d, in)}) {
      EXPECT_EQ(r.index, (std::vector<uint8_t>{1, 2, 3, 2}));
      for (const float y : r.y) EXPECT_TRUE(std::isnan(y));  // the statistics are NaN
    }
  }
}

TEST(Norm, EvalPassesNanThroughItsWindowOnly) {
  const float nan = std::numeric_limits<float>::quiet_NaN();
  for (const Activation act : acts)
    for (const PoolPlace pool : pools) {
      const NormDims d{1, 2, 4, 17, 1e-5, act, pool};
      std::vector<float> x = normal<float>(d.in_rows() * d.c, 52), mean(d.c, 0), variance(d.c, 1);
      x[d.c] = nan;
      Guarded<float> y(d.out_rows() * d.c);
      Guarded<uint8_t> workspace(static_cast<int64_t>(norm_workspace(d)));
      cpu::norm_eval(d, {x.data(), nullptr, nullptr, mean.data(), variance.data(), y, workspace});
      int nans = 0;
      for (const float v : y.values()) nans += std::isnan(v);
      EXPECT_EQ(nans, 1) << int(act) << " " << int(pool);
    }
}

TEST(Norm, BackwardMayWriteOverItsInput) {
  for (const PoolPlace pool : {PoolPlace::none, PoolPlace::after}) {
    const NormDims d{3, 7, 6, 20, 1e-5, Activation::relu, pool};
    Inputs<float> in(d, 61);
    const auto want = run<true>(d, in);
    Guarded<uint8_t> workspace(static_cast<int64_t>(norm_workspace(d)));
    const bool pooled = pool != PoolPlace::none;
    cpu::norm_backward(
        d, {in.x.data(), nullptr, pooled ? want.index.data() : nullptr, in.dy.data(), in.gamma.data(), in.beta.data(),
            want.mean.data(), want.rstd.data(), in.x.data(), nullptr, nullptr, workspace});
    expect_same_bits(in.x, want.picked_dx, "dx over x");
  }
}

TEST(Norm, ForwardWithoutSavedWinnersGivesTheSameOutput) {
  for (const PoolPlace pool : {PoolPlace::before, PoolPlace::after}) {
    const NormDims d{3, 7, 6, 20, 1e-5, Activation::relu, pool};
    const Inputs<float> in(d, 62);
    const auto want = run<true>(d, in);
    Guarded<float> y(d.out_rows() * d.c), mean(d.c), variance(d.c), rstd(d.c);
    Guarded<uint8_t> workspace(static_cast<int64_t>(norm_workspace(d)));
    cpu::norm_forward(
        d, {in.x.data(), in.gamma.data(), in.beta.data(), y, mean, variance, rstd, nullptr, nullptr, workspace});
    expect_same_bits(y.values(), want.y, "y");
  }
}

TEST(Norm, ActivationsOverTheWholeRange) {
  // The affine map is the identity, so the pass shows the activation and, through dy = 1 in eval-like statistics, no
  // more.
  for (const Activation act : {Activation::gelu, Activation::silu}) {
    const NormDims d{1, 1, 20001, 1, 0, act, PoolPlace::none};
    std::vector<float> x(20001), zero(1, 0), one(1, 1);
    for (int i = 0; i < 20001; ++i) x[i] = static_cast<float>((i - 10000) * 1e-3 * (i % 7 == 0 ? 30 : 1));
    Guarded<float> y(20001);
    Guarded<uint8_t> workspace(static_cast<int64_t>(norm_workspace(d)));
    cpu::norm_eval(d, {x.data(), nullptr, nullptr, zero.data(), one.data(), y, workspace});
    for (int i = 0; i < 20001; ++i) {
      const double v = x[i],
                   want = act == Activation::gelu ? v / 2 * std::erfc(-v / std::sqrt(2.0)) : v / (1 + std::exp(-v));
      ASSERT_TRUE(std::abs(y[i] - want) <= 2.4e-7 * std::max(1.0, std::abs(v))) << v << " gives " << y[i];
    }
  }
}

TEST(Norm, RunningStatistics) {
  const std::vector<double> mean{2}, variance{3}, running_mean{10}, running_variance{20};
  std::vector<double> next_mean(1), next_variance(1);
  norm_running_update<double>(1, 4, 0.4, mean.data(), variance.data(), running_mean.data(), running_variance.data(),
                              next_mean.data(), next_variance.data());
  EXPECT_DOUBLE_EQ(next_mean[0], 0.6 * 10 + 0.4 * 2);
  EXPECT_DOUBLE_EQ(next_variance[0], 0.6 * 20 + 0.4 * 4);
}

TEST(Norm, BadDimensionsAreNamed) {
  const auto message = [](const NormDims& d) -> std::string {
    try {
      validate(d);
    } catch (const std::runtime_error& e) {
      return e.what();
    }
    return "";
  };
  EXPECT_EQ(message({4, 8, 8, 3}), "");
  EXPECT_EQ(message({0, 8, 8, 3}), "norm: batch is 0, needs at least 1");
  EXPECT_EQ(message({4, 8, 1, 3, 1e-5, Activation::none, PoolPlace::after}), "norm: width is 1, needs at least 2");
}

}  // namespace
}  // namespace ranvier::kernels
