// How far one neuron's run is from another: errors of traces, matched spikes, intervals.
#pragma once
#include <span>
#include <vector>

#include "engine/neuron.h"

namespace ranvier::neuron {

/// Differences of two series at the same times.
struct Errors {
  double rmse = 0, mae = 0, max = 0;
  double normalised = 0;  ///< rmse over the range of the true series; 0 range: NaN unless rmse is 0
  double dtw = 0;         ///< dynamic time warping distance a point: what remains when time may be stretched
};

/// Throws Error where the lengths differ or are 0. A NaN in either makes every error NaN. Means weigh each value by
/// `weights` (the lengths of unequal steps), or equally where that is empty.
Errors errors(std::span<const double> got, std::span<const double> truth, std::span<const double> weights = {});

/// Mean |difference| along the cheapest monotone alignment of the two, both thinned to at most `points`.
double dynamic_time_warping(std::span<const double> a, std::span<const double> b, size_t points = 1000);

/// Spikes paired in order so that the sum of time differences, and of `unmatched` for each spike left alone, is least
/// (the spike-time metric of Victor and Purpura, Network 8, 1997).
struct SpikeMatch {
  int64_t matched = 0, missed = 0, extra = 0;
  double mean = 0, max = 0;  ///< ms, of |difference| of matched spikes; NaN without any
};

/// Without `unmatched` half the mean interval of the truth (10 ms where it has fewer than two spikes).
SpikeMatch match_spikes(std::span<const double> got, std::span<const double> truth, double unmatched = 0);

/// Mean and standard deviation of the intervals between spikes; NaN with fewer than two.
struct Intervals {
  double mean, deviation;
};
Intervals intervals(std::span<const double> spikes);

}  // namespace ranvier::neuron
