// What the partial differential equations are scored against, never trained on.
#pragma once
#include <vector>

namespace ranvier::pde {

/// Burgers' solution at (x, t) by the Cole-Hopf transform.
std::vector<double> burgers_exact(const std::vector<double>& x, double t);
/// The Allen-Cahn equation's at the nearest of 512 points and 2,000 steps of a spectral splitting.
std::vector<double> allen_cahn_spectral(const std::vector<double>& x, double t);

}  // namespace ranvier::pde
