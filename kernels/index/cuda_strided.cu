// Reads at strides on a CUDA device: slices, broadcasts, and transposes through tiles in shared memory.
#include <algorithm>

#include "kernels/common/launch.h"
#include "kernels/common/pack.h"
#include "kernels/index/index.h"
#include "kernels/index/strided.h"

namespace ranvier::kernels {
namespace {

constexpr int threads = 256;

/// Positions count packs of the result. Strides are added modulo the range of Index, so that they may be negative.
template <class Index>
struct StridedPlan {
  int rank;
  Index packs, base;
  Divider<Index> extent[6];
  Index stride[6];
};

/// How a pack of the result is made: from one element, from neighbours, or from one element repeated.
enum class Inner { single, contiguous, repeated };

template <class Word, class Index, Inner inner>
__global__ void strided_kernel(StridedPlan<Index> plan, const Word* x, Word* y) {
  constexpr int size = inner == Inner::single ? 1 : pack_size<Word>;
  const Index step = static_cast<Index>(gridDim.x) * blockDim.x;
  for (Index i = static_cast<Index>(blockIdx.x) * blockDim.x + threadIdx.x; i < plan.packs; i += step) {
    Index offset = plan.base, rest = i;
#pragma unroll
    for (int axis = 5; axis > 0; --axis) {
      if (axis >= plan.rank) continue;
      const Index quotient = plan.extent[axis].quotient(rest);
      offset += plan.extent[axis].remainder(rest, quotient) * plan.stride[axis];
      rest = quotient;
    }
    offset += rest * plan.stride[0];
    Pack<Word, size> out;
    if constexpr (inner == Inner::contiguous) {
      out = load_pack<size>(x + offset);
    } else {
      const Word value = x[offset];
#pragma unroll
      for (int k = 0; k < size; ++k) out.v[k] = value;
    }
    store_pack(y + static_cast<int64_t>(i) * size, out);
  }
}

/// Axes of extent 1 dropped, and neighbours merged whose strides make them one axis.
StridedDims merged(const StridedDims& dims) {
  StridedDims result{0, {1}, {0}, dims.base, dims.source, dims.bytes};
  for (int64_t axis = 0; axis < dims.rank; ++axis) {
    const int64_t extent = dims.extent[axis], stride = dims.stride[axis], last = result.rank - 1;
    if (extent == 1) continue;
    if (last >= 0 && result.stride[last] == stride * extent) {
      result.extent[last] *= extent;
      result.stride[last] = stride;
    } else {
      result.extent[result.rank] = extent;
      result.stride[result.rank++] = stride;
    }
  }
  result.rank = std::max<int64_t>(result.rank, 1);
  return result;
}

int64_t count_of(const StridedDims& dims) {
  int64_t n = 1;
  for (int64_t axis = 0; axis < dims.rank; ++axis) n *= dims.extent[axis];
  return n;
}

template <class Word, class Index, Inner inner>
void launch_strided(const StridedDims& dims, const void* x, void* y, CudaStream stream) {
  constexpr int size = inner == Inner::single ? 1 : pack_size<Word>;
  StridedPlan<Index> plan{};
  plan.rank = static_cast<int>(dims.rank);
  plan.base = static_cast<Index>(dims.base);
  for (int64_t axis = 0; axis < dims.rank; ++axis) {
    const bool last = axis + 1 == dims.rank;
    plan.extent[axis] = Divider<Index>(static_cast<uint64_t>(last ? dims.extent[axis] / size : dims.extent[axis]));
    plan.stride[axis] = static_cast<Index>(last && inner == Inner::contiguous ? size : dims.stride[axis]);
  }
  const int64_t packs = count_of(dims) / size;
  plan.packs = static_cast<Index>(packs);
  launch(strided_kernel<Word, Index, inner>, {blocks_for(packs, threads), threads, 0, stream}, plan,
         static_cast<const Word*>(x), static_cast<Word*>(y));
}

template <class Word, class Index>
void strided_as(const StridedDims& dims, const void* x, void* y, CudaStream stream) {
  constexpr int64_t size = pack_size<Word>;
  const int64_t last = dims.rank - 1;
  if (dims.extent[last] % size != 0 || dims.stride[last] < 0 || dims.stride[last] > 1)
    return launch_strided<Word, Index, Inner::single>(dims, x, y, stream);
  if (dims.stride[last] == 0) return launch_strided<Word, Index, Inner::repeated>(dims, x, y, stream);
  bool whole = dims.base % size == 0;  // every pack begins at a multiple of its size
  for (int64_t axis = 0; axis < last; ++axis) whole &= dims.stride[axis] % size == 0;
  if (whole) return launch_strided<Word, Index, Inner::contiguous>(dims, x, y, stream);
  return launch_strided<Word, Index, Inner::single>(dims, x, y, stream);
}

/// Calls `body.operator()<Word>()` with the unsigned type of that many bytes.
template <class Body>
void dispatch_word(size_t bytes, Body&& body) {
  switch (bytes) {
    case 1:
      return body.template operator()<uint8_t>();
    case 2:
      return body.template operator()<uint16_t>();
    case 4:
      return body.template operator()<uint32_t>();
    default:
      return body.template operator()<uint64_t>();
  }
}

}  // namespace

void strided_copy_cuda(const StridedDims& given, const void* x, void* y, CudaStream stream, int64_t narrow) {
  const StridedDims dims = merged(given);
  const int64_t n = count_of(dims);
  if (n == 0) return;
  dispatch_word(static_cast<size_t>(dims.bytes), [&]<class Word>() {
    if (std::max(n, dims.source) <= narrow) return strided_as<Word, uint32_t>(dims, x, y, stream);
    return strided_as<Word, uint64_t>(dims, x, y, stream);
  });
}

namespace {

constexpr int tile = 32, tile_rows = 8;

/// Matrices (high, wide) with rows `from_row` apart become (wide, high) with rows `to_row` apart. Their places follow
/// from the position along up to four other axes.
struct TilePlan {
  int64_t high, wide, from_row, to_row;
  int outer;
  int64_t extent[4], from[4], to[4];
  unsigned tiles_high, tiles_wide;
};

/// A block reads 32 x 32 along the rows of x and writes it along those of y: both contiguous. The odd row length keeps
/// a column of the tile in 32 different banks.
template <class Word>
__global__ void __launch_bounds__(tile* tile_rows) transpose_kernel(TilePlan plan, const Word* x, Word* y) {
  RANVIER_SHARED(Word, words, [tile][tile + 1]);
  const unsigned across = blockIdx.x % plan.tiles_wide, rest = blockIdx.x / plan.tiles_wide;
  const int64_t j0 = int64_t{across} * tile, i0 = int64_t{rest % plan.tiles_high} * tile;
  int64_t position = rest / plan.tiles_high;
#pragma unroll
  for (int axis = 3; axis >= 0; --axis) {
    if (axis >= plan.outer) continue;
    const int64_t at = position % plan.extent[axis];
    position /= plan.extent[axis];
    x += at * plan.from[axis], y += at * plan.to[axis];
  }
  const int column = static_cast<int>(threadIdx.x) % tile, first = static_cast<int>(threadIdx.x) / tile;
#pragma unroll
  for (int r = first; r < tile; r += tile_rows)
    if (i0 + r < plan.high && j0 + column < plan.wide) words[r][column] = x[(i0 + r) * plan.from_row + j0 + column];
  __syncthreads();
#pragma unroll
  for (int r = first; r < tile; r += tile_rows)
    if (j0 + r < plan.wide && i0 + column < plan.high) y[(j0 + r) * plan.to_row + i0 + column] = words[column][r];
}

/// The transpose as reads at strides in order of y.
StridedDims strided(const TransposeDims& d, size_t element) {
  StridedDims dims{d.x.rank, {}, {}, 0, d.x.count(), static_cast<int64_t>(element)};
  for (int k = 0; k < d.x.rank; ++k) dims.extent[k] = d.x.d[d.order[k]], dims.stride[k] = d.x.stride(d.order[k]);
  return merged(dims);
}

}  // namespace

namespace cuda {

void transpose(const TransposeDims& d, size_t element, const void* x, void* y, CudaStream stream) {
  const StridedDims dims = strided(d, element);
  const int last = static_cast<int>(dims.rank) - 1;
  int fast = last;  // the axis of y along which x is contiguous
  for (int k = 0; k <= last; ++k)
    if (dims.stride[k] == 1) fast = k;
  // Tiles that would be mostly empty cost more than reads at strides, which the second-level cache then serves.
  constexpr int64_t least = 8;
  if (fast == last || std::min(dims.extent[fast], dims.extent[last]) < least)
    return strided_copy_cuda(dims, x, y, stream);
  if (count_of(dims) == 0) return;
  TilePlan plan{dims.extent[last], dims.extent[fast], dims.stride[last], 0, 0, {}, {}, {}, 1, 1};
  int64_t to = 1, blocks = 1;
  for (int k = last; k >= 0; to *= dims.extent[k], --k) {
    if (k == fast) plan.to_row = to;
    if (k == fast || k == last) continue;
    plan.extent[plan.outer] = dims.extent[k], plan.from[plan.outer] = dims.stride[k], plan.to[plan.outer] = to;
    ++plan.outer;
    blocks *= dims.extent[k];
  }
  plan.tiles_high = static_cast<unsigned>((plan.high + tile - 1) / tile);
  plan.tiles_wide = static_cast<unsigned>((plan.wide + tile - 1) / tile);
  const unsigned grid = grid_of(blocks * plan.tiles_high * plan.tiles_wide);
  dispatch_word(element, [&]<class Word>() {
    launch(transpose_kernel<Word>, {grid, tile * tile_rows, 0, stream}, plan, static_cast<const Word*>(x),
           static_cast<Word*>(y));
  });
}

void slice(const SliceDims& d, size_t element, const void* x, void* y, CudaStream stream, int64_t narrow) {
  StridedDims dims{d.y.rank, {}, {}, 0, d.x.count(), static_cast<int64_t>(element)};
  for (int k = 0; k < d.y.rank; ++k) {
    dims.extent[k] = d.y.d[k];
    dims.stride[k] = d.x.stride(k) * d.step[k];
    dims.base += d.x.stride(k) * d.begin[k];
  }
  strided_copy_cuda(dims, x, y, stream, narrow);
}

}  // namespace cuda
}  // namespace ranvier::kernels
