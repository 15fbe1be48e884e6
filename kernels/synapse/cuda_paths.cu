// Projections on a CUDA device: delivery, short-term plasticity and STDP.
#include "kernels/synapse/cuda_paths.cuh"

// A warp takes a spike and `chunk` synapses of its row at a time; long rows are spread over the grid's y, projections
// over its z. Delivery is bound by the atomics in the sums (L2), of which a warp has 32 under way.

namespace ranvier::kernels::synapse::cuda {
namespace {

constexpr int threads = 256, warps = threads / 32, chunk = 256;
constexpr unsigned whole_warp = 0xffffffffu;
constexpr int32_t whole_weight = int32_t{1} << weight_bits;

__device__ const Event& at(const Ring& ring, Word i) { return ring.events[i & ring.mask]; }

/// Where a spike is in its step. To delays of whole steps any moment but its start is one.
__device__ int moment_here(const PathCall& call, const Event& e, bool fractional) {
  if (call.printed || !(e.offset > 0)) return 0;
  return fractional ? moment_of(e.offset, call.h) : step_parts;
}

/// Whether two spikes of a ring, neighbours in it, take the same way through plastic synapses.
__device__ bool together(const PathCall& call, const Event& a, const Event& b) {
  return a.neuron == b.neuron && a.step == b.step && moment_here(call, a, false) == moment_here(call, b, false);
}

/// A synapse's delay in parts of a step.
__device__ int delay_of(const Projection& p, uint64_t synapse) {
  return p.delay[synapse] * step_parts + (p.part ? p.part[synapse] : 0);
}

/// First place of a row, [begin, end), whose delay is at least `least` parts: all lanes of a warp ask together.
__device__ uint64_t first_due(const Projection& p, uint64_t begin, uint64_t end, int least) {
  const unsigned lane = threadIdx.x % 32;
  while (begin < end) {
    const uint64_t width = (end - begin + 31) / 32, place = begin + lane * width;
    const unsigned before = __ballot_sync(whole_warp, place < end && delay_of(p, place) < least);
    const auto count = static_cast<uint64_t>(__popc(before));
    if (count == 0) return begin;
    end = begin + count * width < end ? begin + count * width : end;
    begin = begin + (count - 1) * width + 1;
  }
  return begin;
}

/// Calls `body(synapse)` for this lane's synapses of [begin, end) among those of this blockIdx.y.
template <class Body>
__device__ void for_synapses(uint64_t begin, uint64_t end, const Body& body) {
  const unsigned lane = threadIdx.x % 32;
  for (uint64_t from = begin + uint64_t{blockIdx.y} * chunk; from < end; from += uint64_t{gridDim.y} * chunk) {
    const uint64_t to = from + chunk < end ? from + chunk : end;
    for (uint64_t i = from + lane; i < to; i += 32) body(i);
  }
}

__device__ void add(int64_t* sum, int64_t term) {  // two's complement: unsigned sums have the same bits
  atomicAdd(reinterpret_cast<Word*>(sum), static_cast<Word>(term));
}

/// A spike's group of static synapses, in row order from `row` on.
__device__ void deliver_static(const Projection& p, int32_t factor, uint64_t row, uint64_t begin, uint64_t end) {
  for_synapses(begin, end, [&](uint64_t i) {
    const int64_t term = factor == whole_weight ? int64_t{p.fixed[i]} : released(p.fixed[i], factor);
    add(p.sums + (p.targets ? uint64_t{p.targets[i]} : i - row), term);
  });
}

/// The group of `count` spikes, number `first` and the next, of one neuron on one way: each sees what the one before
/// left.
__device__ void deliver_plastic(const Projection& p, const Ring& ring, Word first, int count, uint64_t begin,
                                uint64_t end) {
  for_synapses(begin, end, [&](uint64_t i) {
    const uint32_t target = p.targets[i];
    const float trace = p.target_trace[target];
    float* const changed = p.stdp.accumulated ? p.change : p.weight;
    float weight = p.weight[i], value = changed[i];
    int64_t sum = 0;
    for (int k = 0; k < count; ++k) {
      const int32_t factor = p.factors ? p.factors[(first + static_cast<Word>(k)) & ring.mask] : whole_weight;
      sum += released(fixed_point(weight, p.unit), factor);
      value = depressed(p.stdp, value, trace);
      if (!p.stdp.accumulated) weight = value;
    }
    changed[i] = value;
    add(p.sums + target, sum);
  });
}

/// Everything due in the step. Of plastic projections, spikes at the very start of a step (moment 0) only in the launch
/// `late`: they arrive together with those that their neuron had in the step before, and after them.
__global__ void __launch_bounds__(threads) deliver_kernel(PathCall call, bool late) {
  const Projection& p = call.projections[blockIdx.z];
  if (!call.clock->running || (late && !p.plastic)) return;
  const Ring& ring = call.rings[p.source];
  const int64_t n = call.clock->n;
  const Word from = ring.starts[slot_of(ring, n - p.longest - 1)];
  const Word to = ring.starts[slot_of(ring, n - p.shortest + 1)];
  Word delivered = 0;
  for (Word i = from + blockIdx.x * warps + threadIdx.x / 32; i < to; i += gridDim.x * warps) {
    const Event e = at(ring, i);
    const int age = static_cast<int>(static_cast<uint32_t>(n) - e.step), moment = moment_here(call, e, p.fractional);
    if (age < p.shortest || age > p.longest + 1) continue;
    if (p.plastic && call.located && late == (moment > 0)) continue;
    if (p.plastic && i > 0 && together(call, at(ring, i - 1), e)) continue;     // goes with the one before
    const int most = age * step_parts - moment, least = most - step_parts + 1;  // delays that end in this step
    const uint64_t row = p.offset[e.neuron];
    uint64_t begin = row, end = p.offset[e.neuron + 1];
    if (p.delay) {
      begin = first_due(p, begin, end, least);
      end = first_due(p, begin, end, most + 1);
    } else if (p.same_delay < least || p.same_delay > most) {
      continue;
    }
    int count = 1;
    if (p.plastic) {
      while (i + static_cast<Word>(count) < to && together(call, at(ring, i + static_cast<Word>(count)), e)) ++count;
      deliver_plastic(p, ring, i, count, begin, end);
    } else {
      deliver_static(p, p.factors ? p.factors[i & ring.mask] : whole_weight, row, begin, end);
    }
    delivered += (end - begin) * static_cast<Word>(count);
  }
  if (blockIdx.y == 0 && threadIdx.x % 32 == 0 && delivered) atomicAdd(&call.clock->deliveries, delivered);
}

/// The released share of each of the step's spikes: a thread takes all spikes of a neuron.
__global__ void __launch_bounds__(threads) release_kernel(PathCall call) {
  const Projection& p = call.projections[blockIdx.z];
  if (!call.clock->running || !p.factors) return;
  const Ring& ring = call.rings[p.source];
  const int64_t n = call.clock->n;
  const Word from = ring.starts[slot_of(ring, n)], to = *ring.cursor, stride = Word{gridDim.x} * threads;
  const double begin = product(static_cast<double>(n), call.h);
  for (Word i = from + blockIdx.x * threads + threadIdx.x; i < to; i += stride) {
    const uint32_t neuron = at(ring, i).neuron;
    if (i > from && at(ring, i - 1).neuron == neuron) continue;
    if (p.offset[neuron] == p.offset[neuron + 1]) continue;
    Resources state = p.resources[neuron];
    double last = p.last[neuron];
    for (Word k = i; k < to && at(ring, k).neuron == neuron; ++k) {
      const double time = begin + at(ring, k).offset;
      p.factors[k & ring.mask] = fixed_factor(release(p.short_term, state, time - last));
      last = time;
    }
    p.resources[neuron] = state, p.last[neuron] = last;
  }
}

/// Traces of sources at the start of step n + `ahead`, where n has row `now`; fewer than `slots` steps away.
__device__ float* trace_row(const Projection& p, int64_t now, int64_t ahead) {
  int64_t row = now + ahead;
  if (row < 0) row += p.slots;
  if (row >= p.slots) row -= p.slots;
  return p.source_trace + row * p.sources;
}

/// A trace at the end of the step: it decays, then its neuron's spikes come.
__device__ float next_trace(const Stdp& rule, float trace, float decay, int spikes) {
  float next = product(trace, decay);
  for (int k = 0; k < spikes; ++k) next = rule.nearest ? 1.0f : next + 1.0f;
  return next;
}

/// Traces of sources and targets.
__global__ void __launch_bounds__(threads) trace_kernel(PathCall call) {
  const Projection& p = call.projections[blockIdx.z];
  if (!call.clock->running || !p.plastic) return;
  const int64_t n = call.clock->n, stride = int64_t{gridDim.x} * threads;
  const int64_t row = n % p.slots;
  const float* const before = trace_row(p, row, 0);
  float* const now = trace_row(p, row, 1);
  const uint8_t *source = call.rings[p.source].spiked, *target = call.rings[p.target].spiked;
  const int64_t most = p.sources > p.target_count ? p.sources : p.target_count;
  for (int64_t i = int64_t{blockIdx.x} * threads + threadIdx.x; i < most; i += stride) {
    if (i < p.sources) now[i] = next_trace(p.stdp, before[i], p.stdp.source_decay, source[i]);
    if (i < p.target_count) p.target_trace[i] = next_trace(p.stdp, p.target_trace[i], p.stdp.target_decay, target[i]);
  }
}

/// Spikes of targets potentiate their synapses: a warp takes all spikes of a neuron. It reads traces of sources that
/// are older than the step, so that it does not matter whether trace_kernel came before.
__global__ void __launch_bounds__(threads) potentiate_kernel(PathCall call) {
  const Projection& p = call.projections[blockIdx.z];
  if (!call.clock->running || !p.plastic) return;
  const Ring& ring = call.rings[p.target];
  const int64_t n = call.clock->n, row = n % p.slots, wait = call.printed ? 0 : 1;
  const Word from = ring.starts[slot_of(ring, n)], to = *ring.cursor;
  float* const changed = p.stdp.accumulated ? p.change : p.weight;
  for (Word i = from + blockIdx.x * warps + threadIdx.x / 32; i < to; i += gridDim.x * warps) {
    const uint32_t neuron = at(ring, i).neuron;
    if (i > from && at(ring, i - 1).neuron == neuron) continue;
    int spikes = 1;
    while (i + static_cast<Word>(spikes) < to && at(ring, i + static_cast<Word>(spikes)).neuron == neuron) ++spikes;
    for_synapses(p.incoming[neuron], p.incoming[neuron + 1], [&](uint64_t k) {
      const uint32_t synapse = p.incoming_synapse[k];
      const int64_t delay = p.delay ? p.delay[synapse] : p.shortest;
      const float trace = trace_row(p, row, 1 - delay - wait)[p.incoming_source[k]];
      float value = changed[synapse];
      for (int s = 0; s < spikes; ++s) value = potentiated(p.stdp, value, trace);
      changed[synapse] = value;
    });
  }
}

/// The end of an interval: kept sums go into the weights.
__global__ void __launch_bounds__(threads) apply_kernel(PathCall call) {
  const Projection& p = call.projections[blockIdx.z];
  if (!call.clock->running || !p.plastic || p.interval == 0 || (call.clock->n + 1) % p.interval != 0) return;
  const int64_t stride = int64_t{gridDim.x} * threads;
  for (int64_t i = int64_t{blockIdx.x} * threads + threadIdx.x; i < p.synapses; i += stride) {
    float change = p.change[i];
    p.weight[i] = applied(p.stdp, p.weight[i], change);
    p.change[i] = change;
  }
}

/// Warps for spikes, one in eight neurons, and chunks of their rows.
LaunchConfig spike_grid(const PathCall& call, int64_t longest, CudaStream stream) {
  return {dim3(blocks_for((call.shape.most_neurons + 7) / 8, warps, 1024), blocks_for(longest, chunk, 256),
               static_cast<unsigned>(call.projection_count)),
          dim3(threads), 0, stream};
}
LaunchConfig flat_grid(const PathCall& call, int64_t work, CudaStream stream) {
  return {dim3(blocks_for(work, threads, 1024), 1, static_cast<unsigned>(call.projection_count)), dim3(threads), 0,
          stream};
}

}  // namespace

void deliver(const PathCall& call, CudaStream stream) {
  const LaunchConfig config = spike_grid(call, call.shape.longest_group, stream);
  launch(deliver_kernel, config, call, false);
  if (call.shape.plastic && call.located) launch(deliver_kernel, config, call, true);
}

void learn(const PathCall& call, CudaStream stream) {
  const Shape& shape = call.shape;
  if (shape.short_term) launch(release_kernel, flat_grid(call, (shape.most_neurons + 7) / 8, stream), call);
  if (!shape.plastic) return;
  launch(trace_kernel, flat_grid(call, shape.most_neurons, stream), call);
  launch(potentiate_kernel, spike_grid(call, shape.longest_fan, stream), call);
  if (shape.most_gathered) launch(apply_kernel, flat_grid(call, shape.most_gathered, stream), call);
}

}  // namespace ranvier::kernels::synapse::cuda
