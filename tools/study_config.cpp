// Designs of studies from TOML, and the recipes of their arms.
#include "tools/study_config.h"

#include <toml++/toml.h>
#include <algorithm>
#include <cmath>
#include <set>

#include "data/files.h"
#include "models/robust/paired.h"
#include "tools/robustness.h"

namespace ranvier::cli {
namespace {

/// Reads keys of one table and knows which it has not read.
class Reader {
 public:
  Reader(const toml::table& table, std::string file) : table_(table), file_(std::move(file)) {}

  template <class T>
  void read(const char* key, T& value) {
    seen_.insert(key);
    const toml::node* node = table_.get(key);
    if (!node) return;
    value = value_of<T>(*node, key);
  }
  template <class T>
  void read(const char* key, std::vector<T>& values) {
    seen_.insert(key);
    const toml::node* node = table_.get(key);
    if (!node) return;
    if (!node->is_array()) refuse(*node, key, "must be a list");
    values.clear();
    for (const toml::node& item : *node->as_array()) values.push_back(value_of<T>(item, key));
  }
  const toml::node* node(const char* key) {
    seen_.insert(key);
    return table_.get(key);
  }
  void no_others() const {
    for (const auto& [key, node] : table_)
      if (!seen_.contains(std::string(key.str())))
        throw UsageError(fmt::format("{}:{}: unknown key '{}'", file_, node.source().begin.line, key.str()));
  }

 private:
  [[noreturn]] void refuse(const toml::node& node, const char* key, const char* why) const {
    throw UsageError(fmt::format("{}:{}: {} {}", file_, node.source().begin.line, key, why));
  }
  template <class T>
  T value_of(const toml::node& node, const char* key) const {
    if constexpr (std::is_same_v<T, std::string>) {
      if (!node.is_string()) refuse(node, key, "must be text");
      return node.value<std::string>().value();
    } else if constexpr (std::is_same_v<T, int64_t>) {
      if (!node.is_integer()) refuse(node, key, "must be a whole number");
      return node.value<int64_t>().value();
    } else {
      if (!node.is_number()) refuse(node, key, "must be a number");
      return node.value<double>().value();
    }
  }

