// Random ops: pure functions of the session's {seed, step}, a stream named by scope and name, and the element's number.
#include "kernels/random/random.h"

#include <cmath>
#include <cstring>
#include <limits>

#include "engine/catalogue.h"
#include "engine/op.h"
#include "engine/ops.h"
#include "engine/ops/dispatch.h"
#include "kernels/common/philox.h"

namespace ranvier {
namespace {

/// A fill: the result's type, two parameters of the distribution, and the stream, which keeps equal fills apart.
struct Draw {
  int64_t dtype = 0;
  Shape shape;
  double a = 0, b = 0;  // low and high, mean and deviation, or the share of zeros
  uint64_t stream = 0;
};

void check_rng(const Type& type) {
  if (type != Type{DType::i64, {2}}) fail("the generator's state is {}, not i64(2)", to_string(type));
}

std::vector<Type> infer_draw(std::span<const Type> in, const Attrs& attrs) {
  check_rng(in[0]);
  const auto& draw = attrs.as<Draw>();
  if (draw.shape.numel() >= int64_t{1} << 32) fail("{} has 2^32 elements or more", to_string(draw.shape));
  return {{static_cast<DType>(draw.dtype), draw.shape}};
}

/// Runs a fill of T: kernel(n, a, b, stream, rng, out) for two parameters.
#define RANVIER_FILL(name)                                                                                    \
  void name##_fast(const Call& c) {                                                                           \
    const auto& d = c.node.attrs<Draw>();                                                                     \
    kernels::cpu::fill_##name(d.shape.numel(), static_cast<float>(d.a), static_cast<float>(d.b), d.stream,    \
                              c.in<int64_t>(0), c.out<float>(0));                                             \
  }                                                                                                           \
  void name##_reference(const Call& c) {                                                                      \
    const auto& d = c.node.attrs<Draw>();                                                                     \
    dispatch_floating(c.node.out[0].dtype, [&]<class T>() {                                                   \
      kernels::reference::fill_##name<T>(d.shape.numel(), static_cast<T>(d.a), static_cast<T>(d.b), d.stream, \
                                         c.in<int64_t>(0), c.out<T>(0));                                      \
    });                                                                                                       \
  }
RANVIER_FILL(uniform)
RANVIER_FILL(normal)
#undef RANVIER_FILL

void bernoulli_fast(const Call& c) {
  const auto& d = c.node.attrs<Draw>();
  const auto drop = static_cast<float>(d.a);
  if (c.node.out[0].dtype == DType::u8)
    kernels::cpu::fill_bernoulli(d.shape.numel(), drop, d.stream, c.in<int64_t>(0), c.out<uint8_t>(0));
  else
    kernels::cpu::fill_bernoulli(d.shape.numel(), drop, d.stream, c.in<int64_t>(0), c.out<float>(0));
}

void bernoulli_reference(const Call& c) {
  const auto& d = c.node.attrs<Draw>();
  const auto as = [&]<class T>() {
    kernels::reference::fill_bernoulli<T>(d.shape.numel(), static_cast<float>(d.a), d.stream, c.in<int64_t>(0),
                                          c.out<T>(0));
  };
  if (c.node.out[0].dtype == DType::u8) return as.template operator()<uint8_t>();
  dispatch_floating(c.node.out[0].dtype, as);
}

void integers_reference(const Call& c) {
  const auto& d = c.node.attrs<Draw>();
  kernels::reference::fill_integers(d.shape.numel(), static_cast<int32_t>(d.a), static_cast<int32_t>(d.b), d.stream,
                                    c.in<int64_t>(0), c.out<int32_t>(0));
}

void permutation_run(const Call& c) {
  const auto& d = c.node.attrs<Draw>();
  kernels::permutation(d.shape.numel(), d.stream, c.in<int64_t>(0), static_cast<uint64_t*>(c.workspace),
                       c.out<int32_t>(0));
}

size_t permutation_workspace(const NodeView& node, const void*) {
  return sizeof(uint64_t) * static_cast<size_t>(kernels::permutation_workspace(node.out[0].shape.numel()));
}

#if defined(RANVIER_HAS_CUDA)
void uniform_cuda(const Call& c) {
  const auto& d = c.node.attrs<Draw>();
  dispatch_cuda_floating(c.node.out[0].dtype, [&]<class T>() {
    kernels::cuda::fill_uniform(d.shape.numel(), d.a, d.b, d.stream, c.in<int64_t>(0), c.out<T>(0), c.stream);
  });
}

