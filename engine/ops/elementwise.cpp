// Pointwise ops: one line a rule. Every op is a one-step pointwise program, which the planner may join with others.
#include "kernels/elementwise/elementwise.h"

#include <algorithm>

#include "engine/catalogue.h"
#include "engine/op.h"
#include "engine/ops.h"
#include "engine/ops/dispatch.h"

namespace ranvier {
namespace {

using kernels::Fn;
using kernels::PointwiseProgram;

/// The program of a single function over full-size operands.
PointwiseProgram single(Fn fn) {
  PointwiseProgram program{};
  program.inputs = kernels::operands_of(fn);
  program.steps = 1;
  program.step[0] = {fn, 0, static_cast<uint8_t>(program.inputs > 1 ? 1 : 0),
                     static_cast<uint8_t>(program.inputs > 2 ? 2 : 0)};
  return program;
}

std::vector<Type> infer_pointwise(std::span<const Type> in, const Attrs&) {
  for (const Type& type : in)
    if (type != in[0]) fail("operands must have one type and shape");
  return {in[0]};
}

/// Inputs of fused programs may be broadcasts, so the planner states the output type itself; this is never asked.
template <class T>
void run_reference_as(const Call& call) {
  kernels::pointwise_reference<T>(call.node.attrs<PointwiseProgram>(), call.node.out[0].shape.numel(),
                                  call.inputs.data(), call.out<T>(0));
}

void run_reference(const Call& call) {
  switch (call.node.out[0].dtype) {
    case DType::f32:
      return run_reference_as<float>(call);
    case DType::f64:
      return run_reference_as<double>(call);
    case DType::i32:
      return run_reference_as<int32_t>(call);
    case DType::i64:
      return run_reference_as<int64_t>(call);
    default:
      fail("{}: no {} on the CPU", call.node.op->name, name_of(call.node.out[0].dtype));
  }
}

void run_cpu(const Call& call) {
  dispatch_floating(call.node.out[0].dtype, [&]<class T>() {
    kernels::pointwise_cpu<T>(call.node.attrs<PointwiseProgram>(), call.node.out[0].shape.numel(), call.inputs.data(),
                              call.out<T>(0));
  });
}

#if defined(RANVIER_HAS_CUDA)
void run_cuda(const Call& call) {
  dispatch_cuda_number(call.node.out[0].dtype, [&]<class T>() {
    kernels::pointwise_cuda<T>(call.node.attrs<PointwiseProgram>(), call.node.out[0].shape.numel(), call.inputs.data(),
                               call.out<T>(0), call.stream);
  });
}
bool cuda_number(const NodeView& node) {
  if (is_floating(node.out[0].dtype)) return true;
  const auto& program = node.attrs<PointwiseProgram>();
  return is_index(node.out[0].dtype) &&
         std::all_of(program.step, program.step + program.steps,
                     [](const kernels::PointwiseStep& step) { return kernels::is_integer_fn(step.fn); });
}
#endif

bool cpu_floating(const NodeView& node) { return node.out[0].dtype == DType::f32 || node.out[0].dtype == DType::f64; }

double flops(const NodeView& node) {
  return static_cast<double>(node.out[0].shape.numel() * node.attrs<PointwiseProgram>().steps);
}

constexpr Variant variants[] = {
    {.name = "cpu", .run = run_cpu, .supports = cpu_floating, .exact = false},
    {.name = "reference", .run = run_reference},
    RANVIER_CUDA_VARIANTS(
        {.name = "handwritten", .backend = Backend::cuda, .run = run_cuda, .supports = cuda_number, .exact = false})};

constexpr OpDef define(const char* name, void (*vjp)(Vjp&), Smoothness smoothness = Smoothness::smooth) {
  return {.name = name,
          .infer = infer_pointwise,
          .vjp = vjp,
          .variants = variants,
          .smoothness = smoothness,
          .flops = flops,
          .in_place = InPlace::any_input,
          .pointwise = true};
}

constexpr double inverse_sqrt_2pi = 0.39894228040143267794;
constexpr double two_over_sqrt_pi = 1.12837916709551257390;

/// The gradient of gelu at x: dy (Phi(x) + x phi(x)).
Tensor gelu_grad(Tensor x, Tensor dy);

// One rule a function: `v.g()` is the gradient of the result, v.x(i) an operand, v.y() the result.
#define RANVIER_RULE(name, body)   \
  void vjp_##name(Vjp& v) {        \
    v.in(0, [&] { return body; }); \
  }
RANVIER_RULE(neg, -v.g())
RANVIER_RULE(exp, v.g() * v.y())
RANVIER_RULE(log, v.g() / v.x(0))
RANVIER_RULE(sqrt, v.g() * 0.5 / v.y())
RANVIER_RULE(rsqrt, v.g() * -0.5 * v.y() * square(v.y()))
RANVIER_RULE(tanh, v.g() * (1.0 - square(v.y())))
RANVIER_RULE(sigmoid, v.g() * v.y() * (1.0 - v.y()))
RANVIER_RULE(sin, v.g() * cos(v.x(0)))
RANVIER_RULE(cos, -(v.g() * sin(v.x(0))))
RANVIER_RULE(erf, v.g() * two_over_sqrt_pi * exp(-square(v.x(0))))
RANVIER_RULE(abs, v.g() * sign(v.x(0)))
RANVIER_RULE(square, v.g() * 2.0 * v.x(0))
RANVIER_RULE(relu, v.g() * less(full(v.graph(), v.x(0).type(), 0.0), v.x(0)))
RANVIER_RULE(gelu, gelu_grad(v.x(0), v.g()))
RANVIER_RULE(silu, v.g() * sigmoid(v.x(0)) * (1.0 + v.x(0) * (1.0 - sigmoid(v.x(0)))))
RANVIER_RULE(softplus, v.g() * sigmoid(v.x(0)))
#undef RANVIER_RULE

// A constant almost everywhere: its gradient is an exact zero, not an error.
void vjp_zero(Vjp& v) {
  for (size_t i = 0; i < v.inputs(); ++i) v.in(i, [&] { return full(v.graph(), v.x(i).type(), 0.0); });
}

void vjp_add(Vjp& v) {
  v.in(0, [&] { return v.g(); });
  v.in(1, [&] { return v.g(); });
}
void vjp_sub(Vjp& v) {
  v.in(0, [&] { return v.g(); });
  v.in(1, [&] { return -v.g(); });
}
void vjp_mul(Vjp& v) {
  v.in(0, [&] { return v.g() * v.x(1); });
  v.in(1, [&] { return v.g() * v.x(0); });
}
void vjp_div(Vjp& v) {
  v.in(0, [&] { return v.g() / v.x(1); });
  v.in(1, [&] { return -(v.g() * v.y() / v.x(1)); });
}
void vjp_pow(Vjp& v) {
  const Tensor a = v.x(0), b = v.x(1), zero = full(v.graph(), a.type(), 0.0), one = full(v.graph(), a.type(), 1.0);
  v.in(0, [&] { return v.g() * where(equal(b, zero), zero, b * pow(a, b - one)); });
  v.in(1, [&] { return v.g() * where(less(zero, a), v.y() * log(where(less(zero, a), a, one)), zero); });
}
/// 1 where a wins, 1/2 at a tie.
Tensor share(Tensor winner, Tensor loser) { return 0.5 * (less(loser, winner) + less_equal(loser, winner)); }
void vjp_maximum(Vjp& v) {
  v.in(0, [&] { return v.g() * share(v.x(0), v.x(1)); });
  v.in(1, [&] { return v.g() * share(v.x(1), v.x(0)); });
}
void vjp_minimum(Vjp& v) {
  v.in(0, [&] { return v.g() * share(v.x(1), v.x(0)); });
  v.in(1, [&] { return v.g() * share(v.x(0), v.x(1)); });
}
/// dy (Phi(x) + x phi(x)): the slope of that slope is phi(x) (2 - x^2).
void vjp_gelu_grad(Vjp& v) {
  const Tensor x = v.x(0);
  v.in(0, [&] { return v.g() * v.x(1) * (2.0 - square(x)) * (inverse_sqrt_2pi * exp(square(x) * -0.5)); });
  v.in(1, [&] { return gelu_grad(x, v.g()); });
}
void vjp_where(Vjp& v) {
  const Tensor zero = full(v.graph(), v.g().type(), 0.0);
  v.in(0, [&] { return zero; });
  v.in(1, [&] { return where(v.x(0), v.g(), zero); });
  v.in(2, [&] { return where(v.x(0), zero, v.g()); });
}
void vjp_clamp(Vjp& v) {
  const Tensor x = v.x(0), low = v.x(1), high = v.x(2);
  v.in(0, [&] { return v.g() * less_equal(low, x) * less_equal(x, high); });
  v.in(1, [&] { return v.g() * less(x, low); });
  v.in(2, [&] { return v.g() * less(high, x); });
}

constexpr Smoothness piecewise = Smoothness::piecewise;
constexpr OpDef ops[] = {
    define("neg", vjp_neg),
    define("exp", vjp_exp),
    define("log", vjp_log),
    define("sqrt", vjp_sqrt),
    define("rsqrt", vjp_rsqrt),
    define("tanh", vjp_tanh),
    define("sigmoid", vjp_sigmoid),
    define("sin", vjp_sin),
    define("cos", vjp_cos),
    define("erf", vjp_erf),
    define("abs", vjp_abs, piecewise),
    define("sign", vjp_zero, piecewise),
    define("square", vjp_square),
    define("relu", vjp_relu, piecewise),
    define("gelu", vjp_gelu),
    define("silu", vjp_silu),
    define("softplus", vjp_softplus),
    define("add", vjp_add),
    define("sub", vjp_sub),
    define("mul", vjp_mul),
    define("div", vjp_div),
    define("pow", vjp_pow),
    define("maximum", vjp_maximum, piecewise),
    define("minimum", vjp_minimum, piecewise),
    define("equal", vjp_zero, piecewise),
    define("less", vjp_zero, piecewise),
    define("less_equal", vjp_zero, piecewise),
    define("gelu_grad", vjp_gelu_grad),
    define("where", vjp_where, piecewise),
    define("clamp", vjp_clamp, piecewise),
};
static_assert(std::size(ops) == static_cast<size_t>(Fn::count), "one definition a function, in the order of Fn");

Shape broadcast_shape(const Shape& a, const Shape& b, const char* name, const Where& where) {
  Shape result = a.rank() >= b.rank() ? a : b;
  const Shape& shorter = a.rank() >= b.rank() ? b : a;
  for (int axis = 1; axis <= shorter.rank(); ++axis) {
    const int64_t x = result[-axis], y = shorter[-axis];
    if (x != y && x != 1 && y != 1)
      fail_at(where, "{}: shapes {} and {} do not broadcast", name, to_string(a), to_string(b));
    if (x == 1) result[-axis] = y;
  }
  return result;
}

Tensor emit(Fn fn, std::initializer_list<Tensor> operands, const Where& at) {
  const OpDef& op = ops[static_cast<int>(fn)];
  std::vector<Tensor> in(operands);
  for (const Tensor& x : in)
    if (!x.valid()) fail_at(at, "{}: an operand is an empty Tensor", op.name);
  Shape shape = in[0].shape();
  for (const Tensor& x : in) shape = broadcast_shape(shape, x.shape(), op.name, at);
  for (Tensor& x : in) x = broadcast_to(x, shape, at);
  return in[0].graph->emit(op, Attrs::of(single(fn)), in, at);
}

Tensor gelu_grad(Tensor x, Tensor dy) { return emit(Fn::gelu_grad, {x, dy}, Where::current()); }

Tensor like(const Tensor& x, double value, const Where& at) { return full(*x.graph, x.type(), value, at); }

}  // namespace

