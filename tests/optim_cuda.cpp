// Optimizers over lists of tensors on a CUDA device, in f32: the bits of the CPU, and Muon against its f64 reference.
#include "engine/optim.h"

#include <gtest/gtest.h>

#include <cmath>

#include "engine/ops.h"
#include "engine/program.h"
#include "kernels/optim/muon.h"
#include "kernels/optim/optim.h"
#include "tests/case.h"
#include "tests/support/series.h"

#if defined(RANVIER_HAS_CUDA)
namespace ranvier {
namespace {

using testing::Doubles;
using testing::expect_near;
using testing::waves;

class OptimCuda : public ::testing::Test {
  void SetUp() override {
    if (!cuda_support().usable) GTEST_SKIP() << "skipped: no CUDA device";
  }
};

/// Sizes around those of a vector access and of a block's piece, and an empty one.
const std::vector<Shape> list_shapes = {Shape{5},    Shape{0},     Shape{1},           Shape{4096},
                                        Shape{4097}, Shape{37, 5}, Shape{3, 2, 2, 11}, Shape{12289}};

/// Slabs after a few updates of f32 tensors of these shapes, whose gradients change from update to update.
using Slabs = std::vector<std::vector<float>>;
Slabs updated(Device device, const optim::Optimizer& optimizer, const std::vector<Shape>& shapes, bool captured,
              int steps = 4) {
  State state(device, 5);
  Graph graph(state, true);
  std::vector<std::string> names;
  std::vector<Tensor> gradients;
  for (size_t k = 0; k < shapes.size(); ++k) {
    names.push_back(fmt::format("w{}", k));
    parameter(graph, names[k], shapes[k], init::uniform(1));
    gradients.push_back(input(graph, "g." + names[k], {DType::f32, shapes[k]}));
  }
  optim::apply(graph, optimizer, names, gradients, 8);
  Program program = compile(graph, std::vector<Tensor>{});
  if (captured) program.capture();
  for (int step = 0; step < steps; ++step) {
    for (size_t k = 0; k < names.size(); ++k)
      test::set(program, "g." + names[k], DType::f32, test::draw({shapes[k], {-1, 1}}, 10 * k + step));
    !captured&& step == 2 ? program.run_checked() : program.run();
  }
  Slabs slabs;
  for (const char* slab : {"parameters", "momentum", "second_moment", "ema"})
    for (const std::string& name : names)
      if (state.find(slab, name) >= 0) slabs.push_back(state.get<float>(slab, name));
  return slabs;
}

std::vector<optim::Optimizer> elementwise_optimizers() {
  optim::Optimizer averaged(optim::Sgd{.lr = optim::triangle(0.1, 0.3), .momentum = 0.9});
  averaged.ema_decay = 0.99;
  return {averaged, optim::Sgd{.lr = 0.1, .weight_decay = 0.01},
          optim::Sgd{.lr = optim::cosine(0.1, 0.2), .momentum = 0.9, .nesterov = true, .weight_decay = 1e-3},
          optim::AdamW{.lr = optim::cosine(0.02, 0.25), .weight_decay = 0.1}};
}

TEST_F(OptimCuda, UpdatesGiveTheBitsOfTheCpu) {
  for (const optim::Optimizer& optimizer : elementwise_optimizers()) {
    const Slabs wanted = updated(Device::cpu(), optimizer, list_shapes, false);
    test::in_every_emulated_mode([&] {
      for (bool captured : {false, true})
        EXPECT_EQ(updated(Device::cuda(), optimizer, list_shapes, captured), wanted) << captured;
    });
  }
}

// More tensors than one launch takes.
TEST_F(OptimCuda, TakesLongLists) {
  const std::vector<Shape> shapes(400, Shape{3});
  optim::Optimizer clipped(optim::AdamW{});
  clipped.clip_norm = 1e9;  // the norm is taken, and the scale is 1
  EXPECT_EQ(updated(Device::cuda(), clipped, shapes, false, 1), updated(Device::cpu(), clipped, shapes, false, 1));
}

TEST_F(OptimCuda, NormsAndCounts) {
  for (bool bad : {false, true}) {
    const auto run_on = [&](Device device) {
      State state(device);
      Graph graph(state);
      std::vector<Tensor> tensors;
      for (size_t k = 0; k < list_shapes.size(); ++k)
        tensors.push_back(input(graph, fmt::format("x{}", k), {DType::f32, list_shapes[k]}));
      Program program = compile(graph, std::vector{global_norm(tensors), count_nonfinite(tensors)});
      for (size_t k = 0; k < list_shapes.size(); ++k) {
        std::vector<double> values = test::draw({list_shapes[k], {-1e20, 1e20}}, k);
        if (bad && values.size() > 4) values[0] = NAN, values[1] = INFINITY, values.back() = -INFINITY;
        test::set(program, fmt::format("x{}", k), DType::f32, values);
      }
      program.run();
      return std::pair(program.scalar(0), program.get<int64_t>(1)[0]);
    };
    const auto wanted = run_on(Device::cpu());
    EXPECT_EQ(wanted.second, bad ? 18 : 0);
    test::in_every_emulated_mode([&] {
      const auto [norm, count] = run_on(Device::cuda());
      EXPECT_EQ(count, wanted.second);
      EXPECT_TRUE(bad ? std::isnan(norm) : std::abs(norm - wanted.first) <= 1e-7 * wanted.first) << norm;
    });
  }
}

// Tensors that do not start at 16 bytes, and results in other memory.
TEST_F(OptimCuda, TakesAnyAlignment) {
  const Device device = Device::cuda();
  constexpr int64_t n = 4101;
  const std::vector<float> values = [] {
    const Doubles v = waves(4 * n + 5, 0.7);
    return std::vector<float>(v.begin(), v.end());
  }();
  const float lr = 0.3f;
  for (int64_t offset : {0, 1, 4}) {
    const Memory memory(device, values.size() * sizeof(float)), rate(device, sizeof lr);
    copy_to_device(device, memory.data(), values.data(), memory.bytes());
    copy_to_device(device, rate.data(), &lr, sizeof lr);
    float* base = static_cast<float*>(memory.data()) + offset;
    kernels::ParamSlice<float> slice;
    slice.p = base, slice.g = base + n, slice.p_new = base + 2 * n, slice.n = n;
    kernels::cuda::sgd<float>({1, &slice}, {}, static_cast<const float*>(rate.data()), nullptr, nullptr,
                              stream_of(device));
    std::vector<float> result(values.size());
    copy_to_host(device, result.data(), memory.data(), memory.bytes());
    for (size_t i = 0; i < values.size(); ++i) {
      const int64_t at = static_cast<int64_t>(i) - offset - 2 * n;
      const bool written = at >= 0 && at < n;
      const float wanted = written ? values[i - 2 * n] - lr * values[i - n] : values[i];
      ASSERT_EQ(result[i], wanted) << i << " offset " << offset;
    }
  }
}

/// The reference of one Muon step in f64 beside the kernel in f32.
TEST_F(OptimCuda, MuonFollowsTheReference) {
  const std::vector<Shape> shapes = {Shape{4, 9},   Shape{9, 4},   Shape{1, 1},       Shape{65, 3, 1, 23},
                                     Shape{67, 17}, Shape{64, 64}, Shape{5, 2, 2, 3}, Shape{7, 0}};
  struct Case {
    bool nesterov, renormalize;
    int iterations;
    double decay;
  };
  for (const Case& c : {Case{true, true, 3, 0}, Case{false, false, 5, 0.1}, Case{true, false, 0, 0}}) {
    optim::Optimizer optimizer(optim::Muon{.lr = 0.05,
                                           .momentum = 0.6,
                                           .nesterov = c.nesterov,
                                           .iterations = c.iterations,
                                           .renormalize = c.renormalize,
                                           .weight_decay = c.decay});
    kernels::MuonConfig config{0.6, c.nesterov, c.renormalize, c.decay, {}};
    config.newton_schulz.iterations = c.iterations;
    constexpr int steps = 2;
    const Slabs first = updated(Device::cuda(), optimizer, shapes, true, steps);
    Slabs other;
    if (c.iterations == 3)
      test::in_every_emulated_mode([&] {
        const Slabs result = updated(Device::cuda(), optimizer, shapes, false, 1);
        if (other.empty()) other = result;
        EXPECT_EQ(result, other) << "bits depend on the order of threads";
      });
    const Slabs start = updated(Device::cpu(), optim::Frozen{}, shapes, false, 1);
    for (size_t k = 0; k < shapes.size(); ++k) {
      const int64_t rows = shapes[k][0], cols = shapes[k].numel() / rows;
      Doubles w(start[k].begin(), start[k].end()), m(w.size(), 0.0);
      Doubles work(static_cast<size_t>(kernels::muon_workspace(rows, cols) + rows * cols));
      const double lr = 0.05;
      for (int step = 0; step < steps; ++step) {
        const Doubles g = test::draw({shapes[k], {-1, 1}}, 10 * k + static_cast<uint64_t>(step));
        kernels::reference::muon_step<double>(rows, cols, w.data(), g.data(), m.data(), config, &lr,
                                              kernels::reference::gemm<double>, work.data(), w.data(), m.data());
      }
      const std::vector<float>&p = first[k], &momentum = first[shapes.size() + k];
      expect_near(Doubles(p.begin(), p.end()), w, 2e-6, to_string(shapes[k]));
      expect_near(Doubles(momentum.begin(), momentum.end()), m, 5e-7, "momentum");
    }
  }
}

}  // namespace
}  // namespace ranvier
#endif
