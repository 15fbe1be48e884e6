// The search of one segment by a team of workers: a block of CUDA threads, or one CPU thread whose vector lanes take
// the place of threads. Every sum has an order of its own, so that both give the same bits.
#pragma once
#include "kernels/segment_fit/line_search.h"
#include "kernels/segment_fit/segment_fit.h"

namespace ranvier::kernels::segment_fit {

constexpr int64_t lanes = FitDims::lanes;

/// Arrays of one segment and the pointers into a team's scratch.
struct Scratch {
  double *inverse, *x, *g, *d, *at, *next_g, *step, *change, *product;  // unknowns, padded by zeros
  double* h;                                                            // (hidden, points)
  double* seeds;                                                        // (4, points): of N_1, N_1', N_2, N_2'
  double* terms;                                                        // (2, points): squared residuals, slope of tau
  double *s, *m;                                                        // points and m(s)
  double *parts, *lane;                                                 // partial sums

  RANVIER_HD Scratch(const FitDims& dims, double* from) {
    const int64_t n = FitDims::padded(dims.points), p = FitDims::padded(dims.unknowns());
    inverse = from, x = inverse + p * p, g = x + p, d = g + p, at = d + p, next_g = at + p, step = next_g + p;
    change = step + p, product = change + p, h = product + p, seeds = h + dims.hidden * n, terms = seeds + 4 * n;
    s = terms + 2 * n, m = s + n, parts = m + n, lane = parts + 4 * (dims.hidden + 1) * lanes;
  }
};

/// `Team` has `rank`, `size`, `sync()` and `width`: how many neighbouring lanes a worker does at once. All workers call
/// everything, and hold the same scalars.
template <class Team>
class Search {
 public:
  static constexpr int64_t width = Team::width;

  RANVIER_HD Search(Team team, const FitDims& dims, const FitLimits& limits, const double* description, double* scratch)
      : team_(team),
        dims_(dims),
        limits_(limits),
        about_(description),
        w_(dims, scratch),
        n_(FitDims::padded(dims.points)),
        p_(FitDims::padded(dims.unknowns())) {}

  RANVIER_HD void run(const double* s, const double* unknowns, const double* memory, const double* info,
                      double* next_unknowns, double* next_memory, double* next_info) {
    load(s, unknowns, memory);
    value_ = info[int(FitInfo::value)], iterations_ = info[int(FitInfo::iterations)];
    evaluations_ = info[int(FitInfo::evaluations)], fresh_ = info[int(FitInfo::fresh)] != 0;
    end_ = static_cast<FitEnd>(static_cast<int64_t>(info[int(FitInfo::end)])), mark_ = info[int(FitInfo::mark)];
    if (iterations_ < 0) begin();
    for (int64_t k = 0; k < limits_.launch_iterations && end_ == FitEnd::running; ++k) iterate();
    const int64_t count = dims_.unknowns();
    for (int64_t i = team_.rank; i < count; i += team_.size) next_unknowns[i] = w_.x[i];
    for (int64_t i = team_.rank; i < p_ * p_; i += team_.size) next_memory[i] = w_.inverse[i];
    for (int64_t i = team_.rank; i < p_; i += team_.size) next_memory[p_ * p_ + i] = w_.g[i];
    if (team_.rank != 0) return;
    for (int64_t i = 0; i < FitDims::info_columns; ++i) next_info[i] = 0;
    next_info[int(FitInfo::value)] = value_, next_info[int(FitInfo::iterations)] = iterations_;
    next_info[int(FitInfo::evaluations)] = evaluations_, next_info[int(FitInfo::fresh)] = fresh_;
    next_info[int(FitInfo::end)] = static_cast<double>(end_), next_info[int(FitInfo::mark)] = mark_;
  }

 private:
  RANVIER_HD double about(FitColumn column) const { return about_[static_cast<int64_t>(column)]; }

  RANVIER_HD void load(const double* s, const double* unknowns, const double* memory) {
    const int64_t count = dims_.unknowns();
    for (int64_t i = team_.rank; i < p_ * p_; i += team_.size) w_.inverse[i] = memory[i];
    for (int64_t i = team_.rank; i < p_; i += team_.size) {
      w_.x[i] = i < count ? unknowns[i] : 0, w_.g[i] = memory[p_ * p_ + i];
      w_.d[i] = w_.at[i] = w_.next_g[i] = w_.step[i] = w_.change[i] = w_.product[i] = 0;
    }
    const bool spike = about(FitColumn::stretch) != 0;
    for (int64_t i = team_.rank; i < n_; i += team_.size) {
      const double at = i < dims_.points ? s[i] : 0.5;
      w_.s[i] = at, w_.m[i] = spike ? at * (1 - at) : at;
    }
    team_.sync();
  }

