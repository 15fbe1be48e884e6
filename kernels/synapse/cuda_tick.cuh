// The step of a network's neurons on a CUDA device, a thread a neuron: private to the sources that instantiate it.
#pragma once
#include "kernels/common/launch.h"
#include "kernels/izhikevich/steps.h"
#include "kernels/synapse/network_cuda.h"
#include "kernels/synapse/tick_fields.h"

// One launch for all populations: a block belongs to one of them. State and sums go through memory once a step, some 60
// bytes a neuron and receptor, which bounds the launch; the few threads that reach the peak run located.h while the
// rest of their warp waits. Four blocks of 128 threads allow 128 registers a thread, which the f64 kernels need.

namespace ranvier::kernels::synapse::cuda {

/// Spikes of one neuron in one step.
struct StepSpikes {
  double offset[izhikevich::max_events];
  int count = 0;

  RANVIER_HD_INLINE void add(double at) {
    if (count < izhikevich::max_events) offset[count++] = at;
  }
};

/// Appends a step's spikes, for which there is room.
inline __device__ void list_spikes(const Ring& ring, const StepSpikes& spikes, int64_t neuron, int64_t n) {
  if (ring.spiked) ring.spiked[neuron] = static_cast<uint8_t>(spikes.count);
  if (spikes.count == 0) return;
  const Word first = atomicAdd(ring.cursor, static_cast<Word>(spikes.count));
  for (int k = 0; k < spikes.count; ++k)
    ring.events[(first + static_cast<Word>(k)) & ring.mask] = {static_cast<uint32_t>(neuron), static_cast<uint32_t>(n),
                                                               spikes.offset[k]};
}

inline __device__ void report(Clock* clock, int population, int64_t neuron, bool runaway) {
  atomicMax(&clock->failure, ~packed(static_cast<uint32_t>(population), static_cast<uint32_t>(neuron), runaway));
}

/// The population of this block.
template <class T>
__device__ int population_here(const Cells<T>* cells, int populations) {
  int p = 0;
  while (p + 1 < populations && cells[p + 1].first_block <= static_cast<int64_t>(blockIdx.x)) ++p;
  return p;
}

template <class Method, bool Located, class T>
__global__ void __launch_bounds__(block_width, 4)
    tick_kernel(Clock* clock, const Ring* rings, const Cells<T>* cells, int populations, Method method,
                izhikevich::Length<T> length, double h) {
  if (!clock->running) return;
  const int p = population_here(cells, populations);
  const Tick<T>& tick = cells[p].tick;
  const int64_t i = (static_cast<int64_t>(blockIdx.x) - cells[p].first_block) * block_width + threadIdx.x;
  if (i >= tick.n) return;
  const izhikevich::State<T> y{tick.v[i], tick.u[i]};
  const izhikevich::Field<T> f = field_of(tick, i, inputs(tick, i, y.v));
  const izhikevich::Reset<T> reset = reset_of<T>(tick, i);
  izhikevich::State<T> y1 = method(f, y, length);
  StepSpikes spikes;
  if (!(y1.v < reset.v_peak)) {
    const Finish<T> end = finish_step(method, Located, f, reset, length.h, h, y, y1, spikes);
    if (end.failed) report(clock, p, i, end.runaway);
    y1 = end.y;
  }
  tick.v[i] = y1.v, tick.u[i] = y1.u;
  list_spikes(rings[p], spikes, i, clock->n);
}

template <Resets Scheme, class T>
__global__ void __launch_bounds__(block_width, 4)
    printed_kernel(Clock* clock, const Ring* rings, const Cells<T>* cells, int populations, double h) {
  if (!clock->running) return;
  const int p = population_here(cells, populations);
  const Tick<T>& tick = cells[p].tick;
  const int64_t i = (static_cast<int64_t>(blockIdx.x) - cells[p].first_block) * block_width + threadIdx.x;
  if (i >= tick.n) return;
  bool fired;
  const izhikevich::State<T> y =
      printed_step(Scheme, tick, i, static_cast<T>(h), izhikevich::State<T>{tick.v[i], tick.u[i]}, fired);
  tick.v[i] = y.v, tick.u[i] = y.u;
  if (!is_finite(y)) report(clock, p, i, false);
  StepSpikes spikes;
  if (fired) spikes.add(h);
  list_spikes(rings[p], spikes, i, clock->n);
}

template <class T>
LaunchConfig tick_config(const Net<T>& net, CudaStream stream) {
  return {dim3(grid_of(net.shape.blocks)), dim3(block_width), 0, stream};
}

template <class T, class Method>
void tick_with(const Net<T>& net, const Method& method, CudaStream stream) {
  const izhikevich::Length<T> length = izhikevich::Length<T>::whole(net.stepping.h);
  const auto run = [&](auto* kernel) {
    launch(kernel, tick_config(net, stream), net.clock, net.rings, net.cells, net.populations, method, length,
           net.stepping.h);
  };
  net.stepping.resets == Resets::located ? run(tick_kernel<Method, true, T>) : run(tick_kernel<Method, false, T>);
}

// Instances: cuda_tick_explicit.cu, cuda_tick_implicit.cu, cuda_tick_exponential.cu.
#define RANVIER_DEVICE_TICK(prefix, method)                                                 \
  prefix template void tick_with(const Net<float>&, const izhikevich::method&, CudaStream); \
  prefix template void tick_with(const Net<double>&, const izhikevich::method&, CudaStream);

}  // namespace ranvier::kernels::synapse::cuda
