// The inverse problem as one sparse least-squares system: a block a piece, a border of what the pieces share.
#include "models/pinn_inverse.h"

#include <algorithm>
#include <cmath>
#include <map>
#include <optional>
#include <random>

#include "engine/grad.h"
#include "engine/householder.h"
#include "engine/program.h"
#include "models/collocation.h"
#include "models/pinn_segment.h"

namespace ranvier::pinn {
namespace {

using optimize::Qr;

/// Scalars that a piece's residuals depend on besides its network. Each is a known number or a shared unknown.
enum Local { a_, b_, d_, C_, k_, start_, end_, phi0_, u0_, next_phi_, next_u_, locals };

struct Piece {
  int64_t source[locals];  // index of the shared unknown, -1: known
  double known[locals];
  bool spike = false;  // ends at phi_peak
  bool last = false;   // nothing follows: no links
  double current = 0;
  std::vector<double> t, v;  // samples
  std::vector<double> theta;
};

double median(std::vector<double> values) {
  std::nth_element(values.begin(), values.begin() + static_cast<int64_t>(values.size() / 2), values.end());
  return values[values.size() / 2];
}

/// Residuals of a piece and their Jacobian, compiled for the longest piece; shorter ones are masked.
class PieceProgram {
 public:
  PieceProgram(const Neuron& n, const InverseOptions& o, int64_t samples, double noise)
      : options_(o), shape_{{1, o.hidden, 2}}, samples_(samples) {
    state_.set_parameter_type(DType::f64);
    Graph graph(state_);
    const auto points = o.points, parameters = shape_.parameters();
    const ThetaForm form(n, o.A_mv);
    const double root2 = (n.q1 * n.q1 - 4 * n.q2 * n.q0) / (4 * n.q2 * n.q2);  // h^2
    phi_peak_ = form.phi(n.v_peak);
    u_scale_ = std::max(1.0, std::abs(n.d));
    const Tensor theta = parameter(graph, "theta", {parameters}, init::constant(0));
    std::vector<Tensor> local, at_points, at_samples;
    for (int64_t k = 0; k < locals; ++k) {
      local.push_back(input(graph, fmt::format("local{}", k), {DType::f64, {1}}));
      at_points.push_back(broadcast_to(local.back(), {points}));
      at_samples.push_back(broadcast_to(local.back(), {samples}));
    }
    const auto weight = [&](const char* name) { return input(graph, name, {DType::f64, {1}}); };
    const Tensor precision = weight("precision"), spike = weight("spike"), link = weight("link"),
                 current = weight("current");
    // phi = phi0 + spike (phi_peak - phi0) s + m N_1, m = s or s (1 - s)
    struct Path {
      Tensor phi, u, dphi, du;
    };
    const auto path = [&](const Jet& jet, Tensor s, const std::vector<Tensor>& of, int64_t count) {
      const auto output = [&](Tensor y, int64_t k) { return reshape(slice_axis(y, 1, k, 1), {count}); };
      const Tensor rise = spike * (phi_peak_ - of[phi0_]), m = s * (1.0 - spike * s), dm = 1.0 - 2.0 * (spike * s);
      const Tensor y0 = output(jet.value, 0), y1 = output(jet.value, 1), d0 = output(jet.tangent, 0),
                   d1 = output(jet.tangent, 1);
      return Path{of[phi0_] + rise * s + m * y0, of[u0_] + u_scale_ * (s * y1), rise + dm * y0 + m * d0,
                  u_scale_ * (y1 + s * d1)};
    };
    const Tensor s = input(graph, "s", {DType::f64, {points, 1}});
    const Jet jet = mlp_jet(s, full(graph, s.type(), 1), theta, shape_);
    const Path p = path(jet, reshape(s, {points}), at_points, points);
    const Tensor length = at_points[end_] - at_points[start_],
                 inside = minimum(p.phi, full(graph, {DType::f64, {points}}, phi_peak_));
    const Tensor sine = sin(inside), cosine = cos(inside), per_c = 1.0 / at_points[C_], k = at_points[k_];
    const Tensor r_phi =
        precision * (p.dphi - length * (per_c * (o.A_mv * k * square(sine) +
                                                 (1 / o.A_mv) * (current - p.u - root2 * k) * square(cosine))));
    const Tensor above = form.v_c - n.v_b + o.A_mv * (sine / cosine);
    const Tensor r_u = precision * ((p.du - length * (at_points[a_] * (at_points[b_] * above - p.u))) * (1 / u_scale_));
    // data: the network at (t - start) / (end - start), which moves with the spike times
    const Tensor t = input(graph, "t", {DType::f64, {samples}}), v = input(graph, "v", {DType::f64, {samples}}),
                 mask = input(graph, "mask", {DType::f64, {samples}});
    const Tensor x = (t - at_samples[start_]) / (at_samples[end_] - at_samples[start_]);
    const Tensor column = reshape(x, {samples, 1});
    const Jet data = mlp_jet(column, full(graph, column.type(), 0), theta, shape_);
    const Path q = path(data, x, at_samples, samples);
    const Tensor safe = minimum(q.phi, full(graph, {DType::f64, {samples}}, phi_peak_ + 0.02));
    const Tensor r_v = mask * ((form.v_c + o.A_mv * (sin(safe) / cos(safe)) - v) * (1 / noise));
    // links to the next piece, at s = 1
    const Tensor one = full(graph, {DType::f64, {1, 1}}, 1);
    const Jet last = mlp_jet(one, one, theta, shape_);
    const Path e = path(last, full(graph, {DType::f64, {1}}, 1), local, 1);
    const Tensor l_phi = link * (precision * ((1.0 - spike) * (e.phi - local[next_phi_])));
    const Tensor l_u = link * (precision * ((e.u + spike * local[d_] - local[next_u_]) * (1 / u_scale_)));
    const auto block = [&](const Jet& of, std::vector<Tensor> residuals, const std::vector<Tensor>& scalars) {
      // (rows, parameters + locals + 1): network, locals, residual
      std::vector<Tensor> parts;
      const Tensor rows = residual_rows(of, residuals);
      const int64_t n = residuals[0].shape()[0];
      for (size_t r = 0; r < residuals.size(); ++r) {
        std::vector<Tensor> columns = {reshape(slice_axis(rows, 1, static_cast<int64_t>(r), 1), {n, parameters})};
        for (const Tensor& g : grad(residuals[r], scalars)) columns.push_back(reshape(g, {n, 1}));
        columns.push_back(reshape(residuals[r], {n, 1}));
        parts.push_back(concat(columns, 1));
      }
      return concat(parts, 0);
    };
    rows_ = 2 * points + samples + 2;
    const Tensor all = concat({r_phi, r_u, r_v, l_phi, l_u}, 0);
    value_ = compile(graph, std::vector{all});
    blocks_ = compile(graph, std::vector{block(jet, {r_phi, r_u}, at_points), block(data, {r_v}, at_samples),
                                         block(last, {l_phi, l_u}, local)});
  }

