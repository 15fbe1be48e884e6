// Evaluation of a trained model on a data set: accuracy, per class, and which class is taken for which.
#pragma once
#include <filesystem>
#include <vector>

#include "data/dataset.h"
#include "models/vision.h"

namespace ranvier::cli {

/// An image that was taken for another class.
struct Mistake {
  int64_t image = 0;  ///< its number in the data set
  int64_t label = 0;
  std::vector<float> probabilities;  ///< of every class
};

/// Hits and confusions on a data set.
struct Evaluation {
  double accuracy = 0;
  std::vector<double> per_class;                ///< accuracy of each class
  std::vector<std::vector<int64_t>> confusion;  ///< [true class][predicted class] images
  double loss = 0;                              ///< mean cross-entropy without smoothing, nats
  std::vector<Mistake> mistakes;                ///< the surest ones first, at most `mistakes_kept`
  static constexpr size_t mistakes_kept = 24;
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

/// Writes what the viewer shows of an evaluation: accuracies, confusion matrix, and the mistakes with their pixels.
void write_evaluation(const std::filesystem::path& path, const Evaluation& evaluation, const data::Dataset& data);

}  // namespace ranvier::cli
