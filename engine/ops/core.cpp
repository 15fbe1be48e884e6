// Leaves of a trace (inputs, constants, state) and the ops that only rename or convert.
#include <algorithm>
#include <cstring>

#include "engine/catalogue.h"
#include "engine/ops.h"
#include "engine/ops/core.h"
#include "engine/ops/dispatch.h"
#include "kernels/elementwise/convert.h"
#include "kernels/elementwise/elementwise.h"

namespace ranvier {
namespace core {
namespace {

std::vector<Type> infer_leaf(std::span<const Type>, const Attrs& attrs) { return {attrs.as<Leaf>().type}; }

std::vector<Type> infer_constant(std::span<const Type>, const Attrs& attrs) {
  Leaf leaf;
  std::memcpy(&leaf, attrs.bytes().data(), sizeof leaf);
  return {leaf.type};
}

std::vector<Type> infer_reshape(std::span<const Type> in, const Attrs& attrs) {
  return {{in[0].dtype, attrs.as<Shape>()}};
}

std::vector<Type> infer_same(std::span<const Type> in, const Attrs&) { return {in[0]}; }
std::vector<Type> infer_none(std::span<const Type>, const Attrs&) { return {}; }
std::vector<Type> infer_cast(std::span<const Type> in, const Attrs& attrs) {
  return {{attrs.as<CastAttrs>().to, in[0].shape}};
}

template <class T>
void fill_as(const Call& call, double value) {
  std::fill_n(call.out<T>(0), call.node.out[0].shape.numel(), static_cast<T>(value));
}

void run_full(const Call& call) {
  const double value = call.node.attrs<Leaf>().value;
  switch (call.node.out[0].dtype) {
    case DType::f32:
      return fill_as<float>(call, value);
    case DType::f64:
      return fill_as<double>(call, value);
    case DType::i32:
      return fill_as<int32_t>(call, value);
    case DType::i64:
      return fill_as<int64_t>(call, value);
    case DType::u8:
      return fill_as<uint8_t>(call, value);
    default:
      fail("full: no {} on the CPU", name_of(call.node.out[0].dtype));
  }
}

template <class From>
void cast_from(const Call& call) {
  const int64_t n = call.node.out[0].shape.numel();
  const auto* x = call.in<From>(0);
  switch (call.node.out[0].dtype) {
    case DType::f32:
      return kernels::cast_cpu(n, x, call.out<float>(0));
    case DType::f64:
      return kernels::cast_cpu(n, x, call.out<double>(0));
    case DType::i32:
      return kernels::cast_cpu(n, x, call.out<int32_t>(0));
    case DType::i64:
      return kernels::cast_cpu(n, x, call.out<int64_t>(0));
    case DType::u8:
      return kernels::cast_cpu(n, x, call.out<uint8_t>(0));
    default:
      break;
  }
}

void run_cast(const Call& call) {
  switch (call.node.in[0].dtype) {
    case DType::f32:
      return cast_from<float>(call);
    case DType::f64:
      return cast_from<double>(call);
    case DType::i32:
      return cast_from<int32_t>(call);
    case DType::i64:
      return cast_from<int64_t>(call);
    case DType::u8:
      return cast_from<uint8_t>(call);
    default:
      break;
  }
}

bool cpu_types(const NodeView& node) {
  const auto half = [](const Type& type) { return type.dtype == DType::bf16 || type.dtype == DType::f16; };
  return std::none_of(node.in.begin(), node.in.end(), half) && std::none_of(node.out.begin(), node.out.end(), half);
}

void run_copy(const Call& call) { std::memcpy(call.outputs[0], call.inputs[0], call.node.in[0].bytes()); }

#if defined(RANVIER_HAS_CUDA)
void run_full_cuda(const Call& call) {
  const Type& type = call.node.out[0];
  uint64_t pattern = 0;
  dispatch_cuda_element(type.dtype, [&]<class T>() {
    const T value = kernels::convert<T>(call.node.attrs<Leaf>().value);
    for (size_t at = 0; at < sizeof pattern; at += sizeof value)
      std::memcpy(reinterpret_cast<char*>(&pattern) + at, &value, sizeof value);
  });
  kernels::fill_cuda(static_cast<int64_t>(type.bytes()), pattern, call.outputs[0], call.stream);
}

void run_cast_cuda(const Call& call) {
  dispatch_cuda_element(call.node.in[0].dtype, [&]<class From>() {
    dispatch_cuda_element(call.node.out[0].dtype, [&]<class To>() {
      kernels::cast_cuda(call.node.out[0].shape.numel(), call.in<From>(0), call.out<To>(0), call.stream);
    });
  });
}

void run_copy_cuda(const Call& call) {
  kernels::copy_cuda(static_cast<int64_t>(call.node.in[0].bytes()), call.inputs[0], call.outputs[0], call.stream);
}
#endif

constexpr Variant full_variants[] = {
    {.name = "reference", .run = run_full, .supports = cpu_types},
    RANVIER_CUDA_VARIANTS({.name = "handwritten", .backend = Backend::cuda, .run = run_full_cuda})};
constexpr Variant cast_variants[] = {
    {.name = "cpu", .run = run_cast, .supports = cpu_types},
    RANVIER_CUDA_VARIANTS({.name = "handwritten", .backend = Backend::cuda, .run = run_cast_cuda})};
constexpr Variant copy_variants[] = {
    {.name = "cpu", .run = run_copy},
    RANVIER_CUDA_VARIANTS({.name = "handwritten", .backend = Backend::cuda, .run = run_copy_cuda})};

void vjp_reshape(Vjp& v) {
  v.in(0, [&] { return reshape(v.g(), v.x(0).shape()); });
}

void vjp_cast(Vjp& v) {
  v.in(0, [&] { return cast(v.g(), v.x(0).dtype()); });
}

// Nothing flows through these, by meaning rather than by error.
void vjp_nothing(Vjp&) {}

}  // namespace

const OpDef input_op{.name = "input", .infer = infer_leaf, .flops = moves_only};
const OpDef read_op{.name = "read", .infer = infer_leaf, .flops = moves_only};
const OpDef constant_op{.name = "constant", .infer = infer_constant, .flops = moves_only};
const OpDef full_op{.name = "full", .infer = infer_leaf, .variants = full_variants, .flops = moves_only};
const OpDef assign_op{.name = "assign", .infer = infer_none, .flops = moves_only, .effect = true};
const OpDef copy_op{.name = "copy", .infer = infer_same, .variants = copy_variants, .flops = moves_only};
const OpDef reshape_op{
    .name = "reshape", .infer = infer_reshape, .vjp = vjp_reshape, .flops = moves_only, .view = true};
const OpDef stop_gradient_op{
    .name = "stop_gradient", .infer = infer_same, .vjp = vjp_nothing, .flops = moves_only, .view = true};
const OpDef cast_op{.name = "cast", .infer = infer_cast, .vjp = vjp_cast, .variants = cast_variants};
const OpDef cast_integer_op{
    .name = "cast", .infer = infer_cast, .variants = cast_variants, .smoothness = Smoothness::none};

}  // namespace core

Tensor input(Graph& graph, std::string_view name, const Type& type, Where where) {
  graph.claim(std::string(name), "input", where);
  core::Leaf leaf{type, 0.0, kernels::philox::stream_hash(name)};
  const Tensor value = graph.emit(core::input_op, Attrs::of(leaf), {}, where);
  graph.set_input_name(value.value.node, name);
  return value;
}

Tensor full(Graph& graph, const Type& type, double value, Where where) {
  return graph.emit(core::full_op, Attrs::of(core::Leaf{type, value, 0}), {}, where);
}

Tensor constant(Graph& graph, const Type& type, std::span<const std::byte> elements, Where where) {
  if (elements.size() != type.bytes())
    fail_at(where, "constant: {} needs {} bytes, {} were given", to_string(type), type.bytes(), elements.size());
  const core::Leaf leaf{type, 0.0, 0};
  std::vector<std::byte> bytes(sizeof leaf + elements.size());
  std::memcpy(bytes.data(), &leaf, sizeof leaf);
  std::copy(elements.begin(), elements.end(), bytes.begin() + sizeof leaf);
  return graph.emit(core::constant_op, Attrs::raw(bytes), {}, where);
}

Tensor read(Graph& graph, std::string_view slab, std::string_view name, const Type& type, Init init, Where where) {
  const uint32_t id = graph.state().declare(slab, name, type, std::move(init), where);
  return graph.emit(core::read_op, Attrs::of(core::Leaf{type, 0.0, id}), {}, where);
}

Tensor read(Graph& graph, std::string_view slab, std::string_view name, Where where) {
  const int64_t id = graph.state().find(slab, name);
  if (id < 0) fail_at(where, "read: there is no state named {}/{}", slab, name);
  const Type type = graph.state().entry(static_cast<uint32_t>(id)).type;
  return graph.emit(core::read_op, Attrs::of(core::Leaf{type, 0.0, static_cast<uint64_t>(id)}), {}, where);
}

void assign(Graph& graph, std::string_view slab, std::string_view name, Tensor value, Where where) {
  const int64_t id = graph.state().find(slab, name);
  if (id < 0) fail_at(where, "assign: there is no state named {}/{}", slab, name);
  const Type& type = graph.state().entry(static_cast<uint32_t>(id)).type;
  if (value.type() != type)
    fail_at(where, "assign: {}/{} is {}, the value is {}", slab, name, to_string(type), to_string(value.type()));
  graph.claim(fmt::format("{}/{}", slab, name), "assignment to", where);
  graph.emit(core::assign_op, Attrs::of(core::Leaf{type, 0.0, static_cast<uint64_t>(id)}), std::span(&value, 1), where);
}

Tensor parameter(Graph& graph, std::string_view name, const Shape& shape, Init init, Where where) {
  return read(graph, "parameters", graph.path(name), Type{parameter_type(graph), shape}, std::move(init), where);
}

Tensor probe(Tensor value, std::string_view name, Where where) {
  const std::string path = value.graph->path(name);
  value.graph->claim(path, "probe", where);
  value.graph->add_probe(path, value.value);
  return value;
}

DType parameter_type(const Graph& graph) { return graph.state().parameter_type(); }
DType compute_type(const Graph& graph) { return graph.state().compute_type(); }

Tensor reshape(Tensor x, std::span<const int64_t> shape, Where where) {
  Shape target;
  int64_t known = 1;
  int inferred = -1;
  for (size_t axis = 0; axis < shape.size(); ++axis) {
    if (shape[axis] == -1) {
      if (inferred >= 0) fail_at(where, "reshape: only one extent may be -1");
      inferred = static_cast<int>(axis);
    } else {
      known *= shape[axis];
    }
    target.push_back(std::max<int64_t>(shape[axis], 0));
  }
  if (inferred >= 0) target[inferred] = known ? x.shape().numel() / known : 0;
  if (target.numel() != x.shape().numel())
    fail_at(where, "reshape: {} has {} elements, {} has {}", to_string(x.type()), x.shape().numel(), to_string(target),
            target.numel());
  if (target == x.shape()) return x;
  return x.graph->emit(core::reshape_op, Attrs::of(target), std::span(&x, 1), where);
}

Tensor reshape(Tensor x, std::initializer_list<int64_t> shape, Where where) {
  return reshape(x, std::span(shape.begin(), shape.size()), where);
}

Tensor reshape(Tensor x, const Shape& shape, Where where) {
  return reshape(x, std::span(shape.begin(), shape.end()), where);
}

Tensor flatten(Tensor x, int first, Where where) {
  if (first < 0 || first > x.shape().rank()) fail_at(where, "flatten: no axis {} in {}", first, to_string(x.type()));
  Shape shape;
  int64_t rest = 1;
  for (int axis = 0; axis < x.shape().rank(); ++axis) {
    if (axis < first)
      shape.push_back(x.shape()[axis]);
    else
      rest *= x.shape()[axis];
  }
  shape.push_back(rest);
  return reshape(x, shape, where);
}

Tensor stop_gradient(Tensor x, Where where) {
  return x.graph->emit(core::stop_gradient_op, {}, std::span(&x, 1), where);
}

Tensor cast(Tensor x, DType dtype, Where where) {
  if (x.dtype() == dtype) return x;
  const bool smooth = is_floating(dtype) && is_floating(x.dtype());
  const OpDef& op = smooth ? core::cast_op : core::cast_integer_op;
  return x.graph->emit(op, Attrs::of(core::CastAttrs{dtype}), std::span(&x, 1), where);
}

std::vector<const OpDef*> catalogue::core() {
  return {&ranvier::core::full_op, &ranvier::core::cast_op, &ranvier::core::copy_op};
}

}  // namespace ranvier
