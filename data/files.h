// Whole files in and out, with errors that name the path and the reason.
#pragma once
#include <cstdint>
#include <filesystem>
#include <span>
#include <vector>

namespace ranvier::data {

/// All bytes of a regular file. Throws std::runtime_error naming the path if it cannot be read, is no regular file, or
/// holds more than `limit` bytes (checked before anything is allocated).
std::vector<uint8_t> read_file(const std::filesystem::path& path, int64_t limit = int64_t{1} << 30);

/// Writes a file beside `path` and renames it into place, so that `path` is always whole: the old bytes or the new.
/// Throws naming the path and the system's reason (full disk, unwritable folder); the half-written file is removed.
void write_file(const std::filesystem::path& path, std::span<const uint8_t> bytes);

/// Creates a folder and its parents; throws naming the path and the reason.
void make_folder(const std::filesystem::path& path);

}  // namespace ranvier::data
