// Evaluation of a trained model on a data set: accuracy, per class, and which class is taken for which.
#pragma once
#include <vector>

#include "data/dataset.h"
#include "models/vision.h"

namespace ranvier::cli {

/// Hits and confusions on a data set.
struct Evaluation {
  double accuracy = 0;
  std::vector<double> per_class;                ///< accuracy of each class
  std::vector<std::vector<int64_t>> confusion;  ///< [true class][predicted class] images
  double loss = 0;                              ///< mean cross-entropy without smoothing, nats
};

/// A model compiled for evaluation in batches.
class Evaluator {
 public:
  /// `like` gives image size, mean and standard deviation; `slab` the weights ("parameters" or "ema"); `augmented`
  /// takes the mean of six views.
  Evaluator(Session& session, const models::Recipe& recipe, const data::Dataset& like, bool augmented,
            const std::string& slab, int64_t batch = 250);
  double accuracy(const data::Dataset& data) { return evaluate(data).accuracy; }
  Evaluation evaluate(const data::Dataset& data);
  /// Softmax probabilities (n, classes).
  std::vector<float> probabilities(std::span<const uint8_t> images);

 private:
  Session& session_;
  Program program_;
};

}  // namespace ranvier::cli
