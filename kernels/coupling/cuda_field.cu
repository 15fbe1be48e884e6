// The field of spiking cells on a CUDA device: a receiver a thread, sources in tiles of shared memory.
#include "kernels/common/launch.h"
#include "kernels/coupling/field.h"

namespace ranvier::kernels::cuda {
namespace {

constexpr int threads = 128, tile = 64;

__global__ void field_kernel(FieldLaw law, FieldDims d, const FieldSource* sources, const double* places,
                             double* sums) {
  RANVIER_SHARED(FieldSource, senders, [tile]);
  const int64_t i = int64_t{blockIdx.x} * threads + threadIdx.x;
  const bool receives = i < d.cells;
  const double x = receives ? places[i] : 0, y = receives ? places[d.cells + i] : 0,
               z = receives ? places[2 * d.cells + i] : 0;
  const double rounder = 0x1.8p52 * d.unit;
  double decaying = 0, rising = 0;
  for (int64_t first = 0; first < d.sources; first += tile) {
    if (threadIdx.x < tile && first + threadIdx.x < d.sources) senders[threadIdx.x] = sources[first + threadIdx.x];
    __syncthreads();
    const int count = static_cast<int>(first + tile < d.sources ? tile : d.sources - first);
    for (int k = 0; k < count; ++k) {
      const FieldSource& s = senders[k];
      if (s.cell == i) continue;
      law.inverse_length2 = 1 / (s.radius * s.radius);
      const double dx = x - s.place[0], dy = y - s.place[1], dz = z - s.place[2];
      double slope = 0;
      const double kappa = law.template value<false>(fused(dz, dz, fused(dy, dy, dx * dx)), slope);
      decaying += to_unit(s.charge[0] / s.radius * kappa, rounder);
      rising += to_unit(s.charge[1] / s.radius * kappa, rounder);
    }
    __syncthreads();
  }
  if (receives) sums[i] = decaying, sums[d.cells + i] = rising;
}

}  // namespace

void field_sums(const FieldDims& d, const FieldSource* sources, const double* places, double* sums, CudaStream stream) {
  const FieldLaw law({CouplingLaw::screened_power, 1, d.decay, 1, 0});
  launch(field_kernel, {blocks_for(d.cells, threads), threads, 0, stream}, law, d, sources, places, sums);
}

}  // namespace ranvier::kernels::cuda
