// Segments side by side on the CPU's threads, sixteen lanes of a sum in a vector each.
#include "kernels/common/parallel.h"
#include "kernels/segment_fit/search.h"

namespace ranvier::kernels::cpu {
namespace {

/// One worker that has all lanes, and holds all four sums.
struct Alone {
  static constexpr int width = FitDims::lanes, held = 4, rank = 0, size = 1, group = 0, groups = 1, lane = 0;
  static constexpr bool writes = true, leads = true;
  static int part(int k) { return k; }
  void sync() const {}

  void total(const double (&sum)[4][width], double (&out)[held]) const {
    for (int r = 0; r < 4; ++r) {
      double a[8], b[4];
      for (int l = 0; l < 8; ++l) a[l] = sum[r][l] + sum[r][l + 8];
      for (int l = 0; l < 4; ++l) b[l] = a[l] + a[l + 4];
      out[r] = (b[0] + b[2]) + (b[1] + b[3]);
    }
  }
  double over_parts(const double (&term)[held]) const { return (term[0] + term[1]) + (term[2] + term[3]); }
};

}  // namespace

size_t segment_fit_workspace(const FitDims& dims) {
  return static_cast<size_t>(dims.batch * dims.scratch()) * sizeof(double);
}

void segment_fit(const FitDims& dims, const FitLimits& limits, const double* s, const double* description,
                 const double* unknowns, const double* memory, const double* info, double* next_unknowns,
                 double* next_memory, double* next_info, void* workspace) {
  parallel_for(dims.batch, [&](int64_t k) {
    segment_fit::Search<Alone> search({}, dims, limits, static_cast<double*>(workspace) + k * dims.scratch());
    search.run(s + k * dims.points, description + k * FitDims::columns, unknowns + k * dims.unknowns(),
               memory + k * dims.memory(), info + k * FitDims::info_columns, next_unknowns + k * dims.unknowns(),
               next_memory + k * dims.memory(), next_info + k * FitDims::info_columns);
  });
}

}  // namespace ranvier::kernels::cpu