  int64_t rows() const { return rows_; }
  int64_t parameters() const { return shape_.parameters(); }
  double phi_peak() const { return phi_peak_; }
  const MlpShape& shape() const { return shape_; }
  double u_scale() const { return u_scale_; }

  /// Residuals: equations (2 points), data (samples), links (2).
  std::vector<double> residuals(const Piece& piece, const std::vector<double>& shared, double precision) {
    set(value_, piece, shared, precision);
    value_.run();
    return value_.get<double>(0);
  }
  /// [J | r], row-major, rows() x (parameters + locals + 1).
  std::vector<double> block(const Piece& piece, const std::vector<double>& shared, double precision) {
    set(blocks_, piece, shared, precision);
    blocks_.run();
    std::vector<double> all;
    for (size_t k = 0; k < 3; ++k) {
      const auto part = blocks_.get<double>(k);
      all.insert(all.end(), part.begin(), part.end());
    }
    return all;
  }

 private:
  void set(Program& program, const Piece& piece, const std::vector<double>& shared, double precision) {
    const auto scalar = [&](const std::string& name, double value) { program.set<double>(name, std::span(&value, 1)); };
    for (int64_t k = 0; k < locals; ++k)
      scalar(fmt::format("local{}", k),
             piece.source[k] >= 0 ? shared[static_cast<size_t>(piece.source[k])] : piece.known[k]);
    scalar("precision", precision), scalar("spike", piece.spike), scalar("link", !piece.last);
    scalar("current", piece.current);
    program.set<double>("s", chebyshev(options_.points));
    const auto count = static_cast<size_t>(samples_);
    const double middle = 0.5 * (piece.known[start_] + piece.known[end_]);
    std::vector<double> t(count, middle), v(count, 0.0), mask(count, 0.0);
    std::copy(piece.t.begin(), piece.t.end(), t.begin());
    std::copy(piece.v.begin(), piece.v.end(), v.begin());
    std::fill_n(mask.begin(), piece.t.size(), 1.0);
    program.set<double>("t", t), program.set<double>("v", v), program.set<double>("mask", mask);
    state_.materialise();
    state_.set<double>("parameters", "theta", piece.theta);
  }

