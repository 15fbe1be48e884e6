// The configuration of a training run: one list of keys, read from TOML, overridden by flags, written back resolved.
#pragma once
#include <optional>
#include <string>
#include <variant>
#include <vector>

#include "models/vision.h"
#include "tools/cli.h"

namespace ranvier::cli {

/// Everything that decides a run. Unset optionals take the model's recipe.
struct TrainConfig {
  std::string model = "tiny", data, out, device = "auto", precision, variant, weights, name_map;
  int64_t seed = 0, epochs = 0, batch = 0, limit = 0, threads = 0, eval_every = 1, checkpoint_every = 1;
  std::optional<double> lr, momentum, weight_decay, label_smoothing, clip_norm, ema_decay;
  std::optional<int64_t> accumulate, translate, cutout;
  std::optional<bool> flip;
  std::string coupling, sites, coupling_law, coupling_factors, coupling_geometry, coupling_active;
  std::optional<double> strength, coupling_length, coupling_decay, coupling_power, coupling_softening, coupling_alpha,
      coupling_beta, coupling_chi, coupling_mu0, coupling_size_spread, coupling_myelin;
  std::optional<int64_t> coupling_axes;
  std::vector<optim::Rule> rules;  ///< [[optimizer]] tables, in order; empty: the recipe's
  std::string rules_toml;          ///< their text, for the resolved file
};

/// One key: its name in TOML and (with - for _) as a flag, what it means, and where it is kept.
struct Key {
  const char* name;
  const char* help;
  std::variant<std::string TrainConfig::*, int64_t TrainConfig::*, std::optional<double> TrainConfig::*,
               std::optional<int64_t> TrainConfig::*, std::optional<bool> TrainConfig::*>
      member;
};
const std::vector<Key>& train_keys();

/// Reads a TOML file over `config`. Throws with file, line and key on an unknown key, a wrong type or bad syntax.
void read_config(const std::string& path, TrainConfig& config);
/// The same from text; `name` stands for the file in messages.
void parse_config(std::string_view text, const std::string& name, TrainConfig& config);
/// Sets a key from a flag's text; throws naming the flag on text that is no value of the key's type.
void set_from_flag(const Key& key, const std::string& text, TrainConfig& config);
/// The key as a flag: "--weight-decay".
std::string flag_of(const Key& key);
/// TOML of the whole configuration, which `read_config` reads back.
std::string to_toml(const TrainConfig& config);
/// The model's recipe with the configuration's changes; throws with the key's name on a value out of range.
models::Recipe resolved_recipe(const TrainConfig& config, int64_t classes);

/// Its coupling alone.
models::CouplingOptions resolved_coupling(const TrainConfig& config);

}  // namespace ranvier::cli
