// Who connects to whom: rules and lists that make the synapses of a projection.
#pragma once
#include <optional>
#include <string>
#include <string_view>

#include "engine/neuron_network.h"

// Every draw is Philox of (seed, stream of the projection's name, source or target, number): the same synapses on every
// machine and with any number of threads.

namespace ranvier::neuron {

/// A weight or a delay: "5", "uniform 0 0.5", "normal 1 0.1 0 2" (mean, deviation, low, high: clipped),
/// "integers 1 20" (equally likely whole numbers), "distance 0.2 1" (low + distance / speed, mm and mm/ms).
struct Draw {
  enum class Kind { constant, uniform, normal, integers, distance };
  Kind kind = Kind::constant;
  double a = 0, b = 0;
  double low = -1e30, high = 1e30;
};
/// Throws Error naming `what`.
Draw parse_draw(std::string_view text, std::string_view what);

/// A rule.
struct Rule {
  enum class Kind { all_to_all, one_to_one, probability, in_degree, out_degree, sheet };
  Kind kind = Kind::all_to_all;
  double p = 0.1;        ///< probability; of sheet at distance 0
  int64_t degree = 100;  ///< in_degree, out_degree: distinct partners
  bool self = true;      ///< a neuron may reach itself (where source and target are one population)
  /// Sheet: neurons lie on a square grid of `width` mm; p exp(-d^2 / (2 sigma^2)), none beyond `cutoff`.
  double width = 1, sigma = 0.1, cutoff = 1e30;
  bool wrap = false;  ///< the sheet is a torus
};
/// "all_to_all", "one_to_one", "probability", "in_degree", "out_degree", "sheet".
Rule::Kind rule_named(std::string_view name);

/// Where and how a projection is made.
struct ConnectSpec {
  std::string name;
  int64_t sources = 0, targets = 0;
  bool same = false;  ///< source and target are one population
  Rule rule;
  Draw weight, delay{Draw::Kind::constant, 1};
  double dt = 0.1;
  bool whole_delays = false;  ///< plastic synapses, and modes whose spikes lie at the ends of steps, need no parts
  uint64_t seed = 0;
  bool weight_given = false, delay_given = false;  ///< a list that has its own is then an error
};

/// Synapses that the rule makes: exact, or (probability, sheet) a bound that is passed once in 10^9 times.
uint64_t expected_synapses(const ConnectSpec& spec);

/// Makes them. Delays are rounded up to 256ths of a step, so that no spike acts before its time + delay, or, where
/// `whole_delays`, to steps, and then counted; one under a step is an Error, as is any bad value.
Connections connect(const ConnectSpec& spec);

/// One line of a list.
struct Edge {
  uint32_t source, target;
  float weight;
  double delay;  ///< ms
};
/// A list as connections. Throws Error naming `from` and the line or row of an index out of range, a bad number, a
/// delay under one step, or a pair that comes twice.
Connections from_edges(const std::vector<Edge>& edges, const ConnectSpec& spec, const std::string& from,
                       int64_t first_line);

/// Lines of a CSV list and rows of a SONATA one, before any is read: what they will take.
uint64_t edges_in_csv(const std::string& path);
uint64_t edges_in_sonata(const std::string& path, const std::string& population);

/// CSV with a heading "source,target,weight,delay_ms" (weight and delay may be missing: the spec's draws' constants).
Connections read_edges_csv(const std::string& path, const ConnectSpec& spec);
/// SONATA HDF5: /edges/NAME/{source_node_id, target_node_id, 0/syn_weight, 0/delay}; NAME empty: the only population.
/// Attributes are row i of group 0 for edge i: another edge_group_index or edge_group_id is refused. Weights of
/// edge_types CSV are not read.
Connections read_edges_sonata(const std::string& path, const std::string& population, const ConnectSpec& spec);

}  // namespace ranvier::neuron
