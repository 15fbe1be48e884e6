// One neuron in steps of one length: every fixed-step solver, resets located or on the grid, and the printed schemes.
#include <utility>

#include "engine/neuron_run.h"
#include "engine/neuron_stepper.h"
#include "kernels/izhikevich/izhikevich.h"

namespace ranvier::neuron {
namespace {

namespace iz = kernels::izhikevich;

/// Adams-Bashforth's memory: the slope at the start of the step before, where that step was a whole one.
template <class T>
struct History {
  State<T> slope{};
  bool valid = false;
};

/// Tells the recorder of spikes and crossings inside a step.
template <class T, class Method>
struct Observer {
  Recorder& recorder;
  const Method& method;
  double begin;  // ms, of the step
  bool zero;     // crossings of 0 mV are the event
  int& maps;

  template <class F>
  void piece(const F& f, State<T> from, State<T> to, T offset, T length) {
    if (!(zero && from.v < T(0) && to.v >= T(0))) return;
    const T share = iz::crossing(method, f, from, to, length, T(0), maps);
    recorder.spike(begin + static_cast<double>(offset) + static_cast<double>(share) * static_cast<double>(length));
  }
  void spike(T offset, State<T> peak) {
    if (!zero) recorder.spike(begin + static_cast<double>(offset));
    recorder.touch(static_cast<double>(peak.v), static_cast<double>(peak.u));
  }
};

template <class T>
class Fixed {
 public:
  Fixed(const Protocol& protocol, std::string_view label)
      : protocol_(protocol),
        recorder_(protocol, label),
        rates_(iz::rates<T>(protocol.parameters)),
        reset_(iz::reset<T>(protocol.parameters)),
        y_{static_cast<T>(protocol.v0), static_cast<T>(protocol.u0)},
        zero_(protocol.spike_event == SpikeEvent::zero),
        cursor_(protocol.current) {
    cursor_.advance(0, 1e-9 * protocol.dt);
  }

  /// Step n with events located, split at edges of the stimulus; `end` is (n + 1) dt, or earlier in a run's last one.
  template <class Method>
  void accurate(const Method& method, int64_t n, double end) {
    const double slack = 1e-9 * protocol_.dt;
    double begin = static_cast<double>(n) * protocol_.dt;
    bool split = std::abs(end - begin - protocol_.dt) > slack;  // the last step may be shorter
    while (begin < end) {
      const double stop = cursor_.next_edge() < end - slack ? cursor_.next_edge() : end;
      split = split || stop != end;
      if (split) history_.valid = false;
      const auto length = iz::Length<T>::whole(split ? stop - begin : protocol_.dt);
      const T p0 = static_cast<T>(iz::drive(protocol_.parameters, cursor_.value(begin)));
      if (cursor_.slope() == 0)
        located(method, iz::Field<T>{rates_, {p0}}, length, begin);
      else
        located(method,
                iz::Field<T, iz::Ramp<T>>{rates_, {p0, static_cast<T>(cursor_.slope() / protocol_.parameters.C)}},
                length, begin);
      begin = stop;
      if (cursor_.advance(begin, slack) || split) history_.valid = false;  // a slope is of a whole step before
    }
    recorder_.state(end, y_.v, y_.u, protocol_.dt);
  }

  /// Step n with its reset at the end.
  template <class Method>
  void on_grid(const Method& method, int64_t n) {
    const auto length = iz::Length<T>::whole(protocol_.dt);
    const double begin = static_cast<double>(n) * protocol_.dt, end = static_cast<double>(n + 1) * protocol_.dt;
    const T p0 = static_cast<T>(iz::drive(protocol_.parameters, protocol_.current.at(begin)));
    const iz::Field<T> field{rates_, {p0}};
    State<T> y1 = step(method, field, length);
    if (Method::may_fail && iz::is_nan(y1.v)) {
      const auto out = iz::subdivide(method, field, reset_, y_, length.h);
      if (out.ending == iz::Ending::unsolvable) recorder_.unsolvable(begin);
      recorder_.run.pieces += out.pieces, maps_ += out.maps;
      y1 = out.y;
    }
    recorder_.touch(static_cast<double>(y1.v), static_cast<double>(y1.u));
    const bool rose = y_.v < T(0) && y1.v >= T(0);
    bool fired;
    y_ = iz::grid_reset(reset_, y1, fired);
    if (fired) history_.valid = false;
    if (zero_ ? rose : fired) recorder_.spike(end);
    recorder_.state(end, y_.v, y_.u, protocol_.dt);
  }

