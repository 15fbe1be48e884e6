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
  double value, standard_error, low, high;  ///< low ... high: 95 % interval; NaN where there is none
};

struct InverseOptions {
  std::vector<std::string> unknown = {"a", "b", "c", "d"};  ///< any of a b c d C k
  int64_t hidden = 12, points = 64;
  double A_mv = 20;
  /// Standard deviation that a scaled residual of the equations may have at the end of the joint search; it falls there
  /// in stages from ten times as much: weaker still, and the parameters would wander off with the networks.
  double physics = 3e-3;
  int64_t iterations = 300;  ///< of Levenberg-Marquardt, a stage
  int64_t starts = 3;        ///< joint searches, each from other networks, until one describes the recording
  uint64_t seed = 0;
};

struct InverseResult {
  std::vector<Estimate> estimates;
  double noise_mv = 0;            ///< left between trajectory and data, standard deviation
  double recording_noise_mv = 0;  ///< what `Recording::noise_mv` sees without any model
  double physics_loss = 0;        ///< mean squared scaled residual of the equations, the worst piece's
  double misfit = 0;              ///< sum of squared differences over recording_noise_mv^2
  int64_t spikes = 0, samples = 0, iterations = 0;
  std::string failure;  ///< empty, or why these are no estimates of highest likelihood
  /// Whether what is left is the recording's own noise (to 5 % and 5 uV): if not, a known parameter or the current is
  /// wrong, and intervals say nothing.
  bool describes() const { return noise_mv <= 1.05 * recording_noise_mv + 0.005; }
};

/// Estimates the unknown parameters; `guess` holds the known ones, where the unknown start, and the state at the first
/// sample. Every piece between spikes and current edges has a network. Two searches, both by networks:
/// 1. Joint: parameters, spike times, states at the ends of pieces and networks are unknowns at once,
/// Levenberg-Marquardt
///    on data misfit over its noise and residuals over `physics` (a form of multiple shooting: Bock 1983), by QR of
///    each piece, then of what they share. It finds its way from far, but residuals that give way bias it.
/// 2. Maximum likelihood (`Likelihood`): the equations are met, the parameters alone are left. With white noise this
///    is least squares over every sample, those of the upstroke included; the standard errors come from the Fisher
///    information J'J / noise^2 (e.g. Seber and Wild 2003, chapter 2) with the noise that is left. A sample's side of a
///    spike is known (the fall is dozens of standard deviations), so that the likelihood is smooth.
InverseResult infer(const Recording&, const Neuron& guess, const Current&, const InverseOptions&,
                    const std::function<bool(int64_t iteration, double misfit)>& progress = {});

}  // namespace ranvier::pinn
