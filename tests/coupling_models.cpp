// The coupling of layers: its law's limits, the sign of myelin, what the forms do to gradients and activations, sites
// in the models, strength 0, bad values. (Its norms and learned geometry: coupling_geometry.cpp.)
#include <algorithm>
#include <cmath>
#include <limits>

#include "data/batches.h"
#include "data/generated.h"
#include "models/vision.h"
#include "tests/case.h"

namespace ranvier::test {
namespace {

using namespace models;
constexpr double infinity = std::numeric_limits<double>::infinity();

UnitGeometry some_units(int64_t n) {
  UnitGeometry g;
  g.positions = draw({{n, 2}, {-1.5, 1.5}}, 1);
  for (double s : draw({{n}, {0.5, 2.5}}, 2)) g.sizes.push_back(s);
  for (double m : draw({{n}, {0, 0.9}}, 3)) g.myelin.push_back(m);
  return g;
}

/// K and Z of given units, in f64.
struct Matrix {
  std::vector<double> k;
  double scale;
};
Matrix matrix_of(const UnitGeometry& g, const CouplingOptions& options) {
  State state;
  state.set_parameter_type(DType::f64);
  Graph graph(state);
  const auto n = static_cast<int64_t>(g.sizes.size());
  const Units units = coupling_units(graph, g, options, DType::f64);
  std::vector<double> unit(static_cast<size_t>(n * n));
  for (int64_t i = 0; i < n; ++i) unit[static_cast<size_t>(i * n + i)] = 1;
  // row j of couple(I) is K applied to the unit vector j
  const std::vector<Tensor> results = {transpose(couple(units, constant<double>(graph, {n, n}, unit))),
                                       coupling_scale(units)};
  Program program = compile(graph, results);
  program.run();
  return {program.get<double>(0), program.scalar(1)};
}

CouplingOptions options_with(CouplingLaw law, double alpha, double beta, double chi, double mu0) {
  CouplingOptions o;
  o.law = law, o.alpha = alpha, o.beta = beta, o.chi = chi, o.mu0 = mu0;
  return o;
}

TEST(CouplingLaw, IsTheFormula) {
  const int64_t n = 12;
  const UnitGeometry g = some_units(n);
  const CouplingOptions o = options_with({}, 0.7, -0.3, 1.4, 0.15);
  const Matrix matrix = matrix_of(g, o);
  double log_mean = 0, squares = 0;
  for (double s : g.sizes) log_mean += std::log(s) / static_cast<double>(n);
  const auto mu = [&](size_t i) { return 0.15 + 0.85 / (1 + 1.4 * std::log(1 / (1 - g.myelin[i]))); };
  for (size_t i = 0; i < n; ++i)
    for (size_t j = 0; j < n; ++j) {
      const double dx = g.positions[2 * i] - g.positions[2 * j], dy = g.positions[2 * i + 1] - g.positions[2 * j + 1];
      const double d = std::sqrt(dx * dx + dy * dy + o.law.softening * o.law.softening);
      const double kappa =
          std::pow(1 + d * d / (o.law.length * o.law.length), -o.law.power / 2) * std::exp(-d / o.law.decay);
      const double want = i == j ? 0
                                 : std::pow(g.sizes[i] / std::exp(log_mean), 0.7) *
                                       std::pow(g.sizes[j] / std::exp(log_mean), -0.3) * mu(i) * mu(j) * kappa;
      EXPECT_NEAR(matrix.k[i * n + j], want, 1e-12) << i << ", " << j;
      squares += want * want;
    }
  EXPECT_NEAR(matrix.scale, std::sqrt(squares / static_cast<double>(n)), 1e-12);
}

TEST(CouplingLaw, MoreMyelinLessCoupling) {
  UnitGeometry g = some_units(8);
  CouplingOptions o;
  const std::vector<double> before = matrix_of(g, o).k;
  g.myelin[3] = 0.5 * (g.myelin[3] + 1);
  const std::vector<double> after = matrix_of(g, o).k;
  for (size_t i = 0; i < 8; ++i)
    for (size_t j = 0; j < 8; ++j) {
      if (i == j) continue;
      if (i == 3 || j == 3)
        EXPECT_LT(after[i * 8 + j], before[i * 8 + j]);
      else
        EXPECT_EQ(after[i * 8 + j], before[i * 8 + j]);
    }
  // bare: factor 1; fully myelinated: mu0
  g.myelin.assign(8, 0.0);
  const std::vector<double> bare = matrix_of(g, o).k;
  o.myelin = false;
  const std::vector<double> off = matrix_of(g, o).k;
  for (size_t k = 0; k < bare.size(); ++k) EXPECT_NEAR(bare[k], off[k], 1e-14);
  o.myelin = true, g.myelin.assign(8, 0.9999999999), o.chi = 1e12;
  const std::vector<double> sheathed = matrix_of(g, o).k;
  for (size_t k = 0; k < bare.size(); ++k) EXPECT_NEAR(sheathed[k], o.mu0 * o.mu0 * bare[k], 1e-10);
}

/// The rows of the table of limits.
TEST(CouplingLaw, Limits) {
  const size_t n = 9;
  const UnitGeometry g = some_units(n);
  double log_mean = 0;
  for (double s : g.sizes) log_mean += std::log(s) / static_cast<double>(n);
  // a tolerance below 0 is relative
  const auto every_pair_of = [&](const UnitGeometry& units, const CouplingOptions& o, double tolerance, auto want) {
    const Matrix matrix = matrix_of(units, o);
    for (size_t i = 0; i < n; ++i)
      for (size_t j = 0; j < n; ++j) {
        const double dx = g.positions[2 * i] - g.positions[2 * j], dy = g.positions[2 * i + 1] - g.positions[2 * j + 1];
        const double wanted = i == j ? 0 : want(i, j, std::hypot(dx, dy));
        EXPECT_NEAR(matrix.k[i * n + j], wanted, tolerance < 0 ? -tolerance * wanted : tolerance) << i << ", " << j;
      }
  };
  const auto every_pair = [&](const CouplingOptions& o, double tolerance, auto want) {
    every_pair_of(g, o, tolerance, want);
  };
  const auto law = [](double length, double decay, double power) {
    return CouplingLaw{CouplingLaw::screened_power, length, decay, power, 0};
  };
  const auto s = [&](size_t i) { return g.sizes[i] / std::exp(log_mean); };
  every_pair(options_with(law(infinity, infinity, 3), 0, 0, 0, 0.1), 1e-15, [](size_t, size_t, double) { return 1.0; });
  for (double p : {1.0, 3.0})  // length far below every distance: the point source and the far field of a spike
    every_pair(options_with(law(1e-4, infinity, p), 0, 0, 0, 0.1), -1e-4,
               [&](size_t, size_t, double d) { return std::pow(1e-4 / d, p); });
  every_pair(options_with(law(1, 0.8, 0), 0, 0, 0, 0.1), 1e-14,
             [](size_t, size_t, double d) { return std::exp(-d / 0.8); });
  every_pair(options_with({CouplingLaw::gaussian, 0.6, 1, 0, 0}, 0, 0, 0, 0.1), 1e-14,
             [](size_t, size_t, double d) { return std::exp(-d * d / 0.72); });
  every_pair(options_with(law(1, 1e-5, 1), 0, 0, 0, 0.1), 1e-300, [](size_t, size_t, double) { return 0.0; });
  EXPECT_EQ(matrix_of(g, options_with(law(1, 1e-5, 1), 0, 0, 0, 0.1)).scale, 1e-12) << "Z has a floor";
  every_pair(options_with(law(infinity, infinity, 0), 1, 0.5, 0, 0.1), 1e-13,
             [&](size_t i, size_t j, double) { return s(i) * std::sqrt(s(j)); });
  every_pair(options_with(law(infinity, infinity, 0), 0, 0, 2, 0), 1e-13, [&](size_t i, size_t j, double) {
    return 1 / (1 - 2 * std::log(1 - g.myelin[i])) / (1 - 2 * std::log(1 - g.myelin[j]));
  });
  // chi -> infinity with mu0 = 0: only bare units couple
  UnitGeometry some_bare = g;
  for (size_t i : {1u, 4u, 5u}) some_bare.myelin[i] = 0;
  const auto bare = [&](size_t i) { return some_bare.myelin[i] == 0 ? 1.0 : 0.0; };
  every_pair_of(some_bare, options_with(law(1, 0.8, 0), 0, 0, 1e15, 0), 1e-13,
                [&](size_t i, size_t j, double d) { return bare(i) * bare(j) * std::exp(-d / 0.8); });
}

/// Each factor by itself, and each left out: what is off is 1.
TEST(CouplingLaw, FactorsAreSwitchedOff) {
  const size_t n = 7;
  const UnitGeometry g = some_units(n);
  double log_mean = 0;
  for (double s : g.sizes) log_mean += std::log(s) / static_cast<double>(n);
  for (int mask = 0; mask < 8; ++mask) {
    CouplingOptions o = options_with({CouplingLaw::gaussian, 0.6, 1, 0, 0.05}, 0.7, -0.3, 1.4, 0.15);
    o.distance = mask & 1, o.size = mask & 2, o.myelin = mask & 4;
    const Matrix matrix = matrix_of(g, o);
    for (size_t i = 0; i < n; ++i)
      for (size_t j = 0; j < n; ++j) {
        const double d =
            std::hypot(g.positions[2 * i] - g.positions[2 * j], g.positions[2 * i + 1] - g.positions[2 * j + 1]);
        const auto size = [&](size_t k, double power) { return std::pow(g.sizes[k] / std::exp(log_mean), power); };
        const auto mu = [&](size_t k) { return 0.15 + 0.85 / (1 - 1.4 * std::log(1 - g.myelin[k])); };
        const double want = i == j ? 0
                                   : (o.distance ? std::exp(-(d * d + 0.0025) / 0.72) : 1) *
                                         (o.size ? size(i, 0.7) * size(j, -0.3) : 1) * (o.myelin ? mu(i) * mu(j) : 1);
        EXPECT_NEAR(matrix.k[i * n + j], want, 1e-13) << mask << ": " << i << ", " << j;
      }
  }
}

/// With alpha = beta and the diagonal kept K is positive definite: x^T (K + diag) x > 0.
TEST(CouplingLaw, PositiveDefiniteWithItsDiagonal) {
  const size_t n = 20;
  const UnitGeometry g = some_units(n);
  const CouplingOptions o = options_with({CouplingLaw::screened_power, 0.5, 1, 3, 0}, 0.5, 0.5, 1, 0.1);
  Matrix matrix = matrix_of(g, o);
  double log_mean = 0;
  for (double s : g.sizes) log_mean += std::log(s) / static_cast<double>(n);
  for (size_t i = 0; i < n; ++i) {
    const double mu = 0.1 + 0.9 / (1 - std::log(1 - g.myelin[i]));
    matrix.k[i * n + i] = g.sizes[i] / std::exp(log_mean) * mu * mu;
  }
  for (size_t c = 0; c < n; ++c)  // Cholesky: every pivot is positive
    for (size_t r = c; r < n; ++r) {
      double sum = matrix.k[r * n + c];
      for (size_t k = 0; k < c; ++k) sum -= matrix.k[r * n + k] * matrix.k[c * n + k];
      if (r == c) {
        ASSERT_GT(sum, 0) << c;
      }
      matrix.k[r * n + c] = r == c ? std::sqrt(sum) : sum / matrix.k[c * n + c];
    }
}

constexpr CouplingForm every_form[] = {CouplingForm::energy, CouplingForm::covariance, CouplingForm::epistatic_penalty,
                                       CouplingForm::ephaptic, CouplingForm::epistatic};
constexpr CouplingForm penalties[] = {CouplingForm::energy, CouplingForm::covariance, CouplingForm::epistatic_penalty};

/// Gradients of every form in activations and learned geometry, twice.
OpCase form_case(CouplingForm form, int64_t rows, int64_t units) {
  OpCase test{fmt::format("{} {} x {}", name_of(form), rows, units),
              {{{rows, units}, {-2, 2}}, {{units, 2}, {-1.5, 1.5}}, {{units}, {-0.5, 0.5}}, {{units}, {-1, 1}}},
              {},
              false,
              2e-5};
  test.build = [form, units](std::vector<Tensor> in) {
    Units u{in[1], exp(reshape(in[2], {1, units}) * 0.5), exp(reshape(in[2], {1, units}) * 0.25), {}};
    const Tensor mu = 0.1 + 0.9 / (1.0 + softplus(reshape(in[3], {1, units})));
    u.receive = u.receive * mu, u.send = u.send * mu;
    if (!changes_activations(form)) return std::vector{coupling_penalty(in[0], u, form)};
    // the scale is a constant: its own gradient is not meant to flow, and differences would see it
    return std::vector{coupled_activations(in[0], u, form, 0.4, full(*in[0].graph, {in[1].dtype(), {}}, 0.8))};
  };
  for (size_t operand = 1; operand < 4; ++operand) test.operands[operand].wide = true;
  if (changes_activations(form)) test.cuda = mixed_cuda_types;
  return test;
}

TEST(CouplingForms, GradientsOfBothOrders) {
  for (CouplingForm form : {CouplingForm::ephaptic, CouplingForm::epistatic})
    for (int order = 1; order <= 2; ++order) check_gradients(form_case(form, 5, 6), order, 1e-6);
  // Z is stopped in the gradient, and differences would see it move: times Z, stopped too, penalties are free of it.
  for (CouplingForm form : penalties)
    for (int64_t rows : {5, 9}) {
      OpCase test = form_case(form, rows, 6);
      test.build = [form](std::vector<Tensor> in) {
        Units u{in[1], exp(reshape(in[2], {1, 6}) * 0.5), exp(reshape(in[3], {1, 6}) * 0.25), {}};
        return std::vector{coupling_penalty(in[0], u, form) * [&] {
          const Units same{in[1], u.receive, u.send, u.law};
          const Tensor squares = square(same.receive) * pair_apply(square(same.send), in[1], u.law.squared());
          return stop_gradient(sqrt(mean(squares)));
        }()};
      };
      for (int order = 1; order <= 2; ++order) check_gradients(test, order, 1e-6);
    }
}

TEST(CouplingForms, Variants) {
  for (CouplingForm form : penalties) check_variants(form_case(form, 11, 7));
  for (CouplingForm form : {CouplingForm::ephaptic, CouplingForm::epistatic})
    for (int64_t rows : {11, 5}) check_variants(form_case(form, rows, 7));  // K in one piece, and the fused sums
}

/// The energy by way of correlations (many rows) and by pairs (many units) is one number; each form is its formula.
TEST(CouplingForms, PenaltiesAreTheirFormulas) {
  if (checks_cuda_only()) return;
  const int64_t n = 6;
  const UnitGeometry g = some_units(n);
  CouplingOptions o;
  const Matrix matrix = matrix_of(g, o);
  for (int64_t rows : {4, 40})
    for (CouplingForm form : penalties) {
      State state;
      Graph graph(state);
      const Tensor x = input(graph, "x", {DType::f64, {rows, n}});
      Program program = compile(graph, std::vector{coupling_penalty(x, coupling_units(graph, g, o, DType::f64), form)});
      const std::vector<double> values = draw({{rows, n}, {-1, 3}}, 9);
      set(program, "x", DType::f64, values);
      program.run();
      std::vector<double> z(values.size());
      for (size_t c = 0; c < n; ++c) {
        double mean = 0, variance = 0;
        for (size_t r = 0; r < static_cast<size_t>(rows); ++r) mean += values[r * n + c] / static_cast<double>(rows);
        for (size_t r = 0; r < static_cast<size_t>(rows); ++r)
          variance += (values[r * n + c] - mean) * (values[r * n + c] - mean) / static_cast<double>(rows);
        for (size_t r = 0; r < static_cast<size_t>(rows); ++r)
          z[r * n + c] = (values[r * n + c] - mean) / std::sqrt(variance + 1e-5);
      }
      double want = 0;
      for (size_t i = 0; i < n; ++i)
        for (size_t j = 0; j < n; ++j) {
          double sum = 0;
          for (size_t r = 0; r < static_cast<size_t>(rows); ++r) {
            const double product = z[r * n + i] * z[r * n + j] / static_cast<double>(rows);
            sum += form == CouplingForm::epistatic_penalty ? product * z[r * n + i] * z[r * n + j] : product;
          }
          want += matrix.k[i * n + j] * (form == CouplingForm::covariance ? sum * sum : sum);
        }
      EXPECT_NEAR(program.scalar(0), want / (2 * static_cast<double>(n) * matrix.scale), 1e-10)
          << name_of(form) << " of " << rows << " rows";
    }
}

/// More units than a dense matrix may have: C_ij^2 is a sum over pairs of rows, so that the covariance penalty is the
/// energy of the rows' products.
TEST(CouplingForms, CovarianceOfManyUnits) {
  if (checks_cuda_only()) return;
  const int64_t n = 4500, rows = 3;
  State state;
  state.set_parameter_type(DType::f64);
  Graph graph(state);
  const Tensor x = input(graph, "x", {DType::f64, {rows, n}});
  const Units u = coupling_units(graph, n, {}, DType::f64);
  const Tensor part = x - mean(x, {0}, true), z = part * rsqrt(mean(square(part), {0}, true) + 1e-5);
  const Tensor products = reshape(reshape(z, {rows, 1, n}) * reshape(z, {1, rows, n}), {rows * rows, n});
  const Tensor want =
      sum(products * couple(u, products)) / coupling_scale(u) * (0.5 / static_cast<double>(n * rows * rows));
  const Tensor found = coupling_penalty(x, u, CouplingForm::covariance);
  Program program = compile(graph, std::vector{found, grad(found, x), want, grad(want, x)});
  EXPECT_LT(program.plan().arena_bytes, size_t{16} << 20);  // a matrix would be 162 MB
  state.materialise();
  set(program, "x", DType::f64, draw({{rows, n}, {-1, 3}}, 9));
  program.run();
  EXPECT_NEAR(program.scalar(0), program.scalar(2), 1e-12 * std::abs(program.scalar(2)));
  const std::vector<double> g = program.get<double>(1), expected = program.get<double>(3);
  double apart = 0, size = 0;
  for (size_t k = 0; k < g.size(); ++k)
    apart += (g[k] - expected[k]) * (g[k] - expected[k]), size += expected[k] * expected[k];
  EXPECT_LT(std::sqrt(apart / size), 1e-10);
}

/// d^2 y_i / dx_i dx_j: exactly 0 of the additive form, not of the gate.
TEST(CouplingForms, MixedDerivativeTellsGateFromField) {
  for (CouplingForm form : {CouplingForm::ephaptic, CouplingForm::epistatic}) {
    State state;
    Graph graph(state);
    const Tensor x = input(graph, "x", {DType::f64, {1, 5}});
    const Units units = coupling_units(graph, some_units(5), {}, DType::f64);
    const Tensor y = coupled_activations(x, units, form, 0.5, full(graph, {DType::f64, {}}, 1));
    const Tensor own = slice_axis(grad(slice_axis(y, 1, 2, 1), x), 1, 2, 1);
    Program program = compile(graph, std::vector{grad(own, x)});
    set(program, "x", DType::f64, {0.5, -1, 0.7, 0.3, 1.2});
    program.run();
    const std::vector<double> mixed = program.get<double>(0);
    for (size_t j : {0, 1, 3, 4})
      if (form == CouplingForm::ephaptic)
        EXPECT_EQ(mixed[j], 0);
      else
        EXPECT_GT(std::abs(mixed[j]), 1e-5);
  }
}

// ---- in the models ----

CouplingOptions coupled(CouplingForm form, double strength, std::vector<std::string> sites = {"conv2"}) {
  CouplingOptions o;
  o.form = form, o.strength = strength, o.sites = std::move(sites);
  return o;
}

struct Trained {
  std::vector<double> losses;
  std::vector<double> scales;  // root mean square of the activations at the coupled site: before, every 50 steps
};

/// Steps of a thin `tiny` on generated images.
Trained train(const CouplingOptions& coupling, int64_t steps, int64_t batch = 16) {
  Session session(Device::cpu(), {.seed = 3});
  Recipe recipe = models::recipe("tiny", 10, batch);
  recipe.net = Tiny{10, {8, 12, 16}};
  recipe = with_coupling(recipe, coupling);
  const data::Dataset data = data::generated({0, 32, 1}).train;
  TrainStep step = session.train_step(
      {batch, {32, 32, 3}},
      [&](const BatchTensors& b) { return models::train_function(recipe, data.mean, data.std)(b); }, recipe.optimizer,
      steps);
  refresh_coupling(session, recipe.coupling);
  // what the uncoupled network makes of 32 images at the coupled place, each by the batch's statistics as in training
  Program activations = session.compile(
      [&](Graph& graph) {
        Tensor squares;
        const Tiny net{10, {8, 12, 16}, [&](Tensor x, std::string_view site) {
                         if (site == "block2") squares = mean(square(x));
                         return x;
                       }};
        const Tensor images = input(graph, "images", {DType::u8, {32, 32, 32, 3}});
        const std::vector<double> mean(data.mean.begin(), data.mean.end()), std(data.std.begin(), data.std.end());
        net(normalize(images, mean, std));
        return std::vector{sqrt(squares)};
      },
      true);
  const auto scale = [&] {
    data::Batch first;
    data::Batches::training(data.size(), 32, 0, 1).load(data, 0, first);
    activations.set<uint8_t>("images", first.images);
    activations.run();
    return activations.scalar(0);
  };
  Trained result;
  data::Batch loaded;
  for (int64_t s = 0; s < steps; ++s) {
    if (steps >= 100 && s % 50 == 0) result.scales.push_back(scale());
    const auto batches = data::Batches::training(data.size(), batch, s / (data.size() / batch), 1);
    batches.load(data, s % batches.size(), loaded);
    step(loaded, 0);
    result.losses.push_back(step.loss());
  }
  if (steps >= 100) result.scales.push_back(scale());
  return result;
}

TEST(CouplingModels, StrengthZeroIsTheBaseline) {
  if (checks_cuda_only()) return;
  const std::vector<double> baseline = train({}, 5).losses;
  for (CouplingForm form : every_form) EXPECT_EQ(train(coupled(form, 0), 5).losses, baseline) << name_of(form);
  for (CouplingForm form : every_form) EXPECT_NE(train(coupled(form, 0.5), 5).losses, baseline) << name_of(form);
}

/// 200 steps with each sign: activations at the site stay within ten times of what they were, and of the baseline's.
TEST(CouplingModels, NeitherSignIsWonByScaling) {
  if (checks_cuda_only()) return;
  const Trained baseline = train({}, 200, 8);
  const auto within = [](double scale, double of) { return scale < 10 * of && scale > 0.1 * of; };
  for (CouplingForm form : penalties)
    for (double strength : {-1.0, 1.0}) {
      const Trained run = train(coupled(form, strength), 200, 8);
      const std::string what = fmt::format("{} {}", name_of(form), strength);
      EXPECT_TRUE(std::isfinite(run.losses.back())) << what;
      EXPECT_NE(run.losses, baseline.losses) << what;
      EXPECT_EQ(run.scales.front(), baseline.scales.front()) << what;
      ASSERT_EQ(run.scales.size(), 5u);
      for (size_t k = 0; k < run.scales.size(); ++k)
        EXPECT_TRUE(within(run.scales[k], run.scales[0]) && within(run.scales[k], baseline.scales[k]))
            << what << " after " << 50 * k << " steps: " << run.scales[k] << " from " << run.scales[0]
            << ", without coupling " << baseline.scales[k];
    }
}

TEST(CouplingModels, BadValues) {
  const auto with = [](auto change) {
    CouplingOptions o = coupled(CouplingForm::ephaptic, 0.1);
    change(o);
    return error_of([&] { o.check(); });
  };
  const auto expect = [](const std::string& message, const std::string& text) {
    EXPECT_NE(message.find(text), std::string::npos) << message;
  };
  expect(with([](CouplingOptions& o) { o.strength = NAN; }), "strength = nan");
  expect(with([](CouplingOptions& o) { o.strength = infinity; }), "strength = inf");
  expect(with([](CouplingOptions& o) { o.strength = -1; }), "strength = -1");
  expect(with([](CouplingOptions& o) { o.mean_myelin = 1; }), "myelin = 1");
  expect(with([](CouplingOptions& o) { o.law.length = -2; }), "length = -2");
  expect(with([](CouplingOptions& o) { o.learned = true, o.law.softening = 0; }), "softening = 0");
  expect(with([](CouplingOptions& o) { o.sites.clear(); }), "sites");
  UnitGeometry g = some_units(4);
  g.sizes[2] = 0;
  EXPECT_ERROR(g.check({}), "size 0 of unit 2");
  g = some_units(4), g.sizes[1] = -3;
  EXPECT_ERROR(g.check({}), "size -3 of unit 1");
  g = some_units(4), g.myelin[3] = 1;
  EXPECT_ERROR(g.check({}), "myelin 1 of unit 3");
  g = some_units(4), g.myelin[0] = -0.5;
  EXPECT_ERROR(g.check({}), "myelin -0.5 of unit 0");
  g = some_units(4), g.positions[6] = g.positions[0], g.positions[7] = g.positions[1];
  g.check({});
  EXPECT_ERROR(g.check({CouplingLaw::screened_power, 1, 1, 1, 0}), "units 0 and 3 lie in one place");
  EXPECT_ERROR(train(coupled(CouplingForm::energy, 0.1, {"conv7"}), 1), "no 'conv7'");
  EXPECT_ERROR(train(coupled(CouplingForm::energy, 0.1, {"conv2", "conv2"}), 1), "'conv2' and 'conv2' are one layer");
  EXPECT_ERROR(coupling_form("magnetic"), "'magnetic' is unknown; known are none, energy");
  State state;
  Graph graph(state, true);
  const Coupling coupling(coupled(CouplingForm::energy, 0.1, {"one"}));
  EXPECT_ERROR(linear(input(graph, "x", {DType::f32, {4, 3}}), 1, "one"), "1 unit");
}

}  // namespace
}  // namespace ranvier::test
