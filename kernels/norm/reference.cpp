// Batch norm with activation and 2x2 max-pool in plain loops: the oracle of the fast versions, in f32 and f64.
#include <array>
#include <cmath>
#include <stdexcept>
#include <string>

#include "kernels/norm/norm.h"

namespace ranvier::kernels {
namespace {

template <class T>
T activate(Activation act, T v) {
  switch (act) {
    case Activation::relu:
      return v < 0 ? T(0) : v;
    case Activation::gelu:
      return v * T(0.5) * std::erfc(-v * T(0.70710678118654752440));
    case Activation::silu:
      return v / (1 + std::exp(-v));
    case Activation::none:
      break;
  }
  return v;
}

template <class T>
T slope(Activation act, T v) {
  switch (act) {
    case Activation::relu:
      return v <= 0 ? T(0) : T(1);
    case Activation::gelu:
      return T(0.5) * std::erfc(-v * T(0.70710678118654752440)) +
             v * std::exp(-v * v / 2) * T(0.39894228040143267794);  // Phi(v) + v phi(v)
    case Activation::silu: {
      const T s = 1 / (1 + std::exp(-v));
      return s * (1 + v * (1 - s));
    }
    case Activation::none:
      break;
  }
  return T(1);
}

/// The affine map of one channel.
template <class T>
struct Channel {
  T mean, rstd, gamma, beta;
  T hat(T x) const { return (x - mean) * rstd; }
  T operator()(T x) const { return (x - mean) * (rstd * gamma) + beta; }
};

/// Offsets into x of the four members of the window at output position (row, c).
std::array<int64_t, 4> window(const NormDims& d, int64_t row, int64_t c) {
  const int64_t q = row % d.out_w(), p = row / d.out_w() % d.out_h(), n = row / (d.out_w() * d.out_h());
  const int64_t first = ((n * d.h + 2 * p) * d.w + 2 * q) * d.c + c;
  return {first, first + d.c, first + d.w * d.c, first + d.w * d.c + d.c};
}

/// Winner of a window under `key`: the greatest, the first among equals, the last NaN.
template <class T, class Key>
uint8_t winner(const std::array<int64_t, 4>& at, const T* x, Key key) {
  uint8_t best = 0;
  for (uint8_t i = 1; i < 4; ++i) {
    const T k = key(x[at[i]]);
    if (k > key(x[at[best]]) || std::isnan(k)) best = i;
  }
  return best;
}

/// Output row whose window the input row (n, i, j flattened) won, or -1.
int64_t won(const NormDims& d, const uint8_t* index, int64_t row, int64_t c) {
  const int64_t j = row % d.w, i = row / d.w % d.h, n = row / (d.w * d.h);
  if (i / 2 >= d.out_h() || j / 2 >= d.out_w()) return -1;
  const int64_t out = (n * d.out_h() + i / 2) * d.out_w() + j / 2;
  return index[out * d.c + c] == i % 2 * 2 + j % 2 ? out : -1;
}

/// Winner with pool `after`: see the header on plateaus.
template <class T>
uint8_t winner_after(const NormDims& d, const std::array<int64_t, 4>& at, const T* x, const Channel<T>& channel) {
  if (d.act == Activation::none || d.act == Activation::relu) {
    const T sign = T(channel.gamma > 0) - T(channel.gamma < 0);
    return winner(at, x, [&](T v) { return v * sign; });
  }
  return winner(at, x, [&](T v) { return activate(d.act, channel(v)); });
}

/// Mean and biased variance by two passes in f64; `value(row)` gives the rows of one channel.
template <class Value>
void moments(int64_t rows, Value value, double& mean, double& variance) {
  double sum = 0, squares = 0;
  for (int64_t row = 0; row < rows; ++row) sum += static_cast<double>(value(row));
  mean = rows ? sum / static_cast<double>(rows) : 0;
  for (int64_t row = 0; row < rows; ++row) {
    const double delta = static_cast<double>(value(row)) - mean;
    squares += delta * delta;
  }
  variance = rows ? squares / static_cast<double>(rows) : 0;
}

template <class T>
void normalise(const NormDims& d, const T* x, const Channel<T>& channel, int64_t c, T* y, T* pooled, uint8_t* index) {
  for (int64_t row = 0; row < d.out_rows(); ++row) {
    int64_t from = row * d.c + c;
    if (d.pool != PoolPlace::none) {
      const auto at = window(d, row, c);
      const uint8_t best =
          d.pool == PoolPlace::before ? winner(at, x, [](T v) { return v; }) : winner_after(d, at, x, channel);
      from = at[best];
      if (pooled) pooled[row * d.c + c] = x[from];
      if (index) index[row * d.c + c] = best;
    }
    y[row * d.c + c] = activate(d.act, channel(x[from]));
  }
}

template <class T>
T or_else(const T* values, int64_t c, T otherwise) {
  return values ? values[c] : otherwise;
}

}  // namespace

void validate(const NormDims& d) {
  const auto demand = [](const char* name, int64_t value, int64_t least) {
    if (value < least)
      throw std::runtime_error("norm: " + std::string(name) + " is " + std::to_string(value) + ", needs at least " +
                               std::to_string(least));
  };
  const int64_t least = d.pool == PoolPlace::none ? 1 : 2;
  demand("batch", d.n, 1), demand("height", d.h, least), demand("width", d.w, least), demand("channels", d.c, 1);
}

namespace reference {

template <class T>
void norm_forward(const NormDims& d, const NormForward<T>& a) {
  for (int64_t c = 0; c < d.c; ++c) {
    double mean, variance;
    moments(
        d.stat_rows(),
        [&](int64_t row) {
          if (d.pool != PoolPlace::before) return a.x[row * d.c + c];
          const auto at = window(d, row, c);
          return a.x[at[winner(at, a.x, [](T v) { return v; })]];
        },
        mean, variance);
    a.mean[c] = static_cast<T>(mean);
    a.variance[c] = static_cast<T>(variance);
    a.rstd[c] = static_cast<T>(1 / std::sqrt(variance + d.eps));
    const Channel<T> channel{a.mean[c], a.rstd[c], or_else(a.gamma, c, T(1)), or_else(a.beta, c, T(0))};
    normalise(d, a.x, channel, c, a.y, a.pooled, a.index);
  }
}

template <class T>
void norm_eval(const NormDims& d, const NormEval<T>& a) {
  for (int64_t c = 0; c < d.c; ++c) {
    const T rstd = static_cast<T>(1 / std::sqrt(static_cast<double>(a.variance[c]) + d.eps));
    const Channel<T> channel{a.mean[c], rstd, or_else(a.gamma, c, T(1)), or_else(a.beta, c, T(0))};
    normalise<T>(d, a.x, channel, c, a.y, nullptr, nullptr);
  }
}

template <class T>
void norm_backward(const NormDims& d, const NormBackward<T>& a) {
  const double rows = static_cast<double>(d.stat_rows());
  for (int64_t c = 0; c < d.c; ++c) {
    const Channel<T> channel{a.mean[c], a.rstd[c], or_else(a.gamma, c, T(1)), or_else(a.beta, c, T(0))};
    const auto source = [&](int64_t row) -> T {  // the value of x that made output `row`
      if (d.pool == PoolPlace::none) return a.x[row * d.c + c];
      return a.pooled ? a.pooled[row * d.c + c] : a.x[window(d, row, c)[a.index[row * d.c + c]]];
    };
    const auto gradient = [&](int64_t row) { return a.dy[row * d.c + c] * slope(d.act, channel(source(row))); };
    double dbeta = 0, dgamma = 0;
    for (int64_t row = 0; row < d.out_rows(); ++row) {
      dbeta += static_cast<double>(gradient(row));
      dgamma += static_cast<double>(gradient(row)) * static_cast<double>(channel.hat(source(row)));
    }
    const T scale = channel.gamma * channel.rstd, k1 = static_cast<T>(dbeta / rows), k2 = static_cast<T>(dgamma / rows);
    // dx = scale (g - mean(g) - hat(x) mean(g hat(x))), g being the gradient at the affine map's output.
    if (d.pool == PoolPlace::none) {
      for (int64_t row = 0; row < d.in_rows(); ++row) {
        const int64_t i = row * d.c + c;
        a.dx[i] = scale * (gradient(row) - k1 - channel.hat(a.x[i]) * k2);
      }
    } else if (d.pool == PoolPlace::before) {
      for (int64_t row = 0; row < d.in_rows(); ++row) a.dx[row * d.c + c] = 0;
      for (int64_t row = 0; row < d.out_rows(); ++row)
        a.dx[window(d, row, c)[a.index[row * d.c + c]]] = scale * (gradient(row) - k1 - channel.hat(source(row)) * k2);
    } else {
      for (int64_t row = 0; row < d.in_rows(); ++row) {
        const int64_t i = row * d.c + c;
        const T g = won(d, a.index, row, c) < 0 ? T(0) : gradient(won(d, a.index, row, c));
        a.dx[i] = scale * (g - k1 - channel.hat(a.x[i]) * k2);
      }
    }
    if (a.dbeta) a.dbeta[c] = static_cast<T>(dbeta);
    if (a.dgamma) a.dgamma[c] = static_cast<T>(dgamma);
  }
}

template void norm_forward(const NormDims&, const NormForward<float>&);
template void norm_forward(const NormDims&, const NormForward<double>&);
template void norm_eval(const NormDims&, const NormEval<float>&);
template void norm_eval(const NormDims&, const NormEval<double>&);
template void norm_backward(const NormDims&, const NormBackward<float>&);
template void norm_backward(const NormDims&, const NormBackward<double>&);

}  // namespace reference

template <class T>
void norm_running_update(int64_t c, int64_t rows, T momentum, const T* mean, const T* variance, const T* running_mean,
                         const T* running_variance, T* next_mean, T* next_variance) {
  const T unbiased = rows > 1 ? static_cast<T>(static_cast<double>(rows) / static_cast<double>(rows - 1)) : T(1);
  for (int64_t i = 0; i < c; ++i) {
    next_mean[i] = (1 - momentum) * running_mean[i] + momentum * mean[i];
    next_variance[i] = (1 - momentum) * running_variance[i] + momentum * (variance[i] * unbiased);
  }
}
template void norm_running_update(int64_t, int64_t, float, const float*, const float*, const float*, const float*,
                                  float*, float*);
template void norm_running_update(int64_t, int64_t, double, const double*, const double*, const double*, const double*,
                                  double*, double*);

}  // namespace ranvier::kernels
