// The one translation unit that compiles stb_image and stb_image_write (public domain, Sean Barrett), with internal
// linkage.
#include "data/stb.h"

#include <climits>
#include <cstdlib>
#include <memory>
#include <stdexcept>

namespace {

// A hostile PNG may inflate to a thousand times its size; no honest image under the pixel limit needs more than this.
constexpr size_t allocation_limit = size_t{1} << 30;

// Zeroed, because a corrupt JPEG may use a table that it never defined.
[[maybe_unused]] void* limited_malloc(size_t size) { return size <= allocation_limit ? std::calloc(size, 1) : nullptr; }
[[maybe_unused]] void* limited_realloc(void* memory, size_t size) {
  return size <= allocation_limit ? std::realloc(memory, size) : nullptr;
}

}  // namespace

#define STB_IMAGE_IMPLEMENTATION
#define STB_IMAGE_STATIC
#define STBI_ONLY_JPEG
#define STBI_ONLY_PNG
#define STBI_NO_STDIO
#define STBI_MALLOC(size) limited_malloc(size)
#define STBI_REALLOC(memory, size) limited_realloc(memory, size)
#define STBI_FREE(memory) std::free(memory)
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wunused-function"
#pragma GCC diagnostic ignored "-Wsign-compare"
#pragma GCC diagnostic ignored "-Wmissing-field-initializers"
#include <stb_image.h>
#define STB_IMAGE_WRITE_IMPLEMENTATION
#define STB_IMAGE_WRITE_STATIC
#define STBI_WRITE_NO_STDIO
#include <stb_image_write.h>
#pragma GCC diagnostic pop

namespace ranvier::data {

namespace {

std::string failure(std::span<const uint8_t> file) {
  const char* reason = file.size() > INT_MAX ? "the file is too large" : stbi_failure_reason();
  return reason ? reason : "unknown reason";
}

}  // namespace

ImageSize stb_image_size(std::span<const uint8_t> file, std::string& error) {
  int width = 0, height = 0, channels = 0;
  if (file.size() > INT_MAX ||
      !stbi_info_from_memory(file.data(), static_cast<int>(file.size()), &width, &height, &channels)) {
    error = failure(file);
    return {};
  }
  return {height, width};
}

bool stb_decode(std::span<const uint8_t> file, std::vector<uint8_t>& rgb, ImageSize& size, std::string& error) {
  int width = 0, height = 0, channels = 0;
  stbi_uc* memory = nullptr;
  if (file.size() <= INT_MAX) {
    memory = stbi_load_from_memory(file.data(), static_cast<int>(file.size()), &width, &height, &channels, 3);
  }
  const std::unique_ptr<stbi_uc, decltype(&std::free)> pixels(memory, &std::free);
  if (!pixels) {
    error = failure(file);
    return false;
  }
  size = {height, width};
  rgb.assign(pixels.get(), pixels.get() + size_t{3} * static_cast<size_t>(height) * static_cast<size_t>(width));
  return true;
}

std::vector<uint8_t> stb_encode_jpeg(std::span<const uint8_t> rgb, ImageSize size, int quality) {
  std::vector<uint8_t> file;
  const auto append = [](void* context, void* data, int bytes) {
    const auto* first = static_cast<const uint8_t*>(data);
    static_cast<std::vector<uint8_t>*>(context)->insert(static_cast<std::vector<uint8_t>*>(context)->end(), first,
                                                        first + bytes);
  };
  const bool fits = size.height > 0 && size.width > 0 && size.height <= 65535 && size.width <= 65535 &&
                    static_cast<int64_t>(rgb.size()) == 3 * size.height * size.width;
  if (!fits || !stbi_write_jpg_to_func(append, &file, static_cast<int>(size.width), static_cast<int>(size.height), 3,
                                       rgb.data(), quality))
    throw std::runtime_error("an image could not be encoded as JPEG");
  return file;
}

int64_t stb_inflate(std::span<const uint8_t> deflated, std::span<uint8_t> out) {
  if (deflated.size() > INT_MAX || out.size() > INT_MAX) return -1;
  return stbi_zlib_decode_noheader_buffer(reinterpret_cast<char*>(out.data()), static_cast<int>(out.size()),
                                          reinterpret_cast<const char*>(deflated.data()),
                                          static_cast<int>(deflated.size()));
}

}  // namespace ranvier::data
