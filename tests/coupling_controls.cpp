// The controls of a study of couplings: same spectrum, other neighbours; geometry dealt anew and nothing lost.
#include "models/coupling_controls.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>

#include "engine/draws.h"
#include "engine/ops.h"
#include "models/vision.h"
#include "tests/support/files.h"

namespace ranvier::models {
namespace {

using testing::error_of;

CouplingOptions energy() { return {.form = CouplingForm::energy, .strength = 0.1, .sites = {"block2.norm"}}; }

double trace(std::span<const double> m, int64_t n) {
  double sum = 0;
  for (int64_t i = 0; i < n; ++i) sum += m[static_cast<size_t>(i * n + i)];
  return sum;
}

std::vector<double> product(std::span<const double> a, std::span<const double> b, int64_t n) {
  std::vector<double> c(static_cast<size_t>(n * n));
  for (int64_t i = 0; i < n; ++i)
    for (int64_t k = 0; k < n; ++k)
      for (int64_t j = 0; j < n; ++j)
        c[static_cast<size_t>(i * n + j)] += a[static_cast<size_t>(i * n + k)] * b[static_cast<size_t>(k * n + j)];
  return c;
}

// Matrices of equal traces of all powers have equal eigenvalues.
TEST(CouplingControls, SameSpectrumOtherNeighbours) {
  Session session(Device::cpu(), {.seed = 3});
  const int64_t n = 12;
  const std::vector<double> k = coupling_matrix(session, "layer.coupling", n, energy());
  const std::vector<double> other = same_spectrum(k, n, 1);
  std::vector<double> a = k, b = other;
  for (int power = 1; power <= 6; ++power) {
    const double size = std::max(1.0, std::abs(trace(a, n)));
    EXPECT_NEAR(trace(a, n), trace(b, n), 1e-5 * size) << power;
    a = product(a, k, n), b = product(b, other, n);
  }
  double change = 0;
  for (size_t e = 0; e < k.size(); ++e) change = std::max(change, std::abs(k[e] - other[e]));
  EXPECT_GT(change, 0.1);
  EXPECT_NE(same_spectrum(k, n, 2), other);
}

TEST(CouplingControls, TheMatrixIsThatOfThePenalty) {
  Session session(Device::cpu(), {.seed = 3});
  const int64_t n = 10, rows = 40;
  const std::vector<double> k = coupling_matrix(session, "layer.coupling", n, energy());
  for (int64_t i = 0; i < n; ++i) {
    EXPECT_EQ(k[static_cast<size_t>(i * n + i)], 0);
    for (int64_t j = 0; j < n; ++j)
      EXPECT_NEAR(k[static_cast<size_t>(i * n + j)], k[static_cast<size_t>(j * n + i)], 1e-6);
  }
  std::vector<float> x, matrix(k.begin(), k.end());
  const Draws draws(1, "test.rows");
  for (int64_t e = 0; e < rows * n; ++e) x.push_back(draws.normal(0, static_cast<uint64_t>(e)));
  Program program = session.compile([&](Graph& graph) {
    const Tensor values = constant<float>(graph, {rows, n}, x);
    const Scope layer(graph, "layer.coupling");
    const Units u = coupling_units(graph, n, energy(), DType::f32);
    return std::vector{coupling_penalty(values, u, CouplingForm::energy),
                       dense_energy(values, constant<float>(graph, {n, n}, matrix))};
  });
  program.run();
  EXPECT_NEAR(program.scalar(0), program.scalar(1), 1e-5 * std::max(1e-3, std::abs(program.scalar(0))));
  EXPECT_NE(program.scalar(0), 0);
}

TEST(CouplingControls, DealtGeometryIsTheSameInAnotherOrder) {
  Session session(Device::cpu(), {.seed = 3});
  Recipe recipe = with_coupling(models::recipe("tiny", 10, 8), energy());
  recipe.net = Tiny{10, {8, 8, 8}};
  session.train_step({8, {32, 32, 3}}, train_function(recipe, {0.5f, 0.5f, 0.5f}, {0.2f, 0.2f, 0.2f}),
                     recipe.optimizer);
  session.state().materialise();
  refresh_coupling(session, recipe.coupling);
  const std::string name = "block2.norm.coupling.log_size";
  const auto sizes = [&] { return session.state().get<float>("buffers", name); };
  const auto sorted = [](std::vector<float> v) {
    std::sort(v.begin(), v.end());
    return v;
  };
  const std::vector<float> before = sizes();
  GeometryDealer dealer(session, 7);
  dealer.deal(0);
  const std::vector<float> first = sizes();
  EXPECT_NE(first, before);
  EXPECT_EQ(sorted(first), sorted(before));
  dealer.deal(1);
  EXPECT_NE(sizes(), first);
  dealer.deal(0);
  EXPECT_EQ(sizes(), first);
}

/// One part is dealt, the others stay.
TEST(CouplingControls, PartsAreDealtAlone) {
  Session session(Device::cpu(), {.seed = 3});
  Recipe recipe = with_coupling(models::recipe("tiny", 10, 8), energy());
  recipe.net = Tiny{10, {8, 8, 8}};
  session.train_step({8, {32, 32, 3}}, train_function(recipe, {0.5f, 0.5f, 0.5f}, {0.2f, 0.2f, 0.2f}),
                     recipe.optimizer);
  session.state().materialise();
  const std::vector<std::string> parts = {"positions", "log_size", "logit_myelin"};
  const auto values = [&](const std::string& part) {
    return session.state().get<float>("buffers", "block2.norm.coupling." + part);
  };
  for (const std::string& dealt : parts) {
    std::vector<std::vector<float>> before;
    for (const std::string& part : parts) before.push_back(values(part));
    GeometryDealer(session, 5, dealt).deal(3);
    for (size_t k = 0; k < parts.size(); ++k) EXPECT_EQ(values(parts[k]) != before[k], parts[k] == dealt) << dealt;
  }
  EXPECT_NE(error_of([&] { GeometryDealer(session, 5, "charge"); }).find("no 'charge'"), std::string::npos);
}

/// Blocks of 3 x 3 vanish, about a share p of the map, and the sum stays; in evaluation nothing happens.
TEST(CouplingControls, DropBlockDropsBlocks) {
  const int64_t images = 40, side = 8, channels = 6;
  for (bool training : {true, false}) {
    State state;
    Graph graph(state, training);
    const Tensor x = full(graph, {DType::f32, {images, side, side, channels}}, 1.0);
    Program program = compile(graph, std::vector{drop_block(x, 0.2)});
    state.materialise();
    program.run();
    const std::vector<float> y = program.get<float>(0);
    const auto at = [&](int64_t n, int64_t i, int64_t j, int64_t c) {
      return y[static_cast<size_t>(((n * side + i) * side + j) * channels + c)];
    };
    double lost = 0, total = 0;
    for (int64_t n = 0; n < images; ++n)
      for (int64_t c = 0; c < channels; ++c)
        for (int64_t i = 0; i < side; ++i)
          for (int64_t j = 0; j < side; ++j) {
            total += at(n, i, j, c);
            if (at(n, i, j, c) != 0) continue;
            ++lost;
            bool in_block = false;  // some 3 x 3 around it has gone as a whole
            for (int64_t a = std::max<int64_t>(0, i - 2); a <= std::min(i, side - 3); ++a)
              for (int64_t b = std::max<int64_t>(0, j - 2); b <= std::min(j, side - 3); ++b) {
                bool whole = true;
                for (int64_t k = 0; k < 9; ++k) whole = whole && at(n, a + k / 3, b + k % 3, c) == 0;
                in_block = in_block || whole;
              }
            ASSERT_TRUE(in_block) << n << " " << i << " " << j << " " << c;
          }
    const double all = static_cast<double>(images * side * side * channels);
    EXPECT_NEAR(total, all, 1e-3 * all);
    if (training)
      EXPECT_NEAR(lost / all, 0.18, 0.03);  // blocks that meet take a little less than p
    else
      EXPECT_EQ(lost, 0);
  }
}

/// Both start where they should, and have the parameters that they are named for.
TEST(CouplingControls, FreeMatrixAndExtraParameters) {
  State state;
  Graph graph(state, true);
  const Tensor x = input(graph, "x", {DType::f32, {2, 3, 3, 5}});
  Program program = compile(graph, std::vector{extra_parameters(x, 0.3), free_matrix(x, 0.3)});
  state.materialise();
  EXPECT_EQ(state.get<float>("parameters", "coupling.extra").size(), 20u);
  const std::vector<float> l = state.get<float>("parameters", "coupling.free");
  EXPECT_EQ(l.size(), 25u);
  std::vector<float> values;
  const Draws draws(1, "test.values");
  for (uint64_t e = 0; e < 90; ++e) values.push_back(draws.normal(0, e));
  program.set<float>("x", values);
  program.run();
  EXPECT_EQ(program.get<float>(0), values);
  const std::vector<float> y = program.get<float>(1);
  for (size_t r = 0; r < 18; ++r)
    for (size_t i = 0; i < 5; ++i) {
      double field = 0;
      for (size_t j = 0; j < 5; ++j)
        if (j != i) field += static_cast<double>(values[5 * r + j]) * static_cast<double>(l[5 * j + i]);
      EXPECT_NEAR(y[5 * r + i], values[5 * r + i] + 0.3 * std::tanh(field), 1e-5);
    }
}

TEST(CouplingControls, BadInput) {
  Session session(Device::cpu(), {.seed = 3});
  EXPECT_NE(error_of([&] { GeometryDealer(session, 1); }).find("no layer is coupled"), std::string::npos);
  EXPECT_NE(error_of([&] { same_spectrum(std::vector<double>(3), 2, 1); }).find("2 x 2"), std::string::npos);
  CouplingOptions lopsided = energy();
  lopsided.beta = 1;
  EXPECT_NE(error_of([&] { coupling_matrix(session, "l", 4, lopsided); }).find("beta 1"), std::string::npos);
}

}  // namespace
}  // namespace ranvier::models
