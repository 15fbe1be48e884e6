// Levenberg-Marquardt and the Householder QR under it.
#include <algorithm>
#include <cmath>
#include <limits>

#include "engine/householder.h"
#include "engine/optimize.h"

namespace ranvier::optimize {
namespace {

double mean_square(std::span<const double> r) {
  double sum = 0;
#pragma omp simd reduction(+ : sum)
  for (size_t i = 0; i < r.size(); ++i) sum += r[i] * r[i];
  return sum / static_cast<double>(r.size());
}

}  // namespace

void Qr::factor(int64_t triangle) {
  for (int64_t j = 0; j < columns_ && j < rows_; ++j) {
    double* v = column(j);
    const int64_t first = triangle ? triangle : j + 1;  // besides row j, v has entries from here on
    const int64_t last = triangle ? std::min(rows_, triangle + j + 1) : rows_;
    double square = 0;
#pragma omp simd reduction(+ : square)
    for (int64_t i = first; i < last; ++i) square += v[i] * v[i];
    if (square == 0) continue;
    const double norm = std::sqrt(v[j] * v[j] + square), alpha = v[j] > 0 ? -norm : norm;
    const double top = v[j] - alpha, scale = 2 / (top * top + square);
    for (int64_t k = j + 1; k < all_; ++k) {
      double* c = column(k);
      double product = top * c[j];
#pragma omp simd reduction(+ : product)
      for (int64_t i = first; i < last; ++i) product += v[i] * c[i];
      product *= scale;
      c[j] -= product * top;
#pragma omp simd
      for (int64_t i = first; i < last; ++i) c[i] -= product * v[i];
    }
    v[j] = alpha;
  }
}

bool Qr::solve(double* x, int64_t rhs) {
  const double* b = column(rhs);
  double most = 0;
  for (int64_t j = 0; j < columns_; ++j) most = std::max(most, std::abs(column(j)[j]));
  for (int64_t j = columns_ - 1; j >= 0; --j) {
    double sum = b[j];
    for (int64_t k = j + 1; k < columns_; ++k) sum -= column(k)[j] * x[k];
    const double pivot = column(j)[j];
    if (!(std::abs(pivot) > 1e-300 && std::abs(pivot) > 1e-16 * most)) return false;
    x[j] = sum / pivot;
  }
  return true;
}

bool least_squares(int64_t rows, int64_t columns, double* a, double* b, double* x) {
  Qr qr(rows, columns);
  for (int64_t j = 0; j < columns; ++j)
    for (int64_t i = 0; i < rows; ++i) qr.column(j)[i] = a[i * columns + j];
  std::copy(b, b + rows, qr.column(columns));
  qr.factor();
  return qr.solve(x, columns);
}

Result levenberg_marquardt(const Residuals& f, int64_t count, Vector start, const Options& o) {
  const auto n = static_cast<int64_t>(start.size());
  if (count < 1 || n < 1) fail("levenberg_marquardt: {} residuals of {} parameters", count, n);
  Result result;
  Vector r(static_cast<size_t>(count)), trial_r(r), j(static_cast<size_t>(count * n)), step(start.size()), x(start);
  Vector scale(start.size(), 0), g(start.size());
  result.x = std::move(start);
  f(result.x, r, j);
  result.evaluations = 1;
  result.value = mean_square(r);
  result.history = {result.value};
  if (!std::isfinite(result.value)) return result.reason = Reason::not_finite, result;
  const int64_t rows = std::max(count, n);  // zero rows below a wide Jacobian
  double lambda = 1e-3, grow = 2;
  for (; result.iterations < o.max_iterations; ++result.iterations) {
    if (result.value <= o.wanted_value) return result.reason = Reason::value, result;
    Qr qr(rows, n);
    for (int64_t k = 0; k < n; ++k) {
      double square = 0, slope = 0;
      double* column = qr.column(k);
      for (int64_t i = 0; i < count; ++i) {
        const double value = j[static_cast<size_t>(i * n + k)];
        column[i] = value, square += value * value, slope += value * r[static_cast<size_t>(i)];
      }
      g[static_cast<size_t>(k)] = slope;
      // More 1978: the largest norm that a column has had, so that steps shrink in the parameters that matter
      scale[static_cast<size_t>(k)] = std::max(scale[static_cast<size_t>(k)], std::sqrt(square));
      if (scale[static_cast<size_t>(k)] == 0) scale[static_cast<size_t>(k)] = 1;  // a parameter without effect
    }
    if (!(std::abs(*std::max_element(g.begin(), g.end(), [](double a, double b) {
            return std::abs(a) < std::abs(b);
          })) > o.gradient_tolerance))
      return result.reason = Reason::gradient, result;
    for (int64_t i = 0; i < count; ++i) qr.column(n)[i] = -r[static_cast<size_t>(i)];
    qr.factor();
    bool accepted = false;
    for (int64_t attempt = 0; attempt < o.max_trials && !accepted; ++attempt) {
      Qr damped(2 * n, n);  // R on top, sqrt(lambda) D below: J itself is not touched again
      for (int64_t k = 0; k < n; ++k) {
        std::copy(qr.column(k), qr.column(k) + k + 1, damped.column(k));
        damped.column(k)[n + k] = std::sqrt(lambda) * scale[static_cast<size_t>(k)];
      }
      std::copy(qr.column(n), qr.column(n) + n, damped.column(n));
      damped.factor(n);
      double gain = -1, predicted = 0, value = std::numeric_limits<double>::infinity();
      if (damped.solve(step.data(), n)) {
        for (int64_t k = 0; k < n; ++k) {
          const auto at = static_cast<size_t>(k);
          x[at] = result.x[at] + step[at];
          predicted += step[at] * (lambda * scale[at] * scale[at] * step[at] - g[at]);
        }
        f(x, trial_r, {});
        ++result.evaluations;
        value = mean_square(trial_r);
        gain = (result.value - value) * static_cast<double>(count) / predicted;
      }
      if (gain > 0 && std::isfinite(value)) {
        accepted = true;
        const double factor = 2 * gain - 1;
        lambda = std::max(lambda * std::max(1.0 / 3, 1 - factor * factor * factor), 1e-20), grow = 2;
      } else {
        lambda *= grow, grow *= 2;
      }
    }
    if (!accepted) return result.reason = Reason::progress, result;
    result.x = x;
    f(result.x, r, j);
    ++result.evaluations;
    result.value = mean_square(r);
    result.history.push_back(result.value);
    if (o.proceed && !o.proceed(result.iterations + 1, result.value))
      return result.reason = Reason::interrupted, result;
    const size_t done = result.history.size(), back = static_cast<size_t>(o.patience);
    if (o.stall_share > 0 && done > back && result.value > (1 - o.stall_share) * result.history[done - 1 - back])
      return ++result.iterations, result.reason = Reason::progress, result;
  }
  if (result.value <= o.wanted_value) result.reason = Reason::value;
  return result;
}

}  // namespace ranvier::optimize
