// Reading and appending the log of finished runs.
#include <fstream>

#include "tools/run.h"
#include "tools/study_run.h"

namespace ranvier::cli {
namespace {

nlohmann::ordered_json to_json(const FinishedRun& run) {
  return {{"stage", run.key.stage},
          {"arm", run.key.arm},
          {"strength", run.key.strength},
          {"seed", run.key.seed},
          {"metrics", run.metrics}};
}

FinishedRun from_json(const nlohmann::ordered_json& line) {
  return {{line.at("stage"), line.at("arm"), line.at("strength"), line.at("seed")}, line.at("metrics")};
}

}  // namespace

RunLog::RunLog(std::filesystem::path path) : path_(std::move(path)) {
  std::ifstream file(path_);
  std::string kept;
  bool torn = false;
  int number = 0;
  for (std::string line; std::getline(file, line);) {
    ++number;
    const bool whole = !file.eof();  // its newline arrived
    try {
      if (!whole) throw std::runtime_error("no newline");
      runs_.push_back(from_json(nlohmann::ordered_json::parse(line)));
      kept += line + "\n";
    } catch (const std::exception&) {
      if (whole) throw UsageError(fmt::format("{}:{}: damaged, no finished run", path_.string(), number));
      torn = true;
    }
  }
  if (torn) write_file(path_, kept);
}

const FinishedRun* RunLog::find(const RunKey& key) const {
  for (const FinishedRun& run : runs_)
    if (run.key == key) return &run;
  return nullptr;
}

void RunLog::append(const FinishedRun& run) {
  std::ofstream file(path_, std::ios::app);
  file << to_json(run).dump() + "\n" << std::flush;
  if (!file)
    throw std::runtime_error(
        fmt::format("{}: cannot be written (folder not writable, or the disk is full)", path_.string()));
  runs_.push_back(run);
}

}  // namespace ranvier::cli
