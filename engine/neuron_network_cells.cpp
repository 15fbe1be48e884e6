// A population of a network: its description turned into arrays, and its currents.
#include "engine/neuron_network_cells.h"

#include <algorithm>

#include "kernels/common/philox.h"
#include "kernels/izhikevich/published.h"
#include "kernels/izhikevich/steps.h"
#include "kernels/random/random.h"

namespace ranvier::neuron {

namespace iz = kernels::izhikevich;
namespace sy = kernels::synapse;

sy::Method method_of(Solver solver) {
  switch (solver) {
    case Solver::euler:
      return sy::Method::euler;
    case Solver::izhikevich:
      return sy::Method::semi_implicit;
    case Solver::midpoint:
      return sy::Method::midpoint;
    case Solver::rk4:
      return sy::Method::rk4;
    case Solver::backward_euler:
      return sy::Method::backward_euler;
    case Solver::exponential:
      return sy::Method::exponential;
    case Solver::linear_implicit:
      return sy::Method::linear_implicit;
    default:
      fail("solver {} has no place in a network: its steps are not of one length and one memory", name(solver));
  }
}

sy::Resets resets_of(Mode mode) {
  switch (mode) {
    case Mode::published:
      return sy::Resets::grid;
    case Mode::published_2003:
      return sy::Resets::printed_2003;
    case Mode::published_2004:
      return sy::Resets::printed_2004;
    case Mode::accurate:
      break;
  }
  return sy::Resets::located;
}

Range range_of(int64_t n, int thread, int threads) {
  const auto cut = [&](int64_t k) {
    return k == threads ? n : n * k / threads / (2 * kernels::cpu::normal_tile) * (2 * kernels::cpu::normal_tile);
  };
  return {cut(thread), cut(thread + 1)};
}

namespace {

template <class T>
void make_processes(Cells<T>& c, const NetworkSpec& network) {
  PopulationSpec others;
  for (const Process& process : c.spec.processes) {
    if (process.kind != Process::Kind::noise || c.process) {
      others.processes.push_back(process);
      others.processes.back().stream += "/" + c.spec.name;
      continue;
    }
    c.process = &process;
    c.noise_steps = std::max<int64_t>(1, std::llround(process.interval / network.dt));
    c.noise.assign(static_cast<size_t>(c.padded), 0);
    c.noise_stream = kernels::philox::stream_hash(process.stream + "/" + c.spec.name);
  }
  if (others.processes.empty()) return;
  others.name = "population " + c.spec.name, others.size = c.spec.size, others.dt = network.dt,
  others.seed = network.seed;
  others.mode = Mode::published;  // what holds at a step's start holds through it
  validate(others);
  c.driven = std::make_unique<PopulationSpec>(std::move(others));
  c.processes = std::make_unique<ExternalCurrent>(*c.driven);
}

/// The column of n values, or of one where all are the same: less to read in every step.
template <class T>
sy::Column<T> column_of(kernels::LargeVector<T>& values, int64_t n) {
  const auto end = values.begin() + std::min(n, static_cast<int64_t>(values.size()));
  const T first = values.front();
  const bool each = std::any_of(values.begin(), end, [&](T x) { return x != first; });
  if (!each) kernels::LargeVector<T>(1, first).swap(values);
  return {values.data(), each};
}

}  // namespace

template <class T>
void make_cells(Cells<T>& c, const PopulationSpec& from, const NetworkSpec& network, sy::Stepping& stepping) {
  c.spec = from;
  const int64_t n = from.size;
  c.padded = (n + 15) / 16 * 16;
  const auto padded = static_cast<size_t>(c.padded);
  check_each("population " + from.name, from);
  const EachNeuron each(from);
  c.v.assign(padded, T(-65)), c.u.assign(padded, T(0));
  const int64_t distinct = from.each.empty() ? 1 : n;
  const size_t k_count = printed(network.mode) ? 7 : 6;
  c.columns.assign(k_count + 3, kernels::LargeVector<T>(static_cast<size_t>(distinct == 1 ? 1 : c.padded), T(0)));
  for (int64_t i = 0; i < n; ++i) {
    const Parameters q = each.parameters(i);
    const double v0 = each.v0(i), u0 = each.u0(i);
    c.v[i] = static_cast<T>(v0), c.u[i] = static_cast<T>(u0);
    if (i >= distinct) continue;
    try {
      validate(q);
      if (!(v0 < q.v_peak) || !std::isfinite(u0)) fail("v0 = {}, u0 = {}: not below v_peak = {}", v0, u0, q.v_peak);
      if (printed(network.mode) && q.C != 1) fail("mode {} has no C = {}", name(network.mode), q.C);
    } catch (const Error& error) {
      fail("population {}, neuron {}: {}", from.name, i, error.what());
    }
    const iz::Rates<T> r = iz::rates<T>(q);
    const iz::Printed<T> k = iz::printed<T>(q);
    const T values[2][7] = {{r.p2, r.p1, r.w, r.ab, r.ae, r.abv, T(0)}, {k.q2, k.q1, k.q0, k.a, k.b, k.v_b, k.e}};
    for (size_t j = 0; j < k_count; ++j) c.columns[j][i] = values[k_count == 7][j];
    const iz::Reset<T> reset = iz::reset<T>(q);
    c.columns[k_count][i] = reset.v_peak, c.columns[k_count + 1][i] = reset.c, c.columns[k_count + 2][i] = reset.d;
    c.capacity.push_back(q.C), c.q0.push_back(q.q0);
    if (network.solver == Solver::exponential)
      stepping.doublings = std::max(stepping.doublings, iz::doublings_for(q, network.dt));
  }
  const auto same = [](const std::vector<double>& x) { return std::ranges::count(x, x.front()) == std::ssize(x); };
  if (same(c.capacity) && same(c.q0)) c.capacity.resize(1), c.q0.resize(1);
  if (!from.current_each.empty() && static_cast<int64_t>(from.current_each.size()) != n)
    fail("population {}: {} values of current for {} neurons", from.name, from.current_each.size(), n);
  make_processes(c, network);
  const bool alike = c.capacity.size() == 1 && from.current_each.empty() && !(c.processes && c.processes->differs());
  c.base.assign(alike ? 1 : padded, T(0));
  sy::Tick<T>& t = c.tick;
  t.n = n, t.v = c.v.data(), t.u = c.u.data();
  for (size_t j = 0; j < k_count; ++j) t.k[j] = column_of(c.columns[j], n);
  t.v_peak = column_of(c.columns[k_count], n), t.c = column_of(c.columns[k_count + 1], n);
  t.d = column_of(c.columns[k_count + 2], n);
  t.base = {c.base.data(), !alike};
  t.noise = c.process ? c.noise.data() : nullptr;
  c.room.reset(new sy::Spike[static_cast<size_t>(n) * sy::most_spikes(stepping.resets)]);
}

template <class T>
int receiver(Cells<T>& c, const SynapseModel& model, double largest, bool shared) {
  if (shared)
    for (size_t r = 0; r < c.receivers.size(); ++r)
      if (c.receivers[r]->model == model) {
        c.receivers[r]->largest = std::max(c.receivers[r]->largest, largest);
        return static_cast<int>(r);
      }
  auto made = std::make_unique<Receiver<T>>();
  made->model = model, made->largest = largest;
  c.receivers.push_back(std::move(made));
  return static_cast<int>(c.receivers.size()) - 1;
}

/// (1 - exp(-h / tau)) tau / h, the mean of exp(-t / tau) over a step.
double mean_of(double h, double tau) { return -kernels::math::expm1(-h / tau) * tau / h; }

template <class T>
void finish_receivers(Cells<T>& c, double dt) {
  const auto padded = static_cast<size_t>(c.padded);
  for (auto& r : c.receivers) {
    const SynapseModel& m = r->model;
    sy::ReceptorArrays<T> a;
    a.kind = m.kind;
    int exponent = 0;
    std::frexp(r->largest > 0 ? r->largest : 1.0, &exponent);
    a.unit = static_cast<T>(std::ldexp(1.0, exponent - sy::weight_bits));
    r->arrived.assign(padded, 0);
    const int count = sy::states(m.kind);
    if (m.kind == sy::Kind::pulse) a.step = {T(0), static_cast<T>(1 / dt), T(0), T(0), T(0)};
    if (count > 0) r->decaying.assign(padded, T(0));
    if (count > 1) r->rising.assign(padded, T(0));
    if (count > 0) {
      double norm = 1;
      const bool rises = count > 1 && m.tau_rise > 0;
      if (rises) {
        const double ratio = m.tau / m.tau_rise;
        norm = 1 / (std::pow(ratio, -m.tau_rise / (m.tau - m.tau_rise)) * (1 - m.tau_rise / m.tau));
      }
      a.step = {static_cast<T>(kernels::math::exp(-dt / m.tau)), static_cast<T>(norm * mean_of(dt, m.tau)),
                rises ? static_cast<T>(kernels::math::exp(-dt / m.tau_rise)) : T(0),
                rises ? static_cast<T>(norm * mean_of(dt, m.tau_rise)) : T(0), static_cast<T>(m.reversal)};
    }
    a.arrived = r->arrived.data(), a.decaying = r->decaying.data(), a.rising = r->rising.data();
    c.arrays.push_back(a);
  }
  c.tick.receptors = c.arrays.data(), c.tick.receptor_count = static_cast<int>(c.arrays.size());
}

template <class T>
double shared_current(const Cells<T>& c, double t) {
  return c.spec.current.at(t) + (c.processes ? c.processes->shared(t) : 0);
}

template <class T>
bool stimulate(Cells<T>& c, int64_t n, const NetworkSpec& network) {
  const double t = static_cast<double>(n) * network.dt;
  const bool drawn = c.processes && c.processes->move(t);
  const double current = shared_current(c, t);
  if (current == c.current_now && !drawn) return false;
  c.current_now = current;
  const bool each = c.tick.base.each;
  const size_t count = each ? static_cast<size_t>(c.spec.size) : 1;
  c.own_current.assign(count, current);
  if (each && c.processes) c.processes->add(0, c.spec.size, c.own_current.data());
  for (size_t i = 0; i < count; ++i) {
    const double I = c.own_current[i] + (c.spec.current_each.empty() ? 0 : c.spec.current_each[i]);
    const size_t j = c.capacity.size() > 1 ? i : 0;
    c.base[i] = static_cast<T>(printed(network.mode) ? I : (c.q0[j] + I) / c.capacity[j]);
  }
  return true;
}

template <class T>
void make_noise(Cells<T>& c, Range own, int64_t n, uint64_t seed) {
  if (!c.process || n % c.noise_steps != 0) return;
  const int64_t rng[2] = {static_cast<int64_t>(seed), n / c.noise_steps};
  kernels::cpu::fill_normal_from(own.begin, own.end - own.begin, static_cast<float>(c.process->mean),
                                 static_cast<float>(c.process->deviation), c.noise_stream, rng,
                                 c.noise.data() + own.begin);
}

#define RANVIER_INSTANTIATE(T)                                                                   \
  template void make_cells(Cells<T>&, const PopulationSpec&, const NetworkSpec&, sy::Stepping&); \
  template int receiver(Cells<T>&, const SynapseModel&, double, bool);                           \
  template void finish_receivers(Cells<T>&, double);                                             \
  template double shared_current(const Cells<T>&, double);                                       \
  template bool stimulate(Cells<T>&, int64_t, const NetworkSpec&);                               \
  template void make_noise(Cells<T>&, Range, int64_t, uint64_t);
RANVIER_INSTANTIATE(float)
RANVIER_INSTANTIATE(double)
#undef RANVIER_INSTANTIATE

}  // namespace ranvier::neuron
