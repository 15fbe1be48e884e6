// A network's arrays on a CUDA device, and its steps there. Private to the engine.
#pragma once
#include <optional>

#include "engine/neuron_network_run.h"

namespace ranvier::neuron {

/// What the device needs of a population that the host has set up: arrays of the host, which stay.
template <class T>
struct HostCells {
  kernels::synapse::Tick<T>* tick = nullptr;
  int64_t padded = 0;
  size_t coefficients = 0;           ///< of tick->k in use
  float* noise = nullptr;            ///< where process is not null
  const Process* process = nullptr;  ///< its noise
  int64_t noise_steps = 1;
  int kick = -1;  ///< the receptor that a kick acts on
};

/// Bytes of device memory, part by part.
std::vector<Sizes> device_sizes(const NetworkSpec& spec);

/// Steps a network on a device to the bits of the host. Everything that changes (potentials, receptors, weights,
/// traces, the field, spikes on their way) lives there from the first `run` on and comes back by `fetch`.
template <class T>
class NetworkOnDevice {
 public:
  /// `field` may be null.
  NetworkOnDevice(const NetworkSpec& spec, const kernels::synapse::Stepping& stepping, std::vector<HostCells<T>> cells,
                  std::vector<Path>& paths, Field* field);
  ~NetworkOnDevice();

  /// What a batch of steps did.
  struct Ran {
    int64_t steps = 0, deliveries = 0;
    std::vector<int64_t> spikes;           ///< of populations
    bool failed = false, runaway = false;  ///< in the step after those
    int population = 0;
    int64_t neuron = 0;
  };
  /// At most `steps` steps from step n on: fewer where a list of spikes had to be emptied or a neuron failed. Spikes
  /// are appended to `out` (may be null) as the host orders them.
  Ran run(int64_t n, int64_t steps, std::vector<NetworkSpike>* out);

  /// v or u of one neuron as it stands, whoever has it.
  T value(int population, int64_t neuron, bool of_u) const;
  /// Brings potentials and receptors to the host's arrays; or all that projections have, n being the next step.
  void fetch_cells();
  void fetch_paths(int64_t n);
  /// The host's state was written.
  void changed();
  /// The constant current of a population was written.
  void base_changed(int population);

 private:
  struct Implementation;
  std::unique_ptr<Implementation> implementation_;
};

}  // namespace ranvier::neuron
