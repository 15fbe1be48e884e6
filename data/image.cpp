// Decoding and resizing of single images.
#include "data/image.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstdlib>
#include <stdexcept>

#include "data/archive.h"
#include "data/files.h"
#include "data/stb.h"

namespace ranvier::data {
namespace {

bool is_jpeg(std::span<const uint8_t> file) {
  return file.size() >= 3 && file[0] == 0xFF && file[1] == 0xD8 && file[2] == 0xFF;
}

bool is_png(std::span<const uint8_t> file) {
  constexpr uint8_t signature[] = {0x89, 'P', 'N', 'G', '\r', '\n', 0x1A, '\n'};
  return file.size() >= sizeof signature && std::equal(std::begin(signature), std::end(signature), file.begin());
}

// Whether the Huffman tables of a DHT segment (ITU T.81, B.2.4.2) stay inside it, have at most 256 codes, and name DC
// magnitudes below 16: stb_image relies on all three without looking.
bool huffman_tables_are_sound(std::span<const uint8_t> tables) {
  while (!tables.empty()) {
    if (tables.size() < 17) return false;
    const bool dc = tables[0] >> 4 == 0;
    size_t codes = 0;
    for (const uint8_t count : tables.subspan(1, 16)) codes += count;
    if (codes > 256 || tables.size() < 17 + codes) return false;
    const std::span<const uint8_t> symbols = tables.subspan(17, codes);
    if (dc && std::any_of(symbols.begin(), symbols.end(), [](uint8_t symbol) { return symbol > 15; })) return false;
    tables = tables.subspan(17 + codes);
  }
  return true;
}

// What is wrong with the marker segments of a JPEG (ITU T.81, annex B) up to its end-of-image marker, empty if nothing.
std::string jpeg_defect(std::span<const uint8_t> file) {
  for (size_t at = 2; at + 1 < file.size();) {
    // Between segments, and inside the entropy-coded data of a scan, a marker is FF and neither FF, 00 nor RSTn.
    const uint8_t marker = file[at + 1];
    if (file[at] != 0xFF || marker == 0xFF || marker == 0x00 || (marker >= 0xD0 && marker <= 0xD7)) {
      ++at;
      continue;
    }
    if (marker == 0xD9) return {};
    if (at + 3 >= file.size()) break;
    const size_t length = size_t{file[at + 2]} * 256 + file[at + 3];
    if (length < 2 || at + 2 + length > file.size()) break;
    if (marker == 0xC4 && !huffman_tables_are_sound(file.subspan(at + 4, length - 2))) {
      return fmt::format("the JPEG is corrupt: impossible Huffman table at offset {}", at);
    }
    at += 2 + length;
  }
  return fmt::format("the JPEG is truncated: no end-of-image marker in {} bytes", file.size());
}

uint32_t big_endian32(std::span<const uint8_t> bytes, size_t at) {
  return uint32_t{bytes[at]} << 24 | uint32_t{bytes[at + 1]} << 16 | uint32_t{bytes[at + 2]} << 8 |
         uint32_t{bytes[at + 3]};
}

// What is wrong with the chunks of a PNG (ISO/IEC 15948, 5), empty if nothing: every one whole up to IEND, and those
// needed to decode it (an upper-case first letter) known and with the right CRC. stb_image checks none of that.
std::string png_defect(std::span<const uint8_t> file) {
  for (size_t at = 8;;) {
    if (at + 12 > file.size() || big_endian32(file, at) > file.size() - at - 12) {
      return fmt::format("the PNG is truncated in the chunk at offset {} of {} bytes", at, file.size());
    }
    const size_t length = big_endian32(file, at);
    const std::string_view type(reinterpret_cast<const char*>(file.data()) + at + 4, 4);
    const bool critical = type[0] >= 'A' && type[0] <= 'Z';
    if (critical && type != "IHDR" && type != "PLTE" && type != "IDAT" && type != "IEND") {
      return fmt::format("the PNG has an unknown chunk at offset {}", at);
    }
    if (critical && crc32(file.subspan(at + 4, 4 + length)) != big_endian32(file, at + 8 + length)) {
      return fmt::format("the PNG is corrupt: wrong CRC of the chunk {} at offset {}", type, at);
    }
    if (type == "IEND") return {};
    at += 12 + length;
  }
}

// The taps of one output position: out = sum over k of weight[k] * in[first + k], weights adding up to 1 << 16.
struct Taps {
  int64_t first = 0;
  std::vector<uint32_t> weights;
};

// A triangle of half-width max(1, in/out) source pixels, centred on the output pixel; everything in units of
// 1/(2*out) source pixels so that it stays in integers.
std::vector<Taps> triangle_taps(int64_t in, int64_t out) {
  std::vector<Taps> result(static_cast<size_t>(out));
  const int64_t support = 2 * std::max(in, out);
  for (int64_t o = 0; o < out; ++o) {
    const int64_t centre = (2 * o + 1) * in;
    const int64_t first = std::max<int64_t>(0, (centre - support) / (2 * out) - 1);
    const int64_t last = std::min(in - 1, (centre + support) / (2 * out) + 1);
    Taps& taps = result[static_cast<size_t>(o)];
    std::vector<int64_t> raw;
    int64_t total = 0;
    for (int64_t i = first; i <= last; ++i) {
      const int64_t weight = std::max<int64_t>(0, support - std::abs((2 * i + 1) * out - centre));
      if (raw.empty() && weight == 0) continue;
      if (raw.empty()) taps.first = i;
      raw.push_back(weight);
      total += weight;
    }
    // Cumulative rounding makes the weights add up to exactly 1 << 16, so a flat image stays flat.
    int64_t cumulative = 0, given = 0;
    for (const int64_t weight : raw) {
      cumulative += weight;
      const int64_t upto = (cumulative * 65536 + total / 2) / total;
      taps.weights.push_back(static_cast<uint32_t>(upto - given));
      given = upto;
    }
  }
  return result;
}

// Rows of `image` shrunk to `width`: (H, width, 3), values scaled by 256.
std::vector<uint32_t> resize_rows(const Image& image, int64_t width) {
  const std::vector<Taps> taps = triangle_taps(image.width, width);
  std::vector<uint32_t> result(static_cast<size_t>(image.height * width * 3));
  uint32_t* to = result.data();
  for (int64_t y = 0; y < image.height; ++y) {
    const uint8_t* row = image.pixels.data() + y * image.width * 3;
    for (const Taps& tap : taps) {
      uint32_t sum[3] = {128, 128, 128};
      const uint8_t* from = row + tap.first * 3;
      for (const uint32_t weight : tap.weights) {
        for (int c = 0; c < 3; ++c) sum[c] += weight * *from++;
      }
      for (const uint32_t value : sum) *to++ = value >> 8;
    }
  }
  return result;
}

}  // namespace

Image decode_image(std::span<const uint8_t> file, std::string_view name, int64_t pixel_limit) {
  if (file.empty()) throw std::runtime_error(fmt::format("{}: the file is empty", name));
  if (!is_jpeg(file) && !is_png(file)) throw std::runtime_error(fmt::format("{}: neither a JPEG nor a PNG file", name));
  // Before stb_image sees a byte: it trusts what these look at.
  std::string error = is_png(file) ? png_defect(file) : jpeg_defect(file);
  if (!error.empty()) throw std::runtime_error(fmt::format("{}: {}", name, error));
  const ImageSize size = stb_image_size(file, error);
  if (size.height < 1 || size.width < 1) {
    throw std::runtime_error(fmt::format("{}: the image header is corrupt: {}", name, error));
  }
  if (size.height > pixel_limit / size.width) {
    throw std::runtime_error(
        fmt::format("{}: {} x {} pixels, more than the limit of {}", name, size.width, size.height, pixel_limit));
  }
  Image image;
  ImageSize decoded;
  if (!stb_decode(file, image.pixels, decoded, error)) {
    throw std::runtime_error(fmt::format("{}: the image is corrupt: {}", name, error));
  }
  image.height = decoded.height;
  image.width = decoded.width;
  return image;
}

Image load_image(const std::filesystem::path& path) { return decode_image(read_file(path), path.string()); }

Image resize(const Image& image, int64_t height, int64_t width) {
  if (height < 1 || width < 1 || image.height < 1 || image.width < 1) {
    throw std::runtime_error(
        fmt::format("resize: from {} x {} to {} x {} pixels", image.width, image.height, width, height));
  }
  if (height == image.height && width == image.width) return image;
  const std::vector<uint32_t> rows = resize_rows(image, width);
  const std::vector<Taps> taps = triangle_taps(image.height, height);
  Image result{height, width, std::vector<uint8_t>(static_cast<size_t>(height * width * 3))};
  const int64_t line = width * 3;
  std::vector<uint64_t> sum(static_cast<size_t>(line));
  for (int64_t y = 0; y < height; ++y) {
    const Taps& tap = taps[static_cast<size_t>(y)];
    std::fill(sum.begin(), sum.end(), uint64_t{1} << 23);
    for (size_t k = 0; k < tap.weights.size(); ++k) {
      const uint32_t* from = rows.data() + (tap.first + static_cast<int64_t>(k)) * line;
      for (int64_t i = 0; i < line; ++i) sum[static_cast<size_t>(i)] += uint64_t{tap.weights[k]} * from[i];
    }
    for (int64_t i = 0; i < line; ++i) {
      result.pixels[static_cast<size_t>(y * line + i)] = static_cast<uint8_t>(sum[static_cast<size_t>(i)] >> 24);
    }
  }
  return result;
}

}  // namespace ranvier::data
