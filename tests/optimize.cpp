// Optimizers on functions whose minimisers are known, and on a program of the engine.
#include "engine/optimize.h"

#include <cmath>

#include "tests/case.h"

namespace ranvier::optimize {
namespace {

using test::error_of;

/// A standard test function with its start and its minimum (More, Garbow and Hillstrom 1981).
struct Problem {
  const char* name;
  Vector start, minimiser;
  int64_t residuals;
  std::function<void(std::span<const double> x, std::span<double> r, std::span<double> j)> f;
};

std::vector<Problem> problems() {
  std::vector<Problem> list;
  list.push_back({"Rosenbrock", {-1.2, 1}, {1, 1}, 2, [](auto x, auto r, auto j) {
                    r[0] = 10 * (x[1] - x[0] * x[0]), r[1] = 1 - x[0];
                    if (j.empty()) return;
                    j[0] = -20 * x[0], j[1] = 10, j[2] = -1, j[3] = 0;
                  }});
  list.push_back(
      {"Powell's badly scaled", {0, 1}, {1.098159329699759e-5, 9.106146739867375}, 2, [](auto x, auto r, auto j) {
         r[0] = 1e4 * x[0] * x[1] - 1, r[1] = std::exp(-x[0]) + std::exp(-x[1]) - 1.0001;
         if (j.empty()) return;
         j[0] = 1e4 * x[1], j[1] = 1e4 * x[0], j[2] = -std::exp(-x[0]), j[3] = -std::exp(-x[1]);
       }});
  list.push_back({"helical valley", {-1, 0, 0}, {1, 0, 0}, 3, [](auto x, auto r, auto j) {
                    const double pi2 = 2 * std::acos(-1.0);
                    const double angle = std::atan2(x[1], x[0]) / pi2, radius = std::hypot(x[0], x[1]);
                    r[0] = 10 * (x[2] - 10 * angle), r[1] = 10 * (radius - 1), r[2] = x[2];
                    if (j.empty()) return;
                    const double square = radius * radius * pi2;
                    j[0] = 100 * x[1] / square, j[1] = -100 * x[0] / square, j[2] = 10;
                    j[3] = 10 * x[0] / radius, j[4] = 10 * x[1] / radius, j[5] = 0;
                    j[6] = 0, j[7] = 0, j[8] = 1;
                  }});
  Problem chain{"extended Rosenbrock of 20", Vector(20), Vector(20, 1.0), 20, [](auto x, auto r, auto j) {
                  for (double& v : j) v = 0;
                  for (size_t i = 0; i < 20; i += 2) {
                    r[i] = 10 * (x[i + 1] - x[i] * x[i]), r[i + 1] = 1 - x[i];
                    if (j.empty()) continue;
                    j[i * 20 + i] = -20 * x[i], j[i * 20 + i + 1] = 10, j[(i + 1) * 20 + i] = -1;
                  }
                }};
  for (size_t i = 0; i < 20; i += 2) chain.start[i] = -1.2, chain.start[i + 1] = 1;
  list.push_back(chain);
  return list;
}

/// Half the sum of squares with its gradient.
Objective half_square(const Problem& p) {
  return [&p](std::span<const double> x, std::span<double> g) {
    Vector r(static_cast<size_t>(p.residuals)), j(r.size() * x.size());
    p.f(x, r, j);
    double sum = 0;
    for (double& v : g) v = 0;
    for (size_t i = 0; i < r.size(); ++i) {
      sum += 0.5 * r[i] * r[i];
      for (size_t k = 0; k < x.size(); ++k) g[k] += r[i] * j[i * x.size() + k];
    }
    return sum;
  };
}

void expect_minimiser(const Problem& p, const Result& result, const char* method, double tolerance) {
  for (size_t i = 0; i < p.minimiser.size(); ++i)
    EXPECT_TRUE(std::abs(result.x[i] - p.minimiser[i]) <= tolerance * std::max(1.0, std::abs(p.minimiser[i])))
        << p.name << " by " << method << ": x[" << i << "] = " << result.x[i] << " after " << result.iterations
        << " iterations, " << name_of(result.reason);
}

TEST(Optimize, StandardFunctions) {
  for (const Problem& p : problems()) {
    const Objective f = half_square(p);
    const Options options{.max_iterations = 2000, .gradient_tolerance = 1e-13};
    const double tolerance = std::string(p.name).starts_with("Powell") ? 1e-4 : 1e-7;
    expect_minimiser(p, lbfgs(f, p.start, options), "L-BFGS", tolerance);
    expect_minimiser(p, bfgs(f, p.start, options, false), "BFGS", tolerance);
    // The minimum of Powell's function is a curved valley 1e-9 deep; self-scaling forgets the valley's curvature.
    const Result scaled = bfgs(f, p.start, options, true);
    EXPECT_LE(scaled.value, 1e-8) << p.name;
    if (tolerance < 1e-5) expect_minimiser(p, scaled, "self-scaled BFGS", tolerance);
    const Result lm = levenberg_marquardt(p.f, p.residuals, p.start, options);
    expect_minimiser(p, lm, "Levenberg-Marquardt", tolerance);
    for (size_t i = 1; i < lm.history.size(); ++i) EXPECT_LE(lm.history[i], lm.history[i - 1]) << p.name;
  }
}

// On a quadratic of P variables BFGS with exact line searches ends in P steps; ours are only Wolfe steps, so twice
// that.
TEST(Optimize, QuadraticOfSixVariables) {
  const double a[6] = {1, 2, 5, 10, 30, 100};
  const Objective f = [&](std::span<const double> x, std::span<double> g) {
    double sum = 0;
    for (size_t i = 0; i < 6; ++i) sum += 0.5 * a[i] * (x[i] - 1) * (x[i] - 1), g[i] = a[i] * (x[i] - 1);
    return sum;
  };
  for (const bool scaled : {false, true}) {
    const Result result = bfgs(f, Vector(6, 0.0), {.gradient_tolerance = 1e-12, .c2 = 0.1}, scaled);
    for (double x : result.x) EXPECT_NEAR(x, 1, 1e-11);
    EXPECT_LE(result.iterations, 20);
    EXPECT_TRUE(result.reason == Reason::gradient || result.value == 0) << name_of(result.reason);
  }
}

/// 1/x + x has its minimum 2 at 1 and is undefined at and below 0: a line search that lands there must come back.
TEST(Optimize, UndefinedRegions) {
  const Objective f = [](std::span<const double> x, std::span<double> g) {
    if (!(x[0] > 0)) return g[0] = NAN, double{NAN};
    g[0] = 1 - 1 / (x[0] * x[0]);
    return x[0] + 1 / x[0];
  };
  for (double start : {1e-3, 5.0, 1e3}) {
    EXPECT_NEAR(lbfgs(f, {start}).x[0], 1, 1e-7);
    EXPECT_NEAR(bfgs(f, {start}).x[0], 1, 1e-7);
  }
  EXPECT_EQ(lbfgs(f, {-1}).reason, Reason::not_finite);
}

TEST(Optimize, Ends) {
  const Problem p = problems()[0];
  const Objective f = half_square(p);
  EXPECT_EQ(bfgs(f, p.start, {.max_iterations = 3}).reason, Reason::iterations);
  EXPECT_EQ(bfgs(f, p.start, {.max_iterations = 3}).iterations, 3);
  const Result wanted = bfgs(f, p.start, {.wanted_value = 1e-3});
  EXPECT_EQ(wanted.reason, Reason::value);
  EXPECT_LE(wanted.value, 1e-3);
  EXPECT_EQ(lbfgs(f, p.start, {.proceed = [](int64_t i, double) { return i < 2; }}).reason, Reason::interrupted);
  EXPECT_EQ(levenberg_marquardt(p.f, 2, p.start, {.max_iterations = 2}).reason, Reason::iterations);
}

// Least squares whose normal equations lose everything: columns 1, t, t^2, ..., t^11 on 40 points (condition 1e8).
TEST(Optimize, LeastSquaresKeepsItsDigits) {
  constexpr int64_t rows = 40, columns = 12;
  std::vector<double> a(rows * columns), b(rows, 0.0), x(columns);
  for (int64_t i = 0; i < rows; ++i)
    for (int64_t k = 0; k < columns; ++k) {
      const double t = static_cast<double>(i) / (rows - 1);
      a[static_cast<size_t>(i * columns + k)] = std::pow(t, static_cast<double>(k));
      b[static_cast<size_t>(i)] += a[static_cast<size_t>(i * columns + k)] * static_cast<double>(k + 1);
    }
  ASSERT_TRUE(least_squares(rows, columns, a.data(), b.data(), x.data()));
  for (int64_t k = 0; k < columns; ++k) EXPECT_NEAR(x[static_cast<size_t>(k)], static_cast<double>(k + 1), 1e-6);
  std::vector<double> singular = {1, 1, 1, 1}, c = {1, 1}, y(2);
  EXPECT_FALSE(least_squares(2, 2, singular.data(), c.data(), y.data()));
}

/// Fewer residuals than parameters: damping makes the step unique.
TEST(Optimize, WideJacobian) {
  const Residuals f = [](std::span<const double> x, std::span<double> r, std::span<double> j) {
    r[0] = x[0] + 2 * x[1] - x[2] - 4;
    if (!j.empty()) j[0] = 1, j[1] = 2, j[2] = -1;
  };
  const Result result = levenberg_marquardt(f, 1, {0, 0, 0}, {.wanted_value = 1e-24});
  EXPECT_LE(result.value, 1e-24);
}

// A network fitted to sin through a compiled program: value and gradient, then residuals and Jacobian.
TEST(Optimize, Programs) {
  State state(Device::cpu(), 3);
  state.set_parameter_type(DType::f64);
  Graph graph(state);
  const MlpShape shape{{1, 8, 1}};
  const int64_t n = 32;
  const Tensor s = input(graph, "s", {DType::f64, {n, 1}});
  const Tensor theta = parameter(graph, "theta", {shape.parameters()}, init::uniform(1));
  const Jet jet = mlp_jet(s, full(graph, s.type(), 1), theta, shape);
  const Tensor r = reshape(jet.value - sin(3.0 * s), {n});
  const Tensor loss = mean(square(r));
  Program value = compile(graph, std::vector{loss, grad(loss, theta)});
  Program alone = compile(graph, std::vector{r});
  Program rows = compile(graph, std::vector{r, residual_rows(jet, std::vector{r})});
  std::vector<double> at;
  for (int64_t i = 0; i < n; ++i) at.push_back(-1 + 2.0 * static_cast<double>(i) / (n - 1));
  for (Program* p : {&value, &alone, &rows}) p->set<double>("s", at);
  const Vector start = state.get<double>("parameters", "theta");
  const Result quasi = bfgs(objective(state, value, "parameters", "theta"), start, {.max_iterations = 2000});
  EXPECT_LE(quasi.value, 1e-10);
  const Result lm = levenberg_marquardt(residuals(state, alone, rows, "parameters", "theta"), n, start,
                                        {.max_iterations = 300, .wanted_value = 1e-14});
  EXPECT_LE(lm.value, 1e-10);
  EXPECT_ERROR(objective(state, value, "parameters", "phi"), "no state entry parameters/phi");
}

}  // namespace
}  // namespace ranvier::optimize
