// Networks by name and from TOML files.
#pragma once
#include <string>
#include <string_view>
#include <vector>

#include "engine/neuron_network.h"

namespace ranvier::neuron {

/// A network and how long it is meant to run.
struct NamedNetwork {
  std::string title;
  NetworkSpec spec;
  double duration = 1000;  ///< ms
};

/// What a command may set over a file or preset before synapses are made.
struct NetworkOverrides {
  std::optional<uint64_t> seed;
  std::optional<double> dt, duration;
  std::optional<Precision> precision;
  std::optional<Solver> solver;
  std::optional<Mode> mode;
  uint64_t memory_limit = 0;
};

/// cortical1000: net.m of Izhikevich 2003, 800 excitatory and 200 inhibitory neurons, all to all, noise new each ms.
/// polychronous2006: spnet of Izhikevich, Neural Computation 18 (2006), delays and STDP.
std::vector<std::string> network_names();
bool is_network(std::string_view name);
NamedNetwork network(std::string_view name, const NetworkOverrides& overrides = {});

/// A TOML file. Throws Error naming file, table and key, unknown ones too; and the bill where memory does not suffice,
/// before any synapse is made.
NamedNetwork read_network(const std::string& path, const NetworkOverrides& overrides = {});

/// Shares of the power of the population rate (spikes a ms, mean taken off) in [low, high] Hz.
double power_share(const std::vector<double>& rate, double low, double high);
/// The same of the spikes of so many ms.
double power_share(const std::vector<NetworkSpike>& spikes, double duration, double low, double high);

}  // namespace ranvier::neuron
