// Softmax cross-entropy in plain loops: the oracle of the fast versions, in f32 and f64.
#include <algorithm>
#include <cmath>
#include <limits>

#include "kernels/loss/loss.h"

namespace ranvier::kernels::reference {
namespace {

bool in_range(const LossDims& d, int32_t label) { return label >= 0 && label < d.classes; }

int64_t valid_rows(const LossDims& d, const int32_t* valid) {
  return valid ? std::clamp<int64_t>(*valid, 0, d.n) : d.n;
}

}  // namespace

template <class T>
void softmax_cross_entropy(const LossDims& d, const T* logits, const int32_t* labels, const int32_t* valid, T* loss,
                           T* probabilities) {
  const int64_t rows = valid_rows(d, valid);
  std::fill(loss + rows, loss + d.n, T(0));
  std::fill(probabilities + rows * d.classes, probabilities + d.n * d.classes, T(0));
  for (int64_t i = 0; i < rows; ++i) {
    const T* z = logits + i * d.classes;
    T* p = probabilities + i * d.classes;
    const T most = *std::max_element(z, z + d.classes);  // shifted by it, no exp overflows and no digits are lost
    T sum = 0, shifted = 0;
    for (int64_t k = 0; k < d.classes; ++k) {
      p[k] = std::exp(z[k] - most);
      sum += p[k];
      shifted += z[k] - most;
    }
    for (int64_t k = 0; k < d.classes; ++k) p[k] /= sum;
    const T smoothing = static_cast<T>(d.smoothing), mean = shifted / static_cast<T>(d.classes);
    const T at_label = in_range(d, labels[i]) ? z[labels[i]] - most : std::numeric_limits<T>::quiet_NaN();
    loss[i] = std::log(sum) - (1 - smoothing) * at_label - (smoothing != 0 ? smoothing * mean : T(0));
  }
}

template <class T>
void softmax_cross_entropy_gradient(const LossDims& d, const T* probabilities, const int32_t* labels,
                                    const int32_t* valid, const T* dloss, T* dlogits) {
  const int64_t rows = valid_rows(d, valid);
  std::fill(dlogits + rows * d.classes, dlogits + d.n * d.classes, T(0));
  const T smoothing = static_cast<T>(d.smoothing), share = smoothing / static_cast<T>(d.classes);
  for (int64_t i = 0; i < rows; ++i)
    for (int64_t k = 0; k < d.classes; ++k) {
      const T target = share + (k == labels[i] ? 1 - smoothing : T(0));
      const T wrong = in_range(d, labels[i]) ? T(0) : std::numeric_limits<T>::quiet_NaN();
      dlogits[i * d.classes + k] = (probabilities[i * d.classes + k] - target + wrong) * dloss[i];
    }
}

template <class T>
void correct(const LossDims& d, const T* logits, const int32_t* labels, const int32_t* valid, T* hit) {
  const int64_t rows = valid_rows(d, valid);
  std::fill(hit + rows, hit + d.n, T(0));
  for (int64_t i = 0; i < rows; ++i) {
    const T* z = logits + i * d.classes;
    bool best = in_range(d, labels[i]);
    for (int64_t k = 0; k < d.classes && best; ++k)
      best = k < labels[i] ? z[k] < z[labels[i]] : z[k] <= z[labels[i]];  // false for a NaN on either side
    hit[i] = best ? T(1) : T(0);
  }
}

template void softmax_cross_entropy(const LossDims&, const float*, const int32_t*, const int32_t*, float*, float*);
template void softmax_cross_entropy(const LossDims&, const double*, const int32_t*, const int32_t*, double*, double*);
template void softmax_cross_entropy_gradient(const LossDims&, const float*, const int32_t*, const int32_t*,
                                             const float*, float*);
template void softmax_cross_entropy_gradient(const LossDims&, const double*, const int32_t*, const int32_t*,
                                             const double*, double*);
template void correct(const LossDims&, const float*, const int32_t*, const int32_t*, float*);
template void correct(const LossDims&, const double*, const int32_t*, const int32_t*, double*);

}  // namespace ranvier::kernels::reference
