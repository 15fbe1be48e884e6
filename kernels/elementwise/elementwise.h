// Pointwise programs: a short list of functions applied to every element, read from memory once and written once.
#pragma once
#include <cstdint>

#include "kernels/common/divide.h"
#include "kernels/common/half.h"
#include "kernels/common/stream.h"

namespace ranvier::kernels {

/// Every pointwise function, with its number of operands and its C++ name. One line adds a function to all backends.
// clang-format off
#define RANVIER_POINTWISE(X)                                                                                  \
  X(neg, 1) X(exp, 1) X(log, 1) X(sqrt, 1) X(rsqrt, 1) X(tanh, 1) X(sigmoid, 1) X(sin, 1) X(cos, 1) X(erf, 1) \
  X(abs, 1) X(sign, 1) X(square, 1) X(relu, 1) X(gelu, 1) X(silu, 1) X(softplus, 1)                           \
  X(add, 2) X(sub, 2) X(mul, 2) X(div, 2) X(pow, 2) X(maximum, 2) X(minimum, 2) X(equal, 2) X(less, 2)        \
  X(less_equal, 2) X(gelu_grad, 2) X(where, 3) X(clamp, 3)
// clang-format on

enum class Fn : uint8_t {
#define RANVIER_FN(name, operands) name,
  RANVIER_POINTWISE(RANVIER_FN)
#undef RANVIER_FN
      count
};

/// Operands of a function: 1, 2 or 3.
constexpr int operands_of(Fn fn) {
  constexpr int operands[] = {
#define RANVIER_FN(name, operands) operands,
      RANVIER_POINTWISE(RANVIER_FN)
#undef RANVIER_FN
  };
  return operands[static_cast<int>(fn)];
}

/// True for the functions that integers have.
constexpr bool is_integer_fn(Fn fn) {
  switch (fn) {
    case Fn::neg:
    case Fn::add:
    case Fn::sub:
    case Fn::mul:
    case Fn::maximum:
    case Fn::minimum:
    case Fn::equal:
    case Fn::less:
    case Fn::less_equal:
    case Fn::where:
    case Fn::clamp:
    case Fn::abs:
    case Fn::sign:
    case Fn::square:
      return true;
    default:
      return false;
  }
}

/// One instruction: `result = fn(a, b, c)`; a, b, c are registers (see PointwiseProgram).
struct PointwiseStep {
  Fn fn;
  uint8_t a, b, c;
};

/// A straight-line program over equal-shaped operands. Registers 0..11 are the inputs, 12..19 the constants, 20.. the
/// results of the steps in order; the last step's result is the output. An input may be a broadcast: element i of the
/// output reads element (i / inner) % period of it; period 0 means an input of full size.
struct PointwiseProgram {
  static constexpr int max_inputs = 12, max_constants = 8, max_steps = 24;
  static constexpr int first_constant = max_inputs, first_step = max_inputs + max_constants;
  struct Input {
    int64_t period, inner;
  };
  int64_t inputs, constants, steps;
  double constant[max_constants];
  Input input[max_inputs];
  PointwiseStep step[max_steps];
};

/// Runs the program over n elements, plain loops in the arithmetic of T (float, double; int32_t and int64_t for add,
/// sub, mul, neg, comparisons and where).
template <class T>
void pointwise_reference(const PointwiseProgram&, int64_t n, const void* const* inputs, T* out);

/// The same, vectorised in blocks that stay in the first-level cache, on all threads. float and double.
template <class T>
void pointwise_cpu(const PointwiseProgram&, int64_t n, const void* const* inputs, T* out);

/// The same on a CUDA device. float, double, bf16 and f16 (computed in f32, rounded after every step), int32_t and
/// int64_t. More than `narrow` elements take several launches.
template <class T>
void pointwise_cuda(const PointwiseProgram&, int64_t n, const void* const* inputs, T* out, CudaStream stream,
                    int64_t narrow = most_narrow);

/// Converts n elements, rounding to nearest even where the target is narrower, truncating floating to integer.
template <class From, class To>
void cast_cpu(int64_t n, const From* x, To* y);
/// The same on a CUDA device, between all element types.
template <class From, class To>
void cast_cuda(int64_t n, const From* x, To* y, CudaStream stream);

/// y = the 8 bytes of `pattern` over and over, for `bytes` bytes.
void fill_cuda(int64_t bytes, uint64_t pattern, void* y, CudaStream stream);
/// y = x.
void copy_cuda(int64_t bytes, const void* x, void* y, CudaStream stream);

/// y[index] = x[index with the broadcast axes' coordinate 0]: extents of y, and element strides of x (0 on broadcast
/// axes), rank at most 6. Any element of `bytes` 1, 4 or 8; on CUDA also of 2.
struct BroadcastDims {
  int64_t rank;
  int64_t extent[6], stride[6];
  int64_t bytes;
};
void broadcast_cpu(const BroadcastDims&, const void* x, void* y);
/// The same on a CUDA device.
void broadcast_cuda(const BroadcastDims&, const void* x, void* y, CudaStream stream);

}  // namespace ranvier::kernels
