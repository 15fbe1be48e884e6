// `ranvier coupling show`: the law, the units with their sizes and myelin, and the spectrum of K, as pictures; of a
// geometry that options describe, or of what a checkpoint's layer has learned.
#include <algorithm>
#include <cmath>

#include "models/coupling.h"
#include "tools/config.h"
#include "tools/model_file.h"
#include "tools/plot.h"
#include "tools/run.h"

namespace ranvier::cli {
namespace {

constexpr int64_t most_units = 1024;  // whose matrix is made and has its eigenvalues found

struct ShowOptions {
  Common common;
  int64_t units = 64;
  std::string out, config, checkpoint, layer;
  std::vector<std::pair<const Key*, std::string>> overrides;
};

/// A layer's geometry in numbers.
struct Layer {
  std::vector<float> positions, log_size, logit_myelin, matrix;
  double norm = 0, scale = 0;
  double size(size_t i) const { return std::exp(static_cast<double>(log_size[i])); }
  double myelin(size_t i) const { return 1 / (1 + std::exp(-static_cast<double>(logit_myelin[i]))); }
};

/// The geometry at `scope` of a session, drawn where the session has none yet.
Layer layer_at(Session& session, const std::string& scope, int64_t n, const models::CouplingOptions& coupling) {
  Program program = session.compile([&](Graph& graph) {
    const Scope inside(graph, scope);
    const models::Units units = models::coupling_units(graph, n, coupling, DType::f32);
    const Tensor matrix = pair_matrix(units.positions, units.law) * reshape(units.receive, {n, 1}) * units.send;
    return std::vector{units.positions, matrix, models::coupling_norm(units), models::coupling_scale(units)};
  });
  program.run();
  Layer layer{program.get<float>(0), {}, {}, program.get<float>(1), program.scalar(2), program.scalar(3)};
  const char* slab = coupling.learned ? "parameters" : "buffers";
  layer.log_size = session.state().get<float>(slab, scope + ".log_size");
  layer.logit_myelin = session.state().get<float>(slab, scope + ".logit_myelin");
  return layer;
}

/// What is to be shown.
struct Shown {
  std::string name;  // of the layer; empty where options describe it
  models::CouplingOptions coupling;
  Layer layer;
};

Shown from_options(const ShowOptions& options) {
  TrainConfig config;
  if (!options.config.empty()) read_config(options.config, config);
  for (const auto& [key, text] : options.overrides) set_from_flag(*key, text, config);
  if (options.units < 2 || options.units > most_units)
    throw UsageError(fmt::format("--units {}: from 2 to {} can be shown", options.units, most_units));
  const models::CouplingOptions coupling = resolved_coupling(config);
  const Device device = options.common.start();
  Session session(device, {.seed = options.common.seed.value_or(0)});
  return {"", coupling, layer_at(session, "show", options.units, coupling)};
}

Shown from_checkpoint(const ShowOptions& options) {
  const ModelFile model = open_model(options.checkpoint, options.common);
  constexpr std::string_view ending = ".coupling";
  std::vector<std::string> names;
  for (const models::CouplingNorms& site : models::coupling_norms(*model.session)) {
    names.push_back(site.scope.substr(0, site.scope.size() - ending.size()));
    if (!options.layer.empty() && options.layer != names.back()) continue;
    if (site.units > most_units)
      throw UsageError(fmt::format("{}: '{}' has {} units; at most {} can be shown", options.checkpoint, names.back(),
                                   site.units, most_units));
    return {names.back(), model.recipe.coupling,
            layer_at(*model.session, site.scope, site.units, model.recipe.coupling)};
  }
  if (names.empty()) throw UsageError(fmt::format("{}: no layer of it is coupled", options.checkpoint));
  throw UsageError(fmt::format("--layer {}: {} has no such coupled layer; it has {}", options.layer, options.checkpoint,
                               fmt::join(names, ", ")));
}

/// Eigenvalues of a symmetric matrix, falling, by cyclic Jacobi rotations.
std::vector<double> eigenvalues(std::vector<double> a, size_t n) {
  double size = 0;
  for (double v : a) size += v * v;
  for (int sweep = 0; sweep < 30; ++sweep) {
    double off = 0;
    for (size_t p = 0; p < n; ++p)
      for (size_t q = 0; q < p; ++q) off += a[p * n + q] * a[p * n + q];
    if (!(off > 1e-24 * size)) break;
    for (size_t p = 0; p < n; ++p)
      for (size_t q = p + 1; q < n; ++q) {
        const double apq = a[p * n + q];
        if (apq == 0) continue;
        const double theta = (a[q * n + q] - a[p * n + p]) / (2 * apq);
        const double t = std::copysign(1.0, theta) / (std::abs(theta) + std::sqrt(theta * theta + 1));
        const double c = 1 / std::sqrt(t * t + 1), s = t * c;
        for (size_t i = 0; i < n; ++i) {
          const double x = a[i * n + p], y = a[i * n + q];
          a[i * n + p] = c * x - s * y, a[i * n + q] = s * x + c * y;
        }
        for (size_t i = 0; i < n; ++i) {
          const double x = a[p * n + i], y = a[q * n + i];
          a[p * n + i] = c * x - s * y, a[q * n + i] = s * x + c * y;
        }
      }
  }
  std::vector<double> values(n);
  for (size_t i = 0; i < n; ++i) values[i] = a[i * n + i];
  std::sort(values.rbegin(), values.rend());
  return values;
}

/// K = D_r kappa D_c is similar to the symmetric matrix of sqrt(K_ij K_ji): its eigenvalues are real.
std::vector<double> spectrum(const Layer& layer, size_t n) {
  std::vector<double> symmetric(n * n);
  for (size_t i = 0; i < n; ++i)
    for (size_t j = 0; j < n; ++j)
      symmetric[i * n + j] = std::sqrt(static_cast<double>(layer.matrix[i * n + j]) * layer.matrix[j * n + i]);
  return eigenvalues(std::move(symmetric), n);
}

double law_at(const CouplingLaw& law, double distance) {
  const double d2 = distance * distance + law.softening * law.softening, l2 = law.length * law.length;
  if (law.kind == CouplingLaw::gaussian) return std::exp(-d2 / (2 * l2));
  return std::pow(1 + d2 / l2, -law.power / 2) * std::exp(-std::sqrt(d2) / law.decay);
}

Plot law_figure(const models::CouplingOptions& coupling) {
  Plot plot{"law", 1000, 420};
  std::vector<std::vector<double>> law(4), sheath(2);
  CouplingLaw power = coupling.law, decay = coupling.law;
  power.decay = INFINITY, decay.power = 0;
  for (int i = 1; i <= 300; ++i) {
    const double d = 0.01 * i;
    law[0].push_back(d);
    law[1].push_back(law_at(coupling.law, d));
    law[2].push_back(law_at(power, d));
    law[3].push_back(law_at(decay, d));
    const double m = 0.995 * i / 300;
    sheath[0].push_back(m);
    sheath[1].push_back(coupling.mu0 + (1 - coupling.mu0) / (1 - coupling.chi * std::log(1 - m)));
  }
  plot.add("law", law), plot.add("sheath", sheath);
  plot.body =
      "set multiplot layout 1,2\nset key top right\nset xlabel 'distance d (standard deviations of position)'\n"
      "set ylabel 'coupling {/Symbol k}(d)'\nset title 'Close units influence each other more'\n"
      "set yrange [0:1.05]\nplot $law using 1:2 with lines lw 3 title 'the law'";
  if (coupling.law.kind == CouplingLaw::screened_power)
    plot.body +=
        ", $law using 1:3 with lines dt 2 lw 1.5 title 'power alone', $law using 1:4 with lines dt 3 lw 1.5 "
        "title 'exponential alone'";
  plot.body += fmt::format(
      "\nset xlabel 'myelin m = 1 - g'\nset ylabel 'factor {{/Symbol m}}(m)'\n"
      "set title 'Myelinated units influence and feel less'\nset arrow 1 from 0,{0} to 1,{0} nohead dt 2 lc rgb "
      "'#888888'\nplot $sheath using 1:2 with lines lw 3 lt 2 title '{{/Symbol m}}_0 = {0:.2g}, {{/Symbol c}} = "
      "{1:.2g}'\n"
      "unset multiplot",
      coupling.mu0, coupling.chi);
  return plot;
}

Plot units_figure(const Layer& layer, const models::CouplingOptions& coupling, size_t n) {
  Plot plot{"units", 700, 600};
  std::vector<std::vector<double>> points(5);
  const auto axes = static_cast<size_t>(coupling.axes);
  // a disc of the median unit fills about half of its place on the grid
  const double radius = 1.1 / std::sqrt(static_cast<double>(n));
  for (size_t i = 0; i < n; ++i) {
    const auto at = [&](size_t a) { return a < axes ? static_cast<double>(layer.positions[i * axes + a]) : 0.0; };
    points[0].push_back(at(0)), points[1].push_back(at(1)), points[2].push_back(at(2));
    points[3].push_back(radius * std::sqrt(layer.size(i))), points[4].push_back(layer.myelin(i));
  }
  plot.add("units", points);
  plot.body =
      "unset key\nset size ratio -1\nset xlabel 'position, axis 1 (standard deviations)'\n"
      "set ylabel 'position, axis 2 (standard deviations)'\nset cblabel 'myelin m'\nset cbrange [0:1]\n"
      "set palette defined (0 '#d1495b', 0.5 '#f2e8cf', 1 '#1f6f8b')\n"
      "set title 'Units: the area of a disc is the size, its colour the myelin'\n";
  plot.body += axes == 3 ? "set zlabel 'axis 3'\nset ticslevel 0\nset view 60,35\nset size noratio\n"
                           "splot $units using 1:2:3:(30*$4):5 with points pt 7 ps variable palette"
                         : "plot $units using 1:2:4:5 with circles fill solid noborder palette";
  return plot;
}

Plot spectrum_figure(const std::vector<double>& values, const Layer& layer) {
  Plot plot{"spectrum", 800, 500};
  std::vector<std::vector<double>> columns(2);
  for (size_t i = 0; i < values.size(); ++i)
    columns[0].push_back(static_cast<double>(i + 1)), columns[1].push_back(values[i] / layer.norm);
  plot.add("spectrum", columns);
  plot.body = fmt::format(
      "unset key\nset xlabel 'eigenvalue, by rank'\nset ylabel 'eigenvalue of K / spectral norm'\n"
      "set title 'Spectrum of K: spectral norm {:.4g}, Z {:.4g}'\nset xrange [0:{}]\nset xzeroaxis lt 6\n"
      "plot $spectrum with linespoints pt 7 ps 0.6 lw 1.5",
      layer.norm, layer.scale, values.size() + 1);
  return plot;
}

void show(const ShowOptions& options) {
  const auto [name, coupling, layer] = options.checkpoint.empty() ? from_options(options) : from_checkpoint(options);
  const size_t n = layer.log_size.size();
  const std::vector<double> values = spectrum(layer, n);
  options.common.say("{}{} units{}: spectral norm |K| {:.6g}, Z {:.6g}; eigenvalues from {:.4g} to {:.4g}",
                     name.empty() ? "" : name + ", ", n, coupling.learned && !name.empty() ? ", learned" : "",
                     layer.norm, layer.scale, values.back(), values.front());
  if (!options.out.empty()) {
    std::filesystem::create_directories(options.out);
    for (const Plot& plot : {law_figure(coupling), units_figure(layer, coupling, n), spectrum_figure(values, layer)})
      options.common.say("{}", draw(options.out, plot));
  }
  nlohmann::ordered_json result = {{"units", n}, {"norm", layer.norm}, {"scale", layer.scale}, {"eigenvalues", values}};
  if (!name.empty()) result["layer"] = name;
  options.common.print(result);
}

}  // namespace

void add_coupling(CLI::App& app) {
  auto* coupling = subcommand(app, "coupling", "Coupling between the units of a layer");
  coupling->require_subcommand(1);
  auto options = std::make_shared<ShowOptions>();
  auto* command = subcommand(*coupling, "show", "Draws the law, the units with size and myelin, and K's spectrum");
  CLI::Option* checkpoint =
      command->add_option("--checkpoint", options->checkpoint, "Shows the geometry of a coupled layer of this file");
  command->add_option("--layer", options->layer, "Which one (block2.norm); the first where it is not given")
      ->needs(checkpoint);
  checkpoint->excludes(command->add_option("config", options->config, "TOML file of `ranvier train`"));
  command->add_flag("--json", options->common.json, "One JSON object on standard output");
  checkpoint->excludes(
      command->add_option("--seed", options->common.seed, "Seed of sizes and myelin")->check(not_below_zero));
  command->add_option("--device", options->common.device, "auto, cpu or cuda")->capture_default_str();
  command->add_option("--threads", options->common.threads, "CPU threads, 0 for all cores");
  checkpoint->excludes(command->add_option("--units", options->units, "Units of the layer")->capture_default_str());
  command->add_option("--out", options->out, "Folder for the pictures");
  for (const Key& key : train_keys()) {
    if (!std::string_view(key.name).starts_with("coupling_")) continue;
    const auto keep = [options, &key](const std::string& text) { options->overrides.emplace_back(&key, text); };
    checkpoint->excludes(command->add_option_function<std::string>(flag_of(key), keep, key.help)->take_last());
  }
  command->callback([options] { show(*options); });
}

}  // namespace ranvier::cli
