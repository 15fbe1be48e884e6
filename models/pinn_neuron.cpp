// Neurons and currents by name: presets, parameters and the text form of a stimulus.
#include <charconv>
#include <cmath>
#include <map>

#include "models/pinn.h"

namespace ranvier::pinn {
namespace {

double number(std::string_view text, std::string_view whole) {
  double value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc() || end != text.data() + text.size() || !std::isfinite(value))
    fail("'{}' in '{}' is not a number", text, whole);
  return value;
}

std::vector<std::string_view> split(std::string_view text, char by) {
  std::vector<std::string_view> parts;
  for (;;) {
    const size_t at = text.find(by);
    parts.push_back(text.substr(0, at));
    if (at == std::string_view::npos) return parts;
    text.remove_prefix(at + 1);
  }
}

/// q1 and q0 of k (v - v_r)(v - v_t).
struct Roots {
  double k, v_r, v_t;
};
Roots roots_of(const Neuron& n) {
  const double root = std::sqrt(std::max(0.0, n.q1 * n.q1 - 4 * n.q2 * n.q0));
  return {n.q2, (-n.q1 - root) / (2 * n.q2), (-n.q1 + root) / (2 * n.q2)};
}

}  // namespace

Neuron Neuron::form2003(double a, double b, double c, double d) {
  Neuron n;
  n.name = "2003", n.a = a, n.b = b, n.c = c, n.d = d;
  n.v0 = -65, n.u0 = b * n.v0;
  return n;
}

Neuron Neuron::form2007(double C, double k, double v_r, double v_t, double v_peak, double a, double b, double c,
                        double d) {
  Neuron n;
  n.name = "2007", n.C = C, n.q2 = k, n.q1 = -k * (v_r + v_t), n.q0 = k * v_r * v_t;
  n.a = a, n.b = b, n.v_b = v_r, n.c = c, n.d = d, n.v_peak = v_peak;
  n.v0 = v_r, n.u0 = 0;
  return n;
}

Neuron Neuron::preset(std::string_view name) {
  static const std::map<std::string, Neuron, std::less<>> presets = {
      {"rs2003", form2003(0.02, 0.2, -65, 8)},  // Izhikevich 2003, figure 2
      {"ib2003", form2003(0.02, 0.2, -55, 4)},
      {"ch2003", form2003(0.02, 0.2, -50, 2)},
      {"fs2003", form2003(0.1, 0.2, -65, 2)},
      {"lts2003", form2003(0.02, 0.25, -65, 2)},
      {"tc2003", form2003(0.02, 0.25, -65, 0.05)},
      {"rz2003", form2003(0.1, 0.26, -65, 2)},
      {"rs2007", form2007(100, 0.7, -60, -40, 35, 0.03, -2, -50, 100)},  // Izhikevich 2007, chapter 8
      {"ib2007", form2007(150, 1.2, -75, -45, 50, 0.01, 5, -56, 130)},
      {"ch2007", form2007(50, 1.5, -60, -40, 25, 0.03, 1, -40, 150)},
  };
  const auto found = presets.find(name);
  if (found == presets.end()) {
    std::string names;
    for (const auto& [known, neuron] : presets) names += " " + known;
    fail("there is no neuron '{}'; presets:{}", name, names);
  }
  Neuron neuron = found->second;
  neuron.name = name;
  return neuron;
}

void Neuron::set(std::string_view assignments) {
  const auto same = [](double x, double y) { return std::abs(x - y) < 1e-9; };
  // a start that nobody chose is where the changed neuron starts: at v_r (2007), at u = b (v - v_b)
  const bool rests = same(v_b, roots_of(*this).v_r), starts_at_rest = rests && v0 == v_b;
  bool starts_on_line = same(u0, b * (v0 - v_b));
  for (std::string_view part : split(assignments, ',')) {
    if (part.empty()) continue;
    const size_t equals = part.find('=');
    if (equals == std::string_view::npos) fail("'{}' is not name=value", part);
    const std::string_view key = part.substr(0, equals);
    const double value = number(part.substr(equals + 1), part);
    const std::map<std::string_view, double*> members = {{"C", &C}, {"q2", &q2},         {"q1", &q1},   {"q0", &q0},
                                                         {"a", &a}, {"b", &b},           {"v_b", &v_b}, {"c", &c},
                                                         {"d", &d}, {"v_peak", &v_peak}, {"v0", &v0},   {"u0", &u0}};
    if (const auto member = members.find(key); member != members.end()) {
      *member->second = value;
      if (key == "u0") starts_on_line = false;
    } else if (key == "k" || key == "v_r" || key == "v_t") {
      Roots r = roots_of(*this);
      (key == "k" ? r.k : key == "v_r" ? r.v_r : r.v_t) = value;
      q2 = r.k, q1 = -r.k * (r.v_r + r.v_t), q0 = r.k * r.v_r * r.v_t;
      if (key == "v_r" && rests) {  // the 2007 form measures both from v_r
        if (starts_at_rest && v0 == v_b) v0 = value;
        v_b = value;
      }
    } else {
      fail("there is no parameter '{}'; known: C k v_r v_t q2 q1 q0 a b v_b c d v_peak v0 u0", key);
    }
  }
  const double line = b * (v0 - v_b);
  if (starts_on_line && !same(u0, line)) u0 = line;
}

