// Neurons by preset or file, and the flags of a PINN run.
#include "tools/pinn_options.h"

#include <toml++/toml.h>

#include <cmath>
#include <filesystem>

#include "models/neurons/keys.h"

namespace ranvier::cli {
namespace {

namespace fs = std::filesystem;

/// The stimulus of the presets' published protocols.
std::string default_current(const std::string& preset) {
  if (preset == "rs2007") return "step:70@100";
  if (preset == "ib2007") return "step:600@100";
  if (preset == "ch2007") return "step:300@100";
  return "10";
}

/// What a file says of a neuron.
struct NeuronFile {
  std::string preset, current, assignments;
};

bool is_file(const std::string& name) { return name.ends_with(".toml") || name.find('/') != std::string::npos; }

NeuronFile read_neuron(const std::string& path) {
  if (!fs::is_regular_file(path)) throw UsageError(fmt::format("{}: cannot be read", path));
  toml::table table;
  try {
    table = toml::parse_file(path);
  } catch (const toml::parse_error& e) {
    throw UsageError(fmt::format("{}: line {}: {}", path, e.source().begin.line, e.description()));
  }
  try {
    neuron::Keys keys(table, path);
    NeuronFile file{keys.need("preset"), keys.text("current", ""), ""};
    if (file.current.empty()) file.current = default_current(file.preset);
    // in this order, as v_r, v_t and k also set q1 and q0
    for (const char* key : {"C", "k", "v_r", "v_t", "q2", "q1", "q0", "a", "b", "v_b", "c", "d", "v_peak", "v0", "u0"})
      if (keys.has(key)) file.assignments += fmt::format("{}={},", key, keys.number(key, 0));
    keys.finish();
    return file;
  } catch (const Error& e) {
    throw UsageError(e.what());
  }
}

std::string live_line(const pinn::Progress& p, const std::optional<Reference>& reference, double seconds) {
  std::string error;
  const size_t found = p.spike_times_ms.size();
  if (reference && found && found <= reference->spike_times_ms.size())
    error = fmt::format("  last spike off by {:.1e} ms",
                        std::abs(p.spike_times_ms[found - 1] - reference->spike_times_ms[found - 1]));
  return fmt::format("window {:>4}  {:>8.2f}/{:.0f} ms  loss {:.1e}  {} spikes{}  {} left", p.windows, p.t_ms,
                     p.duration_ms, p.loss, found, error, duration(seconds * (p.duration_ms / p.t_ms - 1)));
}

}  // namespace

void NeuronChoice::add_to(CLI::App& command, const char* params_help) {
  command
      .add_option("--neuron", neuron,
                  "rs2003 ib2003 ch2003 fs2003 lts2003 tc2003 rz2003 rs2007 ib2007 ch2007, or FILE.toml: preset, "
                  "current, and parameters by name")
      ->capture_default_str();
  command.add_option("--params", params, params_help);
  command.add_option("--current", current,
                     "70, step:70@100, pulse:9@10..12, joined by ; (default: the file's or the preset's)");
}

pinn::Neuron NeuronChoice::chosen() const {
  if (!is_file(neuron)) {
    pinn::Neuron n = pinn::Neuron::preset(neuron);
    n.set(params);
    return n;
  }
  const NeuronFile file = read_neuron(neuron);
  pinn::Neuron n = pinn::Neuron::preset(file.preset);
  n.set(file.assignments + params);
  n.name = short_name();
  return n;
}

std::string NeuronChoice::current_text() const {
  if (!current.empty()) return current;
  return is_file(neuron) ? read_neuron(neuron).current : default_current(neuron);
}

std::string NeuronChoice::short_name() const { return is_file(neuron) ? fs::path(neuron).stem().string() : neuron; }

void start_on_cpu(const Common& common, const std::string& command, const std::string& instead) {
  if (common.device == "cuda")
    throw UsageError(fmt::format("--device cuda: `{}` runs on the CPU alone{}", command,
                                 instead.empty() ? "" : fmt::format("; `{}` uses a GPU", instead)));
  Common cpu = common;
  if (cpu.device == "auto") cpu.device = "cpu";
  cpu.start();
}

void check_duration(double duration_ms) {
  if (!(duration_ms > 0 && std::isfinite(duration_ms)))
    throw UsageError(fmt::format("--duration-ms {}: must be positive", duration_ms));
}

void PinnOptions::add_problem(CLI::App& command) {
  common.add_to(command);
  who.add_to(command, "Changed parameters: a=0.03,d=50 (C k v_r v_t q2 q1 q0 a b v_b c d v_peak v0 u0)");
  command.add_option("--duration-ms", duration_ms, "Time to solve")->capture_default_str();
  command.add_option("--effort", effort, "Share of the published number of steps of the other designs")
      ->check(CLI::Range(1e-6, 100.0))
      ->capture_default_str();
  command
      .add_option(
          "--reference", reference,
          "What to score against: solver (Taylor series of order 24), none, or a CSV: t_ms,v_mv,u and/or spike_ms")
      ->capture_default_str();
}

void SolverFlags::add_to(CLI::App& command) {
  command.add_option("--quality", quality, "fast or best")
      ->check(CLI::IsMember({"fast", "best"}))
      ->capture_default_str();
  command.add_option("--window-ms", window_ms, "Longest window");
  command.add_option("--a-mv", A_mv, "A of v = v_c + A tan(phi), 10 to 40 mV")->check(CLI::Range(10.0, 40.0));
  command.add_option("--loss", loss, "Mean squared residual at which a window is accepted");
  command.add_option("--hidden", hidden, "Hidden units of a window's network");
  command.add_option("--points", points, "Collocation points of a window");
  command.add_option("--iterations", iterations, "Optimizer iterations of a window");
  command.add_option("--budget-s", budget_s, "Give up after this many seconds, keeping what was found");
}

pinn::Options SolverFlags::options(const Common& common) const {
  pinn::Options options = pinn::Options::quality(quality);
  options.seed = common.seed.value_or(0);
  if (window_ms) options.window_ms = *window_ms;
  if (A_mv) options.A_mv = *A_mv;
  if (loss) options.window_loss = options.spike_loss = *loss;
  if (hidden) options.hidden = *hidden;
  if (points) options.points = *points;
  if (iterations) options.iterations = *iterations;
  if (budget_s) options.budget_seconds = *budget_s;
  options.check();
  return options;
}

void PinnOptions::add_solver(CLI::App& command) {
  solver.add_to(command);
  command.add_option("--optimizer", optimizer, "ssbfgs or lm")
      ->check(CLI::IsMember({"ssbfgs", "lm"}))
      ->capture_default_str();
}

pinn::Options PinnOptions::solver_options() const {
  pinn::Options options = solver.options(common);
  options.levenberg_marquardt = optimizer == "lm";
  return options;
}

PinnProblem::PinnProblem(const PinnOptions& o) : neuron(o.who.chosen()), spec(o.who.current_text()) {
  neuron.check();
  (void)o.solver_options();  // a flag that makes no sense is told before the work
  current = pinn::Current::parse(spec);
  if (o.reference != "solver" && o.reference != "none") reference = read_reference(o.reference);
  check_duration(o.duration_ms);
  check_samples(o.sample_ms, o.duration_ms);
  // a start above the peak is no start of the reference solver
  if (o.reference == "solver" && neuron.v0 < neuron.v_peak)
    reference = reference_solution(neuron, current, o.duration_ms, o.sample_ms);
}

pinn::Solution solve_by_windows(const PinnOptions& o, const PinnProblem& p, Progress& progress,
                                const Stopwatch& watch) {
  return pinn::solve(p.neuron, p.current, o.duration_ms, o.solver_options(), [&](const pinn::Progress& at) {
    progress.update(live_line(at, p.reference, watch.wall()));
    return !interrupted();
  });
}

}  // namespace ranvier::cli
