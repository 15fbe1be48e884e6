// What a run of populations writes as it goes: spikes, chosen neurons, rates; through memory of a fixed bound.
#pragma once
#include <memory>
#include <string>
#include <vector>

#include "engine/neuron.h"

namespace ranvier::neuron {

/// A population as the files name it.
struct RecordedPopulation {
  std::string name;
  int64_t size;
};

/// A neuron whose v and u are recorded.
struct ChosenNeuron {
  uint32_t population;
  int64_t neuron;
};

/// What is recorded, and where. Files of `folder`, each whole or absent:
///   spikes.csv   [population,]neuron,time_ms      (population where there are several or `named`)
///   spikes.h5    /spikes/NAME/{node_ids u64, timestamps f64 in ms}: the SONATA layout; attributes of /spikes: how it
///                was made
///   traces.csv   t_ms, then v and u of each chosen neuron; traces.npy the same as (rows, 1 + 2 neurons) f64
///   rates.csv    t_ms (the end of the interval), then Hz of each population and, with `means`, its mean v and u;
///                rates.npy likewise
///   counts.csv   [population,]neuron,spikes,rate_hz; counts.npy the spikes alone, (neurons) i64
struct RecordPlan {
  std::string folder;
  std::vector<RecordedPopulation> populations;
  bool named = false;
  bool csv = true, npy = true, hdf5 = true;
  std::vector<std::pair<std::string, std::string>> attributes;  ///< mode, solver and step
  std::vector<ChosenNeuron> chosen;
  bool means = false;
  double trace_interval = 0.1, rate_interval = 1;  ///< ms
  double duration = 1000;                          ///< ms that are still to run
  uint64_t memory = 64u << 20;                     ///< bytes kept before they go to the disk
  uint64_t disk = 0;  ///< most bytes of all files; 0: what the disk has free, less a reserve
};

/// True where the build has HDF5.
bool has_hdf5();

/// The files of a run under way.
class PopulationRecorder {
 public:
  /// Opens them. Throws Error naming the file.
  explicit PopulationRecorder(RecordPlan plan);
  ~PopulationRecorder();

  /// What traces, rates and counts will take, bytes of a spike, and the room: a line for people.
  std::string bill() const;
  /// Bytes of traces, rates and counts of the whole run, which are known beforehand.
  uint64_t planned() const;

  void spike(uint32_t population, uint32_t neuron, double time);
  /// v and u of the chosen neurons at t, in their order.
  void trace(double t, const std::vector<std::pair<double, double>>& states);
  /// Hz of the populations over the interval that ends at t, and their mean v and u where the plan says so.
  void rates(double t, const std::vector<double>& hz, const std::vector<std::pair<double, double>>& means);

  /// Writes what waits where it has outgrown the bound. False: what waits no longer fits on the disk; nothing more may
  /// be recorded, and `finish` keeps what there is.
  bool settle();
  /// Bytes that wait now, and the most that ever did.
  uint64_t waiting() const;
  uint64_t most_waiting() const;
  /// Bytes written so far.
  uint64_t written() const;
  /// Writes what waits and the counts (spikes of each neuron of each population over `time` ms), and puts all files in
  /// place.
  void finish(const std::vector<std::vector<int64_t>>& counts, double time);
  /// Names of the files, for people.
  std::string files() const;

 private:
  struct Files;
  std::unique_ptr<Files> files_;
};

}  // namespace ranvier::neuron
