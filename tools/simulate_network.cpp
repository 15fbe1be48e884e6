// `ranvier simulate FILE.toml` and the presets that are networks: spikes, rates, raster.
#include <algorithm>
#include <cmath>

#include "models/neurons/networks.h"
#include "tools/neuron_options.h"
#include "tools/plot.h"
#include "tools/run.h"

namespace ranvier::cli {
namespace {

using Json = nlohmann::ordered_json;
using neuron::NamedNetwork;
using neuron::Network;
using neuron::NetworkSpike;

neuron::NetworkOverrides overrides_of(const NeuronOptions& o) {
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

/// Raster above, rates of the populations in 5 ms bins below.
Plot raster_plot(const neuron::NetworkSpec& spec, const std::vector<NetworkSpike>& spikes, double duration,
                 const std::string& title) {
  const char* colours[] = {"#1f6f8b", "#d1495b", "#6a4c93", "#2a9d8f", "#e9a23b"};
  Plot plot{"raster", 900, 720};
  const size_t stride = std::max<size_t>(1, spikes.size() / 60000);
  const double bin = std::max(1.0, duration / 200);
  const auto bins = static_cast<size_t>(std::ceil(duration / bin));
  std::string dots, lines;
  double first = 0;
  for (uint32_t p = 0; p < spec.populations.size(); ++p) {
    const auto size = static_cast<double>(spec.populations[p].size);
    std::vector<double> t, id, middle(bins), rate(bins, 0);
    for (size_t i = 0; i < spikes.size(); ++i) {
      if (spikes[i].population != p) continue;
      if (i % stride == 0) t.push_back(spikes[i].time), id.push_back(first + spikes[i].neuron);
      const auto b = std::min(bins - 1, static_cast<size_t>(spikes[i].time / bin));
      rate[b] += 1e3 / (bin * size);
    }
    for (size_t b = 0; b < bins; ++b) middle[b] = (static_cast<double>(b) + 0.5) * bin;
    const std::string block = fmt::format("p{}", p), rates = fmt::format("r{}", p);
    plot.add(block, {t, id}), plot.add(rates, {middle, rate});
    const char* colour = colours[p % 5];
    dots += fmt::format("{}${} using 1:2 with points pt 7 ps 0.25 lc rgb '{}' notitle", p ? ", " : "", block, colour);
    lines += fmt::format("{}${} using 1:2 with lines lw 1.4 lc rgb '{}' title {} noenhanced", p ? ", " : "", rates,
                         colour, quoted(spec.populations[p].name));
    first += size;
  }
  plot.body = fmt::format(
      "set multiplot layout 2,1 title {} noenhanced\nset lmargin 10; set rmargin 3\nset xrange [0:{}]\n"
      "unset key; set ylabel 'neuron'; set yrange [0:{}]\nset size 1,0.62; set origin 0,0.33\nplot {}\n"
      "set key top right; set ylabel 'rate (Hz)'; set xlabel 'time (ms)'; set yrange [0:*]\n"
      "set size 1,0.34; set origin 0,0\nplot {}\nunset multiplot",
      quoted(title), duration, first, dots, lines);
  return plot;
}

/// Runs in chunks, with a live line; returns wall seconds of the steps.
double run_steps(const Common& common, Network& network, int64_t steps, std::vector<NetworkSpike>& spikes) {
  Progress progress(common);
  double seconds = 0;
  const int64_t chunk = std::clamp<int64_t>(steps / 100, 1, 1000);
  int64_t neurons = 0;
  for (const auto& p : network.spec().populations) neurons += p.size;
  const double begin = network.time();
  while (network.step() < steps && !interrupted()) {
    const Stopwatch watch;
    network.run(std::min(chunk, steps - network.step()), &spikes);
    seconds += watch.wall();
    const double done = network.time() - begin, speed = done / (1e3 * seconds);
    const double left = (static_cast<double>(steps) * network.spec().dt - network.time()) / (1e3 * speed);
    progress.update(fmt::format("{:.0f} ms, {:.3g} times real time, {:.2f} Hz, {} spikes, {} left", network.time(),
                                speed, 1e3 * static_cast<double>(spikes.size()) / done / static_cast<double>(neurons),
                                spikes.size(), duration(left)));
  }
  progress.finish(fmt::format("{:g} ms in {:.4g} s: {:.3g} times real time", network.time() - begin, seconds,
                              (network.time() - begin) / (1e3 * seconds)));
  return seconds;
}

Json summary(const NamedNetwork& named, const Network& network, const std::vector<NetworkSpike>& spikes,
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
  return {{"network", named.title},
          {"solver", name(spec.solver)},
          {"mode", name(spec.mode)},
          {"precision", name(spec.precision)},
          {"neurons", neurons},
          {"dt_ms", spec.dt},
          {"duration_ms", network.time()},
          {"steps", network.step()},
          {"spikes", total},
          {"mean_rate_hz", 1e3 * static_cast<double>(total) / network.time() / static_cast<double>(neurons)},
          {"populations", populations},
          {"synaptic_events", network.deliveries()},
          {"synchrony", network.time() >= 20 ? Json(synchrony(spikes, spec, 0, network.time())) : Json()},
          {"power_5_15_hz", power_share(spikes, network.time(), 5, 15)},
          {"power_30_60_hz", power_share(spikes, network.time(), 30, 60)},
          {"seconds", seconds},
          {"neuron_steps_per_second", static_cast<double>(neurons * network.step()) / seconds},
          {"synaptic_events_per_second", static_cast<double>(network.deliveries()) / seconds},
          {"interrupted", interrupted()}};
}

void write_output(const NeuronOptions& o, const NamedNetwork& named, const Network& network,
                  const std::vector<NetworkSpike>& spikes, const Json& result) {
  const std::filesystem::path folder = o.out;
  write_network_spikes_csv((folder / "spikes.csv").string(), network.spec(), spikes);
  if (neuron::has_hdf5()) write_network_spikes_sonata((folder / "spikes.h5").string(), network.spec(), spikes);
  network.save((folder / "network.state").string());
  const std::string title =
      fmt::format("{}: mode {}, h = {:g} ms", named.title, name(network.spec().mode), network.spec().dt);
  o.common.say("{}", draw(folder, raster_plot(network.spec(), spikes, network.time(), title)));
  write_file(folder / "summary.json", result.dump(2) + "\n");
  o.common.say("written: {}/spikes.csv{}, network.state, summary.json", o.out, neuron::has_hdf5() ? ", spikes.h5" : "");
}

}  // namespace

bool is_network(const NeuronOptions& o) { return !o.file.empty() || neuron::is_network(o.preset); }

NamedNetwork chosen_network(const NeuronOptions& o) {
  if (!o.file.empty() && !o.preset.empty()) throw UsageError("a file or --preset, not both");
  NamedNetwork named =
      o.file.empty() ? neuron::network(o.preset, overrides_of(o)) : neuron::read_network(o.file, overrides_of(o));
  if (named.title.empty()) named.title = std::filesystem::path(o.file).stem().string();
  if (o.kappa) set_kappa(named.spec, *o.kappa);
  return named;
}

void run_network(const NeuronOptions& o) {
  NamedNetwork named = chosen_network(o);
  const Device device = o.common.start();
  if (named.spec.field) named.spec.field->device = device;
  if (!o.out.empty()) create_output(o.out, "summary.json");
  const auto steps = static_cast<int64_t>(std::llround(named.duration / named.spec.dt));
  Network network(std::move(named.spec));
  if (!o.resume.empty()) network.load(o.resume);
  if (network.step() >= steps)
    throw UsageError(fmt::format("{} ms are done already: --duration-ms wants more", network.time()));
  o.common.say("{}: {}", named.title, network.bill());
  watch_for_interruption();
  std::vector<NetworkSpike> spikes;
  const double seconds = run_steps(o.common, network, steps, spikes);
  const Json result = summary(named, network, spikes, seconds);
  o.common.say("mode {}{}, {}, h = {:g} ms", name(network.spec().mode),
               network.spec().mode == neuron::Mode::accurate || network.spec().mode == neuron::Mode::published
                   ? fmt::format(", solver {}", name(network.spec().solver))
                   : "",
               name(network.spec().precision), network.spec().dt);
  for (const Json& p : result["populations"])
    o.common.say("  {:<12} {:>8} neurons  {:>9} spikes  {:.2f} Hz", p["name"].get<std::string>(),
                 p["neurons"].get<int64_t>(), p["spikes"].get<int64_t>(), p["mean_rate_hz"].get<double>());
  o.common.say("{:.4g} synaptic events, {:.3g} a second; power of the rate in 5-15 Hz {:.2f}, in 30-60 Hz {:.2f}",
               static_cast<double>(network.deliveries()), result["synaptic_events_per_second"].get<double>(),
               result["power_5_15_hz"].get<double>(), result["power_30_60_hz"].get<double>());
  if (!o.out.empty()) write_output(o, named, network, spikes, result);
  o.common.print(result);
  if (interrupted()) {
    fmt::print(
        stderr, "interrupted at t = {:g} ms; {}\n", network.time(),
        o.out.empty() ? "without --out nothing is kept" : fmt::format("--resume {}/network.state goes on", o.out));
    throw Exit{130};
  }
}

}  // namespace ranvier::cli
