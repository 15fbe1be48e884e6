// Matrix product by oneDNN's sgemm: shards fixed by the shape, each on one thread, so that thread counts change no bit.
#include <omp.h>
#include <oneapi/dnnl/dnnl.h>

#include <algorithm>
#include <atomic>
#include <stdexcept>

#include "kernels/common/parallel.h"
#include "kernels/matmul/matmul.h"
#include "kernels/matmul/micro_kernel.h"

namespace ranvier::kernels {
namespace {

MatmulCut cut_of(const MatmulDims& d) { return matmul_cut(d, 256, 256); }

/// sgemm cuts its work by the number of threads the calling thread may use: one.
class OneThread {
 public:
  OneThread() : before_(omp_get_max_threads()) { omp_set_num_threads(1); }
  ~OneThread() { omp_set_num_threads(before_); }
  OneThread(const OneThread&) = delete;
  OneThread& operator=(const OneThread&) = delete;

 private:
  int before_;
};

/// Rows [row, row + rows), columns and depth steps alike, of one product; c points at its own first element.
struct Shard {
  int64_t row, rows, column, columns, step, steps;
};

bool multiply(const MatmulDims& d, const Shard& s, const float* a, const float* b, float* c) {
  const OneThread one_thread;
  const int64_t lda = d.transpose_a ? d.m : d.k, ldb = d.transpose_b ? d.k : d.n;
  const float* from_a = a + (d.transpose_a ? s.step * lda + s.row : s.row * lda + s.step);
  const float* from_b = b + (d.transpose_b ? s.column * ldb + s.step : s.step * ldb + s.column);
  return dnnl_sgemm(d.transpose_a ? 'T' : 'N', d.transpose_b ? 'T' : 'N', s.rows, s.columns, s.steps, 1.0f, from_a, lda,
                    from_b, ldb, 0.0f, c, d.n) == dnnl_success;
}

}  // namespace

size_t matmul_onednn_workspace(const MatmulDims& d) {
  const int64_t parts = cut_of(d).depth_parts;
  return parts > 1 ? Carver::line + Carver::bytes<float>((parts - 1) * d.m * d.n) : 0;
}

void matmul_onednn(const MatmulDims& d, const float* a, const float* b, float* c, void* workspace) {
  if (d.c_size() == 0) return;
  if (d.k == 0) {
    std::fill_n(c, d.c_size(), 0.0f);
    return;
  }
  const MatmulCut cut = cut_of(d);
  std::atomic<bool> failed = false;
  if (cut.batch_parallel) {
    parallel_for(d.batch, [&](int64_t i) {
      if (!multiply(d, {0, d.m, 0, d.n, 0, d.k}, a + i * d.m * d.k, b + i * d.k * d.n, c + i * d.m * d.n))
        failed = true;
    });
  }
  for (int64_t i = 0; i < d.batch && !cut.batch_parallel; ++i, a += d.m * d.k, b += d.k * d.n, c += d.m * d.n) {
    float* partial = Carver(workspace).take<float>((cut.depth_parts - 1) * d.m * d.n);
    parallel_for(cut.depth_parts * cut.row_parts * cut.column_parts, [&](int64_t part) {  // only one of them exceeds 1
      const auto piece = [&](int64_t size, int64_t parts) {
        return parts > 1 ? std::pair(shard_begin(size, parts, part), shard_begin(size, parts, part + 1))
                         : std::pair(int64_t{0}, size);
      };
      const auto [row, row_end] = piece(d.m, cut.row_parts);
      const auto [column, column_end] = piece(d.n, cut.column_parts);
      const auto [step, step_end] = piece(d.k, cut.depth_parts);
      float* to = cut.depth_parts > 1 && part > 0 ? partial + (part - 1) * d.m * d.n : c + row * d.n + column;
      if (!multiply(d, {row, row_end - row, column, column_end - column, step, step_end - step}, a, b, to))
        failed = true;
    });
    for (int64_t part = 1; part < cut.depth_parts; ++part)
      for (int64_t j = 0; j < d.m * d.n; ++j) c[j] += partial[(part - 1) * d.m * d.n + j];
  }
  if (failed) throw std::runtime_error("matmul: oneDNN's sgemm failed");
}

}  // namespace ranvier::kernels
