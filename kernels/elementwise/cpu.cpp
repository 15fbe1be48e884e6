// Pointwise programs in cache-sized blocks of vectorised loops, casts, and broadcasts.
#include <algorithm>
#include <cstring>

#include "kernels/common/parallel.h"
#include "kernels/elementwise/elementwise.h"
#include "kernels/elementwise/functors.h"

namespace ranvier::kernels {
namespace {

constexpr int64_t block = 256;  // 24 registers of 256 floats fit the first-level cache

template <class T>
using BlockFn = void (*)(int64_t n, const T* a, const T* b, const T* c, T* out);

// A register may be the output itself (in place), read and written at equal indices only, so the loops are safe to
// vectorise although the pointers may be equal.
template <class T, class Functor, int operands>
void apply_block(int64_t n, const T* a, const T* b, const T* c, T* out) {
#pragma omp simd
  for (int64_t i = 0; i < n; ++i) {
    if constexpr (operands == 1)
      out[i] = Functor::template apply<T>(a[i]);
    else if constexpr (operands == 2)
      out[i] = Functor::template apply<T>(a[i], b[i]);
    else
      out[i] = Functor::template apply<T>(a[i], b[i], c[i]);
  }
}

template <class T>
BlockFn<T> block_fn(Fn fn) {
  static constexpr BlockFn<T> table[] = {
#define RANVIER_FN(name, operands) apply_block<T, functors::name<functors::PortableMath>, operands>,
      RANVIER_POINTWISE(RANVIER_FN)
#undef RANVIER_FN
  };
  return table[static_cast<int>(fn)];
}

/// Writes elements [begin, begin + n) of a broadcast input, run by run.
template <class T>
void expand(const PointwiseProgram::Input& input, const T* x, int64_t begin, int64_t n, T* out) {
  if (input.inner == 1) {
    int64_t j = begin % input.period;
    for (int64_t i = 0; i < n;) {
      const int64_t run = std::min(n - i, input.period - j);
      std::copy_n(x + j, run, out + i);
      i += run;
      j = 0;
    }
    return;
  }
  for (int64_t i = 0; i < n;) {
    const int64_t group = (begin + i) / input.inner;
    const int64_t run = std::min(n - i, (group + 1) * input.inner - begin - i);
    std::fill_n(out + i, run, x[group % input.period]);
    i += run;
  }
}

/// Runs a program block after block over [begin, end).
template <class T>
void run_range(const PointwiseProgram& program, int64_t begin, int64_t end, const void* const* inputs, T* out) {
  constexpr int registers = PointwiseProgram::first_step + PointwiseProgram::max_steps;
  alignas(64) T storage[registers][block];
  const T* address[registers] = {};
  for (int64_t c = 0; c < program.constants; ++c) {
    const int64_t r = PointwiseProgram::first_constant + c;
    std::fill_n(storage[r], block, static_cast<T>(program.constant[c]));
    address[r] = storage[r];
  }
  bool uniform[PointwiseProgram::max_inputs] = {};  // one value for all: expanded once
  for (int64_t k = 0; k < program.inputs; ++k) {
    uniform[k] = program.input[k].period == 1;
    if (uniform[k]) std::fill_n(storage[k], block, static_cast<const T*>(inputs[k])[0]);
    address[k] = storage[k];
  }
  for (int64_t at = begin; at < end; at += block) {
    const int64_t n = std::min(block, end - at);
    for (int64_t k = 0; k < program.inputs; ++k) {
      const T* x = static_cast<const T*>(inputs[k]);
      if (program.input[k].period == 0)
        address[k] = x + at;
      else if (!uniform[k])
        expand(program.input[k], x, at, n, storage[k]);
    }
    for (int64_t s = 0; s < program.steps; ++s) {
      const PointwiseStep& step = program.step[s];
      const int64_t r = PointwiseProgram::first_step + s;
      T* result = s + 1 == program.steps ? out + at : storage[r];
      block_fn<T>(step.fn)(n, address[step.a], address[step.b], address[step.c], result);
      address[r] = result;
    }
  }
}

}  // namespace

template <class T>
void pointwise_cpu(const PointwiseProgram& program, int64_t n, const void* const* inputs, T* out) {
  const int64_t shards = shard_count(n, 16384);
  const int64_t blocks = (n + block - 1) / block;
  parallel_for(shards, [&](int64_t shard) {
    run_range<T>(program, shard_begin(blocks, shards, shard) * block,
                 std::min(n, shard_begin(blocks, shards, shard + 1) * block), inputs, out);
  });
}

template void pointwise_cpu<float>(const PointwiseProgram&, int64_t, const void* const*, float*);
template void pointwise_cpu<double>(const PointwiseProgram&, int64_t, const void* const*, double*);

template <class From, class To>
void cast_cpu(int64_t n, const From* x, To* y) {
  const int64_t shards = shard_count(n, 65536);
  parallel_for(shards, [&](int64_t shard) {
    const int64_t end = shard_begin(n, shards, shard + 1);
#pragma omp simd
    for (int64_t i = shard_begin(n, shards, shard); i < end; ++i) y[i] = static_cast<To>(x[i]);
  });
}

#define RANVIER_CAST(From, To) template void cast_cpu<From, To>(int64_t, const From*, To*);
#define RANVIER_CASTS(From) \
  RANVIER_CAST(From, float) \
  RANVIER_CAST(From, double) RANVIER_CAST(From, int32_t) RANVIER_CAST(From, int64_t) RANVIER_CAST(From, uint8_t)
RANVIER_CASTS(float)
RANVIER_CASTS(double)
RANVIER_CASTS(int32_t)
RANVIER_CASTS(int64_t)
RANVIER_CASTS(uint8_t)

namespace {

template <class T>
void broadcast_as(const BroadcastDims& dims, const T* x, T* y) {
  const int64_t inner = dims.rank ? dims.extent[dims.rank - 1] : 1;
  const int64_t inner_stride = dims.rank ? dims.stride[dims.rank - 1] : 0;
  int64_t rows = 1;
  for (int64_t axis = 0; axis + 1 < dims.rank; ++axis) rows *= dims.extent[axis];
  if (inner == 0 || rows == 0) return;
  const int64_t shards = shard_count(rows * inner, 65536);
  parallel_for(std::min(shards, rows), [&](int64_t shard) {
    const int64_t count = std::min(shards, rows);
    for (int64_t row = shard_begin(rows, count, shard); row < shard_begin(rows, count, shard + 1); ++row) {
      int64_t offset = 0, rest = row;
      for (int64_t axis = dims.rank - 2; axis >= 0; --axis) {
        offset += rest % dims.extent[axis] * dims.stride[axis];
        rest /= dims.extent[axis];
      }
      T* out = y + row * inner;
      if (inner_stride == 0)
        std::fill_n(out, inner, x[offset]);
      else
        for (int64_t i = 0; i < inner; ++i) out[i] = x[offset + i * inner_stride];
    }
  });
}

}  // namespace

void broadcast_cpu(const BroadcastDims& dims, const void* x, void* y) {
  if (dims.bytes == 1)
    broadcast_as(dims, static_cast<const uint8_t*>(x), static_cast<uint8_t*>(y));
  else if (dims.bytes == 4)
    broadcast_as(dims, static_cast<const uint32_t*>(x), static_cast<uint32_t*>(y));
  else
    broadcast_as(dims, static_cast<const uint64_t*>(x), static_cast<uint64_t*>(y));
}

}  // namespace ranvier::kernels
