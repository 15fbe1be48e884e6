// `ranvier bench networks`: one second of cortical1000, and synaptic events of a large sparse network.
#include <algorithm>

#include "models/neurons/connectivity.h"
#include "models/neurons/networks.h"
#include "tools/run.h"

namespace ranvier::cli {
namespace {

using Json = nlohmann::ordered_json;
using neuron::Network;
using neuron::NetworkSpec;

struct BenchNetworks {
  Common common;
  int64_t repeats = 5;
  std::string only;
};

/// 10,000 neurons with 1,000 synapses each, delays from 1 to 5 ms, 1 ms steps of the scheme of 2003. Noise makes them
/// fire at about 8 Hz; weights are balanced, so that the rate stays.
NetworkSpec sparse(uint64_t seed) {
  NetworkSpec s;
  s.mode = neuron::Mode::published_2003, s.dt = 1, s.seed = seed;
  neuron::PopulationSpec p;
  p.name = "cells", p.size = 10000, p.v0 = -65, p.u0 = -13;
  neuron::Process noise;
  noise.deviation = 6.5;
  p.processes.push_back(noise);
  s.populations.push_back(p);
  neuron::ConnectSpec c;
  c.name = "cells_cells", c.sources = c.targets = p.size, c.same = true, c.dt = 1, c.seed = seed;
  c.rule.kind = neuron::Rule::Kind::out_degree, c.rule.degree = 1000, c.rule.self = false;
  c.weight = {neuron::Draw::Kind::uniform, -0.05, 0.05};
  c.delay = {neuron::Draw::Kind::integers, 1, 5};
  s.projections.push_back({c.name, 0, 0, {}, neuron::connect(c)});
  return s;
}

void bench(const BenchNetworks& o) {
  const Device device = o.common.start();
  Json rows = Json::array();
  o.common.say("{:<28} {:>9} {:>10} {:>12} {:>14} {:>8} {:>8}", "network, 1 s biological, f64", "best s", "median s",
               "events", "events/s", "Hz", "cpu s");
  const auto row = [&](const char* name, const std::function<NetworkSpec()>& make) {
    std::vector<double> seconds, processor;
    int64_t events = 0, spikes = 0, neurons = 0;
    for (int64_t i = 0; i < o.repeats; ++i) {
      NetworkSpec spec = make();
      spec.device = device;
      Network network(std::move(spec));
      std::vector<neuron::NetworkSpike> list;
      list.reserve(1 << 17);
      if (device.backend == Backend::cuda) network.run(20, &list);  // everything travels, a step is recorded
      const int64_t events_before = network.deliveries(), spikes_before = network.spikes_of(0);
      const Stopwatch watch;
      network.run(1000, &list);
      seconds.push_back(watch.wall()), processor.push_back(watch.cpu());
      events = network.deliveries() - events_before, spikes = network.spikes_of(0) - spikes_before,
      neurons = network.spec().populations[0].size;
    }
    std::sort(seconds.begin(), seconds.end()), std::sort(processor.begin(), processor.end());
    const double best = seconds[0], median = seconds[seconds.size() / 2];
    const double rate = static_cast<double>(spikes) / static_cast<double>(neurons);
    o.common.say("{:<28} {:>9.4f} {:>10.4f} {:>12} {:>14.3g} {:>8.2f} {:>8.4f}", name, best, median, events,
                 static_cast<double>(events) / median, rate, processor[0]);
    rows.push_back({{"name", name},
                    {"best_seconds", best},
                    {"seconds", median},
                    {"best_cpu_seconds", processor[0]},
                    {"synaptic_events", events},
                    {"synaptic_events_per_second", static_cast<double>(events) / median},
                    {"rate_hz", rate}});
  };
  if (o.only != "sparse")
    row("cortical1000", [&] { return neuron::network("cortical1000", {.seed = o.common.seed.value_or(1)}).spec; });
  if (o.only != "cortical") {
    const NetworkSpec large = sparse(o.common.seed.value_or(1));
    row("10,000 x 1,000 synapses", [&] { return large; });
  }
  o.common.say("events/s is of the median; cpu s: the least processor time, of all threads");
  o.common.print({{"device", device.description()}, {"rows", rows}});
}

}  // namespace

void add_bench_networks(CLI::App& bench_command) {
  auto options = std::make_shared<BenchNetworks>();
  auto* command = subcommand(bench_command, "networks", "Networks of neurons: loop time and synaptic events a second");
  options->common.add_to(*command);
  command->add_option("--repeats", options->repeats, "Runs of each")->check(above_zero)->capture_default_str();
  command->add_option("--only", options->only, "cortical or sparse")->check(CLI::IsMember({"cortical", "sparse"}));
  command->callback([options] { bench(*options); });
}

}  // namespace ranvier::cli
