// One step of coupled neurons: what arrived, receptors, currents, the solver, resets and the list of spikes.
#pragma once
#include <cstdint>

#include "kernels/izhikevich/model.h"
#include "kernels/synapse/synapse.h"

namespace ranvier::kernels::synapse {

/// One-step methods of kernels/izhikevich/steps.h.
enum class Method : uint8_t { euler, semi_implicit, midpoint, rk4, backward_euler, exponential, linear_implicit };

/// Where resets happen, or which printed scheme runs.
enum class Resets : uint8_t { located, grid, printed_2003, printed_2004 };

/// A step's rule.
struct Stepping {
  Method method = Method::rk4;
  Resets resets = Resets::located;
  double h = 0.1;     ///< ms
  int doublings = 3;  ///< of Method::exponential
};

/// One value for all neurons or one each.
template <class T>
struct Column {
  const T* data = nullptr;
  bool each = false;
};

/// A receptor of the population.
template <class T>
struct ReceptorArrays {
  Kind kind = Kind::pulse;
  Receptor<T> step;
  T unit = 1;                  ///< weight of one fixed-point unit
  int64_t* arrived = nullptr;  ///< read and cleared
  T* decaying = nullptr;
  T* rising = nullptr;
};

/// A population's arrays; all have whole packs of 64 bytes, padding included.
template <class T>
struct Tick {
  int64_t n = 0;  ///< neurons
  T *v = nullptr, *u = nullptr;
  /// Coefficients: p2 p1 w ab ae abv, or q2 q1 q0 a b v_b e of the printed schemes.
  Column<T> k[7];
  Column<T> v_peak, c, d;
  Column<T> base;                ///< p0 without synapses: (q0 + I) / C; of the printed schemes I
  const float* noise = nullptr;  ///< current, or null
  const float* field = nullptr;  ///< current of a coupling from outside, or null
  const ReceptorArrays<T>* receptors = nullptr;
  int receptor_count = 0;
};

/// A spike `offset` ms after the step's start; on the grid, at its end.
struct Spike {
  double offset;
  uint32_t neuron;
};

/// How a range of neurons went.
struct Outcome {
  int64_t spikes = 0;
  int64_t failed = -1;   ///< first neuron without a bounded answer, or -1
  bool runaway = false;  ///< it spiked more than izhikevich::max_events times; else it left the range of numbers
};

/// Most spikes of one neuron in one step.
int most_spikes(Resets resets);

namespace cpu {

/// Steps neurons begin to end (begin a multiple of 16) and writes their spikes in the order of neurons; room for
/// (end - begin) * most_spikes.
template <class T>
Outcome tick(const Stepping& stepping, const Tick<T>& population, int64_t begin, int64_t end, Spike* spikes);

}  // namespace cpu
}  // namespace ranvier::kernels::synapse
