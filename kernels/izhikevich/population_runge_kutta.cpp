// Populations under the midpoint rule and the classical Runge-Kutta method.
#include "kernels/izhikevich/population_method.h"

namespace ranvier::kernels::izhikevich {

RANVIER_POPULATION_METHOD(, Midpoint)
RANVIER_POPULATION_METHOD(, Rk4)

}  // namespace ranvier::kernels::izhikevich
