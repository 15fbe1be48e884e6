// The Izhikevich arithmetic by itself: lanes against scalars, closed forms against iterations, crossings and bounds.
#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <limits>
#include <random>
#include <vector>

#include "kernels/izhikevich/izhikevich.h"
#include "kernels/izhikevich/pack.h"
#include "kernels/izhikevich/taylor.h"

namespace ranvier::kernels::izhikevich {
namespace {

const Parameters rs2007{100, 0.7, 70, 1680, 0.03, -2, -60, 1, 35, -50, 100};

/// States that a step may meet, and those it should not: NaN, infinities, denormals, signed zeros.
template <class T>
std::vector<T> values(size_t count, unsigned seed, double low, double high) {
  std::mt19937 engine(seed);
  std::uniform_real_distribution<double> draw(low, high);
  std::vector<T> list(count);
  for (T& x : list) x = static_cast<T>(draw(engine));
  using L = std::numeric_limits<T>;
  const T odd[] = {L::quiet_NaN(), L::infinity(), -L::infinity(), L::denorm_min(),
                   T(-0.0),        T(0),          L::max(),       L::lowest()};
  for (size_t i = 0; i < std::size(odd); ++i) list[(i * 37 + seed * 11) % count] = odd[i];
  return list;
}

template <class T>
bool same_bits(T a, T b) {
  return (a != a && b != b) || std::memcmp(&a, &b, sizeof a) == 0;  // the payload of a NaN is nobody's
}

/// `step` on all states, once a lane at a time and once packed.
template <class T, class Step>
void expect_lanes_equal(const char* what, const Step& step) {
  using P = Pack<T>;
  constexpr size_t count = size_t{1} << 16;
  const std::vector<T> v = values<T>(count, 1, -90, 40), u = values<T>(count, 2, -50, 150);
  size_t different = 0;
  for (size_t i = 0; i < count; i += P::lanes) {
    const State<P> packed = step(State<P>{P::load(&v[i]), P::load(&u[i])});
    for (size_t j = 0; j < P::lanes; ++j) {
      const State<T> alone = step(State<T>{v[i + j], u[i + j]});
      different += !same_bits(packed.v.x[j], alone.v) || !same_bits(packed.u.x[j], alone.u);
    }
  }
  EXPECT_EQ(different, 0u) << what << " with " << P::lanes << " lanes";
}

template <class T, class Method>
void expect_method_lanes(const char* what, const Method& method) {
  expect_lanes_equal<T>(what, [&]<class R>(State<R> y) {
    const Field<R, Ramp<R>> field{rates<R>(rs2007), {constant<R>(drive(rs2007, 70)), constant<R>(0.01)}};
    return method(field, y, Length<R>::whole(0.1));
  });
  expect_lanes_equal<T>(what, [&]<class R>(State<R> y) {
    const Field<R> field{rates<R>(Parameters{}), {constant<R>(drive(Parameters{}, 10))}};
    return method(field, y, Length<R>::whole(0.5));
  });
}

template <class T>
void expect_all_lanes() {
  expect_method_lanes<T>("euler", Euler{});
  expect_method_lanes<T>("izhikevich", SemiImplicit{});
  expect_method_lanes<T>("midpoint", Midpoint{});
  expect_method_lanes<T>("rk4", Rk4{});
  expect_method_lanes<T>("backward-euler", BackwardEuler{});
  expect_method_lanes<T>("linear-implicit", LinearImplicit{});
  expect_method_lanes<T>("exponential", Exponential{5});
  expect_lanes_equal<T>("ab2", []<class R>(State<R> y) {
    return adams_bashforth(y, State<R>{y.u, y.v}, State<R>{y.v, y.u}, Length<R>::whole(0.1));
  });
  expect_lanes_equal<T>("published:2004", []<class R>(State<R> y) {
    typename Lanes<R>::Mask fired;
    R above;
    const auto k = printed<R>(Parameters{});
    return published_2004(k, reset<R>(Parameters{}), y, constant<R>(10), constant<R>(0.25), fired, above);
  });
  expect_lanes_equal<T>("published:2003", []<class R>(State<R> y) {
    typename Lanes<R>::Mask fired;
    y = published_2003_reset(reset<R>(Parameters{}), y, fired);
    return published_2003_update(printed<R>(Parameters{}), y, constant<R>(10), constant<R>(1));
  });
  expect_lanes_equal<T>("reset on the grid", []<class R>(State<R> y) {
    typename Lanes<R>::Mask fired;
    return grid_reset(reset<R>(Parameters{}), y, fired);
  });
}

TEST(NeuronKernels, PackedF32IsScalarF32) { expect_all_lanes<float>(); }
TEST(NeuronKernels, PackedF64IsScalarF64) { expect_all_lanes<double>(); }

TEST(NeuronKernels, MasksAreBits) {
  Pack<float> a(1.0f);
  a.x[3] = -1, a.x[15] = -1, a.x[7] = std::nanf("");
  EXPECT_EQ(bits(a < Pack<float>(0.0f)), 0x8008u);
  EXPECT_EQ(bits(!(a < Pack<float>(2.0f))), 0x0080u);
  Pack<double> b(1.0);
  b.x[0] = -1, b.x[7] = -1;
  EXPECT_EQ(bits(b < Pack<double>(0.0)), 0x81u);
}

TEST(NeuronKernels, ExpressionsOfThePrintedScripts) {
  const Parameters p;
  const auto k = printed<double>(p);
  for (double v = -90; v < 40; v += 0.37) {
    const double u = -14 + v / 7, I = 7.04, h = 0.2;
    bool fired;
    double above;
    const State<double> y = published_2004(k, reset<double>(p), {v, u}, I, h, fired, above);
    volatile double square = 0.04 * (v * v), line = 5 * v;  // volatile: one rounding each
    volatile double sum = square + line;
    sum = sum + 140;
    sum = sum - u;
    sum = sum + I;
    volatile double new_v = h * sum;
    new_v = v + new_v;
    volatile double bv = 0.2 * new_v, ha = h * 0.02;
    volatile double change = ha * (bv - u);
    EXPECT_EQ(above, new_v);
    EXPECT_EQ(fired, new_v > 30);
    EXPECT_EQ(y.v, new_v > 30 ? -65 : new_v);
    EXPECT_EQ(y.u, new_v > 30 ? u + change + 8 : u + change);
  }
}

/// Row 7 of the published results: the closed form against Newton's iteration on the same equations.
TEST(NeuronKernels, BackwardEulerClosedFormIsNewtons) {
  std::mt19937 engine(3);
  std::uniform_real_distribution<double> draw_v(-85, 20), draw_u(-60, 120), draw_h(0.01, 0.5), draw_i(-50, 300);
  int solved = 0;
  for (int n = 0; n < 20000; ++n) {
    const double v0 = draw_v(engine), u0 = draw_u(engine), h = draw_h(engine);
    const Field<double> f{rates<double>(rs2007), {drive(rs2007, draw_i(engine))}};
    const State<double> y1 = BackwardEuler{}(f, {v0, u0}, Length<double>::whole(h));
    double v = v0 + h * f({v0, u0}, 0).v, u = u0 + h * f({v0, u0}, 0).u;
    bool converged = false;
    for (int i = 0; i < 100 && !converged; ++i) {
      const State<double> k = f({v, u}, h);
      const double rv = v - v0 - h * k.v, ru = u - u0 - h * k.u;
      const double a = 1 - h * f.dv_dv(v), b = h * f.k.w, c = -h * f.k.ab, d = 1 + h * f.k.ae, det = a * d - b * c;
      const double dv = (rv * d - b * ru) / det, du = (a * ru - c * rv) / det;
      v -= dv, u -= du;
      converged = std::abs(dv) < 1e-12 && std::abs(du) < 1e-12;
    }
    if (std::isnan(y1.v)) {
      EXPECT_FALSE(converged) << v0 << " " << u0 << " " << h;
      continue;
    }
    // Newton from forward Euler may find the far root; the residual decides for every one.
    const State<double> k = f(y1, h);
    EXPECT_NEAR(y1.v - v0 - h * k.v, 0, 1e-9);
    EXPECT_NEAR(y1.u - u0 - h * k.u, 0, 1e-9);
    if (!converged || 1 - h * f.dv_dv(v) <= 1e-3) continue;
    EXPECT_NEAR(y1.v, v, 1e-9);
    EXPECT_NEAR(y1.u, u, 1e-9);
    ++solved;
  }
  EXPECT_GT(solved, 15000);
}

TEST(NeuronKernels, BackwardEulerWithoutARootIsNaN) {
  const Field<double> f{rates<double>(rs2007), {drive(rs2007, 70)}};
  const State<double> y = BackwardEuler{}(f, {0, 0}, Length<double>::whole(2));
  EXPECT_TRUE(std::isnan(y.v));
  // where 1 - h p1 is negative (2003, h > 0.2) the root is still the one that tends to v
  const Field<double> g{rates<double>(Parameters{}), {drive(Parameters{}, 0)}};
  State<double> fine{-65, -13};
  for (int i = 0; i < 1000; ++i) fine = Rk4{}(g, fine, Length<double>::whole(1e-3));
  EXPECT_NEAR(BackwardEuler{}(g, {-65, -13}, Length<double>::whole(1)).v, fine.v, 1.5);
}

TEST(NeuronKernels, LinearImplicitBeyondItsPoleIsNaN) {
  const Field<double> f{rates<double>(rs2007), {drive(rs2007, 70)}};
  EXPECT_FALSE(std::isnan(LinearImplicit{}(f, {-40, 0}, Length<double>::whole(1)).v));
  EXPECT_TRUE(std::isnan(LinearImplicit{}(f, {34, 0}, Length<double>::whole(1)).v));
}

/// phi_1 by its definition, in long double: sum of Z^k / (k + 1)!.
/// As many doublings as |Z| <= 1 takes, and `more`.
void expect_phi(double tolerance, int more, auto zero) {
  using T = decltype(zero);
  double worst = 0;
  for (double j = -9; j <= 6; j += 0.51) {
    for (const double w : {0.0, 0.01, 1.0}) {
      for (const double ab : {-0.06, 0.0, 0.004, 0.2}) {
        for (const double h : {0.01, 0.1, 0.5}) {
          const double ae = 0.03;
          const long double z[2][2] = {{h * j, -h * w}, {h * ab, -h * ae}};
          long double term[2][2] = {{1, 0}, {0, 1}}, sum[2][2] = {{1, 0}, {0, 1}};
          for (int k = 1; k < 60; ++k) {
            long double next[2][2];
            for (int a = 0; a < 2; ++a)
              for (int b = 0; b < 2; ++b) next[a][b] = (term[a][0] * z[0][b] + term[a][1] * z[1][b]) / (k + 1);
            std::memcpy(term, next, sizeof term);
            for (int a = 0; a < 2; ++a)
              for (int b = 0; b < 2; ++b) sum[a][b] += term[a][b];
          }
          const double trace = h * (j - ae), determinant = h * h * (w * ab - j * ae);
          const double bound = h * (std::max(std::abs(j), ae) + std::sqrt(std::abs(w * ab)));
          const int doublings = more + std::max(0, static_cast<int>(std::ceil(std::log2(bound))));
          const Phi<T> phi = phi_1(static_cast<T>(trace), static_cast<T>(determinant), doublings);
          double norm = 0;
          for (int a = 0; a < 2; ++a)
            for (int b = 0; b < 2; ++b) norm = std::max(norm, static_cast<double>(std::abs(sum[a][b])));
          for (int a = 0; a < 2; ++a) {
            for (int b = 0; b < 2; ++b) {
              const double got =
                  static_cast<double>(phi.p0) * (a == b) + static_cast<double>(phi.p1) * static_cast<double>(z[a][b]);
              worst = std::max(worst, std::abs(got - static_cast<double>(sum[a][b])) / norm);
            }
          }
        }
      }
    }
  }
  EXPECT_LE(worst, tolerance);
  std::printf("phi_1, %d bytes: relative error %.2g\n", static_cast<int>(sizeof(T)), worst);
}

TEST(NeuronKernels, Phi1OfSingularRealAndComplexMatrices) {
  for (const int more : {0, 1, 6}) expect_phi(4e-15, more, 0.0);
  for (const int more : {0, 1, 6}) expect_phi(2e-6, more, 0.0f);
}

TEST(NeuronKernels, TaylorSeriesSolvesTheEquation) {
  const Field<double, Ramp<double>> f{rates<double>(rs2007), {drive(rs2007, 70), 0.02}};
  State<double> y{-55, 10};
  const Series series = expand(f, y, 1e-15);
  for (int i = 0; i < 1000; ++i) y = Rk4{}(f.from(1e-3 * i), y, Length<double>::whole(1e-3));
  ASSERT_GT(series.reach, 1);
  EXPECT_NEAR(series.at(1).v, y.v, 1e-11);
  EXPECT_NEAR(series.at(1).u, y.u, 1e-11);
  EXPECT_NEAR(series.slope(1), f(y, 1).v, 1e-11);
  EXPECT_LT(first_crossing(series, series.reach, 35), 0);
  const double level = series.at(0.7).v;
  EXPECT_NEAR(first_crossing(series, 1, level), 0.7, 1e-12);
}

struct Events {
  std::vector<double> offsets;
  double length = 0;
  template <class F>
  void piece(const F&, State<double>, State<double>, double offset, double h) {
    EXPECT_EQ(offset, length);
    length += h;
  }
  void spike(double offset, State<double> peak) {
    EXPECT_NEAR(peak.v, 35, 1e-7);
    offsets.push_back(offset);
  }
};

TEST(NeuronKernels, TwoSpikesInOneStep) {
  Parameters close = rs2007;
  close.c = 20;  // a moment below the peak
  const Field<double> f{rates<double>(close), {drive(close, 70)}};
  const State<double> y{25, 0};
  const auto length = Length<double>::whole(0.8);
  Events events;
  const Outcome<double> out = locate(Rk4{}, f, reset<double>(close), y, Rk4{}(f, y, length), length.h, events);
  EXPECT_EQ(out.ending, Ending::done);
  ASSERT_EQ(out.events, static_cast<int>(events.offsets.size()));
  ASSERT_GE(out.events, 2);
  EXPECT_NEAR(events.length, 0.8, 1e-12);
  for (size_t i = 1; i < events.offsets.size(); ++i) EXPECT_GT(events.offsets[i], events.offsets[i - 1]);
  // the same in many small steps
  State<double> fine = y;
  std::vector<double> times;
  for (int n = 0; n < 800; ++n) {
    Events inside;
    const auto small = Length<double>::whole(1e-3);
    const State<double> y1 = Rk4{}(f, fine, small);
    if (y1.v < close.v_peak) {
      fine = y1;
      continue;
    }
    fine = locate(Rk4{}, f, reset<double>(close), fine, y1, small.h, inside).y;
    for (double offset : inside.offsets) times.push_back(1e-3 * n + offset);
  }
  ASSERT_EQ(times.size(), events.offsets.size());
  for (size_t i = 0; i < times.size(); ++i) EXPECT_NEAR(events.offsets[i], times[i], 2e-4);
  EXPECT_NEAR(out.y.v, fine.v, 0.05);
}

TEST(NeuronKernels, EndlessSpikesAreBounded) {
  Parameters endless = rs2007;
  endless.c = 40;  // above the peak: refused by every user's door, bounded here
  const Field<double> f{rates<double>(endless), {drive(endless, 70)}};
  const State<double> y{30, 0};
  const auto length = Length<double>::whole(0.5);
  Unobserved nobody;
  const auto out = locate(Rk4{}, f, reset<double>(endless), y, Rk4{}(f, y, length), length.h, nobody);
  EXPECT_EQ(out.ending, Ending::runaway);
  EXPECT_EQ(out.events, max_events + 1);
  EXPECT_LT(out.maps, 300);
}

/// Crossings at both ends of a piece, and a blow-up to infinity or NaN inside it.
TEST(NeuronKernels, CrossingsAtTheEdges) {
  const Field<double> f{rates<double>(rs2007), {drive(rs2007, 70)}};
  int maps = 0;
  const auto length = Length<double>::whole(0.1);
  const State<double> y{20, 0}, y1 = Rk4{}(f, y, length);
  EXPECT_NEAR(crossing(Rk4{}, f, y, y1, 0.1, y1.v, maps), 1, 1e-9);
  EXPECT_NEAR(crossing(Rk4{}, f, y, y1, 0.1, 20 + 1e-9, maps), 0, 1e-6);
  const State<double> far{30, 0}, blown = Rk4{}(f, far, Length<double>::whole(10));
  EXPECT_FALSE(blown.v < 35);
  const double share = crossing(Rk4{}, f, far, blown, 10.0, 35.0, maps);
  EXPECT_NEAR(Rk4{}(f, far, Length<double>::piece(10 * share)).v, 35, 0.5);
}

}  // namespace
}  // namespace ranvier::kernels::izhikevich
