// The forms of the coupling, and the sites where layers meet it.
#include "models/coupling.h"

#include <algorithm>
#include <cmath>
#include <utility>

namespace ranvier::models {
namespace {

constexpr std::pair<CouplingForm, std::string_view> names[] = {{CouplingForm::none, "none"},
                                                               {CouplingForm::energy, "energy"},
                                                               {CouplingForm::covariance, "covariance"},
                                                               {CouplingForm::epistatic_penalty, "epistatic-penalty"},
                                                               {CouplingForm::ephaptic, "ephaptic"},
                                                               {CouplingForm::epistatic, "epistatic"}};

constexpr double variance_eps = 1e-5;
constexpr int64_t most_dense = 1024;  // units of a layer whose covariance matrix is made in one piece

thread_local Coupling* active_coupling = nullptr;

/// x (..., units) as (rows, units).
Tensor as_rows(Tensor x) { return reshape(x, {-1, x.shape()[-1]}); }

/// True where K and the units' second moments are made in one piece: of channels, whose rows are many and units few.
bool in_one_piece(const Shape& x) { return x[0] >= x[1] && x[1] <= most_dense; }

/// K as a matrix (units, units), from sender j to receiver i at [j, i]: the law is symmetric.
Tensor sender_matrix(const Units& u) {
  return pair_matrix(u.positions, u.law) * reshape(u.send, {u.send.shape()[1], 1}) * u.receive;
}

ChannelPenalty channel_penalty_of(CouplingForm form) {
  return {form == CouplingForm::energy       ? ChannelPenalty::products
          : form == CouplingForm::covariance ? ChannelPenalty::squared_products
                                             : ChannelPenalty::products_of_squares,
          variance_eps};
}

/// sum_ij K_ij sum_m z_mi z_mj / (2 N M Z) through the fused op.
Tensor penalty_of_pairs(Tensor z, const Units& u) {
  return sum(z * couple(u, z)) / coupling_scale(u) * (0.5 / static_cast<double>(z.shape().numel()));
}

/// sum_ij K_ij C_ij^2 / (2 N Z), C = z^T z / M, without C.
Tensor covariance_of_pairs(Tensor z, const Units& u) {
  const auto rows = static_cast<double>(z.shape()[0]), units = static_cast<double>(z.shape()[1]);
  const Tensor squares = sum(u.receive * pair_squares(z, u.send, u.positions, u.law));
  return squares / coupling_scale(u) * (0.5 / (units * rows * rows));
}

Tensor standardised(Tensor x) {
  const Tensor part = x + -mean(x, {0}, true);
  return part * rsqrt(mean(square(part), {0}, true) + variance_eps);
}

}  // namespace

CouplingForm coupling_form(std::string_view name) {
  for (const auto& [form, text] : names)
    if (text == name) return form;
  fail("coupling '{}' is unknown; known are none, energy, covariance, epistatic-penalty, ephaptic, epistatic", name);
}

std::string_view name_of(CouplingForm form) {
  for (const auto& [known, text] : names)
    if (known == form) return text;
  return "?";
}

bool changes_activations(CouplingForm form) {
  return form == CouplingForm::ephaptic || form == CouplingForm::epistatic;
}

void CouplingOptions::check() const {
  const auto require = [](bool good, const char* key, double value, const char* wanted) {
    if (!good) fail("coupling {} = {}: must be {}", key, value, wanted);
  };
  require(std::isfinite(strength), "strength", strength, "a finite number");
  if (form == CouplingForm::ephaptic)
    require(std::abs(strength) < 1, "strength", strength, "between -1 and 1 in the ephaptic form");
  require(law.length > 0, "length", law.length, "above 0");
  require(law.decay > 0, "decay", law.decay, "above 0");
  require(law.power >= 0 && std::isfinite(law.power), "power", law.power, "0 or more");
  require(law.softening >= 0 && std::isfinite(law.softening), "softening", law.softening, "0 or more");
  require(!learned || law.softening > 0, "softening", law.softening, "above 0 where positions are learned");
  require(std::isfinite(alpha), "alpha", alpha, "a finite number");
  require(std::isfinite(beta), "beta", beta, "a finite number");
  require(chi >= 0 && std::isfinite(chi), "chi", chi, "0 or more");
  require(mu0 >= 0 && mu0 <= 1, "mu0", mu0, "from 0 to 1");
  require(axes >= 1 && axes <= 3, "axes", static_cast<double>(axes), "1, 2 or 3");
  require(size_spread >= 0 && size_spread <= 10, "size_spread", size_spread, "from 0 to 10");
  require(mean_myelin >= 0 && mean_myelin < 1, "myelin", mean_myelin, "in [0, 1)");
  if (form != CouplingForm::none && sites.empty())
    fail("coupling sites: none are given; name layers, as in conv2,conv3");
  if (geometry) geometry->check(law);
}

Tensor coupling_penalty(Tensor x, const Units& u, CouplingForm form) {
  if (in_one_piece(x.shape())) {
    const double units = static_cast<double>(x.shape()[1]);
    if (!channel_penalty_takes_16_bits(x.type())) x = cast(x, u.send.dtype());
    return channel_penalty(x, sender_matrix(u) / coupling_scale(u) * (1 / units), channel_penalty_of(form));
  }
  const Tensor z = standardised(cast(x, u.send.dtype()));
  if (form == CouplingForm::covariance) return covariance_of_pairs(z, u);
  return penalty_of_pairs(form == CouplingForm::energy ? z : square(z), u);
}

Tensor coupled_activations(Tensor x, const Units& u, CouplingForm form, double strength, Tensor scale) {
  const bool gate = form == CouplingForm::epistatic;
  if (in_one_piece(x.shape())) return channel_field(x, cast(sender_matrix(u) * (strength / scale), x.dtype()), gate);
  // beside 16-bit values positions stay in f32
  const Units in_type{u.positions, cast(u.receive, x.dtype()), cast(u.send, x.dtype()), u.law};
  const Tensor field = couple(in_type, x) * (strength / cast(scale, x.dtype()));
  return gate ? x * (1.0 + tanh(field)) : x + field;
}

Coupling::Coupling(const CouplingOptions& options)
    : options_(options), outer_(active_coupling), active_(options.form != CouplingForm::none && options.strength != 0) {
  options_.check();
  active_coupling = this;
}
Coupling::~Coupling() { active_coupling = outer_; }
Coupling* Coupling::current() { return active_coupling; }

Tensor Coupling::after(Tensor x, std::string_view name, std::string_view kind) {
  if (!active_) return x;
  const std::string path = x.graph->path(name);
  std::vector<std::string> labels = {path};
  if (kind == "norm" && !pending_.empty()) labels.push_back(std::exchange(pending_, ""));
  if (kind == "conv") pending_ = fmt::format("conv{}", ++convs_);
  seen_.insert(seen_.end(), labels.begin(), labels.end());
  const std::string* wanted = nullptr;
  for (const std::string& site : options_.sites) {
    if (std::find(labels.begin(), labels.end(), site) == labels.end()) continue;
    if (wanted) fail("coupling sites: '{}' and '{}' are one layer", *wanted, site);
    reached_.push_back(site), wanted = &site;
  }
  if (!wanted) return x;
  const Scope scope(*x.graph, name);
  return apply(x);
}

Tensor Coupling::apply(Tensor x) {
  Graph& graph = *x.graph;
  const Scope scope(graph, "coupling");
  const int64_t n = x.shape()[-1];
  if (n < 2) fail("coupling at {}: {} unit; two are the least", graph.scope(), n);
  const bool penalty = !changes_activations(options_.form);
  const DType dtype = parameter_type(graph);  // of the geometry and of statistics
  const Units units = coupling_units(graph, n, options_, dtype);
  sites_.push_back({graph.scope(), n});
  const Tensor norm = read(graph, "buffers", graph.path("norm"), {dtype, {}}, init::constant(NAN));
  read(graph, "buffers", graph.path("scale"), {dtype, {}}, init::constant(NAN));
  if (penalty) {
    penalties_.push_back(coupling_penalty(as_rows(x), units, options_.form));
    return x;
  }
  const Tensor scale = options_.form == CouplingForm::ephaptic ? norm : coupling_scale(units);
  return reshape(coupled_activations(as_rows(x), units, options_.form, options_.strength, scale), x.shape());
}

std::optional<Tensor> Coupling::penalty() {
  if (active_)
    for (const std::string& site : options_.sites)
      if (std::find(reached_.begin(), reached_.end(), site) == reached_.end())
        fail("coupling sites: the model has no '{}'; it has {}", site, fmt::join(seen_, ", "));
  std::optional<Tensor> total;
  for (const Tensor& part : penalties_) total = total ? *total + part : part;
  if (total) *total = *total * options_.strength;
  return total;
}

Tensor coupling_site(Tensor x, std::string_view name, std::string_view kind) {
  return active_coupling ? active_coupling->after(x, name, kind) : x;
}

}  // namespace ranvier::models
