// Batch normalisation with its activation and 2x2 max-pool as one op (the passes over memory decide its speed), and the
// same in primitive ops.
#include "kernels/norm/norm.h"

#include "engine/catalogue.h"
#include "engine/grad.h"
#include "engine/op.h"
#include "engine/ops.h"
#include "engine/ops/dispatch.h"
#if defined(RANVIER_HAS_CUDNN)
#include "engine/ops/cudnn.h"
#include "kernels/norm/cudnn.h"
#endif

namespace ranvier {
namespace {

using kernels::Activation;
using kernels::NormDims;
using kernels::PoolPlace;

/// Inputs of the forward: x, beta, then gamma where it has one. Outputs: y, mean, variance, rstd, and for pooled forms
/// the values at the winners and their u8 window index.
struct NormAttrs {
  int64_t n, h, w, c;
  double eps;
  int64_t act, pool, gamma;

  NormDims dims() const { return {n, h, w, c, eps, static_cast<Activation>(act), static_cast<PoolPlace>(pool)}; }
  bool pooled() const { return dims().pool != PoolPlace::none; }
};

Shape y_shape(const NormDims& d) { return {d.n, d.out_h(), d.out_w(), d.c}; }

/// Type of everything per channel: that of x, or f32 beside 16-bit maps.
DType per_channel(DType x) { return x == DType::bf16 || x == DType::f16 ? DType::f32 : x; }

void check(std::span<const Type> in, const NormAttrs& attrs) {
  if (!is_floating(in[0].dtype)) fail("x must have a floating type");
  const DType wanted = per_channel(in[0].dtype);
  for (size_t i = 1; i < in.size(); ++i)
    if (in[i].dtype != wanted)
      fail(
          "operands must have one floating type, and those per channel be f32 beside a 16-bit x: x is {}, one of them "
          "{}",
          name_of(in[0].dtype), name_of(in[i].dtype));
  for (size_t i = 1; i < in.size(); ++i)
    if (in[i].shape != Shape{attrs.c}) fail("gamma, beta and statistics must have one value a channel, {}", attrs.c);
}

std::vector<Type> infer_train(std::span<const Type> in, const Attrs& bytes) {
  const auto& attrs = bytes.as<NormAttrs>();
  check(in, attrs);
  const DType t = in[0].dtype;
  const Type stat{per_channel(t), {attrs.c}}, y{t, y_shape(attrs.dims())};
  std::vector<Type> out = {y, stat, stat, stat};
  if (attrs.pooled()) out.push_back(y), out.push_back({DType::u8, y.shape});
  return out;
}

std::vector<Type> infer_eval(std::span<const Type> in, const Attrs& bytes) {
  const auto& attrs = bytes.as<NormAttrs>();
  check(in, attrs);
  return {{in[0].dtype, y_shape(attrs.dims())}};
}

// Inputs of the gradient: x, dy, beta, mean, rstd, then gamma where it has one, then pooled and index where it pools.
std::vector<Type> infer_grad(std::span<const Type> in, const Attrs& bytes) {
  const auto& attrs = bytes.as<NormAttrs>();
  const Type stat{per_channel(in[0].dtype), {attrs.c}};
  return {{in[0].dtype, {attrs.n, attrs.h, attrs.w, attrs.c}}, stat, stat};
}

// T is the type of the maps, S that of what is per channel.
template <class T, class S, class Kernel>
void train_as(const Call& call, Kernel&& kernel) {
  const auto& attrs = call.node.attrs<NormAttrs>();
  kernels::NormForward<T, S> args{};
  args.x = call.in<T>(0);
  args.beta = call.in<S>(1);
  args.gamma = attrs.gamma ? call.in<S>(2) : nullptr;
  args.y = call.out<T>(0);
  args.mean = call.out<S>(1);
  args.variance = call.out<S>(2);
  args.rstd = call.out<S>(3);
  if (attrs.pooled()) args.pooled = call.out<T>(4), args.index = call.out<uint8_t>(5);
  args.workspace = call.workspace;
  kernel(attrs.dims(), args);
}

template <class T, class S, class Kernel>
void eval_as(const Call& call, Kernel&& kernel) {
  const auto& attrs = call.node.attrs<NormAttrs>();
  kernels::NormEval<T, S> args{};
  args.x = call.in<T>(0);
  args.beta = call.in<S>(1);
  args.mean = call.in<S>(2);
  args.variance = call.in<S>(3);
  args.gamma = attrs.gamma ? call.in<S>(4) : nullptr;
  args.y = call.out<T>(0);
  args.workspace = call.workspace;
  kernel(attrs.dims(), args);
}

template <class T, class S, class Kernel>
void grad_as(const Call& call, Kernel&& kernel) {
  const auto& attrs = call.node.attrs<NormAttrs>();
  kernels::NormBackward<T, S> args{};
  args.x = call.in<T>(0);
  args.dy = call.in<T>(1);
  args.beta = call.in<S>(2);
  args.mean = call.in<S>(3);
  args.rstd = call.in<S>(4);
  size_t next = 5;
  args.gamma = attrs.gamma ? call.in<S>(next++) : nullptr;
  if (attrs.pooled()) args.pooled = call.in<T>(next), args.index = call.in<uint8_t>(next + 1);
  args.dx = call.out<T>(0);
  args.dgamma = call.out<S>(1);
  args.dbeta = call.out<S>(2);
  args.workspace = call.workspace;
  kernel(attrs.dims(), args);
}

size_t workspace(const NodeView& node, const void*) { return kernels::norm_workspace(node.attrs<NormAttrs>().dims()); }
double flops(const NodeView& node) { return 10.0 * static_cast<double>(node.in[0].shape.numel()); }

#if defined(RANVIER_HAS_CUDA)
size_t cuda_workspace(const NodeView& node, const void*) {
  return dispatch_cuda_mixed(
      node.in[0].dtype, [&]<class T>() { return kernels::cuda::norm_workspace<T>(node.attrs<NormAttrs>().dims()); });
}
#define RANVIER_NORM_ON_CUDA(pass, kernel)                                                                           \
  void cuda_##pass(const Call& call) {                                                                               \
    dispatch_cuda_mixed(call.node.in[0].dtype, [&]<class T>() {                                                      \
      pass##_as<T, float>(                                                                                           \
          call, [&](const NormDims& dims, const auto& args) { kernels::cuda::kernel<T>(dims, args, call.stream); }); \
    });                                                                                                              \
  }
