// Tables of TOML files whose unknown keys are errors.
#pragma once
#include <toml++/toml.h>
#include <cmath>
#include <initializer_list>
#include <set>
#include <string>

#include "engine/error.h"
#include "models/neurons/network_keys.h"

namespace ranvier::neuron {

/// A table whose keys are asked for one by one; what nobody asked for is unknown.
class Keys {
 public:
  /// `kind`: a table of network_keys.h, whose keys are then the only ones that can be asked for.
  Keys(const toml::table& table, std::string where, std::string kind = "")
      : table_(table), where_(std::move(where)), kind_(std::move(kind)) {}

  const std::string& where() const { return where_; }
  bool has(const char* key) {
    if (!kind_.empty() && !is_network_key(kind_, key)) fail("{}: key '{}' is not in network_keys.cpp", where_, key);
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
  /// Refuses a key that would do nothing here.
  void useless(std::initializer_list<const char*> keys, const std::string& why) const {
    for (const char* key : keys)
      if (table_.contains(key)) fail("{}: {} has no effect {}", where_, key, why);
  }
  void finish() const {
    for (const auto& [key, value] : table_)
      if (!asked_.contains(std::string(key.str()))) fail("{}: unknown key '{}'", where_, key.str());
  }

 private:
  const toml::table& table_;
  std::string where_, kind_;
  std::set<std::string> asked_;
};

}  // namespace ranvier::neuron
