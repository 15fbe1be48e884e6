// The design of a study, read from TOML: arms, seeds, tuning, the primary endpoint and what would refute the claim.
#pragma once
#include <string>
#include <string_view>
#include <vector>

#include "tools/cli.h"
#include "tools/study_arms.h"

namespace ranvier::cli {

struct StudyConfig {
  std::string model = "tiny", claim;
  int64_t epochs = 10, batch = 64;
  int64_t limit = 0;        ///< training images, 0: all
  int64_t held_out = 5000;  ///< of them kept from training: they choose strengths and temperatures
  std::vector<int64_t> seeds;
  int64_t images = 2000, strong_images = 500;  ///< fixed test images, see RobustnessOptions
  int64_t square_queries = 5000;
  double low_data = 0.1;  ///< share of the training images of the low-data runs; 0: none
  std::vector<std::string> strong_attacks;
  std::string treatment;  ///< the arm that is compared with every other
  std::string primary = "corruption_accuracy";
  std::vector<std::string> falsifier;  ///< arms that the treatment must beat
  int64_t tuning_epochs = 3, tuning_seed = 1000;
  std::string tuning_metric = "corruption_accuracy";  ///< on held-out images: or "accuracy"
  std::vector<Arm> arms;
  std::string text;  ///< the file, which a resumed study must have unchanged

  const Arm& arm(const std::string& name) const;
  int64_t comparisons() const { return static_cast<int64_t>(arms.size()) - 1; }
};

/// Reads and checks a design; throws UsageError with file, line, key and value on what does not fit, and on a design
/// whose smallest attainable Holm-adjusted p exceeds 0.05.
StudyConfig read_study(const std::string& path);
StudyConfig parse_study(std::string_view text, const std::string& name);

}  // namespace ranvier::cli