  const toml::table& table_;
  std::string file_;
  std::set<std::string> seen_;
};

Arm read_arm(const toml::table& table, const std::string& file) {
  Reader reader(table, file);
  Arm arm;
  reader.read("name", arm.name);
  reader.read("kind", arm.kind);
  reader.read("strengths", arm.strengths);
  reader.read("sites", arm.sites);
  reader.read("geometry", arm.geometry);
  reader.read("factors", arm.factors);
  reader.read("sign", arm.sign);
  reader.no_others();
  return arm;
}

void require(bool holds, const std::string& file, const std::string& message) {
  if (!holds) throw UsageError(fmt::format("{}: {}", file, message));
}

void check_power(const StudyConfig& c, const std::string& file) {
  const auto pairs = static_cast<int64_t>(c.seeds.size());
  const double least = robust::least_sign_flip_p(pairs) * static_cast<double>(c.comparisons());
  int64_t enough = pairs;
  while (robust::least_sign_flip_p(enough) * static_cast<double>(c.comparisons()) > 0.05) ++enough;
  require(
      least <= 0.05, file,
      fmt::format("{} seeds and {} comparisons: the smallest Holm-adjusted p of the sign-flip test would be {:.3f}, "
                  "so nothing could ever be found at 0.05; {} seeds are enough",
                  pairs, c.comparisons(), least, enough));
}

void check(const StudyConfig& c, const std::string& file) {
  require(c.model == "tiny" || c.model == "speednet", file,
          fmt::format("model = '{}': studies know tiny and speednet", c.model));
  const auto at_least = [&](const char* key, int64_t value, int64_t least) {
    require(value >= least, file, fmt::format("{} = {}: must be at least {}", key, value, least));
  };
  at_least("epochs", c.epochs, 1);
  at_least("batch", c.batch, 1);
  at_least("limit", c.limit, 0);
  at_least("held_out", c.held_out, 10);
  at_least("images", c.images, 2);
  at_least("strong_images", c.strong_images, 1);
  at_least("square_queries", c.square_queries, 1);
  at_least("tuning.epochs", c.tuning_epochs, 1);
  at_least("tuning.seed", c.tuning_seed, 0);
  require(c.low_data >= 0 && c.low_data < 1, file, fmt::format("low_data = {}: must be from 0 to below 1", c.low_data));
  at_least("number of arms", static_cast<int64_t>(c.arms.size()), 2);
  for (const Arm& arm : c.arms) {
    check_arm(arm, c.model, file);
    require(std::count_if(c.arms.begin(), c.arms.end(), [&](const Arm& a) { return a.name == arm.name; }) == 1, file,
            fmt::format("two arms are called '{}'", arm.name));
  }
  const std::set<int64_t> distinct(c.seeds.begin(), c.seeds.end());
  require(distinct.size() == c.seeds.size(), file, "seeds: a seed comes twice");
  require(distinct.empty() || *distinct.begin() >= 0, file, "seeds: a seed is negative");
  require(!distinct.contains(c.tuning_seed), file,
          fmt::format("tuning.seed = {} is one of the seeds: strengths must be chosen on another", c.tuning_seed));
  const auto known = [&](const std::string& name) {
    return std::any_of(c.arms.begin(), c.arms.end(), [&](const Arm& a) { return a.name == name; });
  };
  require(known(c.treatment), file, fmt::format("treatment = '{}': no arm has this name", c.treatment));
  require(!c.falsifier.empty(), file, "falsifier is empty: say which arms the treatment must beat");
  for (const std::string& name : c.falsifier)
    require(known(name) && name != c.treatment, file, fmt::format("falsifier '{}': no other arm has this name", name));
  require(c.primary == "corruption_accuracy" || c.primary == "test_accuracy", file,
          fmt::format("primary = '{}': must be corruption_accuracy or test_accuracy", c.primary));
  require(c.tuning_metric == "corruption_accuracy" || c.tuning_metric == "accuracy", file,
          fmt::format("tuning.metric = '{}': must be corruption_accuracy or accuracy", c.tuning_metric));
  for (const std::string& name : c.strong_attacks)
    require(std::find(attack_names().begin(), attack_names().end(), name) != attack_names().end(), file,
            fmt::format("strong_attacks: no attack '{}'; known are {}", name, fmt::join(attack_names(), ", ")));
  check_power(c, file);
}

}  // namespace

const Arm& StudyConfig::arm(const std::string& name) const {
  return *std::find_if(arms.begin(), arms.end(), [&](const Arm& a) { return a.name == name; });
}

StudyConfig parse_study(std::string_view text, const std::string& file) {
  toml::table table;
  try {
    table = toml::parse(text, file);
  } catch (const toml::parse_error& error) {
    throw UsageError(fmt::format("{}:{}: {}", file, error.source().begin.line, error.description()));
  }
  StudyConfig c;
  c.text = text;
  c.strong_attacks = {"pgd50x10", "apgd-ce", "apgd-t", "square"};
  Reader reader(table, file);
  reader.read("model", c.model);
  reader.read("claim", c.claim);
  reader.read("epochs", c.epochs);
  reader.read("batch", c.batch);
  reader.read("limit", c.limit);
  reader.read("held_out", c.held_out);
  reader.read("seeds", c.seeds);
  reader.read("images", c.images);
  reader.read("strong_images", c.strong_images);
  reader.read("strong_attacks", c.strong_attacks);
  reader.read("square_queries", c.square_queries);
  reader.read("low_data", c.low_data);
  reader.read("treatment", c.treatment);
  reader.read("primary", c.primary);
  reader.read("falsifier", c.falsifier);
  if (const toml::node* tuning = reader.node("tuning")) {
    if (!tuning->is_table()) throw UsageError(fmt::format("{}: tuning must be a table [tuning]", file));
    Reader inner(*tuning->as_table(), file);
    inner.read("epochs", c.tuning_epochs);
    inner.read("seed", c.tuning_seed);
    inner.read("metric", c.tuning_metric);
    inner.no_others();
  }
  if (const toml::node* arms = reader.node("arm")) {
    if (!arms->is_array_of_tables()) throw UsageError(fmt::format("{}: arm must be tables [[arm]]", file));
    for (const toml::node& arm : *arms->as_array()) c.arms.push_back(read_arm(*arm.as_table(), file));
  }
  reader.no_others();
  check(c, file);
  return c;
}

StudyConfig read_study(const std::string& path) {
  const std::vector<uint8_t> bytes = data::read_file(path, 1 << 20);
  return parse_study({reinterpret_cast<const char*>(bytes.data()), bytes.size()}, path);
}

}  // namespace ranvier::cli
