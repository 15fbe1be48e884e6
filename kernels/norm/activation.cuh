// Activations and their derivatives in f32, for the CUDA passes that fuse them with normalisation.
#pragma once
#include <type_traits>

#include "kernels/common/half.h"
#include "kernels/norm/gelu.h"
#include "kernels/norm/norm.h"

namespace ranvier::kernels::norm_cuda {

/// 1 / (1 + e^-x) with the device's fast exponential and reciprocal: a relative error of some 1e-6.
__device__ __forceinline__ float sigmoid(float x) { return __fdividef(1.0f, 1.0f + __expf(-x)); }

/// The activation of v, whose result will be stored as a T.
template <Activation A, class T>
__device__ __forceinline__ float activate(float v) {
  if constexpr (A == Activation::relu) return v < 0.0f ? 0.0f : v;  // NaN passes
  if constexpr (A == Activation::gelu && sizeof(T) == 2)
    return v * (norm_detail::evaluate(norm_detail::short_normal_cdf_fit(), v) + 0.5f);
  if constexpr (A == Activation::gelu) return v * (norm_detail::evaluate(norm_detail::normal_cdf_fit(), v) + 0.5f);
  if constexpr (A == Activation::silu) return v * sigmoid(v);
  return v;
}

/// Derivative of the activation at v times `dy`; relu has slope 0 at 0.
template <Activation A, class T>
__device__ __forceinline__ float activation_gradient(float v, float dy) {
  if constexpr (A == Activation::relu) return v <= 0.0f ? 0.0f : dy;
  if constexpr (A == Activation::gelu && sizeof(T) == 2)
    return dy * (norm_detail::evaluate(norm_detail::short_gelu_slope_fit(), v) + 0.5f);
  if constexpr (A == Activation::gelu) return dy * (norm_detail::evaluate(norm_detail::gelu_slope_fit(), v) + 0.5f);
  if constexpr (A == Activation::silu) {
    const float s = sigmoid(v);
    return dy * (s * (1.0f + v * (1.0f - s)));
  }
  return dy;
}

/// Calls `body` with the activation as a compile-time constant: one uniform branch for as many elements as `body`
/// handles, instead of a kernel for each.
template <class Body>
__device__ __forceinline__ void with_activation(Activation act, Body&& body) {
  switch (act) {
    case Activation::none:
      return body(std::integral_constant<Activation, Activation::none>{});
    case Activation::relu:
      return body(std::integral_constant<Activation, Activation::relu>{});
    case Activation::gelu:
      return body(std::integral_constant<Activation, Activation::gelu>{});
    case Activation::silu:
      return body(std::integral_constant<Activation, Activation::silu>{});
  }
}

}  // namespace ranvier::kernels::norm_cuda
