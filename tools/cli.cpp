// Common flags, choice of data, and interruption.
#include "tools/cli.h"

#include <unistd.h>

#include <cmath>
#include <csignal>
#include <set>
#include <sstream>

#include "data/locate.h"
#include "engine/catalogue.h"

namespace ranvier::cli {
namespace {

volatile std::sig_atomic_t signals = 0;

void on_signal(int number) {
  signals = signals + 1;
  if (signals > 1) {  // the user insists: leave at once, as the signal would have done
    std::signal(number, SIG_DFL);
    std::raise(number);
  }
}

CLI::Validator number_check(const char* type, const char* wanted, bool (*good)(double)) {
  const auto check = [wanted, good](const std::string& text) {
    double number = 0;
    const bool is_good = CLI::detail::lexical_cast(text, number) && std::isfinite(number) && good(number);
    return is_good ? std::string() : fmt::format("'{}' is no number {}", text, wanted);
  };
  return CLI::Validator(check, type);
}

/// A function that says, each once, what in the plans does not run by the variants that were asked of every op.
std::function<void(const Plan&)> tell_exceptions(const std::string& variants) {
  std::vector<std::string> bare;
  std::istringstream list(variants);
  for (std::string item; std::getline(list, item, ',');)
    if (item.find('=') == std::string::npos) bare.push_back(item);
  return [bare, said = std::make_shared<std::set<std::string>>()](const Plan& plan) {
    for (const std::string& name : bare) {
      std::vector<std::string> fresh;
      for (const std::string& step : steps_without(plan, name))
        if (said->insert(name + " " + step).second) fresh.push_back(step);
      if (!fresh.empty()) fmt::print(stderr, "variant {}: does not run {}\n", name, fmt::join(fresh, ", "));
    }
  };
}

}  // namespace

CLI::App* subcommand(CLI::App& parent, const std::string& name, const std::string& description) {
  return parent.add_subcommand(name, description);
}

const CLI::Validator above_zero = number_check("POSITIVE", "above 0", [](double x) { return x > 0; }),
                     not_below_zero = number_check("NONNEGATIVE", "from 0 up", [](double x) { return x >= 0; });

void Common::add_to(CLI::App& app) {
  app.add_flag("--json", json, "One JSON object on standard output, everything else on standard error");
  app.add_option("--seed", seed, "Seed of every random stream (default 0)")->check([](const std::string& text) {
    return text.starts_with('-') ? "must not be negative" : std::string();
  });
  app.add_option("--device", device, "auto, cpu or cuda")->capture_default_str();
  app.add_option("--threads", threads, "CPU threads, 0 for all cores")->capture_default_str();
}

void Common::add_network_to(CLI::App& app) {
  app.add_option("--precision", precision, "f32, tf32, bf16 or f16 (default: bf16 on CUDA, f32 on the CPU)");
  app.add_option("--variant", variant, "Which variant runs an op, e.g. conv2d=native,matmul=reference");
}

Device Common::start() const {
  if (threads < 0 || threads > 4096) throw UsageError(fmt::format("--threads {}: must be from 0 to 4096", threads));
  set_threads(threads);
  const Device chosen = Device::named(device);
  std::string why = "asked for";
  if (device == "auto") why = chosen.backend == Backend::cuda ? "the first GPU" : cuda_support().why;
  fmt::print(stderr, "device: {} ({})\n", chosen.description(), why);
  return chosen;
}

SessionOptions Common::session_options(Device device) const {
  const Precision chosen = precision_named(precision, device);
  fmt::print(stderr, "precision: {}\n", chosen.name);
  check_variants(variant, device.backend);
  const bool both = !chosen.variants.empty() && !variant.empty();
  return {.seed = seed.value_or(0),
          .variants = chosen.variants + (both ? "," : "") + variant,
          .parameters = DType::f32,
          .compute = chosen.compute,
          .planned = tell_exceptions(variant)};
}

void Common::write(const std::string& text) const {
  FILE* stream = json ? stderr : stdout;
  std::fputs(text.c_str(), stream);
  std::fflush(stream);
}

void Common::print(const nlohmann::ordered_json& object) const {
  if (!json) return;
  std::fputs((object.dump() + "\n").c_str(), stdout);
  std::fflush(stdout);
}

data::Splits open_data(const Common& common, const std::optional<std::string>& path, bool fetch) {
  data::LocateOptions options;
  if (path) options.data = *path;
  options.fetch = fetch;
  options.fetch_options.log = [](const std::string& line) { fmt::print(stderr, "{}\n", line); };
  data::Splits splits = data::locate(options);
  common.say("{}", data::describe(splits));
  return splits;
}

bool interrupted() { return signals > 0; }

void watch_for_interruption() {
  std::signal(SIGINT, on_signal);
  std::signal(SIGTERM, on_signal);
}

bool is_terminal(const Common& common) { return isatty(fileno(common.json ? stderr : stdout)); }

}  // namespace ranvier::cli