  InverseOptions options_;
  MlpShape shape_;
  int64_t samples_, rows_ = 0;
  double phi_peak_ = 0, u_scale_ = 1;
  State state_;
  Program value_, blocks_;
};

/// The whole system.
class Inverse {
 public:
  Inverse(const Recording& recording, const Neuron& guess, const Current& current, const InverseOptions& o)
      : recording_(recording), neuron_(guess), options_(o), random_(o.seed), noise_(recording.noise_mv()) {
    find_spikes();
    cut(current);
    int64_t longest = 1;
    for (const Piece& piece : pieces_) longest = std::max(longest, static_cast<int64_t>(piece.t.size()));
    program_ = std::make_unique<PieceProgram>(guess, o, longest, noise_);
    for (Piece& piece : pieces_) start(piece);
  }

  InverseResult run(const std::function<bool(int64_t, double)>& progress) {
    InverseResult result;
    for (double physics = 100 * options_.physics; physics >= options_.physics * 0.999; physics *= std::sqrt(0.1))
      if (!minimise(1 / physics, result, progress)) break;
    finish(result);
    return result;
  }

 private:
  int64_t unknown(double value) {
    shared_.push_back(value);
    return static_cast<int64_t>(shared_.size()) - 1;
  }

  /// A spike is a fall by more than 40 % of the way from the peak to the median between two samples.
  void find_spikes() {
    const double fall = 0.4 * (neuron_.v_peak - median(recording_.v_mv));
    double lowest = 0;
    for (size_t i = 0; i + 1 < recording_.v_mv.size(); ++i) {
      if (!(recording_.v_mv[i] - recording_.v_mv[i + 1] > fall)) continue;
      spikes_.push_back(0.5 * (recording_.t_ms[i] + recording_.t_ms[i + 1]));
      lowest += recording_.v_mv[i + 1];
    }
    if (spikes_.size() < 2) fail("the recording holds {} spikes; at least 2 are needed", spikes_.size());
    reset_ = lowest / static_cast<double>(spikes_.size());
  }

