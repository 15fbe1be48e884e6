// The search of one segment by a team of workers: a block of CUDA threads, or one CPU thread whose vector lanes take
// the place of threads. Every sum has an order of its own, so that both give the same bits.
#pragma once
#include "kernels/common/math.h"
#include "kernels/segment_fit/line_search.h"
#include "kernels/segment_fit/scratch.h"

namespace ranvier::kernels::segment_fit {

/// `Team` has `rank`, `size` and `sync()`, and works in groups of sixteen lanes: `group` of `groups`, `lane`, and
/// `width`, how many neighbouring lanes a worker does at once. A group makes four sums at a time: `total` adds its
/// lanes as ((0 + 8) + (4 + 12)) + ... and leaves a worker the `held` ones that `part` names, of which those who are to
/// write them have `writes`; `over_parts` adds a term of each of the four as (0 + 1) + (2 + 3), for who `leads` to
/// write. All workers call everything, and hold the same scalars.
template <class Team>
class Search {
 public:
  static constexpr int lanes = FitDims::lanes, width = Team::width, held = Team::held;

  RANVIER_HD_INLINE Search(Team team, const FitDims& dims, const FitLimits& limits, double* scratch)
      : team_(team),
        limits_(limits),
        w_(dims, scratch),
        hidden_(static_cast<int>(dims.hidden)),
        points_(static_cast<int>(dims.points)),
        count_(static_cast<int>(dims.unknowns())),
        n_(static_cast<int>(FitDims::padded(points_))),
        p_(static_cast<int>(FitDims::padded(count_))),
        sums_(static_cast<int>(dims.partial_sums())) {}

  RANVIER_HD_INLINE void run(const double* s, const double* description, const double* unknowns, const double* memory,
                             const double* info, double* next_unknowns, double* next_memory, double* next_info) {
    load(s, description, unknowns, memory);
    iterations_ = static_cast<int>(info[int(FitInfo::iterations)]);
    evaluations_ = static_cast<int>(info[int(FitInfo::evaluations)]);
    value_ = info[int(FitInfo::value)], mark_ = info[int(FitInfo::mark)];
    fresh_ = info[int(FitInfo::fresh)] != 0, end_ = static_cast<FitEnd>(static_cast<int>(info[int(FitInfo::end)]));
    if (iterations_ < 0) {
      iterations_ = evaluations_ = 0, mark_ = math::infinity<double>(), end_ = FitEnd::running;
      anew_ = fresh_ = true;
    }
    search();
    for (int i = team_.rank; i < count_; i += team_.size) next_unknowns[i] = w_.x[i];
    for (int i = team_.rank; i < p_; i += team_.size) next_memory[p_ * p_ + i] = w_.g[i];
    for (int k = team_.rank; k < p_ * p_; k += team_.size) {
      const int i = k / p_, j = k - i * p_;
      next_memory[k] = renewed(w_.inverse[k], i == j, w_.step[i], mix(i), w_.step[j], mix(j));
    }
    if (team_.rank != 0) return;
    for (int i = 0; i < FitDims::info_columns; ++i) next_info[i] = 0;
    next_info[int(FitInfo::value)] = value_, next_info[int(FitInfo::iterations)] = iterations_;
    next_info[int(FitInfo::evaluations)] = evaluations_, next_info[int(FitInfo::fresh)] = fresh_;
    next_info[int(FitInfo::end)] = static_cast<double>(end_), next_info[int(FitInfo::mark)] = mark_;
  }

 private:
  RANVIER_HD_INLINE double about(FitColumn column) const { return w_.about[static_cast<int>(column)]; }

