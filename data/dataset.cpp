// Statistics and descriptions of data sets.
#include "data/dataset.h"

#include <fmt/format.h>

#include <cmath>
#include <stdexcept>

namespace ranvier::data {

std::vector<int64_t> Dataset::counts() const {
  std::vector<int64_t> result(classes.size(), 0);
  for (const int32_t label : labels) ++result.at(static_cast<size_t>(label));
  return result;
}

std::string describe(const Splits& splits) {
  std::string line = fmt::format("data: {} from {}: {} training and {} test images of {} classes", splits.train.name,
                                 splits.source, splits.train.size(), splits.test.size(), splits.train.classes.size());
  if (!splits.why.empty()) line += "; " + splits.why;
  return line;
}

PixelStatistics pixel_statistics(std::span<const uint8_t> images) {
  if (images.empty() || images.size() % 3 != 0) {
    throw std::runtime_error(
        fmt::format("pixel_statistics: {} bytes are not a positive number of RGB pixels", images.size()));
  }
  std::array<uint64_t, 3> sum{}, squares{};
  for (size_t i = 0; i < images.size(); i += 3) {
    for (size_t c = 0; c < 3; ++c) {
      const uint32_t value = images[i + c];
      sum[c] += value;
      squares[c] += value * value;
    }
  }
  PixelStatistics result{};
  const double count = static_cast<double>(images.size() / 3);
  for (size_t c = 0; c < 3; ++c) {
    const double mean = static_cast<double>(sum[c]) / count;
    const double variance = static_cast<double>(squares[c]) / count - mean * mean;
    result.mean[c] = static_cast<float>(mean / 255.0);
    result.std[c] = static_cast<float>(std::sqrt(variance > 0 ? variance : 0) / 255.0);
  }
  return result;
}

void set_statistics(Splits& splits) {
  const PixelStatistics statistics = pixel_statistics(splits.train.images);
  splits.train.mean = splits.test.mean = statistics.mean;
  splits.train.std = splits.test.std = statistics.std;
}

const std::vector<std::string>& cifar10_classes() {
  static const std::vector<std::string> names = {"airplane", "automobile", "bird",  "cat",  "deer",
                                                 "dog",      "frog",       "horse", "ship", "truck"};
  return names;
}

}  // namespace ranvier::data