  /// Pieces between spikes and edges, and the shared unknowns.
  void cut(const Current& current) {
    const ThetaForm form(neuron_, options_.A_mv);
    int64_t source[5] = {-1, -1, -1, -1, -1};
    double value[5] = {neuron_.a, neuron_.b, neuron_.d, neuron_.C, neuron_.q2};
    int64_t phi_c = -1;
    for (const std::string& name : options_.unknown) {
      const std::map<std::string, int> scalars = {{"a", a_}, {"b", b_}, {"d", d_}, {"C", C_}, {"k", k_}};
      if (name == "c") {
        phi_c = unknown(form.phi(reset_));
      } else if (const auto found = scalars.find(name); found != scalars.end()) {
        source[found->second] = unknown(value[found->second]);
      } else {
        fail("'{}' cannot be estimated; known: a b c d C k", name);
      }
      names_.push_back(name);
    }
    const double end = recording_.t_ms.back();
    double t = recording_.t_ms.front();
    size_t spike = 0;
    // At rest nothing is learned, so the pieces begin with the current's first change where the start is a rest.
    const bool rest = std::abs(neuron_.dv(neuron_.v0, neuron_.u0, current.at(t))) < 1e-9 &&
                      std::abs(neuron_.du(neuron_.v0, neuron_.u0)) < 1e-9;
    if (rest) t = current.next_change(t, end);
    int64_t start_time = -1, phi = -1, u = -1;
    double phi_known = form.phi(neuron_.v0), u_known = neuron_.u0;
    while (t < end - 1e-9) {
      const double edge = current.next_change(t, end);
      const double stop = spike < spikes_.size() ? std::min(edge, spikes_[spike]) : edge;
      const bool fires = spike < spikes_.size() && stop == spikes_[spike];
      for (const double until : boundaries(t, stop, fires)) {
        Piece piece;
        for (int64_t k = 0; k < 5; ++k) piece.source[k] = source[k], piece.known[k] = value[k];
        piece.spike = fires && until == stop;
        piece.last = until >= end - 1e-9;
        piece.current = current.at(t);
        const auto put = [&](Local k, int64_t from, double known) { piece.source[k] = from, piece.known[k] = known; };
        put(start_, start_time, t), put(phi0_, phi, phi_known), put(u0_, u, u_known);
        start_time = piece.spike ? unknown(until) : -1;
        put(end_, start_time, until);
        for (size_t i = 0; i < recording_.t_ms.size(); ++i)
          if (recording_.t_ms[i] > t + (start_known(t) ? -1e-9 : 0.15) &&
              recording_.t_ms[i] < until - (piece.spike ? 0.15 : 1e-9))
            piece.t.push_back(recording_.t_ms[i]), piece.v.push_back(recording_.v_mv[i]);
        phi = -1, u = -1, phi_known = 0, u_known = 0;
        if (!piece.last) {
          const auto [v_here, u_here] = state_near(until, piece.spike, current.at(until));
          phi = piece.spike ? phi_c : unknown(form.phi(v_here));
          u = unknown(u_here);
          if (piece.spike && phi_c < 0) phi_known = form.phi(neuron_.c);
        }
        put(next_phi_, phi, phi_known), put(next_u_, u, 0);
        pieces_.push_back(std::move(piece));
        t = until;
      }
      if (fires) ++spike;
    }
  }

  bool start_known(double t) const { return std::find(spikes_.begin(), spikes_.end(), t) == spikes_.end(); }

  /// Ends of the pieces of (t, stop]: short ones on the upstroke before a spike, at most 25 ms elsewhere.
  static std::vector<double> boundaries(double t, double stop, bool fires) {
    std::vector<double> ends;
    double calm = stop;
    for (const double before : {16.0, 4.0})
      if (fires && stop - before > t + 3) calm = std::min(calm, stop - before), ends.push_back(stop - before);
    const auto parts = std::max<int64_t>(1, static_cast<int64_t>(std::ceil((calm - t) / 25)));
    std::vector<double> all;
    for (int64_t k = 1; k < parts; ++k)
      all.push_back(t + (calm - t) * static_cast<double>(k) / static_cast<double>(parts));
    all.insert(all.end(), ends.begin(), ends.end());
    all.push_back(stop);
    return all;
  }

  /// v and u near a time (right after it where it is a spike's): a line through the samples, and u from v' and the
  /// voltage equation. Where the search starts, no more.
  std::pair<double, double> state_near(double t, bool after, double current) const {
    const double low = after ? t + 0.1 : t - 1.5, high = after ? t + 3 : t + 1.5;
    double n = 0, st = 0, sv = 0, stt = 0, stv = 0;
    for (size_t i = 0; i < recording_.t_ms.size(); ++i) {
      const double x = recording_.t_ms[i] - t, v = recording_.v_mv[i];
      if (recording_.t_ms[i] < low || recording_.t_ms[i] > high) continue;
      n += 1, st += x, sv += v, stt += x * x, stv += x * v;
    }
    const double spread = n * stt - st * st;
    if (n < 3 || spread <= 0) return {reset_, 0};
    const double slope = (n * stv - st * sv) / spread, v = (sv - slope * st) / n;
    return {v, neuron_.q2 * v * v + neuron_.q1 * v + neuron_.q0 + current - neuron_.C * slope};
  }

