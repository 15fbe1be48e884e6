// Coupling between the units of a layer: who influences whom follows from distance, size and myelin. As a penalty on
// the loss (the default), or as a field or a gate on the activations.
#pragma once
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "engine/session.h"

namespace ranvier::models {

/// What the coupling K of a layer's units does. x^ is x standardised per unit over the batch (gradient through mean and
/// variance), M the number of rows, strength s, Z = sqrt(sum_{i != j} K_ij^2 / N), |K| the spectral norm.
///   energy             loss += s / (2 N M) sum (K_ij / Z) x^_i x^_j
///   covariance         loss += s / (2 N) sum (K_ij / Z) C_ij^2, C = x^^T x^ / M
///   epistatic_penalty  loss += s / (2 N M) sum (K_ij / Z) x^_i^2 x^_j^2
///   ephaptic           y = x + s (K / |K|) x; |s| < 1
///   epistatic          y = x (1 + tanh(s (K / Z) x))
/// A positive strength makes neighbours less alike in the penalties, a negative one more alike.
enum class CouplingForm { none, energy, covariance, epistatic_penalty, ephaptic, epistatic };
/// "energy", "epistatic-penalty", ...; throws Error on another name.
CouplingForm coupling_form(std::string_view name);
std::string_view name_of(CouplingForm);
/// True for the forms that change activations.
bool changes_activations(CouplingForm);

/// Places, sizes (any unit, above 0) and myelin (in [0, 1), the share m = 1 - g of the g-ratio) of units.
struct UnitGeometry {
  int64_t axes = 2;
  std::vector<double> positions, sizes, myelin;  // (units, axes), (units), (units)
  /// Throws Error naming the unit and the value that cannot be.
  void check(const CouplingLaw& law) const;
};

/// A coupling: K_ij = s_i^alpha s_j^beta mu(m_i) mu(m_j) kappa(d_ij), K_ii = 0; i receives, j sends; s is size over its
/// geometric mean, mu(m) = mu0 + (1 - mu0) / (1 + chi ln(1 / (1 - m))).
struct CouplingOptions {
  CouplingForm form = CouplingForm::none;
  double strength = 0.1;
  std::vector<std::string> sites;  ///< layers after which it acts: "conv2", or a layer's path, "block2.norm"
  CouplingLaw law;
  double alpha = 0.5, beta = 0.5, chi = 1, mu0 = 0.1;
  bool distance = true, size = true, myelin = true;  ///< off: the factor is 1
  int64_t axes = 2;                                  ///< 2: units on a sheet, 3: in a cube, 1: on a line
  bool learned = false;                              ///< positions (mean 0, variance 1), log sizes and logit myelin
  bool always = false;                               ///< activation forms act in evaluation too
  double size_spread = 0.5;                          ///< standard deviation of ln size
  double mean_myelin = 0.4;                          ///< myelin of the median unit
  std::optional<UnitGeometry> geometry;              ///< instead of a grid and draws; one layer's

  /// Throws Error naming the option and its value.
  void check() const;
};

/// Geometry of the units of one layer inside a trace.
struct Units {
  Tensor positions;      // (units, axes)
  Tensor receive, send;  // (1, units): s^alpha mu and s^beta mu
  CouplingLaw law;
};
/// State "<scope>.coupling.positions", ".log_size" and ".logit_myelin": parameters where they are learned, else
/// buffers. Units start on a regular grid with mean 0 and variance 1, sizes log-normal, logit myelin normal.
Units coupling_units(Graph&, int64_t units, const CouplingOptions&, DType, Where where = Where::current());
/// Units of given geometry, for a layer of one's own.
Units coupling_units(Graph&, const UnitGeometry&, const CouplingOptions&, DType, Where where = Where::current());
/// K x and K^T x of x (rows, units).
Tensor couple(const Units&, Tensor x);
Tensor couple_transposed(const Units&, Tensor x);
/// Z, at least 1e-12; no gradient flows through it.
Tensor coupling_scale(const Units&);
/// |K| from above, by at most 1 %: 20 steps of power iteration through the fused op. No gradient flows through it.
Tensor coupling_norm(const Units&);

/// Penalty of x (rows, units) at strength 1.
Tensor coupling_penalty(Tensor x, const Units&, CouplingForm);
/// Activations of the two forms that change them; `scale` is |K| (ephaptic) or Z (epistatic).
Tensor coupled_activations(Tensor x, const Units&, CouplingForm, double strength, Tensor scale);

/// While it lives, layers of its thread that are named as sites are coupled. With strength 0 or form none nothing is
/// traced at all, so that the step is the uncoupled one bit for bit.
class Coupling {
 public:
  explicit Coupling(const CouplingOptions& options);
  ~Coupling();
  Coupling(const Coupling&) = delete;
  Coupling& operator=(const Coupling&) = delete;

  /// The sum of the sites' penalties; empty where there is none. Throws Error where a site was never reached, with the
  /// layers that there are.
  std::optional<Tensor> penalty();
  /// Scopes and units of the sites that were coupled.
  struct Site {
    std::string scope;
    int64_t units;
  };
  const std::vector<Site>& sites() const { return sites_; }

  /// Called by layers: x after the layer `name`, of `kind` "conv" or "norm" or "linear".
  Tensor after(Tensor x, std::string_view name, std::string_view kind);
  /// The coupling of this thread, or null.
  static Coupling* current();

 private:
  Tensor apply(Tensor x);

  const CouplingOptions options_;
  Coupling* outer_;
  bool active_;
  int64_t convs_ = 0;
  std::string pending_;  // "conv2" until the norm that follows it
  std::vector<std::string> seen_, reached_;
  std::vector<Site> sites_;
  std::vector<Tensor> penalties_;
};
/// What a layer does with its result.
Tensor coupling_site(Tensor x, std::string_view name, std::string_view kind);

/// Computes the spectral norms anew, "<scope>.coupling.norm", and Z, ".scale": before training, and each epoch where
/// geometry is learned. Until then the norm is NaN. The network must have been traced.
void refresh_coupling(Session&, const CouplingOptions&);
/// Norms and Z as last computed, by site.
struct CouplingNorms {
  std::string scope;
  int64_t units;
  double norm, scale;
};
std::vector<CouplingNorms> coupling_norms(Session&);

}  // namespace ranvier::models
