// The traced residual of a segment, its training, and the network on the host.
#include "models/pinn_segment.h"

#include <algorithm>
#include <cmath>

#include "models/collocation.h"

namespace ranvier::pinn {
namespace {

constexpr int64_t fresh_factor = 10;  // new points for each training point

/// What changes from segment to segment: set before each training, never traced as a constant.
struct Scalars {
  Tensor length, stretch, phi0, rise, u0, drive;
};

Scalars scalar_inputs(Graph& graph) {
  const auto scalar = [&](const char* name) { return input(graph, name, {DType::f64, {}}); };
  return {scalar("length"), scalar("stretch"), scalar("phi0"), scalar("rise"), scalar("u0"), scalar("drive")};
}

}  // namespace

ThetaForm::ThetaForm(const Neuron& n, double A_mv) : A(A_mv) {
  v_c = -n.q1 / (2 * n.q2);
  const double h2 = (n.q1 * n.q1 - 4 * n.q2 * n.q0) / (4 * n.q2 * n.q2);
  alpha = n.q2 * A / n.C;
  gamma = 1 / (n.C * A);
  offset = n.q2 * h2;
}
double ThetaForm::phi(double v) const { return std::atan((v - v_c) / A); }
double ThetaForm::v(double phi) const { return v_c + A * std::tan(phi); }

double scale_of_u(const Neuron& n, double A_mv) {
  return std::max({std::abs(n.d), 0.05 * std::abs(n.b) * (n.v_peak - n.c), 0.05 * n.q2 * A_mv * A_mv});
}

/// A trace of the residuals at n points: (n) each, scaled to be of order one.
struct SegmentSolver::Trace {
  Jet jet;
  Tensor theta, length, r_phi, r_u, loss;

  Trace(Graph& graph, int64_t n, const SegmentSolver& of) {
    const Neuron& neuron = of.neuron_;
    const Type column{DType::f64, {n, 1}}, flat{DType::f64, {n}};
    const Scalars in = scalar_inputs(graph);
    const Tensor s = input(graph, "s", column), m = input(graph, "m", flat), dm = input(graph, "dm", flat);
    const int64_t parameters = of.shape_.parameters();
    theta = parameter(graph, "theta", {parameters + 1}, init::constant(0));  // the last one stretches the length
    jet = mlp_jet(s, full(graph, column, 1), slice_axis(theta, 0, 0, parameters), of.shape_);
    const Tensor tau = reshape(slice_axis(theta, 0, parameters, 1), {});
    length = broadcast_to(in.length * (1.0 + in.stretch * tau), {n});
    const auto output = [&](Tensor y, int64_t k) { return reshape(slice_axis(y, 1, k, 1), {n}); };
    const Tensor y0 = output(jet.value, 0), y1 = output(jet.value, 1), d0 = output(jet.tangent, 0),
                 d1 = output(jet.tangent, 1), at = reshape(s, {n});
    const Tensor phi = in.phi0 + in.rise * at + m * y0, dphi = in.rise + dm * y0 + m * d0;
    const Tensor u = in.u0 + of.u_scale_ * (at * y1), du = y1 + at * d1;
    const Tensor inside = minimum(phi, full(graph, flat, of.phi_peak_)), sine = sin(inside), cosine = cos(inside);
    const ThetaForm& f = of.form_;
    r_phi = dphi - length * (f.alpha * square(sine) + f.gamma * ((in.drive - u) * square(cosine)));
    const Tensor above = f.v_c - neuron.v_b + f.A * (sine / cosine);
    r_u = du - (neuron.a / of.u_scale_) * (length * (neuron.b * above - u));
    loss = 0.5 * mean(square(r_phi) + square(r_u));
  }

