// Pooling: {max_unpool, pool_take} by the winners' index and {avg_pool, avg_unpool} are each other's adjoints.
#include "kernels/pool/pool.h"

#include "engine/catalogue.h"
#include "engine/op.h"
#include "engine/ops.h"
#include "engine/ops/dispatch.h"
#if defined(RANVIER_HAS_CUDNN)
#include "engine/ops/cudnn.h"
#include "kernels/pool/cudnn.h"
#endif

namespace ranvier {
namespace {

/// The window, and the map it slides over: an index or a gradient alone does not tell the map's extents.
struct PoolAttrs {
  int64_t window = 2, stride = 2, pad = 0, count_pad = 0;
  int64_t h = 0, w = 0;
};

/// `maps` is any tensor (n, *, *, c) of the node.
kernels::PoolDims pool_dims(const Shape& maps, const PoolAttrs& a) {
  return {maps[0], a.h, a.w, maps[3], a.window, a.window, a.stride, a.pad, a.count_pad != 0};
}

kernels::PoolDims pool_dims(const NodeView& node) { return pool_dims(node.in[0].shape, node.attrs<PoolAttrs>()); }

/// Dims of a node whose operand is on the map side, checked.
kernels::PoolDims checked_dims(const Type& x, const Attrs& attrs) {
  if (!is_floating(x.dtype)) fail("needs a floating type");
  if (x.shape.rank() != 4) fail("needs maps (n, h, w, c)");
  const auto& a = attrs.as<PoolAttrs>();
  if (a.h < 1 || a.w < 1) fail("the maps are empty");
  const kernels::PoolDims dims = pool_dims(x.shape, a);
  checked([&] { kernels::validate(dims); });
  return dims;
}

Shape pooled(const kernels::PoolDims& d) { return {d.n, d.p(), d.q(), d.c}; }
Shape maps(const kernels::PoolDims& d) { return {d.n, d.h, d.w, d.c}; }

void expect(const Type& operand, const Shape& shape, const char* what) {
  if (operand.shape != shape) fail("{} is {}, the window gives {}", what, to_string(operand), to_string(shape));
}
void expect_index(const Type& index, const kernels::PoolDims& dims) {
  if (index.dtype != DType::i32) fail("the index is {}, not i32", to_string(index));
  expect(index, pooled(dims), "the index");
}

std::vector<Type> infer_max_pool(std::span<const Type> in, const Attrs& attrs) {
  const Shape result = pooled(checked_dims(in[0], attrs));
  return {{in[0].dtype, result}, {DType::i32, result}};
}
std::vector<Type> infer_max_unpool(std::span<const Type> in, const Attrs& attrs) {
  const auto dims = checked_dims(in[0], attrs);
  expect(in[0], pooled(dims), "the operand");
  expect_index(in[1], dims);
  return {{in[0].dtype, maps(dims)}};
}
std::vector<Type> infer_pool_take(std::span<const Type> in, const Attrs& attrs) {
  const auto dims = checked_dims(in[0], attrs);
  expect(in[0], maps(dims), "the operand");
  expect_index(in[1], dims);
  return {{in[0].dtype, pooled(dims)}};
}
std::vector<Type> infer_avg_pool(std::span<const Type> in, const Attrs& attrs) {
  return {{in[0].dtype, pooled(checked_dims(in[0], attrs))}};
}
std::vector<Type> infer_avg_unpool(std::span<const Type> in, const Attrs& attrs) {
  const auto dims = checked_dims(in[0], attrs);
  expect(in[0], pooled(dims), "the operand");
  return {{in[0].dtype, maps(dims)}};
}

void max_pool_fast(const Call& c) {
  kernels::cpu::max_pool(pool_dims(c.node), c.in<float>(0), c.out<float>(0), c.out<int32_t>(1));
}
void max_pool_reference(const Call& c) {
  dispatch_floating(c.node.in[0].dtype, [&]<class T>() {
    kernels::reference::max_pool<T>(pool_dims(c.node), c.in<T>(0), c.out<T>(0), c.out<int32_t>(1));
  });
}

// The other four run alike: operands, an index or none, one result.
#define RANVIER_BY_INDEX(name)                                                                   \
  void name##_fast(const Call& c) {                                                              \
    kernels::cpu::name(pool_dims(c.node), c.in<float>(0), c.in<int32_t>(1), c.out<float>(0));    \
  }                                                                                              \
  void name##_reference(const Call& c) {                                                         \
    dispatch_floating(c.node.in[0].dtype, [&]<class T>() {                                       \
      kernels::reference::name<T>(pool_dims(c.node), c.in<T>(0), c.in<int32_t>(1), c.out<T>(0)); \
    });                                                                                          \
  }
#define RANVIER_AVERAGE(name)                                                                                       \
  void name##_fast(const Call& c) { kernels::cpu::name(pool_dims(c.node), c.in<float>(0), c.out<float>(0)); }       \
  void name##_reference(const Call& c) {                                                                            \
    dispatch_floating(c.node.in[0].dtype,                                                                           \
                      [&]<class T>() { kernels::reference::name<T>(pool_dims(c.node), c.in<T>(0), c.out<T>(0)); }); \
  }
