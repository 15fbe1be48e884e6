// Sums over pairs of units whose weights follow from their distance: the matrix of weights is never stored.
#pragma once
#include <cstddef>
#include <cstdint>

#include "kernels/common/stream.h"
#include "kernels/coupling/law.h"

namespace ranvier::kernels {

/// `batch` rows of values at `n` units, which lie in `axes` (1 to 3) dimensions.
struct PairDims {
  int64_t batch = 0, n = 0, axes = 0;
  CouplingLaw law;

  double pairs() const { return static_cast<double>(n) * static_cast<double>(n > 0 ? n - 1 : 0); }
};

// positions p (n, axes); x, g, y (batch, n). kappa is the law of PairDims, its diagonal is left out.
//   pair_apply      y[b, i] = sum_{j != i} kappa(p_i, p_j) x[b, j]                        (its own adjoint)
//   pair_positions  dp_i = sum_{j != i} W_ij (p_i - p_j), W_ij = (S_ij + S_ji) kappa f, S_ij = sum_b g[b, i] x[b, j]
//   pair_matrix     kappa (n, n) with a zero diagonal
// pair_positions is the gradient of sum_bi g[b, i] y[b, i] with respect to the positions. Sizes, myelin and exponents
// need no pair loop: they are factors of x and y.
//
// Of products S_ij = sum_b x[b, i] x[b, j], with w and v (n) and A_ij = (v_i w_j + v_j w_i) kappa(p_i, p_j):
//   pair_squares            q_i = sum_{j != i} kappa(p_i, p_j) w_j S_ij^2
//   pair_squares_values     dx[b, i] = 2 sum_{j != i} A_ij S_ij x[b, j]
//   pair_squares_positions  dp_i = sum_{j != i} A_ij S_ij^2 f (p_i - p_j)
// The last two are the gradients of sum_i v_i q_i; that with respect to w is pair_squares with v for w.

namespace reference {
template <class T>
void pair_apply(const PairDims& dims, const T* x, const T* positions, T* y);
template <class T>
void pair_positions(const PairDims& dims, const T* g, const T* x, const T* positions, T* dp);
template <class T>
void pair_matrix(const PairDims& dims, const T* positions, T* kappa);
template <class T>
void pair_squares(const PairDims& dims, const T* x, const T* w, const T* positions, T* q);
template <class T>
void pair_squares_values(const PairDims& dims, const T* v, const T* x, const T* w, const T* positions, T* dx);
template <class T>
void pair_squares_positions(const PairDims& dims, const T* v, const T* x, const T* w, const T* positions, T* dp);
}  // namespace reference

namespace cpu {
/// Workspace in bytes: blocks of weights and of operands, nothing that grows as n^2.
template <class T>
size_t pair_apply_workspace(const PairDims& dims);
template <class T>
size_t pair_positions_workspace(const PairDims& dims);
/// Weights are made a block at a time in the first-level cache and multiplied there; bit-equal for any number of
/// threads. Up to four rows every weight is made once for both of its pairs.
template <class T>
void pair_apply(const PairDims& dims, const T* x, const T* positions, T* y, void* workspace);
template <class T>
void pair_positions(const PairDims& dims, const T* g, const T* x, const T* positions, T* dp, void* workspace);
template <class T>
void pair_matrix(const PairDims& dims, const T* positions, T* kappa);
/// One workspace for the three.
template <class T>
size_t pair_squares_workspace(const PairDims& dims);
template <class T>
void pair_squares(const PairDims& dims, const T* x, const T* w, const T* positions, T* q, void* workspace);
template <class T>
void pair_squares_values(const PairDims& dims, const T* v, const T* x, const T* w, const T* positions, T* dx,
                         void* workspace);
template <class T>
void pair_squares_positions(const PairDims& dims, const T* v, const T* x, const T* w, const T* positions, T* dp,
                            void* workspace);
}  // namespace cpu

#if defined(RANVIER_HAS_CUDA)
namespace cuda {
/// f32 and bf16 values (positions f32); bytes of partial sums.
template <class T>
size_t pair_apply_workspace(const PairDims& dims);
template <class T>
void pair_apply(const PairDims& dims, const T* x, const float* positions, T* y, void* workspace, CudaStream stream);
template <class T>
size_t pair_positions_workspace(const PairDims& dims);
template <class T>
void pair_positions(const PairDims& dims, const T* g, const T* x, const float* positions, float* dp, void* workspace,
                    CudaStream stream);
void pair_matrix(const PairDims& dims, const float* positions, float* kappa, CudaStream stream);
/// f32 alone. Workspaces are partial sums, none of them more than 64 MB or what one piece of all senders needs.
size_t pair_squares_workspace(const PairDims& dims);
void pair_squares(const PairDims& dims, const float* x, const float* w, const float* positions, float* q,
                  void* workspace, CudaStream stream);
size_t pair_squares_values_workspace(const PairDims& dims);
void pair_squares_values(const PairDims& dims, const float* v, const float* x, const float* w, const float* positions,
                         float* dx, void* workspace, CudaStream stream);
size_t pair_squares_positions_workspace(const PairDims& dims);
void pair_squares_positions(const PairDims& dims, const float* v, const float* x, const float* w,
                            const float* positions, float* dp, void* workspace, CudaStream stream);
}  // namespace cuda
#endif

}  // namespace ranvier::kernels
