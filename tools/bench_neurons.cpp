// `ranvier bench neurons`: uncoupled populations, each solver against the bound of this machine's arithmetic.
#include <algorithm>
#include <chrono>
#include <cmath>

#include "engine/population.h"
#include "kernels/common/parallel.h"
#include "kernels/common/philox.h"
#include "kernels/izhikevich/pack.h"
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
};

/// Vector instructions a second of all threads, in lanes.
struct Rates {
  double fma = 0, div = 0, sqrt = 0;
};

template <class T, class Body>
double rate(const Body& body) {
  using R = kernels::izhikevich::Pack<T>;
  constexpr int chains = 12, rounds = 200000;
  double best = 0;
  for (int repeat = 0; repeat < 3; ++repeat) {
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

/// What a step costs: instructions of the fma kind (reset and count included), divisions, square roots.
struct Cost {
  double plain, div, sqrt;
  double bound(const Rates& r) const { return 1 / (plain / r.fma + div / r.div + sqrt / r.sqrt); }
};

struct Case {
  const char* name;
  Solver solver;
  Mode mode;
  Precision precision;
  int64_t n;
  double dt;
  Cost cost;
  double must;        ///< G neuron-steps a second, or
  double must_share;  ///< of the bound
  double amplitude = 15;
};

const Case cases[] = {
    {"Euler, reset on the grid", Solver::euler, Mode::published, Precision::f32, 100'000, 0.5, {11, 0, 0}, 8, 0},
    {"Euler, reset on the grid", Solver::euler, Mode::published, Precision::f32, 4'000'000, 0.5, {11, 0, 0}, 8, 0},
    {"published:2004 (no fma)", Solver::euler, Mode::published_2004, Precision::f32, 100'000, 0.5, {17, 0, 0}, 6, 0},
    {"published:2003 (no fma)", Solver::euler, Mode::published_2003, Precision::f32, 100'000, 1, {26, 0, 0}, 0, 0},
    {"midpoint, reset on the grid",
     Solver::midpoint,
     Mode::published,
     Precision::f64,
     100'000,
     0.5,
     {18, 0, 0},
     2.1,
     0},
    {"midpoint, located", Solver::midpoint, Mode::accurate, Precision::f32, 100'000, 0.1, {18, 0, 0}, 0, 0},
    {"RK4, reset on the grid", Solver::rk4, Mode::published, Precision::f32, 100'000, 0.1, {38, 0, 0}, 0, 0.6},
    {"RK4, located", Solver::rk4, Mode::accurate, Precision::f32, 100'000, 0.1, {38, 0, 0}, 0, 0.3},
    {"backward Euler, located",
     Solver::backward_euler,
     Mode::accurate,
     Precision::f32,
     100'000,
     0.1,
     {21, 2, 1},
     0,
     0.5},
    {"(I - hJ)^-1, located", Solver::linear_implicit, Mode::accurate, Precision::f32, 100'000, 0.1, {24, 1, 0}, 0, 0.5},
    {"exponential, located", Solver::exponential, Mode::accurate, Precision::f32, 100'000, 0.1, {60, 0, 0}, 0, 0.5},
};

neuron::PopulationSpec spec_of(const Case& c) {
  neuron::PopulationSpec spec;
  spec.size = c.n, spec.solver = c.solver, spec.mode = c.mode, spec.precision = c.precision, spec.dt = c.dt;
  spec.record_spikes = c.mode == Mode::accurate;
  spec.current_each.resize(static_cast<size_t>(c.n));
  // About 30 Hz: regular spiking from 10 to 20.
  for (size_t i = 0; i < spec.current_each.size(); ++i)
    spec.current_each[i] = 10 + static_cast<double>(kernels::philox::uniform({1, 2, 3}, i)) * 10;
  return spec;
}

void run(const Options& options) {
  options.common.start();
  const Rates narrow = measure<float>(), wide = measure<double>();
  options.common.say(
      "measured, lanes a second: f32 {:.0f} G fma, {:.1f} G div, {:.1f} G sqrt; f64 {:.0f}, {:.1f}, {:.1f}",
      1e-9 * narrow.fma, 1e-9 * narrow.div, 1e-9 * narrow.sqrt, 1e-9 * wide.fma, 1e-9 * wide.div, 1e-9 * wide.sqrt);
  options.common.say("{:<28} {:>4} {:>9} {:>6} {:>6} {:>16} {:>16} {:>6} {:>6}", "uncoupled, constant current", "",
                     "neurons", "h (ms)", "Hz", "G neuron-steps/s", "bound", "share", "cores");
  Json rows = Json::array();
  for (const Case& c : cases) {
    neuron::Population population(spec_of(c));
    const int64_t chunk = std::max<int64_t>(16, 100'000'000 / c.n / 4);
    population.advance(chunk);
    const int64_t before = population.total_spikes(), first = population.step();
    double best = 0, busy = 0;
    const Stopwatch total;
    while (total.wall() < options.seconds && !interrupted()) {
      const Stopwatch watch;
      population.advance(chunk);
      const double wall = watch.wall(), speed = static_cast<double>(c.n * chunk) / wall;
      if (speed > best) best = speed, busy = watch.cpu() / wall;
    }
    const double time = static_cast<double>(population.step() - first) * c.dt;
    const double hz = 1e3 * static_cast<double>(population.total_spikes() - before) / time / static_cast<double>(c.n);
    const double bound = c.cost.bound(c.precision == Precision::f32 ? narrow : wide);
    options.common.say("{:<28} {:>4} {:>9} {:>6g} {:>6.1f} {:>16.2f} {:>16.2f} {:>5.0f}% {:>6.2f}{}", c.name,
                       name(c.precision), c.n, c.dt, hz, 1e-9 * best, 1e-9 * bound, 100 * best / bound, busy,
                       c.must > 0         ? fmt::format("   must {:g}", c.must)
                       : c.must_share > 0 ? fmt::format("   must {:g} %", 100 * c.must_share)
                                          : "");
    rows.push_back({{"name", c.name},
                    {"precision", name(c.precision)},
                    {"mode", name(c.mode)},
                    {"neurons", c.n},
                    {"dt_ms", c.dt},
                    {"rate_hz", hz},
                    {"neuron_steps_per_second", best},
                    {"bound", bound},
                    {"share", best / bound},
                    {"cpu_over_wall", busy}});
  }
  options.common.say(
      "best of the chunks in {:g} s each; bound: instructions of a step at the measured rates, reset included",
      options.seconds);
  options.common.print({{"f32_fma", narrow.fma}, {"f64_fma", wide.fma}, {"rows", rows}});
}

}  // namespace

void add_bench_neurons(CLI::App& bench) {
  auto options = std::make_shared<Options>();
  auto* command =
      bench.add_subcommand("neurons", "Neuron-steps a second of uncoupled populations, beside their bounds");
  options->common.add_to(*command);
  command->add_option("--seconds", options->seconds, "Time for each case")
      ->capture_default_str()
      ->check(CLI::PositiveNumber);
  command->callback([options] { run(*options); });
}

}  // namespace ranvier::cli
