// Sums, maxima and their positions over one axis group of (outer, reduce, inner).
#pragma once
#include <cstddef>
#include <cstdint>

#include "kernels/common/stream.h"

namespace ranvier::kernels {

/// x is (outer, reduce, inner), the result (outer, inner).
struct ReduceDims {
  int64_t outer, reduce, inner;
};

/// y = sum over `reduce`; 0 for an empty axis. Plain loops in T.
template <class T>
void sum_reference(const ReduceDims&, const T* x, T* y);
/// y = max over `reduce`; NaN wins; -inf for an empty axis.
template <class T>
void max_reference(const ReduceDims&, const T* x, T* y);
/// index = position of the first maximum (of the first NaN, where there is one).
template <class T>
void argmax_reference(const ReduceDims&, const T* x, int32_t* index);

/// Two-level sum: lanes inside chunks of fixed length, chunks added in f64 in order. Relative error about 1e-7 of
/// sum |x| whatever the length; bit-equal for any number of threads.
template <class T>
void sum_cpu(const ReduceDims&, const T* x, T* y, void* workspace);
/// Bytes of workspace for sum_cpu.
size_t sum_cpu_workspace(const ReduceDims&);

/// The same on a CUDA device for float, double, bf16 and f16: threads sum up to 64 terms in f32 (f64 for double), the
/// rest is added in f64 in a tree, rounded once. Bit-equal for any GPU and order of threads.
template <class T>
void sum_cuda(const ReduceDims&, const T* x, T* y, void* workspace, CudaStream stream);
template <class T>
void max_cuda(const ReduceDims&, const T* x, T* y, void* workspace, CudaStream stream);
template <class T>
void argmax_cuda(const ReduceDims&, const T* x, int32_t* index, CudaStream stream);
/// Bytes of workspace for sum_cuda and max_cuda of elements of `element` bytes.
size_t reduce_cuda_workspace(const ReduceDims&, size_t element);

}  // namespace ranvier::kernels
