// Ops that let a training step feed itself on its device: which images come next, and where its results go.
#include "kernels/feed/feed.h"

#include "engine/catalogue.h"
#include "engine/op.h"
#include "engine/ops.h"
#include "engine/ops/dispatch.h"

namespace ranvier {
namespace {

void check_counter(const Type& type) {
  if (type != Type{DType::i64, {}}) fail("the counter must be an i64 scalar, it is {}", to_string(type));
}

// ---- batch_window ----

struct Window {
  int64_t batch = 0;
};

std::vector<Type> infer_window(std::span<const Type> in, const Attrs& attrs) {
  const int64_t batch = attrs.as<Window>().batch;
  if (!is_index(in[0].dtype) || in[0].shape.rank() != 1)
    fail("the order must be i32 or i64 (n), it is {}", to_string(in[0]));
  if (batch < 1 || batch > in[0].shape[0]) fail("a batch of {} from {} images", batch, in[0].shape[0]);
  check_counter(in[1]);
  return {{DType::i64, {batch}}};
}

void run_window(const Call& c) {
  dispatch_index(c.node.in[0].dtype, [&]<class I>() {
    kernels::reference::batch_window(c.node.in[0].shape[0], c.node.attrs<Window>().batch, c.in<I>(0), c.in<int64_t>(1),
                                     c.out<int64_t>(0));
  });
}

// ---- ring_write ----

std::vector<Type> infer_ring(std::span<const Type> in, const Attrs&) {
  const Shape& ring = in[0].shape;
  if (ring.rank() < 1 || ring[0] < 1)
    fail("the ring needs a first axis of 1 or more places, it is {}", to_string(in[0]));
  Type row{in[0].dtype, {}};
  for (int axis = 1; axis < ring.rank(); ++axis) row.shape.push_back(ring[axis]);
  if (in[1] != row) fail("the value is {}, a place of the ring {}", to_string(in[1]), to_string(row));
  check_counter(in[2]);
  return {in[0]};
}

void run_ring(const Call& c) {
  kernels::reference::ring_write(c.node.in[0].shape[0], c.node.in[1].bytes(), c.inputs[0], c.inputs[1],
                                 c.in<int64_t>(2), c.outputs[0]);
}

#if defined(RANVIER_HAS_CUDA)
void window_cuda(const Call& c) {
  dispatch_index(c.node.in[0].dtype, [&]<class I>() {
    kernels::cuda::batch_window(c.node.in[0].shape[0], c.node.attrs<Window>().batch, c.in<I>(0), c.in<int64_t>(1),
                                c.out<int64_t>(0), c.stream);
  });
}
void ring_cuda(const Call& c) {
  kernels::cuda::ring_write(c.node.in[0].shape[0], c.node.in[1].bytes(), c.inputs[0], c.inputs[1], c.in<int64_t>(2),
                            c.outputs[0], c.stream);
}
#endif

constexpr Variant window_variants[] = {
    {.name = "reference", .run = run_window},
    RANVIER_CUDA_VARIANTS({.name = "handwritten", .backend = Backend::cuda, .run = window_cuda})};
constexpr Variant ring_variants[] = {
    {.name = "reference", .run = run_ring},
    RANVIER_CUDA_VARIANTS({.name = "handwritten", .backend = Backend::cuda, .run = ring_cuda})};

constexpr OpDef window_op{.name = "batch_window",
                          .infer = infer_window,
                          .variants = window_variants,
                          .smoothness = Smoothness::none,
                          .flops = moves_only};
constexpr OpDef ring_op{.name = "ring_write",
                        .infer = infer_ring,
                        .variants = ring_variants,
                        .smoothness = Smoothness::none,
                        .flops = moves_only,
                        .in_place = InPlace::first};

}  // namespace

Tensor batch_window(Tensor order, Tensor counter, int64_t batch, Where where) {
  const Tensor in[] = {order, counter};
  return order.graph->emit(window_op, Attrs::of(Window{batch}), in, where);
}

Tensor ring_write(Tensor ring, Tensor value, Tensor counter, Where where) {
  const Tensor in[] = {ring, value, counter};
  return ring.graph->emit(ring_op, {}, in, where);
}

std::vector<const OpDef*> catalogue::feed() { return {&window_op, &ring_op}; }

}  // namespace ranvier