/// The op that the planner gives merged programs.
extern const OpDef fused_pointwise_op;
const OpDef fused_pointwise_op = define("pointwise", nullptr);

// clang-format off
#define RANVIER_UNARY(name) Tensor name(Tensor x, Where at) { return emit(Fn::name, {x}, at); }
RANVIER_UNARY(neg) RANVIER_UNARY(exp) RANVIER_UNARY(log) RANVIER_UNARY(sqrt) RANVIER_UNARY(rsqrt)
RANVIER_UNARY(tanh) RANVIER_UNARY(sigmoid) RANVIER_UNARY(sin) RANVIER_UNARY(cos) RANVIER_UNARY(erf)
RANVIER_UNARY(abs) RANVIER_UNARY(sign) RANVIER_UNARY(square) RANVIER_UNARY(relu) RANVIER_UNARY(gelu)
RANVIER_UNARY(silu) RANVIER_UNARY(softplus)
#undef RANVIER_UNARY
#define RANVIER_BINARY(name) Tensor name(Tensor a, Tensor b, Where at) { return emit(Fn::name, {a, b}, at); }
RANVIER_BINARY(add) RANVIER_BINARY(sub) RANVIER_BINARY(mul) RANVIER_BINARY(div) RANVIER_BINARY(pow)
RANVIER_BINARY(maximum) RANVIER_BINARY(minimum) RANVIER_BINARY(equal) RANVIER_BINARY(less) RANVIER_BINARY(less_equal)
#undef RANVIER_BINARY

