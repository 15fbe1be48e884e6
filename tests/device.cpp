// What a device refuses: machines without a usable GPU, memory that is not there, launches that fail.
#include <gtest/gtest.h>

#include <array>
#include <cstdlib>
#include <stdexcept>

#include "engine/device_cuda.h"
#include "engine/population.h"
#include "models/vision.h"
#include "tests/case.h"

namespace ranvier::test {
namespace {

TEST(WhyNot, SaysWhatAMachineLacks) {
  const cuda::Machine good{
      .driver = 12040, .toolkit = 12080, .devices = 1, .name = "NVIDIA H100", .major = 9, .minor = 0};
  EXPECT_EQ(cuda::why_not(good), "") << "a newer toolkit of the same major version runs";
  const auto machine = [&](const std::function<void(cuda::Machine&)>& change) {
    cuda::Machine changed = good;
    change(changed);
    return cuda::why_not(changed);
  };
  EXPECT_EQ(machine([](auto& m) { m.driver = 0; }), "no CUDA driver is installed");
  EXPECT_EQ(machine([](auto& m) { m.toolkit = 13000; }),
            "the CUDA driver (12.4) is older than the toolkit of this build (13.0)");
  EXPECT_EQ(machine([](auto& m) { m.driver = 13010; }), "");
  EXPECT_EQ(machine([](auto& m) { m.trouble = "all of them are busy"; }), "no CUDA device: all of them are busy");
  EXPECT_EQ(machine([](auto& m) { m.devices = 0; }), "no CUDA device");
  EXPECT_EQ(machine([](auto& m) { m.name = "NVIDIA T4", m.major = 7, m.minor = 5; }),
            "NVIDIA T4 is sm_75, the kernels need sm_80 or newer");
  EXPECT_EQ(machine([](auto& m) { m.major = 8; }), "");
}

TEST(WhyNot, IsWhatTheFlagAnswers) {
  const CudaSupport support = cuda_support();
  EXPECT_EQ(support.usable, support.why.empty());
  if (support.usable)
    EXPECT_EQ(Device::named("cuda"), Device::cuda());
  else
    EXPECT_EQ(error_of([] { Device::named("cuda"); }), "--device cuda: " + support.why + "; use --device cpu or auto");
  EXPECT_EQ(Device::named("auto"), support.usable ? Device::cuda() : Device::cpu());
  EXPECT_ERROR(Device::named("tpu"), "--device tpu: unknown device");
}

/// What follows needs a device, or the emulator's.
class OnCuda : public testing::Test {
 protected:
  void SetUp() override {
    if (!cuda_support().usable) GTEST_SKIP() << "skipped: no CUDA device (" << cuda_support().why << ")";
  }
};

void expect_one_line(const std::string& error, std::initializer_list<const char*> parts) {
  for (const char* part : parts) EXPECT_NE(error.find(part), std::string::npos) << error;
  EXPECT_EQ(error.find('\n'), std::string::npos) << error;
}

TEST_F(OnCuda, MemoryThatIsNotThere) {
  expect_one_line(error_of([] { Memory(Device::cuda(), size_t{1} << 50); }),
                  {"out of device memory: 1073741824 MB asked of the GPU, ", " MB are free"});
  const Memory after(Device::cuda(), 1000);  // the failure stays with who asked
  synchronize(Device::cuda());
  if (!emulator_set_mode) return;  // others use a real device too
  const size_t before = free_memory(Device::cuda());
  {
    const Memory block(Device::cuda(), size_t{1} << 24);
    EXPECT_EQ(free_memory(Device::cuda()), before - (size_t{1} << 24));
  }
  EXPECT_EQ(free_memory(Device::cuda()), before);
}

TEST_F(OnCuda, APlanLargerThanTheDevice) {
  const size_t before = free_memory(Device::cuda());
  State state(Device::cuda());
  Graph graph(state);
  const Tensor x = input(graph, "x", {DType::f32, {int64_t{1} << 40}});
  expect_one_line(error_of([&] { compile(graph, std::vector{sum(x)}); }),
                  {"this program needs 4398", " MB more (", " scratch arena, ", " of device memory are free"});
  if (!emulator_set_mode) return;  // a training step that is too large for any GPU is also too large to index
  const int64_t batch = 1 << 17;
  const models::Recipe recipe = models::recipe("tiny", 10, batch);
  const std::array<float, 3> mean = {0.5f, 0.5f, 0.5f}, deviation = {0.2f, 0.2f, 0.2f};
  Session session(Device::cuda(), {.seed = 1});
  expect_one_line(
      error_of([&] {
        session.train_step({batch, {32, 32, 3}}, models::train_function(recipe, mean, deviation), recipe.optimizer, 1);
      }),
      {"this program needs ", " state, ", "a smaller batch needs less"});
  EXPECT_EQ(free_memory(Device::cuda()), before) << "refused before anything was allocated";
}

TEST_F(OnCuda, APopulationLargerThanTheDevice) {
  if (!emulator_set_mode) return;  // there are GPUs that hold it
  neuron::PopulationSpec spec;
  spec.size = 4000000000, spec.precision = neuron::Precision::f64, spec.device = Device::cuda();
  expect_one_line(error_of([&] { neuron::Population population(spec); }),
                  {"4000000000 neurons, f64, ", " MB are free on cuda (emulated, "});
}

// An op whose kernel cannot be launched while `fails` is set, in the words of kernels/common/launch.h.
bool fails = false;
constexpr const char* refusal = "launch of k, grid (1, 1, 1), block (2048, 1, 1): invalid configuration argument";
void run_or_fail(const Call&) {
  if (fails) throw std::runtime_error(refusal);
}
constexpr Variant stubborn_variants[] = {{.name = "handwritten", .backend = Backend::cuda, .run = run_or_fail}};
const OpDef stubborn_op{.name = "stubborn",
                        .infer = [](std::span<const Type> in, const Attrs&) { return std::vector<Type>{in[0]}; },
                        .variants = stubborn_variants};

class FailingLaunch : public OnCuda {
 protected:
  FailingLaunch() { fails = false; }
  ~FailingLaunch() override { fails = false; }

