// Spikes in SONATA's HDF5 layout, appended as they come.
#pragma once
#include <cstdint>
#include <memory>
#include <string>
#include <utility>
#include <vector>

namespace ranvier::neuron {

/// /spikes/NAME/{node_ids, timestamps} of several populations, written beside `path` and put in its place by `finish`.
class SonataSpikes {
 public:
  /// `attributes` are texts of the group /spikes; `chunk`: spikes that a population's room grows by. Throws Error
  /// naming the file; and where the build has no HDF5.
  SonataSpikes(std::string path, const std::vector<std::string>& populations,
               const std::vector<std::pair<std::string, std::string>>& attributes, uint64_t chunk = 16384);
  ~SonataSpikes();
  void append(size_t population, const std::vector<uint64_t>& ids, const std::vector<double>& times);
  void finish();

 private:
  struct Sets;
  std::unique_ptr<Sets> sets_;
};

}  // namespace ranvier::neuron
