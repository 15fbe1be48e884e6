// `ranvier bench pinn`: milliseconds of a training step of the published guided network, and of an evaluation of the
// window solver's.
#include <algorithm>
#include <chrono>

#include "engine/grad.h"
#include "models/pinn_baseline.h"
#include "tools/pinn_options.h"
#include "tools/run.h"

namespace ranvier::cli {
namespace {

using Json = nlohmann::ordered_json;

struct BenchPinnOptions {
  Common common;
  int64_t steps = 40;
};

struct Row {
  std::string name, shape;
  double best_ms, median_ms, cpu_ms, gflops;
};

template <class Body>
Row time(const char* name, std::string shape, int64_t steps, double flops, Body&& body) {
  for (int i = 0; i < 3; ++i) body();
  std::vector<double> times;
  const Stopwatch all;
  for (int64_t i = 0; i < steps; ++i) {
    const Stopwatch watch;
    body();
    times.push_back(1e3 * watch.wall());
  }
  const double cpu = 1e3 * all.cpu() / static_cast<double>(steps);
  std::sort(times.begin(), times.end());
  return {name, std::move(shape), times.front(), times[times.size() / 2], cpu, flops / times.front() / 1e6};
}

/// 1-128-128-128-128-2, 2,000 points, residuals of the neuron, Adam: a step of the published guided design without its
/// data, which is what tools/bench/peer_pinn.py times in PyTorch.
Row guided_step(DType dtype, int64_t steps) {
  const pinn::Neuron neuron = pinn::Neuron::preset("rs2003");
  pinn::Baseline design = pinn::Baseline::named("global", 5);
  design.hidden = {128, 128, 128, 128};
  design.points.clear();
  for (int i = 0; i < 2000; ++i) design.points.push_back(5.0 * i / 1999);
  pinn::BaselineTraining training(design, neuron, pinn::Current::parse("10"), 5, {}, dtype, 0);
  const double products = 128 + 3 * 128.0 * 128 + 2 * 128;  // multiply-adds of one row: value, tangent, and twice back
  return time(dtype == DType::f32 ? "guided step f32" : "guided step f64", "1-128x4-2, 2000 points", steps,
              2000 * products * 12, [&] { training.step(1e-3); });
}

/// Value and gradient of a window: 1-20-2 in f64 at 160 points.
Row window_evaluation(int64_t steps) {
  State state;
  state.set_parameter_type(DType::f64);
  Graph graph(state);
  const MlpShape shape{{1, 20, 2}};
  const Tensor s = input(graph, "s", {DType::f64, {160, 1}});
  const Tensor theta = parameter(graph, "theta", {shape.parameters()}, init::uniform(1));
  const Jet jet = mlp_jet(s, full(graph, s.type(), 1), theta, shape);
  const Tensor loss = mean(square(jet.tangent - jet.value));
  Program program = compile(graph, std::vector{loss, grad(loss, theta)});
  std::vector<double> at;
  for (int i = 0; i < 160; ++i) at.push_back(i / 159.0);
  program.set<double>("s", at);
  Row row = time("window evaluation f64", "1-20-2, 160 points", steps, 0, [&] {
    for (int i = 0; i < 1000; ++i) program.run();
  });
  row.best_ms /= 1000, row.median_ms /= 1000, row.cpu_ms /= 1000;
  return row;
}

void run(const BenchPinnOptions& o) {
  start_on_cpu(o.common, "ranvier bench pinn", "tools/bench/pinn --rows many");
  o.common.say("{:<24} {:<26} {:>10} {:>10} {:>10} {:>9}", "what", "network", "best ms", "median ms", "cpu ms",
               "GFLOP/s");
  Json rows = Json::array();
  const auto add = [&](const Row& r) {
    o.common.say("{:<24} {:<26} {:>10.4f} {:>10.4f} {:>10.4f} {:>9.1f}", r.name, r.shape, r.best_ms, r.median_ms,
                 r.cpu_ms, r.gflops);
    rows.push_back({{"name", r.name},
                    {"variant", "cpu"},
                    {"shape", r.shape},
                    {"ms", r.median_ms},
                    {"best_ms", r.best_ms},
                    {"cpu_ms", r.cpu_ms},
                    {"gflops", r.gflops}});
  };
  add(guided_step(DType::f32, o.steps));
  add(guided_step(DType::f64, o.steps));
  add(window_evaluation(o.steps));
  o.common.print({{"rows", rows}});
}

}  // namespace

void add_bench_pinn(CLI::App& bench) {
  auto options = std::make_shared<BenchPinnOptions>();
  auto* command = subcommand(bench, "pinn", "Milliseconds of a PINN's training step");
  options->common.add_to(*command);
  command->add_option("--steps", options->steps, "Steps to time")->capture_default_str()->check(above_zero);
  command->callback([options] { run(*options); });
}

}  // namespace ranvier::cli
