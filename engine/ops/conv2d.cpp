// Convolution: T(x, w, y) = sum x w y is trilinear, and each of the three ops leaves one slot of it open, so the
// derivatives of each are the other two.
#include "kernels/conv2d/conv2d.h"

#include "engine/catalogue.h"
#include "engine/op.h"
#include "engine/ops.h"
#include "engine/ops/dispatch.h"
#if defined(RANVIER_HAS_CUDNN)
#include "engine/ops/cudnn.h"
#include "kernels/conv2d/cudnn.h"
#endif

namespace ranvier {
namespace {

using kernels::Conv2dDims;
using kernels::ConvPass;

// The attributes of all three ops are the Conv2dDims of the forward convolution.
std::vector<Type> checked(std::span<const Type> in, const Shape& a, const Shape& b, const Shape& out) {
  if (in[0].dtype != in[1].dtype || !is_floating(in[0].dtype)) fail("operands must have one floating type");
  if (in[0].shape != a || in[1].shape != b) fail("operands must be {} and {}", to_string(a), to_string(b));
  return {{in[0].dtype, out}};
}

Shape x_shape(const Conv2dDims& d) { return {d.n, d.h, d.w, d.c}; }
Shape w_shape(const Conv2dDims& d) { return {d.k, d.r, d.s, d.c}; }
Shape y_shape(const Conv2dDims& d) { return {d.n, d.p(), d.q(), d.k}; }

std::vector<Type> infer_forward(std::span<const Type> in, const Attrs& attrs) {
  const auto& d = attrs.as<Conv2dDims>();
  return checked(in, x_shape(d), w_shape(d), y_shape(d));
}
std::vector<Type> infer_dgrad(std::span<const Type> in, const Attrs& attrs) {
  const auto& d = attrs.as<Conv2dDims>();
  return checked(in, y_shape(d), w_shape(d), x_shape(d));
}
std::vector<Type> infer_wgrad(std::span<const Type> in, const Attrs& attrs) {
  const auto& d = attrs.as<Conv2dDims>();
  return checked(in, x_shape(d), y_shape(d), w_shape(d));
}

// ---- variants ----

template <ConvPass pass>
bool winograd_supports(const NodeView& node) {
  return operand_is_f32(node) && kernels::conv2d_winograd_supports(node.attrs<Conv2dDims>(), pass);
}
template <ConvPass pass>
bool winograd_pays(const NodeView& node) {
  return winograd_supports<pass>(node) && kernels::conv2d_winograd_pays(node.attrs<Conv2dDims>(), pass);
}
template <ConvPass pass>
void run_winograd(const Call& call) {
  kernels::conv2d_winograd(call.node.attrs<Conv2dDims>(), pass, call.in<float>(0), call.in<float>(1),
                           call.out<float>(0), call.workspace);
}
template <ConvPass pass>
size_t winograd_workspace(const NodeView& node, const void*) {
  return kernels::conv2d_winograd_workspace(node.attrs<Conv2dDims>(), pass);
}
template <ConvPass pass>
void run_native(const Call& call) {
  dispatch_floating(call.node.in[0].dtype, [&]<class T>() {
    kernels::conv2d_native<T>(call.node.attrs<Conv2dDims>(), pass, call.in<T>(0), call.in<T>(1), call.out<T>(0),
                              call.workspace);
  });
}
template <ConvPass pass>
size_t native_workspace(const NodeView& node, const void*) {
  return dispatch_floating(
      node.in[0].dtype, [&]<class T>() { return kernels::conv2d_native_workspace<T>(node.attrs<Conv2dDims>(), pass); });
}
template <ConvPass pass>
void run_reference(const Call& call) {
  dispatch_floating(call.node.in[0].dtype, [&]<class T>() {
    kernels::conv2d_reference<T>(call.node.attrs<Conv2dDims>(), pass, call.in<T>(0), call.in<T>(1), call.out<T>(0));
  });
}
#if defined(RANVIER_HAS_ONEDNN)
bool onednn_supports(const NodeView& node) {
  return operand_is_f32(node) && kernels::conv2d_onednn_supports(node.attrs<Conv2dDims>());
}
template <ConvPass pass>
std::shared_ptr<void> prepare_onednn(const NodeView& node, DeviceContext&) {
  return kernels::conv2d_onednn_prepare(node.attrs<Conv2dDims>(), pass);
}
size_t onednn_workspace(const NodeView&, const void* prepared) {
  return kernels::conv2d_onednn_workspace(*static_cast<const kernels::Conv2dOnednn*>(prepared));
}
void run_onednn(const Call& call) {
  kernels::conv2d_onednn(*static_cast<const kernels::Conv2dOnednn*>(call.prepared), call.in<float>(0),
                         call.in<float>(1), call.out<float>(0), call.workspace);
}
#endif
#if defined(RANVIER_HAS_CUDA)
using kernels::ConvKernel;
template <ConvPass pass, ConvKernel kernel>
bool cuda_supports(const NodeView& node) {
  const DType type = node.in[0].dtype;
  return type != DType::f64 && kernels::conv2d_cuda_supports(node.attrs<Conv2dDims>(), pass, size_of(type), kernel);
}
template <ConvPass pass, ConvKernel kernel>
size_t cuda_workspace(const NodeView& node, const void*) {
  return kernels::conv2d_cuda_workspace(node.attrs<Conv2dDims>(), pass, size_of(node.in[0].dtype), kernel);
}
template <ConvPass pass, ConvKernel kernel>
void run_cuda(const Call& call) {
  const auto run = [&]<class T>() {
    kernels::conv2d_cuda<T>(call.node.attrs<Conv2dDims>(), pass, kernel, call.in<T>(0), call.in<T>(1), call.out<T>(0),
                            call.workspace, call.stream);
  };
  switch (call.node.in[0].dtype) {
    case DType::bf16:
      return run.template operator()<kernels::bf16>();
    case DType::f16:
      return run.template operator()<kernels::f16>();
    default:
      return run.template operator()<float>();
  }
}
template <ConvPass pass, ConvKernel kernel>
constexpr Variant cuda_variant(const char* name, bool exact = true) {
  return {.name = name,
          .backend = Backend::cuda,
          .run = run_cuda<pass, kernel>,
          .supports = cuda_supports<pass, kernel>,
          .workspace = cuda_workspace<pass, kernel>,
          .exact = exact};
}
#endif

#if defined(RANVIER_HAS_CUDNN)
using kernels::CudnnConv;
bool cudnn_supports(const NodeView& node) {
  return operand_is_mixed(node) && kernels::cudnn_conv_supports(node.attrs<Conv2dDims>());
}
bool cudnn_tf32_supports(const NodeView& node) { return operand_is_f32(node) && cudnn_supports(node); }
template <ConvPass pass, int rank, bool tf32>
std::shared_ptr<void> prepare_cudnn(const NodeView& node, DeviceContext& context) {
  return std::make_shared<CudnnConv>(node.attrs<Conv2dDims>(), pass, cudnn_type(node.in[0].dtype, tf32), rank,
                                     context.stream);
}
size_t cudnn_workspace(const NodeView&, const void* prepared) {
  return static_cast<const CudnnConv*>(prepared)->workspace();
}
void run_cudnn(const Call& call) {
  static_cast<const CudnnConv*>(call.prepared)
      ->run(call.inputs[0], call.inputs[1], call.outputs[0], call.workspace, call.stream);
}
/// The plan at a rank of cuDNN's own list: which is fastest only a benchmark can tell.
template <ConvPass pass, int rank, bool tf32 = false>
constexpr Variant cudnn_variant(const char* name) {
  return {.name = name,
          .backend = Backend::cuda,
          .run = run_cudnn,
          .supports = tf32 ? cudnn_tf32_supports : cudnn_supports,
          .workspace = cudnn_workspace,
          .prepare = prepare_cudnn<pass, rank, tf32>,
          .exact = false};
}
#endif

// The first entry takes Winograd only where its shape pays; the last makes it selectable everywhere else.
template <ConvPass pass>
constexpr Variant variants[] = {
    {.name = "winograd",
     .run = run_winograd<pass>,
     .supports = winograd_pays<pass>,
     .workspace = winograd_workspace<pass>,
     .exact = false},
#if defined(RANVIER_HAS_ONEDNN)
    {.name = "onednn",
     .run = run_onednn,
     .supports = onednn_supports,
     .workspace = onednn_workspace,
     .prepare = prepare_onednn<pass>},
#endif
    {.name = "native", .run = run_native<pass>, .supports = operand_on_cpu, .workspace = native_workspace<pass>},
    {.name = "reference", .run = run_reference<pass>, .supports = operand_on_cpu},
    {.name = "winograd",
     .run = run_winograd<pass>,
     .supports = winograd_supports<pass>,
     .workspace = winograd_workspace<pass>,
     .exact = false},
    RANVIER_CUDA_VARIANTS(cuda_variant<pass, ConvKernel::best>("handwritten"),
                          cuda_variant<pass, ConvKernel::gather>("gather"),
                          cuda_variant<pass, ConvKernel::positional>("positional"),
                          cuda_variant<pass, ConvKernel::few_channels>("few_channels"),
                          cuda_variant<pass, ConvKernel::tf32>("tf32", false), )
#if defined(RANVIER_HAS_CUDNN)
        cudnn_variant<pass, 0>("cudnn"),
    cudnn_variant<pass, 1>("cudnn_second"),
    cudnn_variant<pass, 2>("cudnn_third"),
    cudnn_variant<pass, 0, true>("cudnn_tf32"),
#endif
};

double flops(const NodeView& node) { return node.attrs<Conv2dDims>().flops(); }

void vjp_forward(Vjp& v);
void vjp_dgrad(Vjp& v);
void vjp_wgrad(Vjp& v);

const OpDef conv2d_op{.name = "conv2d",
                      .infer = infer_forward,
                      .vjp = vjp_forward,
                      .variants = variants<ConvPass::forward>,
                      .flops = flops};
const OpDef dgrad_op{.name = "conv2d_dgrad",
                     .infer = infer_dgrad,
                     .vjp = vjp_dgrad,
                     .variants = variants<ConvPass::dgrad>,
                     .flops = flops};
const OpDef wgrad_op{.name = "conv2d_wgrad",
                     .infer = infer_wgrad,
                     .vjp = vjp_wgrad,
                     .variants = variants<ConvPass::wgrad>,
                     .flops = flops};

Tensor emit(const OpDef& op, Vjp& v, Tensor a, Tensor b) {
  const Tensor in[] = {a, b};
  return v.graph().emit(op, Attrs::of(v.attrs<Conv2dDims>()), in, Where::current());
}

// The weights' gradient first: it is the last reader of x, which is then free while dgrad makes the next gradient.
void vjp_forward(Vjp& v) {
  v.in(1, [&] { return emit(wgrad_op, v, v.x(0), v.g()); });
  v.in(0, [&] { return emit(dgrad_op, v, v.g(), v.x(1)); });
}
void vjp_dgrad(Vjp& v) {
  v.in(0, [&] { return emit(conv2d_op, v, v.g(), v.x(1)); });
  v.in(1, [&] { return emit(wgrad_op, v, v.g(), v.x(0)); });
}
void vjp_wgrad(Vjp& v) {
  v.in(0, [&] { return emit(dgrad_op, v, v.x(1), v.g()); });
  v.in(1, [&] { return emit(conv2d_op, v, v.x(0), v.g()); });
}

}  // namespace

Tensor conv2d(Tensor x, Tensor w, Conv2dOptions options, Where where) {
  const Shape xs = x.shape(), ws = w.shape();
  if (xs.rank() != 4 || ws.rank() != 4 || xs[3] != ws[3])
    fail_at(where, "conv2d: x must be (N, H, W, C) and w (K, R, S, C) with one C, got {} and {}", to_string(x.type()),
            to_string(w.type()));
  Conv2dDims dims{xs[0], xs[1],          xs[2],          xs[3],           ws[0],          ws[1],
                  ws[2], options.stride, options.stride, options.padding, options.padding};
  if (options.stride < 1 || options.padding < 0 || options.floor_to < 1)
    fail_at(where, "conv2d: stride {}, padding {} or floor_to {} makes no sense", options.stride, options.padding,
            options.floor_to);
  try {
    kernels::conv2d_check(dims);
    dims.drop_h = dims.p() % options.floor_to, dims.drop_w = dims.q() % options.floor_to;
    kernels::conv2d_check(dims);
  } catch (const std::runtime_error& error) {
    fail_at(where, "{}", error.what());
  }
  const Tensor in[] = {x, w};
  return x.graph->emit(conv2d_op, Attrs::of(dims), in, where);
}

std::vector<const OpDef*> catalogue::conv2d() { return {&conv2d_op, &dgrad_op, &wgrad_op}; }

}  // namespace ranvier
