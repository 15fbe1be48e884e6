// Names, checks and stimulus of a single neuron, and the choice of its loop.
#include "engine/neuron.h"

#include <algorithm>
#include <array>
#include <chrono>

#include "engine/neuron_run.h"
#include "kernels/common/philox.h"
#include "kernels/izhikevich/located.h"

namespace ranvier::neuron {
namespace {

template <class E, size_t N>
using Names = std::array<std::pair<E, std::string_view>, N>;

constexpr Names<Solver, 10> solvers{{{Solver::euler, "euler"},
                                     {Solver::izhikevich, "izhikevich"},
                                     {Solver::backward_euler, "backward-euler"},
                                     {Solver::midpoint, "midpoint"},
                                     {Solver::rk4, "rk4"},
                                     {Solver::ab2, "ab2"},
                                     {Solver::exponential, "exponential"},
                                     {Solver::linear_implicit, "linear-implicit"},
                                     {Solver::linear_implicit_adaptive, "linear-implicit-adaptive"},
                                     {Solver::reference, "reference"}}};
constexpr Names<Mode, 4> modes{{{Mode::accurate, "accurate"},
                                {Mode::published, "published"},
                                {Mode::published_2003, "published:2003"},
                                {Mode::published_2004, "published:2004"}}};
constexpr Names<Precision, 2> precisions{{{Precision::f32, "f32"}, {Precision::f64, "f64"}}};
constexpr Names<SpikeEvent, 2> events{{{SpikeEvent::peak, "v_peak"}, {SpikeEvent::zero, "0mV"}}};

template <class E, size_t N>
std::string_view name_in(const Names<E, N>& names, E value) {
  for (const auto& [known, text] : names)
    if (known == value) return text;
  return "?";
}

template <class E, size_t N>
E value_in(const Names<E, N>& names, std::string_view text, const char* what) {
  std::string list;
  for (const auto& [value, known] : names) {
    if (known == text) return value;
    list += (list.empty() ? "" : ", ") + std::string(known);
  }
  fail("{} '{}' is not one of {}", what, text, list);
}

void check_finite(const char* key, double value) {
  if (!std::isfinite(value)) fail("neuron parameter {} = {} is not a finite number", key, value);
}

void check_positive(const char* key, double value) {
  if (!(std::isfinite(value) && value > 0)) fail("{} = {}: must be positive and finite", key, value);
}

}  // namespace

std::string_view name(Solver value) { return name_in(solvers, value); }
std::string_view name(Mode value) { return name_in(modes, value); }
std::string_view name(Precision value) { return name_in(precisions, value); }
std::string_view name(SpikeEvent value) { return name_in(events, value); }
std::string method_text(Mode mode, Solver solver) {
  return fmt::format("mode {}{}", name(mode), printed(mode) ? "" : fmt::format(", solver {}", name(solver)));
}
Solver solver_named(std::string_view text) { return value_in(solvers, text, "solver"); }
Mode mode_named(std::string_view text) { return value_in(modes, text, "mode"); }
Precision precision_named(std::string_view text) { return value_in(precisions, text, "precision"); }
SpikeEvent spike_event_named(std::string_view text) { return value_in(events, text, "spike event"); }

const std::vector<Solver>& all_solvers() {
  static const std::vector<Solver> list = [] {
    std::vector<Solver> all;
    for (const auto& [solver, text] : solvers) all.push_back(solver);
    return all;
  }();
  return list;
}

Stimulus::Stimulus(std::vector<Piece> pieces) : pieces_(std::move(pieces)) {
  for (size_t i = 0; i < pieces_.size(); ++i) {
    const Piece& p = pieces_[i];
    if (!std::isfinite(p.value) || !std::isfinite(p.slope) || std::isnan(p.begin))
      fail("current: the piece from {} ms has value {} and slope {}", p.begin, p.value, p.slope);
    if (p.begin == minus_infinity && p.slope != 0) fail("current: a ramp needs a beginning");
    if (i > 0 && p.begin < pieces_[i - 1].begin)
      fail("current: {} ms comes after {} ms", p.begin, pieces_[i - 1].begin);
  }
}

double Stimulus::at(double t) const {
  const Piece* holding = nullptr;
  for (const Piece& p : pieces_) {
    if (p.begin > t) break;
    if (p.after ? t > p.begin : t >= p.begin) holding = &p;
  }
  return !holding ? 0 : holding->slope == 0 ? holding->value : holding->value + holding->slope * (t - holding->begin);
}

Stimulus operator+(const Stimulus& a, const Stimulus& b) {
  const auto before = [](const Stimulus::Piece& x, const Stimulus::Piece& y) {
    return x.begin != y.begin ? x.begin < y.begin : x.after < y.after;
  };
  std::vector<Stimulus::Piece> merged;
  size_t i = 0, j = 0;
  const auto& x = a.pieces_;
  const auto& y = b.pieces_;
  // Value of the piece passed last, continued to `t`.
  const auto part = [](const std::vector<Stimulus::Piece>& pieces, size_t passed, double t) {
    if (passed == 0) return 0.0;
    const Stimulus::Piece& p = pieces[passed - 1];
    return p.slope == 0 ? p.value : p.value + p.slope * (t - p.begin);
  };
  while (i < x.size() || j < y.size()) {
    const Stimulus::Piece& next = j == y.size() || (i < x.size() && !before(y[j], x[i])) ? x[i] : y[j];
    const double t = next.begin;
    const bool after = next.after;
    while (i < x.size() && x[i].begin == t && x[i].after == after) ++i;
    while (j < y.size() && y[j].begin == t && y[j].after == after) ++j;
    const double slope = (i ? x[i - 1].slope : 0) + (j ? y[j - 1].slope : 0);
    merged.push_back({t, part(x, i, t) + part(y, j, t), slope, after});
  }
  return Stimulus(std::move(merged));
}

Stimulus noise(double deviation, double interval, double duration, uint64_t seed, uint64_t neuron) {
  namespace philox = kernels::philox;
  std::vector<Stimulus::Piece> pieces;
  const auto count = static_cast<uint64_t>(std::ceil(duration / interval));
  for (uint64_t k = 0; k < count; ++k) {
    const float z = philox::normal({seed, philox::stream_hash("current/noise"), k}, neuron);
    pieces.push_back({static_cast<double>(k) * interval, deviation * static_cast<double>(z)});
  }
  return Stimulus(std::move(pieces));
}

void validate(const Parameters& p) {
  const std::pair<const char*, double> all[] = {{"C", p.C}, {"q2", p.q2}, {"q1", p.q1},        {"q0", p.q0},
                                                {"a", p.a}, {"b", p.b},   {"v_b", p.v_b},      {"e", p.e},
                                                {"c", p.c}, {"d", p.d},   {"v_peak", p.v_peak}};
  for (const auto& [key, value] : all) check_finite(key, value);
  if (!(p.C > 0)) fail("neuron parameter C = {}: the capacitance must be positive", p.C);
  if (!(p.q2 > 0)) fail("neuron parameter k (q2) = {}: must be positive, or the neuron cannot spike", p.q2);
  if (!(std::abs(p.v_peak) <= 1e6)) fail("neuron parameter v_peak = {}: no potential is beyond 1e6 mV", p.v_peak);
  if (!(p.c < p.v_peak))
    fail("neuron parameter v_peak = {} is not above c = {}: it would spike for ever", p.v_peak, p.c);
}

void validate(const Protocol& s) {
  validate(s.parameters);
  check_positive("dt", s.dt);
  check_positive("duration", s.duration);
  if (s.duration / s.dt > 1e12) fail("duration {} ms in steps of {} ms are more than 1e12 steps", s.duration, s.dt);
  check_finite("v0", s.v0), check_finite("u0", s.u0);
  if (!(s.v0 < s.parameters.v_peak)) fail("v0 = {} is not below v_peak = {}", s.v0, s.parameters.v_peak);
  if (s.spike_event == SpikeEvent::zero && !(s.parameters.c < 0 && s.parameters.v_peak > 0))
    fail("spike event 0mV needs c below 0 and v_peak above: c = {}, v_peak = {}", s.parameters.c, s.parameters.v_peak);
  if (printed(s.mode) && s.parameters.C != 1)
    fail("mode {} is printed for the form of 2003: it has no C = {}", name(s.mode), s.parameters.C);
  if (s.solver == Solver::reference && s.mode != Mode::accurate)
    fail("solver reference locates every event: it has no mode {}", name(s.mode));
  const bool host_only = s.solver == Solver::reference || s.solver == Solver::linear_implicit_adaptive;
  if (host_only && !printed(s.mode) && s.precision == Precision::f32)
    fail("solver {} works in f64 only", name(s.solver));
}

Result simulate(const Protocol& protocol, std::string_view label) {
  validate(protocol);
  const auto start = std::chrono::steady_clock::now();
  Result run = printed(protocol.mode)                                ? run_fixed(protocol, label)
               : protocol.solver == Solver::reference                ? run_reference(protocol, label)
               : protocol.solver == Solver::linear_implicit_adaptive ? run_adaptive(protocol, label)
                                                                     : run_fixed(protocol, label);
  run.seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  return run;
}

Recorder::Recorder(const Protocol& protocol, std::string_view label) : protocol(protocol), label_(label) {
  run.v = run.v_min = run.v_max = protocol.v0;
  run.u = run.u_min = run.u_max = protocol.u0;
  if (!protocol.trace) return;
  const auto rows = static_cast<size_t>(std::min(protocol.duration / protocol.dt + 2, 1e7));
  for (auto* column : {&run.trace.t, &run.trace.v, &run.trace.u, &run.trace.h}) column->reserve(rows);
  if (protocol.samples.empty()) {
    run.trace.t.push_back(0), run.trace.v.push_back(protocol.v0), run.trace.u.push_back(protocol.u0);
    run.trace.h.push_back(0);
  }
}

void Recorder::touch(double v, double u) {
  run.v_min = std::min(run.v_min, v), run.v_max = std::max(run.v_max, v);
  run.u_min = std::min(run.u_min, u), run.u_max = std::max(run.u_max, u);
}

void Recorder::state(double t, double v, double u, double h) {
  if (!(std::isfinite(v) && std::isfinite(u))) diverged(t);
  ++run.steps;
  run.t = t, run.v = v, run.u = u;
  touch(v, u);
  if (!protocol.trace || !protocol.samples.empty()) return;
  run.trace.t.push_back(t), run.trace.v.push_back(v), run.trace.u.push_back(u), run.trace.h.push_back(h);
}

bool Recorder::stop() {
  if (!protocol.stop || (++asked_ & 1023) || !protocol.stop(run)) return false;
  return run.stopped = true;
}

void Recorder::runaway(double time) {
  const std::string what =
      fmt::format("{} runs away: more than {} spikes in one step of {} ms at t = {:.6g} ms, after {} spikes", label_,
                  kernels::izhikevich::max_events, protocol.dt, time, run.spikes.size());
  throw Runaway(what, std::move(run));
}

void Recorder::diverged(double time) {
  throw Runaway(fmt::format("{} left the range of numbers at t = {:.6g} ms (solver {}, steps of {} ms)", label_, time,
                            name(protocol.solver), protocol.dt),
                std::move(run));
}

void Recorder::unsolvable(double time) {
  throw Runaway(fmt::format("{}: solver {} has no solution at t = {:.6g} ms, however short the step", label_,
                            name(protocol.solver), time),
                std::move(run));
}

bool Cursor::advance(double t, double slack) {
  const size_t before = index_;
  while (index_ < pieces_->size() && (*pieces_)[index_].begin <= t + slack) ++index_;
  return index_ != before;
}

double Cursor::next_edge() const {
  return index_ < pieces_->size() ? (*pieces_)[index_].begin : std::numeric_limits<double>::infinity();
}

double Cursor::value(double t) const {
  if (index_ == 0) return 0;
  const Stimulus::Piece& p = (*pieces_)[index_ - 1];
  return p.slope == 0 ? p.value : p.value + p.slope * (t - p.begin);
}

int64_t step_count(const Protocol& protocol) {
  return std::max<int64_t>(1, static_cast<int64_t>(std::ceil(protocol.duration / protocol.dt * (1 - 1e-12) - 1e-9)));
}

}  // namespace ranvier::neuron
