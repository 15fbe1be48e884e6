// Scores of probabilities in f64.
#include "models/robust/calibration.h"

#include <algorithm>
#include <cmath>
#include <vector>

#include "engine/error.h"

namespace ranvier::robust {
namespace {

/// Log-probabilities of one row.
void log_softmax(std::span<const float> row, double temperature, std::vector<double>& into) {
  into.assign(row.begin(), row.end());
  const double top = *std::max_element(into.begin(), into.end());
  double sum = 0;
  for (double& v : into) sum += std::exp(v = (v - top) / temperature);
  for (double& v : into) v -= std::log(sum);
}

}  // namespace

Calibration calibration(std::span<const float> logits, std::span<const int32_t> labels, int64_t classes,
                        double temperature, int bins) {
  if (labels.empty() || classes < 1 || logits.size() != labels.size() * static_cast<size_t>(classes))
    fail("calibration of {} logits, {} labels and {} classes", logits.size(), labels.size(), classes);
  if (!(temperature > 0) || bins < 1) fail("temperature {} and {} bins must be above 0", temperature, bins);
  struct Bin {
    double confidence = 0, hits = 0;
  };
  std::vector<Bin> bin(static_cast<size_t>(bins));
  std::vector<double> row;
  Calibration result;
  for (size_t i = 0; i < labels.size(); ++i) {
    if (labels[i] < 0 || labels[i] >= classes)
      fail("label {} of image {} is not in 0 ... {}", labels[i], i, classes - 1);
    log_softmax(logits.subspan(i * static_cast<size_t>(classes), static_cast<size_t>(classes)), temperature, row);
    result.nll -= row[static_cast<size_t>(labels[i])];
    for (size_t c = 0; c < row.size(); ++c) {
      const double off = std::exp(row[c]) - (static_cast<int32_t>(c) == labels[i]);
      result.brier += off * off;
    }
    const auto best = std::max_element(row.begin(), row.end()) - row.begin();
    const double confidence = std::exp(row[static_cast<size_t>(best)]);
    Bin& b = bin[static_cast<size_t>(std::clamp(static_cast<int>(std::ceil(confidence * bins)) - 1, 0, bins - 1))];
    b.confidence += confidence;
    b.hits += best == labels[i];
  }
  const auto count = static_cast<double>(labels.size());
  for (const Bin& b : bin) result.ece += std::abs(b.hits - b.confidence) / count;
  result.nll /= count;
  result.brier /= count;
  return result;
}

double fit_temperature(std::span<const float> logits, std::span<const int32_t> labels, int64_t classes) {
  const auto nll = [&](double log_t) { return calibration(logits, labels, classes, std::exp(log_t)).nll; };
  const double ratio = (std::sqrt(5.0) - 1) / 2;  // golden section
  double low = -std::log(20.0), high = -low;
  double a = high - ratio * (high - low), b = low + ratio * (high - low), at_a = nll(a), at_b = nll(b);
  while (high - low > 1e-5) {
    if (at_a < at_b) {
      high = b, b = a, at_b = at_a;
      at_a = nll(a = high - ratio * (high - low));
    } else {
      low = a, a = b, at_a = at_b;
      at_b = nll(b = low + ratio * (high - low));
    }
  }
  return std::exp((low + high) / 2);
}

}  // namespace ranvier::robust
