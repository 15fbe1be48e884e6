// The field of coupled channels on tensor cores: x streams through shared memory once, its matrix stays in registers.
#include "kernels/coupling/channel_tile.cuh"
#include "kernels/coupling/channels.h"

namespace ranvier::kernels {
namespace channel_cuda {
namespace {

template <bool gate>
__device__ __forceinline__ float coupled(float x, float field) {
  if constexpr (!gate) return x + field;
  constexpr float binary = -2 * 1.44269504f;  // 1 + tanh f = 2 / (1 + 2^(-2 f log2 e)), without cancellation
  return 2 * x * ptx::fast_inverse(1 + ptx::fast_exp2(binary * field));
}

template <class T, int width, bool gate>
__global__ void __launch_bounds__(threads, width == 256 ? 1 : 2) field_kernel(Rows<T> f, const T* a, T* y) {
  RANVIER_DYNAMIC_SHARED(memory);
  const Place<width> place;
  const Matrix<T, width> matrix(a, f.channels, place);
  for_tiles<T, width>(f, memory, [&](int64_t first, const unsigned char* tile) {
#pragma unroll 1
    for (int half = 0; half < 2; ++half) {
      const int at = place.first_row + 16 * half;
      float sums[4][4] = {};
      matrix.multiply(tile, at, place.lane, sums);
      put_rows<T, width>(f, first, at, place, tile, sums, y,
                         [](float x, float field, int) { return coupled<gate>(x, field); });
    }
  });
}

}  // namespace
}  // namespace channel_cuda

namespace cuda {

bool has_channel_field(const ChannelDims& d) { return d.channels >= 8 && d.channels <= 256 && d.channels % 8 == 0; }

template <class T>
void channel_field(const ChannelDims& d, const T* x, const T* a, T* y, CudaStream stream) {
  using namespace channel_cuda;
  const Rows<T> rows{d.rows, static_cast<int>(d.channels), x};
  with_width(d.channels, [&](auto width) {
    launch(d.gate ? field_kernel<T, width(), true> : field_kernel<T, width(), false>,
           {grid_of(blocks_of<width()>(d.rows)), threads, stages * tile_bytes, stream}, rows, a, y);
  });
}

template void channel_field<bf16>(const ChannelDims&, const bf16*, const bf16*, bf16*, CudaStream);
template void channel_field<f16>(const ChannelDims&, const f16*, const f16*, f16*, CudaStream);

}  // namespace cuda
}  // namespace ranvier::kernels