void normal_cuda(const Call& c) {
  const auto& d = c.node.attrs<Draw>();
  dispatch_cuda_floating(c.node.out[0].dtype, [&]<class T>() {
    kernels::cuda::fill_normal(d.shape.numel(), d.a, d.b, d.stream, c.in<int64_t>(0), c.out<T>(0), c.stream);
  });
}

void bernoulli_cuda(const Call& c) {
  const auto& d = c.node.attrs<Draw>();
  const auto as = [&]<class T>() {
    kernels::cuda::fill_bernoulli(d.shape.numel(), static_cast<float>(d.a), d.stream, c.in<int64_t>(0), c.out<T>(0),
                                  c.stream);
  };
  if (c.node.out[0].dtype == DType::u8) return as.template operator()<uint8_t>();
  dispatch_cuda_floating(c.node.out[0].dtype, as);
}

void integers_cuda(const Call& c) {
  const auto& d = c.node.attrs<Draw>();
  kernels::cuda::fill_integers(d.shape.numel(), static_cast<int32_t>(d.a), static_cast<int32_t>(d.b), d.stream,
                               c.in<int64_t>(0), c.out<int32_t>(0), c.stream);
}

void permutation_cuda(const Call& c) {
  const auto& d = c.node.attrs<Draw>();
  kernels::cuda::permutation(d.shape.numel(), d.stream, c.in<int64_t>(0), static_cast<uint64_t*>(c.workspace),
                             c.out<int32_t>(0), c.stream);
}

size_t permutation_cuda_workspace(const NodeView& node, const void*) {
  return sizeof(uint64_t) * static_cast<size_t>(kernels::permutation_cuda_workspace(node.out[0].shape.numel()));
}
#endif

bool f32_result(const NodeView& node) { return node.out[0].dtype == DType::f32; }
bool f32_or_u8_result(const NodeView& node) { return f32_result(node) || node.out[0].dtype == DType::u8; }
bool cpu_result(const NodeView& node) { return on_cpu(node.out[0].dtype); }

constexpr Variant uniform_variants[] = {
    {.name = "cpu", .run = uniform_fast, .supports = f32_result},
    {.name = "reference", .run = uniform_reference, .supports = cpu_result},
    RANVIER_CUDA_VARIANTS({.name = "handwritten", .backend = Backend::cuda, .run = uniform_cuda})};
constexpr Variant normal_variants[] = {
    {.name = "cpu", .run = normal_fast, .supports = f32_result},
    {.name = "reference", .run = normal_reference, .supports = cpu_result},
    RANVIER_CUDA_VARIANTS({.name = "handwritten", .backend = Backend::cuda, .run = normal_cuda})};
constexpr Variant bernoulli_variants[] = {
    {.name = "cpu", .run = bernoulli_fast, .supports = f32_or_u8_result},
    {.name = "reference", .run = bernoulli_reference, .supports = cpu_result},
    RANVIER_CUDA_VARIANTS({.name = "handwritten", .backend = Backend::cuda, .run = bernoulli_cuda})};
constexpr Variant integers_variants[] = {
    {.name = "reference", .run = integers_reference},
    RANVIER_CUDA_VARIANTS({.name = "handwritten", .backend = Backend::cuda, .run = integers_cuda})};
constexpr Variant permutation_variants[] = {
    {.name = "reference", .run = permutation_run, .workspace = permutation_workspace},
    RANVIER_CUDA_VARIANTS({.name = "handwritten",
                           .backend = Backend::cuda,
                           .run = permutation_cuda,
                           .workspace = permutation_cuda_workspace})};

constexpr OpDef draw_op(const char* name, std::span<const Variant> variants) {
  return {.name = name, .infer = infer_draw, .variants = variants, .smoothness = Smoothness::none};
}
constexpr OpDef uniform_op = draw_op("uniform", uniform_variants);
constexpr OpDef normal_op = draw_op("normal", normal_variants);
constexpr OpDef bernoulli_op = draw_op("bernoulli", bernoulli_variants);
constexpr OpDef integers_op = draw_op("integers", integers_variants);
constexpr OpDef permutation_op = draw_op("permutation", permutation_variants);

// ---- draws that take an operand ----

struct Drop {
  double drop = 0;
  uint64_t stream = 0;
};

std::vector<Type> infer_at(std::span<const Type> in, const Attrs&) {
  if (in[0].dtype != DType::i64) fail("element numbers are i64, these are {}", to_string(in[0]));
  check_rng(in[1]);
  return {{DType::u8, in[0].shape}};
}

void run_at(const Call& c) {
  const auto& d = c.node.attrs<Drop>();
  kernels::reference::fill_bernoulli_at(c.node.out[0].shape.numel(), static_cast<float>(d.drop), d.stream,
                                        c.in<int64_t>(1), c.in<int64_t>(0), c.out<uint8_t>(0));
}

