// Extents of an array of up to six axes, row-major.
#pragma once
#include <cstdint>

namespace ranvier::kernels {

inline constexpr int max_rank = 6;

struct Dims {
  int rank = 0;
  int64_t d[max_rank] = {};

  int64_t count() const {
    int64_t product = 1;
    for (int k = 0; k < rank; ++k) product *= d[k];
    return product;
  }
  /// Elements between neighbours along axis k.
  int64_t stride(int k) const {
    int64_t product = 1;
    for (int j = k + 1; j < rank; ++j) product *= d[j];
    return product;
  }
};

}  // namespace ranvier::kernels
