// What a population holds, behind its element type. Private to the engine.
#pragma once
#include <array>

#include "engine/fingerprint.h"
#include "engine/population.h"
#include "engine/population_input.h"
#include "kernels/izhikevich/population.h"

namespace ranvier::neuron {

/// Throws Error where `each` has an unknown key or another number of values than there are neurons.
void check_each(const std::string& who, const PopulationSpec& spec);

/// Parameters, each neuron's own too, and inputs: what a saved state depends on.
void add_cells(Fingerprint& to, const PopulationSpec& spec);
void add_inputs(Fingerprint& to, const PopulationSpec& spec);

/// Coefficients that differ from neuron to neuron in the kernels' form, and bytes of what is kept as it was given: the
/// drive (q0 + I) / C is made anew whenever the current changes.
uint64_t own_columns(const PopulationSpec& spec, Mode mode);
uint64_t own_doubles(const PopulationSpec& spec);

/// The parameters of each neuron of a description.
class EachNeuron {
 public:
  explicit EachNeuron(const PopulationSpec& spec);
  Parameters parameters(int64_t neuron) const;
  double v0(int64_t neuron) const;
  double u0(int64_t neuron) const;

 private:
  const PopulationSpec& spec_;
  std::array<const double*, 13> own_{};  // in the order of the keys in population.cpp
};

/// Input from synapses by kind.
enum class SynapticInput { current, conductance, reversal };

struct Population::Implementation {
  explicit Implementation(PopulationSpec description) : spec(std::move(description)), external_current(spec) {}
  virtual ~Implementation() = default;

  PopulationSpec spec;
  ExternalCurrent external_current;
  int64_t step = 0, first_step = 0;  ///< done; of the last advance
  std::vector<Spike> spikes;
  std::vector<uint32_t> counts;
  int64_t pieces = 0;
  bool halfway = false;  ///< between begin_step and end_step
  std::string failure;   ///< why it cannot go on

  virtual void advance(int64_t steps) = 0;
  virtual void half_step(bool first) = 0;
  virtual double value(int64_t neuron, bool of_u) const = 0;
  /// Brings what a device changed to the host.
  virtual void fetch() const = 0;
  virtual std::vector<std::byte> state() const = 0;
  virtual void restore(std::span<const std::byte>) = 0;

  double external(int64_t neuron) const {
    double current = external_current.shared(static_cast<double>(step) * spec.dt);
    external_current.add(neuron, 1, &current);
    return current;
  }
};

std::unique_ptr<Population::Implementation> make_population_f32(PopulationSpec);
std::unique_ptr<Population::Implementation> make_population_f64(PopulationSpec);

}  // namespace ranvier::neuron
