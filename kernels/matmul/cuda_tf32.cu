// Matrix products of f32 operands rounded to tf32, on tensor cores.
#include "kernels/matmul/cuda_tensor.cuh"

namespace ranvier::kernels {

template void launch_tensor_matmul(const MatmulTiles&, bool, const float*, const float*, float*, float*, CudaStream);

}  // namespace ranvier::kernels
