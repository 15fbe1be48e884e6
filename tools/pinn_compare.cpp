// `ranvier pinn compare`: the window solver, the published designs and integrators side by side.
#include <algorithm>

#include "models/neurons/compare.h"
#include "models/pinn_baseline.h"
#include "tools/pinn_commands.h"
#include "tools/pinn_designs.h"

namespace ranvier::cli {
namespace {

using Json = nlohmann::ordered_json;

/// The table in the making.
struct Table {
  std::vector<std::string> lines;
  Json rows = Json::array();

  void add(const std::string& who, size_t spikes, const Score& s, double seconds, double cpu, const std::string& data,
           Json row) {
    const auto cell = [](const std::optional<double>& value) {
      return value ? fmt::format("{:.2e}", *value) : std::string("-");
    };
    lines.push_back(fmt::format("{:<24} {:>6} {:>13} {:>11} {:>10.3g} {:>10.3g}   {}", who, spikes,
                                cell(s.spike_error_ms), cell(s.v_rmse_mv), seconds, cpu, data));
    rows.push_back(std::move(row));
  }
};

void add_windows(const PinnOptions& o, const PinnProblem& p, Table& table) {
  Progress progress(o.common);
  const Stopwatch watch;
  const pinn::Solution solution = solve_by_windows(o, p, progress, watch);
  const double seconds = watch.wall(), cpu = watch.cpu();
  const size_t spikes = solution.spike_times_ms.size();
  progress.finish(fmt::format("windows: {} spikes, {:.1f} s ({:.1f} s of processor time)", spikes, seconds, cpu));
  Score s;
  if (p.reference && !solution.segments.empty())
    s = score(
        *p.reference, solution.spike_times_ms, [&](double t) { return solution.at(t); }, solution.reached_ms);
  table.add("windows", spikes, s, seconds, cpu, solution.complete() ? "nothing" : solution.failure,
            {{"design", "windows"},
             {"spikes", spikes},
             {"spike_error_ms", or_null(s.spike_error_ms)},
             {"v_rmse_mv", or_null(s.v_rmse_mv)},
             {"residual_fresh_over_training", solution.worst_fresh_ratio()},
             {"seconds", seconds},
             {"cpu_seconds", cpu},
             {"failure", solution.failure}});
}

void add_design(const PinnOptions& o, const PinnProblem& p, const std::string& design, Table& table) {
  const DesignResult r = run_design(o, p, design, nullptr);
  const bool data = pinn::Baseline::named(design, o.duration_ms).needs_data;
  table.add(design, r.peaks_ms.size(), r.score, r.seconds, r.cpu, data ? "Euler, 1 ms" : "nothing",
            design_json(design, r));
}

/// Schemes that step the equation, scored at the ends of their own steps.
void add_integrators(const PinnOptions& o, const PinnProblem& p, Table& table) {
  struct Scheme {
    const char* words;
    neuron::Solver solver;
    neuron::Mode mode;
    double dt;
  };
  using neuron::Mode, neuron::Solver;
  for (const Scheme& scheme :
       {Scheme{"Euler, 1 ms, on the grid", Solver::euler, Mode::published, 1},
        Scheme{"RK4, 0.1 ms, on the grid", Solver::rk4, Mode::published, 0.1},
        Scheme{"RK4, 0.1 ms, located", Solver::rk4, Mode::accurate, 0.1},
        Scheme{"linear-implicit-adaptive", Solver::linear_implicit_adaptive, Mode::accurate, 1}}) {
    neuron::Protocol protocol = protocol_of(p.neuron, p.current, o.duration_ms);
    protocol.solver = scheme.solver, protocol.mode = scheme.mode, protocol.dt = scheme.dt;
    try {
      const Stopwatch watch;
      const neuron::Result run = neuron::simulate(protocol, p.neuron.name);
      const double cpu = watch.cpu();
      Score s;
      if (p.reference) {
        const neuron::Result exact = neuron::reference_of(protocol, run);
        const auto at = [&](double t) {  // asked at its own steps only
          const auto i = std::lower_bound(run.trace.t.begin(), run.trace.t.end(), t) - run.trace.t.begin();
          return pinn::Point{run.trace.v[static_cast<size_t>(i)], run.trace.u[static_cast<size_t>(i)]};
        };
        s = score({"", exact.spikes, run.trace.t, exact.trace.v, exact.trace.u}, run.spikes, at, o.duration_ms);
      }
      table.add(scheme.words, run.spikes.size(), s, run.seconds, cpu, "(an integrator)",
                {{"design", scheme.words},
                 {"spikes", run.spikes.size()},
                 {"spike_error_ms", or_null(s.spike_error_ms)},
                 {"v_rmse_mv", or_null(s.v_rmse_mv)},
                 {"seconds", run.seconds},
                 {"cpu_seconds", cpu}});
    } catch (const neuron::Runaway& runaway) {
      table.lines.push_back(fmt::format("{:<24} {}", scheme.words, runaway.what()));
      table.rows.push_back({{"design", scheme.words}, {"failure", runaway.what()}});
    }
  }
}

void compare(const PinnOptions& o) {
  start_on_cpu(o.common, "ranvier pinn compare", "ranvier pinn many");
  const PinnProblem p(o);
  if (p.neuron.v0 >= p.neuron.v_peak)
    throw UsageError(fmt::format("v0 = {} starts above v_peak = {}: the others of the table have no place for it",
                                 p.neuron.v0, p.neuron.v_peak));
  watch_for_interruption();
  Table table;
  for (const std::string& design : o.designs) {
    if (interrupted()) break;
    if (design == "windows")
      add_windows(o, p, table);
    else if (design == "integrators")
      add_integrators(o, p, table);
    else
      add_design(o, p, design, table);
  }
  o.common.say("{:<24} {:>6} {:>13} {:>11} {:>10} {:>10}   {}", "", "spikes", "spike err ms", "v RMSE mV", "s", "cpu s",
               "trained on");
  for (const std::string& text : table.lines) o.common.say("{}", text);
  o.common.print({{"neuron", p.neuron.name}, {"rows", table.rows}});
  if (interrupted()) throw Exit{130};
}

}  // namespace

void add_pinn_compare(CLI::App& pinn) {
  auto options = std::make_shared<PinnOptions>();
  auto* command = subcommand(pinn, "compare", "Designs and integrators side by side: spikes, errors, time");
  options->add_problem(*command);
  options->add_solver(*command);
  static const std::vector<std::string> all = options->designs;
  command->add_option("--designs", options->designs, "Which, joined by commas (default: all)")
      ->check(CLI::IsMember(all))
      ->delimiter(',');
  command->callback([options] { compare(*options); });
}

}  // namespace ranvier::cli
