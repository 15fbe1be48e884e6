// A population in one element type: its arrays, its calls of the kernels, and its state as bytes.
#include <algorithm>
#include <cmath>
#include <cstring>
#include <utility>

#include "engine/fingerprint.h"
#include "engine/population_device.h"
#include "engine/population_run.h"
#include "kernels/common/parallel.h"
#include "kernels/izhikevich/population_fields.h"
#include "kernels/izhikevich/steps.h"

namespace ranvier::neuron {
namespace {

namespace iz = kernels::izhikevich;

iz::Map map_of(const PopulationSpec& spec) {
  if (spec.mode == Mode::published_2003) return iz::Map::printed_2003;
  if (spec.mode == Mode::published_2004) return iz::Map::printed_2004;
  switch (spec.solver) {
    case Solver::euler:
      return iz::Map::euler;
    case Solver::izhikevich:
      return iz::Map::semi_implicit;
    case Solver::backward_euler:
      return iz::Map::backward_euler;
    case Solver::midpoint:
      return iz::Map::midpoint;
    case Solver::rk4:
      return iz::Map::rk4;
    case Solver::ab2:
      return iz::Map::ab2;
    case Solver::exponential:
      return iz::Map::exponential;
    case Solver::linear_implicit:
      return iz::Map::linear_implicit;
    case Solver::linear_implicit_adaptive:
    case Solver::reference:
      break;
  }
  fail("{}: solver {} has no fixed step", spec.name, name(spec.solver));
}

uint64_t fingerprint(const PopulationSpec& s) {
  Fingerprint f;
  add_cells(f, s), add_inputs(f, s);
  f.add(s.dt), f.add(s.solver), f.add(s.mode), f.add(s.precision), f.add(s.spike_event), f.add(s.seed);
  f.add(s.first_element);
  return f.value();
}

/// What a state begins with.
struct StateHead {
  uint64_t magic, fingerprint, step, pieces, checksum;  ///< the last of all that follows, and of step and pieces
};
constexpr uint64_t state_magic = 0x32706f7069766e72;  // "rnvipop2"

uint64_t checksum_of(const StateHead& head, std::span<const std::byte> rest) {
  Fingerprint f;
  f.add(head.step), f.add(head.pieces), f.add(rest.data(), rest.size());
  return f.value();
}

void put(std::vector<std::byte>& out, const void* data, size_t bytes) {
  const auto* from = static_cast<const std::byte*>(data);
  out.insert(out.end(), from, from + bytes);
}

template <class T>
class Typed : public Population::Implementation {
 public:
  explicit Typed(PopulationSpec description)
      : Implementation(std::move(description)), fingerprint_(fingerprint(spec)), printed_(printed(spec.mode)) {
    const EachNeuron each(spec);
    const auto n = static_cast<size_t>(iz::padded(spec.size));
    v_.resize(n), u_.resize(n), counts.resize(n);
    for (int64_t i = 0; i < static_cast<int64_t>(n); ++i) {
      const auto at = static_cast<size_t>(i);
      const int64_t from = std::min(i, spec.size - 1);
      v_[at] = static_cast<T>(i < spec.size ? each.v0(i) : each.parameters(from).c);
      u_[at] = static_cast<T>(i < spec.size ? each.u0(i) : 0);
    }
    fill_columns(each);
    call_.n = spec.size, call_.v = v_.data(), call_.u = u_.data(), call_.counts = counts.data();
    call_.map = map_of(spec), call_.located = spec.mode == Mode::accurate;
    call_.zero = spec.spike_event == SpikeEvent::zero, call_.events = spec.record_spikes;
    if (spec.solver == Solver::ab2 && !printed_) {
      slope_v_.resize(n), slope_u_.resize(n);
      call_.slope_v = slope_v_.data(), call_.slope_u = slope_u_.data();
      forget();
    }
    own_drive_ = external_current.differs() || spec.each.contains("q0") || spec.each.contains("C");
    if (own_drive_) drive_.resize(n);
    call_.drive.each = own_drive_ ? drive_.data() : nullptr;
    if (own_drive_ && spec.each.contains("C")) slope_.resize(n);
    std::erase_if(spec.each, [](const auto& own) { return own.first != "C" && own.first != "q0"; });  // of the drive
    results_.resize(static_cast<size_t>(iz::shards_of(spec.size)));
    if (spec.device.backend == Backend::cuda) {
      const size_t list = spec.record_spikes ? std::clamp(4 * n, size_t{1} << 16, most_list_bytes) : 0;
      device_ = std::make_unique<PopulationOnDevice<T>>(spec.device, spec.size, list);
      results_.resize(1);
    }
  }

