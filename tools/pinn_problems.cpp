// `ranvier pinn infer` and `pde`: the inverse problem of a recorded voltage, and partial differential equations.
#include "models/pde.h"
#include "models/pinn_inverse.h"
#include "tools/pinn_commands.h"
#include "tools/pinn_options.h"

namespace ranvier::cli {
namespace {

using Json = nlohmann::ordered_json;

struct InferOptions {
  Common common;
  NeuronChoice who;
  std::string trace;
  std::vector<std::string> unknown = {"a", "b", "c", "d"};
};

/// Parameters from a recorded voltage.
void infer(const InferOptions& o) {
  start_on_cpu(o.common, "ranvier pinn infer");
  pinn::Neuron guess = o.who.chosen();
  if (o.who.params.find("u0=") == std::string::npos) {  // the recording's start does not move with a guess of b
    NeuronChoice known = o.who;
    known.params.clear();
    guess.u0 = known.chosen().u0;
  }
  const pinn::Current current = pinn::Current::parse(o.who.current_text());
  const Reference trace = read_reference(o.trace);
  if (trace.v_mv.empty()) throw UsageError(fmt::format("{}: there are no samples in columns t_ms and v_mv", o.trace));
  const pinn::Recording recording{trace.t_ms, trace.v_mv};
  try {
    recording.check();
  } catch (const Error& e) {
    throw UsageError(fmt::format("{}: {}", o.trace, e.what()));
  }
  pinn::InverseOptions options;
  options.unknown = o.unknown, options.seed = o.common.seed.value_or(0);
  watch_for_interruption();
  Progress progress(o.common);
  const Stopwatch watch;
  const pinn::InverseResult result =
      pinn::infer(recording, guess, current, options, [&](int64_t iteration, double misfit) {
        progress.update(fmt::format("iteration {:>4}  misfit {:.6g}", iteration, misfit));
        return !interrupted();
      });
  progress.finish(
      fmt::format("{} spikes, {} samples, noise {:.3f} mV, {} iterations, {:.1f} s ({:.1f} s of processor time)",
                  result.spikes, result.samples, result.noise_mv, result.iterations, watch.wall(), watch.cpu()));
  Json estimates = Json::array();
  o.common.say("{:<4} {:>12} {:>12}   95 % interval", "", "estimate", "std. error");
  for (const pinn::Estimate& e : result.estimates) {
    o.common.say("{:<4} {:>12.6g} {:>12.2g}   {:.6g} ... {:.6g}", e.name, e.value, e.standard_error, e.low, e.high);
    estimates.push_back(
        {{"name", e.name}, {"value", e.value}, {"standard_error", e.standard_error}, {"low", e.low}, {"high", e.high}});
  }
  o.common.print({{"estimates", estimates},
                  {"noise_mv", result.noise_mv},
                  {"recording_noise_mv", result.recording_noise_mv},
                  {"misfit", result.misfit},
                  {"samples", result.samples},
                  {"physics_loss", result.physics_loss},
                  {"spikes", result.spikes},
                  {"iterations", result.iterations},
                  {"failure", result.failure},
                  {"seconds", watch.wall()},
                  {"cpu_seconds", watch.cpu()}});
  if (interrupted()) throw Exit{130};
  if (!result.failure.empty()) throw std::runtime_error(fmt::format("{}: {}", o.trace, result.failure));
  if (!result.describes())
    o.common.say(
        "the equations leave {:.3f} mV, the recording's own noise is {:.3f} mV: a known parameter or the current "
        "is wrong, and the intervals say nothing",
        result.noise_mv, result.recording_noise_mv);
}

struct PdeOptions {
  Common common;
  std::string problem = "burgers";
  pde::Options options;
};

/// A partial differential equation by the same parts.
void solve_pde(PdeOptions o) {
  start_on_cpu(o.common, "ranvier pinn pde");
  o.options.seed = o.common.seed.value_or(0);
  const pde::Problem problem = pde::named(o.problem);
  watch_for_interruption();
  Progress progress(o.common);
  const Stopwatch watch;
  const pde::Result r = pde::solve(problem, o.options, [&](int64_t round, double loss) {
    progress.update(fmt::format("round {}/{}  mean squared residual {:.2e}", round, o.options.rounds, loss));
    return !interrupted();
  });
  progress.finish(
      fmt::format("{}: relative L2 error {:.2e}, residual {:.2e} (fresh {:.2e}), {:.1f} s ({:.1f} s of processor time)",
                  problem.name, r.relative_l2, r.loss, r.fresh_loss, watch.wall(), watch.cpu()));
  Json published = Json::object();
  for (const auto& [who, error] : problem.published) {
    o.common.say("published: {:.2e} ({})", error, who);
    published[who] = error;
  }
  o.common.print({{"problem", problem.name},
                  {"relative_l2", r.relative_l2},
                  {"published_relative_l2", published},
                  {"loss", r.loss},
                  {"fresh_loss", r.fresh_loss},
                  {"evaluations", r.evaluations},
                  {"seconds", watch.wall()},
                  {"cpu_seconds", watch.cpu()}});
  if (interrupted()) throw Exit{130};
}

}  // namespace

void add_pinn_infer(CLI::App& command) {
  auto inferred = std::make_shared<InferOptions>();
  auto* inverse = subcommand(command, "infer", "Parameters of a neuron, with intervals, from a recorded voltage");
  inferred->common.add_to(*inverse);
  inverse->add_option("--trace", inferred->trace, "CSV with columns t_ms and v_mv")->required();
  inferred->who.add_to(*inverse, "Known parameters, and where the unknown start: a=0.05,d=60");
  inverse->add_option("--unknown", inferred->unknown, "Any of a b c d C k")->delimiter(',')->capture_default_str();
  inverse->callback([inferred] { infer(*inferred); });
}

void add_pinn_pde(CLI::App& command) {
  auto equation = std::make_shared<PdeOptions>();
  auto* pde = subcommand(command, "pde", "Burgers' or the Allen-Cahn equation by the same parts, and its error");
  equation->common.add_to(*pde);
  pde->add_option("--problem", equation->problem, "burgers or allen-cahn")
      ->check(CLI::IsMember({"burgers", "allen-cahn"}))
      ->capture_default_str();
  pde->add_option("--points", equation->options.points, "Collocation points")->capture_default_str()->check(above_zero);
  pde->add_option("--rounds", equation->options.rounds, "Draws of points")->capture_default_str()->check(above_zero);
  pde->add_option("--iterations", equation->options.iterations, "Optimizer iterations a round")
      ->capture_default_str()
      ->check(above_zero);
  pde->callback([equation] { solve_pde(*equation); });
}

}  // namespace ranvier::cli
