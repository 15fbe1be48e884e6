// Populations on a CUDA device under backward Euler and linearly implicit Euler.
#include "kernels/izhikevich/cuda_population.cuh"

namespace ranvier::kernels::izhikevich::cuda {

RANVIER_DEVICE_POPULATION_METHOD(, BackwardEuler)
RANVIER_DEVICE_POPULATION_METHOD(, LinearImplicit)

}  // namespace ranvier::kernels::izhikevich::cuda
