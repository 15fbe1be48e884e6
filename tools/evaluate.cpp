// Logits to accuracies.
#include "tools/evaluate.h"

#include <algorithm>
#include <cmath>

namespace ranvier::cli {

Evaluator::Evaluator(Session& session, const models::Recipe& recipe, const data::Dataset& like, bool augmented,
                     const std::string& slab, int64_t batch)
    : session_(session),
      program_(session.eval_program({batch, {like.height, like.width, like.channels}},
                                    models::eval_function(recipe, like.mean, like.std, augmented),
                                    slab == "parameters" ? std::map<std::string, std::string>{}
                                                         : std::map<std::string, std::string>{{"parameters", slab}})) {}

std::vector<float> Evaluator::probabilities(std::span<const uint8_t> images) {
  std::vector<float> values = session_.logits(program_, images);
  const auto classes = static_cast<size_t>(program_.output_type(0).shape[1]);
  for (size_t first = 0; first < values.size(); first += classes) {
    const auto row = std::span(values).subspan(first, classes);
    const float top = *std::max_element(row.begin(), row.end());
    double sum = 0;
    for (float& v : row) sum += v = std::exp(v - top);
    for (float& v : row) v = static_cast<float>(v / sum);
  }
  return values;
}

Evaluation Evaluator::evaluate(const data::Dataset& data) {
  const std::vector<float> probability = probabilities(data.images);
  const size_t classes = data.classes.size();
  Evaluation result;
  result.confusion.assign(classes, std::vector<int64_t>(classes, 0));
  int64_t hits = 0;
  for (size_t i = 0; i < data.labels.size(); ++i) {
    const auto row = std::span(probability).subspan(i * classes, classes);
    const auto best = static_cast<size_t>(std::max_element(row.begin(), row.end()) - row.begin());
    const auto label = static_cast<size_t>(data.labels[i]);
    ++result.confusion[label][best];
    hits += best == label;
    result.loss -= std::log(std::max(static_cast<double>(row[label]), 1e-30));
  }
  const auto count = static_cast<double>(std::max<size_t>(data.labels.size(), 1));
  result.accuracy = static_cast<double>(hits) / count;
  result.loss /= count;
  for (size_t c = 0; c < classes; ++c) {
    int64_t total = 0;
    for (int64_t n : result.confusion[c]) total += n;
    result.per_class.push_back(total ? static_cast<double>(result.confusion[c][c]) / static_cast<double>(total) : 0);
  }
  return result;
}

}  // namespace ranvier::cli
