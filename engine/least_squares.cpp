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

namespace {

/// The iterate of Levenberg and Marquardt's method, its Jacobian and its damping.
class Marquardt {
 public:
  Marquardt(const Residuals& f, int64_t count, Vector start)
      : f_(f),
        count_(count),
        n_(static_cast<int64_t>(start.size())),
        r_(static_cast<size_t>(count)),
        trial_r_(r_),
        j_(static_cast<size_t>(count * n_)),
        step_(start.size()),
        x_(start),
        scale_(start.size(), 0),
        g_(start.size()),
        qr_(std::max(count, n_), n_) {  // zero rows below a wide Jacobian
    result.x = std::move(start);
    evaluate();
  }

  /// Residuals and Jacobian at the iterate.
  void evaluate() {
    f_(result.x, r_, j_);
    ++result.evaluations;
    result.value = mean_square(r_);
    result.history.push_back(result.value);
  }

  /// Factors the Jacobian; returns the largest component of the gradient.
  double factor() {
    qr_ = Qr(std::max(count_, n_), n_);
    for (int64_t k = 0; k < n_; ++k) {
      double square = 0, slope = 0;
      double* column = qr_.column(k);
      for (int64_t i = 0; i < count_; ++i) {
        const double value = j_[static_cast<size_t>(i * n_ + k)];
        column[i] = value, square += value * value, slope += value * r_[static_cast<size_t>(i)];
      }
      g_[static_cast<size_t>(k)] = slope;
      // More 1978: the largest norm that a column has had, so that steps shrink in the parameters that matter
      double& scale = scale_[static_cast<size_t>(k)];
      scale = std::max(scale, std::sqrt(square));
      if (scale == 0) scale = 1;  // a parameter without effect
    }
    for (int64_t i = 0; i < count_; ++i) qr_.column(n_)[i] = -r_[static_cast<size_t>(i)];
    qr_.factor();
    return std::abs(
        *std::max_element(g_.begin(), g_.end(), [](double a, double b) { return std::abs(a) < std::abs(b); }));
  }

  /// Moves the iterate by the first damped step, of at most `trials`, that lowers the value; false where none does.
  bool move(int64_t trials) {
    for (int64_t trial = 0; trial < trials; ++trial) {
      const double gain = try_step();
      if (gain > 0) {
        const double factor = 2 * gain - 1;
        lambda_ = std::max(lambda_ * std::max(1.0 / 3, 1 - factor * factor * factor), 1e-20), grow_ = 2;
        result.x = x_;
        return true;
      }
      lambda_ *= grow_, grow_ *= 2;
    }
    return false;
  }

  Result result;

 private:
  /// What the value sinks by at x_ = the iterate + the damped step, over what the linear model says; -1 where there is
  /// no such step or no such value.
  double try_step() {
    Qr damped(2 * n_, n_);  // R on top, sqrt(lambda) D below: J itself is not touched again
    for (int64_t k = 0; k < n_; ++k) {
      std::copy(qr_.column(k), qr_.column(k) + k + 1, damped.column(k));
      damped.column(k)[n_ + k] = std::sqrt(lambda_) * scale_[static_cast<size_t>(k)];
    }
    std::copy(qr_.column(n_), qr_.column(n_) + n_, damped.column(n_));
    damped.factor(n_);
    if (!damped.solve(step_.data(), n_)) return -1;
    double predicted = 0;
    for (size_t at = 0; at < step_.size(); ++at) {
      x_[at] = result.x[at] + step_[at];
      predicted += step_[at] * (lambda_ * scale_[at] * scale_[at] * step_[at] - g_[at]);
    }
    f_(x_, trial_r_, {});
    ++result.evaluations;
    const double value = mean_square(trial_r_);
    if (!std::isfinite(value)) return -1;
    return (result.value - value) * static_cast<double>(count_) / predicted;
  }

  const Residuals& f_;
  int64_t count_, n_;
  Vector r_, trial_r_, j_, step_, x_, scale_, g_;
  Qr qr_;
  double lambda_ = 1e-3, grow_ = 2;
};

}  // namespace

Result levenberg_marquardt(const Residuals& f, int64_t count, Vector start, const Options& o) {
  const auto n = static_cast<int64_t>(start.size());
  if (count < 1 || n < 1) fail("levenberg_marquardt: {} residuals of {} parameters", count, n);
  Marquardt at(f, count, std::move(start));
  Result& result = at.result;
  const auto ended = [&](Reason reason) { return result.reason = reason, std::move(result); };
  if (!std::isfinite(result.value)) return ended(Reason::not_finite);
  for (; result.iterations < o.max_iterations; ++result.iterations) {
    if (result.value <= o.wanted_value) return ended(Reason::value);
    if (!(at.factor() > o.gradient_tolerance)) return ended(Reason::gradient);
    if (!at.move(o.max_trials)) return ended(Reason::progress);
    at.evaluate();
    if (o.proceed && !o.proceed(result.iterations + 1, result.value))
      return ++result.iterations, ended(Reason::interrupted);
    const size_t done = result.history.size(), back = static_cast<size_t>(o.patience);
    if (o.stall_share > 0 && done > back && result.value > (1 - o.stall_share) * result.history[done - 1 - back])
      return ++result.iterations, ended(Reason::progress);
  }
  if (result.value <= o.wanted_value) result.reason = Reason::value;
  return std::move(result);
}

}  // namespace ranvier::optimize
