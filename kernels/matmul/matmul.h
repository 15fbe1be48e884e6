// Batched matrix product on the CPU: its dimensions and variants.
#pragma once
#include <algorithm>
#include <cstddef>
#include <cstdint>

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

}  // namespace ranvier::kernels
