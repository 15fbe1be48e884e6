// An outside program with an op of its own, cube(x) = x^3, in one file: differentiated twice, and trained through.
#include <cmath>
#include <cstdio>
#include <vector>

#include "engine/grad.h"
#include "engine/op.h"
#include "engine/ops.h"
#include "engine/session.h"
#include "models/layers.h"

namespace {

using namespace ranvier;

std::vector<Type> infer_cube(std::span<const Type> in, const Attrs&) {
  if (in[0].dtype != DType::f32) fail("{} is not f32", to_string(in[0]));
  return {in[0]};
}

void vjp_cube(Vjp& v) {
  v.in(0, [&] { return v.g() * 3.0 * square(v.x(0)); });
}

void run_cube(const Call& call) {
  const float* x = call.in<float>(0);
  float* y = call.out<float>(0);
  for (int64_t i = 0; i < call.node.out[0].shape.numel(); ++i) y[i] = x[i] * x[i] * x[i];
}

constexpr Variant variants[] = {{.name = "plain", .run = run_cube}};
constexpr OpDef cube_op{.name = "cube", .infer = infer_cube, .vjp = vjp_cube, .variants = variants};

Tensor cube(Tensor x, Where where = Where::current()) { return x.graph->emit(cube_op, {}, std::span(&x, 1), where); }

bool near(double a, double b) { return std::abs(a - b) <= 1e-5 * std::abs(b); }

bool differentiates() {
  Session session(Device::cpu());
  Program program = session.compile([](Graph& graph) {
    const Tensor x = input(graph, "x", {DType::f32, {3}});
    const Tensor y = cube(x), first = grad(sum(y), std::vector{x})[0], second = grad(sum(first), std::vector{x})[0];
    return std::vector{y, first, second};
  });
  const std::vector<float> x = {-2, 0.5f, 3};
  program.set<float>("x", x);
  program.run();
  for (size_t i = 0; i < x.size(); ++i) {
    const double v = x[i];
    if (!near(program.get<float>(0)[i], v * v * v) || !near(program.get<float>(1)[i], 3 * v * v) ||
        !near(program.get<float>(2)[i], 6 * v))
      return false;
  }
  return true;
}

struct Batch {
  std::vector<uint8_t> images;
  std::vector<int32_t> labels;
  std::vector<int64_t> indices;
};

bool trains() {
  const std::vector<float> half(3, 0.5f), quarter(3, 0.25f);
  Session session(Device::cpu(), {.seed = 1});
  const auto net = [](Tensor x) { return models::linear(cube(models::linear(flatten(x), 8, "first")), 2, "last"); };
  TrainStep step = session.train_step(
      {4, {4, 4, 3}},
      [&](const BatchTensors& batch) -> Objective {
        const Tensor logits = net(normalize(batch.images, half, quarter));
        return {mean(softmax_cross_entropy(logits, batch.labels)), logits};
      },
      optim::Sgd{.lr = 0.05});
  Batch batch{std::vector<uint8_t>(4 * 48), {0, 1, 0, 1}, {0, 1, 2, 3}};
  for (size_t i = 0; i < batch.images.size(); ++i) batch.images[i] = (i / 48) % 2 ? 220 : 40;
  step(batch);
  const double first = step.loss();
  for (int i = 0; i < 20; ++i) step(batch);
  std::printf("loss %.4f, after 20 steps %.4f\n", first, step.loss());
  return step.loss() < 0.5 * first;
}

}  // namespace

int main() {
  const bool derivatives = differentiates(), training = trains();
  std::printf("cube: derivatives %s, training %s\n", derivatives ? "right" : "WRONG", training ? "right" : "WRONG");
  return derivatives && training ? 0 : 1;
}
