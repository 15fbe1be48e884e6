// Muon as one op for all matrices of a rule; where no kernel runs it, it comes apart into products and pointwise ops.
#include "kernels/optim/muon.h"

#include <cmath>

#include "engine/catalogue.h"
#include "engine/op.h"
#include "engine/ops.h"
#include "engine/ops/dispatch.h"

namespace ranvier {
namespace {

/// Operands: p of every tensor, then m, then g, then lr, then `scale` and `skip` where there are any.
struct MuonAttrs {
  int64_t count, has_scale, has_skip, iterations, nesterov, renormalize;
  double momentum, weight_decay;
};

std::vector<Type> infer_muon(std::span<const Type> in, const Attrs& bytes) {
  const auto& attrs = bytes.as<MuonAttrs>();
  const int64_t count = attrs.count;
  if (static_cast<int64_t>(in.size()) != 3 * count + 1 + attrs.has_scale + attrs.has_skip)
    fail("lists of tensors differ in length");
  if (attrs.has_skip && in.back() != Type{DType::i64, {}}) fail("`skip` must be an i64 scalar");
  for (int64_t i = 0; i < count; ++i) {
    if (in[i].shape.rank() < 2) fail("{} has no rows and columns", to_string(in[i]));
    if (in[count + i] != in[i] || in[2 * count + i] != in[i])
      fail("momentum {} and gradient {} of parameter {}", to_string(in[count + i]), to_string(in[2 * count + i]),
           to_string(in[i]));
  }
  return {in.begin(), in.begin() + 2 * count};
}

/// The update of one tensor in primitive ops.
struct Parts {
  Tensor parameter, momentum;
};
Parts update(const MuonAttrs& attrs, Tensor parameter, Tensor moment, Tensor gradient, Tensor lr,
             std::optional<Tensor> scale) {
  const Shape shape = parameter.shape();
  Tensor w = reshape(parameter, {shape[0], -1}), g = reshape(gradient, w.shape());
  if (scale) g = g * *scale;
  const Tensor buffer = attrs.momentum * reshape(moment, w.shape()) + g;
  const Tensor u = attrs.nesterov ? g + attrs.momentum * buffer : buffer;
  if (attrs.renormalize) w = w * (std::sqrt(static_cast<double>(shape[0])) * rsqrt(sum(square(w))));
  if (attrs.weight_decay != 0) w = w * (1.0 - lr * attrs.weight_decay);
  return {reshape(w - lr * newton_schulz(u, static_cast<int>(attrs.iterations)), shape), reshape(buffer, shape)};
}

void decompose_muon(Vjp& v) {
  const auto attrs = v.attrs<MuonAttrs>();
  const auto count = static_cast<size_t>(attrs.count), scalars = 3 * count;
  const Tensor lr = v.x(scalars);
  std::optional<Tensor> scale, skip;
  if (attrs.has_scale) scale = v.x(scalars + 1);
  if (attrs.has_skip) skip = cast(v.x(v.inputs() - 1), lr.dtype());
  for (size_t i = 0; i < count; ++i) {
    const Tensor p = v.x(i), m = v.x(count + i);
    const Parts parts = update(attrs, p, m, v.x(2 * count + i), lr, scale);
    v.set_output(static_cast<uint32_t>(i), skip ? where(*skip, p, parts.parameter) : parts.parameter);
    v.set_output(static_cast<uint32_t>(count + i), skip ? where(*skip, m, parts.momentum) : parts.momentum);
  }
}

#if defined(RANVIER_HAS_CUDA)
int64_t rows_of(const Type& type) { return type.shape[0]; }
int64_t columns_of(const Type& type) { return type.shape[0] == 0 ? 0 : type.shape.numel() / type.shape[0]; }

void run_cuda(const Call& call) {
  const auto& attrs = call.node.attrs<MuonAttrs>();
  const int64_t count = attrs.count, scalars = 3 * count;
  std::vector<kernels::MuonItem> items;
  for (int64_t i = 0; i < count; ++i) {
    const Type& type = call.node.in[static_cast<size_t>(i)];
    items.push_back({call.in<float>(i), call.in<float>(2 * count + i), call.in<float>(count + i), call.out<float>(i),
                     call.out<float>(count + i), rows_of(type), columns_of(type)});
  }
  kernels::MuonConfig config{attrs.momentum, attrs.nesterov != 0, attrs.renormalize != 0, attrs.weight_decay, {}};
  config.newton_schulz.iterations = static_cast<int>(attrs.iterations);
  kernels::cuda::muon(items.data(), count, config, call.in<float>(scalars),
                      attrs.has_scale ? call.in<float>(scalars + 1) : nullptr,
                      attrs.has_skip ? call.in<int64_t>(call.inputs.size() - 1) : nullptr,
                      static_cast<float*>(call.workspace), call.stream);
}

size_t cuda_workspace(const NodeView& node, const void*) {
  int64_t floats = 0;
  for (int64_t i = 0; i < node.attrs<MuonAttrs>().count; ++i) {
    const Type& type = node.in[static_cast<size_t>(i)];
    floats += kernels::cuda::muon_workspace(rows_of(type), columns_of(type));
  }
  return static_cast<size_t>(floats) * sizeof(float);
}

constexpr Variant variants[] = {{.name = "handwritten",
                                 .backend = Backend::cuda,
                                 .run = run_cuda,
                                 .supports = operand_is_f32,
                                 .workspace = cuda_workspace,
                                 .exact = false}};
#endif

/// 2 n^2 l + 2 n^3 + 2 n^2 l an iteration on (n, l), n the smaller side.
double flops(const NodeView& node) {
  const auto& attrs = node.attrs<MuonAttrs>();
  double total = 0;
  for (int64_t i = 0; i < attrs.count; ++i) {
    const auto all = static_cast<double>(node.in[static_cast<size_t>(i)].shape.numel());
    const auto rows = static_cast<double>(node.in[static_cast<size_t>(i)].shape[0]);
    const double n = rows == 0 ? 0 : std::min(rows, all / rows);
    total += static_cast<double>(attrs.iterations) * (4 * n * all + 2 * n * n * n);
  }
  return total;
}

const OpDef muon_op {
  .name = "muon", .infer = infer_muon, .decompose = decompose_muon,
#if defined(RANVIER_HAS_CUDA)
  .variants = variants,
#endif
  .smoothness = Smoothness::none, .flops = flops, .in_place = InPlace::same_position
};

}  // namespace

MuonResult muon(std::span<const Tensor> parameters, std::span<const Tensor> momentum, std::span<const Tensor> gradients,
                Tensor lr, MuonOptions options, std::optional<Tensor> scale, std::optional<Tensor> skip, Where where) {
  std::vector<Tensor> in;
  for (const auto& list : {parameters, momentum, gradients}) in.insert(in.end(), list.begin(), list.end());
  in.push_back(lr);
  if (scale) in.push_back(*scale);
  if (skip) in.push_back(*skip);
  const auto count = static_cast<uint32_t>(parameters.size());
  const MuonAttrs attrs{count,
                        scale.has_value(),
                        skip.has_value(),
                        options.iterations,
                        options.nesterov,
                        options.renormalize,
                        options.momentum,
                        options.weight_decay};
  const Tensor first = lr.graph->emit(muon_op, Attrs::of(attrs), in, where);
  MuonResult result;
  for (uint32_t k = 0; k < count; ++k) {
    result.parameters.push_back(first.output(k));
    result.momentum.push_back(first.output(count + k));
  }
  return result;
}

Tensor newton_schulz(Tensor u, int iterations, Where where) {
  constexpr kernels::NewtonSchulz coefficients;
  constexpr double a = coefficients.a, b = coefficients.b, c = coefficients.c;
  const Shape shape = u.shape();
  if (shape.rank() != 2) fail_at(where, "newton_schulz: a matrix is needed, got {}", to_string(u.type()));
  const bool tall = shape[0] > shape[1];
  Tensor x = div(
      u, add(sqrt(sum(square(u, where), {}, false, where), where), full(*u.graph, {u.dtype(), {}}, 1e-7, where), where),
      where);
  for (int i = 0; i < iterations; ++i) {
    const Tensor gram = matmul(x, x, tall, !tall, where);  // of the side with fewer rows
    const Tensor poly = b * gram + c * matmul(gram, gram, false, false, where);
    x = a * x + (tall ? matmul(x, poly, false, false, where) : matmul(poly, x, false, false, where));
  }
  return x;
}

std::vector<const OpDef*> catalogue::muon() { return {&muon_op}; }

}  // namespace ranvier
