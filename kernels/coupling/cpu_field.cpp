// The field of spiking cells on the CPU: receivers side by side, sources one after the other.
#include <algorithm>
#include <cmath>

#include "kernels/common/parallel.h"
#include "kernels/coupling/field.h"

namespace ranvier::kernels {

double field_unit(double bound) {
  int exponent = 0;
  std::frexp(bound, &exponent);
  return std::ldexp(1.0, exponent - 50);
}

namespace cpu {
namespace {

constexpr int64_t block = 256;  // receivers whose sums stay in the first-level cache

void block_sums(const FieldDims& d, const FieldSource* sources, const double* places, int64_t first, int64_t count,
                double* sums) {
  const double rounder = 0x1.8p52 * d.unit;
  const double *x = places + first, *y = x + d.cells, *z = y + d.cells;
  double decaying[block] = {}, rising[block] = {};
  FieldLaw law({CouplingLaw::screened_power, 1, d.decay, 1, 0});
  for (int64_t k = 0; k < d.sources; ++k) {
    const FieldSource& s = sources[k];
    law.inverse_length2 = 1 / (s.radius * s.radius);
    const double a = s.charge[0] / s.radius, b = s.charge[1] / s.radius;
    const int64_t self = s.cell - first;
    const bool here = self >= 0 && self < count;
    const double kept[2] = {here ? decaying[self] : 0, here ? rising[self] : 0};
#pragma omp simd
    for (int64_t i = 0; i < count; ++i) {
      const double dx = x[i] - s.place[0], dy = y[i] - s.place[1], dz = z[i] - s.place[2];
      double slope = 0;
      const double kappa = law.value<false>(fused(dz, dz, fused(dy, dy, dx * dx)), slope);
      decaying[i] += to_unit(a * kappa, rounder);
      rising[i] += to_unit(b * kappa, rounder);
    }
    if (here) decaying[self] = kept[0], rising[self] = kept[1];
  }
  std::copy_n(decaying, count, sums + first);
  std::copy_n(rising, count, sums + d.cells + first);
}

}  // namespace

void field_sums(const FieldDims& d, const FieldSource* sources, const double* places, double* sums) {
  const int64_t blocks = (d.cells + block - 1) / block;
  const int64_t shards = std::min(blocks, shard_count(d.cells * d.sources, 1 << 15));
  parallel_for(shards, [&](int64_t shard) {
    for (int64_t b = shard_begin(blocks, shards, shard); b < shard_begin(blocks, shards, shard + 1); ++b)
      block_sums(d, sources, places, b * block, std::min(block, d.cells - b * block), sums);
  });
}

}  // namespace cpu
}  // namespace ranvier::kernels