RANVIER_NORM_ON_CUDA(train, norm_forward)
RANVIER_NORM_ON_CUDA(eval, norm_eval)
RANVIER_NORM_ON_CUDA(grad, norm_backward)
#undef RANVIER_NORM_ON_CUDA
#endif

#if defined(RANVIER_HAS_CUDNN)
using kernels::CudnnNorm;
bool cudnn_supports(const NodeView& node) {
  return operand_is_mixed(node) && kernels::cudnn_norm_supports(node.attrs<NormAttrs>().dims());
}
std::shared_ptr<void> prepare_cudnn(const NodeView& node, DeviceContext&) {
  return std::make_shared<CudnnNorm>(node.attrs<NormAttrs>().dims(), cudnn_type(node.in[0].dtype));
}
const CudnnNorm& prepared_cudnn(const Call& call) { return *static_cast<const CudnnNorm*>(call.prepared); }
size_t cudnn_workspace(const NodeView&, const void* prepared) {
  return static_cast<const CudnnNorm*>(prepared)->forward_workspace();
}
size_t cudnn_grad_workspace(const NodeView&, const void* prepared) {
  return static_cast<const CudnnNorm*>(prepared)->gradient_workspace();
}
void cudnn_train(const Call& call) {
  train_as<void, float>(call,
                        [&](const NormDims&, const auto& args) { prepared_cudnn(call).forward(args, call.stream); });
}
void cudnn_eval(const Call& call) {
  eval_as<void, float>(call, [&](const NormDims&, const auto& args) { prepared_cudnn(call).eval(args, call.stream); });
}
void cudnn_grad(const Call& call) {
  grad_as<void, float>(call,
                       [&](const NormDims&, const auto& args) { prepared_cudnn(call).gradient(args, call.stream); });
}
#define RANVIER_CUDNN_NORM(pass, bytes) \
  {.name = "cudnn",                     \
   .backend = Backend::cuda,            \
   .run = cudnn_##pass,                 \
   .supports = cudnn_supports,          \
   .workspace = bytes,                  \
   .prepare = prepare_cudnn,            \
   .exact = false},
#else
#define RANVIER_CUDNN_NORM(pass, bytes)
#endif

