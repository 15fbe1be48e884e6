// The table of controls, and the parser of messages that holds every message to it.
#include "tools/view/controls.h"

#include <cctype>
#include <cmath>
#include <map>

#include "models/neurons/presets.h"
#include "tools/view/population_scene.h"

namespace ranvier::view {
namespace {

using Json = nlohmann::ordered_json;

struct Range {
  double low, high;
};

Control number(std::string name, std::string label, std::string unit, Range range, double initial, std::string about,
               Range seed = {0, 0}) {
  Control c{std::move(name), Kind::number, std::move(label), std::move(unit), range.low, range.high};
  c.seed_low = seed.low, c.seed_high = seed.high, c.initial = initial, c.about = std::move(about);
  return c;
}

Control logarithmic(Control c) {
  c.logarithmic = true;
  return c;
}

Control choice(std::string name, std::string label, std::vector<std::string> choices, std::string about) {
  Control c{std::move(name), Kind::choice, std::move(label)};
  c.choices = std::move(choices), c.about = std::move(about);
  return c;
}

Control action(std::string name, std::string label, std::string about) {
  Control c{std::move(name), Kind::action, std::move(label)};
  c.about = std::move(about);
  return c;
}

std::vector<std::string> solver_names(bool or_none) {
  std::vector<std::string> names;
  for (const neuron::Solver solver : neuron::all_solvers())
    if (solver != neuron::Solver::linear_implicit_adaptive) names.emplace_back(name(solver));
  if (or_none) names.emplace_back("none");
  return names;
}

/// "RS: regular spiking (form of 2007)" of rs2007, "(A) tonic spiking" of pattern:a.
std::string words_of(const std::string& preset) {
  const neuron::Preset p = neuron::preset(preset);
  std::string sign = preset.substr(preset.find(':') + 1);
  for (char& c : sign) c = static_cast<char>(std::toupper(c));
  if (sign.size() == 1) return fmt::format("({}) {}", sign, p.title);
  const std::string form(neuron::name(p.form));
  if (sign.ends_with(form)) sign.resize(sign.size() - form.size());
  return fmt::format("{}: {} (form of {})", sign, p.title, form);
}

/// How a view runs through time.
void add_player(std::vector<Control>& list, const std::string& view) {
  list.push_back(choice(view + ".run", "Run", {"run", "pause"}, "Runs or pauses the simulation"));
  list.push_back(action(view + ".step", "Single step", "One step of the first solver; pauses first"));
  list.push_back(action(view + ".restart", "Restart", "Back to t = 0 and the preset's initial state"));
  list.push_back(choice(view + ".pace", "Pace", {"speed", "unlimited"}, "At the chosen speed, or as fast as it can"));
  list.push_back(logarithmic(number(view + ".speed", "Speed", "x real time", {0.001, 100}, 1,
                                    "1 is real time: one second of the neuron in a second of yours")));
}

void add_neuron(std::vector<Control>& list) {
  std::vector<std::string> presets = neuron::preset_names();
  const auto regular = std::find(presets.begin(), presets.end(), "rs2007");
  std::rotate(presets.begin(), regular, regular + 1);
  list.push_back(choice("neuron.preset", "Neuron", presets, "A named neuron with its current; restarts"));
  for (const std::string& name : presets) list.back().words.push_back(words_of(name));
  add_player(list, "neuron");
  list.push_back(number("neuron.until", "End", "ms", {0, 1e6}, 0, "Ends the run at this time; 0: it has no end"));
  list.push_back(choice("neuron.protocol", "Current", {"constant", "step", "pulse", "ramp", "noise", "preset"},
                        "The shape of I over time; preset: as the preset has it, and I is added"));
  const char* onset = "Where step, pulse and ramp begin";
  list.push_back(number("neuron.onset", "Onset", "ms", {0, 1e4}, 100, onset));
  list.push_back(number("neuron.width", "Length", "ms", {0.1, 1e4}, 50, "Of a pulse, or of a ramp from 0 to I"));
  list.push_back(number("neuron.period", "Period", "ms", {0, 1e4}, 200, "A pulse comes again after this; 0: once"));
  list.push_back(number("neuron.noise", "Noise", "of I, s.d.", {0, 500}, 5, "Normal values, new every ms"));
  const auto form = [&](const char* of, const char* key, const char* unit, Range range, double initial,
                        const char* about, Range seed = {0, 0}) {
    list.push_back(number(fmt::format("neuron.{}.{}", of, key), key, unit, range, initial, about, seed));
  };
  form("2007", "I", "pA", {-200, 700}, 70, "Input current", {0, 100});
  form("2007", "C", "pF", {1, 200}, 100, "Membrane capacitance", {1, 200});
  form("2007", "k", "nS/mV", {0.1, 3}, 0.7, "Sharpness of the spike's upstroke", {0.1, 1.5});
  form("2007", "a", "1/ms", {0.001, 0.2}, 0.03, "Rate of recovery", {0.01, 0.1});
  form("2007", "b", "nS", {-5, 10}, -2, "Sensitivity of recovery to v", {-5, 0});
  form("2007", "c", "mV", {-80, -30}, -50, "v after a spike");
  form("2007", "d", "pA", {-50, 200}, 100, "What a spike adds to u");
  form("2007", "v_r", "mV", {-90, -50}, -60, "Resting potential");
  form("2007", "v_t", "mV", {-60, -20}, -40, "Threshold; at least 0.1 mV above v_r");
  form("2007", "v_peak", "mV", {0, 60}, 35, "Where a spike is cut off");
  form("2003", "I", "of the form of 2003", {-100, 100}, 10, "Input current");
  form("2003", "a", "1/ms", {-0.1, 1}, 0.02, "Rate of recovery");
  form("2003", "b", "1", {-1.5, 1.5}, 0.2, "Sensitivity of recovery to v");
  form("2003", "c", "mV", {-80, -40}, -65, "v after a spike");
  form("2003", "d", "of u", {-25, 10}, 8, "What a spike adds to u");
  std::vector<std::string> first = solver_names(false), second = solver_names(true);
  std::rotate(first.begin(), std::find(first.begin(), first.end(), "rk4"), first.end());
  const std::vector<std::string> accurate = {"accurate", "published", "published:2003", "published:2004"};
  const std::vector<std::string> published = {"published", "accurate", "published:2003", "published:2004"};
  const char* switches = "Restarts both solvers";
  list.push_back(choice("neuron.solver.0", "Solver A", first, switches));
  list.push_back(choice("neuron.mode.0", "Resets of A", accurate, "accurate: located inside the step; restarts"));
  list.push_back(logarithmic(number("neuron.dt.0", "Step of A", "ms", {0.01, 2}, 0.1, switches)));
  list.push_back(choice("neuron.solver.1", "Solver B", second, "Runs beside A; none: A alone; restarts"));
  list.push_back(choice("neuron.mode.1", "Resets of B", published, "published: at the end of the step; restarts"));
  list.push_back(logarithmic(number("neuron.dt.1", "Step of B", "ms", {0.01, 2}, 1, switches)));
  list.push_back(logarithmic(number("neuron.window", "Window", "ms", {20, 5000}, 1000, "How much time a trace shows")));
  list.push_back(number("neuron.myelin", "Myelin", "share", {0, 1}, 0.8,
                        "Of the drawn axon: more myelin, faster jumps from node to node"));
}

void add_population(std::vector<Control>& list) {
  std::vector<std::string> names;
  for (const Regime& regime : regimes()) names.push_back(regime.name);
  list.push_back(choice("population.preset", "Regime", names, "Sets all sliders; restarts"));
  add_player(list, "population");
  Control neurons = number("population.neurons", "Neurons", "", {100, 40'000}, 10'000, "Restarts");
  neurons.whole = true;
  list.push_back(neurons);
  list.push_back(number("population.input", "Input", "of the form of 2003", {-10, 30}, 6, "Current into every neuron"));
  list.push_back(number("population.synapses", "Synapses", "x", {0, 10}, 0, "Scales every synapse"));
  list.push_back(number("population.inhibition", "Inhibition", "x", {0, 6}, 1, "Inhibitory synapses over excitatory"));
  list.push_back(number("population.ephaptic", "Ephaptic coupling", "current a uV", {0, 1}, 0,
                        "How much current the field of the neighbours' spikes drives into a neuron"));
  list.push_back(number("population.window", "Window", "ms", {100, 5000}, 1000, "How much time the raster shows"));
}

std::vector<Control> make_controls() {
  std::vector<Control> list;
  add_neuron(list);
  add_population(list);
  return list;
}

const char* kind_name(Kind kind) {
  return kind == Kind::number ? "number" : kind == Kind::choice ? "choice" : "action";
}

/// The whole number of a key, for ids and sequences.
int64_t whole_number(const Json& object, const char* key, int64_t id) {
  const Json& value = object.at(key);
  if (!value.is_number_integer() || value.get<double>() < 0 || value.get<double>() > 4294967295.0)
    throw BadMessage(fmt::format("{}: must be a whole number from 0 to 4294967295", key), id);
  return value.get<int64_t>();
}

/// At most 80 bytes of a text, quoted; what is no printable ASCII, and might be half a letter, is a question mark.
std::string shown(std::string_view text) {
  std::string out;
  for (const char c : text.substr(0, 80)) out += c < ' ' || c > '~' ? '?' : c;
  return fmt::format("'{}{}'", out, text.size() > 80 ? "..." : "");
}

void set_value(Message& message, const Json& value) {
  const Control& c = *message.control;
  if (c.kind == Kind::action) throw BadMessage(fmt::format("{} is done, not set", c.name), message.id);
  if (c.kind == Kind::choice) {
    if (!value.is_string()) throw BadMessage(fmt::format("{}: the value must be a text", c.name), message.id);
    message.choice = value.get<std::string>();
    if (std::find(c.choices.begin(), c.choices.end(), message.choice) == c.choices.end())
      throw BadMessage(fmt::format("{}: {} is not one of {}", c.name, shown(message.choice), fmt::join(c.choices, " ")),
                       message.id);
    return;
  }
  if (!value.is_number()) throw BadMessage(fmt::format("{}: the value must be a number", c.name), message.id);
  message.number = value.get<double>();
  if (!std::isfinite(message.number)) throw BadMessage(fmt::format("{}: not a finite number", c.name), message.id);
  if (message.number < c.low || message.number > c.high)
    throw BadMessage(
        fmt::format("{} = {:g} is out of range: {:g} to {:g} {}", c.name, message.number, c.low, c.high, c.unit),
        message.id);
  if (c.whole && message.number != std::floor(message.number))
    throw BadMessage(fmt::format("{} = {:g}: must be a whole number", c.name, message.number), message.id);
}

}  // namespace

std::span<const Control> controls() {
  static const std::vector<Control> list = make_controls();
  return list;
}

const Control& control(std::string_view name) {
  static const std::map<std::string, const Control*, std::less<>> index = [] {
    std::map<std::string, const Control*, std::less<>> all;
    for (const Control& c : controls()) all.emplace(c.name, &c);
    return all;
  }();
  const auto found = index.find(name);
  if (found == index.end()) fail("no control is called {}", shown(name));
  return *found->second;
}

Json controls_json() {
  Json list = Json::array();
  for (const Control& c : controls()) {
    Json item = {{"name", c.name}, {"kind", kind_name(c.kind)}, {"label", c.label}, {"about", c.about}};
    if (c.kind == Kind::choice) item["choices"] = c.choices;
    if (!c.words.empty()) item["words"] = c.words;
    if (c.kind == Kind::number) {
      item.update({{"unit", c.unit}, {"low", c.low}, {"high", c.high}, {"initial", c.initial}});
      item.update({{"logarithmic", c.logarithmic}, {"whole", c.whole}});
      if (c.seed_low < c.seed_high) item.update({{"seed_low", c.seed_low}, {"seed_high", c.seed_high}});
    }
    list.push_back(std::move(item));
  }
  return list;
}

Message parse_message(std::string_view text) {
  Message message;
  if (text.size() > message_limit) throw BadMessage(fmt::format("a message of {} bytes is too long", text.size()), 0);
  Json object;
  try {
    object = Json::parse(text);
  } catch (const std::exception& error) {
    const std::string_view what = error.what();
    throw BadMessage(fmt::format("not a message: {}", shown(what.substr(std::min(what.size(), what.find("] ") + 2)))),
                     0);
  }
  if (!object.is_object()) throw BadMessage("not a message: not a JSON object", 0);
  if (object.contains("id")) message.id = whole_number(object, "id", 0);
  for (const auto& [key, value] : object.items())
    if (key != "id" && key != "set" && key != "value" && key != "do" && key != "ack" && key != "watch")
      throw BadMessage(fmt::format("a message has no key {}", shown(key)), message.id);
  const auto kinds = object.count("set") + object.count("do") + object.count("ack") + object.count("watch");
  if (kinds != 1) throw BadMessage("a message has exactly one of set, do, ack and watch", message.id);
  if (object.contains("value") != object.contains("set"))
    throw BadMessage("value goes with set, and set with value", message.id);
  if (object.contains("ack")) {
    message.kind = Message::Kind::acknowledge;
    message.sequence = static_cast<uint32_t>(whole_number(object, "ack", message.id));
    return message;
  }
  const char* key = object.contains("set") ? "set" : object.contains("do") ? "do" : "watch";
  if (!object[key].is_string()) throw BadMessage(fmt::format("{}: must be a text", key), message.id);
  const auto name = object[key].get<std::string>();
  if (object.contains("watch")) {
    message.kind = Message::Kind::watch;
    if (name != "neuron" && name != "population" && name != "runs" && name != "none")
      throw BadMessage(fmt::format("no view is called {}", shown(name)), message.id);
    message.view = name;
    return message;
  }
  try {
    message.control = &control(name);
  } catch (const Error& error) {
    throw BadMessage(error.what(), message.id);
  }
  if (object.contains("set"))
    set_value(message, object["value"]);
  else if (message.control->kind != Kind::action)
    throw BadMessage(fmt::format("{} is set, not done", name), message.id);
  return message;
}

}  // namespace ranvier::view
