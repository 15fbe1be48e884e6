// The keys of a network's TOML file: what the parser takes, and what the README says of it, from one list.
#pragma once
#include <span>
#include <string>
#include <string_view>

namespace ranvier::neuron {

/// One key.
struct NetworkKey {
  std::string_view table;    ///< network, population, projection, short_term, stdp, field, cells (a population's field)
  std::string_view key;      ///< as written
  std::string_view value;    ///< its form and, in brackets, what holds without it
  std::string_view meaning;  ///< and where it is taken
};

/// All of them, table by table.
std::span<const NetworkKey> network_keys();
/// Whether the table has the key.
bool is_network_key(std::string_view table, std::string_view key);
/// The list as Markdown: a table for each of the file's.
std::string network_key_reference();

}  // namespace ranvier::neuron
