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
/// ephaptic400: regular spiking cells without any synapse in each other's field, kappa 0.01 (our own).
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

/// Synchrony chi^2 of the counts of spikes in bins of `bin` ms from `begin` to `end`: the variance over time of the
/// mean count over the mean of the neurons' own variances. 1 where all fire as one, 1 / neurons where each is by itself
/// (Golomb and Rinzel, Physica D 72, 1994). 0 where nobody fires.
double synchrony(const std::vector<NetworkSpike>& spikes, const NetworkSpec& spec, double begin, double end,
                 double bin = 5);

/// kappa of all that are in the field; throws Error where there is none.
void set_kappa(NetworkSpec& spec, double kappa);

}  // namespace ranvier::neuron
