// Many segments of resetting neurons fitted in one op. It is an optimizer: it has no gradient and no decomposition.
#include "engine/segment_fit.h"

#include "engine/catalogue.h"
#include "engine/op.h"
#include "kernels/segment_fit/segment_fit.h"

namespace ranvier {
namespace {

using kernels::FitDims;
using kernels::FitLimits;

FitDims dims_of(const SegmentFit& attrs, int64_t batch) { return {batch, attrs.hidden, attrs.points}; }
FitDims dims_of(const NodeView& node) { return dims_of(node.attrs<SegmentFit>(), node.in[1].shape[0]); }
FitLimits limits_of(const NodeView& node) {
  const auto& a = node.attrs<SegmentFit>();
  return {a.launch_iterations, a.iterations, a.patience, a.stall_share};
}

std::vector<Type> infer_fit(std::span<const Type> in, const Attrs& bytes) {
  const auto& attrs = bytes.as<SegmentFit>();
  if (in[1].shape.rank() != 2) fail("the description must be f64(batch, {})", FitDims::columns);
  const FitDims d = dims_of(attrs, in[1].shape[0]);
  const Type wanted[] = {{DType::f64, {d.batch, d.points}},
                         {DType::f64, {d.batch, FitDims::columns}},
                         {DType::f64, {d.batch, d.unknowns()}},
                         {DType::f64, {d.batch, d.memory()}},
                         {DType::f64, {d.batch, FitDims::info_columns}}};
  constexpr const char* names[] = {"s", "the description", "unknowns", "memory", "info"};
  for (size_t k = 0; k < 5; ++k)
    if (in[k] != wanted[k]) fail("{} must be {}, is {}", names[k], to_string(wanted[k]), to_string(in[k]));
  return {in[2], in[3], in[4]};
}

void run_cpu(const Call& c) {
  kernels::cpu::segment_fit(dims_of(c.node), limits_of(c.node), c.in<double>(0), c.in<double>(1), c.in<double>(2),
                            c.in<double>(3), c.in<double>(4), c.out<double>(0), c.out<double>(1), c.out<double>(2),
                            c.workspace);
}
size_t workspace(const NodeView& node, const void*) { return kernels::cpu::segment_fit_workspace(dims_of(node)); }

#if defined(RANVIER_HAS_CUDA)
void run_cuda(const Call& c) {
  kernels::cuda::segment_fit(dims_of(c.node), limits_of(c.node), c.in<double>(0), c.in<double>(1), c.in<double>(2),
                             c.in<double>(3), c.in<double>(4), c.out<double>(0), c.out<double>(1), c.out<double>(2),
                             c.stream);
}
bool fits_a_block(const NodeView& node) { return kernels::cuda::segment_fit_supports(dims_of(node)); }
#endif

constexpr Variant variants[] = {
    {.name = "cpu", .run = run_cpu, .workspace = workspace, .exact = false},
    RANVIER_CUDA_VARIANTS(
        {.name = "handwritten", .backend = Backend::cuda, .run = run_cuda, .supports = fits_a_block, .exact = false})};

const OpDef fit_op{.name = "segment_fit", .infer = infer_fit, .variants = variants};

}  // namespace

int64_t SegmentFit::memory() const { return FitDims{1, hidden, points}.memory(); }

SegmentFitResult segment_fit(Tensor s, Tensor description, Tensor unknowns, Tensor memory, Tensor info,
                             const SegmentFit& attrs, Where where) {
  if (attrs.hidden < 1 || attrs.points < 1 || attrs.launch_iterations < 1 || attrs.patience < 1)
    fail_at(where, "segment_fit: hidden {}, points {}, launch_iterations {} and patience {} must be positive",
            attrs.hidden, attrs.points, attrs.launch_iterations, attrs.patience);
  const Tensor in[] = {s, description, unknowns, memory, info};
  const Tensor x = s.graph->emit(fit_op, Attrs::of(attrs), in, where);
  return {x, x.output(1), x.output(2)};
}

std::vector<const OpDef*> catalogue::segment_fit() { return {&fit_op}; }

}  // namespace ranvier
