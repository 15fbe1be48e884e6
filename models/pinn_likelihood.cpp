// Piece after piece as a function of the parameters, its derivatives, and the search on it.
#include "models/pinn_likelihood.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>

#include "engine/householder.h"
#include "engine/optimize.h"

namespace ranvier::pinn {

using optimize::Qr;

namespace {

constexpr double wanted = 1e-12;  // mean squared residual of a piece's equations that ends its search
constexpr double enough = 1e-11;  // and the most that counts as solved: some 1e-3 mV, far below any recording's noise
constexpr double close = 0.05;    // standard errors from the maximum at which a search ends

/// (R'R)^-1 of a triangle: rows of R^-T by forward substitution, and their products.
std::vector<double> inverse_square(Qr& r, int64_t n) {
  std::vector<double> rows(static_cast<size_t>(n * n), 0.0), result(rows);
  const auto row = [&](int64_t k, int64_t i) -> double& { return rows[static_cast<size_t>(k * n + i)]; };
  for (int64_t k = 0; k < n; ++k)
    for (int64_t i = k; i < n; ++i) {
      double sum = i == k ? 1 : 0;
      for (int64_t j = k; j < i; ++j) sum -= r(j, i) * row(k, j);
      row(k, i) = sum / r(i, i);
    }
  for (int64_t k = 0; k < n; ++k)
    for (int64_t l = 0; l < n; ++l)
      for (int64_t i = std::max(k, l); i < n; ++i) result[static_cast<size_t>(k * n + l)] += row(k, i) * row(l, i);
  return result;
}

/// at + R^-1 z.
std::vector<double> along(Qr& r, const std::vector<double>& at, std::span<const double> z) {
  const auto n = static_cast<int64_t>(at.size());
  std::vector<double> x(z.begin(), z.end()), result(at);
  for (int64_t i = n; i-- > 0;) {
    for (int64_t j = i + 1; j < n; ++j) x[static_cast<size_t>(i)] -= r(i, j) * x[static_cast<size_t>(j)];
    x[static_cast<size_t>(i)] /= r(i, i);
    result[static_cast<size_t>(i)] += x[static_cast<size_t>(i)];
  }
  return result;
}

/// Rows of J become those of J R^-1.
void whiten(Qr& r, std::span<double> jacobian) {
  const int64_t n = r.columns();
  for (size_t row = 0; row < jacobian.size(); row += static_cast<size_t>(n))
    for (int64_t k = 0; k < n; ++k) {
      double& value = jacobian[row + static_cast<size_t>(k)];
      for (int64_t i = 0; i < k; ++i) value -= jacobian[row + static_cast<size_t>(i)] * r(i, k);
      value /= r(k, k);
    }
}

}  // namespace

Likelihood::Likelihood(PieceProgram& program, std::vector<Piece> pieces, std::vector<double> shared, int64_t parameters)
    : program_(program), parameters_(parameters) {
  accepted_.slopes.assign(shared.size() * static_cast<size_t>(parameters), 0.0);
  for (int64_t k = 0; k < parameters; ++k) accepted_.slopes[static_cast<size_t>(k * parameters + k)] = 1;
  for (const Piece& piece : pieces) {
    accepted_.theta.emplace_back(piece.theta.size() * static_cast<size_t>(parameters), 0.0);
    samples_ += static_cast<int64_t>(piece.t.size());
  }
  accepted_.pieces = std::move(pieces), accepted_.shared = std::move(shared);
}

/// The network of a piece, and the time of its spike, from the state at its start.
bool Likelihood::solve(Piece& piece, std::vector<double>& shared) {
  const int64_t own = program_.parameters(), rows = program_.equation_rows(), wide = program_.width();
  const int64_t end = piece.spike ? piece.source[end_] : -1, unknowns = own + (end >= 0);
  const auto put = [&](std::span<const double> x) {
    std::copy_n(x.begin(), own, piece.theta.begin());
    if (end >= 0) shared[static_cast<size_t>(end)] = x[static_cast<size_t>(own)];
  };
  const auto f = [&](std::span<const double> x, std::span<double> r, std::span<double> jacobian) {
    put(x);
    if (jacobian.empty()) {
      std::ranges::copy(program_.equations(piece, shared), r.begin());
      return;
    }
    const std::vector<double> block = program_.equation_block(piece, shared, 1);
    for (int64_t i = 0; i < rows; ++i) {
      const double* row = &block[static_cast<size_t>(i * wide)];
      std::copy_n(row, own, jacobian.begin() + i * unknowns);
      if (end >= 0) jacobian[static_cast<size_t>(i * unknowns + own)] = row[own + end_];
      r[static_cast<size_t>(i)] = row[wide - 1];
    }
  };
  std::vector<double> start = piece.theta;
  if (end >= 0) start.push_back(shared[static_cast<size_t>(end)]);
  const std::vector<double> before = start;
  const double guess = start.back();
  optimize::Options options{.max_iterations = 300, .wanted_value = wanted};
  options.stall_share = 0.3, options.patience = 20, options.max_trials = 12;
  // Units that the noise has drawn together cannot be told apart again, and a network can hide a jump between training
  // points: then from new units.
  for (int attempt = 0; attempt < 4; ++attempt) {
    if (attempt) {
      start = spread_units(program_.shape(), random_);
      if (end >= 0) start.push_back(guess);
    }
    const optimize::Result result = optimize::levenberg_marquardt(f, rows, start, options);
    if (!(result.value <= enough)) continue;
    put(result.x);
    const double fresh = program_.fresh_loss(piece, shared, random_);
    if (!(fresh <= enough && piece.value(end_, shared) > piece.value(start_, shared))) continue;
    worst_ = std::max(worst_, fresh);
    return true;
  }
  put(before);
  return false;
}

/// Moves every piece to the parameters `at`, starting from the tangent at the accepted ones.
bool Likelihood::follow(const std::vector<double>& at, Solved& state) {
  std::vector<double> change(at);
  for (size_t k = 0; k < at.size(); ++k) change[k] -= accepted_.shared[k];
  const auto move = [&](const std::vector<double>& slopes, std::vector<double>& values) {
    for (size_t i = 0; i < values.size(); ++i)
      for (size_t k = 0; k < change.size(); ++k) values[i] += slopes[i * change.size() + k] * change[k];
  };
  move(state.slopes, state.shared);
  unsolved_.reset();
  if (!state.pieces[0].is_neuron(state.shared)) return false;
  worst_ = 0;
  for (size_t p = 0; p < state.pieces.size(); ++p) {
    Piece& piece = state.pieces[p];
    move(state.theta[p], piece.theta);
    if (!solve(piece, state.shared)) return unsolved_ = p, false;
    if (piece.last) break;
    const Point end = program_.end(piece, state.shared);
    if (!piece.spike) state.shared[static_cast<size_t>(piece.source[next_phi_])] = end.v;
    state.shared[static_cast<size_t>(piece.source[next_u_])] =
        end.u + (piece.spike ? piece.value(d_, state.shared) : 0);
  }
  return true;
}

/// Slopes of a piece's network and of what follows from it; the samples' rows of the Jacobian go to `rows`.
bool Likelihood::differentiate(Solved& state, size_t index, std::vector<double>* rows) {
  const Piece& piece = state.pieces[index];
  const int64_t own = program_.parameters(), wide = program_.width(), all = parameters_;
  const int64_t end = piece.spike ? piece.source[end_] : -1, unknowns = own + (end >= 0);
  const std::vector<double> block = program_.equation_block(piece, state.shared, 1);
  const auto slope = [&](int64_t of, int64_t k) -> double& { return state.slopes[static_cast<size_t>(of * all + k)]; };
  const auto given = [&](const double* row, int64_t k) {  // J_y dy of a row
    double sum = 0;
    for (int64_t j = 0; j < next_phi_; ++j)
      if (piece.source[j] >= 0 && piece.source[j] != end) sum += row[own + j] * slope(piece.source[j], k);
    return sum;
  };
  Qr qr(program_.equation_rows() + unknowns, unknowns, all);
  for (int64_t i = 0; i < program_.equation_rows(); ++i) {
    const double* row = &block[static_cast<size_t>(i * wide)];
    for (int64_t j = 0; j < own; ++j) qr(i, j) = row[j];
    if (end >= 0) qr(i, own) = row[own + end_];
    for (int64_t k = 0; k < all; ++k) qr(i, unknowns + k) = -given(row, k);
  }
  for (int64_t j = 0; j < unknowns; ++j) {  // directions of the network that change nothing stay where they are
    double square = 0;
    for (int64_t i = 0; i < program_.equation_rows(); ++i) square += qr(i, j) * qr(i, j);
    qr(program_.equation_rows() + j, j) = 1e-9 * std::sqrt(square) + 1e-12;
  }
  qr.factor();
  std::vector<double> x(static_cast<size_t>(unknowns));
  for (int64_t k = 0; k < all; ++k) {
    if (!qr.solve(x.data(), unknowns + k)) return false;
    for (int64_t j = 0; j < own; ++j) state.theta[index][static_cast<size_t>(j * all + k)] = x[static_cast<size_t>(j)];
    if (end >= 0) slope(end, k) = x[static_cast<size_t>(own)];
  }
  const std::vector<double> data = program_.data_block(piece, state.shared, 1);
  const auto total = [&](int64_t i, int64_t k) {  // of a row of the data block
    const double* row = &data[static_cast<size_t>(i * wide)];
    double sum = given(row, k) + (end >= 0 ? row[own + end_] * slope(end, k) : 0);
    for (int64_t j = 0; j < own; ++j) sum += row[j] * state.theta[index][static_cast<size_t>(j * all + k)];
    return sum;
  };
  const int64_t samples = program_.rows() - program_.equation_rows() - 2;
  for (int64_t i = 0; i < static_cast<int64_t>(piece.t.size()); ++i)
    for (int64_t k = 0; k < all; ++k) rows->push_back(total(i, k));
  if (piece.last) return true;
  for (int64_t k = 0; k < all; ++k) {
    if (!piece.spike) slope(piece.source[next_phi_], k) = total(samples, k);
    slope(piece.source[next_u_], k) = total(samples + 1, k) * program_.u_scale();
  }
  return true;
}

void Likelihood::residuals(std::span<const double> at, std::span<double> r, std::span<double> jacobian) {
  Solved state = accepted_;
  std::ranges::fill(r, std::numeric_limits<double>::infinity());
  const bool followed = follow({at.begin(), at.end()}, state);
  if (!followed && !began_) accepted_ = std::move(state);
  if (!followed) return;
  began_ = true;
  size_t next = 0;
  std::vector<double> rows;
  for (size_t p = 0; p < state.pieces.size(); ++p) {
    const std::vector<double> data = program_.residuals(state.pieces[p], state.shared, 1);
    const auto first = data.begin() + program_.equation_rows();
    for (size_t i = 0; i < state.pieces[p].t.size(); ++i) r[next++] = first[static_cast<int64_t>(i)];
    if (!jacobian.empty() && !differentiate(state, p, &rows)) {
      std::ranges::fill(r, NAN);
      return;
    }
  }
  if (jacobian.empty()) return;
  std::ranges::copy(rows, jacobian.begin());
  accepted_ = std::move(state);
}

Likelihood::Result Likelihood::run(int64_t iterations, const std::function<bool(int64_t, double)>& progress) {
  Result result;
  result.samples = samples_;
  const auto n = static_cast<size_t>(samples_), all = static_cast<size_t>(parameters_);
  std::vector<double> at(accepted_.shared.begin(), accepted_.shared.begin() + parameters_), r(n), j(n * all);
  bool going = true;
  while (going) {
    residuals(at, r, j);
    result.misfit = std::inner_product(r.begin(), r.end(), r.begin(), 0.0);
    if (!std::isfinite(result.misfit)) {
      result.unsolved = unsolved_;
      return result;
    }
    // whitened unknowns z, at + R^-1 z, are in standard deviations and all alike: a, b and d alone are nearly collinear
    Qr qr(samples_, parameters_);
    for (size_t i = 0; i < n; ++i) {
      for (size_t k = 0; k < all; ++k) qr.column(static_cast<int64_t>(k))[i] = j[i * all + k];
      qr.column(parameters_)[i] = -r[i];
    }
    qr.factor();
    double square = 0;
    for (int64_t k = 0; k < parameters_; ++k) square += qr(k, parameters_) * qr(k, parameters_);
    result.distance = std::sqrt(square);
    result.covariance = inverse_square(qr, parameters_), result.shared = accepted_.shared, result.equations = worst_;
    result.converged = result.distance <= close;
    if (result.converged || result.iterations >= iterations) break;
    const auto f = [&](std::span<const double> z, std::span<double> trial, std::span<double> jacobian) {
      residuals(along(qr, at, z), trial, jacobian);
      if (!jacobian.empty()) whiten(qr, jacobian);
    };
    optimize::Options options{.max_iterations = 5, .gradient_tolerance = 0.3 * close};
    options.max_trials = 12;
    options.proceed = [&](int64_t iteration, double value) {
      return going = !progress || progress(result.iterations + iteration, value * static_cast<double>(samples_));
    };
    const optimize::Result found = optimize::levenberg_marquardt(f, samples_, std::vector<double>(all, 0.0), options);
    if (found.iterations == 0) {
      result.unsolved = unsolved_;
      break;
    }
    result.iterations += found.iterations, at = along(qr, at, found.x);
  }
  return result;
}

}  // namespace ranvier::pinn
