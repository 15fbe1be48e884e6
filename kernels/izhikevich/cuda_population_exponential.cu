// Populations on a CUDA device under exponential Rosenbrock-Euler.
#include "kernels/izhikevich/cuda_population.cuh"

namespace ranvier::kernels::izhikevich::cuda {

RANVIER_DEVICE_POPULATION_METHOD(, Exponential)

}  // namespace ranvier::kernels::izhikevich::cuda
