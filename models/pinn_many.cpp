// The batch: a row a neuron, refilled with its next segment as soon as the last one is done.
#include "models/pinn_many.h"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <exception>
#include <memory>

#include "engine/program.h"
#include "engine/segment_fit.h"
#include "models/pinn_march.h"

namespace ranvier::pinn {
namespace {

// As kernels/segment_fit/segment_fit.h orders them.
constexpr int64_t columns = 16, info_columns = 8;
enum Info { value_, iterations_, evaluations_, fresh_, end_ };
constexpr int64_t launch_iterations = 64;

/// The program and its arrays on the host.
class Batch {
 public:
  Batch(int64_t rows, const Options& o, const Device& device)
      : fit_{o.hidden, o.points, launch_iterations, o.iterations, 200, 0.02}, state_(device) {
    Graph graph(state_);
    const auto f64 = [](int64_t a, int64_t b) { return Type{DType::f64, {a, b}}; };
    const Tensor s = input(graph, "s", f64(rows, o.points)), about = input(graph, "about", f64(rows, columns));
    const Tensor begin = input(graph, "begin", f64(rows, fit_.unknowns())),
                 starts = input(graph, "starts", {DType::f64, {rows, 1}});
    const auto zeros = init::constant(0);
    const Tensor x = read(graph, "session", "x", begin.type(), zeros),
                 memory = read(graph, "session", "memory", f64(rows, fit_.memory()), zeros),
                 info = read(graph, "session", "info", f64(rows, info_columns), zeros);
    // a row that starts: unknowns from the host, and a negative count of iterations
    const SegmentFitResult r =
        segment_fit(s, about, where(starts, begin, x), memory, where(starts, full(graph, info.type(), -1), info), fit_);
    assign(graph, "session", "x", r.unknowns);
    assign(graph, "session", "memory", r.memory);
    assign(graph, "session", "info", r.info);
    program_ = compile(graph, std::vector{r.unknowns, r.info}, {.device = device});
    s_.assign(static_cast<size_t>(rows * o.points), 0.5), about_.assign(static_cast<size_t>(rows * columns), 1);
    begin_.assign(static_cast<size_t>(rows * fit_.unknowns()), 0), starts_.assign(static_cast<size_t>(rows), 0);
  }

  void put(int64_t row, const std::vector<double>& s, const std::vector<double>& about, const std::vector<double>& x) {
    std::copy(s.begin(), s.end(), s_.begin() + row * fit_.points);
    std::copy(about.begin(), about.end(), about_.begin() + row * columns);
    std::copy(x.begin(), x.end(), begin_.begin() + row * fit_.unknowns());
    starts_[static_cast<size_t>(row)] = 1;
  }

  void run() {
    program_.set<double>("s", s_), program_.set<double>("about", about_);
    program_.set<double>("begin", begin_), program_.set<double>("starts", starts_);
    program_.run();
    std::fill(starts_.begin(), starts_.end(), 0.0);
    x_ = program_.get<double>(0), info_ = program_.get<double>(1);
  }

  bool ended(int64_t row) const { return info(row, end_) != 0; }
  optimize::Result result(int64_t row) const {
    optimize::Result r;
    const auto first = x_.begin() + row * fit_.unknowns();
    r.x.assign(first, first + fit_.unknowns());
    r.value = info(row, value_);
    r.iterations = static_cast<int64_t>(info(row, iterations_));
    r.evaluations = static_cast<int64_t>(info(row, evaluations_));
    r.history = {r.value};
    return r;
  }

 private:
  double info(int64_t row, Info column) const { return info_[static_cast<size_t>(row * info_columns + column)]; }

  SegmentFit fit_;
  State state_;
  Program program_;
  std::vector<double> s_, about_, begin_, starts_, x_, info_;
};

/// A neuron and the fit that it waits for.
struct Row {
  March march;
  SegmentSolver::Fit fit{};
};

}  // namespace

std::vector<Solution> solve_many(const std::vector<Job>& jobs, double duration_ms, const Options& options,
                                 const Device& device, const std::function<bool(const ManyProgress&)>& progress) {
  options.check();
  if (jobs.empty()) fail("solve_many: there are no neurons");
  if (options.levenberg_marquardt) fail("solve_many: fits by self-scaled BFGS, not by Levenberg-Marquardt");
  if (!(duration_ms > 0 && std::isfinite(duration_ms))) fail("duration {} ms: must be positive", duration_ms);
  using Clock = std::chrono::steady_clock;
  const Clock::time_point began = Clock::now();
  const auto count = static_cast<int64_t>(jobs.size());
  Batch batch(count, options, device);
  std::vector<std::unique_ptr<Row>> rows;
  const auto put = [&](int64_t k, bool again) {
    Row& row = *rows[static_cast<size_t>(k)];
    if (!again) row.fit = row.march.solver().begin(row.march.pending(), row.march.random());
    batch.put(k, row.fit.points, row.march.solver().description(row.march.pending()), row.fit.unknowns);
  };
  const auto go_on = [&](int64_t k, bool late) {
    Row& row = *rows[static_cast<size_t>(k)];
    March& march = row.march;
    if (!march.running() || !(late || batch.ended(k))) return;
    const bool done = march.solver().conclude(march.pending(), row.fit, batch.result(k), march.random());
    if (late) return march.out_of_time();
    if (done) march.fitted();
    if (march.running()) put(k, !done);
  };
  for (const Job& job : jobs) {
    Options own = options;
    own.seed += job.seed;
    rows.push_back(std::make_unique<Row>(Row{March(job.neuron, job.current, duration_ms, own)}));
    if (rows.back()->march.running()) put(static_cast<int64_t>(rows.size()) - 1, false);
  }
  for (int64_t launches = 1;; ++launches) {
    batch.run();
    const bool late = std::chrono::duration<double>(Clock::now() - began).count() > options.budget_seconds;
    ManyProgress at{0, count, 0, launches, duration_ms};
    // Rows know nothing of each other: what the host does for them, it does side by side.
    std::exception_ptr trouble;
#pragma omp parallel for schedule(dynamic)
    for (int64_t k = 0; k < count; ++k) {
      try {
        go_on(k, late);
      } catch (...) {
#pragma omp critical
        trouble = std::current_exception();
      }
    }
    if (trouble) std::rethrow_exception(trouble);
    for (const auto& row : rows) {
      const March& march = row->march;
      at.finished += !march.running(), at.spikes += static_cast<int64_t>(march.solution().spike_times_ms.size());
      at.least_ms = std::min(at.least_ms, march.t_ms());
    }
    if (progress && !progress(at))
      for (const auto& row : rows)
        if (row->march.running()) row->march.end(fmt::format("interrupted at {:.3f} ms", row->march.t_ms()));
    if (std::none_of(rows.begin(), rows.end(), [](const auto& row) { return row->march.running(); })) break;
  }
  std::vector<Solution> solutions;
  for (const auto& row : rows) solutions.push_back(row->march.solution());
  return solutions;
}

}  // namespace ranvier::pinn
