// The named neurons, and parameters by name.
#include "models/neurons/presets.h"

#include <charconv>
#include <cmath>

namespace ranvier::neuron {
namespace {

using Piece = Stimulus::Piece;
constexpr double always = Stimulus::minus_infinity;

/// C v' = k (v - v_r)(v - v_t) - u + I as coefficients.
void expand(Preset& p) {
  p.parameters.q2 = p.k, p.parameters.q1 = -p.k * (p.v_r + p.v_t), p.parameters.q0 = p.k * p.v_r * p.v_t;
  p.parameters.v_b = p.v_r;
}

Preset of_2003(std::string name, std::string title, double a, double b, double c, double d) {
  Preset p;
  p.name = std::move(name), p.title = std::move(title);
  p.parameters.a = a, p.parameters.b = b, p.parameters.c = c, p.parameters.d = d;
  p.current = Stimulus::constant(10), p.current_text = "10";
  return p;
}

/// Dynamical Systems in Neuroscience (2007), chapter 8; 1000 ms with the current from 100 ms on.
Preset of_2007(std::string name, std::string title, double capacitance, double k, double v_r, double v_t, double v_peak,
               double a, double b, double c, double d, double current) {
  Preset p = of_2003(std::move(name), std::move(title), a, b, c, d);
  p.form = Form::f2007, p.k = k, p.v_r = v_r, p.v_t = v_t;
  p.parameters.C = capacitance, p.parameters.v_peak = v_peak;
  expand(p);
  p.current = Stimulus({{100, current}}), p.current_text = fmt::format("step:{}@100", current);
  return p;
}

// Stimuli of the printed scripts: an onset "t > T1" belongs to what comes after it, an end "t < T2" likewise not.
Stimulus onset(double value, double from) { return Stimulus({{from, value, 0, true}}); }
Stimulus printed_pulse(double value, double from, double to) { return Stimulus({{from, value, 0, true}, {to, 0}}); }

Preset staged(Preset p, double v0, double dt, double duration, Stimulus current, std::string words) {
  p.v0 = v0, p.dt = dt, p.duration = duration, p.current = std::move(current), p.current_text = std::move(words);
  return p;
}

Preset with_onset(Preset p, double v0, double dt, double duration, double value, double from) {
  return staged(std::move(p), v0, dt, duration, onset(value, from), fmt::format("{} for t > {}", value, from));
}

/// Other coefficients of v' in patterns G and L.
Preset integrator_form(Preset p) {
  p.parameters.q1 = 4.1, p.parameters.q0 = 108;
  return p;
}

/// "Which model to use for cortical spiking neurons?", IEEE Trans. Neural Networks 15 (2004), figure 1, patterns A to
/// J.
std::vector<Preset> patterns_a_to_j() {
  std::vector<Preset> list;
  const auto add = [&](Preset p) { list.push_back(std::move(p)); };
  add(with_onset(of_2003("pattern:a", "tonic spiking", .02, .2, -65, 6), -70, .25, 100, 14, 10));
  add(with_onset(of_2003("pattern:b", "phasic spiking", .02, .25, -65, 6), -64, .25, 200, .5, 20));
  add(with_onset(of_2003("pattern:c", "tonic bursting", .02, .2, -50, 2), -70, .25, 220, 15, 22));
  add(with_onset(of_2003("pattern:d", "phasic bursting", .02, .25, -55, .05), -64, .2, 200, .6, 20));
  add(with_onset(of_2003("pattern:e", "mixed mode", .02, .2, -55, 4), -70, .25, 160, 10, 16));
  add(with_onset(of_2003("pattern:f", "spike frequency adaptation", .01, .2, -65, 8), -70, .25, 85, 30, 8.5));
  add(staged(integrator_form(of_2003("pattern:g", "class 1 excitable", .02, -.1, -55, 6)), -60, .25, 300,
             Stimulus({{30, 0, .075, true}}), "0.075 (t - 30) for t > 30"));
  add(staged(of_2003("pattern:h", "class 2 excitable", .2, .26, -65, 0), -64, .25, 300,
             Stimulus({{always, -.5}, {30, -.5, .015, true}}), "-0.5, then -0.5 + 0.015 (t - 30) for t > 30"));
  add(staged(of_2003("pattern:i", "spike latency", .02, .2, -65, 6), -70, .2, 100, printed_pulse(7.04, 10, 13),
             "7.04 for 10 < t < 13"));
  add(staged(of_2003("pattern:j", "subthreshold oscillation", .05, .26, -60, 0), -62, .25, 200,
             printed_pulse(2, 20, 25), "2 for 20 < t < 25"));
  return list;
}

/// Patterns K to T. R and T are shown by the paper with a right-hand side or a step of their own.
std::vector<Preset> patterns_k_to_t() {
  std::vector<Preset> list;
  const auto add = [&](Preset p) { list.push_back(std::move(p)); };
  const auto pulses = [](double value, double width, std::initializer_list<double> begins) {
    Stimulus sum;
    for (double begin : begins) sum = sum + printed_pulse(value, begin, begin + width);
    return sum;
  };
  add(staged(of_2003("pattern:k", "resonator", .1, .26, -60, -1), -62, .25, 400, pulses(.65, 4, {40, 60, 280, 320}),
             "0.65 for 4 ms from 40, 60, 280, 320"));
  add(staged(integrator_form(of_2003("pattern:l", "integrator", .02, -.1, -55, 6)), -60, .25, 100,
             pulses(9, 2, {100.0 / 11, 100.0 / 11 + 5, 70, 80}), "9 for 2 ms from 9.09, 14.09, 70, 80"));
  add(staged(of_2003("pattern:m", "rebound spike", .03, .25, -60, 4), -64, .2, 200, printed_pulse(-15, 20, 25),
             "-15 for 20 < t < 25"));
  add(staged(of_2003("pattern:n", "rebound burst", .03, .25, -52, 0), -64, .2, 200, printed_pulse(-15, 20, 25),
             "-15 for 20 < t < 25"));
  add(staged(of_2003("pattern:o", "threshold variability", .03, .25, -60, 4), -64, .25, 100,
             pulses(1, 5, {10, 80}) + pulses(-6, 5, {70}), "1 for 5 ms from 10, 80; -6 for 5 ms from 70"));
  add(staged(of_2003("pattern:p", "bistability", .1, .26, -60, 0), -61, .25, 300,
             Stimulus({{always, .24}, {37.5, 1.24, 0, true}, {42.5, .24}, {216, 1.24, 0, true}, {221, .24}}),
             "0.24; 1.24 for 5 ms from 37.5, 216"));
  add(staged(of_2003("pattern:q", "depolarising after-potential", 1, .2, -60, -21), -70, .1, 50,
             printed_pulse(20, 9, 11), "20 for 9 < t < 11"));
  Preset r = staged(of_2003("pattern:r", "accommodation", .02, 1, -55, 4), -65, .5, 400,
                    Stimulus({{0, 0, 1.0 / 25}, {200, 0}, {300, 0, 4 / 12.5}, {312.5, 0}}),
                    "t / 25 to 200; 4 (t - 300) / 12.5 in 300 to 312.5");
  r.parameters.v_b = -65, r.parameters.e = 0, r.u0 = -16;
  add(r);
  const Stimulus inhibition({{always, 80}, {50, 75}, {250, 80, 0, true}});
  add(staged(of_2003("pattern:s", "inhibition-induced spiking", -.02, -1, -60, 8), -63.8, .5, 350, inhibition,
             "80; 75 for 50 <= t <= 250"));
  add(staged(of_2003("pattern:t", "inhibition-induced bursting", -.026, -1, -45, -2), -63.8, .5, 350, inhibition,
             "80; 75 for 50 <= t <= 250"));
  return list;
}

/// "Simple model of spiking neurons", IEEE Trans. Neural Networks 14 (2003), figure 2.
std::vector<Preset> cells() {
  std::vector<Preset> list;
  const auto add = [&](Preset p) { list.push_back(std::move(p)); };
  add(with_onset(of_2003("cell:rs", "regular spiking", .02, .2, -65, 8), -63, .25, 150, 14, 15));
  add(with_onset(of_2003("cell:ib", "intrinsically bursting", .02, .2, -55, 4), -70, .25, 150, 11, 15));
  add(with_onset(of_2003("cell:ch", "chattering", .02, .2, -50, 2), -70, .25, 150, 10, 15));
  add(with_onset(of_2003("cell:fs", "fast spiking", .1, .2, -65, 2), -70, .25, 150, 10, 15));
  add(with_onset(of_2003("cell:tc", "thalamo-cortical", .02, .25, -65, .05), -63, .25, 150, 1.5, 30));
  add(staged(of_2003("cell:tcb", "thalamo-cortical burst", .02, .25, -65, .05), -87, .25, 150,
             Stimulus({{always, -25}, {45, 0, 0, true}}), "-25, then 0 for t > 45"));
  add(staged(of_2003("cell:rz", "resonator", .1, .26, -65, 2), -70, .25, 100,
             Stimulus({{always, -2}, {10, -.5, 0, true}, {60, 10, 0, true}, {65, -.5}}),
             "-2; -0.5 for t > 10; 10 for 60 < t < 65"));
  add(with_onset(of_2003("cell:lts", "low-threshold spiking", .02, .25, -65, 2), -63, .25, 250, 10, 25));
  return list;
}

const std::vector<Preset>& all() {
  static const std::vector<Preset> list = [] {
    std::vector<Preset> all = {
        of_2003("rs2003", "regular spiking", .02, .2, -65, 8),
        of_2003("ib2003", "intrinsically bursting", .02, .2, -55, 4),
        of_2003("ch2003", "chattering", .02, .2, -50, 2),
        of_2003("fs2003", "fast spiking", .1, .2, -65, 2),
        of_2003("lts2003", "low-threshold spiking", .02, .25, -65, 2),
        of_2003("tc2003", "thalamo-cortical", .02, .25, -65, .05),
        of_2003("rz2003", "resonator", .1, .26, -65, 2),
        of_2007("rs2007", "regular spiking", 100, .7, -60, -40, 35, .03, -2, -50, 100, 70),
        of_2007("ib2007", "intrinsically bursting", 150, 1.2, -75, -45, 50, .01, 5, -56, 130, 600),
        of_2007("ch2007", "chattering", 50, 1.5, -60, -40, 25, .03, 1, -40, 150, 300)};
    for (const auto& more : {patterns_a_to_j(), patterns_k_to_t(), cells()})
      all.insert(all.end(), more.begin(), more.end());
    return all;
  }();
  return list;
}

}  // namespace

std::string_view name(Form form) { return form == Form::f2003 ? "2003" : "2007"; }

Form form_named(std::string_view text) {
  if (text == "2003") return Form::f2003;
  if (text == "2007") return Form::f2007;
  fail("form '{}' is not one of 2003, 2007", text);
}

Protocol Preset::protocol(Solver solver, Mode mode) const {
  Protocol s;
  s.parameters = parameters;
  s.v0 = start_v(), s.u0 = start_u();
  s.current = current;
  s.solver = solver, s.mode = mode;
  s.dt = dt, s.duration = duration;
  return s;
}

std::vector<std::string> preset_names() {
  std::vector<std::string> names;
  for (const Preset& p : all()) names.push_back(p.name);
  return names;
}

std::vector<std::string> pattern_names() {
  std::vector<std::string> names;
  for (const Preset& p : all())
    if (p.name.starts_with("pattern:")) names.push_back(p.name);
  return names;
}

Preset preset(std::string_view name) {
  for (const Preset& p : all())
    if (p.name == name) return p;
  fail("preset '{}' is not one of {}", name, fmt::join(preset_names(), " "));
}

double number(std::string_view text, std::string_view what) {
  double value = 0;
  const auto parsed = std::from_chars(text.data(), text.data() + text.size(), value);
  if (parsed.ec != std::errc{} || parsed.ptr != text.data() + text.size()) fail("{}: '{}' is not a number", what, text);
  if (!std::isfinite(value)) fail("{}: '{}' is not finite", what, text);
  return value;
}

void set_parameter(Preset& p, std::string_view key, double value) {
  Parameters& q = p.parameters;
  const auto choose = [&]() -> double* {
    if (key == "a") return &q.a;
    if (key == "b") return &q.b;
    if (key == "c") return &q.c;
    if (key == "d") return &q.d;
    if (key == "v_peak" || key == "vpeak") return &q.v_peak;
    if (key == "v0") return &p.v0.emplace();
    if (key == "u0") return &p.u0.emplace();
    if (p.form == Form::f2007) {
      if (key == "C") return &q.C;
      if (key == "k") return &p.k;
      if (key == "v_r" || key == "vr") return &p.v_r;
      if (key == "v_t" || key == "vt") return &p.v_t;
    } else {
      if (key == "q2") return &q.q2;
      if (key == "q1") return &q.q1;
      if (key == "q0") return &q.q0;
      if (key == "v_b") return &q.v_b;
      if (key == "e") return &q.e;
    }
    return nullptr;
  };
  double* field = choose();
  if (!field)
    fail("parameter '{}' is not one of the form of {}: {}", key, name(p.form),
         p.form == Form::f2007 ? "C k v_r v_t v_peak a b c d v0 u0" : "a b c d v_peak q2 q1 q0 v_b e v0 u0");
  *field = value;
  if (p.form == Form::f2007) expand(p);
}

void set_parameters(Preset& p, std::string_view list) {
  while (!list.empty()) {
    const auto comma = list.find(',');
    const std::string_view item = list.substr(0, comma);
    list = comma == std::string_view::npos ? std::string_view{} : list.substr(comma + 1);
    const auto equals = item.find('=');
    if (equals == std::string_view::npos) fail("parameters: '{}' is not KEY=VALUE", item);
    set_parameter(p, item.substr(0, equals), number(item.substr(equals + 1), item.substr(0, equals)));
  }
}

}  // namespace ranvier::neuron
