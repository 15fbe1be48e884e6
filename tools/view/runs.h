// Run folders as the viewer and `ranvier report` show them: what commands wrote there, read tolerantly.
#pragma once
#include <filesystem>
#include <nlohmann/json.hpp>
#include <string>

namespace ranvier::view {

// A folder is shown as what its files make of it:
//   training    metrics.jsonl, with config.toml, evaluation.json, checkpoint.safetensors
//   pinn        loss.csv or solution.csv, with summary.json, reference.csv, error.csv, spikes.csv
//   study       report.json, or runs.jsonl alone while it goes on
//   simulation  summary.json of `ranvier simulate --out`, with trace.csv or spikes.csv
// A file that is half-written, damaged or missing takes nothing else with it: it is named under "problems".

/// {"folder", "runs": [{"name", "kind", "title", "age_seconds"}], "problems"}: folders directly in `root`, newest
/// first.
nlohmann::ordered_json list_runs(const std::filesystem::path& root);

/// One run folder: {"name", "kind", "age_seconds", "problems", ...}, long curves thinned to what a picture can show.
/// Throws Error where the folder holds nothing that is known.
nlohmann::ordered_json read_run(const std::filesystem::path& folder);

/// The folder of a run's name in `root`; throws Error on any name that is not one folder directly in it.
std::filesystem::path run_folder_named(const std::filesystem::path& root, const std::string& name);

}  // namespace ranvier::view
