// Corruptions that blur: defocus, glass, motion and zoom, and the filters below them.
#include <array>

#include "data/corrupt_image.h"

namespace ranvier::data::corruption {
namespace {

std::vector<double> gaussian_kernel(double sigma, int64_t radius) {
  std::vector<double> kernel(static_cast<size_t>(2 * radius + 1));
  double sum = 0;
  for (int64_t i = -radius; i <= radius; ++i) {
    const auto d = static_cast<double>(i);
    sum += kernel[static_cast<size_t>(i + radius)] = std::exp(-d * d / (2 * sigma * sigma));
  }
  for (double& k : kernel) k /= sum;
  return kernel;
}

/// One pass along rows (`vertical` false) or columns.
Field along(const Field& field, const std::vector<double>& kernel, bool vertical, Edge edge) {
  const auto radius = static_cast<int64_t>(kernel.size()) / 2;
  Field result(field.height, field.width, field.channels);
  for (int64_t y = 0; y < field.height; ++y)
    for (int64_t x = 0; x < field.width; ++x)
      for (int64_t c = 0; c < field.channels; ++c) {
        double sum = 0;
        for (int64_t i = -radius; i <= radius; ++i)
          sum +=
              kernel[static_cast<size_t>(i + radius)] * (vertical ? field.at(at_edge(y + i, field.height, edge), x, c)
                                                                  : field.at(y, at_edge(x + i, field.width, edge), c));
        result.at(y, x, c) = sum;
      }
  return result;
}

/// The image's middle enlarged `factor` times, at its own size.
Field enlarged(const Field& x, double factor) {
  const auto part = [&](int64_t n) { return static_cast<int64_t>(std::ceil(static_cast<double>(n) / factor)); };
  const int64_t h = part(x.height), w = part(x.width), top = (x.height - h) / 2, left = (x.width - w) / 2;
  const auto grown = [&](int64_t n) { return static_cast<int64_t>(std::nearbyint(static_cast<double>(n) * factor)); };
  const int64_t out_h = grown(h), out_w = grown(w), trim_top = (out_h - x.height) / 2,
                trim_left = (out_w - x.width) / 2;
  // corner pixels fall on corner pixels
  const auto source = [](int64_t o, int64_t in, int64_t out) {
    return static_cast<double>(o) * static_cast<double>(in - 1) / static_cast<double>(out - 1);
  };
  Field result(x.height, x.width);
  for (int64_t i = 0; i < x.height; ++i)
    for (int64_t j = 0; j < x.width; ++j)
      for (int64_t c = 0; c < 3; ++c)
        result.at(i, j, c) = x.bilinear(static_cast<double>(top) + source(i + trim_top, h, out_h),
                                        static_cast<double>(left) + source(j + trim_left, w, out_w), c, Edge::nearest);
  return result;
}

/// Cut to u8 and back, as the published script does between two filters.
void quantise(Field& field) {
  for (double& v : field.values) v = std::floor(std::clamp(v, 0.0, 1.0) * 255) / 255;
}

}  // namespace

Field gaussian(const Field& field, double sigma, double truncate, Edge edge) {
  const auto radius = static_cast<int64_t>(truncate * sigma + 0.5);
  if (radius == 0) return field;
  const std::vector<double> kernel = gaussian_kernel(sigma, radius);
  return along(along(field, kernel, true, edge), kernel, false, edge);
}

Field filter(const Field& field, const std::vector<double>& kernel, int64_t size) {
  const int64_t radius = size / 2;
  Field result(field.height, field.width, field.channels);
  for (int64_t i = -radius; i <= radius; ++i)
    for (int64_t j = -radius; j <= radius; ++j) {
      const double weight = kernel[static_cast<size_t>((i + radius) * size + j + radius)];
      if (weight == 0) continue;  // most of a small disc's kernel
      for (int64_t y = 0; y < field.height; ++y)
        for (int64_t x = 0; x < field.width; ++x)
          for (int64_t c = 0; c < field.channels; ++c)
            result.at(y, x, c) += weight * field.at(at_edge(y + i, field.height, Edge::reflect101),
                                                    at_edge(x + j, field.width, Edge::reflect101), c);
    }
  return result;
}

/// A disc of a radius in pixels, its edge softened by a 3x3 Gaussian.
Field defocus(const Field& x, int s) {
  struct Disc {
    double radius, softening;
  };
  constexpr std::array<Disc, 5> discs = {{{.3, .4}, {.4, .5}, {.5, .6}, {1, .2}, {1.5, .1}}};
  constexpr int64_t size = 7, half = size / 2;  // holds the largest disc and its soft edge
  Field disc(size, size, 1);
  double sum = 0;
  for (int64_t i = -half; i <= half; ++i)
    for (int64_t j = -half; j <= half; ++j)
      sum += disc.at(i + half, j + half) = static_cast<double>(i * i + j * j) <= discs[s].radius * discs[s].radius;
  for (double& v : disc.values) v /= sum;
  const std::vector<double> soft = gaussian_kernel(discs[s].softening, 1);
  disc = along(along(disc, soft, true, Edge::reflect101), soft, false, Edge::reflect101);
  return filter(x, disc.values, size);
}

/// Neighbours exchanged at random between two blurs.
Field glass(const Field& x, int s, const ImageDraws& draws) {
  struct Glass {
    double sigma;
    int64_t reach;
    int rounds;
  };
  constexpr std::array<Glass, 5> glasses = {{{.05, 1, 1}, {.25, 1, 1}, {.4, 1, 1}, {.25, 1, 2}, {.4, 1, 2}}};
  const Glass g = glasses[s];
  Field y = gaussian(x, g.sigma, 4, Edge::nearest);
  quantise(y);
  uint64_t draw = 0;
  for (int round = 0; round < g.rounds; ++round)
    for (int64_t i = y.height - g.reach; i > g.reach; --i)
      for (int64_t j = y.width - g.reach; j > g.reach; --j) {
        const int64_t dx = draws.integer(draw++, -g.reach, 2 * g.reach);
        const int64_t dy = draws.integer(draw++, -g.reach, 2 * g.reach);
        for (int64_t c = 0; c < 3; ++c) std::swap(y.at(i, j, c), y.at(i + dy, j + dx, c));
      }
  return gaussian(y, g.sigma, 4, Edge::nearest);
}

/// A one-sided Gaussian along a direction within 45 degrees of the rows. Our own kernel: the published set used
/// ImageMagick's with the same radius and deviation.
Field motion(const Field& x, int s, const ImageDraws& draws) {
  struct Streak {
    int64_t radius;
    double sigma;
  };
  constexpr std::array<Streak, 5> streaks = {{{6, 1}, {6, 1.5}, {6, 2}, {8, 2}, {9, 2.5}}};
  const double angle = (draws.uniform(0) * 2 - 1) * std::acos(-1.0) / 4;
  Field y(x.height, x.width);
  double sum = 0;
  for (int64_t k = 0; k <= 2 * streaks[s].radius; ++k) {
    const auto d = static_cast<double>(k);
    const double weight = std::exp(-d * d / (2 * streaks[s].sigma * streaks[s].sigma));
    sum += weight;
    for (int64_t i = 0; i < x.height; ++i)
      for (int64_t j = 0; j < x.width; ++j)
        for (int64_t c = 0; c < 3; ++c)
          y.at(i, j, c) += weight * x.bilinear(static_cast<double>(i) + d * std::sin(angle),
                                               static_cast<double>(j) + d * std::cos(angle), c, Edge::nearest);
  }
  for (double& v : y.values) v /= sum;
  return y;
}

/// The mean of the image and of itself enlarged by 1, 1.01, ... .
Field zoom(const Field& x, int s) {
  constexpr std::array<int, 5> steps = {6, 11, 16, 21, 26};
  Field sum = x;
  for (int k = 0; k < steps[s]; ++k) {
    const Field larger = enlarged(x, 1 + 0.01 * k);
    for (size_t e = 0; e < sum.values.size(); ++e) sum.values[e] += larger.values[e];
  }
  for (double& v : sum.values) v /= steps[s] + 1;
  return sum;
}

}  // namespace ranvier::data::corruption