#if defined(RANVIER_HAS_CUDA)
void cuda_at(const Call& c) {
  const auto& d = c.node.attrs<Drop>();
  kernels::cuda::fill_bernoulli_at(c.node.out[0].shape.numel(), static_cast<float>(d.drop), d.stream, c.in<int64_t>(1),
                                   c.in<int64_t>(0), c.out<uint8_t>(0), c.stream);
}
#endif

constexpr Variant at_variants[] = {
    {.name = "reference", .run = run_at},
    RANVIER_CUDA_VARIANTS({.name = "handwritten", .backend = Backend::cuda, .run = cuda_at})};
constexpr OpDef bernoulli_at_op{
    .name = "bernoulli_at", .infer = infer_at, .variants = at_variants, .smoothness = Smoothness::none};

std::vector<Type> infer_dropout(std::span<const Type> in, const Attrs&) {
  if (!is_floating(in[0].dtype)) fail("needs a floating type");
  check_rng(in[1]);
  return {in[0]};
}

void dropout_fast(const Call& c) {
  const auto& d = c.node.attrs<Drop>();
  kernels::cpu::dropout(c.node.out[0].shape.numel(), static_cast<float>(d.drop), c.in<float>(0), d.stream,
                        c.in<int64_t>(1), c.out<float>(0));
}
void dropout_reference(const Call& c) {
  const auto& d = c.node.attrs<Drop>();
  dispatch_floating(c.node.in[0].dtype, [&]<class T>() {
    kernels::reference::dropout<T>(c.node.out[0].shape.numel(), static_cast<float>(d.drop), c.in<T>(0), d.stream,
                                   c.in<int64_t>(1), c.out<T>(0));
  });
}

#if defined(RANVIER_HAS_CUDA)
void dropout_cuda(const Call& c) {
  const auto& d = c.node.attrs<Drop>();
  dispatch_cuda_floating(c.node.in[0].dtype, [&]<class T>() {
    kernels::cuda::dropout(c.node.out[0].shape.numel(), static_cast<float>(d.drop), c.in<T>(0), d.stream,
                           c.in<int64_t>(1), c.out<T>(0), c.stream);
  });
}
#endif

extern const OpDef dropout_op;

/// The mask is a function of the same stream and step, so the adjoint is the op itself.
void vjp_dropout(Vjp& v) {
  v.in(0, [&] {
    const Tensor in[] = {v.g(), v.x(1)};
    return v.graph().emit(dropout_op, Attrs::of(v.attrs<Drop>()), in, v.node().where);
  });
}

constexpr Variant dropout_variants[] = {
    {.name = "cpu", .run = dropout_fast, .supports = operand_is_f32},
    {.name = "reference", .run = dropout_reference, .supports = operand_on_cpu},
    RANVIER_CUDA_VARIANTS({.name = "handwritten", .backend = Backend::cuda, .run = dropout_cuda})};
const OpDef dropout_op{.name = "dropout",
                       .infer = infer_dropout,
                       .vjp = vjp_dropout,
                       .variants = dropout_variants,
                       .in_place = InPlace::any_input};

// ---- the generator's state ----

std::vector<Type> infer_advance(std::span<const Type> in, const Attrs&) {
  check_rng(in[0]);
  return {in[0]};
}

void run_advance(const Call& c) {
  const auto* from = c.in<int64_t>(0);
  auto* to = c.out<int64_t>(0);
  to[0] = from[0];
  to[1] = from[1] + 1;
}

#if defined(RANVIER_HAS_CUDA)
void cuda_advance(const Call& c) { kernels::cuda::advance(c.in<int64_t>(0), c.out<int64_t>(0), c.stream); }
#endif

constexpr Variant advance_variants[] = {
    {.name = "reference", .run = run_advance},
    RANVIER_CUDA_VARIANTS({.name = "handwritten", .backend = Backend::cuda, .run = cuda_advance})};
constexpr OpDef advance_op{.name = "advance",
                           .infer = infer_advance,
                           .variants = advance_variants,
                           .smoothness = Smoothness::none,
                           .in_place = InPlace::any_input};

void seed_and_step(std::span<std::byte> elements, uint64_t seed) {
  const uint64_t fresh[2] = {seed, 0};
  std::memcpy(elements.data(), fresh, sizeof fresh);
}

/// The stream of a draw in the current scope; a second draw of that name is an error.
uint64_t stream_of(Graph& graph, std::string_view name, const Where& where) {
  const std::string path = graph.path(name);
  graph.claim(path, "random stream", where);
  return kernels::philox::stream_hash(path);
}

