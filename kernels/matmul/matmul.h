// Batched matrix products: dimensions and variants.
#pragma once
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <span>

#include "kernels/common/half.h"
#include "kernels/common/stream.h"

namespace ranvier::kernels {

/// c[b] = op(a[b]) op(b[b]) for b < batch, row-major and contiguous: op(a) is (m, k), op(b) is (k, n), c is (m, n).
/// With transpose_a, a[b] is stored as (k, m); with transpose_b, b[b] as (n, k). Any size may be 0; k = 0 gives zeros.
struct MatmulDims {
  int64_t batch = 1, m = 0, n = 0, k = 0;
  bool transpose_a = false, transpose_b = false;
  int64_t a_size() const { return batch * m * k; }
  int64_t b_size() const { return batch * k * n; }
  int64_t c_size() const { return batch * m * n; }
  double flops() const { return 2.0 * static_cast<double>(c_size()) * static_cast<double>(k); }
};

/// Plain loops; T is float or double, and sums are of type T. The oracle of the other variants.
template <class T>
void matmul_reference(const MatmulDims& dims, const T* a, const T* b, T* c);

/// Our register-blocked product on packed panels; T is float or double. Only the order of additions differs from the
/// reference; bit-equal results for any number of threads. Workspace in bytes.
template <class T>
size_t matmul_native_workspace(const MatmulDims& dims);
template <class T>
void matmul_native(const MatmulDims& dims, const T* a, const T* b, T* c, void* workspace);

#if defined(RANVIER_HAS_ONEDNN)
/// oneDNN's sgemm on shards fixed by the shape, each on one thread: bit-equal results for any number of threads.
/// Workspace in bytes (oneDNN itself takes packing buffers from the heap). Throws std::runtime_error when oneDNN fails.
size_t matmul_onednn_workspace(const MatmulDims& dims);
void matmul_onednn(const MatmulDims& dims, const float* a, const float* b, float* c, void* workspace);
#endif

/// How one product of the batch is cut for threads: parts of the depth (added in order afterwards), else parts of the
/// rows or of the columns.
struct MatmulCut {
  int64_t depth_parts = 1, row_parts = 1, column_parts = 1;
  bool batch_parallel = false;  // many small products: each is one task, not cut
};

/// The cut of a shape: tall reductions by depth, others in blocks of about `rows_aim` rows or `columns_aim` columns, in
/// even numbers so that two threads share evenly.
inline MatmulCut matmul_cut(const MatmulDims& d, int64_t rows_aim, int64_t columns_aim) {
  const auto even_parts = [](int64_t size, int64_t aim, int64_t most) {
    const int64_t parts = std::max<int64_t>((size + aim - 1) / aim, 2);
    return std::clamp<int64_t>(parts + parts % 2, 1, std::max<int64_t>(std::min(size, most), 1));
  };
  MatmulCut cut;
  if (d.batch >= 4) {
    cut.batch_parallel = true;
  } else if (d.m * d.n * d.k < 32 * 32 * 32) {
    return cut;  // not worth waking a thread
  } else if (d.k >= 1024 && d.k >= 4 * std::max(d.m, d.n) && d.m * d.n <= 256 * 256) {
    cut.depth_parts = even_parts(d.k, 256, 16);
  } else if (d.m >= 48 || d.m >= d.n) {
    cut.row_parts = even_parts(d.m, rows_aim, 4096);
  } else {
    cut.column_parts = even_parts(d.n, columns_aim, 4096);
  }
  return cut;
}

// ---- CUDA ----

/// How a CUDA product is cut into blocks: square tiles of the result, and `splits` parts of the depth whose sums are
/// added in order afterwards.
struct MatmulCudaCut {
  int64_t tile = 64;  ///< 64 or 128
  int64_t splits = 1, split_depth = 0;
};

/// The cut of `d` in tiles of one size, a block working `stage_depth` steps of depth at a time: where the tiles do not
/// fill a large device, the depth is split, for each part to keep at least 256 steps.
inline MatmulCudaCut matmul_cuda_cut(const MatmulDims& d, int64_t tile, int64_t stage_depth) {
  constexpr int64_t slots = 264, least_depth = 256, most_splits = 64;  // 132 multiprocessors, two blocks each
  const auto parts = [](int64_t size, int64_t of) { return (size + of - 1) / of; };
  const int64_t tiles = std::max<int64_t>(d.batch * parts(d.m, tile) * parts(d.n, tile), 1);
  const int64_t wish = std::min({slots / tiles, d.k / least_depth, most_splits});
  const int64_t stages = std::max<int64_t>(parts(d.k, stage_depth), 1);
  const int64_t per_split = parts(stages, std::max<int64_t>(wish, 1));
  return {tile, parts(stages, per_split), per_split * stage_depth};
}

/// The default cut for element type T: large tiles where they fill half a large device.
template <class T>
MatmulCudaCut matmul_cuda_cut(const MatmulDims& d) {
  const int64_t stage_depth = 64 / static_cast<int64_t>(sizeof(T));
  const MatmulCudaCut large = matmul_cuda_cut(d, 128, stage_depth);
  const int64_t blocks = d.batch * ((d.m + 127) / 128) * ((d.n + 127) / 128) * large.splits;
  if (sizeof(T) <= 4 && d.m > 64 && d.n > 64 && blocks >= 132) return large;
  return matmul_cuda_cut(d, 64, stage_depth);
}

/// Scratch bytes of a cut: the f32 (for double: f64) sums of each split.
template <class T>
size_t matmul_cuda_workspace(const MatmulDims& d, const MatmulCudaCut& cut) {
  return cut.splits > 1 ? static_cast<size_t>(cut.splits * d.c_size()) * sizeof(compute_t<T>) : 0;
}

/// The product on a CUDA device. T is float or double (fused multiply-adds, one sum in order of depth a split), or bf16
/// or f16 (tensor cores, f32 sums, rounded once at the end). Bits depend on the shape alone.
template <class T>
void matmul_cuda(const MatmulDims& d, const MatmulCudaCut& cut, const T* a, const T* b, T* c, void* workspace,
                 CudaStream stream);
/// The same on tensor cores with f32 operands rounded to the 10 mantissa bits of tf32; f32 sums.
void matmul_cuda_tf32(const MatmulDims& d, const MatmulCudaCut& cut, const float* a, const float* b, float* c,
                      void* workspace, CudaStream stream);

/// One product of a group: d = alpha op(a) op(b) + beta c, flags and layouts as in MatmulDims. c is (m, n) and may be d
/// itself; it is not read where beta is 0. Neither a nor b may overlap d.
template <class T>
struct GroupedProduct {
  int64_t m = 0, n = 0, k = 0;
  bool transpose_a = false, transpose_b = false;
  /// The result is known to be symmetric (so m = n, and c is): half of it is computed and mirrored, exactly symmetric.
  bool symmetric = false;
  const T *a = nullptr, *b = nullptr, *c = nullptr;
  T* d = nullptr;
};

/// Scratch bytes of matmul_grouped.
template <class T>
size_t matmul_grouped_workspace(std::span<const GroupedProduct<T>> products);

/// Products of different shapes in one launch (two where depths are split; 24 products a launch), as the Newton-Schulz
/// iterations of Muon over all its matrices need them. T is bf16 or f16 (tensor cores) or float (fused multiply-adds);
/// sums are f32, rounded once. Bits depend on the list of shapes alone. Throws std::runtime_error on a symmetric
/// product with m != n.
template <class T>
void matmul_grouped(std::span<const GroupedProduct<T>> products, float alpha, float beta, void* workspace,
                    CudaStream stream);

}  // namespace ranvier::kernels
