// Image augmentation: flip and cutout are their own adjoints, a shift has one of its own; the draws are ops apart.
#include "kernels/augment/augment.h"

#include <algorithm>

#include "engine/catalogue.h"
#include "engine/op.h"
#include "engine/ops.h"
#include "engine/ops/dispatch.h"

namespace ranvier {
namespace {

constexpr size_t most_channels = kernels::most_normalized_channels;

kernels::ImageDims image_dims(const Type& x) { return {x.shape[0], x.shape[1], x.shape[2], x.shape[3]}; }

void check_images(const Type& x) {
  if (x.shape.rank() != 4) fail("needs images (n, h, w, c)");
  if (x.dtype != DType::u8 && !is_floating(x.dtype)) fail("images are u8 or floating");
}

void check_operand(const Type& x, DType dtype, const Shape& shape, const char* what) {
  if (x != Type{dtype, shape}) fail("{} must be {}", what, to_string(Type{dtype, shape}));
}

/// Calls body<T>() for the types of images: u8, f32, f64.
template <class Body>
void dispatch_image(DType dtype, Body&& body) {
  if (dtype == DType::u8) return body.template operator()<uint8_t>();
  dispatch_floating(dtype, body);
}

#if defined(RANVIER_HAS_CUDA)
/// The same for the types of CUDA: u8, f32, f64, bf16, f16.
template <class Body>
void dispatch_cuda_image(DType dtype, Body&& body) {
  if (dtype == DType::u8) return body.template operator()<uint8_t>();
  dispatch_cuda_floating(dtype, body);
}
#endif

bool u8_or_f32(const NodeView& node) { return node.in[0].dtype == DType::u8 || node.in[0].dtype == DType::f32; }
bool f32_result(const NodeView& node) { return node.out[0].dtype == DType::f32; }
bool result_on_cpu(const NodeView& node) { return on_cpu(node.out[0].dtype); }

/// Emits `op` on the gradient with the attributes and second operand of the node.
template <class A>
Tensor same_on_gradient(Vjp& v, const OpDef& op) {
  const Tensor in[] = {v.g(), v.x(1)};
  return v.graph().emit(op, Attrs::of(v.attrs<A>()), in, v.node().where);
}

// ---- flip ----

struct Nothing {
  int64_t unused = 0;
};

std::vector<Type> infer_flip(std::span<const Type> in, const Attrs&) {
  check_images(in[0]);
  check_operand(in[1], DType::u8, {in[0].shape[0]}, "flags");
  return {in[0]};
}

void flip_fast(const Call& c) {
  const auto dims = image_dims(c.node.in[0]);
  if (c.node.in[0].dtype == DType::u8)
    kernels::cpu::flip(dims, c.in<uint8_t>(0), c.in<uint8_t>(1), c.out<uint8_t>(0));
  else
    kernels::cpu::flip(dims, c.in<float>(0), c.in<uint8_t>(1), c.out<float>(0));
}
void flip_reference(const Call& c) {
  dispatch_image(c.node.in[0].dtype, [&]<class T>() {
    kernels::reference::flip<T>(image_dims(c.node.in[0]), c.in<T>(0), c.in<uint8_t>(1), c.out<T>(0));
  });
}

extern const OpDef flip_op, translate_op, translate_adjoint_op, cutout_op;

void vjp_flip(Vjp& v) {
  v.in(0, [&] { return same_on_gradient<Nothing>(v, flip_op); });
}

// ---- the coin that changes with every epoch ----

std::vector<Type> infer_toggle(std::span<const Type> in, const Attrs&) {
  if (in[0].dtype != DType::u8) fail("flags are u8");
  check_operand(in[1], DType::i64, {}, "the count");
  return {in[0]};
}

void run_toggle(const Call& c) {
  const auto odd = static_cast<uint8_t>(c.in<int64_t>(1)[0] & 1);
  std::transform(c.in<uint8_t>(0), c.in<uint8_t>(0) + c.node.in[0].shape.numel(), c.out<uint8_t>(0),
                 [odd](uint8_t flag) { return static_cast<uint8_t>((flag != 0) ^ odd); });
}

// ---- translate ----

struct Shift {
  int64_t border = 0;
};

std::vector<Type> infer_translate(std::span<const Type> in, const Attrs&) {
  check_images(in[0]);
  check_operand(in[1], DType::i32, {in[0].shape[0], 2}, "offsets");
  return {in[0]};
}
std::vector<Type> infer_translate_adjoint(std::span<const Type> in, const Attrs& attrs) {
  if (!is_floating(in[0].dtype)) fail("needs a floating type");
  return infer_translate(in, attrs);
}

Border border_of(const Call& c) { return static_cast<Border>(c.node.attrs<Shift>().border); }

void translate_fast(const Call& c) {
  const auto dims = image_dims(c.node.in[0]);
  if (c.node.in[0].dtype == DType::u8)
    kernels::cpu::translate(dims, c.in<uint8_t>(0), c.in<int32_t>(1), border_of(c), c.out<uint8_t>(0));
  else
    kernels::cpu::translate(dims, c.in<float>(0), c.in<int32_t>(1), border_of(c), c.out<float>(0));
}
void translate_reference(const Call& c) {
  dispatch_image(c.node.in[0].dtype, [&]<class T>() {
    kernels::reference::translate<T>(image_dims(c.node.in[0]), c.in<T>(0), c.in<int32_t>(1), border_of(c), c.out<T>(0));
  });
}
void translate_adjoint_fast(const Call& c) {
  kernels::cpu::translate_adjoint(image_dims(c.node.in[0]), c.in<float>(0), c.in<int32_t>(1), border_of(c),
                                  c.out<float>(0));
}
void translate_adjoint_reference(const Call& c) {
  dispatch_floating(c.node.in[0].dtype, [&]<class T>() {
    kernels::reference::translate_adjoint<T>(image_dims(c.node.in[0]), c.in<T>(0), c.in<int32_t>(1), border_of(c),
                                             c.out<T>(0));
  });
}

void vjp_translate(Vjp& v) {
  v.in(0, [&] { return same_on_gradient<Shift>(v, translate_adjoint_op); });
}
void vjp_translate_adjoint(Vjp& v) {
  v.in(0, [&] { return same_on_gradient<Shift>(v, translate_op); });
}

// ---- cutout ----

struct Square {
  int64_t size = 0;
};

std::vector<Type> infer_cutout(std::span<const Type> in, const Attrs& attrs) {
  check_images(in[0]);
  check_operand(in[1], DType::i32, {in[0].shape[0], 2}, "centres");
  if (attrs.as<Square>().size < 0) fail("size {} is negative", attrs.as<Square>().size);
  return {in[0]};
}

void cutout_fast(const Call& c) {
  const auto dims = image_dims(c.node.in[0]);
  const int64_t size = c.node.attrs<Square>().size;
  if (c.node.in[0].dtype == DType::u8)
    kernels::cpu::cutout(dims, c.in<uint8_t>(0), c.in<int32_t>(1), size, c.out<uint8_t>(0));
  else
    kernels::cpu::cutout(dims, c.in<float>(0), c.in<int32_t>(1), size, c.out<float>(0));
}
void cutout_reference(const Call& c) {
  dispatch_image(c.node.in[0].dtype, [&]<class T>() {
    kernels::reference::cutout<T>(image_dims(c.node.in[0]), c.in<T>(0), c.in<int32_t>(1), c.node.attrs<Square>().size,
                                  c.out<T>(0));
  });
}

void vjp_cutout(Vjp& v) {
  v.in(0, [&] { return same_on_gradient<Square>(v, cutout_op); });
}

// ---- normalize ----

struct Scaling {
  int64_t dtype = 0, channels = 0;
  double mean[most_channels] = {}, deviation[most_channels] = {};
};

std::vector<Type> infer_normalize(std::span<const Type> in, const Attrs& attrs) {
  const auto& scaling = attrs.as<Scaling>();
  if (in[0].shape.rank() != 4 || in[0].dtype != DType::u8) fail("needs u8 images (n, h, w, c)");
  if (in[0].shape[3] != scaling.channels) fail("{} values for the channels are given", scaling.channels);
  return {{static_cast<DType>(scaling.dtype), in[0].shape}};
}

template <class T, class Kernel>
void normalize_as(const Call& c, Kernel kernel) {
  const auto& scaling = c.node.attrs<Scaling>();
  T mean[most_channels], deviation[most_channels];
  std::transform(scaling.mean, scaling.mean + most_channels, mean, [](double v) { return static_cast<T>(v); });
  std::transform(scaling.deviation, scaling.deviation + most_channels, deviation,
                 [](double v) { return static_cast<T>(v); });
  kernel(image_dims(c.node.in[0]), c.in<uint8_t>(0), mean, deviation, c.out<T>(0));
}

void normalize_fast(const Call& c) { normalize_as<float>(c, kernels::cpu::normalize); }
void normalize_reference(const Call& c) {
  dispatch_floating(c.node.out[0].dtype, [&]<class T>() { normalize_as<T>(c, kernels::reference::normalize<T>); });
}

#if defined(RANVIER_HAS_CUDA)
void flip_cuda(const Call& c) {
  dispatch_cuda_image(c.node.in[0].dtype, [&]<class T>() {
    kernels::cuda::flip(image_dims(c.node.in[0]), c.in<T>(0), c.in<uint8_t>(1), c.out<T>(0), c.stream);
  });
}
void toggle_cuda(const Call& c) {
  kernels::cuda::toggle(c.node.in[0].shape.numel(), c.in<uint8_t>(0), c.in<int64_t>(1), c.out<uint8_t>(0), c.stream);
}
void translate_cuda(const Call& c) {
  dispatch_cuda_image(c.node.in[0].dtype, [&]<class T>() {
    kernels::cuda::translate(image_dims(c.node.in[0]), c.in<T>(0), c.in<int32_t>(1), border_of(c), c.out<T>(0),
                             c.stream);
  });
}
void translate_adjoint_cuda(const Call& c) {
  dispatch_cuda_floating(c.node.in[0].dtype, [&]<class T>() {
    kernels::cuda::translate_adjoint(image_dims(c.node.in[0]), c.in<T>(0), c.in<int32_t>(1), border_of(c), c.out<T>(0),
                                     c.stream);
  });
}
void cutout_cuda(const Call& c) {
  dispatch_cuda_image(c.node.in[0].dtype, [&]<class T>() {
    kernels::cuda::cutout(image_dims(c.node.in[0]), c.in<T>(0), c.in<int32_t>(1), c.node.attrs<Square>().size,
                          c.out<T>(0), c.stream);
  });
}
void normalize_cuda(const Call& c) {
  const auto& scaling = c.node.attrs<Scaling>();
  dispatch_cuda_floating(c.node.out[0].dtype, [&]<class T>() {
    kernels::cuda::normalize(image_dims(c.node.in[0]), c.in<uint8_t>(0), scaling.mean, scaling.deviation, c.out<T>(0),
                             c.stream);
  });
}
#endif

constexpr Variant flip_variants[] = {
    {.name = "cpu", .run = flip_fast, .supports = u8_or_f32},
    {.name = "reference", .run = flip_reference, .supports = operand_on_cpu},
    RANVIER_CUDA_VARIANTS({.name = "handwritten", .backend = Backend::cuda, .run = flip_cuda})};
constexpr Variant toggle_variants[] = {
    {.name = "reference", .run = run_toggle},
    RANVIER_CUDA_VARIANTS({.name = "handwritten", .backend = Backend::cuda, .run = toggle_cuda})};
constexpr Variant translate_variants[] = {
    {.name = "cpu", .run = translate_fast, .supports = u8_or_f32},
    {.name = "reference", .run = translate_reference, .supports = operand_on_cpu},
    RANVIER_CUDA_VARIANTS({.name = "handwritten", .backend = Backend::cuda, .run = translate_cuda})};
constexpr Variant translate_adjoint_variants[] = {
    {.name = "cpu", .run = translate_adjoint_fast, .supports = operand_is_f32},
    {.name = "reference", .run = translate_adjoint_reference, .supports = operand_on_cpu},
    RANVIER_CUDA_VARIANTS({.name = "handwritten", .backend = Backend::cuda, .run = translate_adjoint_cuda})};
constexpr Variant cutout_variants[] = {
    {.name = "cpu", .run = cutout_fast, .supports = u8_or_f32},
    {.name = "reference", .run = cutout_reference, .supports = operand_on_cpu},
    RANVIER_CUDA_VARIANTS({.name = "handwritten", .backend = Backend::cuda, .run = cutout_cuda})};
constexpr Variant normalize_variants[] = {
    {.name = "cpu", .run = normalize_fast, .supports = f32_result},
    {.name = "reference", .run = normalize_reference, .supports = result_on_cpu},
    RANVIER_CUDA_VARIANTS({.name = "handwritten", .backend = Backend::cuda, .run = normalize_cuda})};

const OpDef flip_op{
    .name = "flip", .infer = infer_flip, .vjp = vjp_flip, .variants = flip_variants, .flops = moves_only};
constexpr OpDef toggle_op{.name = "toggle",
                          .infer = infer_toggle,
                          .variants = toggle_variants,
                          .smoothness = Smoothness::none,
                          .flops = moves_only};
const OpDef translate_op{.name = "translate",
                         .infer = infer_translate,
                         .vjp = vjp_translate,
                         .variants = translate_variants,
                         .flops = moves_only};
const OpDef translate_adjoint_op{.name = "translate_adjoint",
                                 .infer = infer_translate_adjoint,
                                 .vjp = vjp_translate_adjoint,
                                 .variants = translate_adjoint_variants};
const OpDef cutout_op{
    .name = "cutout", .infer = infer_cutout, .vjp = vjp_cutout, .variants = cutout_variants, .flops = moves_only};
constexpr OpDef normalize_op{
    .name = "normalize", .infer = infer_normalize, .variants = normalize_variants, .smoothness = Smoothness::none};

void require_images(const Tensor& x, const char* op, const Where& where) {
  if (x.shape().rank() != 4) fail_at(where, "{}: {} is not (n, h, w, c)", op, to_string(x.type()));
}

}  // namespace

Tensor normalize(Tensor x, std::span<const double> mean, std::span<const double> deviation, std::optional<DType> dtype,
                 Where where) {
  if (mean.size() != deviation.size() || mean.empty() || mean.size() > most_channels)
    fail_at(where, "normalize: {} means and {} deviations; one of each a channel, at most {}", mean.size(),
            deviation.size(), most_channels);
  const DType result = dtype.value_or(compute_type(*x.graph));
  if (!is_floating(result)) fail_at(where, "normalize: {} is not a floating type", name_of(result));
  Scaling scaling{static_cast<int64_t>(result), static_cast<int64_t>(mean.size()), {}, {}};
  for (size_t c = 0; c < mean.size(); ++c) {
    if (!(deviation[c] > 0)) fail_at(where, "normalize: deviation {} of channel {} is not positive", deviation[c], c);
    scaling.mean[c] = mean[c], scaling.deviation[c] = deviation[c];
  }
  return x.graph->emit(normalize_op, Attrs::of(scaling), std::span(&x, 1), where);
}

Tensor normalize(Tensor x, std::span<const float> mean, std::span<const float> deviation, std::optional<DType> dtype,
                 Where where) {
  const std::vector<double> means(mean.begin(), mean.end()), deviations(deviation.begin(), deviation.end());
  return normalize(x, std::span(means), std::span(deviations), dtype, where);
}

Tensor flip(Tensor x, Tensor flags, Where where) {
  const Tensor in[] = {x, flags};
  return x.graph->emit(flip_op, Attrs::of(Nothing{}), in, where);
}

Tensor flip_all(Tensor x, Where where) {
  require_images(x, "flip_all", where);
  return x.shape()[2] == 0 ? x : slice_axis(x, 2, -1, -1, -1, where);
}

Tensor random_flip(Tensor x, std::string_view name, Where where) {
  require_images(x, "random_flip", where);
  if (!x.graph->training()) return x;
  return flip(x, bernoulli(*x.graph, name, {x.shape()[0]}, 0.5, DType::u8, where), where);
}

Tensor alternating_flip(Tensor x, Tensor image_index, Tensor epoch, std::string_view name, Where where) {
  require_images(x, "alternating_flip", where);
  if (!x.graph->training()) return x;
  const Tensor in[] = {bernoulli_at(image_index, name, 0.5, where), epoch};
  return flip(x, x.graph->emit(toggle_op, {}, in, where), where);
}

Tensor translate(Tensor x, Tensor offsets, Border border, Where where) {
  const Tensor in[] = {x, offsets};
  return x.graph->emit(translate_op, Attrs::of(Shift{static_cast<int64_t>(border)}), in, where);
}

Tensor random_translate(Tensor x, int64_t pixels, Border border, std::string_view name, Where where) {
  require_images(x, "random_translate", where);
  if (pixels < 0) fail_at(where, "random_translate: {} pixels", pixels);
  if (pixels == 0 || !x.graph->training()) return x;
  return translate(x, integers(*x.graph, name, {x.shape()[0], 2}, -pixels, pixels, where), border, where);
}

Tensor cutout(Tensor x, Tensor centres, int64_t size, Where where) {
  const Tensor in[] = {x, centres};
  return x.graph->emit(cutout_op, Attrs::of(Square{size}), in, where);
}

Tensor random_cutout(Tensor x, int64_t size, std::string_view name, Where where) {
  require_images(x, "random_cutout", where);
  if (size < 0) fail_at(where, "random_cutout: size {} is negative", size);
  const Shape shape = x.shape();
  if (size == 0 || !x.graph->training() || shape.numel() == 0) return x;
  const std::string base(name);
  const Tensor rows = integers(*x.graph, base + ".row", {shape[0], 1}, 0, shape[1] - 1, where);
  const Tensor columns = integers(*x.graph, base + ".column", {shape[0], 1}, 0, shape[2] - 1, where);
  return cutout(x, concat({rows, columns}, 1, where), size, where);
}

std::vector<const OpDef*> catalogue::augment() {
  return {&flip_op, &toggle_op, &translate_op, &translate_adjoint_op, &cutout_op, &normalize_op};
}

}  // namespace ranvier
