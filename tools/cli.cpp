// Common flags, choice of data, and interruption.
#include "tools/cli.h"

#include <unistd.h>

#include <csignal>

#include "data/locate.h"

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

}  // namespace

void Common::add_to(CLI::App& app) {
  app.add_flag("--json", json, "One JSON object on standard output, everything else on standard error");
  app.add_option("--seed", seed, "Seed of every random stream (default 0)")->check([](const std::string& text) {
    return text.starts_with('-') ? "must not be negative" : std::string();
  });
  app.add_option("--device", device, "auto, cpu or cuda")->capture_default_str();
  app.add_option("--threads", threads, "CPU threads, 0 for all cores")->capture_default_str();
  app.add_option("--variant", variant, "Which variant runs an op, e.g. conv2d=native,matmul=reference");
}

void Common::add_precision_to(CLI::App& app) {
  app.add_option("--precision", precision, "f32, tf32, bf16 or f16 (default: bf16 on CUDA, f32 on the CPU)");
}

Device Common::start() const {
  if (threads < 0 || threads > 4096) throw UsageError(fmt::format("--threads {}: must be from 0 to 4096", threads));
  set_threads(threads);
  const Device chosen = Device::named(device);
  std::string why = "asked for";
  if (device == "auto") why = chosen.backend == Backend::cuda ? "the first GPU that works" : cuda_support().why;
  fmt::print(stderr, "device: {} ({})\n", chosen.description(), why);
  return chosen;
}

SessionOptions Common::session_options(Device device) const {
  const Precision chosen = precision_named(precision, device);
  fmt::print(stderr, "precision: {}\n", chosen.name);
  const bool both = !chosen.variants.empty() && !variant.empty();
  return {.seed = seed.value_or(0),
          .variants = chosen.variants + (both ? "," : "") + variant,
          .parameters = DType::f32,
          .compute = chosen.compute};
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
