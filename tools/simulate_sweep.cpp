// `ranvier simulate --sweep KEY=A:B:N`: one row a value, all in one program; a table, a CSV and a picture.
#include <algorithm>
#include <cmath>

#include "models/neurons/networks.h"
#include "tools/neuron_options.h"
#include "tools/plot.h"
#include "tools/run.h"

#if defined(_OPENMP)
#include <omp.h>
#endif

namespace ranvier::cli {
namespace {

using Json = nlohmann::ordered_json;
using neuron::Population;
using neuron::PopulationSpec;

struct Sweep {
  std::string key;
  std::vector<double> values;
};

Sweep parse(const std::string& text) {
  const auto equals = text.find('=');
  const auto bad = [&](const std::string& why) { throw UsageError(fmt::format("--sweep {}: {}", text, why)); };
  if (equals == std::string::npos || equals == 0) bad("is not KEY=A:B:N");
  std::vector<double> parts;
  for (std::string_view rest = std::string_view(text).substr(equals + 1);;) {
    const auto colon = rest.find(':');
    parts.push_back(neuron::number(rest.substr(0, colon), "--sweep"));
    if (colon == std::string_view::npos) break;
    rest = rest.substr(colon + 1);
  }
  if (parts.size() != 3) bad("is not KEY=A:B:N");
  if (!(parts[2] >= 2 && parts[2] <= 1e6 && parts[2] == std::floor(parts[2]))) bad("N is a whole number from 2 to 1e6");
  Sweep sweep{text.substr(0, equals), {}};
  const auto count = static_cast<int>(parts[2]);
  for (int i = 0; i < count; ++i) sweep.values.push_back(parts[0] + (parts[1] - parts[0]) * i / (count - 1));
  return sweep;
}

/// What a value gave: means over its neurons.
struct Row {
  double value = 0, duration = 0;  ///< ms that it ran
  int64_t neurons = 0, spikes = 0;
  double rate = 0, rate_sd = 0, first = std::nan(""), isi = std::nan(""), cv = std::nan("");
};

/// What every row was made with; dt is the row's own where that is swept.
struct Method {
  neuron::Mode mode = neuron::Mode::accurate;
  neuron::Solver solver = neuron::Solver::rk4;
  double dt = 0;
};

/// Spike trains on their way: their numbers, first spikes, and sums of intervals.
struct Trains {
  std::vector<double> first, last, sum, squares;
  std::vector<int64_t> count;

