// Reading, checking and writing of training configurations.
#include "tools/config.h"

#include <toml++/toml.h>

#include <algorithm>
#include <charconv>
#include <cmath>
#include <sstream>

#include "data/files.h"
#include "engine/regex.h"

namespace ranvier::cli {
namespace {

using Config = TrainConfig;

std::string at(const std::string& name, const toml::node& node) {
  return fmt::format("{}:{}", name, node.source().begin.line);
}

template <class T>
T value_of(const std::string& name, std::string_view key, const toml::node& node, const char* wanted) {
  if constexpr (std::is_same_v<T, double>) {
    if (!node.is_number()) throw UsageError(fmt::format("{}: {} must be {}", at(name, node), key, wanted));
    return *node.value<double>();
  } else {
    if (!node.is<T>()) throw UsageError(fmt::format("{}: {} must be {}", at(name, node), key, wanted));
    return *node.value<T>();
  }
}

void set_key(const Key& key, const std::string& name, const toml::node& node, Config& config) {
  std::visit(
      [&](auto member) {
        using Member = std::remove_reference_t<decltype(config.*member)>;
        if constexpr (std::is_same_v<Member, std::string>)
          config.*member = value_of<std::string>(name, key.name, node, "a string");
        else if constexpr (std::is_same_v<Member, std::optional<double>>)
          config.*member = value_of<double>(name, key.name, node, "a number");
        else if constexpr (std::is_same_v<Member, std::optional<bool>>)
          config.*member = value_of<bool>(name, key.name, node, "true or false");
        else
          config.*member = value_of<int64_t>(name, key.name, node, "a whole number");
      },
      key.member);
}

/// The keys of one [[optimizer]] table.
struct RuleKeys {
  std::string pattern, method = "sgd", schedule = "triangle";
  double lr = 0.1, warmup = 0, last = 0, until = 1, momentum = 0.9, weight_decay = 0, beta1 = 0.9, beta2 = 0.999,
         eps = 1e-8;
  bool nesterov = true, renormalize = false, frozen = false;
  int64_t iterations = 5;
};

optim::Schedule schedule_of(const RuleKeys& k, const std::string& where) {
  if (k.schedule == "constant") return k.lr;
  if (k.schedule == "triangle") return optim::triangle(k.lr, k.warmup, k.last);
  if (k.schedule == "linear") return optim::linear(k.lr, k.last, k.until);
  if (k.schedule == "cosine") return optim::cosine(k.lr, k.warmup, k.last);
  throw UsageError(fmt::format("{}: schedule '{}' is none of constant, triangle, linear, cosine", where, k.schedule));
}

void check_ranges(const RuleKeys& k, const std::string& where) {
  const auto in_range = [&](const char* key, double value, double low, double high, const char* wanted) {
    if (!(value >= low && value <= high))
      throw UsageError(fmt::format("{}: optimizer.{} = {}: must be {}", where, key, value, wanted));
  };
  constexpr double below_one = 0.9999999;
  in_range("lr", k.lr, 0, 1e6, "0 or more");
  in_range("last", k.last, 0, 1e6, "0 or more");
  in_range("warmup", k.warmup, 0, 1, "from 0 to 1");
  in_range("until", k.until, 0, 1, "from 0 to 1");
  in_range("momentum", k.momentum, 0, below_one, "from 0 to below 1");
  in_range("weight_decay", k.weight_decay, 0, 1e6, "0 or more");
  in_range("beta1", k.beta1, 0, below_one, "from 0 to below 1");
  in_range("beta2", k.beta2, 0, below_one, "from 0 to below 1");
  in_range("eps", k.eps, 1e-30, 1, "above 0");
  in_range("iterations", static_cast<double>(k.iterations), 1, 100, "from 1 to 100");
  try {
    user_regex(k.pattern);
  } catch (const std::regex_error&) {
    throw UsageError(fmt::format("{}: optimizer.pattern '{}' is not a regular expression", where, k.pattern));
  }
}

optim::Rule rule_of(const toml::table& table, const std::string& name) {
  RuleKeys k;
  const std::string where = at(name, table);
  for (const auto& [key, node] : table) {
    const std::string_view text = key.str();
    const auto number = [&] { return value_of<double>(name, text, node, "a number"); };
    if (text == "pattern")
      k.pattern = value_of<std::string>(name, text, node, "a string");
    else if (text == "method")
      k.method = value_of<std::string>(name, text, node, "a string");
    else if (text == "schedule")
      k.schedule = value_of<std::string>(name, text, node, "a string");
    else if (text == "lr")
      k.lr = number();
    else if (text == "warmup")
      k.warmup = number();
    else if (text == "last")
      k.last = number();
    else if (text == "until")
      k.until = number();
    else if (text == "momentum")
      k.momentum = number();
    else if (text == "weight_decay")
      k.weight_decay = number();
    else if (text == "beta1")
      k.beta1 = number();
    else if (text == "beta2")
      k.beta2 = number();
    else if (text == "eps")
      k.eps = number();
    else if (text == "nesterov")
      k.nesterov = value_of<bool>(name, text, node, "true or false");
    else if (text == "renormalize")
      k.renormalize = value_of<bool>(name, text, node, "true or false");
    else if (text == "iterations")
      k.iterations = value_of<int64_t>(name, text, node, "a whole number");
    else if (text == "frozen")
      k.frozen = value_of<bool>(name, text, node, "true or false");
    else
      throw UsageError(fmt::format("{}: unknown key optimizer.{}", at(name, node), text));
  }
  check_ranges(k, where);
  if (k.frozen) return {k.pattern, optim::Frozen{}};
  const optim::Schedule lr = schedule_of(k, where);
  if (k.method == "sgd") return {k.pattern, optim::Sgd{lr, k.momentum, k.nesterov, k.weight_decay}};
  if (k.method == "adamw") return {k.pattern, optim::AdamW{lr, k.beta1, k.beta2, k.eps, k.weight_decay}};
  if (k.method == "muon")
    return {k.pattern,
            optim::Muon{lr, k.momentum, k.nesterov, static_cast<int>(k.iterations), k.renormalize, k.weight_decay}};
  throw UsageError(fmt::format("{}: optimizer.method '{}' is none of sgd, adamw, muon", where, k.method));
}

void require(bool good, const char* key, const std::string& value, const char* wanted) {
  if (!good) throw UsageError(fmt::format("{} = {}: must be {}", key, value, wanted));
}

/// Applies rate, momentum and decay of the configuration to every rule of the recipe.
void adjust(models::Recipe& recipe, const Config& config) {
  for (optim::Rule& rule : recipe.optimizer.rules)
    std::visit(
        [&](auto& method) {
          using Method = std::remove_reference_t<decltype(method)>;
          if constexpr (!std::is_same_v<Method, optim::Frozen>) {
            if (config.lr) {
              double peak = 0;
              for (const auto& point : method.lr.points) peak = std::max(peak, point.value);
              if (peak > 0) method.lr = method.lr.scaled(*config.lr / peak);
            }
            if (config.weight_decay) method.weight_decay = *config.weight_decay;
            if constexpr (!std::is_same_v<Method, optim::AdamW>)
              if (config.momentum) method.momentum = *config.momentum;
          }
        },
        rule.method);
}

}  // namespace

const std::vector<Key>& train_keys() {
  static const std::vector<Key> keys = {
      {"model", "tiny, speednet or resnet18", &Config::model},
      {"data", "Image folder, binary batches or the official archive", &Config::data},
      {"out", "Run folder (default runs/<model>-<n>)", &Config::out},
      {"epochs", "Passes over the training images", &Config::epochs},
      {"batch", "Images a step", &Config::batch},
      {"limit", "Train on the first N images after the seeded shuffle", &Config::limit},
      {"seed", "Seed of every random stream", &Config::seed},
      {"device", "auto, cpu or cuda", &Config::device},
      {"precision", "f32, tf32, bf16 or f16 (default: bf16 on CUDA, f32 on the CPU)", &Config::precision},
      {"threads", "CPU threads, 0 for all cores", &Config::threads},
      {"variant", "Which variant runs an op, e.g. conv2d=native", &Config::variant},
      {"weights", "Start from the weights of this safetensors file (PyTorch's names and layout too)", &Config::weights},
      {"name_map", "TOML or JSON file of rules from the names in `weights` to ours", &Config::name_map},
      {"lr", "Peak learning rate", &Config::lr},
      {"momentum", "Momentum of SGD and Muon", &Config::momentum},
      {"weight_decay", "Weight decay", &Config::weight_decay},
      {"label_smoothing", "Share of the target spread over all classes", &Config::label_smoothing},
      {"clip_norm", "Scale gradients down to this global norm", &Config::clip_norm},
      {"ema_decay", "Keep an average of the weights with this decay and evaluate it", &Config::ema_decay},
      {"accumulate", "Batches whose gradients are averaged for an update", &Config::accumulate},
      {"flip", "Random mirror images (true or false)", &Config::flip},
      {"translate", "Random shift by up to so many pixels", &Config::translate},
      {"cutout", "Side of a square set to the mean in every image", &Config::cutout},
      {"coupling",
       "Coupling of a layer's units: energy, covariance or epistatic-penalty (on the loss), ephaptic or epistatic (on "
       "activations)",
       &Config::coupling},
      {"sites", "Layers after which units are coupled: conv2,conv3 (with their norm and pool) or paths as block2.norm",
       &Config::sites},
      {"strength", "Strength of the coupling; below 0 it makes neighbours alike", &Config::strength},
      {"coupling_law", "screened-power or gaussian", &Config::coupling_law},
      {"coupling_length", "Length of the law; positions have variance 1", &Config::coupling_length},
      {"coupling_decay", "Length of the law's exponential (inf: none)", &Config::coupling_decay},
      {"coupling_power", "Power of the law beyond its length", &Config::coupling_power},
      {"coupling_softening", "Added to every distance, in quadrature", &Config::coupling_softening},
      {"coupling_alpha", "Exponent of the receiver's size", &Config::coupling_alpha},
      {"coupling_beta", "Exponent of the sender's size", &Config::coupling_beta},
      {"coupling_chi", "How much myelin insulates", &Config::coupling_chi},
      {"coupling_mu0", "What full myelin leaves of the coupling, from 0 to 1", &Config::coupling_mu0},
      {"coupling_size_spread", "Standard deviation of the logarithm of size", &Config::coupling_size_spread},
      {"coupling_myelin", "Myelin of the median unit, in [0, 1)", &Config::coupling_myelin},
      {"coupling_axes", "2: units on a sheet, 3: in a cube", &Config::coupling_axes},
      {"coupling_factors", "Which factors there are: distance,size,myelin", &Config::coupling_factors},
      {"coupling_geometry", "fixed or learned", &Config::coupling_geometry},
      {"coupling_active", "training or always (forms on activations)", &Config::coupling_active},
      {"eval_every", "Epochs between evaluations on the test images", &Config::eval_every},
      {"checkpoint_every", "Epochs between checkpoints", &Config::checkpoint_every},
  };
  return keys;
}

std::string flag_of(const Key& key) {
  std::string flag = fmt::format("--{}", key.name);
  std::replace(flag.begin(), flag.end(), '_', '-');
  return flag;
}

void set_from_flag(const Key& key, const std::string& text, Config& config) {
  const auto number = [&](auto value, const char* wanted) {
    const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
    if (error != std::errc{} || end != text.data() + text.size())
      throw UsageError(fmt::format("{} '{}': must be {}", flag_of(key), text, wanted));
    return value;
  };
  std::visit(
      [&](auto member) {
        using Member = std::remove_reference_t<decltype(config.*member)>;
        if constexpr (std::is_same_v<Member, std::string>)
          config.*member = text;
        else if constexpr (std::is_same_v<Member, std::optional<double>>)
          config.*member = number(double{}, "a number");
        else if constexpr (std::is_same_v<Member, std::optional<bool>>) {
          if (text != "true" && text != "false")
            throw UsageError(fmt::format("{} '{}': must be true or false", flag_of(key), text));
          config.*member = text == "true";
        } else
          config.*member = number(int64_t{}, "a whole number");
      },
      key.member);
}

void parse_config(std::string_view text, const std::string& name, Config& config) {
  toml::table table;
  try {
    table = toml::parse(text, name);
  } catch (const toml::parse_error& error) {
    throw UsageError(fmt::format("{}:{}: {}", name, error.source().begin.line, error.description()));
  }
  for (const auto& [key, node] : table) {
    if (key.str() == "optimizer") {
      if (!node.is_array_of_tables())
        throw UsageError(fmt::format("{}: optimizer must be tables [[optimizer]]", at(name, node)));
      config.rules.clear();
      std::ostringstream rules;
      for (const auto& rule : *node.as_array()) {
        config.rules.push_back(rule_of(*rule.as_table(), name));
        rules << "\n[[optimizer]]\n" << *rule.as_table() << "\n";
      }
      config.rules_toml = rules.str();
      continue;
    }
    const auto& keys = train_keys();
    const auto known = std::find_if(keys.begin(), keys.end(), [&](const Key& k) { return key.str() == k.name; });
    if (known == keys.end()) throw UsageError(fmt::format("{}: unknown key '{}'", at(name, node), key.str()));
    set_key(*known, name, node, config);
  }
}

void read_config(const std::string& path, Config& config) {
  constexpr int64_t limit = 1 << 20;  // bytes; no configuration comes near it
  const std::vector<uint8_t> bytes = data::read_file(path, limit);
  parse_config({reinterpret_cast<const char*>(bytes.data()), bytes.size()}, path, config);
}

std::string to_toml(const Config& config) {
  std::ostringstream text;
  for (const Key& key : train_keys())
    std::visit(
        [&](auto member) {
          const auto& value = config.*member;
          using Value = std::decay_t<decltype(value)>;
          if constexpr (std::is_same_v<Value, std::string>) {
            if (!value.empty()) text << key.name << " = " << toml::value<std::string>(value) << "\n";
          } else if constexpr (std::is_same_v<Value, int64_t>) {
            text << key.name << " = " << value << "\n";
          } else if constexpr (std::is_same_v<Value, std::optional<bool>>) {
            if (value) text << key.name << " = " << (*value ? "true" : "false") << "\n";
          } else if (value) {
            text << key.name << " = " << toml::value(*value) << "\n";
          }
        },
        key.member);
  return text.str() + config.rules_toml;
}

namespace {

std::vector<std::string> list_of(const std::string& text) {
  std::vector<std::string> items;
  std::istringstream stream(text);
  for (std::string item; std::getline(stream, item, ',');)
    if (!item.empty()) items.push_back(item);
  return items;
}

/// Position of the value among those that a key may have; the first one where it is empty.
size_t choice(const char* key, const std::string& value, const std::vector<std::string>& known) {
  if (value.empty()) return 0;
  const auto at = std::find(known.begin(), known.end(), value);
  require(at != known.end(), key, value, fmt::format("one of {}", fmt::join(known, ", ")).c_str());
  return static_cast<size_t>(at - known.begin());
}

}  // namespace

models::CouplingOptions resolved_coupling(const Config& c) {
  models::CouplingOptions o;
  o.form = c.coupling.empty() ? models::CouplingForm::none : models::coupling_form(c.coupling);
  if (o.form == models::CouplingForm::none) {  // a key that does nothing is a mistake
    for (const auto& [key, set] : {std::pair{"sites", !c.sites.empty()}, {"strength", c.strength.has_value()}})
      if (set) throw UsageError(fmt::format("{} is given, but no coupling", key));
  }
  o.sites = list_of(c.sites);
  o.law.kind = choice("coupling_law", c.coupling_law, {"screened-power", "gaussian"})
                   ? kernels::CouplingLaw::gaussian
                   : kernels::CouplingLaw::screened_power;
  o.learned = choice("coupling_geometry", c.coupling_geometry, {"fixed", "learned"}) == 1;
  o.always = choice("coupling_active", c.coupling_active, {"training", "always"}) == 1;
  const auto take = [](const auto& from, auto& to) {
    if (from) to = *from;
  };
  take(c.strength, o.strength), take(c.coupling_length, o.law.length), take(c.coupling_decay, o.law.decay);
  take(c.coupling_power, o.law.power), take(c.coupling_softening, o.law.softening);
  take(c.coupling_alpha, o.alpha), take(c.coupling_beta, o.beta), take(c.coupling_chi, o.chi);
  take(c.coupling_mu0, o.mu0), take(c.coupling_size_spread, o.size_spread), take(c.coupling_myelin, o.mean_myelin);
  take(c.coupling_axes, o.axes);
  if (!c.coupling_factors.empty()) {
    o.distance = o.size = o.myelin = false;
    for (const std::string& factor : list_of(c.coupling_factors)) {
      const size_t which = choice("coupling_factors", factor, {"distance", "size", "myelin"});
      (which == 0 ? o.distance : which == 1 ? o.size : o.myelin) = true;
    }
  }
  o.check();
  return o;
}

models::Recipe resolved_recipe(const Config& c, int64_t classes) {
  const auto text = [](auto v) { return fmt::format("{}", v); };
  require(c.batch >= 0 && c.batch <= 1'000'000, "batch", text(c.batch), "from 1 to 1000000");
  require(c.epochs >= 0 && c.epochs <= 1'000'000, "epochs", text(c.epochs), "from 1 to 1000000");
  require(c.seed >= 0, "seed", text(c.seed), "0 or more");
  require(c.threads >= 0 && c.threads <= 4096, "threads", text(c.threads), "from 0 to 4096");
  require(c.limit >= 0, "limit", text(c.limit), "at least 1");
  require(c.eval_every >= 0, "eval_every", text(c.eval_every), "0 or more");
  require(c.checkpoint_every >= 0, "checkpoint_every", text(c.checkpoint_every), "0 or more");
  const auto in_range = [&](const char* key, const std::optional<double>& v, double low, double high,
                            const char* wanted) {
    if (v) require(std::isfinite(*v) && *v >= low && *v <= high, key, text(*v), wanted);
  };
  in_range("lr", c.lr, 0, 1e6, "0 or more");
  in_range("momentum", c.momentum, 0, 0.999999, "from 0 to below 1");
  in_range("weight_decay", c.weight_decay, 0, 1e6, "0 or more");
  in_range("label_smoothing", c.label_smoothing, 0, 1, "from 0 to 1");
  in_range("clip_norm", c.clip_norm, 0, 1e30, "0 or more");
  in_range("ema_decay", c.ema_decay, 0, 1, "from 0 to 1");
  if (c.accumulate) require(*c.accumulate >= 1, "accumulate", text(*c.accumulate), "at least 1");
  if (c.translate) require(*c.translate >= 0 && *c.translate <= 16, "translate", text(*c.translate), "from 0 to 16");
  if (c.cutout) require(*c.cutout >= 0 && *c.cutout <= 32, "cutout", text(*c.cutout), "from 0 to 32");
  models::Recipe recipe = models::recipe(c.model, classes, c.batch);
  if (c.epochs) recipe.epochs = c.epochs;
  if (!c.rules.empty()) recipe.optimizer.rules = c.rules;
  adjust(recipe, c);
  if (c.label_smoothing) recipe.label_smoothing = *c.label_smoothing;
  if (c.clip_norm) recipe.optimizer.clip_norm = *c.clip_norm;
  if (c.ema_decay) recipe.optimizer.ema_decay = *c.ema_decay;
  if (c.accumulate) recipe.optimizer.accumulate = static_cast<int>(*c.accumulate);
  if (c.flip)
    recipe.flip = *c.flip && !recipe.alternating_flip, recipe.alternating_flip = *c.flip && recipe.alternating_flip;
  if (c.translate) recipe.translate = *c.translate;
  if (c.cutout) recipe.cutout = *c.cutout;
  return models::with_coupling(std::move(recipe), resolved_coupling(c));
}

}  // namespace ranvier::cli