  void advance(int64_t steps) override {
    begin_advance();
    if (spec.mode == Mode::accurate)
      accurate(steps);
    else
      on_grid(steps);
  }

  void half_step(bool first) override {
    if (spec.mode != Mode::published_2003) fail("{}: only mode published:2003 has half steps", spec.name);
    if (first == halfway) fail("{}: begin_step and end_step alternate", spec.name);
    if (first) begin_advance();
    move(static_cast<double>(step) * spec.dt);
    call_.reset_only = first, call_.update_only = !first;
    run(spec.dt, 1, 0);
    call_.reset_only = call_.update_only = false;
    halfway = first;
    if (!first) ++step;
  }

  void fetch() const override {
    if (device_) device_->fetch(call_);
  }

  double value(int64_t neuron, bool of_u) const override {
    if (device_) return static_cast<double>(device_->value(call_, neuron, of_u));
    return static_cast<double>((of_u ? u_ : v_)[static_cast<size_t>(neuron)]);
  }

  std::vector<std::byte> state() const override {
    if (halfway) fail("{}: no state between begin_step and end_step", spec.name);
    fetch();
    std::vector<std::byte> out;
    StateHead head{state_magic, fingerprint_, static_cast<uint64_t>(step), static_cast<uint64_t>(pieces), 0};
    put(out, &head, sizeof head);
    const auto n = static_cast<size_t>(spec.size);  // what stands in the padding depends on the device
    for (const auto* array : {&v_, &u_, &slope_v_, &slope_u_})
      if (!array->empty()) put(out, array->data(), n * sizeof(T));
    put(out, counts.data(), n * sizeof(uint32_t));
    for (const RunningProcess& r : external_current.running()) {
      put(out, &r.interval, sizeof r.interval);
      put(out, r.state.data(), r.state.size() * sizeof(float));
    }
    head.checksum = checksum_of(head, std::span(out).subspan(sizeof head));
    std::memcpy(out.data(), &head, sizeof head);
    return out;
  }

  void restore(std::span<const std::byte> bytes) override {
    StateHead head;
    const auto take = [&](void* to, size_t count) {
      if (count == 0) return;
      std::memcpy(to, bytes.data(), count);
      bytes = bytes.subspan(count);
    };
    if (bytes.size() < sizeof head) fail("{}: the state ends in its first bytes", spec.name);
    const size_t size = bytes.size(), wanted = state().size();
    take(&head, sizeof head);
    if (head.magic != state_magic) fail("{}: this is not the state of a population", spec.name);
    if (head.fingerprint != fingerprint_)
      fail("{}: the state is of another population: parameters, inputs, solver, mode, type, dt or seed differ",
           spec.name);
    if (size != wanted)
      fail("{}: the state has {} bytes where {} belong: it is cut or damaged", spec.name, size, wanted);
    if (head.checksum != checksum_of(head, bytes)) fail("{}: the state is damaged: its checksum is another", spec.name);
    check_finite(bytes);
    step = first_step = static_cast<int64_t>(head.step), pieces = static_cast<int64_t>(head.pieces);
    const auto n = static_cast<size_t>(spec.size);
    for (auto* array : {&v_, &u_, &slope_v_, &slope_u_})
      if (!array->empty()) take(array->data(), n * sizeof(T));
    take(counts.data(), n * sizeof(uint32_t));
    if (device_) device_->changed();
    for (RunningProcess& r : external_current.running()) {
      take(&r.interval, sizeof r.interval);
      take(r.state.data(), r.state.size() * sizeof(float));
    }
    if (step > 0) external_current.resume(static_cast<double>(step) * spec.dt);
    spikes.clear(), failure.clear();
    known_ = false;
  }

  /// v and u of a state, before anything of it is taken.
  void check_finite(std::span<const std::byte> bytes) const {
    T x;
    const auto n = static_cast<size_t>(spec.size);
    for (size_t i = 0; i < 2 * n; ++i) {
      std::memcpy(&x, bytes.data() + i * sizeof x, sizeof x);
      if (!std::isfinite(x)) fail("{} {}: the state has {} = {}", spec.name, i % n, i < n ? "v" : "u", x);
    }
  }

