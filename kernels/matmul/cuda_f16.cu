// Matrix products of f16 on tensor cores.
#include "kernels/matmul/cuda_tensor.cuh"

namespace ranvier::kernels {

template void launch_tensor_matmul(const MatmulTiles&, bool, const f16*, const f16*, f16*, float*, CudaStream);

}  // namespace ranvier::kernels
