// Convolution on a CUDA device: the choice of kernel by shape, and the entry points.
#include <algorithm>
#include <stdexcept>

#include "kernels/conv2d/cuda_plan.h"
#include "kernels/conv2d/few_channels.h"
#include "kernels/conv2d/split.cuh"

namespace ranvier::kernels {
namespace conv {
namespace {

constexpr int64_t index_limit = int64_t{1} << 31;

int64_t cover(int64_t n, int64_t tile) { return (n + tile - 1) / tile; }

/// Channels in chunks of 16 bytes and tap masks of 16 bits: what copies by chunk need.
bool in_chunks(const Conv2dDims& d, size_t element) {
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

namespace {

int64_t columns_of(const Conv2dDims& d, ConvPass pass) {
  return pass == ConvPass::forward ? d.k : pass == ConvPass::dgrad ? d.c : d.r * d.s * d.c;
}

/// Pairs of an output row and a tap that meet inside the image, along one axis.
int64_t meetings(int64_t count, int64_t in, int64_t filter, int64_t stride, int64_t pad) {
  int64_t sum = 0;
  for (int64_t r = 0; r < filter; ++r) {
    const Taps outputs = SplitPlan::outputs_of(static_cast<int>(count), static_cast<int>(stride), static_cast<int>(pad),
                                               static_cast<int>(r), static_cast<int>(in));
    sum += outputs.end - outputs.begin;
  }
  return sum;
}

/// Multiprocessors of an H100: a constant, like `resident_blocks`.
constexpr int64_t multiprocessors = resident_blocks / 2;

/// True where `n` fills tiles of 256 nearly.
bool fills_256(int64_t n) { return cover(n, 256) * 256 <= n * 9 / 8; }

/// The tile of a family: as large as the result fills and as still makes blocks enough, 256 x 128 at most.
Plan tiled(const Conv2dDims& d, ConvPass pass, size_t element, ConvKernel family) {
  Plan plan{};
  plan.family = family;
  plan.scalar = !in_chunks(d, element);
  plan.bm = 128, plan.bn = 64;
  plan.unit = static_cast<int>(64 / element);
  const bool positional = family == ConvKernel::positional;
  const int64_t columns = columns_of(d, pass);
  if (element == 2 && !plan.scalar && pass == ConvPass::wgrad) {
    if (d.k <= 64) plan.bm = 64;
    if (!positional || (plan.bm == 128 && d.c % 128 == 0)) plan.bn = 128;
    if (!positional && fills_256(d.k)) plan.bm = 256;
  } else if (element == 2 && !plan.scalar) {
    const bool forward = pass == ConvPass::forward;
    const int64_t pixels = forward ? d.p() * d.q() : d.h * d.w;
    const int64_t row_tiles = positional ? cover(d.n, 128) * pixels : cover(d.n * pixels, 128);
    if (positional && fills_256(columns) && row_tiles * cover(columns, 256) >= 3 * multiprocessors)
      plan.bn = 256;
    else if (columns > 64 && row_tiles * cover(columns, 128) >= resident_blocks)
      plan.bn = 128;
    else if (columns <= 64 && positional && cover(d.n, 256) * 256 <= cover(d.n, 128) * 128 * 17 / 16 &&
             row_tiles >= 4 * resident_blocks)
      plan.bm = 256;
  }
  // maps that the second-level cache holds in any order
  constexpr double cached = 32 << 20;
  plan.pixels_outside = static_cast<double>(element) * static_cast<double>(d.x_size() + d.y_size()) <= cached;
  const int64_t tiles = cover(d.k, plan.bm) * cover(positional ? d.c : columns, plan.bn);
  const int64_t resident = plan.bm * plan.bn > 128 * 128 ? multiprocessors : resident_blocks;
  plan.budget = static_cast<int>(std::max<int64_t>(1, resident / tiles));
  return plan;
}

bool positional_supports(const Conv2dDims& d, ConvPass pass, size_t element) {
  return element == 2 && in_chunks(d, element) && (pass != ConvPass::wgrad || d.c % 64 == 0);
}

}  // namespace

double executed(const Conv2dDims& d, ConvPass pass, const Plan& plan) {
  const auto whole = [](int64_t n, int64_t tile) { return static_cast<double>(cover(n, tile) * tile); };
  const auto met = static_cast<double>(meetings(d.p(), d.h, d.r, d.stride_h, d.pad_h) *
                                       meetings(d.q(), d.w, d.s, d.stride_w, d.pad_w));
  const bool positional = plan.family == ConvKernel::positional;
  const auto taps = static_cast<double>(d.r * d.s);
  if (plan.family == ConvKernel::few_channels) return d.flops() / 2;
  if (pass == ConvPass::wgrad) {
    if (positional) return whole(d.k, plan.bm) * whole(d.c, plan.bn) * whole(d.n, plan.unit) * met;
    return whole(d.k, plan.bm) * whole(columns_of(d, pass), plan.bn) * whole(d.n * d.p() * d.q(), plan.unit);
  }
  const double columns = whole(columns_of(d, pass), plan.bn);
  const auto channels = static_cast<double>(pass == ConvPass::forward ? d.c : d.k);
  if (positional) return whole(d.n, plan.bm) * columns * channels * met;
  if (pass == ConvPass::forward) return whole(d.n * d.p() * d.q(), plan.bm) * columns * channels * taps;
  if (plan.scalar) return whole(d.n * d.h * d.w, plan.bm) * columns * channels * taps;
  double sum = 0;  // by classes of pixels
  for (int64_t i = 0; i < d.stride_h; ++i)
    for (int64_t j = 0; j < d.stride_w; ++j) {
      const auto axis = [](int64_t in, int64_t out, int64_t filter, int64_t stride, int64_t pad, int64_t remainder) {
        const auto n = [](int64_t v) { return static_cast<int>(v); };
        return axis_of<ConvPass::dgrad>(n(in), n(out), n(filter), n(stride), n(pad), n(remainder));
      };
      const Axis h = axis(d.h, d.p(), d.r, d.stride_h, d.pad_h, i), w = axis(d.w, d.q(), d.s, d.stride_w, d.pad_w, j);
      sum += whole(d.n * h.count * w.count, plan.bm) * h.taps * w.taps;
    }
  return sum * columns * channels;
}

Plan plan_of(const Conv2dDims& d, ConvPass pass, size_t element, ConvKernel kernel) {
  if (kernel == ConvKernel::few_channels) return {.family = kernel};
  if (kernel != ConvKernel::best) return tiled(d, pass, element, kernel);
  if (few_channels_supports(d, pass)) return {.family = ConvKernel::few_channels};
  const Plan gather = tiled(d, pass, element, ConvKernel::gather);
  if (!positional_supports(d, pass, element)) return gather;
  const Plan positional = tiled(d, pass, element, ConvKernel::positional);
  // Measured on an H100 over speednet's layers: positional forward and dgrad are faster at equal work (conv2 by 1.35x),
  // positional wgrad is slower even where padding leaves it 0.6 of the work (0.115 ms against 0.079).
  const double worth = pass == ConvPass::wgrad ? 0.5 : 1.1;
  return executed(d, pass, positional) < worth * executed(d, pass, gather) ? positional : gather;
}

}  // namespace conv

bool conv2d_cuda_supports(const Conv2dDims& d, ConvPass pass, size_t element, ConvKernel kernel) {
  if (!conv::within_limits(d, element)) return false;
  switch (kernel) {
    case ConvKernel::tf32:
      return element == 4;
    case ConvKernel::positional:
      return conv::positional_supports(d, pass, element);
    case ConvKernel::few_channels:
      return conv::few_channels_supports(d, pass);
    default:
      return true;
  }
}

double conv2d_cuda_flops(const Conv2dDims& d, ConvPass pass, size_t element, ConvKernel kernel) {
  return 2 * conv::executed(d, pass, conv::plan_of(d, pass, element, kernel));
}

size_t conv2d_cuda_workspace(const Conv2dDims& d, ConvPass pass, size_t element, ConvKernel kernel) {
  if (pass != ConvPass::wgrad) return 0;
  const conv::Plan plan = conv::plan_of(d, pass, element, kernel);
  const conv::SplitPlan split{plan.family == ConvKernel::positional, plan.unit, plan.budget};
  const int64_t splits =
      plan.family == ConvKernel::few_channels ? conv::few_channels_splits(d) : split.most_splits(conv::geometry_of(d));
  return static_cast<size_t>(splits * d.filter_size()) * sizeof(float);
}

template <class T>
void conv2d_cuda(const Conv2dDims& d, ConvPass pass, ConvKernel kernel, const T* a, const T* b, T* out, void* workspace,
                 CudaStream stream) {
  const conv::Plan plan = conv::plan_of(d, pass, sizeof(T), kernel);
  const bool few = plan.family == ConvKernel::few_channels;
  float* const sums = static_cast<float*>(workspace);
  if (pass == ConvPass::forward)
    return few ? conv::few_channels_forward<T>(d, a, b, out, stream) : conv::run_forward<T>(plan, d, a, b, out, stream);
  if (pass == ConvPass::dgrad) return conv::run_dgrad<T>(plan, d, a, b, out, stream);
  return few ? conv::few_channels_wgrad<T>(d, a, b, out, sums, stream)
             : conv::run_wgrad<T>(plan, d, a, b, out, sums, stream);
}

template void conv2d_cuda(const Conv2dDims&, ConvPass, ConvKernel, const float*, const float*, float*, void*,
                          CudaStream);
template void conv2d_cuda(const Conv2dDims&, ConvPass, ConvKernel, const bf16*, const bf16*, bf16*, void*, CudaStream);
template void conv2d_cuda(const Conv2dDims&, ConvPass, ConvKernel, const f16*, const f16*, f16*, void*, CudaStream);

}  // namespace ranvier::kernels
