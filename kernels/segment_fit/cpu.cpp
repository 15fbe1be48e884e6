// Segments side by side on the CPU's threads, sixteen lanes of a sum in a vector each.
#include "kernels/common/parallel.h"
#include "kernels/segment_fit/search.h"

namespace ranvier::kernels::cpu {
namespace {

struct Alone {
  static constexpr int64_t width = FitDims::lanes, rank = 0, size = 1;
  void sync() const {}
};

}  // namespace

size_t segment_fit_workspace(const FitDims& dims) {
  return static_cast<size_t>(dims.batch * dims.scratch()) * sizeof(double);
}

void segment_fit(const FitDims& dims, const FitLimits& limits, const double* s, const double* description,
                 const double* unknowns, const double* memory, const double* info, double* next_unknowns,
                 double* next_memory, double* next_info, void* workspace) {
  parallel_for(dims.batch, [&](int64_t k) {
    segment_fit::Search<Alone> search({}, dims, limits, description + k * FitDims::columns,
                                      static_cast<double*>(workspace) + k * dims.scratch());
    search.run(s + k * dims.points, unknowns + k * dims.unknowns(), memory + k * dims.memory(),
               info + k * FitDims::info_columns, next_unknowns + k * dims.unknowns(), next_memory + k * dims.memory(),
               next_info + k * FitDims::info_columns);
  });
}

}  // namespace ranvier::kernels::cpu
