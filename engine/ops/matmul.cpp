// Matrix products: two transpose flags make the family closed under differentiation.
#include "kernels/matmul/matmul.h"

#include "engine/catalogue.h"
#include "engine/op.h"
#include "engine/ops.h"
#include "engine/ops/dispatch.h"
#if defined(RANVIER_HAS_CUBLAS)
#include "kernels/matmul/cublas.h"
#endif

namespace ranvier {
namespace {

using kernels::MatmulDims;

/// Attributes; the batch extents are the operands' own.
struct MatmulAttrs {
  int64_t transpose_a, transpose_b;
};

MatmulDims dims_of(std::span<const Type> in, const MatmulAttrs& attrs) {
  const Shape& a = in[0].shape;
  const Shape& b = in[1].shape;
  int64_t batch = 1;
  for (int axis = 0; axis + 2 < a.rank(); ++axis) batch *= a[axis];
  return {batch,
          attrs.transpose_a ? a[-1] : a[-2],
          attrs.transpose_b ? b[-2] : b[-1],
          attrs.transpose_a ? a[-2] : a[-1],
          attrs.transpose_a != 0,
          attrs.transpose_b != 0};
}

std::vector<Type> infer(std::span<const Type> in, const Attrs& bytes) {
  const auto& attrs = bytes.as<MatmulAttrs>();
  const Shape& a = in[0].shape;
  const Shape& b = in[1].shape;
  if (in[0].dtype != in[1].dtype || !is_floating(in[0].dtype)) fail("operands must have one floating type");
  if (a.rank() < 2 || a.rank() != b.rank()) fail("operands must have one rank, at least 2");
  Shape out;
  for (int axis = 0; axis + 2 < a.rank(); ++axis) {
    if (a[axis] != b[axis]) fail("batch extents differ");
    out.push_back(a[axis]);
  }
  const MatmulDims dims = dims_of(in, attrs);
  const int64_t inner_b = attrs.transpose_b ? b[-1] : b[-2];
  if (dims.k != inner_b) fail("inner extents {} and {} differ", dims.k, inner_b);
  out.push_back(dims.m);
  out.push_back(dims.n);
  return {{in[0].dtype, out}};
}

void vjp(Vjp& v) {
  const auto attrs = v.attrs<MatmulAttrs>();
  const bool ta = attrs.transpose_a, tb = attrs.transpose_b;
  if (v.x(0).value == v.x(1).value && ta != tb) {  // x^T x or x x^T: both roles of x in one product
    v.in(0, [&] {
      const Tensor g = v.g() + transpose(v.g());
      return ta ? matmul(v.x(0), g) : matmul(g, v.x(0));
    });
    return;
  }
  v.in(0, [&] { return ta ? matmul(v.x(1), v.g(), tb, true) : matmul(v.g(), v.x(1), false, !tb); });
  v.in(1, [&] { return tb ? matmul(v.g(), v.x(0), true, ta) : matmul(v.x(0), v.g(), !ta, false); });
}

MatmulDims dims_of(const NodeView& node) { return dims_of(node.in, node.attrs<MatmulAttrs>()); }
double flops(const NodeView& node) {
  const MatmulDims d = dims_of(node);
  return 2.0 * static_cast<double>(d.batch * d.m) * static_cast<double>(d.n * d.k);
}

void run_native(const Call& call) {
  dispatch_floating(call.node.in[0].dtype, [&]<class T>() {
    kernels::matmul_native<T>(dims_of(call.node), call.in<T>(0), call.in<T>(1), call.out<T>(0), call.workspace);
  });
}
size_t native_workspace(const NodeView& node, const void*) {
  return dispatch_floating(node.in[0].dtype,
                           [&]<class T>() { return kernels::matmul_native_workspace<T>(dims_of(node)); });
}
void run_reference(const Call& call) {
  dispatch_floating(call.node.in[0].dtype, [&]<class T>() {
    kernels::matmul_reference<T>(dims_of(call.node), call.in<T>(0), call.in<T>(1), call.out<T>(0));
  });
}
#if defined(RANVIER_HAS_ONEDNN)
void run_onednn(const Call& call) {
  kernels::matmul_onednn(dims_of(call.node), call.in<float>(0), call.in<float>(1), call.out<float>(0), call.workspace);
}
size_t onednn_workspace(const NodeView& node, const void*) { return kernels::matmul_onednn_workspace(dims_of(node)); }
#endif

#if defined(RANVIER_HAS_CUDA)
void run_cuda(const Call& call) {
  dispatch_cuda_floating(call.node.in[0].dtype, [&]<class T>() {
    const MatmulDims dims = dims_of(call.node);
    kernels::matmul_cuda<T>(dims, kernels::matmul_cuda_cut<T>(dims), call.in<T>(0), call.in<T>(1), call.out<T>(0),
                            call.workspace, call.stream);
  });
}
size_t cuda_workspace(const NodeView& node, const void*) {
  return dispatch_cuda_floating(node.in[0].dtype, [&]<class T>() {
    return kernels::matmul_cuda_workspace<T>(dims_of(node), kernels::matmul_cuda_cut<T>(dims_of(node)));
  });
}
void run_tf32(const Call& call) {
  const MatmulDims dims = dims_of(call.node);
  kernels::matmul_cuda_tf32(dims, kernels::matmul_cuda_cut<float>(dims), call.in<float>(0), call.in<float>(1),
                            call.out<float>(0), call.workspace, call.stream);
}
#endif

#if defined(RANVIER_HAS_CUBLAS)
template <bool tf32>
std::shared_ptr<void> prepare_cublas(const NodeView& node, DeviceContext&) {
  constexpr unsigned alignment = 16;  // the plan promises more; no kernel of cuBLAS asks for more
  using kernels::CublasType;
  const auto type = [&] {
    switch (node.in[0].dtype) {
      case DType::f64:
        return CublasType::f64;
      case DType::bf16:
        return CublasType::bf16;
      case DType::f16:
        return CublasType::f16;
      default:
        return tf32 ? CublasType::tf32 : CublasType::f32;
    }
  }();
  return std::make_shared<kernels::CublasMatmul>(dims_of(node), type, alignment);
}
size_t cublas_workspace(const NodeView&, const void* prepared) {
  return static_cast<const kernels::CublasMatmul*>(prepared)->workspace();
}
void run_cublas(const Call& call) {
  static_cast<const kernels::CublasMatmul*>(call.prepared)
      ->run(call.inputs[0], call.inputs[1], call.outputs[0], call.workspace, call.stream);
}
#endif

constexpr Variant variants[] = {
#if defined(RANVIER_HAS_ONEDNN)
    {.name = "onednn", .run = run_onednn, .supports = operand_is_f32, .workspace = onednn_workspace},
#endif
    {.name = "native", .run = run_native, .supports = operand_on_cpu, .workspace = native_workspace},
    {.name = "reference", .run = run_reference, .supports = operand_on_cpu},
#if defined(RANVIER_HAS_CUDA)
    {.name = "handwritten", .backend = Backend::cuda, .run = run_cuda, .workspace = cuda_workspace},
    {.name = "tf32",
     .backend = Backend::cuda,
     .run = run_tf32,
     .supports = operand_is_f32,
     .workspace = cuda_workspace,
     .exact = false},
#endif
#if defined(RANVIER_HAS_CUBLAS)
    {.name = "cublas",
     .backend = Backend::cuda,
     .run = run_cublas,
     .workspace = cublas_workspace,
     .prepare = prepare_cublas<false>},
    {.name = "cublas_tf32",
     .backend = Backend::cuda,
     .run = run_cublas,
     .supports = operand_is_f32,
     .workspace = cublas_workspace,
     .prepare = prepare_cublas<true>,
     .exact = false},
#endif
};

const OpDef matmul_op{.name = "matmul", .infer = infer, .vjp = vjp, .variants = variants, .flops = flops};

}  // namespace

Tensor matmul(Tensor a, Tensor b, bool transpose_a, bool transpose_b, Where where) {
  const Tensor in[] = {a, b};
  return a.graph->emit(matmul_op, Attrs::of(MatmulAttrs{transpose_a, transpose_b}), in, where);
}

std::vector<const OpDef*> catalogue::matmul() { return {&matmul_op}; }

}  // namespace ranvier
