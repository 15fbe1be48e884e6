// Writing of PNG files.
#pragma once
#include <cstdint>
#include <filesystem>
#include <span>

namespace ranvier::data {

/// Writes RGB pixels (height, width, 3), whole or not at all; throws naming the path.
void write_png(const std::filesystem::path& path, std::span<const uint8_t> pixels, int64_t height, int64_t width);

}  // namespace ranvier::data
