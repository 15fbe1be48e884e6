// Ops that move elements along whole axes: {slice, pad} and {pad_reflect, its adjoint} are each other's adjoints,
// transpose is its own family, and concat comes apart into slices.
#include <algorithm>
#include <array>
#include <numeric>

#include "engine/catalogue.h"
#include "engine/op.h"
#include "engine/ops.h"
#include "engine/ops/dispatch.h"
#include "kernels/index/index.h"

namespace ranvier {
namespace {

using Extents = std::array<int64_t, Shape::max_rank>;  // unused places stay 0, so that equal attributes are equal bytes

/// Calls a kernel of the family, on the call's stream where it runs on a device.
template <auto Kernel, class... Args>
void run_kernel(const Call& call, Args... args) {
  if constexpr (std::is_invocable_v<decltype(Kernel), Args..., Stream, int64_t>)
    Kernel(args..., call.stream, kernels::most_narrow);
  else if constexpr (std::is_invocable_v<decltype(Kernel), Args..., Stream>)
    Kernel(args..., call.stream);
  else
    Kernel(args...);
}

// ---- transpose ----

struct Order {
  Extents axis{};  // axis k of the result is axis[k] of the operand
};

kernels::TransposeDims transpose_dims(const Type& x, const Order& order) {
  kernels::TransposeDims dims{dims_of(x.shape), {}};
  for (int k = 0; k < x.shape.rank(); ++k) dims.order[k] = static_cast<int>(order.axis[k]);
  return dims;
}

std::vector<Type> infer_transpose(std::span<const Type> in, const Attrs& attrs) {
  const auto& order = attrs.as<Order>();
  checked([&] { validate(transpose_dims(in[0], order)); });
  Type result = in[0];
  for (int k = 0; k < result.shape.rank(); ++k) result.shape[k] = in[0].shape[static_cast<int>(order.axis[k])];
  return {result};
}

template <auto Kernel>
void run_transpose(const Call& call) {
  const Type& x = call.node.in[0];
  run_kernel<Kernel>(call, transpose_dims(x, call.node.attrs<Order>()), size_of(x.dtype), call.inputs[0],
                     call.outputs[0]);
}

void vjp_transpose(Vjp& v) {
  v.in(0, [&] {
    const auto order = v.attrs<Order>();
    std::vector<int> inverse(static_cast<size_t>(v.x(0).shape().rank()));
    for (size_t k = 0; k < inverse.size(); ++k) inverse[static_cast<size_t>(order.axis[k])] = static_cast<int>(k);
    return transpose(v.g(), inverse);
  });
}

// ---- slice and pad: y[i] = x[begin + i step], and x = 0 but for x[begin + i step] = y[i] ----

struct Window {
  Extents begin{}, step{};
  Shape result;  // of the slice, or of the padded tensor
};

kernels::SliceDims slice_dims(const Shape& large, const Shape& small, const Window& window) {
  kernels::SliceDims dims{dims_of(large), dims_of(small), {}, {}};
  std::copy(window.begin.begin(), window.begin.end(), dims.begin);
  std::copy(window.step.begin(), window.step.end(), dims.step);
  return dims;
}

std::vector<Type> infer_slice(std::span<const Type> in, const Attrs& attrs) {
  const auto& window = attrs.as<Window>();
  checked([&] { validate(slice_dims(in[0].shape, window.result, window)); });
  return {{in[0].dtype, window.result}};
}

std::vector<Type> infer_pad(std::span<const Type> in, const Attrs& attrs) {
  const auto& window = attrs.as<Window>();
  checked([&] { validate(slice_dims(window.result, in[0].shape, window)); });
  return {{in[0].dtype, window.result}};
}

template <auto Kernel>
void run_slice(const Call& call) {
  const Type &x = call.node.in[0], &y = call.node.out[0];
  run_kernel<Kernel>(call, slice_dims(x.shape, y.shape, call.node.attrs<Window>()), size_of(x.dtype), call.inputs[0],
                     call.outputs[0]);
}

template <auto Kernel>
void run_pad(const Call& call) {
  const Type &x = call.node.in[0], &y = call.node.out[0];
  run_kernel<Kernel>(call, slice_dims(y.shape, x.shape, call.node.attrs<Window>()), size_of(x.dtype), call.inputs[0],
                     call.outputs[0]);
}

extern const OpDef slice_op, pad_op;

/// The adjoint of a slice or pad: the other one, at the same places.
Tensor other_window(Vjp& v, const OpDef& op) {
  Window window = v.attrs<Window>();
  window.result = v.x(0).shape();
  const Tensor g = v.g();
  return v.graph().emit(op, Attrs::of(window), std::span(&g, 1), v.node().where);
}

void vjp_slice(Vjp& v) {
  v.in(0, [&] { return other_window(v, pad_op); });
}
void vjp_pad(Vjp& v) {
  v.in(0, [&] { return other_window(v, slice_op); });
}

// ---- reflect padding ----

struct Reflection {
  Extents before{};
  Shape result;
};

kernels::PadDims reflect_dims(const Shape& small, const Shape& large, const Reflection& reflection) {
  kernels::PadDims dims{dims_of(small), dims_of(large), {}};
  std::copy(reflection.before.begin(), reflection.before.end(), dims.before);
  return dims;
}

std::vector<Type> infer_reflect(std::span<const Type> in, const Attrs& attrs) {
  const auto& reflection = attrs.as<Reflection>();
  checked([&] { validate_reflect(reflect_dims(in[0].shape, reflection.result, reflection)); });
  return {{in[0].dtype, reflection.result}};
}

std::vector<Type> infer_reflect_adjoint(std::span<const Type> in, const Attrs& attrs) {
  const auto& reflection = attrs.as<Reflection>();
  if (in[0].dtype == DType::u8) fail("u8 does not add up");
  checked([&] { validate_reflect(reflect_dims(reflection.result, in[0].shape, reflection)); });
  return {{in[0].dtype, reflection.result}};
}

template <auto Kernel>
void run_reflect(const Call& call) {
  const Type &x = call.node.in[0], &y = call.node.out[0];
  run_kernel<Kernel>(call, reflect_dims(x.shape, y.shape, call.node.attrs<Reflection>()), size_of(x.dtype),
                     call.inputs[0], call.outputs[0]);
}

template <bool fast>
void run_reflect_adjoint(const Call& call) {
  const Type &dy = call.node.in[0], &dx = call.node.out[0];
  const auto dims = reflect_dims(dx.shape, dy.shape, call.node.attrs<Reflection>());
  dispatch_number(dy.dtype, [&]<class T>() {
    const auto kernel = fast ? kernels::cpu::pad_reflect_adjoint<T> : kernels::reference::pad_reflect_adjoint<T>;
    kernel(dims, call.in<T>(0), call.out<T>(0));
  });
}

extern const OpDef reflect_op, reflect_adjoint_op;

Tensor other_reflect(Vjp& v, const OpDef& op) {
  Reflection reflection = v.attrs<Reflection>();
  reflection.result = v.x(0).shape();
  const Tensor g = v.g();
  return v.graph().emit(op, Attrs::of(reflection), std::span(&g, 1), v.node().where);
}

void vjp_reflect(Vjp& v) {
  v.in(0, [&] { return other_reflect(v, reflect_adjoint_op); });
}
void vjp_reflect_adjoint(Vjp& v) {
  v.in(0, [&] { return other_reflect(v, reflect_op); });
}

// ---- concat ----

struct Axis {
  int64_t axis = 0;
};

std::vector<Type> infer_concat(std::span<const Type> in, const Attrs& attrs) {
  const auto axis = static_cast<int>(attrs.as<Axis>().axis);
  Type result = in[0];
  result.shape[axis] = 0;
  for (size_t i = 0; i < in.size(); ++i) {
    Type rest = in[i];
    if (rest.shape.rank() == result.shape.rank()) rest.shape[axis] = result.shape[axis];
    if (rest != result) fail("part {} is {}: it must match part 0 but for axis {}", i, to_string(in[i]), axis);
    result.shape[axis] += in[i].shape[axis];
  }
  return {result};
}

template <auto Kernel>
void run_concat(const Call& call) {
  const auto axis = static_cast<int>(call.node.attrs<Axis>().axis);
  const auto [outer, inner] = around(call.node.out[0].shape, axis);
  std::vector<int64_t> extents;
  for (const Type& part : call.node.in) extents.push_back(part.shape[axis]);
  const kernels::ConcatDims dims{outer, inner, static_cast<int>(extents.size()), extents.data()};
  run_kernel<Kernel>(call, dims, size_of(call.node.out[0].dtype), call.inputs.data(), call.outputs[0]);
}

void vjp_concat(Vjp& v) {
  const auto axis = static_cast<int>(v.attrs<Axis>().axis);
  int64_t begin = 0;
  for (size_t i = 0; i < v.inputs(); ++i) {
    const int64_t extent = v.x(i).shape()[axis];
    v.in(i, [&] { return slice_axis(v.g(), axis, begin, extent); });
    begin += extent;
  }
}

#if defined(RANVIER_HAS_CUDA)
void run_reflect_adjoint_cuda(const Call& call) {
  const Type &dy = call.node.in[0], &dx = call.node.out[0];
  const auto dims = reflect_dims(dx.shape, dy.shape, call.node.attrs<Reflection>());
  dispatch_cuda_number(dy.dtype, [&]<class T>() {
    kernels::cuda::pad_reflect_adjoint(dims, call.in<T>(0), call.out<T>(0), call.stream);
  });
}
#endif

#define RANVIER_MOVE_VARIANTS(op, cpu_run, reference_run, cuda_run)            \
  constexpr Variant op##_variants[] = {                                        \
      {.name = "cpu", .run = cpu_run, .supports = operand_on_cpu},             \
      {.name = "reference", .run = reference_run, .supports = operand_on_cpu}, \
      RANVIER_CUDA_VARIANTS({.name = "handwritten", .backend = Backend::cuda, .run = cuda_run})};
#define RANVIER_KERNEL_VARIANTS(op, run, kernel) \
  RANVIER_MOVE_VARIANTS(op, run<kernels::cpu::kernel>, run<kernels::reference::kernel>, run<kernels::cuda::kernel>)
RANVIER_KERNEL_VARIANTS(transpose, run_transpose, transpose)
RANVIER_KERNEL_VARIANTS(slice, run_slice, slice)
RANVIER_KERNEL_VARIANTS(concat, run_concat, concat)
RANVIER_KERNEL_VARIANTS(pad, run_pad, unslice)
RANVIER_KERNEL_VARIANTS(reflect, run_reflect, pad_reflect)
RANVIER_MOVE_VARIANTS(reflect_adjoint, run_reflect_adjoint<true>, run_reflect_adjoint<false>, run_reflect_adjoint_cuda)
#undef RANVIER_KERNEL_VARIANTS
#undef RANVIER_MOVE_VARIANTS

double adds(const NodeView& node) { return static_cast<double>(node.in[0].shape.numel()); }

constexpr OpDef transpose_op{.name = "transpose",
                             .infer = infer_transpose,
                             .vjp = vjp_transpose,
                             .variants = transpose_variants,
                             .flops = moves_only};
const OpDef slice_op{
    .name = "slice", .infer = infer_slice, .vjp = vjp_slice, .variants = slice_variants, .flops = moves_only};
const OpDef pad_op{.name = "pad", .infer = infer_pad, .vjp = vjp_pad, .variants = pad_variants, .flops = moves_only};
const OpDef reflect_op{.name = "pad_reflect",
                       .infer = infer_reflect,
                       .vjp = vjp_reflect,
                       .variants = reflect_variants,
                       .flops = moves_only};
const OpDef reflect_adjoint_op{.name = "pad_reflect_adjoint",
                               .infer = infer_reflect_adjoint,
                               .vjp = vjp_reflect_adjoint,
                               .variants = reflect_adjoint_variants,
                               .flops = adds};
constexpr OpDef concat_op{
    .name = "concat", .infer = infer_concat, .vjp = vjp_concat, .variants = concat_variants, .flops = moves_only};

/// Padding amounts of every axis, checked, and the shape they lead to.
Shape padded(const Tensor& x, const std::vector<int64_t>& before, const std::vector<int64_t>& after, const char* op,
             const Where& where) {
  Shape shape = x.shape();
  const auto rank = static_cast<size_t>(shape.rank());
  if (before.size() != rank || after.size() != rank)
    fail_at(where, "{}: {} has {} axes, amounts for {} and {} are given", op, to_string(x.type()), rank, before.size(),
            after.size());
  for (size_t k = 0; k < rank; ++k) {
    if (before[k] < 0 || after[k] < 0)
      fail_at(where, "{}: amounts {} and {} of axis {} must not be negative", op, before[k], after[k], k);
    shape[static_cast<int>(k)] += before[k] + after[k];
  }
  return shape;
}

}  // namespace

