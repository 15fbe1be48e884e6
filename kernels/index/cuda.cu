// Gather, scatter, one-hot and concat on a CUDA device.
#include <algorithm>
#include <limits>

#include "kernels/common/divide.h"
#include "kernels/common/launch.h"
#include "kernels/common/pack.h"
#include "kernels/elementwise/convert.h"
#include "kernels/index/index.h"

namespace ranvier::kernels {
namespace {

constexpr int threads = 256;

/// The unsigned type that has the bits of a T.
template <class T>
using word_t = std::conditional_t<
    sizeof(T) == 1, uint8_t,
    std::conditional_t<sizeof(T) == 2, uint16_t, std::conditional_t<sizeof(T) == 4, uint32_t, uint64_t>>>;
template <class T>
word_t<T> bits_of(double value) {
  return __builtin_bit_cast(word_t<T>, convert<T>(value));
}
/// What stands where an index was bad.
template <class T>
word_t<T> wrong() {
  if constexpr (std::is_integral_v<T>)
    return 0;
  else
    return bits_of<T>(std::numeric_limits<double>::quiet_NaN());
}

template <class I>
__global__ void first_outside_kernel(int64_t count, int64_t axis, const I* indices, unsigned long long* first) {
  const int64_t step = int64_t{gridDim.x} * blockDim.x;
  for (int64_t i = int64_t{blockIdx.x} * blockDim.x + threadIdx.x; i < count; i += step)
    if (indices[i] < 0 || indices[i] >= axis) atomicMin(first, static_cast<unsigned long long>(i));
}

/// Positions count packs of y (outer, count, inner).
template <class Index>
struct GatherPlan {
  Index packs;
  Divider<Index> inner, count;
  int64_t axis;
};

template <class Word, class I, class Index, int size>
__global__ void gather_kernel(GatherPlan<Index> plan, Word wrong, const Word* x, const I* indices, Word* y) {
  const Index step = static_cast<Index>(gridDim.x) * blockDim.x;
  for (Index i = static_cast<Index>(blockIdx.x) * blockDim.x + threadIdx.x; i < plan.packs; i += step) {
    const Index row = plan.inner.quotient(i), column = plan.inner.remainder(i, row);
    const Index o = plan.count.quotient(row);
    const I at = indices[plan.count.remainder(row, o)];
    Pack<Word, size> out;
    if (at >= 0 && at < plan.axis) {
      out = load_pack<size>(x + ((o * plan.axis + at) * plan.inner.divisor + column) * size);
    } else {
#pragma unroll
      for (int k = 0; k < size; ++k) out.v[k] = wrong;
    }
    store_pack(y + static_cast<int64_t>(i) * size, out);
  }
}

template <class Word, class I, class Index, int size>
void launch_gather(const GatherDims& d, Word wrong, const Word* x, const I* indices, Word* y, CudaStream stream) {
  const int64_t packs = d.outer * d.count * d.inner / size;
  if (packs == 0) return;
  const GatherPlan<Index> plan{static_cast<Index>(packs), Divider<Index>(static_cast<uint64_t>(d.inner / size)),
                               Divider<Index>(static_cast<uint64_t>(d.count)), d.axis};
  launch(gather_kernel<Word, I, Index, size>, {blocks_for(packs, threads), threads, 0, stream}, plan, wrong, x, indices,
         y);
}

constexpr int columns_each = 4;  // columns of a lane, so that one look at the indices serves 128

/// dx[k] = sum of dy[j] with indices[j] == k, in the order of j, for each of the outer * inner columns: a warp owns one
/// k and 128 columns. Its lanes look at 32 indices at once and then add every hit together; nothing is written twice,
/// so that no atomics are needed and the order never changes.
template <class T, class I>
__global__ void __launch_bounds__(threads)
    scatter_add_kernel(GatherDims d, int64_t tiles, const T* dy, const I* indices, T* dx) {
  const int lane = static_cast<int>(threadIdx.x) % 32;
  const int64_t warp = int64_t{blockIdx.x} * (threads / 32) + threadIdx.x / 32;
  const int64_t k = warp / tiles, columns = d.outer * d.inner, first = warp % tiles * 32 * columns_each + lane;
  int64_t from[columns_each];
  compute_t<T> sum[columns_each] = {};
#pragma unroll
  for (int p = 0; p < columns_each; ++p) {
    const int64_t c = first + p * 32;
    from[p] = c / d.inner * d.count * d.inner + c % d.inner;
  }
  for (int64_t j0 = 0; j0 < d.count; j0 += 32) {
    const bool hit = j0 + lane < d.count && indices[j0 + lane] == k;
    for (unsigned hits = __ballot_sync(0xffffffffu, hit); hits != 0; hits &= hits - 1) {
      const int64_t j = j0 + __ffs(static_cast<int>(hits)) - 1;
#pragma unroll
      for (int p = 0; p < columns_each; ++p)
        if (first + p * 32 < columns) sum[p] += widen(dy[from[p] + j * d.inner]);
    }
  }
  if (k >= d.axis) return;
#pragma unroll
  for (int p = 0; p < columns_each; ++p) {
    const int64_t c = first + p * 32;
    if (c < columns) dx[(c / d.inner * d.axis + k) * d.inner + c % d.inner] = narrow<T>(sum[p]);
  }
}

template <class Word, class I>
__global__ void one_hot_kernel(int64_t n, int64_t classes, Word one, Word wrong, const I* labels, Word* y) {
  const int64_t step = int64_t{gridDim.x} * blockDim.x;
  for (int64_t i = int64_t{blockIdx.x} * blockDim.x + threadIdx.x; i < n * classes; i += step) {
    const int64_t row = i / classes;
    const I label = labels[row];
    y[i] = label < 0 || label >= classes ? wrong : label == i - row * classes ? one : Word{0};
  }
}

constexpr int parts_each = 16;  // parts of one launch

/// Columns of up to 16 parts side by side: begin[p] ... begin[p + 1] of each of y's rows, counted in packs.
struct ConcatPlan {
  int count;
  int64_t row, first, packs;  // packs in a row of y, before these parts in it, and of these parts in all
  int64_t begin[parts_each + 1];
  const void* part[parts_each];
};

template <class Word, int size>
__global__ void concat_kernel(ConcatPlan plan, Word* y) {
  const int64_t step = int64_t{gridDim.x} * blockDim.x, width = plan.begin[plan.count];
  for (int64_t i = int64_t{blockIdx.x} * blockDim.x + threadIdx.x; i < plan.packs; i += step) {
    const int64_t o = i / width, column = i - o * width;
    const Word* from = nullptr;
#pragma unroll
    for (int p = 0; p < parts_each; ++p)
      if (p < plan.count && column >= plan.begin[p] && column < plan.begin[p + 1])
        from = static_cast<const Word*>(plan.part[p]) +
               (o * (plan.begin[p + 1] - plan.begin[p]) + column - plan.begin[p]) * size;
    store_pack(y + (o * plan.row + plan.first + column) * size, load_pack<size>(from));
  }
}

template <class Word, int size>
void concat_as(const ConcatDims& d, const void* const* x, void* y, CudaStream stream) {
  ConcatPlan plan{};
  for (int part = 0; part < d.count; ++part) plan.row += d.extents[part] * d.inner / size;
  for (int from = 0; from < d.count; from += parts_each) {
    plan.count = std::min(parts_each, d.count - from);
    for (int p = 0; p < plan.count; ++p) {
      plan.part[p] = x[from + p];
      plan.begin[p + 1] = plan.begin[p] + d.extents[from + p] * d.inner / size;
    }
    plan.packs = d.outer * plan.begin[plan.count];
    launch(concat_kernel<Word, size>, {blocks_for(plan.packs, threads), threads, 0, stream}, plan,
           static_cast<Word*>(y));
    plan.first += plan.begin[plan.count];
  }
}

template <class Word>
void concat_words(const ConcatDims& d, const void* const* x, void* y, CudaStream stream) {
  bool packs = true;
  for (int part = 0; part < d.count; ++part) packs &= d.extents[part] * d.inner % pack_size<Word> == 0;
  if (packs) return concat_as<Word, pack_size<Word>>(d, x, y, stream);
  return concat_as<Word, 1>(d, x, y, stream);
}

}  // namespace

namespace cuda {

template <class I>
void first_outside(int64_t count, int64_t axis, const I* indices, unsigned long long* first, CudaStream stream) {
  launch(first_outside_kernel<I>, {blocks_for(count, threads), threads, 0, stream}, count, axis, indices, first);
}

template <class T, class I>
void gather(const GatherDims& d, const T* x, const I* indices, T* y, CudaStream stream, int64_t narrow) {
  using Word = word_t<T>;
  const auto* from = reinterpret_cast<const Word*>(x);
  auto* to = reinterpret_cast<Word*>(y);
  if (std::max(d.outer * d.axis * d.inner, d.outer * d.count * d.inner) > narrow)
    return launch_gather<Word, I, uint64_t, 1>(d, wrong<T>(), from, indices, to, stream);
  if (d.inner % pack_size<Word> == 0)
    return launch_gather<Word, I, uint32_t, pack_size<Word>>(d, wrong<T>(), from, indices, to, stream);
  return launch_gather<Word, I, uint32_t, 1>(d, wrong<T>(), from, indices, to, stream);
}

template <class T, class I>
void scatter_add(const GatherDims& d, const T* dy, const I* indices, T* dx, CudaStream stream) {
  const int64_t tiles = (d.outer * d.inner + 32 * columns_each - 1) / (32 * columns_each), warps = tiles * d.axis;
  launch(scatter_add_kernel<T, I>, {grid_of((warps + threads / 32 - 1) / (threads / 32)), threads, 0, stream}, d, tiles,
         dy, indices, dx);
}

template <class T, class I>
void one_hot(int64_t n, int64_t classes, const I* labels, T* y, CudaStream stream) {
  launch(one_hot_kernel<word_t<T>, I>, {blocks_for(n * classes, threads), threads, 0, stream}, n, classes,
         bits_of<T>(1), wrong<T>(), labels, reinterpret_cast<word_t<T>*>(y));
}

void concat(const ConcatDims& d, size_t element, const void* const* x, void* y, CudaStream stream) {
  switch (element) {
    case 1:
      return concat_words<uint8_t>(d, x, y, stream);
    case 2:
      return concat_words<uint16_t>(d, x, y, stream);
    case 4:
      return concat_words<uint32_t>(d, x, y, stream);
    default:
      return concat_words<uint64_t>(d, x, y, stream);
  }
}

#define RANVIER_INDEXED(T, I)                                                           \
  template void gather(const GatherDims&, const T*, const I*, T*, CudaStream, int64_t); \
  template void one_hot(int64_t, int64_t, const I*, T*, CudaStream);
#define RANVIER_SUMMED(T, I) \
  RANVIER_INDEXED(T, I)      \
  template void scatter_add(const GatherDims&, const T*, const I*, T*, CudaStream);
// The formatter finds no fixed point for these lines.
// clang-format off
#define RANVIER_EACH_TYPE(I)                                                  \
  RANVIER_SUMMED(float, I) RANVIER_SUMMED(double, I) RANVIER_SUMMED(bf16, I)  \
  RANVIER_SUMMED(f16, I) RANVIER_SUMMED(int32_t, I) RANVIER_SUMMED(int64_t, I) \
  RANVIER_INDEXED(uint8_t, I)
// clang-format on
RANVIER_EACH_TYPE(int32_t)
RANVIER_EACH_TYPE(int64_t)
template void first_outside(int64_t, int64_t, const int32_t*, unsigned long long*, CudaStream);
template void first_outside(int64_t, int64_t, const int64_t*, unsigned long long*, CudaStream);
#undef RANVIER_INDEXED
#undef RANVIER_SUMMED
#undef RANVIER_EACH_TYPE

}  // namespace cuda
}  // namespace ranvier::kernels
