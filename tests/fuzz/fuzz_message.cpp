// Fuzz target: the parser of a page's messages, on arbitrary text; what it accepts must lie inside the table.
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstdlib>
#include <string_view>

#include "tools/view/controls.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* bytes, size_t size) {
  using namespace ranvier::view;
  Message message;
  try {
    message = parse_message({reinterpret_cast<const char*>(bytes), size});
  } catch (const BadMessage& error) {
    if (std::string_view(error.what()).empty()) std::abort();
    nlohmann::json{{"error", error.what()}}.dump();  // throws, and so fails, where an answer would be no UTF-8
    return 0;
  }
  if (message.kind != Message::Kind::command) return 0;
  const Control& c = *message.control;
  const bool inside = std::isfinite(message.number) && message.number >= c.low && message.number <= c.high;
  const bool known = std::find(c.choices.begin(), c.choices.end(), message.choice) != c.choices.end();
  if ((c.kind == Kind::number && !inside) || (c.kind == Kind::choice && !known)) std::abort();
  return 0;
}
