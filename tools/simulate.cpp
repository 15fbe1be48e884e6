// `ranvier simulate`: one neuron, its spikes, its traces on disk and as pictures.
#include <algorithm>
#include <cmath>

#include "models/neurons/files.h"
#include "models/neurons/metrics.h"
#include "models/neurons/network_keys.h"
#include "models/neurons/recorder.h"
#include "models/neurons/sonata_spikes.h"
#include "tools/neuron_flags.h"
#include "tools/plot.h"
#include "tools/run.h"

namespace ranvier::cli {
namespace {

using Json = nlohmann::ordered_json;
using neuron::Preset;
using neuron::Protocol;
using neuron::Result;

/// A trace as people draw it: peaks put in at the spikes, thinned to what a picture can show.
struct Drawn {
  std::vector<double> t, v, u;
};

Drawn drawable(const Protocol& protocol, const Result& run) {
  const neuron::Trace& trace = run.trace;
  const size_t stride = std::max<size_t>(1, trace.t.size() / 8000);
  const auto& p = protocol.parameters;
  Drawn d;
  size_t spike = 0;
  for (size_t i = 0; i < trace.t.size(); ++i) {
    const bool peaks = protocol.spike_event == neuron::SpikeEvent::peak;
    for (; peaks && spike < run.spikes.size() && run.spikes[spike] <= trace.t[i]; ++spike) {
      const double before = d.u.empty() ? trace.u[i] : d.u.back();
      for (const double v : {p.v_peak, p.c})
        d.t.push_back(run.spikes[spike]), d.v.push_back(v), d.u.push_back(v == p.c ? before + p.d : before);
    }
    if (i % stride == 0 || i + 1 == trace.t.size())
      d.t.push_back(trace.t[i]), d.v.push_back(trace.v[i]), d.u.push_back(trace.u[i]);
  }
  return d;
}

/// v, u, the current and, of an adaptive solver, the step length over time.
Plot trace_plot(const Protocol& protocol, const Result& run, const std::string& title, const std::string& unit) {
  const Drawn d = drawable(protocol, run);
  std::vector<double> current;
  for (double t : d.t) current.push_back(protocol.current.at(t));
  const bool adaptive = !printed(protocol.mode) && (protocol.solver == neuron::Solver::linear_implicit_adaptive ||
                                                    protocol.solver == neuron::Solver::reference);
  Plot plot{"trace", 900, adaptive ? 860 : 700};
  plot.add("trace", {d.t, d.v, d.u, current});
  std::vector<double> h = run.trace.h;
  if (!h.empty()) h[0] = std::nan("");
  if (adaptive) plot.add("step", {run.trace.t, h});
  plot.body = fmt::format(
      "set multiplot layout {},1 title {} noenhanced\nset lmargin 10; set rmargin 3; unset key\n"
      "set xrange [0:{}]\nset offsets graph 0, 0, 0.06, 0.06\nset ylabel 'v (mV)'\n"
      "plot $trace using 1:2 with lines lw 1.2 lc rgb '#1f6f8b'\n"
      "set ylabel 'u{}'\nplot $trace using 1:3 with lines lw 1.2 lc rgb '#d1495b'\n",
      adaptive ? 4 : 3, quoted(title), run.t, unit);
  if (adaptive)
    plot.body +=
        "unset offsets; set ylabel 'step (ms)'\nset logscale y; set format y '10^{%L}'\nplot $step using 1:2 with "
        "steps lc rgb "
        "'#6a4c93'\nunset logscale y; set format y '% h'; set offsets graph 0, 0, 0.06, 0.06\n";
  plot.body += fmt::format(
      "set xlabel 'time (ms)'; set ylabel 'I{}'\n"
      "plot $trace using 1:4 with steps lw 1.2 lc rgb '#444444'\n"
      "unset offsets; unset xlabel; unset multiplot",
      unit);
  return plot;
}

/// The orbit with both nullclines of the last current.
Plot phase_plot(const Protocol& protocol, const Result& run, const std::string& title, const std::string& unit) {
  const auto& p = protocol.parameters;
  std::vector<double> v, v_null, u_null;
  const double low = std::min(run.v_min, p.c) - 5, current = protocol.current.at(run.t);
  for (int i = 0; i <= 400; ++i) {
    const double x = low + (p.v_peak - low) * i / 400;
    v.push_back(x);
    v_null.push_back((p.q2 * x + p.q1) * x + p.q0 + current);
    u_null.push_back(p.e != 0 ? p.b * (x - p.v_b) / p.e : std::nan(""));
  }
  const Drawn d = drawable(protocol, run);
  std::vector<double> orbit_v, orbit_u;
  for (size_t i = 0; i < d.t.size(); ++i) {
    orbit_v.push_back(d.v[i]), orbit_u.push_back(d.u[i]);
    const bool jumps = i + 1 < d.t.size() && d.v[i] == p.v_peak && d.v[i + 1] == p.c;
    if (jumps) orbit_v.push_back(std::nan("")), orbit_u.push_back(std::nan(""));  // no line along a reset
  }
  const double room = 0.1 * (run.u_max - run.u_min) + 1e-3;
  Plot plot{"phase", 760, 600};
  plot.add("orbit", {orbit_v, orbit_u});
  plot.add("nullclines", {v, v_null, u_null});
  plot.body = fmt::format(
      "set title {} noenhanced\nset xlabel 'v (mV)'; set ylabel 'u{}'; set key outside bottom center horizontal\n"
      "set yrange [{}:{}]\n"
      "plot $nullclines using 1:2 with lines dt 2 lc rgb '#444444' title \"v' = 0 at the last current\", "
      "$nullclines using 1:3 with lines dt 3 lc rgb '#444444' title \"u' = 0\", "
      "$orbit using 1:2 with lines lw 1.2 lc rgb '#1f6f8b' title 'orbit'",
      quoted(title), unit, run.u_min - room, run.u_max + room);
  return plot;
}

Json summary(const NeuronOptions& options, const Preset& preset, const Protocol& protocol, const Result& run) {
  const double seconds = run.seconds > 0 ? run.seconds : std::nan("");
  const neuron::Intervals isi = neuron::intervals(run.spikes);
  return {{"solver", solver_json(protocol.mode, protocol.solver)},
          {"mode", name(protocol.mode)},
          {"form", name(preset.form)},
          {"preset", preset.name},
          {"current", options.current_text(preset)},
          {"precision", name(protocol.precision)},
          {"spike_event", name(protocol.spike_event)},
          {"neurons", 1},
          {"dt_ms", protocol.dt},
          {"duration_ms", run.t},
          {"steps", run.steps},
          {"spikes", run.spikes.size()},
          {"spike_times_ms", run.spikes},
          {"v_mv", run.v},
          {"u", run.u},
          {"v_min_mv", run.v_min},
          {"v_max_mv", run.v_max},
          {"mean_rate_hz", 1e3 * static_cast<double>(run.spikes.size()) / run.t},
          {"isi_mean_ms", isi.mean},
          {"isi_sd_ms", isi.deviation},
          {"evaluations", run.evaluations},
          {"jacobians", run.jacobians},
          {"rejections", run.rejections},
          {"shorter_pieces", run.pieces},
          {"seconds", run.seconds},
          {"neuron_steps_per_second", static_cast<double>(run.steps) / seconds},
          {"interrupted", run.stopped}};
}

void say(const NeuronOptions& options, const Preset& preset, const Protocol& protocol, const Result& run) {
  const Common& common = options.common;
  common.say("{} ({}, form of {}): {:g} ms, h = {:g} ms, current {}", preset.name, preset.title, name(preset.form),
             run.t, protocol.dt, options.current_text(preset));
  common.say("{}, {}", method_text(protocol.mode, protocol.solver), name(protocol.precision));
  std::string times;
  for (size_t i = 0; i < std::min<size_t>(run.spikes.size(), 12); ++i) times += fmt::format(" {:.6f}", run.spikes[i]);
  if (run.spikes.size() > 12) times += fmt::format(" ... {:.6f}", run.spikes.back());
  common.say("{} spikes ({}){}{}", run.spikes.size(), name(protocol.spike_event),
             run.spikes.empty() ? "" : ", ms:", times);
  const neuron::Intervals isi = neuron::intervals(run.spikes);
  if (run.spikes.size() > 1) common.say("intervals {:.4f} +- {:.4f} ms", isi.mean, isi.deviation);
  common.say("end: v {:.6f} mV, u {:.6f}; v from {:.3f} to {:.3f} mV", run.v, run.u, run.v_min, run.v_max);
  common.say("{} steps, {} rejected, {} evaluations, {} shorter pieces where a step had no solution; {:.3g} ms",
             run.steps, run.rejections, run.evaluations, run.pieces, 1e3 * run.seconds);
}

void write_output(const NeuronOptions& options, const Preset& preset, const Protocol& protocol, const Result& run) {
  const std::filesystem::path folder = options.out;
  neuron::write_trace_csv((folder / "trace.csv").string(), run.trace);
  neuron::write_trace_npy((folder / "trace.npy").string(), run.trace);
  neuron::write_spikes_csv((folder / "spikes.csv").string(), run.spikes);
  if (neuron::has_hdf5()) {
    neuron::SonataSpikes h5((folder / "spikes.h5").string(), {preset.name},
                            method_attributes(protocol.mode, protocol.solver, protocol.dt));
    h5.append(0, std::vector<uint64_t>(run.spikes.size(), 0), run.spikes);
    h5.finish();
  }
  const std::string title =
      fmt::format("{}: {}, h = {:g} ms", preset.name, method_text(protocol.mode, protocol.solver), protocol.dt);
  const std::string unit = preset.form == neuron::Form::f2007 ? " (pA)" : "";
  options.common.say("{}", draw(folder, trace_plot(protocol, run, title, unit)));
  options.common.say("{}", draw(folder, phase_plot(protocol, run, title, unit)));
  write_file(folder / "summary.json", summary(options, preset, protocol, run).dump(2) + "\n");
  options.common.say("written: {0}/trace.csv, trace.npy (t, v, u), spikes.csv{1}, summary.json", options.out,
                     neuron::has_hdf5() ? ", spikes.h5" : "");
}

/// Refuses a trace that memory or disk cannot hold, with the bill; says the size of a large one.
void check_room(const NeuronOptions& options, const Protocol& protocol) {
  const double rows = protocol.duration / protocol.dt, memory = 32e-9 * rows, disk = 90e-9 * rows;  // GB
  std::error_code error;
  const auto free = 1e-9 * static_cast<double>(std::filesystem::space(options.out, error).available);
  const bool fits = memory < 4 && (error || disk < free);
  const std::string bill =
      fmt::format("a trace of {:.3g} rows: {:.3g} GB of memory, about {:.3g} GB of files", rows, memory, disk);
  if (!fits)
    throw UsageError(
        fmt::format("{}; {:.3g} GB are free in {} and 4 GB of memory are the limit: leave out --out, or take a "
                    "longer --dt-ms",
                    bill, free, options.out));
  if (disk > 0.1) options.common.say("{}", bill);
}

void run(const NeuronOptions& options) {
  const Preset preset = options.chosen();
  Protocol protocol = options.protocol(preset);
  protocol.trace = !options.out.empty();
  options.common.start();
  if (protocol.trace) {
    create_output(options.out, "summary.json");
    check_room(options, protocol);
  }
  watch_for_interruption();
  Progress progress(options.common);
  const Stopwatch watch;
  protocol.stop = [&](const Result& now) {
    const double speed = now.t / (1e3 * watch.wall());
    progress.update(fmt::format("{:.0f} ms, {:.3g} times real time, {} spikes, {} left", now.t, speed,
                                now.spikes.size(), duration((protocol.duration - now.t) / (1e3 * speed))));
    return interrupted();
  };
  const Result result = neuron::simulate(protocol, preset.name);
  if (watch.wall() > 1) progress.finish(fmt::format("{:g} ms in {:.3g} s", result.t, result.seconds));
  say(options, preset, protocol, result);
  if (protocol.trace) write_output(options, preset, protocol, result);
  options.common.print(summary(options, preset, protocol, result));
  if (result.stopped) {
    fmt::print(
        stderr,
        "interrupted at t = {:.6g} ms; what was computed is {}. One neuron alone keeps no state to go on from: with "
        "--n 1 it does.\n",
        result.t, protocol.trace ? "in " + options.out : "above");
    throw Exit{130};
  }
}

}  // namespace

void add_simulate(CLI::App& app) {
  auto options = std::make_shared<NeuronOptions>();
  auto* command = subcommand(app, "simulate",
                             "Runs an Izhikevich neuron or a network; compares solvers; draws the twenty patterns");
  command->require_subcommand(0, 1);
  options->add_neuron(*command);
  options->add_method(*command);
  command->add_option("file", options->file,
                      "A network as TOML (its keys: --keys); or --preset cortical1000, polychronous2006, ephaptic400");
  command->add_option("--n", options->n, "A population of so many neurons of the preset");
  command->add_option("--field", options->field,
                      "Puts them into each other's field: 'positions = \"box 0.3 0.3 0.1\", kappa = 0.01', and "
                      "whatever else [field] and a population's field hold");
  command->add_option("--noise-sd", options->noise_sd, "Normal noise of each neuron of a population");
  command->add_option("--noise-dt-ms", options->noise_dt, "How long it is held, ms")->capture_default_str();
  command->add_option("--resume", options->resume,
                      "A state to go on from: FOLDER/network.state, FOLDER/population.state");
  options->record.add_to(*command);
  command->add_option(
      "--sweep", options->sweep,
      "KEY=A:B:N: N values from A to B of current, a parameter, dt-ms, noise-sd or seed, of --n neurons "
      "each; of a network weight (a factor), dt-ms or seed");
  auto keys = std::make_shared<bool>(false);
  command->add_flag("--keys", *keys, "Prints the keys of a network's file and ends");
  command->add_option("--kappa", options->kappa,
                      "Of a network's field: current a uV in all cells (default: the file's)");
  add_simulate_compare(*command);
  add_simulate_field(*command);
  add_simulate_stability(*command);
  add_simulate_patterns(*command);
  command->callback([options, command, keys] {
    if (!command->get_subcommands().empty()) return;
    if (*keys) return options->common.write(neuron::network_key_reference());
    const bool network = is_network(*options);
    check_flags(*command,
                !options->sweep.empty()   ? (network ? Route::sweep_network : Route::sweep)
                : !options->field.empty() ? Route::field_population
                : network                 ? Route::network
                : options->n              ? Route::population
                                          : Route::one,
                *options);
    options->solver_given = command->count("--solver") > 0, options->mode_given = command->count("--mode") > 0;
    if (!options->sweep.empty()) return run_sweep(*options);
    network ? run_network(*options) : options->n ? run_population(*options) : run(*options);
  });
}

}  // namespace ranvier::cli
