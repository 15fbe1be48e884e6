// Programs that give an attacker logits, its goal and the gradient of that with respect to pixels.
#include <algorithm>
#include <cmath>

#include "engine/grad.h"
#include "engine/ops.h"
#include "models/robust/attacks.h"

namespace ranvier::robust {
namespace {

/// Batches that programs are compiled for: a tail of few images does not pay for many.
constexpr std::array<int64_t, 3> batches = {8, 64, 256};

/// How many images the next run takes, and the batch it is padded to.
std::pair<int64_t, int64_t> next_batch(int64_t left) {
  for (int64_t batch : batches)
    if (left <= batch) return {left, batch};
  return {batches.back(), batches.back()};
}

/// (N): the logit at a class of each row, i32 (N). Which class that is has no gradient.
Tensor logit_at(Tensor logits, Tensor index) {
  return sum(logits * stop_gradient(one_hot(index, logits.shape()[1], logits.dtype())), {1});
}

/// (N): the logit that is k-th from above, k from 1.
Tensor ranked(Tensor logits, int k) {
  Tensor left = stop_gradient(logits);
  const Tensor lowest = full(*logits.graph, logits.type(), -1e30);
  for (int i = 1; i < k; ++i) left = where(one_hot(argmax(left), logits.shape()[1], logits.dtype()), lowest, left);
  return logit_at(logits, argmax(left));
}

Tensor goal_of(Goal goal, Tensor logits, Tensor labels, Tensor targets) {
  if (goal == Goal::cross_entropy) return softmax_cross_entropy(logits, labels);
  const Tensor range = ranked(logits, 1) - 0.5 * (ranked(logits, 3) + ranked(logits, 4)) + 1e-12;
  return (logit_at(logits, targets) - logit_at(logits, labels)) / range;
}

}  // namespace

double AttackResult::robust_accuracy() const {
  if (broken.empty()) return 0;
  return static_cast<double>(std::count(broken.begin(), broken.end(), uint8_t{0})) / static_cast<double>(broken.size());
}

AttackedModel::AttackedModel(Session& session, Classifier net, const std::array<float, 3>& mean,
                             const std::array<float, 3>& std, int64_t height, int64_t width, int64_t classes,
                             std::map<std::string, std::string> bindings)
    : session_(session),
      net_(std::move(net)),
      mean_(mean),
      std_(std),
      height_(height),
      width_(width),
      classes_(classes),
      bindings_(std::move(bindings)) {
  if (session.state().compute_type() != DType::f32)
    fail("attacks compute in f32; this session computes in {}", name_of(session.state().compute_type()));
}

Program& AttackedModel::program(int kind, int64_t batch) {
  const auto found = programs_.find({kind, batch});
  if (found != programs_.end()) return found->second;
  const auto trace = [&](Graph& graph) -> std::vector<Tensor> {
    const Tensor pixels = input(graph, "pixels", {DType::f32, {batch, height_, width_, 3}});
    const Tensor normalised = (pixels - constant<float>(graph, {3}, mean_)) / constant<float>(graph, {3}, std_);
    const Tensor logits = net_(normalised);
    if (kind < 0) return {logits};
    const Tensor labels = input(graph, "labels", {DType::i32, {batch}});
    const bool targeted = static_cast<Goal>(kind) == Goal::targeted_dlr;
    const Tensor targets = targeted ? input(graph, "targets", {DType::i32, {batch}}) : Tensor{};
    const Tensor goal = goal_of(static_cast<Goal>(kind), logits, labels, targets);
    return {logits, goal, grad(sum(goal), pixels)};
  };
  return programs_.emplace(std::pair{kind, batch}, session_.compile(trace, false, bindings_)).first->second;
}

std::vector<float> AttackedModel::logits(std::span<const float> pixels) {
  const int64_t values = height_ * width_ * 3, count = static_cast<int64_t>(pixels.size()) / values;
  std::vector<float> all(static_cast<size_t>(count * classes_)), padded, rows;
  for (int64_t first = 0; first < count;) {
    const auto [valid, batch] = next_batch(count - first);
    padded.assign(static_cast<size_t>(batch * values), 0);
    std::copy_n(pixels.begin() + first * values, valid * values, padded.begin());
    Program& forward = program(-1, batch);
    forward.set<float>("pixels", padded);
    forward.run();
    rows.resize(static_cast<size_t>(batch * classes_));
    forward.read<float>(0, rows);
    std::copy_n(rows.begin(), valid * classes_, all.begin() + first * classes_);
    first += valid;
  }
  return all;
}

void AttackedModel::slope(Goal goal, std::span<const float> pixels, std::span<const int32_t> labels,
                          std::span<const int32_t> targets, Slope& result) {
  if (goal == Goal::targeted_dlr && classes_ < 4)
    fail("the targeted DLR loss needs four classes, the network has {}", classes_);
  const int64_t values = height_ * width_ * 3, count = static_cast<int64_t>(labels.size());
  result.logits.resize(static_cast<size_t>(count * classes_));
  result.goal.resize(static_cast<size_t>(count));
  result.gradient.resize(static_cast<size_t>(count * values));
  std::vector<float> padded, rows;
  std::vector<int32_t> indices;
  const auto take = [&](Program& from, size_t output, std::vector<float>& into, int64_t first, int64_t valid,
                        int64_t batch) {
    const auto width = static_cast<int64_t>(into.size()) / count;
    rows.resize(static_cast<size_t>(batch * width));
    from.read<float>(output, rows);
    std::copy_n(rows.begin(), valid * width, into.begin() + first * width);
  };
  for (int64_t first = 0; first < count;) {
    const auto [valid, batch] = next_batch(count - first);
    Program& backward = program(static_cast<int>(goal), batch);
    padded.assign(static_cast<size_t>(batch * values), 0);
    std::copy_n(pixels.begin() + first * values, valid * values, padded.begin());
    backward.set<float>("pixels", padded);
    indices.assign(static_cast<size_t>(batch), 0);
    std::copy_n(labels.begin() + first, valid, indices.begin());
    backward.set<int32_t>("labels", indices);
    if (goal == Goal::targeted_dlr) {
      std::copy_n(targets.begin() + first, valid, indices.begin());
      backward.set<int32_t>("targets", indices);
    }
    backward.run();
    take(backward, 0, result.logits, first, valid, batch);
    take(backward, 1, result.goal, first, valid, batch);
    take(backward, 2, result.gradient, first, valid, batch);
    first += valid;
  }
}

}  // namespace ranvier::robust
