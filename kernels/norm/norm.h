// Batch norm over all but the channel axis, in one piece with the activation and the 2x2 max-pool that go with it.
#pragma once
#include <cstddef>
#include <cstdint>

#include "kernels/common/half.h"
#include "kernels/common/stream.h"

namespace ranvier::kernels {

enum class Activation : uint8_t { none, relu, gelu, silu };  // gelu: x Phi(x), exact erf form

/// Where a 2x2 max-pool of stride 2 (floor) sits: `before` y = act(norm(pool(x))), statistics over the pooled map;
/// `after` y = pool(act(norm(x))), statistics over the whole of x.
enum class PoolPlace : uint8_t { none, before, after };

/// x is (n, h, w, c); y is (n, out_h, out_w, c).
struct NormDims {
  int64_t n = 0, h = 0, w = 0, c = 0;
  double eps = 1e-5;
  Activation act = Activation::none;
  PoolPlace pool = PoolPlace::none;

  RANVIER_HD int64_t out_h() const { return pool == PoolPlace::none ? h : h / 2; }
  RANVIER_HD int64_t out_w() const { return pool == PoolPlace::none ? w : w / 2; }
  RANVIER_HD int64_t in_rows() const { return n * h * w; }
  RANVIER_HD int64_t out_rows() const { return n * out_h() * out_w(); }
  /// Values per channel that the statistics are taken over.
  RANVIER_HD int64_t stat_rows() const { return pool == PoolPlace::before ? out_rows() : in_rows(); }
};

/// Throws std::runtime_error, naming the dimension, unless every one is at least 1 (2 for a pooled height and width).
void validate(const NormDims& dims);

// T is the type of the maps, S that of everything per channel: the same, or f32 beside 16-bit maps.

/// Training forward. Per channel: mean, variance (biased) and rstd = 1 / sqrt(variance + eps), then
/// y = act((x - mean) rstd gamma + beta) with the pool where the dims put it.
template <class T, class S = T>
struct NormForward {
  const T* x;                 // (n, h, w, c)
  const S* gamma;             // (c), null for 1
  const S* beta;              // (c), null for 0
  T* y;                       // (n, out_h, out_w, c)
  S* mean;                    // (c)
  S* variance;                // (c)
  S* rstd;                    // (c)
  T* pooled = nullptr;        // (n, out_h, out_w, c): x at the winner of each window; pooled forms only, null to skip
  uint8_t* index = nullptr;   // (n, out_h, out_w, c): winner 0..3, row-major in its window; pooled forms only
  void* workspace = nullptr;  // norm_workspace(dims) bytes, aligned to 64
};

/// Forward with given statistics (evaluation).
template <class T, class S = T>
struct NormEval {
  const T* x;         // (n, h, w, c)
  const S* gamma;     // (c), null for 1
  const S* beta;      // (c), null for 0
  const S* mean;      // (c)
  const S* variance;  // (c)
  T* y;               // (n, out_h, out_w, c)
  void* workspace = nullptr;
};

/// Gradient of the training forward, through the batch statistics too.
template <class T, class S = T>
struct NormBackward {
  const T* x;            // (n, h, w, c); may be null where pool is `before` and `pooled` is given
  const T* pooled;       // what the forward wrote, or null: then it is picked from x at `index`, at the cost of a pass
  const uint8_t* index;  // what the forward wrote; pooled forms only
  const T* dy;           // (n, out_h, out_w, c)
  const S* gamma;        // (c), null for 1
  const S* beta;         // (c), null for 0
  const S* mean;         // (c)
  const S* rstd;         // (c)
  T* dx;                 // (n, h, w, c), written everywhere. May be x itself, and with pool none dy itself
  S* dgamma;             // (c), null to skip
  S* dbeta;              // (c), null to skip
  void* workspace = nullptr;
};

/// Scratch bytes of any of the passes below.
size_t norm_workspace(const NormDims& dims);

// Winners. Of equal values the first in row-major order wins, a NaN beats every number and the last NaN wins (as in
// PyTorch). With pool `after` and no activation or relu, order is that of x times the sign of gamma, which relu's and
// the rounding's plateaus do not flatten: there the winner may differ from one found on y, never the value of y.
// Statistics are exact to a few ulp also where the mean is far greater than the deviation. (x - mean) is taken first,
// so y loses no more than the rounding of the stored mean: about 6e-8 |mean| rstd.

namespace reference {
template <class T>
void norm_forward(const NormDims& dims, const NormForward<T>& args);
template <class T>
void norm_eval(const NormDims& dims, const NormEval<T>& args);
template <class T>
void norm_backward(const NormDims& dims, const NormBackward<T>& args);
}  // namespace reference

namespace cpu {
void norm_forward(const NormDims& dims, const NormForward<float>& args);
void norm_eval(const NormDims& dims, const NormEval<float>& args);
void norm_backward(const NormDims& dims, const NormBackward<float>& args);
}  // namespace cpu

/// The same on a CUDA device, for maps of float, bf16 or f16; all arithmetic is f32 (f64 between threads), rounded once
/// at the end. The gradient of a pooled form needs the winners that the forward saved.
namespace cuda {
template <class T>
size_t norm_workspace(const NormDims& dims);
template <class T>
void norm_forward(const NormDims& dims, const NormForward<T, float>& args, CudaStream stream);
template <class T>
void norm_eval(const NormDims& dims, const NormEval<T, float>& args, CudaStream stream);
template <class T>
void norm_backward(const NormDims& dims, const NormBackward<T, float>& args, CudaStream stream);
}  // namespace cuda

/// Exponential averages of the statistics, c values each: running = (1 - momentum) running + momentum batch, where the
/// batch variance is made unbiased by rows / (rows - 1), as PyTorch does (rows = 1 leaves it biased). `next` may be
/// `running`.
template <class T>
void norm_running_update(int64_t c, int64_t rows, T momentum, const T* mean, const T* variance, const T* running_mean,
                         const T* running_variance, T* next_mean, T* next_variance);

}  // namespace ranvier::kernels
