// From flags to a neuron and a run.
#include "tools/neuron_options.h"

#include "models/neurons/current.h"

namespace ranvier::cli {

void NeuronOptions::add_neuron(CLI::App& command) {
  common.add_to(command);
  command.add_option("--precision", common.precision, "f32 or f64 (default)");
  command.add_option(
      "--preset", preset,
      "rs2003 ib2003 ch2003 fs2003 lts2003 tc2003 rz2003, rs2007 ib2007 ch2007, pattern:a ... pattern:t, "
      "cell:rs ib ch fs tc tcb rz lts (the 2003 figure)");
  command.add_option("--form", form, "2003 or 2007: regular spiking of that form, or a check of the preset's");
  command.add_option("--params", params,
                     "KEY=VALUE,...: C k v_r v_t (2007), q0 q1 q2 v_b e (2003), a b c d v_peak v0 u0");
  command.add_option("--current", current,
                     "70 | step:70@100 | pulse:9@10..12 | ramp:0..70@100..500 | noise:sd=5 | FILE; of populations also "
                     "ou:sd=5,tau=10 | "
                     "poisson:rate=100,weight=2 | sin:5@10 | each:FILE | table:FILE,dt=1; parts joined by ';' add");
  command.add_option("--dt-ms", dt, "Step, ms (default: the preset's)");
  command.add_option("--duration-ms", duration, "Biological time, ms (default: the preset's)");
  command.add_option("--spike-event", spike_event, "v_peak (the reset) or 0mV (upward crossing)")
      ->capture_default_str();
  command.add_option("--rtol", rtol, "Relative tolerance of linear-implicit-adaptive (default 1e-4)");
  command.add_option("--atol", atol, "Absolute tolerance of it, mV and the unit of u (default 1e-3)");
  command.add_option("--out", out, "Folder for files and pictures");
}

void NeuronOptions::add_method(CLI::App& command) {
  command
      .add_option("--solver", solver,
                  "euler izhikevich backward-euler midpoint rk4 ab2 exponential linear-implicit "
                  "linear-implicit-adaptive reference")
      ->capture_default_str();
  command
      .add_option("--mode", mode,
                  "accurate, published (reset at the step's end; linear-implicit-adaptive may end beyond the duration, "
                  "as printed), published:2003 or published:2004 (whole scripts: no --solver)")
      ->capture_default_str();
}

neuron::Preset NeuronOptions::chosen() const {
  neuron::Preset p = neuron::preset(!preset.empty() ? preset
                                    : form.empty()  ? "rs2007"
                                                    : fmt::format("rs{}", name(neuron::form_named(form))));
  if (!form.empty() && neuron::form_named(form) != p.form)
    throw UsageError(fmt::format("--form {}: preset {} is of the form of {}", form, p.name, name(p.form)));
  neuron::set_parameters(p, params);
  return p;
}

neuron::Protocol NeuronOptions::protocol(const neuron::Preset& p) const {
  neuron::Protocol run = p.protocol(neuron::solver_named(solver), neuron::mode_named(mode));
  run.precision = neuron::precision_named(precision());
  run.spike_event = neuron::spike_event_named(spike_event);
  if (dt) run.dt = *dt;
  if (duration) run.duration = *duration;
  if (rtol) run.rule.rtol = *rtol;
  if (atol) run.rule.atol_v = run.rule.atol_u = *atol;
  const auto tolerance = [](const char* flag, const std::optional<double>& value) {
    if (value && !(*value >= 0 && *value < 1))
      throw UsageError(fmt::format("{} {}: must be from 0 to 1", flag, *value));
  };
  tolerance("--rtol", rtol), tolerance("--atol", atol);
  if (run.rule.rtol == 0 && run.rule.atol_v == 0) throw UsageError("--rtol 0 and --atol 0: no tolerance is left");
  neuron::validate(run);  // before the stimulus, whose noise has a value for every millisecond
  if (current) run.current = neuron::parse_current(*current, {common.seed.value_or(0), 0, run.duration});
  run.stop = [](const neuron::Result&) { return interrupted(); };
  return run;
}

nlohmann::ordered_json solver_json(neuron::Mode mode, neuron::Solver solver) {
  if (printed(mode)) return nullptr;
  return name(solver);
}

std::vector<std::pair<std::string, std::string>> method_attributes(neuron::Mode mode, neuron::Solver solver,
                                                                   double dt) {
  return {{"mode", std::string(name(mode))},
          {"solver", printed(mode) ? "none" : std::string(name(solver))},
          {"dt_ms", fmt::format("{}", dt)}};
}

void create_output(const std::string& folder, const std::string& mark) {
  std::error_code error;
  if (std::filesystem::exists(std::filesystem::path(folder) / mark, error))
    throw UsageError(fmt::format("{} holds {} already; --out names another folder", folder, mark));
  std::filesystem::create_directories(folder, error);
  if (error) throw UsageError(fmt::format("{}: cannot be created: {}", folder, error.message()));
}

void end_if_interrupted(size_t done, size_t wanted, const char* things, const std::string& out) {
  if (!interrupted()) return;
  fmt::print(stderr, "interrupted: {} of {} {} are done{}\n", done, wanted, things,
             done == 0     ? "; nothing is kept"
             : out.empty() ? ", those above"
                           : ", kept in " + out);
  throw Exit{130};
}

std::vector<double> positive_list(const std::string& text, const char* flag) {
  std::vector<double> values;
  for (std::string_view rest = text; !rest.empty();) {
    const auto comma = rest.find(',');
    const double value = neuron::number(rest.substr(0, comma), flag);
    if (!(value > 0)) throw UsageError(fmt::format("{}: {} is not positive", flag, value));
    values.push_back(value);
    rest = comma == std::string_view::npos ? std::string_view{} : rest.substr(comma + 1);
  }
  if (values.empty()) throw UsageError(fmt::format("{}: nothing given", flag));
  return values;
}

}  // namespace ranvier::cli
