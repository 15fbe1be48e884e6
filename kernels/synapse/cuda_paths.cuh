// What the sources of a network's step on a CUDA device share: spikes in their rings, and the launches of projections.
#pragma once
#include "kernels/common/launch.h"
#include "kernels/synapse/network_cuda.h"

namespace ranvier::kernels::synapse::cuda {

/// Where step m has its start in a ring; m may be before the first step.
RANVIER_HD_INLINE int64_t slot_of(const Ring& ring, int64_t m) { return (m % ring.slots + ring.slots) % ring.slots; }

/// What the launches of projections take.
struct PathCall {
  Clock* clock;
  const Ring* rings;
  const Projection* projections;
  int projection_count;
  bool printed;  ///< spikes reach their targets from the step on in which they are, else from the next
  bool located;
  double h;
  Shape shape;
};

/// Puts what is due in the step under way into the sums of its targets; depresses plastic synapses.
void deliver(const PathCall& call, CudaStream stream);
/// After the neurons: short-term plasticity, traces and potentiation by the step's spikes, the end of an interval.
void learn(const PathCall& call, CudaStream stream);

}  // namespace ranvier::kernels::synapse::cuda
