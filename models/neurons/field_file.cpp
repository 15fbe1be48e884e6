// Reads a field: [field], and `field = { ... }` of populations.
#include "models/neurons/field_file.h"

#include <algorithm>
#include <cmath>
#include <fstream>
#include <sstream>

#include "engine/draws.h"
#include "models/neurons/connectivity.h"
#include "models/neurons/keys.h"
#include "models/neurons/presets.h"

namespace ranvier::neuron {
namespace {

/// A list of numbers, `width` each: [1, 2] or [[0, 0, 0], [1, 0, 0]].
std::vector<double> numbers_of(const toml::array& list, size_t width, const std::string& where) {
  std::vector<double> values;
  for (const auto& item : list) {
    const toml::array* row = item.as_array();
    if (width > 1 && (!row || row->size() != width)) fail("{}: write rows of {} numbers", where, width);
    for (size_t a = 0; a < width; ++a) {
      const auto value = width > 1 ? (*row)[a].value<double>() : item.value<double>();
      if (!value) fail("{}: holds what is not a number", where);
      values.push_back(*value);
    }
  }
  return values;
}

std::vector<double> places_of_csv(const std::string& path) {
  std::ifstream file(path);
  if (!file) fail("{}: cannot be read", path);
  std::string line;
  std::getline(file, line);
  if (!line.empty() && line.back() == '\r') line.pop_back();
  if (line != "x_mm,y_mm,z_mm") fail("{}:1: the heading is not x_mm,y_mm,z_mm", path);
  std::vector<double> values;
  for (int64_t n = 2; std::getline(file, line); ++n) {
    if (!line.empty() && line.back() == '\r') line.pop_back();
    std::stringstream items(line);
    size_t count = 0;
    for (std::string item; std::getline(items, item, ','); ++count)
      values.push_back(number(item, fmt::format("{}:{}", path, n)));
    if (count != 3) fail("{}:{}: {} numbers, 3 are wanted", path, n, count);
  }
  return values;
}

/// "box X Y Z": uniform, mm; "grid PITCH": a square sheet; else a file.
std::vector<double> places_of_text(const std::string& text, const FieldPlan& plan) {
  const std::string where = plan.where + ".positions";
  std::istringstream words(text);
  std::string kind, word;
  words >> kind;
  std::vector<double> sizes;
  if (kind == "box" || kind == "grid")
    while (words >> word) sizes.push_back(number(word, where));
  for (double size : sizes)
    if (!(size >= 0) || std::isinf(size)) fail("{}: '{}' has a length of {}", where, text, size);
  if (!sizes.empty() && std::all_of(sizes.begin(), sizes.end(), [](double size) { return size == 0; }))
    fail("{}: '{}' puts every cell in one place; a length must be above 0", where, text);
  std::vector<double> places;
  if (kind == "box" && sizes.size() == 3) {
    const Draws draws(plan.seed, "network/" + plan.name + "/positions");
    for (int64_t i = 0; i < plan.size; ++i)
      for (uint64_t a = 0; a < 3; ++a) places.push_back(sizes[a] * draws.uniform53(a, static_cast<uint64_t>(i)));
    return places;
  }
  if (kind == "grid" && sizes.size() == 1) {
    const auto side = static_cast<int64_t>(std::ceil(std::sqrt(static_cast<double>(plan.size)) - 1e-9));
    for (int64_t i = 0; i < plan.size; ++i)
      for (double at : {static_cast<double>(i % side), static_cast<double>(i / side), 0.0})
        places.push_back(at * sizes[0]);
    return places;
  }
  if (kind == "box" || kind == "grid") fail("{}: '{}' is neither 'box X Y Z' nor 'grid PITCH' (mm)", where, text);
  return places_of_csv((plan.folder / text).string());
}

/// A list, or a text that says how to make one.
std::vector<double> values_of(const toml::table& table, const char* key, const FieldPlan& plan, double otherwise) {
  const std::string where = plan.where + "." + key;
  const toml::node* node = table.get(key);
  if (!node) return std::vector<double>(static_cast<size_t>(plan.size), otherwise);
  if (const toml::array* list = node->as_array()) return numbers_of(*list, 1, where);
  std::string text;
  if (const auto value = node->value_exact<std::string>())
    text = *value;
  else if (const auto plain = node->value<double>())
    text = fmt::format("{}", *plain);
  else
    fail("{}: is no number, text or list", where);
  return drawn(text, where, plan.size, plan.seed, "network/" + plan.name + "/" + key);
}

FieldCells cells_of(const FieldPlan& plan, double kappa) {
  Keys keys(*plan.table, plan.where, "cells");
  FieldCells c;
  c.kappa = keys.number("kappa", kappa);
  if (!keys.has("positions")) fail("{}: positions is missing", plan.where);
  keys.has("diameter_um"), keys.has("g_ratio");
  keys.finish();
  const toml::node& positions = *plan.table->get("positions");
  if (const toml::array* list = positions.as_array())
    c.places = numbers_of(*list, 3, plan.where + ".positions");
  else if (const auto text = positions.value_exact<std::string>())
    c.places = places_of_text(*text, plan);
  else
    fail("{}: positions is neither a list nor a text", plan.where);
  if (static_cast<int64_t>(c.places.size()) != 3 * plan.size)
    fail("{}.positions: {} places for {} neurons", plan.where, c.places.size() / 3, plan.size);
  c.diameters = values_of(*plan.table, "diameter_um", plan, 20);
  c.g_ratio = values_of(*plan.table, "g_ratio", plan, 1);
  return c;
}

}  // namespace

std::vector<double> drawn(const std::string& text, const std::string& where, int64_t count, uint64_t seed,
                          const std::string& stream) {
  const Draw d = parse_draw(text, where);
  if (d.kind != Draw::Kind::constant && d.kind != Draw::Kind::uniform && d.kind != Draw::Kind::normal)
    fail("{}: is neither a number nor uniform nor normal", where);
  const Draws draws(seed, stream);
  std::vector<double> values;
  for (int64_t i = 0; i < count; ++i) {
    const auto e = static_cast<uint64_t>(i);
    values.push_back(d.kind == Draw::Kind::constant ? d.a
                     : d.kind == Draw::Kind::uniform
                         ? d.a + (d.b - d.a) * static_cast<double>(draws.uniform(0, e))
                         : std::clamp(d.a + d.b * static_cast<double>(draws.normal(0, e)), d.low, d.high));
  }
  return values;
}

std::optional<FieldSpec> read_field(const toml::table& file, const std::string& path,
                                    const std::vector<FieldPlan>& plans, uint64_t memory_limit) {
  const bool wanted = std::any_of(plans.begin(), plans.end(), [](const FieldPlan& p) { return p.table; });
  if (!file.contains("field")) {
    for (const FieldPlan& p : plans)
      if (p.table) fail("{}: there is no table [field] with its constants", p.where);
    return {};
  }
  const toml::table* table = file["field"].as_table();
  if (!table) fail("{}: field is not a table", path);
  if (!wanted) fail("{}: field: no population has field = {{ positions = ... }}", path);
  Keys keys(*table, path + ": field", "field");
  FieldSpec f;
  f.lambda = keys.number("lambda_mm", f.lambda), f.sigma = keys.number("sigma", f.sigma);
  f.current = keys.number("current_na", f.current), f.reference = keys.number("reference_um", f.reference);
  f.tau = keys.number("tau_ms", f.tau), f.tau_rise = keys.number("tau_rise_ms", f.tau_rise);
  const double kappa = keys.number("kappa", 0);
  keys.finish();
  std::vector<Sizes> parts;
  for (const FieldPlan& p : plans)
    if (p.table) parts.push_back({"field of " + p.name, static_cast<uint64_t>(p.size), Field::bytes_a_cell});
  check_memory(parts, memory_limit);
  for (const FieldPlan& p : plans) f.cells.push_back(p.table ? cells_of(p, kappa) : FieldCells{});
  return f;
}

FieldSpec parse_field(const std::string& text, const std::string& name, int64_t size, uint64_t seed) {
  toml::table whole;
  try {
    whole = toml::parse(fmt::format("cells = {{ {} }}", text));
  } catch (const toml::parse_error& error) {
    fail("field '{}': {}", text, error.description());
  }
  toml::table& cells = *whole["cells"].as_table();
  toml::table constants;  // what is not said of the cells
  for (const auto& [key, value] : cells)
    if (key != "positions" && key != "diameter_um" && key != "g_ratio") constants.insert(key, value);
  for (const auto& [key, value] : constants) cells.erase(key);
  whole.insert("field", constants);
  return *read_field(whole, "--field", {{name, size, seed, &cells, "--field", {}}}, 0);
}

}  // namespace ranvier::neuron
