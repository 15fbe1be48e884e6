// Ops that move elements: gather and scatter, one-hot, argmax, slice, zero and reflect padding, concat, transpose.
#pragma once
#include <cstddef>
#include <cstdint>

#include "kernels/common/dims.h"
#include "kernels/common/divide.h"
#include "kernels/common/half.h"
#include "kernels/common/stream.h"

namespace ranvier::kernels {

/// x is (outer, axis, inner); what is gathered from it (outer, count, inner), by `count` indices into the axis.
struct GatherDims {
  int64_t outer = 1, axis = 0, inner = 1, count = 0;
};

/// y[i] = x[begin + i step] along every axis. A step may be negative (a flip), never 0; every position must lie in x.
struct SliceDims {
  Dims x, y;
  int64_t begin[max_rank] = {}, step[max_rank] = {1, 1, 1, 1, 1, 1};
};

/// y extends x by `before[k]` in front of axis k and y.d[k] - x.d[k] - before[k] behind it.
struct PadDims {
  Dims x, y;
  int64_t before[max_rank] = {};
};

/// y axis k is x axis order[k].
struct TransposeDims {
  Dims x;
  int order[max_rank] = {};
};

/// Parts (outer, extents[i], inner) side by side on the middle axis.
struct ConcatDims {
  int64_t outer = 1, inner = 1;
  int count = 0;
  const int64_t* extents = nullptr;
};

/// Each throws std::runtime_error with one line where positions would fall outside, ranks differ or a permutation is
/// none; reflect padding must be less than the extent it mirrors.
void validate(const SliceDims& dims);
void validate(const TransposeDims& dims);
void validate_reflect(const PadDims& dims);

// T is float, double, int32_t, int64_t or uint8_t (scatter_add and the reflect adjoint: not uint8_t); I is int32_t or
// int64_t. `element` is the size of an element in bytes: 1, 2, 4 or 8. The two namespaces hold the same functions.
// Functions of indices return the first bad position among the indices, or -1 where all are in range.
#define RANVIER_INDEX_FUNCTIONS                                                                                  \
  /** y = x at the indices; a bad index gives NaN (0 for integers). */                                           \
  template <class T, class I>                                                                                    \
  int64_t gather(const GatherDims& dims, const T* x, const I* indices, T* y);                                    \
  /** dx = 0, then dx at indices[j] += dy[j] in the order of j; a bad index adds nothing. Adjoint of gather. */  \
  template <class T, class I>                                                                                    \
  int64_t scatter_add(const GatherDims& dims, const T* dy, const I* indices, T* dx);                             \
  /** y (n, classes) = 1 at the label, else 0; a bad label gives a row of NaN (0 for integers). */               \
  template <class T, class I>                                                                                    \
  int64_t one_hot(int64_t n, int64_t classes, const I* labels, T* y);                                            \
  /** Position of the greatest along the axis of (outer, axis, inner): the first among equals, the first NaN. */ \
  template <class T>                                                                                             \
  void argmax(int64_t outer, int64_t axis, int64_t inner, const T* x, int32_t* y);                               \
  void slice(const SliceDims& dims, size_t element, const void* x, void* y);                                     \
  /** x = 0, then x[begin + i step] = y[i]: adjoint of slice, and with step 1 zero padding. */                   \
  void unslice(const SliceDims& dims, size_t element, const void* y, void* x);                                   \
  /** y mirrors x at its border elements, which are not repeated. */                                             \
  void pad_reflect(const PadDims& dims, size_t element, const void* x, void* y);                                 \
  /** dx sums dy over the positions that mirror to it, in the order of dy. */                                    \
  template <class T>                                                                                             \
  void pad_reflect_adjoint(const PadDims& dims, const T* dy, T* dx);                                             \
  void concat(const ConcatDims& dims, size_t element, const void* const* x, void* y);                            \
  void transpose(const TransposeDims& dims, size_t element, const void* x, void* y);

namespace reference {
RANVIER_INDEX_FUNCTIONS
}  // namespace reference
namespace cpu {
RANVIER_INDEX_FUNCTIONS
}  // namespace cpu
#undef RANVIER_INDEX_FUNCTIONS

/// The same on a CUDA device, for bf16 and f16 too (summed in f32, rounded once); argmax is in kernels/reduce. Bad
/// indices are found by a kernel of its own, `first_outside`, since nothing is returned. Where 32-bit indices are
/// faster, arrays of more than `narrow` elements take 64-bit ones.
namespace cuda {
/// Lowers *first to the position of the first index outside 0 ... axis - 1, if there is one.
template <class I>
void first_outside(int64_t count, int64_t axis, const I* indices, unsigned long long* first, CudaStream stream);
template <class T, class I>
void gather(const GatherDims& dims, const T* x, const I* indices, T* y, CudaStream stream,
            int64_t narrow = most_narrow);
template <class T, class I>
void scatter_add(const GatherDims& dims, const T* dy, const I* indices, T* dx, CudaStream stream);
template <class T, class I>
void one_hot(int64_t n, int64_t classes, const I* labels, T* y, CudaStream stream);
void slice(const SliceDims& dims, size_t element, const void* x, void* y, CudaStream stream,
           int64_t narrow = most_narrow);
void unslice(const SliceDims& dims, size_t element, const void* y, void* x, CudaStream stream,
             int64_t narrow = most_narrow);
void pad_reflect(const PadDims& dims, size_t element, const void* x, void* y, CudaStream stream,
                 int64_t narrow = most_narrow);
template <class T>
void pad_reflect_adjoint(const PadDims& dims, const T* dy, T* dx, CudaStream stream);
void concat(const ConcatDims& dims, size_t element, const void* const* x, void* y, CudaStream stream);
void transpose(const TransposeDims& dims, size_t element, const void* x, void* y, CudaStream stream);
}  // namespace cuda

}  // namespace ranvier::kernels
