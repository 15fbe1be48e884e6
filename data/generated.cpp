// Draws the generated set: every pixel is a pure integer function of seed, split, image and place.
#include "data/generated.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cstdlib>
#include <stdexcept>
#include <string_view>

#include "kernels/common/parallel.h"
#include "kernels/common/philox.h"

namespace ranvier::data {
namespace {

namespace philox = kernels::philox;

constexpr int side = 32;
// Lengths are in sixteenths of a pixel, directions in 1/4096, weights of colours in 1/256.
constexpr int pixel = 16;
constexpr int unit = 4096;

using Colour = std::array<int, 3>;

// The draws of one image, in order: word w of block b is draw 4b + w.
class Draws {
 public:
  explicit Draws(philox::Key key) : key_(key) {}
  uint32_t bits() {
    if (used_ == 4) words_ = philox::block_words(key_, block_++), used_ = 0;
    return words_.word[used_++];
  }
  /// Uniform on {low, ..., high}.
  int between(int low, int high) {
    return low + static_cast<int>(uint64_t{bits()} * static_cast<uint64_t>(high - low + 1) >> 32);
  }

 private:
  philox::Key key_;
  philox::Words words_{};
  uint32_t block_ = 0;
  int used_ = 4;
};

// A place in the figure's own axes, relative to its centre.
struct Point {
  int p, q;
};

// What an image shows; drawn once, then asked for every pixel.
struct Scene {
  Colour ground, figure, obstacle;
  int centre_x, centre_y;                     // of the figure
  int direction_x, direction_y;               // unit vector of its first axis
  int radius;                                 // of a shape
  int period;                                 // of a texture
  int share;                                  // ring's hole, cross's arm, dot's size: 1/256 of its size
  int noise;                                  // largest change of a channel
  int light_x, light_y;                       // change of brightness per pixel, 1/16 steps
  int obstacle_x, obstacle_y, obstacle_side;  // pixels
  std::array<int, 100> lattice;               // values of the blobs at lattice points, 0 to 255

