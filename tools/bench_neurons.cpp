// `ranvier bench neurons`: uncoupled populations, each solver against the bound of this machine's arithmetic.
#include <algorithm>
#include <chrono>
#include <cmath>

#include "engine/population.h"
#include "kernels/common/parallel.h"
#include "kernels/common/philox.h"
#include "kernels/izhikevich/pack.h"
#include "kernels/izhikevich/steps.h"
#include "tools/peak.h"
#include "tools/run.h"

namespace ranvier::cli {
namespace {

using Json = nlohmann::ordered_json;
using neuron::Mode;
using neuron::Precision;
using neuron::Solver;

struct Options {
  Common common;
  double seconds = 1;
  std::string only;
  std::optional<int64_t> neurons;  ///< of each case
};

/// Vector instructions a second of all threads, in lanes.
struct Rates {
  double fma = 0, div = 0, sqrt = 0;
};

template <class T, class Body>
double rate(const Body& body) {
  using R = kernels::izhikevich::Pack<T>;
  constexpr int chains = 12, rounds = 1000000;
  double best = 0;
  // The fastest of many short runs: a bound wants what the cores can do, whoever else is there.
  for (const Stopwatch total; total.wall() < 0.3;) {
    int threads = 1;
#if defined(_OPENMP)
    threads = omp_get_max_threads();
#endif
    const auto start = std::chrono::steady_clock::now();
    std::vector<T> sink(static_cast<size_t>(threads));
    kernels::parallel_for(threads, [&](int64_t thread) {
      R x[chains];
      for (int i = 0; i < chains; ++i) x[i] = R(T(1.5) + static_cast<T>(i));
      for (int k = 0; k < rounds; ++k) {
#pragma GCC unroll 12
        for (int i = 0; i < chains; ++i) x[i] = body(x[i]);
      }
      for (int i = 1; i < chains; ++i) x[0] = x[0] + x[i];
      sink[static_cast<size_t>(thread)] = x[0].x[0];
    });
    const double seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
    if (sink[0] == T(-1)) continue;
    best = std::max(best, static_cast<double>(threads) * chains * rounds * R::lanes / seconds);
  }
  return best;
}

template <class T>
Rates measure() {
  using R = kernels::izhikevich::Pack<T>;
  const R a(T(0.75)), b(T(0.25));
  return {rate<T>([&](R x) { return fused(x, a, b); }), rate<T>([&](R x) { return quotient(b, x); }),
          rate<T>([&](R x) { return root(x); })};
}

/// Operations of a step: those that an fma's port takes, divisions, square roots.
struct Cost {
  double plain = 0, div = 0, sqrt = 0;
  double bound(const Rates& r) const { return 1 / (plain / r.fma + div / r.div + sqrt / r.sqrt); }
};

/// A number that counts what is done with it.
template <class T>
struct Counted {
  static inline Cost cost;
  Counted() = default;
  explicit Counted(T) {}
  static Counted plain() { return ++cost.plain, Counted(); }
  static bool compared() { return ++cost.plain, true; }
  friend Counted operator+(Counted, Counted) { return plain(); }
  friend Counted operator-(Counted, Counted) { return plain(); }
  friend Counted operator*(Counted, Counted) { return plain(); }
  friend Counted operator-(Counted a) { return a; }  // free: fma has a form with the sign
  friend bool operator<(Counted, Counted) { return compared(); }
  friend bool operator>(Counted, Counted) { return compared(); }
  friend bool operator>=(Counted, Counted) { return compared(); }
  friend Counted fused(Counted, Counted, Counted) { return plain(); }
  friend Counted product(Counted, Counted) { return plain(); }
  friend Counted select(bool, Counted, Counted) { return plain(); }
  friend Counted quotient(Counted, Counted) { return ++cost.div, Counted(); }
  friend Counted root(Counted) { return ++cost.sqrt, Counted(); }
};

}  // namespace
}  // namespace ranvier::cli

template <class T>
struct ranvier::kernels::izhikevich::Lanes<ranvier::cli::Counted<T>> {
  using Element = T;
  using Mask = bool;
};

