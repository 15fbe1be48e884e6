// Coupled channels: many rows of few units, whose matrix is at hand. Their field, and penalties on the loss.
#pragma once
#include <cstddef>
#include <cstdint>

#include "kernels/common/stream.h"

namespace ranvier::kernels {

/// y = x + x a or, as a gate, y = x (1 + tanh(x a)); x and y (rows, channels), a (channels, channels).
struct ChannelDims {
  int64_t rows = 0, channels = 0;
  bool gate = false;
};

/// Penalties of x (rows, channels) with weights k (channels, channels). z is x less its mean, times 1 / sqrt(variance +
/// eps), per channel over the rows; R is z^T z / rows, S the same of z^2.
///   products  1/2 sum_ij k_ij R_ij        squared_products  1/2 sum_ij k_ij R_ij^2
///   products_of_squares  1/2 sum_ij k_ij S_ij
struct ChannelPenalty {
  enum Kind : int64_t { products, squared_products, products_of_squares };
  int64_t kind = products;
  double eps = 1e-5;
  bool operator==(const ChannelPenalty&) const = default;
};

namespace cpu {
template <class T>
size_t channel_penalty_workspace(int64_t rows, int64_t channels, const ChannelPenalty& penalty);
/// The penalty and its gradient in x, `slope` (rows, channels). One product of rows x channels x channels, and half a
/// one for squared products; x is read four times (three for squared products) and z stored nowhere. Bit-equal for any
/// number of threads.
template <class T>
void channel_penalty(int64_t rows, int64_t channels, const ChannelPenalty& penalty, const T* x, const T* k, T* value,
                     T* slope, void* workspace);
}  // namespace cpu

#if defined(RANVIER_HAS_CUDA)
namespace cuda {
/// Whether there is a kernel for that many channels: up to 256, a multiple of 8.
bool has_channel_field(const ChannelDims& dims);
/// One pass over x, products on tensor cores, sums in f32, one rounding a result. T is bf16 or f16; x and y are aligned
/// to 16 bytes.
template <class T>
void channel_field(const ChannelDims& dims, const T* x, const T* a, T* y, CudaStream stream);

/// The penalty and its gradient for as many channels; T is bf16. Products of 16-bit operands on tensor cores, sums in
/// f32 or f64, one rounding of the gradient. x and slope are aligned to 16 bytes, the workspace to 64.
template <class T>
size_t channel_penalty_workspace(int64_t rows, int64_t channels, const ChannelPenalty& penalty);
template <class T>
void channel_penalty(int64_t rows, int64_t channels, const ChannelPenalty& penalty, const T* x, const float* k,
                     float* value, T* slope, void* workspace, CudaStream stream);
}  // namespace cuda
#endif

}  // namespace ranvier::kernels
