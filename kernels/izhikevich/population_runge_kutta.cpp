// Populations under the midpoint rule and the classical Runge-Kutta method.
#include "kernels/izhikevich/population_lanes.h"

namespace ranvier::kernels::izhikevich {

RANVIER_POPULATION_METHOD(, Midpoint)
RANVIER_POPULATION_METHOD(, Rk4)

}  // namespace ranvier::kernels::izhikevich
