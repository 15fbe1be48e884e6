// `ranvier pinn`: solves a neuron with physics-informed networks, from its equations alone.
#include <cmath>
#include <random>

#include "models/collocation.h"
#include "models/pinn_baseline.h"
#include "tools/pinn_commands.h"
#include "tools/pinn_run.h"

namespace ranvier::cli {
namespace {

using Json = nlohmann::ordered_json;

struct PinnOptions {
  Common common;
  std::string neuron = "rs2007", params, current, out, reference = "solver", quality = "fast", design = "windows";
  double duration_ms = 1000, sample_ms = 0.1;
  std::optional<double> window_ms, A_mv, loss, budget_s;
  std::optional<int64_t> hidden, points, iterations;
  std::string optimizer = "ssbfgs";
  double effort = 1, held_out = 0;
  std::vector<std::string> designs = {"windows", "global", "causal", "pure", "guided", "curriculum"};
};

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

/// What every design starts from.
struct Problem {
  pinn::Neuron neuron;
  pinn::Current current;
  std::string spec;
  std::optional<Reference> reference;
};

Problem problem_of(const PinnOptions& o) {
  Problem p;
  p.neuron = pinn::Neuron::preset(o.neuron);
  p.neuron.set(o.params);
  p.neuron.check();
  p.spec = o.current.empty() ? default_current(o.neuron) : o.current;
  p.current = pinn::Current::parse(p.spec);
  if (o.reference != "solver" && o.reference != "none") p.reference = read_reference(o.reference);
  if (!(o.duration_ms > 0)) throw UsageError(fmt::format("--duration-ms {}: must be positive", o.duration_ms));
  if (!(o.sample_ms > 0)) throw UsageError(fmt::format("--sample-ms {}: must be positive", o.sample_ms));
  // a start above the peak is no start of the reference solver
  if (o.reference == "solver" && p.neuron.v0 < p.neuron.v_peak)
    p.reference = reference_solution(p.neuron, p.current, o.duration_ms, o.sample_ms);
  return p;
}

/// The last lines for people, and the JSON object.
void report(const PinnOptions& o, const Problem& p, const pinn::Solution& solution, const Score& s, double seconds,
            double cpu, const std::filesystem::path& folder) {
  std::string times;
  for (double t : solution.spike_times_ms) times += fmt::format(" {:.6f}", t);
  if (!times.empty()) o.common.say("spike times (ms):{}", times);
  if (s.spike_error_ms) o.common.say("largest spike-time error {:.2e} ms", *s.spike_error_ms);
  if (s.v_rmse_mv) o.common.say("v RMSE {:.2e} mV, largest {:.2e} mV, away from spikes", *s.v_rmse_mv, *s.v_max_mv);
  o.common.say("mean squared residual {:.2e}, worst fresh/training ratio {:.3f}", solution.mean_loss(),
               solution.worst_fresh_ratio());
  const Json summary = {{"neuron", p.neuron.name},
                        {"design", o.design},
                        {"quality", o.quality},
                        {"spikes", solution.spike_times_ms.size()},
                        {"spike_times_ms", solution.spike_times_ms},
                        {"reference_spikes", p.reference ? Json(s.reference_spikes) : Json(nullptr)},
                        {"spike_error_ms", or_null(s.spike_error_ms)},
                        {"v_rmse_mv", or_null(s.v_rmse_mv)},
                        {"v_mae_mv", or_null(s.v_mae_mv)},
                        {"v_max_mv", or_null(s.v_max_mv)},
                        {"u_rmse", or_null(s.u_rmse)},
                        {"current", p.spec},
                        {"duration_ms", o.duration_ms},
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
                        {"out", folder.string()}};
  write_file(folder / "summary.json", summary.dump(2) + "\n");
  o.common.print(summary);
}

void run_windows(const PinnOptions& o) {
  const Problem p = problem_of(o);
  const std::filesystem::path folder = run_folder(o.out, o.neuron);
  create({folder});  // what cannot be written is better known before the work
  watch_for_interruption();
  o.common.say("{}: current {}, {} ms, quality {}; no data, only the equations", p.neuron.name, p.spec, o.duration_ms,
               o.quality);
  Progress progress(o.common);
  const Stopwatch watch;
  const pinn::Solution solution =
      pinn::solve(p.neuron, p.current, o.duration_ms, solver_options(o), [&](const pinn::Progress& at) {
        progress.update(live_line(at, p.reference, watch.wall()));
        return !interrupted();
      });
  const double seconds = watch.wall(), cpu = watch.cpu();
  solution.save((folder / "model.safetensors").string());
  const std::string pictures = solution.segments.empty()
                                   ? "no window was met: there is nothing to draw"
                                   : write_run(folder, solution, sample(solution, o.sample_ms), p.reference);
  Score s;
  if (p.reference && !solution.segments.empty())
    s = score(
        *p.reference, solution.spike_times_ms, [&](double t) { return solution.at(t); }, solution.reached_ms);
  progress.finish(fmt::format("{} spikes{} in {:.3f} of {:g} ms, {} networks, {:.2f} s ({:.2f} s of processor time)",
                              solution.spike_times_ms.size(),
                              solution.spike_times_ms.empty() && solution.complete() ? ": it never fires" : "",
                              solution.reached_ms, o.duration_ms, solution.segments.size(), seconds, cpu));
  report(o, p, solution, s, seconds, cpu, folder);
  o.common.say("{}\nmodel: {}", pictures, (folder / "model.safetensors").string());
  if (interrupted()) throw Exit{130};
  if (!solution.complete())
    throw std::runtime_error(fmt::format("{}; what was found is in {}", solution.failure, folder.string()));
}

/// A whole-time design, trained and scored.
struct BaselineResult {
  std::vector<double> peaks_ms;
  Score score, against_data;
  Score held_out, held_out_away;  ///< on data that training never saw: all of them, and those away from spikes
  double loss, seconds, cpu;
  int64_t parameters;
};

/// Draws that share of the data without the first sample; the rest stays in `data`.
pinn::Trace hold_out(pinn::Trace& data, double share, uint64_t seed) {
  pinn::Trace kept, held;
  std::mt19937_64 random(seed);
  for (size_t i = 0; i < data.t_ms.size(); ++i) {
    pinn::Trace& to = i > 0 && pinn::uniform(random) < share ? held : kept;
    to.t_ms.push_back(data.t_ms[i]), to.v_mv.push_back(data.v_mv[i]), to.u.push_back(data.u[i]);
  }
  data = std::move(kept);
  return held;
}

BaselineResult run_baseline(const PinnOptions& o, const Problem& p, const std::string& design, double effort,
                            const std::filesystem::path* folder) {
  const pinn::Baseline baseline = pinn::Baseline::named(design, o.duration_ms, effort);
  pinn::Trace data = pinn::published_training_data(p.neuron, p.current, o.duration_ms);
  std::vector<double> data_spikes;
  for (size_t i = 0; i < data.t_ms.size(); ++i)
    if (data.v_mv[i] >= p.neuron.v_peak) data_spikes.push_back(data.t_ms[i]);
  const pinn::Trace unseen = hold_out(data, o.held_out, o.common.seed.value_or(0));
  pinn::BaselineTraining training(baseline, p.neuron, p.current, o.duration_ms, data, DType::f64,
                                  o.common.seed.value_or(0));
  Progress progress(o.common);
  const Stopwatch watch;
  training.train([&](const pinn::BaselineProgress& at) {
    progress.update(fmt::format("{:<10} step {:>6}/{}  loss {:.3e}  lr {:.1e}  {} left", design, at.step, at.steps,
                                at.loss, at.lr,
                                duration(watch.wall() * static_cast<double>(at.steps - at.step) /
                                         static_cast<double>(std::max<int64_t>(at.step, 1)))));
    return !interrupted();
  });
  const auto at = [&](double t) { return training.at(t); };
  BaselineResult r;
  r.seconds = watch.wall(), r.cpu = watch.cpu(), r.loss = training.history().back();
  r.parameters = training.parameters();
  r.peaks_ms = pinn::peaks(at, o.duration_ms);
  if (p.reference) r.score = score(*p.reference, r.peaks_ms, at, o.duration_ms);
  if (baseline.needs_data)  // how the published runs were scored: on their own training points
    r.against_data = score({"training data", {}, data.t_ms, data.v_mv, data.u}, r.peaks_ms, at, o.duration_ms);
  if (baseline.needs_data && !unseen.t_ms.empty()) {
    r.held_out = score({"held-out data", {}, unseen.t_ms, unseen.v_mv, unseen.u}, r.peaks_ms, at, o.duration_ms);
    r.held_out_away =
        score({"held-out data", data_spikes, unseen.t_ms, unseen.v_mv, unseen.u}, r.peaks_ms, at, o.duration_ms);
  }
  progress.finish(fmt::format("{}: {} spikes, loss {:.3e}, {:.1f} s ({:.1f} s of processor time){}", design,
                              r.peaks_ms.size(), r.loss, r.seconds, r.cpu,
                              r.against_data.v_rmse_mv
                                  ? fmt::format(", v on its own training points: MAE {:.3f}, RMSE {:.3f} mV",
                                                *r.against_data.v_mae_mv, *r.against_data.v_rmse_mv)
                                  : ""));
  if (r.held_out.v_rmse_mv)
    o.common.say("v on {} held-out points: MAE {:.3f}, RMSE {:.3f} mV; more than 2 ms from a spike: {}",
                 unseen.t_ms.size(), *r.held_out.v_mae_mv, *r.held_out.v_rmse_mv,
                 r.held_out_away.v_rmse_mv
                     ? fmt::format("MAE {:.3f}, RMSE {:.3f} mV", *r.held_out_away.v_mae_mv, *r.held_out_away.v_rmse_mv)
                     : "none");
  if (!folder) return r;
  std::string text = "t_ms,v_mv,u\n", loss = "step,loss\n";
  for (double t = 0; t <= o.duration_ms; t += o.sample_ms) text += fmt::format("{},{},{}\n", t, at(t).v, at(t).u);
  for (size_t i = 0; i < training.history().size(); ++i) loss += fmt::format("{},{:.6e}\n", i, training.history()[i]);
  write_file(*folder / "solution.csv", text);
  write_file(*folder / "loss.csv", loss);
  return r;
}

Json baseline_json(const std::string& design, const BaselineResult& r) {
  return {{"design", design},
          {"spikes", r.peaks_ms.size()},
          {"spike_times_ms", r.peaks_ms},
          {"spike_error_ms", or_null(r.score.spike_error_ms)},
          {"v_rmse_mv", or_null(r.score.v_rmse_mv)},
          {"v_mae_on_training_data_mv", or_null(r.against_data.v_mae_mv)},
          {"v_rmse_on_training_data_mv", or_null(r.against_data.v_rmse_mv)},
          {"held_out_v_mae_mv", or_null(r.held_out.v_mae_mv)},
          {"held_out_v_rmse_mv", or_null(r.held_out.v_rmse_mv)},
          {"held_out_v_mae_away_from_spikes_mv", or_null(r.held_out_away.v_mae_mv)},
          {"held_out_v_rmse_away_from_spikes_mv", or_null(r.held_out_away.v_rmse_mv)},
          {"residual_fresh_over_training", nullptr},
          {"loss", r.loss},
          {"seconds", r.seconds},
          {"cpu_seconds", r.cpu},
          {"parameters", r.parameters}};
}

void run(const PinnOptions& o) {
  o.common.start();
  if (o.design == "windows") return run_windows(o);
  const Problem p = problem_of(o);
  const std::filesystem::path folder = run_folder(o.out, o.neuron + "-" + o.design);
  create({folder});
  watch_for_interruption();
  o.common.print(baseline_json(o.design, run_baseline(o, p, o.design, o.effort, &folder)));
  if (interrupted()) throw Exit{130};
}

struct PinnEvalOptions {
  Common common;
  std::string model, out;
  double sample_ms = 0.1;
};

/// A saved solution at times of one's own.
void evaluate(const PinnEvalOptions& o) {
  o.common.start();
  if (!(o.sample_ms > 0)) throw UsageError(fmt::format("--sample-ms {}: must be positive", o.sample_ms));
  const pinn::Solution solution = pinn::Solution::load(o.model);
  if (solution.segments.empty()) throw UsageError(fmt::format("{}: no window of it was met", o.model));
  const double us = inference_us(solution);
  if (!o.out.empty()) {
    std::string text = "t_ms,v_mv,u\n";
    const Trajectory at = sample(solution, o.sample_ms);
    for (size_t i = 0; i < at.t_ms.size(); ++i) text += fmt::format("{},{},{}\n", at.t_ms[i], at.v_mv[i], at.u[i]);
    write_file(o.out, text);
  }
  o.common.say("{}: {:g} ms, {} spikes, {} networks of {} parameters, {:.2f} us a point{}", solution.neuron.name,
               solution.reached_ms, solution.spike_times_ms.size(), solution.segments.size(),
               solution.shape.parameters(), us, solution.complete() ? "" : "; " + solution.failure);
  o.common.print({{"neuron", solution.neuron.name},
                  {"reached_ms", solution.reached_ms},
                  {"spikes", solution.spike_times_ms.size()},
                  {"spike_times_ms", solution.spike_times_ms},
                  {"networks", solution.segments.size()},
                  {"inference_us", us},
                  {"failure", solution.failure}});
}

/// The table of all designs on one neuron.
void compare(const PinnOptions& o) {
  o.common.start();
  const Problem p = problem_of(o);
  watch_for_interruption();
  Json rows = Json::array();
  std::vector<std::string> lines;
  const auto cell = [](const std::optional<double>& value) {
    return value ? fmt::format("{:.2e}", *value) : std::string("-");
  };
  const auto line = [&](const std::string& design, size_t spikes, const Score& s, double seconds, double cpu,
                        const std::string& data) {
    lines.push_back(fmt::format("{:<12} {:>7} {:>14} {:>12} {:>9.1f} {:>9.1f}   {}", design, spikes,
                                cell(s.spike_error_ms), cell(s.v_rmse_mv), seconds, cpu, data));
  };
  for (const std::string& design : o.designs) {
    if (interrupted()) break;
    if (design == "windows") {
      const Stopwatch watch;
      const pinn::Solution solution = pinn::solve(p.neuron, p.current, o.duration_ms, solver_options(o),
                                                  [](const pinn::Progress&) { return !interrupted(); });
      Score s;
      if (p.reference)
        s = score(
            *p.reference, solution.spike_times_ms, [&](double t) { return solution.at(t); }, solution.reached_ms);
      const double seconds = watch.wall(), cpu = watch.cpu();
      line(design, solution.spike_times_ms.size(), s, seconds, cpu, solution.complete() ? "none" : solution.failure);
      rows.push_back({{"design", design},
                      {"spikes", solution.spike_times_ms.size()},
                      {"spike_error_ms", or_null(s.spike_error_ms)},
                      {"v_rmse_mv", or_null(s.v_rmse_mv)},
                      {"residual_fresh_over_training", solution.worst_fresh_ratio()},
                      {"seconds", seconds},
                      {"cpu_seconds", cpu},
                      {"failure", solution.failure}});
    } else {
      const BaselineResult r = run_baseline(o, p, design, o.effort, nullptr);
      const bool data = pinn::Baseline::named(design, o.duration_ms).needs_data;
      line(design, r.peaks_ms.size(), r.score, r.seconds, r.cpu, data ? "Euler, 1 ms" : "none");
      rows.push_back(baseline_json(design, r));
    }
  }
  o.common.say("{:<12} {:>7} {:>14} {:>12} {:>9} {:>9}   {}", "design", "spikes", "spike err ms", "v RMSE mV", "s",
               "cpu s", "trained on");
  for (const std::string& text : lines) o.common.say("{}", text);
  o.common.print({{"neuron", p.neuron.name}, {"rows", rows}});
  if (interrupted()) throw Exit{130};
}

}  // namespace

namespace {

void add_problem(CLI::App& command, PinnOptions& o) {
  o.common.add_to(command);
  command.add_option("--neuron", o.neuron, "rs2003 ib2003 ch2003 fs2003 lts2003 tc2003 rz2003 rs2007 ib2007 ch2007")
      ->capture_default_str();
  command.add_option("--params", o.params, "Changed parameters: a=0.03,d=50 (C k v_r v_t a b c d v_peak v0 u0 ...)");
  command.add_option("--current", o.current, "70, step:70@100, pulse:9@10..12, joined by ; (default: the preset's)");
  command.add_option("--duration-ms", o.duration_ms, "Time to solve")->capture_default_str();
  command.add_option("--quality", o.quality, "fast or best")
      ->check(CLI::IsMember({"fast", "best"}))
      ->capture_default_str();
  command.add_option("--effort", o.effort, "Share of the published number of steps of the other designs")
      ->check(CLI::PositiveNumber)
      ->capture_default_str();
  command
      .add_option(
          "--reference", o.reference,
          "What to score against: solver (Taylor series of order 24), none, or a CSV: t_ms,v_mv,u and/or spike_ms")
      ->capture_default_str();
}

void add_solver(CLI::App& command, PinnOptions& o) {
  command.add_option("--window-ms", o.window_ms, "Longest window");
  command.add_option("--a-mv", o.A_mv, "A of v = v_c + A tan(phi), 10 to 40 mV");
  command.add_option("--loss", o.loss, "Mean squared residual at which a window is accepted");
  command.add_option("--hidden", o.hidden, "Hidden units of a window's network");
  command.add_option("--points", o.points, "Collocation points of a window");
  command.add_option("--iterations", o.iterations, "Optimizer iterations of a window");
  command.add_option("--optimizer", o.optimizer, "ssbfgs or lm")
      ->check(CLI::IsMember({"ssbfgs", "lm"}))
      ->capture_default_str();
  command.add_option("--budget-s", o.budget_s, "Give up after this many seconds, keeping what was found");
}

const std::vector<std::string>& all_designs() {
  static const std::vector<std::string> names = PinnOptions{}.designs;
  return names;
}

}  // namespace

std::string default_current(const std::string& neuron) {
  if (neuron == "rs2007") return "step:70@100";
  if (neuron == "ib2007") return "step:600@100";
  if (neuron == "ch2007") return "step:300@100";
  return "10";
}

void add_pinn(CLI::App& app) {
  auto options = std::make_shared<PinnOptions>();
  auto* command = app.add_subcommand("pinn", "Every spike of an Izhikevich neuron from its equations, by networks");
  PinnOptions& o = *options;
  add_problem(*command, o);
  add_solver(*command, o);
  command->add_option("--design", o.design, "windows (the solver), or global causal pure guided curriculum")
      ->check(CLI::IsMember(all_designs()))
      ->capture_default_str();
  command->add_option("--held-out", o.held_out, "Share of the data kept from a design that is fitted to data")
      ->check(CLI::Range(0.0, 0.9))
      ->capture_default_str();
  command->add_option("--sample-ms", o.sample_ms, "Time step of the written solution")->capture_default_str();
  command->add_option("--out", o.out, "Run folder (default runs/pinn-NEURON-N)");
  auto compared = std::make_shared<PinnOptions>();
  auto* table = command->add_subcommand("compare", "The designs side by side: spikes, errors, time");
  add_problem(*table, *compared);
  add_solver(*table, *compared);
  table->add_option("--designs", compared->designs, "Which")->check(CLI::IsMember(all_designs()))->delimiter(',');
  table->callback([compared] { compare(*compared); });
  add_pinn_infer(*command);
  add_pinn_many(*command);
  auto loaded = std::make_shared<PinnEvalOptions>();
  auto* eval = command->add_subcommand("eval", "A saved solution: its spikes, and v and u at times of your own");
  loaded->common.add_to(*eval);
  eval->add_option("--model", loaded->model, "model.safetensors of a run")->required();
  eval->add_option("--sample-ms", loaded->sample_ms, "Time step of --out")->capture_default_str();
  eval->add_option("--out", loaded->out, "CSV to write: t_ms, v_mv, u");
  eval->callback([loaded] { evaluate(*loaded); });
  add_pinn_pde(*command);
  command->callback([options, command] {
    if (command->get_subcommands().empty()) run(*options);
  });
}

}  // namespace ranvier::cli
