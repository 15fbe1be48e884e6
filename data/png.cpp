// PNG encoding through stb_image_write (public domain, Sean Barrett), compiled here with internal linkage.
#include "data/png.h"

#include <fmt/format.h>

#include <stdexcept>
#include <vector>

#include "data/files.h"

#define STB_IMAGE_WRITE_IMPLEMENTATION
#define STB_IMAGE_WRITE_STATIC
#define STBI_WRITE_NO_STDIO
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wunused-function"
#pragma GCC diagnostic ignored "-Wmissing-field-initializers"
#include <stb_image_write.h>
#pragma GCC diagnostic pop

namespace ranvier::data {

void write_png(const std::filesystem::path& path, std::span<const uint8_t> pixels, int64_t height, int64_t width) {
  if (static_cast<int64_t>(pixels.size()) != height * width * 3)
    throw std::runtime_error(
        fmt::format("{}: {} bytes are no {}x{} RGB image", path.string(), pixels.size(), height, width));
  std::vector<uint8_t> file;
  const auto append = [](void* context, void* bytes, int count) {
    auto* out = static_cast<std::vector<uint8_t>*>(context);
    out->insert(out->end(), static_cast<uint8_t*>(bytes), static_cast<uint8_t*>(bytes) + count);
  };
  if (!stbi_write_png_to_func(append, &file, static_cast<int>(width), static_cast<int>(height), 3, pixels.data(),
                              static_cast<int>(width * 3)))
    throw std::runtime_error(fmt::format("{}: the image could not be encoded", path.string()));
  write_file(path, file);
}

}  // namespace ranvier::data
