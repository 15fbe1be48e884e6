// The partial differential equations: constraints that hold for any network, residuals against differences of the
// field, references against published and closed values, and a short training.
#include "models/pde.h"

#include <cmath>

#include "tests/case.h"

namespace ranvier::pde {
namespace {

using test::error_of;

/// u and residual of a problem's field at points, for parameters drawn at random.
class Evaluated {
 public:
  Evaluated(const Problem& problem, int64_t n) : n_(n) {
    Graph graph(state_);
    const Type column{DType::f64, {n, 1}};
    const Tensor theta = input(graph, "theta", {DType::f64, {problem.shape.parameters()}});
    const Field f = problem.field(input(graph, "x", column), input(graph, "t", column), theta, problem.shape);
    program_ = compile(graph, std::vector{f.u, f.residual});
    program_.set<double>("theta", test::draw({{problem.shape.parameters()}, {-0.4, 0.4}}, 3));
  }
  std::vector<double> operator()(size_t output, const std::vector<double>& x, const std::vector<double>& t) {
    program_.set<double>("x", x), program_.set<double>("t", t);
    program_.run();
    return program_.get<double>(output);
  }

 private:
  int64_t n_;
  State state_;
  Program program_;
};

TEST(Pde, ConstraintsHoldForAnyNetwork) {
  const std::vector<double> x = {-1, -0.7, -0.2, 0, 0.4, 1}, zero(6, 0.0), later(6, 0.6);
  Evaluated burgers_of(burgers(), 6), allen_cahn_of(allen_cahn(), 6);
  const auto u0 = burgers_of(0, x, zero), wall = burgers_of(0, x, later), a0 = allen_cahn_of(0, x, zero),
             a1 = allen_cahn_of(0, x, later);
  for (size_t i = 0; i < x.size(); ++i) {
    EXPECT_NEAR(u0[i], -std::sin(std::acos(-1.0) * x[i]), 1e-15);
    EXPECT_NEAR(a0[i], x[i] * x[i] * std::cos(std::acos(-1.0) * x[i]), 1e-7);
  }
  EXPECT_NEAR(wall[0], 0, 1e-14);
  EXPECT_NEAR(wall[5], 0, 1e-14);
  EXPECT_NEAR(a1[0], a1[5], 1e-14) << "periodic";
}

// Fourth-order central differences of u in x and t, put into the equations.
TEST(Pde, ResidualsAreTheEquations) {
  const double h = 2e-3, nu[2] = {0.01 / std::acos(-1.0), 1e-4};
  int which = 0;
  for (const Problem& problem : {burgers(), allen_cahn()}) {
    Evaluated at(problem, 1);
    const auto u = [&](double x, double t) { return at(0, {x}, {t})[0]; };
    for (const auto& [x, t] : {std::pair{-0.55, 0.3}, std::pair{0.1, 0.8}, std::pair{0.6, 0.5}}) {
      const auto slope = [&](double a, double b, double c, double d) { return (8 * (c - b) - (d - a)) / (12 * h); };
      const double u_t = slope(u(x, t - 2 * h), u(x, t - h), u(x, t + h), u(x, t + 2 * h));
      const double u_x = slope(u(x - 2 * h, t), u(x - h, t), u(x + h, t), u(x + 2 * h, t)), here = u(x, t);
      const double u_xx =
          (16 * (u(x - h, t) + u(x + h, t)) - u(x - 2 * h, t) - u(x + 2 * h, t) - 30 * here) / (12 * h * h);
      const double rest = which == 0 ? here * u_x : -5 * (here - here * here * here);
      EXPECT_NEAR(at(1, {x}, {t})[0], u_t + rest - nu[which] * u_xx, 1e-7) << problem.name;
    }
    ++which;
  }
}

TEST(Pde, References) {
  // Basdevant et al. 1986: the steepest slope is 152.00516, at pi t = 1.6037
  const double h = 1e-5, t = 1.6037 / std::acos(-1.0);
  const auto u = burgers().reference({-h, h, -0.5, 0.5}, t);
  EXPECT_NEAR((u[0] - u[1]) / (2 * h), 152.00516, 1e-3);
  EXPECT_NEAR(u[2], -u[3], 1e-12);
  // the equation itself, in time: x = 0 is a point of symmetry where the spectral solution's terms are smooth
  const double dx = 1.0 / 256, dt = 1.0 / 500;
  const Problem problem = allen_cahn();
  const auto at = [&](double x, double time) { return problem.reference({x}, time)[0]; };
  for (const double x : {-0.5, 0.0, 0.25}) {
    const double here = at(x, 0.5), u_t = (at(x, 0.5 + dt) - at(x, 0.5 - dt)) / (2 * dt);
    const double u_xx = (at(x - dx, 0.5) - 2 * here + at(x + dx, 0.5)) / (dx * dx);
    EXPECT_NEAR(u_t, 1e-4 * u_xx + 5 * (here - here * here * here), 2e-3) << x;
  }
}

TEST(Pde, TrainsAndRefuses) {
  int rounds = 0;
  const Result result = solve(burgers(), {.points = 150, .rounds = 4, .iterations = 60}, [&](int64_t, double loss) {
    EXPECT_TRUE(std::isfinite(loss));
    return ++rounds < 3;
  });
  EXPECT_EQ(rounds, 3);
  EXPECT_LE(result.loss, 0.1);
  EXPECT_LE(result.relative_l2, 0.5);
  EXPECT_ERROR(named("heat"), "no problem 'heat'");
}

}  // namespace
}  // namespace ranvier::pde
