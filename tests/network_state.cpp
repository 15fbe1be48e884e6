// A network's states: refused where the description is another or a byte is damaged.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <cmath>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <functional>

#include "engine/fingerprint.h"
#include "models/neurons/connectivity.h"
#include "models/neurons/networks.h"
#include "tests/support/errors.h"
#include "tests/support/network.h"

namespace ranvier::neuron {
namespace {

using test::cells;
using test::error_of;
using testing::HasSubstr;

/// A file of this process that goes with it.
struct Scratch {
  std::string path =
      (std::filesystem::temp_directory_path() / fmt::format("ranvier-network-state-{}", getpid())).string();
  ~Scratch() { std::filesystem::remove(path); }
};

// A state is of one description: whatever is changed in it, the state is refused; damaged ones too.
TEST(NetworkState, OfOtherNetworksAndDamagedOnesAreRefused) {
  const auto make = [] {
    NetworkSpec s;
    s.mode = Mode::accurate, s.dt = 0.5;
    s.populations = {cells("a", 20, 10), cells("b", 10)};
    s.populations[0].processes.push_back({.deviation = 3});
    s.populations[0].each["d"].assign(20, 7.5);
    s.populations[1].current_each.assign(10, 1);
    ConnectSpec c;
    c.name = "ab", c.dt = s.dt, c.sources = 20, c.targets = 10, c.weight.a = 1;
    c.rule.kind = Rule::Kind::out_degree, c.rule.degree = 4, c.delay = {Draw::Kind::integers, 1, 3};
    s.projections.push_back({"ab", 0, 1, synapse_named("ampa"), connect(c), ShortTermRule{}, StdpRule{}});
    s.projections.push_back({"ba", 1, 0, synapse_named("ampa"), {}, {}, {}});
    s.projections[1].connections.offset.assign(11, 0);
    s.kick = Kick{5, 1};
    return s;
  };
  const Scratch scratch;
  const std::string& path = scratch.path;
  Network mine(make());
  mine.run(100), mine.save(path);
  Network(make()).load(path);
  const std::vector<std::function<void(NetworkSpec&)>> changes = {
      [](NetworkSpec& s) { s.populations[0].parameters.a = 0.1; },
      [](NetworkSpec& s) { s.populations[0].each["d"][3] = 7; },
      [](NetworkSpec& s) { s.populations[0].processes[0].deviation = 9; },
      [](NetworkSpec& s) { s.populations[0].processes[0].interval = 2; },
      [](NetworkSpec& s) { s.populations[0].current = Stimulus::constant(11); },
      [](NetworkSpec& s) { s.populations[1].current_each[2] = 0; },
      [](NetworkSpec& s) { s.projections[0].synapse.tau = 6; },
      [](NetworkSpec& s) { s.projections[0].synapse.reversal = -10; },
      [](NetworkSpec& s) { s.projections[0].connections.weight[5] = 2; },
      [](NetworkSpec& s) { s.projections[0].connections.target[0] ^= 1; },
      [](NetworkSpec& s) { ++s.projections[0].connections.delay[3]; },
      [](NetworkSpec& s) { s.projections[1].connections.same_part = 3; },
      [](NetworkSpec& s) { s.projections[0].short_term->U = 0.4; },
      [](NetworkSpec& s) { s.projections[0].stdp->minus = 0.2; },
      [](NetworkSpec& s) { s.kick->current = 6; },
      [](NetworkSpec& s) { s.kick->interval = 2; },
      [](NetworkSpec& s) { s.dt = 0.25; },
      [](NetworkSpec& s) { s.solver = Solver::midpoint; },
      [](NetworkSpec& s) { s.seed = 1; },
  };
  for (size_t i = 0; i < changes.size(); ++i) {
    NetworkSpec other = make();
    changes[i](other);
    Network network(std::move(other));
    EXPECT_THAT(error_of([&] { network.load(path); }), HasSubstr("is not of this network")) << i;
  }
  std::ifstream file(path, std::ios::binary);
  const std::string whole((std::istreambuf_iterator<char>(file)), {});
  const size_t head = whole.find('\n') + 1;
  const double before = mine.v(0, 3);
  const auto load = [&](const std::string& bytes) {
    std::ofstream(path, std::ios::binary) << bytes;
    return error_of([&] { mine.load(path); });
  };
  for (size_t at = head + 16; at < whole.size(); at += 37) {
    std::string bytes = whole;
    bytes[at] = static_cast<char>(~bytes[at]);
    ASSERT_THAT(load(bytes), HasSubstr("is damaged: its checksum is another")) << at;
  }
  std::string bytes = whole;  // a checksum that agrees, over a potential that is none
  const double none = std::nan("");
  std::memcpy(bytes.data() + head + 16 + 8 * (2 + 2), &none, 8);
  Fingerprint checksum;
  checksum.add(bytes.data() + head + 16, bytes.size() - head - 16);
  const uint64_t value = checksum.value();
  std::memcpy(bytes.data() + head + 8, &value, 8);
  EXPECT_THAT(load(bytes), HasSubstr("holds nan"));
  EXPECT_THAT(load(whole + "x"), HasSubstr("has bytes beyond its state"));
  EXPECT_THAT(load(whole.substr(0, head + 5)), HasSubstr("ends in the middle"));
  EXPECT_THAT(load("text\n"), HasSubstr("is no state of a network"));
  EXPECT_EQ(mine.v(0, 3), before);
}

// The printed modes have no solver: a state goes on whatever the description names.
TEST(NetworkState, OfAPrintedModeAsksForNoSolver) {
  const Scratch scratch;
  const std::string& path = scratch.path;
  Network first(network("cortical1000", {.seed = 2}).spec),
      second(network("cortical1000", {.seed = 2, .solver = Solver::euler}).spec);
  first.run(50), first.save(path), second.load(path);
  EXPECT_EQ(second.step(), 50);
}

}  // namespace
}  // namespace ranvier::neuron