  /// Step n of a printed script.
  void printed(bool of_2003, int64_t n) {
    const auto k = iz::printed<T>(protocol_.parameters);
    const T h = static_cast<T>(protocol_.dt);
    const double begin = static_cast<double>(n) * protocol_.dt, end = static_cast<double>(n + 1) * protocol_.dt;
    const T current = static_cast<T>(protocol_.current.at(begin));
    const T before = y_.v;
    bool fired;
    T above;
    if (of_2003) {
      y_ = iz::published_2003_reset(reset_, y_, fired);
      if (fired && !zero_) recorder_.spike(begin);
      const T start = y_.v;
      y_ = iz::published_2003_update(k, y_, current, h);
      above = y_.v;
      if (zero_ && start < T(0) && above >= T(0)) recorder_.spike(end);
    } else {
      y_ = iz::published_2004(k, reset_, y_, current, h, fired, above);
      if (zero_ ? before < T(0) && above >= T(0) : fired) recorder_.spike(begin);
    }
    recorder_.touch(static_cast<double>(above), static_cast<double>(y_.u));
    recorder_.state(end, y_.v, y_.u, protocol_.dt);
  }

  /// Steps `from` to `to` (not included), or until the run is stopped; the last of `to` ends at `end`.
  void advance(int64_t from, int64_t to, double end) {
    const auto loop = [&](auto&& one) {
      for (int64_t n = from; n < to && !recorder_.run.stopped; ++n) one(n), recorder_.stop();
    };
    if (protocol_.mode == Mode::published_2003 || protocol_.mode == Mode::published_2004) {
      const bool of_2003 = protocol_.mode == Mode::published_2003;
      loop([&](int64_t n) { printed(of_2003, n); });
      recorder_.run.evaluations = recorder_.run.steps * (of_2003 ? 2 : 1);
      return;
    }
    with_method([&]<class Method>(const Method& method) {
      const double dt = protocol_.dt;
      if (protocol_.mode == Mode::accurate)
        loop([&](int64_t n) { accurate(method, n, n + 1 == to ? end : static_cast<double>(n + 1) * dt); });
      else
        loop([&](int64_t n) { on_grid(method, n); });
      recorder_.run.evaluations = maps_ * Method::evaluations + restarts_;
      recorder_.run.jacobians = maps_ * Method::jacobians;
    });
  }

  /// What a neuron stepped by hand changes between steps: the protocol's parameters and current are new.
  void refresh(double t) {
    rates_ = iz::rates<T>(protocol_.parameters), reset_ = iz::reset<T>(protocol_.parameters);
    history_.valid = false;
    cursor_ = Cursor(protocol_.current);
    cursor_.advance(t, 1e-9 * protocol_.dt);
    if (!(y_.v >= reset_.v_peak)) return;  // the peak was moved below the neuron
    recorder_.touch(static_cast<double>(reset_.v_peak), static_cast<double>(y_.u));
    y_ = {reset_.c, y_.u + reset_.d};
    recorder_.spike(t);
    recorder_.touch(static_cast<double>(y_.v), static_cast<double>(y_.u));
    recorder_.run.v = static_cast<double>(y_.v), recorder_.run.u = static_cast<double>(y_.u);
  }

  Result& run() { return recorder_.run; }

 private:
  /// One step of a one-step method, without its reset.
  template <class Method, class F>
  State<T> step(const Method& method, const F& field, const iz::Length<T>& length) {
    ++maps_;
    if constexpr (std::is_same_v<Method, Ab2>) {
      const State<T> now = field(y_, T(0));
      const State<T> y1 = history_.valid ? iz::adams_bashforth(y_, now, history_.slope, length)
                                         : iz::midpoint_from(field, y_, now, length);
      restarts_ += history_.valid ? 0 : 1;
      history_ = {now, true};
      return y1;
    } else {
      return method(field, y_, length);
    }
  }

  template <class Method, class F>
  void located(const Method& method, const F& field, const iz::Length<T>& length, double begin) {
    State<T> y1 = step(method, field, length);
    if (y1.v < reset_.v_peak && !(zero_ && y_.v < T(0) && y1.v >= T(0))) {
      y_ = y1;
      return;
    }
    if constexpr (std::is_same_v<Method, Ab2>) {  // events are located with midpoint, of the same order
      y1 = iz::Midpoint{}(field, y_, length);
      ++maps_, ++restarts_;
      resolve(iz::Midpoint{}, field, y1, length, begin);
    } else {
      resolve(method, field, y1, length, begin);
    }
  }

