// MD5 as RFC 1321 section 3 describes it.
#include "data/md5.h"

#include <fmt/format.h>

#include <algorithm>
#include <bit>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <memory>
#include <stdexcept>
#include <system_error>
#include <vector>

namespace ranvier::data {
namespace {

// floor(2^32 * |sin(i + 1)|), RFC 1321 3.4; written out because libm's last bit is not guaranteed.
constexpr uint32_t sines[64] = {
    0xd76aa478, 0xe8c7b756, 0x242070db, 0xc1bdceee, 0xf57c0faf, 0x4787c62a, 0xa8304613, 0xfd469501,
    0x698098d8, 0x8b44f7af, 0xffff5bb1, 0x895cd7be, 0x6b901122, 0xfd987193, 0xa679438e, 0x49b40821,
    0xf61e2562, 0xc040b340, 0x265e5a51, 0xe9b6c7aa, 0xd62f105d, 0x02441453, 0xd8a1e681, 0xe7d3fbc8,
    0x21e1cde6, 0xc33707d6, 0xf4d50d87, 0x455a14ed, 0xa9e3e905, 0xfcefa3f8, 0x676f02d9, 0x8d2a4c8a,
    0xfffa3942, 0x8771f681, 0x6d9d6122, 0xfde5380c, 0xa4beea44, 0x4bdecfa9, 0xf6bb4b60, 0xbebfbc70,
    0x289b7ec6, 0xeaa127fa, 0xd4ef3085, 0x04881d05, 0xd9d4d039, 0xe6db99e5, 0x1fa27cf8, 0xc4ac5665,
    0xf4292244, 0x432aff97, 0xab9423a7, 0xfc93a039, 0x655b59c3, 0x8f0ccc92, 0xffeff47d, 0x85845dd1,
    0x6fa87e4f, 0xfe2ce6e0, 0xa3014314, 0x4e0811a1, 0xf7537e82, 0xbd3af235, 0x2ad7d2bb, 0xeb86d391};
constexpr int rotations[4][4] = {{7, 12, 17, 22}, {5, 9, 14, 20}, {4, 11, 16, 23}, {6, 10, 15, 21}};

}  // namespace

void Md5::block(const uint8_t* bytes) {
  uint32_t words[16];
  for (int i = 0; i < 16; ++i) {
    words[i] = uint32_t{bytes[4 * i]} | uint32_t{bytes[4 * i + 1]} << 8 | uint32_t{bytes[4 * i + 2]} << 16 |
               uint32_t{bytes[4 * i + 3]} << 24;
  }
  auto [a, b, c, d] = state_;
  for (int i = 0; i < 64; ++i) {
    const int round = i / 16;
    uint32_t mix = 0;
    int word = 0;
    if (round == 0) mix = (b & c) | (~b & d), word = i;
    if (round == 1) mix = (b & d) | (c & ~d), word = (5 * i + 1) % 16;
    if (round == 2) mix = b ^ c ^ d, word = (3 * i + 5) % 16;
    if (round == 3) mix = c ^ (b | ~d), word = 7 * i % 16;
    const uint32_t next = b + std::rotl(a + mix + words[word] + sines[i], rotations[round][i % 4]);
    a = d, d = c, c = b, b = next;
  }
  state_[0] += a;
  state_[1] += b;
  state_[2] += c;
  state_[3] += d;
}

void Md5::update(std::span<const uint8_t> bytes) {
  while (!bytes.empty()) {
    const size_t held = length_ % 64, count = std::min(64 - held, bytes.size());
    if (held == 0 && count == 64) {
      block(bytes.data());
    } else {
      std::memcpy(tail_.data() + held, bytes.data(), count);
      if (held + count == 64) block(tail_.data());
    }
    length_ += count;
    bytes = bytes.subspan(count);
  }
}

std::string Md5::hex() {
  const uint64_t bits = length_ * 8;
  std::vector<uint8_t> padding(1 + (119 - length_ % 64) % 64, 0);
  padding[0] = 0x80;
  for (int i = 0; i < 8; ++i) padding.push_back(static_cast<uint8_t>(bits >> (8 * i)));
  update(padding);
  std::string result;
  for (const uint32_t word : state_) {
    for (int i = 0; i < 4; ++i) result += fmt::format("{:02x}", word >> (8 * i) & 255);
  }
  return result;
}

std::string md5(std::span<const uint8_t> bytes) {
  Md5 digest;
  digest.update(bytes);
  return digest.hex();
}

std::string md5_file(const std::filesystem::path& path) {
  const std::unique_ptr<std::FILE, int (*)(std::FILE*)> file(std::fopen(path.c_str(), "rb"), &std::fclose);
  const auto fail = [&] {
    return std::runtime_error(fmt::format("cannot read {}: {}", path.string(), std::generic_category().message(errno)));
  };
  if (!file) throw fail();
  Md5 digest;
  std::vector<uint8_t> buffer(1 << 20);
  while (const size_t count = std::fread(buffer.data(), 1, buffer.size(), file.get())) {
    digest.update({buffer.data(), count});
  }
  if (std::ferror(file.get())) throw fail();
  return digest.hex();
}

}  // namespace ranvier::data
