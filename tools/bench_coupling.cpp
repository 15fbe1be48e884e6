// `ranvier bench coupling`: sums over pairs against a matrix K that is rebuilt and multiplied, the memory and time of a
// wide layer, and what coupling adds to a training step of `tiny`. Times of what is compared are taken in turn.
#include <algorithm>
#include <limits>

#include "data/batches.h"
#include "data/generated.h"
#include "engine/grad.h"
#include "kernels/coupling/coupling.h"
#include "kernels/matmul/matmul.h"
#include "models/vision.h"
#include "tools/run.h"

namespace ranvier::cli {
namespace {

using Json = nlohmann::ordered_json;
using kernels::PairDims;

struct BenchCouplingOptions {
  Common common;
  int64_t units = 16384, wide = 65536, steps = 20, repeats = 5;
};

double median(std::vector<double> values) {
  std::sort(values.begin(), values.end());
  return values[values.size() / 2];
}

template <class Body>
double seconds_of(Body&& body) {
  const Stopwatch watch;
  body();
  return watch.wall();
}

/// Numbers without meaning, from -1 to 1.
std::vector<float> numbers(int64_t count, uint64_t seed) {
  std::vector<float> values(static_cast<size_t>(count));
  uint64_t state = seed * 0x9E3779B97F4A7C15ull + 1;
  for (float& v : values) {
    state ^= state << 13, state ^= state >> 7, state ^= state << 17;
    v = static_cast<float>(static_cast<double>(state >> 11) * 0x1p-52 - 1);
  }
  return values;
}

void say(const Common& common, Json& rows, const std::string& name, const std::string& variant, double seconds,
         double against) {
  common.say("{:<44} {:<22} {:>10.2f} ms {:>8.2f}x", name, variant, 1e3 * seconds, against / seconds);
  rows.push_back(
      {{"name", name}, {"variant", variant}, {"shape", ""}, {"ms", 1e3 * seconds}, {"speedup", against / seconds}});
}

void multiply(const kernels::MatmulDims& dims, const float* x, const float* k, float* y, std::vector<std::byte>& work) {
#if defined(RANVIER_HAS_ONEDNN)
  work.resize(std::max(work.size(), kernels::matmul_onednn_workspace(dims)));
  kernels::matmul_onednn(dims, x, k, y, work.data());
#else
  work.resize(std::max(work.size(), kernels::matmul_native_workspace<float>(dims)));
  kernels::matmul_native<float>(dims, x, k, y, work.data());
#endif
}

/// Fused against K rebuilt in one pass and multiplied, and against a K that is kept.
void bench_units(const BenchCouplingOptions& o, Json& rows) {
  const int64_t n = o.units;
  const std::vector<float> positions = numbers(2 * n, 1);
  std::vector<float> matrix(static_cast<size_t>(n * n));
  std::vector<std::byte> scratch, work;
  for (const auto& [law_name, law] :
       {std::pair{"gaussian", CouplingLaw{CouplingLaw::gaussian, 0.5, 1, 0, 0.05}}, {"full law", CouplingLaw{}}})
    for (int64_t batch : {1, 256}) {
      const PairDims d{batch, n, 2, law};
      const std::vector<float> x = numbers(batch * n, 2);
      std::vector<float> y(x.size());
      scratch.resize(kernels::cpu::pair_apply_workspace<float>(d));
      const kernels::MatmulDims product{1, batch, n, n, false, false};
      std::vector<double> fused, build, multiplied;
      for (int64_t r = 0; r < o.repeats + 1; ++r) {
        fused.push_back(seconds_of(
            [&] { kernels::cpu::pair_apply<float>(d, x.data(), positions.data(), y.data(), scratch.data()); }));
        build.push_back(seconds_of([&] { kernels::cpu::pair_matrix<float>(d, positions.data(), matrix.data()); }));
        multiplied.push_back(seconds_of([&] { multiply(product, x.data(), matrix.data(), y.data(), work); }));
      }
      for (auto* times : {&fused, &build, &multiplied}) times->erase(times->begin());  // the first one touches memory
      const std::string name = fmt::format("{} units, batch {}, {}", n, batch, law_name);
      const double ours = median(fused);
      say(o.common, rows, name, "fused", ours, ours);
      say(o.common, rows, name, "K rebuilt + product", median(build) + median(multiplied), ours);
      say(o.common, rows, name, "product of a kept K", median(multiplied), ours);
    }
}

/// Forward and backward of a wide layer: activations and positions.
void bench_wide(const BenchCouplingOptions& o, Json& rows) {
  const int64_t n = o.wide, batch = 32;
  State state;
  Graph graph(state);
  const Tensor x = input(graph, "x", {DType::f32, {batch, n}}), p = input(graph, "p", {DType::f32, {n, 2}});
  const Tensor y = pair_apply(x, p, {}), g = input(graph, "g", y.type());
  const Tensor wrt[] = {x, p};
  std::vector<Tensor> outputs = {y};
  for (const Tensor& d : grad(sum(y * g), wrt)) outputs.push_back(d);
  Program program = compile(graph, outputs);
  program.set<float>("x", numbers(batch * n, 3));
  program.set<float>("g", numbers(batch * n, 4));
  program.set<float>("p", numbers(2 * n, 5));
  const double seconds = seconds_of([&] { program.run(); });
  double operands = 0;
  for (const Tensor& t : {x, p, g}) operands += static_cast<double>(t.type().bytes());
  for (const Tensor& t : outputs) operands += static_cast<double>(t.type().bytes());
  const Plan& plan = program.plan();
  const double memory = static_cast<double>(plan.arena_bytes + plan.input_bytes + plan.output_bytes);
  o.common.say(
      "{} units, batch {}: forward and backward {:.2f} s; {:.1f} MB in all, {:.1f} MB beyond operands and results", n,
      batch, seconds, memory / 1e6, (memory - operands) / 1e6);
  rows.push_back({{"name", fmt::format("{} units, batch {}, forward and backward", n, batch)},
                  {"variant", "fused"},
                  {"shape", ""},
                  {"ms", 1e3 * seconds},
                  {"memory_mb", memory / 1e6},
                  {"operands_mb", operands / 1e6}});
}

/// A training step of `tiny` without coupling, with fixed and with learned geometry, in turn.
void bench_channels(const BenchCouplingOptions& o, Json& rows) {
  const data::Dataset data = data::generated({0, 100, 1}).train;
  struct Arm {
    std::string name;
    std::unique_ptr<Session> session;
    TrainStep step;
    std::vector<double> times;
  };
  std::vector<Arm> arms;
  const auto add = [&](const std::string& name, models::CouplingForm form, bool learned) {
    models::CouplingOptions coupling;
    coupling.form = form, coupling.sites = {"conv2", "conv3"}, coupling.learned = learned;
    const models::Recipe recipe = models::with_coupling(models::recipe("tiny"), coupling);
    Arm arm{name, std::make_unique<Session>(Device::cpu(), SessionOptions{.seed = 1}), {}, {}};
    arm.step = arm.session->train_step({recipe.batch, {32, 32, 3}}, models::train_function(recipe, data.mean, data.std),
                                       recipe.optimizer, 1000);
    models::refresh_coupling(*arm.session, recipe.coupling);
    arms.push_back(std::move(arm));
  };
  add("tiny, a training step", models::CouplingForm::none, false);
  for (auto form : {models::CouplingForm::energy, models::CouplingForm::covariance,
                    models::CouplingForm::epistatic_penalty, models::CouplingForm::ephaptic})
    for (bool learned : {false, true})
      add(fmt::format("{}, {} geometry", models::name_of(form), learned ? "learned" : "fixed"), form, learned);
  const auto batches = data::Batches::training(data.size(), 64, 0, 0);
  data::Batch batch;
  for (int64_t s = 0; s < o.steps + 2; ++s) {
    batches.load(data, s % batches.size(), batch);
    for (Arm& arm : arms) arm.times.push_back(seconds_of([&] { arm.step(batch); }));
  }
  for (Arm& arm : arms) arm.times.erase(arm.times.begin(), arm.times.begin() + 2);
  const double plain = median(arms[0].times);
  for (const Arm& arm : arms) {
    const double time = median(arm.times);
    o.common.say("{:<44} {:<22} {:>10.2f} ms {:>+8.1f} %", arm.name, "sites conv2,conv3", 1e3 * time,
                 100 * (time / plain - 1));
    rows.push_back(
        {{"name", arm.name}, {"variant", ""}, {"shape", ""}, {"ms", 1e3 * time}, {"added", time / plain - 1}});
  }
}

void run(const BenchCouplingOptions& o) {
  if (o.common.start().backend != Backend::cpu) throw UsageError("bench coupling compares on the CPU: --device cpu");
  Json rows = Json::array();
  bench_channels(o, rows);
  if (o.units > 0) bench_units(o, rows);
  if (o.wide > 0) bench_wide(o, rows);
  o.common.print({{"rows", rows}});
}

}  // namespace

void add_bench_coupling(CLI::App& bench) {
  auto options = std::make_shared<BenchCouplingOptions>();
  options->common.device = "cpu";
  auto* command =
      bench.add_subcommand("coupling", "Coupling of units: fused against dense, a wide layer, `tiny`'s step");
  options->common.add_to(*command);
  command->add_option("--units", options->units, "Units of the comparison, 0 to leave it out")->capture_default_str();
  command->add_option("--wide", options->wide, "Units of the wide layer, 0 to leave it out")->capture_default_str();
  command->add_option("--steps", options->steps, "Steps of tiny")->capture_default_str()->check(CLI::PositiveNumber);
  command->add_option("--repeats", options->repeats, "Runs of the comparison")
      ->capture_default_str()
      ->check(CLI::PositiveNumber);
  command->callback([options] { run(*options); });
}

}  // namespace ranvier::cli
