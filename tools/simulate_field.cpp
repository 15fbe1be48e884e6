// `ranvier simulate field`: how synchronous cells without synapses become as they feel each other's field more.
#include <algorithm>
#include <cmath>

#include "models/neurons/networks.h"
#include "tools/neuron_flags.h"
#include "tools/plot.h"
#include "tools/run.h"

namespace ranvier::cli {
namespace {

using Json = nlohmann::ordered_json;
using neuron::NamedNetwork;
using neuron::Network;
using neuron::NetworkSpike;

struct FieldOptions : NeuronOptions {
  std::string kappas = "0,0.0025,0.005,0.01,0.02,0.03";
  int64_t seeds = 5;
  double settle = 500;  ///< ms that are left out
};

/// One run.
struct Cell {
  double synchrony = 0, rate = 0, peak = 0;
  std::vector<NetworkSpike> spikes;
};

std::vector<double> list_of(const std::string& text) {
  std::vector<double> values;
  for (std::string_view rest = text; !rest.empty();) {
    const auto comma = rest.find(',');
    values.push_back(neuron::number(rest.substr(0, comma), "--kappas"));
    rest = comma == std::string_view::npos ? std::string_view{} : rest.substr(comma + 1);
  }
  if (values.empty()) throw UsageError("--kappas: nothing given");
  return values;
}

double mean_of(const std::vector<double>& x) {
  double sum = 0;
  for (double v : x) sum += v;
  return sum / static_cast<double>(x.size());
}
double deviation_of(const std::vector<double>& x) {
  if (x.size() < 2) return 0;
  const double mean = mean_of(x);
  double sum = 0;
  for (double v : x) sum += (v - mean) * (v - mean);
  return std::sqrt(sum / static_cast<double>(x.size() - 1));
}

/// Largest mean potential over the cells, seen once a millisecond, uV.
double peak_potential(const Network& network) {
  double sum = 0, cells = 0;
  for (size_t p = 0; p < network.spec().populations.size(); ++p) {
    const int64_t size = network.spec().populations[p].size;
    for (int64_t i = 0; i < size; ++i) sum += network.field(static_cast<int>(p), i);
    cells += static_cast<double>(size);
  }
  return sum / cells;
}

Cell run_cell(const FieldOptions& options, double kappa, uint64_t seed, Device device) {
  NeuronOptions o = options;
  o.common.seed = seed, o.kappa = kappa;
  NamedNetwork named = chosen_network(o);
  named.spec.device = device;
  const int64_t steps = whole_steps("--duration-ms", named.duration, named.spec.dt);
  const auto chunk = std::max<int64_t>(1, std::llround(1 / named.spec.dt));
  Network network(std::move(named.spec));
  Cell cell;
  while (network.step() < steps && !interrupted()) {
    network.run(std::min(chunk, steps - network.step()), &cell.spikes);
    if (network.time() >= options.settle) cell.peak = std::max(cell.peak, peak_potential(network));
  }
  int64_t cells = 0;
  for (const auto& p : network.spec().populations) cells += p.size;
  cell.rate = 1e3 * static_cast<double>(cell.spikes.size()) / network.time() / static_cast<double>(cells);
  if (!interrupted()) cell.synchrony = synchrony(cell.spikes, network.spec(), options.settle, network.time());
  return cell;
}

/// Synchrony over kappa, and the raster of the last 400 ms at the smallest and the largest.
Plot field_plot(const std::string& title, const std::vector<double>& kappas, const std::vector<double>& mean,
                const std::vector<double>& deviation, const Cell& low, const Cell& high, double end) {
  Plot plot{"field", 900, 820};
  plot.add("sync", {kappas, mean, deviation});
  const auto dots = [&](const char* name, const Cell& cell) {
    std::vector<double> t, id;
    for (const NetworkSpike& s : cell.spikes)
      if (s.time >= end - 400) t.push_back(s.time), id.push_back(s.neuron);
    plot.add(name, {t, id});
  };
  dots("low", low), dots("high", high);
  const double widest = *std::max_element(kappas.begin(), kappas.end());
  const auto raster = [&](const char* name, double kappa, double bottom) {
    return fmt::format(
        "set size 1,0.33; set origin 0,{}\nset ylabel 'neuron'; set xrange [{}:{}]; set yrange [0:*]\n"
        "set title 'kappa = {:g}' noenhanced\nplot ${} using 1:2 with points pt 7 ps 0.25 lc rgb '#1f6f8b' notitle\n",
        bottom, end - 400, end, kappa, name);
  };
  plot.body = fmt::format(
      "set multiplot title {} noenhanced\nset lmargin 10; set rmargin 3; unset key; set title ''\n"
      "set size 1,0.34; set origin 0,0.62\nset xlabel 'kappa (current per uV of the field)'\n"
      "set ylabel 'synchrony chi^2'; set xrange [0:{}]; set yrange [0:*]\n"
      "plot $sync using 1:2:3 with yerrorbars lw 1.5 pt 7 lc rgb '#d1495b', "
      "$sync using 1:2 with lines lw 1.5 lc rgb '#d1495b'\nunset xlabel\n{}set xlabel 'time (ms)'\n{}unset multiplot",
      quoted(title), 1.03 * (widest > 0 ? widest : 1), raster("low", kappas.front(), 0.31),
      raster("high", kappas.back(), 0.0));
  return plot;
}

void run(const FieldOptions& given) {
  FieldOptions options = given;
  if (options.file.empty() && options.preset.empty()) options.preset = "ephaptic400";
  if (options.kappa) throw UsageError("--kappa: the sweep has --kappas");
  const std::vector<double> kappas = list_of(options.kappas);
  if (options.seeds < 1) throw UsageError(fmt::format("--seeds {}: must be at least 1", options.seeds));
  const NamedNetwork named = chosen_network(options);
  if (!named.spec.field) throw UsageError(fmt::format("{}: the network has no field", named.title));
  if (!(options.settle >= 0) || named.duration < options.settle + 100)
    throw UsageError(fmt::format("--duration-ms {}: must be at least 100 ms more than --settle-ms {}", named.duration,
                                 options.settle));
  const Device device = options.common.start();
  if (!options.out.empty()) create_output(options.out, "field.csv");
  watch_for_interruption();
  const uint64_t seed = options.common.seed.value_or(0);
  options.common.say("{}: {}, h = {:g} ms; {} seeds of {:g} ms, the first {:g} left out", named.title,
                     method_text(named.spec.mode, named.spec.solver), named.spec.dt, options.seeds, named.duration,
                     options.settle);
  options.common.say("{:>10} {:>22} {:>10} {:>22}", "kappa", "synchrony chi^2", "rate (Hz)", "largest mean phi (uV)");
  std::vector<double> mean, deviation;
  Cell low, high;
  Json rows = Json::array();
  size_t runs = 0;
  std::string csv = "kappa,seed,mode,solver,dt_ms,synchrony,rate_hz,peak_mean_field_uv\n";
  const neuron::NetworkSpec& spec = named.spec;
  const std::string solver = printed(spec.mode) ? "none" : std::string(name(spec.solver));
  for (double kappa : kappas) {
    std::vector<double> found, rates, peaks;
    Cell first;
    for (int64_t s = 0; s < options.seeds && !interrupted(); ++s) {
      Cell cell = run_cell(options, kappa, seed + static_cast<uint64_t>(s), device);
      if (interrupted()) break;
      ++runs;
      found.push_back(cell.synchrony), rates.push_back(cell.rate), peaks.push_back(cell.peak);
      csv += fmt::format("{},{},{},{},{},{},{},{}\n", kappa, seed + static_cast<uint64_t>(s), name(spec.mode), solver,
                         spec.dt, cell.synchrony, cell.rate, cell.peak);
      if (s == 0) first = std::move(cell);
    }
    if (interrupted()) break;
    if (mean.empty()) low = first;
    high = std::move(first);
    mean.push_back(mean_of(found)), deviation.push_back(deviation_of(found));
    options.common.say("{:>10g} {:>12.4f} +- {:.4f} {:>10.2f} {:>22.1f}", kappa, mean.back(), deviation.back(),
                       mean_of(rates), mean_of(peaks));
    rows.push_back({{"kappa", kappa},
                    {"synchrony", mean.back()},
                    {"synchrony_sd", deviation.back()},
                    {"mean_rate_hz", mean_of(rates)},
                    {"peak_mean_field_uv", mean_of(peaks)}});
  }
  if (!options.out.empty() && runs > 0) {
    write_file(std::filesystem::path(options.out) / "field.csv", csv);
    const std::vector<double> done(kappas.begin(), kappas.begin() + static_cast<std::ptrdiff_t>(mean.size()));
    const std::string title =
        fmt::format("{}: {}, h = {:g} ms", named.title, method_text(spec.mode, spec.solver), spec.dt);
    if (!done.empty())
      options.common.say("{}", draw(options.out, field_plot(title, done, mean, deviation, low, high, named.duration)));
  }
  options.common.print({{"network", named.title},
                        {"mode", name(spec.mode)},
                        {"solver", solver_json(spec.mode, spec.solver)},
                        {"dt_ms", spec.dt},
                        {"seeds", options.seeds},
                        {"rows", rows},
                        {"interrupted", interrupted()}});
  end_if_interrupted(runs, kappas.size() * static_cast<size_t>(options.seeds), "runs", options.out);
}

}  // namespace

void add_simulate_field(CLI::App& simulate) {
  auto options = std::make_shared<FieldOptions>();
  auto* command = subcommand(simulate, "field", "Synchrony of a network as its cells feel each other's field more");
  options->add_neuron(*command);
  options->add_method(*command);
  command->add_option("file", options->file, "A network with a field as TOML (default: --preset ephaptic400)");
  command->add_option("--kappas", options->kappas, "Currents per uV")->capture_default_str();
  command->add_option("--seeds", options->seeds, "Networks of each, from --seed on")->capture_default_str();
  command->add_option("--settle-ms", options->settle, "Time before synchrony is taken")->capture_default_str();
  command->callback([options, command] {
    check_flags(*command, Route::field, *options);
    options->solver_given = command->count("--solver") > 0, options->mode_given = command->count("--mode") > 0;
    run(*options);
  });
}

}  // namespace ranvier::cli
