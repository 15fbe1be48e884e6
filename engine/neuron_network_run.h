// What a network is made of while it runs. Private to the engine.
#pragma once
#include "engine/neuron_network.h"
#include "engine/neuron_run.h"
#include "kernels/synapse/deliver.h"
#include "kernels/synapse/tick.h"

namespace ranvier::neuron {

/// Reads or writes everything that changes, one array after the other.
class StateArchive {
 public:
  std::vector<std::byte> bytes;
  bool loading = false;
  size_t at = 0;
  std::string source;  ///< of errors

  void raw(void* data, size_t size);
  template <class T>
  void value(T& x) {
    raw(&x, sizeof x);
  }
  /// An array whose size belongs to the network.
  template <class T>
  void fixed(std::vector<T>& x) {
    raw(x.data(), x.size() * sizeof(T));
  }
  /// A list whose size belongs to the state.
  template <class T>
  void list(std::vector<T>& x) {
    uint64_t n = x.size();
    value(n);
    if (loading) {
      if (n > (bytes.size() - at) / sizeof(T)) fail("{}: ends in the middle of its state", source);
      x.resize(n);
    }
    fixed(x);
  }
};

/// A spike on its way: the synapses of `source` from `begin` on, as far as they have one delay.
struct Arrival {
  uint64_t begin;
  uint32_t source;
  int32_t factor;
};

/// A projection.
struct Path {
  ProjectionSpec spec;
  int receptor = 0;  ///< of the target
  bool dense = false;
  std::vector<int32_t> fixed;  ///< weights; of plastic synapses spec.connections.weight stays and this is empty
  double unit = 1;
  std::vector<std::vector<Arrival>> due;  ///< by step, a ring
  // short-term plasticity, per source neuron
  kernels::synapse::ShortTerm short_term{};
  std::vector<kernels::synapse::Resources> resources;
  std::vector<double> last;
  // STDP
  kernels::synapse::Stdp stdp{};
  int64_t interval = 0;             ///< steps
  std::vector<float> change;        ///< kept sums
  std::vector<float> source_trace;  ///< a ring of `slots` rows
  std::vector<float> target_trace;
  int64_t slots = 0;
  std::vector<uint64_t> incoming;  ///< targets + 1
  std::vector<uint32_t> incoming_source, incoming_synapse;

  void prepare(int64_t sources, int64_t targets, const NetworkSpec& network, double unit);
  /// Puts a spike of neuron `source` of step n on its way; `wait` is the first delay's addition.
  void send(uint32_t source, int64_t n, int64_t wait, double time);
  /// Delivers what is due in step n; returns the number of synapses.
  int64_t deliver(int64_t n, int64_t targets, std::vector<int64_t>& sums, std::vector<int64_t>& scratch);
  /// Traces at the end of step n, then its spikes.
  void learn(int64_t n, int64_t wait, std::span<const kernels::synapse::Spike> source,
             std::span<const kernels::synapse::Spike> target);
  void state(StateArchive& archive);

 private:
  int64_t end_of(const Arrival& a) const;
  int64_t row_end(uint32_t source) const;
  void deliver_static(const std::vector<Arrival>& list, int64_t total, int64_t targets, std::vector<int64_t>& sums,
                      std::vector<int64_t>& scratch) const;
};

/// The part of Network that does not depend on the element type.
struct Network::Implementation {
  explicit Implementation(NetworkSpec s) : spec(std::move(s)) {}
  virtual ~Implementation() = default;
  virtual void run(int64_t steps, std::vector<NetworkSpike>* spikes) = 0;
  /// Brings what changes to the host's arrays where a device has it.
  virtual void fetch() const = 0;
  virtual double potential(int population, int64_t neuron, bool recovery) const = 0;
  virtual double receptor_state(int population, int receptor, int64_t neuron) const = 0;
  virtual std::span<float> external(int population) = 0;
  virtual void state(StateArchive& archive) = 0;
  /// Numbers that a checkpoint must share.
  std::string fingerprint() const;

  NetworkSpec spec;  ///< without the projections, which `paths` hold
  std::vector<Path> paths;
  std::unique_ptr<Field> field;
  int64_t n = 0, deliveries = 0;
  std::vector<int64_t> counts;  ///< spikes of populations
};

std::unique_ptr<Network::Implementation> make_network(NetworkSpec spec);

}  // namespace ranvier::neuron
