// The inverse problem as one sparse least-squares system: a block a piece, a border of what the pieces share.
#include "models/pinn_inverse.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <map>
#include <optional>
#include <random>

#include "engine/householder.h"
#include "models/collocation.h"
#include "models/pinn_likelihood.h"

namespace ranvier::pinn {
namespace {

using optimize::Qr;

constexpr int64_t likelihood_iterations = 60;  // a search that finds its way needs 5 to 20
constexpr int64_t most_splits = 50;

double median(std::vector<double> values) {
  std::nth_element(values.begin(), values.begin() + static_cast<int64_t>(values.size() / 2), values.end());
  return values[values.size() / 2];
}

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
    for (Piece& piece : pieces_) piece.theta = spread_units(program_->shape(), random_);
  }

  InverseResult run(const std::function<bool(int64_t, double)>& progress) {
    InverseResult result;
    result.spikes = static_cast<int64_t>(spikes_.size()), result.recording_noise_mv = noise_;
    bool going = true;
    for (double physics = 10 * options_.physics; going && physics >= 0.999 * options_.physics;
         physics *= std::sqrt(0.1))
      going = minimise(1 / physics, result, progress);
    const auto count = static_cast<int64_t>(names_.size());
    Likelihood::Result exact;
    for (int64_t splits = 0; going; ++splits) {
      Likelihood likelihood(*program_, pieces_, shared_, count);
      exact = likelihood.run(likelihood_iterations, [&](int64_t iteration, double misfit) {
        return going = !progress || progress(result.iterations + iteration, misfit);
      });
      // a piece that one network cannot hold, such as the fall after a burst, becomes two, as in the march
      if (!exact.unsolved || splits == most_splits) break;
      pieces_ = likelihood.pieces(), shared_ = likelihood.shared();
      if (!split(*exact.unsolved)) break;
      result.iterations += exact.iterations;
    }
    report(exact, result);
    if (!going) result.failure = "interrupted: these are no estimates of highest likelihood yet";
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
      if (std::find(names_.begin(), names_.end(), name) != names_.end()) fail("'{}' is to be estimated twice", name);
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
          if (recording_.t_ms[i] > t - 1e-9 && recording_.t_ms[i] < until - 1e-9)
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

  /// Halves a piece: a state between the halves, and networks that start anew. False where it is too short.
  bool split(size_t index) {
    Piece first = pieces_[index], second = first;
    const double start = first.known[start_], end = first.known[end_], middle = 0.5 * (start + end);
    if (end - start < 0.02) return false;
    const NetworkPoint at = network_at(program_->shape(), first.theta, 0.5);
    const double rise = first.spike ? program_->phi_peak() - first.value(phi0_, shared_) : 0;
    const double phi = first.value(phi0_, shared_) + 0.5 * rise + (first.spike ? 0.25 : 0.5) * at.value[0];
    const int64_t next_phi = unknown(phi);
    const int64_t next_u = unknown(first.value(u0_, shared_) + 0.5 * program_->u_scale() * at.value[1]);
    first.spike = first.last = false;
    const auto put = [](Piece& piece, Local k, int64_t from, double known) {
      piece.source[k] = from, piece.known[k] = known;
    };
    put(first, end_, -1, middle), put(second, start_, -1, middle);
    put(first, next_phi_, next_phi, 0), put(second, phi0_, next_phi, 0);
    put(first, next_u_, next_u, 0), put(second, u0_, next_u, 0);
    for (Piece* half : {&first, &second}) {
      half->t.clear(), half->v.clear(), half->theta = spread_units(program_->shape(), random_);
      for (size_t i = 0; i < pieces_[index].t.size(); ++i)
        if (const double t = pieces_[index].t[i]; (t < middle - 1e-9) == (half == &first))
          half->t.push_back(t), half->v.push_back(pieces_[index].v[i]);
    }
    pieces_[index] = std::move(second);
    pieces_.insert(pieces_.begin() + static_cast<int64_t>(index), std::move(first));
    return true;
  }

  /// Ends of the pieces of (t, stop]: short ones on the upstroke before a spike, at most 25 ms elsewhere for the
  /// regular spiking neuron of 2007. What is quicker has shorter ones: v' = (q2 / C) (v - v_c)^2 + ... is as fast as C
  /// / q2 is small.
  std::vector<double> boundaries(double t, double stop, bool fires) const {
    const double pace = (neuron_.C / neuron_.q2) / (100 / 0.7);
    std::vector<double> ends;
    double calm = stop;
    for (const double before : {16 * pace, 4 * pace})
      if (fires && stop - before > t + 3 * pace) calm = std::min(calm, stop - before), ends.push_back(stop - before);
    const auto parts = std::max<int64_t>(1, static_cast<int64_t>(std::ceil((calm - t) / (25 * pace))));
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
        next = step(factors, eliminated, damping, pieces, shared) && pieces[0].is_neuron(shared)
                   ? objective(pieces, shared, precision)
                   : std::numeric_limits<double>::infinity();
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

  /// Estimates and intervals; without intervals where the equations could not be followed.
  void report(const Likelihood::Result& exact, InverseResult& result) const {
    const bool followed = !exact.covariance.empty();
    const auto count = names_.size();
    const double none = std::numeric_limits<double>::quiet_NaN();
    const auto freedom = static_cast<double>(exact.samples - static_cast<int64_t>(count));
    result.iterations += exact.iterations, result.samples = exact.samples;
    result.noise_mv = followed ? noise_ * std::sqrt(exact.misfit / freedom) : none;
    result.misfit = followed ? exact.misfit : std::numeric_limits<double>::infinity();
    result.physics_loss = followed ? exact.equations : none;
    if (!exact.converged)
      result.failure = followed ? fmt::format("the search did not settle in {} iterations", exact.iterations)
                                : "the equations cannot be followed from the first estimates on: other starting values "
                                  "of the parameters, or other known ones, may help";
    const ThetaForm form(neuron_, options_.A_mv);
    for (size_t k = 0; k < count; ++k) {
      double value = followed ? exact.shared[k] : shared_[k];
      double error = followed ? result.noise_mv * std::sqrt(exact.covariance[k * count + k]) : none;
      if (names_[k] == "c") {  // its unknown is phi at c
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
  const auto watched = [&](int64_t iteration, double misfit) {
    return going = !progress || progress(iterations + iteration, misfit);
  };
  for (int64_t start = 0; start < std::max<int64_t>(options.starts, 1) && going; ++start) {
    InverseOptions own = options;
    own.seed = options.seed + static_cast<uint64_t>(start) * 1'000'003;
    InverseResult result = Inverse(recording, guess, current, own).run(watched);
    iterations += result.iterations;
    const auto rank = [](const InverseResult& r) { return std::pair(!r.failure.empty(), r.misfit); };
    if (!best || rank(result) < rank(*best)) best = result;
    if (best->failure.empty() && best->describes()) break;
  }
  best->iterations = iterations;
  return *best;
}

}  // namespace ranvier::pinn
