// `ranvier bench`: ops and their variants side by side, planning time, and training speed.
#include <algorithm>
#include <chrono>
#include <cmath>
#include <optional>
#include <set>

#include "data/batches.h"
#include "data/generated.h"
#include "engine/grad.h"
#include "tools/evaluate.h"
#include "tools/op_timing.h"
#include "tools/peak.h"
#include "tools/run.h"

namespace ranvier::cli {
namespace {

using Json = nlohmann::ordered_json;
using Clock = std::chrono::steady_clock;

struct BenchOptions {
  Common common;
  std::string model = "tiny";
  int64_t batch = 64, repeats = 20, steps = 30;
  int64_t images = 0;  // of the set that `bench train` draws from; 0: its usual number
  double seconds = 0.2, budget = 0;
  bool runners_up = false;  // cuDNN's second and third plans too
};

constexpr std::array<float, 3> mean = {0.4914f, 0.4822f, 0.4465f}, deviation = {0.2470f, 0.2435f, 0.2616f};

double median(std::vector<double> values) {
  std::sort(values.begin(), values.end());
  return values[values.size() / 2];
}

double since(Clock::time_point start) { return std::chrono::duration<double>(Clock::now() - start).count(); }

/// The distinct computations of a training step: op, attributes and types.
std::vector<PlanStep> distinct_steps(const Plan& plan) {
  std::vector<PlanStep> distinct;
  for (const PlanStep& step : plan.steps) {
    const bool known = std::any_of(distinct.begin(), distinct.end(), [&](const PlanStep& d) {
      return d.op == step.op && d.attrs == step.attrs && d.in_types == step.in_types;
    });
    if (!known) distinct.push_back(step);
  }
  return distinct;
}

double flops_of(const PlanStep& step) {
  const NodeView node = step.view();
  return step.op->flops ? step.op->flops(node) : static_cast<double>(node.out[0].shape.numel());
}

/// Compiles the training step of a model on fixed statistics.
TrainStep compile_step(Session& session, const models::Recipe& recipe) {
  return session.train_step({recipe.batch, {32, 32, 3}}, models::train_function(recipe, mean, deviation),
                            recipe.optimizer, 1000);
}

/// True where a variant rounds f32 operands to tf32.
bool rounds_to_tf32(const Variant& variant) { return std::string_view(variant.name).ends_with("tf32"); }

void say_peaks(const BenchOptions& options, const Peak& peak) {
  options.common.say("measured peaks: {:.0f} GFLOP/s (f32 fma), {:.1f} GB/s (read + write)", peak.gflops, peak.gbs);
  if (peak.gflops_bf16 > 0)
    options.common.say("                {:.0f} GFLOP/s (f64), {:.0f} (tf32), {:.0f} (bf16), {:.0f} (f16)",
                       peak.gflops_f64, peak.gflops_tf32, peak.gflops_bf16, peak.gflops_f16);
}

/// The variants of one op side by side: a row each, as text and for the JSON object.
class OpRows {
 public:
  OpRows(const BenchOptions& options, Device device, const Peak& peak)
      : options_(options), device_(device), peak_(peak) {
    options.common.say("{:<24} {:<11} {:<34} {:>9} {:>9} {:>8} {:>7}", "op", "variant", "result", "ms", "GFLOP/s",
                       "GB/s", "share");
  }

  /// Rows of those variants that `wanted` takes.
  void measure(const PlanStep& step, bool (*wanted)(const Variant&)) {
    std::optional<OpTimer> timer;  // operands are made where a variant is measured
    std::set<std::string> seen;
    const NodeView node = step.view();
    for (const Variant& variant : step.op->variants) {
      if (variant.backend != device_.backend || !wanted(variant) || (variant.supports && !variant.supports(node)) ||
          !seen.insert(variant.name).second)
        continue;
      if (!timer) timer.emplace(device_, step);
      add(step, variant, timer->time(variant, options_.seconds));
    }
  }
  const Json& rows() const { return rows_; }

