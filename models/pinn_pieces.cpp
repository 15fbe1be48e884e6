// The residuals of a piece traced once: its network meets the equations, the samples and the next piece.
#include "models/pinn_pieces.h"

#include <algorithm>
#include <cmath>

#include "engine/grad.h"
#include "models/collocation.h"

namespace ranvier::pinn {

constexpr int64_t fresh_factor = 10;  // new points for each training point

/// A trace of one piece. phi = phi0 + spike (phi_peak - phi0) s + m N_1, m = s or s (1 - s);  u = u0 + scale s N_2.
struct PieceProgram::Trace {
  struct Path {
    Tensor phi, u, dphi, du;
  };

  Graph graph;
  const Neuron& neuron;
  const PieceProgram& of;
  ThetaForm form;
  Tensor theta, precision, spike, current;
  std::vector<Tensor> local;

  Trace(const Neuron& n, PieceProgram& program)
      : graph(program.state_), neuron(n), of(program), form(n, program.options_.A_mv) {
    theta = parameter(graph, "theta", {of.shape_.parameters()}, init::constant(0));
    for (int64_t k = 0; k < locals; ++k) local.push_back(scalar(fmt::format("local{}", k)));
    precision = scalar("precision"), spike = scalar("spike"), current = scalar("current");
  }

  Tensor scalar(const std::string& name) { return input(graph, name, {DType::f64, {1}}); }
  Tensor column(const char* name, int64_t n) { return input(graph, name, {DType::f64, {n}}); }
  std::vector<Tensor> spread(int64_t n) const {
    std::vector<Tensor> all;
    for (const Tensor& t : local) all.push_back(broadcast_to(t, {n}));
    return all;
  }
  Jet network(Tensor s, bool tangent) {
    const Tensor column = reshape(s, {s.shape()[0], 1});
    return mlp_jet(column, full(graph, column.type(), tangent), theta, of.shape_);
  }
  Path path(const Jet& jet, Tensor s, const std::vector<Tensor>& at) const {
    const int64_t n = s.shape()[0];
    const auto output = [&](Tensor y, int64_t k) { return reshape(slice_axis(y, 1, k, 1), {n}); };
    const Tensor rise = spike * (of.phi_peak_ - at[phi0_]), m = s * (1.0 - spike * s), dm = 1.0 - 2.0 * (spike * s);
    const Tensor y0 = output(jet.value, 0), y1 = output(jet.value, 1), d0 = output(jet.tangent, 0),
                 d1 = output(jet.tangent, 1);
    return {at[phi0_] + rise * s + m * y0, at[u0_] + of.u_scale_ * (s * y1), rise + dm * y0 + m * d0,
            of.u_scale_ * (y1 + s * d1)};
  }

  /// Some residuals with the network and the locals that they come from.
  struct Part {
    Jet jet;
    std::vector<Tensor> residuals, at;
    Tensor values() const { return concat(residuals, 0); }
    /// (rows, parameters + locals + 1)
    Tensor block(int64_t parameters) const {
      std::vector<Tensor> parts;
      const Tensor rows = residual_rows(jet, residuals);
      const int64_t n = residuals[0].shape()[0];
      for (size_t r = 0; r < residuals.size(); ++r) {
        std::vector<Tensor> columns = {reshape(slice_axis(rows, 1, static_cast<int64_t>(r), 1), {n, parameters})};
        for (const Tensor& g : grad(residuals[r], at)) columns.push_back(reshape(g, {n, 1}));
        columns.push_back(reshape(residuals[r], {n, 1}));
        parts.push_back(concat(columns, 1));
      }
      return concat(parts, 0);
    }
  };

  Part equations(int64_t points) {
    const double A = of.options_.A_mv,
                 root2 = (neuron.q1 * neuron.q1 - 4 * neuron.q2 * neuron.q0) / (4 * neuron.q2 * neuron.q2);  // h^2
    const Tensor s = column("s", points);
    const std::vector<Tensor> at = spread(points);
    const Jet jet = network(s, true);
    const Path p = path(jet, s, at);
    const Tensor length = at[end_] - at[start_], inside = minimum(p.phi, full(graph, p.phi.type(), of.phi_peak_));
    const Tensor sine = sin(inside), cosine = cos(inside), per_c = 1.0 / at[C_], k = at[k_];
    const Tensor r_phi =
        precision *
        (p.dphi - length * (per_c * (A * k * square(sine) + (1 / A) * (current - p.u - root2 * k) * square(cosine))));
    const Tensor above = form.v_c - neuron.v_b + A * (sine / cosine);
    const Tensor r_u = precision * ((p.du - length * (at[a_] * (at[b_] * above - p.u))) * (1 / of.u_scale_));
    return {jet, {r_phi, r_u}, at};
  }

  /// The network at (t - start) / (end - start), which moves with the spike times.
  Part data(double noise) {
    const int64_t n = of.samples_;
    const Tensor t = column("t", n), v = column("v", n), mask = column("mask", n);
    const std::vector<Tensor> at = spread(n);
    const Tensor x = (t - at[start_]) / (at[end_] - at[start_]);
    const Jet jet = network(x, false);
    const Tensor phi = path(jet, x, at).phi;
    const Tensor safe = minimum(phi, full(graph, phi.type(), of.phi_peak_ + 0.02));
    return {jet, {mask * ((form.v_c + of.options_.A_mv * (sin(safe) / cos(safe)) - v) * (1 / noise))}, at};
  }

