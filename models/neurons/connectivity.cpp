// Connectivity rules.
#include "models/neurons/connectivity.h"

#include <algorithm>
#include <atomic>
#include <cmath>
#include <numeric>

#include "engine/draws.h"
#include "engine/row_loop.h"
#include "models/neurons/presets.h"

namespace ranvier::neuron {
namespace {

constexpr int step_parts = Connections::step_parts;

constexpr std::pair<Rule::Kind, std::string_view> rules[] = {
    {Rule::Kind::all_to_all, "all_to_all"},   {Rule::Kind::one_to_one, "one_to_one"},
    {Rule::Kind::probability, "probability"}, {Rule::Kind::in_degree, "in_degree"},
    {Rule::Kind::out_degree, "out_degree"},   {Rule::Kind::sheet, "sheet"}};

/// Draws of one projection: a row of `what` has a sequence of its own.
Draws draws_of(const ConnectSpec& s, const std::string& what) { return {s.seed, "connect/" + s.name + "/" + what}; }

struct Point {
  double x, y;
};

/// Neuron i of n on a square grid of this width, at the centres of its cells.
Point place(int64_t i, int64_t n, double width) {
  const auto side = static_cast<int64_t>(std::ceil(std::sqrt(static_cast<double>(n)) - 1e-9));
  const double cell = width / static_cast<double>(side);
  return {(static_cast<double>(i % side) + 0.5) * cell, (static_cast<double>(i / side) + 0.5) * cell};
}

double distance(const ConnectSpec& s, int64_t source, int64_t target) {
  const Point a = place(source, s.sources, s.rule.width), b = place(target, s.targets, s.rule.width);
  double dx = std::abs(a.x - b.x), dy = std::abs(a.y - b.y);
  if (s.rule.wrap) dx = std::min(dx, s.rule.width - dx), dy = std::min(dy, s.rule.width - dy);
  return std::sqrt(dx * dx + dy * dy);
}

double value_of(const Draw& d, const ConnectSpec& s, const Draws& draws, int64_t source, int64_t target,
                uint64_t number) {
  const auto row = static_cast<uint64_t>(source);
  switch (d.kind) {
    case Draw::Kind::constant:
      return d.a;
    case Draw::Kind::uniform:
      return d.a + (d.b - d.a) * draws.uniform53(row, number);
    case Draw::Kind::normal:
      return std::clamp(d.a + d.b * static_cast<double>(draws.normal(row, number)), d.low, d.high);
    case Draw::Kind::integers:
      return d.a + std::floor((d.b - d.a + 1) * draws.uniform53(row, number));
    case Draw::Kind::distance:
      return d.a + distance(s, source, target) / d.b;
  }
  return 0;
}

/// Distinct numbers below n, `count` of them and not `without`, in ascending order.
std::vector<uint32_t> sample(const Draws& draws, int64_t row, int64_t n, int64_t count, int64_t without,
                             std::vector<uint8_t>& taken) {
  const int64_t others = without >= 0 ? n - 1 : n;
  const bool complement = count > others / 2;  // draw those that are left out
  const int64_t picks = complement ? others - count : count;
  taken.assign(static_cast<size_t>(n), 0);
  if (without >= 0) taken[without] = 2;
  uint64_t element = 0;
  for (int64_t i = 0; i < picks;) {
    const auto candidate =
        static_cast<size_t>(draws.uniform53(static_cast<uint64_t>(row), element++) * static_cast<double>(n));
    if (taken[candidate]) continue;
    taken[candidate] = 1, ++i;
  }
  std::vector<uint32_t> chosen;
  chosen.reserve(static_cast<size_t>(count));
  for (size_t i = 0; i < taken.size(); ++i)
    if (taken[i] == (complement ? 0 : 1)) chosen.push_back(static_cast<uint32_t>(i));
  return chosen;
}

/// Targets of one source.
std::vector<uint32_t> row_of(const ConnectSpec& s, int64_t source, std::vector<uint8_t>& taken) {
  const Rule& r = s.rule;
  const Draws draws = draws_of(s, "pairs");
  const int64_t without = s.same && !r.self ? source : -1;
  std::vector<uint32_t> row;
  if (r.kind == Rule::Kind::one_to_one) {
    row.push_back(static_cast<uint32_t>(source));
  } else if (r.kind == Rule::Kind::out_degree) {
    row = sample(draws, source, s.targets, r.degree, without, taken);
  } else if (r.kind == Rule::Kind::probability && r.p < 1) {
    if (!(r.p > 0)) return row;
    const Geometric gap(r.p);  // between hits, so that a sparse row costs its synapses and not its pairs
    uint64_t element = 0;
    for (double at = -1;;) {
      at += 1 + gap(1 - draws.uniform53(static_cast<uint64_t>(source), element++));
      if (!(at < static_cast<double>(s.targets))) break;
      if (static_cast<int64_t>(at) != without) row.push_back(static_cast<uint32_t>(at));
    }
  } else {
    for (int64_t t = 0; t < s.targets; ++t) {
      if (t == without) continue;
      if (r.kind == Rule::Kind::sheet) {
        const double d = distance(s, source, t);
        if (d > r.cutoff) continue;
        const double p = r.p * gaussian(d / r.sigma);
        if (!(draws.uniform53(static_cast<uint64_t>(source), static_cast<uint64_t>(t)) < p)) continue;
      }
      row.push_back(static_cast<uint32_t>(t));
    }
  }
  return row;
}

/// Rows of every source; in_degree is drawn by targets and turned round.
std::vector<std::vector<uint32_t>> rows_of(const ConnectSpec& s) {
  std::vector<std::vector<uint32_t>> rows(static_cast<size_t>(s.sources));
  const bool by_target = s.rule.kind == Rule::Kind::in_degree;
  const int64_t count = by_target ? s.targets : s.sources;
  std::vector<std::vector<uint32_t>> drawn(by_target ? static_cast<size_t>(count) : 0);
  for_rows(count, 64, [&](int64_t begin, int64_t end) {
    std::vector<uint8_t> taken;
    for (int64_t i = begin; i < end; ++i)
      if (by_target)
        drawn[i] = sample(draws_of(s, "pairs"), i, s.sources, s.rule.degree, s.same && !s.rule.self ? i : -1, taken);
      else
        rows[i] = row_of(s, i, taken);
  });
  for (int64_t t = 0; by_target && t < count; ++t) {
    for (uint32_t source : drawn[t]) rows[source].push_back(static_cast<uint32_t>(t));
    drawn[t] = {};
  }
  return rows;
}

/// A delay in 256ths of a step, rounded up: no spike may act before its time + delay. What f32 cannot tell from a whole
/// number of steps is one. `rounded_up` is counted up where only whole steps will do and are longer than the delay.
uint32_t parts_of(double delay, const ConnectSpec& s, const std::string& where, uint64_t& rounded_up) {
  constexpr double slack = 2e-7;
  if (!std::isfinite(delay) || delay < s.dt * (1 - slack))
    fail("{}: delay {} ms is under one step of {} ms", where, delay, s.dt);
  const double exact = delay / s.dt, whole = std::ceil(exact * (1 - slack));
  if (whole > 65000) fail("{}: delay {} ms is more than 65000 steps of {} ms", where, delay, s.dt);
  if (whole <= exact * (1 + slack)) return static_cast<uint32_t>(whole) * step_parts;
  rounded_up += s.whole_delays;
  return static_cast<uint32_t>(s.whole_delays ? whole * step_parts : std::ceil(exact * step_parts));
}

/// Room for a delay of each synapse.
void own_delays(Connections& c, const ConnectSpec& s) {
  c.delay.resize(c.count());
  if (!s.whole_delays) c.part.resize(c.count());
}
void set_delay(Connections& c, uint64_t synapse, uint32_t parts) {
  c.delay[synapse] = static_cast<uint16_t>(parts / step_parts);
  if (!c.part.empty()) c.part[synapse] = static_cast<uint8_t>(parts % step_parts);
}
void drop_empty_parts(Connections& c) {
  if (std::ranges::all_of(c.part, [](uint8_t part) { return part == 0; })) c.part = {};
}

void check(const ConnectSpec& s) {
  const Rule& r = s.rule;
  const auto bad = [&](const char* key, auto value) {
    fail("projection {}: {} = {} is not allowed", s.name, key, value);
  };
  if (!(r.p >= 0 && r.p <= 1)) bad("p", r.p);
  if (r.kind == Rule::Kind::one_to_one && s.sources != s.targets)
    fail("projection {}: one_to_one of {} neurons and {}", s.name, s.sources, s.targets);
  const bool in = r.kind == Rule::Kind::in_degree;
  if (in || r.kind == Rule::Kind::out_degree) {
    const int64_t partners = (in ? s.sources : s.targets) - (s.same && !r.self ? 1 : 0);
    if (r.degree < 0 || r.degree > partners)
      fail("projection {}: degree = {} of {} possible partners", s.name, r.degree, partners);
  }
  if (r.kind == Rule::Kind::sheet && !(r.width > 0 && r.sigma > 0 && r.cutoff > 0))
    bad("width, sigma or cutoff", r.sigma);
}

}  // namespace

Rule::Kind rule_named(std::string_view text) {
  std::string list;
  for (const auto& [kind, known] : rules) {
    if (known == text) return kind;
    list += (list.empty() ? "" : ", ") + std::string(known);
  }
  fail("rule '{}' is not one of {}", text, list);
}

Draw parse_draw(std::string_view text, std::string_view what) {
  std::vector<std::string_view> words;
  for (size_t at = 0; at < text.size();) {
    const size_t begin = text.find_first_not_of(' ', at);
    if (begin == std::string_view::npos) break;
    at = std::min(text.find(' ', begin), text.size());
    words.push_back(text.substr(begin, at - begin));
  }
  if (words.empty()) fail("{}: is empty", what);
  const auto numbers = [&](size_t least, size_t most) {
    if (words.size() < least + 1 || words.size() > most + 1) fail("{}: '{}' has not {} numbers", what, text, least);
    std::vector<double> list;
    for (size_t i = 1; i < words.size(); ++i) list.push_back(number(words[i], what));
    return list;
  };
  Draw d;
  if (words[0] == "uniform" || words[0] == "integers" || words[0] == "distance") {
    const auto x = numbers(2, 2);
    d.kind = words[0] == "uniform"    ? Draw::Kind::uniform
             : words[0] == "integers" ? Draw::Kind::integers
                                      : Draw::Kind::distance;
    d.a = x[0], d.b = x[1];
    if (d.kind == Draw::Kind::distance ? !(d.b > 0) : d.b < d.a) fail("{}: '{}' has a bad second number", what, text);
  } else if (words[0] == "normal") {
    const auto x = numbers(2, 4);
    d = {Draw::Kind::normal, x[0], x[1], x.size() > 2 ? x[2] : -1e30, x.size() > 3 ? x[3] : 1e30};
    if (d.b < 0 || d.high < d.low) fail("{}: '{}' has a bad deviation or limit", what, text);
  } else if (words.size() == 1) {
    d.a = number(words[0], what);
  } else {
    fail("{}: '{}' is neither a number nor uniform, normal, integers or distance with theirs", what, text);
  }
  return d;
}

uint64_t expected_synapses(const ConnectSpec& s) {
  check(s);
  const auto pairs = static_cast<double>(s.sources) * static_cast<double>(s.targets);
  const auto bound = [&](double mean) {
    return static_cast<uint64_t>(std::min(pairs, std::ceil(mean + 6 * std::sqrt(mean) + 20)));
  };
  switch (s.rule.kind) {
    case Rule::Kind::one_to_one:
      return static_cast<uint64_t>(s.sources);
    case Rule::Kind::probability:
      return bound(s.rule.p * pairs);
    case Rule::Kind::in_degree:
      return static_cast<uint64_t>(s.targets * s.rule.degree);
    case Rule::Kind::out_degree:
      return static_cast<uint64_t>(s.sources * s.rule.degree);
    case Rule::Kind::sheet: {  // the whole kernel's mass, grid sums being within a few per cent of it
      const double mass = 2 * 3.14159265358979 * s.rule.sigma * s.rule.sigma / (s.rule.width * s.rule.width);
      return bound(s.rule.p * pairs * std::min(1.0, 1.1 * mass + 10 / static_cast<double>(s.targets)));
    }
    case Rule::Kind::all_to_all:
      break;
  }
  return static_cast<uint64_t>(pairs);
}

Connections connect(const ConnectSpec& s) {
  check(s);
  const Draws weights = draws_of(s, "weight"), delays = draws_of(s, "delay");
  const bool whole = s.rule.kind == Rule::Kind::all_to_all && (!s.same || s.rule.self);
  const bool one_delay = s.delay.kind == Draw::Kind::constant;
  const std::string where = "projection " + s.name;
  auto rows = whole && one_delay ? std::vector<std::vector<uint32_t>>(static_cast<size_t>(s.sources)) : rows_of(s);
  Connections c;
  c.offset.assign(1, 0);
  for (const auto& row : rows)
    c.offset.push_back(c.offset.back() + (whole && one_delay ? static_cast<uint64_t>(s.targets) : row.size()));
  c.weight.resize(c.offset.back());
  if (!(whole && one_delay)) c.target.resize(c.offset.back());
  if (one_delay) {
    const uint32_t delay = parts_of(s.delay.a, s, where, c.rounded_up);
    c.same_delay = static_cast<uint16_t>(delay / step_parts), c.same_part = static_cast<uint8_t>(delay % step_parts);
    c.rounded_up *= c.count();
  } else {
    own_delays(c, s);
  }
  if (!one_delay && c.offset.back()) {  // the least that can be drawn, so that no thread meets an error
    const double least =
        s.delay.kind == Draw::Kind::normal ? std::max(s.delay.low, s.delay.a - 6 * s.delay.b) : s.delay.a;
    uint64_t not_yet = 0;
    parts_of(least, s, where, not_yet);
  }
  std::atomic<uint64_t> rounded_up = 0;
  for_rows(s.sources, 64, [&](int64_t from_row, int64_t to_row) {
    std::vector<uint32_t> order;
    std::vector<uint32_t> parts;
    for (int64_t i = from_row; i < to_row; ++i) {
      const uint64_t begin = c.offset[i], count = c.offset[i + 1] - begin;
      uint64_t up = 0;
      const auto target = [&](uint64_t k) { return rows[i].empty() ? static_cast<uint32_t>(k) : rows[i][k]; };
      order.resize(count), parts.assign(one_delay ? 0 : count, 0);
      std::iota(order.begin(), order.end(), 0u);
      for (uint64_t k = 0; !one_delay && k < count; ++k)
        parts[k] = parts_of(value_of(s.delay, s, delays, i, target(k), k), s, where, up);
      rounded_up += up;
      if (!one_delay)
        std::stable_sort(order.begin(), order.end(), [&](uint32_t a, uint32_t b) { return parts[a] < parts[b]; });
      for (uint64_t k = 0; k < count; ++k) {
        const uint32_t from = order[k];
        c.weight[begin + k] = static_cast<float>(value_of(s.weight, s, weights, i, target(from), from));
        if (!c.target.empty()) c.target[begin + k] = target(from);
        if (!one_delay) set_delay(c, begin + k, parts[from]);
      }
      rows[i] = {};
    }
  });
  c.rounded_up += rounded_up;
  drop_empty_parts(c);
  return c;
}

Connections from_edges(const std::vector<Edge>& edges, const ConnectSpec& s, const std::string& from,
                       int64_t first_line) {
  const auto where = [&](size_t i) { return fmt::format("{}:{}", from, first_line + static_cast<int64_t>(i)); };
  std::vector<uint32_t> parts(edges.size());
  Connections c;
  for (size_t i = 0; i < edges.size(); ++i) {
    const Edge& e = edges[i];
    if (e.source >= static_cast<uint64_t>(s.sources))
      fail("{}: source {} of {} neurons", where(i), e.source, s.sources);
    if (e.target >= static_cast<uint64_t>(s.targets))
      fail("{}: target {} of {} neurons", where(i), e.target, s.targets);
    if (!std::isfinite(e.weight)) fail("{}: weight {}", where(i), e.weight);
    parts[i] = parts_of(e.delay, s, where(i), c.rounded_up);
  }
  std::vector<uint32_t> order(edges.size());
  std::iota(order.begin(), order.end(), 0u);
  std::stable_sort(order.begin(), order.end(), [&](uint32_t a, uint32_t b) {
    return std::pair(edges[a].source, edges[a].target) < std::pair(edges[b].source, edges[b].target);
  });
  for (size_t i = 1; i < order.size(); ++i) {
    const Edge &a = edges[order[i - 1]], &b = edges[order[i]];
    if (a.source == b.source && a.target == b.target)
      fail("{}: {} to {} was there already, at {}", where(order[i]), b.source, b.target, where(order[i - 1]));
  }
  std::stable_sort(order.begin(), order.end(), [&](uint32_t a, uint32_t b) {
    return std::pair(edges[a].source, parts[a]) < std::pair(edges[b].source, parts[b]);
  });
  c.offset.assign(static_cast<size_t>(s.sources) + 1, 0);
  for (uint32_t i : order) {
    ++c.offset[edges[i].source + 1];
    c.target.push_back(edges[i].target), c.weight.push_back(edges[i].weight);
  }
  own_delays(c, s);
  for (uint64_t k = 0; k < order.size(); ++k) set_delay(c, k, parts[order[k]]);
  drop_empty_parts(c);
  for (int64_t i = 0; i < s.sources; ++i) c.offset[i + 1] += c.offset[i];
  return c;
}

}  // namespace ranvier::neuron
