// What feeds a training step that stays on its device: the next window of an order of images, and a ring of results.
#pragma once
#include <cstddef>
#include <cstdint>

#include "kernels/common/hd.h"
#include "kernels/common/stream.h"

namespace ranvier::kernels {

// Counters are read where they live, so that a captured step goes on by itself.

/// a mod n in 0 ... n - 1, n >= 1.
RANVIER_HD_INLINE int64_t wrapped(int64_t a, int64_t n) {
  const int64_t rest = a % n;
  return rest < 0 ? rest + n : rest;
}

namespace reference {

/// window[i] = order[(counter mod (n / batch)) * batch + i], i < batch <= n: whole batches one after the other and
/// round again; a last partial one is never seen. I: int32_t or int64_t.
template <class I>
void batch_window(int64_t n, int64_t batch, const I* order, const int64_t* counter, int64_t* window);

/// out = ring (size rows of `row` bytes, size >= 1) with row `counter mod size` replaced by `value`. out may be ring.
void ring_write(int64_t size, size_t row, const void* ring, const void* value, const int64_t* counter, void* out);

}  // namespace reference

/// The same on a CUDA device.
namespace cuda {

template <class I>
void batch_window(int64_t n, int64_t batch, const I* order, const int64_t* counter, int64_t* window, CudaStream stream);
void ring_write(int64_t size, size_t row, const void* ring, const void* value, const int64_t* counter, void* out,
                CudaStream stream);

}  // namespace cuda
}  // namespace ranvier::kernels
