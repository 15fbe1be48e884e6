// A network's neurons on a CUDA device under backward Euler and linearly implicit Euler.
#include "kernels/synapse/cuda_tick.cuh"

namespace ranvier::kernels::synapse::cuda {

RANVIER_DEVICE_TICK(, BackwardEuler)
RANVIER_DEVICE_TICK(, LinearImplicit)

}  // namespace ranvier::kernels::synapse::cuda