  std::span<T> synaptic(SynapticInput kind) {
    if (printed_ && kind != SynapticInput::current)
      fail("{}: mode {} is printed without conductances", spec.name, name(spec.mode));
    auto& array = synaptic_[static_cast<size_t>(kind)];
    if (array.empty()) array.resize(v_.size());
    const T*& pointer = kind == SynapticInput::current       ? call_.current
                        : kind == SynapticInput::conductance ? call_.conductance
                                                             : call_.reversal;
    pointer = array.data();
    return std::span(array).first(static_cast<size_t>(spec.size));
  }
  std::span<T> v_span() { return writable(v_); }
  std::span<T> u_span() { return writable(u_); }

 private:
  /// State that its caller may write.
  std::span<T> writable(std::vector<T>& array) {
    fetch();
    if (device_) device_->changed();
    return std::span(array).first(static_cast<size_t>(spec.size));
  }

  /// A column of what `value` makes of each neuron's parameters; one value where all are the same.
  template <class Value>
  void column(const EachNeuron& each, iz::Column<T>& to, const Value& value) {
    to.shared = static_cast<T>(value(each.parameters(0)));
    if (spec.each.empty()) return;
    std::vector<T> values(v_.size());
    bool differ = false;
    for (int64_t i = 0; i < static_cast<int64_t>(values.size()); ++i) {
      values[static_cast<size_t>(i)] = static_cast<T>(value(each.parameters(std::min(i, spec.size - 1))));
      differ = differ || values[static_cast<size_t>(i)] != to.shared;
    }
    if (!differ) return;
    columns_.push_back(std::move(values));
    to.each = columns_.back().data();
  }

  void fill_columns(const EachNeuron& each) {
    using P = Parameters;
    columns_.reserve(16);
    if (printed_) {
      column(each, call_.p2, [](const P& p) { return p.q2; }), column(each, call_.p1, [](const P& p) { return p.q1; });
      column(each, call_.q0, [](const P& p) { return p.q0; }), column(each, call_.a, [](const P& p) { return p.a; });
      column(each, call_.ab, [](const P& p) { return p.b; }), column(each, call_.ae, [](const P& p) { return p.e; });
      column(each, call_.abv, [](const P& p) { return p.v_b; });
    } else {
      column(each, call_.p2, [](const P& p) { return p.q2 / p.C; }),
          column(each, call_.p1, [](const P& p) { return p.q1 / p.C; });
      column(each, call_.w, [](const P& p) { return 1 / p.C; }),
          column(each, call_.ab, [](const P& p) { return p.a * p.b; });
      column(each, call_.ae, [](const P& p) { return p.a * p.e; });
      column(each, call_.abv, [](const P& p) { return p.a * p.b * p.v_b; });
      if (spec.solver == Solver::exponential) {
        call_.doublings = 0;
        for (int64_t i = 0; i < (spec.each.empty() ? 1 : spec.size); ++i)
          call_.doublings = std::max(call_.doublings, iz::doublings_for(each.parameters(i), spec.dt));
      }
    }
    column(each, call_.v_peak, [](const P& p) { return p.v_peak; });
    column(each, call_.c, [](const P& p) { return p.c; }), column(each, call_.d, [](const P& p) { return p.d; });
  }

  void begin_advance() {
    if (!failure.empty()) fail("{}: cannot go on: {}", spec.name, failure);
    if (halfway) fail("{}: end_step comes first", spec.name);
    spikes.clear();
    first_step = step;
  }

  /// Adams-Bashforth restarts.
  void forget() {
    std::fill(slope_v_.begin(), slope_v_.end(), iz::no_slope<T>());
    if (device_) device_->forget();
  }

  /// The external current that holds from t on.
  void move(double t) {
    const bool changed = external_current.move(t);
    if (changed && spec.mode == Mode::accurate) forget();
    if (changed || !known_ || external_current.grows()) refresh(t);
    known_ = true;
  }

  void refresh(double t) {
    const double shared = external_current.shared(t);
    if (!own_drive_) {
      call_.drive.shared = static_cast<T>(printed_ ? shared : iz::drive(spec.parameters, shared));
      return;
    }
    const auto own = [&](const char* key) {
      const auto found = spec.each.find(key);
      return found == spec.each.end() ? nullptr : found->second.data();
    };
    const double* q0 = own("q0");
    const double* C = own("C");
    kernels::parallel_for(iz::shards_of(spec.size), [&](int64_t shard) {
      const int64_t first = shard * iz::shard_size, count = std::min(spec.size - first, iz::shard_size);
      double current[iz::shard_size];
      std::fill(current, current + count, shared);
      external_current.add(first, count, current);
      T* to = drive_.data() + first;
      if (printed_)
        for (int64_t i = 0; i < count; ++i) to[i] = static_cast<T>(current[i]);
      else
        for (int64_t i = 0; i < count; ++i)
          to[i] = static_cast<T>(((q0 ? q0[first + i] : spec.parameters.q0) + current[i]) /
                                 (C ? C[first + i] : spec.parameters.C));
    });
    if (device_) device_->changed(drive_.data());
  }

