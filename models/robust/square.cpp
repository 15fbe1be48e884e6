// Square: a black-box random search.
#include <cmath>

#include "engine/draws.h"
#include "models/robust/alive.h"

namespace ranvier::robust {
namespace {

/// Share of the image that a square covers at `query`: the first share halved at fixed points of a run of 10,000.
double share_at(double first, int query, int queries) {
  constexpr std::array<int, 9> halvings = {10, 50, 200, 500, 1000, 2000, 4000, 6000, 8000};
  const int64_t scaled = int64_t{query} * 10000 / queries;
  for (int at : halvings)
    if (scaled > at) first /= 2;
  return first;
}

std::vector<float> margins(const std::vector<float>& logits, const std::vector<int32_t>& labels, int64_t classes) {
  std::vector<float> result;
  for (size_t r = 0; r < labels.size(); ++r) {
    const float* row = logits.data() + static_cast<int64_t>(r) * classes;
    float other = -INFINITY;
    for (int64_t c = 0; c < classes; ++c)
      if (c != labels[r]) other = std::max(other, row[c]);
    result.push_back(row[labels[r]] - other);
  }
  return result;
}

}  // namespace

AttackResult square(AttackedModel& model, const Images& images, const SquareOptions& o, const Tick& tick) {
  if (!(o.epsilon > 0 && o.epsilon <= 1)) fail("epsilon {} is not in (0, 1]", o.epsilon);
  if (o.queries < 1 || !(o.share > 0 && o.share <= 1))
    fail("Square with {} queries and a share of {}: at least 1, in (0, 1]", o.queries, o.share);
  const int64_t values = images.values(), height = images.height, width = images.width;
  const auto epsilon = static_cast<float>(o.epsilon);
  const Draws draws(o.seed, "attack.square");
  Alive alive(model, images);
  // image i draws in steps i queries ... of its own, so that it does not matter which others are left
  const auto step = [&](int64_t i, int query) { return static_cast<uint64_t>(i * o.queries + query); };
  std::vector<float> x = images.pixels;
  for (int64_t i : alive.who)  // vertical stripes, each channel up or down
    for (int64_t e = 0; e < values; ++e) {
      float& v = x[static_cast<size_t>(i * values + e)];
      const auto column = static_cast<uint64_t>(e % (width * 3));
      v = into_ball(v + (draws.below(2, step(i, 0), column) ? epsilon : -epsilon), v, epsilon);
    }
  std::vector<float> lowest(images.labels.size(), INFINITY), trial = x;
  for (int query = 0; query < o.queries && !alive.who.empty(); ++query) {
    if (query > 0) {
      const double area = share_at(o.share, query, o.queries) * static_cast<double>(height * width);
      const auto side = std::clamp<int64_t>(std::llround(std::sqrt(area)), 1, std::min(height, width) - 1);
      for (int64_t i : alive.who) {
        std::copy_n(x.begin() + i * values, values, trial.begin() + i * values);
        const int64_t top = draws.below(height - side, step(i, query), 0);
        const int64_t left = draws.below(width - side, step(i, query), 1);
        for (int64_t y = top; y < top + side; ++y)
          for (int64_t k = left; k < left + side; ++k)
            for (int64_t c = 0; c < 3; ++c) {
              const auto at = static_cast<size_t>(i * values + (y * width + k) * 3 + c);
              const bool up = draws.below(2, step(i, query), static_cast<uint64_t>(2 + c));
              trial[at] = into_ball(trial[at] + (up ? 2 : -2) * epsilon, images.pixels[at], epsilon);
            }
      }
    }
    const std::vector<int32_t> labels = alive.labels();
    const std::vector<float> logits = model.logits(rows_of(trial, alive.who, values));
    alive.result.queries += static_cast<int64_t>(labels.size());
    const std::vector<float> margin = margins(logits, labels, model.classes());
    for (size_t r = 0; r < alive.who.size(); ++r) {
      const int64_t i = alive.who[r];
      float& best = lowest[static_cast<size_t>(i)];
      if (margin[r] < best) {
        best = margin[r];
        std::copy_n(trial.begin() + i * values, values, x.begin() + i * values);
      }
      if (o.watch) o.watch(i, best);
    }
    alive.judge(logits, trial);
    alive.refresh();
    if (tick) tick((query + 1.0) / o.queries);
  }
  for (int64_t i : alive.who) std::copy_n(x.begin() + i * values, values, alive.result.pixels.begin() + i * values);
  return alive.result;
}

}  // namespace ranvier::robust
