// Populations on a CUDA device: the same calls as on the CPU, with spikes listed in device memory.
#pragma once
#include "kernels/common/stream.h"
#include "kernels/izhikevich/population.h"

namespace ranvier::kernels::izhikevich::cuda {

/// What a launch says about itself; every word starts at 0.
struct Progress {
  using Word = unsigned long long;  // what CUDA's 64-bit atomics take
  Word reserved;                    ///< events that neurons asked to list
  Word full;                        ///< 1 + the first place of the list that could not be given, 0: all were
  Word pieces;                      ///< as ShardResult::pieces
  Word failure;                     ///< ~packed(failure) of the earliest, 0: none
};

/// A failure as a number whose order is that of step, then neuron.
constexpr Progress::Word packed(Failure failure, uint32_t neuron, uint32_t step) {
  return Progress::Word{step} << 34 | Progress::Word{neuron} << 2 | static_cast<Progress::Word>(failure);
}
constexpr uint32_t step_of(Progress::Word failure) { return static_cast<uint32_t>(failure >> 34); }
constexpr uint32_t neuron_of(Progress::Word failure) { return static_cast<uint32_t>(failure >> 2); }
constexpr Failure failure_of(Progress::Word failure) { return static_cast<Failure>(failure & 3); }

/// Where a launch leaves what a ShardResult has on the CPU, all in device memory. A neuron whose spikes find no place
/// in the list stops before that step and notes it; once the host has emptied the list, a launch with `again` lets
/// those neurons go on, and no other. So no list is too short, and no state has to be kept twice.
struct SpikeList {
  Event* events = nullptr;  ///< in no order: `order` gives them one
  int64_t capacity = 0;
  uint32_t* stopped = nullptr;  ///< n values: the step that waits for room, or `not_stopped`
  Progress* progress = nullptr;
};
constexpr uint32_t not_stopped = 0xffffffff;

/// n events by step, neuron and offset; they come to lie at the pointer that is returned, `events` or `scratch`.
const Event* order(int64_t n, Event* events, Event* scratch, CudaStream stream);

/// Advances all neurons of a call whose pointers are of the device, one thread each, for at most 2^30 steps. Without
/// `call.events` only `list.progress` is used. Writes state, counts, slopes and the list, and waits for nothing.
template <class T>
void advance(const PopulationCall<T>& call, const SpikeList& list, bool again, CudaStream stream);

}  // namespace ranvier::kernels::izhikevich::cuda
