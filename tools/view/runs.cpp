// What a run folder is, and what of it is shown.
#include "tools/view/runs.h"

#include <algorithm>
#include <cmath>

#include "engine/error.h"
#include "tools/view/run_files.h"

namespace ranvier::view {
namespace {

namespace fs = std::filesystem;
constexpr size_t most_points = 4000;

std::string kind_of(const RunFiles& files) {
  if (files.has("metrics.jsonl")) return "training";
  if (files.has("report.json") || files.has("runs.jsonl")) return "study";
  if (files.has("loss.csv") || files.has("solution.csv")) return "pinn";
  if (files.has("trace.csv") || files.has("spikes.csv")) return "simulation";
  return {};
}

/// A column that JSON can hold: what is no number is null.
Json column(const std::vector<double>& values) {
  Json list = Json::array();
  for (const double value : values) list.push_back(std::isfinite(value) ? Json(value) : Json(nullptr));
  return list;
}

Json columns(const RunFiles::Table& table) {
  Json object = Json::object();
  for (size_t i = 0; i < table.names.size(); ++i) object[table.names[i]] = column(table.columns[i]);
  return object;
}

Json read_columns(RunFiles& files, const char* name, std::string_view by) {
  RunFiles::Table table = files.table(name);
  table.thin(by, most_points);
  return columns(table);
}

void read_training(RunFiles& files, Json& run) {
  Json metrics = Json::object();
  const auto lines = files.lines("metrics.jsonl");
  for (const char* key : {"step", "epoch", "train_loss", "train_accuracy", "test_accuracy", "images_per_second"}) {
    Json list = Json::array();
    for (const Json& line : lines) list.push_back(line.contains(key) && line[key].is_number() ? line[key] : Json());
    metrics[key] = std::move(list);
  }
  run["metrics"] = std::move(metrics);
  run["config"] = files.text("config.toml");
  run["evaluation"] = files.object("evaluation.json");
  run["filters"] = files.filters("checkpoint.safetensors");
  run["coupling"] = files.coupling("checkpoint.safetensors");
}

void read_pinn(RunFiles& files, Json& run) {
  run["summary"] = files.object("summary.json");
  run["solution"] = read_columns(files, "solution.csv", "v_mv");
  run["reference"] = read_columns(files, "reference.csv", "v_mv");
  run["error"] = read_columns(files, "error.csv", "v_error_mv");
  run["loss"] = read_columns(files, "loss.csv", "loss");
  run["spikes"] = columns(files.table("spikes.csv"));
}

void read_study(RunFiles& files, Json& run) {
  run["report"] = files.object("report.json");
  Json finished = Json::array();
  for (const Json& line : files.lines("runs.jsonl")) {
    Json entry = Json::object();
    for (const char* key : {"stage", "arm", "strength", "seed"})
      if (line.contains(key)) entry[key] = line[key];
    finished.push_back(std::move(entry));
  }
  run["finished"] = std::move(finished);
}

void read_simulation(RunFiles& files, Json& run) {
  run["summary"] = files.object("summary.json");
  if (files.has("trace.csv"))
    run["trace"] = read_columns(files, "trace.csv", "v_mv");
  else
    run["spikes"] = read_columns(files, "spikes.csv", "time_ms");
}

}  // namespace

Json list_runs(const fs::path& root) {
  Json list = Json::array(), problems = Json::array();
  std::error_code error;
  std::vector<std::pair<double, Json>> found;
  for (const auto& entry : fs::directory_iterator(root, error)) {
    std::error_code ignored;
    const std::string name = entry.path().filename().string();
    if (!entry.is_directory(ignored) || entry.is_symlink(ignored) || name.starts_with('.')) continue;
    const RunFiles files(entry.path());
    const std::string kind = kind_of(files);
    if (kind.empty()) continue;
    const double age = files.age();
    found.emplace_back(age, Json{{"name", name}, {"kind", kind}, {"age_seconds", age}});
  }
  if (error) problems.push_back(fmt::format("{}: {}", root.string(), error.message()));
  std::stable_sort(found.begin(), found.end(), [](const auto& a, const auto& b) { return a.first < b.first; });
  for (auto& [age, entry] : found) list.push_back(std::move(entry));
  return {{"folder", root.string()}, {"runs", list}, {"problems", problems}};
}

Json read_run(const fs::path& folder) {
  RunFiles files(folder);
  const std::string kind = kind_of(files);
  std::error_code ignored;
  if (!fs::is_directory(folder, ignored)) fail("{}: there is no such run folder", folder.string());
  if (kind.empty())
    fail("{}: no run's files are in it (metrics.jsonl, report.json, loss.csv, trace.csv, ...)", folder.string());
  const fs::path plain = folder.filename().empty() ? folder.parent_path() : folder;
  Json run = {{"name", plain.filename().string()}, {"kind", kind}, {"age_seconds", files.age()}};
  if (kind == "training") read_training(files, run);
  if (kind == "pinn") read_pinn(files, run);
  if (kind == "study") read_study(files, run);
  if (kind == "simulation") read_simulation(files, run);
  run["problems"] = files.problems();
  return run;
}

fs::path run_folder_named(const fs::path& root, const std::string& name) {
  const bool plain = !name.empty() && !name.starts_with('.') && name.find('/') == std::string::npos &&
                     name.find('\\') == std::string::npos && name.find('\0') == std::string::npos;
  std::error_code error;
  if (!plain) fail("a run is named by its folder alone");
  const fs::path folder = root / name;
  if (!fs::is_directory(fs::symlink_status(folder, error))) fail("there is no run folder '{}'", name.substr(0, 80));
  return folder;
}

}  // namespace ranvier::view
