// The field of cells that spiked, at the places of all cells: the coupling's distance law between neurons.
#pragma once
#include <cstdint>

#include "kernels/coupling/law.h"

namespace ranvier::kernels {

/// A cell that sends.
struct FieldSource {
  double place[3];
  double radius;     ///< inside it the field grows no further
  double charge[2];  ///< of both sums
  int64_t cell;      ///< its own number: it does not feel itself
};

/// `cells` places, given as all x, all y, all z.
struct FieldDims {
  int64_t cells = 0, sources = 0;
  double decay = 1;  ///< of the unit of places
  double unit = 0;   ///< every term is rounded to a multiple of this power of two, see field_unit
};

/// The screened power of a source: radius exp(-r / decay) / sqrt(r^2 + radius^2).
using FieldLaw = ScreenedPower<double, 1, true>;

/// A unit for which sums of terms that are together at most `bound` are exact, so that they depend neither on the order
/// of the sources nor on who adds them up: some 2^-50 of the bound.
double field_unit(double bound);

/// `x` to the nearest multiple of the unit, of which `rounder` is 3 * 2^51.
RANVIER_HD_INLINE double to_unit(double x, double rounder) { return (x + rounder) - rounder; }

// field_sums   sums[s * cells + i] = sum over sources k other than cell i of charge_k[s] exp(-r / decay) / sqrt(r^2 +
//              radius_k^2), r the distance from k to place i

namespace cpu {
void field_sums(const FieldDims& dims, const FieldSource* sources, const double* places, double* sums);
}

}  // namespace ranvier::kernels
