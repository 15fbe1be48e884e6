// Flags that the subcommands of `ranvier pinn` share, and the problem that they describe.
#pragma once
#include <optional>
#include <string>
#include <vector>

#include "models/pinn.h"
#include "tools/cli.h"
#include "tools/pinn_run.h"
#include "tools/run.h"

namespace ranvier::cli {

/// A neuron by preset or file, with the changes of --params, and the current it gets.
struct NeuronChoice {
  std::string neuron = "rs2007", params, current;

  void add_to(CLI::App& command, const char* params_help);
  /// Everything but `check`. A file is TOML: `preset` (of which it takes what it does not name), `current`, and
  /// parameters by name. Throws Error, or UsageError naming the file.
  pinn::Neuron chosen() const;
  /// --current, or the file's, or the preset's published one.
  std::string current_text() const;
  /// For folder names: the preset, or the file's stem.
  std::string short_name() const;
};

/// Starts a command that runs on the CPU alone: throws UsageError where --device asks for a GPU; `instead` is what has
/// a path for one.
void start_on_cpu(const Common&, const std::string& command, const std::string& instead = "");

/// Throws UsageError unless the time is positive and finite.
void check_duration(double duration_ms);

/// How the window solver seeks, for one neuron or many.
struct SolverFlags {
  std::string quality = "fast";
  std::optional<double> window_ms, A_mv, loss, budget_s;
  std::optional<int64_t> hidden, points, iterations;

  void add_to(CLI::App& command);
  /// Throws Error naming a value that is none.
  pinn::Options options(const Common&) const;
};

/// Flags of a run.
struct PinnOptions {
  Common common;
  NeuronChoice who;
  SolverFlags solver;
  std::string out, reference = "solver", design = "windows", optimizer = "ssbfgs";
  double duration_ms = 1000, sample_ms = 0.1, effort = 1, held_out = 0;
  std::vector<std::string> designs = {"windows", "global", "causal", "pure", "guided", "curriculum", "integrators"};

  void add_problem(CLI::App& command);
  void add_solver(CLI::App& command);
  pinn::Options solver_options() const;  ///< checked
};

/// What every design starts from.
struct PinnProblem {
  pinn::Neuron neuron;
  pinn::Current current;
  std::string spec;  ///< the current in words
  std::optional<Reference> reference;

  explicit PinnProblem(const PinnOptions&);
};

/// The window solver with its live line: window, loss, spikes, error where a reference is known, time left. Ends early,
/// with what it has, when the program is interrupted.
pinn::Solution solve_by_windows(const PinnOptions&, const PinnProblem&, Progress&, const Stopwatch&);

}  // namespace ranvier::cli
