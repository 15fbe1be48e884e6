// Lists of spikes in order on a CUDA device: tiles sorted in shared memory, then merged pairwise.
#include "kernels/common/launch.h"
#include "kernels/izhikevich/population_cuda.h"

namespace ranvier::kernels::izhikevich::cuda {
namespace {

constexpr int tile = 1024, sorters = tile / 2, mergers = 256;

/// An event as it is compared: by step, then neuron, then offset. Equal ones are the same in every bit.
struct Ordered {
  uint64_t step_neuron;
  double offset;

  friend __device__ bool operator<(const Ordered& a, const Ordered& b) {
    return a.step_neuron != b.step_neuron ? a.step_neuron < b.step_neuron : a.offset < b.offset;
  }
};

inline __device__ Ordered load(const Event* from) {
  const Event e = *from;
  return {uint64_t{e.step} << 32 | e.neuron, e.offset};
}

inline __device__ void store(const Ordered& x, Event* to) {
  *to = {static_cast<uint32_t>(x.step_neuron), static_cast<uint32_t>(x.step_neuron >> 32), x.offset};
}

/// Each tile in ascending order, by a bitonic network. Places beyond n hold what no event is and stay behind.
__global__ void __launch_bounds__(sorters) sort_tiles_kernel(int64_t n, Event* events) {
  RANVIER_SHARED(uint64_t, keys, [tile]);
  RANVIER_SHARED(double, offsets, [tile]);
  const int64_t first = int64_t{blockIdx.x} * tile;
  const auto me = static_cast<int>(threadIdx.x);
#pragma unroll
  for (int k = me; k < tile; k += sorters) {
    const Ordered x = first + k < n ? load(events + first + k) : Ordered{~uint64_t{0}, 0};
    keys[k] = x.step_neuron, offsets[k] = x.offset;
  }
  for (int size = 2; size <= tile; size *= 2) {
    for (int apart = size / 2; apart > 0; apart /= 2) {
      __syncthreads();
      const int low = 2 * me - (me & (apart - 1)), high = low + apart;  // the pair's bits around a 0 at `apart`
      const Ordered a{keys[low], offsets[low]}, b{keys[high], offsets[high]};
      if ((low & size) == 0 ? b < a : a < b) {
        keys[low] = b.step_neuron, offsets[low] = b.offset;
        keys[high] = a.step_neuron, offsets[high] = a.offset;
      }
    }
  }
  __syncthreads();
#pragma unroll
  for (int k = me; k < tile; k += sorters)
    if (first + k < n) store({keys[k], offsets[k]}, events + first + k);
}

/// Events before `x` among the `count` ordered ones; those equal to it count where `equal`.
inline __device__ int64_t rank_of(const Ordered& x, const Event* events, int64_t count, bool equal) {
  int64_t low = 0, high = count;
  while (low < high) {
    const int64_t middle = (low + high) / 2;
    const Ordered there = load(events + middle);
    if (equal ? !(x < there) : there < x)
      low = middle + 1;
    else
      high = middle;
  }
  return low;
}

/// Merges neighbouring runs of `run` events: each goes to its place in its own run plus its rank in the other.
__global__ void __launch_bounds__(mergers) merge_kernel(int64_t n, int64_t run, const Event* from, Event* to) {
  const int64_t i = int64_t{blockIdx.x} * mergers + threadIdx.x;
  if (i >= n) return;
  const int64_t pair = i / (2 * run) * (2 * run), middle = min(pair + run, n), end = min(pair + 2 * run, n);
  const Ordered x = load(from + i);
  const int64_t place = i < middle ? i + rank_of(x, from + middle, end - middle, false)
                                   : pair + (i - middle) + rank_of(x, from + pair, middle - pair, true);
  store(x, to + place);
}

}  // namespace

const Event* order(int64_t n, Event* events, Event* scratch, CudaStream stream) {
  launch(sort_tiles_kernel, {dim3(grid_of((n + tile - 1) / tile)), dim3(sorters), 0, stream}, n, events);
  for (int64_t run = tile; run < n; run *= 2) {
    launch(merge_kernel, {dim3(grid_of((n + mergers - 1) / mergers)), dim3(mergers), 0, stream}, n, run,
           static_cast<const Event*>(events), scratch);
    std::swap(events, scratch);
  }
  return events;
}

}  // namespace ranvier::kernels::izhikevich::cuda
