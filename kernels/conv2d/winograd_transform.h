// The one-dimensional transforms of Winograd F(4, 3) and of its gradients, on registers of channels.
#pragma once
#include "kernels/matmul/vector.h"

namespace ranvier::kernels::winograd {

// Interpolation points 0, +-a, +-b, infinity. 5/8 and 3/2 halve the rounding error of the usual 1 and 2, and all
// constants but the 1/norm factors are exact in f32. With M(x) = x (x^2 - a^2) (x^2 - b^2):
//   input   B^T, row of a point: the coefficients of M(x) / (x - point); of infinity: of M(x)
//   filter  G, row of a point: (1, point, point^2) / (M(x) / (x - point) at the point); of infinity: (0, 0, 1)
//   output  A^T, column of a point: (1, point, point^2, point^3); of infinity: (0, 0, 0, 1)
// forward y = A^T [(G g G^T) * (B^T d B)] A, hence the filter gradient G^T [(A dy A^T) * (B^T d B)] G.
inline constexpr float a = 0.625f, b = 1.5f, a2 = a * a, b2 = b * b, a3 = a2 * a, b3 = b2 * b;
inline constexpr float product = a2 * b2, sum = a2 + b2;
inline constexpr float norm_0 = 1.0f / product;
inline constexpr float norm_a = 1.0f / (2 * a2 * (a2 - b2)), norm_b = 1.0f / (2 * b2 * (b2 - a2));

inline constexpr int points = 6, outputs = 4, taps = 3;

using V = Vec<float>;
using Reg = V::Reg;

RANVIER_FLATTEN Reg axpy(float scale, Reg x, Reg y) { return V::fma(V::splat(scale), x, y); }

/// out = B^T in: 6 input pixels to 6 points.
RANVIER_FLATTEN void input(const Reg in[points], Reg out[points]) {
  const Reg even_a = axpy(-b2, in[2], in[4]), odd_a = axpy(-b2, in[1], in[3]);
  const Reg even_b = axpy(-a2, in[2], in[4]), odd_b = axpy(-a2, in[1], in[3]);
  out[0] = axpy(product, in[0], axpy(-sum, in[2], in[4]));
  out[1] = axpy(a, odd_a, even_a);
  out[2] = axpy(-a, odd_a, even_a);
  out[3] = axpy(b, odd_b, even_b);
  out[4] = axpy(-b, odd_b, even_b);
  out[5] = axpy(product, in[1], axpy(-sum, in[3], in[5]));
}

/// Element Point of B^T in. `in(i)` loads pixel i; only those that the point needs are loaded.
template <int Point, class In>
RANVIER_FLATTEN Reg input_point(In&& in) {
  if constexpr (Point == 0) return axpy(product, in(0), axpy(-sum, in(2), in(4)));
  if constexpr (Point == 5) return axpy(product, in(1), axpy(-sum, in(3), in(5)));
  constexpr float other = Point <= 2 ? b2 : a2, own = Point <= 2 ? a : b;
  return axpy(Point % 2 == 1 ? own : -own, axpy(-other, in(1), in(3)), axpy(-other, in(2), in(4)));
}

/// out = A^T in: 6 points to 4 outputs.
RANVIER_FLATTEN void output(const Reg in[points], Reg out[outputs]) {
  const Reg even_a = in[1] + in[2], odd_a = in[1] - in[2], even_b = in[3] + in[4], odd_b = in[3] - in[4];
  out[0] = in[0] + (even_a + even_b);
  out[1] = axpy(a, odd_a, V::splat(b) * odd_b);
  out[2] = axpy(a2, even_a, V::splat(b2) * even_b);
  out[3] = axpy(a3, odd_a, axpy(b3, odd_b, in[5]));
}

/// out = A in: 4 output gradients to 6 points.
RANVIER_FLATTEN void output_adjoint(const Reg in[outputs], Reg out[points]) {
  const Reg even_a = axpy(a2, in[2], in[0]), odd_a = axpy(a2, in[3], in[1]);
  const Reg even_b = axpy(b2, in[2], in[0]), odd_b = axpy(b2, in[3], in[1]);
  out[0] = in[0];
  out[1] = axpy(a, odd_a, even_a);
  out[2] = axpy(-a, odd_a, even_a);
  out[3] = axpy(b, odd_b, even_b);
  out[4] = axpy(-b, odd_b, even_b);
  out[5] = in[3];
}

/// Element Point of A in, as input_point.
template <int Point, class In>
RANVIER_FLATTEN Reg output_adjoint_point(In&& in) {
  if constexpr (Point == 0) return in(0);
  if constexpr (Point == 5) return in(3);
  constexpr float square = Point <= 2 ? a2 : b2, own = Point <= 2 ? a : b;
  return axpy(Point % 2 == 1 ? own : -own, axpy(square, in(3), in(1)), axpy(square, in(2), in(0)));
}

/// out = G in: 3 taps to 6 points.
RANVIER_FLATTEN void filter(const Reg in[taps], Reg out[points]) {
  const Reg even_a = V::splat(norm_a) * axpy(a2, in[2], in[0]), odd_a = V::splat(norm_a * a) * in[1];
  const Reg even_b = V::splat(norm_b) * axpy(b2, in[2], in[0]), odd_b = V::splat(norm_b * b) * in[1];
  out[0] = V::splat(norm_0) * in[0];
  out[1] = even_a + odd_a;
  out[2] = even_a - odd_a;
  out[3] = even_b + odd_b;
  out[4] = even_b - odd_b;
  out[5] = in[2];
}

/// out = G^T in: 6 points to 3 tap gradients.
RANVIER_FLATTEN void filter_adjoint(const Reg in[points], Reg out[taps]) {
  const Reg even_a = V::splat(norm_a) * (in[1] + in[2]), odd_a = V::splat(norm_a * a) * (in[1] - in[2]);
  const Reg even_b = V::splat(norm_b) * (in[3] + in[4]), odd_b = V::splat(norm_b * b) * (in[3] - in[4]);
  out[0] = axpy(norm_0, in[0], even_a + even_b);
  out[1] = odd_a + odd_b;
  out[2] = axpy(a2, even_a, axpy(b2, even_b, in[5]));
}

}  // namespace ranvier::kernels::winograd
