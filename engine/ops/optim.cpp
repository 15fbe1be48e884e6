// Optimizer updates, the global norm and schedules as ops.
#include "kernels/optim/optim.h"

#include "engine/catalogue.h"
#include "engine/op.h"
#include "engine/ops.h"
#include "engine/ops/dispatch.h"
#include "kernels/optim/loss_scale.h"
#include "kernels/optim/schedule.h"

namespace ranvier {
namespace {

using kernels::ParamSlice;
using kernels::TensorList;

/// Operands of the multi-tensor ops: p of every tensor, then the moments, then the gradients, then scalars (the last of
/// them `scale` and `skip`, where there are any); results in the order of the first operands, so that each may be
/// written over its own predecessor.
struct MultiAttrs {
  int64_t count, has_scale, has_skip;
  double momentum, nesterov, weight_decay;  // sgd
  double beta1, beta2, eps;                 // adamw
};

std::vector<Type> same_types(std::span<const Type> in, int64_t results) { return {in.begin(), in.begin() + results}; }

void check_tensors(std::span<const Type> in, const MultiAttrs& attrs, int64_t groups, int64_t scalars) {
  const int64_t count = attrs.count;
  if (static_cast<int64_t>(in.size()) != count * groups + scalars + attrs.has_scale + attrs.has_skip)
    fail("lists of tensors differ in length");
  if (attrs.has_skip && in.back() != Type{DType::i64, {}}) fail("`skip` must be an i64 scalar");
  for (int64_t group = 1; group < groups; ++group)
    for (int64_t i = 0; i < count; ++i)
      if (in[group * count + i] != in[i])
        fail("operand {} of list {} is {}, the parameter {}", i, group, to_string(in[group * count + i]),
             to_string(in[i]));
}

std::vector<Type> infer_sgd(std::span<const Type> in, const Attrs& bytes) {
  const auto& attrs = bytes.as<MultiAttrs>();
  const int64_t moments = attrs.momentum != 0;
  check_tensors(in, attrs, 2 + moments, 1);
  return same_types(in, (1 + moments) * attrs.count);
}
std::vector<Type> infer_adamw(std::span<const Type> in, const Attrs& bytes) {
  const auto& attrs = bytes.as<MultiAttrs>();
  check_tensors(in, attrs, 4, 2);
  return same_types(in, 3 * attrs.count);
}

/// The slices of a call: operand lists start at 0, count, 2 count, ...; results likewise.
template <class T>
std::vector<ParamSlice<T>> slices(const Call& call, int64_t count, int64_t moments) {
  std::vector<ParamSlice<T>> items(static_cast<size_t>(count));
  const auto& attrs = call.node.attrs<MultiAttrs>();
  for (int64_t i = 0; i < count; ++i) {
    ParamSlice<T>& item = items[static_cast<size_t>(i)];
    item.p = call.in<T>(i);
    if (moments >= 1) item.m = call.in<T>(count + i);
    if (moments == 2) item.v = call.in<T>(2 * count + i);
    item.g = call.in<T>((1 + moments) * count + i);
    item.p_new = call.out<T>(i);
    if (moments >= 1) item.m_new = call.out<T>(count + i);
    if (moments == 2) item.v_new = call.out<T>(2 * count + i);
    item.n = call.node.in[static_cast<size_t>(i)].shape.numel();
    item.weight_decay = static_cast<T>(attrs.weight_decay);
  }
  return items;
}

/// The scale of the gradients and the flag that stops an update, null where the op has none; they follow `scalars`.
template <class T>
const T* scale_of(const Call& call, int64_t scalars) {
  return call.node.attrs<MultiAttrs>().has_scale ? call.in<T>(scalars) : nullptr;
}
const int64_t* skip_of(const Call& call) {
  return call.node.attrs<MultiAttrs>().has_skip ? call.in<int64_t>(call.inputs.size() - 1) : nullptr;
}

template <class T, class Kernel>
void sgd_as(const Call& call, Kernel&& kernel) {
  const auto& attrs = call.node.attrs<MultiAttrs>();
  const int64_t moments = attrs.momentum != 0, scalars = (2 + moments) * attrs.count;
  const auto items = slices<T>(call, attrs.count, moments);
  kernel(TensorList<T>{attrs.count, items.data()},
         kernels::SgdConfig<T>{static_cast<T>(attrs.momentum), attrs.nesterov != 0}, call.in<T>(scalars),
         scale_of<T>(call, scalars + 1), skip_of(call));
}
template <class T, class Kernel>
void adamw_as(const Call& call, Kernel&& kernel) {
  const auto& attrs = call.node.attrs<MultiAttrs>();
  const auto items = slices<T>(call, attrs.count, 2);
  const int64_t scalars = 4 * attrs.count;
  const kernels::AdamWConfig<T> config{static_cast<T>(attrs.beta1), static_cast<T>(attrs.beta2),
                                       static_cast<T>(attrs.eps)};
  kernel(TensorList<T>{attrs.count, items.data()}, config, call.in<T>(scalars), call.in<int64_t>(scalars + 1),
         scale_of<T>(call, scalars + 2), skip_of(call));
}
template <class T, class Kernel>
void ema_as(const Call& call, Kernel&& kernel) {
  const int64_t count = call.node.attrs<MultiAttrs>().count;
  std::vector<ParamSlice<T>> items(static_cast<size_t>(count));
  for (int64_t i = 0; i < count; ++i) {
    ParamSlice<T>& item = items[static_cast<size_t>(i)];
    item.m = call.in<T>(i), item.p = call.in<T>(count + i), item.m_new = call.out<T>(i);
    item.n = call.node.in[static_cast<size_t>(i)].shape.numel();
  }
  kernel(TensorList<T>{count, items.data()}, call.in<T>(2 * count), skip_of(call));
}
/// The sums over all gradients: an f32 or f64 norm, or a count.
template <class T, class Result, class Kernel>
void sum_as(const Call& call, Kernel&& kernel) {
  std::vector<ParamSlice<T>> items(call.inputs.size());
  for (size_t i = 0; i < items.size(); ++i) items[i].g = call.in<T>(i), items[i].n = call.node.in[i].shape.numel();
  kernel(TensorList<T>{static_cast<int64_t>(items.size()), items.data()}, static_cast<double*>(call.workspace),
         call.out<Result>(0));
}
template <class T, class Kernel>
void norm_as(const Call& call, Kernel&& kernel) {
  sum_as<T, T>(call, kernel);
}
template <class T, class Kernel>
void nonfinite_as(const Call& call, Kernel&& kernel) {
  sum_as<T, int64_t>(call, kernel);
}

size_t sum_workspace(const NodeView&, const void*) { return kernels::optim_workspace() * sizeof(double); }
double flops(const NodeView& node) {
  double elements = 0;
  for (const Type& type : node.out) elements += static_cast<double>(type.shape.numel());
  return 4 * elements;
}

#if defined(RANVIER_HAS_CUDA)
size_t sum_cuda_workspace(const NodeView& node, const void*) {
  int64_t sums = 0;
  for (const Type& type : node.in) sums += kernels::cuda::sum_workspace(type.shape.numel());
  return static_cast<size_t>(sums) * sizeof(double);
}
#define RANVIER_MULTI_CUDA(pass, kernel)                                                                \
  void cuda_##pass(const Call& call) {                                                                  \
    dispatch_floating(call.node.in[0].dtype, [&]<class T>() {                                           \
      pass##_as<T>(call, [&](const auto&... args) { kernels::cuda::kernel<T>(args..., call.stream); }); \
    });                                                                                                 \
  }
#else
#define RANVIER_MULTI_CUDA(pass, kernel)
#endif
#define RANVIER_MULTI(pass, kernel, scratch, cuda_scratch)                                                           \
  void run_##pass(const Call& call) { pass##_as<float>(call, kernels::cpu::kernel); }                                \
  void reference_##pass(const Call& call) {                                                                          \
    dispatch_floating(call.node.in[0].dtype, [&]<class T>() { pass##_as<T>(call, kernels::reference::kernel<T>); }); \
  }                                                                                                                  \
  RANVIER_MULTI_CUDA(pass, kernel)                                                                                   \
  constexpr Variant pass##_variants[] = {                                                                            \
      {.name = "cpu", .run = run_##pass, .supports = operand_is_f32, .workspace = scratch},                          \
      {.name = "reference", .run = reference_##pass, .workspace = scratch},                                          \
      RANVIER_CUDA_VARIANTS({.name = "handwritten",                                                                  \
                             .backend = Backend::cuda,                                                               \
                             .run = cuda_##pass,                                                                     \
                             .supports = operand_on_cpu,                                                             \
                             .workspace = cuda_scratch})};
RANVIER_MULTI(sgd, sgd, nullptr, nullptr)
RANVIER_MULTI(adamw, adamw, nullptr, nullptr)
RANVIER_MULTI(ema, ema, nullptr, nullptr)
RANVIER_MULTI(norm, global_norm, sum_workspace, sum_cuda_workspace)
RANVIER_MULTI(nonfinite, count_nonfinite, sum_workspace, sum_cuda_workspace)
#undef RANVIER_MULTI
#undef RANVIER_MULTI_CUDA

const OpDef sgd_op{.name = "sgd",
                   .infer = infer_sgd,
                   .variants = sgd_variants,
                   .smoothness = Smoothness::none,
                   .flops = flops,
                   .in_place = InPlace::same_position};
const OpDef adamw_op{.name = "adamw",
                     .infer = infer_adamw,
                     .variants = adamw_variants,
                     .smoothness = Smoothness::none,
                     .flops = flops,
                     .in_place = InPlace::same_position};

std::vector<Type> infer_ema(std::span<const Type> in, const Attrs& bytes) {
  const auto& attrs = bytes.as<MultiAttrs>();
  check_tensors(in, attrs, 2, 1);
  return same_types(in, attrs.count);
}
const OpDef ema_op{.name = "ema",
                   .infer = infer_ema,
                   .variants = ema_variants,
                   .smoothness = Smoothness::none,
                   .flops = flops,
                   .in_place = InPlace::same_position};

void check_summed(std::span<const Type> in) {
  if (in.empty()) fail("no tensors");
  for (const Type& type : in)
    if (type.dtype != in[0].dtype || !is_floating(type.dtype)) fail("operands must have one floating type");
}
std::vector<Type> infer_norm(std::span<const Type> in, const Attrs&) {
  check_summed(in);
  return {{in[0].dtype, {}}};
}
std::vector<Type> infer_nonfinite(std::span<const Type> in, const Attrs&) {
  check_summed(in);
  return {{DType::i64, {}}};
}
const OpDef norm_op{
    .name = "global_norm", .infer = infer_norm, .variants = norm_variants, .smoothness = Smoothness::none};
const OpDef nonfinite_op{.name = "count_nonfinite",
                         .infer = infer_nonfinite,
                         .variants = nonfinite_variants,
                         .smoothness = Smoothness::none};

// ---- schedules ----
struct ScheduleAttrs {
  kernels::LrSchedule schedule;
  int64_t f64;
};

std::vector<Type> infer_schedule(std::span<const Type> in, const Attrs& bytes) {
  if (in[0] != Type{DType::i64, {}}) fail("the step must be an i64 scalar");
  return {{bytes.as<ScheduleAttrs>().f64 ? DType::f64 : DType::f32, {}}};
}

void run_schedule(const Call& call) {
  dispatch_floating(call.node.out[0].dtype, [&]<class T>() {
    kernels::learning_rate<T>(call.node.attrs<ScheduleAttrs>().schedule, call.in<int64_t>(0), call.out<T>(0));
  });
}

#if defined(RANVIER_HAS_CUDA)
void cuda_schedule(const Call& call) {
  dispatch_floating(call.node.out[0].dtype, [&]<class T>() {
    kernels::cuda::learning_rate(call.node.attrs<ScheduleAttrs>().schedule, call.in<int64_t>(0), call.out<T>(0),
                                 call.stream);
  });
}
#endif

constexpr Variant schedule_variants[] = {
    {.name = "cpu", .run = run_schedule},
    RANVIER_CUDA_VARIANTS({.name = "handwritten", .backend = Backend::cuda, .run = cuda_schedule})};
const OpDef schedule_op{
    .name = "schedule", .infer = infer_schedule, .variants = schedule_variants, .smoothness = Smoothness::none};

// ---- the count of updates, and the scale of the loss ----
std::vector<Type> infer_count(std::span<const Type> in, const Attrs&) {
  for (const Type& type : in)
    if (type != Type{DType::i64, {}}) fail("counter and `skip` must be i64 scalars");
  return {in[0]};
}

const int64_t* count_skip(const Call& call) { return call.inputs.size() > 1 ? call.in<int64_t>(1) : nullptr; }

void run_count(const Call& call) { kernels::count_update(call.in<int64_t>(0), count_skip(call), call.out<int64_t>(0)); }

std::vector<Type> infer_loss_scale(std::span<const Type> in, const Attrs&) {
  if (!is_floating(in[0].dtype) || in[0].dtype == DType::bf16 || in[0].dtype == DType::f16 || in[0].shape.rank() != 0)
    fail("the scale must be an f32 or f64 scalar");
  for (const Type& count : in.subspan(1))
    if (count != Type{DType::i64, {}}) fail("the counts must be i64 scalars");
  return {in[0], in[1], in[2]};
}

template <class T, class Kernel>
void loss_scale_as(const Call& call, Kernel&& kernel) {
  kernel(call.node.attrs<kernels::LossScaleConfig>(), call.in<T>(0), call.in<int64_t>(1), call.in<int64_t>(2),
         call.in<int64_t>(3), call.out<T>(0), call.out<int64_t>(1), call.out<int64_t>(2));
}
void run_loss_scale(const Call& call) {
  dispatch_floating(call.node.in[0].dtype, [&]<class T>() { loss_scale_as<T>(call, kernels::update_loss_scale<T>); });
}

#if defined(RANVIER_HAS_CUDA)
void cuda_count(const Call& call) {
  kernels::cuda::count_update(call.in<int64_t>(0), count_skip(call), call.out<int64_t>(0), call.stream);
}
void cuda_loss_scale(const Call& call) {
  dispatch_floating(call.node.in[0].dtype, [&]<class T>() {
    loss_scale_as<T>(call, [&](auto... args) { kernels::cuda::update_loss_scale<T>(args..., call.stream); });
  });
}
#endif

constexpr Variant count_variants[] = {
    {.name = "reference", .run = run_count},
    RANVIER_CUDA_VARIANTS({.name = "handwritten", .backend = Backend::cuda, .run = cuda_count})};
constexpr Variant loss_scale_variants[] = {
    {.name = "reference", .run = run_loss_scale},
    RANVIER_CUDA_VARIANTS({.name = "handwritten", .backend = Backend::cuda, .run = cuda_loss_scale})};
const OpDef count_op{.name = "count_update",
                     .infer = infer_count,
                     .variants = count_variants,
                     .smoothness = Smoothness::none,
                     .in_place = InPlace::first};
const OpDef loss_scale_op{.name = "update_loss_scale",
                          .infer = infer_loss_scale,
                          .variants = loss_scale_variants,
                          .smoothness = Smoothness::none,
                          .in_place = InPlace::same_position};

std::vector<Tensor> outputs(Tensor first, int64_t begin, int64_t count) {
  std::vector<Tensor> result;
  for (int64_t k = 0; k < count; ++k) result.push_back(first.output(static_cast<uint32_t>(begin + k)));
  return result;
}

std::vector<Tensor> joined(std::initializer_list<std::span<const Tensor>> lists, std::initializer_list<Tensor> scalars,
                           std::initializer_list<std::optional<Tensor>> optional) {
  std::vector<Tensor> in;
  for (const auto& list : lists) in.insert(in.end(), list.begin(), list.end());
  in.insert(in.end(), scalars);
  for (const std::optional<Tensor>& scalar : optional)
    if (scalar) in.push_back(*scalar);
  return in;
}

}  // namespace

SgdResult sgd(std::span<const Tensor> parameters, std::span<const Tensor> momentum, std::span<const Tensor> gradients,
              Tensor lr, SgdOptions options, std::optional<Tensor> scale, std::optional<Tensor> skip, Where where) {
  const auto count = static_cast<int64_t>(parameters.size());
  const MultiAttrs attrs{count,
                         scale.has_value(),
                         skip.has_value(),
                         options.momentum,
                         options.nesterov ? 1.0 : 0.0,
                         options.weight_decay,
                         0,
                         0,
                         0};
  const std::vector<Tensor> in = joined({parameters, momentum, gradients}, {lr}, {scale, skip});
  const Tensor first = lr.graph->emit(sgd_op, Attrs::of(attrs), in, where);
  return {outputs(first, 0, count), outputs(first, count, options.momentum != 0 ? count : 0)};
}

AdamWResult adamw(std::span<const Tensor> parameters, std::span<const Tensor> momentum,
                  std::span<const Tensor> second_moment, std::span<const Tensor> gradients, Tensor lr, Tensor step,
                  AdamWOptions options, std::optional<Tensor> scale, std::optional<Tensor> skip, Where where) {
  const auto count = static_cast<int64_t>(parameters.size());
  const MultiAttrs attrs{count,         scale.has_value(), skip.has_value(), 0, 0, options.weight_decay,
                         options.beta1, options.beta2,     options.eps};
  const std::vector<Tensor> in = joined({parameters, momentum, second_moment, gradients}, {lr, step}, {scale, skip});
  const Tensor first = lr.graph->emit(adamw_op, Attrs::of(attrs), in, where);
  return {outputs(first, 0, count), outputs(first, count, count), outputs(first, 2 * count, count)};
}

Tensor global_norm(std::span<const Tensor> tensors, Where where) {
  if (tensors.empty()) fail_at(where, "global_norm: no tensors");
  return tensors[0].graph->emit(norm_op, {}, tensors, where);
}

std::vector<Tensor> ema(std::span<const Tensor> averages, std::span<const Tensor> values, Tensor decay,
                        std::optional<Tensor> skip, Where where) {
  const auto count = static_cast<int64_t>(averages.size());
  const MultiAttrs attrs{count, 0, skip.has_value()};
  const std::vector<Tensor> in = joined({averages, values}, {decay}, {skip});
  return outputs(decay.graph->emit(ema_op, Attrs::of(attrs), in, where), 0, count);
}

Tensor count_nonfinite(std::span<const Tensor> tensors, Where where) {
  if (tensors.empty()) fail_at(where, "count_nonfinite: no tensors");
  return tensors[0].graph->emit(nonfinite_op, {}, tensors, where);
}

Tensor count_update(Tensor counter, std::optional<Tensor> skip, Where where) {
  const std::vector<Tensor> in = joined({}, {counter}, {skip});
  return counter.graph->emit(count_op, {}, in, where);
}

LossScaleState update_loss_scale(const LossScaleState& state, Tensor nonfinite, LossScaleConfig config, Where where) {
  const Tensor in[] = {state.scale, state.clean, state.skipped, nonfinite};
  const Tensor first = nonfinite.graph->emit(loss_scale_op, Attrs::of(config), in, where);
  return {first, first.output(1), first.output(2)};
}

Tensor scheduled(Tensor step, std::span<const double> at, std::span<const double> value, bool cosine, DType dtype,
                 Where where) {
  if (at.size() != value.size()) fail_at(where, "schedule: {} places for {} values", at.size(), value.size());
  std::vector<kernels::SchedulePoint> points;
  for (size_t i = 0; i < at.size(); ++i) points.push_back({at[i], value[i], cosine && i && value[i] < value[i - 1]});
  ScheduleAttrs attrs{};
  try {
    attrs.schedule = kernels::piecewise_schedule(points.data(), static_cast<int>(points.size()));
  } catch (const std::runtime_error& error) {
    fail_at(where, "schedule: {}", error.what());
  }
  attrs.f64 = dtype == DType::f64;
  return step.graph->emit(schedule_op, Attrs::of(attrs), std::span(&step, 1), where);
}

std::vector<const OpDef*> catalogue::optim() {
  return {&sgd_op, &adamw_op, &ema_op, &norm_op, &nonfinite_op, &schedule_op, &count_op, &loss_scale_op};
}

}  // namespace ranvier
