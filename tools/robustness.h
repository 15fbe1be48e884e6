// Everything that `eval --robust` and the studies measure of a trained network beside its accuracy.
#pragma once
#include <string>
#include <vector>

#include "data/dataset.h"
#include "models/robust/attacks.h"
#include "models/robust/red_flags.h"
#include "models/vision.h"
#include "tools/evaluate.h"
#include "tools/run.h"

namespace ranvier::cli {

/// What is measured, and on how many images.
struct RobustnessOptions {
  int64_t images = 2000;        ///< for corruptions, damage, calibration, FGSM and PGD-20
  int64_t strong_images = 500;  ///< the first so many of them, for the stronger attacks
  uint64_t seed = 0, subset_seed = 0;
  double epsilon = 8.0 / 255;
  int64_t square_queries = 5000;
  std::vector<std::string> attacks;  ///< of attack_names()
  bool corruptions = true, damage = true, calibration = true;
};

/// fgsm, pgd20, pgd50x10, apgd-ce, apgd-t, square.
const std::vector<std::string>& attack_names();

/// Measures one network. Results are a JSON object whose parts are named after what was asked for.
class Robustness {
 public:
  /// `slab` holds the weights ("parameters" or "ema"); `data` are the images, of which a fixed subset is drawn.
  Robustness(const Common& common, Session& session, const models::Recipe& recipe, const data::Dataset& data,
             const std::string& slab, RobustnessOptions options);
  /// Runs all of it; `held_out` images fit the temperature where they are given, else the two halves of the subset fit
  /// each other's.
  nlohmann::ordered_json run(const data::Dataset* held_out = nullptr);

  /// Mean accuracy over the counted corruption types and five severities, and the same for each type.
  nlohmann::ordered_json corruptions();

 private:
  robust::AttackResult attack(const std::string& name, double epsilon, const robust::Images& images);
  nlohmann::ordered_json attacks();
  nlohmann::ordered_json calibration(const data::Dataset* held_out);
  nlohmann::ordered_json damage();
  nlohmann::ordered_json attack_row(const std::string& name, double epsilon, const robust::Images& images,
                                    robust::AttackResult& result);
  double accuracy(const std::vector<uint8_t>& images);
  std::vector<float> logits(const data::Dataset& data);
  robust::Images pixels(int64_t count) const;
  void collect(const std::string& name, const robust::AttackResult& result);

  const Common& common_;
  Session& session_;
  const models::Recipe& recipe_;
  RobustnessOptions options_;
  std::string slab_;
  data::Dataset subset_;
  Evaluator evaluator_;
  robust::AttackedModel model_;
  Progress progress_;
  robust::Evidence evidence_;
  std::map<std::string, std::vector<uint8_t>> broken_;  // by attack, of the strong images
};

/// The tables of a result for people.
void print_robustness(const Common& common, const nlohmann::ordered_json& result);

}  // namespace ranvier::cli
