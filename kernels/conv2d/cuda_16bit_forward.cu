// The forward pass of convolutions in bf16 and f16, on tensor cores.
#include "kernels/conv2d/run.cuh"

namespace ranvier::kernels::conv {

template <class T>
void run_forward(const Plan& plan, const Conv2dDims& d, const T* x, const T* filter, T* y, CudaStream stream) {
  constexpr ConvPass pass = ConvPass::forward;
  const int tile = plan.bm * 1000 + plan.bn;
  if (plan.scalar)
    run_scalar<T, pass, Tile128x64, true>(plan, d, x, filter, y, nullptr, stream);
  else if (plan.family == ConvKernel::positional && tile == 128256)
    run_pixels<T, pass, true, Tile128x256, true>(plan, d, x, filter, y, stream);
  else if (plan.family == ConvKernel::positional && tile == 256064)
    run_pixels<T, pass, true, Tile256x64, true>(plan, d, x, filter, y, stream);
  else if (plan.family == ConvKernel::positional && tile == 128128)
    run_pixels<T, pass, true, Tile128x128, true>(plan, d, x, filter, y, stream);
  else if (plan.family == ConvKernel::positional && tile == 128064)
    run_pixels<T, pass, true, Tile128x64, true>(plan, d, x, filter, y, stream);
  else if (plan.family == ConvKernel::gather && tile == 128128)
    run_pixels<T, pass, false, Tile128x128, true>(plan, d, x, filter, y, stream);
  else if (plan.family == ConvKernel::gather && tile == 128064)
    run_pixels<T, pass, false, Tile128x64, true>(plan, d, x, filter, y, stream);
  else
    no_instance();
}

template void run_forward(const Plan&, const Conv2dDims&, const bf16*, const bf16*, bf16*, CudaStream);
template void run_forward(const Plan&, const Conv2dDims&, const f16*, const f16*, f16*, CudaStream);

}  // namespace ranvier::kernels::conv
