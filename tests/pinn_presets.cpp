// The solver without data on neurons of every kind, with other substitutions and another optimizer: exact spike times.
#include "models/pinn.h"
#include "models/pinn_segment.h"
#include "tests/support/spikes.h"

namespace ranvier::pinn {
namespace {

using test::expect_spikes;

/// Every preset to its first spikes: slow and fast recovery, jumps of u from 0.05 to 150, bursts.
TEST(PinnPresets, EveryPreset) {
  const struct {
    const char *name, *current;
    double duration;
    std::vector<double> exact;
  } cases[] = {
      {"ib2003", "10", 5.5, {3.127055304, 5.415407126}},
      {"ch2003", "10", 5, {3.127055304, 4.515874854}},
      {"fs2003", "10", 8, {3.152898752, 7.443815792}},
      {"lts2003", "10", 6, {2.468165339, 5.337103883}},
      {"tc2003", "10", 11, {2.468165339, 4.981288091, 7.539554712, 10.143053013}},
      {"rz2003", "10", 6, {2.391559002, 5.302637728}},
      {"ib2007", "step:600@1", 18, {17.375549319}},
  };
  for (const auto& c : cases) {
    SCOPED_TRACE(c.name);
    expect_spikes(solve(Neuron::preset(c.name), Current::parse(c.current), c.duration, Options::quality("fast")),
                  c.exact, 1e-4);
  }
}

/// A jump of u that is small, or none, against what u does between spikes: the residual of u is not measured in d.
TEST(PinnPresets, SmallJumpsOfU) {
  Neuron n = Neuron::preset("tc2003");
  EXPECT_EQ(scale_of_u(n, 20), 0.05 * 0.25 * 95);
  n.d = 0, n.b = 0;
  EXPECT_EQ(scale_of_u(n, 20), 0.05 * 0.04 * 400) << "u still moves v";
  EXPECT_EQ(scale_of_u(Neuron::preset("rs2007"), 20), 100);
  for (const uint64_t seed : {1u, 2u}) {
    Options options = Options::quality("fast");
    options.seed = seed;
    expect_spikes(solve(Neuron::preset("tc2003"), Current::parse("10"), 5, options), {2.468165339, 4.981288091}, 1e-4);
  }
}

/// A of v = v_c + A tan(phi) is free, and so is the optimizer.
TEST(PinnPresets, OtherSubstitutionsAndLevenbergMarquardt) {
  Options options = Options::quality("fast");
  for (const double A : {10.0, 40.0}) {
    options.A_mv = A;
    const Solution solution = solve(Neuron::preset("rs2003"), Current::parse("10"), 4, options);
    expect_spikes(solution, {3.127055304}, 1e-4);
    EXPECT_EQ(solution.A_mv, A);
  }
  options.A_mv = 20, options.levenberg_marquardt = true;
  expect_spikes(solve(Neuron::preset("rs2003"), Current::parse("10"), 4, options), {3.127055304}, 1e-4);
}

}  // namespace
}  // namespace ranvier::pinn
