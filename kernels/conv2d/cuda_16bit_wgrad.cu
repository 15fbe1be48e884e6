// The gradient with respect to the filter of convolutions in bf16 and f16, on tensor cores.
#include "kernels/conv2d/run.cuh"

namespace ranvier::kernels::conv {

template <class T>
void run_wgrad(const Plan& plan, const Conv2dDims& d, const T* x, const T* dy, T* dfilter, float* sums,
               CudaStream stream) {
  const int tile = plan.bm * 1000 + plan.bn;
  if (plan.scalar)
    run_scalar<T, ConvPass::wgrad, Tile128x64, true>(plan, d, x, dy, dfilter, sums, stream);
  else if (plan.family == ConvKernel::positional && tile == 128128)
    run_filter<T, true, Tile128x128, true>(plan, d, x, dy, dfilter, sums, stream);
  else if (plan.family == ConvKernel::positional && tile == 128064)
    run_filter<T, true, Tile128x64, true>(plan, d, x, dy, dfilter, sums, stream);
  else if (plan.family == ConvKernel::positional && tile == 64064)
    run_filter<T, true, Tile64x64, true>(plan, d, x, dy, dfilter, sums, stream);
  else if (plan.family == ConvKernel::gather && tile == 256128)
    run_filter<T, false, Tile256x128, true>(plan, d, x, dy, dfilter, sums, stream);
  else if (plan.family == ConvKernel::gather && tile == 128128)
    run_filter<T, false, Tile128x128, true>(plan, d, x, dy, dfilter, sums, stream);
  else if (plan.family == ConvKernel::gather && tile == 64128)
    run_filter<T, false, Tile64x128, true>(plan, d, x, dy, dfilter, sums, stream);
  else
    no_instance();
}

template void run_wgrad(const Plan&, const Conv2dDims&, const bf16*, const bf16*, bf16*, float*, CudaStream);
template void run_wgrad(const Plan&, const Conv2dDims&, const f16*, const f16*, f16*, float*, CudaStream);

}  // namespace ranvier::kernels::conv
