// Convolution on a CUDA device: the choice of kernel by shape, and the entry points.
#include <algorithm>
#include <stdexcept>

#include "kernels/conv2d/cuda_plan.h"
#include "kernels/conv2d/split.cuh"

namespace ranvier::kernels {
namespace conv {
namespace {

constexpr int64_t index_limit = int64_t{1} << 31;

int64_t cover(int64_t n, int64_t tile) { return (n + tile - 1) / tile; }

/// Channels in chunks of 16 bytes and tap masks of 16 bits: what copies by chunk need.
bool in_chunks(const Conv2dDims& d, ConvPass, size_t element) {
  const auto e = static_cast<int64_t>(16 / element);
  return d.c % e == 0 && d.k % e == 0 && d.r <= 16 && d.s <= 16;
}

/// Pixels, and elements or chunks of a tensor, are counted in 32 bits; 256 more images are a tile's last rows.
bool within_limits(const Conv2dDims& d, size_t element) {
  const auto e = static_cast<int64_t>(16 / element);
  const auto chunks = [&](int64_t pixels, int64_t channels) {
    return static_cast<double>(d.n + 256) * static_cast<double>(pixels) * static_cast<double>(cover(channels, e));
  };
  const double largest = std::max({chunks(d.h * d.w, d.c), chunks(d.p() * d.q(), d.k),
                                   static_cast<double>(d.filter_size()) / static_cast<double>(e),
                                   static_cast<double>(d.r * d.s * std::max(d.c, d.k))});
  return largest < static_cast<double>(index_limit) &&
         static_cast<double>(d.n) * static_cast<double>(d.p() * d.q() + d.h * d.w) < 1e9 &&
         std::max(d.pad_h, d.pad_w) < index_limit / 4 && std::max(d.stride_h, d.stride_w) <= 255;
}

}  // namespace

Plan plan_of(const Conv2dDims& d, ConvPass pass, size_t element, ConvKernel kernel) {
  const bool half = element == 2;
  Plan plan{};
  plan.scalar = !in_chunks(d, pass, element);
  plan.family = kernel == ConvKernel::best ? ConvKernel::gather : kernel;
  plan.bm = 128, plan.bn = 64;
  const int64_t columns = pass == ConvPass::forward ? d.k : pass == ConvPass::dgrad ? d.c : d.r * d.s * d.c;
  if (half && !plan.scalar) {
    if (pass == ConvPass::wgrad) {
      plan.bn = 128;
      if (d.k <= 64) plan.bm = 64;
    } else if (columns > 64) {
      plan.bn = 128;
    }
  }
  plan.unit = static_cast<int>(64 / element);
  const int64_t tiles = cover(d.k, plan.bm) * cover(columns, plan.bn);
  plan.budget = static_cast<int>(std::max<int64_t>(1, resident_blocks / tiles));
  return plan;
}

}  // namespace conv

bool conv2d_cuda_supports(const Conv2dDims& d, ConvPass, size_t element, ConvKernel kernel) {
  if (!conv::within_limits(d, element)) return false;
  switch (kernel) {
    case ConvKernel::tf32:
      return element == 4;
    case ConvKernel::positional:
      return false;
    default:
      return true;
  }
}

size_t conv2d_cuda_workspace(const Conv2dDims& d, ConvPass pass, size_t element, ConvKernel kernel) {
  if (pass != ConvPass::wgrad) return 0;
  const conv::Plan plan = conv::plan_of(d, pass, element, kernel);
  const conv::SplitPlan split{plan.family == ConvKernel::positional, plan.unit, plan.budget};
  return static_cast<size_t>(split.most_splits(conv::geometry_of(d)) * d.filter_size()) * sizeof(float);
}

template <class T>
void conv2d_cuda(const Conv2dDims& d, ConvPass pass, ConvKernel kernel, const T* a, const T* b, T* out,
                 void* workspace, CudaStream stream) {
  const conv::Plan plan = conv::plan_of(d, pass, sizeof(T), kernel);
  if (pass == ConvPass::forward)
    conv::run_forward<T>(plan, d, a, b, out, stream);
  else if (pass == ConvPass::dgrad)
    conv::run_dgrad<T>(plan, d, a, b, out, stream);
  else
    conv::run_wgrad<T>(plan, d, a, b, out, static_cast<float*>(workspace), stream);
}

template void conv2d_cuda(const Conv2dDims&, ConvPass, ConvKernel, const float*, const float*, float*, void*, CudaStream);
template void conv2d_cuda(const Conv2dDims&, ConvPass, ConvKernel, const bf16*, const bf16*, bf16*, void*, CudaStream);
template void conv2d_cuda(const Conv2dDims&, ConvPass, ConvKernel, const f16*, const f16*, f16*, void*, CudaStream);

}  // namespace ranvier::kernels
