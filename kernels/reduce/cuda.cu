// Sums, maxima and their positions on a CUDA device: every thread folds a short run, a block folds its threads in a
// tree, and where an output has several blocks a second launch folds theirs. All orders follow from the shape alone.
#include <algorithm>

#include "kernels/common/launch.h"
#include "kernels/common/pack.h"
#include "kernels/elementwise/convert.h"
#include "kernels/reduce/reduce.h"

namespace ranvier::kernels {
namespace {

constexpr int threads = 256;
constexpr int64_t wanted_blocks = 1024;          // about 8 for each multiprocessor of a large GPU
constexpr int64_t least_run = 4, most_run = 64;  // packs that one thread folds in T; longer chains would lose digits

struct Sum {
  static constexpr double identity = 0;
  template <class C>
  __device__ static C fold(C a, C b) {
    return a + b;
  }
};
struct Max {
  static constexpr double identity = -INFINITY;
  template <class C>
  __device__ static C fold(C a, C b) {  // NaN wins
    return a == a && !(b <= a) ? b : a;
  }
};

/// What a block leaves: a result, or in `partial` what the second launch folds.
template <class T>
struct Target {
  T* y;
  double* partial;
  __device__ void store(int64_t i, double value) const {
    if (partial)
      partial[i] = value;
    else
      y[i] = convert<T>(value);
  }
};

/// Sums of rows (rows, length). `lanes` neighbouring threads share a row; a row longer than `chunk` has several blocks.
struct RowPlan {
  int64_t rows, length, chunk;
  unsigned chunks;
  int lanes;
};

template <class Op, class In, class Out, int size>
__global__ void __launch_bounds__(threads) row_kernel(RowPlan plan, const In* x, Target<Out> target) {
  using C = compute_t<In>;
  RANVIER_SHARED(double, partial, [threads]);
  const int t = static_cast<int>(threadIdx.x), lanes = plan.lanes, lane = t % lanes;
  const unsigned c = blockIdx.x % plan.chunks;
  const int64_t row = int64_t{blockIdx.x / plan.chunks} * (threads / lanes) + t / lanes;
  C run[size];
#pragma unroll
  for (int k = 0; k < size; ++k) run[k] = static_cast<C>(Op::identity);
  if (row < plan.rows) {
    const int64_t begin = c * plan.chunk, end = begin + plan.chunk < plan.length ? begin + plan.chunk : plan.length;
    const In* first = x + row * plan.length;
    const int64_t packs_end = begin + (end - begin) / size * size;
#pragma unroll 4
    for (int64_t i = begin + int64_t{lane} * size; i < packs_end; i += int64_t{lanes} * size) {
      const Pack<In, size> pack = load_pack<size>(first + i);
#pragma unroll
      for (int k = 0; k < size; ++k) run[k] = Op::fold(run[k], widen(pack.v[k]));
    }
    if (size > 1)
      for (int64_t i = packs_end + lane; i < end; i += lanes) run[0] = Op::fold(run[0], widen(first[i]));
  }
  double value = run[0];
#pragma unroll
  for (int k = 1; k < size; ++k) value = Op::fold(value, static_cast<double>(run[k]));
  partial[t] = value;
  for (int half = lanes / 2; half > 0; half /= 2) {
    __syncthreads();
    if (lane < half) partial[t] = Op::fold(partial[t], partial[t + half]);
  }
  if (lane == 0 && row < plan.rows) target.store(row * plan.chunks + c, partial[t]);
}

/// Sums of columns of (outer, reduce, inner): a block has `wide` columns of packs and threads / wide rows.
struct ColumnPlan {
  int64_t outer, reduce, inner, chunk;
  unsigned chunks, tiles;
  int wide;
};

template <class Op, class In, class Out, int size>
__global__ void __launch_bounds__(threads) column_kernel(ColumnPlan plan, const In* x, Target<Out> target) {
  using C = compute_t<In>;
  RANVIER_SHARED(double, partial, [size][threads]);
  const int t = static_cast<int>(threadIdx.x), wide = plan.wide;
  const unsigned tile = blockIdx.x % plan.tiles, c = blockIdx.x / plan.tiles % plan.chunks;
  const int64_t o = blockIdx.x / plan.tiles / plan.chunks;
  const int64_t column = (int64_t{tile} * wide + t % wide) * size;
  C run[size];
#pragma unroll
  for (int k = 0; k < size; ++k) run[k] = static_cast<C>(Op::identity);
  if (column < plan.inner) {
    const int64_t begin = c * plan.chunk, end = begin + plan.chunk < plan.reduce ? begin + plan.chunk : plan.reduce;
    const In* first = x + o * plan.reduce * plan.inner + column;
#pragma unroll 4
    for (int64_t r = begin + t / wide; r < end; r += threads / wide) {
      const Pack<In, size> pack = load_pack<size>(first + r * plan.inner);
#pragma unroll
      for (int k = 0; k < size; ++k) run[k] = Op::fold(run[k], widen(pack.v[k]));
    }
  }
#pragma unroll
  for (int k = 0; k < size; ++k) partial[k][t] = run[k];
  for (int half = threads / 2; half >= wide; half /= 2) {
    __syncthreads();
    if (t < half)
#pragma unroll
      for (int k = 0; k < size; ++k) partial[k][t] = Op::fold(partial[k][t], partial[k][t + half]);
  }
  if (t < wide && column < plan.inner)
#pragma unroll
    for (int k = 0; k < size; ++k) target.store((o * plan.chunks + c) * plan.inner + column + k, partial[k][t]);
}

int64_t ceil_div(int64_t a, int64_t b) { return (a + b - 1) / b; }
int64_t power_of_two(int64_t n) {
  int64_t power = 1;
  while (power < n) power *= 2;
  return power;
}

/// How often a thread may fold before there are fewer blocks than a GPU wants.
int64_t run_length(int64_t packs) { return std::clamp(ceil_div(packs, threads * wanted_blocks), least_run, most_run); }

/// Elements of a pack along the axis that is contiguous, 1 where rows would begin inside one.
int pack_of(const ReduceDims& dims, int size) {
  if (dims.inner > 1) return dims.inner % size == 0 ? size : 1;
  return dims.outer == 1 || dims.reduce % size == 0 ? size : 1;
}

RowPlan row_plan(const ReduceDims& dims, int size, bool whole) {
  RowPlan plan{dims.outer, dims.reduce, std::max<int64_t>(dims.reduce, 1), 1, threads};
  const int64_t packs = ceil_div(dims.reduce, size);
  if (packs <= threads * least_run) {  // short rows: several a block, and few threads for each where rows abound
    const int64_t each = dims.outer >= 16384 ? least_run : 1;
    plan.lanes = static_cast<int>(std::min<int64_t>(threads, power_of_two(ceil_div(packs, each))));
  } else if (!whole) {
    plan.chunk = threads * size * run_length(packs * dims.outer);
    plan.chunks = static_cast<unsigned>(ceil_div(dims.reduce, plan.chunk));
  }
  return plan;
}

ColumnPlan column_plan(const ReduceDims& dims, int size, bool whole) {
  ColumnPlan plan{dims.outer, dims.reduce, dims.inner, std::max<int64_t>(dims.reduce, 1), 1, 1, 1};
  const int64_t columns = dims.inner / size;
  // the second launch has few columns of many partial sums, which one block would take one after another
  const int64_t tallest = whole ? threads / 4 : threads / 32;
  const int64_t tall = std::clamp<int64_t>(power_of_two(ceil_div(dims.reduce, least_run)), 1, tallest);
  plan.wide = static_cast<int>(std::min(power_of_two(columns), threads / tall));
  plan.tiles = static_cast<unsigned>(ceil_div(columns, plan.wide));
  if (!whole) {
    plan.chunk = threads / plan.wide * run_length(dims.outer * dims.reduce * columns);
    plan.chunks = static_cast<unsigned>(std::max<int64_t>(1, ceil_div(dims.reduce, plan.chunk)));
  }
  return plan;
}

unsigned chunks_of(const ReduceDims& dims, int size) {
  return dims.inner == 1 ? row_plan(dims, size, false).chunks : column_plan(dims, size, false).chunks;
}

template <class Op, class In, class Out, int size>
void launch_level(const ReduceDims& dims, const In* x, Target<Out> target, bool whole, CudaStream stream) {
  if (dims.inner == 1) {
    const RowPlan plan = row_plan(dims, size, whole);
    const unsigned blocks = grid_of(ceil_div(plan.rows, threads / plan.lanes) * plan.chunks);
    launch(row_kernel<Op, In, Out, size>, {blocks, threads, 0, stream}, plan, x, target);
  } else {
    const ColumnPlan plan = column_plan(dims, size, whole);
    const unsigned blocks = grid_of(dims.outer * plan.chunks * plan.tiles);
    launch(column_kernel<Op, In, Out, size>, {blocks, threads, 0, stream}, plan, x, target);
  }
}

template <class Op, class T, int size>
void reduce_with(const ReduceDims& dims, const T* x, T* y, double* partial, CudaStream stream) {
  const unsigned chunks = chunks_of(dims, size);
  if (chunks == 1) return launch_level<Op, T, T, size>(dims, x, {y, nullptr}, true, stream);
  launch_level<Op, T, T, size>(dims, x, {nullptr, partial}, false, stream);
  launch_level<Op, double, T, 1>({dims.outer, chunks, dims.inner}, partial, {y, nullptr}, true, stream);
}

template <class Op, class T>
void reduce(const ReduceDims& dims, const T* x, T* y, void* workspace, CudaStream stream) {
  auto* partial = static_cast<double*>(workspace);
  if (dims.outer == 0 || dims.inner == 0) return;
  if (pack_of(dims, pack_size<T>) == 1) return reduce_with<Op, T, 1>(dims, x, y, partial, stream);
  return reduce_with<Op, T, pack_size<T>>(dims, x, y, partial, stream);
}

/// One output a thread group of `lanes`, which take the axis in turns: neighbouring threads where the axis is
/// contiguous, else threads a block's outputs apart.
template <class T>
__global__ void __launch_bounds__(threads)
    argmax_kernel(int64_t outer, int64_t axis, int64_t inner, int lanes, const T* x, int32_t* y) {
  using C = compute_t<T>;
  RANVIER_SHARED(C, values, [threads]);
  RANVIER_SHARED(int64_t, places, [threads]);
  const int t = static_cast<int>(threadIdx.x), each = threads / lanes;
  const int lane = inner == 1 ? t % lanes : t / each, apart = inner == 1 ? 1 : each;
  const int64_t output = int64_t{blockIdx.x} * each + (inner == 1 ? t / lanes : t % each);
  const auto better = [](C a, int64_t i, C b, int64_t j) {  // whether a at i goes before b at j
    if (a != a || b != b) return a != a && (b == b || i < j);
    return a > b || (a == b && i < j);
  };
  C best = static_cast<C>(-INFINITY);
  int64_t at = axis;  // behind every place: anything goes before it
  if (output < outer * inner) {
    const T* first = x + output / inner * axis * inner + output % inner;
    for (int64_t k = lane; k < axis; k += lanes) {
      const C value = widen(first[k * inner]);
      if (better(value, k, best, at)) best = value, at = k;
    }
  }
  values[t] = best, places[t] = at;
  for (int half = lanes / 2; half > 0; half /= 2) {
    __syncthreads();
    const int other = t + half * apart;
    if (lane < half && better(values[other], places[other], values[t], places[t]))
      values[t] = values[other], places[t] = places[other];
  }
  if (lane == 0 && output < outer * inner) y[output] = static_cast<int32_t>(places[t]);
}

}  // namespace

size_t reduce_cuda_workspace(const ReduceDims& dims, size_t element) {
  if (dims.outer == 0 || dims.inner == 0) return 0;
  const unsigned chunks = chunks_of(dims, pack_of(dims, 16 / static_cast<int>(element)));
  return chunks == 1 ? 0 : static_cast<size_t>(dims.outer * chunks * dims.inner) * sizeof(double);
}

template <class T>
void sum_cuda(const ReduceDims& dims, const T* x, T* y, void* workspace, CudaStream stream) {
  reduce<Sum>(dims, x, y, workspace, stream);
}

template <class T>
void max_cuda(const ReduceDims& dims, const T* x, T* y, void* workspace, CudaStream stream) {
  reduce<Max>(dims, x, y, workspace, stream);
}

template <class T>
void argmax_cuda(const ReduceDims& dims, const T* x, int32_t* y, CudaStream stream) {
  const int64_t outputs = dims.outer * dims.inner, few = outputs < 65536 ? 1 : 16;
  const auto lanes = static_cast<int>(std::min<int64_t>(threads, power_of_two(ceil_div(dims.reduce, few))));
  launch(argmax_kernel<T>, {grid_of(ceil_div(outputs, threads / lanes)), threads, 0, stream}, dims.outer, dims.reduce,
         dims.inner, lanes, x, y);
}

#define RANVIER_REDUCE(T)                                                        \
  template void sum_cuda<T>(const ReduceDims&, const T*, T*, void*, CudaStream); \
  template void max_cuda<T>(const ReduceDims&, const T*, T*, void*, CudaStream); \
  template void argmax_cuda<T>(const ReduceDims&, const T*, int32_t*, CudaStream);
RANVIER_REDUCE(float)
RANVIER_REDUCE(double)
RANVIER_REDUCE(bf16)
RANVIER_REDUCE(f16)

}  // namespace ranvier::kernels