  RANVIER_HD_INLINE void load(const double* s, const double* description, const double* unknowns,
                              const double* memory) {
    for (int i = team_.rank; i < p_ * p_; i += team_.size) w_.inverse[i] = memory[i];
    for (int i = team_.rank; i < p_; i += team_.size) {
      w_.x[i] = i < count_ ? unknowns[i] : 0, w_.g[i] = memory[p_ * p_ + i];
      w_.at[i] = w_.next_g[i] = w_.d[i] = w_.step[i] = w_.product[i] = 0;
    }
    const bool spike = description[int(FitColumn::stretch)] != 0;
    for (int i = team_.rank; i < n_; i += team_.size) {
      const double at = i < points_ ? s[i] : 0.5;
      w_.s[i] = at, w_.m[i] = spike ? at * (1 - at) : at;
      w_.weight[i] = i < points_ ? 1 / static_cast<double>(points_) : 0;
    }
    for (int i = team_.rank; i < FitDims::columns; i += team_.size)
      w_.about[i] = i == int(FitColumn::pull) ? description[int(FitColumn::a)] / description[int(FitColumn::scale)]
                                              : description[i];
    for (int i = team_.rank; i < 7 * sums_; i += team_.size) w_.slope[i] = 0;  // of all three, which lie side by side
    team_.sync();
  }

  /// Iterations until the search or this call's share of them ends. Each phase is written once in it, so that a GPU's
  /// instruction cache holds them all: the very first evaluation is a trial with a step of 0, and is followed by
  /// nothing.
  RANVIER_HD_INLINE void search() {
    int64_t left = limits_.launch_iterations;
    while (end_ == FitEnd::running) {
      const bool begins = evaluations_ == 0;
      if (!begins) {
        if (left == 0) return;
        if (value_ <= about(FitColumn::wanted)) return void(end_ = FitEnd::value);
        if (iterations_ >= limits_.iterations) return void(end_ = FitEnd::iterations);
        descend();
        if (steep_ <= 1e-28) return void(end_ = FitEnd::gradient);
        if (!(slope_ < 0) && !fresh_) {
          forget();
          continue;
        }
        iterations_ += 1, left -= 1;
      }
      const double inverse_norm = 1 / root(steep_);
      LineSearch line(value_, slope_, begins ? 0 : fresh_ && inverse_norm < 1 ? inverse_norm : 1, {});
      Trial trial{};
      do trial = try_step(line.step());
      while (!begins && !line.learn(trial));
      if (!begins && !line.found()) {
        if (fresh_) return void(end_ = FitEnd::progress);
        forget();  // steepest descent may still see a way down
        continue;
      }
      if (!begins) learn(trial.step);
      move(trial, begins);
    }
  }

  /// From here on the inverse Hessian is the identity.
  RANVIER_HD_INLINE void forget() {
    anew_ = fresh_ = true;
    team_.sync();  // the sums of `descend` have been read
  }

  RANVIER_HD_INLINE void move(const Trial& taken, bool begins) {
    double *x = w_.x, *g = w_.g;
    w_.x = w_.at, w_.at = x, w_.g = w_.next_g, w_.next_g = g;
    value_ = taken.value;
    if (begins) {  // along zeros: the slope is finite where the gradient is
      if (!(is_finite(taken.value) && is_finite(taken.slope))) end_ = FitEnd::not_finite;
      return;
    }
    fresh_ = false;
    if (iterations_ % limits_.patience != 0) return;
    if (value_ > (1 - limits_.stall_share) * mark_) end_ = FitEnd::progress;
    mark_ = value_;
  }

  /// Half the mean of the squared residuals at x + step d, and its slope along d.
  RANVIER_HD_INLINE Trial try_step(double step) {
    hidden_units(step);
    team_.sync();
    residuals();
    team_.sync();
    gradient();
    team_.sync();
    evaluations_ += 1;
    return {step, 0.5 * *w_.loss, sum_of(w_.slope)};
  }

  /// Pairs of a unit and a point, on all workers.
  RANVIER_HD_INLINE void hidden_units(double step) {
    const int per_unit = n_ / width, unit_stride = team_.size / per_unit,
              point_stride = team_.size - unit_stride * per_unit;
    int k = team_.rank / per_unit, at = team_.rank - k * per_unit;
    while (k < hidden_) {
      const double weight = fused(step, w_.d[k], w_.x[k]), bias = fused(step, w_.d[hidden_ + k], w_.x[hidden_ + k]);
      const double* s = w_.s + at * width;
      double h[width];
      for (int l = 0; l < width; ++l) h[l] = math::tanh(fused(weight, s[l], bias));
      for (int l = 0; l < width; ++l) w_.h[k * n_ + at * width + l] = h[l];
      k += unit_stride, at += point_stride;
      if (at >= per_unit) at -= per_unit, ++k;
    }
    for (int i = team_.rank; i < p_; i += team_.size) w_.at[i] = fused(step, w_.d[i], w_.x[i]);
  }

