// `ranvier simulate compare`: every solver at several steps against the reference solution.
#include <algorithm>
#include <cmath>

#include "models/neurons/compare.h"
#include "tools/neuron_flags.h"
#include "tools/plot.h"
#include "tools/run.h"

namespace ranvier::cli {
namespace {

using Json = nlohmann::ordered_json;
using neuron::Comparison;
using neuron::Protocol;
using neuron::Solver;

struct CompareOptions : NeuronOptions {
  std::string steps = "0.01,0.1,0.5,1", solvers;
};

/// One line of the table.
struct Line {
  Solver solver;
  double dt;
  Comparison c;
  std::string failure;
  double seconds = 0;  ///< of the fastest of a few runs without a trace
};

double best_time(Protocol protocol) {
  protocol.trace = false;
  double best = std::numeric_limits<double>::infinity(), total = 0;
  for (int i = 0; i < 20 && total < 0.02; ++i) {
    const double seconds = neuron::simulate(protocol).seconds;
    best = std::min(best, seconds), total += seconds;
  }
  return best;
}

bool has_own_steps(Solver solver) { return solver == Solver::linear_implicit_adaptive || solver == Solver::reference; }

std::vector<Solver> chosen_solvers(const CompareOptions& options, neuron::Mode mode) {
  std::vector<Solver> list;
  if (options.solvers.empty()) {
    for (Solver solver : neuron::all_solvers()) {
      const bool fits = !(solver == Solver::reference && mode != neuron::Mode::accurate) &&
                        !(has_own_steps(solver) && options.precision() == "f32");
      if (fits) list.push_back(solver);
    }
    return list;
  }
  for (std::string_view rest = options.solvers; !rest.empty();) {
    const auto comma = rest.find(',');
    list.push_back(neuron::solver_named(rest.substr(0, comma)));
    rest = comma == std::string_view::npos ? std::string_view{} : rest.substr(comma + 1);
  }
  return list;
}

/// Nothing after Ctrl-C: a line is of whole runs.
std::optional<Line> run_line(const CompareOptions& options, const neuron::Preset& preset, Solver solver, double dt) {
  Protocol protocol = options.protocol(preset);
  protocol.solver = solver, protocol.dt = dt, protocol.trace = true;
  Line line{solver, dt, {}, "", 0};
  try {
    neuron::Result run = neuron::simulate(protocol, preset.name);
    if (run.stopped) return {};
    const neuron::Result reference = neuron::reference_of(protocol, run);
    if (reference.stopped) return {};
    line.c = neuron::compare(protocol, std::move(run), reference);
    line.seconds = best_time(protocol);
  } catch (const neuron::Runaway& runaway) {
    line.failure = runaway.what();
  }
  if (interrupted()) return {};
  return line;
}

Json row(const CompareOptions& options, const Line& line) {
  Json r = {{"solver", name(line.solver)}, {"mode", options.mode}, {"dt_ms", line.dt}};
  if (!line.failure.empty()) {
    r["failure"] = line.failure;
    return r;
  }
  const Comparison& c = line.c;
  const auto put = [&](const std::string& prefix, const std::string& unit, const neuron::Errors& e) {
    r[prefix + "_rmse" + unit] = e.rmse, r[prefix + "_mae" + unit] = e.mae, r[prefix + "_max" + unit] = e.max;
    r[prefix + "_rmse_over_range"] = e.normalised, r[prefix + "_dtw" + unit] = e.dtw;
  };
  put("v", "_mv", c.v), put("u", "", c.u);
  r.update({{"spikes", c.run.spikes.size()},
            {"matched", c.spikes.matched},
            {"missed", c.spikes.missed},
            {"extra", c.spikes.extra},
            {"spike_error_mean_ms", c.spikes.mean},
            {"spike_error_max_ms", c.spikes.max},
            {"first_spike_ms", c.run.spikes.empty() ? std::nan("") : c.run.spikes.front()},
            {"isi_mean_ms", c.isi.mean},
            {"isi_sd_ms", c.isi.deviation},
            {"steps", c.run.steps},
            {"rejections", c.run.rejections},
            {"evaluations", c.run.evaluations},
            {"jacobians", c.run.jacobians},
            {"shorter_pieces", c.run.pieces},
            {"seconds", line.seconds}});
  return r;
}

std::string step_text(const Line& line) { return has_own_steps(line.solver) ? "own" : fmt::format("{:g}", line.dt); }

void print_table(const CompareOptions& options, const std::vector<Line>& lines) {
  const Common& common = options.common;
  common.say(
      "{:<25}{:>5} | {:>8} {:>8} {:>8} {:>8} {:>8} | {:>8} {:>8} {:>8} {:>8} {:>8} | {:>6} {:>9} {:>9} {:>8} {:>7} | "
      "{:>6} {:>4} {:>7} {:>8}",
      "", "h", "v rmse", "mae", "max", "/range", "dtw", "u rmse", "mae", "max", "/range", "dtw", "spikes", "|dt| mean",
      "max", "ISI", "sd", "steps", "rej.", "evals", "us");
  for (const Line& line : lines) {
    if (!line.failure.empty()) {
      common.say("{:<25}{:>5} | {}", name(line.solver), step_text(line), line.failure);
      continue;
    }
    const Comparison& c = line.c;
    common.say(
        "{:<25}{:>5} | {:>8.2g} {:>8.2g} {:>8.2g} {:>8.2g} {:>8.2g} | {:>8.2g} {:>8.2g} {:>8.2g} {:>8.2g} {:>8.2g} | "
        "{:>6} {:>9.2g} {:>9.2g} {:>8.3f} {:>7.3f} | {:>6} {:>4} {:>7} {:>8.1f}",
        name(line.solver), step_text(line), c.v.rmse, c.v.mae, c.v.max, c.v.normalised, c.v.dtw, c.u.rmse, c.u.mae,
        c.u.max, c.u.normalised, c.u.dtw,
        fmt::format("{}{}", c.run.spikes.size(), c.spikes.missed + c.spikes.extra ? "!" : ""), c.spikes.mean,
        c.spikes.max, c.isi.mean, c.isi.deviation, c.run.steps, c.run.rejections, c.run.evaluations,
        1e6 * line.seconds);
  }
  common.say(
      "errors at the ends of steps, mV (v) and the unit of u; |dt|, ISI: ms, of matched spikes; ! spikes missed or "
      "extra;\nevals: of the right-hand side, location of events included; us: fastest of a few runs, loop only");
}

/// Largest spike-time error over h, and RMSE of v over the time a run takes.
Plot error_plot(const CompareOptions& options, const std::string& who, const std::vector<Line>& lines) {
  Plot plot{"compare", 1100, 520};
  std::string by_step, by_time;
  int index = 0;
  for (size_t i = 0; i < lines.size();) {
    const Solver solver = lines[i].solver;
    std::vector<double> h, spike, rmse, time;
    for (; i < lines.size() && lines[i].solver == solver; ++i) {
      if (!lines[i].failure.empty()) continue;
      h.push_back(lines[i].dt), spike.push_back(lines[i].c.spikes.max);
      rmse.push_back(lines[i].c.v.rmse), time.push_back(1e6 * lines[i].seconds);
    }
    if (solver == Solver::reference) continue;  // against itself
    const std::string block = fmt::format("solver{}", index);
    plot.add(block, {h, spike, time, rmse});
    const std::string style =
        fmt::format("with linespoints lw 1.5 pt {} ps 0.9 title {}", 4 + index, quoted(std::string(name(solver))));
    if (!has_own_steps(solver)) by_step += fmt::format("{}${} using 1:2 {}", by_step.empty() ? "" : ", ", block, style);
    by_time += fmt::format("{}${} using 3:4 {}", by_time.empty() ? "" : ", ", block, style);
    ++index;
  }
  plot.body = fmt::format(
      "set multiplot layout 1,2 title {} noenhanced\nset logscale xy; set format '10^{{%L}}'\n"
      "unset key\nset xlabel 'step h (ms)'; set ylabel 'largest spike-time error (ms)'\nplot {}\n"
      "set key bottom left font ',8' samplen 2 reverse Left\n"
      "set xlabel 'time of the loop (us)'; set ylabel 'RMSE of v (mV)'\nplot {}\nunset multiplot",
      quoted(fmt::format("{}: solvers against the reference, mode {}", who, options.mode)), by_step, by_time);
  return plot;
}

/// |v - reference| over time at one step length.
Plot over_time_plot(const CompareOptions& options, const std::string& who, const neuron::Preset& preset,
                    const std::vector<Line>& lines) {
  double shown = lines[0].dt;
  for (const Line& line : lines)
    if (std::abs(std::log(line.dt / 0.1)) < std::abs(std::log(shown / 0.1))) shown = line.dt;
  Plot plot{"error", 1000, 560};
  std::string curves;
  int index = 0;
  for (const Line& line : lines) {
    if (!line.failure.empty() || line.solver == Solver::reference || line.dt != shown) continue;
    Protocol protocol = options.protocol(preset);
    protocol.dt = line.dt, protocol.solver = line.solver;
    protocol.stop = nullptr;  // it was done once: after Ctrl-C it is drawn still
    const neuron::Trace& trace = line.c.run.trace;
    const neuron::Result reference = neuron::reference_of(protocol, line.c.run);
    std::vector<double> t, error;
    const size_t stride = std::max<size_t>(1, trace.t.size() / 3000);
    for (size_t i = 0; i < trace.t.size(); i += stride)
      t.push_back(trace.t[i]), error.push_back(std::max(std::abs(trace.v[i] - reference.trace.v[i]), 1e-12));
    const std::string block = fmt::format("error{}", index++);
    plot.add(block, {t, error});
    curves += fmt::format("{}${} using 1:2 with lines lw 1.2 title {}", curves.empty() ? "" : ", ", block,
                          quoted(std::string(name(line.solver))));
  }
  if (curves.empty()) curves = "NaN notitle";
  plot.body = fmt::format(
      "set title {} noenhanced\nset logscale y; set format y '10^{{%L}}'; set key outside right font ',9'\n"
      "set xlabel 'time (ms)'; set ylabel '|v - reference| (mV)'\nplot {}",
      quoted(fmt::format("{}: error of v at h = {:g} ms, mode {}", who, shown, options.mode)), curves);
  return plot;
}

void run(const CompareOptions& options) {
  const neuron::Preset preset = options.chosen();
  const neuron::Mode mode = neuron::mode_named(options.mode);
  if (mode != neuron::Mode::accurate && mode != neuron::Mode::published)
    throw UsageError(fmt::format("--mode {}: a comparison of solvers is accurate or published", options.mode));
  const std::vector<double> steps = options.dt ? std::vector{*options.dt} : positive_list(options.steps, "--steps");
  options.protocol(preset);  // bad input before anything runs
  options.common.start();
  if (!options.out.empty()) create_output(options.out, "compare.json");
  watch_for_interruption();
  std::vector<std::pair<Solver, double>> plan;
  for (Solver solver : chosen_solvers(options, mode))
    for (double dt : steps)
      if (!has_own_steps(solver) || dt == steps.front())
        plan.push_back({solver, has_own_steps(solver) ? options.protocol(preset).dt : dt});
  std::vector<Line> lines;
  for (const auto& [solver, dt] : plan) {
    std::optional<Line> line = run_line(options, preset, solver, dt);
    if (!line) break;
    lines.push_back(std::move(*line));
  }
  options.common.say("{} ({}), current {}, mode {}, {}: errors against the Taylor-series reference", preset.name,
                     preset.title, options.current_text(preset), options.mode, options.precision());
  print_table(options, lines);
  Json rows = Json::array();
  for (const Line& line : lines) rows.push_back(row(options, line));
  const Json result = {{"preset", preset.name}, {"current", options.current_text(preset)},
                       {"mode", options.mode},  {"precision", options.precision()},
                       {"rows", rows},          {"interrupted", interrupted()}};
  if (!options.out.empty() && !lines.empty()) {
    options.common.say("{}", draw(options.out, error_plot(options, preset.name, lines)));
    options.common.say("{}", draw(options.out, over_time_plot(options, preset.name, preset, lines)));
    write_file(std::filesystem::path(options.out) / "compare.json", result.dump(2) + "\n");
  }
  options.common.print(result);
  end_if_interrupted(lines.size(), plan.size(), "runs", options.out);
  if (std::all_of(lines.begin(), lines.end(), [](const Line& line) { return !line.failure.empty(); }))
    throw Error(fmt::format("no solver has an answer: {}", lines.front().failure));
}

}  // namespace

void add_simulate_compare(CLI::App& simulate) {
  auto options = std::make_shared<CompareOptions>();
  auto* command = subcommand(simulate, "compare", "Every solver at several steps: errors, spikes, work and time");
  options->add_neuron(*command);
  command->add_option("--steps", options->steps, "Step lengths, ms")->capture_default_str();
  command->add_option("--solvers", options->solvers, "Only these, joined by commas");
  command->add_option("--mode", options->mode, "accurate or published (reset on the grid)")->capture_default_str();
  command->callback([options, command] {
    check_flags(*command, Route::compare, *options);
    run(*options);
  });
}

}  // namespace ranvier::cli
