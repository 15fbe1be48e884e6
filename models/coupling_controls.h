// What a coupling is compared with in a study: its geometry dealt anew at every step, and a random matrix of its
// spectrum.
#pragma once
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "models/coupling.h"

namespace ranvier::models {

/// Q m Q^T of a symmetric m (n, n) with a random orthogonal Q: other neighbours, the same eigenvalues.
std::vector<double> same_spectrum(std::span<const double> m, int64_t n, uint64_t seed);

/// The energy penalty at strength 1 of x (rows, units) for any matrix k (units, units) = K / Z. Its diagonal adds a
/// constant: standardised activations have variance 1.
Tensor dense_energy(Tensor x, Tensor k);

/// K / Z of a layer's fixed geometry, (units, units) row-major; `scope` as in CouplingNorms. Draws the geometry where
/// the session has none yet.
std::vector<double> coupling_matrix(Session& session, const std::string& scope, int64_t units,
                                    const CouplingOptions& options);

/// DropBlock (Ghiasi, Lin and Le 2018) of maps x (n, h, w, c): squares of block x block are zeroed so that a share p is
/// lost on average, and what is left is scaled up to as many. x itself in a trace that is not for training. A map
/// smaller than the block has blocks of its own size.
Tensor drop_block(Tensor x, double p, int64_t block = 3, std::string_view name = "drop_block");

/// y = x + strength tanh(x L) with a free matrix L (units, units), the parameter "<scope>.coupling.free": the additive
/// form of EC-ANN, at the cost of a field. Its diagonal does not count.
Tensor free_matrix(Tensor x, double strength);

/// y = x + strength (a tanh(b x + c) + d): as many parameters a unit, "<scope>.coupling.extra", as a learned geometry
/// on a sheet has, four, and no unit that sees another. It starts as the identity.
Tensor extra_parameters(Tensor x, double strength);

/// How parameters under "coupling" are trained: as learned geometry is. First among the optimizer's rules.
void add_coupling_rule(optim::Optimizer& optimizer);

/// Deals what units have to other units, by a permutation drawn for each step: places, sizes and myelin together, or
/// one of them ("positions", "log_size", "logit_myelin") with the others where they are. The geometry is that of the
/// buffers at the making of this object.
class GeometryDealer {
 public:
  GeometryDealer(Session& session, uint64_t seed, const std::string& part = "");
  void deal(int64_t step);

 private:
  struct Part {
    std::string name;  // of the entry
    std::vector<float> values;
  };
  struct Layer {
    std::string scope;
    int64_t units;
    std::vector<Part> parts;
  };
  State& state_;
  uint64_t seed_;
  std::vector<Layer> layers_;
};

}  // namespace ranvier::models
