// What a network is made of while it runs. Private to the engine.
#pragma once
#include <cmath>

#include "engine/neuron_network.h"
#include "engine/neuron_run.h"
#include "kernels/common/large_vector.h"
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
  template <class T, class Allocator>
  void fixed(std::vector<T, Allocator>& x) {
    raw(x.data(), x.size() * sizeof(T));
    if constexpr (std::is_floating_point_v<T>)
      for (size_t i = 0; loading && i < x.size(); ++i)
        if (!std::isfinite(x[i])) fail("{}: holds {}, which is no state of a neuron or synapse", source, x[i]);
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

/// Neighbouring synapses of one source that have one delay: its steps, 256ths of a step beyond them, and the number of
/// synapses, which stands in the four bytes of the next Group where it is not from 1 to 255.
struct Group {
  uint16_t delay;
  uint8_t part, count;
};

/// A spike on its way: the synapses of `source` from `begin` on, as far as it reaches them in one step. `group` begins
/// there, of a projection that has groups.
struct Arrival {
  uint64_t begin;
  uint64_t group : 48, moment : 16;  ///< `moment`: where in its step the spike was, kernels/synapse/synapse.h
  uint32_t source;
  int32_t factor;
};

/// Neurons of a population that one thread steps.
struct Range {
  int64_t begin, end;
};

/// A projection.
struct Path {
  ProjectionSpec spec;
  int receptor = 0;  ///< of the target
  bool dense = false;
  kernels::LargeVector<int32_t> fixed;  ///< weights; of plastic synapses spec.connections.weight stays, this is empty
  double unit = 1;
  /// Delays of static synapses, row by row. Plastic ones are asked for their delay one by one and have
  /// spec.connections.delay instead.
  std::vector<Group> groups;
  std::vector<uint64_t> first_group;      ///< of each row, and the end
  int64_t shortest = 0, longest = 0;      ///< delays in steps, rounded up
  bool fractional = false;                ///< some are no whole steps
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

  /// `unit`: fixed-point units of weight 1.
  void prepare(int64_t sources, int64_t targets, const NetworkSpec& network, double unit);
  /// A spike of `source` at the first of its synapses that it reaches not before `steps` after its own step; false
  /// where there is none.
  bool arrival(uint32_t source, int moment, int32_t factor, int64_t steps, Arrival& out) const;
  /// Steps from the spike's own to that in which it is there.
  int64_t steps_of(const Arrival& a) const;
  /// The most synapses that a spike at the very start of a step reaches in one; at another moment it may be more.
  int64_t longest_stretch() const;
  /// Lists that only the device reads from now on.
  void leave_to_device();
  /// Puts a spike of step n into the list of the step in which it is there.
  void post(const Arrival& a, int64_t n);
  /// Puts a spike of neuron `source` of step n on its way.
  void send(uint32_t source, int64_t n, int moment, double time);
  /// Delivers to these targets what is due in step n. Threads call it for ranges that have nothing in common.
  void deliver(int64_t n, Range targets, int64_t* sums);
  /// Puts what was delivered in step n on its way to the later targets; the number of synapses delivered.
  int64_t go_on(int64_t n);
  /// Traces at the end of step n, then its spikes.
  void learn(int64_t n, int64_t wait, std::span<const kernels::synapse::Spike> source,
             std::span<const kernels::synapse::Spike> target);
  void state(StateArchive& archive);
  /// Throws Error where a spike on its way, as read, is at no synapse.
  void check_arrival(const Arrival& a, const std::string& source) const;
  /// Bytes of the lists of synapses.
  double bytes() const;

 private:
  /// Synapses of one delay, and whether some of a longer one follow.
  struct Stretch {
    int64_t count;
    Arrival next;
    bool more;
  };
  void make_groups(int64_t sources);
  /// Synapses of the group at `group`, which goes on to the one after.
  uint64_t group_count(uint64_t& group) const;
  void sort_targets();
  void make_compact();
  void make_plastic(int64_t sources, const NetworkSpec& network);
  Stretch stretch_of(const Arrival& a) const;
  /// Calls body(part, count) for the stretches that a spike reaches in one step; the last of them.
  template <class Body>
  Stretch for_stretches(const Arrival& a, const Body& body) const;
  int64_t expected_stretch(const Arrival& a) const;
  template <class Index>
  void deliver_listed(const std::vector<Arrival>& list, const Index* target, Range range, int64_t* sums);

  int64_t targets_ = 0;
  // Where the network is stepped on the CPU these take the place of spec.connections.target: half of its bytes where
  // the targets are fewer than 65536.
  kernels::LargeVector<uint16_t> near_;
  kernels::LargeVector<uint32_t> far_;
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
  /// What a checkpoint must share, as a line for people and machines.
  std::string fingerprint() const;

  NetworkSpec spec;       ///< without the projections, which `paths` hold, and each neuron's own parameters
  uint64_t identity = 0;  ///< hash of the description: parameters, inputs, rules, synapses at the start
  std::vector<Sizes> cells_bill;
  std::vector<Path> paths;
  std::unique_ptr<Field> field;
  int64_t n = 0, deliveries = 0;
  std::vector<int64_t> counts;  ///< spikes of populations
};

std::unique_ptr<Network::Implementation> make_network(NetworkSpec spec);

}  // namespace ranvier::neuron
