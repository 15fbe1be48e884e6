// The neuron view: commands, the two solvers kept in step, and their frames.
#include "tools/view/neuron_scene.h"

#include <cmath>

namespace ranvier::view {
namespace {

using Json = nlohmann::ordered_json;
using neuron::Form;
using neuron::Mode;
using neuron::Solver;

constexpr double drawn_points = 1000;  // buckets that a window is drawn with

double parameter(const neuron::Preset& p, const Current& current, std::string_view key) {
  const auto& q = p.parameters;
  const std::pair<std::string_view, double> all[] = {
      {"I", current.amplitude}, {"C", q.C},     {"k", p.k},          {"a", q.a}, {"b", q.b}, {"c", q.c}, {"d", q.d},
      {"v_r", p.v_r},           {"v_t", p.v_t}, {"v_peak", q.v_peak}};
  for (const auto& [name, value] : all)
    if (name == key) return value;
  fail("no parameter is called {}", key);
}

void write_lane(FrameWriter& to, const Lane& lane, const neuron::Parameters& p, const Lane::Fresh& fresh) {
  const double base = fresh.samples.empty() ? lane.time() : fresh.samples.front().t;
  for (const double value : {lane.time(), lane.now().v, lane.now().u, lane.v_min(), lane.v_max(), p.v_peak, p.c})
    to.put(value);
  to.put(lane.spikes()), to.put<uint32_t>(lane.diverged().empty() ? 0u : uint32_t{lane_diverged});
  to.put(base);
  to.put(static_cast<uint32_t>(fresh.samples.size())), to.put(static_cast<uint32_t>(fresh.spikes.size()));
  to.put<uint64_t>(0);
  to.column(std::span<const double>(fresh.spikes));
  for (const Sample& s : fresh.samples) to.put(static_cast<float>(s.t - base));
  for (const Sample& s : fresh.samples) to.put(static_cast<float>(s.v));
  for (const Sample& s : fresh.samples) to.put(static_cast<float>(s.u));
  to.align();
}

}  // namespace

NeuronScene::NeuronScene() {
  choices_[0] = Choice{Solver::rk4, Mode::accurate, 0.1};
  choices_[1] = Choice{Solver::euler, Mode::published, 1};
  take_preset("rs2007");
}

/// The preset, and its current as a protocol that the sliders speak of where it has that shape.
void NeuronScene::take_preset(const std::string& name) {
  preset_ = neuron::preset(name);
  const bool staged = name.find(':') != std::string::npos;
  Current current;
  current.preset = preset_.current;
  current.protocol = staged ? "preset" : preset_.form == Form::f2007 ? "step" : "constant";
  current.amplitude = staged ? 0 : preset_.current.at(1e9);
  current_ = current;
  until_ = staged ? preset_.duration : 0;
  note_.clear();
  for (auto& choice : choices_)
    if (choice && preset_.form == Form::f2007 && neuron::printed(choice->mode)) {
      note_ = fmt::format("{} is printed for the form of 2003: now 'published'", neuron::name(choice->mode));
      choice->mode = Mode::published;
    }
  rebuild();
}

void NeuronScene::rebuild() {
  std::array<std::unique_ptr<Lane>, 2> fresh;
  for (size_t i = 0; i < fresh.size(); ++i)
    if (choices_[i])
      fresh[i] = std::make_unique<Lane>(preset_, current_, choices_[i]->solver, choices_[i]->mode, choices_[i]->dt);
  lanes_ = std::move(fresh);
  for (auto& lane : lanes_)
    if (lane) lane->set_bucket(window_ / drawn_points, window_);
}

void NeuronScene::restart() { rebuild(); }

void NeuronScene::single_step() {
  const double t = lanes_[0]->time() + lanes_[0]->dt();
  advance(until_ > 0 ? std::min(t, until_) : t, [] { return false; });
}

void NeuronScene::advance(double time, const std::function<bool()>& enough) {
  const double end = until_ > 0 ? std::min(time, until_) : time;
  // Both in slices, so that neither runs ahead of the other when there is not enough time for all.
  const double slice = std::max({20.0, choices_[0]->dt, choices_[1] ? choices_[1]->dt : 0});
  double at = std::max(lanes_[0]->time(), lanes_[1] ? lanes_[1]->time() : 0);
  const auto held = [&] { return !lanes_[0]->diverged().empty() && (!lanes_[1] || !lanes_[1]->diverged().empty()); };
  do {
    at = std::min(end, at + slice);
    for (auto& lane : lanes_)
      if (lane && !lane->advance(at, enough)) return;
  } while (at < end && !held() && !enough());
}

double NeuronScene::time() const {
  double t = 0;
  for (const auto& lane : lanes_)
    if (lane) t = std::max(t, lane->time());
  return t;
}

bool NeuronScene::ended() const {
  bool all = true;
  for (const auto& lane : lanes_) {
    if (!lane) continue;
    const bool through = until_ > 0 && lane->time() + lane->dt() > until_ * (1 + 1e-12);
    all = all && (through || !lane->diverged().empty());
  }
  return all;
}

void NeuronScene::set_parameter(std::string_view key, double value) {
  if (key == "I")
    current_.amplitude = value;
  else
    neuron::set_parameter(preset_, key, value);
}

/// What the sliders allow and the equation does not.
void NeuronScene::clamp() {
  note_.clear();
  if (preset_.form == Form::f2007 && preset_.v_t < preset_.v_r + 0.1) {
    neuron::set_parameter(preset_, "v_t", preset_.v_r + 0.1);
    note_ = fmt::format("v_t is held at {:g} mV: it must lie above v_r = {:g} mV", preset_.v_t, preset_.v_r);
  }
  const double c = preset_.parameters.c;
  if (preset_.parameters.v_peak < c + 1) {
    neuron::set_parameter(preset_, "v_peak", c + 1);
    note_ = fmt::format("v_peak is held at {:g} mV: it must lie above c = {:g} mV", preset_.parameters.v_peak, c);
  }
}

void NeuronScene::set_lane(size_t index, const Message& command) {
  const auto before = choices_;
  const std::string& name = command.control->name;
  if (name.starts_with("neuron.solver.")) {
    if (command.choice == "none")
      choices_[index].reset();
    else if (choices_[index])
      choices_[index]->solver = neuron::solver_named(command.choice);
    else
      choices_[index] = Choice{neuron::solver_named(command.choice), Mode::accurate, 1};
    if (choices_[index] && choices_[index]->solver == Solver::reference) choices_[index]->mode = Mode::accurate;
  } else {
    if (!choices_[index]) fail("{}: there is no solver {}", name, index == 0 ? 'A' : 'B');
    if (name.starts_with("neuron.mode."))
      choices_[index]->mode = neuron::mode_named(command.choice);
    else
      choices_[index]->dt = command.number;
  }
  try {
    rebuild();
  } catch (...) {
    choices_ = before;
    throw;
  }
}

void NeuronScene::apply(const Message& command) {
  const std::string& name = command.control->name;
  const std::string_view key = std::string_view(name).substr(name.find('.') + 1);
  if (key == "preset") return take_preset(command.choice);
  if (key.starts_with("solver.") || key.starts_with("mode.") || key.starts_with("dt."))
    return set_lane(static_cast<size_t>(key.back() - '0'), command);
  if (key == "until") return void(until_ = command.number);
  if (key == "myelin") return void(myelin_ = command.number);
  if (key == "window") {
    window_ = command.number;
    for (auto& lane : lanes_)
      if (lane) lane->set_bucket(window_ / drawn_points, window_);
    return;
  }
  if (key.starts_with("2007.") || key.starts_with("2003.")) {
    if (key.substr(0, 4) != neuron::name(preset_.form))
      fail("{}: the neuron has the form of {} now", name, neuron::name(preset_.form));
    set_parameter(key.substr(5), command.number);
    clamp();
  } else if (key == "protocol") {
    current_.protocol = command.choice;
  } else {
    (key == "onset"    ? current_.onset
     : key == "width"  ? current_.width
     : key == "period" ? current_.period
                       : current_.noise) = command.number;
  }
  for (auto& lane : lanes_)
    if (lane) lane->change(preset_, current_);
}

Frame NeuronScene::frame(FrameHeader header) {
  std::array<Lane::Fresh, 2> fresh;
  size_t room = 48;
  for (size_t i = 0; i < lanes(); ++i) {
    fresh[i] = lanes_[i]->take_fresh();
    room += 96 + 12 * fresh[i].samples.size() + 8 * fresh[i].spikes.size();
  }
  header.kind = neuron_frame, header.parts = static_cast<uint32_t>(lanes());
  header.current = current_.at(header.time);
  FrameWriter writer(room);
  header.write(writer);
  for (size_t i = 0; i < lanes(); ++i) write_lane(writer, *lanes_[i], preset_.parameters, fresh[i]);
  return writer.finish();
}

Json NeuronScene::state() const {
  Json values;
  const std::string form(neuron::name(preset_.form));
  values["neuron.preset"] = preset_.name;
  for (const Control& c : controls())
    if (c.name.starts_with("neuron." + form + "."))
      values[c.name] = parameter(preset_, current_, std::string_view(c.name).substr(12));
  values.update({{"neuron.until", until_},
                 {"neuron.protocol", current_.protocol},
                 {"neuron.onset", current_.onset},
                 {"neuron.width", current_.width},
                 {"neuron.period", current_.period},
                 {"neuron.noise", current_.noise},
                 {"neuron.window", window_},
                 {"neuron.myelin", myelin_}});
  Json held = Json::array();
  for (size_t i = 0; i < 2; ++i) {
    const std::string n = std::to_string(i);
    values["neuron.solver." + n] = choices_[i] ? std::string(neuron::name(choices_[i]->solver)) : "none";
    if (!choices_[i]) continue;
    values["neuron.mode." + n] = neuron::name(choices_[i]->mode);
    values["neuron.dt." + n] = choices_[i]->dt;
    if (!lanes_[i]->diverged().empty()) held.push_back({{"solver", i}, {"why", lanes_[i]->diverged()}});
  }
  const auto& q = preset_.parameters;
  return {{"values", values},
          {"form", form},
          {"title", preset_.title},
          {"current_text", preset_.current_text},
          {"note", note_},
          {"diverged", held},
          {"equation",
           {{"C", q.C},
            {"q2", q.q2},
            {"q1", q.q1},
            {"q0", q.q0},
            {"b", q.b},
            {"v_b", q.v_b},
            {"e", q.e},
            {"v_peak", q.v_peak},
            {"c", q.c},
            {"d", q.d}}}};
}

std::string NeuronScene::trace_csv() const {
  std::string text = "solver,t_ms,v_mv,u,spike\n";
  for (size_t i = 0; i < lanes(); ++i) {
    const auto samples = lanes_[i]->recorded();
    const std::string solver = fmt::format("{} {} {:g} ms", neuron::name(choices_[i]->solver),
                                           neuron::name(choices_[i]->mode), choices_[i]->dt);
    auto spike = lanes_[i]->recorded_spikes().begin();
    const auto last = lanes_[i]->recorded_spikes().end();
    for (const Sample& s : samples) {
      for (; spike != last && *spike <= s.t; ++spike)
        if (*spike >= samples.front().t)
          text += fmt::format("{},{},{},,1\n", solver, *spike, preset_.parameters.v_peak);
      text += fmt::format("{},{},{},{},0\n", solver, s.t, s.v, s.u);
    }
  }
  return text;
}

}  // namespace ranvier::view
