// `ranvier simulate --n N`: a population of one preset, uncoupled; spikes streamed to disk, a state to go on from.
#include <algorithm>
#include <cmath>
#include <fstream>

#include "engine/atomic_file.h"
#include "engine/population.h"
#include "tools/neuron_options.h"
#include "tools/plot.h"
#include "tools/run.h"

namespace ranvier::cli {
namespace {

using Json = nlohmann::ordered_json;
using neuron::Population;

neuron::PopulationSpec spec_of(const NeuronOptions& o, const neuron::Preset& preset) {
  // Noise differs between neurons, so it is no part of the current that all share.
  if (o.current && o.current->find("noise:") != std::string::npos)
    throw UsageError("--current noise:...: of a population is --noise-sd");
  const neuron::Protocol protocol = o.protocol(preset);
  neuron::PopulationSpec spec;
  spec.name = preset.name, spec.size = *o.n, spec.parameters = protocol.parameters;
  spec.v0 = protocol.v0, spec.u0 = protocol.u0, spec.current = protocol.current;
  spec.solver = protocol.solver, spec.mode = protocol.mode, spec.precision = protocol.precision;
  spec.spike_event = protocol.spike_event, spec.dt = protocol.dt, spec.seed = o.common.seed.value_or(0);
  if (o.noise_sd) spec.processes.push_back({.deviation = *o.noise_sd, .interval = o.noise_dt});
  return spec;
}

/// Spikes on their way to the disk, chunk by chunk, and the first of them for a picture.
struct SpikeStream {
  AtomicFile file;
  std::vector<double> t, id;
  explicit SpikeStream(const std::string& path) : file(path) { write("neuron,time_ms\n"); }
  void write(const std::string& text) { file.write(std::as_bytes(std::span(text)), "the spikes"); }
  void add(const Population& population) {
    std::string text;
    for (const neuron::Spike& s : population.spikes()) {
      fmt::format_to(std::back_inserter(text), "{},{}\n", s.neuron, population.time_of(s));
      if (s.neuron < 500 && t.size() < 60000) t.push_back(population.time_of(s)), id.push_back(s.neuron);
    }
    write(text);
  }
};

void load(Population& population, const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  if (!file) throw UsageError(fmt::format("--resume {}: cannot be read", path));
  const std::string bytes((std::istreambuf_iterator<char>(file)), {});
  population.restore(std::as_bytes(std::span(bytes)));
}

}  // namespace

void run_population(const NeuronOptions& o) {
  if (*o.n < 1) throw UsageError(fmt::format("--n {}: a population has at least one neuron", *o.n));
  const neuron::Preset preset = o.chosen();
  neuron::PopulationSpec spec = spec_of(o, preset);
  spec.record_spikes = !o.out.empty();
  const double length = o.duration.value_or(preset.duration);
  const auto steps = static_cast<int64_t>(std::llround(length / spec.dt));
  if (std::abs(static_cast<double>(steps) * spec.dt - length) > 1e-6 * spec.dt)
    throw UsageError(fmt::format("--duration-ms {}: not a whole number of steps of {} ms", length, spec.dt));
  o.common.start();
  o.common.say("{}", neuron::bill(spec));
  Population population(std::move(spec));
  if (!o.resume.empty()) load(population, o.resume);
  if (population.step() >= steps) throw UsageError(fmt::format("{} ms are done already", population.time()));
  std::optional<SpikeStream> stream;
  if (!o.out.empty()) create_output(o.out, "summary.json"), stream.emplace(o.out + "/spikes.csv");
  watch_for_interruption();
  Progress progress(o.common);
  const double begin = population.time();
  double seconds = 0;
  std::string failure;
  while (population.step() < steps && !interrupted() && failure.empty()) {
    const Stopwatch watch;
    try {
      population.advance(
          std::min<int64_t>(std::clamp<int64_t>(100'000'000 / population.size(), 1, 1000), steps - population.step()));
    } catch (const neuron::PopulationFailure& error) {
      failure = error.what();
    }
    seconds += watch.wall();
    if (stream) stream->add(population);
    const double done = population.time() - begin, speed = done / (1e3 * seconds);
    const auto spikes = population.total_spikes();
    progress.update(fmt::format(
        "{:.0f} ms, {:.3g} times real time, {:.2f} Hz, {} spikes, {} left", population.time(), speed,
        1e3 * static_cast<double>(spikes) / population.time() / static_cast<double>(population.size()), spikes,
        duration((static_cast<double>(steps) * population.dt() - population.time()) / (1e3 * speed))));
  }
  const double done = population.time() - begin;
  const double rate =
      1e3 * static_cast<double>(population.total_spikes()) / population.time() / static_cast<double>(population.size());
  const double speed = done / population.dt() * static_cast<double>(population.size()) / seconds;
  progress.finish(fmt::format("{} x {:g} ms in {:.4g} s: {} spikes, {:.3f} Hz; {:.3g} neuron-steps/s",
                              population.size(), done, seconds, population.total_spikes(), rate, speed));
  const Json result = {{"preset", preset.name},
                       {"solver", name(population.spec().solver)},
                       {"mode", name(population.spec().mode)},
                       {"precision", name(population.spec().precision)},
                       {"neurons", population.size()},
                       {"dt_ms", population.dt()},
                       {"duration_ms", population.time()},
                       {"spikes", population.total_spikes()},
                       {"mean_rate_hz", rate},
                       {"seconds", seconds},
                       {"neuron_steps_per_second", speed},
                       {"failure", failure},
                       {"interrupted", interrupted()}};
  if (stream) {
    stream->file.commit();
    if (failure.empty()) {
      AtomicFile state(o.out + "/population.state");
      state.write(population.state(), "the state");
      state.commit();
    }
    Plot plot{"raster", 900, 600};
    plot.add("spikes", {stream->t, stream->id});
    plot.body = fmt::format(
        "set title {} noenhanced\nset xlabel 'time (ms)'; set ylabel 'neuron'; unset key\nset xrange [{}:{}]\n"
        "plot $spikes using 1:2 with points pt 7 ps 0.25 lc rgb '#1f6f8b'",
        quoted(fmt::format("{}: the first {} of {} neurons", preset.name, std::min<int64_t>(500, population.size()),
                           population.size())),
        begin, population.time());
    o.common.say("{}", draw(o.out, plot));
    write_file(std::filesystem::path(o.out) / "summary.json", result.dump(2) + "\n");
    o.common.say("written: {}/spikes.csv, population.state, summary.json", o.out);
  }
  o.common.print(result);
  if (!failure.empty()) throw Error(failure);
  if (interrupted()) {
    fmt::print(
        stderr, "interrupted at t = {:g} ms; {}\n", population.time(),
        o.out.empty() ? "without --out nothing is kept" : fmt::format("--resume {}/population.state goes on", o.out));
    throw Exit{130};
  }
}

}  // namespace ranvier::cli
