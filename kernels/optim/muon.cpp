// Muon on one matrix with a matmul given by the caller: oracle of the composed op, and a plain way to run it.
#include "kernels/optim/muon.h"

#include <algorithm>
#include <cmath>

namespace ranvier::kernels::reference {
namespace {

/// Frobenius norm, summed in f64.
template <class T>
double frobenius(int64_t n, const T* x) {
  double sum = 0;
  for (int64_t i = 0; i < n; ++i) sum += double{x[i]} * double{x[i]};
  return std::sqrt(sum);
}

}  // namespace

template <class T>
void gemm(bool transpose_a, bool transpose_b, int64_t m, int64_t n, int64_t k, T alpha, const T* a, const T* b, T beta,
          T* c) {
  for (int64_t i = 0; i < m; ++i) {
    for (int64_t j = 0; j < n; ++j) {
      T sum = 0;
      for (int64_t l = 0; l < k; ++l) {
        sum += (transpose_a ? a[l * m + i] : a[i * k + l]) * (transpose_b ? b[j * k + l] : b[l * n + j]);
      }
      T& out = c[i * n + j];
      out = beta == T(0) ? alpha * sum : alpha * sum + beta * out;
    }
  }
}

template <class T>
void muon_orthogonalize(int64_t rows, int64_t cols, const T* u, const NewtonSchulz& config, Gemm<T> gemm, T* workspace,
                        T* out) {
  const bool tall = rows > cols;  // then A = X^T X and X <- a X + X B, the same polynomial on the smaller side
  const int64_t size = rows * cols, side = tall ? cols : rows;
  T *copy = workspace, *gram = copy + size, *poly = gram + side * side;
  const T scale = static_cast<T>(1.0 / (frobenius(size, u) + 1e-7));
  for (int64_t i = 0; i < size; ++i) out[i] = u[i] * scale;
  const T a = static_cast<T>(config.a), b = static_cast<T>(config.b), c = static_cast<T>(config.c);
  for (int iteration = 0; iteration < config.iterations; ++iteration) {
    gemm(tall, !tall, side, side, tall ? rows : cols, T(1), out, out, T(0), gram);
    std::copy(gram, gram + side * side, poly);
    gemm(false, false, side, side, side, c, gram, gram, b, poly);
    std::copy(out, out + size, copy);
    if (tall) {
      gemm(false, false, rows, cols, side, T(1), copy, poly, a, out);
    } else {
      gemm(false, false, rows, cols, side, T(1), poly, copy, a, out);
    }
  }
}

template <class T>
void muon_step(int64_t rows, int64_t cols, const T* w, const T* g, const T* m, const MuonConfig& config, const T* lr,
               Gemm<T> gemm, T* workspace, T* w_new, T* m_new) {
  const int64_t size = rows * cols;
  T *update = workspace, *rest = workspace + size;
  const T momentum = static_cast<T>(config.momentum);
  for (int64_t i = 0; i < size; ++i) {
    const T gradient = g[i], moment = momentum * m[i] + gradient;
    m_new[i] = moment;
    update[i] = config.nesterov ? gradient + momentum * moment : moment;
  }
  muon_orthogonalize(rows, cols, update, config.newton_schulz, gemm, rest, update);
  const T scale = config.renormalize ? static_cast<T>(std::sqrt(static_cast<double>(rows)) / frobenius(size, w)) : T(1);
  const T keep = T(1) - *lr * static_cast<T>(config.weight_decay);
  for (int64_t i = 0; i < size; ++i) w_new[i] = w[i] * scale * keep - *lr * update[i];
}

#define RANVIER_INSTANTIATE(T)                                                                                         \
  template void gemm<T>(bool, bool, int64_t, int64_t, int64_t, T, const T*, const T*, T, T*);                          \
  template void muon_orthogonalize<T>(int64_t, int64_t, const T*, const NewtonSchulz&, Gemm<T>, T*, T*);               \
  template void muon_step<T>(int64_t, int64_t, const T*, const T*, const T*, const MuonConfig&, const T*, Gemm<T>, T*, \
                             T*, T*);
RANVIER_INSTANTIATE(float)
RANVIER_INSTANTIATE(double)
#undef RANVIER_INSTANTIATE

}  // namespace ranvier::kernels::reference
