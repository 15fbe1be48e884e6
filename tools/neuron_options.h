// Flags that the subcommands about one neuron share, and the run they describe.
#pragma once
#include <optional>
#include <string>
#include <vector>

#include "engine/population.h"
#include "models/neurons/networks.h"
#include "models/neurons/presets.h"
#include "tools/cli.h"

namespace ranvier::cli {

/// Flags of recording (neuron_record.h).
struct RecordOptions {
  std::string neurons, formats = "csv,npy,h5";
  std::optional<double> interval;  ///< ms
  double memory_mb = 64, disk_mb = 0;
  bool means = false;

  void add_to(CLI::App& command);
};

/// One neuron as the command line describes it.
struct NeuronOptions {
  Common common;
  std::string preset, form, params, solver = "rk4", mode = "accurate", spike_event = "v_peak";
  std::optional<std::string> current;
  std::optional<double> dt, duration, rtol, atol;
  std::string out;
  std::string file, resume;  ///< of a network: its TOML, a state to go on from
  std::optional<int64_t> n;  ///< of a population
  std::string field;         ///< of a population
  std::optional<double> noise_sd;
  std::optional<double> kappa;  ///< of a network's field
  double noise_dt = 1;          ///< ms
  bool solver_given = false, mode_given = false;
  RecordOptions record;
  std::string sweep;  ///< KEY=A:B:N

  /// The flags of a neuron and its stimulus.
  void add_neuron(CLI::App& command);
  /// --solver, --mode.
  void add_method(CLI::App& command);

  /// Preset with --form and --params applied. Without --preset and --form it is RS of 2007.
  neuron::Preset chosen() const;
  /// The run: preset, then --current, --dt-ms and the rest over it.
  neuron::Protocol protocol(const neuron::Preset& preset) const;
  /// f64 unless --precision says otherwise.
  std::string precision() const { return common.precision.empty() ? "f64" : common.precision; }
  /// The current in words, for outputs.
  std::string current_text(const neuron::Preset& preset) const { return current.value_or(preset.current_text); }
};

/// The solver as outputs name it: none where the mode is printed.
nlohmann::ordered_json solver_json(neuron::Mode mode, neuron::Solver solver);
/// Mode, solver and step for files that hold nothing else in words.
std::vector<std::pair<std::string, std::string>> method_attributes(neuron::Mode mode, neuron::Solver solver, double dt);

/// Makes the folder, refusing one that holds `mark` already.
void create_output(const std::string& folder, const std::string& mark);

/// After Ctrl-C: says how much of what was wanted is done and kept, and ends with 130.
void end_if_interrupted(size_t done, size_t wanted, const char* things, const std::string& out);

/// "0.01,0.1" as positive numbers; throws UsageError naming the flag.
std::vector<double> positive_list(const std::string& text, const char* flag);

/// True where FILE or --preset names a network.
bool is_network(const NeuronOptions& options);
void run_network(const NeuronOptions& options);
/// What the flags set over a network's file.
neuron::NetworkOverrides network_overrides(const NeuronOptions& options);
/// The network of FILE or --preset with what the flags set over it.
neuron::NamedNetwork chosen_network(const NeuronOptions& options);
/// --n neurons of one preset.
void run_population(const NeuronOptions& options);
/// Its description, with --current as populations have it (parse_population_current), and the run's length, ms.
neuron::PopulationSpec population_spec(const NeuronOptions& options, const neuron::Preset& preset, int64_t size);
double duration_of(const NeuronOptions& options, const neuron::Preset& preset);
/// Steps in `length` ms; throws UsageError naming the flag where that is no whole number of them, or none.
int64_t whole_steps(const char* flag, double length, double dt);
/// --sweep: one row a value, of a neuron, a population or a network.
void run_sweep(const NeuronOptions& options);

// The parts of `simulate` that have a file of their own.
void add_simulate_compare(CLI::App& simulate);
void add_simulate_field(CLI::App& simulate);
void add_simulate_stability(CLI::App& simulate);
void add_simulate_patterns(CLI::App& simulate);

}  // namespace ranvier::cli
