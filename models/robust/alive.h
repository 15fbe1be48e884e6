// The images that an attack still works on, gathered so that the network sees no others.
#pragma once
#include <algorithm>
#include <span>
#include <vector>

#include "models/robust/attacks.h"

namespace ranvier::robust {

/// Position of the greatest logit of row `i`.
inline int32_t predicted(std::span<const float> logits, int64_t classes, int64_t i) {
  const auto row = logits.begin() + i * classes;
  return static_cast<int32_t>(std::max_element(row, row + classes) - row);
}

/// Rows `who` of an (n, width) array, one after the other.
template <class T>
std::vector<T> rows_of(const std::vector<T>& all, const std::vector<int64_t>& who, int64_t width) {
  std::vector<T> rows(who.size() * static_cast<size_t>(width));
  for (size_t r = 0; r < who.size(); ++r)
    std::copy_n(all.begin() + who[r] * width, width, rows.begin() + static_cast<int64_t>(r) * width);
  return rows;
}

/// A point of the ball around the image that is a picture: |x - x0| <= epsilon and 0 <= x <= 1.
inline float into_ball(float x, float x0, float epsilon) {
  return std::clamp(std::clamp(x, x0 - epsilon, x0 + epsilon), 0.0f, 1.0f);
}

/// An attack's state between its steps.
class Alive {
 public:
  /// Starts with the images that the network has right.
  Alive(AttackedModel& model, const Images& images) : images_(images), classes_(model.classes()) {
    result.pixels = images.pixels;
    result.broken.assign(images.labels.size(), 0);
    clean_logits = model.logits(images.pixels);
    result.queries += images.size();
    for (int64_t i = 0; i < images.size(); ++i)
      if (predicted(clean_logits, classes_, i) != images.labels[static_cast<size_t>(i)])
        result.broken[static_cast<size_t>(i)] = 1;
    refresh();
  }

  /// Notes which of the images `who` are misclassified at `points` (n, values); their points are kept as results.
  void judge(const std::vector<float>& logits, const std::vector<float>& points) {
    const int64_t values = images_.values();
    for (size_t r = 0; r < who.size(); ++r) {
      const int64_t i = who[r];
      if (predicted(logits, classes_, static_cast<int64_t>(r)) == images_.labels[static_cast<size_t>(i)]) continue;
      if (result.broken[static_cast<size_t>(i)]) continue;
      result.broken[static_cast<size_t>(i)] = 1;
      std::copy_n(points.begin() + i * values, values, result.pixels.begin() + i * values);
    }
  }
  /// Leaves the broken images out from here on.
  void refresh() {
    who.clear();
    for (int64_t i = 0; i < images_.size(); ++i)
      if (!result.broken[static_cast<size_t>(i)]) who.push_back(i);
  }
  std::vector<int32_t> labels() const { return rows_of(images_.labels, who, 1); }

  std::vector<int64_t> who;         ///< images still attacked
  std::vector<float> clean_logits;  ///< (n, classes)
  AttackResult result;

 private:
  const Images& images_;
  int64_t classes_;
};

}  // namespace ranvier::robust