Tensor transpose(Tensor x, const std::vector<int>& order, Where where) {
  const int rank = x.shape().rank();
  if (static_cast<int>(order.size()) != rank)
    fail_at(where, "transpose: {} has {} axes, {} are given", to_string(x.type()), rank, order.size());
  Order attrs;
  bool same = true;
  for (int k = 0; k < rank; ++k) {
    attrs.axis[static_cast<size_t>(k)] = axis_of(order[static_cast<size_t>(k)], rank, "transpose", x, where);
    same &= attrs.axis[static_cast<size_t>(k)] == k;
  }
  if (same) return x;
  return x.graph->emit(transpose_op, Attrs::of(attrs), std::span(&x, 1), where);
}

Tensor transpose(Tensor x, Where where) {
  const int rank = x.shape().rank();
  if (rank < 2) fail_at(where, "transpose: {} has no two axes to swap", to_string(x.type()));
  std::vector<int> order(static_cast<size_t>(rank));
  std::iota(order.begin(), order.end(), 0);
  std::swap(order[order.size() - 1], order[order.size() - 2]);
  return transpose(x, order, where);
}

Tensor slice(Tensor x, const std::vector<int64_t>& begin, const std::vector<int64_t>& size,
             const std::vector<int64_t>& step, Where where) {
  const auto rank = static_cast<size_t>(x.shape().rank());
  if (begin.size() != rank || size.size() != rank || (!step.empty() && step.size() != rank))
    fail_at(where, "slice: {} has {} axes, begin names {}, size {} and step {}", to_string(x.type()), rank,
            begin.size(), size.size(), step.size());
  Window window;
  window.result = x.shape();
  bool whole = true;
  for (size_t k = 0; k < rank; ++k) {
    const int axis = static_cast<int>(k);
    const int64_t extent = x.shape()[axis], stride = step.empty() ? 1 : step[k];
    if (stride == 0) fail_at(where, "slice: the step of axis {} is 0", k);
    window.begin[k] = begin[k] < 0 ? begin[k] + extent : begin[k];
    window.step[k] = stride;
    const int64_t ahead = stride > 0 ? extent - window.begin[k] : window.begin[k] + 1;  // positions up to the edge
    window.result[axis] =
        size[k] == -1 ? std::max<int64_t>(0, (ahead + std::abs(stride) - 1) / std::abs(stride)) : size[k];
    if (window.result[axis] < 0) fail_at(where, "slice: size {} of axis {} is negative", size[k], k);
    whole &= window.begin[k] == 0 && stride == 1 && window.result[axis] == extent;
  }
  if (whole) return x;
  return x.graph->emit(slice_op, Attrs::of(window), std::span(&x, 1), where);
}

