// Plain element-by-element interpretation of pointwise programs: the oracle of the fast variants.
#include "kernels/elementwise/elementwise.h"
#include "kernels/elementwise/functors.h"

namespace ranvier::kernels {
namespace {

template <class T, class Functor, int operands>
T call(T a, T b, T c) {
  if constexpr (operands == 1)
    return Functor::template apply<T>(a);
  else if constexpr (operands == 2)
    return Functor::template apply<T>(a, b);
  else
    return Functor::template apply<T>(a, b, c);
}

template <class T>
T evaluate(Fn fn, T a, T b, T c) {
  switch (fn) {
#define RANVIER_FN(name, operands)                                              \
  case Fn::name:                                                                \
    if constexpr (std::is_floating_point_v<T> || is_integer_fn(Fn::name))       \
      return call<T, functors::name<functors::LibraryMath>, operands>(a, b, c); \
    else                                                                        \
      return T(0);
    RANVIER_POINTWISE(RANVIER_FN)
#undef RANVIER_FN
    case Fn::count:
      break;
  }
  return T(0);
}

}  // namespace

template <class T>
void pointwise_reference(const PointwiseProgram& program, int64_t n, const void* const* inputs, T* out) {
  T registers[PointwiseProgram::first_step + PointwiseProgram::max_steps] = {};
  for (int64_t c = 0; c < program.constants; ++c)
    registers[PointwiseProgram::first_constant + c] = static_cast<T>(program.constant[c]);
  for (int64_t i = 0; i < n; ++i) {
    for (int64_t k = 0; k < program.inputs; ++k) {
      const auto& input = program.input[k];
      registers[k] = static_cast<const T*>(inputs[k])[input.period ? i / input.inner % input.period : i];
    }
    for (int64_t s = 0; s < program.steps; ++s) {
      const PointwiseStep& step = program.step[s];
      registers[PointwiseProgram::first_step + s] =
          evaluate<T>(step.fn, registers[step.a], registers[step.b], registers[step.c]);
    }
    out[i] = registers[PointwiseProgram::first_step + program.steps - 1];
  }
}

template void pointwise_reference<float>(const PointwiseProgram&, int64_t, const void* const*, float*);
template void pointwise_reference<double>(const PointwiseProgram&, int64_t, const void* const*, double*);
template void pointwise_reference<int32_t>(const PointwiseProgram&, int64_t, const void* const*, int32_t*);
template void pointwise_reference<int64_t>(const PointwiseProgram&, int64_t, const void* const*, int64_t*);

}  // namespace ranvier::kernels
