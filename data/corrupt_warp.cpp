// Corruptions that move pixels or lay a pattern over them: elastic, pixelate and fog.
#include <array>

#include "data/corrupt_image.h"

namespace ranvier::data::corruption {
namespace {

/// The affine map (2, 3) that takes points `from` to `to`, (x, y) each: Cramer's rule.
std::array<double, 6> affine(const std::array<double, 6>& from, const std::array<double, 6>& to) {
  const double x1 = from[2] - from[0], y1 = from[3] - from[1], x2 = from[4] - from[0], y2 = from[5] - from[1];
  const double det = x1 * y2 - x2 * y1;
  std::array<double, 6> map{};
  for (size_t r = 0; r < 2; ++r) {
    const double v1 = to[2 + r] - to[r], v2 = to[4 + r] - to[r];
    map[3 * r] = (v1 * y2 - v2 * y1) / det;
    map[3 * r + 1] = (x1 * v2 - x2 * v1) / det;
    map[3 * r + 2] = to[r] - map[3 * r] * from[0] - map[3 * r + 1] * from[1];
  }
  return map;
}

/// Midpoint displacement on a torus of a power of two (Fournier, Fussell and Carpenter 1982), scaled to [0, 1].
Field plasma(int64_t size, double decay, const ImageDraws& draws) {
  Field map(size, size, 1);
  uint64_t draw = 0;
  double wibble = 100;
  const auto wrapped = [&](int64_t y, int64_t x) { return map.at((y + size) % size, (x + size) % size); };
  const auto displaced = [&](double sum) { return sum / 4 + wibble * wibble * (2 * draws.uniform(draw++) - 1); };
  for (int64_t step = size; step >= 2; step /= 2, wibble /= decay) {
    const int64_t half = step / 2;
    for (int64_t y = 0; y < size; y += step)  // the middle of each square
      for (int64_t x = 0; x < size; x += step)
        map.at(y + half, x + half) =
            displaced(wrapped(y, x) + wrapped(y + step, x) + wrapped(y, x + step) + wrapped(y + step, x + step));
    for (int64_t y = 0; y < size; y += half)  // the middle of each diamond
      for (int64_t x = y / half % 2 == 0 ? half : 0; x < size; x += step)
        map.at(y, x) =
            displaced(wrapped(y - half, x) + wrapped(y + half, x) + wrapped(y, x - half) + wrapped(y, x + half));
  }
  const auto [low, high] = std::minmax_element(map.values.begin(), map.values.end());
  const double base = *low, range = *high - *low;
  for (double& v : map.values) v = (v - base) / range;
  return map;
}

}  // namespace

/// A random affine map of three points, then displacements that vary smoothly. Constants are in image sides.
Field elastic(const Field& x, int s, const ImageDraws& draws) {
  struct Strength {
    double alpha, sigma, affine;
  };
  constexpr std::array<Strength, 5> strengths = {
      {{0, 0, .08}, {.05, .2, .07}, {.08, .06, .06}, {.1, .04, .05}, {.1, .03, .03}}};
  const auto side = static_cast<double>(std::min(x.height, x.width));
  const double alpha = strengths[s].alpha * side, sigma = strengths[s].sigma * side,
               jitter = strengths[s].affine * side;
  const auto cx = static_cast<double>(x.width / 2), cy = static_cast<double>(x.height / 2);
  const auto arm = static_cast<double>(std::min(x.height, x.width) / 3);
  const std::array<double, 6> from = {cx + arm, cy + arm, cx + arm, cy - arm, cx - arm, cy - arm};
  std::array<double, 6> to = from;
  for (size_t i = 0; i < 6; ++i) to[i] += jitter * (2 * draws.uniform(i) - 1);
  const std::array<double, 6> back = affine(to, from);
  Field moved(x.height, x.width);
  for (int64_t i = 0; i < x.height; ++i)
    for (int64_t j = 0; j < x.width; ++j) {
      const auto u = static_cast<double>(j), v = static_cast<double>(i);
      for (int64_t c = 0; c < 3; ++c)
        moved.at(i, j, c) =
            x.bilinear(back[3] * u + back[4] * v + back[5], back[0] * u + back[1] * v + back[2], c, Edge::reflect101);
    }
  if (alpha == 0) return moved;
  Field shift(x.height, x.width, 2);
  for (size_t e = 0; e < shift.values.size(); ++e) shift.values[e] = 2 * draws.uniform(6 + e) - 1;
  shift = gaussian(shift, sigma, 3, Edge::reflect);
  Field result(x.height, x.width);
  for (int64_t i = 0; i < x.height; ++i)
    for (int64_t j = 0; j < x.width; ++j)
      for (int64_t c = 0; c < 3; ++c)
        result.at(i, j, c) = moved.bilinear(static_cast<double>(i) + alpha * shift.at(i, j, 1),
                                            static_cast<double>(j) + alpha * shift.at(i, j, 0), c, Edge::reflect);
  return result;
}

/// Shrunk by averaging whole pixels whose centres fall into each output pixel, then enlarged by repeating.
Field pixelate(const Field& x, int s) {
  constexpr std::array<double, 5> shares = {.95, .9, .85, .75, .65};
  const auto shrunk = [&](int64_t n) { return static_cast<int64_t>(static_cast<double>(n) * shares[s]); };
  const int64_t h = shrunk(x.height), w = shrunk(x.width);
  const auto first = [](int64_t o, int64_t in, int64_t out) {  // of the pixels that output o averages
    return std::min(in, static_cast<int64_t>(static_cast<double>(o * in) / static_cast<double>(out) + 0.5));
  };
  Field small(h, w);
  for (int64_t i = 0; i < h; ++i)
    for (int64_t j = 0; j < w; ++j) {
      const int64_t top = first(i, x.height, h), bottom = first(i + 1, x.height, h);
      const int64_t left = first(j, x.width, w), right = first(j + 1, x.width, w);
      for (int64_t c = 0; c < 3; ++c) {
        double sum = 0;
        for (int64_t y = top; y < bottom; ++y)
          for (int64_t k = left; k < right; ++k) sum += x.at(y, k, c);
        // the published script's image library rounds here
        small.at(i, j, c) = std::round(255 * sum / static_cast<double>((bottom - top) * (right - left))) / 255;
      }
    }
  Field result(x.height, x.width);
  for (int64_t i = 0; i < x.height; ++i)
    for (int64_t j = 0; j < x.width; ++j)
      for (int64_t c = 0; c < 3; ++c)
        result.at(i, j, c) = small.at((2 * i + 1) * h / (2 * x.height), (2 * j + 1) * w / (2 * x.width), c);
  return result;
}

Field fog(const Field& x, int s, const ImageDraws& draws) {
  struct Fog {
    double amount, decay;
  };
  constexpr std::array<Fog, 5> fogs = {{{.2, 3}, {.5, 3}, {.75, 2.5}, {1, 2}, {1.5, 1.75}}};
  int64_t size = 8;
  while (size < std::max(x.height, x.width)) size *= 2;
  const Field pattern = plasma(size, fogs[s].decay, draws);
  const double brightest = *std::max_element(x.values.begin(), x.values.end());
  Field y = x;
  for (int64_t i = 0; i < x.height; ++i)
    for (int64_t j = 0; j < x.width; ++j)
      for (int64_t c = 0; c < 3; ++c)
        y.at(i, j, c) = (y.at(i, j, c) + fogs[s].amount * pattern.at(i, j)) * brightest / (brightest + fogs[s].amount);
  return y;
}

}  // namespace ranvier::data::corruption