RANVIER_BY_INDEX(max_unpool)
RANVIER_BY_INDEX(pool_take)
RANVIER_AVERAGE(avg_pool)
RANVIER_AVERAGE(avg_unpool)
#undef RANVIER_BY_INDEX
#undef RANVIER_AVERAGE

#if defined(RANVIER_HAS_CUDA)
void max_pool_cuda(const Call& c) {
  dispatch_cuda_mixed(c.node.in[0].dtype, [&]<class T>() {
    kernels::cuda::max_pool<T>(pool_dims(c.node), c.in<T>(0), c.out<T>(0), c.out<int32_t>(1), c.stream);
  });
}
#define RANVIER_BY_INDEX(name)                                                                        \
  void name##_cuda(const Call& c) {                                                                   \
    dispatch_cuda_mixed(c.node.in[0].dtype, [&]<class T>() {                                          \
      kernels::cuda::name<T>(pool_dims(c.node), c.in<T>(0), c.in<int32_t>(1), c.out<T>(0), c.stream); \
    });                                                                                               \
  }
#define RANVIER_AVERAGE(name)                                                       \
  void name##_cuda(const Call& c) {                                                 \
    dispatch_cuda_mixed(c.node.in[0].dtype, [&]<class T>() {                        \
      kernels::cuda::name<T>(pool_dims(c.node), c.in<T>(0), c.out<T>(0), c.stream); \
    });                                                                             \
  }
RANVIER_BY_INDEX(max_unpool)
RANVIER_BY_INDEX(pool_take)
RANVIER_AVERAGE(avg_pool)
RANVIER_AVERAGE(avg_unpool)
#undef RANVIER_BY_INDEX
#undef RANVIER_AVERAGE
#endif

#if defined(RANVIER_HAS_CUDNN)
using kernels::CudnnAverage;
bool cudnn_supports(const NodeView& node) { return operand_is_mixed(node) && node.in[0].shape.numel() > 0; }
std::shared_ptr<void> prepare_cudnn(const NodeView& node, DeviceContext&) {
  return std::make_shared<CudnnAverage>(pool_dims(node), cudnn_type(node.in[0].dtype));
}
void avg_pool_cudnn(const Call& c) {
  static_cast<const CudnnAverage*>(c.prepared)->pool(c.inputs[0], c.outputs[0], c.stream);
}
void avg_unpool_cudnn(const Call& c) {
  static_cast<const CudnnAverage*>(c.prepared)->unpool(c.inputs[0], c.outputs[0], c.stream);
}
#define RANVIER_CUDNN(op)      \
  {.name = "cudnn",            \
   .backend = Backend::cuda,   \
   .run = op##_cudnn,          \
   .supports = cudnn_supports, \
   .prepare = prepare_cudnn,   \
   .exact = false},
#else
#define RANVIER_CUDNN(op)
#endif

