// The table of flags and the routes that take them.
#include "tools/neuron_flags.h"

#include <algorithm>
#include <string_view>

namespace ranvier::cli {
namespace {

constexpr unsigned bit(Route route) { return 1u << static_cast<int>(route); }

constexpr unsigned one = bit(Route::one), population = bit(Route::population), in_field = bit(Route::field_population),
                   network = bit(Route::network), sweep = bit(Route::sweep), sweep_network = bit(Route::sweep_network),
                   compare = bit(Route::compare), stability = bit(Route::stability), patterns = bit(Route::patterns),
                   field = bit(Route::field);
constexpr unsigned many = population | in_field, recorded = many | network, neurons = one | many | sweep,
                   all = neurons | network | sweep_network | compare | stability | patterns | field;

struct Flag {
  std::string_view name;
  unsigned routes;
};

constexpr Flag table[] = {
    {"--help", all},
    {"--help-all", all},
    {"--json", all},
    {"--keys", all},
    {"--seed", all},
    {"--device", all},
    {"--threads", all},
    {"--out", all},
    {"--precision", all & ~patterns},
    {"--preset", all & ~patterns},
    {"--form", neurons | compare | stability},
    {"--params", neurons | compare | stability},
    {"--current", neurons | compare | stability},
    {"--duration-ms", all & ~patterns},
    {"--dt-ms", all & ~stability},
    {"--spike-event", one | population | sweep | compare | stability},
    {"--rtol", one | sweep | compare},
    {"--atol", one | sweep | compare},
    {"--solver", all & ~(compare | stability)},
    {"--mode", all & ~patterns},
    {"file", network | sweep_network | field},
    {"--n", many | sweep},
    {"--field", in_field},
    {"--noise-sd", many | sweep},
    {"--noise-dt-ms", many | sweep},
    {"--resume", recorded},
    {"--record", recorded},
    {"--record-dt-ms", recorded},
    {"--record-means", recorded},
    {"--record-memory-mb", recorded},
    {"--record-limit-mb", recorded},
    {"--formats", recorded},
    {"--sweep", sweep | sweep_network},
    {"--kappa", in_field | network | sweep_network},
    {"--steps", compare | stability},
    {"--solvers", compare},
    {"--kappas", field},
    {"--seeds", field},
    {"--settle-ms", field},
};

std::string_view name(Route route) {
  constexpr std::string_view names[] = {"one neuron",
                                        "a population",
                                        "a population in a field",
                                        "a network",
                                        "a sweep",
                                        "a sweep of networks",
                                        "the comparison of solvers",
                                        "the sweep of steps",
                                        "the twenty patterns",
                                        "the sweep of kappa"};
  return names[static_cast<int>(route)];
}

/// What to do instead.
std::string_view hint(Route route, unsigned takers, std::string_view flag) {
  if (flag == "--noise-sd" && route == Route::one) return ": --current noise:sd=VALUE, or --n 1";
  if (route == Route::one && (takers & population)) return ": --n 1 makes a population of it";
  if (route == Route::one && (takers & network)) return ": it is of networks";
  if ((route == Route::network || route == Route::sweep_network || route == Route::field) && (takers & one))
    return ": it is of neurons, a network has that in its file";
  if (flag == "--dt-ms") return ": --steps";
  return "";
}

bool given(const CLI::App& command, const std::string& flag) {
  const CLI::Option* option = command.get_option_no_throw(flag);
  return option && option->count() > 0;
}

/// Flags that mean something only beside another.
void check_companions(const CLI::App& command, Route route, const NeuronOptions& o) {
  const neuron::Mode mode = neuron::mode_named(o.mode);
  for (const char* flag : {"--rtol", "--atol"}) {
    const bool chosen = route == Route::compare || o.solver == "linear-implicit-adaptive";
    if (given(command, flag) && !(chosen && mode == neuron::Mode::accurate))
      throw UsageError(
          fmt::format("{}: tolerances are those of --solver linear-implicit-adaptive in --mode accurate", flag));
  }
  if (given(command, "--solver") && given(command, "--mode") && printed(mode))
    throw UsageError(fmt::format("--solver {}: mode {} is printed with its own steps", o.solver, o.mode));
  if (given(command, "--noise-dt-ms") && !o.noise_sd && !o.sweep.starts_with("noise-sd="))
    throw UsageError("--noise-dt-ms: there is no --noise-sd that it would hold");
  for (const char* flag :
       {"--record", "--record-dt-ms", "--record-means", "--record-memory-mb", "--record-limit-mb", "--formats"})
    if (given(command, flag) && o.out.empty()) throw UsageError(fmt::format("{}: there is no --out to write to", flag));
  if (given(command, "--steps") && given(command, "--dt-ms")) throw UsageError("--dt-ms: --steps has the steps");
  const bool alone = bit(route) & (one | compare | stability | patterns);
  if (alone && o.common.device == "cuda")
    throw UsageError("--device cuda: one neuron is stepped on the CPU; --n makes a population");
}

}  // namespace

void check_flags(const CLI::App& command, Route route, const NeuronOptions& options) {
  for (const CLI::Option* option : command.get_options()) {
    const std::string flag = option->get_name();
    const auto row = std::find_if(std::begin(table), std::end(table), [&](const Flag& f) { return f.name == flag; });
    if (row == std::end(table)) fail("{}: is in no row of the table of flags", flag);  // whoever adds one adds it there
    if (option->count() > 0 && !(row->routes & bit(route)))
      throw UsageError(
          fmt::format("{}: {} has no use for it{}", flag, name(route), hint(route, row->routes, row->name)));
  }
  check_companions(command, route, options);
}

}  // namespace ranvier::cli
