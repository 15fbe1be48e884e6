// Sums over pairs of units weighted by a law of their distance, their gradients, and the same in dense form.
#include "kernels/coupling/coupling.h"

#include "engine/catalogue.h"
#include "engine/grad.h"
#include "engine/op.h"
#include "engine/ops.h"
#include "engine/ops/coupling.h"
#include "engine/ops/dispatch.h"

namespace ranvier {
namespace {

using kernels::PairDims;
using namespace pairs;

PairDims dims_of(const Type& x, const Type& positions, const CouplingLaw& law) {
  return {x.shape[0], positions.shape[0], positions.shape[1], law};
}

std::vector<Type> infer_apply(std::span<const Type> in, const Attrs& attrs) {
  check(in[0], in[1], attrs.as<CouplingLaw>());
  return {in[0]};
}
std::vector<Type> infer_positions(std::span<const Type> in, const Attrs& attrs) {
  check(in[1], in[2], attrs.as<CouplingLaw>());
  if (in[0] != in[1]) fail("g {} must be like x {}", to_string(in[0]), to_string(in[1]));
  return {in[2]};
}
std::vector<Type> infer_matrix(std::span<const Type> in, const Attrs& attrs) {
  check_positions(in[0], attrs.as<CouplingLaw>());
  const int64_t n = in[0].shape[0];
  if (n > most_dense) fail("a dense matrix of {} units is refused: {} are the most", n, most_dense);
  return {{in[0].dtype, {n, n}}};
}

PairDims apply_dims(const NodeView& node) { return dims_of(node.in[0], node.in[1], node.attrs<CouplingLaw>()); }
PairDims positions_dims(const NodeView& node) { return dims_of(node.in[1], node.in[2], node.attrs<CouplingLaw>()); }
PairDims matrix_dims(const NodeView& node) {
  return {0, node.in[0].shape[0], node.in[0].shape[1], node.attrs<CouplingLaw>()};
}

void cpu_apply(const Call& c) {
  dispatch_floating(c.node.in[0].dtype, [&]<class T>() {
    kernels::cpu::pair_apply<T>(apply_dims(c.node), c.in<T>(0), c.in<T>(1), c.out<T>(0), c.workspace);
  });
}
size_t cpu_apply_workspace(const NodeView& node, const void*) {
  return dispatch_floating(node.in[0].dtype,
                           [&]<class T>() { return kernels::cpu::pair_apply_workspace<T>(apply_dims(node)); });
}
void reference_apply(const Call& c) {
  dispatch_floating(c.node.in[0].dtype, [&]<class T>() {
    kernels::reference::pair_apply<T>(apply_dims(c.node), c.in<T>(0), c.in<T>(1), c.out<T>(0));
  });
}
void cpu_positions(const Call& c) {
  dispatch_floating(c.node.in[0].dtype, [&]<class T>() {
    kernels::cpu::pair_positions<T>(positions_dims(c.node), c.in<T>(0), c.in<T>(1), c.in<T>(2), c.out<T>(0),
                                    c.workspace);
  });
}
size_t cpu_positions_workspace(const NodeView& node, const void*) {
  return dispatch_floating(node.in[0].dtype,
                           [&]<class T>() { return kernels::cpu::pair_positions_workspace<T>(positions_dims(node)); });
}
void reference_positions(const Call& c) {
  dispatch_floating(c.node.in[0].dtype, [&]<class T>() {
    kernels::reference::pair_positions<T>(positions_dims(c.node), c.in<T>(0), c.in<T>(1), c.in<T>(2), c.out<T>(0));
  });
}
void cpu_matrix(const Call& c) {
  dispatch_floating(c.node.in[0].dtype,
                    [&]<class T>() { kernels::cpu::pair_matrix<T>(matrix_dims(c.node), c.in<T>(0), c.out<T>(0)); });
}
void reference_matrix(const Call& c) {
  dispatch_floating(c.node.in[0].dtype, [&]<class T>() {
    kernels::reference::pair_matrix<T>(matrix_dims(c.node), c.in<T>(0), c.out<T>(0));
  });
}

#if defined(RANVIER_HAS_CUDA)
void cuda_apply(const Call& c) {
  dispatch_cuda_mixed(c.node.in[0].dtype, [&]<class T>() {
    kernels::cuda::pair_apply<T>(apply_dims(c.node), c.in<T>(0), c.in<float>(1), c.out<T>(0), c.workspace, c.stream);
  });
}
size_t cuda_apply_workspace(const NodeView& node, const void*) {
  return dispatch_cuda_mixed(node.in[0].dtype,
                             [&]<class T>() { return kernels::cuda::pair_apply_workspace<T>(apply_dims(node)); });
}
void cuda_positions(const Call& c) {
  dispatch_cuda_mixed(c.node.in[0].dtype, [&]<class T>() {
    kernels::cuda::pair_positions<T>(positions_dims(c.node), c.in<T>(0), c.in<T>(1), c.in<float>(2), c.out<float>(0),
                                     c.workspace, c.stream);
  });
}
size_t cuda_positions_workspace(const NodeView& node, const void*) {
  return dispatch_cuda_mixed(
      node.in[0].dtype, [&]<class T>() { return kernels::cuda::pair_positions_workspace<T>(positions_dims(node)); });
}
void cuda_matrix(const Call& c) {
  kernels::cuda::pair_matrix(matrix_dims(c.node), c.in<float>(0), c.out<float>(0), c.stream);
}
#endif

constexpr Variant apply_variants[] = {
    {.name = "cpu", .run = cpu_apply, .supports = operand_on_cpu, .workspace = cpu_apply_workspace, .exact = false},
    {.name = "reference", .run = reference_apply, .supports = operand_on_cpu, .exact = false},
    RANVIER_CUDA_VARIANTS({.name = "handwritten",
                           .backend = Backend::cuda,
                           .run = cuda_apply,
                           .supports = operand_is_mixed,
                           .workspace = cuda_apply_workspace,
                           .exact = false})};
constexpr Variant positions_variants[] = {
    {.name = "cpu",
     .run = cpu_positions,
     .supports = operand_on_cpu,
     .workspace = cpu_positions_workspace,
     .exact = false},
    {.name = "reference", .run = reference_positions, .supports = operand_on_cpu, .exact = false},
    RANVIER_CUDA_VARIANTS({.name = "handwritten",
                           .backend = Backend::cuda,
                           .run = cuda_positions,
                           .supports = operand_is_mixed,
                           .workspace = cuda_positions_workspace,
                           .exact = false})};
constexpr Variant matrix_variants[] = {
    {.name = "cpu", .run = cpu_matrix, .supports = operand_on_cpu, .exact = false},
    {.name = "reference", .run = reference_matrix, .supports = operand_on_cpu, .exact = false},
    RANVIER_CUDA_VARIANTS({.name = "handwritten",
                           .backend = Backend::cuda,
                           .run = cuda_matrix,
                           .supports = operand_is_f32,
                           .exact = false})};

double apply_flops(const NodeView& node) {
  const PairDims d = apply_dims(node);
  return d.pairs() * (2 * static_cast<double>(d.batch) + 20);
}
double positions_flops(const NodeView& node) {
  const PairDims d = positions_dims(node);
  return d.pairs() * (4 * static_cast<double>(d.batch) + 30);
}
double matrix_flops(const NodeView& node) { return matrix_dims(node).pairs() * 20; }

// ---- the same in primitive ops, dense ----

void decompose_apply(Vjp& v) {
  const Tensor kappa = dense(v.x(1), v.attrs<CouplingLaw>()).kappa;
  v.set_output(0, matmul(v.x(0), cast(kappa, v.x(0).dtype())));
}

void decompose_positions(Vjp& v) {
  const Tensor p = v.x(2), g = cast(v.x(0), p.dtype()), x = cast(v.x(1), p.dtype());
  const Dense pairs = dense(p, v.attrs<CouplingLaw>());
  const Tensor weights = (matmul(g, x, true) + matmul(x, g, true)) * pairs.kappa * pairs.slope;
  const int64_t n = p.shape()[0];
  v.set_output(0, transpose(sum(reshape(weights, {1, n, n}) * pairs.difference, {2})));
}

void decompose_matrix(Vjp& v) { v.set_output(0, dense(v.x(0), v.attrs<CouplingLaw>()).kappa); }

/// The gradient in the positions by the law's own slope: without it, the whole dense form would be differentiated.
void vjp_matrix(Vjp& v) {
  v.in(0, [&] {
    const Dense pairs = dense(v.x(0), v.attrs<CouplingLaw>());
    const int64_t n = v.x(0).shape()[0];
    const Tensor weights = (v.g() + transpose(v.g())) * v.y() * pairs.slope;
    return transpose(sum(reshape(weights, {1, n, n}) * pairs.difference, {2}));
  });
}

const OpDef positions_op{.name = "pair_positions",
                         .infer = infer_positions,
                         .decompose = decompose_positions,
                         .variants = positions_variants,
                         .flops = positions_flops};

Tensor emit_apply(Tensor x, Tensor positions, const CouplingLaw& law, const Where& where);

void vjp_apply(Vjp& v) {
  v.in(0, [&] { return emit_apply(v.g(), v.x(1), v.attrs<CouplingLaw>(), Where::current()); });
  v.in(1, [&] {
    const Tensor in[] = {v.g(), v.x(0), v.x(1)};
    return v.graph().emit(positions_op, Attrs::of(v.attrs<CouplingLaw>()), in, Where::current());
  });
}

const OpDef apply_op{.name = "pair_apply",
                     .infer = infer_apply,
                     .vjp = vjp_apply,
                     .decompose = decompose_apply,
                     .variants = apply_variants,
                     .flops = apply_flops};
const OpDef matrix_op{.name = "pair_matrix",
                      .infer = infer_matrix,
                      .vjp = vjp_matrix,
                      .decompose = decompose_matrix,
                      .variants = matrix_variants,
                      .flops = matrix_flops};

Tensor emit_apply(Tensor x, Tensor positions, const CouplingLaw& law, const Where& where) {
  const Tensor in[] = {x, positions};
  return x.graph->emit(apply_op, Attrs::of(law), in, where);
}

}  // namespace

Tensor pair_apply(Tensor x, Tensor positions, const CouplingLaw& law, Where where) {
  return emit_apply(x, positions, law, where);
}

Tensor pair_matrix(Tensor positions, const CouplingLaw& law, Where where) {
  const Tensor in[] = {positions};
  return positions.graph->emit(matrix_op, Attrs::of(law), in, where);
}

std::vector<const OpDef*> catalogue::coupling() { return {&apply_op, &positions_op, &matrix_op}; }

}  // namespace ranvier
