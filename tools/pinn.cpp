// `ranvier pinn`: solves a neuron with physics-informed networks, from its equations alone.
#include <cmath>

#include "tools/pinn_run.h"

namespace ranvier::cli {
namespace {

using Json = nlohmann::ordered_json;

struct PinnOptions {
  Common common;
  std::string neuron = "rs2007", params, current, out, reference, quality = "fast", design = "windows";
  double duration_ms = 1000, sample_ms = 0.1;
  std::optional<double> window_ms, A_mv, loss, budget_s;
  std::optional<int64_t> hidden, points, iterations;
  std::string optimizer = "ssbfgs";
};

/// The stimulus of the presets' published protocols, where none is given.
std::string default_current(const std::string& neuron) {
  if (neuron == "rs2007") return "step:70@100";
  if (neuron == "ib2007") return "step:600@100";
  if (neuron == "ch2007") return "step:300@100";
  return "10";
}

pinn::Options solver_options(const PinnOptions& o) {
  pinn::Options options = pinn::Options::quality(o.quality);
  options.seed = o.common.seed.value_or(0);
  if (o.window_ms) options.window_ms = *o.window_ms;
  if (o.A_mv) options.A_mv = *o.A_mv;
  if (o.loss) options.window_loss = options.spike_loss = *o.loss;
  if (o.hidden) options.hidden = *o.hidden;
  if (o.points) options.points = *o.points;
  if (o.iterations) options.iterations = *o.iterations;
  if (o.budget_s) options.budget_seconds = *o.budget_s;
  options.levenberg_marquardt = o.optimizer == "lm";
  return options;
}

std::filesystem::path run_folder(const std::string& out, const std::string& name) {
  namespace fs = std::filesystem;
  if (!out.empty()) {
    std::error_code ignored;
    if (fs::exists(fs::path(out) / "model.safetensors", ignored))
      throw UsageError(fmt::format("{} holds a run already; --out names another folder", out));
    return out;
  }
  for (int number = 1;; ++number) {
    const fs::path path = fs::path("runs") / fmt::format("pinn-{}-{}", name, number);
    if (!fs::exists(path)) return path;
  }
}

/// The live line: window, loss, spikes, error where a reference is known, time left.
std::string live_line(const pinn::Progress& p, const std::optional<Reference>& reference, double seconds) {
  std::string error;
  const size_t found = p.spike_times_ms.size();
  if (reference && found && found <= reference->spike_times_ms.size())
    error = fmt::format("  last spike off by {:.1e} ms",
                        std::abs(p.spike_times_ms[found - 1] - reference->spike_times_ms[found - 1]));
  return fmt::format("window {:>4}  {:>8.2f}/{:.0f} ms  loss {:.1e}  {} spikes{}  {} left", p.windows, p.t_ms,
                     p.duration_ms, p.loss, found, error, duration(seconds * (p.duration_ms / p.t_ms - 1)));
}

template <class T>
Json or_null(const std::optional<T>& value) {
  return value ? Json(*value) : Json(nullptr);
}

/// Microseconds of one evaluation of v and u.
double inference_us(const pinn::Solution& solution) {
  const Stopwatch watch;
  double sum = 0;
  constexpr int count = 20000;
  for (int i = 0; i < count; ++i) sum += solution.at(solution.reached_ms * i / count).v;
  return std::isfinite(sum) ? 1e6 * watch.wall() / count : 0;
}

void run(const PinnOptions& o) {
  o.common.start();
  pinn::Neuron neuron = pinn::Neuron::preset(o.neuron);
  neuron.set(o.params);
  const std::string spec = o.current.empty() ? default_current(o.neuron) : o.current;
  const pinn::Current current = pinn::Current::parse(spec);
  const auto reference = o.reference.empty() ? std::nullopt : std::optional(read_reference(o.reference));
  if (!(o.sample_ms > 0)) throw UsageError(fmt::format("--sample-ms {}: must be positive", o.sample_ms));
  const std::filesystem::path folder = run_folder(o.out, o.neuron);
  watch_for_interruption();
  o.common.say("{}: current {}, {} ms, quality {}; no data, only the equations", neuron.name, spec, o.duration_ms,
               o.quality);
  Progress progress(o.common);
  const Stopwatch watch;
  const pinn::Solution solution =
      pinn::solve(neuron, current, o.duration_ms, solver_options(o), [&](const pinn::Progress& p) {
        progress.update(live_line(p, reference, watch.wall()));
        return !interrupted();
      });
  const double seconds = watch.wall(), cpu = watch.cpu();
  create({folder});
  solution.save((folder / "model.safetensors").string());
  const std::string pictures = write_run(folder, solution, sample(solution, o.sample_ms), reference);
  std::optional<Score> s;
  if (reference)
    s = score(
        *reference, solution.spike_times_ms, [&](double t) { return solution.at(t); }, solution.reached_ms);
  progress.finish(fmt::format("{} spikes{} in {:.3f} of {:g} ms, {} networks, {:.2f} s ({:.2f} s of processor time)",
                              solution.spike_times_ms.size(), solution.spike_times_ms.empty() ? ": it never fires" : "",
                              solution.reached_ms, o.duration_ms, solution.segments.size(), seconds, cpu));
  std::string times;
  for (double t : solution.spike_times_ms) times += fmt::format(" {:.6f}", t);
  if (!times.empty()) o.common.say("spike times (ms):{}", times);
  if (s && s->spike_error_ms) o.common.say("largest spike-time error {:.2e} ms", *s->spike_error_ms);
  if (s && s->v_rmse_mv)
    o.common.say("v RMSE {:.2e} mV, largest {:.2e} mV, away from spikes", *s->v_rmse_mv, *s->v_max_mv);
  o.common.say("mean squared residual {:.2e}, worst fresh/training ratio {:.3f}", solution.mean_loss(),
               solution.worst_fresh_ratio());
  o.common.say("{}\nmodel: {}", pictures, (folder / "model.safetensors").string());
  o.common.print({{"neuron", neuron.name},
                  {"design", o.design},
                  {"quality", o.quality},
                  {"spikes", solution.spike_times_ms.size()},
                  {"spike_times_ms", solution.spike_times_ms},
                  {"spike_error_ms", s ? or_null(s->spike_error_ms) : Json(nullptr)},
                  {"v_rmse_mv", s ? or_null(s->v_rmse_mv) : Json(nullptr)},
                  {"residual_fresh_over_training", solution.worst_fresh_ratio()},
                  {"loss", solution.mean_loss()},
                  {"seconds", seconds},
                  {"cpu_seconds", cpu},
                  {"evaluations", solution.evaluations},
                  {"networks", solution.segments.size()},
                  {"parameters", solution.shape.parameters()},
                  {"inference_us", solution.segments.empty() ? Json(nullptr) : Json(inference_us(solution))},
                  {"reached_ms", solution.reached_ms},
                  {"failure", solution.failure},
                  {"out", folder.string()}});
  if (interrupted()) throw Exit{130};
  if (!solution.complete())
    throw std::runtime_error(fmt::format("{}; what was found is in {}", solution.failure, folder.string()));
}

}  // namespace

void add_pinn(CLI::App& app) {
  auto options = std::make_shared<PinnOptions>();
  auto* command = app.add_subcommand("pinn", "Every spike of an Izhikevich neuron from its equations, by networks");
  PinnOptions& o = *options;
  o.common.add_to(*command);
  command->add_option("--neuron", o.neuron, "rs2003 ib2003 ch2003 fs2003 lts2003 tc2003 rz2003 rs2007 ib2007 ch2007")
      ->capture_default_str();
  command->add_option("--params", o.params, "Changed parameters: a=0.03,d=50 (C k v_r v_t a b c d v_peak v0 u0 ...)");
  command->add_option("--current", o.current, "70, step:70@100, pulse:9@10..12, joined by ; (default: the preset's)");
  command->add_option("--duration-ms", o.duration_ms, "Time to solve")->capture_default_str();
  command->add_option("--design", o.design, "windows")->check(CLI::IsMember({"windows"}))->capture_default_str();
  command->add_option("--quality", o.quality, "fast or best")
      ->check(CLI::IsMember({"fast", "best"}))
      ->capture_default_str();
  command->add_option("--window-ms", o.window_ms, "Longest window");
  command->add_option("--a-mv", o.A_mv, "A of v = v_c + A tan(phi), 10 to 40 mV");
  command->add_option("--loss", o.loss, "Mean squared residual at which a window is accepted");
  command->add_option("--hidden", o.hidden, "Hidden units of a window's network");
  command->add_option("--points", o.points, "Collocation points of a window");
  command->add_option("--iterations", o.iterations, "Optimizer iterations of a window");
  command->add_option("--optimizer", o.optimizer, "ssbfgs or lm")
      ->check(CLI::IsMember({"ssbfgs", "lm"}))
      ->capture_default_str();
  command->add_option("--budget-s", o.budget_s, "Give up after this many seconds, keeping what was found");
  command->add_option("--sample-ms", o.sample_ms, "Time step of the written solution")->capture_default_str();
  command->add_option("--reference", o.reference, "CSV to score against: columns t_ms,v_mv,u and/or spike_ms");
  command->add_option("--out", o.out, "Run folder (default runs/pinn-NEURON-N)");
  command->callback([options] { run(*options); });
}

}  // namespace ranvier::cli
