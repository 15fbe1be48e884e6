// `ranvier pinn`: solves a neuron with physics-informed networks, from its equations alone.
#include <cmath>

#include "tools/pinn_commands.h"
#include "tools/pinn_designs.h"

namespace ranvier::cli {
namespace {

using Json = nlohmann::ordered_json;

std::filesystem::path run_folder(const std::string& out, const std::string& name) {
  namespace fs = std::filesystem;
  if (!out.empty()) {
    refuse_run_in(out);
    return out;
  }
  for (int number = 1;; ++number) {
    const fs::path path = fs::path("runs") / fmt::format("pinn-{}-{}", name, number);
    if (!fs::exists(path)) return path;
  }
}

/// Microseconds of one evaluation of v and u.
double inference_us(const pinn::Solution& solution) {
  const Stopwatch watch;
  double sum = 0;
  constexpr int count = 20000;
  for (int i = 0; i < count; ++i) sum += solution.at(solution.reached_ms * i / count).v;
  return std::isfinite(sum) ? 1e6 * watch.wall() / count : 0;
}

/// The last lines for people, and the JSON object.
void report(const PinnOptions& o, const PinnProblem& p, const pinn::Solution& solution, const Score& s, double seconds,
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
                        {"quality", o.solver.quality},
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
  const PinnProblem p(o);
  const std::filesystem::path folder = run_folder(o.out, o.who.short_name());
  create({folder});  // what cannot be written is better known before the work
  watch_for_interruption();
  o.common.say("{}: current {}, {} ms, quality {}; no data, only the equations", p.neuron.name, p.spec, o.duration_ms,
               o.solver.quality);
  Progress progress(o.common);
  const Stopwatch watch;
  const pinn::Solution solution = solve_by_windows(o, p, progress, watch);
  const double seconds = watch.wall(), cpu = watch.cpu();
  solution.save((folder / "model.safetensors").string());
  const std::string pictures = solution.segments.empty()
                                   ? "no window was met: there is nothing to draw"
                                   : write_run(folder, curves_of(solution), o.sample_ms, p.reference);
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

void run(const PinnOptions& o) {
  start_on_cpu(o.common, "ranvier pinn", "ranvier pinn many");
  if (o.held_out > 0 && o.design != "guided" && o.design != "curriculum")
    throw UsageError(fmt::format("--held-out: the design {} is not fitted to data", o.design));
  if (o.design == "windows") return run_windows(o);
  const PinnProblem p(o);
  const std::filesystem::path folder = run_folder(o.out, o.who.short_name() + "-" + o.design);
  create({folder});
  watch_for_interruption();
  const Json summary = design_json(o.design, run_design(o, p, o.design, &folder));
  write_file(folder / "summary.json", summary.dump(2) + "\n");
  o.common.print(summary);
  if (interrupted()) throw Exit{130};
}

struct PinnEvalOptions {
  Common common;
  std::string model, out;
  double sample_ms = 0.1;
};

/// A saved solution at times of one's own.
void evaluate(const PinnEvalOptions& o) {
  start_on_cpu(o.common, "ranvier pinn eval");
  const pinn::Solution solution = pinn::Solution::load(o.model);
  check_samples(o.sample_ms, solution.reached_ms);
  if (solution.segments.empty() && !solution.unmet)
    throw UsageError(fmt::format("{}: no window of it was met", o.model));
  const double us = inference_us(solution);
  if (!o.out.empty()) {
    std::string text = "t_ms,v_mv,u\n";
    const Trajectory at = sample(curves_of(solution), o.sample_ms);
    for (size_t i = 0; i < at.t_ms.size(); ++i) text += fmt::format("{},{},{}\n", at.t_ms[i], at.v_mv[i], at.u[i]);
    write_file(o.out, text);
  }
  o.common.say("{}: {:g} ms, {} spikes, {} networks of {} parameters, {:.2f} us a point{}", solution.neuron.name,
               solution.reached_ms, solution.spike_times_ms.size(), solution.segments.size(),
               solution.shape.parameters(), us, solution.complete() ? "" : "; " + solution.failure);
  if (const auto& unmet = solution.unmet)
    o.common.say("beyond {:g} ms the failed window's best network, to {:g} ms: mean squared residual {:.2e}",
                 solution.reached_ms, unmet->start_ms + unmet->length_ms, unmet->loss);
  o.common.print({{"neuron", solution.neuron.name},
                  {"reached_ms", solution.reached_ms},
                  {"spikes", solution.spike_times_ms.size()},
                  {"spike_times_ms", solution.spike_times_ms},
                  {"networks", solution.segments.size()},
                  {"inference_us", us},
                  {"failure", solution.failure}});
}

}  // namespace

void add_pinn(CLI::App& app) {
  auto options = std::make_shared<PinnOptions>();
  auto* command = subcommand(app, "pinn", "Every spike of an Izhikevich neuron from its equations, by networks");
  PinnOptions& o = *options;
  o.add_problem(*command);
  o.add_solver(*command);
  command->add_option("--design", o.design, "windows (the solver), or global causal pure guided curriculum")
      ->check(CLI::IsMember({"windows", "global", "causal", "pure", "guided", "curriculum"}))
      ->capture_default_str();
  command->add_option("--held-out", o.held_out, "Share of the data kept from a design that is fitted to data")
      ->check(CLI::Range(0.0, 0.9))
      ->capture_default_str();
  command->add_option("--sample-ms", o.sample_ms, "Time step of the written solution")->capture_default_str();
  command->add_option("--out", o.out, "Run folder (default runs/pinn-NEURON-N)");
  add_pinn_compare(*command);
  add_pinn_infer(*command);
  add_pinn_many(*command);
  auto loaded = std::make_shared<PinnEvalOptions>();
  auto* eval = subcommand(*command, "eval", "A saved solution: its spikes, and v and u at times of your own");
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
