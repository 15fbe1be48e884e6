// Matrix products of bf16 on tensor cores.
#include "kernels/matmul/cuda_tensor.cuh"

namespace ranvier::kernels {

template void launch_tensor_matmul(const MatmulTiles&, bool, const bf16*, const bf16*, bf16*, float*, CudaStream);

}  // namespace ranvier::kernels
