// Training and scoring of a field.
#include "models/pde.h"

#include <algorithm>
#include <cmath>
#include <random>

#include "engine/grad.h"
#include "models/collocation.h"

namespace ranvier::pde {
namespace {

/// Xavier-uniform weights, zero biases.
std::vector<double> initial(const MlpShape& shape, std::mt19937_64& random) {
  std::vector<double> theta;
  for (size_t l = 1; l < shape.widths.size(); ++l) {
    const int64_t in = shape.widths[l - 1], out = shape.widths[l];
    const double bound = std::sqrt(6.0 / static_cast<double>(in + out));
    for (int64_t i = 0; i < in * out; ++i) theta.push_back(bound * (2 * pinn::uniform(random) - 1));
    theta.insert(theta.end(), static_cast<size_t>(out), 0.0);
  }
  return theta;
}

/// A trace at n points: loss and gradient, or field and residual.
Program trace(State& state, const Problem& problem, int64_t n, bool training) {
  Graph graph(state);
  const Tensor x = input(graph, "x", {DType::f64, {n, 1}}), t = input(graph, "t", {DType::f64, {n, 1}});
  const Tensor theta = parameter(graph, "theta", {problem.shape.parameters()}, init::constant(0));
  const Field field = problem.field(x, t, theta, problem.shape);
  if (!training) return compile(graph, std::vector{field.u, field.residual});
  const Tensor loss = mean(square(field.residual));
  return compile(graph, std::vector{loss, grad(loss, theta)});
}

void set_points(Program& program, const std::vector<double>& xt) {
  std::vector<double> x, t;
  for (size_t i = 0; i < xt.size(); i += 2) x.push_back(xt[i]), t.push_back(xt[i + 1]);
  program.set<double>("x", x), program.set<double>("t", t);
}

double relative_l2(const Problem& problem, Program& grid, int64_t columns) {
  double wrong = 0, all = 0;
  std::vector<double> x;
  for (int64_t i = 0; i < columns; ++i) x.push_back(-1 + 2 * static_cast<double>(i) / static_cast<double>(columns));
  for (int k = 0; k <= 100; ++k) {
    const double t = k / 100.0;
    grid.set<double>("x", x);
    grid.set<double>("t", std::vector<double>(x.size(), t));
    grid.run();
    const auto u = grid.get<double>(0), exact = problem.reference(x, t);
    for (size_t i = 0; i < x.size(); ++i) wrong += (u[i] - exact[i]) * (u[i] - exact[i]), all += exact[i] * exact[i];
  }
  return std::sqrt(wrong / all);
}

}  // namespace

Result solve(const Problem& problem, const Options& o, const std::function<bool(int64_t, double)>& progress) {
  constexpr int64_t columns = 256, candidates = 5;
  State state(Device::cpu(), o.seed);
  state.set_parameter_type(DType::f64);
  Program train = trace(state, problem, o.points, true), fresh = trace(state, problem, candidates * o.points, false),
          grid = trace(state, problem, columns, false);
  std::mt19937_64 random(o.seed);
  state.materialise();
  std::vector<double> theta = initial(problem.shape, random);
  const auto objective = optimize::objective(state, train, "parameters", "theta");
  Result result;
  for (int64_t round = 0; round < o.rounds; ++round) {
    // the first half of the rounds lets time grow from a tenth to all
    const double horizon = std::min(1.0, 0.1 + 1.8 * static_cast<double>(round) / static_cast<double>(o.rounds));
    std::vector<double> xt = pinn::latin_hypercube(candidates * o.points, 2, random);
    for (size_t i = 0; i < xt.size(); i += 2) xt[i] = 2 * xt[i] - 1, xt[i + 1] *= horizon;
    state.set<double>("parameters", "theta", theta);
    set_points(fresh, xt);
    fresh.run();
    const auto residual = fresh.get<double>(1);
    std::vector<double> chosen;
    for (int64_t i : pinn::residual_adaptive(residual, o.points, 1, 1, random))
      chosen.insert(chosen.end(), {xt[static_cast<size_t>(2 * i)], xt[static_cast<size_t>(2 * i + 1)]});
    set_points(train, chosen);
    const optimize::Result found = optimize::bfgs(objective, theta, {.max_iterations = o.iterations});
    theta = found.x, result.loss = found.value, result.evaluations += found.evaluations;
    if (progress && !progress(round + 1, result.loss)) break;
  }
  state.set<double>("parameters", "theta", theta);
  std::vector<double> xt = pinn::latin_hypercube(candidates * o.points, 2, random);
  for (size_t i = 0; i < xt.size(); i += 2) xt[i] = 2 * xt[i] - 1;
  set_points(fresh, xt);
  fresh.run();
  for (double r : fresh.get<double>(1)) result.fresh_loss += r * r / static_cast<double>(candidates * o.points);
  result.relative_l2 = relative_l2(problem, grid, columns);
  return result;
}

}  // namespace ranvier::pde