  /// sin -> stubborn under scope "layer".
  void make(State& state) {
    Graph graph(state);
    const Tensor x = sin(input(graph, "x", {DType::f32, {4}}));
    const Scope scope(graph, "layer");
    const Where where = Where::current();
    line_ = place(where);
    program_ = compile(graph, std::vector{graph.emit(stubborn_op, {}, std::span(&x, 1), where)});
  }
  void expect_named(const std::function<void()>& run) {
    expect_one_line(error_of(run), {("layer stubborn (4) (handwritten) at " + line_ + ": " + refusal).c_str()});
  }

  Program program_;
  std::string line_;
};

TEST_F(FailingLaunch, NamesItsOpInEveryKindOfRun) {
  State state(Device::cuda());
  make(state);
  fails = true;
  std::vector<StepTime> times;
  expect_named([&] { program_.run(); });
  expect_named([&] { program_.run_nodes(); });
  expect_named([&] { program_.run_checked(); });
  expect_named([&] { program_.run_profiled(times); });
  fails = false;
  program_.run();
}

TEST_F(FailingLaunch, NamesItsOpInACapture) {
  State state(Device::cuda());
  make(state);
  program_.capture();
  program_.run();
  fails = true;
  expect_named([&] { program_.run(); });
  fails = false;
  program_.run();  // the capture that failed has ended
  program_.run();
}

TEST_F(FailingLaunch, IsNotHiddenInAGraphWhereCudaIsToldToBlock) {
  State state(Device::cuda());
  make(state);
  ASSERT_EQ(setenv("CUDA_LAUNCH_BLOCKING", "1", 1), 0);
  program_.capture();
  unsetenv("CUDA_LAUNCH_BLOCKING");
  for (int run = 0; run < 3; ++run) program_.run();
  fails = true;
  expect_named([&] { program_.run(); });
}

}  // namespace
}  // namespace ranvier::test
