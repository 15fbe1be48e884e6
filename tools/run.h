// A training run on disk: its folder, its metrics, its curves, and the line a person watches.
#pragma once
#include <chrono>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <string>

#include "tools/cli.h"

namespace ranvier::cli {

/// What a run folder holds.
struct RunFolder {
  std::filesystem::path path;
  std::filesystem::path config() const { return path / "config.toml"; }
  std::filesystem::path metrics() const { return path / "metrics.jsonl"; }
  std::filesystem::path checkpoint() const { return path / "checkpoint.safetensors"; }
};

/// Names the folder; `out` empty takes runs/<model>-<first free number>. A folder that holds a checkpoint already is
/// refused unless `resume`, which needs one; so is a place where no folder can be.
RunFolder open_run(const std::string& out, const std::string& model, bool resume);
/// Makes the folder on disk.
void create(const RunFolder& run);

/// Writes a small file, whole or not at all; throws naming it.
void write_file(const std::filesystem::path& path, const std::string& text);

/// Appends lines to metrics.jsonl.
class Metrics {
 public:
  /// Keeps earlier lines up to `step` (of a resumed run), drops later ones.
  Metrics(std::filesystem::path path, int64_t step);
  void append(const nlohmann::ordered_json& line);

 private:
  std::filesystem::path path_;
};

/// Draws loss.{svg,png} and accuracy.{svg,png} of the metrics through gnuplot. Returns a line that says what was drawn,
/// or that gnuplot is missing.
std::string draw_curves(const RunFolder& run);

/// The one live line of a run: redrawn in place on a terminal, a plain line now and then elsewhere.
class Progress {
 public:
  explicit Progress(const Common& common) : common_(common), terminal_(is_terminal(common)) {}
  /// Shows the line if enough time has passed since the last one (0.1 s on a terminal, 10 s elsewhere).
  void update(const std::string& line);
  /// Ends the live line and prints this one for good.
  void finish(const std::string& line);

 private:
  using Clock = std::chrono::steady_clock;
  const Common& common_;
  bool terminal_;
  Clock::time_point last_ = Clock::now();
};

/// Wall and processor seconds since it was made.
class Stopwatch {
 public:
  Stopwatch();
  double wall() const;
  double cpu() const;

 private:
  std::chrono::steady_clock::time_point wall_;
  double cpu_;
};

/// "1:05" or "2:03:04".
std::string duration(double seconds);

}  // namespace ranvier::cli
