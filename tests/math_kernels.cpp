// Tests of the elementary functions: error in ulp against long double libm, domain edges, and equal bits in vector
// loops.
#include "kernels/common/math.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <random>
#include <vector>

namespace {

using namespace ranvier::kernels;
using Oracle = long double (*)(long double);

/// Distance of `value` from `exact` in units in the last place of T at `exact`; equal infinities and NaNs count 0.
template <class T>
long double ulp_error(T value, long double exact) {
  const T rounded = static_cast<T>(exact);
  if (std::isnan(rounded)) return std::isnan(value) ? 0.0L : INFINITY;
  if (std::isinf(rounded) || std::isinf(value)) return value == rounded ? 0.0L : INFINITY;
  int exponent = 0;
  std::frexp(rounded, &exponent);
  const long double ulp = std::max<long double>(std::ldexp(1.0L, exponent - std::numeric_limits<T>::digits),
                                                std::numeric_limits<T>::denorm_min());
  const long double error = std::fabs(static_cast<long double>(value) - exact) / ulp;
  return std::isnan(error) ? INFINITY : error;
}

struct Range {
  double low, high;
  bool powers = false;  ///< draw sign * 2^u instead of u
};

template <class T>
std::vector<T> samples(Range range, int count) {
  std::mt19937_64 generator(1);
  std::uniform_real_distribution<double> uniform(range.low, range.high);
  std::vector<T> x(count);
  for (T& value : x) {
    const double u = uniform(generator);
    value = static_cast<T>(range.powers ? std::exp2(u) * (generator() & 1 ? 1 : -1) : u);
  }
  return x;
}

template <class T>
struct Function {
  const char* name;
  void (*vector)(int64_t, const T*, T*);  ///< a loop that the compiler vectorises
  T (*scalar)(T);
  Oracle oracle;
  std::vector<Range> ranges;
};

#define RANVIER_FUNCTION(T, name, oracle, ...)                                        \
  Function<T> {                                                                       \
#name,                                                                              \
        [](int64_t n, const T* x, T* y) {                                               \
          _Pragma("omp simd") for (int64_t i = 0; i < n; ++i) y[i] = math::name(x[i]);  \
        },                                                                              \
        [](T x) { return math::name(x); }, oracle, __VA_ARGS__ \
  }

long double exact_sigmoid(long double x) { return 1.0L / (1.0L + expl(-x)); }

template <class T>
std::vector<Function<T>> functions() {
  const bool single = sizeof(T) == 4;
  const double top = single ? 90 : 712, bottom = single ? -104.5 : -746.5, bound = math::Format<T>::trig_bound;
  using R = std::vector<Range>;
  return {
      RANVIER_FUNCTION(T, exp, expl, R{{-1, 1}, {bottom, top}, {bottom, single ? -86.0 : -707.0}}),
      RANVIER_FUNCTION(T, expm1, expm1l, R{{-2, 2}, {-60, top}, {-140, 3, true}}),
      RANVIER_FUNCTION(T, log, logl, R{{0, 4}, {0.98, 1.02}, {0, 1e30}, {single ? -149.0 : -1074.0, 0, true}}),
      RANVIER_FUNCTION(T, log1p, log1pl, R{{-1, 4}, {-0.01, 0.01}, {-140, -1, true}, {0, 1e30}}),
      RANVIER_FUNCTION(T, tanh, tanhl, R{{-1, 1}, {-25, 25}, {-140, 5, true}}),
      RANVIER_FUNCTION(T, sigmoid, exact_sigmoid, R{{-4, 4}, {bottom, -bottom}}),
      RANVIER_FUNCTION(T, erf, erfl, R{{-1.2, 1.2}, {-7, 7}, {-140, 3, true}}),
      RANVIER_FUNCTION(T, sin_bounded, sinl, R{{-4, 4}, {-bound, bound}, {-140, 3, true}}),
      RANVIER_FUNCTION(T, cos_bounded, cosl, R{{-4, 4}, {-bound, bound}, {-140, 3, true}}),
      RANVIER_FUNCTION(T, sin, sinl, R{{16, 60, true}}),
      RANVIER_FUNCTION(T, cos, cosl, R{{16, 60, true}}),
  };
}

template <class T>
class Math : public testing::Test {};
using Types = testing::Types<float, double>;
TYPED_TEST_SUITE(Math, Types);

TYPED_TEST(Math, StaysWithinTwoUlpAndGivesTheSameBitsInVectors) {
  using T = TypeParam;
  for (const Function<T>& function : functions<T>()) {
    for (const Range& range : function.ranges) {
      const std::vector<T> x = samples<T>(range, 100003);
      std::vector<T> y(x.size());
      function.vector(static_cast<int64_t>(x.size()), x.data(), y.data());
      long double worst = 0;
      T where = 0;
      int64_t different = 0;
      for (size_t i = 0; i < x.size(); ++i) {
        const long double error = ulp_error(y[i], function.oracle(x[i]));
        if (!(error <= worst)) worst = error, where = x[i];
        different += to_bits(y[i]) != to_bits(function.scalar(x[i]));
      }
      EXPECT_LE(worst, 2.0L) << function.name << " at " << where;
      EXPECT_EQ(different, 0) << function.name;
    }
  }
}

TYPED_TEST(Math, FollowsTheEdgesOfTheDomain) {
  using T = TypeParam;
  const T inf = std::numeric_limits<T>::infinity(), nan = std::numeric_limits<T>::quiet_NaN();
  const T tiny = std::numeric_limits<T>::denorm_min(), largest = std::numeric_limits<T>::max();
  for (const T x : {nan, -nan}) {
    for (const Function<T>& function : functions<T>()) EXPECT_TRUE(std::isnan(function.scalar(x))) << function.name;
  }
  EXPECT_EQ(math::exp(T(0)), T(1));
  EXPECT_EQ(math::exp(-inf), T(0));
  EXPECT_EQ(math::exp(inf), inf);
  EXPECT_EQ(math::exp(largest), inf);
  EXPECT_EQ(math::exp(-largest), T(0));
  EXPECT_EQ(math::exp(std::log(tiny)), tiny);
  EXPECT_EQ(math::expm1(-inf), T(-1));
  EXPECT_EQ(math::expm1(inf), inf);
  EXPECT_EQ(math::expm1(largest), inf);
  EXPECT_EQ(math::log(T(1)), T(0));
  EXPECT_EQ(math::log(T(0)), -inf);
  EXPECT_EQ(math::log(T(-0.0)), -inf);
  EXPECT_EQ(math::log(inf), inf);
  EXPECT_TRUE(std::isnan(math::log(-tiny)));
  EXPECT_TRUE(std::isnan(math::log(-inf)));
  EXPECT_EQ(math::log1p(T(-1)), -inf);
  EXPECT_TRUE(std::isnan(math::log1p(std::nextafter(T(-1), T(-2)))));
  EXPECT_EQ(math::log1p(inf), inf);
  EXPECT_LE(ulp_error(math::log1p(largest), log1pl(largest)), 1.0L);
  EXPECT_EQ(math::tanh(inf), T(1));
  EXPECT_EQ(math::tanh(-inf), T(-1));
  EXPECT_EQ(math::tanh(largest), T(1));
  EXPECT_EQ(math::sigmoid(inf), T(1));
  EXPECT_EQ(math::sigmoid(-inf), T(0));
  EXPECT_EQ(math::sigmoid(T(0)), T(0.5));
  EXPECT_EQ(math::erf(inf), T(1));
  EXPECT_EQ(math::erf(-largest), T(-1));
  EXPECT_EQ(math::cos(T(0)), T(1));
  EXPECT_TRUE(std::isnan(math::sin(inf)));
  EXPECT_TRUE(std::isnan(math::cos(-inf)));
  for (const T x : {T(0), T(-0.0), tiny, -tiny, std::numeric_limits<T>::min()}) {
    for (const T y : {math::expm1(x), math::log1p(x), math::tanh(x), math::sin(x)}) {
      EXPECT_EQ(to_bits(y), to_bits(x)) << x;
    }
  }
  EXPECT_TRUE(std::signbit(math::erf(T(-0.0))));
}

TEST(MathLarge, ReducesHugeAnglesExactly) {
  // The f64 whose distance to a multiple of pi / 2 is the smallest relative to it: Muller, Elementary Functions,
  // 11.3. The C library is 8 ulp off here, so the expected value comes from 400-digit arithmetic.
  const double hard = 0x1.6ac5b262ca1ffp+849;
  EXPECT_EQ(math::sin(hard), 1.0);
  EXPECT_LE(ulp_error(math::cos(hard), -4.687165924254627611122583e-19L), 1.5L);
  for (const double x : {1e22, -1e300, 0x1p52, -0x1.fffffffffffffp1023, 1.0000001e9, 0x1p1000, 0x1.23456789abcdep60}) {
    // The C library's f64 sine is within 0.55 ulp away from such worst cases, and shares no code with ours.
    EXPECT_LE(ulp_error(math::sin(x), static_cast<long double>(std::sin(x))), 2.5L) << x;
    EXPECT_LE(ulp_error(math::cos(x), static_cast<long double>(std::cos(x))), 2.5L) << x;
  }
  for (const float x : {1.5e5f, -3e38f, 0x1p100f, 16777216.0f}) {
    EXPECT_LE(ulp_error(math::sin(x), static_cast<long double>(std::sin(double{x}))), 2.0L) << x;
    EXPECT_LE(ulp_error(math::cos(x), static_cast<long double>(std::cos(double{x}))), 2.0L) << x;
  }
}

TYPED_TEST(Math, ArraysEqualTheScalarFunctionsWithAndWithoutHugeValues) {
  using T = TypeParam;
  for (const int count : {0, 1, 7, 256, 257, 1000}) {
    std::vector<T> x = samples<T>({-100, 100}, count), sine(count), cosine(count);
    if (count > 300) x[300] = T(1e20), x[301] = std::numeric_limits<T>::infinity();
    math::sin_array(count, x.data(), sine.data());
    math::cos_array(count, x.data(), cosine.data());
    for (int i = 0; i < count; ++i) {
      EXPECT_EQ(to_bits(sine[i]), to_bits(math::sin(x[i]))) << x[i];
      EXPECT_EQ(to_bits(cosine[i]), to_bits(math::cos(x[i]))) << x[i];
    }
  }
}

TEST(MathTurns, CosineOfWholeTurnsIsExactInItsReduction) {
  EXPECT_EQ(math::cos_turns(0.0f), 1.0f);
  EXPECT_EQ(math::cos_turns(0.25f), 0.0f);
  EXPECT_EQ(math::cos_turns(0.5f), -1.0f);
  EXPECT_EQ(math::cos_turns(0.75f), 0.0f);
  for (uint32_t k = 0; k < (1u << 24); k += 997) {
    const float u = static_cast<float>(k) * 0x1p-24f;
    const long double exact = cosl(2.0L * 3.14159265358979323846264L * u);
    if (k % (1u << 22) == 0) continue;
    EXPECT_LE(ulp_error(math::cos_turns(u), exact), 2.5L) << u;
  }
}

}  // namespace