  void start(Piece& piece) {
    const auto hidden = static_cast<size_t>(options_.hidden);
    piece.theta.assign(static_cast<size_t>(program_->parameters()), 0.0);
    double *w = piece.theta.data(), *b = w + hidden, *v = b + hidden;
    for (size_t k = 0; k < hidden; ++k) {
      const double centre = (static_cast<double>(k) + uniform(random_)) / static_cast<double>(hidden);
      w[k] = 2 + static_cast<double>(hidden) * (0.25 + 0.25 * uniform(random_));
      b[k] = -w[k] * centre;
    }
    for (size_t k = 0; k < 2 * hidden; ++k)
      v[k] = 0.1 * (2 * uniform(random_) - 1) / std::sqrt(static_cast<double>(hidden));
  }

  double objective(const std::vector<Piece>& pieces, const std::vector<double>& shared, double precision) {
    double sum = 0;
    for (const Piece& piece : pieces)
      for (double r : program_->residuals(piece, shared, precision)) sum += r * r;
    return sum;
  }

  /// Shared unknowns of a piece, in the order of its columns.
  static std::vector<int64_t> border(const Piece& piece) {
    std::vector<int64_t> of;
    for (int64_t k = 0; k < locals; ++k)
      if (piece.source[k] >= 0) of.push_back(piece.source[k]);
    std::sort(of.begin(), of.end());
    of.erase(std::unique(of.begin(), of.end()), of.end());
    return of;
  }

  /// R and rhs of every piece, columns [network | border | rhs]: what damping starts from.
  std::vector<Qr> factor(double precision) {
    const int64_t own = program_->parameters(), wide = own + locals + 1;
    std::vector<Qr> factors;
    for (const Piece& piece : pieces_) {
      const std::vector<int64_t> of = border(piece);
      const std::vector<double> block = program_->block(piece, shared_, precision);
      const auto all = static_cast<int64_t>(of.size());
      Qr qr(std::max(program_->rows(), own + all), own + all);
      for (int64_t i = 0; i < program_->rows(); ++i) {
        const double* row = &block[static_cast<size_t>(i * wide)];
        for (int64_t j = 0; j < own; ++j) qr(i, j) = row[j];
        for (int64_t k = 0; k < locals; ++k)
          if (piece.source[k] >= 0)
            qr(i, own + (std::lower_bound(of.begin(), of.end(), piece.source[k]) - of.begin())) += row[own + k];
        qr(i, own + all) = -row[wide - 1];
      }
      qr.factor();
      factors.push_back(std::move(qr));
    }
    return factors;
  }

  /// The shared system left when every piece's own columns are eliminated with this damping; keeps the eliminations.
  Qr reduce(std::vector<Qr>& factors, std::vector<Qr>& eliminated, double damping) {
    const int64_t own = program_->parameters(), shared = static_cast<int64_t>(shared_.size());
    int64_t rows = shared, at = 0;
    for (const Piece& piece : pieces_) rows += static_cast<int64_t>(border(piece).size());
    Qr system(rows, shared);
    eliminated.clear();
    for (size_t p = 0; p < pieces_.size(); ++p) {
      Qr& r = factors[p];
      const std::vector<int64_t> of = border(pieces_[p]);
      const auto all = static_cast<int64_t>(of.size());
      Qr q(own + all + own, own, all + 1);
      for (int64_t j = 0; j < own + all + 1; ++j)
        for (int64_t i = 0; i < std::min(j + 1, own + all); ++i) q(i, j) = r(i, j);
      for (int64_t j = 0; j < own; ++j) q(own + all + j, j) = std::sqrt(damping) * (1e-6 + norm_of(r, j));
      q.factor(own + all);
      Qr rest(own + all, all);  // its triangle is all that the shared system needs
      for (int64_t j = 0; j < all + 1; ++j)
        for (int64_t i = own; i < q.rows(); ++i) rest(i - own, j) = q(i, own + j);
      rest.factor();
      for (int64_t i = 0; i < all; ++i, ++at) {
        for (int64_t j = i; j < all; ++j) system(at, of[static_cast<size_t>(j)]) = rest(i, j);
        system(at, shared) = rest(i, all);
      }
      eliminated.push_back(std::move(q));
    }
    return system;
  }

