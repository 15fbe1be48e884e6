// Networks of Izhikevich populations: projections with delays, receptors and plasticity, delivered spike by spike.
#pragma once
#include <functional>
#include <memory>
#include <optional>

#include "engine/neuron_field.h"
#include "engine/population.h"
#include "kernels/synapse/synapse.h"

// A step: what is due arrives, receptors turn it into current and conductance, neurons step, their spikes are put on
// their way. A spike reaches its targets in the first step that begins at or after its time + delay. In modes
// published:2003 and published:2004 a spike's time is the start of the step in which v rose above the peak, as the
// scripts have it: a delay of one step means the next. Delays are counted in 256ths of a step, those of plastic
// synapses in whole ones; what lies between is rounded up before it comes here, so that no spike is early.

namespace ranvier::neuron {

/// The receptor that a projection's weights act on.
struct SynapseModel {
  kernels::synapse::Kind kind = kernels::synapse::Kind::pulse;
  double tau = 5;       ///< ms, of the decay (all but pulse)
  double tau_rise = 0;  ///< ms (nmda, gaba_b); weights are the peak's height
  double reversal = 0;  ///< mV (conductances)
  friend bool operator==(const SynapseModel&, const SynapseModel&) = default;
};
/// pulse, exponential, ampa, nmda, gaba_a, gaba_b with their usual constants: 5, 5, 150 (rise 2), 6, 150 (rise 10) ms
/// and 0, 0, -70, -90 mV (Izhikevich and Edelman, PNAS 105, 2008). Throws Error listing the names.
SynapseModel synapse_named(std::string_view name);
std::string_view name(kernels::synapse::Kind kind);

/// Short-term plasticity, see kernels/synapse/synapse.h.
struct ShortTermRule {
  double U = 0.5, tau_depression = 800, tau_facilitation = 0;  ///< ms; 0: none of it
};

/// STDP, see kernels/synapse/synapse.h. Units of the weight.
struct StdpRule {
  double plus = 0.1, minus = 0.12, tau_plus = 20, tau_minus = 20, low = 0, high = 10;
  bool nearest = false;
  double interval = 0, drift = 0, keep = 0;  ///< interval in ms; 0: weights change at once
  /// The rule of the 2006 network: traces of the nearest spike, applied once a second.
  static StdpRule published_2006();
};

/// Synapses by source neuron, within a source by delay; a network sorts those of one delay by target.
struct Connections {
  static constexpr int step_parts = kernels::synapse::step_parts;
  std::vector<uint64_t> offset;  ///< sources + 1
  std::vector<uint32_t> target;  ///< empty: every source reaches all targets in their order
  std::vector<float> weight;
  std::vector<uint16_t> delay;  ///< whole steps, at least one; empty: all `same_delay`
  std::vector<uint8_t> part;    ///< 256ths of a step beyond them; empty: none, or all `same_part`
  uint16_t same_delay = 1;
  uint8_t same_part = 0;
  uint64_t rounded_up = 0;  ///< synapses whose delay, as given or drawn, became a larger whole number of steps
  uint64_t count() const { return weight.size(); }
  /// Of synapse i, in 256ths of a step.
  int64_t delay_of(uint64_t i) const {
    const int64_t whole = delay.empty() ? same_delay : delay[i];
    return whole * step_parts + (delay.empty() ? same_part : part.empty() ? 0 : part[i]);
  }
  /// Whether a delay is no whole number of steps.
  bool fractional() const { return !part.empty() || same_part > 0; }
};

/// One projection.
struct ProjectionSpec {
  std::string name;
  int source = 0, target = 0;  ///< populations
  SynapseModel synapse;
  Connections connections;
  std::optional<ShortTermRule> short_term;
  std::optional<StdpRule> stdp;
};

/// `current` for 1 ms (a pulse) into one neuron, drawn anew every `interval` ms from all neurons of the network.
struct Kick {
  double current = 0, interval = 1;
};

/// A network at its start. Solver, mode, precision, dt and seed are the network's; those of the populations count not.
/// Populations take stimulus, current_each and processes, all held from a step's start to its end.
struct NetworkSpec {
  Solver solver = Solver::rk4;
  Mode mode = Mode::accurate;
  Precision precision = Precision::f64;
  double dt = 0.1;
  uint64_t seed = 0;
  std::vector<PopulationSpec> populations;
  std::vector<ProjectionSpec> projections;
  std::optional<Kick> kick;
  std::optional<FieldSpec> field;
  uint64_t memory_limit = 0;  ///< bytes; 0: what the machine has available
  Device device;              ///< where it is stepped, to the same bits on each
};

/// A spike of a network.
struct NetworkSpike {
  double time;  ///< ms
  uint32_t population, neuron;
};

/// A network under way.
class Network {
 public:
  /// Throws Error naming projection, neuron, key and value; where the device is not there; and with the bill where
  /// memory, the host's or the device's, does not suffice.
  explicit Network(NetworkSpec spec);
  ~Network();
  Network(Network&&) noexcept;

  /// Runs `steps` steps; spikes are appended to `spikes` (null: only counted), by time step, population and neuron.
  void run(int64_t steps, std::vector<NetworkSpike>* spikes = nullptr);

  /// A current of the caller's into each neuron of a population beside all others, 0 until written and held until it is
  /// written again: how a program steers a network that runs. On the CPU only. Not part of `save`.
  std::span<float> external(int population);

  const NetworkSpec& spec() const;
  int64_t step() const;
  double time() const { return static_cast<double>(step()) * spec().dt; }
  /// Spikes of a population so far, and weights delivered so far.
  int64_t spikes_of(int population) const;
  int64_t deliveries() const;
  double v(int population, int64_t neuron) const;
  double u(int population, int64_t neuron) const;
  /// Means over a population, summed in the order of neurons.
  std::pair<double, double> mean_state(int population) const;
  /// Potential of the field at a neuron now, uV; 0 where it is in none.
  double field(int population, int64_t neuron) const;
  /// State of a receptor: what decays (0: pulse). Receptors of a population in the order of the projections.
  double receptor_state(int population, int receptor, int64_t neuron) const;
  /// Weights of a projection now, in the order of its connections, sorted as there.
  std::vector<float> weights(int projection) const;
  std::string bill() const;

  /// All that changes, in one file; `load` goes on with the same bits. Throws Error where it is another network's.
  void save(const std::string& path) const;
  void load(const std::string& path);

  struct Implementation;

 private:
  std::unique_ptr<Implementation> implementation_;
};

/// Bytes of a network with these sizes, before any of it is made: throws Error with the bill where `limit` (0: the
/// machine's available memory) is less.
struct Sizes {
  std::string name;
  uint64_t items;  ///< neurons or synapses
  double bytes_an_item;
};
std::string check_memory(const std::vector<Sizes>& parts, uint64_t limit);

/// Independent networks side by side, one a thread: `make(i)` gives the i-th, `finish(i, network, spikes)` its end.
void run_batch(int64_t count, int64_t steps, const std::function<NetworkSpec(int64_t)>& make,
               const std::function<void(int64_t, const Network&, std::vector<NetworkSpike>&)>& finish);

}  // namespace ranvier::neuron