  explicit Trains(int64_t neurons) {
    const auto n = static_cast<size_t>(neurons);
    for (auto* v : {&first, &last, &sum, &squares}) v->assign(n, 0);
    count.assign(n, 0);
  }
  void spike(size_t i, double t) {
    if (count[i]++ == 0)
      first[i] = t;
    else
      sum[i] += t - last[i], squares[i] += (t - last[i]) * (t - last[i]);
    last[i] = t;
  }
  Row row(double value, size_t begin, size_t end, double duration) const {
    Row r;
    r.value = value, r.duration = duration, r.neurons = static_cast<int64_t>(end - begin);
    double rates = 0, squared_rates = 0, firsts = 0, total = 0, total_squares = 0;
    int64_t spiking = 0, intervals = 0;
    for (size_t i = begin; i < end; ++i) {
      const double hz = 1e3 * static_cast<double>(count[i]) / duration;
      rates += hz, squared_rates += hz * hz, r.spikes += count[i];
      if (count[i]) ++spiking, firsts += first[i];
      if (count[i] > 1) intervals += count[i] - 1, total += sum[i], total_squares += squares[i];
    }
    const auto n = static_cast<double>(end - begin);
    r.rate = rates / n, r.rate_sd = std::sqrt(std::max(0.0, squared_rates / n - r.rate * r.rate));
    if (spiking) r.first = firsts / static_cast<double>(spiking);
    if (intervals) {
      r.isi = total / static_cast<double>(intervals);
      r.cv = std::sqrt(std::max(0.0, total_squares / static_cast<double>(intervals) - r.isi * r.isi)) / r.isi;
    }
    return r;
  }
};

/// Runs the population; the time it reached (before `steps` after Ctrl-C).
double run_trains(Population& population, int64_t steps, const Common& common, Trains& trains) {
  Progress progress(common);
  const int64_t most = std::clamp<int64_t>(100'000'000 / population.size(), 1, 1000);
  while (population.step() < steps && !interrupted()) {
    population.advance(std::min(most, steps - population.step()));
    for (const neuron::Spike& s : population.spikes()) trains.spike(s.neuron, population.time_of(s));
    progress.update(fmt::format("{:.0f} ms of {} neurons", population.time(), population.size()));
  }
  return population.time();
}

/// Everything that a preset with other parameters has of its own, for one neuron of many.
void add_each(PopulationSpec& spec, const neuron::Preset& p, int64_t copies) {
  const neuron::Parameters& q = p.parameters;
  const std::pair<const char*, double> values[] = {
      {"C", q.C}, {"q2", q.q2},        {"q1", q.q1},       {"q0", q.q0},         {"a", q.a},
      {"b", q.b}, {"v_b", q.v_b},      {"e", q.e},         {"v_peak", q.v_peak}, {"c", q.c},
      {"d", q.d}, {"v0", p.start_v()}, {"u0", p.start_u()}};
  for (const auto& [key, value] : values)
    spec.each[key].insert(spec.each[key].end(), static_cast<size_t>(copies), value);
}

/// Columns that are the same everywhere are none of each neuron's own.
void drop_shared(PopulationSpec& spec) {
  std::erase_if(spec.each, [](const auto& column) {
    return std::all_of(column.second.begin(), column.second.end(), [&](double x) { return x == column.second[0]; });
  });
}

int threads() {
#if defined(_OPENMP)
  return omp_get_max_threads();
#else
  return 1;
#endif
}

bool is_run_key(const std::string& key) { return key == "dt-ms" || key == "noise-sd" || key == "seed"; }

/// All values at once: the neurons of one population.
std::vector<Row> sweep_population(const NeuronOptions& o, const Sweep& sweep, Device device) {
  const neuron::Preset preset = o.chosen();
  const int64_t copies = o.n.value_or(1), points = static_cast<int64_t>(sweep.values.size());
  NeuronOptions options = o;
  if (sweep.key == "current" && !o.current) options.current = "0";
  PopulationSpec spec = population_spec(options, preset, copies * points);
  spec.device = device;
  for (const double value : sweep.values) {
    if (sweep.key == "current") continue;
    neuron::Preset changed = preset;
    neuron::set_parameter(changed, sweep.key, value);
    add_each(spec, changed, copies);
  }
  drop_shared(spec);
  if (sweep.key == "current") {
    spec.current_each.resize(static_cast<size_t>(spec.size), 0.0);
    for (int64_t i = 0; i < spec.size; ++i)
      spec.current_each[static_cast<size_t>(i)] += sweep.values[static_cast<size_t>(i / copies)];
  }
  const int64_t steps = whole_steps("--duration-ms", duration_of(o, preset), spec.dt);
  o.common.say("{}", neuron::bill(spec));
  Population population(std::move(spec));
  Trains trains(population.size());
  double time = 0;
  try {
    time = run_trains(population, steps, o.common, trains);
  } catch (const neuron::PopulationFailure& error) {
    throw Error(fmt::format("{} = {:g}: {}", sweep.key, sweep.values[static_cast<size_t>(error.neuron / copies)],
                            error.what()));
  }
  std::vector<Row> rows;
  for (int64_t i = 0; i < points && time > 0; ++i)
    rows.push_back(trains.row(sweep.values[static_cast<size_t>(i)], static_cast<size_t>(i * copies),
                              static_cast<size_t>((i + 1) * copies), time));
  return rows;
}

/// The command line with one value put in.
NeuronOptions with_value(const NeuronOptions& o, const std::string& key, double value) {
  NeuronOptions one = o;
  if (key == "dt-ms")
    one.dt = value;
  else if (key == "noise-sd")
    one.noise_sd = value;
  else if (key == "seed")
    one.common.seed = static_cast<uint64_t>(value);
  else if (key == "current")
    one.current = o.current ? fmt::format("{};{}", *o.current, value) : fmt::format("{}", value);
  else
    one.params += fmt::format("{}{}={}", one.params.empty() ? "" : ",", key, value);
  return one;
}

/// Value after value: what a population shares, and solvers that choose their own steps.
std::vector<Row> sweep_runs(const NeuronOptions& o, const Sweep& sweep, bool alone, Device device) {
  std::vector<Row> rows;
  for (const double value : sweep.values) {
    if (interrupted()) break;
    const NeuronOptions one = with_value(o, sweep.key, value);
    const neuron::Preset preset = one.chosen();
    if (alone) {
      const neuron::Result result = neuron::simulate(one.protocol(preset), preset.name);
      if (result.stopped) break;
      Trains trains(1);
      for (const double t : result.spikes) trains.spike(0, t);
      rows.push_back(trains.row(value, 0, 1, result.t));
      continue;
    }
    PopulationSpec spec = population_spec(one, preset, one.n.value_or(1));
    spec.device = device;
    Population population(std::move(spec));
    Trains trains(population.size());
    const int64_t steps = whole_steps("--duration-ms", duration_of(one, preset), population.dt());
    const double time = run_trains(population, steps, o.common, trains);
    if (population.step() == steps) rows.push_back(trains.row(value, 0, static_cast<size_t>(population.size()), time));
  }
  return rows;
}

/// Independent networks, one a thread: the mean rate of each of their populations, and all together.
std::vector<Row> sweep_networks(const NeuronOptions& o, const Sweep& sweep, Device device,
                                std::vector<std::string>& names, std::vector<std::vector<double>>& hz, Method& method) {
  if (sweep.key != "seed" && sweep.key != "weight" && sweep.key != "dt-ms")
    throw UsageError(fmt::format("--sweep {}: of a network it is weight, dt-ms or seed", sweep.key));
  const auto make = [&](double value) {
    NeuronOptions one = o;
    if (sweep.key == "seed") one.common.seed = static_cast<uint64_t>(value);
    if (sweep.key == "dt-ms") one.dt = value;
    neuron::NamedNetwork n = chosen_network(one);
    n.spec.device = device;
    if (sweep.key == "weight")
      for (auto& p : n.spec.projections)
        for (float& w : p.connections.weight) w *= static_cast<float>(value);
    return n;
  };
  const neuron::NamedNetwork first = make(sweep.values[0]);
  method = {first.spec.mode, first.spec.solver, first.spec.dt};
  for (const PopulationSpec& p : first.spec.populations) names.push_back(p.name);
  std::vector<Row> rows(sweep.values.size());
  hz.assign(sweep.values.size(), {});
  Progress progress(o.common);
  size_t done = 0;
  // Batches of as many as there are threads, so that Ctrl-C is heard between them and dt may differ.
  const size_t together = sweep.key == "dt-ms" ? 1 : static_cast<size_t>(std::max(1, threads()));
  while (done < rows.size() && !interrupted()) {
    const size_t count = std::min(together, rows.size() - done);
    const double dt = sweep.key == "dt-ms" ? sweep.values[done] : first.spec.dt;
    neuron::run_batch(
        static_cast<int64_t>(count), whole_steps("--duration-ms", first.duration, dt),
        [&](int64_t i) { return make(sweep.values[done + static_cast<size_t>(i)]).spec; },
        [&](int64_t i, const neuron::Network& network, std::vector<neuron::NetworkSpike>&) {
          Row& row = rows[done + static_cast<size_t>(i)];
          row.value = sweep.values[done + static_cast<size_t>(i)], row.duration = network.time();
          for (size_t p = 0; p < names.size(); ++p) {
            const int64_t spikes = network.spikes_of(static_cast<int>(p)), size = network.spec().populations[p].size;
            row.spikes += spikes, row.neurons += size;
            hz[done + static_cast<size_t>(i)].push_back(1e3 * static_cast<double>(spikes) / network.time() /
                                                        static_cast<double>(size));
          }
          row.rate = 1e3 * static_cast<double>(row.spikes) / network.time() / static_cast<double>(row.neurons);
        });
    done += count;
    progress.update(fmt::format("{} of {} networks", done, rows.size()));
  }
  rows.resize(done), hz.resize(done);
  return rows;
}

Plot plot_of(const Sweep& sweep, const std::vector<Row>& rows, const std::vector<std::string>& names,
             const std::vector<std::vector<double>>& hz, const std::string& title) {
  Plot plot{"sweep", 800, 520};
  std::vector<double> x, y, sd;
  for (const Row& r : rows) x.push_back(r.value), y.push_back(r.rate), sd.push_back(r.rate_sd);
  const std::string unit = sweep.key == "dt-ms" ? "step (ms)" : sweep.key;
  plot.body =
      fmt::format("set title {} noenhanced\nset xlabel {} noenhanced; set ylabel 'rate (Hz)'\nset yrange [0:*]\n",
                  quoted(title), quoted(unit));
  if (names.size() > 1) {
    plot.body += "set key top left\nplot ";
    for (size_t p = 0; p < names.size(); ++p) {
      std::vector<double> own;
      for (const auto& row : hz) own.push_back(row[p]);
      plot.add(fmt::format("p{}", p), {x, own});
      plot.body += fmt::format("{}$p{} using 1:2 with linespoints pt 7 ps 0.5 lw 1.4 title {} noenhanced",
                               p ? ", " : "", p, quoted(names[p]));
    }
    return plot;
  }
  plot.add("rows", {x, y, sd});
  const bool spread = std::any_of(rows.begin(), rows.end(), [](const Row& r) { return r.rate_sd > 0; });
  plot.body += spread
                   ? "unset key\nplot $rows using 1:2:3 with yerrorbars pt 7 ps 0.5 lc rgb '#9bbfcc', $rows using 1:2 "
                     "with lines lw 1.4 lc rgb '#1f6f8b'"
                   : "unset key\nplot $rows using 1:2 with linespoints pt 7 ps 0.5 lw 1.4 lc rgb '#1f6f8b'";
  return plot;
}

}  // namespace

namespace {

/// Flags that set what is swept.
void check_sweep(const NeuronOptions& o, const Sweep& sweep, bool alone) {
  if (sweep.key == "seed")
    for (const double v : sweep.values)
      if (v < 0 || v != std::floor(v)) throw UsageError(fmt::format("--sweep {}: {} is not a seed", o.sweep, v));
  const bool twice = (sweep.key == "dt-ms" && o.dt) || (sweep.key == "noise-sd" && o.noise_sd) ||
                     (sweep.key == "seed" && o.common.seed);
  if (twice) throw UsageError(fmt::format("--{}: --sweep {} sets it", sweep.key, o.sweep));
  if (!alone) return;
  if (o.n) throw UsageError(fmt::format("--n: solver {} chooses its own steps", o.solver));
  if (o.noise_sd || sweep.key == "noise-sd")
    throw UsageError(fmt::format("noise-sd: solver {} steps one neuron: --current noise:sd=VALUE", o.solver));
}

void print_table(const Common& common, const Sweep& sweep, const std::vector<Row>& rows,
                 const std::vector<std::string>& names, const std::vector<std::vector<double>>& hz) {
  std::string head = fmt::format("{:>12} {:>9} {:>9} {:>10}", sweep.key, "neurons", "spikes", "rate (Hz)");
  for (const std::string& name : names) head += fmt::format(" {:>12}", name + " (Hz)");
  if (names.empty()) head += fmt::format(" {:>10} {:>12} {:>12} {:>8}", "sd (Hz)", "first (ms)", "ISI (ms)", "CV");
  common.say("{}", head);
  const auto or_dash = [](double x, int width, int digits) {
    return std::isnan(x) ? fmt::format(" {:>{}}", "-", width) : fmt::format(" {:>{}.{}f}", x, width, digits);
  };
  for (size_t i = 0; i < rows.size(); ++i) {
    const Row& r = rows[i];
    std::string line = fmt::format("{:>12g} {:>9} {:>9} {:>10.3f}", r.value, r.neurons, r.spikes, r.rate);
    for (size_t p = 0; p < names.size(); ++p) line += fmt::format(" {:>12.3f}", hz[i][p]);
    if (names.empty())
      line += or_dash(r.rate_sd, 10, 3) + or_dash(r.first, 12, 3) + or_dash(r.isi, 12, 4) + or_dash(r.cv, 8, 3);
    common.say("{}", line);
  }
}

/// The rows as CSV and as JSON.
std::pair<std::string, Json> rows_of(const Sweep& sweep, const Method& method, const std::vector<Row>& rows,
                                     const std::vector<std::string>& names,
                                     const std::vector<std::vector<double>>& hz) {
  std::string csv = fmt::format("{},mode,solver,dt_ms,duration_ms,neurons,spikes,rate_hz", sweep.key);
  for (const std::string& name : names) csv += ",rate_hz:" + name;
  csv += names.empty() ? ",rate_sd_hz,first_spike_ms,isi_mean_ms,isi_cv\n" : "\n";
  Json json = Json::array();
  for (size_t i = 0; i < rows.size(); ++i) {
    const Row& r = rows[i];
    const double dt = sweep.key == "dt-ms" ? r.value : method.dt;
    csv +=
        fmt::format("{},{},{},{},{},{},{},{}", r.value, name(method.mode),
                    printed(method.mode) ? "none" : name(method.solver), dt, r.duration, r.neurons, r.spikes, r.rate);
    json.push_back({{sweep.key, r.value},
                    {"mode", name(method.mode)},
                    {"solver", solver_json(method.mode, method.solver)},
                    {"dt_ms", dt},
                    {"duration_ms", r.duration},
                    {"neurons", r.neurons},
                    {"spikes", r.spikes},
                    {"rate_hz", r.rate}});
    for (size_t p = 0; p < names.size(); ++p) csv += fmt::format(",{}", hz[i][p]), json.back()[names[p]] = hz[i][p];
    if (names.empty()) {
      csv += fmt::format(",{},{},{},{}", r.rate_sd, r.first, r.isi, r.cv);
      json.back().update(
          {{"rate_sd_hz", r.rate_sd}, {"first_spike_ms", r.first}, {"isi_mean_ms", r.isi}, {"isi_cv", r.cv}});
    }
    csv += "\n";
  }
  return {csv, json};
}

}  // namespace

void run_sweep(const NeuronOptions& o) {
  const Sweep sweep = parse(o.sweep);
  const bool network = is_network(o);
  const neuron::Solver solver = neuron::solver_named(o.solver);
  const bool alone =
      !network && (solver == neuron::Solver::reference || solver == neuron::Solver::linear_implicit_adaptive);
  check_sweep(o, sweep, alone);
  const Device device = o.common.start();
  if (!o.out.empty()) create_output(o.out, "summary.json");
  watch_for_interruption();
  std::vector<std::string> names;
  std::vector<std::vector<double>> hz;
  Method method{neuron::mode_named(o.mode), solver, 0};
  if (!network) method.dt = o.dt.value_or(o.chosen().dt);
  const Stopwatch watch;
  const std::vector<Row> rows = network                          ? sweep_networks(o, sweep, device, names, hz, method)
                                : alone || is_run_key(sweep.key) ? sweep_runs(o, sweep, alone, device)
                                                                 : sweep_population(o, sweep, device);
  const std::string who = network ? (o.file.empty() ? o.preset : o.file) : o.chosen().name;
  const std::string how =
      method_text(method.mode, method.solver) + (sweep.key == "dt-ms" ? "" : fmt::format(", h = {:g} ms", method.dt));
  o.common.say("{}: {}", who, how);
  print_table(o.common, sweep, rows, names, hz);
  const auto [csv, json] = rows_of(sweep, method, rows, names, hz);
  o.common.say("{} values in {:.3g} s", rows.size(), watch.wall());
  const Json result = {{"sweep", o.sweep},
                       {"mode", name(method.mode)},
                       {"solver", solver_json(method.mode, method.solver)},
                       {"seconds", watch.wall()},
                       {"rows", json},
                       {"interrupted", interrupted()}};
  if (!o.out.empty() && !rows.empty()) {
    write_file(std::filesystem::path(o.out) / "sweep.csv", csv);
    o.common.say("{}", draw(o.out, plot_of(sweep, rows, names, hz, fmt::format("{}: {}, {}", who, o.sweep, how))));
    write_file(std::filesystem::path(o.out) / "summary.json", result.dump(2) + "\n");
    o.common.say("written: {}/sweep.csv, summary.json", o.out);
  }
  o.common.print(result);
  if (!interrupted()) return;
  const double reached = rows.empty() ? 0 : rows.back().duration;
  fmt::print(stderr, "interrupted: {} of {} values are there, over {:g} ms{}\n", rows.size(), sweep.values.size(),
             reached, o.out.empty() || rows.empty() ? "" : ", in " + o.out);
  throw Exit{130};
}

}  // namespace ranvier::cli