 private:
  void add(const PlanStep& step, const Variant& variant, double seconds) {
    double bytes = 0;
    for (const Type& type : step.in_types) bytes += static_cast<double>(type.bytes());
    for (const Type& type : step.out_types) bytes += static_cast<double>(type.bytes());
    const double flops = flops_of(step);
    // the roofline: whichever of arithmetic and memory takes longer at the measured peaks
    const DType operands = step.in_types.empty() ? DType::f32 : step.in_types[0].dtype;
    const double rate = peak_.rate(operands, rounds_to_tf32(variant));
    const double floor = std::max(flops / (rate * 1e9), bytes / (peak_.gbs * 1e9));
    const std::string shape = to_string(step.out_types[0]);
    const bool chosen = step.variant->name == std::string(variant.name);
    options_.common.say("{:<24} {:<11} {:<34} {:>9.3f} {:>9.1f} {:>8.1f} {:>6.0f}%{}", step.op->name, variant.name,
                        shape, 1e3 * seconds, flops / seconds / 1e9, bytes / seconds / 1e9, 100 * floor / seconds,
                        chosen ? " *" : "");
    rows_.push_back({{"name", step.op->name},
                     {"variant", variant.name},
                     {"shape", shape},
                     {"ms", 1e3 * seconds},
                     {"gflops", flops / seconds / 1e9},
                     {"gbs", bytes / seconds / 1e9},
                     {"share_of_peak", floor / seconds},
                     {"chosen", chosen}});
  }

  const BenchOptions& options_;
  Device device_;
  const Peak& peak_;
  Json rows_ = Json::array();
};

/// True where a variant is a plan of cuDNN's that is not its first choice.
bool is_runner_up(const Variant& variant) {
  const std::string_view name = variant.name;
  return name == "cudnn_second" || name == "cudnn_third";
}

void bench_ops(const BenchOptions& options) {
  const Device device = options.common.start();
  Session session(device, options.common.session_options(device));
  const models::Recipe recipe = models::recipe(options.model, 10, options.batch);
  const TrainStep step = compile_step(session, recipe);
  const Peak peak = measure_peak(device);
  say_peaks(options, peak);
  std::vector<PlanStep> steps = distinct_steps(step.program().plan());
  // most arithmetic first: should the time end, what matters most has been measured
  std::stable_sort(steps.begin(), steps.end(),
                   [](const PlanStep& a, const PlanStep& b) { return flops_of(a) > flops_of(b); });
  OpRows measured(options, device, peak);
  Json left_out = Json::array();
  watch_for_interruption();  // rows that were measured are kept
  const auto start = Clock::now();
  const auto over = [&] { return interrupted() || (options.budget > 0 && since(start) > options.budget); };
  for (const PlanStep& distinct : steps) {
    if (over())
      left_out.push_back(fmt::format("{} {}", distinct.op->name, to_string(distinct.out_types[0])));
    else
      measured.measure(distinct, [](const Variant& variant) { return !is_runner_up(variant); });
  }
  if (options.runners_up)
    for (const PlanStep& distinct : steps)
      if (!over()) measured.measure(distinct, is_runner_up);
  if (!left_out.empty())
    options.common.say("not measured, as {}: {} of {} ops",
                       interrupted() ? "interrupted" : fmt::format("the {} s of --budget-s were over", options.budget),
                       left_out.size(), steps.size());
  options.common.say("* the variant that the plan takes. share: of the roofline max(FLOP / peak, bytes / bandwidth)");
  options.common.print({{"model", options.model},
                        {"batch", recipe.batch},
                        {"peak_gflops", peak.gflops},
                        {"peak_gbs", peak.gbs},
                        {"peak_gflops_f64", peak.gflops_f64},
                        {"peak_gflops_tf32", peak.gflops_tf32},
                        {"peak_gflops_bf16", peak.gflops_bf16},
                        {"peak_gflops_f16", peak.gflops_f16},
                        {"not_measured", left_out},
                        {"rows", measured.rows()}});
  if (interrupted()) throw Exit{130};
}

void bench_plan(const BenchOptions& options) {
  const Device device = options.common.start();
  const SessionOptions session_options = options.common.session_options(device);
  const models::Recipe recipe = models::recipe(options.model, 10, options.batch);
  std::vector<double> times;
  size_t steps = 0, nodes = 0;
  std::string bill;
  for (int64_t repeat = 0; repeat < std::max<int64_t>(options.repeats, 1); ++repeat) {
    Session session(device, session_options);
    const auto start = Clock::now();
    const Session::Planned planned = session.plan_step(
        {recipe.batch, {32, 32, 3}}, models::train_function(recipe, mean, deviation), recipe.optimizer, 1000);
    times.push_back(1e3 * since(start));
    steps = planned.plan.steps.size();
    nodes = planned.nodes;
    bill = planned.plan.bill();
  }
  const double best = *std::min_element(times.begin(), times.end());
  options.common.say(
      "{}: trace + plan of a training step, batch {}: median {:.2f} ms, best {:.2f} ms of {} ({} nodes traced, {} "
      "steps planned)",
      options.model, recipe.batch, median(times), best, times.size(), nodes, steps);
  options.common.write(bill);
  Json rows = Json::array({{{"name", "trace+plan"}, {"variant", ""}, {"shape", options.model}, {"ms", median(times)}}});
  options.common.print(
      {{"model", options.model}, {"batch", recipe.batch}, {"nodes", nodes}, {"steps", steps}, {"rows", rows}});
}

/// The recipe that tools/bench/peer_gpu.py and peer_train.py train in PyTorch.
models::Recipe peer_recipe(const BenchOptions& options) {
  models::Recipe recipe = models::recipe(options.model, 10, options.batch);
  recipe.optimizer = optim::Sgd{.lr = 0.01, .momentum = 0.9, .nesterov = true, .weight_decay = 5e-4};
  recipe.alternating_flip = false, recipe.flip = true, recipe.translate = 0;
  recipe.summed_loss = false;
  return recipe;
}

/// Steps as `ranvier train` runs them on the device: on a GPU they take their images from a data set that lies there
/// and are replayed as one graph each; on the CPU the host gathers every batch.
class Training {
 public:
  Training(Session& session, const models::Recipe& recipe, int64_t images)
      : data_(data::generated({0, std::max<int64_t>(1, (images + 9) / 10), 1}).train),
        batches_(data::Batches::training(data_.size(), recipe.batch, 0, 0)) {
    if (session.device().backend == Backend::cuda)
      step_ = session.resident_step(data_, recipe.batch, models::train_function(recipe, mean, deviation),
                                    recipe.optimizer, 1000);
    else
      step_ = compile_step(session, recipe);
  }

