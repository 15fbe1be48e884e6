// `ranvier simulate --n N`: a population of one preset, uncoupled; spikes streamed to disk, a state to go on from.
#include <algorithm>
#include <cmath>
#include <fstream>

#include "engine/atomic_file.h"
#include "models/neurons/current.h"
#include "tools/neuron_record.h"
#include "tools/run.h"

namespace ranvier::cli {
namespace {

using Json = nlohmann::ordered_json;
using neuron::Population;

void load(Population& population, const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  if (!file) throw UsageError(fmt::format("--resume {}: cannot be read", path));
  const std::string bytes((std::istreambuf_iterator<char>(file)), {});
  population.restore(std::as_bytes(std::span(bytes)));
}

/// Spikes a second of a neuron since the start.
double rate_of(const Population& population) {
  if (population.step() == 0) return 0;
  return 1e3 * static_cast<double>(population.total_spikes()) / population.time() /
         static_cast<double>(population.size());
}

/// Runs until `steps`, sampled on the way; seconds of wall time in the steps alone.
double run_steps(const NeuronOptions& o, Population& population, int64_t steps, Recording& recording,
                 std::string& failure) {
  Progress progress(o.common);
  const double begin = population.time();
  double seconds = 0;
  const int64_t most = std::clamp<int64_t>(100'000'000 / population.size(), 1, 1000);
  for (bool room = true; room && population.step() < steps && !interrupted() && failure.empty();) {
    const Stopwatch watch;
    try {
      population.advance(recording.next(population.step(), std::min(most, steps - population.step())));
    } catch (const neuron::PopulationFailure& error) {
      failure = error.what();
    }
    seconds += watch.wall();
    for (const neuron::Spike& s : population.spikes()) recording.spike(0, s.neuron, population.time_of(s));
    room = recording.after(population.step());
    const double done = population.time() - begin, speed = done / (1e3 * seconds);
    const auto spikes = population.total_spikes();
    progress.update(
        fmt::format("{:.0f} ms, {:.3g} times real time, {:.2f} Hz, {} spikes, {} left", population.time(), speed,
                    rate_of(population), spikes,
                    duration((static_cast<double>(steps) * population.dt() - population.time()) / (1e3 * speed))));
  }
  progress.finish(
      fmt::format("{} x {:g} ms in {:.4g} s: {} spikes; {:.3g} neuron-steps/s", population.size(),
                  population.time() - begin, seconds, population.total_spikes(),
                  (population.time() - begin) / population.dt() * static_cast<double>(population.size()) / seconds));
  return seconds;
}

Json summary(const NeuronOptions& o, const neuron::Preset& preset, const Population& population,
             const Recording& recording, double begin, double seconds, const std::string& failure) {
  Json json = {{"preset", preset.name},
               {"solver", solver_json(population.spec().mode, population.spec().solver)},
               {"mode", name(population.spec().mode)},
               {"current", o.current_text(preset)},
               {"precision", name(population.spec().precision)},
               {"device", population.spec().device.description()},
               {"neurons", population.size()},
               {"dt_ms", population.dt()},
               {"steps", population.step()},
               {"duration_ms", population.time()},
               {"spikes", population.total_spikes()},
               {"spike_times_ms", recording.first_times()},
               {"v_mv", population.v(0)},
               {"u", population.u(0)},
               {"mean_rate_hz", rate_of(population)},
               {"seconds", seconds},
               {"neuron_steps_per_second",
                (population.time() - begin) / population.dt() * static_cast<double>(population.size()) / seconds},
               {"failure", failure},
               {"interrupted", interrupted()}};
  json.update(recording.summary());
  return json;
}

}  // namespace

double duration_of(const NeuronOptions& o, const neuron::Preset& preset) {
  return o.duration.value_or(preset.duration);
}

int64_t whole_steps(const char* flag, double length, double dt) {
  const double steps = std::round(length / dt);
  if (!(steps >= 1 && steps < 1e15) || std::abs(steps * dt - length) > 1e-6 * dt)
    throw UsageError(fmt::format("{} {}: not a whole number of steps of {} ms", flag, length, dt));
  return static_cast<int64_t>(steps);
}

neuron::PopulationSpec population_spec(const NeuronOptions& o, const neuron::Preset& preset, int64_t size) {
  NeuronOptions one = o;
  one.current.reset();
  const neuron::Protocol protocol = one.protocol(preset);
  neuron::PopulationSpec spec;
  spec.name = preset.name, spec.size = size, spec.parameters = protocol.parameters;
  spec.v0 = protocol.v0, spec.u0 = protocol.u0, spec.current = protocol.current;
  spec.solver = protocol.solver, spec.mode = protocol.mode, spec.precision = protocol.precision;
  spec.spike_event = protocol.spike_event, spec.dt = protocol.dt, spec.seed = o.common.seed.value_or(0);
  if (o.current) {
    neuron::PopulationCurrent current = neuron::parse_population_current(*o.current, size, protocol.duration);
    spec.current = current.shared, spec.current_each = std::move(current.each);
    spec.processes = std::move(current.processes);
  }
  if (o.noise_sd) {
    spec.processes.push_back({.deviation = *o.noise_sd, .interval = o.noise_dt});
    if (spec.processes.size() > 1) spec.processes.back().stream = "current/noise-sd";
  }
  return spec;
}

void run_population(const NeuronOptions& o) {
  if (*o.n < 1) throw UsageError(fmt::format("--n {}: a population has at least one neuron", *o.n));
  const neuron::Preset preset = o.chosen();
  neuron::PopulationSpec spec = population_spec(o, preset, *o.n);
  const int64_t steps = whole_steps("--duration-ms", duration_of(o, preset), spec.dt);
  spec.device = o.common.start();
  // With the counts of the record. The description's own columns are there already.
  neuron::check_memory({{spec.name, static_cast<uint64_t>(spec.size),
                         8 + static_cast<double>(neuron::bytes_of(spec)) / static_cast<double>(spec.size)}},
                       0);
  o.common.say("{}", neuron::bill(spec));
  Population population(std::move(spec));
  if (!o.resume.empty()) load(population, o.resume);
  if (population.step() >= steps) throw UsageError(fmt::format("{} ms are done already", population.time()));
  if (!o.out.empty()) create_output(o.out, "summary.json");
  const double begin = population.time();
  Recording recording(o.record, o.out,
                      {{{preset.name, population.size()}},
                       false,
                       population.spec().mode,
                       population.spec().solver,
                       population.dt(),
                       population.step(),
                       steps,
                       [&](uint32_t, int64_t i) { return std::pair(population.v(i), population.u(i)); },
                       [&](uint32_t) { return population.mean_state(); }});
  if (!o.out.empty()) o.common.say("{}", recording.bill());
  watch_for_interruption();
  std::string failure;
  const double seconds = run_steps(o, population, steps, recording, failure);
  const Json result = summary(o, preset, population, recording, begin, seconds, failure);
  const std::string method = method_text(population.spec().mode, population.spec().solver);
  o.common.say("mean rate {:.3f} Hz; {}, {}, h = {:g} ms", result["mean_rate_hz"].get<double>(), method,
               name(population.spec().precision), population.dt());
  if (!o.out.empty()) {
    recording.finish(o.common,
                     fmt::format("{} x {}: {}, h = {:g} ms", population.size(), preset.name, method, population.dt()));
    if (failure.empty()) {
      AtomicFile state(o.out + "/population.state");
      state.write(population.state(), "the state");
      state.commit();
    }
    write_file(std::filesystem::path(o.out) / "summary.json", result.dump(2) + "\n");
    o.common.say("written: {}/{}summary.json", o.out, failure.empty() ? "population.state, " : "");
  }
  o.common.print(result);
  if (!failure.empty()) throw Error(failure);
  const std::string how = o.out.empty() ? "without --out nothing is kept"
                                        : fmt::format("--resume {}/population.state --out ANOTHER goes on", o.out);
  if (recording.disk_full()) throw Error(fmt::format("the record is full at t = {:g} ms; {}", population.time(), how));
  if (interrupted()) {
    fmt::print(stderr, "interrupted at t = {:g} ms; {}\n", population.time(), how);
    throw Exit{130};
  }
}

}  // namespace ranvier::cli