void Neuron::check() const {
  for (double value : {C, q2, q1, q0, a, b, v_b, c, d, v_peak, v0, u0})
    if (!std::isfinite(value)) fail("neuron {}: a parameter is not finite", name);
  if (!(C > 0)) fail("neuron {}: C = {} must be positive", name, C);
  if (!(q2 > 0)) fail("neuron {}: k (q2) = {} must be positive", name, q2);
  if (!(a > 0)) fail("neuron {}: a = {} must be positive", name, a);
  if (!(v_peak > c)) fail("neuron {}: v_peak = {} must be above the reset c = {}", name, v_peak, c);
}

Current Current::parse(std::string_view spec) {
  std::map<double, double> changes = {{0, 0}};  // time to jump
  const auto jump = [&](double t, double value) {
    if (!(t >= 0)) fail("current '{}': time {} ms is negative", spec, t);
    changes[t] += value;
  };
  for (std::string_view part : split(spec, ';')) {
    const size_t colon = part.find(':');
    const std::string_view kind = colon == std::string_view::npos ? "" : part.substr(0, colon);
    const std::string_view rest = colon == std::string_view::npos ? part : part.substr(colon + 1);
    const size_t at = rest.find('@');
    if (kind.empty()) {
      jump(0, number(rest, spec));
    } else if (kind == "step" && at != std::string_view::npos) {
      jump(number(rest.substr(at + 1), spec), number(rest.substr(0, at), spec));
    } else if (kind == "pulse" && at != std::string_view::npos && rest.find("..", at) != std::string_view::npos) {
      const size_t dots = rest.find("..", at);
      const double value = number(rest.substr(0, at), spec), from = number(rest.substr(at + 1, dots - at - 1), spec),
                   to = number(rest.substr(dots + 2), spec);
      if (!(to > from)) fail("current '{}': the pulse ends before it begins", spec);
      jump(from, value), jump(to, -value);
    } else {
      fail("current '{}': '{}' is none of VALUE, step:VALUE@MS, pulse:VALUE@MS..MS", spec, part);
    }
  }
  Current current;
  current.steps.clear();
  double value = 0;
  for (const auto& [t, change] : changes)
    if (change != 0 || t == 0) current.steps.push_back({t, value += change});
  return current;
}

double Current::at(double t) const {
  double value = 0;
  for (const Step& step : steps)
    if (step.t_ms <= t) value = step.value;
  return value;
}

double Current::next_change(double t, double end) const {
  for (const Step& step : steps)
    if (step.t_ms > t) return std::min(step.t_ms, end);
  return end;
}

void Options::check() const {
  const auto positive = [](std::string_view what, double value) {
    if (!(value > 0 && std::isfinite(value))) fail("{} {}: must be positive", what, value);
  };
  positive("window", window_ms), positive("shortest window", shortest_ms), positive("A", A_mv);
  positive("loss of a window", window_loss), positive("loss of a spike's segment", spike_loss);
  positive("fresh ratio", fresh_ratio);
  if (hidden < 1 || hidden > 1000) fail("{} hidden units: must be from 1 to 1000", hidden);
  if (points < 3 || points > 100'000) fail("{} points: must be from 3 to 100000", points);
  if (iterations < 1) fail("{} iterations: must be positive", iterations);
  if (!(budget_seconds >= 0)) fail("budget {} s: must not be negative", budget_seconds);
}

Options Options::quality(std::string_view word) {
  Options options;
  if (word == "fast") return options;
  if (word != "best") fail("quality '{}' is neither fast nor best", word);
  options.hidden = 20, options.iterations = 3000;
  options.window_loss = options.spike_loss = 1e-14;
  return options;
}

}  // namespace ranvier::pinn
