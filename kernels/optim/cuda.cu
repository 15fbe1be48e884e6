// Optimizers over lists of tensors on a CUDA device: one launch for all tensors of a call. All of them are bound by
// memory: every thread has a 16-byte access to each of its tensors under way, which at full occupancy is several times
// the bytes in flight that HBM needs.
#include "kernels/optim/list.cuh"
#include "kernels/optim/loss_scale.h"
#include "kernels/optim/optim.h"
#include "kernels/optim/schedule.h"

namespace ranvier::kernels::cuda {
namespace {

/// An update that did not happen: every result is its predecessor.
template <class T>
__device__ void keep_old(const ParamSlice<T>& s, int64_t piece) {
  for_each_in_piece(s, piece, [&](auto width, int64_t i) {
    if (s.p_new && s.p_new != s.p) store_pack(s.p_new + i, load_pack<width>(s.p + i));
    if (s.m_new && s.m_new != s.m) store_pack(s.m_new + i, load_pack<width>(s.m + i));
    if (s.v_new && s.v_new != s.v) store_pack(s.v_new + i, load_pack<width>(s.v + i));
  });
}

template <class T, bool has_momentum>
__global__ void __launch_bounds__(piece_threads)
    sgd_kernel(const __grid_constant__ ListArgument<T> list, SgdConfig<T> config, const T* lr, const T* grad_scale,
               const int64_t* skip) {
  const int k = list.map.find(blockIdx.x);
  const ParamSlice<T>& s = list.items[k];
  const int64_t piece = blockIdx.x - list.map.first[k];
  if (skip && *skip != 0) return keep_old(s, piece);
  const T rate = product(*lr, s.lr_scale), scale = grad_scale ? *grad_scale : T(1), decay = s.weight_decay;
  for_each_in_piece(s, piece, [&](auto width, int64_t i) {
    auto p = load_pack<width>(s.p + i);
    const auto gradient = load_pack<width>(s.g + i);
    auto moment = gradient;
    if constexpr (has_momentum) moment = load_pack<width>(s.m + i);
#pragma unroll
    for (int e = 0; e < width; ++e) {
      const T from = p.v[e], g = product(scale, gradient.v[e]) + product(decay, from);
      T direction = g;
      if constexpr (has_momentum) {
        const T m = product(config.momentum, moment.v[e]) + g;
        moment.v[e] = m;
        direction = config.nesterov ? g + product(config.momentum, m) : m;
      }
      p.v[e] = from - product(rate, direction);
    }
    if constexpr (has_momentum) store_pack(s.m_new + i, moment);
    store_pack(s.p_new + i, p);
  });
}

template <class T>
__global__ void __launch_bounds__(piece_threads)
    adamw_kernel(const __grid_constant__ ListArgument<T> list, AdamWConfig<T> config, const T* lr, const int64_t* step,
                 const T* grad_scale, const int64_t* skip) {
  const int k = list.map.find(blockIdx.x);
  const ParamSlice<T>& s = list.items[k];
  const int64_t piece = blockIdx.x - list.map.first[k];
  if (skip && *skip != 0) return keep_old(s, piece);
  // a few dozen f64 multiplications, once a block, behind the memory traffic of the blocks beside it
  RANVIER_SHARED(T, correction, [2]);
  if (threadIdx.x == 0) correction[0] = static_cast<T>(bias_correction(config.beta1, *step + 1));
  if (threadIdx.x == 32) correction[1] = static_cast<T>(root(bias_correction(config.beta2, *step + 1)));
  __syncthreads();
  const T rate = product(*lr, s.lr_scale), scale = grad_scale ? *grad_scale : T(1);
  const T keep = T(1) - product(rate, s.weight_decay), step_size = quotient(rate, correction[0]);
  const T correction2 = correction[1];
  for_each_in_piece(s, piece, [&](auto width, int64_t i) {
    auto p = load_pack<width>(s.p + i), m = load_pack<width>(s.m + i), v = load_pack<width>(s.v + i);
    const auto gradient = load_pack<width>(s.g + i);
#pragma unroll
    for (int e = 0; e < width; ++e) {
      const T g = product(scale, gradient.v[e]);
      m.v[e] = product(config.beta1, m.v[e]) + product(T(1) - config.beta1, g);
      v.v[e] = product(config.beta2, v.v[e]) + product(T(1) - config.beta2, product(g, g));
      const T direction = quotient(m.v[e], quotient(root(v.v[e]), correction2) + config.epsilon);
      p.v[e] = product(p.v[e], keep) - product(step_size, direction);
    }
    store_pack(s.m_new + i, m);
    store_pack(s.v_new + i, v);
    store_pack(s.p_new + i, p);
  });
}

template <class T>
__global__ void __launch_bounds__(piece_threads)
    ema_kernel(const __grid_constant__ ListArgument<T> list, const T* decay, const int64_t* skip) {
  const int k = list.map.find(blockIdx.x);
  const ParamSlice<T>& s = list.items[k];
  const int64_t piece = blockIdx.x - list.map.first[k];
  if (skip && *skip != 0) return keep_old(s, piece);
  const T keep = *decay, take = T(1) - *decay;
  for_each_in_piece(s, piece, [&](auto width, int64_t i) {
    auto m = load_pack<width>(s.m + i);
    const auto p = load_pack<width>(s.p + i);
#pragma unroll
    for (int e = 0; e < width; ++e) m.v[e] = product(keep, m.v[e]) + product(take, p.v[e]);
    store_pack(s.m_new + i, m);
  });
}

// ---- sums over all gradients: a partial one a piece, then one block over the pieces ----

struct Square {
  template <class T>
  __device__ double operator()(T g) const {
    return product(double{g}, double{g});
  }
};
struct NotFinite {
  __device__ double operator()(float g) const { return (to_bits(g) & 0x7f800000u) == 0x7f800000u ? 1 : 0; }
  __device__ double operator()(double g) const {
    constexpr uint64_t exponent = 0x7ff0000000000000u;
    return (to_bits(g) & exponent) == exponent ? 1 : 0;
  }
};

template <class T, class Map>
__global__ void __launch_bounds__(piece_threads)
    partial_sums_kernel(const __grid_constant__ ListArgument<T> list, double* partial) {
  const int k = list.map.find(blockIdx.x);
  double sum = 0;
  for_each_in_piece(list.items[k], blockIdx.x - list.map.first[k], [&](auto width, int64_t i) {
    const auto g = load_pack<width>(list.items[k].g + i);
#pragma unroll
    for (int e = 0; e < width; ++e) sum += Map{}(g.v[e]);
  });
  sum = sum_over_block(sum);
  if (threadIdx.x == 0) partial[blockIdx.x] = sum;
}

/// *result = the sum of the partial ones, or its root.
template <bool take_root, class Result>
__global__ void __launch_bounds__(piece_threads) total_kernel(const double* partial, int64_t pieces, Result* result) {
  double sum = 0;
  for (int64_t k = threadIdx.x; k < pieces; k += piece_threads) sum += partial[k];
  sum = sum_over_block(sum);
  if (threadIdx.x == 0) *result = static_cast<Result>(take_root ? root(sum) : sum);
}

template <class Map, bool take_root, class T, class Result>
void sum_gradients(const TensorList<T>& list, double* workspace, Result* result, CudaStream stream) {
  int64_t pieces = 0;
  for_each_part(list, [&](const ListArgument<T>& part, int64_t before) {
    launch(partial_sums_kernel<T, Map>, {part.map.blocks(), piece_threads, 0, stream}, part, workspace + before);
    pieces = before + part.map.blocks();
  });
  launch(total_kernel<take_root, Result>, {1, piece_threads, 0, stream}, workspace, pieces, result);
}

// ---- scalars of a step ----

template <class T>
__global__ void schedule_kernel(LrSchedule schedule, const int64_t* step, T* lr) {
  kernels::learning_rate(schedule, step, lr);
}
__global__ void count_kernel(const int64_t* counter, const int64_t* skip, int64_t* counter_new) {
  kernels::count_update(counter, skip, counter_new);
}
template <class T>
__global__ void loss_scale_kernel(LossScaleConfig config, const T* scale, const int64_t* clean, const int64_t* skipped,
                                  const int64_t* nonfinite, T* scale_new, int64_t* clean_new, int64_t* skipped_new) {
  kernels::update_loss_scale(config, scale, clean, skipped, nonfinite, scale_new, clean_new, skipped_new);
}

}  // namespace

template <class T>
void sgd(const TensorList<T>& list, const SgdConfig<T>& config, const T* lr, const T* grad_scale, const int64_t* skip,
         CudaStream stream) {
  const auto kernel = config.momentum != T(0) ? sgd_kernel<T, true> : sgd_kernel<T, false>;
  for_each_part(list, [&](const ListArgument<T>& part, int64_t) {
    launch(kernel, {part.map.blocks(), piece_threads, 0, stream}, part, config, lr, grad_scale, skip);
  });
}

template <class T>
void adamw(const TensorList<T>& list, const AdamWConfig<T>& config, const T* lr, const int64_t* step,
           const T* grad_scale, const int64_t* skip, CudaStream stream) {
  for_each_part(list, [&](const ListArgument<T>& part, int64_t) {
    launch(adamw_kernel<T>, {part.map.blocks(), piece_threads, 0, stream}, part, config, lr, step, grad_scale, skip);
  });
}

template <class T>
void ema(const TensorList<T>& list, const T* decay, const int64_t* skip, CudaStream stream) {
  for_each_part(list, [&](const ListArgument<T>& part, int64_t) {
    launch(ema_kernel<T>, {part.map.blocks(), piece_threads, 0, stream}, part, decay, skip);
  });
}

template <class T>
void global_norm(const TensorList<T>& list, double* workspace, T* norm, CudaStream stream) {
  sum_gradients<Square, true>(list, workspace, norm, stream);
}

template <class T>
void count_nonfinite(const TensorList<T>& list, double* workspace, int64_t* count, CudaStream stream) {
  sum_gradients<NotFinite, false>(list, workspace, count, stream);
}

template <class T>
void learning_rate(const LrSchedule& schedule, const int64_t* step, T* lr, CudaStream stream) {
  launch(schedule_kernel<T>, {1, 1, 0, stream}, schedule, step, lr);
}

void count_update(const int64_t* counter, const int64_t* skip, int64_t* counter_new, CudaStream stream) {
  launch(count_kernel, {1, 1, 0, stream}, counter, skip, counter_new);
}

template <class T>
void update_loss_scale(const LossScaleConfig& config, const T* scale, const int64_t* clean, const int64_t* skipped,
                       const int64_t* nonfinite, T* scale_new, int64_t* clean_new, int64_t* skipped_new,
                       CudaStream stream) {
  launch(loss_scale_kernel<T>, {1, 1, 0, stream}, config, scale, clean, skipped, nonfinite, scale_new, clean_new,
         skipped_new);
}

#define RANVIER_INSTANTIATE(T)                                                                                         \
  template void sgd(const TensorList<T>&, const SgdConfig<T>&, const T*, const T*, const int64_t*, CudaStream);        \
  template void adamw(const TensorList<T>&, const AdamWConfig<T>&, const T*, const int64_t*, const T*, const int64_t*, \
                      CudaStream);                                                                                     \
  template void ema(const TensorList<T>&, const T*, const int64_t*, CudaStream);                                       \
  template void global_norm(const TensorList<T>&, double*, T*, CudaStream);                                            \
  template void count_nonfinite(const TensorList<T>&, double*, int64_t*, CudaStream);                                  \
  template void learning_rate(const LrSchedule&, const int64_t*, T*, CudaStream);                                      \
  template void update_loss_scale(const LossScaleConfig&, const T*, const int64_t*, const int64_t*, const int64_t*,    \
                                  T*, int64_t*, int64_t*, CudaStream);
RANVIER_INSTANTIATE(float)
RANVIER_INSTANTIATE(double)
#undef RANVIER_INSTANTIATE

}  // namespace ranvier::kernels::cuda
