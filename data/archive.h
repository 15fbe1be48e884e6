// Reads a .tar.gz held in memory, so that the official archive needs neither an unpacked copy nor a tar program.
#pragma once
#include <cstdint>
#include <map>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace ranvier::data {

/// Unpacks one gzip member (RFC 1952) and checks its length and CRC-32. Throws std::runtime_error that begins with
/// `name` when the bytes are no gzip file, truncated, corrupt, or would unpack to more than `limit` bytes.
std::vector<uint8_t> gunzip(std::span<const uint8_t> file, std::string_view name, int64_t limit = int64_t{1} << 30);

/// Regular files of a tar archive (POSIX ustar, GNU): name to the bytes inside `tar`. Throws std::runtime_error that
/// begins with `name` and gives the offset of a header that is corrupt or of a file that reaches past the end.
std::map<std::string, std::span<const uint8_t>> tar_files(std::span<const uint8_t> tar, std::string_view name);

/// CRC-32 of RFC 1952 (polynomial EDB88320, reflected).
uint32_t crc32(std::span<const uint8_t> bytes);

}  // namespace ranvier::data
