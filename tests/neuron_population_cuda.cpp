// Populations on a CUDA device against the same ones on the CPU: states, spikes and counts with the same bits.
#include <gtest/gtest.h>

#include <cmath>

#include "tests/case.h"
#include "tests/support/population.h"

namespace ranvier::test {
namespace {

using neuron::Mode;
using neuron::Population;
using neuron::PopulationSpec;
using neuron::Precision;
using neuron::Process;
using neuron::Solver;
using neuron::SpikeEvent;
using neuron::Stimulus;

/// n neurons; where `own`, each has its parameters and current.
PopulationSpec neurons(int64_t n, bool own) {
  PopulationSpec spec = own ? mixed(n) : PopulationSpec{.size = n, .current = Stimulus::constant(12)};
  spec.dt = 0.125;
  for (int64_t i = 0; own && i < n; ++i) spec.each["C"].push_back(1 + 0.25 * uniform(1, i));
  return spec;
}

PopulationSpec on_device(PopulationSpec spec) {
  spec.device = Device::cuda();
  return spec;
}

void expect_same_state(const Population& a, const Population& b) {
  for (int64_t i = 0; i < a.size(); ++i) {
    ASSERT_EQ(a.v(i), b.v(i)) << "neuron " << i;
    ASSERT_EQ(a.u(i), b.u(i)) << "neuron " << i;
    ASSERT_EQ(a.counts()[static_cast<size_t>(i)], b.counts()[static_cast<size_t>(i)]) << "neuron " << i;
  }
  EXPECT_EQ(a.pieces(), b.pieces());
}

void expect_same_spikes(const Population& a, const Population& b) {
  ASSERT_EQ(a.spikes().size(), b.spikes().size());
  for (size_t k = 0; k < a.spikes().size(); ++k) {
    const neuron::Spike &x = a.spikes()[k], &y = b.spikes()[k];
    ASSERT_EQ(x.neuron, y.neuron) << k;
    ASSERT_EQ(x.step, y.step) << k;
    ASSERT_EQ(x.offset, y.offset) << k;
  }
}

/// Advances both in pieces of `chunk` steps; neurons must spike, or nothing is said.
void expect_same(const PopulationSpec& spec, int64_t steps, int64_t chunk) {
  Population host(spec), device(on_device(spec));
  for (int64_t done = 0; done < steps; done += chunk) {
    host.advance(std::min(chunk, steps - done)), device.advance(std::min(chunk, steps - done));
    expect_same_spikes(host, device);
  }
  expect_same_state(host, device);
  EXPECT_GT(host.total_spikes(), spec.size / 2);
}

class PopulationCuda : public testing::Test {
 protected:
  void SetUp() override {
    if (!cuda_support().usable) GTEST_SKIP() << "skipped: no CUDA device: " << cuda_support().why;
  }
};

TEST_F(PopulationCuda, EverySolverModeAndType) {
  for (const Solver solver : {Solver::euler, Solver::izhikevich, Solver::backward_euler, Solver::midpoint, Solver::rk4,
                              Solver::ab2, Solver::exponential, Solver::linear_implicit})
    for (const Mode mode : {Mode::accurate, Mode::published})
      for (const Precision precision : {Precision::f32, Precision::f64})
        for (const SpikeEvent event : {SpikeEvent::peak, SpikeEvent::zero}) {
          SCOPED_TRACE(fmt::format("{} {} {} {}", name(solver), name(mode), name(precision), static_cast<int>(event)));
          PopulationSpec spec = neurons(131, true);
          spec.solver = solver, spec.mode = mode, spec.precision = precision, spec.spike_event = event;
          expect_same(spec, 800, 333);
        }
}

TEST_F(PopulationCuda, SharedParametersAndCountsAlone) {
  for (const int64_t n : {1, 128, 129})
    for (const bool events : {false, true})
      for (const Mode mode : {Mode::accurate, Mode::published, Mode::published_2003, Mode::published_2004})
        for (const Precision precision : {Precision::f32, Precision::f64}) {
          SCOPED_TRACE(fmt::format("{} {} {} {}", n, events, name(mode), name(precision)));
          PopulationSpec spec = neurons(n, false);
          spec.mode = mode, spec.precision = precision, spec.record_spikes = events;
          if (mode == Mode::published_2003 || mode == Mode::published_2004) spec.dt = 1;
          expect_same(spec, 500, 500);
        }
}

// A step a call takes several neurons a thread; some spike, one after the other, and the last block is not full.
TEST_F(PopulationCuda, SingleSteps) {
  for (const int64_t n : {3, 130, 517})
    for (const Mode mode : {Mode::accurate, Mode::published})
      for (const Precision precision : {Precision::f32, Precision::f64})
        for (const bool own : {false, true}) {
          SCOPED_TRACE(fmt::format("{} {} {} {}", n, name(mode), name(precision), own));
          PopulationSpec spec = neurons(n, own);
          spec.mode = mode, spec.precision = precision, spec.dt = 0.5;
          expect_same(spec, 200, 1);
        }
}

// More spikes than a tile of the sort holds, and in one step more than the list: the step goes on where it stopped, a
// call of many steps or of this one.
TEST_F(PopulationCuda, LongListsOfSpikes) {
  PopulationSpec same = neurons(5000, false), mixed = neurons(5000, true);
  same.dt = mixed.dt = 0.5;
  expect_same(same, 150, 150), expect_same(mixed, 200, 200), expect_same(same, 150, 1);
}

TEST_F(PopulationCuda, PrintedSchemes) {
  for (const Mode mode : {Mode::published_2003, Mode::published_2004})
    for (const SpikeEvent event : {SpikeEvent::peak, SpikeEvent::zero}) {
      PopulationSpec spec = neurons(70, true);
      spec.each.erase("C"), spec.mode = mode, spec.spike_event = event, spec.dt = 0.5;
      expect_same(spec, 800, 100);
    }
  PopulationSpec spec = neurons(70, true);
  spec.each.erase("C"), spec.mode = Mode::published_2003, spec.dt = 1;
  Population host(spec), device(on_device(spec));
  const std::span<float> on_host = host.synaptic_current<float>(), there = device.synaptic_current<float>();
  for (int step = 0; step < 300; ++step) {
    host.begin_step(), device.begin_step();
    expect_same_spikes(host, device);
    for (size_t i = 0; i < on_host.size(); ++i) on_host[i] = there[i] = static_cast<float>(host.spikes().size());
    host.end_step(), device.end_step();
  }
  expect_same_state(host, device);
}

TEST_F(PopulationCuda, InputsThatChange) {
  for (const Solver solver : {Solver::rk4, Solver::ab2, Solver::backward_euler})
    for (const Precision precision : {Precision::f32, Precision::f64}) {
      PopulationSpec spec = neurons(67, true);
      spec.solver = solver, spec.precision = precision, spec.seed = 5;
      spec.current = Stimulus({{0, 0}, {9.7, 2}, {30.2, 2, 0.05}, {60, 3.5}});
      spec.processes.push_back({.kind = Process::Kind::noise, .deviation = 3, .interval = 1});
      spec.processes.push_back({.kind = Process::Kind::sinusoid, .amplitude = 2, .frequency = 20});
      spec.processes.push_back({.kind = Process::Kind::poisson, .tau = 3, .rate = 200, .weight = 2});
      SCOPED_TRACE(fmt::format("{} {}", name(solver), name(precision)));
      expect_same(spec, 900, 250);
    }
}

TEST_F(PopulationCuda, SynapticInputs) {
  PopulationSpec spec = neurons(67, true);
  spec.precision = Precision::f64;
  Population host(spec), device(on_device(spec));
  for (int step = 0; step < 400; ++step) {
    for (Population* p : {&host, &device})
      for (int64_t i = 0; i < spec.size; ++i) {
        const auto at = static_cast<size_t>(i);
        p->synaptic_current<double>()[at] = 0.01 * static_cast<double>(step % 100);
        p->conductance<double>()[at] = 0.001 * static_cast<double>(i % 7), p->reversal<double>()[at] = 0.01;
      }
    host.advance(2), device.advance(2);
    expect_same_spikes(host, device);
  }
  expect_same_state(host, device);
}

TEST_F(PopulationCuda, AListThatIsTooShortIsEmptiedAsOftenAsItFills) {
  for (const Mode mode : {Mode::accurate, Mode::published, Mode::published_2004})
    for (const Solver solver : {Solver::midpoint, Solver::ab2}) {
      PopulationSpec spec = neurons(1500, true);  // some 9000 spikes a call; the first list holds 4096
      spec.each.erase("C"), spec.mode = mode, spec.solver = solver;
      expect_same(spec, 1024, 1024);
    }
}

TEST_F(PopulationCuda, StatesGoFromOneDeviceToTheOther) {
  PopulationSpec spec = neurons(67, true);
  spec.solver = Solver::ab2;
  spec.processes.push_back({.kind = Process::Kind::ou, .deviation = 2, .tau = 5});
  Population host(spec), device(on_device(spec));
  host.advance(300), device.advance(300);
  const std::vector<std::byte> state = device.state();
  const std::vector<std::byte> on_host = host.state();
  ASSERT_EQ(state.size(), on_host.size());
  for (size_t i = 0; i < state.size(); ++i) ASSERT_EQ(state[i], on_host[i]) << "byte " << i << " of " << state.size();
  Population resumed(spec), back(on_device(spec));
  resumed.restore(state), back.restore(host.state());
  host.advance(300), resumed.advance(300), back.advance(300);
  expect_same_spikes(host, back);
  expect_same_state(host, resumed);
  expect_same_state(host, back);
}

TEST_F(PopulationCuda, WrittenStates) {
  const PopulationSpec spec = neurons(67, true);
  Population host(spec), device(on_device(spec));
  for (int round = 0; round < 3; ++round) {
    for (Population* p : {&host, &device}) p->v<float>()[5] = 29.5f, p->u<float>()[66] -= 1;
    host.advance(100), device.advance(100);
  }
  expect_same_state(host, device);
}

TEST_F(PopulationCuda, PeaksBelowZero) {
  for (const Mode mode : {Mode::accurate, Mode::published}) {
    PopulationSpec spec = neurons(70, true);
    spec.parameters.v_peak = -10, spec.mode = mode;
    expect_same(spec, 400, 400);
  }
}

// v = 0 at a step's start is no crossing of 0 mV, v = 0 at its end is one: 0.04 v^2 + 5 v + 140 - u = 20 at v = -10.
TEST_F(PopulationCuda, CrossingsOfZeroOnTheEdge) {
  const struct {
    double v, u;
    int64_t crossings;
  } starts[] = {{0, -13, 0}, {-10, 74, 1}};
  for (const auto& [v, u, crossings] : starts)
    for (const Device& where : {Device::cpu(), Device::cuda()}) {
      PopulationSpec spec = neurons(3, false);
      spec.current = Stimulus::constant(0), spec.v0 = v, spec.u0 = u, spec.precision = Precision::f64, spec.dt = 0.5;
      spec.mode = Mode::published_2004, spec.spike_event = SpikeEvent::zero, spec.device = where;
      Population population(spec);
      population.advance(1);
      EXPECT_EQ(population.total_spikes(), 3 * crossings) << where.description() << " from " << v;
    }
}

TEST_F(PopulationCuda, FailuresNameTheNeuron) {
  for (const Device& where : {Device::cpu(), Device::cuda()}) {
    PopulationSpec spec = neurons(200, false);
    spec.device = where, spec.name = "cells";
    Population runaway(spec);
    runaway.synaptic_current<float>()[77] = 1e6f;
    try {
      runaway.advance(10);
      ADD_FAILURE() << "no error on " << where.description();
    } catch (const neuron::PopulationFailure& failure) {
      EXPECT_EQ(failure.neuron, 77);
      EXPECT_NE(std::string(failure.what()).find("cells 77 runs away"), std::string::npos) << failure.what();
    }
    Population lost(spec);
    lost.v<float>()[133] = NAN;
    EXPECT_THROW(lost.advance(10), neuron::PopulationFailure);
    EXPECT_THROW(lost.advance(1), Error);
  }
}

}  // namespace
}  // namespace ranvier::test
