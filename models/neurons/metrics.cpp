// Errors of traces and spike trains.
#include "models/neurons/metrics.h"

#include <algorithm>
#include <cmath>
#include <numeric>

namespace ranvier::neuron {
namespace {

constexpr double nan = std::numeric_limits<double>::quiet_NaN();

std::vector<double> thinned(std::span<const double> values, size_t points) {
  const size_t stride = (values.size() + points - 1) / points;
  std::vector<double> kept;
  for (size_t i = 0; i < values.size(); i += std::max<size_t>(stride, 1)) kept.push_back(values[i]);
  return kept;
}

}  // namespace

Errors errors(std::span<const double> got, std::span<const double> truth, std::span<const double> weights) {
  if (got.size() != truth.size() || got.empty() || (!weights.empty() && weights.size() != got.size()))
    fail("errors of {} values against {}: not the same times", got.size(), truth.size());
  Errors e;
  double low = truth[0], high = truth[0], squares = 0, total = 0;
  bool finite = true;
  for (size_t i = 0; i < got.size(); ++i) {
    const double d = std::abs(got[i] - truth[i]);
    finite = finite && std::isfinite(d);
    const double weight = weights.empty() ? 1 : weights[i];
    total += weight, squares += weight * d * d, e.mae += weight * d, e.max = std::max(e.max, d);
    low = std::min(low, truth[i]), high = std::max(high, truth[i]);
  }
  if (!finite) return {nan, nan, nan, nan, nan};
  e.rmse = std::sqrt(squares / total), e.mae /= total;
  e.normalised = high > low ? e.rmse / (high - low) : e.rmse == 0 ? 0 : nan;
  e.dtw = dynamic_time_warping(got, truth);
  return e;
}

double dynamic_time_warping(std::span<const double> a, std::span<const double> b, size_t points) {
  const std::vector<double> x = thinned(a, points), y = thinned(b, points);
  if (x.empty() || y.empty()) return nan;
  constexpr double infinity = std::numeric_limits<double>::infinity();
  std::vector<double> before(y.size() + 1, infinity), now(y.size() + 1, infinity);
  before[0] = 0;
  for (double value : x) {
    now[0] = infinity;
    for (size_t j = 0; j < y.size(); ++j)
      now[j + 1] = std::abs(value - y[j]) + std::min({before[j], before[j + 1], now[j]});
    std::swap(before, now);
  }
  return before.back() / static_cast<double>(std::max(x.size(), y.size()));
}

SpikeMatch match_spikes(std::span<const double> got, std::span<const double> truth, double unmatched) {
  if (unmatched <= 0)
    unmatched = truth.size() < 2 ? 10 : (truth.back() - truth.front()) / static_cast<double>(truth.size() - 1) / 2;
  const size_t rows = got.size() + 1, columns = truth.size() + 1;
  if (rows * columns > 200'000'000) fail("matching {} spikes with {} is too much", got.size(), truth.size());
  std::vector<double> cost(rows * columns);
  const auto at = [&](size_t i, size_t j) -> double& { return cost[i * columns + j]; };
  for (size_t i = 0; i < rows; ++i) {
    for (size_t j = 0; j < columns; ++j) {
      if (i == 0 || j == 0) {
        at(i, j) = unmatched * static_cast<double>(i + j);
        continue;
      }
      const double paired = at(i - 1, j - 1) + std::abs(got[i - 1] - truth[j - 1]);
      at(i, j) = std::min(paired, unmatched + std::min(at(i - 1, j), at(i, j - 1)));
    }
  }
  SpikeMatch match;
  size_t i = got.size(), j = truth.size();
  while (i > 0 && j > 0) {  // back along the cheapest path
    const double difference = std::abs(got[i - 1] - truth[j - 1]);
    if (at(i, j) == at(i - 1, j - 1) + difference) {
      ++match.matched, match.mean += difference, match.max = std::max(match.max, difference);
      --i, --j;
    } else if (at(i, j) == unmatched + at(i - 1, j)) {
      ++match.extra, --i;
    } else {
      ++match.missed, --j;
    }
  }
  match.extra += static_cast<int64_t>(i), match.missed += static_cast<int64_t>(j);
  match.mean = match.matched ? match.mean / static_cast<double>(match.matched) : nan;
  if (match.matched == 0) match.max = nan;
  return match;
}

Intervals intervals(std::span<const double> spikes) {
  if (spikes.size() < 2) return {nan, nan};
  std::vector<double> gaps;
  for (size_t i = 1; i < spikes.size(); ++i) gaps.push_back(spikes[i] - spikes[i - 1]);
  const auto n = static_cast<double>(gaps.size());
  const double mean = std::accumulate(gaps.begin(), gaps.end(), 0.0) / n;
  double squares = 0;
  for (double gap : gaps) squares += (gap - mean) * (gap - mean);
  return {mean, std::sqrt(squares / n)};
}

}  // namespace ranvier::neuron
