// A segment a block: network, equations, line search and inverse Hessian in its shared memory, so that a batch of any
// size is one launch for many iterations, and a block that has ended leaves its processor to others.
#include "kernels/common/launch.h"
#include "kernels/segment_fit/search.h"

namespace ranvier::kernels::cuda {
namespace {

// Three warps a scheduler, which hides the latency of f64 in `tanh`; 24 groups of 16 lanes, so that the sums of 23
// hidden units are one round; 168 registers a thread.
constexpr int threads = 384;
constexpr int64_t most_shared = 160 * 1024;  // of sm_80's 163 KB; sm_90 has 227

/// A worker a lane: sixteen neighbouring threads are a group, half a warp.
struct Block {
  static constexpr int width = 1, held = 1, size = threads, groups = threads / FitDims::lanes;
  int rank, group, lane;
  bool writes, leads;

  __device__ explicit Block(int thread)
      : rank(thread),
        group(thread / FitDims::lanes),
        lane(thread % FitDims::lanes),
        writes(lane % 4 == 0),
        leads(lane == 0) {}
  __device__ void sync() const { __syncthreads(); }
  __device__ int part(int) const { return lane / 4; }
  __device__ double from(double value, int apart) const {
    return __shfl_xor_sync(0xffffu << (rank & 16), value, apart);
  }

  /// Lanes 0 to 3 end with sum 0, 4 to 7 with sum 1 and so on: half of the sums is given away at each of two exchanges.
  __device__ void total(const double (&sum)[4][width], double (&out)[held]) const {
    const bool upper = lane & 8, odd = lane & 4;
    const double a = (upper ? sum[2][0] : sum[0][0]) + from(upper ? sum[0][0] : sum[2][0], 8),
                 b = (upper ? sum[3][0] : sum[1][0]) + from(upper ? sum[1][0] : sum[3][0], 8);
    double own = (odd ? b : a) + from(odd ? a : b, 4);
    own += from(own, 2);
    out[0] = own + from(own, 1);
  }
  __device__ double over_parts(const double (&term)[held]) const {
    const double pair = term[0] + from(term[0], 4);
    return pair + from(pair, 8);
  }
};

__global__ void __launch_bounds__(threads, 1)
    segment_fit_kernel(FitDims dims, FitLimits limits, const double* s, const double* description,
                       const double* unknowns, const double* memory, const double* info, double* next_unknowns,
                       double* next_memory, double* next_info) {
  RANVIER_DYNAMIC_SHARED(bytes);
  const int64_t k = blockIdx.x;
  segment_fit::Search<Block> search(Block(static_cast<int>(threadIdx.x)), dims, limits,
                                    reinterpret_cast<double*>(bytes));
  search.run(s + k * dims.points, description + k * FitDims::columns, unknowns + k * dims.unknowns(),
             memory + k * dims.memory(), info + k * FitDims::info_columns, next_unknowns + k * dims.unknowns(),
             next_memory + k * dims.memory(), next_info + k * FitDims::info_columns);
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