  static double norm_of(Qr& r, int64_t j) {
    double square = 0;
    for (int64_t i = 0; i <= j; ++i) square += r(i, j) * r(i, j);
    return std::sqrt(square);
  }

  bool minimise(double precision, InverseResult& result, const std::function<bool(int64_t, double)>& progress) {
    double value = objective(pieces_, shared_, precision), damping = 1e-3, grow = 2;
    int slow = 0;
    for (int64_t k = 0; k < options_.iterations; ++k, ++result.iterations) {
      std::vector<Qr> factors = factor(precision), eliminated;
      bool accepted = false;
      double next = value;
      for (int trial = 0; trial < 12 && !accepted; ++trial) {
        std::vector<Piece> pieces = pieces_;
        std::vector<double> shared = shared_;
        if (step(factors, eliminated, damping, pieces, shared)) next = objective(pieces, shared, precision);
        if (std::isfinite(next) && next < value) {
          accepted = true, pieces_ = std::move(pieces), shared_ = std::move(shared);
          damping = std::max(damping / 4, 1e-14), grow = 2;
        } else {
          damping *= grow, grow *= 2, next = value;
        }
      }
      if (progress && !progress(result.iterations, next)) return false;
      // the objective counts squared standard deviations: a hundredth of one matters to no interval
      slow = value - next < 0.01 ? slow + 1 : 0;
      if (!accepted || slow == 5) return true;
      value = next;
    }
    return true;
  }

  /// Adds the damped Gauss-Newton step; false where the system is singular. Spike times stay between
  /// the samples that they were found at.
  bool step(std::vector<Qr>& factors, std::vector<Qr>& eliminated, double damping, std::vector<Piece>& pieces,
            std::vector<double>& shared) {
    const int64_t own = program_->parameters(), all = static_cast<int64_t>(shared.size());
    Qr system = reduce(factors, eliminated, damping);
    for (int64_t j = 0; j < all; ++j) {
      double square = 0;
      for (int64_t i = 0; i < system.rows(); ++i) square += system(i, j) * system(i, j);
      system(system.rows() - all + j, j) = std::sqrt(damping * square) + 1e-12;
    }
    system.factor();
    std::vector<double> change(static_cast<size_t>(all)), part(static_cast<size_t>(own));
    if (!system.solve(change.data(), all)) return false;
    for (int64_t j = 0; j < all; ++j) shared[static_cast<size_t>(j)] += change[static_cast<size_t>(j)];
    for (size_t p = 0; p < pieces.size(); ++p) {
      Qr& q = eliminated[p];
      const std::vector<int64_t> of = border(pieces[p]);
      const auto width = static_cast<int64_t>(of.size());
      for (int64_t i = 0; i < own; ++i)
        for (int64_t j = 0; j < width; ++j)
          q(i, own + width) -= q(i, own + j) * change[static_cast<size_t>(of[static_cast<size_t>(j)])];
      if (!q.solve(part.data(), own + width)) return false;
      for (int64_t j = 0; j < own; ++j) pieces[p].theta[static_cast<size_t>(j)] += part[static_cast<size_t>(j)];
      for (const Local k : {start_, end_})
        if (const int64_t at = pieces[p].source[k]; at >= 0) {
          double& time = shared[static_cast<size_t>(at)];
          time = std::clamp(time, pieces[p].known[k] - 0.14, pieces[p].known[k] + 0.14);
        }
    }
    return true;
  }

