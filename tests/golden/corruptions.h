// Pixels of corrupted pictures from tests/golden/corruptions.py (numpy, SciPy, Pillow), which says what they are of.
#pragma once
#include <array>

namespace ranvier::golden {

struct CorruptedPixels {
  const char* name;
  int severity;
  std::array<int, 6> values;  // at corrupted_places
};
// (y, x, channel)
inline constexpr std::array<std::array<int, 3>, 6> corrupted_places = {
    {{0, 0, 0}, {3, 17, 1}, {12, 12, 2}, {20, 5, 0}, {31, 30, 1}, {16, 31, 2}}};
inline constexpr std::array<CorruptedPixels, 33> corrupted_pixels = {{
    {"gaussian_noise", 1, {0, 116, 184, 118, 26, 33}}, {"gaussian_noise", 3, {0, 124, 160, 121, 14, 32}},
    {"gaussian_noise", 5, {0, 128, 149, 123, 7, 31}},  {"speckle_noise", 1, {0, 102, 225, 115, 40, 32}},
    {"speckle_noise", 3, {0, 96, 243, 115, 41, 30}},   {"speckle_noise", 5, {0, 88, 255, 115, 42, 28}},
    {"impulse_noise", 1, {0, 108, 208, 115, 39, 35}},  {"impulse_noise", 3, {0, 108, 208, 115, 39, 35}},
    {"impulse_noise", 5, {0, 108, 208, 115, 39, 0}},   {"gaussian_blur", 1, {0, 111, 207, 118, 40, 35}},
    {"gaussian_blur", 3, {1, 124, 205, 131, 46, 45}},  {"gaussian_blur", 5, {3, 128, 202, 135, 49, 61}},
    {"defocus_blur", 1, {0, 111, 207, 118, 39, 35}},   {"defocus_blur", 3, {2, 121, 206, 128, 42, 46}},
    {"defocus_blur", 5, {5, 130, 202, 137, 45, 80}},   {"zoom_blur", 1, {0, 121, 206, 129, 47, 109}},
    {"zoom_blur", 3, {5, 131, 206, 134, 42, 130}},     {"zoom_blur", 5, {11, 131, 205, 133, 33, 137}},
    {"brightness", 1, {0, 117, 220, 122, 43, 34}},     {"brightness", 3, {0, 135, 246, 137, 52, 34}},
    {"brightness", 5, {0, 163, 255, 150, 66, 34}},     {"contrast", 1, {35, 120, 192, 121, 68, 62}},
    {"contrast", 3, {84, 136, 170, 130, 109, 101}},    {"contrast", 5, {119, 148, 155, 136, 138, 129}},
    {"pixelate", 1, {0, 108, 208, 115, 39, 35}},       {"pixelate", 3, {0, 114, 208, 115, 39, 36}},
    {"pixelate", 5, {5, 136, 207, 135, 39, 33}},       {"elastic", 1, {17, 114, 187, 124, 53, 27}},
    {"elastic", 3, {11, 124, 189, 129, 59, 44}},       {"elastic", 5, {5, 123, 205, 130, 56, 29}},
    {"fog", 1, {35, 120, 184, 108, 60, 38}},           {"fog", 3, {92, 136, 143, 95, 91, 43}},
    {"fog", 5, {130, 135, 97, 76, 102, 51}},
}};

}  // namespace ranvier::golden
