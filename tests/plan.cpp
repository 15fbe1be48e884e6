// The planner: arena size, in-place sharing, pruning, common subexpressions, workspace, fused against unfused.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <map>

#include "engine/grad.h"
#include "engine/ops.h"
#include "engine/program.h"
#include "tests/support/files.h"

namespace ranvier {
namespace {

using testing::error_of;

constexpr int64_t width = 4096;

size_t count(const Plan& plan, std::string_view op) {
  return static_cast<size_t>(
      std::count_if(plan.steps.begin(), plan.steps.end(), [&](const PlanStep& step) { return step.op->name == op; }));
}

/// An op of a test's own that needs scratch as large as its operand: y = x by way of the workspace.
std::vector<Type> infer_same(std::span<const Type> in, const Attrs&) { return {in[0]}; }
void run_by_workspace(const Call& call) {
  const int64_t n = call.node.in[0].shape.numel();
  auto* scratch = static_cast<float*>(call.workspace);
  for (int64_t i = 0; i < n; ++i) scratch[i] = call.in<float>(0)[n - 1 - i];
  for (int64_t i = 0; i < n; ++i) call.out<float>(0)[i] = scratch[n - 1 - i];
}
constexpr Variant workspace_variants[] = {
    {.name = "reference", .run = run_by_workspace, .workspace = [](const NodeView& node, const void*) {
       return node.in[0].bytes();
     }}};
const OpDef workspace_op{.name = "by_workspace", .infer = infer_same, .variants = workspace_variants};

Tensor by_workspace(Tensor x) { return x.graph->emit(workspace_op, {}, std::span(&x, 1), Where::current()); }

/// No two storages that live at once may share bytes, and live sums are counted here again.
void check_layout(const Plan& plan) {
  std::vector<const Storage*> arena;
  for (const Storage& s : plan.storages)
    if (s.kind == Storage::Kind::arena && s.last >= 0 && s.bytes) arena.push_back(&s);
  size_t most = 0;
  for (int64_t at = 0; at <= static_cast<int64_t>(plan.steps.size()); ++at) {
    size_t live = 0;
    for (const Storage* s : arena)
      if (s->first <= at && at <= s->last) live += (s->bytes + 63) / 64 * 64;
    most = std::max(most, live);
  }
  EXPECT_EQ(most, plan.peak_live_bytes);
  EXPECT_GE(plan.arena_bytes, most);
  for (const Storage* a : arena) {
    EXPECT_LE(a->offset + a->bytes, plan.arena_bytes);
    EXPECT_EQ(a->offset % 64, 0u);
    for (const Storage* b : arena) {
      const bool together = a->first <= b->last && b->first <= a->last;
      const bool overlap = a->offset < b->offset + b->bytes && b->offset < a->offset + a->bytes;
      EXPECT_FALSE(a != b && together && overlap) << a->offset << " and " << b->offset;
    }
  }
}

TEST(Plan, TheArenaOfAChainAndItsGradientIsHardlyLargerThanWhatLives) {
  for (const bool fuse : {false, true}) {
    State state;
    Graph graph(state);
    const Tensor x = input(graph, "x", {DType::f32, {8, width / 8}});
    Tensor y = x;
    for (int i = 0; i < 12; ++i) y = tanh(sum_to(y * sin(y), Shape{i % 2 ? 8 : 1, width / 8}) + y);
    const Tensor loss = sum(y);
    const Plan plan = make_plan(graph, std::vector{loss, grad(loss, x)}, {.fuse = fuse});
    check_layout(plan);
    ASSERT_GT(plan.peak_live_bytes, 0u);
    EXPECT_LE(static_cast<double>(plan.arena_bytes), 1.10 * static_cast<double>(plan.peak_live_bytes)) << plan.bill();
    EXPECT_NE(plan.bill().find("largest sum of live bytes"), std::string::npos);
  }
}

TEST(Plan, PlacesBlocksOfDifferentLivesAndSizes) {
  // a hand-made case: the two short-lived blocks fit into the room of the large one
  Storage large, first, second, long_lived;
  large.bytes = 1024, large.first = 0, large.last = 1;
  first.bytes = 512, first.first = 2, first.last = 3;
  second.bytes = 512, second.first = 2, second.last = 4;
  long_lived.bytes = 64, long_lived.first = 0, long_lived.last = 4;
  EXPECT_EQ(place(std::vector<Storage*>{&large, &first, &second, &long_lived}), 1024u + 64u);
  EXPECT_EQ(place(std::vector<Storage*>{}), 0u);
}

TEST(Plan, AChainRunsInOneBuffer) {
  State state;
  Graph graph(state);
  Tensor y = input(graph, "x", {DType::f32, {width}});
  for (int i = 0; i < 6; ++i) y = sin(y);
  const Plan plan = make_plan(graph, std::vector{y}, {.fuse = false});
  EXPECT_EQ(count(plan, "sin"), 6u);
  EXPECT_EQ(plan.arena_bytes, width * sizeof(float));  // the last sin writes the output's own memory
  EXPECT_EQ(plan.peak_live_bytes, width * sizeof(float));
}

TEST(Plan, AValueThatIsStillNeededIsNotWrittenOver) {
  State state;
  Graph graph(state);
  const Tensor x = input(graph, "x", {DType::f32, {5}});
  const Tensor a = sin(x), b = cos(a), c = exp(b);  // a is read again after b
  Program program = compile(graph, std::vector{a * c, b * b}, {.variants = "reference", .fuse = false});
  const std::vector<float> in = {0.1f, 0.2f, -0.3f, 2.0f, 0.0f};
  program.set<float>("x", in);
  program.run();
  for (size_t i = 0; i < in.size(); ++i) {
    const double va = std::sin(in[i]), vb = std::cos(va);
    EXPECT_NEAR(program.get<float>(0)[i], va * std::exp(vb), 1e-6);
    EXPECT_NEAR(program.get<float>(1)[i], vb * vb, 1e-6);
  }
  EXPECT_EQ(program.get<float>(0).size(), 5u);
}

TEST(Plan, InputsAndStateAreNeverScratch) {
  State state;
  Graph graph(state);
  const Tensor x = input(graph, "x", {DType::f32, {3}});
  const Tensor w = read(graph, "parameters", "w", {DType::f32, {3}}, init::constant(2));
  Program program = compile(graph, std::vector{sin(x) + 1.0, square(w) + x}, {.fuse = false});
  program.set<float>("x", std::vector<float>{1, 2, 3});
  for (int run = 0; run < 2; ++run) {  // a second run sees the same leaves
    program.run();
    EXPECT_EQ(program.get<float>(1), (std::vector<float>{5, 6, 7}));
    EXPECT_EQ(state.get<float>("parameters", "w"), (std::vector<float>{2, 2, 2}));
  }
}

TEST(Plan, PrunesWhatNobodyAskedForButNoEffect) {
  State state;
  Graph graph(state);
  const Tensor x = input(graph, "x", {DType::f32, {4}});
  read(graph, "counters", "step", {DType::f32, {}}, init::constant(0));
  const Tensor unused = exp(sin(x));
  assign(graph, "counters", "step", read(graph, "counters", "step") + 1.0);
  const Tensor asked = cos(x);
  const Plan plan = make_plan(graph, std::vector{asked}, {.fuse = false});
  EXPECT_EQ(count(plan, "exp"), 0u);
  EXPECT_EQ(count(plan, "sin"), 0u);
  EXPECT_EQ(count(plan, "cos"), 1u);
  EXPECT_EQ(count(plan, "add"), 1u);
  Program program = compile(graph, std::vector{asked});
  program.set<float>("x", std::vector<float>(4, 0.0f));  // settable whether it is read or not
  program.capture(3);
  program.run();
  EXPECT_EQ(state.get<float>("counters", "step")[0], 3.0f);
  (void)unused;
}

TEST(Plan, MergesEqualValuesAndNeverEffects) {
  State state;
  Graph graph(state);
  const Tensor x = input(graph, "x", {DType::f32, {4}});
  read(graph, "slots", "a", x.type(), init::constant(0));
  read(graph, "slots", "b", x.type(), init::constant(0));
  const Tensor one = sin(x) * 2.0, two = sin(x) * 2.0;
  EXPECT_EQ(one.value, two.value);
  assign(graph, "slots", "a", one);
  assign(graph, "slots", "b", two);
  EXPECT_EQ(graph.effects().size(), 2u);
  Program program = compile(graph, std::vector<Tensor>{});
  EXPECT_EQ(count(program.plan(), "sin") + count(program.plan(), "pointwise"), 1u);
  program.set<float>("x", std::vector<float>{0, 1, 2, 3});
  program.run();
  EXPECT_EQ(state.get<float>("slots", "a"), state.get<float>("slots", "b"));
  EXPECT_FLOAT_EQ(state.get<float>("slots", "a")[1], 2 * std::sin(1.0f));
}

TEST(Plan, WorkspaceLivesForItsStepOnly) {
  State state;
  Graph graph(state);
  Tensor y = input(graph, "x", {DType::f32, {width}});
  for (int i = 0; i < 5; ++i) y = by_workspace(y);
  const Plan plan = make_plan(graph, std::vector{y}, {});
  check_layout(plan);
  EXPECT_EQ(plan.largest_workspace, width * sizeof(float));
  EXPECT_EQ(plan.arena_bytes, 3 * width * sizeof(float));  // operand, result and workspace of the step that runs
  for (size_t s = 0; s < plan.steps.size(); ++s) {
    EXPECT_EQ(plan.storages[plan.steps[s].workspace].first, static_cast<int64_t>(s));
    EXPECT_EQ(plan.storages[plan.steps[s].workspace].last, static_cast<int64_t>(s));
  }
  Program program = compile(graph, std::vector{y});
  std::vector<float> values(width);
  for (size_t i = 0; i < values.size(); ++i) values[i] = static_cast<float>(i);
  program.set<float>("x", values);
  program.run_checked();
  EXPECT_EQ(program.get<float>(0), values);
}

TEST(Plan, FusedAndUnfusedGiveEqualBitsAndFusionSavesSteps) {
  State state;
  Graph graph(state);
  const Tensor x = input(graph, "x", {DType::f32, {37, 19}}), bias = input(graph, "b", {DType::f32, {19}});
  const Tensor kept = sin(x * 1.5 + bias);
  const Tensor loss = mean(square(tanh(kept) - exp(-kept)));
  const std::vector<Tensor> outputs = {loss, kept, grad(loss, bias), grad(loss, x)};
  Program fused = compile(graph, outputs), plain = compile(graph, outputs, {.fuse = false});
  EXPECT_LT(fused.plan().steps.size(), plain.plan().steps.size());
  EXPECT_LE(fused.plan().arena_bytes, plain.plan().arena_bytes);
  std::vector<float> xs(37 * 19), bs(19);
  for (size_t i = 0; i < xs.size(); ++i) xs[i] = std::sin(static_cast<float>(i));
  for (size_t i = 0; i < bs.size(); ++i) bs[i] = 0.1f * static_cast<float>(i);
  for (Program* program : {&fused, &plain}) {
    program->set<float>("x", xs);
    program->set<float>("b", bs);
    program->run();
  }
  for (size_t k = 0; k < outputs.size(); ++k) EXPECT_EQ(fused.get<float>(k), plain.get<float>(k)) << k;
}

TEST(Plan, ProgramsShareOneScratch) {
  auto scratch = std::make_shared<Scratch>();
  State state;
  Graph small(state), large(state);
  const auto chain = [](Graph& graph, int64_t n) {
    const Tensor x = input(graph, "x", {DType::f32, {n}});
    return sum(by_workspace(x * 2.0));
  };
  Program first = compile(small, std::vector{chain(small, 10)}, {}, scratch);
  first.set<float>("x", std::vector<float>(10, 1.0f));
  first.run();
  Program second = compile(large, std::vector{chain(large, 10000)}, {}, scratch);  // the scratch grows and moves
  second.set<float>("x", std::vector<float>(10000, 1.0f));
  second.run();
  first.run();
  EXPECT_EQ(first.scalar(0), 20.0);
  EXPECT_EQ(second.scalar(0), 20000.0);
  EXPECT_EQ(scratch->memory.bytes(), second.plan().arena_bytes);
}

TEST(Plan, RefusesAVariantThatDoesNotRun) {
  State state;
  Graph graph(state);
  const Tensor y = sin(input(graph, "x", {DType::f32, {4}}));
  const std::string error = error_of([&] { compile(graph, std::vector{y}, {.variants = "sin=winograd"}); });
  EXPECT_NE(error.find("sin=winograd"), std::string::npos) << error;
  EXPECT_NE(error.find("reference"), std::string::npos) << error;
  const Plan plan = make_plan(graph, std::vector{y}, {.variants = "sin=reference", .fuse = false});
  EXPECT_STREQ(plan.steps[0].variant->name, "reference");
}

TEST(Plan, RefusesAVariantThatIsAskedForByNameThoughTheOpWouldBeDecomposed) {
  State state;
  Graph graph(state);
  const Tensor y =
      channel_field(input(graph, "x", {DType::f32, {4, 8}}), input(graph, "a", {DType::f32, {8, 8}}), false);
  EXPECT_EQ(count(make_plan(graph, std::vector{y}, {.variants = "handwritten"}), "channel_field"), 0u);
  const std::string error =
      error_of([&] { make_plan(graph, std::vector{y}, {.variants = "channel_field=handwritten"}); });
  EXPECT_NE(error.find("channel_field=handwritten"), std::string::npos) << error;
  EXPECT_NE(error.find("on cpu; these do: none"), std::string::npos) << error;
}

TEST(Plan, AnOpWhoseVariantIsNamedIsNotFused) {
  State state;
  Graph graph(state);
  const Tensor x = input(graph, "x", {DType::f32, {4}});
  const std::vector<Tensor> y = {exp(sin(square(x) + 1.0))};
  EXPECT_EQ(make_plan(graph, y, {}).steps.size(), 1u);
  Program named = compile(graph, y, {.variants = "sin=reference"}), plain = compile(graph, y, {});
  ASSERT_EQ(named.plan().steps.size(), 3u);
  EXPECT_STREQ(named.plan().steps[1].op->name, "sin");
  EXPECT_STREQ(named.plan().steps[1].variant->name, "reference");
  for (Program* program : {&named, &plain}) program->set<float>("x", std::vector<float>{0, 1, 2, 3}), program->run();
  for (size_t i = 0; i < 4; ++i) EXPECT_FLOAT_EQ(named.get<float>(0)[i], plain.get<float>(0)[i]);
}

TEST(Plan, ABareVariantIsTakenWhereItRunsAndTheRestIsTold) {
  State state;
  Graph graph(state);
  const Tensor x = input(graph, "x", {DType::f32, {3, 4}});
  const std::vector<Tensor> y = {max(sin(x), {1}), matmul(x, transpose(x))};
  const auto variants = [&](const std::string& wish) {
    std::map<std::string, std::string> chosen;
    const Plan plan = make_plan(graph, y, {.variants = wish});
    for (const PlanStep& step : plan.steps) chosen[step.op->name] = step.variant->name;
    return chosen;
  };
  auto chosen = variants("native");  // of matmul alone
  EXPECT_EQ(chosen["matmul"], "native");
  EXPECT_EQ(chosen["sin"], "cpu");
  EXPECT_EQ(steps_without(make_plan(graph, y, {.variants = "native"}), "native"),
            (std::vector<std::string>{"sin", "max", "transpose"}));
  chosen = variants("native,reference");  // the last first, and no entry hides an earlier one
  EXPECT_EQ(chosen["matmul"], "reference");
  chosen = variants("reference,native");
  EXPECT_EQ(chosen["matmul"], "native");
  EXPECT_EQ(chosen["sin"], "reference");
  chosen = variants("sin=cpu,reference");
  EXPECT_EQ(chosen["sin"], "cpu");
  EXPECT_EQ(chosen["max"], "reference");
}

TEST(Plan, EmptyTensorsTakeNoMemory) {
  State state;
  Graph graph(state);
  const Tensor x = input(graph, "x", {DType::f32, {0, 7}});
  Program program = compile(graph, std::vector{exp(x), sum(sin(x))});
  program.set<float>("x", std::vector<float>{});
  program.run_checked();
  EXPECT_TRUE(program.get<float>(0).empty());
  EXPECT_EQ(program.scalar(1), 0.0);
}

}  // namespace
}  // namespace ranvier
