// Parsing of current specifications.
#include "models/neurons/current.h"

#include <algorithm>
#include <charconv>
#include <fstream>
#include <limits>

#include "models/neurons/files.h"
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

/// "KEY=VALUE,..." into the places that are named; throws on others.
void keys(std::string_view text, std::string_view part, std::initializer_list<std::pair<const char*, double*>> places) {
  while (!text.empty()) {
    const auto comma = text.find(',');
    const std::string_view item = text.substr(0, comma);
    text = comma == std::string_view::npos ? std::string_view{} : text.substr(comma + 1);
    const auto equals = item.find('=');
    const std::string_view key = trimmed(item.substr(0, equals));
    const auto* place = std::find_if(places.begin(), places.end(), [&](const auto& p) { return key == p.first; });
    if (equals == std::string_view::npos || place == places.end()) {
      std::string known;
      for (const auto& [name, to] : places) known += fmt::format("{}{}=", known.empty() ? "" : ", ", name);
      fail("current '{}': '{}' is not one of {}", part, item, known);
    }
    *place->second = number(item.substr(equals + 1), item);
  }
}

Stimulus noise_part(std::string_view text, std::string_view part, const CurrentContext& context) {
  double deviation = -1, interval = 1;
  keys(text, part, {{"sd", &deviation}, {"dt", &interval}});
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
  for (const char* many : {"ou", "poisson", "sin", "each", "table"})
    if (kind == many) fail("current '{}': is of a population: --n 1 makes one of this neuron", part);
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

namespace {

/// A part that a population has and one neuron has not; false where it is another.
bool population_part(std::string_view kind, std::string_view rest, std::string_view part, int64_t size,
                     PopulationCurrent& to) {
  Process p;
  const auto needs = [&](bool given, const char* what) {
    if (!given) fail("current '{}': needs {}", part, what);
  };
  if (kind == "noise") {
    p.kind = Process::Kind::noise, p.deviation = -1;
    keys(rest, part, {{"sd", &p.deviation}, {"mean", &p.mean}, {"dt", &p.interval}});
    needs(p.deviation >= 0, "sd=VALUE, not negative");
  } else if (kind == "ou") {
    p.kind = Process::Kind::ou, p.deviation = -1, p.tau = -1;
    keys(rest, part, {{"sd", &p.deviation}, {"tau", &p.tau}, {"mean", &p.mean}, {"dt", &p.interval}});
    needs(p.deviation >= 0 && p.tau > 0, "sd=VALUE and tau=MS");
  } else if (kind == "poisson") {
    p.kind = Process::Kind::poisson, p.rate = -1, p.weight = std::numeric_limits<double>::quiet_NaN();
    keys(rest, part, {{"rate", &p.rate}, {"weight", &p.weight}, {"tau", &p.tau}, {"dt", &p.interval}});
    needs(p.rate >= 0 && p.weight == p.weight, "rate=HZ and weight=VALUE");
  } else if (kind == "sin") {
    p.kind = Process::Kind::sinusoid;
    const auto [value, when] = at_sign(rest, part);
    const auto comma = when.find(',');
    p.amplitude = number(value, part), p.frequency = number(when.substr(0, comma), part);
    if (comma != std::string_view::npos) p.phase = number(when.substr(comma + 1), part);
  } else if (kind == "each") {
    const NumberArray values = read_array(std::string(rest));
    if (values.values.size() != static_cast<size_t>(size))
      fail("current '{}': {} values for {} neurons", part, values.values.size(), size);
    if (!to.each.empty()) fail("current '{}': a second list of values for each neuron", part);
    to.each = values.values;
    return true;
  } else if (kind == "table") {
    p.kind = Process::Kind::table;
    const auto comma = rest.find(',');
    if (comma != std::string_view::npos) keys(rest.substr(comma + 1), part, {{"dt", &p.interval}});
    NumberArray table = read_array(std::string(rest.substr(0, comma)));
    if (table.columns != static_cast<size_t>(size))
      fail("current '{}': its rows have {} values for {} neurons", part, table.columns, size);
    p.values = std::move(table.values);
  } else {
    return false;
  }
  if (!(p.interval > 0)) fail("current '{}': dt must be positive", part);
  // Streams by kind and number: two parts draw independently, and a single noise is that of one neuron alone.
  if (kind != "noise") p.stream = fmt::format("current/{}", kind);
  int before = 0;
  for (const Process& q : to.processes) before += q.kind == p.kind;
  if (before) p.stream += fmt::format("/{}", before + 1);
  to.processes.push_back(std::move(p));
  return true;
}

}  // namespace

PopulationCurrent parse_population_current(std::string_view spec, int64_t size, double duration) {
  if (trimmed(spec).empty()) fail("current: nothing given");
  PopulationCurrent sum;
  while (true) {
    const auto end = spec.find(';');
    const std::string_view part = trimmed(spec.substr(0, end));
    if (part.empty()) fail("current '{}': an empty part between ';'", spec);
    const auto colon = part.find(':');
    const std::string_view rest = colon == std::string_view::npos ? std::string_view{} : part.substr(colon + 1);
    if (!population_part(part.substr(0, colon), rest, part, size, sum))
      sum.shared = sum.shared + parse_part(part, {0, 0, duration});
    if (end == std::string_view::npos) return sum;
    spec = spec.substr(end + 1);
  }
}

}  // namespace ranvier::neuron
