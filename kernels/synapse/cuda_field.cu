// The field between a network's cells on a CUDA device: a receiver a thread, the spikes of a step in tiles of shared
// memory.
#include "kernels/common/launch.h"
#include "kernels/coupling/field.h"
#include "kernels/synapse/cuda_paths.cuh"

namespace ranvier::kernels::synapse::cuda {
namespace {

constexpr int threads = 128, tile = 64;

/// exp(-left / tau), 0 of tau 0.
__device__ double faded(double left, double tau) { return tau > 0 ? math::exp(-left / tau) : 0; }

__device__ FieldSource source_of(const Field& f, const FieldCells& cells, const Event& e) {
  const int64_t j = cells.first + e.neuron;
  const double left = f.h - e.offset, charge = f.charges[j];
  return {{f.places[j], f.places[f.cells + j], f.places[2 * f.cells + j]},
          f.radii[j],
          {charge * faded(left, f.tau[0]), charge * faded(left, f.tau[1])},
          j};
}

/// The end of a step: what was there decays, its spikes are added, and the currents of the next step follow.
__global__ void __launch_bounds__(threads)
    field_kernel(const Clock* clock, const Ring* rings, int populations, FieldLaw law, Field f) {
  if (!clock->running || clock->failure) return;
  RANVIER_SHARED(FieldSource, senders, [tile]);
  const int64_t i = int64_t{blockIdx.x} * threads + threadIdx.x;
  const bool receives = i < f.cells;
  const double x = receives ? f.places[i] : 0, y = receives ? f.places[f.cells + i] : 0,
               z = receives ? f.places[2 * f.cells + i] : 0;
  const double rounder = 0x1.8p52 * f.unit;
  double sums[2] = {0, 0};
  bool any = false;
  int own = 0;
  for (int p = 0; p < populations; ++p) {
    const FieldCells cells = f.populations[p];
    if (cells.count == 0) continue;
    if (i >= cells.first) own = p;
    const Ring& ring = rings[p];
    const Word from = ring.starts[slot_of(ring, clock->n)], to = *ring.cursor;
    any = any || to > from;
    for (Word first = from; first < to; first += tile) {
      const int count = static_cast<int>(to - first < tile ? to - first : tile);
      if (static_cast<int>(threadIdx.x) < count)
        senders[threadIdx.x] = source_of(f, cells, ring.events[(first + threadIdx.x) & ring.mask]);
      __syncthreads();
      for (int k = 0; k < count; ++k) {
        const FieldSource& s = senders[k];
        if (s.cell == i) continue;
        law.inverse_length2 = 1 / (s.radius * s.radius);
        const double dx = x - s.place[0], dy = y - s.place[1], dz = z - s.place[2];
        double slope = 0;
        const double kappa = law.template value<false>(fused(dz, dz, fused(dy, dy, dx * dx)), slope);
        for (int s2 = 0; s2 < 2; ++s2) sums[s2] += to_unit(s.charge[s2] / s.radius * kappa, rounder);
      }
      __syncthreads();
    }
  }
  if (!receives) return;
  double mean = 0;
  for (int s = 0; s < 2; ++s) {
    double& state = f.state[s * f.cells + i];
    state = any ? state * f.decay[s] + sums[s] : state * f.decay[s];
    mean = s == 0 ? f.mean[0] * state : mean - f.mean[1] * state;
  }
  const FieldCells& cells = f.populations[own];
  cells.current[i - cells.first] = static_cast<float>(cells.kappa * mean);
}

}  // namespace

void field(const Clock* clock, const Ring* rings, int populations, const Field& f, CudaStream stream) {
  const FieldLaw law({CouplingLaw::screened_power, 1, f.lambda, 1, 0});
  launch(field_kernel, {blocks_for(f.cells, threads), threads, 0, stream}, clock, rings, populations, law, f);
}

}  // namespace ranvier::kernels::synapse::cuda
