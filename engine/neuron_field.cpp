// The field between neurons: charges of spikes, sums over pairs, filters of both time constants.
#include "engine/neuron_field.h"

#include <cmath>
#include <numbers>

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

Field::Field(FieldSpec spec, double dt) : spec_(std::move(spec)) {
  const double tau[2] = {spec_.tau, spec_.tau_rise};
  if (spec_.tau_rise > 0) {
    const double ratio = spec_.tau / spec_.tau_rise, at = spec_.tau_rise * std::log(ratio) / (1 - 1 / ratio);
    peak_ = faded(at, spec_.tau) - faded(at, spec_.tau_rise);
  }
  for (int s = 0; s < 2; ++s) decay_[s] = faded(dt, tau[s]), mean_[s] = mean_of(dt, tau[s]);
  first_.assign(1, 0);
  double bound = 0;
  for (const FieldCells& c : spec_.cells) {
    for (size_t i = 0; i < c.diameters.size(); ++i) {
      const double size = c.diameters[i] / spec_.reference, radius = 0.5e-3 * c.diameters[i];  // mm
      const double charge = size * size * c.g_ratio[i] * c.g_ratio[i] * spec_.current /
                            (4 * std::numbers::pi * spec_.sigma * peak_);  // uV mm
      charges_.push_back(charge), radii_.push_back(radius);
      bound += most_spikes * std::abs(charge) / radius;
    }
    first_.push_back(static_cast<int64_t>(charges_.size()));
  }
  const auto n = static_cast<size_t>(first_.back());
  places_.resize(3 * n), state_.assign(2 * n, 0), added_.assign(2 * n, 0);
  for (size_t p = 0; p < spec_.cells.size(); ++p)
    for (size_t k = 0; k < spec_.cells[p].places.size(); ++k)
      places_[k % 3 * n + static_cast<size_t>(first_[p]) + k / 3] = spec_.cells[p].places[k];
  for (FieldCells& c : spec_.cells) c = {{}, {}, {}, c.kappa};  // the rest is kept above
  unit_ = kernels::field_unit(bound > 0 ? bound : 1);
  if (spec_.device.backend != Backend::cuda || n == 0) return;
  device_places_ = Memory(spec_.device, places_.size() * sizeof(double));
  device_sums_ = Memory(spec_.device, added_.size() * sizeof(double));
  copy_to_device(spec_.device, device_places_.data(), places_.data(), device_places_.bytes());
}

void Field::spike(int population, uint32_t neuron, double left) {
  if (!holds(population)) return;
  spiked_.push_back(first_[population] + neuron), left_.push_back(left);
}

/// Sums of the step's spikes over all pairs, into `added_`.
void Field::add_spikes() {
  const int64_t n = first_.back();
  std::vector<FieldSource> sources;
  for (size_t k = 0; k < spiked_.size(); ++k) {
    const auto j = static_cast<size_t>(spiked_[k]);
    const double charge = charges_[j];
    sources.push_back({{places_[j], places_[static_cast<size_t>(n) + j], places_[2 * static_cast<size_t>(n) + j]},
                       radii_[j],
                       {charge * faded(left_[k], spec_.tau), charge * faded(left_[k], spec_.tau_rise)},
                       spiked_[k]});
  }
  const kernels::FieldDims dims{n, static_cast<int64_t>(sources.size()), spec_.lambda, unit_};
#if defined(RANVIER_HAS_CUDA)
  if (spec_.device.backend == Backend::cuda) {
    const size_t bytes = sources.size() * sizeof(FieldSource);
    if (device_sources_.bytes() < bytes) device_sources_ = Memory(spec_.device, 2 * bytes);
    copy_to_device(spec_.device, device_sources_.data(), sources.data(), bytes);
    kernels::cuda::field_sums(dims, static_cast<const FieldSource*>(device_sources_.data()),
                              static_cast<const double*>(device_places_.data()),
                              static_cast<double*>(device_sums_.data()), stream_of(spec_.device));
    copy_to_host(spec_.device, added_.data(), device_sums_.data(), device_sums_.bytes());
    return;
  }
#endif
  kernels::cpu::field_sums(dims, sources.data(), places_.data(), added_.data());
}

void Field::advance() {
  const auto n = static_cast<size_t>(first_.back());
  const bool any = !spiked_.empty();
  if (any) add_spikes();
  for (int s = 0; s < 2; ++s) {
    double* state = state_.data() + s * n;
    const double* added = added_.data() + s * n;
    for (size_t i = 0; i < n; ++i) state[i] = any ? state[i] * decay_[s] + added[i] : state[i] * decay_[s];
  }
  spiked_.clear(), left_.clear();
}

void Field::currents(int population, std::span<float> current) const {
  const auto n = static_cast<size_t>(first_.back()), first = static_cast<size_t>(first_[population]);
  const double kappa = spec_.cells[population].kappa;
  for (size_t i = 0; i < current.size(); ++i)
    current[i] = static_cast<float>(kappa * (mean_[0] * state_[first + i] - mean_[1] * state_[n + first + i]));
}

double Field::potential(int population, int64_t neuron) const {
  const int64_t i = first_[population] + neuron;
  return state_[i] - state_[first_.back() + i];
}

}  // namespace ranvier::neuron