  Point at(int x, int y) const {
    const int dx = x - centre_x, dy = y - centre_y;
    return {(direction_x * dx + direction_y * dy) / unit, (direction_x * dy - direction_y * dx) / unit};
  }
};

int floor_mod(int value, int period) {
  const int rest = value % period;
  return rest < 0 ? rest + period : rest;
}

bool in_stripes(const Scene& s, Point a) { return 2 * floor_mod(a.p, s.period) < s.period; }
bool in_checkers(const Scene& s, Point a) { return in_stripes(s, a) != in_stripes(s, {a.q, a.p}); }
bool in_dots(const Scene& s, Point a) {
  const int p = floor_mod(a.p, s.period) - s.period / 2, q = floor_mod(a.q, s.period) - s.period / 2;
  const int radius = s.period * (60 + s.share / 4) / 256;
  return p * p + q * q < radius * radius;
}
bool in_disc(const Scene& s, Point a) { return a.p * a.p + a.q * a.q < s.radius * s.radius; }
bool in_ring(const Scene& s, Point a) {
  const int hole = s.radius * (120 + s.share / 3) / 256;
  return in_disc(s, a) && a.p * a.p + a.q * a.q >= hole * hole;
}
bool in_square(const Scene& s, Point a) {
  return 16 * std::abs(a.p) < 13 * s.radius && 16 * std::abs(a.q) < 13 * s.radius;
}
bool in_triangle(const Scene& s, Point a) {
  // Equilateral, circumscribed circle of radius 5/4 r: three half planes at distance 5/8 r; 3547/4096 is sqrt(3)/2.
  const int distance = 5 * s.radius / 8, slant = 3547 * std::abs(a.p) / unit;
  return a.q > -distance && slant + a.q / 2 < distance;
}
bool in_cross(const Scene& s, Point a) {
  const int arm = s.radius * (60 + s.share / 8) / 256, p = std::abs(a.p), q = std::abs(a.q);
  return (p < arm && q < s.radius) || (q < arm && p < s.radius);
}

// Share of a pixel that lies inside, from 2x2 samples: 0 to 256.
template <bool (*inside)(const Scene&, Point)>
int coverage(const Scene& scene, int x, int y) {
  int inside_count = 0;
  for (const int dy : {4, 12}) {
    for (const int dx : {4, 12}) inside_count += inside(scene, scene.at(x * pixel + dx, y * pixel + dy));
  }
  return 64 * inside_count;
}

int gradient(const Scene& scene, int x, int y) {
  const int reach = 20 * pixel;
  return std::clamp((scene.at(x * pixel + 8, y * pixel + 8).p + reach) * 256 / (2 * reach), 0, 256);
}

// Value noise: bilinear between random lattice values, then cut at one half with a soft edge.
int blobs(const Scene& scene, int x, int y) {
  const int step = 4 + scene.share / 86;  // pixels between lattice points: 4 to 6, so at most 9 x 9 points
  const int column = x / step, row = y / step, fx = x % step, fy = y % step;
  const auto value = [&](int r, int c) { return scene.lattice[static_cast<size_t>(10 * r + c)]; };
  const int top = value(row, column) * (step - fx) + value(row, column + 1) * fx;
  const int bottom = value(row + 1, column) * (step - fx) + value(row + 1, column + 1) * fx;
  const int height = (top * (step - fy) + bottom * fy) / (step * step);
  return std::clamp(128 + (height - 128) * 8, 0, 256);
}

struct Class {
  const char* name;
  int (*weight)(const Scene&, int x, int y);  // of the figure's colour, 0 to 256
};
constexpr std::array<Class, 10> drawn_classes = {{{"stripes", coverage<in_stripes>},
                                                  {"checkers", coverage<in_checkers>},
                                                  {"dots", coverage<in_dots>},
                                                  {"blobs", blobs},
                                                  {"gradient", gradient},
                                                  {"disc", coverage<in_disc>},
                                                  {"ring", coverage<in_ring>},
                                                  {"square", coverage<in_square>},
                                                  {"triangle", coverage<in_triangle>},
                                                  {"cross", coverage<in_cross>}}};

Colour random_colour(Draws& draws) { return {draws.between(0, 255), draws.between(0, 255), draws.between(0, 255)}; }

// Far enough from `other` to be seen through the noise.
Colour contrasting_colour(Draws& draws, const Colour& other) {
  for (;;) {
    const Colour colour = random_colour(draws);
    if (std::abs(colour[0] - other[0]) + std::abs(colour[1] - other[1]) + std::abs(colour[2] - other[2]) > 240) {
      return colour;
    }
  }
}

int integer_root(int value) {
  int root = 0;
  while ((root + 1) * (root + 1) <= value) ++root;
  return root;
}

Scene draw_scene(Draws& draws) {
  Scene scene{};
  scene.ground = random_colour(draws);
  scene.figure = contrasting_colour(draws, scene.ground);
  scene.obstacle = random_colour(draws);
  scene.radius = draws.between(7 * pixel, 12 * pixel);
  const int reach = 17 * pixel - scene.radius;  // a shape may leave the picture by a pixel
  scene.centre_x = 16 * pixel + draws.between(-reach, reach);
  scene.centre_y = 16 * pixel + draws.between(-reach, reach);
  const int a = 256, b = draws.between(-100, 100);  // up to 21 degrees either way
  const int length = integer_root(a * a + b * b);
  scene.direction_x = a * unit / length;
  scene.direction_y = b * unit / length;
  scene.period = draws.between(5 * pixel, 9 * pixel);
  scene.share = draws.between(0, 255);
  scene.noise = draws.between(4, 32);
  scene.light_x = draws.between(-8, 8);
  scene.light_y = draws.between(-8, 8);
  scene.obstacle_side = draws.between(0, 5);
  scene.obstacle_x = draws.between(0, side - 1);
  scene.obstacle_y = draws.between(0, side - 1);
  for (int& value : scene.lattice) value = draws.between(0, 255);
  return scene;
}

void draw_image(int64_t label, philox::Key key, uint8_t* image) {
  Draws draws(key);
  const Scene scene = draw_scene(draws);
  const auto weight_of = drawn_classes[static_cast<size_t>(label)].weight;
  for (int y = 0; y < side; ++y) {
    for (int x = 0; x < side; ++x) {
      const bool hidden = x >= scene.obstacle_x && x < scene.obstacle_x + scene.obstacle_side &&
                          y >= scene.obstacle_y && y < scene.obstacle_y + scene.obstacle_side;
      const int weight = hidden ? 0 : weight_of(scene, x, y);
      const int light = (scene.light_x * (x - side / 2) + scene.light_y * (y - side / 2)) / 16;
      uint32_t bits = draws.bits();
      for (size_t c = 0; c < 3; ++c) {
        const int base = hidden ? scene.obstacle[c] : scene.ground[c];
        const int colour = base + (scene.figure[c] - base) * weight / 256;
        const int noise = (static_cast<int>(bits & 255) - 128) * scene.noise / 128;
        *image++ = static_cast<uint8_t>(std::clamp(colour + light + noise, 0, 255));
        bits >>= 8;
      }
    }
  }
}

Dataset draw_split(std::string_view stream, uint64_t seed, int64_t per_class) {
  const int64_t classes = static_cast<int64_t>(drawn_classes.size()), count = per_class * classes;
  Dataset data;
  data.name = "generated pictures";
  for (const Class& drawn : drawn_classes) data.classes.emplace_back(drawn.name);
  data.labels.resize(static_cast<size_t>(count));
  data.images.resize(static_cast<size_t>(count * data.image_bytes()));
  const uint64_t stream_hash = philox::stream_hash(stream);
  const int64_t shards = kernels::shard_count(count, 64, 1024);
  kernels::parallel_for(shards, [&](int64_t shard) {
    const int64_t end = kernels::shard_begin(count, shards, shard + 1);
    for (int64_t i = kernels::shard_begin(count, shards, shard); i < end; ++i) {
      data.labels[static_cast<size_t>(i)] = static_cast<int32_t>(i % classes);
      draw_image(i % classes, {seed, stream_hash, static_cast<uint64_t>(i)},
                 data.images.data() + i * data.image_bytes());
    }
  });
  return data;
}

}  // namespace

Splits generated(const GeneratedOptions& options) {
  if (options.train_per_class < 1 || options.test_per_class < 1) {
    throw std::runtime_error(fmt::format("generated data: {} training and {} test images per class, at least 1 needed",
                                         options.train_per_class, options.test_per_class));
  }
  Splits splits;
  splits.train = draw_split("generated/train", options.seed, options.train_per_class);
  splits.test = draw_split("generated/test", options.seed, options.test_per_class);
  splits.source = fmt::format("this program (seed {})", options.seed);
  set_statistics(splits);
  return splits;
}

}  // namespace ranvier::data
