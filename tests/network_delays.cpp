// Delays of networks: where spikes act by hand, and what becomes of delays that are no whole steps.
#include <gtest/gtest.h>

#include <cmath>
#include <map>

#include "tests/support/network.h"

namespace ranvier::neuron {
namespace {

using test::between;
using test::cells;

// Arrivals at a target by hand: the state of its receptor tells how many came in each step.
void expect_arrivals(const Network& before, const Network& after, int64_t target, double decay, double arrived) {
  const double there = after.receptor_state(1, 0, target) / decay - before.receptor_state(1, 0, target);
  ASSERT_NEAR(there, arrived, 1e-9) << "target " << target << " at " << before.time() << " ms";
}

// Spikes lie anywhere in a step and delays between steps: each acts in the first step that begins at or after its time
// + delay, by one delay, by delays of each synapse's own, and by rows of all targets in which one step has many delays.
TEST(Network, SpikesActAtTheFirstStepAfterTheirDelay) {
  for (const auto kind : {Rule::Kind::all_to_all, Rule::Kind::out_degree})
    for (const bool own : {false, true}) {
      const double dt = 0.5, tau = 5, decay = std::exp(-dt / tau);
      NetworkSpec spec;
      spec.dt = dt;
      spec.populations = {cells("a", 3, 10), cells("b", 300)};
      for (int64_t i = 0; i < 3; ++i) spec.populations[0].current_each.push_back(static_cast<double>(i));
      ConnectSpec c = between(spec, "ab", 0, 1);
      c.rule.kind = kind, c.rule.degree = 280, c.delay.a = 1.2;
      if (own) c.delay = {Draw::Kind::uniform, 0.5, 4};
      spec.projections.push_back({"ab", 0, 1, synapse_named("exponential"), connect(c), {}, {}});
      const Connections x = spec.projections[0].connections;
      EXPECT_TRUE(x.fractional());
      EXPECT_EQ(x.rounded_up, 0u);
      std::map<std::pair<int64_t, uint32_t>, int> due;  // by step and target
      Network network(spec), before(spec);
      std::vector<NetworkSpike> spikes;
      for (size_t seen = 0; network.step() < 400; before.run(1)) {
        network.run(1, &spikes);
        for (; seen < spikes.size(); ++seen) {
          if (spikes[seen].population != 0) continue;
          const uint32_t source = spikes[seen].neuron;
          for (uint64_t i = x.offset[source]; i < x.offset[source + 1]; ++i) {
            const double at = spikes[seen].time / dt + static_cast<double>(x.delay_of(i)) / 256;
            const auto target = x.target.empty() ? static_cast<uint32_t>(i - x.offset[source]) : x.target[i];
            ++due[{std::llround(std::ceil(at)), target}];
          }
        }
        for (uint32_t t = 0; t < 300; ++t)
          ASSERT_NO_FATAL_FAILURE(expect_arrivals(before, network, t, decay, due[{before.step(), t}]));
      }
      EXPECT_GT(network.spikes_of(0), 10);
      EXPECT_EQ(network.spikes_of(1), 0);
    }
}

// Delays are kept to the 256th of a step, rounded up; those of plastic synapses, and where spikes lie at the ends of
// steps, to whole ones, which is counted. What f32 makes of 11 steps of 0.1 ms is 11 steps.
TEST(Network, DelaysAreRoundedUp) {
  ConnectSpec c;
  c.name = "list", c.sources = c.targets = 10, c.dt = 0.1, c.rule.kind = Rule::Kind::one_to_one;
  const auto made = [&](double delay, bool whole) {
    c.delay.a = delay, c.whole_delays = whole;
    return connect(c);
  };
  for (const bool whole : {false, true}) {
    const Connections x = made(static_cast<double>(1.1f), whole);
    EXPECT_EQ(x.delay_of(0), 11 * 256);
    EXPECT_EQ(x.rounded_up, 0u);
  }
  EXPECT_EQ(made(1.15, false).delay_of(3), 11 * 256 + 128);
  EXPECT_EQ(made(1.13, false).delay_of(3), 11 * 256 + 77);  // 76.8
  EXPECT_EQ(made(1.13, true).delay_of(3), 12 * 256);
  EXPECT_EQ(made(1.13, true).rounded_up, 10u);
  c.dt = 0.001;  // as many steps as a delay may have
  EXPECT_EQ(made(20, false).delay_of(0), 20000 * 256);
  c.dt = 0.1;
  for (const double delay : {1953.1, 2000.0, 6499.9}) {
    EXPECT_EQ(made(delay, false).delay_of(0), std::llround(delay / 0.1) * 256) << delay;
    EXPECT_EQ(made(delay + 0.05, false).delay_of(0), std::llround(delay / 0.1) * 256 + 128) << delay;
  }
  c.whole_delays = true;
  c.delay = {Draw::Kind::uniform, 1, 5};
  const Connections drawn = connect(c);
  EXPECT_EQ(drawn.rounded_up, 10u);
  EXPECT_TRUE(drawn.part.empty());
  c.whole_delays = false;
  const Connections exact = connect(c);
  EXPECT_EQ(exact.rounded_up, 0u);
  for (uint64_t i = 0; i < 10; ++i) {
    EXPECT_TRUE(exact.delay_of(i) >= 10 * 256 && exact.delay_of(i) <= 50 * 256);
    EXPECT_EQ((exact.delay_of(i) + 255) / 256, drawn.delay[i]);
  }
  c.delay = {Draw::Kind::integers, 1, 5};
  EXPECT_FALSE(connect(c).fractional());
}

}  // namespace
}  // namespace ranvier::neuron
