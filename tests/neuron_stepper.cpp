// A neuron stepped by hand has the bits of `simulate`, and takes changes between steps.
#include "engine/neuron_stepper.h"

#include <gtest/gtest.h>

#include "models/neurons/current.h"
#include "models/neurons/presets.h"

namespace ranvier::neuron {
namespace {

Protocol protocol_of(const char* name, Solver solver, Mode mode, double dt) {
  const Preset p = preset(name);
  Protocol s = p.protocol(solver, mode);
  s.dt = dt, s.duration = 400;
  return s;
}

std::vector<double> spikes_by_hand(Stepper& stepper, double until) {
  while (stepper.time() + 0.5 * stepper.protocol().dt < until) stepper.advance();
  return stepper.take_spikes();
}

TEST(NeuronStepper, HasTheBitsOfSimulate) {
  for (const Solver solver : all_solvers()) {
    if (solver == Solver::reference || solver == Solver::linear_implicit_adaptive) continue;
    for (const Mode mode : {Mode::accurate, Mode::published})
      for (const char* name : {"ch2007", "rs2003", "pattern:c"}) {
        SCOPED_TRACE(fmt::format("{} {} {}", ranvier::neuron::name(solver), ranvier::neuron::name(mode), name));
        Protocol protocol = protocol_of(name, solver, mode, 0.25);
        protocol.current = protocol.current + parse_current("noise:sd=3,dt=1.1", {.duration = 400});
        const Result want = simulate(protocol);
        Stepper stepper(protocol);
        EXPECT_EQ(spikes_by_hand(stepper, 400), want.spikes);
        EXPECT_GT(want.spikes.size(), 0u);
        EXPECT_EQ(stepper.v(), want.v);
        EXPECT_EQ(stepper.u(), want.u);
        EXPECT_EQ(stepper.run().v_min, want.v_min);
        EXPECT_EQ(stepper.run().v_max, want.v_max);
        EXPECT_EQ(stepper.run().evaluations, want.evaluations);
      }
  }
  const Protocol printed = protocol_of("pattern:a", Solver::euler, Mode::published_2004, 0.25);
  Stepper stepper(printed);
  EXPECT_EQ(spikes_by_hand(stepper, 400), simulate(printed).spikes);
}

TEST(NeuronStepper, AChangeHoldsFromTheNextStep) {
  Protocol protocol = protocol_of("rs2007", Solver::rk4, Mode::accurate, 0.1);
  protocol.current = Stimulus::constant(0);
  Stepper stepper(protocol);
  spikes_by_hand(stepper, 100);
  stepper.change(protocol.parameters, Stimulus::constant(70));
  const std::vector<double> changed = spikes_by_hand(stepper, 400);
  protocol.current = Stimulus({{100, 70}});  // the same current, known from the start
  const std::vector<double> want = simulate(protocol).spikes;
  ASSERT_EQ(changed.size(), want.size());
  for (size_t i = 0; i < want.size(); ++i) EXPECT_NEAR(changed[i], want[i], 1e-9);
  // The same state goes on under other parameters as a run that starts there.
  Parameters other = protocol.parameters;
  other.C = 50, other.d = 20;
  Protocol later = protocol;
  later.v0 = stepper.v(), later.u0 = stepper.u(), later.parameters = other, later.current = Stimulus::constant(70);
  later.duration = 200;
  const double start = stepper.time();
  stepper.change(other, Stimulus::constant(70));
  const std::vector<double> after = spikes_by_hand(stepper, start + 200), fresh = simulate(later).spikes;
  ASSERT_EQ(after.size(), fresh.size());
  ASSERT_GT(fresh.size(), 2u);
  for (size_t i = 0; i < fresh.size(); ++i) EXPECT_NEAR(after[i] - start, fresh[i], 1e-9);
}

TEST(NeuronStepper, APeakMovedBelowTheNeuronIsASpike) {
  Protocol protocol = protocol_of("rs2007", Solver::rk4, Mode::accurate, 0.1);
  protocol.v0 = 10;
  Stepper stepper(protocol);
  Parameters lower = protocol.parameters;
  lower.v_peak = 0;
  stepper.change(lower, protocol.current);
  EXPECT_EQ(stepper.take_spikes(), std::vector<double>{0});
  EXPECT_EQ(stepper.v(), lower.c);
  EXPECT_EQ(stepper.u(), protocol.u0 + lower.d);
  Parameters bad = lower;
  bad.C = -1;
  EXPECT_THROW(stepper.change(bad, protocol.current), Error);
  EXPECT_EQ(stepper.protocol().parameters, lower);
  EXPECT_THROW(Stepper(protocol_of("rs2007", Solver::reference, Mode::accurate, 0.1)), Error);
}

}  // namespace
}  // namespace ranvier::neuron
