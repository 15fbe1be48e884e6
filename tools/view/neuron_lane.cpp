// One solver's side of the neuron view, and the current that both sides get.
#include <cmath>

#include "engine/draws.h"
#include "tools/view/neuron_scene.h"

namespace ranvier::view {
namespace {

using neuron::Stimulus;

constexpr double horizon = 2000;      // ms: pulses and noise are written out so far ahead
constexpr double implausible = 2000;  // mV: beyond it no membrane, and soon no number

Stimulus::Piece piece(double begin, double value, double slope = 0) { return {begin, value, slope}; }

/// Pieces of one current over [from, until): ascending, with what holds at `from` first.
std::vector<Stimulus::Piece> pulses(const Current& c, double from, double until) {
  std::vector<Stimulus::Piece> list{piece(Stimulus::minus_infinity, 0)};
  const double every = c.period > 0 ? std::max(c.period, c.width + 0.1) : 0;
  const double first = every > 0 ? std::max(0.0, std::floor((from - c.onset) / every)) : 0;
  for (double n = first;; ++n) {
    const double begin = c.onset + n * every;
    if (begin >= until) break;
    list.push_back(piece(begin, c.amplitude)), list.push_back(piece(begin + c.width, 0));
    if (every == 0) break;
  }
  return list;
}

std::vector<Stimulus::Piece> noises(const Current& c, double from, double until) {
  const Draws draws(0, "current/noise");
  std::vector<Stimulus::Piece> list{piece(Stimulus::minus_infinity, c.amplitude)};
  for (double k = std::max(0.0, std::floor(from) - 1); k < until; ++k)
    list.push_back(piece(k, c.amplitude + c.noise * static_cast<double>(draws.normal(static_cast<uint64_t>(k), 0))));
  return list;
}

/// The stimulus seen from `t` on, so that a run from 0 gets it.
Stimulus shifted(const Stimulus& stimulus, double t, double until) {
  std::vector<Stimulus::Piece> list;
  for (const Stimulus::Piece& p : stimulus.pieces()) {
    if (p.begin >= until) break;
    Stimulus::Piece later = p;
    if (p.begin <= t) {
      list.clear();
      later.value = p.begin == Stimulus::minus_infinity || p.slope == 0 ? p.value : p.value + p.slope * (t - p.begin);
      later.begin = Stimulus::minus_infinity, later.after = false;
      if (p.slope != 0) later.begin = 0;
    } else {
      later.begin = p.begin - t;
    }
    list.push_back(later);
  }
  return Stimulus(std::move(list));
}

}  // namespace

Current::Window Current::window(double from) const {
  const double until = from + horizon;
  if (protocol == "step") return {Stimulus({{onset, amplitude}}), INFINITY};
  if (protocol == "ramp")
    return {Stimulus({piece(onset, 0, amplitude / width), piece(onset + width, amplitude)}), INFINITY};
  if (protocol == "preset") return {preset + Stimulus::constant(amplitude), INFINITY};
  if (protocol == "pulse") return {Stimulus(pulses(*this, from, until)), until};
  if (protocol == "noise") return {Stimulus(noises(*this, from, until)), until};
  return {Stimulus::constant(amplitude), INFINITY};
}

Lane::Lane(const neuron::Preset& preset, const Current& current, neuron::Solver solver, neuron::Mode mode, double dt)
    : solver_(solver), dt_(dt), preset_(preset), current_(current), window_now_(current.window(0)) {
  neuron::Protocol protocol = preset.protocol(solver, mode);
  protocol.dt = dt, protocol.current = window_now_.stimulus;
  now_ = {0, protocol.v0, protocol.u0};
  v_min_ = v_max_ = now_.v;
  if (solver == neuron::Solver::reference)
    protocol.duration = dt, validate(protocol);
  else
    stepper_.emplace(std::move(protocol), preset.name);
  note(now_);
}

void Lane::change(const neuron::Preset& preset, const Current& current) {
  if (!diverged_.empty()) return;
  preset_ = preset, current_ = current, window_now_ = current.window(now_.t);
  if (stepper_) {
    stepper_->change(preset.parameters, window_now_.stimulus);
    add_spikes(stepper_->take_spikes());
    now_.v = stepper_->v(), now_.u = stepper_->u();
  } else if (now_.v >= preset.parameters.v_peak) {
    add_spikes({now_.t});
    now_.v = preset.parameters.c, now_.u += preset.parameters.d;
  }
}

bool Lane::advance(double time, const std::function<bool()>& enough) {
  int64_t steps = 0;
  while (diverged_.empty() && now_.t + dt_ <= time * (1 + 1e-12)) {
    if ((++steps & 63) == 0 && enough()) return false;
    step();
  }
  return true;
}

void Lane::step() {
  try {
    if (now_.t >= window_now_.until - 1) change(preset_, current_);
    if (stepper_) {
      stepper_->advance();
      now_ = {stepper_->time(), stepper_->v(), stepper_->u()};
      v_min_ = stepper_->run().v_min, v_max_ = stepper_->run().v_max;
      add_spikes(stepper_->take_spikes());
    } else {
      step_reference();
    }
    if (!(std::abs(now_.v) <= implausible))
      fail("v left the range of membranes at t = {:.6g} ms: {:.3g} mV", now_.t, now_.v);
  } catch (const Error& error) {
    diverged_ = error.what();
    now_.v = std::clamp(std::isfinite(now_.v) ? now_.v : 0.0, -implausible, implausible);
    v_min_ = std::max(v_min_, -1e6), v_max_ = std::min(v_max_, 1e6);
  }
  note(now_);
}

void Lane::step_reference() {
  neuron::Protocol one = preset_.protocol(solver_);
  one.dt = one.duration = dt_, one.v0 = now_.v, one.u0 = now_.u;
  one.current = shifted(window_now_.stimulus, now_.t, now_.t + dt_);
  neuron::Result run = neuron::simulate(one, preset_.name);
  for (double& t : run.spikes) t += now_.t;
  now_ = {static_cast<double>(++reference_steps_) * dt_, run.v, run.u};
  v_min_ = std::min(v_min_, run.v_min), v_max_ = std::max(v_max_, run.v_max);
  add_spikes(run.spikes);
}

void Lane::add_spikes(const std::vector<double>& times) {
  spikes_ += static_cast<uint32_t>(times.size());
  for (const double t : times) {
    fresh_.spikes.push_back(t), recorded_spikes_.push_back(t);
  }
  const double oldest = ring_.empty() ? 0 : ring_[ring_.size() < recorded_limit ? 0 : ring_at_].t;
  while (!recorded_spikes_.empty() && recorded_spikes_.front() < oldest) recorded_spikes_.pop_front();
  constexpr size_t limit = 20'000;
  if (fresh_.spikes.size() > 2 * limit)
    fresh_.spikes.erase(fresh_.spikes.begin(), fresh_.spikes.end() - static_cast<std::ptrdiff_t>(limit));
}

void Lane::note(const Sample& sample) {
  if (ring_.size() < recorded_limit) {
    ring_.push_back(sample);
  } else {
    ring_[ring_at_] = sample;
    ring_at_ = (ring_at_ + 1) % recorded_limit;
  }
  if (bucket_ <= dt_) return draw(sample);
  if (sample.t >= bucket_end_) {
    flush_bucket();
    bucket_end_ = (std::floor(sample.t / bucket_) + 1) * bucket_;
  }
  if (!low_ || sample.v < low_->v) low_ = sample;
  if (!high_ || sample.v > high_->v) high_ = sample;
}

void Lane::flush_bucket() {
  if (!low_) return;
  const Sample first = low_->t <= high_->t ? *low_ : *high_, second = low_->t <= high_->t ? *high_ : *low_;
  draw(first);
  if (second.t > first.t) draw(second);
  low_.reset(), high_.reset();
}

/// Keeps a point for the next frame; what no window can show is forgotten.
void Lane::draw(const Sample& sample) {
  fresh_.samples.push_back(sample);
  const auto limit = static_cast<size_t>(4 * window_ / std::max(bucket_, dt_)) + 64;
  if (fresh_.samples.size() > 2 * limit)
    fresh_.samples.erase(fresh_.samples.begin(), fresh_.samples.end() - static_cast<std::ptrdiff_t>(limit));
}

Lane::Fresh Lane::take_fresh() {
  flush_bucket();
  Fresh taken = std::exchange(fresh_, {});
  const auto old = [&](double t) { return t < now_.t - 1.5 * window_; };
  std::erase_if(taken.spikes, old);
  std::erase_if(taken.samples, [&](const Sample& s) { return old(s.t); });
  return taken;
}

std::vector<Sample> Lane::recorded() const {
  std::vector<Sample> list(ring_.begin() + static_cast<std::ptrdiff_t>(ring_at_), ring_.end());
  list.insert(list.end(), ring_.begin(), ring_.begin() + static_cast<std::ptrdiff_t>(ring_at_));
  return list;
}

}  // namespace ranvier::view
