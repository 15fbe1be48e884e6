// gzip and tar: only their containers, inflate itself is stb_image's.
#include "data/archive.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <optional>
#include <stdexcept>

#include "data/stb.h"

namespace ranvier::data {
namespace {

// Tables for eight bytes at a time: table[k][b] is the CRC of byte b followed by k zero bytes.
std::array<std::array<uint32_t, 256>, 8> crc_tables() {
  std::array<std::array<uint32_t, 256>, 8> table{};
  for (uint32_t byte = 0; byte < 256; ++byte) {
    uint32_t crc = byte;
    for (int bit = 0; bit < 8; ++bit) crc = (crc >> 1) ^ (crc & 1 ? 0xEDB88320u : 0u);
    table[0][byte] = crc;
  }
  for (size_t k = 1; k < 8; ++k) {
    for (size_t byte = 0; byte < 256; ++byte) {
      table[k][byte] = (table[k - 1][byte] >> 8) ^ table[0][table[k - 1][byte] & 255];
    }
  }
  return table;
}

uint32_t little_endian32(std::span<const uint8_t> bytes, size_t at) {
  return uint32_t{bytes[at]} | uint32_t{bytes[at + 1]} << 8 | uint32_t{bytes[at + 2]} << 16 |
         uint32_t{bytes[at + 3]} << 24;
}

// Length of the gzip header (RFC 1952, 2.3), nothing when it is cut short.
std::optional<size_t> gzip_header_size(std::span<const uint8_t> file) {
  constexpr uint8_t has_crc = 2, has_extra = 4, has_name = 8, has_comment = 16;
  const uint8_t flags = file[3];
  size_t at = 10;
  if (flags & has_extra) {
    if (at + 2 > file.size()) return std::nullopt;
    at += 2 + size_t{file[at]} + size_t{file[at + 1]} * 256;
  }
  for (const uint8_t text : {has_name, has_comment}) {
    if (!(flags & text)) continue;
    while (at < file.size() && file[at] != 0) ++at;
    ++at;
  }
  if (flags & has_crc) at += 2;
  if (at > file.size()) return std::nullopt;
  return at;
}

// An octal number of a tar header; nothing for anything else (GNU's base-256 sizes begin at 8 GiB).
std::optional<uint64_t> octal(std::span<const uint8_t> field) {
  uint64_t value = 0;
  size_t at = 0;
  while (at < field.size() && field[at] == ' ') ++at;
  const size_t first = at;
  for (; at < field.size() && field[at] >= '0' && field[at] <= '7'; ++at) value = value * 8 + (field[at] - '0');
  if (at == first || (at < field.size() && field[at] != 0 && field[at] != ' ')) return std::nullopt;
  return value;
}

std::string text(std::span<const uint8_t> field) {
  return {field.begin(), std::find(field.begin(), field.end(), uint8_t{0})};
}

// The header's checksum: the sum of its bytes with the checksum field itself read as blanks.
uint64_t tar_checksum(std::span<const uint8_t> header) {
  uint64_t sum = 8 * uint64_t{' '};
  for (size_t i = 0; i < header.size(); ++i) {
    if (i < 148 || i >= 156) sum += header[i];
  }
  return sum;
}

}  // namespace

uint32_t crc32(std::span<const uint8_t> bytes) {
  static const auto table = crc_tables();
  uint32_t crc = 0xFFFFFFFFu;
  size_t at = 0;
  for (; at + 8 <= bytes.size(); at += 8) {
    const uint32_t low = crc ^ little_endian32(bytes, at), high = little_endian32(bytes, at + 4);
    crc = table[7][low & 255] ^ table[6][low >> 8 & 255] ^ table[5][low >> 16 & 255] ^ table[4][low >> 24] ^
          table[3][high & 255] ^ table[2][high >> 8 & 255] ^ table[1][high >> 16 & 255] ^ table[0][high >> 24];
  }
  for (; at < bytes.size(); ++at) crc = (crc >> 8) ^ table[0][(crc ^ bytes[at]) & 255];
  return ~crc;
}

std::vector<uint8_t> gunzip(std::span<const uint8_t> file, std::string_view name, int64_t limit) {
  if (file.size() < 2 || file[0] != 0x1F || file[1] != 0x8B) {
    throw std::runtime_error(fmt::format("{}: not a gzip file", name));
  }
  const auto truncated = [&] {
    return std::runtime_error(fmt::format("{}: the gzip file is truncated at offset {}", name, file.size()));
  };
  if (file.size() < 18) throw truncated();
  if (file[2] != 8) throw std::runtime_error(fmt::format("{}: gzip method {} is not deflate", name, file[2]));
  const std::optional<size_t> header = gzip_header_size(file);
  if (!header || *header + 8 > file.size()) throw truncated();
  // The trailer stays on: this inflate wants 16 bits in hand for the last symbol, and reports corruption without them.
  const std::span<const uint8_t> deflated = file.subspan(*header);
  const int64_t size = little_endian32(file, file.size() - 4);
  // Deflate cannot do better than 1032 to 1, so a larger claim is a lie, found before any memory is taken for it.
  if (size > limit || size > static_cast<int64_t>(deflated.size()) * 1032 + 1032) {
    throw std::runtime_error(fmt::format(
        "{}: the gzip file is truncated or corrupt: at offset {} it claims {} unpacked bytes, of {} packed ones", name,
        file.size() - 4, size, deflated.size()));
  }
  std::vector<uint8_t> out;
  out.reserve(static_cast<size_t>(size) + 1);  // never a null pointer, also for an empty file
  out.resize(static_cast<size_t>(size));
  if (stb_inflate(deflated, out) != size || crc32(out) != little_endian32(file, file.size() - 8)) {
    throw std::runtime_error(
        fmt::format("{}: the gzip file is truncated or corrupt: its contents do not match the length and CRC-32 at "
                    "offset {}",
                    name, file.size() - 8));
  }
  return out;
}

std::map<std::string, std::span<const uint8_t>> tar_files(std::span<const uint8_t> tar, std::string_view name) {
  constexpr size_t block = 512;
  std::map<std::string, std::span<const uint8_t>> files;
  for (size_t at = 0; at + block <= tar.size();) {
    const std::span<const uint8_t> header = tar.subspan(at, block);
    if (std::all_of(header.begin(), header.end(), [](uint8_t byte) { return byte == 0; })) return files;
    const std::optional<uint64_t> size = octal(header.subspan(124, 12)), checksum = octal(header.subspan(148, 8));
    if (!size || !checksum || *checksum != tar_checksum(header)) {
      throw std::runtime_error(fmt::format("{}: corrupt tar header at offset {}", name, at));
    }
    at += block;
    if (*size > tar.size() - at) {
      throw std::runtime_error(fmt::format("{}: '{}' at offset {} has {} bytes, but the archive ends at {}", name,
                                           text(header.subspan(0, 100)), at, *size, tar.size()));
    }
    const uint8_t type = header[156];
    if (type == '0' || type == 0) files[text(header.subspan(0, 100))] = tar.subspan(at, *size);
    at += (*size + block - 1) / block * block;
  }
  throw std::runtime_error(fmt::format("{}: the tar archive is truncated at offset {}", name, tar.size()));
}

}  // namespace ranvier::data
