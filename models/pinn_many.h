// Many neurons at once: all their segments are fitted by one program.
#pragma once
#include <functional>
#include <vector>

#include "engine/type.h"
#include "models/pinn.h"

namespace ranvier::pinn {

/// One neuron of a batch.
struct Job {
  Neuron neuron;
  Current current;
  uint64_t seed = 0;
};

/// Where a batch stands.
struct ManyProgress {
  int64_t finished, jobs, spikes, launches;
  double least_ms;  ///< reached by the neuron that is furthest behind
};

/// Solves every job for `duration_ms`, as `solve` does, with all segments that wait fitted by one program: on CUDA a
/// block a segment and one launch for 64 iterations of all, on the CPU a thread a segment. A neuron that fails says so
/// in its solution and holds up no other. `options.seed` is added to each job's. Self-scaled BFGS only.
std::vector<Solution> solve_many(const std::vector<Job>&, double duration_ms, const Options&, const Device& device,
                                 const std::function<bool(const ManyProgress&)>& progress = {});

}  // namespace ranvier::pinn
