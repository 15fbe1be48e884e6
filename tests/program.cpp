// Programs: setting and reading, and the checked run, which must catch ops that break the contract.
#include "engine/program.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>

#include "engine/op.h"
#include "engine/ops.h"
#include "tests/support/files.h"

namespace ranvier {
namespace {

using testing::error_of;
using Floats = std::vector<float>;

std::vector<Type> infer_same(std::span<const Type> in, const Attrs&) { return {in[0]}; }
int64_t length(const Call& call) { return call.node.out[0].shape.numel(); }
void copy(const Call& call, int64_t from, int64_t to) {
  for (int64_t i = from; i < to; ++i) call.out<float>(0)[i] = call.in<float>(0)[i];
}

// Ops that break the contract in one way each.
constexpr Variant beyond_variants[] = {{.name = "reference", .run = [](const Call& call) {
                                          copy(call, 0, length(call));
                                          call.out<float>(0)[length(call)] = 1;
                                        }}};
constexpr Variant before_variants[] = {{.name = "reference", .run = [](const Call& call) {
                                          copy(call, 0, length(call));
                                          call.out<float>(0)[-1] = 1;
                                        }}};
constexpr Variant lazy_variants[] = {
    {.name = "reference", .run = [](const Call& call) { copy(call, 0, length(call) - 1); }}};
constexpr Variant nan_variants[] = {{.name = "reference", .run = [](const Call& call) {
                                       copy(call, 0, length(call));
                                       call.out<float>(0)[2] = std::numeric_limits<float>::quiet_NaN();
                                     }}};
constexpr Variant greedy_variants[] = {{.name = "reference",
                                        .run =
                                            [](const Call& call) {
                                              copy(call, 0, length(call));
                                              static_cast<char*>(call.workspace)[64] = 1;
                                            },
                                        .workspace = [](const NodeView&, const void*) { return size_t{64}; }}};
const OpDef beyond_op{.name = "writes_beyond", .infer = infer_same, .variants = beyond_variants};
const OpDef before_op{.name = "writes_before", .infer = infer_same, .variants = before_variants};
const OpDef lazy_op{.name = "forgets_the_last", .infer = infer_same, .variants = lazy_variants};
const OpDef nan_op{.name = "makes_a_nan", .infer = infer_same, .variants = nan_variants};
const OpDef greedy_op{.name = "wants_more_scratch", .infer = infer_same, .variants = greedy_variants};

/// Where the op's result goes: scratch, an output of the program, or a slab.
enum class Result { scratch, output, state };

/// The message of a checked run of sin -> op under scope "layer", and the line that made the op.
std::string message(const OpDef& op, Result result, std::string& made) {
  State state;
  Graph graph(state);
  const Tensor x = input(graph, "x", {DType::f32, {50}});
  const Tensor kept = read(graph, "slots", "kept", x.type(), init::constant(7));
  Tensor y = sin(x) + kept;
  {
    const Scope scope(graph, "layer");
    y = graph.emit(op, {}, std::span(&y, 1), Where::current());
    made = "program.cpp:" + std::to_string(__LINE__ - 1);
  }
  if (result == Result::state) assign(graph, "slots", "kept", y);
  std::vector<Tensor> outputs;
  if (result == Result::scratch) outputs = {sum(y)};
  if (result == Result::output) outputs = {y};
  Program program = compile(graph, outputs);
  program.set<float>("x", Floats(50, 0.5f));
  const std::string error = error_of([&] { program.run_checked(); });
  EXPECT_EQ(state.get<float>("slots", "kept"), Floats(50, 7)) << op.name << ": a failed step changed the state";
  return error;
}

TEST(CheckedRun, NamesScopeOpAndLineOfWhoeverBreaksTheContract) {
  const std::pair<const OpDef*, const char*> cases[] = {
      {&beyond_op, "wrote outside"}, {&before_op, "wrote outside"}, {&lazy_op, "element 49 was never written"},
      {&nan_op, "element 2 is nan"}, {&greedy_op, "wrote outside"},
  };
  for (const Result result : {Result::scratch, Result::output, Result::state}) {
    for (const auto& [op, what] : cases) {
      std::string made;
      const std::string error = message(*op, result, made);
      for (const std::string& part : {std::string(what), std::string("layer ") + op->name, made})
        EXPECT_NE(error.find(part), std::string::npos)
            << op->name << " into " << static_cast<int>(result) << ": " << error;
      EXPECT_EQ(error.find('\n'), std::string::npos) << error;
    }
  }
}

TEST(CheckedRun, BlamesTheFirstNanAndNotTheOpsThatPassItOn) {
  State state;
  Graph graph(state);
  const Tensor x = input(graph, "x", {DType::f32, {4}});
  Tensor root;
  uint32_t line = 0;
  {
    const Scope scope(graph, "norm");
    root = log(x), line = __LINE__;
  }
  Program program = compile(graph, std::vector{exp(root) + 1.0}, {.fuse = false});
  program.set<float>("x", Floats{1, 2, -3, 4});
  const std::string error = error_of([&] { program.run_checked(); });
  EXPECT_NE(error.find("norm log"), std::string::npos) << error;
  EXPECT_NE(error.find("element 2"), std::string::npos) << error;
  EXPECT_NE(error.find("program.cpp:" + std::to_string(line)), std::string::npos) << error;
  program.set<float>("x", Floats{1, 2, NAN, 4});  // a NaN that comes from outside is nobody's fault
  EXPECT_NO_THROW(program.run_checked());
  program.set<float>("x", Floats{1, 0, 3, 4});
  EXPECT_NE(error_of([&] { program.run_checked(); }).find("-inf"), std::string::npos);
  program.set<float>("x", Floats{1, 2, 3, 4});
  EXPECT_NO_THROW(program.run_checked());
  EXPECT_NEAR(program.get<float>(0)[3], 5, 1e-5);
}

TEST(CheckedRun, GivesTheResultsOfAPlainRun) {
  State state;
  Graph graph(state);
  const Tensor x = input(graph, "x", {DType::f32, {31}});
  const Tensor w = parameter(graph, "w", {31}, init::normal(1));
  const Tensor loss = sum(square(sin(x * w) - x));
  assign(graph, "parameters", "w", w - 0.1 * w * loss);
  Program program = compile(graph, std::vector{loss, w});
  Floats values(31);
  for (size_t i = 0; i < values.size(); ++i) values[i] = 0.1f * static_cast<float>(i);
  program.set<float>("x", values);
  const Floats start = state.get<float>("parameters", "w");
  program.run();
  const Floats plain = state.get<float>("parameters", "w");
  const double plain_loss = program.scalar(0);
  state.set<float>("parameters", "w", start);
  program.run_checked();
  EXPECT_EQ(state.get<float>("parameters", "w"), plain);
  EXPECT_EQ(program.scalar(0), plain_loss);
  EXPECT_EQ(program.get<float>(1), start);
}

TEST(Program, BadUseIsAnErrorThatNamesTheThing) {
  State state;
  Graph graph(state);
  const Tensor x = input(graph, "x", {DType::f32, {4}});
  Program program = compile(graph, std::vector{sin(x), argmax(x)});
  EXPECT_NE(error_of([&] { program.set<float>("y", Floats(4)); }).find("'y'"), std::string::npos);
  std::string error = error_of([&] { program.set<float>("x", Floats(5)); });
  EXPECT_NE(error.find("f32(4)"), std::string::npos) << error;
  EXPECT_NE(error.find("5 elements"), std::string::npos) << error;
  EXPECT_NE(error_of([&] { program.set<double>("x", std::vector<double>(2)); }).find("f64"), std::string::npos);
  EXPECT_NE(error_of([&] { program.get<double>(0); }).find("f32(4)"), std::string::npos);
  EXPECT_NE(error_of([&] { program.get<float>(2); }).find("2 outputs"), std::string::npos);
  EXPECT_NE(error_of([&] { program.scalar(0); }).find("not a scalar"), std::string::npos);
}

TEST(Program, AScalarOutputIsReadInItsType) {
  State state;
  Graph graph(state);
  const Tensor x = input(graph, "x", {DType::f32, {4}});
  Program program = compile(graph, std::vector{argmax(x), sum(x)});
  program.set<float>("x", Floats{1, 5, 2, 3});
  program.run();
  EXPECT_EQ(program.get<int32_t>(0)[0], 1);
  EXPECT_EQ(program.scalar(1), 11);
  EXPECT_NE(error_of([&] { program.scalar(0); }).find("i32"), std::string::npos);
}

TEST(Program, OutlivesItsGraphWithItsConstants) {
  State state;
  Program program;
  {
    Graph graph(state);
    const Tensor x = input(graph, "x", {DType::f32, {3}});
    program = compile(graph, std::vector{x + constant<float>(graph, {3}, Floats{10, 20, 30})});
  }
  program.set<float>("x", Floats{1, 2, 3});
  program.run();
  EXPECT_EQ(program.get<float>(0), (Floats{11, 22, 33}));
}

TEST(Program, ProfileCountsEveryStep) {
  State state;
  Graph graph(state);
  const Tensor x = input(graph, "x", {DType::f32, {100}});
  Program program = compile(graph, std::vector{sum(sin(x))}, {.fuse = false});
  program.set<float>("x", Floats(100, 0.5f));
  std::vector<StepTime> times;
  program.run_profiled(times);
  program.run_profiled(times);
  ASSERT_EQ(times.size(), program.plan().steps.size());
  EXPECT_EQ(times[0].label, "sin (100)");
  EXPECT_EQ(times[0].bytes, 800u);
  for (const StepTime& time : times) EXPECT_GE(time.milliseconds, 0);
  EXPECT_NEAR(program.scalar(0), 100 * std::sin(0.5), 1e-3);
}

}  // namespace
}  // namespace ranvier

namespace ranvier {
namespace {

TEST(Program, ProbedValuesAreReadableByScopeAndName) {
  State state;
  Graph graph(state);
  const Tensor x = input(graph, "x", {DType::f32, {3}});
  Tensor y;
  {
    const Scope scope(graph, "block1");
    y = probe(x * 2.0, "doubled") + 1.0;
  }
  Program program = compile(graph, std::vector{y});
  EXPECT_EQ(program.outputs(), 1u);
  program.set<float>("x", std::vector<float>{1, 2, 3});
  program.run();
  EXPECT_EQ(program.get<float>("block1.doubled"), (std::vector<float>{2, 4, 6}));
  EXPECT_EQ(program.get<float>(0), (std::vector<float>{3, 5, 7}));
  EXPECT_THROW(program.get<float>("doubled"), Error);
  const Scope scope(graph, "block1");
  EXPECT_THROW(probe(x, "doubled"), Error);
}

}  // namespace
}  // namespace ranvier
