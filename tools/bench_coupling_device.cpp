// `ranvier bench coupling --device cuda`: the coupling's kernels by themselves, against the device's own copy and
// matrix rate, by the device's clock.
#include "engine/grad.h"
#include "models/coupling.h"
#include "tools/bench_coupling.h"
#include "tools/op_timing.h"
#include "tools/peak.h"

namespace ranvier::cli {
namespace {

using Json = nlohmann::ordered_json;

struct Bench {
  Device device;
  const BenchCouplingOptions& options;
  Peak peak;
  Json rows = Json::array();

  /// Seconds of the step of that op in a plan of what `trace` returns.
  double time_of(std::string_view op, const std::function<std::vector<Tensor>(Graph&)>& trace) const {
    State state(device);
    Graph graph(state);
    Program program = compile(graph, trace(graph), {.device = device});
    for (const PlanStep& step : program.plan().steps)
      if (step.op->name == op) return OpTimer(device, step).time(*step.variant, options.seconds);
    fail("bench coupling: no step '{}' was planned", op);
  }

  /// Median seconds of whole runs of a program that is one launch: its kernels, and the gaps between them.
  double time_of_program(const std::function<std::vector<Tensor>(Graph&)>& trace) const {
    State state(device);
    Graph graph(state);
    Program program = compile(graph, trace(graph), {.device = device});
    state.materialise();
    program.capture();
    for (int warm = 0; warm < 3; ++warm) program.run();
    std::vector<double> times;
    for (const Stopwatch watch; watch.wall() < options.seconds || times.size() < 3;) {
      Timeline timeline(device);
      timeline.mark(), program.run(), timeline.mark();
      times.push_back(timeline.milliseconds().back() / 1e3);
    }
    std::sort(times.begin(), times.end());
    return times[times.size() / 2];
  }

  /// Share of the measured copy; 0 where none was measured.
  double of_copy(double gbs) const { return peak.gbs > 0 ? gbs / peak.gbs : 0; }