#define RANVIER_NORM_VARIANTS(pass, kernel, cudnn_bytes)                                                      \
  void run_##pass(const Call& call) { pass##_as<float, float>(call, kernels::cpu::kernel); }                  \
  void reference_##pass(const Call& call) {                                                                   \
    dispatch_floating(call.node.in[0].dtype,                                                                  \
                      [&]<class T>() { pass##_as<T, T>(call, kernels::reference::kernel<T>); });              \
  }                                                                                                           \
  constexpr Variant pass##_variants[] = {                                                                     \
      {.name = "cpu", .run = run_##pass, .supports = operand_is_f32, .workspace = workspace, .exact = false}, \
      {.name = "reference", .run = reference_##pass, .supports = operand_on_cpu, .workspace = workspace},     \
      RANVIER_CUDA_VARIANTS({.name = "handwritten",                                                           \
                             .backend = Backend::cuda,                                                        \
                             .run = cuda_##pass,                                                              \
                             .supports = operand_is_mixed,                                                    \
                             .workspace = cuda_workspace,                                                     \
                             .exact = false}, ) RANVIER_CUDNN_NORM(pass, cudnn_bytes)};
RANVIER_NORM_VARIANTS(train, norm_forward, cudnn_workspace)
RANVIER_NORM_VARIANTS(eval, norm_eval, cudnn_workspace)
RANVIER_NORM_VARIANTS(grad, norm_backward, cudnn_grad_workspace)
#undef RANVIER_CUDNN_NORM
#undef RANVIER_NORM_VARIANTS

Tensor activate(Tensor x, Activation act) {
  switch (act) {
    case Activation::relu:
      return relu(x);
    case Activation::gelu:
      return gelu(x);
    case Activation::silu:
      return silu(x);
    case Activation::none:
      break;
  }
  return x;
}

/// y and, for pooled forms, the pooling op's result (whose second output is the index).
struct Primitive {
  Tensor y, pool, source;
};

// 16-bit maps are computed in f32 and rounded once, at the end; a pool behind the activation sees what is not yet
// rounded.

/// act(norm(x)) with the pool in its place, from given statistics.
Primitive normalised(const NormAttrs& attrs, Tensor x, Tensor mean, Tensor rstd, const Tensor* gamma, Tensor beta) {
  Tensor z = (x - mean) * rstd;
  if (gamma) z = z * *gamma;
  return {activate(z + beta, attrs.dims().act), {}, {}};
}

void decompose_train(Vjp& v) {
  const auto attrs = v.attrs<NormAttrs>();
  const PoolPlace place = attrs.dims().pool;
  const Tensor gamma = attrs.gamma ? v.x(2) : Tensor{};
  const Tensor original = v.x(0);
  const DType stored = original.dtype(), computed = per_channel(stored);
  const Tensor before = place == PoolPlace::before ? max_pool(original, 2) : Tensor{};
  const Tensor x = cast(before.valid() ? before : original, computed);
  const Tensor mu = mean(x, {0, 1, 2}), var = variance(x, {0, 1, 2}), rstd = rsqrt(var + attrs.eps);
  Tensor y = normalised(attrs, x, mu, rstd, attrs.gamma ? &gamma : nullptr, v.x(1)).y;
  Tensor pool = before;
  if (place == PoolPlace::after) y = pool = max_pool(y, 2);
  v.set_output(0, cast(y, stored));
  v.set_output(1, mu);
  v.set_output(2, var);
  v.set_output(3, rstd);
  if (!attrs.pooled()) return;
  const Tensor index = pool.output(1);
  v.set_output(4, pool_take(original, index, 2));
  v.set_output(5, window_position(index, attrs.w, 2));
}

void decompose_eval(Vjp& v) {
  const auto attrs = v.attrs<NormAttrs>();
  const PoolPlace place = attrs.dims().pool;
  const Tensor gamma = attrs.gamma ? v.x(4) : Tensor{};
  const DType stored = v.x(0).dtype();
  const Tensor x = cast(place == PoolPlace::before ? max_pool(v.x(0), 2) : v.x(0), per_channel(stored));
  const Tensor y = normalised(attrs, x, v.x(2), rsqrt(v.x(3) + attrs.eps), attrs.gamma ? &gamma : nullptr, v.x(1)).y;
  v.set_output(0, cast(place == PoolPlace::after ? max_pool(y, 2) : y, stored));
}

/// The backward pass in primitive ops, a function of x, dy and the given statistics: differentiable again, where the
/// statistics' own dependence on x is the business of the forward op.
void decompose_grad(Vjp& v) {
  const auto attrs = v.attrs<NormAttrs>();
  const PoolPlace place = attrs.dims().pool;
  const DType stored = v.x(0).dtype(), computed = per_channel(stored);
  const Tensor dy = cast(v.x(1), computed), beta = v.x(2), mu = v.x(3), rstd = v.x(4);
  const Tensor gamma = attrs.gamma ? v.x(5) : Tensor{};
  const Tensor x = cast(place == PoolPlace::before ? max_pool(v.x(0), 2) : v.x(0), computed);
  const Tensor z = (x - mu) * rstd;
  const Tensor a = gamma.valid() ? z * gamma + beta : z + beta;
  Tensor y = activate(a, attrs.dims().act);
  if (place == PoolPlace::after) y = max_pool(y, 2);
  const Tensor da = y.value == a.value ? dy : vjp(std::vector{y}, std::vector{dy}, std::vector{a})[0];
  const Tensor dz = gamma.valid() ? da * gamma : da;
  const Tensor dx = rstd * (dz - mean(dz, {0, 1, 2}) - z * mean(dz * z, {0, 1, 2}));
  v.set_output(
      0, place == PoolPlace::before ? vjp(std::vector{x}, std::vector{dx}, std::vector{v.x(0)})[0] : cast(dx, stored));
  v.set_output(1, sum(da * z, {0, 1, 2}));
  v.set_output(2, sum(da, {0, 1, 2}));
}

extern const OpDef grad_op;

void vjp_train(Vjp& v) {
  if (v.has_g(1) || v.has_g(2) || v.has_g(3) || v.has_g(4)) return vjp_through_decomposition(v);
  const auto attrs = v.attrs<NormAttrs>();
  std::vector<Tensor> in = {v.x(0), v.g(0), v.x(1), v.y(1), v.y(3)};
  if (attrs.gamma) in.push_back(v.x(2));
  if (attrs.pooled()) in.push_back(v.y(4)), in.push_back(v.y(5));
  const Tensor result = v.graph().emit(grad_op, Attrs::of(attrs), in, Where::current());
  v.in(0, [&] { return result; });
  v.in(1, [&] { return result.output(2); });
  if (attrs.gamma) v.in(2, [&] { return result.output(1); });
}

const OpDef train_op{.name = "batch_norm",
                     .infer = infer_train,
                     .vjp = vjp_train,
                     .decompose = decompose_train,
                     .variants = train_variants,
                     .smoothness = Smoothness::piecewise,
                     .flops = flops};
const OpDef eval_op{.name = "batch_norm_eval",
                    .infer = infer_eval,
                    .decompose = decompose_eval,
                    .variants = eval_variants,
                    .smoothness = Smoothness::piecewise,
                    .flops = flops};
const OpDef grad_op{.name = "batch_norm_grad",
                    .infer = infer_grad,
                    .decompose = decompose_grad,
                    .variants = grad_variants,
                    .smoothness = Smoothness::piecewise,
                    .flops = flops,
                    .in_place = InPlace::first};

NormAttrs attrs_of(Tensor x, bool gamma, const BatchNormOptions& options, const char* op, const Where& where) {
  const Shape s = x.shape();
  if (s.rank() != 4) fail_at(where, "{}: x must be (N, H, W, C), got {}", op, to_string(x.type()));
  const NormAttrs attrs{
      s[0], s[1], s[2], s[3], options.eps, static_cast<int64_t>(options.activation), static_cast<int64_t>(options.pool),
      gamma};
  try {
    kernels::validate(attrs.dims());
  } catch (const std::runtime_error& error) {
    fail_at(where, "{}: {}", op, error.what());
  }
  return attrs;
}

}  // namespace

BatchNormResult batch_norm(Tensor x, std::optional<Tensor> gamma, Tensor beta, BatchNormOptions options, Where where) {
  const NormAttrs attrs = attrs_of(x, gamma.has_value(), options, "batch_norm", where);
  std::vector<Tensor> in = {x, beta};
  if (gamma) in.push_back(*gamma);
  const Tensor result = x.graph->emit(train_op, Attrs::of(attrs), in, where);
  return {result, result.output(1), result.output(2), attrs.dims().stat_rows()};
}

Tensor batch_norm_eval(Tensor x, std::optional<Tensor> gamma, Tensor beta, Tensor mean, Tensor variance,
                       BatchNormOptions options, Where where) {
  const NormAttrs attrs = attrs_of(x, gamma.has_value(), options, "batch_norm_eval", where);
  std::vector<Tensor> in = {x, beta, mean, variance};
  if (gamma) in.push_back(*gamma);
  return x.graph->emit(eval_op, Attrs::of(attrs), in, where);
}

std::vector<const OpDef*> catalogue::norm() { return {&train_op, &eval_op, &grad_op}; }

}  // namespace ranvier
