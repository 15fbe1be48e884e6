// Fuzz target: image decoding and resizing, on arbitrary bytes.
#include <cstdint>
#include <span>
#include <stdexcept>
#include <string>
#include <vector>

#include "data/image.h"
#include "data/stb.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* bytes, size_t size) {
  using namespace ranvier::data;
  constexpr int64_t limit = 1 << 20;
  const std::span<const uint8_t> input(bytes, size);
  try {
    resize(decode_image(input, "image", limit), 32, 32);
  } catch (const std::runtime_error&) {
  }
  // A fuzzer seldom finds a right CRC: a PNG goes once more to the decoder itself, without the check in front.
  if (size < 1 || bytes[0] != 0x89) return 0;
  std::string error;
  const ImageSize announced = stb_image_size(input, error);
  if (announced.height < 1 || announced.width < 1 || announced.height > limit / announced.width) return 0;
  std::vector<uint8_t> rgb;
  ImageSize decoded;
  stb_decode(input, rgb, decoded, error);
  return 0;
}
