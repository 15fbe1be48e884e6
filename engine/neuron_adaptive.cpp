// One neuron in steps that a solver chooses: the linearly implicit scheme and the Taylor-series reference.
#include <algorithm>

#include "engine/neuron_run.h"
#include "kernels/izhikevich/adaptive.h"
#include "kernels/izhikevich/located.h"
#include "kernels/izhikevich/taylor.h"

namespace ranvier::neuron {
namespace {

namespace iz = kernels::izhikevich;
using Field = iz::Field<double, iz::Ramp<double>>;

/// Counts spikes within each stretch of dt and refuses a runaway.
class Bound {
 public:
  explicit Bound(double dt) : dt_(dt) {}
  /// False at the ninth spike within one step of the grid.
  bool admit(double time) {
    const double step = std::floor(time / dt_);
    count_ = step == step_ ? count_ + 1 : 1;
    step_ = step;
    return count_ <= iz::max_events;
  }

 private:
  double dt_, step_ = -1;
  int count_ = 0;
};

/// The scheme as published: the current of the step's start, reset at the end of an accepted step, an end beyond T.
Result run_published(const Protocol& protocol, std::string_view label) {
  const AdaptiveRule rule = AdaptiveRule::published();
  Recorder recorder(protocol, label);
  const iz::Rates<double> rates = iz::rates<double>(protocol.parameters);
  const iz::Reset<double> reset = iz::reset<double>(protocol.parameters);
  const bool zero = protocol.spike_event == SpikeEvent::zero;
  State<double> y{protocol.v0, protocol.u0};
  double t = 0, h = rule.first;
  int retries = 0;
  while (t < protocol.duration && !recorder.run.stopped) {
    const Field field{rates, {iz::drive(protocol.parameters, protocol.current.at(t)), 0}};
    const iz::Trial trial = iz::try_step(rule, field, y, h);
    recorder.run.evaluations += 3, recorder.run.jacobians += 1;
    const double next = iz::next_length(rule, h, trial.error);
    if (!(trial.error < 1)) {  // the published loop never ends at the shortest step; ours does
      ++recorder.run.rejections;
      if (++retries > rule.max_retries) recorder.unsolvable(t);
      h = next;
      continue;
    }
    retries = 0;
    recorder.touch(trial.y.v, trial.y.u);
    const bool rose = y.v < 0 && trial.y.v >= 0;
    bool fired;
    y = iz::grid_reset(reset, trial.y, fired);
    t += h;
    if (zero ? rose : fired) recorder.spike(t);
    recorder.state(t, y.v, y.u, h);
    recorder.stop();
    h = next;
  }
  return std::move(recorder.run);
}

/// The same method as a step functor, for the location of events inside an accepted step: its two halves.
struct TwoHalves {
  static constexpr int order = 1, evaluations = 2, jacobians = 2;
  static constexpr bool may_fail = false;

  template <class F>
  State<double> operator()(const F& f, State<double> y, const iz::Length<double>& s) const {
    const iz::LinearImplicit half;
    const auto length = iz::Length<double>::piece(s.half);
    return half(f.from(s.half), half(f, y, length), length);
  }
};

/// Our own form: events located, steps end exactly at edges of the stimulus and at T.
class Adaptive {
 public:
  Adaptive(const Protocol& protocol, std::string_view label)
      : protocol_(protocol),
        recorder_(protocol, label),
        rates_(iz::rates<double>(protocol.parameters)),
        reset_(iz::reset<double>(protocol.parameters)),
        y_{protocol.v0, protocol.u0},
        h_(protocol.rule.first) {}

  Result run() {
    Cursor cursor(protocol_.current);
    cursor.advance(0, 0);
    while (t_ < protocol_.duration && !recorder_.run.stopped) {
      const double stop = std::min(cursor.next_edge(), protocol_.duration);
      const Field field{rates_,
                        {iz::drive(protocol_.parameters, cursor.value(t_)), cursor.slope() / protocol_.parameters.C}};
      step(field, stop);
      if (cursor.advance(t_, 0)) h_ = std::min(h_, protocol_.rule.first);
      recorder_.stop();
    }
    return std::move(recorder_.run);
  }

 private:
  /// One accepted step that does not pass `stop`.
  void step(const Field& field, double stop) {
    const double room = stop - t_;
    for (int retries = 0;; ++retries) {
      // A rest shorter than the shortest step is joined to this one, so that no sliver is left before an edge.
      const bool last = h_ >= room || room - h_ < protocol_.rule.shortest;
      const double h = last ? room : h_;
      const iz::Trial trial = iz::try_step(protocol_.rule, field, y_, h);
      recorder_.run.evaluations += 3, recorder_.run.jacobians += 2;
      const double next = iz::next_length(protocol_.rule, h, trial.error);
      if (!(trial.error < 1)) {
        ++recorder_.run.rejections;
        if (retries >= protocol_.rule.max_retries) recorder_.unsolvable(t_);
        h_ = next;
        continue;
      }
      accept(field, trial.y, h, last ? stop : t_ + h);
      if (!last || next < h_) h_ = next;  // a step cut by an edge says nothing about longer ones
      return;
    }
  }

