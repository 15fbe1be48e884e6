// Does not compile for the emulator, and must not: there `__shared__` would be a private array of each thread.
#include "kernels/common/launch.h"

__global__ void natural_shared(float* y) {
  __shared__ float tile[64];
  tile[threadIdx.x] = 1;
  __syncthreads();
  y[threadIdx.x] = tile[63 - threadIdx.x];
}