// `...` are variants by a vendor's library.
#define RANVIER_VARIANTS(op, ...)                                                                              \
  constexpr Variant op##_variants[] = {                                                                        \
      {.name = "cpu", .run = op##_fast, .supports = operand_is_f32},                                           \
      {.name = "reference", .run = op##_reference, .supports = operand_on_cpu},                                \
      RANVIER_CUDA_VARIANTS(                                                                                   \
          {.name = "handwritten", .backend = Backend::cuda, .run = op##_cuda, .supports = operand_is_mixed}, ) \
          __VA_ARGS__};
RANVIER_VARIANTS(max_pool)
RANVIER_VARIANTS(max_unpool)
RANVIER_VARIANTS(pool_take)
RANVIER_VARIANTS(avg_pool, RANVIER_CUDNN(avg_pool))
RANVIER_VARIANTS(avg_unpool, RANVIER_CUDNN(avg_unpool))
#undef RANVIER_VARIANTS
#undef RANVIER_CUDNN

extern const OpDef max_unpool_op, pool_take_op, avg_pool_op, avg_unpool_op;

Tensor emit_like(Vjp& v, const OpDef& op, std::initializer_list<Tensor> in) {
  return v.graph().emit(op, Attrs::of(v.attrs<PoolAttrs>()), std::span(in.begin(), in.size()), v.node().where);
}

void vjp_max_pool(Vjp& v) {
  v.in(0, [&] { return emit_like(v, max_unpool_op, {v.g(), v.y(1)}); });
}
void vjp_max_unpool(Vjp& v) {
  v.in(0, [&] { return emit_like(v, pool_take_op, {v.g(), v.x(1)}); });
}
void vjp_pool_take(Vjp& v) {
  v.in(0, [&] { return emit_like(v, max_unpool_op, {v.g(), v.x(1)}); });
}
void vjp_avg_pool(Vjp& v) {
  v.in(0, [&] { return emit_like(v, avg_unpool_op, {v.g()}); });
}
void vjp_avg_unpool(Vjp& v) {
  v.in(0, [&] { return emit_like(v, avg_pool_op, {v.g()}); });
}

/// One operation an element of each window.
double window_flops(const NodeView& node) {
  const kernels::PoolDims d = pool_dims(node);
  return static_cast<double>(d.n * d.p() * d.q() * d.c * d.r * d.s);
}

constexpr OpDef max_pool_op{.name = "max_pool",
                            .infer = infer_max_pool,
                            .vjp = vjp_max_pool,
                            .variants = max_pool_variants,
                            .smoothness = Smoothness::piecewise,
                            .flops = window_flops};
const OpDef max_unpool_op{.name = "max_unpool",
                          .infer = infer_max_unpool,
                          .vjp = vjp_max_unpool,
                          .variants = max_unpool_variants,
                          .flops = moves_only};
const OpDef pool_take_op{.name = "pool_take",
                         .infer = infer_pool_take,
                         .vjp = vjp_pool_take,
                         .variants = pool_take_variants,
                         .flops = moves_only};
const OpDef avg_pool_op{.name = "avg_pool",
                        .infer = infer_avg_pool,
                        .vjp = vjp_avg_pool,
                        .variants = avg_pool_variants,
                        .flops = window_flops};
const OpDef avg_unpool_op{.name = "avg_unpool",
                          .infer = infer_avg_unpool,
                          .vjp = vjp_avg_unpool,
                          .variants = avg_unpool_variants,
                          .flops = window_flops};

// ---- from a position in the map to one in the window ----

struct Position {
  int64_t width = 0, window = 0;
};

std::vector<Type> infer_position(std::span<const Type> in, const Attrs& attrs) {
  const auto [width, window] = attrs.as<Position>();
  if (in[0].dtype != DType::i32) fail("the index is not i32");
  if (width < 1 || window < 1 || window > 16) fail("no places of windows of {} in maps {} wide", window, width);
  return {{DType::u8, in[0].shape}};
}

void run_position(const Call& call) {
  const auto [width, window] = call.node.attrs<Position>();
  const auto* index = call.in<int32_t>(0);
  auto* place = call.out<uint8_t>(0);
  for (int64_t e = 0; e < call.node.in[0].shape.numel(); ++e)
    place[e] = static_cast<uint8_t>(index[e] / width % window * window + index[e] % width % window);
}

#if defined(RANVIER_HAS_CUDA)
void run_position_cuda(const Call& call) {
  const auto [width, window] = call.node.attrs<Position>();
  kernels::cuda::window_position(call.node.in[0].shape.numel(), width, window, call.in<int32_t>(0),
                                 call.out<uint8_t>(0), call.stream);
}
#endif

constexpr Variant position_variants[] = {
    {.name = "reference", .run = run_position},
    RANVIER_CUDA_VARIANTS({.name = "handwritten", .backend = Backend::cuda, .run = run_position_cuda})};
constexpr OpDef position_op{
    .name = "window_position", .infer = infer_position, .variants = position_variants, .smoothness = Smoothness::none};

Tensor pool(const OpDef& op, Tensor x, int64_t window, int64_t stride, int64_t pad, bool count_pad, const Where& at) {
  PoolAttrs attrs{window, stride == 0 ? window : stride, pad, count_pad ? 1 : 0, 0, 0};
  if (const Shape shape = x.shape(); shape.rank() == 4) attrs.h = shape[1], attrs.w = shape[2];
  return x.graph->emit(op, Attrs::of(attrs), std::span(&x, 1), at);
}

}  // namespace

Tensor max_pool(Tensor x, int64_t window, int64_t stride, int64_t pad, Where where) {
  return pool(max_pool_op, x, window, stride, pad, false, where);
}

Tensor avg_pool(Tensor x, int64_t window, int64_t stride, int64_t pad, bool count_pad, Where where) {
  return pool(avg_pool_op, x, window, stride, pad, count_pad, where);
}

Tensor pool_take(Tensor x, Tensor index, int64_t window, Where where) {
  PoolAttrs attrs{window, window, 0, 0, 0, 0};
  if (const Shape shape = x.shape(); shape.rank() == 4) attrs.h = shape[1], attrs.w = shape[2];
  const Tensor in[] = {x, index};
  return x.graph->emit(pool_take_op, Attrs::of(attrs), in, where);
}

Tensor window_position(Tensor index, int64_t width, int64_t window, Where where) {
  return index.graph->emit(position_op, Attrs::of(Position{width, window}), std::span(&index, 1), where);
}

Tensor global_avg_pool(Tensor x, Where where) {
  if (x.shape().rank() != 4) fail_at(where, "global_avg_pool: {} is not (n, h, w, c)", to_string(x.type()));
  return mean(x, {1, 2}, false, where);
}

std::vector<const OpDef*> catalogue::pool() {
  return {&max_pool_op, &max_unpool_op, &pool_take_op, &avg_pool_op, &avg_unpool_op, &position_op};
}

}  // namespace ranvier
