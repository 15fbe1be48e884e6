// Many segments of resetting neurons fitted at once: each a small network, its equations and a quasi-Newton search,
// done by one worker from start to end.
#pragma once
#include <cstddef>
#include <cstdint>

#include "kernels/common/stream.h"

namespace ranvier::kernels {

/// `batch` segments, each with a network 1-hidden-2 (tanh) at `points` collocation points. Unknowns of a segment: the
/// network's parameters as `MlpDims` has them, then tau, which stretches the segment's length.
struct FitDims {
  static constexpr int64_t lanes = 16;
  static constexpr int64_t columns = 16, info_columns = 8;
  int64_t batch = 0, hidden = 0, points = 0;

  static constexpr int64_t padded(int64_t n) { return (n + lanes - 1) / lanes * lanes; }
  constexpr int64_t unknowns() const { return 4 * hidden + 3; }
  /// Elements of a segment's memory: inverse Hessian and gradient, rows padded.
  constexpr int64_t memory() const { return padded(unknowns()) * (padded(unknowns()) + 1); }
  /// Of a dot: one for every four unknowns, padded by zeros.
  constexpr int64_t partial_sums() const { return (hidden + 4) / 4 * 4; }
  /// Doubles that the workers of a segment share.
  constexpr int64_t scratch() const {
    const int64_t n = padded(points), p = padded(unknowns());
    return p * p + 7 * p + (hidden + 9) * n + columns + padded(7 * partial_sums() + 1);
  }
};

/// Columns of a segment's description (batch, FitDims::columns); notation of models/pinn_segment.h:
///   phi = phi0 + rise s + m N_1, u = u0 + scale s N_2, m = s, or s (1 - s) where `stretch` is 1,
///   r_phi = phi_s - length (1 + stretch tau) (alpha sin^2 phi + gamma (drive - u) cos^2 phi),
///   r_u = (u_s - length (1 + stretch tau) a (b (above + A tan phi) - u)) / scale,   phi at most `peak` in the latter
///   two.
enum class FitColumn : int64_t {
  length,
  stretch,
  phi0,
  rise,
  u0,
  drive,
  alpha,
  gamma,
  a,
  b,
  above,
  A,
  peak,
  scale,
  wanted,
  pull  ///< a / scale, which the search fills in
};

/// Columns of a segment's progress (batch, FitDims::info_columns): half the mean squared residuals, counts, whether the
/// inverse Hessian knows nothing yet, why it ended (FitEnd), and the value of `patience` iterations ago. A negative
/// number of iterations means: start.
enum class FitInfo : int64_t { value, iterations, evaluations, fresh, end, mark };
enum class FitEnd : int64_t { running, value, gradient, progress, iterations, not_finite };

struct FitLimits {
  int64_t launch_iterations = 64;  ///< of one call
  int64_t iterations = 2000;       ///< of the search
  int64_t patience = 200;          ///< ends where so many iterations lower the value by less than `stall_share`
  double stall_share = 0.02;
};

// s (batch, points); description (batch, columns); unknowns (batch, unknowns); memory (batch, memory); info (batch,
// info_columns). Self-scaled BFGS with a strong Wolfe search goes on where the inputs stand. Both give the same bits.
namespace cpu {
size_t segment_fit_workspace(const FitDims& dims);
void segment_fit(const FitDims& dims, const FitLimits& limits, const double* s, const double* description,
                 const double* unknowns, const double* memory, const double* info, double* next_unknowns,
                 double* next_memory, double* next_info, void* workspace);
}  // namespace cpu
namespace cuda {
/// Whether a segment's scratch fits a block's shared memory.
bool segment_fit_supports(const FitDims& dims);
/// One block a segment, everything in its shared memory.
void segment_fit(const FitDims& dims, const FitLimits& limits, const double* s, const double* description,
                 const double* unknowns, const double* memory, const double* info, double* next_unknowns,
                 double* next_memory, double* next_info, CudaStream stream);
}  // namespace cuda

}  // namespace ranvier::kernels
