// Optimizers over lists of tensors: SGD, AdamW, weight averages, gradient norm and clipping, each one call for all
// tensors.
#pragma once
#include <cstdint>

#include "kernels/common/hd.h"
#include "kernels/common/stream.h"

namespace ranvier::kernels {

/// One tensor of an optimizer call, `n` elements. An output may be the same memory as its input, never other memory
/// that overlaps it. Pointers that a function does not name below are not read and may be null.
template <class T>
struct ParamSlice {
  const T* p = nullptr;  ///< parameter
  const T* g = nullptr;  ///< gradient
  const T* m = nullptr;  ///< momentum buffer, first moment or running average
  const T* v = nullptr;  ///< second moment
  T* p_new = nullptr;
  T* m_new = nullptr;
  T* v_new = nullptr;
  int64_t n = 0;
  T lr_scale = 1;      ///< multiplies the learning rate
  T weight_decay = 0;  ///< coefficient of the decay, coupled or decoupled as the optimizer says
};

/// The tensors of a call, in an order that fixes every sum.
template <class T>
struct TensorList {
  int64_t count = 0;
  const ParamSlice<T>* items = nullptr;
};

/// Momentum 0 needs no buffer: m and m_new may then be null.
template <class T>
struct SgdConfig {
  T momentum = 0;
  bool nesterov = false;
};

template <class T>
struct AdamWConfig {
  T beta1 = T(0.9), beta2 = T(0.999), epsilon = T(1e-8);
};

// Scalars that change from step to step are read through pointers: `lr` (times lr_scale), `step` (updates done before
// this one, 0 for the first), `grad_scale` (multiplies every gradient first; null means 1), `skip` (where it is not 0,
// every result is its predecessor, whatever the gradients are; null means 0).

namespace reference {

/// g' = grad_scale g + weight_decay p; m_new = momentum m + g'; p_new = p - lr (nesterov ? g' + momentum m_new :
/// m_new). With m = 0 at the start this is torch.optim.SGD with dampening 0. Reads p, g, m; writes p_new, m_new.
template <class T>
void sgd(const TensorList<T>& list, const SgdConfig<T>& config, const T* lr, const T* grad_scale,
         const int64_t* skip = nullptr);

/// Loshchilov and Hutter, arXiv 1711.05101, as torch.optim.AdamW: p shrinks by 1 - lr weight_decay, then
/// p_new = p - lr / (1 - beta1^t) m_new / (sqrt(v_new) / sqrt(1 - beta2^t) + epsilon), t = *step + 1.
/// Reads p, g, m, v; writes p_new, m_new, v_new.
template <class T>
void adamw(const TensorList<T>& list, const AdamWConfig<T>& config, const T* lr, const int64_t* step,
           const T* grad_scale, const int64_t* skip = nullptr);

/// m_new = decay m + (1 - decay) p: the exponential average m of the parameters p.
template <class T>
void ema(const TensorList<T>& list, const T* decay, const int64_t* skip = nullptr);

/// *norm = square root of the sum of g^2 over the list, summed in f64. workspace: optim_workspace() doubles.
template <class T>
void global_norm(const TensorList<T>& list, double* workspace, T* norm);

/// *count = number of NaN and infinite elements of g. workspace: optim_workspace() doubles.
template <class T>
void count_nonfinite(const TensorList<T>& list, double* workspace, int64_t* count);

}  // namespace reference

namespace cpu {

/// As reference::sgd, the same bits.
void sgd(const TensorList<float>& list, const SgdConfig<float>& config, const float* lr, const float* grad_scale,
         const int64_t* skip = nullptr);
/// As reference::adamw, the same bits.
void adamw(const TensorList<float>& list, const AdamWConfig<float>& config, const float* lr, const int64_t* step,
           const float* grad_scale, const int64_t* skip = nullptr);
/// As reference::ema, the same bits.
void ema(const TensorList<float>& list, const float* decay, const int64_t* skip = nullptr);
/// As reference::global_norm with another, equally fixed order of the f64 sum.
void global_norm(const TensorList<float>& list, double* workspace, float* norm);
/// As reference::count_nonfinite.
void count_nonfinite(const TensorList<float>& list, double* workspace, int64_t* count);

}  // namespace cpu

struct LrSchedule;
struct LossScaleConfig;

// On a CUDA device, f32 and f64. Updates and averages give the bits of the reference; sums have another, equally fixed
// order. The list is copied into the launch; a list of up to 384 tensors is one launch (sums: and one more).
namespace cuda {

/// Elements of a tensor that one block works on: enough to hide a block's start behind its memory traffic, and few
/// enough that a model of 10^6 parameters fills a GPU.
inline constexpr int64_t piece_elements = 4096;
constexpr int64_t pieces_of(int64_t n) { return (n + piece_elements - 1) / piece_elements; }
/// Doubles of workspace that global_norm and count_nonfinite need for a tensor of n elements.
constexpr int64_t sum_workspace(int64_t n) { return pieces_of(n); }

template <class T>
void sgd(const TensorList<T>& list, const SgdConfig<T>& config, const T* lr, const T* grad_scale, const int64_t* skip,
         CudaStream stream);
template <class T>
void adamw(const TensorList<T>& list, const AdamWConfig<T>& config, const T* lr, const int64_t* step,
           const T* grad_scale, const int64_t* skip, CudaStream stream);
template <class T>
void ema(const TensorList<T>& list, const T* decay, const int64_t* skip, CudaStream stream);
/// workspace: the sum of sum_workspace(n) doubles over the tensors.
template <class T>
void global_norm(const TensorList<T>& list, double* workspace, T* norm, CudaStream stream);
template <class T>
void count_nonfinite(const TensorList<T>& list, double* workspace, int64_t* count, CudaStream stream);

/// kernels/optim/schedule.h's learning_rate where the step counter lives.
template <class T>
void learning_rate(const LrSchedule& schedule, const int64_t* step, T* lr, CudaStream stream);
/// kernels/optim/loss_scale.h's functions likewise.
void count_update(const int64_t* counter, const int64_t* skip, int64_t* counter_new, CudaStream stream);
template <class T>
void update_loss_scale(const LossScaleConfig& config, const T* scale, const int64_t* clean, const int64_t* skipped,
                       const int64_t* nonfinite, T* scale_new, int64_t* clean_new, int64_t* skipped_new,
                       CudaStream stream);

}  // namespace cuda

/// Doubles of workspace for global_norm and count_nonfinite: one for each shard.
constexpr int64_t optim_workspace() { return 64; }

/// *scale = min(1, max_norm / (norm + 1e-6)), as torch.nn.utils.clip_grad_norm_; NaN where the norm is NaN.
template <class T>
void clip_scale(const T* norm, T max_norm, T* scale);

/// 1 - beta^t, t >= 0, by repeated squaring in f64, so that every backend gets the same bits.
RANVIER_HD inline double bias_correction(double beta, int64_t t) {
  double power = 1.0;
  for (double square = beta; t > 0; t >>= 1, square = product(square, square)) {
    if (t & 1) power = product(power, square);
  }
  return 1.0 - power;
}

}  // namespace ranvier::kernels
