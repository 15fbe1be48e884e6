// Penalties of coupled channels: the value and its gradient in one go, since the one costs what the other needs.
#include "engine/catalogue.h"
#include "engine/grad.h"
#include "engine/op.h"
#include "engine/ops.h"
#include "engine/ops/coupling.h"
#include "engine/ops/dispatch.h"
#include "kernels/coupling/channels.h"

namespace ranvier {
namespace {

/// Of the weights, of statistics and of the penalty.
DType wide(DType x) { return x == DType::bf16 ? DType::f32 : x; }

std::vector<Type> infer(std::span<const Type> in, const Attrs& attrs) {
  const Type &x = in[0], &k = in[1];
  if (x.shape.rank() != 2 || !on_cpu(wide(x.dtype)))  // a gradient of 1 / rows leaves the range of f16
    fail("x must be (rows, channels) of f32, f64 or bf16, is {}", to_string(x));
  if (x.shape[0] < 1 || x.shape[1] < 1) fail("x {} has no elements to standardise", to_string(x));
  if (const Type want{wide(x.dtype), {x.shape[1], x.shape[1]}}; k != want)
    fail("weights of {} must be {} x {} of {}, are {}", to_string(x), x.shape[1], x.shape[1], name_of(want.dtype),
         to_string(k));
  if (!(attrs.as<ChannelPenalty>().eps >= 0)) fail("eps {} must be 0 or more", attrs.as<ChannelPenalty>().eps);
  return {{k.dtype, {}}, x};
}

struct Standard {
  Tensor z, scale;  // z in x's type, 1 / sqrt(variance + eps)
};
Standard standardised(Tensor x, double eps) {
  if (x.dtype() == wide(x.dtype())) {
    const Tensor part = x - mean(x, {0}, true), scale = rsqrt(mean(square(part), {0}, true) + eps);
    return {part * scale, scale};
  }
  const int64_t rows = x.shape()[0], n = x.shape()[1];  // f32 statistics of 16-bit values in the norm's two passes
  const BatchNormResult norm =
      batch_norm(reshape(x, {rows, 1, 1, n}), std::nullopt, full(*x.graph, {wide(x.dtype()), {n}}, 0), {.eps = eps});
  return {reshape(norm.y, x.shape()), reshape(rsqrt(norm.variance + eps), {1, n})};
}

/// Means of a_i b_j over the rows, in the statistics' type.
Tensor mean_products(Tensor a, Tensor b) {
  return cast(matmul(a, b, true), wide(a.dtype())) * (1 / static_cast<double>(a.shape()[0]));
}

/// What the weights multiply, (channels, channels).
Tensor moments(Tensor z, int64_t kind) {
  const Tensor part = kind == ChannelPenalty::products_of_squares ? square(z) : z, product = mean_products(part, part);
  return kind == ChannelPenalty::squared_products ? square(product) : product;
}

/// What passes through mean and variance needs no pass over the rows: the mean of z is 0, and the means of products are
/// at hand. Where the penalty is a form in z, its gradient is one product, z with a matrix.
void decompose(Vjp& v) {
  const auto [kind, eps] = v.attrs<ChannelPenalty>();
  const Tensor x = v.x(0), k = (v.x(1) + transpose(v.x(1))) * 0.5;
  const double rows = static_cast<double>(x.shape()[0]);
  const auto [z, scale] = standardised(x, eps);
  if (kind != ChannelPenalty::products_of_squares) {
    const bool squared = kind == ChannelPenalty::squared_products;
    const Tensor r = mean_products(z, z), w = squared ? k * r : k, through_variance = sum(w * r, {0}, true);
    v.set_output(0, sum(through_variance) * 0.5);
    const Tensor matrix = w - pairs::identity(v.graph(), x.shape()[1], k.dtype()) * through_variance;
    v.set_output(1, matmul(z, cast(matrix * scale * ((squared ? 2 : 1) / rows), x.dtype())));
    return;
  }
  // Squares less 1, which is near their mean: what fluctuates keeps its digits where z has few.
  const Tensor u = square(z) - 1.0, off = square(scale) * -eps;  // mean of z^2, less 1
  const Tensor squares = mean_products(u, u) + (off + transpose(off) + 1.0);
  const Tensor through_variance = sum(k * (squares - 1.0), {0}, true);
  const Tensor through_mean = sum(k * mean_products(u, z), {0}, true);
  v.set_output(0, sum(k * squares) * 0.5);
  const Tensor w = cast(matmul(u, cast(k, x.dtype())), k.dtype());
  const Tensor slope = scale * (2 / rows) * (cast(z, k.dtype()) * (w - through_variance) - through_mean);
  v.set_output(1, cast(slope, x.dtype()));
}

/// The gradient in x is a result of the op; derivatives of that result are those of the primitive ops.
void vjp(Vjp& v) {
  if (v.has_g(1)) return vjp_through_decomposition(v);
  v.in(0, [&] { return cast(v.g() * cast(v.y(1), v.g().dtype()), v.x(0).dtype()); });
  v.in(1, [&] {
    const auto [kind, eps] = v.attrs<ChannelPenalty>();
    return v.g() * 0.5 * moments(standardised(v.x(0), eps).z, kind);
  });
}

void cpu_run(const Call& c) {
  dispatch_floating(c.node.in[0].dtype, [&]<class T>() {
    const Shape& x = c.node.in[0].shape;
    kernels::cpu::channel_penalty<T>(x[0], x[1], c.node.attrs<ChannelPenalty>(), c.in<T>(0), c.in<T>(1), c.out<T>(0),
                                     c.out<T>(1), c.workspace);
  });
}
size_t cpu_workspace(const NodeView& node, const void*) {
  const Shape& x = node.in[0].shape;
  return dispatch_floating(node.in[0].dtype, [&]<class T>() {
    return kernels::cpu::channel_penalty_workspace<T>(x[0], x[1], node.attrs<ChannelPenalty>());
  });
}

#if defined(RANVIER_HAS_CUDA)
bool has_kernel(const NodeView& node) { return channel_penalty_takes_16_bits(node.in[0]); }
void cuda_run(const Call& c) {
  const Shape& x = c.node.in[0].shape;
  kernels::cuda::channel_penalty(x[0], x[1], c.node.attrs<ChannelPenalty>(), c.in<kernels::bf16>(0), c.in<float>(1),
                                 c.out<float>(0), c.out<kernels::bf16>(1), c.workspace, c.stream);
}
size_t cuda_workspace(const NodeView& node, const void*) {
  const Shape& x = node.in[0].shape;
  return kernels::cuda::channel_penalty_workspace<kernels::bf16>(x[0], x[1], node.attrs<ChannelPenalty>());
}
#endif

constexpr Variant variants[] = {
    {.name = "cpu", .run = cpu_run, .supports = operand_on_cpu, .workspace = cpu_workspace, .exact = false},
#if defined(RANVIER_HAS_CUDA)
    {.name = "handwritten",
     .backend = Backend::cuda,
     .run = cuda_run,
     .supports = has_kernel,
     .workspace = cuda_workspace,
     .exact = false},
#endif
};

double flops(const NodeView& node) {
  const auto rows = static_cast<double>(node.in[0].shape[0]), n = static_cast<double>(node.in[0].shape[1]);
  const bool twice = node.attrs<ChannelPenalty>().kind == ChannelPenalty::squared_products;
  return rows * n * ((twice ? 3 : 2) * n + 20);
}

const OpDef channel_penalty_op{.name = "channel_penalty",
                               .infer = infer,
                               .vjp = vjp,
                               .decompose = decompose,
                               .variants = variants,
                               .flops = flops};

}  // namespace

Tensor channel_penalty(Tensor x, Tensor k, const ChannelPenalty& penalty, Where where) {
  const Tensor in[] = {x, k};
  return x.graph->emit(channel_penalty_op, Attrs::of(penalty), in, where);
}

bool channel_penalty_takes_16_bits([[maybe_unused]] const Type& x) {
#if defined(RANVIER_HAS_CUDA)
  return x.dtype == DType::bf16 && kernels::cuda::has_channel_field({x.shape[0], x.shape[1]});
#else
  return false;
#endif
}

std::vector<const OpDef*> catalogue::channel_penalty() { return {&channel_penalty_op}; }

}  // namespace ranvier