  void finish(InverseResult& result) {
    const double precision = 1 / options_.physics;
    result.objective = objective(pieces_, shared_, precision);
    double data = 0, physics = 0;
    int64_t samples = 0, points = 0;
    for (const Piece& piece : pieces_) {
      const auto r = program_->residuals(piece, shared_, precision);
      const auto equations = static_cast<size_t>(2 * options_.points);
      for (size_t i = 0; i < equations; ++i) physics += r[i] * r[i] / (precision * precision), ++points;
      for (size_t i = 0; i < piece.t.size(); ++i) data += r[equations + i] * r[equations + i], ++samples;
    }
    const double spread = std::sqrt(data / static_cast<double>(samples));
    result.noise_mv = spread * noise_, result.physics_loss = physics / static_cast<double>(points);
    result.spikes = static_cast<int64_t>(spikes_.size());
    std::vector<Qr> factors = factor(precision), eliminated;
    Qr system = reduce(factors, eliminated, 1e-18);
    system.factor();
    const auto all = static_cast<int64_t>(shared_.size());
    for (size_t k = 0; k < names_.size(); ++k) {
      // variance of unknown k: |R^-T e_k|^2, by forward substitution with R'
      std::vector<double> y(static_cast<size_t>(all), 0.0);
      double square = 0;
      for (int64_t i = 0; i < all; ++i) {
        double sum = i == static_cast<int64_t>(k) ? 1 : 0;
        for (int64_t j = 0; j < i; ++j) sum -= system(j, i) * y[static_cast<size_t>(j)];
        y[static_cast<size_t>(i)] = sum / system(i, i);
        square += y[static_cast<size_t>(i)] * y[static_cast<size_t>(i)];
      }
      double value = shared_[k], error = spread * std::sqrt(square);
      if (names_[k] == "c") {
        const ThetaForm form(neuron_, options_.A_mv);
        error *= options_.A_mv / (std::cos(value) * std::cos(value));
        value = form.v(value);
      }
      result.estimates.push_back({names_[k], value, error, value - 1.96 * error, value + 1.96 * error});
    }
  }

  const Recording& recording_;
  Neuron neuron_;
  InverseOptions options_;
  std::mt19937_64 random_;
  double noise_, reset_ = 0;
  std::vector<double> spikes_, shared_;
  std::vector<std::string> names_;
  std::vector<Piece> pieces_;
  std::unique_ptr<PieceProgram> program_;
};

}  // namespace

void Recording::check() const {
  if (t_ms.size() != v_mv.size()) fail("recording: {} times and {} voltages", t_ms.size(), v_mv.size());
  if (t_ms.size() < 100) fail("recording: {} samples are too few", t_ms.size());
  std::vector<double> steps;
  for (size_t i = 0; i < t_ms.size(); ++i) {
    if (!std::isfinite(t_ms[i]) || !std::isfinite(v_mv[i])) fail("recording: sample {} is not finite", i + 1);
    if (i == 0) continue;
    if (!(t_ms[i] > t_ms[i - 1]))
      fail("recording: sample {}: time {} ms does not follow {} ms", i + 1, t_ms[i], t_ms[i - 1]);
    steps.push_back(t_ms[i] - t_ms[i - 1]);
  }
  const double usual = median(steps);
  for (size_t i = 0; i < steps.size(); ++i)
    if (steps[i] > 1.5 * usual)
      fail("recording: gap of {:.6g} ms after {} ms, where samples are {:.6g} ms apart", steps[i], t_ms[i], usual);
}

double Recording::noise_mv() const {
  std::vector<double> second;
  for (size_t i = 1; i + 1 < v_mv.size(); ++i) second.push_back(std::abs(v_mv[i - 1] - 2 * v_mv[i] + v_mv[i + 1]));
  return std::max(1e-3, median(second) / (0.6745 * std::sqrt(6.0)));
}

InverseResult infer(const Recording& recording, const Neuron& guess, const Current& current,
                    const InverseOptions& options, const std::function<bool(int64_t, double)>& progress) {
  recording.check();
  guess.check();
  std::optional<InverseResult> best;
  bool going = true;
  int64_t iterations = 0;
  const auto watched = [&](int64_t iteration, double objective) {
    return going = !progress || progress(iterations + iteration, objective);
  };
  for (int64_t start = 0; start < std::max<int64_t>(options.starts, 1) && going; ++start) {
    InverseOptions own = options;
    own.seed = options.seed + static_cast<uint64_t>(start) * 1'000'003;
    InverseResult result = Inverse(recording, guess, current, own).run(watched);
    iterations += result.iterations;
    if (!best || result.objective < best->objective) best = result;
  }
  best->iterations = iterations;
  return *best;
}

}  // namespace ranvier::pinn