  RANVIER_HD void begin() {
    iterations_ = 0, evaluations_ = 1, fresh_ = true, end_ = FitEnd::running, mark_ = math::infinity<double>();
    identity(1);
    value_ = evaluate(w_.x, w_.g);
    if (!(value_ - value_ == 0) || !(dot(w_.g, w_.g) - dot(w_.g, w_.g) == 0)) end_ = FitEnd::not_finite;
  }

  RANVIER_HD void identity(double scale) {
    for (int64_t i = team_.rank; i < p_ * p_; i += team_.size) w_.inverse[i] = i / p_ == i % p_ ? scale : 0;
    team_.sync();
  }

  /// Sum of products, sixteen partial sums added in order.
  RANVIER_HD double dot(const double* a, const double* b) {
    for (int64_t q = team_.rank * width; q < lanes; q += team_.size * width) {
      double sum[width] = {};
      for (int64_t base = q; base < p_; base += lanes)
        for (int64_t l = 0; l < width; ++l) sum[l] += a[base + l] * b[base + l];
      for (int64_t l = 0; l < width; ++l) w_.lane[q + l] = sum[l];
    }
    team_.sync();
    double total = 0;
    for (int64_t q = 0; q < lanes; ++q) total += w_.lane[q];
    team_.sync();
    return total;
  }

  /// out = sign H v; H is symmetric to the bit, so that its columns serve as rows.
  RANVIER_HD void multiply(const double* v, double* out, double sign) {
    const int64_t count = dims_.unknowns();
    for (int64_t i = team_.rank * width; i < p_; i += team_.size * width) {
      double sum[width] = {};
      for (int64_t j = 0; j < count; ++j)
        for (int64_t l = 0; l < width; ++l) sum[l] = fused(w_.inverse[j * p_ + i + l], v[j], sum[l]);
      for (int64_t l = 0; l < width; ++l) out[i + l] = sign * sum[l];
    }
    team_.sync();
  }

  /// Half the mean of the squared residuals at `x`, and its gradient.
  RANVIER_HD double evaluate(const double* x, double* gradient) {
    residuals(x);
    team_.sync();
    partial_sums();
    team_.sync();
    const int64_t hidden = dims_.hidden, count = dims_.unknowns();
    for (int64_t i = team_.rank; i < p_; i += team_.size) {
      // [w, b, v_1, v_2, c_1, c_2, tau] from parts (4, hidden + 1): w, b, v_1, v_2 of each unit, then one sum more
      const int64_t from =
          i < 4 * hidden ? i / hidden * (hidden + 1) + i % hidden : (i - 4 * hidden + 1) * (hidden + 1) - 1;
      gradient[i] = i < count ? sum_of(from) : 0;
    }
    const double total = sum_of(4 * (hidden + 1) - 1);
    team_.sync();
    return total / (2 * static_cast<double>(dims_.points));
  }

  RANVIER_HD double sum_of(int64_t part) const {
    double sum = 0;
    for (int64_t q = 0; q < lanes; ++q) sum += w_.parts[part * lanes + q];
    return sum;
  }

