// A step of a network on a CUDA device: what opens it, noise, and which launches it has.
#include "kernels/common/philox.h"
#include "kernels/synapse/cuda_paths.cuh"
#include "kernels/synapse/cuda_tick.cuh"

namespace ranvier::kernels::synapse::cuda {

RANVIER_DEVICE_TICK(extern, Euler)
RANVIER_DEVICE_TICK(extern, SemiImplicit)
RANVIER_DEVICE_TICK(extern, Midpoint)
RANVIER_DEVICE_TICK(extern, Rk4)
RANVIER_DEVICE_TICK(extern, BackwardEuler)
RANVIER_DEVICE_TICK(extern, LinearImplicit)
RANVIER_DEVICE_TICK(extern, Exponential)

namespace {

constexpr int openers = 128;

/// Gives the kick of step n to its neuron.
__device__ void give_kick(const Ring* rings, int populations, const Kick& kick, uint64_t seed, int64_t n) {
  if (kick.steps == 0) return;
  const uint32_t word = philox::bits(seed, kick.stream, static_cast<uint64_t>(n / kick.steps), 0);
  int64_t chosen = philox::integer_of(word, 0, kick.neurons);
  for (int p = 0; p < populations; ++p) {
    const Ring& ring = rings[p];
    if (chosen < ring.neurons) {
      ring.kicked[chosen] += ring.kick;
      return;
    }
    chosen -= ring.neurons;
  }
}

/// One block: ends the step under way, if any, and opens the next where it shall and can be made.
__global__ void __launch_bounds__(openers)
    open_kernel(Clock* clock, const Ring* rings, int populations, Kick kick, uint64_t seed) {
  const bool made = clock->running != 0, failed = clock->failure != 0;
  const int64_t n = clock->n + (made && !failed ? 1 : 0), last = clock->end;
  bool full = false;
  for (int p = static_cast<int>(threadIdx.x); p < populations; p += openers) {
    const Ring& ring = rings[p];
    const Word cursor = failed ? ring.starts[slot_of(ring, n)] : *ring.cursor;  // a failed step has no spikes
    *ring.cursor = cursor;
    ring.starts[slot_of(ring, n)] = cursor;
    const Word needed = ring.starts[slot_of(ring, n - ring.reach)], drained = *ring.drained;
    full |= cursor - (needed < drained ? needed : drained) + ring.worst > ring.mask + 1;
  }
  const bool stop = __syncthreads_or(full) != 0;
  if (threadIdx.x != 0) return;
  const bool opens = !failed && !stop && n < last;
  clock->n = n;
  clock->running = opens;
  clock->full = stop && !failed && n < last;
  if (opens) give_kick(rings, populations, kick, seed, n);
}

/// New noise where its interval begins: a thread makes the two values of a Philox block.
template <class T>
__global__ void __launch_bounds__(block_width) noise_kernel(const Clock* clock, const Cells<T>* all, uint64_t seed) {
  const Cells<T>& cells = all[blockIdx.y];
  if (!clock->running || cells.noise_steps == 0 || clock->n % cells.noise_steps != 0) return;
  const philox::Key key{seed, cells.noise_stream, static_cast<uint64_t>(clock->n / cells.noise_steps)};
  const int64_t n = cells.tick.n, stride = int64_t{gridDim.x} * block_width;
  for (int64_t i = int64_t{blockIdx.x} * block_width + threadIdx.x; 2 * i < n; i += stride) {
    const philox::Words words = philox::block_words(key, static_cast<uint32_t>(i));
    cells.noise[2 * i] = fused(cells.deviation, philox::normal_of(words.word[0], words.word[1]), cells.mean);
    if (2 * i + 1 < n)
      cells.noise[2 * i + 1] = fused(cells.deviation, philox::normal_of(words.word[2], words.word[3]), cells.mean);
  }
}

template <class T>
void tick(const Net<T>& net, CudaStream stream) {
  const auto printed = [&](auto* kernel) {
    launch(kernel, tick_config(net, stream), net.clock, net.rings, net.cells, net.populations, net.stepping.h);
  };
  if (net.stepping.resets == Resets::printed_2003) return printed(printed_kernel<Resets::printed_2003, T>);
  if (net.stepping.resets == Resets::printed_2004) return printed(printed_kernel<Resets::printed_2004, T>);
  switch (net.stepping.method) {
    case Method::euler:
      return tick_with(net, izhikevich::Euler{}, stream);
    case Method::semi_implicit:
      return tick_with(net, izhikevich::SemiImplicit{}, stream);
    case Method::midpoint:
      return tick_with(net, izhikevich::Midpoint{}, stream);
    case Method::rk4:
      return tick_with(net, izhikevich::Rk4{}, stream);
    case Method::backward_euler:
      return tick_with(net, izhikevich::BackwardEuler{}, stream);
    case Method::exponential:
      return tick_with(net, izhikevich::Exponential{net.stepping.doublings}, stream);
    case Method::linear_implicit:
      return tick_with(net, izhikevich::LinearImplicit{}, stream);
  }
}

PathCall path_call(const auto& net) {
  const Resets resets = net.stepping.resets;
  return {net.clock,
          net.rings,
          net.projections,
          net.projection_count,
          resets == Resets::printed_2003 || resets == Resets::printed_2004,
          resets == Resets::located,
          net.stepping.h,
          net.shape};
}

}  // namespace

template <class T>
void close(const Net<T>& net, CudaStream stream) {
  launch(open_kernel, {dim3(1), dim3(openers), 0, stream}, net.clock, net.rings, net.populations, net.kick, net.seed);
}

template <class T>
void step(const Net<T>& net, CudaStream stream) {
  close(net, stream);
  const PathCall paths = path_call(net);
  deliver(paths, stream);
  if (net.shape.noise)
    launch(noise_kernel<T>,
           {dim3(blocks_for((net.shape.most_neurons + 1) / 2, block_width), static_cast<unsigned>(net.populations)),
            dim3(block_width), 0, stream},
           net.clock, net.cells, net.seed);
  tick(net, stream);
  if (net.field.cells > 0) field(net.clock, net.rings, net.populations, net.field, stream);
  learn(paths, stream);
}

template void step(const Net<float>&, CudaStream);
template void step(const Net<double>&, CudaStream);
template void close(const Net<float>&, CudaStream);
template void close(const Net<double>&, CudaStream);

}  // namespace ranvier::kernels::synapse::cuda
