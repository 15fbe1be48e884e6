// A population of a network: arrays, receptors and currents. Private to the engine.
#pragma once
#include <cmath>

#include "engine/neuron_network_run.h"
#include "engine/population_input.h"
#include "engine/population_run.h"

namespace ranvier::neuron {

kernels::synapse::Method method_of(Solver solver);
kernels::synapse::Resets resets_of(Mode mode);

template <class T>
struct Receiver {
  SynapseModel model;
  double largest = 0;  ///< |weight|
  kernels::LargeVector<int64_t> arrived;
  kernels::LargeVector<T> decaying, rising;
};

/// What one thread stepped.
struct Shard {
  int64_t begin = 0;
  kernels::synapse::Outcome outcome;
};

/// The neurons of n that belong to one of `threads`: whole tiles of noise and whole lines of memory.
Range range_of(int64_t n, int thread, int threads);

/// A population.
template <class T>
struct Cells {
  PopulationSpec spec;
  int64_t padded = 0;
  kernels::LargeVector<T> v, u, base;
  std::vector<kernels::LargeVector<T>> columns;  ///< k, then v_peak c d
  std::vector<double> capacity, q0;              ///< of p0 = (q0 + I) / C
  kernels::LargeVector<float> noise, field, external;
  std::vector<std::unique_ptr<Receiver<T>>> receivers;
  std::vector<kernels::synapse::ReceptorArrays<T>> arrays;
  kernels::synapse::Tick<T> tick;
  std::unique_ptr<kernels::synapse::Spike[]> room;
  std::vector<kernels::synapse::Spike> spikes;
  std::vector<Shard> shards;               ///< one a thread
  const Process* process = nullptr;        ///< the first noise, drawn where it is needed
  std::unique_ptr<PopulationSpec> driven;  ///< with the other processes, which change the constant current now and then
  std::unique_ptr<ExternalCurrent> processes;
  int64_t noise_steps = 1;
  uint64_t noise_stream = 0;
  double current_now = std::nan("");
  std::vector<double> own_current;  ///< scratch
  int kick = -1;                    ///< its receiver
};

/// Columns, start and currents of `from`; what the solver needs beside goes into `stepping`.
template <class T>
void make_cells(Cells<T>& c, const PopulationSpec& from, const NetworkSpec& network,
                kernels::synapse::Stepping& stepping);
/// Number of the receptor of this model, made where it is new or not to be shared; `largest`: the greatest |weight|.
template <class T>
int receiver(Cells<T>& c, const SynapseModel& model, double largest, bool shared);
/// When all receptors are known: their arrays and coefficients.
template <class T>
void finish_receivers(Cells<T>& c, double dt);

/// What all neurons get from time t on.
template <class T>
double shared_current(const Cells<T>& c, double t);
/// The constant current of step n; true where it is another than before.
template <class T>
bool stimulate(Cells<T>& c, int64_t n, const NetworkSpec& network);
/// The noise of step n for these neurons.
template <class T>
void make_noise(Cells<T>& c, Range own, int64_t n, uint64_t seed);

}  // namespace ranvier::neuron
