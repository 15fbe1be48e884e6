// Softmax cross-entropy with label smoothing as one op, its gradient, and top-1 hits.
#include "kernels/loss/loss.h"

#include "engine/catalogue.h"
#include "engine/grad.h"
#include "engine/op.h"
#include "engine/ops.h"
#include "engine/ops/dispatch.h"

namespace ranvier {
namespace {

using kernels::LossDims;

/// Inputs: logits (or probabilities, dloss), labels, and the valid count where there is one.
struct LossAttrs {
  double smoothing;
  int64_t has_valid;
};

LossDims dims_of(const NodeView& node) {
  return {node.in[0].shape[0], node.in[0].shape[1], node.attrs<LossAttrs>().smoothing};
}

void check(std::span<const Type> in, const Attrs& bytes, size_t labels_at) {
  if (in[0].shape.rank() != 2 || !is_floating(in[0].dtype)) fail("logits must be a floating (N, classes)");
  if (in[labels_at] != Type{DType::i32, {in[0].shape[0]}}) fail("labels must be i32 (N)");
  if (bytes.as<LossAttrs>().has_valid && in[labels_at + 1] != Type{DType::i32, {}})
    fail("the valid count must be an i32 scalar");
}

std::vector<Type> infer_loss(std::span<const Type> in, const Attrs& bytes) {
  check(in, bytes, 1);
  return {{in[0].dtype, {in[0].shape[0]}}, in[0]};
}
std::vector<Type> infer_grad(std::span<const Type> in, const Attrs& bytes) {
  check(in, bytes, 2);
  return {in[0]};
}
std::vector<Type> infer_correct(std::span<const Type> in, const Attrs& bytes) {
  check(in, bytes, 1);
  return {{in[0].dtype, {in[0].shape[0]}}};
}

const int32_t* valid_of(const Call& call, size_t at) {
  return call.node.attrs<LossAttrs>().has_valid ? call.in<int32_t>(at) : nullptr;
}

template <class T, class Kernel>
void loss_as(const Call& call, Kernel&& kernel) {
  kernel(dims_of(call.node), call.in<T>(0), call.in<int32_t>(1), valid_of(call, 2), call.out<T>(0), call.out<T>(1));
}
template <class T, class Kernel>
void grad_as(const Call& call, Kernel&& kernel) {
  kernel(dims_of(call.node), call.in<T>(0), call.in<int32_t>(2), valid_of(call, 3), call.in<T>(1), call.out<T>(0));
}
template <class T, class Kernel>
void correct_as(const Call& call, Kernel&& kernel) {
  kernel(dims_of(call.node), call.in<T>(0), call.in<int32_t>(1), valid_of(call, 2), call.out<T>(0));
}

double flops(const NodeView& node) { return 5.0 * static_cast<double>(node.in[0].shape.numel()); }

#if defined(RANVIER_HAS_CUDA)
#define RANVIER_LOSS_CUDA(pass, kernel)                                                          \
  void cuda_##pass(const Call& call) {                                                           \
    dispatch_floating(call.node.in[0].dtype, [&]<class T>() {                                    \
      pass##_as<T>(call, [&](auto... args) { kernels::cuda::kernel<T>(args..., call.stream); }); \
    });                                                                                          \
  }
#else
#define RANVIER_LOSS_CUDA(pass, kernel)
#endif
#define RANVIER_LOSS_VARIANTS(pass, kernel)                                                                          \
  void run_##pass(const Call& call) { pass##_as<float>(call, kernels::cpu::kernel); }                                \
  void reference_##pass(const Call& call) {                                                                          \
    dispatch_floating(call.node.in[0].dtype, [&]<class T>() { pass##_as<T>(call, kernels::reference::kernel<T>); }); \
  }                                                                                                                  \
  RANVIER_LOSS_CUDA(pass, kernel)                                                                                    \
  constexpr Variant pass##_variants[] = {                                                                            \
      {.name = "cpu", .run = run_##pass, .supports = operand_is_f32, .exact = false},                                \
      {.name = "reference", .run = reference_##pass, .supports = operand_on_cpu},                                    \
      RANVIER_CUDA_VARIANTS({.name = "handwritten",                                                                  \
                             .backend = Backend::cuda,                                                               \
                             .run = cuda_##pass,                                                                     \
                             .supports = operand_on_cpu,                                                             \
                             .exact = false})};
RANVIER_LOSS_VARIANTS(loss, softmax_cross_entropy)
RANVIER_LOSS_VARIANTS(grad, softmax_cross_entropy_gradient)
RANVIER_LOSS_VARIANTS(correct, correct)
#undef RANVIER_LOSS_VARIANTS
#undef RANVIER_LOSS_CUDA

/// Smoothed one-hot targets (N, classes).
Tensor targets(Tensor labels, int64_t classes, DType dtype, double smoothing) {
  return one_hot(labels, classes, dtype) * (1.0 - smoothing) + smoothing / static_cast<double>(classes);
}

/// 1 for rows below the valid count, 0 beyond: (N, 1).
Tensor row_mask(Tensor valid, int64_t rows, DType dtype) {
  std::vector<double> index(static_cast<size_t>(rows));
  for (int64_t i = 0; i < rows; ++i) index[static_cast<size_t>(i)] = static_cast<double>(i);
  const Tensor row = cast(constant<double>(*valid.graph, Shape{rows, 1}, index), dtype);
  return less(row, cast(valid, dtype));
}

void decompose_loss(Vjp& v) {
  const auto attrs = v.attrs<LossAttrs>();
  const Tensor logits = v.x(0);
  const int64_t classes = logits.shape()[1];
  const Tensor shifted = logits - stop_gradient(max(logits, {1}, true));
  const Tensor log_probability = shifted - log(sum(exp(shifted), {1}, true));
  Tensor loss = -sum(targets(v.x(1), classes, logits.dtype(), attrs.smoothing) * log_probability, {1});
  Tensor probability = exp(log_probability);
  if (attrs.has_valid) {
    const Tensor mask = row_mask(v.x(2), logits.shape()[0], logits.dtype());
    loss = loss * reshape(mask, loss.shape());
    probability = probability * mask;
  }
  v.set_output(0, loss);
  v.set_output(1, probability);
}

void decompose_grad(Vjp& v) {
  const auto attrs = v.attrs<LossAttrs>();
  const Tensor probability = v.x(0), dloss = v.x(1);
  const int64_t rows = probability.shape()[0], classes = probability.shape()[1];
  Tensor dlogits =
      (probability - targets(v.x(2), classes, probability.dtype(), attrs.smoothing)) * reshape(dloss, {rows, 1});
  if (attrs.has_valid) dlogits = dlogits * row_mask(v.x(3), rows, probability.dtype());
  v.set_output(0, dlogits);
}

const OpDef grad_op{.name = "softmax_cross_entropy_grad",
                    .infer = infer_grad,
                    .decompose = decompose_grad,
                    .variants = grad_variants,
                    .flops = flops};

void vjp_loss(Vjp& v) {
  if (v.has_g(1)) return vjp_through_decomposition(v);
  v.in(0, [&] {
    std::vector<Tensor> in = {v.y(1), v.g(0), v.x(1)};
    if (v.attrs<LossAttrs>().has_valid) in.push_back(v.x(2));
    return v.graph().emit(grad_op, Attrs::of(v.attrs<LossAttrs>()), in, Where::current());
  });
}

const OpDef loss_op{.name = "softmax_cross_entropy",
                    .infer = infer_loss,
                    .vjp = vjp_loss,
                    .decompose = decompose_loss,
                    .variants = loss_variants,
                    .flops = flops};
const OpDef correct_op{.name = "correct",
                       .infer = infer_correct,
                       .variants = correct_variants,
                       .smoothness = Smoothness::none,
                       .flops = flops};

Tensor emit(const OpDef& op, Tensor logits, Tensor labels, const CrossEntropyOptions& options, const Where& where) {
  if (!(options.label_smoothing >= 0 && options.label_smoothing <= 1))
    fail_at(where, "{}: label_smoothing {} is outside [0, 1]", op.name, options.label_smoothing);
  std::vector<Tensor> in = {logits, labels};
  if (options.valid) in.push_back(*options.valid);
  const LossAttrs attrs{options.label_smoothing, options.valid.has_value()};
  return logits.graph->emit(op, Attrs::of(attrs), in, where);
}

}  // namespace

Tensor softmax_cross_entropy(Tensor logits, Tensor labels, CrossEntropyOptions options, Where where) {
  return emit(loss_op, logits, labels, options, where);
}

Tensor cross_entropy(Tensor logits, Tensor labels, CrossEntropyOptions options, Where where) {
  return mean(softmax_cross_entropy(logits, labels, options, where), {}, false, where);
}

Tensor correct(Tensor logits, Tensor labels, std::optional<Tensor> valid, Where where) {
  return emit(correct_op, logits, labels, {0.0, valid}, where);
}

Tensor softmax(Tensor logits, int axis, Where where) {
  const Tensor e = exp(sub(logits, stop_gradient(max(logits, {axis}, true, where)), where), where);
  return div(e, sum(e, {axis}, true, where), where);
}

std::vector<const OpDef*> catalogue::loss() { return {&loss_op, &grad_op, &correct_op}; }

}  // namespace ranvier
