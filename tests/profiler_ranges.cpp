// What NVIDIA's profilers see of a program: each op in a range of its own wherever it runs node by node, and none in
// the replay of a CUDA graph.
#include <gtest/gtest.h>

#include "models/vision.h"
#include "tests/case.h"

#if defined(RANVIER_HAS_CUDA)
#define NVTX_NO_IMPL  // this file is the tool: the ranges that it sees are the engine's
#include <nvtx3/nvToolsExt.h>

namespace {

struct Seen {
  std::vector<std::string> opened;
  int depth = 0;
} seen;
bool attached = false;

int NVTX_API on_push(const char* name) {
  seen.opened.emplace_back(name);
  return seen.depth++;
}
int NVTX_API on_pop() { return --seen.depth; }

int NVTX_API start_profiler(NvtxGetExportTableFunc_t get_table) {
  const auto* callbacks = static_cast<const NvtxExportTableCallbacks*>(get_table(NVTX_ETID_CALLBACKS));
  NvtxFunctionTable functions = nullptr;
  unsigned count = 0;
  if (!callbacks || !callbacks->GetModuleFunctionTable(NVTX_CB_MODULE_CORE, &functions, &count)) return 0;
  *functions[NVTX_CBID_CORE_RangePushA] = reinterpret_cast<NvtxFunctionPointer>(on_push);
  *functions[NVTX_CBID_CORE_RangePop] = reinterpret_cast<NvtxFunctionPointer>(on_pop);
  attached = true;
  return 1;
}

}  // namespace

extern "C" NvtxInitializeInjectionNvtxFunc_t InitializeInjectionNvtx2_fnptr;
NvtxInitializeInjectionNvtxFunc_t InitializeInjectionNvtx2_fnptr = start_profiler;

namespace ranvier::test {
namespace {

using Names = std::vector<std::string>;

/// Names of the ranges that `body` opens; each is closed again.
template <class Body>
Names ranges(Body&& body) {
  seen = {};
  body();
  EXPECT_EQ(seen.depth, 0);
  return seen.opened;
}

class ProfilerRanges : public testing::Test {
 protected:
  void SetUp() override {
    if (!cuda_support().usable) GTEST_SKIP() << "skipped: no CUDA device (" << cuda_support().why << ")";
    State state(Device::cuda());
    Graph graph(state);
    compile(graph, std::vector{full(graph, {DType::f32, {2}}, 1)}).run();  // NVTX looks for its tool at the first range
    if (!attached) GTEST_SKIP() << "skipped: NVTX of this toolkit takes no tool that is linked in";
  }
};

TEST_F(ProfilerRanges, NameScopeOpAndShapeExceptInAReplay) {
  State state(Device::cuda());
  Graph graph(state);
  const Tensor x = input(graph, "x", {DType::f32, {3, 4}});
  Tensor y;
  {
    const Scope scope(graph, "block1");
    y = sin(x);
  }
  Program program = compile(graph, std::vector{sum(y)}, {.fuse = false});
  const Names expected = {"block1 sin (3, 4)", "sum (1, 1)"};
  EXPECT_EQ(ranges([&] { program.run(); }), expected);
  std::vector<StepTime> times;
  EXPECT_EQ(ranges([&] { program.run_profiled(times); }), expected);
  program.capture();
  EXPECT_EQ(ranges([&] { program.run(); }), expected) << "the first run warms up";
  program.run();  // recorded
  EXPECT_EQ(ranges([&] { program.run(); }), Names{});
  EXPECT_EQ(ranges([&] { program.run_nodes(); }), expected);
  EXPECT_EQ(ranges([&] { program.run(); }), Names{});
  program.capture(2);
  EXPECT_EQ(ranges([&] { program.run_nodes(); }).size(), 4u) << "two steps a run";
}

TEST_F(ProfilerRanges, OfATrainingStepWhileItIsProfiled) {
  const int64_t batch = 2;
  const std::vector<uint8_t> images(batch * 3 * 5, 7);
  const std::vector<int32_t> labels = {0, 1};
  Session session(Device::cuda(), {.seed = 1});
  TrainStep step = session.resident_step(
      {batch, {1, 5, 3}}, images, labels,
      [](const BatchTensors& tensors) {
        const Tensor x = reshape(cast(tensors.images, DType::f32), {batch, 15});
        const Tensor w = parameter(*x.graph, "weight", {15}, init::constant(1));
        return sum(square(x * w));
      },
      optim::Sgd{.lr = 0.1}, 10);
  const std::vector<int64_t> order = {0, 1};
  step.begin_epoch(order, 0);
  const Names expected = ranges([&] { step.next(); });
  EXPECT_GT(expected.size(), 3u);
  step.next();
  EXPECT_EQ(ranges([&] { step.next(); }), Names{});
  step.node_by_node(true);
  for (int repeat = 0; repeat < 2; ++repeat) EXPECT_EQ(ranges([&] { step.next(); }), expected);
  step.node_by_node(false);
  EXPECT_EQ(ranges([&] { step.next(); }), Names{});
  step.collect();
  EXPECT_TRUE(step.finite());
}

}  // namespace
}  // namespace ranvier::test
#endif
