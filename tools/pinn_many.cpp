// `ranvier pinn many`: a batch of neurons or parameter sets in one program.
#include "models/pinn_many.h"

#include <algorithm>
#include <fstream>
#include <sstream>

#include "tools/pinn_commands.h"
#include "tools/pinn_options.h"

namespace ranvier::cli {
namespace {

using Json = nlohmann::ordered_json;

struct ManyOptions {
  Common common;
  NeuronChoice who;
  SolverFlags solver;
  std::string sets, out;
  int64_t count = 1;
  double duration_ms = 1000;
};

/// Changes of parameters from a CSV: line 1 names them, every further line is a neuron.
std::vector<std::string> read_sets(const std::string& path) {
  std::ifstream file(path);
  std::error_code ignored;
  if (!file || std::filesystem::is_directory(path, ignored)) throw UsageError(fmt::format("{}: cannot be read", path));
  const auto cells = [](const std::string& line) {
    std::vector<std::string> parts;
    std::stringstream stream(line);
    for (std::string cell; std::getline(stream, cell, ',');) {
      std::erase_if(cell, [](char c) { return c == ' ' || c == '\r' || c == '\t'; });
      parts.push_back(cell);
    }
    return parts;
  };
  std::string line;
  std::getline(file, line);
  const std::vector<std::string> names = cells(line);
  for (auto name = names.begin(); name != names.end(); ++name)
    if (std::find(names.begin(), name, *name) != name)
      throw UsageError(fmt::format("{}: line 1 names '{}' twice", path, *name));
  std::vector<std::string> sets;
  for (int64_t number = 2; std::getline(file, line); ++number) {
    const std::vector<std::string> values = cells(line);
    if (values.empty()) continue;
    if (values.size() != names.size())
      throw UsageError(
          fmt::format("{}: line {} has {} columns, line 1 names {}", path, number, values.size(), names.size()));
    std::string set;
    for (size_t k = 0; k < names.size(); ++k) set += (k ? "," : "") + names[k] + "=" + values[k];
    sets.push_back(set);
  }
  if (sets.empty()) throw UsageError(fmt::format("{}: there are no parameter sets", path));
  return sets;
}

/// The batch's numbers, spike times and models in --out.
void write(const ManyOptions& o, const std::vector<pinn::Solution>& solutions, const Json& summary) {
  const std::filesystem::path folder = o.out;
  std::string spikes = "neuron,spike_ms\n";
  for (size_t k = 0; k < solutions.size(); ++k) {
    for (double t : solutions[k].spike_times_ms) spikes += fmt::format("{},{}\n", k + 1, t);
    solutions[k].save((folder / fmt::format("model-{}.safetensors", k + 1)).string());
  }
  write_file(folder / "spikes.csv", spikes);
  write_file(folder / "summary.json", summary.dump(2) + "\n");
}

/// What failed, in a line: the first three by name.
std::string failures_of(const std::vector<pinn::Solution>& solutions) {
  std::vector<std::string> failed;
  for (size_t k = 0; k < solutions.size(); ++k)
    if (const pinn::Solution& s = solutions[k]; !s.complete())
      failed.push_back(fmt::format("neuron {} ({}): {}", k + 1, s.neuron.name, s.failure));
  if (failed.empty()) return "";
  const size_t shown = std::min<size_t>(failed.size(), 3);
  return fmt::format("{} of {} neurons failed; {}{}", failed.size(), solutions.size(),
                     fmt::join(failed.begin(), failed.begin() + static_cast<int64_t>(shown), "; "),
                     failed.size() > shown ? fmt::format("; and {} more", failed.size() - shown) : "");
}

/// Copies of the neuron with each set of parameters.
std::vector<pinn::Job> jobs_of(const ManyOptions& o, const pinn::Current& current) {
  const std::vector<std::string> sets = o.sets.empty() ? std::vector<std::string>{""} : read_sets(o.sets);
  std::vector<pinn::Job> jobs;
  for (const std::string& set : sets)
    for (int64_t copy = 0; copy < o.count; ++copy) {
      pinn::Neuron neuron = o.who.chosen();
      neuron.set(set);
      neuron.check();
      if (!set.empty()) neuron.name += " " + set;
      jobs.push_back({neuron, current, static_cast<uint64_t>(copy)});
    }
  return jobs;
}

void run(const ManyOptions& o) {
  const Device device = o.common.start();
  check_duration(o.duration_ms);
  const pinn::Current current = pinn::Current::parse(o.who.current_text());
  const std::vector<pinn::Job> jobs = jobs_of(o, current);
  const pinn::Options options = o.solver.options(o.common);
  if (!o.out.empty()) {  // what cannot be written is better known before the work
    refuse_run_in(o.out);
    create({o.out});
  }
  watch_for_interruption();
  Progress progress(o.common);
  const Stopwatch watch;
  const std::vector<pinn::Solution> solutions =
      pinn::solve_many(jobs, o.duration_ms, options, device, [&](const pinn::ManyProgress& at) {
        progress.update(fmt::format("{} of {} neurons done, the last at {:.1f} ms, {} spikes, {} launches", at.finished,
                                    at.jobs, at.least_ms, at.spikes, at.launches));
        return !interrupted();
      });
  const double seconds = watch.wall(), cpu = watch.cpu();
  Json rows = Json::array();
  int64_t found = 0;
  for (size_t k = 0; k < solutions.size(); ++k) {
    const pinn::Solution& s = solutions[k];
    rows.push_back({{"neuron", jobs[k].neuron.name},
                    {"seed", jobs[k].seed},
                    {"spikes", s.spike_times_ms.size()},
                    {"spike_times_ms", s.spike_times_ms},
                    {"residual_fresh_over_training", s.worst_fresh_ratio()},
                    {"reached_ms", s.reached_ms},
                    {"failure", s.failure}});
    found += static_cast<int64_t>(s.spike_times_ms.size());
  }
  const Json summary = {{"neurons", jobs.size()},
                        {"spikes", found},
                        {"seconds", seconds},
                        {"cpu_seconds", cpu},
                        {"neurons_per_second", static_cast<double>(jobs.size()) / seconds},
                        {"rows", rows}};
  if (!o.out.empty()) write(o, solutions, summary);
  progress.finish(
      fmt::format("{} neurons for {:g} ms: {} spikes in {:.2f} s ({:.2f} s of processor time), {:.3g} neurons a "
                  "second",
                  jobs.size(), o.duration_ms, found, seconds, cpu, static_cast<double>(jobs.size()) / seconds));
  o.common.print(summary);
  if (interrupted()) throw Exit{130};
  if (const std::string failures = failures_of(solutions); !failures.empty()) throw std::runtime_error(failures);
}

}  // namespace

void add_pinn_many(CLI::App& pinn) {
  auto options = std::make_shared<ManyOptions>();
  ManyOptions& o = *options;
  auto* command = subcommand(pinn, "many", "Many neurons or parameter sets in one program");
  o.common.add_to(*command);
  o.who.add_to(*command, "Parameters changed in all: a=0.03,d=50");
  command->add_option("--sets", o.sets, "CSV: line 1 names parameters, every further line is a neuron");
  command->add_option("--count", o.count, "Copies of each, with seeds of their own")
      ->check(CLI::Range(1, 1'000'000))
      ->capture_default_str();
  command->add_option("--duration-ms", o.duration_ms, "Time to solve")->capture_default_str();
  o.solver.add_to(*command);
  command->add_option("--out", o.out,
                      "Folder for spikes.csv, summary.json and a model a neuron (default: none is written)");
  command->callback([options] { run(*options); });
}

}  // namespace ranvier::cli