  /// Hidden units, residuals and the loss's slopes in the outputs, points side by side.
  RANVIER_HD void residuals(const double* x) {
    const int64_t hidden = dims_.hidden;
    const double *weight = x, *bias = x + hidden, *v1 = bias + hidden, *v2 = v1 + hidden, *c = v2 + hidden;
    const double scale = about(FitColumn::scale), per_point = 1 / static_cast<double>(dims_.points);
    const double reach = about(FitColumn::length) * about(FitColumn::stretch);
    const double length = about(FitColumn::length) + reach * c[2];
    const bool spike = about(FitColumn::stretch) != 0;
    for (int64_t first = team_.rank * width; first < n_; first += team_.size * width) {
      double y1[width], y2[width], d1[width] = {}, d2[width] = {};
      for (int64_t l = 0; l < width; ++l) y1[l] = c[0], y2[l] = c[1];
      for (int64_t k = 0; k < hidden; ++k) {
        const double wk = weight[k], bk = bias[k], v1k = v1[k], v2k = v2[k];
        for (int64_t l = 0; l < width; ++l) {
          const double h = math::tanh(fused(wk, w_.s[first + l], bk));
          w_.h[k * n_ + first + l] = h;
          const double slope = (1 - h) * (1 + h) * wk;
          y1[l] = fused(v1k, h, y1[l]), y2[l] = fused(v2k, h, y2[l]);
          d1[l] = fused(v1k, slope, d1[l]), d2[l] = fused(v2k, slope, d2[l]);
        }
      }
      for (int64_t l = 0; l < width; ++l) {
        const int64_t i = first + l;
        const double s = w_.s[i], m = w_.m[i], dm = spike ? 1 - 2 * s : 1, kept = i < dims_.points ? 1 : 0;
        const double phi = about(FitColumn::phi0) + about(FitColumn::rise) * s + m * y1[l];
        const double u = about(FitColumn::u0) + scale * (s * y2[l]);
        const bool below = phi <= about(FitColumn::peak);
        const double inside = below ? phi : about(FitColumn::peak);
        const double sine = math::sin(inside), cosine = math::cos(inside), square = cosine * cosine;
        const double force = about(FitColumn::drive) - u, alpha = about(FitColumn::alpha),
                     gamma = about(FitColumn::gamma);
        const double flow = alpha * (sine * sine) + gamma * (force * square);
        const double pull = about(FitColumn::a) / scale;
        const double back = about(FitColumn::b) * (about(FitColumn::above) + about(FitColumn::A) * (sine / cosine)) - u;
        const double r1 = about(FitColumn::rise) + dm * y1[l] + m * d1[l] - length * flow;
        const double r2 = y2[l] + s * d2[l] - pull * (length * back);
        const double e1 = kept * per_point * r1, e2 = kept * per_point * r2;
        const double along = below ? e1 * (2 * (alpha - gamma * force) * (sine * cosine)) +
                                         e2 * pull * about(FitColumn::b) * about(FitColumn::A) / square
                                   : 0;
        const double g_phi = -length * along, g_u = length * (e1 * gamma * square + e2 * pull);
        w_.seeds[i] = g_phi * m + e1 * dm, w_.seeds[n_ + i] = e1 * m;
        w_.seeds[2 * n_ + i] = g_u * scale * s + e2, w_.seeds[3 * n_ + i] = e2 * s;
        w_.terms[i] = kept * (r1 * r1 + r2 * r2);
        w_.terms[n_ + i] = -reach * (e1 * flow + e2 * pull * back);
      }
    }
    // the reverse pass below reads all hidden units: the caller's barrier
    x_ = x;
  }

  /// Sixteen partial sums of every gradient element and of the loss.
  RANVIER_HD void partial_sums() {
    const int64_t hidden = dims_.hidden, groups = lanes / width;
    const double *weight = x_, *v1 = x_ + 2 * hidden, *v2 = v1 + hidden;
    for (int64_t c = team_.rank; c < (hidden + 1) * groups; c += team_.size) {
      const int64_t k = c / groups, q = c % groups * width;
      double sum[4][width] = {};
      for (int64_t base = q; base < n_; base += lanes) {
        const double *g1 = w_.seeds + base, *c1 = g1 + n_, *g2 = c1 + n_, *c2 = g2 + n_;
        if (k == hidden) {
          for (int64_t l = 0; l < width; ++l) {
            sum[0][l] += g1[l], sum[1][l] += g2[l];
            sum[2][l] += w_.terms[n_ + base + l], sum[3][l] += w_.terms[base + l];
          }
          continue;
        }
        const double wk = weight[k], v1k = v1[k], v2k = v2[k];
        for (int64_t l = 0; l < width; ++l) {
          const double h = w_.h[k * n_ + base + l], slope = (1 - h) * (1 + h), tangent = slope * wk;
          const double g = v1k * g1[l] + v2k * g2[l], t = v1k * c1[l] + v2k * c2[l];
          const double z = slope * g - 2 * h * tangent * t;
          sum[0][l] = sum[0][l] + (z * w_.s[base + l] + slope * t);
          sum[1][l] += z;
          sum[2][l] += g1[l] * h + c1[l] * tangent;
          sum[3][l] += g2[l] * h + c2[l] * tangent;
        }
      }
      for (int64_t part = 0; part < 4; ++part)
        for (int64_t l = 0; l < width; ++l) w_.parts[(part * (hidden + 1) + k) * lanes + q + l] = sum[part][l];
    }
  }

