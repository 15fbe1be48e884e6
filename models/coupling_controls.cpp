// Controls of the coupling: random matrices and shuffled geometries.
#include "models/coupling_controls.h"

#include <algorithm>
#include <cmath>
#include <numeric>

#include "engine/draws.h"
#include "engine/ops.h"

namespace ranvier::models {
namespace {

/// An orthogonal (n, n) matrix by Gram-Schmidt on normal draws, twice, so that it is orthogonal to rounding.
std::vector<double> random_orthogonal(int64_t n, uint64_t seed) {
  const Draws draws(seed, "coupling.orthogonal");
  std::vector<double> q(static_cast<size_t>(n * n));
  for (size_t e = 0; e < q.size(); ++e) q[e] = draws.normal(0, e);
  const auto row = [&](int64_t i) { return q.begin() + i * n; };
  for (int64_t i = 0; i < n; ++i)
    for (int pass = 0; pass < 2; ++pass) {
      for (int64_t j = 0; j < i; ++j) {
        const double along = std::inner_product(row(i), row(i) + n, row(j), 0.0);
        for (int64_t k = 0; k < n; ++k) row(i)[k] -= along * row(j)[k];
      }
      const double length = std::sqrt(std::inner_product(row(i), row(i) + n, row(i), 0.0));
      for (int64_t k = 0; k < n; ++k) row(i)[k] /= length;
    }
  return q;
}

/// a b^T of square matrices.
std::vector<double> times_transposed(std::span<const double> a, std::span<const double> b, int64_t n) {
  std::vector<double> c(static_cast<size_t>(n * n));
  for (int64_t i = 0; i < n; ++i)
    for (int64_t j = 0; j < n; ++j)
      c[static_cast<size_t>(i * n + j)] =
          std::inner_product(a.begin() + i * n, a.begin() + (i + 1) * n, b.begin() + j * n, 0.0);
  return c;
}

}  // namespace

std::vector<double> same_spectrum(std::span<const double> m, int64_t n, uint64_t seed) {
  if (n < 1 || static_cast<int64_t>(m.size()) != n * n) fail("a matrix of {} elements is not {} x {}", m.size(), n, n);
  const std::vector<double> q = random_orthogonal(n, seed);
  return times_transposed(times_transposed(q, m, n), q, n);  // (q m^T) q^T, m being symmetric
}

Tensor dense_energy(Tensor x, Tensor k) {
  const Tensor centred = x - mean(x, {0}, true);
  const Tensor z = centred * rsqrt(mean(square(centred), {0}, true) + 1e-5);
  return sum(z * matmul(z, k)) * (0.5 / static_cast<double>(x.shape().numel()));
}

std::vector<double> coupling_matrix(Session& session, const std::string& scope, int64_t units,
                                    const CouplingOptions& options) {
  if (options.learned || options.alpha != options.beta)
    fail("the matrix of a coupling with learned geometry or alpha {} and beta {} is not fixed and symmetric",
         options.alpha, options.beta);
  Program program = session.compile([&](Graph& graph) {
    const Scope layer(graph, scope);
    const Units u = coupling_units(graph, units, options, DType::f32);
    std::vector<float> identity(static_cast<size_t>(units * units));
    for (int64_t i = 0; i < units; ++i) identity[static_cast<size_t>(i * units + i)] = 1;
    const Tensor k = couple(u, constant<float>(graph, {units, units}, identity));
    return std::vector{k / coupling_scale(u)};
  });
  session.state().materialise();
  program.run();
  const std::vector<float> values = program.get<float>(0);
  return {values.begin(), values.end()};
}

Tensor drop_block(Tensor x, double p, int64_t block, std::string_view name) {
  Graph& graph = *x.graph;
  if (!(p >= 0 && p < 1)) fail("drop_block: p = {} must be from 0 to below 1", p);
  if (p == 0 || !graph.training()) return x;
  const Shape& s = x.shape();
  const int64_t height = std::min(block, s[1]), width = std::min(block, s[2]);
  // corners of blocks that lie inside the map, so many that blocks would cover a share p if none met another
  const int64_t rows = s[1] - height + 1, columns = s[2] - width + 1;
  const double rate = p * static_cast<double>(s[1] * s[2]) / static_cast<double>(height * width * rows * columns);
  const Tensor corners = bernoulli(graph, name, {s[0], rows, columns, s[3]}, std::min(rate, 1.0), DType::f32);
  Tensor lost = full(graph, {DType::f32, s}, 0.0);
  for (int64_t i = 0; i < height; ++i)
    for (int64_t j = 0; j < width; ++j)
      lost = maximum(lost, pad(corners, std::vector<int64_t>{0, i, j, 0},
                               std::vector<int64_t>{0, height - 1 - i, width - 1 - j, 0}));
  const Tensor kept = 1.0 - lost;
  return x * cast(kept / maximum(mean(kept), full(graph, {DType::f32, {}}, 1e-3)), x.dtype());
}

Tensor free_matrix(Tensor x, double strength) {
  const Scope scope(*x.graph, "coupling");
  const int64_t n = x.shape()[-1];
  const Tensor l = parameter(*x.graph, "free", {n, n}, init::normal(1 / std::sqrt(static_cast<double>(n))));
  std::vector<float> others(static_cast<size_t>(n * n), 1);
  for (int64_t i = 0; i < n; ++i) others[static_cast<size_t>(i * n + i)] = 0;
  const Tensor matrix = cast(l * cast(constant<float>(*x.graph, {n, n}, others), l.dtype()), x.dtype());
  return x + reshape(strength * tanh(matmul(reshape(x, {-1, n}), matrix)), x.shape());
}

Tensor extra_parameters(Tensor x, double strength) {
  const Scope scope(*x.graph, "coupling");
  const int64_t n = x.shape()[-1];
  const auto start = [n](std::span<float> to, const Shape&, uint64_t, uint64_t) {
    for (size_t k = 0; k < to.size(); ++k) to[k] = k / static_cast<size_t>(n) == 1 ? 1.0f : 0.0f;  // b = 1
  };
  const Tensor all = cast(parameter(*x.graph, "extra", {4, n}, start), x.dtype());
  const auto row = [&](int64_t k) { return slice_axis(all, 0, k, 1); };
  const Tensor values = reshape(x, {-1, n});
  return reshape(values + strength * (row(0) * tanh(row(1) * values + row(2)) + row(3)), x.shape());
}

void add_coupling_rule(optim::Optimizer& optimizer) {
  optimizer.rules.insert(optimizer.rules.begin(),
                         {"\\.coupling\\.", optim::AdamW{.lr = optim::linear(3e-3), .weight_decay = 0}});
}

GeometryDealer::GeometryDealer(Session& session, uint64_t seed, const std::string& part)
    : state_(session.state()), seed_(seed) {
  for (const CouplingNorms& site : coupling_norms(session)) {
    Layer layer{site.scope, site.units, {}};
    for (const std::string known : {"positions", "log_size", "logit_myelin"}) {
      if (!part.empty() && part != known) continue;
      const std::string name = site.scope + "." + known;
      if (state_.find("buffers", name) < 0) fail("{}: a geometry that is learned cannot be dealt anew", name);
      layer.parts.push_back({name, state_.get<float>("buffers", name)});
    }
    if (layer.parts.empty()) fail("a geometry has no '{}'; it has positions, log_size and logit_myelin", part);
    layers_.push_back(std::move(layer));
  }
  if (layers_.empty()) fail("no layer is coupled: there is no geometry to deal anew");
}

void GeometryDealer::deal(int64_t step) {
  for (const Layer& layer : layers_) {
    const Draws draws(seed_, "coupling.deal." + layer.scope);
    std::vector<int64_t> order(static_cast<size_t>(layer.units));
    std::iota(order.begin(), order.end(), 0);
    const auto key = [&](int64_t unit) {
      return draws.uniform(static_cast<uint64_t>(step), static_cast<uint64_t>(unit));
    };
    std::stable_sort(order.begin(), order.end(), [&](int64_t a, int64_t b) { return key(a) < key(b); });
    for (const Part& part : layer.parts) {
      const auto width = static_cast<int64_t>(part.values.size()) / layer.units;
      std::vector<float> dealt;
      for (int64_t unit : order)
        dealt.insert(dealt.end(), part.values.begin() + unit * width, part.values.begin() + (unit + 1) * width);
      state_.set<float>("buffers", part.name, dealt);
    }
  }
}

}  // namespace ranvier::models
