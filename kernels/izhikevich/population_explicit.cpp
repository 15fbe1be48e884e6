// Populations under Euler's method, its semi-implicit form and Adams-Bashforth 2.
#include "kernels/izhikevich/population_method.h"

namespace ranvier::kernels::izhikevich {

RANVIER_POPULATION_METHOD(, Euler)
RANVIER_POPULATION_METHOD(, SemiImplicit)
RANVIER_POPULATION_METHOD(, AdamsBashforth)

}  // namespace ranvier::kernels::izhikevich
