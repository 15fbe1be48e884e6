// A population of Izhikevich neurons through time: parameters, inputs, steps, spikes.
#pragma once
#include <cstdint>
#include <map>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "engine/device.h"
#include "engine/neuron.h"

// Every neuron has the bits of the same neuron run alone by `simulate` (neuron.h) with the same solver, mode and type.
// The loop of a network:
//
//   Population cells(spec);
//   std::span<float> current = cells.synaptic_current<float>();      // one value a neuron, 0 at first
//   while (cells.step() < steps) {
//     cells.advance(k);                                              // k steps, k at most the shortest delay
//     for (const Spike& s : cells.spikes()) ...                      // by step, neuron, time: the same on every
//     machine current[i] = ...                                               // held over the next `advance`
//   }
//
// In mode published_2003 the printed script adds the input of a step's spikes in the same step: call `begin_step`, read
// the spikes, write the current, then `end_step`; `advance` is n times both.

namespace ranvier::neuron {

/// A random or periodic current of every neuron, added to the stimulus. Values are pure functions of the seed, the
/// number of the interval and the neuron, so that no step, type, chunk or thread changes them; noise is drawn in f32.
struct Process {
  enum class Kind {
    noise,     ///< mean + deviation * normal, new every interval
    ou,        ///< Ornstein-Uhlenbeck: stationary mean and deviation, time constant tau, exact update an interval
    poisson,   ///< weight * (events of `rate` Hz), decaying with tau (0: held for the interval they fall into)
    sinusoid,  ///< amplitude * sin(2 pi (frequency t + phase)), linear inside a step (accurate) or held from its start
    table,     ///< values[k * neurons + i] in interval k, the last one held
  };
  Kind kind = Kind::noise;
  double mean = 0, deviation = 0;                  ///< current
  double tau = 5;                                  ///< ms
  double rate = 0, weight = 0;                     ///< Hz, current
  double amplitude = 0, frequency = 0, phase = 0;  ///< current, Hz, turns
  double interval = 1;                             ///< ms: noise_dt
  std::vector<double> values;                      ///< table
  std::string stream = "current/noise";            ///< name of the random stream
};

/// A population at its start.
struct PopulationSpec {
  std::string name = "neuron";  ///< errors say "NAME 17"
  int64_t size = 1;
  Parameters parameters;  ///< of all neurons, but for
  /// those that differ, by name (C q2 q1 q0 a b v_b e v_peak c d v0 u0): `size` values each.
  std::map<std::string, std::vector<double>> each;
  double v0 = -65, u0 = -13;
  Solver solver = Solver::rk4;  ///< one of fixed step
  Mode mode = Mode::accurate;
  Precision precision = Precision::f32;
  SpikeEvent spike_event = SpikeEvent::peak;
  double dt = 0.1;                   ///< ms
  Stimulus current;                  ///< of all neurons
  std::vector<double> current_each;  ///< a constant for each neuron besides; empty: none
  std::vector<Process> processes;
  uint64_t seed = 0;
  uint64_t first_element = 0;  ///< random streams see neuron i as first_element + i: populations of one network
  bool record_spikes = true;   ///< false: counts alone, which are faster
  Device device;               ///< where it is stepped, to the same bits on each
};

/// A spike of one neuron.
struct Spike {
  uint32_t neuron;
  uint32_t step;  ///< inside the last `advance`; it lies in [begin, end] of that step
  double offset;  ///< ms after the step's start: located, or the step's length (grid), or 0 (published:2003, :2004)
};

/// Throws Error naming key and value, and the neuron where one of many is wrong.
void validate(const PopulationSpec&);
/// Bytes that a Population of it holds on the host, and as many of the device's where that is not the host; and a line
/// for people.
uint64_t bytes_of(const PopulationSpec&);
std::string bill(const PopulationSpec&);

/// A neuron that cannot go on; the spikes of the steps before are kept.
struct PopulationFailure : Error {
  PopulationFailure(const std::string& what, int64_t neuron) : Error(what), neuron(neuron) {}
  int64_t neuron;
};

/// The neurons. Moves, does not copy.
class Population {
 public:
  /// Validates. Allocates all it will need but for the list of spikes, which grows to the busiest interval.
  explicit Population(PopulationSpec spec);
  ~Population();
  Population(Population&&) noexcept;
  Population& operator=(Population&&) noexcept;

  /// As given, but for `each`: columns that the kernels have in their own form are no longer kept.
  const PopulationSpec& spec() const;
  int64_t size() const { return spec().size; }
  double dt() const { return spec().dt; }
  /// Steps done, and ms.
  int64_t step() const;
  double time() const { return static_cast<double>(step()) * dt(); }

  /// `steps` steps. Steps are split where the stimulus jumps (mode accurate). Throws PopulationFailure.
  void advance(int64_t steps = 1);
  /// The two halves of a step of mode published_2003: resets (spikes() are those of this step), then the update.
  void begin_step();
  void end_step();

  /// Of the last `advance` or `begin_step`, by step, neuron and time; empty without record_spikes.
  std::span<const Spike> spikes() const;
  /// Step (0 is the population's first) and time in ms of one of them.
  int64_t step_of(const Spike& s) const;
  double time_of(const Spike& s) const;
  /// Spikes of each neuron since the start.
  std::span<const uint32_t> counts() const;
  int64_t total_spikes() const;
  /// Shorter pieces of steps that had no solution at full length.
  int64_t pieces() const;

  /// Input from synapses, one value a neuron, held over an `advance`; 0 until written. T is the population's type.
  /// Each is allocated by its first call. current: I. conductance: sum of g_j, and reversal: sum of g_j E_j, so that
  /// the membrane gets sum g_j (E_j - v); not in modes published:2003 and published:2004.
  template <class T>
  std::span<T> synaptic_current();
  template <class T>
  std::span<T> conductance();
  template <class T>
  std::span<T> reversal();

  /// States of the population's own type, `size` values; writing them is allowed until the next step. On a device the
  /// span is a copy: ask again after a step.
  template <class T>
  std::span<T> v();
  template <class T>
  std::span<T> u();
  /// The same widened.
  double v(int64_t neuron) const;
  double u(int64_t neuron) const;
  /// Means over all neurons, summed in f64 in the order of neurons.
  std::pair<double, double> mean_state() const;
  /// The external current of a neuron at the start of the next step (stimulus, constants, processes).
  double external_current(int64_t neuron) const;

  /// Everything that changes, as bytes; `restore` takes them back and goes on with the same bits. Throws Error where
  /// they are of another population (size, parameters, type, solver, mode, dt, seed, inputs), cut, damaged or not
  /// finite, and then changes nothing.
  std::vector<std::byte> state() const;
  void restore(std::span<const std::byte>);

  struct Implementation;

 private:
  std::unique_ptr<Implementation> implementation_;
};

}  // namespace ranvier::neuron
