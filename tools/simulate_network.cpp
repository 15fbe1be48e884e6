// `ranvier simulate FILE.toml` and the presets that are networks: spikes, rates, raster.
#include <algorithm>
#include <cmath>

#include "models/neurons/field_file.h"
#include "models/neurons/networks.h"
#include "tools/neuron_record.h"
#include "tools/run.h"

namespace ranvier::cli {
namespace {

using Json = nlohmann::ordered_json;
using neuron::NamedNetwork;
using neuron::Network;
using neuron::NetworkSpike;

/// Runs in chunks, sampled on the way, with a live line; returns wall seconds of the steps. Spikes are held for a
/// chunk.
double run_steps(const Common& common, Network& network, int64_t steps, Recording& recording) {
  Progress progress(common);
  double seconds = 0;
  const int64_t most = std::clamp<int64_t>(steps / 100, 1, 1000);
  int64_t neurons = 0, total = 0;
  for (const auto& p : network.spec().populations) neurons += p.size;
  const double begin = network.time();
  std::vector<NetworkSpike> spikes;
  for (bool room = true; room && network.step() < steps && !interrupted();) {
    spikes.clear();
    const Stopwatch watch;
    network.run(recording.next(network.step(), std::min(most, steps - network.step())), &spikes);
    seconds += watch.wall();
    total += static_cast<int64_t>(spikes.size());
    for (const NetworkSpike& s : spikes) recording.spike(s.population, s.neuron, s.time);
    room = recording.after(network.step());
    const double done = network.time() - begin, speed = done / (1e3 * seconds);
    const double left = (static_cast<double>(steps) * network.spec().dt - network.time()) / (1e3 * speed);
    progress.update(fmt::format("{:.0f} ms, {:.3g} times real time, {:.2f} Hz, {} spikes, {} left", network.time(),
                                speed, 1e3 * static_cast<double>(total) / done / static_cast<double>(neurons), total,
                                duration(left)));
  }
  progress.finish(fmt::format("{:g} ms in {:.4g} s: {:.3g} times real time", network.time() - begin, seconds,
                              (network.time() - begin) / (1e3 * seconds)));
  return seconds;
}

RecordedRun recorded(const Network& network, int64_t steps) {
  RecordedRun run;
  for (const auto& p : network.spec().populations) run.populations.push_back({p.name, p.size});
  run.mode = network.spec().mode, run.solver = network.spec().solver;
  run.named = true, run.dt = network.spec().dt, run.first_step = network.step(), run.last_step = steps;
  run.state = [&network](uint32_t p, int64_t i) {
    return std::pair(network.v(static_cast<int>(p), i), network.u(static_cast<int>(p), i));
  };
  run.mean_state = [&network](uint32_t p) { return network.mean_state(static_cast<int>(p)); };
  return run;
}

/// A projection whose weights change.
struct Plastic {
  int index;
  std::string name;
  double low, high;
};

std::vector<Plastic> plastic_of(const neuron::NetworkSpec& spec) {
  std::vector<Plastic> list;
  for (size_t i = 0; i < spec.projections.size(); ++i)
    if (const auto& p = spec.projections[i]; p.stdp)
      list.push_back({static_cast<int>(i), p.name, p.stdp->low, p.stdp->high});
  return list;
}

/// Says where delays were rounded up to whole steps; how many by projection.
Json rounded_delays(const Common& common, const neuron::NetworkSpec& spec) {
  Json json = Json::object();
  for (const neuron::ProjectionSpec& p : spec.projections) {
    const neuron::Connections& c = p.connections;
    if (c.rounded_up == 0) continue;
    json[p.name] = c.rounded_up;
    common.say("{}: {} of {} delays are no whole number of steps of {:g} ms and were rounded up", p.name, c.rounded_up,
               c.count(), spec.dt);
  }
  return json;
}

constexpr int weight_bins = 40;

/// Mean, spread, shares at the bounds and the distribution of the weights of each plastic projection.
Json weights_of(const Network& network, const std::vector<Plastic>& plastic) {
  Json json = Json::array();
  for (const Plastic& p : plastic) {
    const std::vector<float> weights = network.weights(p.index);
    std::vector<double> bins(weight_bins, 0);
    double sum = 0, squares = 0, low = 0, high = 0;
    const double n = static_cast<double>(std::max<size_t>(1, weights.size())), range = p.high - p.low;
    for (const float weight : weights) {
      const auto w = static_cast<double>(weight);
      sum += w, squares += w * w, low += w <= p.low + 1e-6 * range, high += w >= p.high - 1e-6 * range;
      bins[static_cast<size_t>(std::clamp<double>(weight_bins * (w - p.low) / range, 0, weight_bins - 1))] += 1 / n;
    }
    json.push_back({{"projection", p.name},
                    {"synapses", weights.size()},
                    {"mean", sum / n},
                    {"sd", std::sqrt(std::max(0.0, squares / n - sum / n * sum / n))},
                    {"share_at_low", low / n},
                    {"share_at_high", high / n},
                    {"low", p.low},
                    {"high", p.high},
                    {"distribution", bins}});
  }
  return json;
}

Plot weights_plot(const Json& weights, const std::string& title) {
  Plot plot{"weights", 760, 480};
  plot.body = fmt::format(
      "set title {} noenhanced\nset xlabel 'weight'; set ylabel 'share of synapses'\nset yrange [0:*]; set key top "
      "left\n"
      "plot ",
      quoted(title));
  for (size_t i = 0; i < weights.size(); ++i) {
    const Json& w = weights[i];
    std::vector<double> x;
    const double low = w["low"], width = (w["high"].get<double>() - low) / weight_bins;
    for (int b = 0; b < weight_bins; ++b) x.push_back(low + (b + 0.5) * width);
    plot.add(fmt::format("w{}", i), {x, w["distribution"].get<std::vector<double>>()});
    plot.body += fmt::format("{}$w{} using 1:2 with histeps lw 1.6 title {} noenhanced", i ? ", " : "", i,
                             quoted(w["projection"].get<std::string>()));
  }
  return plot;
}

Json summary(const NamedNetwork& named, const Network& network, const Recording& recording, double begin,
             double seconds) {
  const neuron::NetworkSpec& spec = network.spec();
  Json populations = Json::array();
  int64_t neurons = 0, total = 0;
  for (size_t p = 0; p < spec.populations.size(); ++p) {
    const auto size = spec.populations[p].size, count = network.spikes_of(static_cast<int>(p));
    neurons += size, total += count;
    populations.push_back(
        {{"name", spec.populations[p].name},
         {"neurons", size},
         {"spikes", count},
         {"mean_rate_hz", 1e3 * static_cast<double>(count) / network.time() / static_cast<double>(size)}});
  }
  // The slow transform of the last ten seconds at most.
  std::vector<double> rate = recording.spikes_a_bin();
  if (rate.size() > 10000) rate.erase(rate.begin(), rate.end() - 10000);
  const bool by_ms = std::abs(std::max(1.0, std::round(1 / spec.dt)) * spec.dt - 1) < 1e-9;
  const auto power = [&](double low, double high) {
    return by_ms ? neuron::power_share(rate, low, high) : std::nan("");
  };
  const int64_t steps = network.step() - static_cast<int64_t>(std::llround(begin / spec.dt));
  Json json = {{"network", named.title},
               {"solver", solver_json(spec.mode, spec.solver)},
               {"mode", name(spec.mode)},
               {"precision", name(spec.precision)},
               {"device", spec.device.description()},
               {"neurons", neurons},
               {"dt_ms", spec.dt},
               {"duration_ms", network.time()},
               {"steps", network.step()},
               {"spikes", total},
               {"mean_rate_hz", 1e3 * static_cast<double>(total) / network.time() / static_cast<double>(neurons)},
               {"populations", populations},
               {"synaptic_events", network.deliveries()},
               {"power_5_15_hz", power(5, 15)},
               {"power_30_60_hz", power(30, 60)},
               {"seconds", seconds},
               {"neuron_steps_per_second", static_cast<double>(neurons * steps) / seconds},
               {"synaptic_events_per_second", static_cast<double>(network.deliveries()) / seconds},
               {"interrupted", interrupted()}};
  json.update(recording.summary());
  return json;
}

void write_output(const NeuronOptions& o, const NamedNetwork& named, const Network& network, Recording& recording,
                  const Json& result) {
  const std::filesystem::path folder = o.out;
  recording.finish(o.common, fmt::format("{}: {}, h = {:g} ms", named.title,
                                         method_text(network.spec().mode, network.spec().solver), network.spec().dt));
  if (!result["weights"].empty()) {
    o.common.say("{}",
                 draw(folder, weights_plot(result["weights"],
                                           fmt::format("{}: weights at {:g} ms, {}", named.title, network.time(),
                                                       method_text(network.spec().mode, network.spec().solver)))));
  }
  network.save((folder / "network.state").string());
  write_file(folder / "summary.json", result.dump(2) + "\n");
  o.common.say("written: {}/network.state, summary.json", o.out);
}

}  // namespace

bool is_network(const NeuronOptions& o) { return !o.file.empty() || neuron::is_network(o.preset) || !o.field.empty(); }

neuron::NetworkOverrides network_overrides(const NeuronOptions& o) {
  if (!o.params.empty() || o.current || !o.form.empty())
    throw UsageError("--params, --current and --form are of one neuron: a network has them in its file");
  neuron::NetworkOverrides over;
  over.seed = o.common.seed, over.dt = o.dt, over.duration = o.duration;
  if (!o.common.precision.empty()) over.precision = neuron::precision_named(o.common.precision);
  if (o.solver_given) over.solver = neuron::solver_named(o.solver);
  if (o.mode_given) over.mode = neuron::mode_named(o.mode);
  if (over.dt && !(*over.dt > 0)) throw UsageError(fmt::format("--dt-ms {}: must be positive", *over.dt));
  if (over.duration && !(*over.duration > 0))
    throw UsageError(fmt::format("--duration-ms {}: must be positive", *over.duration));
  return over;
}

namespace {

/// --n neurons in each other's field: a network without a synapse.
NamedNetwork population_in_field(const NeuronOptions& o) {
  if (!o.file.empty() || neuron::is_network(o.preset))
    throw UsageError("--field is of --n neurons: a network has [field] in its file");
  if (!o.n) throw UsageError("--field: say how many neurons with --n");
  const neuron::Preset preset = o.chosen();
  NamedNetwork named;
  neuron::NetworkSpec& s = named.spec;
  s.populations = {population_spec(o, preset, *o.n)};
  neuron::PopulationSpec& p = s.populations[0];
  std::replace(p.name.begin(), p.name.end(), ':', '_');  // of a pattern: --record NAME:0
  s.solver = p.solver, s.mode = p.mode, s.precision = p.precision, s.dt = p.dt, s.seed = p.seed;
  s.field = neuron::parse_field(o.field, p.name, p.size, p.seed);
  named.title = fmt::format("{} x {} in a field", p.size, p.name);
  named.duration = duration_of(o, preset);
  return named;
}

}  // namespace

NamedNetwork chosen_network(const NeuronOptions& o) {
  if (!o.field.empty()) {
    NamedNetwork named = population_in_field(o);
    if (o.kappa) set_kappa(named.spec, *o.kappa);
    return named;
  }
  if (!o.file.empty() && !o.preset.empty()) throw UsageError("a file or --preset, not both");
  NamedNetwork named = o.file.empty() ? neuron::network(o.preset, network_overrides(o))
                                      : neuron::read_network(o.file, network_overrides(o));
  if (named.title.empty()) named.title = std::filesystem::path(o.file).stem().string();
  if (o.solver_given && printed(named.spec.mode))
    throw UsageError(
        fmt::format("--solver {}: mode {} is printed with its own steps", o.solver, name(named.spec.mode)));
  if (o.kappa) set_kappa(named.spec, *o.kappa);
  return named;
}

void run_network(const NeuronOptions& o) {
  NamedNetwork named = chosen_network(o);
  const Device device = o.common.start();
  named.spec.device = device;
  if (!o.out.empty()) create_output(o.out, "summary.json");
  const int64_t steps = whole_steps("--duration-ms", named.duration, named.spec.dt);
  const std::vector<Plastic> plastic = plastic_of(named.spec);
  const Json rounded = rounded_delays(o.common, named.spec);
  Network network(std::move(named.spec));
  if (!o.resume.empty()) network.load(o.resume);
  if (network.step() >= steps)
    throw UsageError(fmt::format("{} ms are done already: --duration-ms wants more", network.time()));
  o.common.say("{}: {}", named.title, network.bill());
  const double begin = network.time();
  Recording recording(o.record, o.out, recorded(network, steps));
  if (!o.out.empty()) o.common.say("{}", recording.bill());
  watch_for_interruption();
  const double seconds = run_steps(o.common, network, steps, recording);
  Json result = summary(named, network, recording, begin, seconds);
  result["weights"] = weights_of(network, plastic), result["delays_rounded_up"] = rounded;
  o.common.say("{}, {}, h = {:g} ms", method_text(network.spec().mode, network.spec().solver),
               name(network.spec().precision), network.spec().dt);
  for (const Json& p : result["populations"])
    o.common.say("  {:<12} {:>8} neurons  {:>9} spikes  {:.2f} Hz", p["name"].get<std::string>(),
                 p["neurons"].get<int64_t>(), p["spikes"].get<int64_t>(), p["mean_rate_hz"].get<double>());
  o.common.say("{:.4g} synaptic events, {:.3g} a second; power of the rate in 5-15 Hz {:.2f}, in 30-60 Hz {:.2f}",
               static_cast<double>(network.deliveries()), result["synaptic_events_per_second"].get<double>(),
               result["power_5_15_hz"].get<double>(), result["power_30_60_hz"].get<double>());
  for (const Json& w : result["weights"])
    o.common.say("  weights of {}: mean {:.3f}, sd {:.3f}; {:.1f} % at {:g}, {:.1f} % at {:g}",
                 w["projection"].get<std::string>(), w["mean"].get<double>(), w["sd"].get<double>(),
                 100 * w["share_at_low"].get<double>(), w["low"].get<double>(), 100 * w["share_at_high"].get<double>(),
                 w["high"].get<double>());
  if (!o.out.empty()) write_output(o, named, network, recording, result);
  o.common.print(result);
  const std::string how = o.out.empty() ? "without --out nothing is kept"
                                        : fmt::format("--resume {}/network.state --out ANOTHER goes on", o.out);
  if (recording.disk_full()) throw Error(fmt::format("the record is full at t = {:g} ms; {}", network.time(), how));
  if (interrupted()) {
    fmt::print(stderr, "interrupted at t = {:g} ms; {}\n", network.time(), how);
    throw Exit{130};
  }
}

}  // namespace ranvier::cli