  /// Rows (n, 2, parameters + 1): the network's, then the column of the stretch.
  Tensor jacobian() const {
    const int64_t n = r_phi.shape()[0];
    const Tensor residuals[] = {r_phi, r_u};
    const Tensor network = residual_rows(jet, residuals);
    const Tensor tau_slope = grad(sum(length), theta);  // n times length_0 stretch in its last element, zeros elsewhere
    const Tensor slope =
        reshape(slice_axis(tau_slope, 0, tau_slope.shape()[0] - 1, 1), {}) * (1.0 / static_cast<double>(n));
    std::vector<Tensor> columns;
    for (const Tensor& r : residuals) columns.push_back(reshape(slope * grad(r, length), {n, 1, 1}));
    return concat({network, concat(columns, 1)}, 2);
  }
};

SegmentSolver::SegmentSolver(const Neuron& neuron, const Options& options)
    : neuron_(neuron),
      options_(options),
      form_(neuron, options.A_mv),
      shape_{{1, options.hidden, 2}},
      u_scale_(scale_of_u(neuron, options.A_mv)),
      phi_peak_(form_.phi(neuron.v_peak)),
      state_(std::make_unique<State>()) {
  state_->set_parameter_type(DType::f64);
  {
    Graph graph(*state_);
    const Trace t(graph, options.points, *this);
    train_ = compile(graph, std::vector{t.loss, grad(t.loss, t.theta)});
  }
  {
    Graph graph(*state_);
    const Trace t(graph, options.points * fresh_factor, *this);
    fresh_ = compile(graph, std::vector{t.loss, t.r_phi, t.r_u});
  }
  if (!options.levenberg_marquardt) return;
  Graph graph(*state_);
  const Trace t(graph, options.points, *this);
  const auto pair = [](Tensor a, Tensor b) {
    const int64_t n = a.shape()[0];
    return concat({reshape(a, {n, 1}), reshape(b, {n, 1})}, 1);
  };
  residuals_ = compile(graph, std::vector{pair(t.r_phi, t.r_u)});
  rows_ = compile(graph, std::vector{pair(t.r_phi, t.r_u), t.jacobian()});
}

std::vector<double> spread_units(const MlpShape& shape, std::mt19937_64& random) {
  const auto hidden = static_cast<size_t>(shape.widths[1]), outputs = static_cast<size_t>(shape.widths[2]);
  std::vector<double> theta(static_cast<size_t>(shape.parameters()), 0.0);
  double *w = theta.data(), *b = w + hidden, *v = b + hidden;
  for (size_t k = 0; k < hidden; ++k) {
    const double centre = (static_cast<double>(k) + uniform(random)) / static_cast<double>(hidden);
    w[k] = 2 + static_cast<double>(hidden) * (0.25 + 0.25 * uniform(random));
    b[k] = -w[k] * centre;
  }
  for (size_t k = 0; k < outputs * hidden; ++k)
    v[k] = 0.1 * (2 * uniform(random) - 1) / std::sqrt(static_cast<double>(hidden));
  return theta;
}

void SegmentSolver::set(Program& program, const Segment& segment, const std::vector<double>& s) {
  const auto scalar = [&](const char* name, double value) { program.set<double>(name, std::span(&value, 1)); };
  scalar("length", segment.length_ms);
  scalar("stretch", segment.spike ? 1 : 0);
  scalar("phi0", segment.phi0);
  scalar("rise", segment.rise);
  scalar("u0", segment.u0);
  scalar("drive", segment.current - form_.offset);
  std::vector<double> m(s), dm(s.size(), 1.0);
  if (segment.spike)
    for (size_t i = 0; i < s.size(); ++i) m[i] = s[i] * (1 - s[i]), dm[i] = 1 - 2 * s[i];
  program.set<double>("s", s);
  program.set<double>("m", m);
  program.set<double>("dm", dm);
}

double SegmentSolver::evaluate(const Segment& segment, Program& program, const std::vector<double>& s,
                               std::vector<double>* each) {
  set(program, segment, s);
  std::vector<double> x = segment.theta;
  x.push_back(0);  // the length is final
  state_->set<double>("parameters", "theta", x);
  program.run();
  if (each) {
    const auto phi = program.get<double>(1), u = program.get<double>(2);
    each->resize(s.size());
    for (size_t i = 0; i < s.size(); ++i) (*each)[i] = std::hypot(phi[i], u[i]);
  }
  return program.scalar(0);
}

optimize::Options SegmentSolver::optimizer_options(const Segment& segment) const {
  const double wanted = segment.spike ? options_.spike_loss : options_.window_loss;
  optimize::Options options{.max_iterations = options_.iterations, .wanted_value = 0.1 * wanted};
  options.stall_share = 0.02, options.patience = 200;
  return options;
}

std::vector<double> SegmentSolver::description(const Segment& s) const {
  return {s.length_ms,
          s.spike ? 1.0 : 0.0,
          s.phi0,
          s.rise,
          s.u0,
          s.current - form_.offset,
          form_.alpha,
          form_.gamma,
          neuron_.a,
          neuron_.b,
          form_.v_c - neuron_.v_b,
          form_.A,
          phi_peak_,
          u_scale_,
          optimizer_options(s).wanted_value,
          0};
}

SegmentSolver::Fit SegmentSolver::begin(Segment& segment, std::mt19937_64& random) {
  segment.theta = spread_units(shape_, random);
  Fit fit{chebyshev(options_.points), segment.theta, segment.length_ms};
  fit.unknowns.push_back(0);
  return fit;
}

bool SegmentSolver::conclude(Segment& segment, Fit& fit, const optimize::Result& result, std::mt19937_64& random) {
  segment.iterations += result.iterations, segment.evaluations += result.evaluations;
  segment.length_ms = segment.spike ? fit.length_ms * (1 + result.x.back()) : fit.length_ms;
  segment.theta.assign(result.x.begin(), result.x.end() - 1);
  segment.loss = result.value;
  segment.history.insert(segment.history.end(), result.history.begin(), result.history.end());
  const std::vector<double> fresh = chebyshev_sample(options_.points * fresh_factor, random);
  std::vector<double> each;
  segment.fresh_loss = evaluate(segment, fresh_, fresh, &each);
  if (segment.fresh_loss <= options_.fresh_ratio * std::max(segment.loss, rounding_loss)) return true;
  // A round more than once only where fresh points see what the training points did not: these then join them.
  if (++fit.round == 2) return true;
  fit.points = chebyshev(options_.points - options_.points / 3);
  for (int64_t i : residual_adaptive(each, options_.points / 3, 2, 0.1, random))
    fit.points.push_back(fresh[static_cast<size_t>(i)]);
  std::sort(fit.points.begin(), fit.points.end());
  segment.length_ms = fit.length_ms;
  fit.unknowns = segment.theta;
  fit.unknowns.push_back(0);
  return false;
}

void SegmentSolver::fit(Segment& segment, std::mt19937_64& random, const std::function<bool()>& proceed) {
  Fit fit = begin(segment, random);
  optimize::Options options = optimizer_options(segment);
  if (proceed) options.proceed = [&](int64_t, double) { return proceed(); };
  for (bool done = false; !done;) {
    optimize::Result result;
    if (options_.levenberg_marquardt) {
      set(residuals_, segment, fit.points), set(rows_, segment, fit.points);
      result = optimize::levenberg_marquardt(optimize::residuals(*state_, residuals_, rows_, "parameters", "theta"),
                                             2 * options_.points, fit.unknowns, options);
    } else {
      set(train_, segment, fit.points);
      result = optimize::bfgs(optimize::objective(*state_, train_, "parameters", "theta"), fit.unknowns, options);
    }
    done = conclude(segment, fit, result, random) || result.reason == optimize::Reason::interrupted;
  }
}

NetworkPoint network_at(const MlpShape& shape, const std::vector<double>& theta, double s) {
  thread_local std::vector<double> a, da, z, dz;  // asked thousands of times a window: nothing is allocated
  a.assign(1, s), da.assign(1, 1.0);
  const double* w = theta.data();
  for (size_t l = 1; l < shape.widths.size(); ++l) {
    const auto in = static_cast<size_t>(shape.widths[l - 1]), out = static_cast<size_t>(shape.widths[l]);
    z.assign(w + in * out, w + in * out + out), dz.assign(out, 0.0);
    for (size_t j = 0; j < out; ++j) {
      for (size_t k = 0; k < in; ++k) z[j] += w[j * in + k] * a[k], dz[j] += w[j * in + k] * da[k];
      if (l + 1 == shape.widths.size()) continue;
      const double h = std::tanh(z[j]);
      z[j] = h, dz[j] *= (1 - h) * (1 + h);
    }
    a.swap(z), da.swap(dz);
    w += out * (in + 1);
  }
  NetworkPoint point;
  const size_t outputs = std::min(a.size(), point.value.size());
  std::copy_n(a.begin(), outputs, point.value.begin()), std::copy_n(da.begin(), outputs, point.tangent.begin());
  return point;
}

std::pair<double, double> SegmentSolver::phi_at(const Segment& segment, double s) const {
  const NetworkPoint y = network_at(shape_, segment.theta, s);
  const double m = segment.spike ? s * (1 - s) : s, dm = segment.spike ? 1 - 2 * s : 1;
  return {segment.phi0 + segment.rise * s + m * y.value[0], segment.rise + dm * y.value[0] + m * y.tangent[0]};
}

double SegmentSolver::u_at(const Segment& segment, double s) const {
  return segment.u0 + u_scale_ * s * network_at(shape_, segment.theta, s).value[1];
}

}  // namespace ranvier::pinn