  /// Keeps and prints a row; a share of 0 is none.
  void note(const std::string& name, DType dtype, double seconds, const std::string& figure, double value,
            double share) {
    options.common.say("{:<52} {:<5} {:>10.4f} ms {:>10.4g} {:<10} {}", name, name_of(dtype), 1e3 * seconds, value,
                       figure, share > 0 ? fmt::format("{:.0f} %", 100 * share) : "");
    Json row = {{"name", name},        {"variant", "fused"}, {"shape", ""}, {"dtype", name_of(dtype)},
                {"ms", 1e3 * seconds}, {figure, value}};
    if (share > 0) row["share"] = share;
    rows.push_back(std::move(row));
  }
};

/// Channels: a pass reads x and writes y, 4 bytes an element; a penalty has to read x thrice, for its statistics, its
/// sums and its gradient, which it writes.
void bench_channels(Bench& b) {
  const int64_t m = b.options.rows;
  b.options.common.say("\nchannels, {} rows; share of the copy's bytes, read and written (80 % wanted)", m);
  for (int64_t n : {64, 128, 256}) {
    const Type map{DType::bf16, {m, n}}, matrix{DType::bf16, {n, n}};
    const auto gbs = [&](double passes, double seconds) {
      return passes * static_cast<double>(map.bytes()) / seconds / 1e9;
    };
    for (const bool gate : {false, true}) {
      const double s = b.time_of("channel_field", [&](Graph& graph) {
        return std::vector{channel_field(input(graph, "x", map), input(graph, "a", matrix), gate)};
      });
      b.note(fmt::format("{} channels, {}", n, gate ? "epistatic" : "ephaptic"), DType::bf16, s, "GB/s", gbs(2, s),
             b.of_copy(gbs(2, s)));
    }
    for (const auto form :
         {models::CouplingForm::energy, models::CouplingForm::covariance, models::CouplingForm::epistatic_penalty}) {
      models::CouplingOptions coupling;
      coupling.form = form;
      const double s = b.time_of_program([&](Graph& graph) {
        const Tensor x = input(graph, "x", map);
        const Scope scope(graph, "bench");
        const models::Units units = models::coupling_units(graph, n, coupling, DType::f32);
        const Tensor penalty = models::coupling_penalty(x, units, form);
        return std::vector{penalty, grad(penalty, x)};
      });
      b.note(fmt::format("{} channels, {} and its gradient", n, models::name_of(form)), DType::bf16, s, "GB/s",
             gbs(4, s), b.of_copy(gbs(4, s)));
    }
  }
}

/// Units: picoseconds a pair of few rows, and of many rows the matrix rate that the products alone amount to.
void bench_units(Bench& b) {
  const int64_t n = b.options.units;
  const double pairs = static_cast<double>(n) * static_cast<double>(n - 1);
  b.options.common.say("\n{} units; share of the bf16 rate (55 % wanted from batch 256)", n);
  const auto one = [&](const CouplingLaw& law, const char* name, int64_t axes, int64_t batch, DType dtype) {
    const double s = b.time_of("pair_apply", [&](Graph& graph) {
      return std::vector{
          pair_apply(input(graph, "x", {dtype, {batch, n}}), input(graph, "p", {DType::f32, {n, axes}}), law)};
    });
    const double flops = 2 * pairs * static_cast<double>(batch);
    b.note(fmt::format("{} units, batch {}, {}, {} axes", n, batch, name, axes), dtype, s, "ps/pair", s / pairs * 1e12,
           batch >= 256 && b.peak.gflops_bf16 > 0 ? flops / s / 1e9 / b.peak.gflops_bf16 : 0);
  };
  const CouplingLaw gaussian{CouplingLaw::gaussian, 0.5, 1, 0, 0.05}, full;
  for (const auto& [law, name] : {std::pair{gaussian, "gaussian"}, {full, "full law"}}) {
    for (int64_t axes : {2, 3}) one(law, name, axes, 1, DType::f32);
    for (int64_t batch : {32, 64}) one(law, name, 2, batch, DType::bf16);
    one(law, name, 2, 32, DType::f32);
    for (int64_t batch : {256, 1024}) one(law, name, 2, batch, DType::bf16);
  }
}

/// The covariance penalty's sums and their gradients, in f32: one product of the values a pair, two of the gradient in
/// x; share of the f32 rate.
void bench_squares(Bench& b) {
  const int64_t n = b.options.units;
  const double pairs = static_cast<double>(n) * static_cast<double>(n - 1);
  b.options.common.say("\n{} units, squares of products; share of the f32 rate", n);
  const auto one = [&](const char* what, const char* op, int products, int64_t batch, int wanted) {
    const double s = b.time_of(op, [&](Graph& graph) {
      const Type row{DType::f32, {1, n}};
      const Tensor in[] = {input(graph, "x", {DType::f32, {batch, n}}), input(graph, "p", {DType::f32, {n, 2}})};
      const Tensor q = pair_squares(in[0], input(graph, "w", row), in[1], {});
      return std::vector{wanted < 0 ? q : grad(sum(q * input(graph, "g", row)), in[wanted])};
    });
    const double flops = 2 * products * pairs * static_cast<double>(batch);
    b.note(fmt::format("{} units, batch {}, {}", n, batch, what), DType::f32, s, "ps/pair", s / pairs * 1e12,
           b.peak.gflops > 0 ? flops / s / 1e9 / b.peak.gflops : 0);
  };
  for (int64_t batch : {64, 256}) {
    one("squares", "pair_squares", 1, batch, -1);
    one("squares, gradient in x", "pair_squares_values", 2, batch, 0);
    one("squares, gradient in positions", "pair_squares_positions", 1, batch, 1);
  }
}

}  // namespace

void bench_coupling_on_device(Device device, const BenchCouplingOptions& options) {
  Bench bench{device, options, options.no_peaks ? Peak{} : measure_peak(device)};
  if (!options.no_peaks)
    options.common.say("measured: copy {:.0f} GB/s (read + write), bf16 {:.0f} TFLOP/s, f32 {:.1f} TFLOP/s",
                       bench.peak.gbs, bench.peak.gflops_bf16 / 1e3, bench.peak.gflops / 1e3);
  if (options.rows > 0) bench_channels(bench);
  if (options.units > 0) bench_units(bench), bench_squares(bench);
  if (options.wide > 0) bench_wide(device, options, bench.rows);
  options.common.print({{"device", device.description()},
                        {"copy_gb_per_second", bench.peak.gbs},
                        {"peak_gflops_bf16", bench.peak.gflops_bf16},
                        {"peak_gflops", bench.peak.gflops},
                        {"rows", bench.rows}});
}

}  // namespace ranvier::cli
