// Single images: decoding with every guard a hostile file needs, and antialiased resizing.
#pragma once
#include <cstdint>
#include <filesystem>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace ranvier::data {

/// One RGB image, (height, width, 3) in row-major u8.
struct Image {
  int64_t height = 0, width = 0;
  std::vector<uint8_t> pixels;
};

/// Largest image decoded unless the caller says otherwise: 100 megapixels.
inline constexpr int64_t default_pixel_limit = 100'000'000;

/// Decodes the bytes of a JPEG or PNG file to RGB (grey is repeated, alpha dropped, 16-bit cut to 8). Throws
/// std::runtime_error that begins with `name`: an empty file, another format, more than `pixel_limit` pixels, a
/// truncated JPEG (stb_image would fill the rest with grey), a truncated PNG or one with a wrong CRC, or what stb_image
/// says.
Image decode_image(std::span<const uint8_t> file, std::string_view name, int64_t pixel_limit = default_pixel_limit);

/// Reads and decodes a JPEG or PNG of any size.
Image load_image(const std::filesystem::path& path);

/// Resizes to (height, width, 3) with a triangle filter whose support grows with the reduction, so that a large
/// downscale averages every source pixel. Integer arithmetic: the same bytes on every machine. Returns a copy when the
/// size fits already. The aspect ratio is not kept. Throws on an empty image or a size below 1.
Image resize(const Image& image, int64_t height, int64_t width);

}  // namespace ranvier::data
