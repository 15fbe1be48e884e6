// A tanh network with its derivative along a direction as one op, its reverse, Jacobian rows, and Taylor coefficients.
#include "kernels/mlp_jet/mlp_jet.h"

#include <algorithm>

#include "engine/catalogue.h"
#include "engine/grad.h"
#include "engine/op.h"
#include "engine/ops.h"
#include "engine/ops/dispatch.h"

namespace ranvier {
namespace {

using kernels::MlpDims;

/// Layer widths; batch and points are the operands' own.
struct MlpAttrs {
  int64_t layers;
  int64_t width[MlpDims::max_layers + 1];
  int64_t residuals;      // of Jacobian rows
  int64_t wants_x, pad_;  // whether the backward pass gives gradients of x and dx
};

/// Operands begin with x, dx (n, inputs) and theta (parameters), or (batch, n, inputs) and (batch, parameters).
MlpDims dims_of(std::span<const Type> in, const MlpAttrs& attrs) {
  MlpDims d;
  d.batch = in[0].shape.rank() == 3 ? in[0].shape[0] : 1;
  d.n = in[0].shape[-2];
  d.layers = attrs.layers;
  std::copy(attrs.width, attrs.width + attrs.layers + 1, d.width);
  return d;
}
MlpDims dims_of(const NodeView& node) { return dims_of(node.in, node.attrs<MlpAttrs>()); }

/// `shape` with the batch axis in front where x has one.
Shape batched(const Type& x, std::initializer_list<int64_t> shape) {
  Shape result;
  if (x.shape.rank() == 3) result.push_back(x.shape[0]);
  for (int64_t extent : shape) result.push_back(extent);
  return result;
}

MlpDims check(std::span<const Type> in, const Attrs& bytes) {
  const auto& attrs = bytes.as<MlpAttrs>();
  const Type& x = in[0];
  if (x.shape.rank() != 2 && x.shape.rank() != 3) fail("x must be (n, inputs) or (batch, n, inputs)");
  if (x.dtype != DType::f32 && x.dtype != DType::f64) fail("x must be f32 or f64");
  if (x.shape[-1] != attrs.width[0]) fail("x has {} inputs, the network {}", x.shape[-1], attrs.width[0]);
  if (in[1] != x) fail("dx must be like x, {}, is {}", to_string(x), to_string(in[1]));
  const MlpDims d = dims_of(in, attrs);
  const Type theta{x.dtype, batched(x, {d.parameters()})};
  if (in[2] != theta) fail("theta must be {}, is {}", to_string(theta), to_string(in[2]));
  return d;
}

Type state_type(const Type& x, const MlpDims& d) { return {x.dtype, batched(x, {d.state_size()})}; }
Type output_type(const Type& x, const MlpDims& d) { return {x.dtype, batched(x, {d.n, d.outputs()})}; }

std::vector<Type> infer_jet(std::span<const Type> in, const Attrs& bytes) {
  const MlpDims d = check(in, bytes);
  return {output_type(in[0], d), output_type(in[0], d), state_type(in[0], d)};
}
std::vector<Type> infer_grad(std::span<const Type> in, const Attrs& bytes) {
  const MlpDims d = check(in, bytes);
  if (in[3] != state_type(in[0], d)) fail("state of another network");
  if (in[4] != output_type(in[0], d) || in[5] != in[4]) fail("gradients must be {}", to_string(output_type(in[0], d)));
  if (!bytes.as<MlpAttrs>().wants_x) return {in[2]};
  return {in[2], in[0], in[0]};
}
std::vector<Type> infer_rows(std::span<const Type> in, const Attrs& bytes) {
  const MlpDims d = check(in, bytes);
  const int64_t residuals = bytes.as<MlpAttrs>().residuals;
  const Type seeds{in[0].dtype, batched(in[0], {d.n, residuals, 2, d.outputs()})};
  if (in[3] != state_type(in[0], d)) fail("state of another network");
  if (in[4] != seeds) fail("seeds must be {}, are {}", to_string(seeds), to_string(in[4]));
  return {{in[0].dtype, batched(in[0], {d.n, residuals, d.parameters()})}};
}

template <class T, class Kernel, class... Scratch>
void jet_as(const Call& c, Kernel&& kernel, Scratch... scratch) {
  kernel(dims_of(c.node), c.in<T>(0), c.in<T>(1), c.in<T>(2), c.out<T>(0), c.out<T>(1), c.out<T>(2), scratch...);
}
template <class T, class Kernel, class... Scratch>
void grad_as(const Call& c, Kernel&& kernel, Scratch... scratch) {
  const bool wants_x = c.node.attrs<MlpAttrs>().wants_x;
  kernel(dims_of(c.node), c.in<T>(0), c.in<T>(1), c.in<T>(2), c.in<T>(3), c.in<T>(4), c.in<T>(5), c.out<T>(0),
         wants_x ? c.out<T>(1) : nullptr, wants_x ? c.out<T>(2) : nullptr, scratch...);
}

bool amx_runs(const NodeView& node) {
  return node.in[0].dtype == DType::f32 && kernels::cpu::mlp_jet_amx_runs(dims_of(node));
}

#if defined(RANVIER_HAS_CUDA)
void cuda_jet(const Call& c) {
  dispatch_floating(c.node.in[0].dtype, [&]<class T>() { jet_as<T>(c, kernels::cuda::mlp_jet<T>, c.stream); });
}
void cuda_grad(const Call& c) {
  dispatch_floating(c.node.in[0].dtype,
                    [&]<class T>() { grad_as<T>(c, kernels::cuda::mlp_jet_backward<T>, c.workspace, c.stream); });
}
size_t cuda_workspace_grad(const NodeView& node, const void*) {
  return dispatch_floating(node.in[0].dtype,
                           [&]<class T>() { return kernels::cuda::mlp_jet_backward_workspace<T>(dims_of(node)); });
}
void cuda_rows(const Call& c) {
  dispatch_floating(c.node.in[0].dtype, [&]<class T>() {
    kernels::cuda::mlp_jet_rows<T>(dims_of(c.node), c.node.attrs<MlpAttrs>().residuals, c.in<T>(0), c.in<T>(1),
                                   c.in<T>(2), c.in<T>(3), c.in<T>(4), c.out<T>(0), c.workspace, c.stream);
  });
}
size_t cuda_workspace_rows(const NodeView& node, const void*) {
  return dispatch_floating(node.in[0].dtype, [&]<class T>() {
    return kernels::cuda::mlp_jet_rows_workspace<T>(dims_of(node), node.attrs<MlpAttrs>().residuals);
  });
}
#endif

// `...` are variants of other backends.
#define RANVIER_MLP_VARIANTS(pass, kernel, ...)                                                                      \
  void run_##pass(const Call& call) {                                                                                \
    dispatch_floating(call.node.in[0].dtype,                                                                         \
                      [&]<class T>() { pass##_as<T>(call, kernels::cpu::kernel<T>, call.workspace); });              \
  }                                                                                                                  \
  void reference_##pass(const Call& call) {                                                                          \
    dispatch_floating(call.node.in[0].dtype, [&]<class T>() { pass##_as<T>(call, kernels::reference::kernel<T>); }); \
  }                                                                                                                  \
  size_t workspace_##pass(const NodeView& node, const void*) {                                                       \
    return dispatch_floating(node.in[0].dtype,                                                                       \
                             [&]<class T>() { return kernels::cpu::kernel##_workspace<T>(dims_of(node)); });         \
  }                                                                                                                  \
  void amx_##pass(const Call& call) { pass##_as<float>(call, kernels::cpu::kernel##_amx, call.workspace); }          \
  size_t amx_workspace_##pass(const NodeView& node, const void*) {                                                   \
    return kernels::cpu::kernel##_amx_workspace(dims_of(node));                                                      \
  }                                                                                                                  \
  constexpr Variant pass##_variants[] = {                                                                            \
      {.name = "amx", .run = amx_##pass, .supports = amx_runs, .workspace = amx_workspace_##pass, .exact = false},   \
      {.name = "cpu", .run = run_##pass, .workspace = workspace_##pass, .exact = false},                             \
      {.name = "reference", .run = reference_##pass, .exact = false},                                                \
      __VA_ARGS__};
RANVIER_MLP_VARIANTS(
    jet, mlp_jet,
    RANVIER_CUDA_VARIANTS({.name = "handwritten", .backend = Backend::cuda, .run = cuda_jet, .exact = false}))
RANVIER_MLP_VARIANTS(grad, mlp_jet_backward,
                     RANVIER_CUDA_VARIANTS({.name = "handwritten",
                                            .backend = Backend::cuda,
                                            .run = cuda_grad,
                                            .workspace = cuda_workspace_grad,
                                            .exact = false}))
#undef RANVIER_MLP_VARIANTS

void run_rows(const Call& c) {
  dispatch_floating(c.node.in[0].dtype, [&]<class T>() {
    kernels::reference::mlp_jet_rows<T>(dims_of(c.node), c.node.attrs<MlpAttrs>().residuals, c.in<T>(0), c.in<T>(1),
                                        c.in<T>(2), c.in<T>(3), c.in<T>(4), c.out<T>(0));
  });
}
constexpr Variant rows_variants[] = {{.name = "reference", .run = run_rows, .exact = false},
                                     RANVIER_CUDA_VARIANTS({.name = "handwritten",
                                                            .backend = Backend::cuda,
                                                            .run = cuda_rows,
                                                            .workspace = cuda_workspace_rows,
                                                            .exact = false})};

double jet_flops(const NodeView& node) { return dims_of(node).flops(); }
double grad_flops(const NodeView& node) { return 2 * dims_of(node).flops(); }
double rows_flops(const NodeView& node) {
  return 2 * static_cast<double>(node.attrs<MlpAttrs>().residuals) * dims_of(node).flops();
}

// ---- the same in primitive ops, always with a batch axis ----

/// Weight (batch, out, in) and bias (batch, 1, out) of a layer.
struct Layer {
  Tensor weight, bias;
};

/// One forward pass: activations below each layer (the input first) and their tangents.
struct Parts {
  MlpDims d;
  std::vector<Layer> layers;
  std::vector<Tensor> a, da;  // (batch, points, width)
  Tensor y, dy;
};

Layer layer_of(Tensor theta, const MlpDims& d, int64_t l) {
  const int64_t in = d.width[l], out = d.width[l + 1];
  return {reshape(slice_axis(theta, 1, d.offset(l), in * out), {d.batch, out, in}),
          reshape(slice_axis(theta, 1, d.offset(l) + in * out, out), {d.batch, 1, out})};
}

/// Network on x, dx (batch, points, inputs).
Parts forward(const MlpDims& d, Tensor x, Tensor dx, Tensor theta) {
  Parts p{d};
  for (int64_t l = 0; l < d.layers; ++l) {
    p.layers.push_back(layer_of(theta, d, l));
    p.a.push_back(x), p.da.push_back(dx);
    const Tensor z = matmul(x, p.layers.back().weight, false, true) + p.layers.back().bias;
    const Tensor dz = matmul(dx, p.layers.back().weight, false, true);
    if (l + 1 == d.layers) {
      p.y = z, p.dy = dz;
    } else {
      x = tanh(z);
      dx = (1.0 - x) * (1.0 + x) * dz;
    }
  }
  return p;
}

/// Walks from gradients (batch, n, outputs) down; `layer(l, gz, gdz)` sees those of each layer's preactivations.
std::pair<Tensor, Tensor> walk_back(const Parts& p, Tensor g, Tensor c,
                                    const std::function<void(int64_t, Tensor, Tensor)>& layer) {
  for (int64_t l = p.d.layers - 1; l >= 0; --l) {
    const auto at = static_cast<size_t>(l);
    layer(l, g, c);
    g = matmul(g, p.layers[at].weight), c = matmul(c, p.layers[at].weight);
    if (l == 0) break;
    const Tensor h = p.a[at], s = (1.0 - h) * (1.0 + h);
    g = s * g - 2.0 * h * p.da[at] * c;
    c = s * c;
  }
  return {g, c};
}

/// The op's operands with a batch axis, the points padded by zeros to `points`.
Parts forward(Vjp& v, int64_t points) {
  MlpDims d = dims_of(std::vector<Type>{v.x(0).type()}, v.attrs<MlpAttrs>());
  const auto padded = [&](Tensor x) {
    x = reshape(x, {d.batch, d.n, d.inputs()});
    return points == d.n ? x : pad(x, {0, 0, 0}, {0, points - d.n, 0});
  };
  return forward(d, padded(v.x(0)), padded(v.x(1)), reshape(v.x(2), {d.batch, d.parameters()}));
}

/// The kernels' layout of the hidden activations.
Tensor state_of(const Parts& p) {
  const MlpDims& d = p.d;
  std::vector<Tensor> pieces;
  for (int64_t l = 1; l < d.layers; ++l) {
    const auto at = static_cast<size_t>(l);
    const int64_t w = d.width[l];
    if (d.narrow()) {
      const auto blocked = [&](Tensor h) {
        h = transpose(reshape(h, {d.batch, d.blocks(), MlpDims::lanes, w}), {0, 1, 3, 2});
        return reshape(h, {d.batch, d.blocks(), w, 1, MlpDims::lanes});
      };
      pieces.push_back(
          reshape(concat({blocked(p.a[at]), blocked(p.da[at])}, 3), {d.batch, d.blocks(), w * 2 * MlpDims::lanes}));
    } else {
      const auto row = [&](Tensor h) { return reshape(h, {d.batch, d.n, 1, w}); };
      pieces.push_back(reshape(concat({row(p.a[at]), row(p.da[at])}, 2), {d.batch, d.n * 2 * w}));
    }
  }
  if (pieces.empty()) return full(*p.y.graph, {p.y.dtype(), {d.batch, 0}}, 0);
  return concat(pieces, d.narrow() ? 2 : 1);
}

void decompose_jet(Vjp& v) {
  const MlpDims d = dims_of(std::vector<Type>{v.x(0).type()}, v.attrs<MlpAttrs>());
  const Parts p = forward(v, d.state_points());
  const auto cut = [&](Tensor y) { return reshape(slice_axis(y, 1, 0, d.n), v.y(0).shape()); };
  v.set_output(0, cut(p.y));
  v.set_output(1, cut(p.dy));
  v.set_output(2, reshape(state_of(p), v.y(2).shape()));
}

void decompose_grad(Vjp& v) {
  const MlpDims d = dims_of(std::vector<Type>{v.x(0).type()}, v.attrs<MlpAttrs>());
  const Parts p = forward(v, d.n);
  std::vector<Tensor> pieces(static_cast<size_t>(2 * d.layers));
  const Shape seed{d.batch, d.n, d.outputs()};
  const auto [gx, gdx] =
      walk_back(p, reshape(v.x(4), seed), reshape(v.x(5), seed), [&](int64_t l, Tensor gz, Tensor gdz) {
        const auto at = static_cast<size_t>(l);
        pieces[2 * at] =
            reshape(matmul(gz, p.a[at], true) + matmul(gdz, p.da[at], true), {d.batch, d.width[l] * d.width[l + 1]});
        pieces[2 * at + 1] = sum(gz, {1});
      });
  v.set_output(0, reshape(concat(pieces, 1), v.y(0).shape()));
  if (!v.attrs<MlpAttrs>().wants_x) return;
  v.set_output(1, reshape(gx, v.y(1).shape()));
  v.set_output(2, reshape(gdx, v.y(2).shape()));
}

void decompose_rows(Vjp& v) {
  const MlpDims d = dims_of(std::vector<Type>{v.x(0).type()}, v.attrs<MlpAttrs>());
  const Parts p = forward(v, d.n);
  const int64_t residuals = v.attrs<MlpAttrs>().residuals;
  const Tensor seeds = reshape(v.x(4), {d.batch, d.n, residuals, 2 * d.outputs()});
  std::vector<Tensor> rows;
  for (int64_t r = 0; r < residuals; ++r) {
    std::vector<Tensor> pieces(static_cast<size_t>(2 * d.layers));
    const auto seed = [&](int64_t part) {
      return reshape(slice(seeds, {0, 0, r, part * d.outputs()}, {d.batch, d.n, 1, d.outputs()}),
                     {d.batch, d.n, d.outputs()});
    };
    walk_back(p, seed(0), seed(1), [&](int64_t l, Tensor gz, Tensor gdz) {
      const auto at = static_cast<size_t>(l);
      const int64_t in = d.width[l], out = d.width[l + 1];
      const auto outer = [&](Tensor g, Tensor a) {
        return reshape(g, {d.batch, d.n, out, 1}) * reshape(a, {d.batch, d.n, 1, in});
      };
      pieces[2 * at] = reshape(outer(gz, p.a[at]) + outer(gdz, p.da[at]), {d.batch, d.n, in * out});
      pieces[2 * at + 1] = gz;
    });
    rows.push_back(reshape(concat(pieces, 2), {d.batch, d.n, 1, d.parameters()}));
  }
  v.set_output(0, reshape(concat(rows, 2), v.y(0).shape()));
}

const OpDef grad_op{.name = "mlp_jet_grad",
                    .infer = infer_grad,
                    .decompose = decompose_grad,
                    .variants = grad_variants,
                    .flops = grad_flops};
const OpDef rows_op{.name = "mlp_jet_rows",
                    .infer = infer_rows,
                    .decompose = decompose_rows,
                    .variants = rows_variants,
                    .flops = rows_flops};

void vjp_jet(Vjp& v) {
  if (v.has_g(2)) return vjp_through_decomposition(v);
  auto attrs = v.attrs<MlpAttrs>();
  attrs.wants_x = v.needs(0) || v.needs(1);
  const Tensor in[] = {v.x(0), v.x(1), v.x(2), v.y(2), v.g(0), v.g(1)};
  const Tensor dtheta = v.graph().emit(grad_op, Attrs::of(attrs), in, Where::current());
  v.in(2, [&] { return dtheta; });
  v.in(0, [&] { return dtheta.output(1); });
  v.in(1, [&] { return dtheta.output(2); });
}

const OpDef jet_op{.name = "mlp_jet",
                   .infer = infer_jet,
                   .vjp = vjp_jet,
                   .decompose = decompose_jet,
                   .variants = jet_variants,
                   .flops = jet_flops};

MlpAttrs attrs_of(const MlpShape& shape, const char* op, const Where& where) {
  const auto layers = static_cast<int64_t>(shape.widths.size()) - 1;
  if (layers < 1 || layers > MlpDims::max_layers)
    fail_at(where, "{}: a network has 1 to {} layers, not {}", op, MlpDims::max_layers, layers);
  MlpAttrs attrs{.layers = layers};
  for (size_t l = 0; l < shape.widths.size(); ++l) {
    if (shape.widths[l] < 1) fail_at(where, "{}: width {} of layer {} is not positive", op, shape.widths[l], l);
    attrs.width[l] = shape.widths[l];
  }
  return attrs;
}

/// Layer h = tanh z of Taylor coefficients: h_k = (1/k) sum_j j z_j S_{k-j} with S = 1 - h^2.
std::vector<Tensor> tanh_taylor(const std::vector<Tensor>& z) {
  std::vector<Tensor> h = {tanh(z[0])}, s = {(1.0 - h[0]) * (1.0 + h[0])};
  for (size_t k = 1; k < z.size(); ++k) {
    Tensor sum;
    for (size_t j = 1; j <= k; ++j) {
      const Tensor term = (static_cast<double>(j) / static_cast<double>(k)) * z[j] * s[k - j];
      sum = sum.valid() ? sum + term : term;
    }
    h.push_back(sum);
    if (k + 1 == z.size()) break;
    Tensor square;
    for (size_t i = 0; i <= k; ++i) square = square.valid() ? square + h[i] * h[k - i] : h[i] * h[k - i];
    s.push_back(-square);
  }
  return h;
}

}  // namespace

int64_t MlpShape::parameters() const {
  int64_t sum = 0;
  for (size_t l = 1; l < widths.size(); ++l) sum += widths[l] * (widths[l - 1] + 1);
  return sum;
}

Jet mlp_jet(Tensor x, Tensor dx, Tensor theta, const MlpShape& shape, Where where) {
  const Tensor in[] = {x, dx, theta};
  const Tensor y = x.graph->emit(jet_op, Attrs::of(attrs_of(shape, "mlp_jet", where)), in, where);
  return {y, y.output(1)};
}

Tensor mlp_jet_rows(const Jet& jet, Tensor seeds, Where where) {
  Graph& graph = *jet.value.graph;
  const uint32_t id = jet.value.value.node;
  if (graph.node(id).op != &jet_op) fail_at(where, "mlp_jet_rows: the jet is no result of mlp_jet");
  auto attrs = graph.node(id).attrs.as<MlpAttrs>();
  if (seeds.shape().rank() < 3) fail_at(where, "mlp_jet_rows: seeds are {}", to_string(seeds.type()));
  attrs.residuals = seeds.shape()[-3];
  std::vector<Tensor> in;
  for (const Value& value : graph.inputs(id)) in.push_back(graph.tensor(value));
  in.push_back(jet.value.output(2));
  in.push_back(seeds);
  return graph.emit(rows_op, Attrs::of(attrs), in, where);
}

Tensor residual_rows(const Jet& jet, std::span<const Tensor> residuals, Where where) {
  const Shape& shape = jet.value.shape();
  if (shape.rank() != 2) fail_at(where, "residual_rows: the jet has a batch axis");
  std::vector<Tensor> seeds;
  for (const Tensor& residual : residuals) {
    if (residual.type() != Type{jet.value.dtype(), {shape[0]}})
      fail_at(where, "residual_rows: a residual must be one value a point ({}), is {}", shape[0],
              to_string(residual.type()));
    const Tensor wrt[] = {jet.value, jet.tangent};
    for (const Tensor& g : grad(residual, wrt, where)) seeds.push_back(reshape(g, {shape[0], 1, shape[1]}));
  }
  return mlp_jet_rows(jet, reshape(concat(seeds, 1), {shape[0], static_cast<int64_t>(residuals.size()), 2, shape[1]}),
                      where);
}

std::vector<Tensor> mlp_taylor(const std::vector<Tensor>& x, Tensor theta, const MlpShape& shape, Where where) {
  const MlpAttrs attrs = attrs_of(shape, "mlp_taylor", where);
  if (x.empty() || x.size() > 5) fail_at(where, "mlp_taylor: 1 to 5 coefficients (order 4), not {}", x.size());
  for (const Tensor& k : x)
    if (k.type() != x[0].type() || k.shape().rank() != 2 || k.shape()[1] != shape.widths[0])
      fail_at(where, "mlp_taylor: coefficients must be (n, {}), one is {}", shape.widths[0], to_string(k.type()));
  if (theta.type() != Type{x[0].dtype(), {shape.parameters()}})
    fail_at(where, "mlp_taylor: theta is {}, the network has {} parameters", to_string(theta.type()),
            shape.parameters());
  const int64_t n = x[0].shape()[0];
  MlpDims d{.n = n, .layers = attrs.layers};
  std::copy(attrs.width, attrs.width + attrs.layers + 1, d.width);
  std::vector<Tensor> a = x;
  const Tensor batched_theta = reshape(theta, {1, d.parameters()}, where);
  for (int64_t l = 0; l < d.layers; ++l) {
    const Layer layer = layer_of(batched_theta, d, l);
    const Tensor rows = matmul(concat(a, 0), reshape(layer.weight, {d.width[l + 1], d.width[l]}), false, true);
    for (size_t k = 0; k < a.size(); ++k) a[k] = slice_axis(rows, 0, static_cast<int64_t>(k) * n, n);
    a[0] = a[0] + reshape(layer.bias, {1, d.width[l + 1]});
    if (l + 1 < d.layers) a = tanh_taylor(a);
  }
  return a;
}

std::vector<const OpDef*> catalogue::mlp_jet() { return {&jet_op, &grad_op, &rows_op}; }

}  // namespace ranvier
