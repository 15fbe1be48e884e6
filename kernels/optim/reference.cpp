// Plain loops over every tensor of the list: the oracle of the optimizers.
#include <algorithm>
#include <cmath>

#include "kernels/optim/optim.h"

namespace ranvier::kernels {

namespace reference {
namespace {

/// True where the update is to be skipped; every result then is its predecessor.
template <class T>
bool skipped(const TensorList<T>& list, const int64_t* skip) {
  if (!skip || *skip == 0) return false;
  const auto keep = [](const T* from, T* to, int64_t n) {
    if (to && to != from) std::copy(from, from + n, to);
  };
  for (int64_t k = 0; k < list.count; ++k) {
    const ParamSlice<T>& s = list.items[k];
    keep(s.p, s.p_new, s.n), keep(s.m, s.m_new, s.n), keep(s.v, s.v_new, s.n);
  }
  return true;
}

}  // namespace

template <class T>
void sgd(const TensorList<T>& list, const SgdConfig<T>& config, const T* lr, const T* grad_scale, const int64_t* skip) {
  if (skipped(list, skip)) return;
  for (int64_t k = 0; k < list.count; ++k) {
    const ParamSlice<T>& s = list.items[k];
    const T rate = *lr * s.lr_scale, scale = grad_scale ? *grad_scale : T(1);
    for (int64_t i = 0; i < s.n; ++i) {
      const T p = s.p[i], g = scale * s.g[i] + s.weight_decay * p;
      T direction = g;
      if (config.momentum != T(0)) {
        const T m = config.momentum * s.m[i] + g;
        s.m_new[i] = m;
        direction = config.nesterov ? g + config.momentum * m : m;
      }
      s.p_new[i] = p - rate * direction;
    }
  }
}

template <class T>
void adamw(const TensorList<T>& list, const AdamWConfig<T>& config, const T* lr, const int64_t* step,
           const T* grad_scale, const int64_t* skip) {
  if (skipped(list, skip)) return;
  const T correction1 = static_cast<T>(bias_correction(config.beta1, *step + 1));
  const T correction2 = static_cast<T>(std::sqrt(bias_correction(config.beta2, *step + 1)));
  for (int64_t k = 0; k < list.count; ++k) {
    const ParamSlice<T>& s = list.items[k];
    const T rate = *lr * s.lr_scale, scale = grad_scale ? *grad_scale : T(1);
    for (int64_t i = 0; i < s.n; ++i) {
      const T g = scale * s.g[i];
      const T m = config.beta1 * s.m[i] + (T(1) - config.beta1) * g;
      const T v = config.beta2 * s.v[i] + (T(1) - config.beta2) * (g * g);
      const T p = s.p[i] * (T(1) - rate * s.weight_decay);
      s.m_new[i] = m;
      s.v_new[i] = v;
      s.p_new[i] = p - rate / correction1 * (m / (std::sqrt(v) / correction2 + config.epsilon));
    }
  }
}

template <class T>
void ema(const TensorList<T>& list, const T* decay, const int64_t* skip) {
  if (skipped(list, skip)) return;
  for (int64_t k = 0; k < list.count; ++k) {
    const ParamSlice<T>& s = list.items[k];
    for (int64_t i = 0; i < s.n; ++i) s.m_new[i] = *decay * s.m[i] + (T(1) - *decay) * s.p[i];
  }
}

template <class T>
void global_norm(const TensorList<T>& list, double*, T* norm) {
  double total = 0;
  for (int64_t k = 0; k < list.count; ++k) {
    const ParamSlice<T>& s = list.items[k];
    double sum = 0;
    for (int64_t i = 0; i < s.n; ++i) sum += double{s.g[i]} * double{s.g[i]};
    total += sum;
  }
  *norm = static_cast<T>(std::sqrt(total));
}

template <class T>
void count_nonfinite(const TensorList<T>& list, double*, int64_t* count) {
  int64_t total = 0;
  for (int64_t k = 0; k < list.count; ++k) {
    const ParamSlice<T>& s = list.items[k];
    for (int64_t i = 0; i < s.n; ++i) total += !std::isfinite(s.g[i]);
  }
  *count = total;
}

#define RANVIER_INSTANTIATE(T)                                                                            \
  template void sgd<T>(const TensorList<T>&, const SgdConfig<T>&, const T*, const T*, const int64_t*);    \
  template void adamw<T>(const TensorList<T>&, const AdamWConfig<T>&, const T*, const int64_t*, const T*, \
                         const int64_t*);                                                                 \
  template void ema<T>(const TensorList<T>&, const T*, const int64_t*);                                   \
  template void global_norm<T>(const TensorList<T>&, double*, T*);                                        \
  template void count_nonfinite<T>(const TensorList<T>&, double*, int64_t*);
RANVIER_INSTANTIATE(float)
RANVIER_INSTANTIATE(double)
#undef RANVIER_INSTANTIATE

}  // namespace reference

template <class T>
void clip_scale(const T* norm, T max_norm, T* scale) {
  const T ratio = max_norm / (*norm + T(1e-6));
  *scale = ratio > T(1) ? T(1) : ratio;
}
template void clip_scale<float>(const float*, float, float*);
template void clip_scale<double>(const double*, double, double*);

}  // namespace ranvier::kernels
