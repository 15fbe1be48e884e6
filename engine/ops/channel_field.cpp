// The field of coupled channels on their own activations: one pass where the device has a kernel for it, else products
// and pointwise ops.
#include "engine/catalogue.h"
#include "engine/grad.h"
#include "engine/op.h"
#include "engine/ops.h"
#include "engine/ops/coupling.h"
#include "engine/ops/dispatch.h"
#include "kernels/coupling/channels.h"

namespace ranvier {
namespace {

struct ChannelField {
  bool gate = false;
  bool operator==(const ChannelField&) const = default;
};

std::vector<Type> infer(std::span<const Type> in, const Attrs&) {
  const Type &x = in[0], &a = in[1];
  if (x.shape.rank() != 2 || !is_floating(x.dtype)) fail("x must be (rows, channels) of a floating type");
  if (a != Type{x.dtype, {x.shape[1], x.shape[1]}})
    fail("the matrix of {} must be {} x {} in its type, is {}", to_string(x), x.shape[1], x.shape[1], to_string(a));
  return {x};
}

kernels::ChannelDims dims_of(const NodeView& node) {
  return {node.in[0].shape[0], node.in[0].shape[1], node.attrs<ChannelField>().gate};
}

void decompose(Vjp& v) {
  const Tensor x = v.x(0), a = v.x(1);
  if (v.attrs<ChannelField>().gate)
    v.set_output(0, x * (1.0 + tanh(matmul(x, a))));
  else if (on_cpu(x.dtype()))  // x's own share in the product's sum: no second pass
    v.set_output(0, matmul(x, a + pairs::identity(v.graph(), x.shape()[1], a.dtype())));
  else  // 1 + a would round a's diagonal to 16 bits
    v.set_output(0, x + matmul(x, a));
}

void vjp(Vjp& v) {
  const Tensor x = v.x(0), a = v.x(1), g = v.g();
  if (!v.attrs<ChannelField>().gate) {
    v.in(0, [&] { return channel_field(g, transpose(a), false); });
    v.in(1, [&] { return matmul(x, g, true); });
    return;
  }
  const auto through = [&](Tensor t) { return g * x * (1.0 - square(t)); };  // the gradient of x a
  v.in(0, [&] {
    const Tensor t = tanh(matmul(x, a));
    return g * (1.0 + t) + matmul(through(t), a, false, true);
  });
  v.in(1, [&] { return matmul(x, through(tanh(matmul(x, a))), true); });
}

#if defined(RANVIER_HAS_CUDA)
bool has_kernel(const NodeView& node) {
  return !on_cpu(node.in[0].dtype) && kernels::cuda::has_channel_field(dims_of(node));
}
void cuda_run(const Call& c) {
  const auto run = [&]<class T>() {
    kernels::cuda::channel_field<T>(dims_of(c.node), c.in<T>(0), c.in<T>(1), c.out<T>(0), c.stream);
  };
  if (c.node.in[0].dtype == DType::bf16)
    run.template operator()<kernels::bf16>();
  else
    run.template operator()<kernels::f16>();
}
constexpr Variant variants[] = {
    {.name = "handwritten", .backend = Backend::cuda, .run = cuda_run, .supports = has_kernel, .exact = false}};
#else
constexpr std::span<const Variant> variants;
#endif

double flops(const NodeView& node) {
  const kernels::ChannelDims d = dims_of(node);
  return 2 * static_cast<double>(d.rows) * static_cast<double>(d.channels) * static_cast<double>(d.channels);
}

const OpDef channel_field_op{
    .name = "channel_field", .infer = infer, .vjp = vjp, .decompose = decompose, .variants = variants, .flops = flops};

}  // namespace

Tensor channel_field(Tensor x, Tensor a, bool gate, Where where) {
  const Tensor in[] = {x, a};
  return x.graph->emit(channel_field_op, Attrs::of(ChannelField{gate}), in, where);
}

std::vector<const OpDef*> catalogue::channel_field() { return {&channel_field_op}; }

}  // namespace ranvier
