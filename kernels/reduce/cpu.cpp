// Vectorised two-level sums whose order depends on the shape alone.
#include <algorithm>

#include "kernels/common/parallel.h"
#include "kernels/reduce/reduce.h"

namespace ranvier::kernels {
namespace {

constexpr int64_t lanes = 32;       // independent partial sums inside a chunk
constexpr int64_t chunk = 4096;     // elements of a row summed in T before f64 takes over
constexpr int64_t row_chunk = 128;  // rows of a column sum added in T before f64 takes over

template <class T>
double chunk_sum(const T* x, int64_t n) {
  T partial[lanes] = {};
  int64_t i = 0;
  for (; i + lanes <= n; i += lanes)
#pragma omp simd
    for (int64_t l = 0; l < lanes; ++l) partial[l] += x[i + l];
  double sum = 0;
  for (; i < n; ++i) sum += x[i];
  for (int64_t l = 0; l < lanes; ++l) sum += partial[l];
  return sum;
}

int64_t chunks_of(const ReduceDims& dims) {
  const int64_t length = dims.inner == 1 ? chunk : row_chunk;
  return std::max<int64_t>(1, (dims.reduce + length - 1) / length);
}

/// Partial sums of one chunk of a column sum: rows are added in T, the result widened.
template <class T>
void column_chunk(const ReduceDims& dims, const T* x, int64_t begin, int64_t end, double* partial) {
  constexpr int64_t width = 256;
  T sums[width];
  for (int64_t i0 = 0; i0 < dims.inner; i0 += width) {
    const int64_t w = std::min(width, dims.inner - i0);
    std::fill_n(sums, w, T(0));
    for (int64_t r = begin; r < end; ++r) {
      const T* row = x + r * dims.inner + i0;
#pragma omp simd
      for (int64_t i = 0; i < w; ++i) sums[i] += row[i];
    }
    for (int64_t i = 0; i < w; ++i) partial[i0 + i] = sums[i];
  }
}

}  // namespace

size_t sum_cpu_workspace(const ReduceDims& dims) {
  return static_cast<size_t>(dims.outer * chunks_of(dims) * dims.inner) * sizeof(double);
}

template <class T>
void sum_cpu(const ReduceDims& dims, const T* x, T* y, void* workspace) {
  auto* partial = static_cast<double*>(workspace);
  const int64_t chunks = chunks_of(dims), pieces = dims.outer * chunks;
  const int64_t length = dims.inner == 1 ? chunk : row_chunk;
  const int64_t shards = std::min(pieces, shard_count(dims.outer * dims.reduce * dims.inner, 16384));
  parallel_for(shards, [&](int64_t shard) {
    for (int64_t piece = shard_begin(pieces, shards, shard); piece < shard_begin(pieces, shards, shard + 1); ++piece) {
      const int64_t o = piece / chunks, begin = piece % chunks * length, end = std::min(dims.reduce, begin + length);
      const T* first = x + o * dims.reduce * dims.inner;
      if (dims.inner == 1)
        partial[piece] = chunk_sum(first + begin, std::max<int64_t>(0, end - begin));
      else
        column_chunk(dims, first, begin, end, partial + piece * dims.inner);
    }
  });
  for (int64_t o = 0; o < dims.outer; ++o)
    for (int64_t i = 0; i < dims.inner; ++i) {
      double sum = 0;
      for (int64_t c = 0; c < chunks; ++c) sum += partial[(o * chunks + c) * dims.inner + i];
      y[o * dims.inner + i] = static_cast<T>(sum);
    }
}

template void sum_cpu<float>(const ReduceDims&, const float*, float*, void*);
template void sum_cpu<double>(const ReduceDims&, const double*, double*, void*);

}  // namespace ranvier::kernels
