// Matrix products by cuBLASLt: our row-major product is its column-major one of the transposed operands, in reverse
// order.
#include "kernels/matmul/cublas.h"

#include <cublasLt.h>
#include <cuda_runtime_api.h>

#include <stdexcept>

namespace ranvier::kernels {
namespace {

void check(cublasStatus_t status, const char* what) {
  if (status != CUBLAS_STATUS_SUCCESS)
    throw std::runtime_error(std::string("matmul: cuBLAS, ") + what + ": " + cublasLtGetStatusString(status));
}

/// One handle for the process; cuBLASLt's are usable from any thread.
cublasLtHandle_t handle() {
  static const cublasLtHandle_t one = [] {
    cublasLtHandle_t made = nullptr;
    check(cublasLtCreate(&made), "starting it");
    return made;
  }();
  return one;
}

struct Arithmetic {
  cudaDataType_t data, scale;
  cublasComputeType_t compute;
  size_t bytes;  // of an element
};

Arithmetic arithmetic(CublasType type) {
  switch (type) {
    case CublasType::f32:
      return {CUDA_R_32F, CUDA_R_32F, CUBLAS_COMPUTE_32F, 4};
    case CublasType::tf32:
      return {CUDA_R_32F, CUDA_R_32F, CUBLAS_COMPUTE_32F_FAST_TF32, 4};
    case CublasType::f64:
      return {CUDA_R_64F, CUDA_R_64F, CUBLAS_COMPUTE_64F, 8};
    case CublasType::bf16:
      return {CUDA_R_16BF, CUDA_R_32F, CUBLAS_COMPUTE_32F, 2};
    default:
      return {CUDA_R_16F, CUDA_R_32F, CUBLAS_COMPUTE_32F, 2};
  }
}

/// A column-major matrix of rows x columns, `batch` of them one after another.
cublasLtMatrixLayout_t layout(const Arithmetic& type, int64_t rows, int64_t columns, int64_t batch) {
  cublasLtMatrixLayout_t made = nullptr;
  check(cublasLtMatrixLayoutCreate(&made, type.data, static_cast<uint64_t>(rows), static_cast<uint64_t>(columns), rows),
        "describing a matrix");
  const auto count = static_cast<int32_t>(batch);
  const int64_t stride = rows * columns;
  check(cublasLtMatrixLayoutSetAttribute(made, CUBLASLT_MATRIX_LAYOUT_BATCH_COUNT, &count, sizeof count), "the batch");
  check(cublasLtMatrixLayoutSetAttribute(made, CUBLASLT_MATRIX_LAYOUT_STRIDED_BATCH_OFFSET, &stride, sizeof stride),
        "the batch");
  return made;
}

}  // namespace

struct CublasMatmul::Parts {
  MatmulDims dims;
  Arithmetic type;
  cublasLtMatmulDesc_t product = nullptr;
  cublasLtMatrixLayout_t a = nullptr, b = nullptr, c = nullptr;
  cublasLtMatmulHeuristicResult_t choice{};

  bool trivial() const { return dims.c_size() == 0 || dims.k == 0; }
  void describe();
  void choose(unsigned alignment);
  ~Parts() {
    if (product) cublasLtMatmulDescDestroy(product);
    for (cublasLtMatrixLayout_t made : {a, b, c})
      if (made) cublasLtMatrixLayoutDestroy(made);
  }
};

void CublasMatmul::Parts::describe() {
  check(cublasLtMatmulDescCreate(&product, type.compute, type.scale), "describing a product");
  const auto transposed = [](bool flag) { return flag ? CUBLAS_OP_T : CUBLAS_OP_N; };
  const cublasOperation_t left = transposed(dims.transpose_b), right = transposed(dims.transpose_a);
  check(cublasLtMatmulDescSetAttribute(product, CUBLASLT_MATMUL_DESC_TRANSA, &left, sizeof left), "the orientation");
  check(cublasLtMatmulDescSetAttribute(product, CUBLASLT_MATMUL_DESC_TRANSB, &right, sizeof right), "the orientation");
  const auto [batch, m, n, k, ta, tb] = dims;
  b = tb ? layout(type, k, n, batch) : layout(type, n, k, batch);
  a = ta ? layout(type, m, k, batch) : layout(type, k, m, batch);
  c = layout(type, n, m, batch);
}

void CublasMatmul::Parts::choose(unsigned alignment) {
  constexpr size_t most_workspace = size_t{64} << 20;
  const uint32_t in_order = CUBLASLT_REDUCTION_SCHEME_NONE | CUBLASLT_REDUCTION_SCHEME_COMPUTE_TYPE;
  const uint32_t aligned = alignment;
  cublasLtMatmulPreference_t wish = nullptr;
  check(cublasLtMatmulPreferenceCreate(&wish), "choosing an algorithm");
  const std::unique_ptr<cublasLtMatmulPreferenceOpaque_t, cublasStatus_t (*)(cublasLtMatmulPreference_t)> owner(
      wish, cublasLtMatmulPreferenceDestroy);
  const auto set = [&](cublasLtMatmulPreferenceAttributes_t what, const auto& value) {
    check(cublasLtMatmulPreferenceSetAttribute(wish, what, &value, sizeof value), "choosing an algorithm");
  };
  set(CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, most_workspace);
  set(CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK, in_order);
  for (const auto operand : {CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES,
                             CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES})
    set(operand, aligned);
  int found = 0;
  check(cublasLtMatmulAlgoGetHeuristic(handle(), product, b, a, c, c, wish, 1, &choice, &found),
        "choosing an algorithm");
  if (!found) throw std::runtime_error("matmul: cuBLAS has no algorithm for this product");
}

CublasMatmul::CublasMatmul(const MatmulDims& dims, CublasType type, unsigned alignment)
    : parts_(new Parts{dims, arithmetic(type)}) {
  if (parts_->trivial()) return;
  if (dims.batch > INT32_MAX) throw std::runtime_error("matmul: cuBLAS takes at most 2^31 - 1 products at once");
  parts_->describe();
  parts_->choose(alignment);
}

CublasMatmul::~CublasMatmul() = default;

size_t CublasMatmul::workspace() const { return parts_->choice.workspaceSize; }

void CublasMatmul::run(const void* a, const void* b, void* c, void* workspace, CudaStream stream) const {
  const Parts& p = *parts_;
  if (p.trivial()) {  // an empty depth gives zeros
    const size_t bytes = static_cast<size_t>(p.dims.c_size()) * p.type.bytes;
    if (bytes && cudaMemsetAsync(c, 0, bytes, stream) != cudaSuccess)
      throw std::runtime_error("matmul: filling the result with zeros failed");
    return;
  }
  const float one = 1, zero = 0;
  const double wide_one = 1, wide_zero = 0;
  const bool wide = p.type.scale == CUDA_R_64F;
  check(cublasLtMatmul(handle(), p.product, wide ? static_cast<const void*>(&wide_one) : &one, b, p.b, a, p.a,
                       wide ? static_cast<const void*>(&wide_zero) : &zero, c, p.c, c, p.c, &p.choice.algo, workspace,
                       p.choice.workspaceSize, stream),
        "a product");
}

std::string cublas_version() {
  const size_t v = cublasLtGetVersion();
  return std::to_string(v / 10000) + "." + std::to_string(v / 100 % 100) + "." + std::to_string(v % 100);
}

}  // namespace ranvier::kernels
