// Plain convolution loops in float and double: the oracle of every other variant.
#include <algorithm>
#include <stdexcept>
#include <string>

#include "kernels/conv2d/conv2d.h"

namespace ranvier::kernels {

void conv2d_check(const Conv2dDims& d) {
  const auto text = [](std::initializer_list<int64_t> sizes) {
    std::string s;
    for (int64_t v : sizes) s.append(s.empty() ? "" : "x").append(std::to_string(v));
    return s;
  };
  const std::string what = "conv2d: image " + text({d.n, d.h, d.w, d.c}) + ", filter " + text({d.k, d.r, d.s, d.c}) +
                           ", stride " + text({d.stride_h, d.stride_w}) + ", padding " + text({d.pad_h, d.pad_w});
  if (d.n < 0 || std::min({d.h, d.w, d.c, d.k, d.r, d.s}) < 1) throw std::runtime_error(what + ": a size is below 1");
  if (std::min(d.stride_h, d.stride_w) < 1) throw std::runtime_error(what + ": a stride is below 1");
  if (std::min(d.pad_h, d.pad_w) < 0) throw std::runtime_error(what + ": a padding is negative");
  if (d.r > d.h + 2 * d.pad_h || d.s > d.w + 2 * d.pad_w) {
    throw std::runtime_error(what + ": the filter is larger than the padded image");
  }
  if (std::min(d.drop_h, d.drop_w) < 0 || std::min(d.p(), d.q()) < 1)
    throw std::runtime_error(what + ": nothing is left of the result without its last " + text({d.drop_h, d.drop_w}) +
                             " rows and columns");
}

namespace {

/// Calls `body(x offset, filter offset within one k, y offset)` for every tap of every output pixel that lies inside
/// the image; offsets point at channel 0.
template <class Body>
void for_taps(const Conv2dDims& d, Body&& body) {
  for (int64_t n = 0; n < d.n; ++n)
    for (int64_t p = 0; p < d.p(); ++p)
      for (int64_t q = 0; q < d.q(); ++q)
        for (int64_t r = 0; r < d.r; ++r)
          for (int64_t s = 0; s < d.s; ++s) {
            const int64_t row = p * d.stride_h + r - d.pad_h, column = q * d.stride_w + s - d.pad_w;
            if (row < 0 || row >= d.h || column < 0 || column >= d.w) continue;
            body(((n * d.h + row) * d.w + column) * d.c, (r * d.s + s) * d.c, ((n * d.p() + p) * d.q() + q) * d.k);
          }
}

}  // namespace

template <class T>
void conv2d_reference(const Conv2dDims& d, ConvPass pass, const T* a, const T* b, T* out) {
  const int64_t per_k = d.r * d.s * d.c;
  if (pass == ConvPass::forward) {
    std::fill_n(out, d.y_size(), T(0));
    for_taps(d, [&](int64_t x, int64_t f, int64_t y) {
      for (int64_t k = 0; k < d.k; ++k) {
        T sum = 0;
        for (int64_t c = 0; c < d.c; ++c) sum += a[x + c] * b[k * per_k + f + c];
        out[y + k] += sum;
      }
    });
  } else if (pass == ConvPass::dgrad) {
    std::fill_n(out, d.x_size(), T(0));
    for_taps(d, [&](int64_t x, int64_t f, int64_t y) {
      for (int64_t k = 0; k < d.k; ++k)
        for (int64_t c = 0; c < d.c; ++c) out[x + c] += a[y + k] * b[k * per_k + f + c];
    });
  } else {
    std::fill_n(out, d.filter_size(), T(0));
    for_taps(d, [&](int64_t x, int64_t f, int64_t y) {
      for (int64_t k = 0; k < d.k; ++k)
        for (int64_t c = 0; c < d.c; ++c) out[k * per_k + f + c] += a[x + c] * b[y + k];
    });
  }
}

template void conv2d_reference(const Conv2dDims&, ConvPass, const float*, const float*, float*);
template void conv2d_reference(const Conv2dDims&, ConvPass, const double*, const double*, double*);

}  // namespace ranvier::kernels
