// The field between neurons: charges of spikes, sums over pairs, filters of both time constants.
#include "engine/neuron_field.h"

#include <cmath>
#include <numbers>

#include "engine/error.h"
#include "kernels/common/math.h"
#include "kernels/coupling/field.h"

namespace ranvier::neuron {
namespace {

using kernels::FieldSource;

constexpr int most_spikes = 8;  // of one cell in one step, kernels/izhikevich/located.h

void check(const std::string& what, const char* key, double value, bool good) {
  if (std::isnan(value) || !good) fail("{}: {} = {} is not allowed", what, key, value);
}

/// exp(-left / tau), 0 of tau 0.
double faded(double left, double tau) { return tau > 0 ? kernels::math::exp(-left / tau) : 0; }

/// (1 - exp(-h / tau)) tau / h: the mean of exp(-t / tau) over a step.
double mean_of(double h, double tau) { return tau > 0 ? -kernels::math::expm1(-h / tau) * tau / h : 0; }

}  // namespace

void check_field(const FieldSpec& f, std::span<const std::string> names, std::span<const int64_t> sizes) {
  check("field", "lambda", f.lambda, f.lambda > 0);
  check("field", "sigma", f.sigma, f.sigma > 0 && std::isfinite(f.sigma));
  check("field", "current", f.current, std::isfinite(f.current));
  check("field", "reference", f.reference, f.reference > 0 && std::isfinite(f.reference));
  check("field", "tau", f.tau, f.tau > 0 && std::isfinite(f.tau));
  check("field", "tau_rise", f.tau_rise, f.tau_rise >= 0 && f.tau_rise < f.tau);
  if (f.cells.size() != names.size())
    fail("field: cells of {} populations, there are {}", f.cells.size(), names.size());
  for (size_t p = 0; p < names.size(); ++p) {
    const FieldCells& c = f.cells[p];
    const auto n = static_cast<size_t>(sizes[p]);
    check("field of population " + names[p], "kappa", c.kappa, std::isfinite(c.kappa));
    if (c.places.empty() && c.diameters.empty() && c.g_ratio.empty()) continue;
    if (c.places.size() != 3 * n || c.diameters.size() != n || c.g_ratio.size() != n)
      fail("field of population {}: {} coordinates, {} diameters and {} g-ratios of {} neurons", names[p],
           c.places.size(), c.diameters.size(), c.g_ratio.size(), n);
    for (size_t i = 0; i < n; ++i) {
      const std::string cell = fmt::format("field of population {}, neuron {}", names[p], i);
      for (size_t a = 0; a < 3; ++a) check(cell, "place", c.places[3 * i + a], std::isfinite(c.places[3 * i + a]));
      check(cell, "diameter", c.diameters[i], c.diameters[i] > 0 && std::isfinite(c.diameters[i]));
      check(cell, "g_ratio", c.g_ratio[i], c.g_ratio[i] > 0 && c.g_ratio[i] <= 1);
    }
  }
}

Field::Field(const FieldSpec& spec, double dt) {
  Tables& t = tables_;
  t.lambda = spec.lambda, t.tau[0] = spec.tau, t.tau[1] = spec.tau_rise;
  double peak = 1;
  if (spec.tau_rise > 0) {
    const double ratio = spec.tau / spec.tau_rise, at = spec.tau_rise * std::log(ratio) / (1 - 1 / ratio);
    peak = faded(at, spec.tau) - faded(at, spec.tau_rise);
  }
  for (int s = 0; s < 2; ++s) t.decay[s] = faded(dt, t.tau[s]), t.mean[s] = mean_of(dt, t.tau[s]);
  t.first.assign(1, 0);
  double bound = 0;
  for (const FieldCells& c : spec.cells) {
    for (size_t i = 0; i < c.diameters.size(); ++i) {
      const double size = c.diameters[i] / spec.reference, radius = 0.5e-3 * c.diameters[i];  // mm
      const double charge = size * size * c.g_ratio[i] * c.g_ratio[i] * spec.current /
                            (4 * std::numbers::pi * spec.sigma * peak);  // uV mm
      t.charges.push_back(charge), t.radii.push_back(radius);
      bound += most_spikes * std::abs(charge) / radius;
    }
    t.first.push_back(static_cast<int64_t>(t.charges.size())), t.kappa.push_back(c.kappa);
  }
  const auto n = static_cast<size_t>(t.first.back());
  t.places.resize(3 * n), state_.assign(2 * n, 0), added_.assign(2 * n, 0);
  for (size_t p = 0; p < spec.cells.size(); ++p)
    for (size_t k = 0; k < spec.cells[p].places.size(); ++k)
      t.places[k % 3 * n + static_cast<size_t>(t.first[p]) + k / 3] = spec.cells[p].places[k];
  t.unit = kernels::field_unit(bound > 0 ? bound : 1);
}

void Field::spike(int population, uint32_t neuron, double left) {
  if (!holds(population)) return;
  spiked_.push_back(tables_.first[population] + neuron), left_.push_back(left);
}

/// Sums of the step's spikes over all pairs, into `added_`.
void Field::add_spikes() {
  const Tables& t = tables_;
  const auto n = static_cast<size_t>(t.first.back());
  std::vector<FieldSource> sources;
  for (size_t k = 0; k < spiked_.size(); ++k) {
    const auto j = static_cast<size_t>(spiked_[k]);
    const double charge = t.charges[j];
    sources.push_back({{t.places[j], t.places[n + j], t.places[2 * n + j]},
                       t.radii[j],
                       {charge * faded(left_[k], t.tau[0]), charge * faded(left_[k], t.tau[1])},
                       spiked_[k]});
  }
  const kernels::FieldDims dims{t.first.back(), static_cast<int64_t>(sources.size()), t.lambda, t.unit};
  kernels::cpu::field_sums(dims, sources.data(), t.places.data(), added_.data());
}

void Field::advance() {
  const auto n = static_cast<size_t>(tables_.first.back());
  const bool any = !spiked_.empty();
  if (any) add_spikes();
  for (int s = 0; s < 2; ++s) {
    double* state = state_.data() + s * n;
    const double* added = added_.data() + s * n;
    for (size_t i = 0; i < n; ++i)
      state[i] = any ? state[i] * tables_.decay[s] + added[i] : state[i] * tables_.decay[s];
  }
  spiked_.clear(), left_.clear();
}

void Field::currents(int population, std::span<float> current) const {
  const auto n = static_cast<size_t>(tables_.first.back()), first = static_cast<size_t>(tables_.first[population]);
  const double kappa = tables_.kappa[population];
  for (size_t i = 0; i < current.size(); ++i)
    current[i] =
        static_cast<float>(kappa * (tables_.mean[0] * state_[first + i] - tables_.mean[1] * state_[n + first + i]));
}

double Field::potential(int population, int64_t neuron) const {
  const int64_t i = tables_.first[population] + neuron;
  return state_[i] - state_[tables_.first.back() + i];
}

}  // namespace ranvier::neuron
