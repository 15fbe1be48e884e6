// Networks from TOML.
#include <toml++/toml.h>
#include <cmath>
#include <filesystem>
#include <set>

#include "engine/draws.h"
#include "models/neurons/connectivity.h"
#include "models/neurons/current.h"
#include "models/neurons/networks.h"
#include "models/neurons/presets.h"

namespace ranvier::neuron {
namespace {

/// A table whose keys are asked for one by one; what nobody asked for is unknown.
class Keys {
 public:
  Keys(const toml::table& table, std::string where) : table_(table), where_(std::move(where)) {}

  const std::string& where() const { return where_; }
  bool has(const char* key) {
    asked_.insert(key);
    return table_.contains(key);
  }
  double number(const char* key, double otherwise) {
    if (!has(key)) return otherwise;
    const auto value = table_[key].value<double>();
    if (!value || !std::isfinite(*value)) fail("{}: {} is not a number", where_, key);
    return *value;
  }
  int64_t integer(const char* key, int64_t otherwise) {
    if (!has(key)) return otherwise;
    const auto* value = table_[key].as_integer();
    if (!value) fail("{}: {} is not a whole number", where_, key);
    return value->get();
  }
  bool flag(const char* key, bool otherwise) {
    if (!has(key)) return otherwise;
    const auto* value = table_[key].as_boolean();
    if (!value) fail("{}: {} is not true or false", where_, key);
    return value->get();
  }
  std::string text(const char* key, const std::string& otherwise) {
    if (!has(key)) return otherwise;
    if (const auto value = table_[key].value_exact<std::string>()) return *value;
    if (const auto value = table_[key].value<double>()) return fmt::format("{}", *value);
    fail("{}: {} is not a text", where_, key);
  }
  std::string need(const char* key) {
    if (!has(key)) fail("{}: {} is missing", where_, key);
    return text(key, "");
  }
  const toml::table* table(const char* key) {
    if (!has(key)) return nullptr;
    const auto* value = table_[key].as_table();
    if (!value) fail("{}: {} is not a table", where_, key);
    return value;
  }
  void finish() const {
    for (const auto& [key, value] : table_)
      if (!asked_.contains(std::string(key.str()))) fail("{}: unknown key '{}'", where_, key.str());
  }