  /// Residuals and the loss's slopes in the outputs, points side by side.
  RANVIER_HD_INLINE void residuals() {
    const double *weight = w_.at, *v1 = weight + 2 * hidden_, *v2 = v1 + hidden_, *c = v2 + hidden_;
    for (int first = team_.rank * width; first < n_; first += team_.size * width) {
      double y1[width], y2[width], d1[width] = {}, d2[width] = {};
      for (int l = 0; l < width; ++l) y1[l] = c[0], y2[l] = c[1];
#pragma unroll 4
      for (int k = 0; k < hidden_; ++k) {
        const double wk = weight[k], v1k = v1[k], v2k = v2[k];
        for (int l = 0; l < width; ++l) {
          const double h = w_.h[k * n_ + first + l], slope = (1 - h) * (1 + h) * wk;
          y1[l] = fused(v1k, h, y1[l]), y2[l] = fused(v2k, h, y2[l]);
          d1[l] = fused(v1k, slope, d1[l]), d2[l] = fused(v2k, slope, d2[l]);
        }
      }
      equations(first, y1, y2, d1, d2);
    }
  }

  /// An angle beyond what the bounded sine takes makes the residuals NaN: the line search comes back from there.
  RANVIER_HD_INLINE void equations(int first, const double (&y1)[width], const double (&y2)[width],
                                   const double (&d1)[width], const double (&d2)[width]) {
    const double reach = about(FitColumn::length) * about(FitColumn::stretch);
    const double length = fused(reach, w_.at[count_ - 1], about(FitColumn::length));
    const double bend = about(FitColumn::stretch) != 0 ? 2 : 0, pull = about(FitColumn::pull),
                 back_length = pull * length;
    const double phi0 = about(FitColumn::phi0), rise = about(FitColumn::rise), u0 = about(FitColumn::u0),
                 drive = about(FitColumn::drive), alpha = about(FitColumn::alpha), gamma = about(FitColumn::gamma),
                 b = about(FitColumn::b), above = about(FitColumn::above), A = about(FitColumn::A),
                 peak = about(FitColumn::peak), scale = about(FitColumn::scale);
    double seeds[4][width], terms[2][width];
    for (int l = 0; l < width; ++l) {
      const double s = w_.s[first + l], m = w_.m[first + l], weight = w_.weight[first + l], dm = fused(-bend, s, 1.0);
      const double phi = fused(m, y1[l], fused(rise, s, phi0)), u = fused(scale * s, y2[l], u0);
      const bool below = phi <= peak;
      const double least = below ? phi : peak,
                   inside = least >= -math::Format<double>::trig_bound ? least : math::not_a_number<double>();
      const double sine = math::sin_bounded(inside), cosine = math::cos_bounded(inside), square = cosine * cosine;
      const double inverse = quotient(1.0, cosine), force = drive - u;
      const double flow = fused(alpha, sine * sine, gamma * (force * square));
      const double back = fused(b, fused(A, sine * inverse, above), -u);
      const double r1 = fused(-length, flow, fused(m, d1[l], fused(dm, y1[l], rise)));
      const double r2 = fused(-back_length, back, fused(s, d2[l], y2[l]));
      const double e1 = weight * r1, e2 = weight * r2, e2_pull = e2 * pull;
      const double along =
          fused(e1 * (2 * fused(-gamma, force, alpha)), sine * cosine, e2_pull * (b * A) * (inverse * inverse));
      const double g_phi = below ? -length * along : 0, g_u = length * fused(e1, gamma * square, e2_pull);
      seeds[0][l] = fused(g_phi, m, e1 * dm), seeds[1][l] = e1 * m;
      seeds[2][l] = fused(g_u, scale * s, e2), seeds[3][l] = e2 * s;
      terms[0][l] = -reach * fused(e1, flow, e2_pull * back), terms[1][l] = fused(e1, r1, e2 * r2);
    }
    for (int l = 0; l < width; ++l) {
      for (int r = 0; r < 4; ++r) w_.seeds[r * n_ + first + l] = seeds[r][l];
      for (int r = 0; r < 2; ++r) w_.terms[r * n_ + first + l] = terms[r][l];
    }
  }

