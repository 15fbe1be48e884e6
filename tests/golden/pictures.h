// The pictures and labels of the golden runs, from the formulas in reference.py.
#pragma once
#include <algorithm>
#include <cstdint>
#include <string_view>
#include <vector>

#include "kernels/common/philox.h"

namespace ranvier::golden {

constexpr uint64_t seed = 1;
constexpr int64_t pictures = 640;

inline uint32_t bits(std::string_view name, uint64_t step, uint64_t element) {
  return kernels::philox::bits(seed, kernels::philox::stream_hash(name), step, element);
}
inline int64_t byte(std::string_view name, uint64_t step, uint64_t element) { return bits(name, step, element) >> 24; }
inline int32_t label(int64_t n) { return static_cast<int32_t>(bits("golden.label", 0, static_cast<uint64_t>(n)) % 10); }

/// Labels 0 .. 639.
inline std::vector<int32_t> all_labels() {
  std::vector<int32_t> labels;
  for (int64_t n = 0; n < pictures; ++n) labels.push_back(label(n));
  return labels;
}

/// Pictures (640, 32, 32, 3).
inline std::vector<uint8_t> all_pictures() {
  std::vector<uint8_t> pixels;
  pixels.reserve(pictures * 32 * 32 * 3);
  const int64_t weight[3] = {600, 400, 800};
  for (int64_t n = 0; n < pictures; ++n) {
    int64_t nodes[5][9][3];  // 102 T + 26 G: the interpolation is linear, so they may be joined first
    for (int64_t i = 0; i < 5; ++i)
      for (int64_t j = 0; j < 9; ++j)
        for (int64_t c = 0; c < 3; ++c) {
          const auto element = static_cast<uint64_t>((9 * i + j) * 4);
          const auto at = static_cast<uint64_t>(n);
          nodes[i][j][c] =
              102 * byte("golden.class", static_cast<uint64_t>(label(n)), element + static_cast<uint64_t>(c)) +
              26 * (3 * byte("golden.image", at, element + 3) +
                    byte("golden.image", at, element + static_cast<uint64_t>(c)));
        }
    for (int64_t y = 0; y < 32; ++y)
      for (int64_t x = 0; x < 32; ++x)
        for (int64_t c = 0; c < 3; ++c) {
          const int64_t i = y / 8, r = y % 8, j = x / 4, s = x % 4;
          const int64_t up = (8 - r) * ((4 - s) * nodes[i][j][c] + s * nodes[i][j + 1][c]) +
                             r * ((4 - s) * nodes[i + 1][j][c] + s * nodes[i + 1][j + 1][c]);
          const int64_t noise =
              byte("golden.noise", static_cast<uint64_t>(n), static_cast<uint64_t>((32 * y + x) * 3 + c));
          const int64_t sum = up + weight[c] * noise - (318240 + 255 * weight[c] / 2);
          pixels.push_back(static_cast<uint8_t>(std::clamp<int64_t>(sum, 0, 255 * 4096) / 4096));
        }
  }
  return pixels;
}

}  // namespace ranvier::golden
