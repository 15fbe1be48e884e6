// Populations on a CUDA device under Euler's method, its semi-implicit form and Adams-Bashforth 2.
#include "kernels/izhikevich/cuda_population.cuh"

namespace ranvier::kernels::izhikevich::cuda {

RANVIER_DEVICE_POPULATION_METHOD(, Euler)
RANVIER_DEVICE_POPULATION_METHOD(, SemiImplicit)
RANVIER_DEVICE_POPULATION_METHOD(, AdamsBashforth)

}  // namespace ranvier::kernels::izhikevich::cuda
