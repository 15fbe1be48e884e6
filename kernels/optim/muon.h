// Muon: momentum whose update is made orthogonal by Newton-Schulz iterations, one matrix at a time.
#pragma once
#include <cstdint>

#include "kernels/common/stream.h"

namespace ranvier::kernels {

/// Coefficients of X <- a X + (b A + c A^2) X with A = X X^T: an odd quintic in the singular values that pushes all of
/// (0, 1] near 1 fast, without converging to 1 exactly. Jordan et al., "Muon: an optimizer for hidden layers", 2024.
struct NewtonSchulz {
  double a = 3.4445, b = -4.7750, c = 2.0315;
  int iterations = 3;
};

/// c = alpha op(a) op(b) + beta c on dense row-major matrices, op(a) m x k, op(b) k x n, c m x n; with beta 0 c is only
/// written. The type of every matmul that this file can be given.
template <class T>
using Gemm = void (*)(bool transpose_a, bool transpose_b, int64_t m, int64_t n, int64_t k, T alpha, const T* a,
                      const T* b, T beta, T* c);

struct MuonConfig {
  double momentum = 0.6;
  bool nesterov = true;
  bool renormalize = true;  ///< scale w to Frobenius norm sqrt(rows) before the update
  double weight_decay = 0;  ///< decoupled: w *= 1 - lr * weight_decay
  NewtonSchulz newton_schulz;
};

/// Elements of workspace that `muon_orthogonalize` needs; `muon_step` needs rows * cols more.
constexpr int64_t muon_workspace(int64_t rows, int64_t cols) {
  const int64_t side = rows < cols ? rows : cols;
  return rows * cols + 2 * side * side;
}

namespace reference {

/// A plain triple loop.
template <class T>
void gemm(bool transpose_a, bool transpose_b, int64_t m, int64_t n, int64_t k, T alpha, const T* a, const T* b, T beta,
          T* c);

/// out = Newton-Schulz of u / (|u|_F + 1e-7), both (rows, cols) row-major; products of the smaller side's size only.
/// out may be u.
template <class T>
void muon_orthogonalize(int64_t rows, int64_t cols, const T* u, const NewtonSchulz& config, Gemm<T> gemm, T* workspace,
                        T* out);

/// m_new = momentum m + g; u = nesterov ? g + momentum m_new : m_new; w_new = s (1 - lr decay) w - lr NS(u), where s =
/// sqrt(rows) / |w|_F if renormalize, else 1. All (rows, cols); a conv weight (K, R, S, C) counts as K rows. Outputs
/// may be their inputs.
template <class T>
void muon_step(int64_t rows, int64_t cols, const T* w, const T* g, const T* m, const MuonConfig& config, const T* lr,
               Gemm<T> gemm, T* workspace, T* w_new, T* m_new);

}  // namespace reference

/// One matrix of a call, (rows, cols) row-major; outputs may be their inputs.
struct MuonItem {
  const float *p, *g, *m;
  float *p_new, *m_new;
  int64_t rows, cols;
};

namespace cuda {

/// Floats of workspace that `muon` needs for a matrix of this size.
int64_t muon_workspace(int64_t rows, int64_t cols);

/// reference::muon_step of every matrix on a CUDA device, in f32: each stage is one launch for all of them, whatever
/// their shapes are (up to 192 a launch). `grad_scale` and `skip` as in optim.h. workspace: the sum of
/// muon_workspace over the matrices.
void muon(const MuonItem* items, int64_t count, const MuonConfig& config, const float* lr, const float* grad_scale,
          const int64_t* skip, float* workspace, CudaStream stream);

}  // namespace cuda
}  // namespace ranvier::kernels