Tensor greater(Tensor a, Tensor b, Where at) { return less(b, a, at); }
Tensor greater_equal(Tensor a, Tensor b, Where at) { return less_equal(b, a, at); }
// clang-format on

Tensor pow(Tensor a, double b, Where at) { return pow(a, like(a, b, at), at); }
Tensor where(Tensor condition, Tensor a, Tensor b, Where at) { return emit(Fn::where, {condition, a, b}, at); }
Tensor clamp(Tensor x, double low, double high, Where at) {
  if (!(low <= high)) fail_at(at, "clamp: low {} is above high {}", low, high);
  return emit(Fn::clamp, {x, like(x, low, at), like(x, high, at)}, at);
}

Tensor operator+(const Located& a, const Located& b) { return add(a.tensor, b.tensor, a.where); }
Tensor operator-(const Located& a, const Located& b) { return sub(a.tensor, b.tensor, a.where); }
Tensor operator*(const Located& a, const Located& b) { return mul(a.tensor, b.tensor, a.where); }
Tensor operator/(const Located& a, const Located& b) { return div(a.tensor, b.tensor, a.where); }
Tensor operator+(const Located& a, double b) { return add(a.tensor, like(a.tensor, b, a.where), a.where); }
Tensor operator-(const Located& a, double b) { return sub(a.tensor, like(a.tensor, b, a.where), a.where); }
Tensor operator*(const Located& a, double b) { return mul(a.tensor, like(a.tensor, b, a.where), a.where); }
Tensor operator/(const Located& a, double b) { return div(a.tensor, like(a.tensor, b, a.where), a.where); }
Tensor operator+(double a, const Located& b) { return add(like(b.tensor, a, b.where), b.tensor, b.where); }
Tensor operator-(double a, const Located& b) { return sub(like(b.tensor, a, b.where), b.tensor, b.where); }
Tensor operator*(double a, const Located& b) { return mul(like(b.tensor, a, b.where), b.tensor, b.where); }
Tensor operator/(double a, const Located& b) { return div(like(b.tensor, a, b.where), b.tensor, b.where); }
Tensor operator-(const Located& a) { return neg(a.tensor, a.where); }

std::vector<const OpDef*> catalogue::elementwise() {
  std::vector<const OpDef*> list = {&fused_pointwise_op};
  for (const OpDef& op : ops) list.push_back(&op);
  return list;
}

}  // namespace ranvier
