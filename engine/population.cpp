// Populations: checks and bill of a description, and what all element types share.
#include "engine/population.h"

#include <algorithm>
#include <cmath>
#include <cstring>

#include "engine/population_run.h"

namespace ranvier::neuron {
namespace {

constexpr std::string_view keys[] = {"C", "q2", "q1", "q0", "a", "b", "v_b", "e", "v_peak", "c", "d", "v0", "u0"};

void check_process(const std::string& name, const Process& p, int64_t size) {
  const auto check = [&](const char* key, double value, bool positive) {
    if (!std::isfinite(value) || (positive && !(value > 0)))
      fail("{}: current: {} = {}: must be {}finite", name, key, value, positive ? "positive and " : "");
  };
  check("interval", p.interval, true);
  check("mean", p.mean, false), check("sd", p.deviation, false), check("weight", p.weight, false);
  check("amplitude", p.amplitude, false), check("phase", p.phase, false), check("frequency", p.frequency, false);
  if (p.kind == Process::Kind::ou) check("tau", p.tau, true);
  if (p.deviation < 0) fail("{}: current: sd = {} is negative", name, p.deviation);
  if (p.kind == Process::Kind::poisson && !(p.tau >= 0 && std::isfinite(p.tau)))
    fail("{}: current: tau = {}: must be 0 or positive", name, p.tau);
  if (p.kind == Process::Kind::poisson && !(p.rate >= 0 && 1e-3 * p.rate * p.interval <= 1e6))
    fail("{}: current: rate = {} Hz: must be from 0 to 1e6 events an interval", name, p.rate);
  if (p.kind != Process::Kind::table) return;
  if (p.values.empty() || p.values.size() % static_cast<size_t>(size) != 0)
    fail("{}: current: a table of {} values is not a whole number of rows of {} neurons", name, p.values.size(), size);
  for (size_t i = 0; i < p.values.size(); ++i)
    if (!std::isfinite(p.values[i]))
      fail("{}: current: row {}, neuron {}: {} is not a finite number", name, i / static_cast<size_t>(size),
           i % static_cast<size_t>(size), p.values[i]);
}

}  // namespace

EachNeuron::EachNeuron(const PopulationSpec& spec) : spec_(spec) {
  for (size_t k = 0; k < std::size(keys); ++k) {
    const auto found = spec.each.find(std::string(keys[k]));
    if (found != spec.each.end()) own_[k] = found->second.data();
  }
}

Parameters EachNeuron::parameters(int64_t i) const {
  Parameters p = spec_.parameters;
  double* const members[] = {&p.C, &p.q2, &p.q1, &p.q0, &p.a, &p.b, &p.v_b, &p.e, &p.v_peak, &p.c, &p.d};
  for (size_t k = 0; k < std::size(members); ++k)
    if (own_[k]) *members[k] = own_[k][i];
  return p;
}
double EachNeuron::v0(int64_t i) const { return own_[11] ? own_[11][i] : spec_.v0; }
double EachNeuron::u0(int64_t i) const { return own_[12] ? own_[12][i] : spec_.u0; }

void check_each(const std::string& who, const PopulationSpec& s) {
  for (const auto& [key, values] : s.each) {
    if (std::find(std::begin(keys), std::end(keys), key) == std::end(keys))
      fail("{}: no parameter is called '{}'", who, key);
    if (values.size() != static_cast<size_t>(s.size))
      fail("{}: parameter {} has {} values for {} neurons", who, key, values.size(), s.size);
  }
}

void add_cells(Fingerprint& f, const PopulationSpec& s) {
  const Parameters& p = s.parameters;
  for (const double x : {p.C, p.q2, p.q1, p.q0, p.a, p.b, p.v_b, p.e, p.v_peak, p.c, p.d}) f.add(x);
  f.add(s.size);
  for (const auto& [key, values] : s.each) f.add(key), f.add(values);
}

void add_inputs(Fingerprint& f, const PopulationSpec& s) {
  f.add(s.current_each);
  for (const auto& piece : s.current.pieces())
    f.add(piece.begin), f.add(piece.value), f.add(piece.slope), f.add(piece.after);
  for (const Process& q : s.processes) {
    f.add(q.kind), f.add(q.values), f.add(q.stream);
    for (const double x : {q.mean, q.deviation, q.tau, q.rate, q.weight, q.amplitude, q.frequency, q.phase, q.interval})
      f.add(x);
  }
}

void validate(const PopulationSpec& s) {
  if (const CudaSupport cuda = cuda_support(); s.device.backend == Backend::cuda && !cuda.usable)
    fail("{}: device cuda: {}", s.name, cuda.why);
  if (s.size < 1) fail("{}: size {}: a population has at least one neuron", s.name, s.size);
  if (s.size > 0xffffff00) fail("{}: size {}: at most {} neurons", s.name, s.size, 0xffffff00);
  const auto n = static_cast<size_t>(s.size);
  check_each(s.name, s);
  if (s.solver == Solver::reference || s.solver == Solver::linear_implicit_adaptive)
    fail("{}: solver {} chooses its own steps: populations take a solver of fixed step", s.name, name(s.solver));
  if (!s.current_each.empty() && s.current_each.size() != n)
    fail("{}: current: {} values for {} neurons", s.name, s.current_each.size(), n);
  for (size_t i = 0; i < s.current_each.size(); ++i)
    if (!std::isfinite(s.current_each[i]))
      fail("{} {}: current {} is not a finite number", s.name, i, s.current_each[i]);
  for (const Process& p : s.processes) check_process(s.name, p, s.size);
  const EachNeuron each(s);
  Protocol one;
  one.solver = s.solver, one.mode = s.mode, one.spike_event = s.spike_event, one.dt = s.dt;
  one.duration = s.dt;
  for (int64_t i = 0; i < (s.each.empty() ? 1 : s.size); ++i) {
    one.parameters = each.parameters(i), one.v0 = each.v0(i), one.u0 = each.u0(i);
    try {
      validate(one);
    } catch (const Error& error) {
      if (s.each.empty()) fail("{}: {}", s.name, error.what());
      fail("{} {}: {}", s.name, i, error.what());
    }
  }
}

uint64_t own_columns(const PopulationSpec& s, Mode mode) {
  const bool shifted = s.parameters.v_b != 0 || s.each.contains("v_b");
  uint64_t columns = 0;
  for (const auto& [key, values] : s.each) {
    if (key == "v0" || key == "u0" || (key == "q0" && !printed(mode))) continue;
    // a is in a b, a e and a b v_b; b in two of them; C in every rate of v.
    const bool several = !printed(mode) && (key == "a" || key == "b" || key == "C");
    columns += !several ? 1 : key == "C" ? 3 : (key == "a" ? 2 : 1) + (shifted ? 1 : 0);
  }
  return columns;
}

uint64_t own_doubles(const PopulationSpec& s) {
  uint64_t bytes = 0;
  for (const char* key : {"C", "q0"}) bytes += s.each.contains(key) ? sizeof(double) : 0;
  return bytes;
}

uint64_t bytes_of(const PopulationSpec& s) {
  const uint64_t real = s.precision == Precision::f32 ? 4 : 8;
  uint64_t columns = 2 + (s.solver == Solver::ab2 ? 2 : 0);
  bool drive = !s.current_each.empty();
  for (const Process& p : s.processes) drive = drive || p.kind != Process::Kind::sinusoid;
  columns += own_columns(s, s.mode);
  drive = drive || s.each.contains("q0") || s.each.contains("C");
  const uint64_t each = real * (columns + (drive ? 1 : 0)) + 4 + own_doubles(s) + ExternalCurrent::bytes_per_neuron(s);
  return each * static_cast<uint64_t>(kernels::izhikevich::padded(s.size));
}

std::string bill(const PopulationSpec& s) {
  const double bytes = static_cast<double>(bytes_of(s));
  return fmt::format("{}: {} neurons, {}, {:.3g} MB ({:.1f} bytes a neuron)", s.name, s.size, name(s.precision),
                     1e-6 * bytes, bytes / static_cast<double>(s.size));
}

Population::Population(PopulationSpec spec) {
  validate(spec);
  if (const size_t room = free_memory(spec.device); bytes_of(spec) > room)
    fail("{}; {:.3g} MB are free on {}", bill(spec), 1e-6 * static_cast<double>(room), spec.device.description());
  implementation_ =
      spec.precision == Precision::f32 ? make_population_f32(std::move(spec)) : make_population_f64(std::move(spec));
}
Population::~Population() = default;
Population::Population(Population&&) noexcept = default;
Population& Population::operator=(Population&&) noexcept = default;

const PopulationSpec& Population::spec() const { return implementation_->spec; }
int64_t Population::step() const { return implementation_->step; }
void Population::advance(int64_t steps) {
  if (steps < 0) fail("{}: {} steps", spec().name, steps);
  implementation_->advance(steps);
}
void Population::begin_step() { implementation_->half_step(true); }
void Population::end_step() { implementation_->half_step(false); }
std::span<const Spike> Population::spikes() const { return implementation_->spikes; }
int64_t Population::step_of(const Spike& s) const { return implementation_->first_step + s.step; }
double Population::time_of(const Spike& s) const {
  const auto step = static_cast<double>(step_of(s));
  return s.offset == dt() ? (step + 1) * dt() : step * dt() + s.offset;
}
std::span<const uint32_t> Population::counts() const {
  implementation_->fetch();
  return std::span(implementation_->counts).first(static_cast<size_t>(size()));
}
int64_t Population::total_spikes() const {
  int64_t total = 0;
  for (const uint32_t count : counts()) total += count;
  return total;
}
int64_t Population::pieces() const { return implementation_->pieces; }
double Population::v(int64_t neuron) const { return implementation_->value(neuron, false); }
double Population::u(int64_t neuron) const { return implementation_->value(neuron, true); }
std::pair<double, double> Population::mean_state() const {
  implementation_->fetch();
  double v_sum = 0, u_sum = 0;
  for (int64_t i = 0; i < size(); ++i) v_sum += v(i), u_sum += u(i);
  return {v_sum / static_cast<double>(size()), u_sum / static_cast<double>(size())};
}
double Population::external_current(int64_t neuron) const { return implementation_->external(neuron); }
std::vector<std::byte> Population::state() const { return implementation_->state(); }
void Population::restore(std::span<const std::byte> bytes) { implementation_->restore(bytes); }

}  // namespace ranvier::neuron
