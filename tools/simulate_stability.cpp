// `ranvier simulate stability`: what each solver does as its step grows from 0.01 to 10 ms.
#include <cmath>

#include "models/neurons/compare.h"
#include "tools/neuron_flags.h"
#include "tools/plot.h"
#include "tools/run.h"

namespace ranvier::cli {
namespace {

using Json = nlohmann::ordered_json;
using neuron::Solver;

constexpr Solver swept[] = {Solver::euler,    Solver::izhikevich, Solver::backward_euler, Solver::linear_implicit,
                            Solver::midpoint, Solver::ab2,        Solver::exponential,    Solver::rk4};

struct StabilityOptions : NeuronOptions {
  std::string steps = "0.01,0.02,0.05,0.1,0.2,0.5,1,2,5,10";
};

/// One solver at one step.
struct Cell {
  neuron::Comparison c;
  std::string failure;
  bool missing = false;  ///< after Ctrl-C
};

Cell run_cell(const StabilityOptions& options, const neuron::Preset& preset, Solver solver, double dt) {
  neuron::Protocol protocol = options.protocol(preset);
  protocol.solver = solver, protocol.dt = dt;
  try {
    Cell cell{neuron::compare(protocol), "", false};
    cell.missing = cell.c.run.stopped;
    return cell;
  } catch (const neuron::Runaway& runaway) {
    return {{}, runaway.what(), false};
  }
}

void print_table(const Common& common, const std::vector<double>& steps, const std::vector<std::vector<Cell>>& cells) {
  std::string head = fmt::format("{:>7}", "h (ms)");
  for (Solver solver : swept) head += fmt::format(" {:>19}", name(solver));
  common.say("{}", head);
  for (size_t i = 0; i < steps.size(); ++i) {
    std::string line = fmt::format("{:>7g}", steps[i]);
    for (const auto& column : cells) {
      const Cell& cell = column[i];
      const auto cut = cell.c.run.pieces;
      line += fmt::format(" {:>19}",
                          cell.missing            ? "-"
                          : !cell.failure.empty() ? "fails"
                          : cut ? fmt::format("{:.2g} ({}, {} cut)", cell.c.v.rmse, cell.c.run.spikes.size(), cut)
                                : fmt::format("{:.2g} ({})", cell.c.v.rmse, cell.c.run.spikes.size()));
    }
    common.say("{}", line);
  }
  common.say("RMSE of v, mV (spikes, shorter pieces of steps that had no solution); fails: no bounded answer");
}

Json row(const StabilityOptions& options, Solver solver, double dt, const Cell& cell) {
  Json r = {{"solver", name(solver)}, {"mode", options.mode}, {"dt_ms", dt}};
  if (!cell.failure.empty()) {
    r["failure"] = cell.failure;
    return r;
  }
  r.update({{"v_rmse_mv", cell.c.v.rmse},
            {"u_rmse", cell.c.u.rmse},
            {"spikes", cell.c.run.spikes.size()},
            {"missed", cell.c.spikes.missed},
            {"extra", cell.c.spikes.extra},
            {"spike_error_max_ms", cell.c.spikes.max},
            {"shorter_pieces", cell.c.run.pieces}});
  return r;
}

std::string csv_of(const Json& rows) {
  std::string text =
      "solver,mode,dt_ms,v_rmse_mv,u_rmse,spikes,missed,extra,spike_error_max_ms,shorter_pieces,failure\n";
  for (const Json& r : rows) {
    const auto cell = [&](const char* key) {
      return r.contains(key) && !r[key].is_null() ? r[key].dump() : std::string();
    };
    text += r["solver"].get<std::string>() + "," + r["mode"].get<std::string>();
    for (const char* key : {"dt_ms", "v_rmse_mv", "u_rmse", "spikes", "missed", "extra", "spike_error_max_ms",
                            "shorter_pieces", "failure"})
      text += "," + cell(key);
    text += "\n";
  }
  return text;
}

Plot sweep_plot(const std::string& title, const std::vector<double>& steps,
                const std::vector<std::vector<Cell>>& cells) {
  Plot plot{"stability", 1100, 520};
  std::string errors, counts;
  for (size_t s = 0; s < cells.size(); ++s) {
    std::vector<double> rmse, spikes;
    for (const Cell& cell : cells[s]) {
      const bool ok = cell.failure.empty() && !cell.missing;
      rmse.push_back(ok ? cell.c.v.rmse : std::nan(""));
      spikes.push_back(ok ? static_cast<double>(cell.c.run.spikes.size()) : std::nan(""));
    }
    plot.add(fmt::format("s{}", s), {steps, rmse, spikes});
    const auto curve = [&](int column) {
      return fmt::format("{}$s{} using 1:{} with linespoints lw 1.5 pt {} ps 0.9 title {}", s ? ", " : "", s, column,
                         4 + s, quoted(std::string(name(swept[s]))));
    };
    errors += curve(2), counts += curve(3);
  }
  plot.body = fmt::format(
      "set multiplot layout 1,2 title {} noenhanced\nset logscale xy; set format xy '10^{{%L}}'\n"
      "set key bottom right font ',8' samplen 2; set xlabel 'step h (ms)'; set ylabel 'RMSE of v (mV)'\n"
      "plot {}\nunset logscale y; set format y '%g'; unset key; set ylabel 'spikes'\nset yrange "
      "[0:*]\nplot {}\nunset multiplot; set yrange [*:*]",
      quoted(title), errors, counts);
  return plot;
}

void run(const StabilityOptions& options) {
  const neuron::Preset preset = options.chosen();
  const std::vector<double> steps = positive_list(options.steps, "--steps");
  const neuron::Mode mode = neuron::mode_named(options.mode);
  if (mode != neuron::Mode::accurate && mode != neuron::Mode::published)
    throw UsageError(fmt::format("--mode {}: the sweep is of solvers, accurate or published", options.mode));
  options.protocol(preset);
  options.common.start();
  if (!options.out.empty()) create_output(options.out, "stability.csv");
  watch_for_interruption();
  std::vector<std::vector<Cell>> cells;
  Json rows = Json::array();
  for (Solver solver : swept) {
    cells.emplace_back();
    for (double dt : steps) {
      Cell cell;
      cell.missing = interrupted();
      if (!cell.missing) cell = run_cell(options, preset, solver, dt);
      if (!cell.missing) rows.push_back(row(options, solver, dt, cell));
      cells.back().push_back(std::move(cell));
    }
  }
  const std::string title =
      fmt::format("{}, current {}, mode {}", preset.name, options.current_text(preset), options.mode);
  options.common.say("{}", title);
  print_table(options.common, steps, cells);
  if (!options.out.empty() && !rows.empty()) {
    write_file(std::filesystem::path(options.out) / "stability.csv", csv_of(rows));
    options.common.say("{}", draw(options.out, sweep_plot(title, steps, cells)));
  }
  options.common.print(
      {{"preset", preset.name}, {"mode", options.mode}, {"rows", rows}, {"interrupted", interrupted()}});
  end_if_interrupted(rows.size(), std::size(swept) * steps.size(), "runs", options.out);
}

}  // namespace

void add_simulate_stability(CLI::App& simulate) {
  auto options = std::make_shared<StabilityOptions>();
  auto* command = subcommand(simulate, "stability", "Every fixed-step solver as the step grows from 0.01 to 10 ms");
  options->add_neuron(*command);
  command->add_option("--steps", options->steps, "Step lengths, ms")->capture_default_str();
  command->add_option("--mode", options->mode, "accurate or published (reset on the grid)")->capture_default_str();
  command->callback([options, command] {
    check_flags(*command, Route::stability, *options);
    run(*options);
  });
}

}  // namespace ranvier::cli
