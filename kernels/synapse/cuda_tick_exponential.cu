// A network's neurons on a CUDA device under exponential Rosenbrock-Euler.
#include "kernels/synapse/cuda_tick.cuh"

namespace ranvier::kernels::synapse::cuda {

RANVIER_DEVICE_TICK(, Exponential)

}  // namespace ranvier::kernels::synapse::cuda
