// Name maps for foreign weights, from TOML or JSON.
#include <toml++/toml.h>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <sstream>

#include "engine/checkpoint.h"
#include "engine/regex.h"

namespace ranvier::checkpoint {
namespace {

using Json = nlohmann::json;

Json read_tree(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  std::stringstream text;
  if (!file || !(text << file.rdbuf())) fail("{}: the name map cannot be read", path);
  try {
    if (std::filesystem::path(path).extension() == ".json") return Json::parse(text.str());
    std::stringstream json;
    json << toml::json_formatter{toml::parse(text.str())};
    return Json::parse(json.str());
  } catch (const toml::parse_error& error) {
    fail("{}:{}: {}", path, error.source().begin.line, error.description());
  } catch (const Json::exception& error) {
    fail("{}: the name map is not JSON: {}", path, error.what());
  }
}

NameRule read_rule(const Json& tree, const std::string& where) {
  if (!tree.is_object()) fail("{}: a rule is a table", where);
  NameRule rule;
  bool named = false;
  for (const auto& [key, value] : tree.items()) {
    const auto need = [&, key = key](bool fits, const char* kind) {
      if (!fits) fail("{}: {} must be {}", where, key, kind);
    };
    if (key == "prefix" || key == "regex") {
      need(value.is_string(), "a text");
      if (named) fail("{}: has both prefix and regex", where);
      named = true, rule.from = value.get<std::string>(), rule.regex = key == "regex";
    } else if (key == "to") {
      need(value.is_string(), "a text"), rule.to = value.get<std::string>();
    } else if (key == "ignore") {
      need(value.is_boolean(), "true or false"), rule.ignore = value.get<bool>();
    } else if (key == "flatten") {
      need(value.is_array() && value.size() == 3, "a list of channels, height and width");
      for (const Json& extent : value) {
        need(extent.is_number_integer() && extent.get<int64_t>() > 0, "three counts above 0");
        rule.flatten.push_back(extent.get<int64_t>());
      }
    } else {
      fail("{}: unknown key {}; known are prefix, regex, to, ignore, flatten", where, safetensors::in_quotes(key));
    }
  }
  if (!named) fail("{}: needs prefix or regex", where);
  if (!rule.ignore && !tree.contains("to")) fail("{}: needs to", where);
  return rule;
}

}  // namespace

std::vector<NameRule> read_name_map(const std::string& path) {
  const Json tree = read_tree(path);
  if (!tree.is_object() || tree.size() != 1 || !tree.contains("rule") || !tree["rule"].is_array())
    fail("{}: a name map holds one list, 'rule'", path);
  std::vector<NameRule> rules;
  for (const Json& rule : tree["rule"]) {
    const std::string where = fmt::format("{}: rule {}", path, rules.size() + 1);
    rules.push_back(read_rule(rule, where));
    if (!rules.back().regex) continue;
    try {
      user_regex(rules.back().from);
    } catch (const std::regex_error& error) {
      fail("{}: the expression {} is none: {}", where, safetensors::in_quotes(rules.back().from), error.what());
    }
  }
  return rules;
}

}  // namespace ranvier::checkpoint
