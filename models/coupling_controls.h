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

/// Deals places, sizes and myelin together to other units: what each unit had goes to another one, by a permutation
/// drawn for each step. The geometry is that of the buffers at the making of this object.
class GeometryDealer {
 public:
  GeometryDealer(Session& session, uint64_t seed);
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
