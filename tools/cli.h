// What every subcommand of the program shares: common flags, output, errors and interruption.
#pragma once
#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <filesystem>
#include <functional>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>

#include "data/dataset.h"
#include "engine/session.h"

namespace ranvier::cli {

/// Flags of every subcommand.
struct Common {
  bool json = false;  ///< one JSON object on standard output, everything else on standard error
  std::optional<uint64_t> seed;
  std::string device = "auto";
  int threads = 0;        ///< 0: all cores
  std::string precision;  ///< f32, tf32, bf16 or f16; empty: the device's default
  std::string variant;    ///< "conv2d=native": which variant runs which op

  void add_to(CLI::App& app);
  /// --precision and --variant, for the commands that run networks (neurons have f32 and f64, and no variants).
  void add_network_to(CLI::App& app);
  /// Applies --threads and finds the device; says which it took and why on standard error.
  Device start() const;
  /// Options of a session on the device as the flags want it; says on standard error the precision, and of each program
  /// what does not run by a variant that --variant asks of every op. Throws where the device lacks either.
  SessionOptions session_options(Device device) const;
  /// A line for people: standard output, or standard error under --json.
  template <class... Args>
  void say(fmt::format_string<Args...> format, Args&&... args) const {
    write(fmt::format(format, std::forward<Args>(args)...) + "\n");
  }
  /// Text for people, written as it is. A stream that takes no more does not stop the work: `main` tells in the end.
  void write(const std::string& text) const;
  /// Prints the object under --json.
  void print(const nlohmann::ordered_json& object) const;
};

/// A subcommand of `parent`. CLI11 lives in headers: whoever makes an App compiles all of its parser and its help.
CLI::App* subcommand(CLI::App& parent, const std::string& name, const std::string& description);

/// Checks of an option's number. Those of CLI11 print the whole range of a double where a number is refused.
extern const CLI::Validator above_zero, not_below_zero;

/// Bad usage or input: one line, exit status 2.
struct UsageError : std::runtime_error {
  using std::runtime_error::runtime_error;
};

/// Ends a command with a status of its own (130 after an interruption).
struct Exit {
  int status;
};

/// The data set named by --data, or found where `data::locate` looks; `fetch` allows a download. Says which it took.
data::Splits open_data(const Common&, const std::optional<std::string>& path, bool fetch = true);

/// True once Ctrl-C (or SIGTERM) arrived; a second one ends the program at once.
bool interrupted();
void watch_for_interruption();

/// True when the stream that `say` writes to is a terminal.
bool is_terminal(const Common&);

// One function a subcommand, each in a file of its own: adds it to the program and runs it from its callback.
void add_info(CLI::App&);
void add_data(CLI::App&);
void add_train(CLI::App&);
void add_eval(CLI::App&);
void add_predict(CLI::App&);
void add_bench(CLI::App&);
void add_simulate(CLI::App&);
void add_pinn(CLI::App&);
void add_coupling(CLI::App&);
void add_study(CLI::App&);
void add_view(CLI::App&);
void add_bench_pinn(CLI::App& bench);
void add_bench_coupling(CLI::App& bench);
void add_bench_neurons(CLI::App& bench);
void add_bench_networks(CLI::App& bench);

}  // namespace ranvier::cli
