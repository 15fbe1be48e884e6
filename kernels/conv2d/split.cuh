// How the reduction of the filter's gradient is cut in splits, and how their sums are added: by shapes only, in order.
#pragma once
#include "kernels/common/half.h"
#include "kernels/common/launch.h"
#include "kernels/common/stream.h"
#include "kernels/conv2d/geometry.cuh"

namespace ranvier::kernels::conv {

/// Two blocks on each of 132 SMs run at once: the splits of all tiles are made to be about so many blocks. A constant:
/// results must not depend on the device.
constexpr int resident_blocks = 264;

/// The pixels of y are cut in units of `unit` pixels of consecutive images' or rows'. A positional plan has one group
/// of units a filter tap (the pixels where that tap lies inside the image), other plans have one group in all. `budget`
/// splits are shared out among the groups by their numbers of units; `fixed` above 0 says their number instead.
struct SplitPlan {
  int positional = 0, unit = 1, budget = 1, fixed = 0;

  RANVIER_HD_INLINE int groups(const Geometry& g) const { return positional ? g.r * g.s : 1; }
  RANVIER_HD_INLINE int64_t units(const Geometry& g, int group) const {
    if (!positional) return (int64_t{g.n} * g.p * g.q + unit - 1) / unit;
    const Taps p = outputs_of(g.p, g.stride_h, g.pad_h, group / g.s, g.h);
    const Taps q = outputs_of(g.q, g.stride_w, g.pad_w, group % g.s, g.w);
    return int64_t{p.end - p.begin} * (q.end - q.begin) * ((g.n + unit - 1) / unit);
  }
  /// At least 8 units a split, so that a block multiplies longer than it stores.
  RANVIER_HD_INLINE int splits(const Geometry& g, int group) const {
    if (fixed > 0) return fixed;
    int64_t all = 0;
    for (int i = 0; i < groups(g); ++i) all += units(g, i);
    const int64_t own = units(g, group), most = own / 8;
    int64_t share = all > 0 ? budget * own / all : 1;
    share = share < most ? share : most;
    return share > 1 ? static_cast<int>(share) : 1;
  }
  RANVIER_HD_INLINE int all_splits(const Geometry& g) const {
    int sum = 0;
    for (int i = 0; i < groups(g); ++i) sum += splits(g, i);
    return sum;
  }
  RANVIER_HD_INLINE int most_splits(const Geometry& g) const {
    int most = 0;
    for (int i = 0; i < groups(g); ++i) most = splits(g, i) > most ? splits(g, i) : most;
    return most;
  }
  /// Group and split number `flat` of all.
  struct Place {
    int group, split;
  };
  RANVIER_HD_INLINE Place find(const Geometry& g, int flat) const {
    int group = 0;
    for (int here = splits(g, 0); flat >= here; here = splits(g, group)) flat -= here, ++group;
    return {group, flat};
  }

  /// The outputs of one axis whose tap `r` lies inside the source.
  RANVIER_HD_INLINE static Taps outputs_of(int count, int stride, int pad, int r, int source) {
    int begin = pad > r ? (pad - r + stride - 1) / stride : 0;
    int end = source + pad - r > 0 ? (source + pad - r - 1) / stride + 1 : 0;
    begin = begin < count ? begin : count;
    end = end < count ? end : count;
    return {begin, end > begin ? end : begin};
  }
};

/// out[i] = the sum over splits z of sums[z][i], (K, R, S, C), rounded once. The block's `lanes` rows of threads add
/// z = lane, lane + lanes, ..., then the first row adds the lanes in order.
template <class T, int lanes>
__global__ void __launch_bounds__(256) add_splits_kernel(Geometry g, SplitPlan plan, const float* sums, T* out) {
  constexpr int columns = 256 / lanes;
  RANVIER_SHARED(float, parts, [lanes][columns]);
  const int64_t size = int64_t{g.k} * g.r * g.s * g.c;
  const int column = static_cast<int>(threadIdx.x) % columns, lane = static_cast<int>(threadIdx.x) / columns;
  const int64_t i = int64_t{blockIdx.x} * columns + column;
  float sum = 0;
  if (i < size) {
    const int splits = plan.splits(g, plan.positional ? static_cast<int>(i / g.c % (g.r * g.s)) : 0);
#pragma unroll 4
    for (int z = lane; z < splits; z += lanes) sum += sums[z * size + i];
  }
  parts[lane][column] = sum;
  __syncthreads();
  if (lane > 0 || i >= size) return;
  for (int other = 1; other < lanes; ++other) sum += parts[other][column];
  out[i] = narrow<T>(sum);
}

/// Few splits of many elements or many splits of few elements: enough threads either way.
template <class T>
void add_splits(const Geometry& g, const SplitPlan& plan, const float* sums, T* out, CudaStream stream) {
  const int64_t size = int64_t{g.k} * g.r * g.s * g.c;
  const auto grid = [&](int64_t columns) { return dim3(static_cast<unsigned>((size + columns - 1) / columns)); };
  if (plan.most_splits(g) <= 16)
    launch(add_splits_kernel<T, 1>, {grid(256), 256, 0, stream}, g, plan, sums, out);
  else
    launch(add_splits_kernel<T, 16>, {grid(16), 256, 0, stream}, g, plan, sums, out);
}

}  // namespace ranvier::kernels::conv
