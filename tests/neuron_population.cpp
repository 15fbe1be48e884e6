// Populations against the same neurons alone, bit for bit, over solvers, modes, types and inputs; chunks, states,
// errors.
#include "engine/population.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <cstring>

#include "engine/fingerprint.h"
#include "models/neurons/presets.h"
#include "tests/support/errors.h"
#include "tests/support/neurons.h"
#include "tests/support/population.h"

namespace ranvier::test {
namespace {

using neuron::Mode;
using neuron::Population;
using neuron::PopulationSpec;
using neuron::Precision;
using neuron::Process;
using neuron::Protocol;
using neuron::Solver;
using neuron::SpikeEvent;
using neuron::Stimulus;
using testing::HasSubstr;

/// Neuron i of a population, alone.
Protocol alone(const PopulationSpec& spec, int64_t i, double duration) {
  Protocol p;
  p.parameters = spec.parameters;
  const auto take = [&](const char* key, double& to) {
    if (const auto found = spec.each.find(key); found != spec.each.end()) to = found->second[static_cast<size_t>(i)];
  };
  take("a", p.parameters.a), take("b", p.parameters.b), take("c", p.parameters.c), take("d", p.parameters.d);
  take("C", p.parameters.C);
  p.v0 = spec.v0, p.u0 = spec.u0;
  p.current = spec.current;
  if (!spec.current_each.empty()) p.current = p.current + Stimulus::constant(spec.current_each[static_cast<size_t>(i)]);
  for (const Process& q : spec.processes)
    p.current = p.current + neuron::noise(q.deviation, q.interval, duration, spec.seed, static_cast<uint64_t>(i));
  p.solver = spec.solver, p.mode = spec.mode, p.precision = spec.precision, p.spike_event = spec.spike_event;
  p.dt = spec.dt, p.duration = duration;
  return p;
}

/// Runs the population in pieces of `chunk` steps and compares every neuron with itself alone.
void expect_same_as_alone(const PopulationSpec& spec, int64_t steps, int64_t chunk, double time_tolerance = 0) {
  Population population(spec);
  std::vector<std::vector<double>> times(static_cast<size_t>(spec.size));
  for (int64_t done = 0; done < steps; done += chunk) {
    population.advance(std::min(chunk, steps - done));
    const neuron::Spike* before = nullptr;
    for (const neuron::Spike& s : population.spikes()) {
      EXPECT_TRUE(!before || std::tie(before->step, before->neuron) <= std::tie(s.step, s.neuron));
      before = &s;
      times[s.neuron].push_back(population.time_of(s));
    }
  }
  int64_t total = 0;
  for (int64_t i = 0; i < spec.size; ++i) {
    const neuron::Result one = neuron::simulate(alone(spec, i, static_cast<double>(steps) * spec.dt));
    const auto& got = times[static_cast<size_t>(i)];
    ASSERT_EQ(got.size(), one.spikes.size()) << "neuron " << i;
    EXPECT_EQ(population.counts()[static_cast<size_t>(i)], got.size());
    for (size_t k = 0; k < got.size(); ++k) {
      ASSERT_LE(std::abs(got[k] - one.spikes[k]), time_tolerance) << "neuron " << i << " spike " << k;
    }
    ASSERT_EQ(population.v(i), one.v) << "neuron " << i;
    ASSERT_EQ(population.u(i), one.u) << "neuron " << i;
    total += static_cast<int64_t>(got.size());
  }
  EXPECT_GT(total, spec.size) << "a test without spikes says nothing";
  EXPECT_EQ(population.total_spikes(), total);
}

constexpr Solver fixed[] = {Solver::euler, Solver::izhikevich, Solver::backward_euler, Solver::midpoint,
                            Solver::rk4,   Solver::ab2,        Solver::linear_implicit};

TEST(Population, IsBitEqualToNeuronsAlone) {
  for (const Solver solver : fixed)
    for (const Mode mode : {Mode::accurate, Mode::published})
      for (const Precision precision : {Precision::f32, Precision::f64}) {
        SCOPED_TRACE(fmt::format("{} {} {}", name(solver), name(mode), name(precision)));
        PopulationSpec spec = mixed(67);
        spec.solver = solver, spec.mode = mode, spec.precision = precision, spec.dt = 0.125;
        expect_same_as_alone(spec, 1600, 1600);
      }
}

TEST(Population, SharedParametersAreTheSameArithmetic) {
  for (const Solver solver : {Solver::euler, Solver::rk4, Solver::exponential, Solver::ab2})
    for (const Mode mode : {Mode::accurate, Mode::published})
      for (const Precision precision : {Precision::f32, Precision::f64}) {
        SCOPED_TRACE(fmt::format("{} {} {}", name(solver), name(mode), name(precision)));
        PopulationSpec spec;
        spec.size = 40, spec.solver = solver, spec.mode = mode, spec.precision = precision;
        spec.current = Stimulus::constant(4);
        for (int64_t i = 0; i < spec.size; ++i) spec.current_each.push_back(0.25 * static_cast<double>(i));
        expect_same_as_alone(spec, 1500, 1500);
      }
}

TEST(Population, PrintedSchemesAreBitEqual) {
  for (const Mode mode : {Mode::published_2003, Mode::published_2004})
    for (const Precision precision : {Precision::f32, Precision::f64})
      for (const SpikeEvent event : {SpikeEvent::peak, SpikeEvent::zero}) {
        SCOPED_TRACE(fmt::format("{} {} {}", name(mode), name(precision), name(event)));
        PopulationSpec spec = mixed(130);
        spec.mode = mode, spec.precision = precision, spec.spike_event = event;
        spec.dt = mode == Mode::published_2003 ? 1 : 0.25;
        expect_same_as_alone(spec, 400, 400);
      }
}

TEST(Population, StepsThatNeedPiecesOrSpikeTwiceAreBitEqual) {
  // 1 ms is beyond the pole of the implicit methods in an upstroke, and a strong current spikes twice in it.
  for (const Solver solver : {Solver::backward_euler, Solver::linear_implicit, Solver::rk4, Solver::exponential})
    for (const Precision precision : {Precision::f32, Precision::f64}) {
      SCOPED_TRACE(fmt::format("{} {}", name(solver), name(precision)));
      PopulationSpec spec = mixed(200);
      spec.solver = solver, spec.precision = precision, spec.dt = 1;
      for (double& current : spec.current_each) current *= 15;
      Population population(spec);
      population.advance(200);
      bool twice = false;
      for (size_t i = 1; i < population.spikes().size(); ++i)
        twice = twice || (population.spikes()[i].neuron == population.spikes()[i - 1].neuron &&
                          population.spikes()[i].step == population.spikes()[i - 1].step);
      EXPECT_TRUE(twice) << "a test without two spikes in a step says nothing";
      if (solver == Solver::backward_euler || solver == Solver::linear_implicit) {
        EXPECT_GT(population.pieces(), 0);
        int64_t pieces = 0;
        for (int64_t i = 0; i < spec.size; ++i) pieces += neuron::simulate(alone(spec, i, 200)).pieces;
        EXPECT_EQ(population.pieces(), pieces);
      }
      expect_same_as_alone(spec, 200, 200);
    }
}

TEST(Population, RampsOfManyNeuronsAreBitEqual) {
  for (const Solver solver : {Solver::backward_euler, Solver::midpoint, Solver::ab2}) {
    SCOPED_TRACE(name(solver));
    PopulationSpec spec = mixed(2100, false);  // more than a tile of shards
    spec.solver = solver, spec.precision = Precision::f64, spec.dt = 0.5;
    spec.current = Stimulus({{3.3, 0, 0.5}, {60.7, 20}});
    expect_same_as_alone(spec, 200, 70, 1e-12);  // times of pieces are added up differently
  }
}

TEST(Population, CrossingsOfZeroAreBitEqual) {
  for (const Mode mode : {Mode::accurate, Mode::published}) {
    PopulationSpec spec = mixed(33);
    spec.mode = mode, spec.spike_event = SpikeEvent::zero, spec.precision = Precision::f64;
    expect_same_as_alone(spec, 1500, 1500);
  }
}

TEST(Population, NoiseIsTheSameAsOfANeuronAlone) {
  for (const Mode mode : {Mode::accurate, Mode::published, Mode::published_2003}) {
    PopulationSpec spec = mixed(70);
    spec.mode = mode, spec.seed = 11, spec.dt = mode == Mode::published_2003 ? 1 : 0.25;
    spec.processes.push_back({.deviation = 5});
    expect_same_as_alone(spec, 300, 300);
    expect_same_as_alone(spec, 300, 7);
  }
}

TEST(Population, StepsAreSplitAtEdges) {
  PopulationSpec spec = mixed(20, false);
  spec.precision = Precision::f64;
  spec.current = Stimulus({{0, 2}, {10.03, 9}, {10.07, 4}, {33.33, 4, 0.1}, {80.01, 8}});
  for (const Solver solver : {Solver::rk4, Solver::midpoint, Solver::ab2}) {
    spec.solver = solver;
    expect_same_as_alone(spec, 1500, 13, 1e-12);
  }
  spec.mode = Mode::published;
  expect_same_as_alone(spec, 1500, 13);
}

TEST(Population, ChunksAndStateDoNotShow) {
  for (const Solver solver : {Solver::rk4, Solver::ab2}) {
    PopulationSpec spec = mixed(1500);
    spec.solver = solver;
    spec.processes = {{.deviation = 3},
                      {.kind = Process::Kind::ou, .mean = 1, .deviation = 2, .tau = 7, .stream = "ou"},
                      {.kind = Process::Kind::poisson, .tau = 3, .rate = 400, .weight = 0.5, .stream = "poisson"}};
    Population whole(spec), pieces(spec);
    whole.advance(1000);
    std::vector<std::pair<uint32_t, double>> want, got;
    for (const auto& s : whole.spikes()) want.emplace_back(s.neuron, whole.time_of(s));
    const auto take = [&](Population& p, int64_t n) {
      p.advance(n);
      for (const auto& s : p.spikes()) got.emplace_back(s.neuron, p.time_of(s));
    };
    for (const int64_t n : {1, 7, 64, 400}) take(pieces, n);
    Population resumed(spec);
    resumed.restore(pieces.state());
    EXPECT_EQ(resumed.step(), 472);
    take(resumed, 528);
    EXPECT_EQ(got, want);
    EXPECT_EQ(resumed.state(), whole.state());
    spec.seed = 1;
    Population other(spec);
    EXPECT_THROW(other.restore(whole.state()), Error);
  }
}

TEST(Population, DamagedStatesAreRefused) {
  PopulationSpec spec = mixed(40);
  Population population(spec);
  population.advance(100);
  const std::vector<std::byte> good = population.state();
  const double before = population.v(7);
  const auto error = [&](const std::vector<std::byte>& bytes) { return error_of([&] { population.restore(bytes); }); };
  for (size_t at = 16; at < good.size(); at += 13) {
    std::vector<std::byte> bytes = good;
    bytes[at] = ~bytes[at];
    ASSERT_THAT(error(bytes), HasSubstr("the state is damaged: its checksum is another")) << at;
  }
  std::vector<std::byte> bytes = good;
  bytes.pop_back();
  EXPECT_THAT(error(bytes), HasSubstr("it is cut or damaged"));
  bytes.resize(9);
  EXPECT_THAT(error(bytes), HasSubstr("ends in its first bytes"));
  bytes.assign(good.size(), std::byte{1});
  EXPECT_THAT(error(bytes), HasSubstr("this is not the state of a population"));
  bytes = good;
  const float none = std::nanf("");  // under a checksum that agrees
  std::memcpy(bytes.data() + 40 + 4 * 5, &none, 4);
  Fingerprint checksum;
  for (size_t word : {16, 24}) {
    uint64_t value;
    std::memcpy(&value, bytes.data() + word, 8);
    checksum.add(value);
  }
  checksum.add(bytes.data() + 40, bytes.size() - 40);
  const uint64_t value = checksum.value();
  std::memcpy(bytes.data() + 32, &value, 8);
  EXPECT_THAT(error(bytes), HasSubstr("5: the state has v = nan"));
  EXPECT_EQ(population.v(7), before);
  EXPECT_EQ(error(good), "no error");
}

// Own parameters take 4 bytes each in f32 where they are one coefficient; no copy in double is kept of them.
TEST(Population, OwnParametersAreKeptOnce) {
  PopulationSpec spec;
  spec.size = 4096, spec.precision = Precision::f32;
  const auto bytes = [&](std::vector<const char*> keys) {
    PopulationSpec own = spec;
    for (const char* key : keys) {
      const double middle = key == std::string("c")    ? -65
                            : key == std::string("v0") ? -70
                            : key == std::string("d")  ? 8
                                                       : 0.1;
      for (int64_t i = 0; i < spec.size; ++i) own.each[key].push_back(middle + 1e-5 * static_cast<double>(i));
    }
    const uint64_t billed = bytes_of(own) / 4096;
    Population population(std::move(own));
    EXPECT_TRUE(population.spec().each.empty());
    return billed;
  };
  const uint64_t shared = bytes({});
  EXPECT_EQ(shared, 12u);  // v, u and the count of spikes
  EXPECT_EQ(bytes({"c"}), shared + 4);
  EXPECT_EQ(bytes({"c", "d", "b"}), shared + 12);
  EXPECT_EQ(bytes({"a"}), shared + 8);
  EXPECT_EQ(bytes({"v0", "u0"}), shared);
}

TEST(Population, CountsAloneAreTheSame) {
  for (const Mode mode : {Mode::accurate, Mode::published, Mode::published_2003, Mode::published_2004})
    for (const Precision precision : {Precision::f32, Precision::f64}) {
      PopulationSpec spec = mixed(300);
      spec.mode = mode, spec.precision = precision, spec.dt = 0.5;
      Population with(spec);
      spec.record_spikes = false;
      Population without(spec);
      with.advance(800), without.advance(800);
      EXPECT_TRUE(without.spikes().empty());
      for (int64_t i = 0; i < spec.size; ++i) {
        EXPECT_EQ(with.counts()[static_cast<size_t>(i)], without.counts()[static_cast<size_t>(i)]);
        EXPECT_EQ(with.v(i), without.v(i));
      }
      EXPECT_GT(with.total_spikes(), 300);
    }
}

/// Synaptic current is the drive; conductance against a neuron whose coefficients hold it.
TEST(Population, SynapticInputEntersTheEquation) {
  PopulationSpec spec;
  spec.size = 2, spec.precision = Precision::f64;
  Population plain([&] {
    PopulationSpec with = spec;
    with.current = Stimulus::constant(10);
    return with;
  }());
  Population fed(spec);
  for (double& x : fed.synaptic_current<double>()) x = 10;
  plain.advance(1000), fed.advance(1000);
  EXPECT_EQ(plain.spikes().size(), fed.spikes().size());
  EXPECT_NEAR(plain.v(0), fed.v(0), 1e-9);
  PopulationSpec leak = spec;  // g = 0.3, E = -40: q1 - g, q0 + g E
  leak.parameters.q1 -= 0.3, leak.parameters.q0 += 0.3 * -40;
  Population coefficients(leak), conductance(spec);
  for (double& x : conductance.conductance<double>()) x = 0.3;
  for (double& x : conductance.reversal<double>()) x = 0.3 * -40;
  coefficients.advance(1000), conductance.advance(1000);
  EXPECT_GT(coefficients.total_spikes(), 0);
  EXPECT_EQ(coefficients.total_spikes(), conductance.total_spikes());
  EXPECT_NEAR(coefficients.v(1), conductance.v(1), 1e-9);
  EXPECT_THROW(fed.synaptic_current<float>(), Error);
}

TEST(Population, HalvesOfAPrintedStepAreTheStep) {
  PopulationSpec spec = mixed(100);
  spec.mode = Mode::published_2003, spec.dt = 1;
  Population whole(spec), halves(spec);
  for (int step = 0; step < 200; ++step) {
    whole.advance(1);
    halves.begin_step();
    ASSERT_EQ(whole.spikes().size(), halves.spikes().size());
    halves.end_step();
    for (int64_t i = 0; i < spec.size; ++i) ASSERT_EQ(whole.v(i), halves.v(i));
  }
  EXPECT_GT(whole.total_spikes(), 100);
  EXPECT_EQ(whole.total_spikes(), halves.total_spikes());
}

TEST(Population, ProcessesHaveTheirMoments) {
  PopulationSpec spec;
  spec.size = 20000, spec.solver = Solver::euler, spec.dt = 1;
  spec.processes = {{.kind = Process::Kind::ou, .mean = 3, .deviation = 2, .tau = 5}};
  Population ou(spec);
  const auto moments = [&](Population& p) {
    double sum = 0, square = 0;
    for (int64_t i = 0; i < spec.size; ++i) {
      const double x = p.external_current(i);
      sum += x, square += x * x;
    }
    const double mean = sum / 20000;
    return std::pair{mean, std::sqrt(square / 20000 - mean * mean)};
  };
  ou.advance(1);
  std::vector<double> first;
  for (int64_t i = 0; i < spec.size; ++i) first.push_back(ou.external_current(i) - 3);
  ou.advance(5);  // one tau later
  EXPECT_NEAR(moments(ou).first, 3, 0.06);
  EXPECT_NEAR(moments(ou).second, 2, 0.05);
  double product = 0;
  for (int64_t i = 0; i < spec.size; ++i) product += first[static_cast<size_t>(i)] * (ou.external_current(i) - 3);
  EXPECT_NEAR(product / 20000 / 4, std::exp(-1), 0.03);
  // Shot noise: mean rate tau w, variance rate tau w^2 / 2, both for decay at the end of each interval.
  spec.processes = {{.kind = Process::Kind::poisson, .tau = 5, .rate = 1000, .weight = 0.5}};
  Population shots(spec);
  shots.advance(60);
  const double keep = std::exp(-0.2);
  EXPECT_NEAR(moments(shots).first, 0.5 / (1 - keep), 0.03);
  EXPECT_NEAR(moments(shots).second, 0.5 / std::sqrt(1 - keep * keep), 0.02);
}

TEST(Population, SinusoidAndTable) {
  PopulationSpec spec;
  spec.size = 3, spec.precision = Precision::f64;
  spec.processes = {{.kind = Process::Kind::sinusoid, .amplitude = 1, .frequency = 25, .phase = 0.25}};
  Population wave(spec);
  wave.advance(37);
  EXPECT_NEAR(wave.external_current(1), std::cos(2 * M_PI * 25e-3 * 3.7), 1e-12);
  // Second order in dt: the halved step is four times nearer to a fine one. Subthreshold.
  const auto end = [&](double dt) {
    spec.dt = dt;
    Population p(spec);
    p.advance(std::llround(100 / dt));
    EXPECT_EQ(p.total_spikes(), 0);
    return p.v(0);
  };
  const double truth = end(0.01), coarse = end(0.4), fine = end(0.2);
  EXPECT_NEAR((coarse - truth) / (fine - truth), 4, 0.5);
  spec.dt = 0.1;
  spec.processes = {{.kind = Process::Kind::table, .interval = 0.5, .values = {1, 2, 3, 4, 5, 6}}};
  Population table(spec);
  table.advance(5);
  table.advance(1);
  EXPECT_EQ(table.external_current(2), 6);
  table.advance(100);
  EXPECT_EQ(table.external_current(0), 4) << "the last row stays";
}

/// The row of the accuracy table: f32 against f64, 1000 RS 2003, I ~ U(0, 15), 1 s, midpoint located, h = 0.1 ms.
TEST(Population, F32AgreesWithF64) {
  PopulationSpec spec;
  spec.size = 1000, spec.solver = Solver::midpoint;
  for (int64_t i = 0; i < spec.size; ++i) spec.current_each.push_back(15 * uniform(3, i));
  Population narrow(spec);
  spec.precision = Precision::f64;
  Population wide(spec);
  narrow.advance(10000), wide.advance(10000);
  int64_t equal = 0;
  for (size_t i = 0; i < 1000; ++i) {
    const int64_t difference = int64_t{narrow.counts()[i]} - int64_t{wide.counts()[i]};
    EXPECT_LE(std::abs(difference), 1) << "neuron " << i;
    equal += difference == 0;
  }
  EXPECT_GE(equal, 990);
  EXPECT_GT(wide.total_spikes(), 10000);
}

std::string error_of(const PopulationSpec& spec) {
  try {
    Population population(spec);
    population.advance(20000);
  } catch (const Error& error) {
    return error.what();
  }
  return "";
}

TEST(Population, BadInputNamesTheNeuron) {
  const auto expect = [](const PopulationSpec& spec, std::vector<std::string> parts) {
    const std::string message = error_of(spec);
    for (const std::string& part : parts) EXPECT_NE(message.find(part), std::string::npos) << message;
    EXPECT_EQ(message.find('\n'), std::string::npos);
  };
  PopulationSpec spec = mixed(50);
  spec.name = "cells";
  PopulationSpec bad = spec;
  bad.each["c"][17] = 31;
  expect(bad, {"cells 17", "v_peak", "31"});
  bad = spec, bad.each["c"][3] = std::nan("");
  expect(bad, {"cells 3", "nan"});
  bad = spec, bad.each["tau"] = std::vector<double>(50, 1.0);
  expect(bad, {"'tau'"});
  bad = spec, bad.each["a"].pop_back();
  expect(bad, {"a has 49 values for 50"});
  bad = spec, bad.size = 0;
  expect(bad, {"size 0"});
  bad = spec, bad.dt = -1;
  expect(bad, {"dt", "-1"});
  bad = spec, bad.solver = Solver::reference;
  expect(bad, {"reference", "fixed step"});
  bad = spec, bad.current_each[9] = std::nan("");
  expect(bad, {"cells 9", "current"});
  bad = spec, bad.processes = {{.interval = 0}};
  expect(bad, {"interval = 0"});
  bad = spec, bad.processes = {{.kind = Process::Kind::table, .values = {1, 2}}};
  expect(bad, {"table of 2 values"});
  // A neuron that spikes without end in one step, and one that diverges.
  bad = spec, bad.current_each[41] = 1e7;
  expect(bad, {"cells 41 runs away", "8 spikes"});
  bad = spec, bad.solver = Solver::euler, bad.mode = Mode::published, bad.dt = 0.5, bad.each["a"][5] = 8;
  expect(bad, {"cells 5 left the range of numbers"});
}

}  // namespace
}  // namespace ranvier::test
