// Softmax cross-entropy with label smoothing, its gradient, and top-1 hits, one value per sample.
#pragma once
#include <cstdint>

#include "kernels/common/stream.h"

namespace ranvier::kernels {

/// logits are (n, classes), labels (n).
struct LossDims {
  int64_t n = 0, classes = 0;
  double smoothing = 0;  // target = (1 - smoothing) onehot + smoothing / classes, as torch.nn.functional.cross_entropy
};

// Rows from `*valid` on (a device scalar, null for all) are padding: loss, probabilities, gradient and hit are 0.
// A label outside [0, classes) makes the loss and the gradient of its row NaN and its hit 0; nothing is read out of
// bounds.

namespace reference {
/// loss[i] = -sum_k target_k log softmax(logits[i])_k; probabilities (n, classes) = softmax, which the gradient needs.
template <class T>
void softmax_cross_entropy(const LossDims& dims, const T* logits, const int32_t* labels, const int32_t* valid, T* loss,
                           T* probabilities);
/// dlogits[i] = (softmax - target) dloss[i].
template <class T>
void softmax_cross_entropy_gradient(const LossDims& dims, const T* probabilities, const int32_t* labels,
                                    const int32_t* valid, const T* dloss, T* dlogits);
/// hit[i] = 1 where the label has the greatest logit (the first among equals), else 0; a row with a NaN is no hit.
template <class T>
void correct(const LossDims& dims, const T* logits, const int32_t* labels, const int32_t* valid, T* hit);
}  // namespace reference

namespace cpu {
void softmax_cross_entropy(const LossDims& dims, const float* logits, const int32_t* labels, const int32_t* valid,
                           float* loss, float* probabilities);
void softmax_cross_entropy_gradient(const LossDims& dims, const float* probabilities, const int32_t* labels,
                                    const int32_t* valid, const float* dloss, float* dlogits);
void correct(const LossDims& dims, const float* logits, const int32_t* labels, const int32_t* valid, float* hit);
}  // namespace cpu

/// The same on a CUDA device, f32 and f64, with sums in another, equally fixed order.
namespace cuda {
template <class T>
void softmax_cross_entropy(const LossDims& dims, const T* logits, const int32_t* labels, const int32_t* valid, T* loss,
                           T* probabilities, CudaStream stream);
template <class T>
void softmax_cross_entropy_gradient(const LossDims& dims, const T* probabilities, const int32_t* labels,
                                    const int32_t* valid, const T* dloss, T* dlogits, CudaStream stream);
template <class T>
void correct(const LossDims& dims, const T* logits, const int32_t* labels, const int32_t* valid, T* hit,
             CudaStream stream);
}  // namespace cuda

}  // namespace ranvier::kernels
