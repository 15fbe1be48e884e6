// CIFAR-10-C-style corruptions (Hendrycks and Dietterich 2019) of small images: the types that need no foreign asset.
#pragma once
#include <cstdint>
#include <span>
#include <string_view>
#include <vector>

namespace ranvier::data {

/// One type of corruption. The published set has 15 types that count and 4 for tuning; snow and frost, which need a
/// program and photographs of others, are missing here, and so are spatter and saturate.
struct Corruption {
  const char* name;
  bool counted;  ///< in the mean over types; the others (speckle_noise, gaussian_blur) are for tuning
};

/// Every type, the counted ones first.
std::span<const Corruption> corruptions();

inline constexpr int severities = 5;

/// Corrupts RGB images (n, height, width, 3) with the published constants of CIFAR-10-C at `severity` 1 ... 5. Draws
/// are Philox4x32-10 of (seed, type, image, element): the same bytes for one seed whatever the number of threads, other
/// images or other types, and the same noise at every severity. Values are cut, not rounded, to u8, as in the published
/// script. Motion blur's kernel and JPEG's encoder (stb_image_write) are not the published ones. Throws
/// std::runtime_error on an unknown name, a severity outside 1 ... 5, an extent below 8 or above 1024, or a wrong
/// count.
std::vector<uint8_t> corrupt(std::string_view name, int severity, uint64_t seed, std::span<const uint8_t> images,
                             int64_t height, int64_t width);

}  // namespace ranvier::data