  /// Four elements of the gradient a group, those of a unit; one group more has c_1, c_2, tau and the loss.
  RANVIER_HD_INLINE void gradient() {
#pragma unroll 1
    for (int k = team_.group; k <= hidden_; k += team_.groups) {
      double sum[4][width] = {}, total[held], dot[held];
      if (k < hidden_)
        sums_of_unit(k, sum);
      else
        for (int i = team_.lane; i < n_; i += lanes)
          for (int l = 0; l < width; ++l) {
            sum[0][l] += w_.seeds[i + l], sum[1][l] += w_.seeds[2 * n_ + i + l];
            sum[2][l] += w_.terms[i + l], sum[3][l] += w_.terms[n_ + i + l];
          }
      team_.total(sum, total);
      for (int r = 0; r < held; ++r) {
        const int part = team_.part(r), i = k < hidden_ ? part * hidden_ + k : 4 * hidden_ + part;
        const bool counts = i < count_;
        dot[r] = counts ? total[r] * w_.d[i] : 0;
        if (team_.writes) *(counts ? w_.next_g + i : w_.loss) = total[r];
      }
      const double partial = team_.over_parts(dot);
      if (team_.leads) w_.slope[k] = partial;
    }
  }

  RANVIER_HD_INLINE void sums_of_unit(int k, double (&sum)[4][width]) const {
    const double wk = w_.at[k], v1k = w_.at[2 * hidden_ + k], v2k = w_.at[3 * hidden_ + k], bend = -2 * wk;
#pragma unroll 1
    for (int i = team_.lane; i < n_; i += lanes) {
      const double *g1 = w_.seeds + i, *c1 = g1 + n_, *g2 = c1 + n_, *c2 = g2 + n_;
      for (int l = 0; l < width; ++l) {
        const double h = w_.h[k * n_ + i + l], slope = (1 - h) * (1 + h), tangent = slope * wk;
        const double g = fused(v1k, g1[l], v2k * g2[l]), t = fused(v1k, c1[l], v2k * c2[l]);
        const double z = slope * fused(bend * h, t, g);
        sum[0][l] = fused(z, w_.s[i + l], fused(slope, t, sum[0][l]));
        sum[1][l] += z;
        sum[2][l] = fused(g1[l], h, fused(c1[l], tangent, sum[2][l]));
        sum[3][l] = fused(g2[l], h, fused(c2[l], tangent, sum[3][l]));
      }
    }
  }

  /// A dot from the groups' partial sums.
  RANVIER_HD_INLINE double sum_of(const double* partial) const {
    const double* from = static_cast<const double*>(__builtin_assume_aligned(partial, 4 * sizeof(double)));
    double sum[4] = {};
#pragma unroll 2
    for (int c = 0; c < sums_; c += 4)
      for (int r = 0; r < 4; ++r) sum[r] += from[c + r];
    return (sum[0] + sum[1]) + (sum[2] + sum[3]);
  }

  /// What the last step tells of the inverse Hessian H: H <- H / tau + s v' + v s', with tau = min(1, y's / s'Bs) and v
  /// a mix of s and H y. It takes effect where H is next read. s'Bs = -step s'g = -step^2 d'g, since s = -step H g.
  RANVIER_HD_INLINE void learn(double step) {
    secant();
    const double yy = sum_of(w_.secant), ys = sum_of(w_.secant + sums_), ss = sum_of(w_.secant + 2 * sums_),
                 yHy = sum_of(w_.secant + 3 * sums_);
    anew_ = false, scale_ = 1, of_step_ = of_product_ = 0;
    if (!(ys > 1e-12 * root(ss * yy))) return;
    const double size = fresh_ ? ys / yy : 1;  // of an identity
    const double sbs = fresh_ ? ss / size : -step * step * slope_, ratio = ys / sbs, tau = ratio < 1 ? ratio : 1;
    scale_ = size / tau, of_product_ = -size / (tau * ys);
    of_step_ = 0.5 * (size * yHy / (tau * ys * ys) + 1 / ys);
  }

