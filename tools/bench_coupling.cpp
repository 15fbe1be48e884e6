// `ranvier bench coupling`: sums over pairs against a matrix K that is rebuilt and multiplied, the memory and time of a
// wide layer, and what coupling adds to a training step of `tiny`. Times of what is compared are taken in turn. On
// CUDA: bench_coupling_device.cpp.
#include <algorithm>
#include <array>
#include <cmath>
#include <limits>

#include "data/batches.h"
#include "data/generated.h"
#include "engine/grad.h"
#include "kernels/coupling/cpu_tile.h"
#include "kernels/matmul/matmul.h"
#include "models/vision.h"
#include "tools/bench_coupling.h"

namespace ranvier::cli {
namespace {

using Json = nlohmann::ordered_json;
using kernels::PairDims;

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

/// K in one pass by the same vectorised code that makes the fused op's tiles.
void build_matrix(const PairDims& d, const float* turned, float* matrix) {
  constexpr int64_t rows = 64;
  kernels::dispatch_law<float>(d.law, [&](const auto& law) {
    kernels::parallel_for((d.n + rows - 1) / rows, [&](int64_t shard) {
      const int64_t first = shard * rows, count = std::min(rows, d.n - first);
      kernels::cpu::fill_tile<false>(law, d, turned, 0, d.n, d.n, first, count, matrix + first * d.n);
    });
  });
}

/// Fused against K rebuilt in one pass and multiplied, and against a K that is kept.
void bench_units(const BenchCouplingOptions& o, Json& rows) {
  const int64_t n = o.units;
  const std::vector<float> positions = numbers(2 * n, 1);
  std::vector<float> matrix(static_cast<size_t>(n * n));
  std::vector<float> turned(positions.size());
  kernels::cpu::turn_positions<float>({1, n, 2, {}}, positions.data(), turned.data());
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
        build.push_back(seconds_of([&] { build_matrix(d, turned.data(), matrix.data()); }));
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

/// Relative L2 errors of y, dx and dp at 64 units against direct f64 sums.
std::array<double, 3> wide_errors(int64_t n, int64_t batch, const std::vector<float>& x, const std::vector<float>& g,
                                  const std::vector<float>& p, const Program& program) {
  const std::vector<float> found[] = {program.get<float>(0), program.get<float>(1), program.get<float>(2)};
  const CouplingLaw law;
  const double l2 = law.length * law.length;
  double apart[3] = {}, size[3] = {};
  const auto note = [&](int what, double is, double want) {
    apart[what] += (is - want) * (is - want), size[what] += want * want;
  };
  for (int64_t k = 0; k < 64; ++k) {
    const int64_t i = (k * 7919 + 13) % n;
    std::vector<double> y(static_cast<size_t>(batch), 0), dx(y);
    double dp[2] = {};
    for (int64_t j = 0; j < n; ++j) {
      if (j == i) continue;
      const double a = static_cast<double>(p[2 * i]) - static_cast<double>(p[2 * j]),
                   b = static_cast<double>(p[2 * i + 1]) - static_cast<double>(p[2 * j + 1]);
      const double t = a * a + b * b + law.softening * law.softening, d = std::sqrt(t), q = 1 + t / l2;
      const double kappa = std::exp(-d / law.decay) / (q * std::sqrt(q));  // power 3
      double s = 0;
      for (int64_t row = 0; row < batch; ++row) {
        const double xj = x[row * n + j], gj = g[row * n + j];
        y[row] += kappa * xj, dx[row] += kappa * gj;
        s += static_cast<double>(g[row * n + i]) * xj + gj * static_cast<double>(x[row * n + i]);
      }
      s *= kappa * (-law.power / (l2 + t) - 1 / (law.decay * d));
      dp[0] += s * a, dp[1] += s * b;
    }
    for (int64_t row = 0; row < batch; ++row)
      note(0, found[0][row * n + i], y[row]), note(1, found[1][row * n + i], dx[row]);
    for (int a = 0; a < 2; ++a) note(2, found[2][2 * i + a], dp[a]);
  }
  return {std::sqrt(apart[0] / size[0]), std::sqrt(apart[1] / size[1]), std::sqrt(apart[2] / size[2])};
}

}  // namespace

std::vector<float> numbers(int64_t count, uint64_t seed) {
  std::vector<float> values(static_cast<size_t>(count));
  uint64_t state = seed * 0x9E3779B97F4A7C15ull + 1;
  for (float& v : values) {
    state ^= state << 13, state ^= state >> 7, state ^= state << 17;
    v = static_cast<float>(static_cast<double>(state >> 11) * 0x1p-52 - 1);
  }
  return values;
}

void bench_wide(Device device, const BenchCouplingOptions& o, Json& rows) {
  const int64_t n = o.wide, batch = 32;
  State state(device);
  Graph graph(state);
  const Tensor x = input(graph, "x", {DType::f32, {batch, n}}), p = input(graph, "p", {DType::f32, {n, 2}});
  const Tensor y = pair_apply(x, p, {}), g = input(graph, "g", y.type());
  const Tensor wrt[] = {x, p};
  std::vector<Tensor> outputs = {y};
  for (const Tensor& d : grad(sum(y * g), wrt)) outputs.push_back(d);
  Program program = compile(graph, outputs, {.device = device});
  const std::vector<float> xs = numbers(batch * n, 3), gs = numbers(batch * n, 4), ps = numbers(2 * n, 5);
  program.set<float>("x", xs), program.set<float>("g", gs), program.set<float>("p", ps);
  if (device.backend == Backend::cuda) program.run(), synchronize(device);  // kernels load here
  const double seconds = seconds_of([&] { program.run(), synchronize(device); });
  double operands = 0;
  for (const Tensor& t : {x, p, g}) operands += static_cast<double>(t.type().bytes());
  for (const Tensor& t : outputs) operands += static_cast<double>(t.type().bytes());
  const Plan& plan = program.plan();
  const double memory = static_cast<double>(plan.arena_bytes + plan.input_bytes + plan.output_bytes);
  o.common.say(
      "{} units, batch {}: forward and backward {:.2f} s; {:.1f} MB in all, {:.1f} MB beyond operands and results", n,
      batch, seconds, memory / 1e6, (memory - operands) / 1e6);
  const std::array<double, 3> errors = wide_errors(n, batch, xs, gs, ps, program);
  o.common.say("  64 units against direct f64 sums, relative L2: y {:.1e}, dx {:.1e}, positions {:.1e} (1e-5 wanted)",
               errors[0], errors[1], errors[2]);
  rows.push_back({{"name", fmt::format("{} units, batch {}, forward and backward", n, batch)},
                  {"variant", "fused"},
                  {"shape", ""},
                  {"ms", 1e3 * seconds},
                  {"memory_mb", memory / 1e6},
                  {"operands_mb", operands / 1e6},
                  {"relative_l2", errors}});
}

namespace {

/// A training step of `tiny` without coupling, with fixed and with learned geometry, in turn.
void bench_channels(const BenchCouplingOptions& o, Json& rows) {
  const data::Dataset data = data::generated({0, 100, 1}).train;
  struct Arm {
    std::string name;
    std::unique_ptr<Session> session;
    TrainStep step;
    std::vector<double> times, processor;
  };
  std::vector<Arm> arms;
  const auto add = [&](const std::string& name, models::CouplingForm form, bool learned) {
    models::CouplingOptions coupling;
    coupling.form = form, coupling.sites = {"conv2", "conv3"}, coupling.learned = learned;
    const models::Recipe recipe = models::with_coupling(models::recipe("tiny"), coupling);
    Arm arm{name, std::make_unique<Session>(Device::cpu(), SessionOptions{.seed = 1}), {}, {}, {}};
    arm.step = arm.session->train_step({recipe.batch, {32, 32, 3}}, models::train_function(recipe, data.mean, data.std),
                                       recipe.optimizer, 1000);
    models::refresh_coupling(*arm.session, recipe.coupling);
    arms.push_back(std::move(arm));
  };
  add("tiny, a training step", models::CouplingForm::none, false);
  for (auto form :
       {models::CouplingForm::energy, models::CouplingForm::covariance, models::CouplingForm::epistatic_penalty,
        models::CouplingForm::ephaptic, models::CouplingForm::epistatic})
    for (bool learned : {false, true})
      add(fmt::format("{}, {} geometry", models::name_of(form), learned ? "learned" : "fixed"), form, learned);
  const auto batches = data::Batches::training(data.size(), 64, 0, 0);
  data::Batch batch;
  for (int64_t s = 0; s < o.steps + 2; ++s) {
    batches.load(data, s % batches.size(), batch);
    for (Arm& arm : arms) {
      const Stopwatch watch;
      arm.step(batch);
      arm.times.push_back(watch.wall()), arm.processor.push_back(watch.cpu());
    }
  }
  for (Arm& arm : arms)
    for (auto* times : {&arm.times, &arm.processor}) times->erase(times->begin(), times->begin() + 2);
  const double plain = median(arms[0].times), plain_processor = median(arms[0].processor);
  for (const Arm& arm : arms) {
    const double added = median(arm.times) / plain - 1, processor = median(arm.processor) / plain_processor - 1;
    o.common.say("{:<44} {:<22} {:>10.2f} ms {:>+8.1f} %, of processor time {:+.1f} %", arm.name, "sites conv2,conv3",
                 1e3 * median(arm.times), 100 * added, 100 * processor);
    rows.push_back({{"name", arm.name},
                    {"variant", ""},
                    {"shape", ""},
                    {"ms", 1e3 * median(arm.times)},
                    {"added", added},
                    {"added_processor", processor}});
  }
}

void run(const BenchCouplingOptions& o) {
  const Device device = o.common.start();
  if (device.backend == Backend::cuda) return bench_coupling_on_device(device, o);
  Json rows = Json::array();
  bench_channels(o, rows);
  if (o.units > 0) bench_units(o, rows);
  if (o.wide > 0) bench_wide(device, o, rows);
  o.common.print({{"rows", rows}});
}

}  // namespace

void add_bench_coupling(CLI::App& bench) {
  auto options = std::make_shared<BenchCouplingOptions>();
  options->common.device = "cpu";
  auto* command = subcommand(bench, "coupling", "Coupling of units: fused against dense, a wide layer, `tiny`'s step");
  options->common.add_to(*command);
  const auto count = CLI::Range(int64_t{0}, int64_t{1} << 31);
  command->add_option("--units", options->units, "Units of the comparison, 0 to leave it out")
      ->capture_default_str()
      ->check(count);
  command->add_option("--wide", options->wide, "Units of the wide layer, 0 to leave it out")
      ->capture_default_str()
      ->check(count);
  command->add_option("--steps", options->steps, "On the CPU: steps of tiny")->capture_default_str()->check(above_zero);
  command->add_option("--repeats", options->repeats, "On the CPU: runs of the comparison")
      ->capture_default_str()
      ->check(above_zero);
  command->add_option("--rows", options->rows, "On CUDA: rows of coupled channels, 0 to leave them out")
      ->capture_default_str()
      ->check(count);
  command->add_option("--seconds", options->seconds, "On CUDA: time for each measurement")
      ->capture_default_str()
      ->check(above_zero);
  command->add_flag("--no-peaks", options->no_peaks, "On CUDA: do not measure copy and matrix rate, give no shares");
  command->callback([options] { run(*options); });
}

}  // namespace ranvier::cli
