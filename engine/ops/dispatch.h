// What the op families share: from element types to C++ types, axes, and kernel checks turned into errors of the
// engine.
#pragma once
#include "engine/op.h"
#include "kernels/common/dims.h"

namespace ranvier {

/// Calls `body.operator()<T>()` with the C++ type of a floating dtype of CUDA: f32, f64, bf16 or f16.
template <class Body>
decltype(auto) dispatch_cuda_floating(DType dtype, Body&& body) {
  if (dtype == DType::bf16) return body.template operator()<kernels::bf16>();
  if (dtype == DType::f16) return body.template operator()<kernels::f16>();
  return dispatch_floating(dtype, std::forward<Body>(body));
}

/// The same for the types of mixed precision: f32, bf16 or f16.
template <class Body>
decltype(auto) dispatch_cuda_mixed(DType dtype, Body&& body) {
  if (dtype == DType::bf16) return body.template operator()<kernels::bf16>();
  if (dtype == DType::f16) return body.template operator()<kernels::f16>();
  return body.template operator()<float>();
}

/// Calls `body.operator()<T>()` with the C++ type of a CPU index type (i32 or i64).
template <class Body>
decltype(auto) dispatch_index(DType dtype, Body&& body) {
  if (dtype == DType::i64) return body.template operator()<int64_t>();
  return body.template operator()<int32_t>();
}

/// The same for every type that adds: f32, f64, i32, i64.
template <class Body>
decltype(auto) dispatch_number(DType dtype, Body&& body) {
  if (is_floating(dtype)) return dispatch_floating(dtype, std::forward<Body>(body));
  return dispatch_index(dtype, std::forward<Body>(body));
}

/// The same for every element type of the CPU: f32, f64, i32, i64, u8.
template <class Body>
decltype(auto) dispatch_element(DType dtype, Body&& body) {
  if (dtype == DType::u8) return body.template operator()<uint8_t>();
  return dispatch_number(dtype, std::forward<Body>(body));
}

/// The same for every type that adds on CUDA: those of the CPU, bf16 and f16.
template <class Body>
decltype(auto) dispatch_cuda_number(DType dtype, Body&& body) {
  if (is_floating(dtype)) return dispatch_cuda_floating(dtype, std::forward<Body>(body));
  return dispatch_index(dtype, std::forward<Body>(body));
}

/// The same for every element type of CUDA: those of the CPU, bf16 and f16.
template <class Body>
decltype(auto) dispatch_cuda_element(DType dtype, Body&& body) {
  if (is_floating(dtype)) return dispatch_cuda_floating(dtype, std::forward<Body>(body));
  return dispatch_element(dtype, std::forward<Body>(body));
}

inline bool is_index(DType dtype) { return dtype == DType::i32 || dtype == DType::i64; }
inline bool on_cpu(DType dtype) { return dtype != DType::bf16 && dtype != DType::f16; }
/// For `Variant::supports`: the first operand's type exists on the CPU, or is f32.
inline bool operand_on_cpu(const NodeView& node) { return on_cpu(node.in[0].dtype); }
inline bool operand_is_f32(const NodeView& node) { return node.in[0].dtype == DType::f32; }
/// The same: f32 or a 16-bit floating type.
inline bool operand_is_mixed(const NodeView& node) {
  return node.in[0].dtype == DType::f32 || !on_cpu(node.in[0].dtype);
}

/// For `OpDef::flops` of ops that only move elements.
inline double moves_only(const NodeView&) { return 0; }

inline kernels::Dims dims_of(const Shape& shape) {
  kernels::Dims dims;
  dims.rank = shape.rank();
  for (int axis = 0; axis < shape.rank(); ++axis) dims.d[axis] = shape[axis];
  return dims;
}

/// Products of the extents before and behind an axis.
inline std::pair<int64_t, int64_t> around(const Shape& shape, int64_t axis) {
  int64_t outer = 1, inner = 1;
  for (int k = 0; k < shape.rank(); ++k)
    if (k != axis) (k < axis ? outer : inner) *= shape[k];
  return {outer, inner};
}

/// An axis counted from the front; throws where `rank` axes have no such one.
inline int axis_of(int axis, int rank, const char* op, const Tensor& x, const Where& where) {
  if (axis < -rank || axis >= rank) fail_at(where, "{}: no axis {} in {}", op, axis, to_string(x.type()));
  return axis < 0 ? axis + rank : axis;
}

/// Runs a kernel's own check inside `infer`, so that the graph adds op and source line to what it says.
template <class Check>
void checked(Check&& check) {
  try {
    check();
  } catch (const Error&) {
    throw;
  } catch (const std::runtime_error& error) {
    throw Error(error.what());
  }
}

}  // namespace ranvier
