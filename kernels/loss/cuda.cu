// Softmax cross-entropy, its gradient and top-1 hits on a CUDA device: one warp a row.
#include <limits>

#include "kernels/common/launch.h"
#include "kernels/common/math.h"
#include "kernels/loss/loss.h"

namespace ranvier::kernels::cuda {
namespace {

constexpr int warp = 32, warps = 4;
constexpr unsigned everyone = 0xffffffffu;

/// Rows of a launch and who works on them.
struct Rows {
  int64_t row, step, lane;
  __device__ Rows()
      : row(int64_t{blockIdx.x} * warps + threadIdx.x / warp),
        step(int64_t{gridDim.x} * warps),
        lane(threadIdx.x % warp) {}
};

__device__ int64_t valid_rows(int64_t n, const int32_t* valid) {
  return valid ? min(max(int64_t{*valid}, int64_t{0}), n) : n;
}

/// Every lane gets the sum over the warp, added pairwise in one order.
template <class T>
__device__ T sum_over_warp(T value) {
#pragma unroll
  for (int apart = warp / 2; apart > 0; apart /= 2) value += __shfl_xor_sync(everyone, value, apart);
  return value;
}
template <class T>
__device__ T greatest_of_warp(T value) {
#pragma unroll
  for (int apart = warp / 2; apart > 0; apart /= 2) {
    const T other = __shfl_xor_sync(everyone, value, apart);
    value = other > value ? other : value;
  }
  return value;
}

template <class T>
__global__ void __launch_bounds__(warp* warps)
    loss_kernel(LossDims d, const T* logits, const int32_t* labels, const int32_t* valid, T* loss, T* probabilities) {
  const int64_t rows = valid_rows(d.n, valid);
  const auto smoothing = static_cast<T>(d.smoothing);
  Rows r;
  for (int64_t i = r.row; i < d.n; i += r.step) {
    const T* z = logits + i * d.classes;
    T* p = probabilities + i * d.classes;
    if (i >= rows) {  // the same for the whole warp
      for (int64_t k = r.lane; k < d.classes; k += warp) p[k] = 0;
      if (r.lane == 0) loss[i] = 0;
      continue;
    }
    T most = -std::numeric_limits<T>::infinity();  // a NaN may hide, but exp spreads it over the row's sum
    for (int64_t k = r.lane; k < d.classes; k += warp) most = z[k] > most ? z[k] : most;
    most = greatest_of_warp(most);
    T sum = 0, shifted = 0;
    for (int64_t k = r.lane; k < d.classes; k += warp) {
      const T below = z[k] - most;
      sum += math::exp(below);
      shifted += below;
    }
    sum = sum_over_warp(sum), shifted = sum_over_warp(shifted);
    for (int64_t k = r.lane; k < d.classes; k += warp) p[k] = math::exp(z[k] - most) / sum;
    if (r.lane == 0) {
      const int32_t label = labels[i];
      const bool known = label >= 0 && label < d.classes;
      const T at_label = known ? z[label] - most : std::numeric_limits<T>::quiet_NaN();
      const T mean = shifted / static_cast<T>(d.classes);
      loss[i] = math::log(sum) - (1 - smoothing) * at_label - (smoothing != 0 ? smoothing * mean : T(0));
    }
  }
}

template <class T>
__global__ void __launch_bounds__(warp* warps)
    gradient_kernel(LossDims d, const T* probabilities, const int32_t* labels, const int32_t* valid, const T* dloss,
                    T* dlogits) {
  const int64_t rows = valid_rows(d.n, valid);
  const T smoothing = static_cast<T>(d.smoothing), share = smoothing / static_cast<T>(d.classes);
  Rows r;
  for (int64_t i = r.row; i < d.n; i += r.step) {
    const T* p = probabilities + i * d.classes;
    T* g = dlogits + i * d.classes;
    const bool padding = i >= rows;
    const int64_t label = padding ? 0 : labels[i];
    const bool known = label >= 0 && label < d.classes;
    const T wrong = known ? T(0) : std::numeric_limits<T>::quiet_NaN(), weight = padding ? T(0) : dloss[i];
    for (int64_t k = r.lane; k < d.classes; k += warp) {
      const T target = share + (k == label ? 1 - smoothing : T(0));
      g[k] = padding ? T(0) : (p[k] - target + wrong) * weight;
    }
  }
}

template <class T>
__global__ void __launch_bounds__(warp* warps)
    correct_kernel(LossDims d, const T* logits, const int32_t* labels, const int32_t* valid, T* hit) {
  const int64_t rows = valid_rows(d.n, valid);
  Rows r;
  for (int64_t i = r.row; i < d.n; i += r.step) {
    const T* z = logits + i * d.classes;
    const int64_t label = i < rows ? labels[i] : -1;
    bool best = label >= 0 && label < d.classes;
    const T at = best ? z[label] : T(0);
    for (int64_t k = r.lane; k < d.classes && best; k += warp)
      best = k < label ? z[k] < at : z[k] <= at;  // false for a NaN on either side
    best = __all_sync(everyone, best);
    if (r.lane == 0) hit[i] = best ? T(1) : T(0);
  }
}

LaunchConfig by_rows(const LossDims& d, CudaStream stream) { return {blocks_for(d.n, warps), warp * warps, 0, stream}; }

}  // namespace

template <class T>
void softmax_cross_entropy(const LossDims& d, const T* logits, const int32_t* labels, const int32_t* valid, T* loss,
                           T* probabilities, CudaStream stream) {
  launch(loss_kernel<T>, by_rows(d, stream), d, logits, labels, valid, loss, probabilities);
}
template <class T>
void softmax_cross_entropy_gradient(const LossDims& d, const T* probabilities, const int32_t* labels,
                                    const int32_t* valid, const T* dloss, T* dlogits, CudaStream stream) {
  launch(gradient_kernel<T>, by_rows(d, stream), d, probabilities, labels, valid, dloss, dlogits);
}
template <class T>
void correct(const LossDims& d, const T* logits, const int32_t* labels, const int32_t* valid, T* hit,
             CudaStream stream) {
  launch(correct_kernel<T>, by_rows(d, stream), d, logits, labels, valid, hit);
}

#define RANVIER_INSTANTIATE(T)                                                                                        \
  template void softmax_cross_entropy(const LossDims&, const T*, const int32_t*, const int32_t*, T*, T*, CudaStream); \
  template void softmax_cross_entropy_gradient(const LossDims&, const T*, const int32_t*, const int32_t*, const T*,   \
                                               T*, CudaStream);                                                       \
  template void correct(const LossDims&, const T*, const int32_t*, const int32_t*, T*, CudaStream);
RANVIER_INSTANTIATE(float)
RANVIER_INSTANTIATE(double)
#undef RANVIER_INSTANTIATE

}  // namespace ranvier::kernels::cuda