  /// Runs so many steps and waits for them.
  void run(int64_t steps, Device device) {
    for (int64_t s = 0; s < steps; ++s, ++done_) {
      const int64_t b = done_ % batches_.size();
      if (step_.resident()) {
        if (b == 0) step_.begin_epoch(batches_.order(), done_ / batches_.size());
        step_.next();
      } else {
        batches_.load(data_, b, batch_);
        step_(batch_);
      }
    }
    step_.collect();
    synchronize(device);
  }

  TrainStep& step() { return step_; }

 private:
  data::Dataset data_;
  data::Batches batches_;
  data::Batch batch_;
  TrainStep step_;
  int64_t done_ = 0;
};

/// Prints the times of a step's nodes, the longest first, and returns them as rows.
Json say_nodes(const BenchOptions& options, std::vector<StepTime> profile) {
  Json rows = Json::array();
  std::stable_sort(profile.begin(), profile.end(),
                   [](const StepTime& a, const StepTime& b) { return a.milliseconds > b.milliseconds; });
  for (const StepTime& time : profile) {
    const double ms = time.milliseconds / static_cast<double>(options.steps);
    rows.push_back({{"name", time.label},
                    {"variant", time.variant},
                    {"shape", ""},
                    {"ms", ms},
                    {"gflops", time.flops / ms / 1e6},
                    {"gbs", static_cast<double>(time.bytes) / ms / 1e6},
                    {"share_of_peak", nullptr}});
    if (rows.size() <= 25)
      options.common.say("  {:>8.3f} ms  {:>7.1f} GFLOP/s {:>6.1f} GB/s  {:<10} {}", ms, time.flops / ms / 1e6,
                         static_cast<double>(time.bytes) / ms / 1e6, time.variant, time.label);
  }
  return rows;
}

void bench_train(const BenchOptions& options) {
  const Device device = options.common.start();
  Session session(device, options.common.session_options(device));
  const models::Recipe recipe = peer_recipe(options);
  // 50,000 on a GPU, as CIFAR-10 has and PyTorch is given there: fewer would lie in its cache
  const int64_t usual = device.backend == Backend::cuda ? 50'000 : std::max<int64_t>(1000, 8 * recipe.batch);
  const int64_t images = options.images ? options.images : std::max(usual, recipe.batch);
  if (images < recipe.batch) throw UsageError(fmt::format("--images {}: a batch has {}", images, recipe.batch));
  Training training(session, recipe, images);
  training.run(3, device);  // on a GPU the first loads kernels, the second is captured
  const Stopwatch watch;
  training.run(options.steps, device);
  const double wall = watch.wall(), busy = watch.cpu() / wall, steps = static_cast<double>(options.steps);
  const double rate = steps * static_cast<double>(recipe.batch) / wall;
  const bool captured = training.step().program().captured(), resident = training.step().resident();
  std::vector<StepTime> profile;
  training.step().profile(&profile);
  training.run(options.steps, device);
  double nodes = 0;
  for (const StepTime& time : profile) nodes += time.milliseconds / steps;
  options.common.say("{} batch {}: {:.0f} images/s, {:.3f} ms a step ({}), {:.2f} cores busy", options.model,
                     recipe.batch, rate, 1e3 * wall / steps,
                     captured   ? "one graph, fed by the device"
                     : resident ? "node by node, fed by the device"
                                : "node by node, fed by the host",
                     busy);
  options.common.say("timed node by node: {:.3f} ms a step", nodes);
  const Json rows = say_nodes(options, profile);
  options.common.print({{"model", options.model},
                        {"batch", recipe.batch},
                        {"images", images},
                        {"images_per_second", rate},
                        {"ms_per_step", 1e3 * wall / steps},
                        {"ms_node_by_node", nodes},
                        {"fed_by", resident ? "device" : "host"},
                        {"captured", captured},
                        {"cpu_over_wall", busy},
                        {"rows", rows}});
}

}  // namespace

void add_bench(CLI::App& app) {
  auto* bench = subcommand(app, "bench", "Speed: ops and their variants, planning, training");
  bench->require_subcommand(1);
  const auto add = [&](const char* name, const char* help, auto run) {
    auto options = std::make_shared<BenchOptions>();
    auto* command = subcommand(*bench, name, help);
    options->common.add_to(*command);
    options->common.add_network_to(*command);
    command->add_option("--model", options->model, "tiny, speednet or resnet18")->capture_default_str();
    command->add_option("--batch", options->batch, "Images a step")->capture_default_str()->check(above_zero);
    command->callback([options, run] { run(*options); });
    return std::pair{command, options};
  };
  {
    auto [command, options] =
        add("ops", "Every op of a training step, each variant: time, GFLOP/s, GB/s, share of the peak", bench_ops);
    command->add_flag("--runners-up", options->runners_up,
                      "After all ops: cuDNN's second and third plan of each convolution, which may be faster");
    command->add_option("--seconds", options->seconds, "Time for each variant")->capture_default_str();
    command->add_option("--budget-s", options->budget, "Time after which no other op is begun; 0: none")
        ->capture_default_str()
        ->check(not_below_zero);
  }
  {
    auto [command, options] = add("plan", "Time to trace and plan a training step, and its memory", bench_plan);
    options->model = "resnet18";
    command->add_option("--repeats", options->repeats, "Runs")->capture_default_str();
  }
  {
    auto [command, options] =
        add("train", "Images a second of training steps (SGD Nesterov), data included, and time by op", bench_train);
    command->add_option("--steps", options->steps, "Steps to time")->capture_default_str()->check(above_zero);
    command
        ->add_option("--images", options->images,
                     "Images of the generated set (default: 50000 on a GPU, 8 batches on the CPU)")
        ->check(above_zero);
  }
  add_bench_pinn(*bench);
  add_bench_coupling(*bench);
  add_bench_neurons(*bench);
  add_bench_networks(*bench);
}

}  // namespace ranvier::cli
