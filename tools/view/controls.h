// The one table of what a page may set or do: server, page and tests read names, ranges and units from here.
#pragma once
#include <cstdint>
#include <nlohmann/json.hpp>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "engine/error.h"

namespace ranvier::view {

enum class Kind { number, choice, action };

/// Something that a page may set (number, choice) or do (action). Names begin with the view: "neuron.2007.C".
struct Control {
  std::string name;
  Kind kind = Kind::number;
  std::string label, unit;
  double low = 0, high = 0;            ///< number: its range, ends included
  double seed_low = 0, seed_high = 0;  ///< what the seed project's slider had; equal: it had none
  double initial = 0;
  bool logarithmic = false, whole = false;
  std::vector<std::string> choices{};  ///< choice: what there is; the first one is the initial one
  std::vector<std::string> words{};    ///< ... and how a menu says each; empty: as it is
  std::string about{};

  std::string_view view() const { return std::string_view(name).substr(0, name.find('.')); }
};

/// All of them, in the order in which a page shows them.
std::span<const Control> controls();
/// Throws Error on an unknown name, quoting it.
const Control& control(std::string_view name);
/// The table as a page reads it.
nlohmann::ordered_json controls_json();

/// What a page asked for.
struct Message {
  enum class Kind { command, acknowledge, watch } kind = Kind::command;
  const Control* control = nullptr;  ///< command
  double number = 0;                 ///< its value where the control is a number
  std::string choice;                ///< ... a choice
  int64_t id = 0;                    ///< command: the page's own number for it, given back in the answer
  uint32_t sequence = 0;             ///< acknowledge: of a frame
  std::string view;                  ///< watch: neuron, population, runs or none
};

/// A message that is refused; `id` is the command's where it could be read.
struct BadMessage : Error {
  BadMessage(const std::string& what, int64_t id) : Error(what), id(id) {}
  int64_t id;
};

/// Reads one message, a JSON object of these forms:
///   {"set": NAME, "value": NUMBER or CHOICE, "id": N}   {"do": NAME, "id": N}   {"ack": SEQUENCE}   {"watch": VIEW}
/// Throws BadMessage naming what is wrong: no JSON, unknown names or keys, numbers that are not finite or out of range.
Message parse_message(std::string_view text);

constexpr size_t message_limit = 64 * 1024;  ///< bytes of a message or body

}  // namespace ranvier::view
