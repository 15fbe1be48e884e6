// The field of coupled channels: many rows of few units, whose matrix is at hand.
#pragma once
#include <cstdint>

#include "kernels/common/stream.h"

namespace ranvier::kernels {

/// y = x + x a or, as a gate, y = x (1 + tanh(x a)); x and y (rows, channels), a (channels, channels).
struct ChannelDims {
  int64_t rows = 0, channels = 0;
  bool gate = false;
};

#if defined(RANVIER_HAS_CUDA)
namespace cuda {
/// Whether there is a kernel for that many channels: up to 256, a multiple of 8.
bool has_channel_field(const ChannelDims& dims);
/// One pass over x, products on tensor cores, sums in f32, one rounding a result. T is bf16 or f16; x and y are aligned
/// to 16 bytes.
template <class T>
void channel_field(const ChannelDims& dims, const T* x, const T* a, T* y, CudaStream stream);
}  // namespace cuda
#endif

}  // namespace ranvier::kernels
