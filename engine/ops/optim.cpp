// Optimizer updates, the global norm and schedules as ops.
#include "kernels/optim/optim.h"

#include "engine/catalogue.h"
#include "engine/op.h"
#include "engine/ops.h"
#include "engine/ops/dispatch.h"
#include "kernels/optim/schedule.h"

namespace ranvier {
namespace {

using kernels::ParamSlice;
using kernels::TensorList;

/// Operands of the multi-tensor ops: p of every tensor, then the moments, then the gradients, then scalars; results in
/// the order of the first operands, so that each may be written over its own predecessor.
struct MultiAttrs {
  int64_t count, has_scale;
  double momentum, nesterov, weight_decay;  // sgd
  double beta1, beta2, eps;                 // adamw
};

std::vector<Type> same_types(std::span<const Type> in, int64_t results) { return {in.begin(), in.begin() + results}; }

void check_tensors(std::span<const Type> in, int64_t count, int64_t groups, int64_t scalars) {
  if (static_cast<int64_t>(in.size()) != count * groups + scalars) fail("lists of tensors differ in length");
  for (int64_t group = 1; group < groups; ++group)
    for (int64_t i = 0; i < count; ++i)
      if (in[group * count + i] != in[i])
        fail("operand {} of list {} is {}, the parameter {}", i, group, to_string(in[group * count + i]),
             to_string(in[i]));
}

std::vector<Type> infer_sgd(std::span<const Type> in, const Attrs& bytes) {
  const auto& attrs = bytes.as<MultiAttrs>();
  const int64_t moments = attrs.momentum != 0;
  check_tensors(in, attrs.count, 2 + moments, 1 + attrs.has_scale);
  return same_types(in, (1 + moments) * attrs.count);
}
std::vector<Type> infer_adamw(std::span<const Type> in, const Attrs& bytes) {
  const auto& attrs = bytes.as<MultiAttrs>();
  check_tensors(in, attrs.count, 4, 2 + attrs.has_scale);
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

template <class T, class Kernel>
void sgd_as(const Call& call, Kernel&& kernel) {
  const auto& attrs = call.node.attrs<MultiAttrs>();
  const int64_t moments = attrs.momentum != 0, scalars = (2 + moments) * attrs.count;
  const auto items = slices<T>(call, attrs.count, moments);
  kernel(TensorList<T>{attrs.count, items.data()},
         kernels::SgdConfig<T>{static_cast<T>(attrs.momentum), attrs.nesterov != 0, false}, call.in<T>(scalars),
         attrs.has_scale ? call.in<T>(scalars + 1) : nullptr);
}
template <class T, class Kernel>
void adamw_as(const Call& call, Kernel&& kernel) {
  const auto& attrs = call.node.attrs<MultiAttrs>();
  const auto items = slices<T>(call, attrs.count, 2);
  const kernels::AdamWConfig<T> config{static_cast<T>(attrs.beta1), static_cast<T>(attrs.beta2),
                                       static_cast<T>(attrs.eps)};
  kernel(TensorList<T>{attrs.count, items.data()}, config, call.in<T>(4 * attrs.count),
         call.in<int64_t>(4 * attrs.count + 1), attrs.has_scale ? call.in<T>(4 * attrs.count + 2) : nullptr);
}
template <class T, class Kernel>
void norm_as(const Call& call, Kernel&& kernel) {
  std::vector<ParamSlice<T>> items(call.inputs.size());
  for (size_t i = 0; i < items.size(); ++i) items[i].g = call.in<T>(i), items[i].n = call.node.in[i].shape.numel();
  kernel(TensorList<T>{static_cast<int64_t>(items.size()), items.data()}, static_cast<double*>(call.workspace),
         call.out<T>(0));
}

size_t norm_workspace(const NodeView&, const void*) { return kernels::optim_workspace() * sizeof(double); }
double flops(const NodeView& node) {
  double elements = 0;
  for (const Type& type : node.out) elements += static_cast<double>(type.shape.numel());
  return 4 * elements;
}

#define RANVIER_MULTI(pass, kernel, scratch)                                                                         \
  void run_##pass(const Call& call) { pass##_as<float>(call, kernels::cpu::kernel); }                                \
  void reference_##pass(const Call& call) {                                                                          \
    dispatch_floating(call.node.in[0].dtype, [&]<class T>() { pass##_as<T>(call, kernels::reference::kernel<T>); }); \
  }                                                                                                                  \
  constexpr Variant pass##_variants[] = {                                                                            \
      {.name = "cpu", .run = run_##pass, .supports = operand_is_f32, .workspace = scratch},                          \
      {.name = "reference", .run = reference_##pass, .workspace = scratch}};
RANVIER_MULTI(sgd, sgd, nullptr)
RANVIER_MULTI(adamw, adamw, nullptr)
RANVIER_MULTI(norm, global_norm, norm_workspace)
#undef RANVIER_MULTI

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

std::vector<Type> infer_norm(std::span<const Type> in, const Attrs&) {
  if (in.empty()) fail("no tensors");
  for (const Type& type : in)
    if (type.dtype != in[0].dtype || !is_floating(type.dtype)) fail("operands must have one floating type");
  return {{in[0].dtype, {}}};
}
const OpDef norm_op{
    .name = "global_norm", .infer = infer_norm, .variants = norm_variants, .smoothness = Smoothness::none};

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

constexpr Variant schedule_variants[] = {{.name = "cpu", .run = run_schedule}};
const OpDef schedule_op{
    .name = "schedule", .infer = infer_schedule, .variants = schedule_variants, .smoothness = Smoothness::none};

std::vector<Tensor> outputs(Tensor first, int64_t begin, int64_t count) {
  std::vector<Tensor> result;
  for (int64_t k = 0; k < count; ++k) result.push_back(first.output(static_cast<uint32_t>(begin + k)));
  return result;
}

std::vector<Tensor> joined(std::initializer_list<std::span<const Tensor>> lists, std::initializer_list<Tensor> scalars,
                           std::optional<Tensor> scale) {
  std::vector<Tensor> in;
  for (const auto& list : lists) in.insert(in.end(), list.begin(), list.end());
  in.insert(in.end(), scalars);
  if (scale) in.push_back(*scale);
  return in;
}

}  // namespace

SgdResult sgd(std::span<const Tensor> parameters, std::span<const Tensor> momentum, std::span<const Tensor> gradients,
              Tensor lr, SgdOptions options, std::optional<Tensor> scale, Where where) {
  const auto count = static_cast<int64_t>(parameters.size());
  const MultiAttrs attrs{
      count, scale.has_value(), options.momentum, options.nesterov ? 1.0 : 0.0, options.weight_decay, 0, 0, 0};
  const std::vector<Tensor> in = joined({parameters, momentum, gradients}, {lr}, scale);
  const Tensor first = lr.graph->emit(sgd_op, Attrs::of(attrs), in, where);
  return {outputs(first, 0, count), outputs(first, count, options.momentum != 0 ? count : 0)};
}

AdamWResult adamw(std::span<const Tensor> parameters, std::span<const Tensor> momentum,
                  std::span<const Tensor> second_moment, std::span<const Tensor> gradients, Tensor lr, Tensor step,
                  AdamWOptions options, std::optional<Tensor> scale, Where where) {
  const auto count = static_cast<int64_t>(parameters.size());
  const MultiAttrs attrs{count,         scale.has_value(), 0,          0, options.weight_decay,
                         options.beta1, options.beta2,     options.eps};
  const std::vector<Tensor> in = joined({parameters, momentum, second_moment, gradients}, {lr, step}, scale);
  const Tensor first = lr.graph->emit(adamw_op, Attrs::of(attrs), in, where);
  return {outputs(first, 0, count), outputs(first, count, count), outputs(first, 2 * count, count)};
}

Tensor global_norm(std::span<const Tensor> tensors, Where where) {
  if (tensors.empty()) fail_at(where, "global_norm: no tensors");
  return tensors[0].graph->emit(norm_op, {}, tensors, where);
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

Tensor newton_schulz(Tensor u, int iterations, Where where) {
  constexpr double a = 3.4445, b = -4.7750, c = 2.0315;
  const Shape shape = u.shape();
  if (shape.rank() != 2) fail_at(where, "newton_schulz: a matrix is needed, got {}", to_string(u.type()));
  const bool tall = shape[0] > shape[1];
  Tensor x = div(
      u, add(sqrt(sum(square(u, where), {}, false, where), where), full(*u.graph, {u.dtype(), {}}, 1e-7, where), where),
      where);
  for (int i = 0; i < iterations; ++i) {
    const Tensor gram = matmul(x, x, tall, !tall, where);  // of the side with fewer rows
    const Tensor poly = b * gram + c * matmul(gram, gram, false, false, where);
    x = a * x + (tall ? matmul(x, poly, false, false, where) : matmul(poly, x, false, false, where));
  }
  return x;
}

std::vector<const OpDef*> catalogue::optim() { return {&sgd_op, &adamw_op, &norm_op, &schedule_op}; }

}  // namespace ranvier
