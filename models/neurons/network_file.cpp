// Networks from TOML.
#include <toml++/toml.h>
#include <cmath>
#include <filesystem>
#include <set>

#include "engine/draws.h"
#include "models/neurons/connectivity.h"
#include "models/neurons/current.h"
#include "models/neurons/field_file.h"
#include "models/neurons/keys.h"
#include "models/neurons/networks.h"
#include "models/neurons/presets.h"

namespace ranvier::neuron {
namespace {

void read_head(Keys keys, NamedNetwork& n, const NetworkOverrides& o) {
  NetworkSpec& s = n.spec;
  n.title = keys.text("title", "");
  const Mode own_mode = mode_named(keys.text("mode", "accurate"));
  s.mode = o.mode.value_or(own_mode);
  if (printed(own_mode)) keys.useless({"solver"}, fmt::format("in mode {}, which is printed", name(own_mode)));
  s.solver = o.solver.value_or(solver_named(keys.text("solver", "rk4")));
  s.precision = o.precision.value_or(precision_named(keys.text("precision", "f64")));
  s.dt = o.dt.value_or(keys.number("dt_ms", 0.1));
  const int64_t seed = keys.integer("seed", 0);
  if (seed < 0) fail("{}: seed = {} is negative", keys.where(), seed);
  s.seed = o.seed.value_or(static_cast<uint64_t>(seed));
  n.duration = o.duration.value_or(keys.number("duration_ms", 1000));
  if (!(s.dt > 0)) fail("{}: dt_ms = {} is not positive", keys.where(), s.dt);
  if (!(n.duration > 0)) fail("{}: duration_ms = {} is not positive", keys.where(), n.duration);
  if (keys.has("kick"))
    s.kick = Kick{keys.number("kick", 0), keys.number("kick_ms", 1)};
  else
    keys.useless({"kick_ms"}, "without kick");
  keys.finish();
}

void read_current(Keys& keys, const NamedNetwork& n, PopulationSpec& p) {
  PopulationCurrent current = parse_population_current(keys.text("current", "0"), p.size, n.duration);
  p.current = current.shared, p.current_each = std::move(current.each), p.processes = std::move(current.processes);
  Process noise;
  if (!keys.has("noise_sd")) return keys.useless({"noise_dt_ms"}, "without noise_sd");
  noise.deviation = keys.number("noise_sd", 0), noise.interval = keys.number("noise_dt_ms", 1);
  if (noise.deviation < 0) fail("{}: noise_sd = {} is negative", keys.where(), noise.deviation);
  if (!(noise.interval > 0)) fail("{}: noise_dt_ms = {} is not positive", keys.where(), noise.interval);
  if (!p.processes.empty()) noise.stream = "current/noise-sd";
  if (noise.deviation > 0) p.processes.push_back(noise);
}

void read_population(Keys keys, NamedNetwork& n, const std::filesystem::path& folder, std::vector<FieldPlan>& cells) {
  PopulationSpec p;
  p.name = keys.need("name");
  p.size = keys.integer("size", 1);
  if (p.size < 1) fail("{}: size = {} is not positive", keys.where(), p.size);
  Preset cell = preset(keys.text("preset", "rs2003"));
  set_parameters(cell, keys.text("params", ""));
  p.parameters = cell.parameters, p.v0 = cell.start_v(), p.u0 = cell.start_u();
  check_memory({{p.name, static_cast<uint64_t>(p.size), 48}}, n.spec.memory_limit);  // before anything is drawn
  read_current(keys, n, p);
  if (const toml::table* each = keys.table("each"))  // a parameter of every neuron, drawn
    for (const auto& [key, value] : *each) {
      const std::string name(key.str()), where = keys.where() + ".each." + name;
      const auto text = value.value<std::string>();
      if (!text) fail("{}: is not a text such as 'uniform 0.02 0.1'", where);
      p.each[name] = drawn(*text, where, p.size, n.spec.seed, "network/" + p.name + "/" + name);
    }
  cells.push_back({p.name, p.size, n.spec.seed, keys.table("field"), keys.where() + ".field", folder});
  keys.finish();
  n.spec.populations.push_back(std::move(p));
}

int population_named(const NetworkSpec& s, const std::string& name, const std::string& where) {
  for (size_t p = 0; p < s.populations.size(); ++p)
    if (s.populations[p].name == name) return static_cast<int>(p);
  fail("{}: there is no population '{}'", where, name);
}

void read_plasticity(Keys& keys, ProjectionSpec& p) {
  if (const toml::table* table = keys.table("short_term")) {
    Keys k(*table, keys.where() + ".short_term", "short_term");
    p.short_term =
        ShortTermRule{k.number("U", 0.5), k.number("tau_depression_ms", 800), k.number("tau_facilitation_ms", 0)};
    k.finish();
  }
  if (const toml::table* table = keys.table("stdp")) {
    Keys k(*table, keys.where() + ".stdp", "stdp");
    const std::string rule = k.text("rule", "pair");
    if (rule != "pair" && rule != "2006") fail("{}: rule '{}' is not one of pair, 2006", k.where(), rule);
    StdpRule r = rule == "2006" ? StdpRule::published_2006() : StdpRule{};
    r.plus = k.number("plus", r.plus), r.minus = k.number("minus", r.minus);
    r.tau_plus = k.number("tau_plus_ms", r.tau_plus), r.tau_minus = k.number("tau_minus_ms", r.tau_minus);
    r.low = k.number("low", r.low), r.high = k.number("high", r.high);
    r.nearest = k.flag("nearest", r.nearest);
    k.finish();
    p.stdp = r;
  }
}

/// Time constants and reversal of the receptor, as far as it has them.
void read_receptor(Keys& keys, SynapseModel& m) {
  namespace sy = kernels::synapse;
  const std::string without = fmt::format("on a synapse '{}'", name(m.kind));
  if (m.kind == sy::Kind::pulse)
    keys.useless({"tau_ms"}, without);
  else
    m.tau = keys.number("tau_ms", m.tau);
  if (sy::states(m.kind) < 2)
    keys.useless({"tau_rise_ms"}, without);
  else
    m.tau_rise = keys.number("tau_rise_ms", m.tau_rise);
  if (!sy::is_conductance(m.kind))
    keys.useless({"reversal_mv"}, without);
  else
    m.reversal = keys.number("reversal_mv", m.reversal);
}

double need_number(Keys& keys, const char* key) {
  if (!keys.has(key)) fail("{}: {} is missing", keys.where(), key);
  return keys.number(key, 0);
}

/// The rule with what it needs; what only another one needs is refused.
void read_rule(Keys& keys, ConnectSpec& c) {
  Rule& r = c.rule;
  const std::string text = keys.need("rule"), without = fmt::format("on rule '{}'", text);
  r.kind = rule_named(text);
  const bool sheet = r.kind == Rule::Kind::sheet;
  if (sheet || r.kind == Rule::Kind::probability)
    r.p = need_number(keys, "p");
  else
    keys.useless({"p"}, without);
  if (r.kind == Rule::Kind::in_degree || r.kind == Rule::Kind::out_degree)
    need_number(keys, "degree"), r.degree = keys.integer("degree", 0);
  else
    keys.useless({"degree"}, without);
  if (!c.same)
    keys.useless({"self"}, "between two populations");
  else if (r.kind == Rule::Kind::one_to_one)
    keys.useless({"self"}, without);
  else
    r.self = keys.flag("self", r.self);
  if (sheet)
    r.sigma = need_number(keys, "sigma_mm"), r.cutoff = keys.number("cutoff_mm", r.cutoff);
  else
    keys.useless({"sigma_mm", "cutoff_mm"}, without);
  if (sheet || c.weight.kind == Draw::Kind::distance || c.delay.kind == Draw::Kind::distance)
    r.width = keys.number("width_mm", r.width), r.wrap = keys.flag("wrap", r.wrap);
  else
    keys.useless({"width_mm", "wrap"}, without + " without a draw by distance");
}

/// A projection whose synapses are still to be made.
struct Planned {
  ProjectionSpec projection;
  ConnectSpec connect;
  std::string csv, sonata, edges;
};

Planned plan_projection(Keys keys, const NetworkSpec& s, const std::filesystem::path& folder) {
  Planned plan;
  ProjectionSpec& p = plan.projection;
  ConnectSpec& c = plan.connect;
  const std::string source = keys.need("source"), target = keys.need("target");
  p.source = population_named(s, source, keys.where()), p.target = population_named(s, target, keys.where());
  p.name = c.name = keys.text("name", source + "_" + target);
  c.sources = s.populations[p.source].size, c.targets = s.populations[p.target].size, c.same = p.source == p.target;
  c.dt = s.dt, c.seed = s.seed;
  p.synapse = synapse_named(keys.text("synapse", "exponential"));
  read_receptor(keys, p.synapse);
  c.weight = parse_draw(keys.text("weight", "1"), keys.where() + ".weight");
  c.delay = parse_draw(keys.text("delay_ms", "1"), keys.where() + ".delay_ms");
  const auto file = [&](const char* key) {
    return keys.has(key) ? (folder / keys.text(key, "")).string() : std::string();
  };
  c.weight_given = keys.has("weight"), c.delay_given = keys.has("delay_ms");
  plan.csv = file("csv"), plan.sonata = file("sonata");
  if (plan.sonata.empty())
    keys.useless({"edges"}, "without sonata");
  else
    keys.useless({"csv"}, "beside sonata"), plan.edges = keys.text("edges", "");
  if (plan.csv.empty() && plan.sonata.empty())
    read_rule(keys, c);
  else
    keys.useless({"rule", "p", "degree", "self", "sigma_mm", "cutoff_mm", "width_mm", "wrap"},
                 fmt::format("on the list {}", plan.csv.empty() ? plan.sonata : plan.csv));
  read_plasticity(keys, p);
  c.whole_delays = p.stdp || s.mode != Mode::accurate;
  keys.finish();
  return plan;
}

Connections made(const Planned& plan) {
  if (!plan.csv.empty()) return read_edges_csv(plan.csv, plan.connect);
  if (!plan.sonata.empty()) return read_edges_sonata(plan.sonata, plan.edges, plan.connect);
  return connect(plan.connect);
}

/// Calls body(keys) for every [[key]].
template <class Body>
void for_each_table(const toml::table& file, const char* key, const std::string& path, Body&& body) {
  if (!file.contains(key)) return;
  const auto* list = file[key].as_array();
  if (!list || !list->is_array_of_tables()) fail("{}: write [[{}]]", path, key);
  int64_t i = 0;
  for (const auto& item : *list) body(Keys(*item.as_table(), fmt::format("{}: {} {}", path, key, ++i), key));
}

}  // namespace

NamedNetwork read_network(const std::string& path, const NetworkOverrides& overrides) {
  if (std::error_code error; !std::filesystem::is_regular_file(path, error))
    fail("{}: {}", path, std::filesystem::exists(path, error) ? "is no file" : "there is no such file");
  toml::table file;
  try {
    file = toml::parse_file(path);
  } catch (const toml::parse_error& error) {
    fail("{}:{}: {}", path, error.source().begin.line, error.description());
  }
  for (const auto& [key, value] : file)
    if (key != "network" && key != "population" && key != "projection" && key != "field")
      fail("{}: unknown table '{}'", path, key.str());
  NamedNetwork n;
  n.spec.memory_limit = overrides.memory_limit;
  const toml::table nothing;
  const auto* head = file["network"].as_table();
  read_head(Keys(head ? *head : nothing, path + ": network", "network"), n, overrides);
  const std::filesystem::path folder = std::filesystem::path(path).parent_path();
  std::vector<FieldPlan> cells;
  for_each_table(file, "population", path, [&](Keys keys) { read_population(std::move(keys), n, folder, cells); });
  n.spec.field = read_field(file, path, cells, overrides.memory_limit);
  std::vector<Planned> plans;
  std::vector<Sizes> parts;
  for (const auto& p : n.spec.populations)
    parts.push_back({p.name, static_cast<uint64_t>(p.size), 48 + 8 * static_cast<double>(p.each.size())});
  for_each_table(file, "projection", path, [&](Keys keys) {
    plans.push_back(plan_projection(std::move(keys), n.spec, folder));
    const Planned& plan = plans.back();
    // the finished synapse, and its list of targets and weights while it is made; a file's columns and their order too
    const double finished = plan.projection.stdp ? 30.0 : 22.0;
    if (!plan.csv.empty())
      parts.push_back({plan.connect.name, edges_in_csv(plan.csv), finished + 40});
    else if (!plan.sonata.empty())
      parts.push_back({plan.connect.name, edges_in_sonata(plan.sonata, plan.edges), finished + 72});
    else
      parts.push_back({plan.connect.name, expected_synapses(plan.connect), finished});
  });
  check_memory(parts, overrides.memory_limit);
  for (Planned& plan : plans) {
    plan.projection.connections = made(plan);
    n.spec.projections.push_back(std::move(plan.projection));
  }
  return n;
}

}  // namespace ranvier::neuron
