// What the host works out once for a run of Izhikevich neurons.
#include <algorithm>
#include <cmath>

#include "kernels/izhikevich/steps.h"

namespace ranvier::kernels::izhikevich {

int doublings_for(const Parameters& p, double h) {
  // A bound of the eigenvalues, whatever the units of u: the diagonal's magnitude and the root of the coupling.
  const double low = 2 * p.q2 * std::min(-120.0, p.c) + p.q1, high = 2 * p.q2 * p.v_peak + p.q1;
  const double diagonal = std::max({std::abs(low), std::abs(high), p.C * std::abs(p.a * p.e)}) / p.C;
  const double bound = h * (diagonal + std::sqrt(std::abs(p.a * p.b) / p.C));
  return bound > 1 ? std::clamp(static_cast<int>(std::ceil(std::log2(bound))), 0, 16) : 0;
}

}  // namespace ranvier::kernels::izhikevich