  /// s, H y and what `learn` needs of them. Four rows a group.
  RANVIER_HD_INLINE void secant() {
#pragma unroll 1
    for (int c = team_.group; c <= hidden_; c += team_.groups) {
      double sum[4][width] = {}, product[held], dots[4][held];
#pragma unroll 2
      for (int j = team_.lane; j < p_; j += lanes) {
        double y[width];
        for (int l = 0; l < width; ++l) y[l] = w_.next_g[j + l] - w_.g[j + l];
        for (int r = 0; r < 4; ++r)
          for (int l = 0; l < width; ++l) sum[r][l] = fused(w_.inverse[(4 * c + r) * p_ + j + l], y[l], sum[r][l]);
      }
      team_.total(sum, product);
      for (int r = 0; r < held; ++r) {
        const int i = 4 * c + team_.part(r);
        const double s = w_.at[i] - w_.x[i], y = w_.next_g[i] - w_.g[i];
        if (team_.writes) w_.step[i] = s, w_.product[i] = product[r];
        dots[0][r] = y * y, dots[1][r] = y * s, dots[2][r] = s * s, dots[3][r] = y * product[r];
      }
      for (int k = 0; k < 4; ++k) {
        const double partial = team_.over_parts(dots[k]);
        if (team_.leads) w_.secant[k * sums_ + c] = partial;
      }
    }
    team_.sync();
  }

  /// v of `learn`.
  RANVIER_HD_INLINE double mix(int i) const { return fused(of_step_, w_.step[i], of_product_ * w_.product[i]); }
  /// An element of H after the last step, the same bits for (i, j) and (j, i).
  RANVIER_HD_INLINE double renewed(double element, bool diagonal, double si, double vi, double sj, double vj) const {
    const double next = fused(scale_, element, si * vj + vi * sj);
    return anew_ ? (diagonal ? 1 : 0) : next;
  }

  /// H becomes what is known of it, d = -H g; slope d'g, steep g'g. Four rows a group, one pass for all.
  RANVIER_HD_INLINE void descend() {
#pragma unroll 1
    for (int c = team_.group; c <= hidden_; c += team_.groups) {
      double si[4], vi[4], sum[4][width] = {}, product[held], dots[2][held];
      for (int r = 0; r < 4; ++r) si[r] = w_.step[4 * c + r], vi[r] = mix(4 * c + r);
#pragma unroll 2
      for (int j = team_.lane; j < p_; j += lanes) {
        double sj[width], vj[width], g[width];
        for (int l = 0; l < width; ++l) sj[l] = w_.step[j + l], vj[l] = mix(j + l), g[l] = w_.g[j + l];
        for (int r = 0; r < 4; ++r) {
          double* row = w_.inverse + (4 * c + r) * p_ + j;
          for (int l = 0; l < width; ++l) {
            const double next = renewed(row[l], 4 * c + r == j + l, si[r], vi[r], sj[l], vj[l]);
            sum[r][l] = fused(next, g[l], sum[r][l]);
            row[l] = next;
          }
        }
      }
      team_.total(sum, product);
      for (int r = 0; r < held; ++r) {
        const int i = 4 * c + team_.part(r);
        const double g = w_.g[i], d = -product[r];
        if (team_.writes) w_.d[i] = d;
        dots[0][r] = g * d, dots[1][r] = g * g;
      }
      for (int k = 0; k < 2; ++k) {
        const double partial = team_.over_parts(dots[k]);
        if (team_.leads) w_.descent[k * sums_ + c] = partial;
      }
    }
    team_.sync();
    anew_ = false, scale_ = 1, of_step_ = of_product_ = 0;
    slope_ = sum_of(w_.descent), steep_ = sum_of(w_.descent + sums_);
  }

  Team team_;
  FitLimits limits_;
  Scratch w_;
  int hidden_, points_, count_, n_, p_, sums_;
  double value_ = 0, mark_ = 0;
  int iterations_ = 0, evaluations_ = 0;
  double slope_ = 0, steep_ = 1;
  double scale_ = 1, of_step_ = 0, of_product_ = 0;  ///< how H changes where it is next read
  bool anew_ = false;                                ///< it becomes the identity instead
  bool fresh_ = true;                                ///< H knows nothing yet
  FitEnd end_ = FitEnd::running;
};

}  // namespace ranvier::kernels::segment_fit