  /// Steps with located events, split at edges of the input.
  void accurate(int64_t steps) {
    const double dt = spec.dt, slack = 1e-9 * dt;
    const int64_t last = step + steps;
    while (step < last) {
      double begin = static_cast<double>(step) * dt;
      move(begin);
      const double edge = external_current.next_edge();
      const auto whole = [&](int64_t n) { return !(edge < static_cast<double>(n + 1) * dt - slack); };
      if (whole(step)) {
        int64_t count = std::min(last - step, max_steps);
        if (external_current.grows()) count = 1;
        if (!whole(step + count - 1)) count = std::max<int64_t>(1, static_cast<int64_t>(edge / dt) - step - 1);
        while (count > 1 && !whole(step + count - 1)) --count;
        while (count < std::min(last - step, max_steps) && !external_current.grows() && whole(step + count)) ++count;
        set_slope(begin, dt);
        run(dt, count, 0);
        step += count;
        continue;
      }
      const size_t listed = spikes.size();
      const double start = begin, end = static_cast<double>(step + 1) * dt;
      while (begin < end) {  // pieces of one step
        const double next = external_current.next_edge(), stop = next < end - slack ? next : end;
        forget();
        set_slope(begin, stop - begin);
        run(stop - begin, 1, begin - start);
        forget();
        begin = stop;
        if (begin < end) move(begin);
      }
      std::stable_sort(spikes.begin() + static_cast<std::ptrdiff_t>(listed), spikes.end(),
                       [](const Spike& a, const Spike& b) { return a.neuron < b.neuron; });
      ++step;
    }
  }

  /// Steps that hold the current of their start.
  void on_grid(int64_t steps) {
    const int64_t last = step + steps;
    while (step < last) {
      move(static_cast<double>(step) * spec.dt);
      const int64_t count = external_current.held_steps(step, std::min(last - step, max_steps));
      run(spec.dt, count, 0);
      step += count;
    }
  }

  void set_slope(double t, double h) {
    call_.ramp = external_current.grows();
    if (!call_.ramp) return;
    const double slope = external_current.slope(t, h);
    call_.slope.shared = static_cast<T>(slope / spec.parameters.C);
    if (slope_.empty()) return;
    const std::vector<double>& C = spec.each.at("C");
    for (size_t i = 0; i < C.size(); ++i) slope_[i] = static_cast<T>(slope / C[i]);
    call_.slope.each = slope_.data();
    if (device_) device_->changed(slope_.data());
  }

  /// `count` steps of length h, or a piece of one that starts `offset` after the step.
  void run(double h, int64_t count, double offset) {
    call_.h = h, call_.steps = static_cast<uint32_t>(count);
    if (device_)
      device_->advance(call_, results_.front());
    else
      iz::advance(call_, results_);
    const iz::ShardResult* failed = nullptr;
    for (const iz::ShardResult& r : results_) {
      pieces += r.pieces;
      if (r.failure != iz::Failure::none && (!failed || r.step < failed->step)) failed = &r;
    }
    if (call_.events) list_spikes(failed ? failed->step : call_.steps, offset);
    if (failed) stop_at(*failed, h);
  }

