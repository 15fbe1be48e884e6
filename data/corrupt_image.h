// What the corruptions share: one image in f64 with its draws, and the filters that several types use.
#pragma once
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <span>
#include <vector>

#include "kernels/common/philox.h"

namespace ranvier::data::corruption {

/// How a filter sees beyond the border: the edge pixel again, mirrored with the edge repeated, mirrored without.
enum class Edge { nearest, reflect, reflect101 };

/// Index `i` brought into [0, n).
inline int64_t at_edge(int64_t i, int64_t n, Edge edge) {
  if (edge == Edge::nearest) return std::clamp<int64_t>(i, 0, n - 1);
  if (n == 1) return 0;
  while (i < 0 || i >= n) {
    const int64_t repeat = edge == Edge::reflect ? 1 : 0;
    i = i < 0 ? -i - repeat : 2 * n - 2 + repeat - i;
  }
  return i;
}

/// A plane or an RGB image in f64, (height, width, channels).
struct Field {
  int64_t height = 0, width = 0, channels = 3;
  std::vector<double> values;

  Field(int64_t h, int64_t w, int64_t c = 3)
      : height(h), width(w), channels(c), values(static_cast<size_t>(h * w * c)) {}
  double& at(int64_t y, int64_t x, int64_t c = 0) {
    return values[static_cast<size_t>((y * width + x) * channels + c)];
  }
  double at(int64_t y, int64_t x, int64_t c = 0) const {
    return values[static_cast<size_t>((y * width + x) * channels + c)];
  }
  /// Bilinear at a place in pixels; beyond the border as `edge` says.
  double bilinear(double y, double x, int64_t c, Edge edge) const {
    const double fy = std::floor(y), fx = std::floor(x), ty = y - fy, tx = x - fx;
    const auto iy = static_cast<int64_t>(fy), ix = static_cast<int64_t>(fx);
    const int64_t y0 = at_edge(iy, height, edge), y1 = at_edge(iy + 1, height, edge);
    const int64_t x0 = at_edge(ix, width, edge), x1 = at_edge(ix + 1, width, edge);
    return (1 - ty) * ((1 - tx) * at(y0, x0, c) + tx * at(y0, x1, c)) +
           ty * ((1 - tx) * at(y1, x0, c) + tx * at(y1, x1, c));
  }
};

/// The draws of one image: element e of its stream.
struct ImageDraws {
  kernels::philox::Key key;
  double uniform(uint64_t e) const { return kernels::philox::uniform(key, e); }
  double normal(uint64_t e) const { return kernels::philox::normal(key, e); }
  double poisson(uint64_t e, double mean) const { return kernels::philox::poisson(key, e, mean); }
  /// Uniform on low ... low + range - 1.
  int64_t integer(uint64_t e, int64_t low, int64_t range) const {
    return kernels::philox::integer_of(kernels::philox::bits(key.seed, key.stream, key.step, e),
                                       static_cast<int32_t>(low), static_cast<uint64_t>(range));
  }
};

/// Gaussian of deviation `sigma` along both axes, cut at `truncate` deviations (rounded to whole pixels).
Field gaussian(const Field& field, double sigma, double truncate, Edge edge);
/// Cross-correlation with a (size, size) kernel, size odd, mirrored without the edge.
Field filter(const Field& field, const std::vector<double>& kernel, int64_t size);

// One function a family: the pixels are in [0, 1] on entry, and cut to [0, 1] by the caller. `s` is severity - 1.
Field defocus(const Field& x, int s);
Field glass(const Field& x, int s, const ImageDraws& draws);
Field motion(const Field& x, int s, const ImageDraws& draws);
Field zoom(const Field& x, int s);
Field elastic(const Field& x, int s, const ImageDraws& draws);
Field pixelate(const Field& x, int s);
Field fog(const Field& x, int s, const ImageDraws& draws);

}  // namespace ranvier::data::corruption
