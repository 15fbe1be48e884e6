// Matrix products by cuBLASLt, NVIDIA's library: the yardstick of our own kernels, and a variant to choose.
#pragma once
#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>

#include "kernels/common/stream.h"
#include "kernels/matmul/matmul.h"

namespace ranvier::kernels {

/// Arithmetic of a product: the operands' type, and for f32 whether they may be rounded to tf32. Sums are f32 (f64).
enum class CublasType { f32, tf32, f64, bf16, f16 };

/// A product prepared for one shape: descriptors, and the first algorithm of cuBLASLt's own ranking that needs at most
/// 64 MB of scratch and adds split sums in a fixed order (so bits depend on shape, device and library version). Throws
/// std::runtime_error with the library's words where it fails.
class CublasMatmul {
 public:
  /// Operands and result are aligned to at least `alignment` bytes when it runs.
  CublasMatmul(const MatmulDims& dims, CublasType type, unsigned alignment);
  ~CublasMatmul();
  CublasMatmul(const CublasMatmul&) = delete;
  CublasMatmul& operator=(const CublasMatmul&) = delete;
  /// Scratch bytes that run needs.
  size_t workspace() const;
  void run(const void* a, const void* b, void* c, void* workspace, CudaStream stream) const;

 private:
  struct Parts;
  std::unique_ptr<Parts> parts_;
};

/// "13.0.2" of the library that was found at run time.
std::string cublas_version();

}  // namespace ranvier::kernels
