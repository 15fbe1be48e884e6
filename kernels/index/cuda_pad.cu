// Zero and reflect padding on a CUDA device, and the adjoint of the latter.
#include <algorithm>

#include "kernels/common/divide.h"
#include "kernels/common/launch.h"
#include "kernels/common/pack.h"
#include "kernels/index/index.h"

namespace ranvier::kernels {
namespace {

constexpr int threads = 256;

/// Where the elements of a padded array come from, axis by axis: position p of it is position (p - begin) / step of the
/// source, where there is one. Positions on the last axis count packs.
template <class Index>
struct PadPlan {
  using Signed = std::make_signed_t<Index>;
  int rank;
  Index packs;
  Divider<Index> extent[max_rank];
  Signed begin[max_rank], step[max_rank], source[max_rank], stride[max_rank];
};

/// The source's position for position p; false where it has none, so that there is a zero.
template <class Index>
__device__ bool zero_padded(const PadPlan<Index>& plan, int axis, std::make_signed_t<Index>& p) {
  p -= plan.begin[axis];
  if (plan.step[axis] != 1) {
    const auto quotient = p / plan.step[axis];
    if (quotient * plan.step[axis] != p) return false;
    p = quotient;
  }
  return p >= 0 && p < plan.source[axis];
}

template <class Index>
__device__ void mirrored(const PadPlan<Index>& plan, int axis, std::make_signed_t<Index>& p) {
  const auto last = plan.source[axis] - 1;
  p -= plan.begin[axis];
  if (p < 0) p = -p;
  if (p > last) p = 2 * last - p;
}

template <class Word, class Index, int size, bool mirror>
__global__ void pad_kernel(PadPlan<Index> plan, const Word* x, Word* y) {
  const Index step = static_cast<Index>(gridDim.x) * blockDim.x;
  for (Index i = static_cast<Index>(blockIdx.x) * blockDim.x + threadIdx.x; i < plan.packs; i += step) {
    std::make_signed_t<Index> offset = 0;
    Index rest = i;
    bool inside = true;
#pragma unroll
    for (int axis = max_rank - 1; axis >= 0; --axis) {
      if (axis >= plan.rank) continue;
      const Index quotient = plan.extent[axis].quotient(rest);
      auto p = static_cast<std::make_signed_t<Index>>(plan.extent[axis].remainder(rest, quotient));
      rest = quotient;
      if constexpr (mirror)
        mirrored(plan, axis, p);
      else
        inside &= zero_padded(plan, axis, p);
      offset += inside ? p * plan.stride[axis] : 0;
    }
    Pack<Word, size> out{};
    if (inside) out = load_pack<size>(x + static_cast<int64_t>(offset) * size);
    store_pack(y + static_cast<int64_t>(i) * size, out);
  }
}

/// One axis of a padding.
struct PadAxis {
  int64_t padded, source, begin, step;
  bool whole() const { return padded == source && begin == 0 && step == 1; }
};

/// A padding with axes merged that move as one. `mirror` keeps apart what mirrors by itself.
struct PadAxes {
  int rank = 0;
  PadAxis axis[max_rank] = {};

