// The corruptions by name, those that act on one pixel at a time, and the loop over images.
#include "data/corruptions.h"

#include <fmt/format.h>

#include <array>
#include <stdexcept>
#include <string>

#include "data/corrupt_image.h"
#include "data/stb.h"
#include "kernels/common/parallel.h"

namespace ranvier::data {
namespace {

using corruption::Field;
using corruption::ImageDraws;
using PerSeverity = std::array<double, severities>;

Field gaussian_noise(const Field& x, int s, const ImageDraws& draws) {
  constexpr PerSeverity deviation = {.04, .06, .08, .09, .10};
  Field y = x;
  for (size_t e = 0; e < y.values.size(); ++e) y.values[e] += deviation[s] * draws.normal(e);
  return y;
}

Field shot_noise(const Field& x, int s, const ImageDraws& draws) {
  constexpr PerSeverity photons = {500, 250, 100, 75, 50};  // at value 1
  Field y = x;
  for (size_t e = 0; e < y.values.size(); ++e) y.values[e] = draws.poisson(e, y.values[e] * photons[s]) / photons[s];
  return y;
}

Field impulse_noise(const Field& x, int s, const ImageDraws& draws) {
  constexpr PerSeverity amount = {.01, .02, .03, .05, .07};  // of the values; half of them 1, half 0
  Field y = x;
  for (size_t e = 0; e < y.values.size(); ++e)
    if (draws.uniform(2 * e) < amount[s]) y.values[e] = draws.uniform(2 * e + 1) < 0.5 ? 0 : 1;
  return y;
}

Field speckle_noise(const Field& x, int s, const ImageDraws& draws) {
  constexpr PerSeverity deviation = {.06, .1, .12, .16, .2};
  Field y = x;
  for (size_t e = 0; e < y.values.size(); ++e) y.values[e] *= 1 + deviation[s] * draws.normal(e);
  return y;
}

/// HSV's value raised: hue and saturation stay, so the colour is scaled; black becomes grey.
Field brightness(const Field& x, int s, const ImageDraws&) {
  constexpr PerSeverity raise = {.05, .1, .15, .2, .3};
  Field y = x;
  for (size_t p = 0; p < y.values.size(); p += 3) {
    double* rgb = y.values.data() + p;
    const double value = std::max({rgb[0], rgb[1], rgb[2]}), raised = std::min(value + raise[s], 1.0);
    for (int c = 0; c < 3; ++c) rgb[c] = value > 0 ? rgb[c] * (raised / value) : raised;
  }
  return y;
}

Field contrast(const Field& x, int s, const ImageDraws&) {
  constexpr PerSeverity keep = {.75, .5, .4, .3, .15};
  Field y = x;
  for (size_t c = 0; c < 3; ++c) {
    double mean = 0;
    for (size_t e = c; e < y.values.size(); e += 3) mean += y.values[e];
    mean /= static_cast<double>(y.height * y.width);
    for (size_t e = c; e < y.values.size(); e += 3) y.values[e] = (y.values[e] - mean) * keep[s] + mean;
  }
  return y;
}

Field gaussian_blur(const Field& x, int s, const ImageDraws&) {
  constexpr PerSeverity deviation = {.4, .6, .7, .8, 1};
  return corruption::gaussian(x, deviation[s], 4, corruption::Edge::nearest);
}

Field jpeg(const Field& x, int s, const ImageDraws&) {
  constexpr std::array<int, severities> quality = {80, 65, 58, 50, 40};
  std::vector<uint8_t> pixels(x.values.size()), decoded;
  for (size_t e = 0; e < pixels.size(); ++e) pixels[e] = static_cast<uint8_t>(std::lround(255 * x.values[e]));
  const std::vector<uint8_t> file = stb_encode_jpeg(pixels, {x.height, x.width}, quality[s]);
  ImageSize size;
  std::string error;
  if (!stb_decode(file, decoded, size, error)) throw std::runtime_error("jpeg_compression: " + error);
  Field y = x;
  for (size_t e = 0; e < decoded.size(); ++e) y.values[e] = decoded[e] / 255.0;
  return y;
}

Field drawless(Field (*family)(const Field&, int), const Field& x, int s) { return family(x, s); }
Field defocus_blur(const Field& x, int s, const ImageDraws&) { return drawless(corruption::defocus, x, s); }
Field zoom_blur(const Field& x, int s, const ImageDraws&) { return drawless(corruption::zoom, x, s); }
Field pixelate(const Field& x, int s, const ImageDraws&) { return drawless(corruption::pixelate, x, s); }

using Function = Field (*)(const Field&, int, const ImageDraws&);
constexpr std::array types = {
    Corruption{"gaussian_noise", true}, Corruption{"shot_noise", true},
    Corruption{"impulse_noise", true},  Corruption{"defocus_blur", true},
    Corruption{"glass_blur", true},     Corruption{"motion_blur", true},
    Corruption{"zoom_blur", true},      Corruption{"fog", true},
    Corruption{"brightness", true},     Corruption{"contrast", true},
    Corruption{"elastic", true},        Corruption{"pixelate", true},
    Corruption{"jpeg", true},           Corruption{"speckle_noise", false},
    Corruption{"gaussian_blur", false},
};
constexpr std::array<Function, types.size()> functions = {
    gaussian_noise, shot_noise,      impulse_noise, defocus_blur, corruption::glass,   corruption::motion,
    zoom_blur,      corruption::fog, brightness,    contrast,     corruption::elastic, pixelate,
    jpeg,           speckle_noise,   gaussian_blur,
};

Function function_named(std::string_view name) {
  for (size_t i = 0; i < types.size(); ++i)
    if (name == types[i].name) return functions[i];
  std::string known;
  for (const Corruption& type : types) known += fmt::format(" {}", type.name);
  throw std::runtime_error(fmt::format("unknown corruption '{}'; known are{}", name, known));
}

}  // namespace

std::span<const Corruption> corruptions() { return types; }

std::vector<uint8_t> corrupt(std::string_view name, int severity, uint64_t seed, std::span<const uint8_t> images,
                             int64_t height, int64_t width) {
  const Function function = function_named(name);
  if (severity < 1 || severity > severities)
    throw std::runtime_error(fmt::format("{}: severity {} is not in 1 ... {}", name, severity, severities));
  if (height < 8 || width < 8 || height > 1024 || width > 1024)
    throw std::runtime_error(fmt::format("{}: images of {}x{}; sides must be from 8 to 1024", name, height, width));
  const int64_t bytes = height * width * 3, count = static_cast<int64_t>(images.size()) / bytes;
  if (count * bytes != static_cast<int64_t>(images.size()))
    throw std::runtime_error(
        fmt::format("{}: {} bytes are no whole number of {}x{} RGB images", name, images.size(), height, width));
  std::vector<uint8_t> result(images.size());
  const uint64_t stream = kernels::philox::stream_hash(fmt::format("corruptions.{}", name));
  kernels::parallel_for(count, [&](int64_t i) {
    Field x(height, width);
    for (int64_t e = 0; e < bytes; ++e)
      x.values[static_cast<size_t>(e)] = images[static_cast<size_t>(i * bytes + e)] / 255.0;
    const Field y = function(x, severity - 1, {{seed, stream, static_cast<uint64_t>(i)}});
    for (int64_t e = 0; e < bytes; ++e)
      result[static_cast<size_t>(i * bytes + e)] =
          static_cast<uint8_t>(std::clamp(y.values[static_cast<size_t>(e)], 0.0, 1.0) * 255);
  });
  return result;
}

}  // namespace ranvier::data
