// Plain loops over all pairs, with the C library's functions and sums in f64: the oracle of the other variants.
#include <algorithm>
#include <cmath>
#include <vector>

#include "kernels/coupling/coupling.h"

namespace ranvier::kernels::reference {
namespace {

struct Pair {
  double kappa, slope, difference[3];
};

template <class T>
Pair pair_at(const PairDims& d, const T* p, int64_t i, int64_t j) {
  Pair pair{};
  double t = 0;
  for (int64_t a = 0; a < d.axes; ++a) {
    pair.difference[a] = static_cast<double>(p[i * d.axes + a]) - static_cast<double>(p[j * d.axes + a]);
    t += pair.difference[a] * pair.difference[a];
  }
  const CouplingLaw& law = d.law;
  const double d2 = t + law.softening * law.softening, l2 = law.length * law.length;
  if (law.kind == CouplingLaw::gaussian) {
    pair.kappa = std::exp(-d2 / (2 * l2));
    pair.slope = -1 / l2;
  } else {
    pair.kappa = std::pow(1 + d2 / l2, -law.power / 2) * std::exp(-std::sqrt(d2) / law.decay);
    pair.slope = -law.power / (l2 + d2);
    if (1 / law.decay > 0) pair.slope -= 1 / (law.decay * std::sqrt(d2));
  }
  return pair;
}

}  // namespace

template <class T>
void pair_apply(const PairDims& d, const T* x, const T* positions, T* y) {
  for (int64_t b = 0; b < d.batch; ++b)
    for (int64_t i = 0; i < d.n; ++i) {
      double sum = 0;
      for (int64_t j = 0; j < d.n; ++j)
        if (j != i) sum += pair_at(d, positions, i, j).kappa * static_cast<double>(x[b * d.n + j]);
      y[b * d.n + i] = static_cast<T>(sum);
    }
}

template <class T>
void pair_positions(const PairDims& d, const T* g, const T* x, const T* positions, T* dp) {
  for (int64_t i = 0; i < d.n; ++i) {
    double sum[3] = {};
    for (int64_t j = 0; j < d.n; ++j) {
      if (j == i) continue;
      double s = 0;
      for (int64_t b = 0; b < d.batch; ++b)
        s += static_cast<double>(g[b * d.n + i]) * static_cast<double>(x[b * d.n + j]) +
             static_cast<double>(g[b * d.n + j]) * static_cast<double>(x[b * d.n + i]);
      const Pair pair = pair_at(d, positions, i, j);
      for (int64_t a = 0; a < d.axes; ++a) sum[a] += s * pair.kappa * pair.slope * pair.difference[a];
    }
    for (int64_t a = 0; a < d.axes; ++a) dp[i * d.axes + a] = static_cast<T>(sum[a]);
  }
}

namespace {

/// S_ij of the pair.
template <class T>
double product_of(const PairDims& d, const T* x, int64_t i, int64_t j) {
  double s = 0;
  for (int64_t b = 0; b < d.batch; ++b) s += static_cast<double>(x[b * d.n + i]) * static_cast<double>(x[b * d.n + j]);
  return s;
}

/// v_i w_j + v_j w_i.
template <class T>
double shared_of(const T* v, const T* w, int64_t i, int64_t j) {
  return static_cast<double>(v[i]) * static_cast<double>(w[j]) + static_cast<double>(v[j]) * static_cast<double>(w[i]);
}

}  // namespace

template <class T>
void pair_squares(const PairDims& d, const T* x, const T* w, const T* positions, T* q) {
  for (int64_t i = 0; i < d.n; ++i) {
    double sum = 0;
    for (int64_t j = 0; j < d.n; ++j) {
      if (j == i) continue;
      const double s = product_of(d, x, i, j);
      sum += pair_at(d, positions, i, j).kappa * static_cast<double>(w[j]) * s * s;
    }
    q[i] = static_cast<T>(sum);
  }
}

template <class T>
void pair_squares_values(const PairDims& d, const T* v, const T* x, const T* w, const T* positions, T* dx) {
  std::vector<double> sums(static_cast<size_t>(d.batch));
  for (int64_t i = 0; i < d.n; ++i) {
    std::fill(sums.begin(), sums.end(), 0.0);
    for (int64_t j = 0; j < d.n; ++j) {
      if (j == i) continue;
      const double a = 2 * shared_of(v, w, i, j) * pair_at(d, positions, i, j).kappa * product_of(d, x, i, j);
      for (int64_t b = 0; b < d.batch; ++b) sums[static_cast<size_t>(b)] += a * static_cast<double>(x[b * d.n + j]);
    }
    for (int64_t b = 0; b < d.batch; ++b) dx[b * d.n + i] = static_cast<T>(sums[static_cast<size_t>(b)]);
  }
}

template <class T>
void pair_squares_positions(const PairDims& d, const T* v, const T* x, const T* w, const T* positions, T* dp) {
  for (int64_t i = 0; i < d.n; ++i) {
    double sum[3] = {};
    for (int64_t j = 0; j < d.n; ++j) {
      if (j == i) continue;
      const Pair pair = pair_at(d, positions, i, j);
      const double s = product_of(d, x, i, j), a = shared_of(v, w, i, j) * pair.kappa * pair.slope * s * s;
      for (int64_t axis = 0; axis < d.axes; ++axis) sum[axis] += a * pair.difference[axis];
    }
    for (int64_t axis = 0; axis < d.axes; ++axis) dp[i * d.axes + axis] = static_cast<T>(sum[axis]);
  }
}

template <class T>
void pair_matrix(const PairDims& d, const T* positions, T* kappa) {
  for (int64_t i = 0; i < d.n; ++i)
    for (int64_t j = 0; j < d.n; ++j)
      kappa[i * d.n + j] = i == j ? T(0) : static_cast<T>(pair_at(d, positions, i, j).kappa);
}

#define RANVIER_INSTANCE(T)                                                                          \
  template void pair_apply<T>(const PairDims&, const T*, const T*, T*);                              \
  template void pair_positions<T>(const PairDims&, const T*, const T*, const T*, T*);                \
  template void pair_matrix<T>(const PairDims&, const T*, T*);                                       \
  template void pair_squares<T>(const PairDims&, const T*, const T*, const T*, T*);                  \
  template void pair_squares_values<T>(const PairDims&, const T*, const T*, const T*, const T*, T*); \
  template void pair_squares_positions<T>(const PairDims&, const T*, const T*, const T*, const T*, T*);
RANVIER_INSTANCE(float)
RANVIER_INSTANCE(double)
#undef RANVIER_INSTANCE

}  // namespace ranvier::kernels::reference
