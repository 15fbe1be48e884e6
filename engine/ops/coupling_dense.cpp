// Checks and the dense form that the ops over pairs share.
#include <cmath>
#include <numeric>

#include "engine/op.h"
#include "engine/ops/coupling.h"
#include "engine/ops/dispatch.h"

namespace ranvier::pairs {
namespace {

void check_law(const CouplingLaw& law) {
  const auto positive = [](double value) { return value > 0; };  // false of NaN
  if (!positive(law.length)) fail("length {} of the law must be above 0", law.length);
  if (!positive(law.decay)) fail("decay {} of the law must be above 0", law.decay);
  if (!(law.power >= 0) || std::isinf(law.power)) fail("power {} of the law must be 0 or more", law.power);
  if (!(law.softening >= 0) || std::isinf(law.softening))
    fail("softening {} of the law must be 0 or more", law.softening);
}

}  // namespace

void check_positions(const Type& positions, const CouplingLaw& law) {
  check_law(law);
  if (positions.shape.rank() != 2 || positions.shape[1] < 1 || positions.shape[1] > 3)
    fail("positions must be (units, 1 to 3 axes), are {}", to_string(positions));
  if (positions.dtype != DType::f32 && positions.dtype != DType::f64) fail("positions must be f32 or f64");
}

void check(const Type& x, const Type& positions, const CouplingLaw& law) {
  check_positions(positions, law);
  if (x.shape.rank() != 2) fail("x must be (batch, units), is {}", to_string(x));
  if (!is_floating(x.dtype)) fail("x must be of a floating type");
  if (positions.dtype != (on_cpu(x.dtype) ? x.dtype : DType::f32))
    fail("positions {} do not go with x {}", to_string(positions), to_string(x));
  if (positions.shape[0] != x.shape[1])
    fail("x {} has {} units, there are {} positions", to_string(x), x.shape[1], positions.shape[0]);
}

Dense dense(Tensor p, const CouplingLaw& law) {
  const int64_t n = p.shape()[0], axes = p.shape()[1];
  if (n > most_dense) fail("the dense form of a coupling of {} units is refused: {} are the most", n, most_dense);
  std::vector<double> index(static_cast<size_t>(n));
  std::iota(index.begin(), index.end(), 0.0);
  const Tensor along = cast(constant<double>(*p.graph, {n, 1}, index), p.dtype());
  const Tensor diagonal = equal(along, reshape(along, {1, n}));
  Dense result;
  const Tensor by_axis = transpose(p);
  result.difference = reshape(by_axis, {axes, n, 1}) - reshape(by_axis, {axes, 1, n});
  // On the diagonal d^2 is raised by 1, so that no root is taken of 0; nothing of it remains.
  const Tensor d2 = sum(square(result.difference), {0}) + law.softening * law.softening + diagonal;
  const double inverse_length2 = 1 / (law.length * law.length), inverse_decay = 1 / law.decay;
  Tensor kappa;
  if (law.kind == CouplingLaw::gaussian) {
    kappa = exp(d2 * (-0.5 * inverse_length2));
    result.slope = full(*p.graph, d2.type(), -inverse_length2);
  } else {
    const Tensor q = d2 * inverse_length2 + 1.0, d = sqrt(d2);
    kappa = exp(log(q) * (-law.power / 2) - d * inverse_decay);
    result.slope = -(law.power * inverse_length2 / q) - inverse_decay / d;
  }
  result.kappa = kappa * (1.0 - diagonal);
  return result;
}

Tensor identity(Graph& graph, int64_t n, DType dtype) {
  std::vector<double> unit(static_cast<size_t>(n * n));
  for (int64_t i = 0; i < n; ++i) unit[static_cast<size_t>(i * n + i)] = 1;
  return cast(constant<double>(graph, {n, n}, unit), dtype);
}

}  // namespace ranvier::pairs
