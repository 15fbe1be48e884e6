// Burgers' and the Allen-Cahn equation: fields with their constraints built in.
#include <cmath>
#include <numbers>

#include "models/pde.h"
#include "models/pde_references.h"

namespace ranvier::pde {
namespace {

constexpr double pi = std::numbers::pi;

Tensor constant_like(Tensor x, double value) { return full(*x.graph, x.type(), value); }

/// N and its derivatives: coefficients along x to order 2, and along t.
struct Derivatives {
  Tensor n, x, xx, t;
};

// ---- Burgers: u = -sin(pi x) + t (1 - x^2) N(x, t) ----

Field burgers_field(Tensor x, Tensor t, Tensor theta, const MlpShape& shape) {
  const Tensor zero = constant_like(x, 0), one = constant_like(x, 1);
  const Tensor at = concat({x, t}, 1), along_x = concat({one, zero}, 1), along_t = concat({zero, one}, 1);
  const auto taylor = mlp_taylor({at, along_x, concat({zero, zero}, 1)}, theta, shape);
  const Derivatives d{taylor[0], taylor[1], 2.0 * taylor[2], mlp_jet(at, along_t, theta, shape).tangent};
  const Tensor wall = 1.0 - x * x;
  const Tensor u = t * wall * d.n - sin(pi * x);
  const Tensor u_t = wall * (d.n + t * d.t);
  const Tensor u_x = t * (wall * d.x - 2.0 * x * d.n) - pi * cos(pi * x);
  const Tensor u_xx = t * (wall * d.xx - 4.0 * x * d.x - 2.0 * d.n) + pi * pi * sin(pi * x);
  return {u, u_t + u * u_x - (0.01 / pi) * u_xx};
}

}  // namespace

Problem burgers() {
  return {"burgers", {{2, 20, 20, 20, 1}}, burgers_field, burgers_exact, {{"Raissi et al. 2019", 6.7e-4}}};
}

namespace {

// ---- Allen-Cahn: u = x^2 cos(pi x) + [x^2 - h(x, t)] + t N(cos(pi x), sin(pi x), t), periodic by its inputs ----
// The periodic x^2 cos(pi x) has a corner at x = +-1, which diffusion rounds at once and no smooth N could undo. So has
// x^2, whose corner is opposite; h is what diffusion alone makes of x^2:
//   h = x^2 + 2 nu t - 4 sqrt(nu t) ierfc((1 - |x|) / (2 sqrt(nu t))),  h_t = nu h_xx (images further off vanish).

Field allen_cahn_field(Tensor x, Tensor t, Tensor theta, const MlpShape& shape) {
  const Tensor zero = constant_like(x, 0), one = constant_like(x, 1), c = cos(pi * x), s = sin(pi * x);
  const Tensor at = concat({c, s, t}, 1), along_x = concat({-pi * s, pi * c, zero}, 1),
               bend = concat({(-0.5 * pi * pi) * c, (-0.5 * pi * pi) * s, zero}, 1);
  const auto taylor = mlp_taylor({at, along_x, bend}, theta, shape);
  const Tensor n = taylor[0], n_xx = 2.0 * taylor[2];
  const Tensor n_t = mlp_jet(at, concat({zero, zero, one}, 1), theta, shape).tangent;
  constexpr double nu = 1e-4;
  const Tensor width = sqrt(nu * t + 1e-16), z = (1.0 - abs(x)) / (2.0 * width);
  const Tensor corner = 4.0 * width * (exp(-z * z) * (1 / std::sqrt(pi)) - z * (1.0 - erf(z)));
  const Tensor u = x * x * c - (2 * nu) * t + corner + t * n;
  const Tensor base_xx = 2.0 * c - (4.0 * pi) * x * s - (pi * pi) * (x * x * c) + 2.0;  // of x^2 cos(pi x) + x^2
  return {u, n + t * n_t - nu * (base_xx + t * n_xx) - 5.0 * (u - u * u * u)};
}

}  // namespace

Problem allen_cahn() {
  return {"allen-cahn",
          {{3, 24, 24, 24, 1}},
          allen_cahn_field,
          allen_cahn_spectral,
          {{"Raissi et al. 2019", 6.99e-3}, {"jaxpi", 5.37e-5}, {"PirateNets", 2.24e-5}}};
}

Problem named(std::string_view name) {
  if (name == "burgers") return burgers();
  if (name == "allen-cahn") return allen_cahn();
  fail("there is no problem '{}'; known: burgers allen-cahn", name);
}

}  // namespace ranvier::pde
