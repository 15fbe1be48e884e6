// The field of a network from TOML: constants, places, diameters, sheaths.
#pragma once
#include <toml++/toml.h>
#include <filesystem>
#include <string>
#include <vector>

#include "engine/neuron_network.h"

namespace ranvier::neuron {

/// `count` values: "5", "uniform LOW HIGH" or "normal MEAN DEVIATION LOW HIGH". Throws Error naming `where`.
std::vector<double> drawn(const std::string& text, const std::string& where, int64_t count, uint64_t seed,
                          const std::string& stream);

/// `field` of one population, before it is read.
struct FieldPlan {
  std::string name;
  int64_t size;
  uint64_t seed;
  const toml::table* table;  ///< null: not in the field
  std::string where;
  std::filesystem::path folder;  ///< of files that it names
};

/// [field] and the populations' `field`; empty where there is none. Throws Error naming file, table and key.
std::optional<FieldSpec> read_field(const toml::table& file, const std::string& path,
                                    const std::vector<FieldPlan>& plans, uint64_t memory_limit);

/// The field of a single population: the keys of both tables in one line, `positions = "box 1 1 1", kappa = 0.01`.
FieldSpec parse_field(const std::string& text, const std::string& name, int64_t size, uint64_t seed);

}  // namespace ranvier::neuron
