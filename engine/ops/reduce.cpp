// Reductions and broadcasts: {broadcast_to, sum} are each other's adjoints; max, mean and variance build on them.
#include <algorithm>

#include "engine/catalogue.h"
#include "engine/op.h"
#include "engine/ops.h"
#include "engine/ops/dispatch.h"
#include "kernels/elementwise/elementwise.h"
#include "kernels/index/index.h"
#include "kernels/reduce/reduce.h"

namespace ranvier {
namespace {

/// One group of neighbouring axes [first, last) of the input.
struct AxisGroup {
  int64_t first, last;
};

kernels::ReduceDims dims_of(const NodeView& node) {
  const auto group = node.attrs<AxisGroup>();
  const Shape& shape = node.in[0].shape;
  kernels::ReduceDims dims{1, 1, 1};
  for (int axis = 0; axis < shape.rank(); ++axis) {
    int64_t& part = axis < group.first ? dims.outer : axis < group.last ? dims.reduce : dims.inner;
    part *= shape[axis];
  }
  return dims;
}

Shape reduced(const Shape& shape, const AxisGroup& group) {
  Shape result;
  for (int axis = 0; axis < shape.rank(); ++axis)
    result.push_back(axis >= group.first && axis < group.last ? 1 : shape[axis]);
  return result;
}

std::vector<Type> infer_floating_reduce(std::span<const Type> in, const Attrs& attrs) {
  if (!is_floating(in[0].dtype)) fail("needs a floating type");
  return {{in[0].dtype, reduced(in[0].shape, attrs.as<AxisGroup>())}};
}

std::vector<Type> infer_argmax(std::span<const Type> in, const Attrs& attrs) {
  if (!is_floating(in[0].dtype)) fail("needs a floating type");
  const auto group = attrs.as<AxisGroup>();
  for (int64_t axis = group.first; axis < group.last; ++axis)
    if (in[0].shape[static_cast<int>(axis)] == 0) fail("an empty axis has no maximum");
  return {{DType::i32, reduced(in[0].shape, group)}};
}

void vjp_sum(Vjp& v) {
  v.in(0, [&] { return broadcast_to(v.g(), v.x(0).shape()); });
}

void vjp_max(Vjp& v) {
  v.in(0, [&] {
    const Tensor x = v.x(0);
    const Tensor hit = equal(x, broadcast_to(v.y(), x.shape()));
    const Tensor ties = sum_to(hit, v.y().shape());
    return hit * broadcast_to(v.g() / stop_gradient(ties), x.shape());
  });
}

void sum_fast(const Call& call) {
  dispatch_floating(call.node.in[0].dtype, [&]<class T>() {
    kernels::sum_cpu<T>(dims_of(call.node), call.in<T>(0), call.out<T>(0), call.workspace);
  });
}
void sum_reference(const Call& call) {
  dispatch_floating(call.node.in[0].dtype,
                    [&]<class T>() { kernels::sum_reference<T>(dims_of(call.node), call.in<T>(0), call.out<T>(0)); });
}
void max_reference(const Call& call) {
  dispatch_floating(call.node.in[0].dtype,
                    [&]<class T>() { kernels::max_reference<T>(dims_of(call.node), call.in<T>(0), call.out<T>(0)); });
}
void argmax_fast(const Call& call) {
  const kernels::ReduceDims dims = dims_of(call.node);
  dispatch_floating(call.node.in[0].dtype, [&]<class T>() {
    kernels::cpu::argmax<T>(dims.outer, dims.reduce, dims.inner, call.in<T>(0), call.out<int32_t>(0));
  });
}
void argmax_reference(const Call& call) {
  dispatch_floating(call.node.in[0].dtype, [&]<class T>() {
    kernels::argmax_reference<T>(dims_of(call.node), call.in<T>(0), call.out<int32_t>(0));
  });
}

size_t sum_workspace(const NodeView& node, const void*) { return kernels::sum_cpu_workspace(dims_of(node)); }
double input_flops(const NodeView& node) { return static_cast<double>(node.in[0].shape.numel()); }

#if defined(RANVIER_HAS_CUDA)
void sum_cuda(const Call& call) {
  dispatch_cuda_floating(call.node.in[0].dtype, [&]<class T>() {
    kernels::sum_cuda<T>(dims_of(call.node), call.in<T>(0), call.out<T>(0), call.workspace, call.stream);
  });
}
void max_cuda(const Call& call) {
  dispatch_cuda_floating(call.node.in[0].dtype, [&]<class T>() {
    kernels::max_cuda<T>(dims_of(call.node), call.in<T>(0), call.out<T>(0), call.workspace, call.stream);
  });
}
void argmax_cuda(const Call& call) {
  dispatch_cuda_floating(call.node.in[0].dtype, [&]<class T>() {
    kernels::argmax_cuda<T>(dims_of(call.node), call.in<T>(0), call.out<int32_t>(0), call.stream);
  });
}
size_t cuda_workspace(const NodeView& node, const void*) {
  return kernels::reduce_cuda_workspace(dims_of(node), size_of(node.in[0].dtype));
}
#endif

constexpr Variant sum_variants[] = {
    {.name = "cpu", .run = sum_fast, .supports = operand_on_cpu, .workspace = sum_workspace},
    {.name = "reference", .run = sum_reference, .supports = operand_on_cpu},
    RANVIER_CUDA_VARIANTS(
        {.name = "handwritten", .backend = Backend::cuda, .run = sum_cuda, .workspace = cuda_workspace})};
constexpr Variant max_variants[] = {
    {.name = "reference", .run = max_reference, .supports = operand_on_cpu},
    RANVIER_CUDA_VARIANTS(
        {.name = "handwritten", .backend = Backend::cuda, .run = max_cuda, .workspace = cuda_workspace})};
constexpr Variant argmax_variants[] = {
    {.name = "cpu", .run = argmax_fast, .supports = operand_on_cpu},
    {.name = "reference", .run = argmax_reference, .supports = operand_on_cpu},
    RANVIER_CUDA_VARIANTS({.name = "handwritten", .backend = Backend::cuda, .run = argmax_cuda})};

constexpr OpDef sum_op{
    .name = "sum", .infer = infer_floating_reduce, .vjp = vjp_sum, .variants = sum_variants, .flops = input_flops};
constexpr OpDef max_op{.name = "max",
                       .infer = infer_floating_reduce,
                       .vjp = vjp_max,
                       .variants = max_variants,
                       .smoothness = Smoothness::piecewise,
                       .flops = input_flops};
constexpr OpDef argmax_op{.name = "argmax",
                          .infer = infer_argmax,
                          .variants = argmax_variants,
                          .smoothness = Smoothness::none,
                          .flops = input_flops};

std::vector<Type> infer_broadcast(std::span<const Type> in, const Attrs& attrs) {
  const Shape& from = in[0].shape;
  const Shape& to = attrs.as<Shape>();
  bool fits = from.rank() <= to.rank();
  for (int axis = 1; fits && axis <= from.rank(); ++axis) fits = from[-axis] == to[-axis] || from[-axis] == 1;
  if (!fits) fail("{} does not broadcast to {}", to_string(from), to_string(to));
  return {{in[0].dtype, to}};
}

kernels::BroadcastDims broadcast_dims(const Call& call) {
  const Shape& from = call.node.in[0].shape;
  const Shape& to = call.node.out[0].shape;
  kernels::BroadcastDims dims{};
  dims.rank = to.rank();
  dims.bytes = static_cast<int64_t>(size_of(call.node.in[0].dtype));
  int64_t stride = 1;
  for (int axis = 1; axis <= to.rank(); ++axis) {
    dims.extent[to.rank() - axis] = to[-axis];
    if (axis > from.rank()) continue;
    dims.stride[to.rank() - axis] = from[-axis] == 1 ? 0 : stride;
    stride *= from[-axis];
  }
  return dims;
}

void run_broadcast(const Call& call) { kernels::broadcast_cpu(broadcast_dims(call), call.inputs[0], call.outputs[0]); }

#if defined(RANVIER_HAS_CUDA)
void run_broadcast_cuda(const Call& call) {
  kernels::broadcast_cuda(broadcast_dims(call), call.inputs[0], call.outputs[0], call.stream);
}
#endif

bool broadcastable_bytes(const NodeView& node) { return size_of(node.in[0].dtype) != 2; }

void vjp_broadcast(Vjp& v) {
  v.in(0, [&] { return sum_to(v.g(), v.x(0).shape()); });
}

constexpr Variant broadcast_variants[] = {
    {.name = "cpu", .run = run_broadcast, .supports = broadcastable_bytes},
    RANVIER_CUDA_VARIANTS({.name = "handwritten", .backend = Backend::cuda, .run = run_broadcast_cuda})};

/// Sorted, positive, unique axes; all of them where none are named.
std::vector<int> normalised(const Tensor& x, std::vector<int> axes, const char* op, const Where& at) {
  const int rank = x.shape().rank();
  if (axes.empty())
    for (int axis = 0; axis < rank; ++axis) axes.push_back(axis);
  for (int& axis : axes) {
    if (axis < -rank || axis >= rank) fail_at(at, "{}: no axis {} in {}", op, axis, to_string(x.type()));
    if (axis < 0) axis += rank;
  }
  std::sort(axes.begin(), axes.end());
  if (std::adjacent_find(axes.begin(), axes.end()) != axes.end()) fail_at(at, "{}: an axis is named twice", op);
  return axes;
}

/// Applies `op` to each run of neighbouring axes, last first, keeping extents of 1, then drops them unless `keep`.
Tensor reduce(const OpDef& op, Tensor x, std::vector<int> axes, bool keep, const Where& at) {
  axes = normalised(x, std::move(axes), op.name, at);
  const Shape original = x.shape();
  for (size_t end = axes.size(); end > 0;) {
    size_t begin = end - 1;
    while (begin > 0 && axes[begin - 1] == axes[begin] - 1) --begin;
    x = x.graph->emit(op, Attrs::of(AxisGroup{axes[begin], axes[end - 1] + 1}), std::span(&x, 1), at);
    end = begin;
  }
  if (keep) return x;
  Shape shape;
  for (int axis = 0; axis < original.rank(); ++axis)
    if (!std::binary_search(axes.begin(), axes.end(), axis)) shape.push_back(original[axis]);
  return reshape(x, shape, at);
}

int64_t count_of(const Tensor& x, const std::vector<int>& axes) {
  int64_t count = 1;
  for (int axis : axes) count *= x.shape()[axis];
  return count;
}

/// Whether sums of elements need a wider type than x's: one of f16 would overflow where a mean does not.
bool sums_in_f32(const Tensor& x) { return x.dtype() == DType::f16 || x.dtype() == DType::bf16; }

}  // namespace

extern const OpDef broadcast_op;
const OpDef broadcast_op{.name = "broadcast_to",
                         .infer = infer_broadcast,
                         .vjp = vjp_broadcast,
                         .variants = broadcast_variants,
                         .flops = moves_only};

Tensor broadcast_to(Tensor x, const Shape& shape, Where where) {
  if (x.shape() == shape) return x;
  return x.graph->emit(broadcast_op, Attrs::of(shape), std::span(&x, 1), where);
}

Tensor sum_to(Tensor x, const Shape& shape, Where where) {
  if (x.shape() == shape) return x;
  const int extra = x.shape().rank() - shape.rank();
  if (extra < 0) fail_at(where, "sum_to: {} has fewer axes than {}", to_string(x.type()), to_string(shape));
  std::vector<int> axes;
  for (int axis = 0; axis < x.shape().rank(); ++axis) {
    const int64_t target = axis < extra ? 1 : shape[axis - extra];
    if (target == x.shape()[axis] && axis >= extra) continue;
    if (target != 1) fail_at(where, "sum_to: {} does not sum to {}", to_string(x.type()), to_string(shape));
    axes.push_back(axis);
  }
  if (axes.empty()) return reshape(x, shape, where);
  return reshape(reduce(sum_op, x, axes, true, where), shape, where);
}

Tensor sum(Tensor x, std::vector<int> axes, bool keep, Where where) {
  return x.shape().rank() == 0 ? x : reduce(sum_op, x, std::move(axes), keep, where);
}

Tensor mean(Tensor x, std::vector<int> axes, bool keep, Where where) {
  if (x.shape().rank() == 0) return x;
  axes = normalised(x, std::move(axes), "mean", where);
  const int64_t count = count_of(x, axes);
  if (count == 0) fail_at(where, "mean: {} has no elements along the axes", to_string(x.type()));
  if (sums_in_f32(x)) return cast(mean(cast(x, DType::f32, where), axes, keep, where), x.dtype(), where);
  return mul(sum(x, axes, keep, where), full(*x.graph, {x.dtype(), {}}, 1.0 / static_cast<double>(count), where),
             where);
}

Tensor max(Tensor x, std::vector<int> axes, bool keep, Where where) {
  return x.shape().rank() == 0 ? x : reduce(max_op, x, std::move(axes), keep, where);
}

Tensor variance(Tensor x, std::vector<int> axes, bool keep, int64_t correction, Where where) {
  axes = normalised(x, std::move(axes), "variance", where);
  const int64_t count = count_of(x, axes);
  if (count <= correction)
    fail_at(where, "variance: {} elements along the axes, {} needed at least", count, correction + 1);
  if (sums_in_f32(x))
    return cast(variance(cast(x, DType::f32, where), axes, keep, correction, where), x.dtype(), where);
  const Tensor deviation = sub(x, mean(x, axes, true, where), where);
  const Tensor total = sum(square(deviation, where), axes, keep, where);
  return mul(total, full(*x.graph, {x.dtype(), {}}, 1.0 / static_cast<double>(count - correction), where), where);
}

Tensor argmax(Tensor x, int axis, Where where) {
  const std::vector<int> axes = normalised(x, {axis}, "argmax", where);
  return reduce(argmax_op, x, axes, false, where);
}

std::vector<const OpDef*> catalogue::reduce() { return {&sum_op, &max_op, &argmax_op, &broadcast_op}; }

}  // namespace ranvier
