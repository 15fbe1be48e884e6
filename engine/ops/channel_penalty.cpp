// Penalties of coupled channels: the value and its gradient in one go, since the one costs what the other needs.
#include "engine/catalogue.h"
#include "engine/grad.h"
#include "engine/op.h"
#include "engine/ops.h"
#include "engine/ops/dispatch.h"
#include "kernels/coupling/channels.h"

namespace ranvier {
namespace {

std::vector<Type> infer(std::span<const Type> in, const Attrs& attrs) {
  const Type &x = in[0], &k = in[1];
  if (x.shape.rank() != 2 || !on_cpu(x.dtype)) fail("x must be (rows, channels) of f32 or f64, is {}", to_string(x));
  if (x.shape[0] < 1 || x.shape[1] < 1) fail("x {} has no elements to standardise", to_string(x));
  if (k != Type{x.dtype, {x.shape[1], x.shape[1]}})
    fail("weights of {} must be {} x {} in its type, are {}", to_string(x), x.shape[1], x.shape[1], to_string(k));
  if (!(attrs.as<ChannelPenalty>().eps >= 0)) fail("eps {} must be 0 or more", attrs.as<ChannelPenalty>().eps);
  return {{x.dtype, {}}, x};
}

/// What the weights multiply, (channels, channels).
Tensor moments(Tensor z, int64_t kind) {
  const Tensor part = kind == ChannelPenalty::products_of_squares ? square(z) : z;
  const Tensor product = matmul(part, part, true) * (1 / static_cast<double>(z.shape()[0]));
  return kind == ChannelPenalty::squared_products ? square(product) : product;
}

struct Standard {
  Tensor z, scale;
};
Standard standardised(Tensor x, double eps) {
  const Tensor part = x - mean(x, {0}, true), scale = rsqrt(mean(square(part), {0}, true) + eps);
  return {part * scale, scale};
}

void decompose(Vjp& v) {
  const auto [kind, eps] = v.attrs<ChannelPenalty>();
  const double rows = static_cast<double>(v.x(0).shape()[0]);
  const auto [z, scale] = standardised(v.x(0), eps);
  const Tensor k = (v.x(1) + transpose(v.x(1))) * 0.5;
  Tensor dz;
  if (kind == ChannelPenalty::squared_products) {
    const Tensor r = matmul(z, z, true) * (1 / rows);
    v.set_output(0, sum(k * square(r)) * 0.5);
    dz = matmul(z, k * r) * (2 / rows);
  } else {
    const bool squares = kind == ChannelPenalty::products_of_squares;
    const Tensor u = squares ? square(z) : z, w = matmul(u, k);
    v.set_output(0, sum(u * w) * (0.5 / rows));
    dz = squares ? z * w * (2 / rows) : w * (1 / rows);
  }
  v.set_output(1, scale * (dz - mean(dz, {0}, true) - z * mean(dz * z, {0}, true)));
}

/// The gradient in x is a result of the op; derivatives of that result are those of the primitive ops.
void vjp(Vjp& v) {
  if (v.has_g(1)) return vjp_through_decomposition(v);
  v.in(0, [&] { return v.g() * v.y(1); });
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
// On a CUDA device the primitive ops run: their products are the same.
constexpr Variant variants[] = {
    {.name = "cpu", .run = cpu_run, .supports = operand_on_cpu, .workspace = cpu_workspace, .exact = false}};

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

std::vector<const OpDef*> catalogue::channel_penalty() { return {&channel_penalty_op}; }

}  // namespace ranvier