 private:
  const toml::table& table_;
  std::string where_;
  std::set<std::string> asked_;
};

void read_head(Keys keys, NamedNetwork& n, const NetworkOverrides& o) {
  NetworkSpec& s = n.spec;
  n.title = keys.text("title", "");
  s.mode = o.mode.value_or(mode_named(keys.text("mode", "accurate")));
  s.solver = o.solver.value_or(solver_named(keys.text("solver", "rk4")));
  s.precision = o.precision.value_or(precision_named(keys.text("precision", "f64")));
  s.dt = o.dt.value_or(keys.number("dt_ms", 0.1));
  const int64_t seed = keys.integer("seed", 0);
  s.seed = o.seed.value_or(static_cast<uint64_t>(seed));
  n.duration = o.duration.value_or(keys.number("duration_ms", 1000));
  if (!(s.dt > 0)) fail("{}: dt_ms = {} is not positive", keys.where(), s.dt);
  if (!(n.duration > 0)) fail("{}: duration_ms = {} is not positive", keys.where(), n.duration);
  if (keys.has("kick")) s.kick = Kick{keys.number("kick", 0), keys.number("kick_ms", 1)};
  keys.finish();
}

void read_population(Keys keys, NamedNetwork& n) {
  PopulationSpec p;
  p.name = keys.need("name");
  p.size = keys.integer("size", 1);
  if (p.size < 1) fail("{}: size = {} is not positive", keys.where(), p.size);
  Preset cell = preset(keys.text("neuron", "rs2003"));
  set_parameters(cell, keys.text("params", ""));
  p.parameters = cell.parameters, p.v0 = cell.start_v(), p.u0 = cell.start_u();
  p.current = parse_current(keys.text("current", "0"), {n.spec.seed, 0, n.duration});
  Process noise;
  noise.deviation = keys.number("noise_sd", 0), noise.interval = keys.number("noise_ms", 1);
  if (noise.deviation < 0 || !(noise.interval > 0)) fail("{}: noise_sd or noise_ms is not positive", keys.where());
  if (noise.deviation > 0) p.processes.push_back(noise);
  check_memory({{p.name, static_cast<uint64_t>(p.size), 48}}, n.spec.memory_limit);  // before anything is drawn
  if (const toml::table* each = keys.table("each"))  // a parameter of every neuron, drawn
    for (const auto& [key, value] : *each) {
      const std::string name(key.str()), where = keys.where() + ".each." + name;
      const auto text = value.value<std::string>();
      if (!text) fail("{}: is not a text such as 'uniform 0.02 0.1'", where);
      const Draw d = parse_draw(*text, where);
      if (d.kind != Draw::Kind::uniform && d.kind != Draw::Kind::normal)
        fail("{}: is neither uniform nor normal", where);
      const Draws draws(n.spec.seed, "network/" + p.name + "/" + name);
      for (int64_t i = 0; i < p.size; ++i) {
        const auto e = static_cast<uint64_t>(i);
        p.each[name].push_back(d.kind == Draw::Kind::uniform
                                   ? d.a + (d.b - d.a) * static_cast<double>(draws.uniform(0, e))
                                   : std::clamp(d.a + d.b * static_cast<double>(draws.normal(0, e)), d.low, d.high));
      }
    }
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
    Keys k(*table, keys.where() + ".short_term");
    p.short_term =
        ShortTermRule{k.number("U", 0.5), k.number("tau_depression_ms", 800), k.number("tau_facilitation_ms", 0)};
    k.finish();
  }
  if (const toml::table* table = keys.table("stdp")) {
    Keys k(*table, keys.where() + ".stdp");
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
  p.synapse.tau = keys.number("tau_ms", p.synapse.tau),
  p.synapse.tau_rise = keys.number("tau_rise_ms", p.synapse.tau_rise);
  p.synapse.reversal = keys.number("reversal_mv", p.synapse.reversal);
  c.weight = parse_draw(keys.text("weight", "1"), keys.where() + ".weight");
  c.delay = parse_draw(keys.text("delay_ms", "1"), keys.where() + ".delay_ms");
  const auto file = [&](const char* key) {
    return keys.has(key) ? (folder / keys.text(key, "")).string() : std::string();
  };
  plan.csv = file("csv"), plan.sonata = file("sonata"), plan.edges = keys.text("edges", "");
  if (plan.csv.empty() && plan.sonata.empty()) {
    Rule& r = c.rule;
    r.kind = rule_named(keys.need("rule"));
    r.p = keys.number("p", r.p), r.degree = keys.integer("degree", r.degree), r.self = keys.flag("self", r.self);
    r.width = keys.number("width_mm", r.width), r.sigma = keys.number("sigma_mm", r.sigma);
    r.cutoff = keys.number("cutoff_mm", r.cutoff), r.wrap = keys.flag("wrap", r.wrap);
  }
  read_plasticity(keys, p);
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
  for (const auto& item : *list) body(Keys(*item.as_table(), fmt::format("{}: {} {}", path, key, ++i)));
}

}  // namespace

NamedNetwork read_network(const std::string& path, const NetworkOverrides& overrides) {
  toml::table file;
  try {
    file = toml::parse_file(path);
  } catch (const toml::parse_error& error) {
    fail("{}:{}: {}", path, error.source().begin.line, error.description());
  }
  for (const auto& [key, value] : file)
    if (key != "network" && key != "population" && key != "projection") fail("{}: unknown table '{}'", path, key.str());
  NamedNetwork n;
  n.spec.memory_limit = overrides.memory_limit;
  const toml::table nothing;
  const auto* head = file["network"].as_table();
  read_head(Keys(head ? *head : nothing, path + ": network"), n, overrides);
  for_each_table(file, "population", path, [&](Keys keys) { read_population(std::move(keys), n); });
  std::vector<Planned> plans;
  std::vector<Sizes> parts;
  for (const auto& p : n.spec.populations)
    parts.push_back({p.name, static_cast<uint64_t>(p.size), 48 + 8 * static_cast<double>(p.each.size())});
  for_each_table(file, "projection", path, [&](Keys keys) {
    plans.push_back(plan_projection(std::move(keys), n.spec, std::filesystem::path(path).parent_path()));
    const Planned& plan = plans.back();
    // the finished synapse, and its list of targets and weights while it is made
    if (plan.csv.empty() && plan.sonata.empty())
      parts.push_back({plan.connect.name, expected_synapses(plan.connect), plan.projection.stdp ? 30.0 : 18.0});
  });
  check_memory(parts, overrides.memory_limit);
  for (Planned& plan : plans) {
    plan.projection.connections = made(plan);
    n.spec.projections.push_back(std::move(plan.projection));
  }
  return n;
}

}  // namespace ranvier::neuron
