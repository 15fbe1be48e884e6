// `ranvier simulate patterns`: the twenty patterns of Izhikevich 2004 as printed and as the equation has them.
#include <cmath>

#include "models/neurons/presets.h"
#include "tools/neuron_flags.h"
#include "tools/plot.h"
#include "tools/run.h"

namespace ranvier::cli {
namespace {

using Json = nlohmann::ordered_json;
using neuron::Mode;
using neuron::Result;

struct PatternOptions {
  Common common;
  std::string solver = "reference", out;
  double dt = 0.05;
};

/// One pattern in both modes.
struct Pattern {
  neuron::Preset preset;
  Result published, accurate;
  std::string runaway;  ///< why the accurate run has no end
};

Pattern run_pattern(const std::string& name, const PatternOptions& options) {
  Pattern p{neuron::preset(name), {}, {}, ""};
  neuron::Protocol printed = p.preset.protocol(neuron::Solver::euler, Mode::published_2004);
  const auto stop = [](const Result&) { return interrupted(); };
  printed.trace = true, printed.stop = stop;
  p.published = neuron::simulate(printed, name);
  neuron::Protocol exact = p.preset.protocol(neuron::solver_named(options.solver), Mode::accurate);
  exact.dt = options.dt, exact.trace = true, exact.stop = stop;
  try {
    p.accurate = neuron::simulate(exact, name);
  } catch (const neuron::Runaway& runaway) {
    p.accurate = runaway.run, p.runaway = runaway.what();
  }
  return p;
}

std::string spikes_text(const Result& run) {
  if (run.spikes.empty()) return "0";
  return fmt::format("{:>3}  {:>8.2f} {:>8.2f}", run.spikes.size(), run.spikes.front(), run.spikes.back());
}

/// How a run without end is told.
std::string runaway_text(const Result& run) {
  constexpr size_t many = 200;
  return run.spikes.size() < many ? "  runaway"
                                  : fmt::format("  runaway: {} spikes by {:.1f} ms", many, run.spikes[many - 1]);
}

Json spikes_json(const Result& run) {
  const auto or_nan = [&](bool last) {
    return run.spikes.empty() ? std::nan("") : last ? run.spikes.back() : run.spikes.front();
  };
  return {{"spikes", run.spikes.size()},
          {"first_ms", or_nan(false)},
          {"last_ms", or_nan(true)},
          {"spike_times_ms", run.spikes}};
}

/// A trace with its peaks, in two columns.
std::vector<std::vector<double>> curve(const Result& run, double v_peak) {
  std::vector<std::vector<double>> columns(2);
  size_t spike = 0;
  const auto add = [&](double t, double v) { columns[0].push_back(t), columns[1].push_back(v); };
  const size_t stride = std::max<size_t>(1, run.trace.t.size() / 1500);
  for (size_t i = 0; i < run.trace.t.size(); ++i) {
    for (; spike < run.spikes.size() && run.spikes[spike] <= run.trace.t[i]; ++spike) add(run.spikes[spike], v_peak);
    if (i % stride == 0) add(run.trace.t[i], run.trace.v[i]);
  }
  return columns;
}

Plot figure(const std::vector<Pattern>& patterns, const std::string& solver) {
  Plot plot{"patterns", 1200, 1100};
  plot.body = fmt::format(
      "set multiplot layout 5,4 title {} font ',13'\nunset key; unset grid; set yrange [-105:45]; set ytics (-80, -40, "
      "0, 30)\n"
      "set tics font ',7'; set xtics autofreq; set xlabel 'time (ms)' font ',7' offset 0,0.7; set ylabel 'v (mV)' font "
      "',7' "
      "offset 2,0\n",
      quoted(fmt::format("The twenty patterns: published:2004 (blue) and accurate, {} (red)", solver)));
  for (size_t i = 0; i < patterns.size(); ++i) {
    const Pattern& p = patterns[i];
    plot.add(fmt::format("p{}", i), curve(p.published, p.preset.parameters.v_peak));
    plot.add(fmt::format("a{}", i), curve(p.accurate, p.preset.parameters.v_peak));
    const std::string title =
        fmt::format("{} {}: {} / {}", static_cast<char>('A' + i), p.preset.title, p.published.spikes.size(),
                    p.runaway.empty() ? fmt::format("{}", p.accurate.spikes.size()) : std::string("runaway"));
    plot.body += fmt::format(
        "set title {} noenhanced font ',8' offset 0,-0.7; set xrange [0:{}]\n"
        "plot $p{} with lines lw 1.6 lc rgb '#7fb7d6', $a{} with lines lw 0.9 lc rgb '#c22f45'\n",
        quoted(title), p.preset.duration, i, i);
  }
  plot.body += "unset multiplot";
  return plot;
}

void run(const PatternOptions& options) {
  if (!(options.dt > 0 && options.dt <= 10))
    throw UsageError(fmt::format("--dt-ms {}: must be in (0, 10]", options.dt));
  neuron::solver_named(options.solver);
  options.common.start();
  if (!options.out.empty()) create_output(options.out, "patterns.json");
  watch_for_interruption();
  options.common.say("{:<31}| {:^22} | {:^22}", "", "published:2004", fmt::format("accurate, {}", options.solver));
  options.common.say("{:<31}| {:>3}  {:>8} {:>8} | {:>3}  {:>8} {:>8}   (spikes, first, last in ms)", "", "n", "first",
                     "last", "n", "first", "last");
  std::vector<Pattern> patterns;
  Json rows = Json::array();
  const std::vector<std::string> names = neuron::pattern_names();
  for (const std::string& name : names) {
    Pattern ran = run_pattern(name, options);
    if (interrupted()) break;
    patterns.push_back(std::move(ran));
    const Pattern& p = patterns.back();
    const char letter = static_cast<char>('A' + patterns.size() - 1);
    options.common.say("{} {:<29}| {:<22} | {:<22}{}", letter, p.preset.title, spikes_text(p.published),
                       spikes_text(p.accurate), p.runaway.empty() ? "" : runaway_text(p.accurate));
    Json accurate = spikes_json(p.accurate);
    accurate["runaway"] = !p.runaway.empty();
    if (!p.runaway.empty()) accurate["why"] = p.runaway;
    rows.push_back({{"pattern", name},
                    {"title", p.preset.title},
                    {"current", p.preset.current_text},
                    {"published:2004", spikes_json(p.published)},
                    {"accurate", accurate}});
  }
  const Json result = {
      {"solver", options.solver}, {"dt_ms", options.dt}, {"rows", rows}, {"interrupted", interrupted()}};
  if (!options.out.empty() && !patterns.empty()) {
    options.common.say("{}", draw(options.out, figure(patterns, options.solver)));
    write_file(std::filesystem::path(options.out) / "patterns.json", result.dump(2) + "\n");
  }
  options.common.print(result);
  end_if_interrupted(patterns.size(), names.size(), "patterns", options.out);
}

}  // namespace

void add_simulate_patterns(CLI::App& simulate) {
  auto options = std::make_shared<PatternOptions>();
  auto* command = subcommand(simulate, "patterns", "The twenty patterns of 2004 in mode published:2004 and accurate");
  options->common.add_to(*command);
  command->add_option("--solver", options->solver, "Of mode accurate")->capture_default_str();
  command->add_option("--dt-ms", options->dt, "Step of mode accurate, ms; published:2004 has the paper's")
      ->capture_default_str();
  command->add_option("--out", options->out, "Folder for the figure and patterns.json");
  command->callback([options, command] {
    NeuronOptions shared;
    shared.common = options->common, shared.solver = options->solver;
    check_flags(*command, Route::patterns, shared);
    run(*options);
  });
}

}  // namespace ranvier::cli
