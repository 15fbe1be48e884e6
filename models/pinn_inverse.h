// Parameters of a neuron from a recorded voltage: networks on the pieces between spikes, equations and data at once.
#pragma once
#include <functional>
#include <string>
#include <vector>

#include "models/pinn.h"

namespace ranvier::pinn {

/// Samples of v; the recovery variable is never seen.
struct Recording {
  std::vector<double> t_ms, v_mv;
  /// Throws Error where times do not rise, where there is a gap (a step above 1.5 times the median one), where a value
  /// is not finite, or where there are fewer than 100 samples.
  void check() const;
  /// Standard deviation of white noise, from the median second difference.
  double noise_mv() const;
};

struct Estimate {
  std::string name;
  double value, standard_error, low, high;  ///< low ... high: 95 % interval
};

struct InverseOptions {
  std::vector<std::string> unknown = {"a", "b", "c", "d"};  ///< any of a b c d C k
  int64_t hidden = 10, points = 48;
  double A_mv = 20;
  /// Standard deviation that a scaled residual of the equations may have in the end; it falls there in
  /// stages from a hundred times as much: weaker still, and the parameters would wander off with the networks.
  double physics = 3e-4;
  int64_t iterations = 300;  ///< of Levenberg-Marquardt, a stage
  int64_t starts = 3;        ///< searches from other networks, of which the best is taken: some end in a poor minimum
  uint64_t seed = 0;
};

struct InverseResult {
  std::vector<Estimate> estimates;
  double noise_mv = 0;      ///< left between network and data, standard deviation
  double physics_loss = 0;  ///< mean squared scaled residual of the equations
  double objective = 0;     ///< sum of squares of everything, in standard deviations: what the starts are judged by
  int64_t spikes = 0, iterations = 0;
};

/// Estimates the unknown parameters; `guess` holds the known ones and where the unknown start. Every piece between
/// spikes and current edges has a network; parameters, spike times and initial states of pieces are shared unknowns.
/// Levenberg-Marquardt on data misfit over its noise and residuals over `physics`, by QR of each piece, then of what
/// they share; the intervals come from the last factor, so the networks' freedom is in them.
InverseResult infer(const Recording&, const Neuron& guess, const Current&, const InverseOptions&,
                    const std::function<bool(int64_t iteration, double objective)>& progress = {});

}  // namespace ranvier::pinn
