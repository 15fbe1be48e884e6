// Networks on a CUDA device: the launches of a step, and the device memory that they work on.
#pragma once
#include "kernels/common/stream.h"
#include "kernels/izhikevich/population.h"
#include "kernels/synapse/tick.h"

// Every launch is the same in every step: which step it is stands in the clock, and a launch of a step that shall not
// be made (the last is done, a ring has no room, a neuron failed) does nothing. So the host may give many steps at once
// and look afterwards how far they came.
//
// A population's spikes go into a ring in the order of steps, those of one neuron and step side by side. Nothing else
// is on its way: in step n a projection goes through the spikes of the last steps, longest delay to shortest, and finds
// by their age which group of their synapses is due. What reaches a neuron is a sum of integers, so that its order is
// free; what plasticity changes belongs to one thread in each launch.

namespace ranvier::kernels::synapse::cuda {

using Word = unsigned long long;  // what CUDA's 64-bit atomics take
using izhikevich::Event;          // neuron, step (its low 32 bits), offset

/// Where a network stands; the host sets all of it before a launch.
struct Clock {
  int64_t n = 0;         ///< step
  int64_t end = 0;       ///< not made any more
  uint32_t running = 0;  ///< 1: step n is being made
  uint32_t full = 0;     ///< 1: stopped because a ring might not hold the spikes of step n
  Word failure = 0;      ///< ~packed(failure) of the first neuron that failed in step n, or 0
  Word deliveries = 0;   ///< synapses
};

/// A failure as a number whose order is that of population, then neuron.
constexpr Word packed(uint32_t population, uint32_t neuron, bool runaway) {
  return Word{population} << 33 | Word{neuron} << 1 | (runaway ? 1 : 0);
}
constexpr uint32_t population_of(Word failure) { return static_cast<uint32_t>(failure >> 33); }
constexpr uint32_t neuron_of(Word failure) { return static_cast<uint32_t>(failure >> 1); }
constexpr bool is_runaway(Word failure) { return failure & 1; }

/// A population's spikes: number i since the start stands at i & mask.
struct Ring {
  Event* events = nullptr;
  Word mask = 0;              ///< places - 1; places are a power of two
  Word worst = 0;             ///< spikes that a step may add
  Word* cursor = nullptr;     ///< number of the next spike
  Word* drained = nullptr;    ///< the host has those before it
  Word* starts = nullptr;     ///< the cursor at the start of step m, at m modulo slots
  int64_t slots = 0;          ///< at least reach + 2
  int64_t reach = 0;          ///< step n needs the spikes of step n - reach and later ones
  uint8_t* spiked = nullptr;  ///< spikes of each neuron in the step, where a plastic projection asks
  int64_t neurons = 0;
  int64_t* kicked = nullptr;  ///< sums of the receptor that a kick acts on
  int32_t kick = 0;           ///< its weight in their units
};

/// A population.
template <class T>
struct Cells {
  Tick<T> tick;
  int64_t first_block = 0;  ///< of `tick`
  int64_t noise_steps = 0;  ///< that noise is held; 0: there is none
  uint64_t noise_stream = 0;
  float mean = 0, deviation = 1;
  float* noise = nullptr;
};

/// A projection.
struct Projection {
  int source = 0, target = 0;         ///< populations
  const uint64_t* offset = nullptr;   ///< sources + 1
  const uint32_t* targets = nullptr;  ///< null: each row reaches all in their order
  const uint16_t* delay = nullptr;    ///< steps, rising in each row with `part`; null: all `same_delay`
  const uint8_t* part = nullptr;      ///< 256ths of a step beyond them; null: none
  int same_delay = step_parts;        ///< 256ths of a step
  bool fractional = false;            ///< some delay is no whole number of steps
  int64_t sources = 0, target_count = 0, synapses = 0;
  int shortest = 1, longest = 1;   ///< delays, steps, rounded up
  const int32_t* fixed = nullptr;  ///< weights of synapses that are not plastic
  int64_t* sums = nullptr;         ///< of the receptor
  double unit = 1;                 ///< fixed-point units of weight 1
  // short-term plasticity
  ShortTerm short_term{};
  Resources* resources = nullptr;  ///< per source
  double* last = nullptr;
  int32_t* factors = nullptr;  ///< beside the source's ring; null: all of the weight, always
  // STDP
  bool plastic = false;
  Stdp stdp{};
  int64_t interval = 0;  ///< steps; 0: weights change at once
  float *weight = nullptr, *change = nullptr;
  float *source_trace = nullptr, *target_trace = nullptr;
  int64_t slots = 0;                   ///< rows of source_trace
  const uint64_t* incoming = nullptr;  ///< targets + 1
  const uint32_t *incoming_source = nullptr, *incoming_synapse = nullptr;
};

/// A population's cells in the field; count 0: none of them is in it.
struct FieldCells {
  int64_t first = 0, count = 0;
  double kappa = 0;          ///< current a uV
  float* current = nullptr;  ///< of each over the step
};

/// The field between the cells of a network, engine/neuron_field.h; without cells there is none.
struct Field {
  int64_t cells = 0;
  double lambda = 0, unit = 0, h = 0;               ///< unit: of sums, kernels/coupling/field.h; h: a step, ms
  double tau[2] = {}, decay[2] = {}, mean[2] = {};  ///< of what decays and of the rise
  const double *places = nullptr, *charges = nullptr, *radii = nullptr;
  double* state = nullptr;  ///< two a cell: what decays, then the rise
  const FieldCells* populations = nullptr;
};

/// A current into one neuron of all, drawn anew every `steps` steps; 0: there is none.
struct Kick {
  int64_t steps = 0;
  uint64_t stream = 0, neurons = 0;
};

/// What decides which launches a step has, and their grids.
struct Shape {
  int64_t blocks = 0;         ///< of `tick`
  int64_t most_neurons = 0;   ///< of a population
  int64_t longest_group = 0;  ///< about the most synapses of a projection that a spike reaches in one step
  int64_t longest_fan = 0;    ///< plastic synapses of one target and projection
  int64_t most_gathered = 0;  ///< plastic synapses of a projection with an interval
  bool noise = false, short_term = false, plastic = false;
};

/// A network: arrays in device memory.
template <class T>
struct Net {
  Clock* clock = nullptr;
  const Ring* rings = nullptr;
  const Cells<T>* cells = nullptr;
  int populations = 0;
  const Projection* projections = nullptr;
  int projection_count = 0;
  uint64_t seed = 0;
  Kick kick;
  Field field;
  Stepping stepping;
  Shape shape;
};

/// Neurons that a block of `tick` steps.
constexpr int64_t block_width = 128;

/// One step: waits for nothing and allocates nothing. After the last of a batch `close` ends the step under way.
template <class T>
void step(const Net<T>& net, CudaStream stream);
template <class T>
void close(const Net<T>& net, CudaStream stream);

/// The part of `step` that ends the field's.
void field(const Clock* clock, const Ring* rings, int populations, const Field& f, CudaStream stream);

/// The part of `step` that moves the neurons, one file a group of methods.
template <class T, class Method>
void tick_with(const Net<T>& net, const Method& method, CudaStream stream);

}  // namespace ranvier::kernels::synapse::cuda
