// What a neuron can be told: currents, presets, parameters, names; and what it refuses, in words.
#include <gtest/gtest.h>

#include <cmath>
#include <fstream>

#include "models/neurons/current.h"
#include "models/neurons/files.h"
#include "models/neurons/presets.h"
#include "tests/support/files.h"

namespace ranvier::neuron {
namespace {

using ranvier::testing::error_of;

std::vector<double> at(const Stimulus& current, std::initializer_list<double> times) {
  std::vector<double> values;
  for (double t : times) values.push_back(current.at(t));
  return values;
}

Stimulus parse(std::string_view spec) { return parse_current(spec, {}); }
using Values = std::vector<double>;

TEST(NeuronCurrent, Specifications) {
  EXPECT_EQ(at(parse("70"), {-5, 0, 1e6}), (Values{70, 70, 70}));
  EXPECT_EQ(at(parse("-2.5e1"), {0}), (Values{-25}));
  EXPECT_EQ(at(parse("step:70@100"), {0, 99.999, 100, 1000}), (Values{0, 0, 70, 70}));
  EXPECT_EQ(at(parse("pulse:9@10..12"), {9.9, 10, 11.99, 12}), (Values{0, 9, 9, 0}));
  EXPECT_EQ(at(parse("ramp:0..70@100..500"), {99, 100, 300, 500, 900}), (Values{0, 0, 35, 70, 70}));
  EXPECT_EQ(at(parse("ramp:-1..-3@0..4"), {2}), (Values{-2}));
}

TEST(NeuronCurrent, PartsAdd) {
  const Stimulus sum = parse("5 ; step:10@100;pulse:-3@100..200;ramp:0..8@150..190");
  EXPECT_EQ(at(sum, {0, 100, 170, 190, 200}), (Values{5, 12, 16, 20, 23}));
  const Stimulus twice = parse("step:1@10;step:1@10");
  EXPECT_EQ(twice.pieces().size(), 1u);
  EXPECT_EQ(at(twice, {10}), (Values{2}));
}

TEST(NeuronCurrent, OnsetsJustAfterATime) {
  const Stimulus printed({{10, 7, 0, true}, {13, 0}});
  EXPECT_EQ(at(printed, {10, 10.2, 12.8, 13}), (Values{0, 7, 7, 0}));
  const Stimulus sum = printed + Stimulus({{10, 1}});
  EXPECT_EQ(at(sum, {9, 10, 10.2, 13}), (Values{0, 1, 8, 1}));
}

TEST(NeuronCurrent, Noise) {
  const auto noise_of = [](uint64_t seed, uint64_t neuron) {
    return parse_current("noise:sd=5", {.seed = seed, .neuron = neuron, .duration = 20000});
  };
  const Stimulus noise = noise_of(1, 0);
  double sum = 0, squares = 0;
  for (int k = 0; k < 20000; ++k) {
    const double x = noise.at(k + 0.5);
    EXPECT_EQ(x, noise.at(k)) << "held for a millisecond";
    sum += x, squares += x * x;
  }
  EXPECT_NEAR(sum / 20000, 0, 4 * 5 / std::sqrt(20000.0));
  EXPECT_NEAR(std::sqrt(squares / 20000), 5, 0.1);
  EXPECT_EQ(noise_of(1, 0).at(17), noise.at(17));
  EXPECT_NE(noise_of(2, 0).at(17), noise.at(17));
  EXPECT_NE(noise_of(1, 1).at(17), noise.at(17));
  const Stimulus fine = parse("noise:sd=1,dt=0.25");
  EXPECT_NE(fine.at(0), fine.at(0.25));
  // the value of an interval does not depend on how long the run is
  EXPECT_EQ(parse_current("noise:sd=1", {.duration = 10}).at(5), parse_current("noise:sd=1", {.duration = 500}).at(5));
}

TEST(NeuronCurrent, Files) {
  const ranvier::testing::TemporaryFolder folder;
  const std::string path = (folder.path / "current.csv").string();
  ranvier::testing::write(path, "t_ms,current\n# onset\n1.5, 10\n\n2,-3e1\r\n");
  for (const std::string& spec : {path, "file:" + path})
    EXPECT_EQ(at(parse(spec), {0, 1.5, 1.99, 2, 100}), (Values{0, 10, 10, -30, -30}));
  EXPECT_EQ(at(parse(path + ";1"), {0, 1.5}), (Values{1, 11}));
  const std::pair<const char*, const char*> bad[] = {{"t,i\n2,1\n1,1\n", ":3: 1 ms does not come after 2 ms"},
                                                     {"1\n", ":1: '1' is not 't_ms,current'"},
                                                     {"1,x\n", ":1: 'x' is not a number"},
                                                     {"1,nan\n", "not finite"},
                                                     {"t,i\n", "no rows"}};
  for (const auto& [text, message] : bad) {
    ranvier::testing::write(path, text);
    const std::string error = error_of([&] { parse(path); });
    EXPECT_NE(error.find(message), std::string::npos) << error;
    EXPECT_NE(error.find("current.csv"), std::string::npos) << error;
  }
}

TEST(NeuronCurrent, BadSpecificationsAreNamed) {
  const std::pair<const char*, const char*> bad[] = {{"", "nothing"},
                                                     {"5;;6", "empty part"},
                                                     {"step:70", "@TIME"},
                                                     {"step:x@100", "'x'"},
                                                     {"pulse:9@10", "range"},
                                                     {"pulse:9@12..10", "before"},
                                                     {"ramp:5@0..1", "range"},
                                                     {"ramp:0..1@3..3", "before"},
                                                     {"noise:5", "not one of sd="},
                                                     {"noise:sd=-1", "negative"},
                                                     {"noise:", "sd=VALUE"},
                                                     {"noise:sd=1,dt=0", "dt"},
                                                     {"step:nan@3", "finite"},
                                                     {"wave:3", "neither a current"},
                                                     {"70pA", "neither a current"},
                                                     {"inf", "finite"}};
  for (const auto& [spec, message] : bad) {
    const std::string error = error_of([&] { parse(spec); });
    EXPECT_NE(error.find(message), std::string::npos) << spec << ": " << error;
  }
}

TEST(NeuronPreset, Names) {
  EXPECT_EQ(pattern_names().size(), 20u);
  for (const char* name : {"rs2003", "ib2003", "ch2003", "fs2003", "lts2003", "tc2003", "rz2003", "rs2007", "ib2007",
                           "ch2007", "pattern:a", "pattern:t", "cell:tcb"})
    EXPECT_EQ(preset(name).name, name);
  for (const std::string& name : preset_names()) EXPECT_NO_THROW(validate(preset(name).protocol())) << name;
  EXPECT_NE(error_of([] { preset("xx"); }).find("rs2007"), std::string::npos);
}

TEST(NeuronPreset, ParametersByName) {
  Preset p = preset("rs2007");
  EXPECT_EQ(p.start_v(), -60);
  EXPECT_EQ(p.start_u(), 0);
  set_parameters(p, "k=1,v_r=-70,vt=-50,C=50,vpeak=20,a=0.1,b=3,c=-55,d=7,u0=4");
  EXPECT_EQ(p.parameters, (Parameters{50, 1, 120, 3500, 0.1, 3, -70, 1, 20, -55, 7}));
  EXPECT_EQ(p.start_v(), -70);
  EXPECT_EQ(p.start_u(), 4);
  Preset q = preset("rs2003");
  set_parameters(q, "b=0.25,v0=-60");
  EXPECT_EQ(q.start_u(), -15);
  EXPECT_NE(error_of([&] { set_parameters(q, "k=1"); }).find("'k'"), std::string::npos);
  EXPECT_NE(error_of([&] { set_parameters(p, "q2=1"); }).find("'q2'"), std::string::npos);
  EXPECT_NE(error_of([&] { set_parameters(q, "a=x"); }).find("'x'"), std::string::npos);
  EXPECT_NE(error_of([&] { set_parameters(q, "a"); }).find("KEY=VALUE"), std::string::npos);
}

TEST(NeuronProtocol, NonsenseIsRefusedByName) {
  const auto refuses = [](auto&& change, const char* word) {
    Preset p = preset("rs2007");
    Protocol protocol = p.protocol();
    change(protocol);
    const std::string error = error_of([&] { simulate(protocol); });
    EXPECT_NE(error.find(word), std::string::npos) << word << ": " << error;
  };
  const double nan = std::nan(""), inf = INFINITY;
  refuses([](Protocol& p) { p.parameters.C = 0; }, "C = 0");
  refuses([](Protocol& p) { p.parameters.q2 = -1; }, "k (q2) = -1");
  refuses([](Protocol& p) { p.parameters.v_peak = -50; }, "v_peak = -50 is not above c = -50");
  refuses([&](Protocol& p) { p.parameters.a = nan; }, "a = nan");
  refuses([&](Protocol& p) { p.parameters.d = inf; }, "d = inf");
  refuses([](Protocol& p) { p.dt = 0; }, "dt = 0");
  refuses([&](Protocol& p) { p.dt = nan; }, "dt = nan");
  refuses([](Protocol& p) { p.duration = -1; }, "duration = -1");
  refuses([](Protocol& p) { p.duration = 1e13; }, "1e12 steps");
  refuses([&](Protocol& p) { p.v0 = nan; }, "v0");
  refuses([](Protocol& p) { p.v0 = 40; }, "v0 = 40 is not below v_peak = 35");
  refuses([](Protocol& p) { p.mode = Mode::published_2004; }, "form of 2003");
  refuses([](Protocol& p) { p.solver = Solver::reference, p.mode = Mode::published; }, "reference");
  refuses([](Protocol& p) { p.solver = Solver::reference, p.precision = Precision::f32; }, "f64 only");
  refuses([](Protocol& p) { p.spike_event = SpikeEvent::zero, p.parameters.v_peak = -10; }, "0mV");
  EXPECT_NE(error_of([] { solver_named("rk5"); }).find("linear-implicit-adaptive"), std::string::npos);
  EXPECT_NE(error_of([] { mode_named("exact"); }).find("published:2004"), std::string::npos);
}

TEST(NeuronProtocol, RunawaysNameTheNeuron) {
  Protocol protocol = preset("rs2007").protocol();
  protocol.parameters.c = 34.99, protocol.parameters.d = -1000;
  const std::string error = error_of([&] { simulate(protocol, "neuron 17"); });
  EXPECT_NE(error.find("neuron 17 runs away: more than 8 spikes"), std::string::npos) << error;
  Protocol coarse = preset("rs2007").protocol(Solver::rk4, Mode::published);
  coarse.dt = 10;
  EXPECT_NE(error_of([&] { simulate(coarse, "neuron 3"); }).find("neuron 3"), std::string::npos);
}

TEST(NeuronProtocol, StopsWhereAsked) {
  Protocol protocol = preset("rs2007").protocol();
  int asked = 0;
  protocol.stop = [&](const Result&) { return ++asked == 2; };
  const Result run = simulate(protocol);
  EXPECT_TRUE(run.stopped);
  EXPECT_EQ(run.steps, 2048);
  EXPECT_NEAR(run.t, 204.8, 1e-9);
  EXPECT_EQ(run.spikes.size(), 1u);
}

TEST(NeuronProtocol, TheLastStepEndsAtT) {
  for (const Solver solver : all_solvers()) {
    Protocol protocol = preset("rs2007").protocol(solver);
    protocol.duration = 250.03, protocol.dt = 0.25;
    const Result run = simulate(protocol);
    EXPECT_EQ(run.t, 250.03) << name(solver);
    EXPECT_EQ(run.spikes.size(), 1u) << name(solver);
  }
}

TEST(NeuronFiles, DamagedTracesAreNamed) {
  const ranvier::testing::TemporaryFolder folder;
  const std::string npy = (folder.path / "bad.npy").string(), csv = (folder.path / "bad.csv").string();
  for (const std::string& bytes :
       {std::string(), std::string("\x93NUMPY\x01\x00\xff\xff", 10), std::string(100, 'x')}) {
    ranvier::testing::write(npy, bytes);
    EXPECT_NE(error_of([&] { read_trace(npy); }).find("bad.npy"), std::string::npos);
  }
  ranvier::testing::write(csv, "t,v,u\n1,2\n");
  EXPECT_NE(error_of([&] { read_trace(csv); }).find("bad.csv:2"), std::string::npos);
}

}  // namespace
}  // namespace ranvier::neuron