namespace ranvier::cli {
namespace {

/// Operations of the solver's functor as written and of what follows it: compare and count lanes at the peak, and on
/// the grid their reset. What the compiler moves out of the loop where parameters are shared is counted too.
template <class T>
Cost cost_of(const neuron::PopulationSpec& spec) {
  namespace iz = kernels::izhikevich;
  using N = Counted<T>;
  const iz::Field<N> f{};
  const iz::Length<N> length{};
  const auto of = [&](const auto& method) {
    N::cost = {};
    method(f, iz::State<N>{}, length);
    N::cost.plain += spec.mode == Mode::accurate ? 1 : 5;
    return N::cost;
  };
  switch (spec.solver) {
    case Solver::midpoint:
      return of(iz::Midpoint{});
    case Solver::rk4:
      return of(iz::Rk4{});
    case Solver::backward_euler:
      return of(iz::BackwardEuler{});
    case Solver::linear_implicit:
      return of(iz::LinearImplicit{});
    case Solver::exponential:
      return of(iz::Exponential{iz::doublings_for(spec.parameters, spec.dt)});
    default:
      return of(iz::Euler{});
  }
}

/// The printed expressions, which have no fma, by hand: 2004 and 2003.
constexpr Cost printed_2004{17, 0, 0}, printed_2003{26, 0, 0};

struct Case {
  const char* name;
  Solver solver;
  Mode mode;
  Precision precision;
  int64_t n;
  double dt;
  double must = 0;        ///< G neuron-steps a second, or
  double must_share = 0;  ///< of the bound, or
  int within = 0;         ///< twice the time of this case
  bool on_cuda = false;   ///< only there, with its spikes listed; else a GPU counts them
};

constexpr int grid_rk4 = 6;
const Case cases[] = {
    {"Euler, reset on the grid", Solver::euler, Mode::published, Precision::f32, 100'000, 0.5, 8},
    {"Euler, reset on the grid", Solver::euler, Mode::published, Precision::f32, 4'000'000, 0.5, 8},
    {"published:2004 (no fma)", Solver::euler, Mode::published_2004, Precision::f32, 100'000, 0.5, 6},
    {"published:2003 (no fma)", Solver::euler, Mode::published_2003, Precision::f32, 100'000, 1},
    {"midpoint, reset on the grid", Solver::midpoint, Mode::published, Precision::f64, 100'000, 0.5, 2.1},
    {"midpoint, located", Solver::midpoint, Mode::accurate, Precision::f32, 100'000, 0.1},
    {"RK4, reset on the grid", Solver::rk4, Mode::published, Precision::f32, 100'000, 0.1, 0, 0.6},
    {"RK4, located", Solver::rk4, Mode::accurate, Precision::f32, 100'000, 0.1, 0, 0, grid_rk4},
    {"RK4, located, spikes listed", Solver::rk4, Mode::accurate, Precision::f32, 100'000, 0.1, 0, 0, 0, true},
    {"backward Euler, located", Solver::backward_euler, Mode::accurate, Precision::f32, 100'000, 0.1, 0, 0.5},
    {"(I - hJ)^-1, located", Solver::linear_implicit, Mode::accurate, Precision::f32, 100'000, 0.1, 0, 0.5},
    {"exponential, located", Solver::exponential, Mode::accurate, Precision::f32, 100'000, 0.1, 0, 0.5},
};

Cost cost_of(const Case& c, const neuron::PopulationSpec& spec) {
  if (c.mode == Mode::published_2004) return printed_2004;
  if (c.mode == Mode::published_2003) return printed_2003;
  return c.precision == Precision::f32 ? cost_of<float>(spec) : cost_of<double>(spec);
}

neuron::PopulationSpec spec_of(const Case& c, int64_t n) {
  neuron::PopulationSpec spec;
  spec.size = n, spec.solver = c.solver, spec.mode = c.mode, spec.precision = c.precision, spec.dt = c.dt;
  spec.record_spikes = c.mode == Mode::accurate;
  spec.current_each.resize(static_cast<size_t>(n));
  // About 30 Hz: regular spiking from 10 to 20.
  for (size_t i = 0; i < spec.current_each.size(); ++i)
    spec.current_each[i] = 10 + static_cast<double>(kernels::philox::uniform({1, 2, 3}, i)) * 10;
  return spec;
}

/// A case under way.
struct Run {
  const Case& what;
  neuron::Population population;
  int64_t chunk, spikes_before = 0;
  double best = 0, busy = 0;  ///< neuron-steps/s of the fastest chunk, and the cores at work in it

  Run(const Case& c, neuron::PopulationSpec spec, int64_t steps) : what(c), population(std::move(spec)), chunk(steps) {
    population.advance(chunk);
    spikes_before = population.total_spikes();
  }
  void once() {
    const Stopwatch watch;
    population.advance(chunk);
    const double wall = watch.wall(), speed = static_cast<double>(population.size() * chunk) / wall;
    if (speed > best) best = speed, busy = watch.cpu() / wall;
  }
  double hz() const {
    const double time = static_cast<double>(population.step() - chunk) * what.dt;
    return 1e3 * static_cast<double>(population.total_spikes() - spikes_before) / time /
           static_cast<double>(population.size());
  }
};

std::vector<Run> runs_of(const Options& options, Device device) {
  const bool cuda = device.backend == Backend::cuda;
  std::vector<Run> runs;
  for (const Case& c : cases) {
    if (std::string_view(c.name).find(options.only) == std::string_view::npos || (c.on_cuda && !cuda)) continue;
    const int64_t n = options.neurons.value_or(cuda ? std::max<int64_t>(c.n, 1'000'000) : c.n);
    neuron::PopulationSpec spec = spec_of(c, n);
    spec.device = device;
    if (cuda) spec.record_spikes = c.on_cuda;
    // On a GPU the steps of a launch; lists of spikes are ordered by it and travel to the host, which counts too.
    runs.emplace_back(c, std::move(spec), cuda ? 250 : std::max<int64_t>(16, 100'000'000 / n / 4));
  }
  if (runs.empty()) throw UsageError(fmt::format("--only {}: no case is called so", options.only));
  return runs;
}

/// Round after round through all cases, so that what else the machine does falls on all of them.
void time_all(std::vector<Run>& runs, double seconds) {
  const Stopwatch total;
  while (total.wall() < seconds * static_cast<double>(runs.size()) && !interrupted())
    for (Run& r : runs) r.once();
}

/// A step a launch, so that the state goes through memory: GB/s of v and u read and written.
Json memory_row(const Options& options, Device device, const Peak& peak) {
  const Case c{"Euler, a step a launch", Solver::euler, Mode::published, Precision::f32, 128'000'000, 0.5};
  neuron::PopulationSpec spec;
  spec.size = options.neurons.value_or(c.n), spec.solver = c.solver, spec.mode = c.mode, spec.dt = c.dt;
  spec.record_spikes = false, spec.current = neuron::Stimulus::constant(12), spec.device = device;
  std::vector<Run> one;
  one.emplace_back(c, std::move(spec), 1);
  time_all(one, options.seconds);
  const double gbs = 16e-9 * one[0].best;
  options.common.say("{:<28} {:>4} {:>9} {:>6g} {:>31.2f} {:>8.0f} GB/s, {:.0f}% of a copy's {:.0f}   must 85 %",
                     c.name, name(c.precision), one[0].population.size(), c.dt, 1e-9 * one[0].best, gbs,
                     100 * gbs / peak.gbs, peak.gbs);
  return {{"name", c.name},
          {"neurons", one[0].population.size()},
          {"neuron_steps_per_second", one[0].best},
          {"gb_per_second", gbs},
          {"share_of_copy", gbs / peak.gbs}};
}

void run_on_cuda(const Options& options, Device device) {
  const Peak peak = measure_peak(device);
  options.common.say("measured: f32 {:.0f} GFLOP/s, f64 {:.0f}, copy {:.0f} GB/s", peak.gflops, peak.gflops_f64,
                     peak.gbs);
  options.common.say("{:<28} {:>4} {:>9} {:>6} {:>6} {:>13} {:>16} {:>8}", "uncoupled, constant current", "", "neurons",
                     "h (ms)", "Hz", "fma+div+sqrt", "G neuron-steps/s", "of fma");
  std::vector<Run> runs = runs_of(options, device);
  time_all(runs, options.seconds);
  Json rows = Json::array();
  for (const Run& r : runs) {
    const Case& c = r.what;
    const Cost cost = cost_of(c, r.population.spec());
    const double fma = 0.5e9 * (c.precision == Precision::f32 ? peak.gflops : peak.gflops_f64);
    const double share = r.best * cost.plain / fma;
    options.common.say("{:<28} {:>4} {:>9} {:>6g} {:>6.1f} {:>13} {:>16.2f} {:>7.0f}%", c.name, name(c.precision),
                       r.population.size(), c.dt, r.hz(), fmt::format("{}+{}+{}", cost.plain, cost.div, cost.sqrt),
                       1e-9 * r.best, 100 * share);
    rows.push_back({{"name", c.name},
                    {"precision", name(c.precision)},
                    {"mode", name(c.mode)},
                    {"neurons", r.population.size()},
                    {"dt_ms", c.dt},
                    {"rate_hz", r.hz()},
                    {"neuron_steps_per_second", r.best},
                    {"share_of_fma", share}});
  }
  runs.clear();
  if (options.only.empty()) rows.push_back(memory_row(options, device, peak));
  options.common.say("best of the chunks in {:g} s each, taken in turn; of fma: the share of the measured fma rate",
                     options.seconds);
  options.common.print({{"device", device.description()}, {"copy_gb_per_second", peak.gbs}, {"rows", rows}});
}

void run(const Options& options) {
  const Device device = options.common.start();
  if (device.backend == Backend::cuda) return run_on_cuda(options, device);
  const Rates narrow = measure<float>(), wide = measure<double>();
  options.common.say(
      "measured, lanes a second: f32 {:.0f} G fma, {:.1f} G div, {:.1f} G sqrt; f64 {:.0f}, {:.1f}, {:.1f}",
      1e-9 * narrow.fma, 1e-9 * narrow.div, 1e-9 * narrow.sqrt, 1e-9 * wide.fma, 1e-9 * wide.div, 1e-9 * wide.sqrt);
  options.common.say("{:<28} {:>4} {:>9} {:>6} {:>6} {:>13} {:>16} {:>8} {:>6} {:>6}", "uncoupled, constant current",
                     "", "neurons", "h (ms)", "Hz", "fma+div+sqrt", "G neuron-steps/s", "bound", "share", "cores");
  std::vector<Run> runs = runs_of(options, device);
  time_all(runs, options.seconds);
  Json rows = Json::array();
  for (const Run& r : runs) {
    const Case& c = r.what;
    const Cost cost = cost_of(c, r.population.spec());
    const double bound = cost.bound(c.precision == Precision::f32 ? narrow : wide);
    std::string must = c.must > 0         ? fmt::format("   must {:g}", c.must)
                       : c.must_share > 0 ? fmt::format("   must {:g} %", 100 * c.must_share)
                                          : "";
    for (const Run& other : runs)
      if (c.within && &other.what == &cases[c.within])
        must = fmt::format("   {:.2f} x the time of {}, must 2", other.best / r.best, other.what.name);
    options.common.say("{:<28} {:>4} {:>9} {:>6g} {:>6.1f} {:>13} {:>16.2f} {:>8.2f} {:>5.0f}% {:>6.2f}{}", c.name,
                       name(c.precision), r.population.size(), c.dt, r.hz(),
                       fmt::format("{}+{}+{}", cost.plain, cost.div, cost.sqrt), 1e-9 * r.best, 1e-9 * bound,
                       100 * r.best / bound, r.busy, must);
    rows.push_back({{"name", c.name},
                    {"precision", name(c.precision)},
                    {"mode", name(c.mode)},
                    {"neurons", r.population.size()},
                    {"dt_ms", c.dt},
                    {"rate_hz", r.hz()},
                    {"neuron_steps_per_second", r.best},
                    {"operations", {{"fma", cost.plain}, {"div", cost.div}, {"sqrt", cost.sqrt}}},
                    {"bound", bound},
                    {"share", r.best / bound},
                    {"cpu_over_wall", r.busy}});
  }
  options.common.say(
      "best of the chunks in {:g} s each, taken in turn; bound: the solver's operations as written at the measured "
      "rates, reset included",
      options.seconds);
  options.common.print({{"f32_fma", narrow.fma}, {"f64_fma", wide.fma}, {"rows", rows}});
}

}  // namespace

void add_bench_neurons(CLI::App& bench) {
  auto options = std::make_shared<Options>();
  auto* command = subcommand(bench, "neurons", "Neuron-steps a second of uncoupled populations, beside their bounds");
  options->common.add_to(*command);
  command->add_option("--seconds", options->seconds, "Time for each case")->capture_default_str()->check(above_zero);
  command->add_option("--only", options->only, "Cases whose name has this in it");
  command->add_option("--neurons", options->neurons, "Neurons of each case")->check(above_zero);
  command->callback([options] { run(*options); });
}

}  // namespace ranvier::cli
