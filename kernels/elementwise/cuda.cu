// Pointwise programs, casts, fills and broadcasts on a CUDA device.
#include "kernels/common/launch.h"
#include "kernels/elementwise/elementwise.h"
#include "kernels/elementwise/functors.h"

namespace ranvier::kernels {
namespace {

constexpr int threads = 256;

/// One instruction, on values in the compute type.
template <class T>
__device__ T apply(Fn fn, T a, T b, T c) {
  switch (fn) {
#define RANVIER_FN(name, operands)                                            \
  case Fn::name:                                                              \
    if constexpr (operands == 1)                                              \
      return functors::name<functors::PortableMath>::template apply<T>(a);    \
    else if constexpr (operands == 2)                                         \
      return functors::name<functors::PortableMath>::template apply<T>(a, b); \
    else                                                                      \
      return functors::name<functors::PortableMath>::template apply<T>(a, b, c);
    RANVIER_POINTWISE(RANVIER_FN)
#undef RANVIER_FN
    default:
      return a;
  }
}

struct Inputs {
  const void* at[PointwiseProgram::max_inputs];
};

template <class T>
__global__ void pointwise_kernel(PointwiseProgram program, int64_t n, Inputs inputs, T* out) {
  using C = compute_t<T>;
  C value[PointwiseProgram::first_step + PointwiseProgram::max_steps];
  for (int64_t k = 0; k < program.constants; ++k)
    value[PointwiseProgram::first_constant + k] = static_cast<C>(program.constant[k]);
  const int64_t stride = int64_t{blockDim.x} * gridDim.x;
  for (int64_t i = int64_t{blockIdx.x} * blockDim.x + threadIdx.x; i < n; i += stride) {
    for (int64_t k = 0; k < program.inputs; ++k) {
      const auto [period, inner] = program.input[k];
      value[k] = widen(static_cast<const T*>(inputs.at[k])[period == 0 ? i : i / inner % period]);
    }
    for (int64_t s = 0; s < program.steps; ++s) {
      const PointwiseStep step = program.step[s];
      // a 16-bit chain rounds after every step, so that a fused chain equals the unfused one bit for bit
      value[PointwiseProgram::first_step + s] =
          widen(narrow<T>(apply<C>(step.fn, value[step.a], value[step.b], value[step.c])));
    }
    out[i] = narrow<T>(value[PointwiseProgram::first_step + program.steps - 1]);
  }
}

}  // namespace

template <class T>
void pointwise_cuda(const PointwiseProgram& program, int64_t n, const void* const* inputs, T* out, CudaStream stream) {
  Inputs list{};
  for (int64_t k = 0; k < program.inputs; ++k) list.at[k] = inputs[k];
  launch(pointwise_kernel<T>, {blocks_for(n, threads, 132 * 32), threads, 0, stream}, program, n, list, out);
}

template void pointwise_cuda(const PointwiseProgram&, int64_t, const void* const*, float*, CudaStream);
template void pointwise_cuda(const PointwiseProgram&, int64_t, const void* const*, double*, CudaStream);
template void pointwise_cuda(const PointwiseProgram&, int64_t, const void* const*, bf16*, CudaStream);
template void pointwise_cuda(const PointwiseProgram&, int64_t, const void* const*, f16*, CudaStream);

}  // namespace ranvier::kernels
