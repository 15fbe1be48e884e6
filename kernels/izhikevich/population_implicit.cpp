// Populations under the methods that divide: backward Euler, linearly implicit Euler, exponential Rosenbrock-Euler.
#include "kernels/izhikevich/population_method.h"

namespace ranvier::kernels::izhikevich {

RANVIER_POPULATION_METHOD(, BackwardEuler)
RANVIER_POPULATION_METHOD(, LinearImplicit)
RANVIER_POPULATION_METHOD(, Exponential)

}  // namespace ranvier::kernels::izhikevich
