// A segment a block: network, equations, line search and inverse Hessian in its shared memory, so that a batch of any
// size is one launch for many iterations, and a block that has ended leaves its processor to others.
#include "kernels/common/launch.h"
#include "kernels/segment_fit/search.h"

namespace ranvier::kernels::cuda {
namespace {

constexpr int threads = 256;
constexpr int64_t most_shared = 160 * 1024;  // of sm_80's 163 KB; sm_90 has 227

struct Block {
  static constexpr int64_t width = 1, size = threads;
  int64_t rank;
  __device__ void sync() const { __syncthreads(); }
};

__global__ void __launch_bounds__(threads, 1)
    segment_fit_kernel(FitDims dims, FitLimits limits, const double* s, const double* description,
                       const double* unknowns, const double* memory, const double* info, double* next_unknowns,
                       double* next_memory, double* next_info) {
  RANVIER_DYNAMIC_SHARED(bytes);
  const int64_t k = blockIdx.x;
  segment_fit::Search<Block> search({static_cast<int64_t>(threadIdx.x)}, dims, limits,
                                    description + k * FitDims::columns, reinterpret_cast<double*>(bytes));
  search.run(s + k * dims.points, unknowns + k * dims.unknowns(), memory + k * dims.memory(),
             info + k * FitDims::info_columns, next_unknowns + k * dims.unknowns(), next_memory + k * dims.memory(),
             next_info + k * FitDims::info_columns);
}

size_t shared_bytes(const FitDims& dims) { return static_cast<size_t>(dims.scratch()) * sizeof(double); }

}  // namespace

bool segment_fit_supports(const FitDims& dims) { return static_cast<int64_t>(shared_bytes(dims)) <= most_shared; }

void segment_fit(const FitDims& dims, const FitLimits& limits, const double* s, const double* description,
                 const double* unknowns, const double* memory, const double* info, double* next_unknowns,
                 double* next_memory, double* next_info, CudaStream stream) {
  launch(segment_fit_kernel, {grid_of(dims.batch), threads, shared_bytes(dims), stream}, dims, limits, s, description,
         unknowns, memory, info, next_unknowns, next_memory, next_info);
}

}  // namespace ranvier::kernels::cuda
