// A network's neurons on a CUDA device under the explicit methods: Euler, its semi-implicit form, midpoint, RK4.
#include "kernels/synapse/cuda_tick.cuh"

namespace ranvier::kernels::synapse::cuda {

RANVIER_DEVICE_TICK(, Euler)
RANVIER_DEVICE_TICK(, SemiImplicit)
RANVIER_DEVICE_TICK(, Midpoint)
RANVIER_DEVICE_TICK(, Rk4)

}  // namespace ranvier::kernels::synapse::cuda
