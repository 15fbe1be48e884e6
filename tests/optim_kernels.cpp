// Tests of the optimizers: torch's own results, f64 loops, closed forms, schedules, and equality of the fast versions.
#include <gtest/gtest.h>
#include <omp.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <random>
#include <vector>

#include "kernels/optim/muon.h"
#include "kernels/optim/optim.h"
#include "kernels/optim/schedule.h"

namespace {

using namespace ranvier::kernels;

template <class T>
struct State {
  std::vector<T> p, g, m, v;
};

template <class T>
State<T> random_state(int64_t n, uint32_t seed) {
  std::mt19937 generator(seed);
  std::normal_distribution<double> normal;
  State<T> state;
  for (auto* x : {&state.p, &state.g, &state.m, &state.v}) {
    x->resize(n);
    for (T& value : *x) value = static_cast<T>(normal(generator));
  }
  for (T& value : state.v) value = std::fabs(value);
  return state;
}

template <class T>
ParamSlice<T> in_place(State<T>& s, T lr_scale, T decay) {
  const int64_t n = static_cast<int64_t>(s.p.size());
  return {s.p.data(), s.g.data(), s.m.data(), s.v.data(), s.p.data(), s.m.data(), s.v.data(), n, lr_scale, decay};
}

// ---- torch 1.13, f64, four steps at rates 0.1, 0.2, 0.3, 0.4 ----

const double kGradients[4][3] = {{0.1, -0.2, 0.3}, {-0.4, 0.05, 0.25}, {1.5, -0.6, 0.0}, {0.2, 0.2, -0.9}};

template <class Step>
void expect_torch(const double (&expected)[3], double decay, Step step) {
  State<double> s{{0.5, -1.25, 2.0}, {0, 0, 0}, {0, 0, 0}, {0, 0, 0}};
  const ParamSlice<double> slice = in_place(s, 1.0, decay);
  for (int64_t t = 0; t < 4; ++t) {
    s.g.assign(kGradients[t], kGradients[t] + 3);
    const double lr = 0.1 * static_cast<double>(t + 1);
    step(TensorList<double>{1, &slice}, &lr, &t);
  }
  for (int i = 0; i < 3; ++i) EXPECT_NEAR(s.p[i], expected[i], 2e-15) << i;
}

TEST(Optimizers, FollowTorch) {
  expect_torch({-0.664900236227209, -0.7534316726639817, 2.183043203850173}, 0.01,
               [](auto list, const double* lr, const int64_t*) {
                 reference::sgd<double>(list, SgdConfig<double>{.momentum = 0.85, .nesterov = true}, lr, nullptr);
               });
  expect_torch({-0.3461636705480001, -0.7790421715099998, 1.8661481335679997}, 0.01,
               [](auto list, const double* lr, const int64_t*) {
                 reference::sgd<double>(list, SgdConfig<double>{.momentum = 0.9}, lr, nullptr);
               });
  expect_torch({0.03634817525199998, -1.1283732880100001, 2.260688520768}, 0.01,
               [](auto list, const double* lr, const int64_t*) {
                 reference::sgd<double>(list, SgdConfig<double>{}, lr, nullptr);
               });
  expect_torch({0.14864439279606642, -0.6352774629755824, 1.50178861223009}, 0.05,
               [](auto list, const double* lr, const int64_t* t) {
                 reference::adamw<double>(list, AdamWConfig<double>{0.9, 0.99, 1e-8}, lr, t, nullptr);
               });
}

TEST(Optimizers, DecayScaleAndRateScaleDoWhatTheySay) {
  State<double> s{{2, -3}, {0.5, 1}, {0.25, 0.5}, {}};
  const double lr = 0.1, half = 0.5;
  const ParamSlice<double> slice = in_place(s, 2.0, 0.3);
  reference::sgd({1, &slice}, SgdConfig<double>{.momentum = 0.5}, &lr, &half);
  EXPECT_NEAR(s.m[0], 0.5 * 0.25 + (0.5 * 0.5 + 0.3 * 2), 1e-15);
  EXPECT_NEAR(s.m[1], 0.5 * 0.5 + (0.5 * 1 - 0.3 * 3), 1e-15);
  EXPECT_NEAR(s.p[0], 2 - 0.2 * 0.975, 1e-15);
  EXPECT_NEAR(s.p[1], -3 - 0.2 * -0.15, 1e-15);
}

TEST(Optimizers, AverageFollowsItsClosedForm) {
  State<double> s{{1, -2}, {}, {0, 0}, {}};
  const double decay = 0.9;
  const ParamSlice<double> slice = in_place(s, 1.0, 0.0);
  for (int t = 0; t < 20; ++t) reference::ema(TensorList<double>{1, &slice}, &decay);
  EXPECT_NEAR(s.m[0], 1 - std::pow(0.9, 20), 1e-14);
  EXPECT_NEAR(s.m[1], -2 * (1 - std::pow(0.9, 20)), 1e-14);
}

TEST(Optimizers, BiasCorrectionIsOneMinusThePower) {
  for (const int64_t t : {0, 1, 2, 3, 10, 999, 100000}) {
    EXPECT_NEAR(bias_correction(0.999, t), 1 - std::pow(0.999, t), 1e-12) << t;
  }
}

// ---- the list ----

/// Tensors of these sizes: empty, tiny, odd, and larger than a shard.
const int64_t kSizes[] = {5, 0, 1, 100003, 17, 40000, 3};

struct List {
  std::vector<State<float>> states;
  std::vector<ParamSlice<float>> slices;
  TensorList<float> list;

