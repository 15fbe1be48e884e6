// The finished runs of a study, one JSON line each, and what a run measures.
#pragma once
#include <filesystem>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "tools/study_config.h"

namespace ranvier::cli {

/// One training of an arm. Stages: "tuning" (short, scored on held-out images), "main", "low_data".
struct RunKey {
  std::string stage, arm;
  double strength = 0;
  int64_t seed = 0;
  bool operator==(const RunKey&) const = default;
};

struct FinishedRun {
  RunKey key;
  nlohmann::ordered_json metrics;  ///< name -> number; "strong": rows of the stronger attacks
};

/// runs.jsonl of a study's folder: a line is appended when its run is over, so that a killed study loses one run at
/// most.
class RunLog {
 public:
  /// Reads what is there. A last line that a kill cut short is dropped; any other damage is a UsageError that names the
  /// line.
  explicit RunLog(std::filesystem::path path);
  const FinishedRun* find(const RunKey& key) const;
  void append(const FinishedRun& run);
  const std::vector<FinishedRun>& runs() const { return runs_; }

 private:
  std::filesystem::path path_;
  std::vector<FinishedRun> runs_;
};

/// A number that the report compares between arms.
struct Metric {
  const char *name, *label;
  double scale;  ///< 100 for shares that are shown in points
  int good;      ///< 1: more is better, -1: less is, 0: neither
};
const std::vector<Metric>& study_metrics();

/// Writes report.md, report.json, and a picture of the primary endpoint. Returns the JSON object.
nlohmann::ordered_json write_report(const StudyConfig& config, const RunLog& log, const std::filesystem::path& folder,
                                    const std::string& data_source);

}  // namespace ranvier::cli
