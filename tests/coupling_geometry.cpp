// The geometry of coupled units: |K| bounds what it is to bound for laws of any size, and learned geometry moves, stays
// pinned, and has norms of its own.
#include <algorithm>
#include <cmath>

#include "data/batches.h"
#include "data/generated.h"
#include "models/vision.h"
#include "tests/case.h"

namespace ranvier::test {
namespace {

using namespace models;

/// Units on their grid with drawn sizes and myelin: K, row-major, and |K| as `coupling_norm` finds it.
struct Found {
  std::vector<double> k;
  double norm;
};
Found found_by(int64_t n, const CouplingOptions& options, DType dtype) {
  State state(Device::cpu(), 5);
  state.set_parameter_type(dtype);
  Graph graph(state);
  const Units u = coupling_units(graph, n, options, dtype);
  const Tensor k = pair_matrix(u.positions, u.law) * reshape(u.receive, {n, 1}) * u.send;
  Program program = compile(graph, std::vector{k, coupling_norm(u)});
  state.materialise();
  program.run();
  return {get(program, 0), program.scalar(1)};
}

/// The spectral norm of a matrix by as many steps of power iteration as it takes, in f64 and from below.
double dense_norm(const std::vector<double>& k, size_t n) {
  std::vector<double> v(n, 1.0), image(n), next(n);
  const auto unit = [](std::vector<double>& x) {
    const double largest = *std::max_element(x.begin(), x.end());
    double length = 0;
    for (double& e : x) e /= largest, length += e * e;
    for (double& e : x) e /= std::sqrt(length);
    return largest * std::sqrt(length);
  };
  double norm = 0;
  for (int step = 0; step < 3000; ++step) {
    unit(v);
    std::fill(next.begin(), next.end(), 0.0);
    for (size_t i = 0; i < n; ++i) {
      image[i] = 0;
      for (size_t j = 0; j < n; ++j) image[i] += k[i * n + j] * v[j];
    }
    const double found = unit(image);
    for (size_t i = 0; i < n; ++i)
      for (size_t j = 0; j < n; ++j) next[j] += k[i * n + j] * image[i];
    v = next;
    if (step > 20 && found - norm < 1e-9 * found) return found;
    norm = found;
  }
  return norm;
}

CouplingOptions gaussian(double length) {
  CouplingOptions o;
  o.law = {CouplingLaw::gaussian, length, 1, 0, 0.001};
  return o;
}

/// Laws that are small between neighbours have small matrices, whose squares a 32-bit number may not hold.
TEST(CouplingNorm, OfAnySize) {
  double smallest = 1;
  for (DType dtype : {DType::f32, DType::f64})
    for (double length : {0.3, 0.115, 0.085, 0.068}) {
      const Found found = found_by(25, gaussian(length), dtype);
      const double want = dense_norm(found.k, 25);
      EXPECT_GE(found.norm, want * (1 - 1e-5)) << length;
      EXPECT_LE(found.norm, want * 1.01) << length;
      smallest = std::min(smallest, want);
    }
  EXPECT_LT(smallest, 1e-22);
  EXPECT_GT(found_by(25, gaussian(0.115), DType::f32).norm, 1e-9);
  EXPECT_LT(found_by(25, gaussian(0.115), DType::f32).norm, 1e-7);
  EXPECT_LT(found_by(25, gaussian(0.085), DType::f32).norm, 1e-14);
  EXPECT_GT(found_by(2, gaussian(0.5), DType::f32).norm, 0);
}

/// Of many units eigenvalues lie close, and power iteration is slow: still nothing below, and little above.
TEST(CouplingNorm, OfManyUnits) {
  if (checks_cuda_only()) return;
  CouplingOptions screened, lopsided = gaussian(0.05), line = gaussian(0.01);
  screened.law.length = 0.02, screened.law.decay = 0.03;
  lopsided.alpha = 1, lopsided.beta = -0.3;
  line.axes = 1;
  for (const CouplingOptions& o : {screened, gaussian(0.05), lopsided, line}) {
    const Found found = found_by(1024, o, DType::f32);
    const double want = dense_norm(found.k, 1024);
    EXPECT_GE(found.norm, want * (1 - 1e-5));
    EXPECT_LE(found.norm, want * 1.01);
  }
}

/// The additive form moves x by at most |strength| |x|, and by nothing where no unit reaches another.
TEST(CouplingNorm, StrengthBoundsTheField) {
  const int64_t n = 30;
  for (double length : {0.7, 0.115, 0.085, 1e-3})
    for (int64_t rows : {7, 40}) {
      State state(Device::cpu(), 5);
      Graph graph(state);
      const Tensor x = input(graph, "x", {DType::f64, {rows, n}});
      const Units units = coupling_units(graph, n, gaussian(length), DType::f64);

      const Tensor y = coupled_activations(x, units, CouplingForm::ephaptic, -0.7, coupling_norm(units));
      Program program = compile(graph, std::vector{sqrt(sum(square(y - x), {1})) / sqrt(sum(square(x), {1}))});
      state.materialise();
      set(program, "x", DType::f64, draw({{rows, n}, {0, 1}}, 4));
      program.run();
      double most = 0;
      for (double share : program.get<double>(0)) most = std::max(most, share);
      EXPECT_LE(most, 0.7 * (1 + 1e-6)) << length;
      if (length > 1e-2)
        EXPECT_GT(most, 0.07) << length;
      else
        EXPECT_EQ(most, 0);
    }
}

/// Two epochs of a thin `tiny` with learned geometry, and what came of it.
struct Learned {
  std::vector<std::vector<float>> before, after;  // of a site: positions, log sizes, logit myelin
  CouplingNorms first, last;                      // of the initial geometry, and refreshed at the end
  double norm, scale;                             // of the geometry at the end, by a trace of its own
  std::vector<double> positions;                  // as the law sees them
  double loss;
};
Learned learned_by(CouplingForm form) {
  constexpr int64_t batch = 16, steps = 4;
  CouplingOptions coupling{.form = form, .strength = 0.2, .sites = {"conv1", "block3.norm"}, .learned = true};
  Session session(Device::cpu(), {.seed = 3});
  Recipe recipe = models::recipe("tiny", 10, batch);
  recipe.net = Tiny{10, {8, 12, 16}};
  recipe = with_coupling(recipe, coupling);
  const data::Dataset data = data::generated({0, 32, 1}).train;
  TrainStep step = session.train_step(
      {batch, {32, 32, 3}},
      [&](const BatchTensors& b) { return models::train_function(recipe, data.mean, data.std)(b); }, recipe.optimizer,
      steps);
  const std::string scope = "block3.norm.coupling";
  const auto geometry = [&] {
    std::vector<std::vector<float>> parts;
    for (const char* part : {".positions", ".log_size", ".logit_myelin"})
      parts.push_back(session.state().get<float>("parameters", scope + part));
    return parts;
  };
  const auto norms = [&] {
    for (const CouplingNorms& site : coupling_norms(session))
      if (site.scope == scope) return site;
    return CouplingNorms{};
  };
  Learned result;
  refresh_coupling(session, recipe.coupling);
  result.before = geometry(), result.first = norms();
  data::Batch loaded;
  for (int64_t s = 0; s < steps; ++s) {
    data::Batches::training(data.size(), batch, s / 2, 1).load(data, s % 2, loaded);
    step(loaded, s / 2);
  }
  EXPECT_EQ(norms().norm, result.first.norm) << "norms change where they are refreshed, not by themselves";
  refresh_coupling(session, recipe.coupling);
  result.after = geometry(), result.last = norms(), result.loss = step.loss();
  Program program = session.compile([&](Graph& graph) {
    const Scope inside(graph, scope);
    const Units u = coupling_units(graph, 16, coupling, DType::f32);
    return std::vector{u.positions, coupling_norm(u), coupling_scale(u)};
  });
  program.run();
  result.positions = get(program, 0), result.norm = program.scalar(1), result.scale = program.scalar(2);
  return result;
}

TEST(CouplingGeometry, IsLearnedAndStaysPinned) {
  if (checks_cuda_only()) return;
  for (CouplingForm form : {CouplingForm::energy, CouplingForm::covariance, CouplingForm::epistatic_penalty,
                            CouplingForm::ephaptic, CouplingForm::epistatic}) {
    const Learned run = learned_by(form);
    EXPECT_TRUE(std::isfinite(run.loss)) << name_of(form);
    for (size_t part = 0; part < 3; ++part) EXPECT_NE(run.before[part], run.after[part]) << name_of(form) << part;
    double squares = 0;
    for (size_t axis = 0; axis < 2; ++axis) {
      double sum = 0;
      for (size_t i = axis; i < run.positions.size(); i += 2)
        sum += run.positions[i], squares += run.positions[i] * run.positions[i];
      EXPECT_NEAR(sum / 16, 0, 1e-5) << name_of(form);
    }
    EXPECT_NEAR(squares / 32, 1, 1e-5) << name_of(form);
    EXPECT_EQ(run.last.norm, run.norm) << name_of(form);
    EXPECT_EQ(run.last.scale, run.scale) << name_of(form);
    EXPECT_NE(run.last.norm, run.first.norm) << name_of(form);
    EXPECT_NE(run.last.scale, run.first.scale) << name_of(form);
  }
}

}  // namespace
}  // namespace ranvier::test
