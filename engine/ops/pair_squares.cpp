// Sums over pairs of squared products of their values, weighted by a law of their distance, and their gradients.
#include "engine/catalogue.h"
#include "engine/grad.h"
#include "engine/op.h"
#include "engine/ops.h"
#include "engine/ops/coupling.h"
#include "engine/ops/dispatch.h"
#include "kernels/coupling/coupling.h"

namespace ranvier {
namespace {

using kernels::PairDims;

// Operands: pair_squares (x, w, positions); its gradients (v, x, w, positions).

void check_squares(const Type& x, const Type& w, const Type& positions, const CouplingLaw& law) {
  pairs::check(x, positions, law);
  if (x.dtype != positions.dtype) fail("pair_squares takes x of f32 or f64, not {}", to_string(x));
  if (w != Type{x.dtype, {1, x.shape[1]}}) fail("weights {} do not go with x {}", to_string(w), to_string(x));
}

std::vector<Type> infer_squares(std::span<const Type> in, const Attrs& attrs) {
  check_squares(in[0], in[1], in[2], attrs.as<CouplingLaw>());
  return {in[1]};
}
template <size_t like>  // the operand that the gradient is of
std::vector<Type> infer_gradient(std::span<const Type> in, const Attrs& attrs) {
  check_squares(in[1], in[2], in[3], attrs.as<CouplingLaw>());
  if (in[0] != in[2]) fail("v {} must be like w {}", to_string(in[0]), to_string(in[2]));
  return {in[like]};
}

/// `first`: 1 of the gradients, whose operands begin with v.
PairDims dims_of(const NodeView& node, size_t first) {
  const Shape &x = node.in[first].shape, &positions = node.in[first + 2].shape;
  return {x[0], positions[0], positions[1], node.attrs<CouplingLaw>()};
}

void cpu_squares(const Call& c) {
  dispatch_floating(c.node.in[0].dtype, [&]<class T>() {
    kernels::cpu::pair_squares<T>(dims_of(c.node, 0), c.in<T>(0), c.in<T>(1), c.in<T>(2), c.out<T>(0), c.workspace);
  });
}
void reference_squares(const Call& c) {
  dispatch_floating(c.node.in[0].dtype, [&]<class T>() {
    kernels::reference::pair_squares<T>(dims_of(c.node, 0), c.in<T>(0), c.in<T>(1), c.in<T>(2), c.out<T>(0));
  });
}
void cpu_values(const Call& c) {
  dispatch_floating(c.node.in[0].dtype, [&]<class T>() {
    kernels::cpu::pair_squares_values<T>(dims_of(c.node, 1), c.in<T>(0), c.in<T>(1), c.in<T>(2), c.in<T>(3),
                                         c.out<T>(0), c.workspace);
  });
}
void reference_values(const Call& c) {
  dispatch_floating(c.node.in[0].dtype, [&]<class T>() {
    kernels::reference::pair_squares_values<T>(dims_of(c.node, 1), c.in<T>(0), c.in<T>(1), c.in<T>(2), c.in<T>(3),
                                               c.out<T>(0));
  });
}
void cpu_positions(const Call& c) {
  dispatch_floating(c.node.in[0].dtype, [&]<class T>() {
    kernels::cpu::pair_squares_positions<T>(dims_of(c.node, 1), c.in<T>(0), c.in<T>(1), c.in<T>(2), c.in<T>(3),
                                            c.out<T>(0), c.workspace);
  });
}
void reference_positions(const Call& c) {
  dispatch_floating(c.node.in[0].dtype, [&]<class T>() {
    kernels::reference::pair_squares_positions<T>(dims_of(c.node, 1), c.in<T>(0), c.in<T>(1), c.in<T>(2), c.in<T>(3),
                                                  c.out<T>(0));
  });
}
template <size_t first>
size_t workspace(const NodeView& node, const void*) {
  return dispatch_floating(node.in[0].dtype,
                           [&]<class T>() { return kernels::cpu::pair_squares_workspace<T>(dims_of(node, first)); });
}

#if defined(RANVIER_HAS_CUDA)
void cuda_squares(const Call& c) {
  kernels::cuda::pair_squares(dims_of(c.node, 0), c.in<float>(0), c.in<float>(1), c.in<float>(2), c.out<float>(0),
                              c.workspace, c.stream);
}
void cuda_values(const Call& c) {
  kernels::cuda::pair_squares_values(dims_of(c.node, 1), c.in<float>(0), c.in<float>(1), c.in<float>(2), c.in<float>(3),
                                     c.out<float>(0), c.workspace, c.stream);
}
void cuda_positions(const Call& c) {
  kernels::cuda::pair_squares_positions(dims_of(c.node, 1), c.in<float>(0), c.in<float>(1), c.in<float>(2),
                                        c.in<float>(3), c.out<float>(0), c.workspace, c.stream);
}
template <size_t (*bytes)(const PairDims&), size_t first>
size_t cuda_workspace(const NodeView& node, const void*) {
  return bytes(dims_of(node, first));
}
#endif

constexpr Variant squares_variants[] = {
    {.name = "cpu", .run = cpu_squares, .supports = operand_on_cpu, .workspace = workspace<0>, .exact = false},
    {.name = "reference", .run = reference_squares, .supports = operand_on_cpu, .exact = false},
    RANVIER_CUDA_VARIANTS({.name = "handwritten",
                           .backend = Backend::cuda,
                           .run = cuda_squares,
                           .supports = operand_is_f32,
                           .workspace = cuda_workspace<kernels::cuda::pair_squares_workspace, 0>,
                           .exact = false})};
constexpr Variant values_variants[] = {
    {.name = "cpu", .run = cpu_values, .supports = operand_on_cpu, .workspace = workspace<1>, .exact = false},
    {.name = "reference", .run = reference_values, .supports = operand_on_cpu, .exact = false},
    RANVIER_CUDA_VARIANTS({.name = "handwritten",
                           .backend = Backend::cuda,
                           .run = cuda_values,
                           .supports = operand_is_f32,
                           .workspace = cuda_workspace<kernels::cuda::pair_squares_values_workspace, 1>,
                           .exact = false})};
constexpr Variant positions_variants[] = {
    {.name = "cpu", .run = cpu_positions, .supports = operand_on_cpu, .workspace = workspace<1>, .exact = false},
    {.name = "reference", .run = reference_positions, .supports = operand_on_cpu, .exact = false},
    RANVIER_CUDA_VARIANTS({.name = "handwritten",
                           .backend = Backend::cuda,
                           .run = cuda_positions,
                           .supports = operand_is_f32,
                           .workspace = cuda_workspace<kernels::cuda::pair_squares_positions_workspace, 1>,
                           .exact = false})};

double squares_flops(const NodeView& node) {
  const PairDims d = dims_of(node, 0);
  return d.pairs() * (2 * static_cast<double>(d.batch) + 24);
}
template <int products>
double gradient_flops(const NodeView& node) {
  const PairDims d = dims_of(node, 1);
  return d.pairs() * (2 * products * static_cast<double>(d.batch) + 30);
}

// ---- dense, in primitive ops ----

void decompose_squares(Vjp& v) {
  const Tensor x = v.x(0), w = v.x(1);
  const Tensor products = matmul(x, x, true);
  v.set_output(0, matmul(w, pairs::dense(v.x(2), v.attrs<CouplingLaw>()).kappa * square(products)));
}

/// A of the gradients.
Tensor shared_weights(Vjp& v, const pairs::Dense& law) {
  const Tensor a = matmul(v.x(0), v.x(2), true);
  return (a + transpose(a)) * law.kappa;
}

void decompose_values(Vjp& v) {
  const Tensor x = v.x(1);
  const pairs::Dense law = pairs::dense(v.x(3), v.attrs<CouplingLaw>());
  v.set_output(0, matmul(x, shared_weights(v, law) * matmul(x, x, true)) * 2.0);
}

void decompose_positions(Vjp& v) {
  const Tensor x = v.x(1);
  const pairs::Dense law = pairs::dense(v.x(3), v.attrs<CouplingLaw>());
  const Tensor weights = shared_weights(v, law) * square(matmul(x, x, true)) * law.slope;
  const int64_t n = x.shape()[1];
  v.set_output(0, transpose(sum(reshape(weights, {1, n, n}) * law.difference, {2})));
}

const OpDef values_op{.name = "pair_squares_values",
                      .infer = infer_gradient<1>,
                      .decompose = decompose_values,
                      .variants = values_variants,
                      .flops = gradient_flops<2>};
const OpDef positions_op{.name = "pair_squares_positions",
                         .infer = infer_gradient<3>,
                         .decompose = decompose_positions,
                         .variants = positions_variants,
                         .flops = gradient_flops<1>};

void vjp_squares(Vjp& v) {
  const Tensor x = v.x(0), w = v.x(1), positions = v.x(2);
  const CouplingLaw law = v.attrs<CouplingLaw>();
  const auto gradient = [&](const OpDef& op) {
    const Tensor in[] = {v.g(), x, w, positions};
    return v.graph().emit(op, Attrs::of(law), in, Where::current());
  };
  v.in(0, [&] { return gradient(values_op); });
  v.in(1, [&] { return pair_squares(x, v.g(), positions, law); });
  v.in(2, [&] { return gradient(positions_op); });
}

const OpDef squares_op{.name = "pair_squares",
                       .infer = infer_squares,
                       .vjp = vjp_squares,
                       .decompose = decompose_squares,
                       .variants = squares_variants,
                       .flops = squares_flops};

}  // namespace

Tensor pair_squares(Tensor x, Tensor w, Tensor positions, const CouplingLaw& law, Where where) {
  const Tensor in[] = {x, w, positions};
  return x.graph->emit(squares_op, Attrs::of(law), in, where);
}

std::vector<const OpDef*> catalogue::pair_squares() { return {&squares_op, &values_op, &positions_op}; }

}  // namespace ranvier