  /// What joins the end to the next piece's start: phi where there is no spike, u with its jump.
  Part links() {
    const Tensor link = scalar("link"), one = full(graph, {DType::f64, {1}}, 1);
    const Jet jet = network(one, true);
    const Path e = path(jet, one, local);
    return {jet,
            {link * (precision * ((1.0 - spike) * (e.phi - local[next_phi_]))),
             link * (precision * ((e.u + spike * local[d_] - local[next_u_]) * (1 / of.u_scale_)))},
            local};
  }
};

PieceProgram::PieceProgram(const Neuron& n, const InverseOptions& o, int64_t samples, double noise)
    : options_(o),
      shape_{{1, o.hidden, 2}},
      samples_(samples),
      phi_peak_(ThetaForm(n, o.A_mv).phi(n.v_peak)),
      u_scale_(scale_of_u(n, o.A_mv)) {
  state_.set_parameter_type(DType::f64);
  {
    Trace t(n, *this);
    const Tensor equations = t.equations(o.points).values(), data = t.data(noise).values(), links = t.links().values();
    value_ = compile(t.graph, std::vector{concat({equations, data, links}, 0)});
  }
  {
    Trace t(n, *this);
    equations_ = compile(t.graph, std::vector{t.equations(o.points).values()});
  }
  {
    Trace t(n, *this);
    fresh_ = compile(t.graph, std::vector{mean(square(t.equations(fresh_factor * o.points).values()))});
  }
  {
    Trace t(n, *this);
    equation_rows_ = compile(t.graph, std::vector{t.equations(o.points).block(parameters())});
  }
  Trace t(n, *this);
  const Tensor data = t.data(noise).block(parameters()), links = t.links().block(parameters());
  data_rows_ = compile(t.graph, std::vector{concat({data, links}, 0)});
}

std::vector<double> PieceProgram::residuals(const Piece& piece, const std::vector<double>& shared, double precision) {
  set(value_, piece, shared, precision), set_data(value_, piece);
  value_.set<double>("s", chebyshev(options_.points));
  value_.run();
  return value_.get<double>(0);
}

std::vector<double> PieceProgram::equations(const Piece& piece, const std::vector<double>& shared) {
  set(equations_, piece, shared, 1);
  equations_.set<double>("s", chebyshev(options_.points));
  equations_.run();
  return equations_.get<double>(0);
}

double PieceProgram::fresh_loss(const Piece& piece, const std::vector<double>& shared, std::mt19937_64& random) {
  set(fresh_, piece, shared, 1);
  fresh_.set<double>("s", chebyshev_sample(fresh_factor * options_.points, random));
  fresh_.run();
  return fresh_.scalar(0);
}

std::vector<double> PieceProgram::equation_block(const Piece& piece, const std::vector<double>& shared,
                                                 double precision) {
  set(equation_rows_, piece, shared, precision);
  equation_rows_.set<double>("s", chebyshev(options_.points));
  equation_rows_.run();
  return equation_rows_.get<double>(0);
}

std::vector<double> PieceProgram::data_block(const Piece& piece, const std::vector<double>& shared, double precision) {
  set(data_rows_, piece, shared, precision), set_data(data_rows_, piece);
  data_rows_.run();
  return data_rows_.get<double>(0);
}

std::vector<double> PieceProgram::block(const Piece& piece, const std::vector<double>& shared, double precision) {
  std::vector<double> all = equation_block(piece, shared, precision);
  const std::vector<double> data = data_block(piece, shared, precision);
  all.insert(all.end(), data.begin(), data.end());
  return all;
}

Point PieceProgram::end(const Piece& piece, const std::vector<double>& shared) const {
  const NetworkPoint y = network_at(shape_, piece.theta, 1);
  const double phi = piece.spike ? phi_peak_ : piece.value(phi0_, shared) + y.value[0];
  return {phi, piece.value(u0_, shared) + u_scale_ * y.value[1]};
}

void PieceProgram::set(Program& program, const Piece& piece, const std::vector<double>& shared, double precision) {
  const auto scalar = [&](const std::string& name, double value) { program.set<double>(name, std::span(&value, 1)); };
  for (int64_t k = 0; k < locals; ++k) scalar(fmt::format("local{}", k), piece.value(static_cast<Local>(k), shared));
  scalar("precision", precision), scalar("spike", piece.spike), scalar("current", piece.current);
  state_.materialise();
  state_.set<double>("parameters", "theta", piece.theta);
}

void PieceProgram::set_data(Program& program, const Piece& piece) {
  const double link = !piece.last, middle = 0.5 * (piece.known[start_] + piece.known[end_]);
  const auto count = static_cast<size_t>(samples_);
  std::vector<double> t(count, middle), v(count, 0.0), mask(count, 0.0);
  std::copy(piece.t.begin(), piece.t.end(), t.begin());
  std::copy(piece.v.begin(), piece.v.end(), v.begin());
  std::fill_n(mask.begin(), piece.t.size(), 1.0);
  program.set<double>("t", t), program.set<double>("v", v), program.set<double>("mask", mask);
  program.set<double>("link", std::span(&link, 1));
}

}  // namespace ranvier::pinn
