// Plain matrix product loops in float and double: the oracle of the other variants.
#include <algorithm>

#include "kernels/matmul/matmul.h"

namespace ranvier::kernels {

template <class T>
void matmul_reference(const MatmulDims& d, const T* a, const T* b, T* c) {
  for (int64_t batch = 0; batch < d.batch; ++batch, a += d.m * d.k, b += d.k * d.n, c += d.m * d.n) {
    std::fill_n(c, d.m * d.n, T(0));
    for (int64_t i = 0; i < d.m; ++i)
      for (int64_t p = 0; p < d.k; ++p) {
        const T x = d.transpose_a ? a[p * d.m + i] : a[i * d.k + p];
        for (int64_t j = 0; j < d.n; ++j) c[i * d.n + j] += x * (d.transpose_b ? b[j * d.k + p] : b[p * d.n + j]);
      }
  }
}

template void matmul_reference(const MatmulDims&, const float*, const float*, float*);
template void matmul_reference(const MatmulDims&, const double*, const double*, double*);

}  // namespace ranvier::kernels