  /// A step with events in it.
  template <class Method, class F>
  void resolve(const Method& method, const F& field, State<T> y1, const iz::Length<T>& length, double begin) {
    int maps = 0;
    Observer<T, Method> observer{recorder_, method, begin, zero_, maps};
    const auto out = iz::locate(method, field, reset_, y_, y1, length.h, observer);
    if (out.ending == iz::Ending::runaway) recorder_.runaway(begin);
    if (out.ending == iz::Ending::unsolvable) recorder_.unsolvable(begin);
    y_ = out.y;
    maps_ += out.maps + maps;
    recorder_.run.pieces += out.pieces;
    if (out.events > 0) history_.valid = false;
  }

 public:
  /// Adams-Bashforth 2: marks the method that needs the step before.
  struct Ab2 : iz::Midpoint {
    static constexpr int evaluations = 1;
  };

 private:
  template <class F>
  void with_method(F&& f) {
    switch (protocol_.solver) {
      case Solver::euler:
        return f(iz::Euler{});
      case Solver::izhikevich:
        return f(iz::SemiImplicit{});
      case Solver::backward_euler:
        return f(iz::BackwardEuler{});
      case Solver::midpoint:
        return f(iz::Midpoint{});
      case Solver::rk4:
        return f(iz::Rk4{});
      case Solver::ab2:
        return f(Ab2{});
      case Solver::exponential:
        return f(iz::Exponential{iz::doublings_for(protocol_.parameters, protocol_.dt)});
      case Solver::linear_implicit:
        return f(iz::LinearImplicit{});
      case Solver::linear_implicit_adaptive:
      case Solver::reference:
        break;
    }
    fail("solver {} has no fixed step", name(protocol_.solver));
  }

  const Protocol& protocol_;
  Recorder recorder_;
  iz::Rates<T> rates_;
  iz::Reset<T> reset_;
  State<T> y_;
  bool zero_;
  Cursor cursor_;
  History<T> history_;
  int64_t maps_ = 0, restarts_ = 0;
};

template <class T>
Result run_in(const Protocol& protocol, std::string_view label) {
  Fixed<T> fixed(protocol, label);
  fixed.advance(0, step_count(protocol), protocol.duration);
  return std::move(fixed.run());
}

}  // namespace

Result run_fixed(const Protocol& protocol, std::string_view label) {
  return protocol.precision == Precision::f32 ? run_in<float>(protocol, label) : run_in<double>(protocol, label);
}

struct Stepper::Implementation {
  Implementation(Protocol description, std::string_view label)
      : protocol(std::move(description)), fixed(protocol, label) {}
  Protocol protocol;
  Fixed<double> fixed;
  int64_t step = 0;
};

Stepper::Stepper(Protocol protocol, std::string_view label) {
  protocol.duration = protocol.dt, protocol.trace = false, protocol.stop = nullptr;
  validate(protocol);
  if (protocol.precision != Precision::f64) fail("a neuron stepped by hand works in f64");
  const bool own_steps = protocol.solver == Solver::reference || protocol.solver == Solver::linear_implicit_adaptive;
  if (own_steps) fail("solver {} has no fixed step", name(protocol.solver));
  implementation_ = std::make_unique<Implementation>(std::move(protocol), label);
}
Stepper::~Stepper() = default;
Stepper::Stepper(Stepper&&) noexcept = default;
Stepper& Stepper::operator=(Stepper&&) noexcept = default;

void Stepper::advance() {
  Implementation& own = *implementation_;
  const int64_t n = own.step;
  own.fixed.advance(n, n + 1, static_cast<double>(n + 1) * own.protocol.dt);
  ++own.step;
}

void Stepper::change(const Parameters& parameters, Stimulus current) {
  Implementation& own = *implementation_;
  validate(parameters);
  own.protocol.parameters = parameters, own.protocol.current = std::move(current);
  own.fixed.refresh(time());
}

double Stepper::time() const { return static_cast<double>(implementation_->step) * implementation_->protocol.dt; }
double Stepper::v() const { return implementation_->fixed.run().v; }
double Stepper::u() const { return implementation_->fixed.run().u; }
const Result& Stepper::run() const { return implementation_->fixed.run(); }
const Protocol& Stepper::protocol() const { return implementation_->protocol; }
std::vector<double> Stepper::take_spikes() { return std::exchange(implementation_->fixed.run().spikes, {}); }

}  // namespace ranvier::neuron