Tensor slice_axis(Tensor x, int axis, int64_t begin, int64_t size, int64_t step, Where where) {
  const Shape shape = x.shape();
  axis = axis_of(axis, shape.rank(), "slice_axis", x, where);
  std::vector<int64_t> begins(static_cast<size_t>(shape.rank()), 0), sizes(shape.begin(), shape.end()),
      steps(static_cast<size_t>(shape.rank()), 1);
  begins[static_cast<size_t>(axis)] = begin;
  sizes[static_cast<size_t>(axis)] = size;
  steps[static_cast<size_t>(axis)] = step;
  return slice(x, begins, sizes, steps, where);
}

Tensor pad(Tensor x, const std::vector<int64_t>& before, const std::vector<int64_t>& after, Where where) {
  Window window;
  window.result = padded(x, before, after, "pad", where);
  if (window.result == x.shape()) return x;
  for (size_t k = 0; k < before.size(); ++k) window.begin[k] = before[k], window.step[k] = 1;
  return x.graph->emit(pad_op, Attrs::of(window), std::span(&x, 1), where);
}

Tensor pad_reflect(Tensor x, const std::vector<int64_t>& before, const std::vector<int64_t>& after, Where where) {
  Reflection reflection;
  reflection.result = padded(x, before, after, "pad_reflect", where);
  if (reflection.result == x.shape()) return x;
  std::copy(before.begin(), before.end(), reflection.before.begin());
  return x.graph->emit(reflect_op, Attrs::of(reflection), std::span(&x, 1), where);
}

Tensor concat(const std::vector<Tensor>& parts, int axis, Where where) {
  if (parts.empty()) fail_at(where, "concat: no parts are given");
  for (const Tensor& part : parts)
    if (!part.valid()) fail_at(where, "concat: a part is an empty Tensor");
  axis = axis_of(axis, parts[0].shape().rank(), "concat", parts[0], where);
  if (parts.size() == 1) return parts[0];
  return parts[0].graph->emit(concat_op, Attrs::of(Axis{axis}), parts, where);
}

std::vector<const OpDef*> catalogue::move() {
  return {&transpose_op, &slice_op, &pad_op, &reflect_op, &reflect_adjoint_op, &concat_op};
}

}  // namespace ranvier
