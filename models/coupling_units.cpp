// Geometry of coupled units: where it starts, what follows from it, and the two norms of its matrix.
#include <algorithm>
#include <cmath>

#include "models/coupling.h"

namespace ranvier::models {
namespace {

constexpr double least_scale = 1e-12;
constexpr double least_part = 1e-30;  // of a vector's largest entry
constexpr int power_steps = 20;

/// The first `units` points of a regular grid as nearly square (or cubic) as they allow.
std::vector<float> grid_points(int64_t units, int64_t axes) {
  const auto side =
      static_cast<int64_t>(std::ceil(std::pow(static_cast<double>(units), 1.0 / static_cast<double>(axes)) - 1e-9));
  std::vector<float> points;
  for (int64_t i = 0; i < units; ++i) {
    int64_t rest = i;
    for (int64_t a = 0; a < axes; ++a, rest /= side) points.push_back(static_cast<float>(rest % side));
  }
  return points;
}

/// Mean 0 along each axis, and 1 the mean of the axes' variances: what keeps learned positions from running away.
Tensor pinned(Tensor p) {
  const Tensor centred = p - mean(p, {0}, true);
  return centred * rsqrt(mean(square(centred)) + 1e-12);
}

/// ln(m / (1 - m)); no myelin at all is a number that softplus takes to 0.
double logit(double m) { return m > 0 ? std::log(m / (1 - m)) : -80; }

Units units_of(Tensor positions, Tensor log_size, Tensor logit_myelin, const CouplingOptions& o) {
  const int64_t n = positions.shape()[0];
  Units u{positions, {}, {}, o.law};
  if (!o.distance) u.law = {CouplingLaw::screened_power, INFINITY, INFINITY, 0, 0};
  const Tensor size = log_size - mean(log_size);
  Tensor receive = exp(size * (o.size ? o.alpha : 0.0)), send = exp(size * (o.size ? o.beta : 0.0));
  if (o.myelin) {  // L = ln(1 / (1 - m)) is the softplus of m's logit, without its cancellation near m = 1
    const Tensor mu = o.mu0 + (1 - o.mu0) / (1.0 + o.chi * softplus(logit_myelin));
    receive = receive * mu, send = send * mu;
  }
  u.receive = reshape(receive, {1, n}), u.send = reshape(send, {1, n});
  return u;
}

std::vector<float> logs(const std::vector<double>& values) {
  std::vector<float> result;
  for (double v : values) result.push_back(static_cast<float>(std::log(v)));
  return result;
}
std::vector<float> logits(const std::vector<double>& values) {
  std::vector<float> result;
  for (double v : values) result.push_back(static_cast<float>(logit(v)));
  return result;
}

Init values(std::vector<float> wanted) {
  return [wanted = std::move(wanted)](std::span<float> to, const Shape&, uint64_t, uint64_t) {
    std::copy(wanted.begin(), wanted.end(), to.begin());
  };
}

/// N(mean, deviation^2).
Init normal(double mean, double deviation) {
  return [=](std::span<float> to, const Shape& shape, uint64_t seed, uint64_t stream) {
    init::normal(deviation)(to, shape, seed, stream);
    for (float& v : to) v += static_cast<float>(mean);
  };
}

}  // namespace

void UnitGeometry::check(const CouplingLaw& law) const {
  const size_t n = sizes.size();
  if (axes < 1 || axes > 3) fail("units lie in {} axes; 1, 2 or 3 are possible", axes);
  if (n < 2) fail("{} unit: two are the least", n);
  if (myelin.size() != n || positions.size() != n * static_cast<size_t>(axes))
    fail("{} sizes, {} of myelin and {} coordinates in {} axes do not belong together", n, myelin.size(),
         positions.size(), axes);
  for (size_t i = 0; i < n; ++i) {
    if (!(sizes[i] > 0) || std::isinf(sizes[i])) fail("size {} of unit {} must be above 0", sizes[i], i);
    if (!(myelin[i] >= 0 && myelin[i] < 1)) fail("myelin {} of unit {} must be in [0, 1)", myelin[i], i);
  }
  for (double p : positions)
    if (!std::isfinite(p)) fail("position {} is not finite", p);
  if (law.softening > 0 || law.kind == CouplingLaw::gaussian) return;
  std::vector<size_t> order(n);
  for (size_t i = 0; i < n; ++i) order[i] = i;
  const auto place = [&](size_t i) {
    return std::span(positions).subspan(i * static_cast<size_t>(axes), static_cast<size_t>(axes));
  };
  std::sort(order.begin(), order.end(), [&](size_t i, size_t j) {
    return std::lexicographical_compare(place(i).begin(), place(i).end(), place(j).begin(), place(j).end());
  });
  for (size_t k = 1; k < n; ++k)
    if (std::equal(place(order[k]).begin(), place(order[k]).end(), place(order[k - 1]).begin()))
      fail("units {} and {} lie in one place ({}), which needs a softening above 0", order[k - 1], order[k],
           fmt::join(place(order[k]), ", "));
}

Units coupling_units(Graph& graph, int64_t n, const CouplingOptions& o, DType dtype, Where where) {
  const auto entry = [&](const char* name, const Shape& shape, Init init) {
    if (o.learned) return parameter(graph, name, shape, std::move(init), where);
    return read(graph, "buffers", graph.path(name), {dtype, shape}, std::move(init), where);
  };
  if (!o.geometry) {
    return units_of(pinned(entry("positions", {n, o.axes}, values(grid_points(n, o.axes)))),
                    entry("log_size", {n}, normal(0, o.size_spread)),
                    entry("logit_myelin", {n}, normal(logit(o.mean_myelin), o.mean_myelin > 0 ? 1 : 0)), o);
  }
  const UnitGeometry& g = *o.geometry;
  g.check(o.law);
  if (static_cast<int64_t>(g.sizes.size()) != n)
    fail_at(where, "coupling at {}: {} units, the geometry has {}", graph.scope(), n, g.sizes.size());
  const Tensor p = entry("positions", {n, g.axes}, values({g.positions.begin(), g.positions.end()}));
  return units_of(o.learned ? pinned(p) : p, entry("log_size", {n}, values(logs(g.sizes))),
                  entry("logit_myelin", {n}, values(logits(g.myelin))), o);
}

Units coupling_units(Graph& graph, const UnitGeometry& g, const CouplingOptions& o, DType dtype, Where where) {
  g.check(o.law);
  const auto n = static_cast<int64_t>(g.sizes.size());
  std::vector<double> log_size, logit_myelin;
  for (double s : g.sizes) log_size.push_back(std::log(s));
  for (double m : g.myelin) logit_myelin.push_back(logit(m));
  const auto tensor = [&](const Shape& shape, const std::vector<double>& elements) {
    return cast(constant<double>(graph, shape, elements, where), dtype);
  };
  return units_of(tensor({n, g.axes}, g.positions), tensor({n}, log_size), tensor({n}, logit_myelin), o);
}

Tensor couple(const Units& u, Tensor x) { return u.receive * pair_apply(u.send * x, u.positions, u.law); }
Tensor couple_transposed(const Units& u, Tensor x) { return u.send * pair_apply(u.receive * x, u.positions, u.law); }

Tensor coupling_scale(const Units& u) {
  // kappa^2 is a law of the same family: Z^2 = (1/N) sum_i r_i^2 [kappa^2 c^2]_i, without any matrix.
  const Tensor receive = stop_gradient(u.receive), send = stop_gradient(u.send), p = stop_gradient(u.positions);
  const Tensor squares = square(receive) * pair_apply(square(send), p, u.law.squared());
  return stop_gradient(sqrt(maximum(mean(squares), full(*p.graph, {p.dtype(), {}}, least_scale * least_scale))));
}

Tensor coupling_norm(const Units& u) {
  const Units fixed{stop_gradient(u.positions), stop_gradient(u.receive), stop_gradient(u.send), u.law};
  const auto number = [&](double value) { return full(*u.positions.graph, {u.receive.dtype(), {}}, value); };
  const auto largest = [&](Tensor x) { return maximum(max(x), number(least_part)); };
  Tensor v, scale, next = full(*u.positions.graph, u.receive.type(), 1.0);
  for (int step = 0; step < power_steps; ++step) {
    v = next / largest(next);
    const Tensor image = couple(fixed, v);
    scale = largest(image);  // between the products: K^T K may lie below what the type holds where K does not
    next = couple_transposed(fixed, image / scale);
  }
  // No entry of K is negative, so that |K|^2 <= max_i (K^T K v)_i / v_i for any positive v (Collatz and Wielandt).
  // Units that have all but left v grow more slowly than the rest.
  const Tensor growth = where(greater(v, number(least_part)), next / maximum(v, number(least_part)), number(0));
  return stop_gradient(sqrt(largest(growth)) * sqrt(scale));
}

void refresh_coupling(Session& session, const CouplingOptions& options) {
  const std::vector<CouplingNorms> sites = coupling_norms(session);
  if (sites.empty()) return;
  Program program = session.compile([&](Graph& graph) {
    std::vector<Tensor> results;
    for (const CouplingNorms& site : sites) {
      const Scope scope(graph, site.scope);
      const Units units = coupling_units(graph, site.units, options, parameter_type(graph));
      results.push_back(coupling_norm(units)), results.push_back(coupling_scale(units));
      assign(graph, "buffers", graph.path("norm"), results[results.size() - 2]);
      assign(graph, "buffers", graph.path("scale"), results.back());
    }
    return results;
  });
  program.run();
}

std::vector<CouplingNorms> coupling_norms(Session& session) {
  State& state = session.state();
  std::vector<CouplingNorms> result;
  const std::string_view ending = ".coupling.norm";
  for (uint32_t id : state.slab("buffers")) {
    const Entry& entry = state.entry(id);
    if (!entry.name.ends_with(ending)) continue;
    const std::string scope = entry.name.substr(0, entry.name.size() - std::string_view(".norm").size());
    const auto value = [&](const std::string& name) {
      return entry.type.dtype == DType::f64 ? state.get<double>("buffers", name)[0]
                                            : state.get<float>("buffers", name)[0];
    };
    int64_t units = 0;
    for (const char* slab : {"parameters", "buffers"})
      if (const int64_t found = state.find(slab, scope + ".log_size"); found >= 0)
        units = state.entry(static_cast<uint32_t>(found)).type.shape[0];
    result.push_back({scope, units, value(scope + ".norm"), value(scope + ".scale")});
  }
  return result;
}

}  // namespace ranvier::models
