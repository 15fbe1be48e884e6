// Ops that pick elements by an index: {gather, scatter_add} are each other's adjoints, one_hot has none. An index out
// of range is an Error: at once on the CPU, and on a device when the host next waits.
#include "kernels/index/index.h"

#include "engine/catalogue.h"
#include "engine/device_faults.h"
#include "engine/op.h"
#include "engine/ops.h"
#include "engine/ops/dispatch.h"

namespace ranvier {
namespace {

// ---- gather and scatter_add ----

struct GatherAttrs {
  int64_t axis = 0;
  int64_t extent = 0;  // of scatter_add's result along the axis; 0 for gather
};

kernels::GatherDims gather_dims(const Shape& table, const Shape& indices, int64_t axis) {
  const auto [outer, inner] = around(table, axis);
  return {outer, table[static_cast<int>(axis)], inner, indices.numel()};
}

void check_indices(const Type& indices) {
  if (!is_index(indices.dtype)) fail("indices must be i32 or i64, these are {}", to_string(indices));
}

std::vector<Type> infer_gather(std::span<const Type> in, const Attrs& attrs) {
  check_indices(in[1]);
  const int64_t axis = attrs.as<GatherAttrs>().axis;
  Type result{in[0].dtype, {}};
  for (int k = 0; k < in[0].shape.rank(); ++k) {
    if (k != axis) result.shape.push_back(in[0].shape[k]);
    if (k == axis)
      for (int64_t extent : in[1].shape) result.shape.push_back(extent);
  }
  return {result};
}

std::vector<Type> infer_scatter_add(std::span<const Type> in, const Attrs& attrs) {
  check_indices(in[1]);
  if (in[0].dtype == DType::u8) fail("u8 does not add up");
  const auto [axis, extent] = attrs.as<GatherAttrs>();
  const Shape &updates = in[0].shape, &indices = in[1].shape;
  bool fits = axis + indices.rank() <= updates.rank();
  for (int k = 0; fits && k < indices.rank(); ++k) fits = updates[static_cast<int>(axis) + k] == indices[k];
  if (!fits) fail("updates must have the shape of the indices from axis {} on", axis);
  Type result{in[0].dtype, {}};
  for (int k = 0; k < axis; ++k) result.shape.push_back(updates[k]);
  result.shape.push_back(extent);
  for (int k = static_cast<int>(axis) + indices.rank(); k < updates.rank(); ++k) result.shape.push_back(updates[k]);
  return {result};
}

/// Throws for the first index outside 0 ... extent - 1, which `kernel` found at `position` (-1: none).
void report(const Call& call, size_t operand, int64_t position, int64_t extent) {
  if (position < 0) return;
  const int64_t value = dispatch_index(call.node.in[operand].dtype,
                                       [&]<class I>() { return static_cast<int64_t>(call.in<I>(operand)[position]); });
  fail_at(call.node.where, "{}: index {} at position {} of {} is outside 0 ... {}{}{}", call.node.op->name, value,
          position, to_string(call.node.in[operand]), extent - 1, call.node.scope.empty() ? "" : " in scope ",
          call.node.scope);
}

template <bool fast>
void run_gather(const Call& call) {
  const auto dims = gather_dims(call.node.in[0].shape, call.node.in[1].shape, call.node.attrs<GatherAttrs>().axis);
  dispatch_element(call.node.in[0].dtype, [&]<class T>() {
    dispatch_index(call.node.in[1].dtype, [&]<class I>() {
      const auto kernel = fast ? kernels::cpu::gather<T, I> : kernels::reference::gather<T, I>;
      report(call, 1, kernel(dims, call.in<T>(0), call.in<I>(1), call.out<T>(0)), dims.axis);
    });
  });
}

template <bool fast>
void run_scatter_add(const Call& call) {
  const auto dims = gather_dims(call.node.out[0].shape, call.node.in[1].shape, call.node.attrs<GatherAttrs>().axis);
  dispatch_number(call.node.in[0].dtype, [&]<class T>() {
    dispatch_index(call.node.in[1].dtype, [&]<class I>() {
      const auto kernel = fast ? kernels::cpu::scatter_add<T, I> : kernels::reference::scatter_add<T, I>;
      report(call, 1, kernel(dims, call.in<T>(0), call.in<I>(1), call.out<T>(0)), dims.axis);
    });
  });
}

void vjp_gather(Vjp& v) {
  v.in(0, [&] {
    const auto axis = static_cast<int>(v.attrs<GatherAttrs>().axis);
    return scatter_add(v.g(), v.x(1), axis, v.x(0).shape()[axis]);
  });
}
void vjp_scatter_add(Vjp& v) {
  v.in(0, [&] { return gather(v.g(), v.x(1), static_cast<int>(v.attrs<GatherAttrs>().axis)); });
}

// ---- one_hot ----

struct OneHot {
  int64_t classes = 0, dtype = 0;
};

std::vector<Type> infer_one_hot(std::span<const Type> in, const Attrs& attrs) {
  const auto [classes, dtype] = attrs.as<OneHot>();
  check_indices(in[0]);
  if (classes < 1) fail("{} classes", classes);
  Type result{static_cast<DType>(dtype), in[0].shape};
  result.shape.push_back(classes);
  return {result};
}

template <bool fast>
void run_one_hot(const Call& call) {
  const int64_t n = call.node.in[0].shape.numel(), classes = call.node.attrs<OneHot>().classes;
  dispatch_element(call.node.out[0].dtype, [&]<class T>() {
    dispatch_index(call.node.in[0].dtype, [&]<class I>() {
      const auto kernel = fast ? kernels::cpu::one_hot<T, I> : kernels::reference::one_hot<T, I>;
      report(call, 0, kernel(n, classes, call.in<I>(0), call.out<T>(0)), classes);
    });
  });
}

#if defined(RANVIER_HAS_CUDA)
int64_t gathered_extent(const NodeView& node) {
  return node.in[0].shape[static_cast<int>(node.attrs<GatherAttrs>().axis)];
}
int64_t scattered_extent(const NodeView& node) { return node.attrs<GatherAttrs>().extent; }
int64_t class_count(const NodeView& node) { return node.attrs<OneHot>().classes; }

template <size_t operand, int64_t (*extent)(const NodeView&)>
std::shared_ptr<void> prepare_fault_site(const NodeView& node, DeviceContext& context) {
  const auto tell = [where = node.where, op = node.op->name, scope = std::string(node.scope), type = node.in[operand],
                     limit = extent(node)](int64_t position) {
    fail_at(where, "{}: the index at position {} of {} is outside 0 ... {}{}{}", op, position, to_string(type),
            limit - 1, scope.empty() ? "" : " in scope ", scope);
  };
  return std::make_shared<FaultSite>(context.device, tell);
}

/// Has the first bad index, if there is one, told when the host next waits; what is computed from it is NaN or 0.
template <size_t operand, int64_t (*extent)(const NodeView&)>
void find_bad_index(const Call& call) {
  dispatch_index(call.node.in[operand].dtype, [&]<class I>() {
    kernels::cuda::first_outside(call.node.in[operand].shape.numel(), extent(call.node), call.in<I>(operand),
                                 static_cast<FaultSite*>(call.prepared)->word(), call.stream);
  });
}

void run_gather_cuda(const Call& call) {
  find_bad_index<1, gathered_extent>(call);
  const auto dims = gather_dims(call.node.in[0].shape, call.node.in[1].shape, call.node.attrs<GatherAttrs>().axis);
  dispatch_cuda_element(call.node.in[0].dtype, [&]<class T>() {
    dispatch_index(call.node.in[1].dtype, [&]<class I>() {
      kernels::cuda::gather(dims, call.in<T>(0), call.in<I>(1), call.out<T>(0), call.stream);
    });
  });
}

void run_scatter_add_cuda(const Call& call) {
  find_bad_index<1, scattered_extent>(call);
  const auto dims = gather_dims(call.node.out[0].shape, call.node.in[1].shape, call.node.attrs<GatherAttrs>().axis);
  dispatch_cuda_number(call.node.in[0].dtype, [&]<class T>() {
    dispatch_index(call.node.in[1].dtype, [&]<class I>() {
      kernels::cuda::scatter_add(dims, call.in<T>(0), call.in<I>(1), call.out<T>(0), call.stream);
    });
  });
}

void run_one_hot_cuda(const Call& call) {
  find_bad_index<0, class_count>(call);
  const int64_t n = call.node.in[0].shape.numel(), classes = call.node.attrs<OneHot>().classes;
  dispatch_cuda_element(call.node.out[0].dtype, [&]<class T>() {
    dispatch_index(call.node.in[0].dtype,
                   [&]<class I>() { kernels::cuda::one_hot(n, classes, call.in<I>(0), call.out<T>(0), call.stream); });
  });
}
#endif

bool result_on_cpu(const NodeView& node) { return on_cpu(node.out[0].dtype); }

#define RANVIER_INDEX_VARIANTS(op, cpu_run, reference_run, cuda_run, on_cpu, ...) \
  constexpr Variant op##_variants[] = {                                           \
      {.name = "cpu", .run = cpu_run, .supports = on_cpu},                        \
      {.name = "reference", .run = reference_run, .supports = on_cpu},            \
      RANVIER_CUDA_VARIANTS({.name = "handwritten", .backend = Backend::cuda, .run = cuda_run, __VA_ARGS__})};
RANVIER_INDEX_VARIANTS(gather, run_gather<true>, run_gather<false>, run_gather_cuda, operand_on_cpu,
                       .prepare = prepare_fault_site<1, gathered_extent>)
RANVIER_INDEX_VARIANTS(scatter_add, run_scatter_add<true>, run_scatter_add<false>, run_scatter_add_cuda, operand_on_cpu,
                       .prepare = prepare_fault_site<1, scattered_extent>)
RANVIER_INDEX_VARIANTS(one_hot, run_one_hot<true>, run_one_hot<false>, run_one_hot_cuda, result_on_cpu,
                       .prepare = prepare_fault_site<0, class_count>)
#undef RANVIER_INDEX_VARIANTS

double adds(const NodeView& node) { return static_cast<double>(node.in[0].shape.numel()); }

constexpr OpDef gather_op{
    .name = "gather", .infer = infer_gather, .vjp = vjp_gather, .variants = gather_variants, .flops = moves_only};
constexpr OpDef scatter_add_op{.name = "scatter_add",
                               .infer = infer_scatter_add,
                               .vjp = vjp_scatter_add,
                               .variants = scatter_add_variants,
                               .flops = adds};
constexpr OpDef one_hot_op{.name = "one_hot",
                           .infer = infer_one_hot,
                           .variants = one_hot_variants,
                           .smoothness = Smoothness::none,
                           .flops = moves_only};

}  // namespace

Tensor gather(Tensor x, Tensor indices, int axis, Where where) {
  axis = axis_of(axis, x.shape().rank(), "gather", x, where);
  const Tensor in[] = {x, indices};
  return x.graph->emit(gather_op, Attrs::of(GatherAttrs{axis, 0}), in, where);
}

Tensor scatter_add(Tensor updates, Tensor indices, int axis, int64_t extent, Where where) {
  // Counted in the result, which has one axis where the updates have those of the indices.
  axis = axis_of(axis, updates.shape().rank() - indices.shape().rank() + 1, "scatter_add", updates, where);
  if (extent < 0) fail_at(where, "scatter_add: extent {} is negative", extent);
  const Tensor in[] = {updates, indices};
  return updates.graph->emit(scatter_add_op, Attrs::of(GatherAttrs{axis, extent}), in, where);
}

Tensor one_hot(Tensor labels, int64_t classes, DType dtype, Where where) {
  const OneHot attrs{classes, static_cast<int64_t>(dtype)};
  return labels.graph->emit(one_hot_op, Attrs::of(attrs), std::span(&labels, 1), where);
}

std::vector<const OpDef*> catalogue::index() { return {&gather_op, &scatter_add_op, &one_hot_op}; }

}  // namespace ranvier
