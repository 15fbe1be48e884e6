// Checkpoints: the whole state of a session in one safetensors file, and weights from files of other programs.
#pragma once
#include <cstdint>
#include <string>
#include <vector>

#include "engine/safetensors.h"
#include "engine/state.h"

namespace ranvier::checkpoint {

using safetensors::Metadata;

/// Writes every entry of every slab but the feed's. Entries of slab "parameters" keep their name, others are
/// "<slab>/<name>"; convolution weights stay (K, R, S, C). The file says format, version and layout beside the caller's
/// `metadata`
/// ("model", "epoch", ...; those three keys are taken). Durable and in one step: a killed process or a full disk leaves
/// the earlier file whole. Throws Error naming path and reason.
void save(State&, const std::string& path, const Metadata& metadata = {});

struct LoadOptions {
  /// The model that is to be filled; a file that says another one is refused by name. Empty: not compared.
  std::string model;
  /// Slabs to load, the rest of state and file left alone (evaluation needs no moments). Empty: all.
  std::vector<std::string> slabs;
};

/// Fills the state from a file of `save`. The model is traced before, so every entry is declared: a missing or extra
/// tensor or another type or shape is an Error that names it, and then no entry has changed. Returns the metadata.
Metadata load(State&, const std::string& path, const LoadOptions& = {});

/// What a file says of itself, whoever wrote it.
Metadata read_metadata(const std::string& path);

/// One rule of a name map, from names in a file to names here.
struct NameRule {
  std::string from;     ///< a prefix, or a regular expression (ECMAScript) searched for in the name
  std::string to;       ///< replaces the prefix or the match; $1 ... are the expression's groups
  bool regex = false;   ///< how `from` is meant
  bool ignore = false;  ///< matching tensors are passed over and count neither as used nor as unused
  /// C, H, W: a matching weight (out, C*H*W) of a layer behind a flattened NCHW activation is permuted to
  /// (out, H*W*C), since activations are NHWC here. Tensors that are not matrices pass unchanged.
  std::vector<int64_t> flatten;
};

/// Reads a name map from a TOML or JSON file: a list "rule" of tables with "prefix" or "regex", "to", "ignore" and
/// "flatten". Throws Error naming file, rule and key.
std::vector<NameRule> read_name_map(const std::string& path);

enum class Layout : uint8_t {
  from_file,  ///< KRSC where the file is ours, else OIHW
  oihw,       ///< 4-D weights are (K, C, R, S), as PyTorch has them, and are permuted
  krsc,       ///< 4-D weights are (K, R, S, C) already
};

struct WeightOptions {
  std::vector<NameRule> names;  ///< applied in order, each at most once a name
  Layout layout = Layout::from_file;
  bool strict = false;  ///< a parameter not found or a tensor not used is an Error
  /// Slabs to fill: trainable parameters and running statistics. A name is looked for in this order.
  std::vector<std::string> slabs = {"parameters", "buffers"};
};

/// What `load_weights` did, names in the order of state and file.
struct WeightReport {
  std::vector<std::string> loaded, missing, unused;
};

/// Fills parameters and running statistics by name, converting between floating types (f16 and bf16 included). A tensor
/// of another shape than its entry is an Error; so is a file of which nothing fits. Loads everything it reports, or
/// throws and changes nothing.
WeightReport load_weights(State&, const std::string& path, const WeightOptions& = {});

}  // namespace ranvier::checkpoint
