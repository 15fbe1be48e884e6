// The gradient with respect to x of convolutions in bf16 and f16, on tensor cores.
#include "kernels/conv2d/run.cuh"

namespace ranvier::kernels::conv {

template <class T>
void run_dgrad(const Plan& plan, const Conv2dDims& d, const T* dy, const T* filter, T* dx, CudaStream stream) {
  constexpr ConvPass pass = ConvPass::dgrad;
  const int tile = plan.bm * 1000 + plan.bn;
  if (plan.scalar)
    run_scalar<T, pass, Tile128x64, true>(plan, d, dy, filter, dx, nullptr, stream);
  else if (plan.family == ConvKernel::positional && tile == 128256)
    run_pixels<T, pass, true, Tile128x256, true>(plan, d, dy, filter, dx, stream);
  else if (plan.family == ConvKernel::positional && tile == 256064)
    run_pixels<T, pass, true, Tile256x64, true>(plan, d, dy, filter, dx, stream);
  else if (plan.family == ConvKernel::positional && tile == 128128)
    run_pixels<T, pass, true, Tile128x128, true>(plan, d, dy, filter, dx, stream);
  else if (plan.family == ConvKernel::positional && tile == 128064)
    run_pixels<T, pass, true, Tile128x64, true>(plan, d, dy, filter, dx, stream);
  else if (plan.family == ConvKernel::gather && tile == 128128)
    run_pixels<T, pass, false, Tile128x128, true>(plan, d, dy, filter, dx, stream);
  else if (plan.family == ConvKernel::gather && tile == 128064)
    run_pixels<T, pass, false, Tile128x64, true>(plan, d, dy, filter, dx, stream);
  else
    no_instance();
}

template void run_dgrad(const Plan&, const Conv2dDims&, const bf16*, const bf16*, bf16*, CudaStream);
template void run_dgrad(const Plan&, const Conv2dDims&, const f16*, const f16*, f16*, CudaStream);

}  // namespace ranvier::kernels::conv
