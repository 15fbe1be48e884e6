// What `simulate` records of populations and networks: flags, the loop's samples, files and pictures.
#pragma once
#include <functional>
#include <optional>

#include "models/neurons/recorder.h"
#include "tools/neuron_options.h"
#include "tools/plot.h"

namespace ranvier::cli {

/// The run that is recorded.
struct RecordedRun {
  std::vector<neuron::RecordedPopulation> populations;
  bool named = false;
  neuron::Mode mode = neuron::Mode::accurate;
  neuron::Solver solver = neuron::Solver::rk4;
  double dt = 0.1;
  int64_t first_step = 0, last_step = 0;
  std::function<std::pair<double, double>(uint32_t population, int64_t neuron)> state;
  std::function<std::pair<double, double>(uint32_t population)> mean_state;
};

/// Samples a run between its chunks and keeps what its pictures need. Without a folder only that.
class Recording {
 public:
  Recording(const RecordOptions& options, const std::string& folder, RecordedRun run);

  /// Steps from `step` to the next sample, at most `most`.
  int64_t next(int64_t step, int64_t most) const;
  void spike(uint32_t population, uint32_t neuron, double time);
  /// After the steps up to `step`: samples that are due. False: the disk takes no more; stop here.
  bool after(int64_t step);
  /// Times of the first chosen neuron (of neuron 0 of the first population), at most 100,000.
  const std::vector<double>& first_times() const { return first_times_; }
  /// Spikes of each millisecond (or step, where that is longer), all populations together.
  const std::vector<double>& spikes_a_bin() const { return bins_; }
  bool disk_full() const { return full_; }

  /// Closes the files, draws raster and, of chosen neurons, traces; says where everything is.
  void finish(const Common& common, const std::string& title);
  std::string bill() const { return recorder_ ? recorder_->bill() : ""; }
  /// Fields of the summary.
  nlohmann::ordered_json summary() const;

 private:
  struct Dots {
    std::vector<double> t, id;
    size_t stride = 1, seen = 0;
  };
  Plot raster(const std::string& title) const;
  Plot traces(const std::string& title) const;
  std::vector<std::pair<double, double>> states() const;
  std::string name_of(const neuron::ChosenNeuron& c) const;

  RecordedRun run_;
  std::string folder_;
  std::optional<neuron::PopulationRecorder> recorder_;
  std::vector<neuron::ChosenNeuron> chosen_;
  int64_t trace_steps_ = 1, rate_steps_ = 1, step_ = 0;
  bool means_ = false, full_ = false;
  double trace_bound_ = 0;
  std::vector<std::vector<int64_t>> counts_;
  std::vector<int64_t> in_bin_;
  std::vector<double> bins_, first_times_, rate_t_;
  std::vector<std::vector<double>> rate_hz_;  ///< by population
  std::vector<Dots> dots_;
  std::vector<double> shown_t_;
  std::vector<std::vector<double>> shown_v_, shown_u_;
  size_t shown_stride_ = 1, shown_seen_ = 0;
};

/// "0,3..5" or, with several populations, "exc:0,inh:2..4". Throws UsageError.
std::vector<neuron::ChosenNeuron> chosen_neurons(const std::string& text,
                                                 const std::vector<neuron::RecordedPopulation>& populations);

}  // namespace ranvier::cli