Tensor fill(const OpDef& op, Graph& graph, std::string_view name, DType dtype, const Shape& shape, double a, double b,
            const Where& where) {
  const Draw draw{static_cast<int64_t>(dtype), shape, a, b, stream_of(graph, name, where)};
  const Tensor state = rng(graph, where);
  return graph.emit(op, Attrs::of(draw), std::span(&state, 1), where);
}

DType floating_type(Graph& graph, std::optional<DType> dtype, const char* op, const Where& where) {
  const DType type = dtype.value_or(parameter_type(graph));
  if (!is_floating(type)) fail_at(where, "{}: {} is not a floating type", op, name_of(type));
  return type;
}

/// The share of zeros of a coin, checked.
double share_of_zeros(double probability, const char* op, const Where& where) {
  if (!(probability >= 0 && probability <= 1))
    fail_at(where, "{}: probability {} is not between 0 and 1", op, probability);
  return 1 - probability;
}

}  // namespace

Tensor rng(Graph& graph, Where where) {
  State& state = graph.state();
  if (state.find("session", "rng") < 0) state.declare_exact("session", "rng", {DType::i64, {2}}, seed_and_step, where);
  return read(graph, "session", "rng", where);
}

Tensor advance(Tensor rng, Where where) { return rng.graph->emit(advance_op, {}, std::span(&rng, 1), where); }

void advance_rng(Graph& graph, Where where) {
  assign(graph, "session", "rng", advance(rng(graph, where), where), where);
}

Tensor uniform(Graph& graph, std::string_view name, const Shape& shape, double low, double high,
               std::optional<DType> dtype, Where where) {
  if (!(low <= high) || !std::isfinite(high - low)) fail_at(where, "uniform: no range from {} to {}", low, high);
  return fill(uniform_op, graph, name, floating_type(graph, dtype, "uniform", where), shape, low, high, where);
}

Tensor normal(Graph& graph, std::string_view name, const Shape& shape, double mean, double deviation,
              std::optional<DType> dtype, Where where) {
  if (!(deviation >= 0) || !std::isfinite(mean + deviation))
    fail_at(where, "normal: no distribution of mean {} and deviation {}", mean, deviation);
  return fill(normal_op, graph, name, floating_type(graph, dtype, "normal", where), shape, mean, deviation, where);
}

Tensor bernoulli(Graph& graph, std::string_view name, const Shape& shape, double probability, DType dtype,
                 Where where) {
  if (dtype != DType::u8) floating_type(graph, dtype, "bernoulli", where);
  const double zeros = share_of_zeros(probability, "bernoulli", where);
  return fill(bernoulli_op, graph, name, dtype, shape, zeros, 0, where);
}

Tensor bernoulli_at(Tensor elements, std::string_view name, double probability, Where where) {
  Graph& graph = *elements.graph;
  const double zeros = share_of_zeros(probability, "bernoulli_at", where);
  const Tensor in[] = {elements, rng(graph, where)};
  return graph.emit(bernoulli_at_op, Attrs::of(Drop{zeros, stream_of(graph, name, where)}), in, where);
}

Tensor integers(Graph& graph, std::string_view name, const Shape& shape, int64_t low, int64_t high, Where where) {
  using Limits = std::numeric_limits<int32_t>;
  if (low > high || low < Limits::min() || high > Limits::max())
    fail_at(where, "integers: no i32 range from {} to {}", low, high);
  return fill(integers_op, graph, name, DType::i32, shape, static_cast<double>(low), static_cast<double>(high), where);
}

Tensor permutation(Graph& graph, std::string_view name, int64_t n, Where where) {
  if (n < 0 || n > std::numeric_limits<int32_t>::max()) fail_at(where, "permutation: n = {} is not an i32 count", n);
  return fill(permutation_op, graph, name, DType::i32, {n}, 0, 0, where);
}

Tensor dropout(Tensor x, double p, std::string_view name, Where where) {
  if (!(p >= 0) || !(static_cast<float>(p) < 1)) fail_at(where, "dropout: p = {} is not in [0, 1)", p);
  Graph& graph = *x.graph;
  if (p == 0 || !graph.training()) return x;
  const Tensor in[] = {x, rng(graph, where)};
  return graph.emit(dropout_op, Attrs::of(Drop{p, stream_of(graph, name, where)}), in, where);
}

std::vector<const OpDef*> catalogue::random() {
  return {&uniform_op,     &normal_op,       &bernoulli_op, &integers_op,
          &permutation_op, &bernoulli_at_op, &dropout_op,   &advance_op};
}

}  // namespace ranvier
