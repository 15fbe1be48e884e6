// All passes of convolutions in f32: exact sums on CUDA cores, or operands rounded to tf32 on tensor cores.
#include "kernels/conv2d/run.cuh"

namespace ranvier::kernels::conv {
namespace {

template <ConvPass pass, bool tensor>
void run_one(const Plan& plan, const Conv2dDims& d, const float* a, const float* b, float* out, float* sums,
             CudaStream stream) {
  if (plan.scalar)
    run_scalar<float, pass, Tile128x64, tensor>(plan, d, a, b, out, sums, stream);
  else if constexpr (pass == ConvPass::wgrad)
    run_filter<float, false, Tile128x64, tensor>(plan, d, a, b, out, sums, stream);
  else
    run_pixels<float, pass, false, Tile128x64, tensor>(plan, d, a, b, out, stream);
}

template <ConvPass pass>
void run(const Plan& plan, const Conv2dDims& d, const float* a, const float* b, float* out, float* sums,
         CudaStream stream) {
  if (plan.family == ConvKernel::tf32)
    run_one<pass, true>(plan, d, a, b, out, sums, stream);
  else
    run_one<pass, false>(plan, d, a, b, out, sums, stream);
}

}  // namespace

template <class T>
void run_forward(const Plan& plan, const Conv2dDims& d, const T* x, const T* filter, T* y, CudaStream stream) {
  run<ConvPass::forward>(plan, d, x, filter, y, nullptr, stream);
}
template <class T>
void run_dgrad(const Plan& plan, const Conv2dDims& d, const T* dy, const T* filter, T* dx, CudaStream stream) {
  run<ConvPass::dgrad>(plan, d, dy, filter, dx, nullptr, stream);
}
template <class T>
void run_wgrad(const Plan& plan, const Conv2dDims& d, const T* x, const T* dy, T* dfilter, float* sums,
               CudaStream stream) {
  run<ConvPass::wgrad>(plan, d, x, dy, dfilter, sums, stream);
}

template void run_forward(const Plan&, const Conv2dDims&, const float*, const float*, float*, CudaStream);
template void run_dgrad(const Plan&, const Conv2dDims&, const float*, const float*, float*, CudaStream);
template void run_wgrad(const Plan&, const Conv2dDims&, const float*, const float*, float*, float*, CudaStream);

}  // namespace ranvier::kernels::conv
