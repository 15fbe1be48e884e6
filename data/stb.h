// What this project uses of stb: JPEG and PNG decoding, JPEG encoding, and raw inflate, on bytes in memory.
#pragma once
#include <cstdint>
#include <span>
#include <string>
#include <vector>

namespace ranvier::data {

/// Height and width in pixels.
struct ImageSize {
  int64_t height = 0, width = 0;
};

/// What an image file's header announces; zeros, and `error` set, when stb_image cannot read the header.
ImageSize stb_image_size(std::span<const uint8_t> file, std::string& error);

/// Decodes a JPEG or PNG to RGB, (H, W, 3): grey is repeated, alpha is dropped. Returns false and sets `error` on
/// failure.
bool stb_decode(std::span<const uint8_t> file, std::vector<uint8_t>& rgb, ImageSize& size, std::string& error);

/// Encodes RGB pixels (H, W, 3) as a JPEG of `quality` 1 ... 100; chroma is halved both ways at quality 90 or less.
/// Throws std::runtime_error where it fails.
std::vector<uint8_t> stb_encode_jpeg(std::span<const uint8_t> rgb, ImageSize size, int quality);

/// Inflates a raw deflate stream (RFC 1951), followed by at least two more bytes, into `out`. Returns the number of
/// bytes written, -1 if the stream is corrupt or does not fit.
int64_t stb_inflate(std::span<const uint8_t> deflated, std::span<uint8_t> out);

}  // namespace ranvier::data
