// The batched search: its gradient against differences, a window against the traced optimizer, the same bits on both
// backends and in every order of threads, and rows that fail alone.
#include "kernels/segment_fit/segment_fit.h"

#include "engine/segment_fit.h"

#include <array>
#include <cmath>

#include "models/collocation.h"
#include "models/pinn_many.h"
#include "models/pinn_segment.h"
#include "tests/case.h"

namespace ranvier::pinn {
namespace {

using test::error_of;

/// Two rows of one shape: a window of the 2003 neuron, and a segment that ends in its first spike.
struct Rows {
  SegmentFit fit;
  std::vector<double> s, about, x, memory, info;

  explicit Rows(SegmentFit f) : fit(f) {
    const Neuron neuron = Neuron::preset("rs2003");
    Options options;
    options.hidden = fit.hidden, options.points = fit.points;
    SegmentSolver solver(neuron, options);
    std::mt19937_64 random(5);
    for (const bool spike : {false, true}) {
      Segment segment;
      segment.length_ms = spike ? 3.1 : 1.5, segment.phi0 = solver.form().phi(neuron.v0), segment.u0 = neuron.u0;
      segment.current = 10, segment.spike = spike, segment.rise = spike ? solver.phi_peak() - segment.phi0 : 0;
      SegmentSolver::Fit one = solver.begin(segment, random);
      if (spike) one.unknowns.back() = 0.05;
      const auto append = [](std::vector<double>& to, const std::vector<double>& from) {
        to.insert(to.end(), from.begin(), from.end());
      };
      append(s, one.points), append(x, one.unknowns), append(about, solver.description(segment));
    }
    memory.assign(static_cast<size_t>(2 * fit.memory()), 0);
    info.assign(16, 0);
    info[1] = info[9] = -1;
  }

