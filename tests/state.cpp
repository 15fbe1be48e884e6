// State inside a step is functional: reads see the start of the step, assignments the next one.
#include "engine/state.h"

#include <gtest/gtest.h>

#include "engine/ops.h"
#include "engine/program.h"
#include "tests/support/files.h"

namespace ranvier {
namespace {

using testing::error_of;
using Floats = std::vector<float>;

const Type three{DType::f32, {3}};

Tensor slot(Graph& graph, std::string_view name, float value) {
  return read(graph, "slots", name, three, init::constant(value));
}

class StateSteps : public ::testing::TestWithParam<bool> {
 protected:
  /// One run in the mode of the parameter: plain or checked.
  static void run(Program& program) { GetParam() ? program.run_checked() : program.run(); }
};
INSTANTIATE_TEST_SUITE_P(Modes, StateSteps, ::testing::Bool(),
                         [](const auto& info) { return info.param ? "checked" : "plain"; });

TEST_P(StateSteps, TwoSlabsSwap) {
  State state;
  Graph graph(state);
  const Tensor a = slot(graph, "a", 1), b = slot(graph, "b", 2);
  assign(graph, "slots", "a", b);
  assign(graph, "slots", "b", a);
  Program program = compile(graph, std::vector<Tensor>{});
  for (int step = 1; step <= 3; ++step) {
    run(program);
    EXPECT_EQ(state.get<float>("slots", "a"), Floats(3, step % 2 ? 2.0f : 1.0f));
    EXPECT_EQ(state.get<float>("slots", "b"), Floats(3, step % 2 ? 1.0f : 2.0f));
  }
}

TEST_P(StateSteps, ThreeSlabsRotateAndOneKeepsItsValue) {
  State state;
  Graph graph(state);
  const Tensor a = slot(graph, "a", 1), b = slot(graph, "b", 2), c = slot(graph, "c", 3), d = slot(graph, "d", 4);
  assign(graph, "slots", "a", b);
  assign(graph, "slots", "b", c);
  assign(graph, "slots", "c", a);
  assign(graph, "slots", "d", d);
  Program program = compile(graph, std::vector{a, d});
  run(program);
  EXPECT_EQ(state.get<float>("slots", "a"), Floats(3, 2));
  EXPECT_EQ(state.get<float>("slots", "b"), Floats(3, 3));
  EXPECT_EQ(state.get<float>("slots", "c"), Floats(3, 1));
  EXPECT_EQ(state.get<float>("slots", "d"), Floats(3, 4));
  EXPECT_EQ(program.get<float>(0), Floats(3, 1));
  EXPECT_EQ(program.get<float>(1), Floats(3, 4));
}

TEST_P(StateSteps, SwapOfComputedValues) {
  State state;
  Graph graph(state);
  const Tensor a = slot(graph, "a", 3), b = slot(graph, "b", 5);
  assign(graph, "slots", "a", a + b);
  assign(graph, "slots", "b", a - b);
  for (const bool fuse : {true, false}) {
    state.set<float>("slots", "a", Floats(3, 3));
    state.set<float>("slots", "b", Floats(3, 5));
    Program program = compile(graph, std::vector<Tensor>{}, {.fuse = fuse});
    run(program);
    EXPECT_EQ(state.get<float>("slots", "a"), Floats(3, 8));
    EXPECT_EQ(state.get<float>("slots", "b"), Floats(3, -2));
  }
}

TEST_P(StateSteps, AReadAfterTheAssignmentGivesTheOldValue) {
  State state;
  Graph graph(state);
  const Tensor w = slot(graph, "w", 10);
  assign(graph, "slots", "w", w * 2.0);
  const Tensor again = read(graph, "slots", "w");
  const Tensor later = again + 1.0;  // emitted after the assignment, still of the old value
  Program program = compile(graph, std::vector{again, later, w * 2.0});
  run(program);
  EXPECT_EQ(program.get<float>(0), Floats(3, 10));
  EXPECT_EQ(program.get<float>(1), Floats(3, 11));
  EXPECT_EQ(program.get<float>(2), Floats(3, 20));
  EXPECT_EQ(state.get<float>("slots", "w"), Floats(3, 20));
  run(program);
  EXPECT_EQ(program.get<float>(0), Floats(3, 20));
  EXPECT_EQ(state.get<float>("slots", "w"), Floats(3, 40));
}

TEST_P(StateSteps, StatisticsReadAndWrittenInOneStep) {
  State state;
  Graph graph(state);
  const Tensor x = input(graph, "x", {DType::f32, {4, 3}});
  const Tensor running = slot(graph, "mean", 0);
  const Tensor batch = mean(x, {0});
  assign(graph, "slots", "mean", running * 0.5 + batch * 0.5);
  Program program = compile(graph, std::vector{sum(x - running), read(graph, "slots", "mean")});
  program.set<float>("x", Floats(12, 8.0f));
  float expected = 0;
  for (int step = 0; step < 4; ++step) {
    run(program);
    EXPECT_FLOAT_EQ(static_cast<float>(program.scalar(0)), 12 * (8 - expected));
    EXPECT_EQ(program.get<float>(1), Floats(3, expected));
    expected = 0.5f * expected + 4;
    EXPECT_EQ(state.get<float>("slots", "mean"), Floats(3, expected));
  }
}

TEST_P(StateSteps, OneValueIntoTwoEntriesAndOutAsWell) {
  State state;
  Graph graph(state);
  const Tensor a = slot(graph, "a", 1);
  slot(graph, "b", 0);
  const Tensor next = sin(a) + 1.0;
  assign(graph, "slots", "a", next);
  assign(graph, "slots", "b", next);
  Program program = compile(graph, std::vector{next, cos(next)});
  run(program);
  EXPECT_EQ(state.get<float>("slots", "a"), program.get<float>(0));
  EXPECT_EQ(state.get<float>("slots", "b"), program.get<float>(0));
  EXPECT_FLOAT_EQ(program.get<float>(1)[0], std::cos(std::sin(1.0f) + 1));
}

TEST(State, AnOutputThatIsStateIsTheValueOfItsRun) {
  State state;
  Graph graph(state);
  Program program = compile(graph, std::vector{slot(graph, "a", 7), reshape(slot(graph, "a", 7), {3, 1})});
  program.run();
  state.set<float>("slots", "a", Floats(3, 9));
  EXPECT_EQ(program.get<float>(0), Floats(3, 7));
  EXPECT_EQ(program.get<float>(1), Floats(3, 7));
}

TEST(State, InputsAndConstantsCanBeAssigned) {
  State state;
  Graph graph(state);
  slot(graph, "a", 0), slot(graph, "b", 0);
  const Tensor x = input(graph, "x", three);
  assign(graph, "slots", "a", x);
  assign(graph, "slots", "b", constant<float>(graph, {3}, Floats{1, 2, 3}));
  Program program = compile(graph, std::vector<Tensor>{});
  program.set<float>("x", Floats{4, 5, 6});
  program.run();
  EXPECT_EQ(state.get<float>("slots", "a"), (Floats{4, 5, 6}));
  EXPECT_EQ(state.get<float>("slots", "b"), (Floats{1, 2, 3}));
}

TEST(State, TwoAssignmentsToOneEntryAreAnErrorThatNamesIt) {
  State state;
  Graph graph(state);
  const Tensor a = slot(graph, "a", 0);
  assign(graph, "slots", "a", a + 1.0);
  const std::string error = error_of([&] { assign(graph, "slots", "a", a + 2.0); });
  EXPECT_NE(error.find("slots/a"), std::string::npos) << error;
  EXPECT_NE(error.find("state.cpp:"), std::string::npos) << error;
}

TEST(State, AssignmentErrorsNameEntryAndTypes) {
  State state;
  Graph graph(state);
  slot(graph, "a", 0);
  std::string error = error_of([&] { assign(graph, "slots", "b", full(graph, three, 0)); });
  EXPECT_NE(error.find("slots/b"), std::string::npos) << error;
  error = error_of([&] { assign(graph, "slots", "a", full(graph, {DType::f32, {4}}, 0)); });
  EXPECT_NE(error.find("f32(3)"), std::string::npos) << error;
  EXPECT_NE(error.find("f32(4)"), std::string::npos) << error;
  error = error_of([&] { read(graph, "slots", "a", {DType::f64, {3}}); });
  EXPECT_NE(error.find("f64(3)"), std::string::npos) << error;
  EXPECT_NE(error_of([&] { state.get<double>("slots", "a"); }).find("slots/a"), std::string::npos);
  EXPECT_NE(error_of([&] { state.get<float>("slots", "c"); }).find("slots/c"), std::string::npos);
  EXPECT_NE(error_of([&] { state.set<float>("slots", "a", Floats(2)); }).find("3 elements"), std::string::npos);
}

TEST(State, SlabsGrowWhileAProgramIsCompiled) {
  State state;
  Graph first(state);
  const Tensor a = slot(first, "a", 1);
  assign(first, "slots", "a", a + 1.0);
  Program program = compile(first, std::vector{sum(a)});
  program.run();
  for (int grown = 0; grown < 20; ++grown) {
    Graph more(state);
    const Tensor b = read(more, "slots", "b" + std::to_string(grown), {DType::f32, {1000}}, init::constant(1));
    Program other = compile(more, std::vector{sum(b)});
    other.run();
    EXPECT_EQ(other.scalar(0), 1000.0);
    program.run();  // its slab has moved
  }
  EXPECT_EQ(program.scalar(0), 3.0 * 21);
  EXPECT_EQ(state.get<float>("slots", "a"), Floats(3, 22));
}

TEST(State, BindingsReadAnotherSlabOfTheSameNames) {
  State state;
  Graph graph(state);
  const Tensor w = parameter(graph, "w", {3}, init::constant(1));
  Graph averages(state);
  read(averages, "ema", "w", three, init::constant(5));
  Program plain = compile(graph, std::vector{w * 2.0});
  Program averaged = compile(graph, std::vector{w * 2.0, w}, {.bindings = {{"parameters", "ema"}}});
  plain.run(), averaged.run();
  EXPECT_EQ(plain.get<float>(0), Floats(3, 2));
  EXPECT_EQ(averaged.get<float>(0), Floats(3, 10));
  EXPECT_EQ(averaged.get<float>(1), Floats(3, 5));
}

TEST(State, BindingsThatDoNotFitAreErrors) {
  State state;
  Graph graph(state);
  const Tensor w = parameter(graph, "w", {3}, init::constant(1)), v = parameter(graph, "v", {3}, init::constant(1));
  Graph averages(state);
  read(averages, "ema", "w", {DType::f32, {30}}, init::constant(5));
  const PlanOptions to_ema{.bindings = {{"parameters", "ema"}}};
  std::string error = error_of([&] { compile(graph, std::vector{w}, to_ema); });
  EXPECT_NE(error.find("f32(30)"), std::string::npos) << error;
  error = error_of([&] { compile(graph, std::vector{v}, to_ema); });
  EXPECT_NE(error.find("no entry 'v'"), std::string::npos) << error;
  read(averages, "ema", "v", three, init::constant(5));
  assign(graph, "parameters", "v", v + 1.0);
  assign(graph, "ema", "v", v);
  error = error_of([&] { compile(graph, std::vector<Tensor>{}, to_ema); });
  EXPECT_NE(error.find("ema/v"), std::string::npos) << error;
}

TEST(State, ParametersMayBeF64AndStartFromTheSameWeights) {
  State narrow(Device::cpu(), 3), wide(Device::cpu(), 3);
  wide.set_parameter_type(DType::f64);
  Graph a(narrow), b(wide);
  {
    const Scope left(a, "layer"), right(b, "layer");
    EXPECT_EQ(parameter(a, "w", {5, 2}, init::normal(1)).dtype(), DType::f32);
    EXPECT_EQ(parameter(b, "w", {5, 2}, init::normal(1)).dtype(), DType::f64);
  }
  const Floats f32 = narrow.get<float>("parameters", "layer.w");
  const std::vector<double> f64 = wide.get<double>("parameters", "layer.w");
  EXPECT_EQ(std::vector<double>(f32.begin(), f32.end()), f64);
  EXPECT_NE(f32[0], f32[1]);
  State other(Device::cpu(), 4);
  Graph c(other);
  const Scope scope(c, "layer");
  parameter(c, "w", {5, 2}, init::normal(1));
  EXPECT_NE(other.get<float>("parameters", "layer.w"), f32);
}

TEST(State, EntriesOfEveryTypeKeepTheirValues) {
  State state;
  Graph graph(state);
  read(graph, "s", "i32", {DType::i32, {2}}, init::constant(-3));
  read(graph, "s", "i64", {DType::i64, {}}, init::constant(4));
  read(graph, "s", "u8", {DType::u8, {5}}, init::constant(200));
  read(graph, "s", "none", {DType::f32, {0, 3}});
  EXPECT_EQ(state.get<int32_t>("s", "i32"), (std::vector<int32_t>{-3, -3}));
  EXPECT_EQ(state.get<int64_t>("s", "i64"), (std::vector<int64_t>{4}));
  EXPECT_EQ(state.get<uint8_t>("s", "u8"), std::vector<uint8_t>(5, 200));
  EXPECT_TRUE(state.get<float>("s", "none").empty());
  state.set<int64_t>("s", "i64", std::vector<int64_t>{int64_t{1} << 60});
  EXPECT_EQ(state.get<int64_t>("s", "i64")[0], int64_t{1} << 60);
  for (const Entry& entry : state.entries()) EXPECT_EQ(entry.offset % 64, 0u);
}

TEST(State, ComputeTypes) {
  State cpu, gpu(Device::cuda());
  EXPECT_EQ(cpu.compute_type(), DType::f32);
  cpu.set_parameter_type(DType::f64);
  EXPECT_EQ(cpu.compute_type(), DType::f64) << "the parameters' own";
  cpu.set_compute_type(DType::f64);
  const auto error = [](State& state, DType type) { return error_of([&] { state.set_compute_type(type); }); };
  EXPECT_NE(error(cpu, DType::bf16).find("compute type bf16: the CPU computes in f32 or f64"), std::string::npos);
  EXPECT_NE(error(cpu, DType::f32).find("compute type f32 does not go with f64 parameters"), std::string::npos);
  for (DType type : {DType::f16, DType::bf16, DType::f32}) {
    gpu.set_compute_type(type);
    EXPECT_EQ(gpu.compute_type(), type);
    EXPECT_EQ(gpu.parameter_type(), DType::f32);
  }
  EXPECT_NE(error(gpu, DType::i32).find("compute type i32"), std::string::npos);
  gpu.set_parameter_type(DType::f64);
  EXPECT_NE(error(gpu, DType::bf16).find("does not go with f64 parameters"), std::string::npos);
}

}  // namespace
}  // namespace ranvier
