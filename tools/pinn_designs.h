// The published designs of one network for the whole time, trained and scored as the window solver is.
#pragma once
#include <filesystem>

#include "tools/pinn_options.h"

namespace ranvier::cli {

/// A whole-time design, trained and scored.
struct DesignResult {
  std::vector<double> peaks_ms;
  Score score, against_data;
  Score held_out, held_out_away;  ///< on data that training never saw: all of them, and those away from spikes
  double loss, seconds, cpu;
  int64_t parameters;
};

/// Trains a share `effort` of its published steps; with a folder, writes what a run writes.
DesignResult run_design(const PinnOptions&, const PinnProblem&, const std::string& design,
                        const std::filesystem::path* folder);
nlohmann::ordered_json design_json(const std::string& design, const DesignResult&);

/// The value, or null.
template <class T>
nlohmann::ordered_json or_null(const std::optional<T>& value) {
  return value ? nlohmann::ordered_json(*value) : nlohmann::ordered_json(nullptr);
}

}  // namespace ranvier::cli