  void add(const PadAxis& next, bool mirror) {
    PadAxis* last = rank > 0 ? &axis[rank - 1] : nullptr;
    if (last && next.whole() && (mirror ? last->whole() : last->step == 1))
      *last = {last->padded * next.padded, last->source * next.source, last->begin * next.padded, 1};
    else
      axis[rank++] = next;
  }
  int64_t padded() const {
    int64_t n = 1;
    for (int k = 0; k < rank; ++k) n *= axis[k].padded;
    return n;
  }
};

template <class Word, class Index, int size, bool mirror>
void launch_pad(const PadAxes& axes, const void* x, void* y, CudaStream stream) {
  using Signed = std::make_signed_t<Index>;
  PadPlan<Index> plan{};
  plan.rank = axes.rank;
  int64_t stride = 1, packs = 1;
  for (int k = axes.rank - 1; k >= 0; --k) {
    const int64_t unit = k == axes.rank - 1 ? size : 1;
    const PadAxis& axis = axes.axis[k];
    plan.extent[k] = Divider<Index>(static_cast<uint64_t>(axis.padded / unit));
    plan.begin[k] = static_cast<Signed>(axis.begin / unit), plan.step[k] = static_cast<Signed>(axis.step);
    plan.source[k] = static_cast<Signed>(axis.source / unit), plan.stride[k] = static_cast<Signed>(stride);
    stride *= axis.source / unit, packs *= axis.padded / unit;
  }
  plan.packs = static_cast<Index>(packs);
  launch(pad_kernel<Word, Index, size, mirror>, {blocks_for(packs, threads), threads, 0, stream}, plan,
         static_cast<const Word*>(x), static_cast<Word*>(y));
}

template <class Word, bool mirror>
void pad_as(const PadAxes& axes, const void* x, void* y, CudaStream stream, int64_t narrow) {
  constexpr int64_t size = pack_size<Word>;
  const PadAxis last = axes.rank ? axes.axis[axes.rank - 1] : PadAxis{1, 1, 0, 1};
  const bool packs = last.padded % size == 0 && last.source % size == 0 && last.begin % size == 0 && last.step == 1 &&
                     (!mirror || last.whole());
  if (axes.padded() > narrow) return launch_pad<Word, uint64_t, 1, mirror>(axes, x, y, stream);
  if (packs) return launch_pad<Word, uint32_t, pack_size<Word>, mirror>(axes, x, y, stream);
  return launch_pad<Word, uint32_t, 1, mirror>(axes, x, y, stream);
}

template <bool mirror>
void pad(const PadAxes& axes, size_t element, const void* x, void* y, CudaStream stream, int64_t narrow) {
  if (axes.padded() == 0) return;
  switch (element) {
    case 1:
      return pad_as<uint8_t, mirror>(axes, x, y, stream, narrow);
    case 2:
      return pad_as<uint16_t, mirror>(axes, x, y, stream, narrow);
    case 4:
      return pad_as<uint32_t, mirror>(axes, x, y, stream, narrow);
    default:
      return pad_as<uint64_t, mirror>(axes, x, y, stream, narrow);
  }
}

/// A reflect padding of exactly six axes.
struct MirrorPlan {
  int64_t small[max_rank], large[max_rank], before[max_rank], n;
};

/// Adds to `sum`, in the order of dy, what mirrors to position `at` along this axis and those behind it; `base` is the
/// place in dy along the axes before.
template <int axis, class T>
__device__ void add_mirrored(const MirrorPlan& plan, const int64_t (&at)[max_rank], int64_t base, const T* dy,
                             compute_t<T>& sum) {
  if constexpr (axis == max_rank) {
    sum += widen(dy[base]);
  } else {
    const int64_t i = at[axis], last = plan.small[axis] - 1, front = plan.before[axis], size = plan.large[axis];
#pragma unroll 1
    for (int which = 0; which < 3; ++which) {
      const int64_t from = which == 0 ? front - i : which == 1 ? front + i : front + 2 * last - i;
      const bool mirrors = which == 0 ? i > 0 && i <= front : which == 1 || (i < last && from < size);
      if (mirrors) add_mirrored<axis + 1>(plan, at, base * size + from, dy, sum);
    }
  }
}

template <class T>
__global__ void mirror_adjoint_kernel(MirrorPlan plan, const T* dy, T* dx) {
  const int64_t step = int64_t{gridDim.x} * blockDim.x;
  for (int64_t i = int64_t{blockIdx.x} * blockDim.x + threadIdx.x; i < plan.n; i += step) {
    int64_t at[max_rank], rest = i;
#pragma unroll
    for (int axis = max_rank - 1; axis >= 0; --axis) {
      at[axis] = rest % plan.small[axis];
      rest /= plan.small[axis];
    }
    compute_t<T> sum = 0;
    add_mirrored<0>(plan, at, 0, dy, sum);
    dx[i] = narrow<T>(sum);
  }
}

}  // namespace

namespace cuda {

void unslice(const SliceDims& d, size_t element, const void* y, void* x, CudaStream stream, int64_t narrow) {
  PadAxes axes;
  for (int k = 0; k < d.x.rank; ++k) axes.add({d.x.d[k], d.y.d[k], d.begin[k], d.step[k]}, false);
  pad<false>(axes, element, y, x, stream, narrow);
}

void pad_reflect(const PadDims& d, size_t element, const void* x, void* y, CudaStream stream, int64_t narrow) {
  PadAxes axes;
  for (int k = 0; k < d.x.rank; ++k) axes.add({d.y.d[k], d.x.d[k], d.before[k], 1}, true);
  pad<true>(axes, element, x, y, stream, narrow);
}

template <class T>
void pad_reflect_adjoint(const PadDims& d, const T* dy, T* dx, CudaStream stream) {
  MirrorPlan plan;
  plan.n = d.x.count();
  for (int k = 0; k < max_rank; ++k) {
    const int axis = k - (max_rank - d.x.rank);  // missing axes stand in front, with extent 1
    plan.small[k] = axis < 0 ? 1 : d.x.d[axis];
    plan.large[k] = axis < 0 ? 1 : d.y.d[axis];
    plan.before[k] = axis < 0 ? 0 : d.before[axis];
  }
  launch(mirror_adjoint_kernel<T>, {blocks_for(plan.n, threads), threads, 0, stream}, plan, dy, dx);
}

template void pad_reflect_adjoint(const PadDims&, const float*, float*, CudaStream);
template void pad_reflect_adjoint(const PadDims&, const double*, double*, CudaStream);
template void pad_reflect_adjoint(const PadDims&, const bf16*, bf16*, CudaStream);
template void pad_reflect_adjoint(const PadDims&, const f16*, f16*, CudaStream);
template void pad_reflect_adjoint(const PadDims&, const int32_t*, int32_t*, CudaStream);
template void pad_reflect_adjoint(const PadDims&, const int64_t*, int64_t*, CudaStream);

}  // namespace cuda
}  // namespace ranvier::kernels
