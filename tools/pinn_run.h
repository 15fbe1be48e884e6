// A PINN run on disk: what it found, how it compares with a reference, and its pictures.
#pragma once
#include <filesystem>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "engine/neuron.h"
#include "models/pinn.h"
#include "tools/run.h"

namespace ranvier::cli {

/// Exact or recorded dynamics that a solution is scored against, never trained on.
struct Reference {
  std::string source;                  ///< for people: file or solver
  std::vector<double> spike_times_ms;  ///< of the whole duration
  std::vector<double> t_ms, v_mv, u;   ///< samples, may be empty
};

/// Reads a CSV with a header line that names `t_ms`, `v_mv` and `u` (samples) or `spike_ms` (spike times, one a line).
/// Throws UsageError naming file, line and reason; times must rise.
Reference read_reference(const std::string& path);

/// The neuron and its current as the integrators take them.
neuron::Protocol protocol_of(const pinn::Neuron&, const pinn::Current&, double duration_ms);
/// The reference solver's dynamics (Taylor series of order 24 with located events), sampled every `step_ms`. For scores
/// and pictures only: it runs beside the PINN, which never sees it.
Reference reference_solution(const pinn::Neuron&, const pinn::Current&, double duration_ms, double step_ms);

/// What a run of any design leaves.
struct Curves {
  std::function<pinn::Point(double t_ms)> at, residual;  ///< v and u; dv/dt - f and du/dt - g
  std::vector<double> spike_times_ms;
  double reached_ms;
  std::string loss_csv;        ///< first column: where; last: the loss
  std::string loss_x, loss_y;  ///< what the two are, for a picture's axes
  std::string unit_of_u;       ///< as `unit_of_u` names it
};
/// pA, or mV/ms of a neuron without a capacitance (C = 1, the form of 2003).
std::string unit_of_u(const pinn::Neuron&);
/// Of the window solver; the solution must outlive it.
Curves curves_of(const pinn::Solution&);

struct Trajectory {
  std::vector<double> t_ms, v_mv, u, residual_v, residual_u;
};
/// Throws UsageError naming the flag unless time can be sampled so: both positive and finite, at most 10 million
/// samples.
void check_samples(double sample_ms, double duration_ms);
/// Samples every `step_ms`, and before and after each spike.
Trajectory sample(const Curves&, double step_ms);

/// Throws UsageError where a folder holds a run already.
void refuse_run_in(const std::string& folder);

/// Errors against a reference.
struct Score {
  int64_t spikes = 0, reference_spikes = 0;
  std::optional<double> spike_error_ms;  ///< largest |difference| of matched spikes; empty where counts differ
  std::optional<double> v_rmse_mv, v_mae_mv, v_max_mv, u_rmse;  ///< away from spikes, where there are samples
};
/// `at` gives v and u of the solution. Samples within `guard_ms` of a reference spike are left out.
Score score(const Reference&, const std::vector<double>& spike_times_ms, const std::function<pinn::Point(double)>& at,
            double until_ms, double guard_ms = 2);

/// Writes solution.csv (every `sample_ms`), solution.npy (t, v, u), spikes.csv, loss.csv and the pictures; returns a
/// line about the latter.
std::string write_run(const std::filesystem::path& folder, const Curves&, double sample_ms,
                      const std::optional<Reference>&);

/// Runs a gnuplot script of several plots; returns the empty string, or what to tell the user where it cannot be drawn.
std::string draw(const std::filesystem::path& script, const std::string& text);

}  // namespace ranvier::cli