  RANVIER_HD Trial try_step(double step) {
    for (int64_t i = team_.rank; i < p_; i += team_.size) w_.at[i] = w_.x[i] + step * w_.d[i];
    team_.sync();
    const double value = evaluate(w_.at, w_.next_g);
    evaluations_ += 1;
    return {step, value, dot(w_.next_g, w_.d)};
  }

  /// The line search's view of this search: `at` and `next_g` are those of the last trial.
  struct Ray {
    Search* of;
    RANVIER_HD Trial operator()(double step) const { return of->try_step(step); }
  };

  RANVIER_HD void iterate() {
    if (value_ <= about(FitColumn::wanted)) return void(end_ = FitEnd::value);
    if (iterations_ >= static_cast<double>(limits_.iterations)) return void(end_ = FitEnd::iterations);
    const double steep = dot(w_.g, w_.g);
    if (steep <= 1e-28) return void(end_ = FitEnd::gradient);
    multiply(w_.g, w_.d, -1);
    double slope = dot(w_.g, w_.d);
    if (!(slope < 0)) {
      identity(1), fresh_ = true;
      multiply(w_.g, w_.d, -1);
      slope = -steep;
    }
    const double inverse_norm = 1 / root(steep);
    iterations_ += 1;
    Trial taken{};
    if (!line_search(Ray{this}, value_, slope, fresh_ && inverse_norm < 1 ? inverse_norm : 1, {}, taken)) {
      if (fresh_) return void(end_ = FitEnd::progress);
      identity(1), fresh_ = true;  // steepest descent may still see a way down
      return;
    }
    for (int64_t i = team_.rank; i < p_; i += team_.size)
      w_.step[i] = w_.at[i] - w_.x[i], w_.change[i] = w_.next_g[i] - w_.g[i];
    team_.sync();
    learn(taken.step);
    for (int64_t i = team_.rank; i < p_; i += team_.size) w_.x[i] = w_.at[i], w_.g[i] = w_.next_g[i];
    team_.sync();
    value_ = taken.value, fresh_ = false;
    if (static_cast<int64_t>(iterations_) % limits_.patience != 0) return;
    if (value_ > (1 - limits_.stall_share) * mark_) end_ = FitEnd::progress;
    mark_ = value_;
  }

  /// H <- H / tau + s a' + q b' with tau = min(1, y's / s'Bs); s'Bs = -step s'g, since s = -step H g.
  RANVIER_HD void learn(double step) {
    const double ys = dot(w_.change, w_.step), yy = dot(w_.change, w_.change), ss = dot(w_.step, w_.step);
    if (!(ys > 1e-12 * root(ss * yy))) return;
    if (fresh_) identity(ys / yy);
    multiply(w_.change, w_.product, 1);
    const double sbs = fresh_ ? yy / ys * ss : -step * dot(w_.step, w_.g);
    const double ratio = ys / sbs, tau = ratio < 1 ? ratio : 1;
    const double along = dot(w_.change, w_.product) / (tau * ys * ys) + 1 / ys, across = 1 / (tau * ys),
                 scale = 1 / tau;
    for (int64_t first = team_.rank * width; first < p_ * p_; first += team_.size * width) {
      const int64_t i = first / p_, j = first % p_;
      const double si = w_.step[i], qi = w_.product[i];
      for (int64_t l = 0; l < width; ++l) {  // written so that H[i][j] and H[j][i] have the same bits
        const double sj = w_.step[j + l], qj = w_.product[j + l];
        w_.inverse[first + l] = scale * w_.inverse[first + l] + (along * (si * sj) - across * (si * qj + qi * sj));
      }
    }
    team_.sync();
  }

  Team team_;
  FitDims dims_;
  FitLimits limits_;
  const double* about_;
  Scratch w_;
  int64_t n_, p_;
  const double* x_ = nullptr;  ///< where `residuals` stood
  double value_ = 0, iterations_ = 0, evaluations_ = 0, mark_ = 0;
  bool fresh_ = true;
  FitEnd end_ = FitEnd::running;
};

}  // namespace ranvier::kernels::segment_fit
