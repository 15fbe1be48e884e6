// One neuron in steps of one length: every fixed-step solver, resets located or on the grid, and the printed schemes.
#include "engine/neuron_run.h"
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
        zero_(protocol.spike_event == SpikeEvent::zero) {}

  template <class Method>
  Result accurate(const Method& method) {
    const int64_t steps = step_count(protocol_);
    const auto whole = iz::Length<T>::whole(protocol_.dt);
    const double slack = 1e-9 * protocol_.dt;
    Cursor cursor(protocol_.current);
    cursor.advance(0, slack);
    for (int64_t n = 0; n < steps && !recorder_.run.stopped; ++n) {
      double begin = static_cast<double>(n) * protocol_.dt;
      const double end = n + 1 == steps ? protocol_.duration : static_cast<double>(n + 1) * protocol_.dt;
      bool split = std::abs(end - begin - protocol_.dt) > slack;  // the last step may be shorter
      while (begin < end) {
        const double stop = cursor.next_edge() < end - slack ? cursor.next_edge() : end;
        split = split || stop != end;
        if (split) history_.valid = false;
        const auto length = split ? iz::Length<T>::whole(stop - begin) : whole;
        const T p0 = static_cast<T>(iz::drive(protocol_.parameters, cursor.value(begin)));
        if (cursor.slope() == 0)
          located(method, iz::Field<T>{rates_, {p0}}, length, begin);
        else
          located(method,
                  iz::Field<T, iz::Ramp<T>>{rates_, {p0, static_cast<T>(cursor.slope() / protocol_.parameters.C)}},
                  length, begin);
        begin = stop;
        if (cursor.advance(begin, slack) || split) history_.valid = false;  // a slope is of a whole step before
      }
      recorder_.state(end, y_.v, y_.u, protocol_.dt);
      recorder_.stop();
    }
    return finish<Method>();
  }

  template <class Method>
  Result on_grid(const Method& method) {
    const int64_t steps = step_count(protocol_);
    const auto length = iz::Length<T>::whole(protocol_.dt);
    for (int64_t n = 0; n < steps && !recorder_.run.stopped; ++n) {
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
      recorder_.stop();
    }
    return finish<Method>();
  }

  Result printed(bool of_2003) {
    const int64_t steps = step_count(protocol_);
    const auto k = iz::printed<T>(protocol_.parameters);
    const T h = static_cast<T>(protocol_.dt);
    for (int64_t n = 0; n < steps && !recorder_.run.stopped; ++n) {
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
      recorder_.stop();
    }
    recorder_.run.evaluations = recorder_.run.steps * (of_2003 ? 2 : 1);
    return std::move(recorder_.run);
  }

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
  template <class Method>
  Result finish() {
    recorder_.run.evaluations = maps_ * Method::evaluations + restarts_;
    recorder_.run.jacobians = maps_ * Method::jacobians;
    return std::move(recorder_.run);
  }

  const Protocol& protocol_;
  Recorder recorder_;
  iz::Rates<T> rates_;
  iz::Reset<T> reset_;
  State<T> y_;
  bool zero_;
  History<T> history_;
  int64_t maps_ = 0, restarts_ = 0;
};

template <class T>
Result run_in(const Protocol& protocol, std::string_view label) {
  Fixed<T> fixed(protocol, label);
  if (protocol.mode == Mode::published_2003 || protocol.mode == Mode::published_2004)
    return fixed.printed(protocol.mode == Mode::published_2003);
  const auto with = [&](const auto& method) {
    return protocol.mode == Mode::accurate ? fixed.accurate(method) : fixed.on_grid(method);
  };
  switch (protocol.solver) {
    case Solver::euler:
      return with(iz::Euler{});
    case Solver::izhikevich:
      return with(iz::SemiImplicit{});
    case Solver::backward_euler:
      return with(iz::BackwardEuler{});
    case Solver::midpoint:
      return with(iz::Midpoint{});
    case Solver::rk4:
      return with(iz::Rk4{});
    case Solver::ab2:
      return with(typename Fixed<T>::Ab2{});
    case Solver::exponential:
      return with(iz::Exponential{iz::doublings_for(protocol.parameters, protocol.dt)});
    case Solver::linear_implicit:
      return with(iz::LinearImplicit{});
    case Solver::linear_implicit_adaptive:
    case Solver::reference:
      break;
  }
  fail("solver {} has no fixed step", name(protocol.solver));
}

}  // namespace

Result run_fixed(const Protocol& protocol, std::string_view label) {
  return protocol.precision == Precision::f32 ? run_in<float>(protocol, label) : run_in<double>(protocol, label);
}

}  // namespace ranvier::neuron