  void accept(const Field& field, State<double> y1, double h, double end) {
    const double begin = t_;
    const bool zero = protocol_.spike_event == SpikeEvent::zero;
    const TwoHalves method;
    int maps = 0;
    const bool fired = !(y1.v < reset_.v_peak);
    if (fired) {
      const double share = iz::crossing(method, field, y_, y1, h, reset_.v_peak, maps);
      const State<double> peak = method(field, y_, iz::Length<double>::piece(share * h));
      y1 = peak;
      h = share * h, end = begin + h;  // the step ends at its event
      if (!bound_.admit(end)) recorder_.runaway(end);
      recorder_.touch(peak.v, peak.u);
      if (!zero) recorder_.spike(end);
    }
    if (zero && y_.v < 0 && y1.v >= 0) recorder_.spike(begin + h * iz::crossing(method, field, y_, y1, h, 0.0, maps));
    recorder_.run.evaluations += 2 * maps, recorder_.run.jacobians += 2 * maps;
    y_ = fired ? State<double>{reset_.c, y1.u + reset_.d} : y1;
    t_ = end;
    recorder_.state(t_, y_.v, y_.u, h);
  }

  const Protocol& protocol_;
  Recorder recorder_;
  iz::Rates<double> rates_;
  iz::Reset<double> reset_;
  State<double> y_;
  double t_ = 0, h_;
  Bound bound_{protocol_.dt};
};

/// Taylor series from event to event, sampled anywhere.
class Reference {
 public:
  Reference(const Protocol& protocol, std::string_view label)
      : protocol_(protocol),
        recorder_(protocol, label),
        rates_(iz::rates<double>(protocol.parameters)),
        y_{protocol.v0, protocol.u0},
        ticks_(step_count(protocol)) {}

  Result run() {
    Cursor cursor(protocol_.current);
    cursor.advance(0, 0);
    sample_until(0, true);
    while (t_ < protocol_.duration && !recorder_.run.stopped) {
      const double stop = std::min(cursor.next_edge(), protocol_.duration);
      const Field field{rates_,
                        {iz::drive(protocol_.parameters, cursor.value(t_)), cursor.slope() / protocol_.parameters.C}};
      step(field, stop);
      cursor.advance(t_, 0);
      recorder_.stop();
    }
    sample_until(t_, true);
    return std::move(recorder_.run);
  }

 private:
  static constexpr double tolerance = 1e-15;

  void step(const Field& field, double stop) {
    series_ = iz::expand(field, y_, tolerance);
    recorder_.run.evaluations += iz::Series::order;
    base_ = t_;
    const bool last = series_.reach >= stop - t_;
    double h = last ? stop - t_ : series_.reach;
    if (!(t_ + h > t_) || !std::isfinite(h)) recorder_.diverged(t_);
    const double event = iz::first_crossing(series_, h, protocol_.parameters.v_peak);
    const bool fired = event >= 0;
    if (fired) h = event;
    if (protocol_.spike_event == SpikeEvent::zero) {
      const double rise = iz::first_crossing(series_, h, 0);
      if (rise >= 0) recorder_.spike(base_ + rise);
    }
    const double end = last && !fired ? stop : t_ + h;
    length_ = h;
    sample_until(end, false);
    y_ = series_.at(h), t_ = end;
    recorder_.touch(y_.v, y_.u);
    if (fired) {
      if (protocol_.spike_event == SpikeEvent::peak) recorder_.spike(t_);
      if (!bound_.admit(t_)) recorder_.runaway(t_);
      y_ = {protocol_.parameters.c, y_.u + protocol_.parameters.d};
      recorder_.touch(y_.v, y_.u);
    }
    ++recorder_.run.steps;
    recorder_.run.t = t_, recorder_.run.v = y_.v, recorder_.run.u = y_.u;
    if (!std::isfinite(y_.u)) recorder_.diverged(t_);
  }

  /// The next time wanted in the trace.
  double next_sample() const {
    if (!protocol_.samples.empty())
      return next_ < protocol_.samples.size() ? protocol_.samples[next_] : std::numeric_limits<double>::infinity();
    const auto tick = static_cast<int64_t>(next_) + 1;  // the recorder has written the start itself
    return tick > ticks_    ? std::numeric_limits<double>::infinity()
           : tick == ticks_ ? protocol_.duration
                            : static_cast<double>(tick) * protocol_.dt;
  }

  /// Writes the samples before `end`, or up to it: there the state is the one after a reset.
  void sample_until(double end, bool inclusive) {
    if (!protocol_.trace) return;
    for (double t = next_sample(); inclusive ? t <= end : t < end; t = next_sample()) {
      const State<double> y = t == t_ ? y_ : series_.at(t - base_);
      Trace& trace = recorder_.run.trace;
      trace.t.push_back(t), trace.v.push_back(y.v), trace.u.push_back(y.u), trace.h.push_back(length_);
      recorder_.touch(y.v, y.u);
      ++next_;
    }
  }

  const Protocol& protocol_;
  Recorder recorder_;
  iz::Rates<double> rates_;
  State<double> y_;
  int64_t ticks_;
  iz::Series series_{};
  double t_ = 0, base_ = 0, length_ = 0;  ///< the last: of the step under way
  size_t next_ = 0;
  Bound bound_{protocol_.dt};
};

}  // namespace

Result run_adaptive(const Protocol& protocol, std::string_view label) {
  if (protocol.mode == Mode::published) return run_published(protocol, label);
  return Adaptive(protocol, label).run();
}

Result run_reference(const Protocol& protocol, std::string_view label) { return Reference(protocol, label).run(); }

}  // namespace ranvier::neuron
