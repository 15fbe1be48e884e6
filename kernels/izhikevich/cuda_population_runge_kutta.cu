// Populations on a CUDA device under the midpoint rule and the classical Runge-Kutta method.
#include "kernels/izhikevich/cuda_population.cuh"

namespace ranvier::kernels::izhikevich::cuda {

RANVIER_DEVICE_POPULATION_METHOD(, Midpoint)
RANVIER_DEVICE_POPULATION_METHOD(, Rk4)

}  // namespace ranvier::kernels::izhikevich::cuda
