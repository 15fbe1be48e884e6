// Parsing of current specifications.
#include "models/neurons/current.h"

#include <charconv>
#include <fstream>

#include "models/neurons/presets.h"

namespace ranvier::neuron {
namespace {

using Piece = Stimulus::Piece;

std::string_view trimmed(std::string_view text) {
  const auto first = text.find_first_not_of(" \t\r\n");
  return first == std::string_view::npos ? std::string_view{}
                                         : text.substr(first, text.find_last_not_of(" \t\r\n") - first + 1);
}

/// "low..high"
std::pair<double, double> range(std::string_view text, std::string_view part) {
  const auto dots = text.find("..");
  if (dots == std::string_view::npos) fail("current '{}': '{}' is not a range LOW..HIGH", part, text);
  return {number(text.substr(0, dots), part), number(text.substr(dots + 2), part)};
}

/// "value@when"
std::pair<std::string_view, std::string_view> at_sign(std::string_view text, std::string_view part) {
  const auto at = text.find('@');
  if (at == std::string_view::npos) fail("current '{}': no '@TIME'", part);
  return {text.substr(0, at), text.substr(at + 1)};
}

Stimulus pulse(std::string_view text, std::string_view part) {
  const auto [value, when] = at_sign(text, part);
  const auto [begin, end] = range(when, part);
  if (!(begin < end)) fail("current '{}': {} ms is not before {} ms", part, begin, end);
  return Stimulus({{begin, number(value, part)}, {end, 0}});
}

Stimulus ramp(std::string_view text, std::string_view part) {
  const auto [values, when] = at_sign(text, part);
  const auto [low, high] = range(values, part);
  const auto [begin, end] = range(when, part);
  if (!(begin < end)) fail("current '{}': {} ms is not before {} ms", part, begin, end);
  return Stimulus({{begin, low, (high - low) / (end - begin)}, {end, high}});
}

Stimulus noise_part(std::string_view text, std::string_view part, const CurrentContext& context) {
  double deviation = -1, interval = 1;
  while (!text.empty()) {
    const auto comma = text.find(',');
    const std::string_view item = text.substr(0, comma);
    text = comma == std::string_view::npos ? std::string_view{} : text.substr(comma + 1);
    const auto equals = item.find('=');
    const std::string_view key = trimmed(item.substr(0, equals));
    if (equals == std::string_view::npos || (key != "sd" && key != "dt"))
      fail("current '{}': '{}' is neither sd=VALUE nor dt=MS", part, item);
    (key == "sd" ? deviation : interval) = number(item.substr(equals + 1), part);
  }
  if (!(deviation >= 0)) fail("current '{}': needs sd=VALUE, not negative", part);
  if (!(interval > 0)) fail("current '{}': dt must be positive", part);
  if (context.duration / interval > 1e8) fail("current '{}': more than 1e8 values in {} ms", part, context.duration);
  return noise(deviation, interval, context.duration, context.seed, context.neuron);
}

Stimulus from_file(const std::string& path) {
  std::ifstream file(path);
  if (!file)
    fail("current: '{}' is neither a current (70, step:70@100, pulse:, ramp:, noise:) nor a readable file", path);
  std::vector<Piece> pieces;
  int line_number = 0;
  for (std::string line; std::getline(file, line);) {
    ++line_number;
    const std::string_view text = trimmed(line);
    if (text.empty() || text.front() == '#') continue;
    const auto comma = text.find(',');
    const std::string where = fmt::format("{}:{}", path, line_number);
    const bool words = text.find_first_of("0123456789") == std::string_view::npos || text.front() == 't';
    if (words && pieces.empty() && line_number == 1) continue;  // column names
    if (comma == std::string_view::npos) fail("{}: '{}' is not 't_ms,current'", where, text);
    const Piece piece{number(trimmed(text.substr(0, comma)), where), number(trimmed(text.substr(comma + 1)), where)};
    if (!pieces.empty() && !(piece.begin > pieces.back().begin))
      fail("{}: {} ms does not come after {} ms", where, piece.begin, pieces.back().begin);
    pieces.push_back(piece);
  }
  if (pieces.empty()) fail("{}: no rows 't_ms,current'", path);
  return Stimulus(std::move(pieces));
}

Stimulus parse_part(std::string_view part, const CurrentContext& context) {
  const auto colon = part.find(':');
  const std::string_view kind = part.substr(0, colon);
  const std::string_view rest = colon == std::string_view::npos ? std::string_view{} : part.substr(colon + 1);
  if (kind == "step") {
    const auto [value, when] = at_sign(rest, part);
    return Stimulus({{number(when, part), number(value, part)}});
  }
  if (kind == "pulse") return pulse(rest, part);
  if (kind == "ramp") return ramp(rest, part);
  if (kind == "noise") return noise_part(rest, part, context);
  if (kind == "file") return from_file(std::string(rest));
  double value = 0;
  const auto parsed = std::from_chars(part.data(), part.data() + part.size(), value);
  if (parsed.ec == std::errc{} && parsed.ptr == part.data() + part.size())
    return Stimulus::constant(number(part, "current"));
  return from_file(std::string(part));
}

}  // namespace

Stimulus parse_current(std::string_view spec, const CurrentContext& context) {
  if (trimmed(spec).empty()) fail("current: nothing given");
  Stimulus sum;
  while (true) {
    const auto end = spec.find(';');
    const std::string_view part = trimmed(spec.substr(0, end));
    if (part.empty()) fail("current '{}': an empty part between ';'", spec);
    sum = sum + parse_part(part, context);
    if (end == std::string_view::npos) return sum;
    spec = spec.substr(end + 1);
  }
}

}  // namespace ranvier::neuron
