// A population's arrays on a CUDA device, and its steps there. Private to the engine.
#pragma once
#include <memory>

#include "engine/device.h"
#include "kernels/izhikevich/population.h"

namespace ranvier::neuron {

/// The list of spikes on the device grows no further than this; then it is emptied several times a call.
constexpr size_t most_list_bytes = size_t{64} << 20;

/// Runs the calls of a population on a device. The caller keeps its arrays on the host as the CPU would; what changes
/// in steps (state, slopes, counts) lives on the device from the first `advance` on and comes back by `fetch`.
template <class T>
class PopulationOnDevice {
 public:
  using Call = kernels::izhikevich::PopulationCall<T>;

  /// `list_bytes` bounds the first list of spikes; it grows where it turns out short.
  PopulationOnDevice(Device device, int64_t n, size_t list_bytes);
  ~PopulationOnDevice();

  /// `host` as `advance` of the CPU takes it; the result has the same events in the same order.
  void advance(const Call& host, kernels::izhikevich::ShardResult& result);
  /// Brings state, slopes and counts to the host's arrays unless they are there already.
  void fetch(const Call& host);
  /// v or u of one neuron as it stands, whoever has it.
  T value(const Call& host, int64_t neuron, bool of_u) const;
  /// The host's state, slopes and counts were written: they go to the device before the next step.
  void changed();
  /// Adams-Bashforth restarts: there is no slope of the step before.
  void forget();
  /// The array at this host address, constant until now, was written.
  void changed(const void* array);

 private:
  struct Implementation;
  std::unique_ptr<Implementation> implementation_;
};

}  // namespace ranvier::neuron