  List() {
    for (const int64_t n : kSizes) states.push_back(random_state<float>(n, static_cast<uint32_t>(n)));
    bind();
  }
  List(const List& other) : states(other.states) { bind(); }
  void bind() {
    for (size_t k = 0; k < states.size(); ++k) slices.push_back(in_place(states[k], 0.5f + k, 0.01f * k));
    list = {static_cast<int64_t>(slices.size()), slices.data()};
  }
};

template <class Plain, class Fast>
void expect_equal_states(Plain plain, Fast fast) {
  const List start;
  List expected = start;
  plain(expected.list);
  const int threads = omp_get_max_threads();
  for (const int count : {1, 2}) {
    List result = start;
    omp_set_num_threads(count);
    fast(result.list);
    for (size_t k = 0; k < result.states.size(); ++k) {
      EXPECT_EQ(result.states[k].p, expected.states[k].p) << k;
      EXPECT_EQ(result.states[k].m, expected.states[k].m) << k;
      EXPECT_EQ(result.states[k].v, expected.states[k].v) << k;
      EXPECT_EQ(result.states[k].g, start.states[k].g) << k;
    }
  }
  omp_set_num_threads(threads);
}

TEST(OptimizersFast, EqualTheReferenceBitForBit) {
  const float lr = 0.1f, scale = 0.7f, decay = 0.99f;
  const int64_t step = 3;
  for (const float* grad_scale : {static_cast<const float*>(nullptr), &scale}) {
    for (const float momentum : {0.0f, 0.9f}) {
      for (const bool nesterov : {false, true}) {
        const SgdConfig<float> config{momentum, nesterov};
        expect_equal_states([&](auto list) { reference::sgd<float>(list, config, &lr, grad_scale); },
                            [&](auto list) { cpu::sgd(list, config, &lr, grad_scale); });
      }
    }
    const AdamWConfig<float> config;
    expect_equal_states([&](auto list) { reference::adamw<float>(list, config, &lr, &step, grad_scale); },
                        [&](auto list) { cpu::adamw(list, config, &lr, &step, grad_scale); });
  }
  expect_equal_states([&](auto list) { reference::ema(list, &decay); }, [&](auto list) { cpu::ema(list, &decay); });
}

TEST(OptimizersFast, WriteToOtherMemoryAndNeedNoUnusedPointer) {
  const State<float> s = random_state<float>(1000, 1);
  std::vector<float> p(1001, 7), expected(1000);
  ParamSlice<float> slice;
  slice.p = s.p.data(), slice.g = s.g.data(), slice.p_new = p.data(), slice.n = 1000;
  const float lr = 0.5f;
  cpu::sgd({1, &slice}, {}, &lr, nullptr);
  for (int i = 0; i < 1000; ++i) EXPECT_EQ(p[i], s.p[i] - 0.5f * s.g[i]);
  EXPECT_EQ(p[1000], 7);
  cpu::sgd({}, {}, &lr, nullptr);
}

TEST(Norm, MatchesAnF64SumAndDoesNotDependOnThreads) {
  const List data;
  double exact = 0;
  for (const State<float>& s : data.states) {
    for (const float g : s.g) exact += double{g} * double{g};
  }
  double workspace[optim_workspace()];
  float norm[3];
  reference::global_norm(data.list, workspace, &norm[0]);
  const int threads = omp_get_max_threads();
  for (const int count : {1, 2}) {
    omp_set_num_threads(count);
    cpu::global_norm(data.list, workspace, &norm[count]);
  }
  omp_set_num_threads(threads);
  EXPECT_FLOAT_EQ(norm[0], static_cast<float>(std::sqrt(exact)));
  EXPECT_FLOAT_EQ(norm[1], norm[0]);
  EXPECT_EQ(norm[1], norm[2]);
  float empty = -1;
  cpu::global_norm({}, workspace, &empty);
  EXPECT_EQ(empty, 0);
}

TEST(Norm, ClipsOnlyWhatIsTooLong) {
  float scale = 0;
  const float norms[] = {4.0f, 0.5f, 0.0f, INFINITY, NAN};
  clip_scale(&norms[0], 2.0f, &scale);
  EXPECT_FLOAT_EQ(scale, 0.5f);
  clip_scale(&norms[1], 2.0f, &scale);
  EXPECT_EQ(scale, 1.0f);
  clip_scale(&norms[2], 2.0f, &scale);
  EXPECT_EQ(scale, 1.0f);
  clip_scale(&norms[3], 2.0f, &scale);
  EXPECT_EQ(scale, 0.0f);
  clip_scale(&norms[4], 2.0f, &scale);
  EXPECT_TRUE(std::isnan(scale));
}

TEST(Norm, CountsWhatIsNotFinite) {
  List data;
  double workspace[optim_workspace()];
  int64_t count = -1, plain = -1;
  cpu::count_nonfinite(data.list, workspace, &count);
  EXPECT_EQ(count, 0);
  data.states[0].g[4] = NAN;
  data.states[3].g[100002] = INFINITY;
  data.states[3].g[50000] = -INFINITY;
  data.states[3].g[50001] = std::numeric_limits<float>::max();
  cpu::count_nonfinite(data.list, workspace, &count);
  reference::count_nonfinite(data.list, workspace, &plain);
  EXPECT_EQ(count, 3);
  EXPECT_EQ(plain, 3);
}

// ---- schedules ----

TEST(Schedule, TriangleRisesAndFalls) {
  const LrSchedule s = triangle_schedule(2.0, 100, 0.2, 0.5, 0.1);
  const std::pair<int64_t, double> expected[] = {{0, 1}, {10, 1.5}, {20, 2}, {60, 1.1}, {100, 0.2}, {1000, 0.2}};
  for (const auto& [step, value] : expected) {
    double lr = 0;
    learning_rate(s, &step, &lr);
    EXPECT_NEAR(lr, value, 1e-15) << step;
  }
  const LrSchedule falling = triangle_schedule(1.0, 200, 0);
  for (const int64_t t : {0, 1, 77, 199, 200}) EXPECT_NEAR(schedule_value(falling, t), 1 - t / 200.0, 1e-15) << t;
  EXPECT_EQ(schedule_value(triangle_schedule(3, 10, 1), 5), 1.5);
}

TEST(Schedule, CosineFallsAsHalfAWave) {
  const LrSchedule s = cosine_schedule(3.0, 110, 10, 0.2);
  for (int t = 0; t <= 10; ++t) EXPECT_NEAR(schedule_value(s, t), 0.3 * t, 1e-15) << t;
  for (int t = 10; t <= 110; ++t) {
    EXPECT_NEAR(schedule_value(s, t), 0.6 + 2.4 * 0.5 * (1 + std::cos(M_PI * (t - 10) / 100.0)), 1e-14) << t;
  }
  EXPECT_EQ(schedule_value(s, 500), 3.0 * 0.2);
  EXPECT_EQ(schedule_value(constant_schedule(0.25), 12345), 0.25);
}

TEST(Schedule, RefusesBadTables) {
  const SchedulePoint twice[2] = {{5, 1}, {5, 2}}, bad[1] = {{0, NAN}};
  EXPECT_THROW(piecewise_schedule(twice, 2), std::runtime_error);
  EXPECT_THROW(piecewise_schedule(bad, 1), std::runtime_error);
  EXPECT_THROW(piecewise_schedule(twice, 0), std::runtime_error);
  EXPECT_THROW(piecewise_schedule(twice, 17), std::runtime_error);
  EXPECT_THROW(triangle_schedule(1, 100, 1.5), std::runtime_error);
  EXPECT_THROW(triangle_schedule(1, 0, 0.5), std::runtime_error);
  EXPECT_THROW(cosine_schedule(1, 100, 100), std::runtime_error);
}

// ---- Muon ----

/// Random (rows, cols) matrix Q1 diag(values) Q2^T with known singular values: Gram-Schmidt on Gaussian columns.
struct Factored {
  std::vector<double> matrix, target;  ///< target: the same singular vectors, each value through the iterated quintic
};

std::vector<double> orthonormal_columns(int64_t rows, int64_t count, uint32_t seed) {
  std::mt19937 generator(seed);
  std::normal_distribution<double> normal;
  std::vector<double> q(rows * count);  // column j at q[j * rows]
  for (int64_t j = 0; j < count; ++j) {
    double* column = &q[j * rows];
    for (int64_t i = 0; i < rows; ++i) column[i] = normal(generator);
    for (int pass = 0; pass < 2; ++pass) {
      for (int64_t l = 0; l < j; ++l) {
        double dot = 0;
        for (int64_t i = 0; i < rows; ++i) dot += column[i] * q[l * rows + i];
        for (int64_t i = 0; i < rows; ++i) column[i] -= dot * q[l * rows + i];
      }
    }
    double norm = 0;
    for (int64_t i = 0; i < rows; ++i) norm += column[i] * column[i];
    for (int64_t i = 0; i < rows; ++i) column[i] /= std::sqrt(norm);
  }
  return q;
}

Factored factored(int64_t rows, int64_t cols, const NewtonSchulz& config) {
  const int64_t rank = std::min(rows, cols);
  const std::vector<double> left = orthonormal_columns(rows, rank, 1), right = orthonormal_columns(cols, rank, 2);
  std::vector<double> values(rank), mapped(rank);
  double squares = 0;
  for (int64_t k = 0; k < rank; ++k) values[k] = 0.3 + k, squares += values[k] * values[k];
  for (int64_t k = 0; k < rank; ++k) {
    double s = values[k] / (std::sqrt(squares) + 1e-7);
    for (int i = 0; i < config.iterations; ++i) s = config.a * s + config.b * s * s * s + config.c * std::pow(s, 5);
    mapped[k] = s;
  }
  Factored f{std::vector<double>(rows * cols), std::vector<double>(rows * cols)};
  for (int64_t i = 0; i < rows; ++i) {
    for (int64_t j = 0; j < cols; ++j) {
      for (int64_t k = 0; k < rank; ++k) {
        const double outer = left[k * rows + i] * right[k * cols + j];
        f.matrix[i * cols + j] += values[k] * outer;
        f.target[i * cols + j] += mapped[k] * outer;
      }
    }
  }
  return f;
}

TEST(Muon, MapsSingularValuesAndKeepsVectors) {
  const std::pair<int64_t, int64_t> shapes[] = {{6, 15}, {15, 6}, {7, 7}, {1, 9}, {9, 1}, {1, 1}};
  for (const auto& [rows, cols] : shapes) {
    for (const int iterations : {0, 1, 3, 5}) {
      NewtonSchulz config;
      config.iterations = iterations;
      const Factored f = factored(rows, cols, config);
      std::vector<double> workspace(muon_workspace(rows, cols)), out(rows * cols);
      reference::muon_orthogonalize(rows, cols, f.matrix.data(), config, reference::gemm<double>, workspace.data(),
                                    out.data());
      const std::vector<float> single(f.matrix.begin(), f.matrix.end());
      std::vector<float> single_workspace(muon_workspace(rows, cols)), single_out(rows * cols);
      reference::muon_orthogonalize(rows, cols, single.data(), config, reference::gemm<float>, single_workspace.data(),
                                    single_out.data());
      for (int64_t i = 0; i < rows * cols; ++i) {
        EXPECT_NEAR(out[i], f.target[i], 1e-12) << rows << "x" << cols << " " << iterations;
        EXPECT_NEAR(single_out[i], f.target[i], 2e-4) << rows << "x" << cols << " " << iterations;
      }
    }
  }
}

TEST(Muon, StepRenormalizesAndMoves) {
  const int64_t rows = 4, cols = 9, size = rows * cols;
  State<double> s = random_state<double>(size, 5);
  const double lr = 0.24;
  const MuonConfig config;
  std::vector<double> workspace(muon_workspace(rows, cols) + size), m(size), u(size), expected(size);
  double norm = 0;
  for (int64_t i = 0; i < size; ++i) {
    m[i] = 0.6 * s.m[i] + s.g[i];
    u[i] = s.g[i] + 0.6 * m[i];
    norm += s.p[i] * s.p[i];
  }
  reference::muon_orthogonalize(rows, cols, u.data(), config.newton_schulz, reference::gemm<double>, workspace.data(),
                                u.data());
  for (int64_t i = 0; i < size; ++i) expected[i] = s.p[i] * 2 / std::sqrt(norm) - lr * u[i];
  reference::muon_step(rows, cols, s.p.data(), s.g.data(), s.m.data(), config, &lr, reference::gemm<double>,
                       workspace.data(), s.p.data(), s.m.data());
  for (int64_t i = 0; i < size; ++i) {
    EXPECT_NEAR(s.p[i], expected[i], 1e-14);
    EXPECT_NEAR(s.m[i], m[i], 1e-15);
  }
}

}  // namespace
