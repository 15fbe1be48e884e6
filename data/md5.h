// MD5 (RFC 1321), because that is the digest the official CIFAR-10 page publishes; no protection against forgery.
#pragma once
#include <array>
#include <cstdint>
#include <filesystem>
#include <span>
#include <string>

namespace ranvier::data {

/// Running MD5 of bytes given in pieces.
class Md5 {
 public:
  void update(std::span<const uint8_t> bytes);
  /// The digest as 32 lower-case hex digits; call once, at the end.
  std::string hex();

 private:
  void block(const uint8_t* bytes);

  std::array<uint32_t, 4> state_{0x67452301, 0xefcdab89, 0x98badcfe, 0x10325476};
  std::array<uint8_t, 64> tail_{};
  uint64_t length_ = 0;
};

/// Digest of bytes in memory.
std::string md5(std::span<const uint8_t> bytes);

/// Digest of a file, read in pieces. Throws naming the path if it cannot be read.
std::string md5_file(const std::filesystem::path& path);

}  // namespace ranvier::data