  /// Appends the shards' spikes of the first `steps` steps by step, then shard: each shard knows its places in the list
  /// from the numbers of spikes of the others.
  void list_spikes(uint32_t steps, double offset) {
    const auto shards = static_cast<int64_t>(results_.size());
    const auto step_before = static_cast<uint32_t>(step - first_step);
    if (shards == 1) {
      const auto& events = results_.front().events;
      const auto listed = static_cast<int64_t>(
          std::partition_point(events.begin(), events.end(), [&](const iz::Event& e) { return e.step < steps; }) -
          events.begin());
      const size_t before = spikes.size();
      spikes.resize(before + static_cast<size_t>(listed));
      const int64_t parts = kernels::shard_count(listed, 1 << 15);
      kernels::parallel_for(parts, [&](int64_t part) {
        const int64_t end = kernels::shard_begin(listed, parts, part + 1);
        for (int64_t i = kernels::shard_begin(listed, parts, part); i < end; ++i) {
          const iz::Event& e = events[static_cast<size_t>(i)];
          spikes[before + static_cast<size_t>(i)] = {e.neuron, step_before + e.step, e.offset + offset};
        }
      });
      return;
    }
    size_t count = 0;
    for (const iz::ShardResult& r : results_) count += r.events.size();
    if (count < 4096 && steps == 1 && call_.steps == 1) {  // not worth a team
      for (const iz::ShardResult& r : results_)
        for (const iz::Event& e : r.events) spikes.push_back({e.neuron, step_before, e.offset + offset});
      return;
    }
    places_.assign(static_cast<size_t>(shards) * steps, 0);
    kernels::parallel_for(shards, [&](int64_t shard) {
      for (const iz::Event& e : results_[static_cast<size_t>(shard)].events)
        if (e.step < steps) ++places_[static_cast<size_t>(shard) * steps + e.step];
    });
    size_t total = spikes.size();
    for (size_t s = 0; s < steps; ++s)
      for (size_t i = s; i < places_.size(); i += steps) total += std::exchange(places_[i], total);
    spikes.resize(total);
    kernels::parallel_for(shards, [&](int64_t shard) {
      for (const iz::Event& e : results_[static_cast<size_t>(shard)].events)
        if (e.step < steps)
          spikes[places_[static_cast<size_t>(shard) * steps + e.step]++] = {e.neuron, step_before + e.step,
                                                                            e.offset + offset};
    });
  }

  [[noreturn]] void stop_at(const iz::ShardResult& r, double h) {
    const double t = static_cast<double>(step + r.step) * spec.dt;
    const std::string who = fmt::format("{} {}", spec.name, r.neuron);
    if (r.failure == iz::Failure::runaway)
      failure = fmt::format("{} runs away: more than {} spikes in one step of {} ms at t = {:.6g} ms", who,
                            iz::max_events, h, t);
    else if (r.failure == iz::Failure::unsolvable)
      failure = fmt::format("{}: solver {} has no solution at t = {:.6g} ms, however short the step", who,
                            name(spec.solver), t);
    else
      failure = fmt::format("{} left the range of numbers by t = {:.6g} ms (solver {}, steps of {} ms)", who,
                            t + spec.dt, name(spec.solver), spec.dt);
    throw PopulationFailure(failure, r.neuron);
  }

  static constexpr int64_t max_steps = 1024;  // of one call of the kernels: bounds what it lists

  uint64_t fingerprint_;  ///< of the whole description
  bool printed_, own_drive_ = false, known_ = false;
  iz::PopulationCall<T> call_;
  std::vector<T> v_, u_, slope_v_, slope_u_, drive_, slope_;
  std::vector<std::vector<T>> columns_;
  std::array<std::vector<T>, 3> synaptic_;
  std::vector<iz::ShardResult> results_;
  std::vector<size_t> places_;                     ///< in `spikes`, by shard and step
  std::unique_ptr<PopulationOnDevice<T>> device_;  // null: stepped on the host
};

template <class T>
Typed<T>& typed(Population::Implementation& implementation) {
  auto* own = dynamic_cast<Typed<T>*>(&implementation);
  if (!own)
    fail("{}: its type is {}, not {}", implementation.spec.name, name(implementation.spec.precision),
         sizeof(T) == 4 ? "f32" : "f64");
  return *own;
}

}  // namespace

std::unique_ptr<Population::Implementation> make_population_f32(PopulationSpec spec) {
  return std::make_unique<Typed<float>>(std::move(spec));
}
std::unique_ptr<Population::Implementation> make_population_f64(PopulationSpec spec) {
  return std::make_unique<Typed<double>>(std::move(spec));
}

template <class T>
std::span<T> Population::synaptic_current() {
  return typed<T>(*implementation_).synaptic(SynapticInput::current);
}
template <class T>
std::span<T> Population::conductance() {
  return typed<T>(*implementation_).synaptic(SynapticInput::conductance);
}
template <class T>
std::span<T> Population::reversal() {
  return typed<T>(*implementation_).synaptic(SynapticInput::reversal);
}
template <class T>
std::span<T> Population::v() {
  return typed<T>(*implementation_).v_span();
}
template <class T>
std::span<T> Population::u() {
  return typed<T>(*implementation_).u_span();
}
template std::span<float> Population::synaptic_current();
template std::span<double> Population::synaptic_current();
template std::span<float> Population::conductance();
template std::span<double> Population::conductance();
template std::span<float> Population::reversal();
template std::span<double> Population::reversal();
template std::span<float> Population::v();
template std::span<double> Population::v();
template std::span<float> Population::u();
template std::span<double> Population::u();

}  // namespace ranvier::neuron
