// Logits to accuracies.
#include "tools/evaluate.h"

#include <algorithm>
#include <cmath>

#include "tools/run.h"

namespace ranvier::cli {
namespace {

std::string base64(std::span<const uint8_t> bytes) {
  constexpr std::string_view digits = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
  std::string text;
  for (size_t i = 0; i < bytes.size(); i += 3) {
    const size_t count = std::min<size_t>(3, bytes.size() - i);
    uint32_t word = 0;
    for (size_t k = 0; k < 3; ++k) word = word << 8 | (k < count ? bytes[i + k] : 0u);
    for (size_t k = 0; k < 4; ++k) text += k <= count ? digits[word >> (18 - 6 * k) & 63] : '=';
  }
  return text;
}

}  // namespace

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
    if (best != label)
      result.mistakes.push_back({static_cast<int64_t>(i), static_cast<int64_t>(label), {row.begin(), row.end()}});
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
  const auto surest = [](const Mistake& a) {
    return *std::max_element(a.probabilities.begin(), a.probabilities.end());
  };
  std::stable_sort(result.mistakes.begin(), result.mistakes.end(),
                   [&](const Mistake& a, const Mistake& b) { return surest(a) > surest(b); });
  result.mistakes.resize(std::min(result.mistakes.size(), Evaluation::mistakes_kept));
  return result;
}

void write_evaluation(const std::filesystem::path& path, const Evaluation& e, const data::Dataset& data) {
  nlohmann::ordered_json mistakes = nlohmann::ordered_json::array();
  const auto bytes = static_cast<size_t>(data.height * data.width * data.channels);
  for (const Mistake& m : e.mistakes) {
    const auto pixels = std::span(data.images).subspan(static_cast<size_t>(m.image) * bytes, bytes);
    mistakes.push_back(
        {{"image", m.image}, {"label", m.label}, {"probabilities", m.probabilities}, {"pixels", base64(pixels)}});
  }
  const nlohmann::ordered_json file = {
      {"classes", data.classes},   {"images", data.labels.size()}, {"accuracy", e.accuracy}, {"loss", e.loss},
      {"per_class", e.per_class},  {"confusion", e.confusion},     {"height", data.height},  {"width", data.width},
      {"channels", data.channels}, {"mistakes", mistakes}};
  write_file(path, file.dump() + "\n");
}

}  // namespace ranvier::cli