  /// One call: unknowns, memory, info.
  std::vector<std::vector<double>> run(const Device& device = Device::cpu()) const {
    State state(device);
    Graph graph(state);
    const auto rows = [&](const char* name, int64_t n) { return input(graph, name, {DType::f64, {2, n}}); };
    const auto r = segment_fit(rows("s", fit.points), rows("about", 16), rows("x", fit.unknowns()),
                               rows("memory", fit.memory()), rows("info", 8), fit);
    Program program = compile(graph, std::vector{r.unknowns, r.memory, r.info}, {.device = device});
    program.set<double>("s", s), program.set<double>("about", about), program.set<double>("x", x);
    program.set<double>("memory", memory), program.set<double>("info", info);
    program.run();
    return {program.get<double>(0), program.get<double>(1), program.get<double>(2)};
  }
  void go_on() {
    const auto r = run();
    x = r[0], memory = r[1], info = r[2];
  }
};

// No iteration at all: the value and the gradient at the start are what is left.
TEST(SegmentFit, GradientAgainstDifferences) {
  Rows rows({.hidden = 5, .points = 21, .launch_iterations = 1, .iterations = 0, .patience = 200, .stall_share = 0});
  const auto at = rows.run();
  const int64_t unknowns = rows.fit.unknowns(), padded = 32;
  ASSERT_EQ(rows.fit.memory(), padded * (padded + 1));
  for (int64_t row = 0; row < 2; ++row)
    for (int64_t p = 0; p < unknowns; ++p) {
      const double h = 1e-5;
      double value[2];
      for (const int side : {0, 1}) {
        Rows moved = rows;
        moved.x[static_cast<size_t>(row * unknowns + p)] += side ? h : -h;
        value[side] = moved.run()[2][static_cast<size_t>(row * 8)];
      }
      const double slope = (value[1] - value[0]) / (2 * h);
      const double g = at[1][static_cast<size_t>(row * rows.fit.memory() + padded * padded + p)];
      EXPECT_TRUE(std::abs(g - slope) <= 1e-8 + 1e-6 * std::abs(slope)) << row << " " << p << ": " << g << " " << slope;
    }
}

TEST(SegmentFit, ReachesWhatIsWantedInAnyNumberOfCalls) {
  Rows whole(
      {.hidden = 12, .points = 48, .launch_iterations = 3000, .iterations = 3000, .patience = 200, .stall_share = 0});
  Rows pieces = whole;
  pieces.fit.launch_iterations = 37;
  for (Rows* rows : {&whole, &pieces}) {
    int calls = 0;
    while (rows->info[4] == 0 || rows->info[12] == 0) {
      rows->go_on();
      ASSERT_LE(++calls, 100);
    }
  }
  EXPECT_EQ(pieces.x, whole.x);
  EXPECT_EQ(pieces.info, whole.info);
  for (const size_t row : {size_t{0}, size_t{8}}) {
    EXPECT_EQ(whole.info[row + 4], 1) << "ended by reaching the value";
    EXPECT_LE(whole.info[row], 1e-13);
  }
  // the exact first spike: 3.127055304 ms
  EXPECT_NEAR(3.1 * (1 + whole.x.back()), 3.127055304, 1e-4);
}

TEST(SegmentFit, SameBitsOnCuda) {
  if (!cuda_support().usable) GTEST_SKIP() << "skipped: no CUDA device (" << cuda_support().why << ")";
  // the second has more units than a block has groups of lanes, the third more points than threads
  for (const auto [hidden, points, calls] : {std::array<int64_t, 3>{7, 35, 2}, {30, 50, 1}, {2, 400, 1}}) {
    Rows rows({.hidden = hidden,
               .points = points,
               .launch_iterations = 6,
               .iterations = 1000,
               .patience = 5,
               .stall_share = 1e-9});
    for (int64_t call = 0; call < calls; ++call) {
      const auto wanted = rows.run();
      EXPECT_GE(wanted[2][1], 5) << "iterations";
      test::in_every_emulated_mode([&] { EXPECT_EQ(rows.run(Device::cuda()), wanted) << hidden << " call " << call; });
      rows.go_on();
    }
  }
}

#if defined(RANVIER_HAS_CUDA)
TEST(SegmentFit, ABlockTakesWhatItsSharedMemoryHolds) {
  constexpr kernels::FitDims full{1, 12, 752}, larger{1, 12, 753};
  static_assert(full.scratch() * sizeof(double) == 160 * 1024);
  EXPECT_TRUE(kernels::cuda::segment_fit_supports(full));
  EXPECT_FALSE(kernels::cuda::segment_fit_supports(larger));
}
#endif

TEST(SegmentFit, ARowThatIsNotFiniteEndsAlone) {
  Rows rows({.hidden = 5, .points = 21, .launch_iterations = 4, .iterations = 100, .patience = 200, .stall_share = 0});
  const auto good = rows.run();
  rows.x[3] = std::nan("");
  const auto r = rows.run();
  EXPECT_EQ(r[2][4], 5) << "not finite";
  EXPECT_EQ(r[2][12], 0) << "the other goes on";
  EXPECT_EQ(r[2][8], good[2][8]);
}

// The network's constant term takes phi far below every angle: beyond what the bounded sine reduces.
TEST(SegmentFit, AnAngleBeyondTheSinesBoundIsNotFinite) {
  Rows rows({.hidden = 5, .points = 21, .launch_iterations = 4, .iterations = 100, .patience = 200, .stall_share = 0});
  rows.x[20] = -1e7;
  EXPECT_EQ(rows.run()[2][4], 0) << "within it";
  rows.x[20] = -1e12;
  const auto r = rows.run();
  EXPECT_EQ(r[2][4], 5) << "not finite";
  EXPECT_TRUE(std::isnan(r[2][0]));
  EXPECT_EQ(r[2][12], 0) << "the other goes on";
}

TEST(SegmentFit, Errors) {
  State state;
  Graph graph(state);
  const auto zeros = [&](int64_t a, int64_t b) { return full(graph, {DType::f64, {a, b}}, 0); };
  const SegmentFit fit{
      .hidden = 2, .points = 5, .launch_iterations = 1, .iterations = 1, .patience = 1, .stall_share = 0};
  EXPECT_ERROR(segment_fit(zeros(1, 4), zeros(1, 16), zeros(1, 11), zeros(1, 272), zeros(1, 8), fit),
               "s must be f64(1, 5)");
  SegmentFit none = fit;
  none.hidden = 0;
  EXPECT_ERROR(segment_fit(zeros(1, 5), zeros(1, 16), zeros(1, 3), zeros(1, 272), zeros(1, 8), none), "hidden 0");
}

/// Neurons of both forms in one batch: spike times as exact as one by one, and a failing one by itself.
TEST(PinnMany, ABatchOfNeurons) {
  Options options = Options::quality("fast");
  const bool emulated = cuda_support().usable;
  if (emulated) options.hidden = 8, options.points = 32, options.window_loss = options.spike_loss = 1e-8;
  const std::vector<Job> jobs = {{Neuron::preset("rs2003"), Current::parse("10"), 0},
                                 {Neuron::preset("rs2003"), Current::parse("10"), 1},
                                 {Neuron::preset("rs2007"), Current::parse("20"), 0}};
  const double duration = emulated ? 1 : 30;  // the emulator takes its time: no spike in it
  const auto solutions = solve_many(jobs, duration, options, emulated ? Device::cuda() : Device::cpu());
  ASSERT_EQ(solutions.size(), 3u);
  for (const Solution& s : solutions) {
    EXPECT_EQ(s.failure, "");
    EXPECT_EQ(s.reached_ms, duration);
    EXPECT_LE(s.worst_fresh_ratio(), 2);
  }
  const double exact[] = {3.127055304, 26.226024650};
  for (const size_t k : {size_t{0}, size_t{1}}) {
    ASSERT_EQ(solutions[k].spike_times_ms.size(), emulated ? 0u : 2u);
    for (size_t i = 0; i < solutions[k].spike_times_ms.size(); ++i)
      EXPECT_NEAR(solutions[k].spike_times_ms[i], exact[i], 1e-4);
  }
  EXPECT_NE(solutions[0].at(duration).v, solutions[1].at(duration).v) << "other seeds, other networks";
  EXPECT_TRUE(solutions[2].spike_times_ms.empty());
  EXPECT_ERROR(solve_many({}, 1, options, Device::cpu()), "no neurons");
}

TEST(PinnMany, StopsInTime) {
  Options options = Options::quality("fast");
  options.budget_seconds = 0;
  const std::vector<Job> jobs = {{Neuron::preset("rs2003"), Current::parse("10"), 0}};
  EXPECT_NE(solve_many(jobs, 5, options, Device::cpu())[0].failure.find("time budget"), std::string::npos);
  options.budget_seconds = 1e9;
  const auto stopped =
      solve_many(jobs, 1000, options, Device::cpu(), [](const ManyProgress& at) { return at.launches < 3; });
  EXPECT_NE(stopped[0].failure.find("interrupted"), std::string::npos);
}

}  // namespace
}  // namespace ranvier::pinn
