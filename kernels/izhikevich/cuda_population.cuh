// The loop of a population on a CUDA device, a thread a neuron: private to the sources that instantiate it.
#pragma once
#include "kernels/common/launch.h"
#include "kernels/izhikevich/population_cuda.h"
#include "kernels/izhikevich/population_fields.h"

// State, coefficients and counts are in registers for all steps of a call, so a call of many steps is bound by
// arithmetic, and one of a single step by memory. The few lanes of a warp that reach the peak run located.h while the
// others wait; at 30 Hz and 0.1 ms that is one step of a warp in ten. Four blocks of 128 threads allow 128 registers a
// thread, which the f64 kernels need.

namespace ranvier::kernels::izhikevich::cuda {

constexpr int threads = 128;

/// The spikes of one neuron in one step, until it is known whether the list has room for them.
struct StepSpikes {
  double offset[max_events + 1];
  int count = 0;

  RANVIER_HD_INLINE void add(double at) {
    if (count <= max_events) offset[count++] = at;
  }
};

/// Lists a step's spikes; false where there is no room, and then nothing is listed.
inline __device__ bool list_spikes(const SpikeList& list, const StepSpikes& spikes, uint32_t neuron, uint32_t step) {
  if (spikes.count == 0) return true;
  const auto wanted = static_cast<Progress::Word>(spikes.count), capacity = static_cast<Progress::Word>(list.capacity);
  const Progress::Word first = atomicAdd(&list.progress->reserved, wanted);
  if (first + wanted > capacity) {  // who asks first for what is not there leaves the only gap: up to the list's end
    if (first <= capacity) list.progress->full = first + 1;
    return false;
  }
  for (int k = 0; k < spikes.count; ++k)
    list.events[first + static_cast<Progress::Word>(k)] = {neuron, step, spikes.offset[k]};
  return true;
}

inline __device__ void report(Progress* progress, Failure failure, int64_t neuron, uint32_t step) {
  atomicMax(&progress->failure, ~packed(failure, static_cast<uint32_t>(neuron), step));
}

/// The step at which a neuron starts in this launch: `steps` where it has nothing to do.
inline __device__ uint32_t first_step(const SpikeList& list, bool again, int64_t neuron, uint32_t steps) {
  if (!again) return 0;
  const uint32_t at = list.stopped[neuron];
  if (at == not_stopped) return steps;
  list.stopped[neuron] = not_stopped;
  return at;
}

/// Names a neuron whose state at the end of a call is not finite.
template <class T>
__device__ void check_finite(const SpikeList& list, State<T> y, int64_t neuron, uint32_t steps) {
  const T zero = (y.v - y.v) + (y.u - y.u);  // NaN unless both are finite
  if (!(zero >= zero)) report(list.progress, Failure::diverged, neuron, steps - 1);
}

/// One step without its reset; `before` is the memory of Adams-Bashforth.
template <class Method, class Drive, class T>
__device__ State<T> map_neuron(const Method& method, const Field<T, Drive>& f, State<T> y, const Length<T>& length,
                               State<T>& before) {
  if constexpr (has_memory<Method>) {
    const State<T> now = f(y, T(0));
    const State<T> y1 = is_nan(before.v) ? midpoint_from(f, y, now, length) : adams_bashforth(y, now, before, length);
    before = now;
    return y1;
  } else {
    return method(f, y, length);
  }
}

/// All steps of one neuron.
template <class Method, class Drive, bool Located, class T>
__device__ void advance_neuron(const PopulationCall<T>& call, const Method& method, const Length<T>& length,
                               const SpikeList& list, bool again, int64_t neuron) {
  uint32_t step = first_step(list, again, neuron, call.steps);
  if (step == call.steps) return;
  const Field<T, Drive> f = field_of<Drive>(call, rates_of<T>(call, neuron), neuron);
  const Reset<T> reset = reset_of<T>(call, neuron);
  const T level = call.zero ? T(0) : reset.v_peak;
  State<T> y{call.v[neuron], call.u[neuron]}, before{};
  if constexpr (has_memory<Method>) before = {call.slope_v[neuron], call.slope_u[neuron]};
  uint32_t counted = 0;
  for (; step < call.steps; ++step) {
    const State<T> remembered = before;
    const State<T> y1 = map_neuron(method, f, y, length, before);
    if (y1.v < level) {
      y = y1;
      continue;
    }
    StepSpikes spikes;
    const Finish<T> end = finish_step<Located>(method, f, reset, length, call.h, call.zero, y, y1, spikes);
    if (call.events && !list_spikes(list, spikes, static_cast<uint32_t>(neuron), step)) {
      list.stopped[neuron] = step;
      before = remembered;
      break;
    }
    y = end.y;
    counted += static_cast<uint32_t>(spikes.count);
    if (end.jumped && has_memory<Method>) before.v = no_slope<T>();
    if (end.pieces) atomicAdd(&list.progress->pieces, static_cast<Progress::Word>(end.pieces));
    if (end.ending != Ending::done) {
      report(list.progress, end.ending == Ending::runaway ? Failure::runaway : Failure::unsolvable, neuron, step);
      break;
    }
  }
  call.v[neuron] = y.v, call.u[neuron] = y.u;
  if constexpr (has_memory<Method>) call.slope_v[neuron] = before.v, call.slope_u[neuron] = before.u;
  if (call.counts && counted) call.counts[neuron] += counted;
  if (step == call.steps) check_finite(list, y, neuron, call.steps);
}

template <class Method, class Drive, bool Located, class T>
__global__ void __launch_bounds__(threads, 4)
    advance_kernel(PopulationCall<T> call, Method method, Length<T> length, SpikeList list, bool again) {
  const int64_t neuron = int64_t{blockIdx.x} * threads + threadIdx.x;
  if (neuron < call.n) advance_neuron<Method, Drive, Located>(call, method, length, list, again, neuron);
}

/// Neighbours whose state is 16 bytes of v and 16 of u.
template <class T>
struct alignas(16) Neighbours {
  static constexpr int count = 16 / sizeof(T);
  T x[count];
};

/// A single step, which is bound by memory: a thread has the states of several neurons on their way at once. Where one
/// of them does not simply stay below the peak all of them are stepped as ever, from the state in memory.
template <class Method, bool Located, class T>
__global__ void __launch_bounds__(threads, 4)
    single_step_kernel(PopulationCall<T> call, Method method, Length<T> length, SpikeList list) {
  using Four = Neighbours<T>;
  const int64_t first = (int64_t{blockIdx.x} * threads + threadIdx.x) * Four::count;
  if (first >= call.n) return;
  const Four v = *reinterpret_cast<const Four*>(call.v + first), u = *reinterpret_cast<const Four*>(call.u + first);
  Four v1, u1;
  bool plain = true;
#pragma unroll
  for (int k = 0; k < Four::count; ++k) {  // what stands beyond n, in the padding, may be anything
    const Field<T, Held<T>> f = field_of<Held<T>>(call, rates_of<T>(call, first + k), first + k);
    const State<T> y = method(f, State<T>{v.x[k], u.x[k]}, length);
    const T zero = (y.v - y.v) + (y.u - y.u);
    plain = plain && y.v < (call.zero ? T(0) : coefficient<T>(call.v_peak, first + k)) && zero >= zero;
    v1.x[k] = y.v, u1.x[k] = y.u;
  }
  if (plain) {
    *reinterpret_cast<Four*>(call.v + first) = v1, *reinterpret_cast<Four*>(call.u + first) = u1;
    return;
  }
  for (int64_t neuron = first; neuron < min(first + Four::count, call.n); ++neuron)
    advance_neuron<Method, Held<T>, Located>(call, method, length, list, false, neuron);
}

template <Map Scheme, class T>
__global__ void __launch_bounds__(threads, 4) printed_kernel(PopulationCall<T> call, T h, SpikeList list, bool again) {
  const int64_t neuron = int64_t{blockIdx.x} * threads + threadIdx.x;
  if (neuron >= call.n) return;
  uint32_t step = first_step(list, again, neuron, call.steps);
  if (step == call.steps) return;
  const Printed<T> k = printed_of<T>(call, neuron);
  const Reset<T> reset = reset_of<T>(call, neuron);
  T current = coefficient<T>(call.drive, neuron);
  if (call.current) current = current + call.current[neuron];
  State<T> y{call.v[neuron], call.u[neuron]};
  uint32_t counted = 0;
  for (; step < call.steps; ++step) {
    const State<T> start = y;
    bool fired = false;
    if constexpr (Scheme == Map::printed_2004) {
      T above;
      y = published_2004(k, reset, y, current, h, fired, above);
      if (call.zero) fired = start.v < T(0) && above >= T(0);
    } else {
      if (!call.update_only) y = published_2003_reset(reset, y, fired);
      if (call.zero || call.update_only) fired = false;
      const T from = y.v;
      if (!call.reset_only) y = published_2003_update(k, y, current, h);
      if (call.zero) fired = from < T(0) && y.v >= T(0);
    }
    if (!fired) continue;
    StepSpikes
        spikes;  // the scripts' times: of the loop in which it is seen, but 0 mV in that of 2003 after the update
    spikes.add(Scheme == Map::printed_2003 && call.zero ? call.h : 0);
    if (call.events && !list_spikes(list, spikes, static_cast<uint32_t>(neuron), step)) {
      list.stopped[neuron] = step;
      y = start;
      break;
    }
    ++counted;
  }
  call.v[neuron] = y.v, call.u[neuron] = y.u;
  if (call.counts && counted) call.counts[neuron] += counted;
  if (step == call.steps) check_finite(list, y, neuron, call.steps);
}

/// One launch with one method.
template <class T, class Method>
void advance_with(const PopulationCall<T>& call, const Method& method, const SpikeList& list, bool again,
                  CudaStream stream) {
  const LaunchConfig config{dim3(grid_of((call.n + threads - 1) / threads)), dim3(threads), 0, stream};
  const Length<T> length = Length<T>::whole(call.h);
  if constexpr (!has_memory<Method>) {
    if (call.steps == 1 && !again && !call.ramp) {
      constexpr int64_t block = threads * Neighbours<T>::count;
      const auto kernel = call.located ? single_step_kernel<Method, true, T> : single_step_kernel<Method, false, T>;
      return launch(kernel, {dim3(grid_of((call.n + block - 1) / block)), dim3(threads), 0, stream}, call, method,
                    length, list);
    }
  }
  if (!call.located)
    launch(advance_kernel<Method, Held<T>, false, T>, config, call, method, length, list, again);
  else if (call.ramp)
    launch(advance_kernel<Method, Ramp<T>, true, T>, config, call, method, length, list, again);
  else
    launch(advance_kernel<Method, Held<T>, true, T>, config, call, method, length, list, again);
}

// Instances: cuda_population_explicit.cu, cuda_population_runge_kutta.cu, cuda_population_implicit.cu.
#define RANVIER_DEVICE_POPULATION_METHOD(prefix, method)                                                              \
  prefix template void advance_with(const PopulationCall<float>&, const method&, const SpikeList&, bool, CudaStream); \
  prefix template void advance_with(const PopulationCall<double>&, const method&, const SpikeList&, bool, CudaStream);

}  // namespace ranvier::kernels::izhikevich::cuda
