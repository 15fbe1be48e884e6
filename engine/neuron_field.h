// The extracellular field between neurons: cells that spike change the potential around their neighbours.
#pragma once
#include <cstdint>
#include <span>
#include <string>
#include <vector>

// Every spike is a current that rises and decays and flows into the point where the cell lies. In a medium of
// conductivity sigma it makes the potential I / (4 pi sigma r) (Ohm's law around a point; LFPy and hnn-core compute the
// same), which is screened over lambda and grows no further inside the cell's radius a:
//
//   phi_i(t) = sum_{j != i} s_j m_j q_j(t) exp(-r_ij / lambda) / (4 pi sigma sqrt(r_ij^2 + a_j^2))
//   s_j = (diameter_j / reference)^2     m_j = g_j^2     a_j = diameter_j / 2
//   q_j(t) = current * sum over its spikes t_s of (exp(-(t - t_s) / tau) - exp(-(t - t_s) / tau_rise)) / peak
//   I_i = kappa_i phi_i
//
// g is the g-ratio: 1 bare, smaller the thicker the sheath (g^2: Schmidt, Hahn, Deco and Knoesche, PLoS Comput. Biol.
// 17, 2021). A point neuron has no net membrane current and the height of an Izhikevich spike means nothing, so that q
// is a spike filtered, never dv/dt; that a cell is a sink with kappa > 0 exciting its neighbours is a modelling choice.

namespace ranvier::neuron {

/// Cells of a population in the field; without places none of them is in it.
struct FieldCells {
  std::vector<double> places;              ///< mm, x y z of each neuron
  std::vector<double> diameters, g_ratio;  ///< um; in (0, 1]
  double kappa = 0;                        ///< current a uV: above 0 a neighbour's spike excites
};

/// A field at its start.
struct FieldSpec {
  double lambda = 0.2;             ///< mm; infinity: unscreened
  double sigma = 0.3;              ///< S/m
  double current = 1;              ///< nA: the peak of a spike of a bare cell of the reference diameter
  double reference = 20;           ///< um
  double tau = 3, tau_rise = 0.5;  ///< ms; tau_rise 0: a jump
  std::vector<FieldCells> cells;   ///< one a population, in their order
};
/// Throws Error naming key, value and cell. `names` and `sizes` are the populations'.
void check_field(const FieldSpec& field, std::span<const std::string> names, std::span<const int64_t> sizes);

/// The field under way. Sums are of multiples of one small unit, so that neither the order of the neurons nor threads
/// nor the device change them.
class Field {
 public:
  Field(const FieldSpec& spec, double dt);

  /// A spike of the step under way, `left` ms before its end.
  void spike(int population, uint32_t neuron, double left);
  /// The end of the step: what was there decays, the spikes are added.
  void advance();
  /// kappa phi, phi being the mean over the next step as what is there decays; one value a neuron.
  void currents(int population, std::span<float> current) const;
  /// uV, now.
  double potential(int population, int64_t neuron) const;
  bool holds(int population) const { return tables_.first[population + 1] > tables_.first[population]; }

  /// What changes: the decaying sums of all cells, then the rising ones.
  std::vector<double>& state() { return state_; }

  /// What stays, as a device takes it: places are all x, all y, all z; charges and radii one a cell.
  struct Tables {
    std::vector<int64_t> first;  ///< cell of each population, and the end
    std::vector<double> places, charges, radii, kappa;
    double lambda = 0, unit = 0, tau[2] = {}, decay[2] = {}, mean[2] = {};
  };
  const Tables& tables() const { return tables_; }
  static constexpr double bytes_a_cell = 14 * sizeof(double);

 private:
  void add_spikes();

  Tables tables_;
  std::vector<double> state_, added_;
  std::vector<int64_t> spiked_;
  std::vector<double> left_;
};

}  // namespace ranvier::neuron
