// The official CIFAR-10 binary release: five training batches, one test batch and the class names.
#pragma once
#include <cstdint>
#include <filesystem>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "data/dataset.h"

namespace ranvier::data {

/// One record: a label byte, then 1024 red, 1024 green and 1024 blue bytes in row-major order (Krizhevsky 2009).
inline constexpr int64_t cifar10_record_bytes = 1 + 3 * 32 * 32;
/// Records of each batch file of the official release.
inline constexpr int64_t cifar10_batch_records = 10'000;

/// Reads the binary release from a folder that holds `data_batch_{1..5}.bin`, `test_batch.bin` and `batches.meta.txt`,
/// or holds them in `cifar-10-batches-bin/`, or from the official archive `cifar-10-binary.tar.gz` itself (unpacked in
/// memory). Pixels become (N, 32, 32, 3). Every batch must have 10,000 records, unless a file `counts.txt` beside it
/// (written by write_cifar10 for data sets of another size) says how many. Throws std::runtime_error naming the file
/// and the offset: a missing, truncated or oversized batch, a label that is none of the classes.
Splits cifar10(const std::filesystem::path& path);

/// One split of it; mean and std are those of the training pixels in both cases.
Dataset cifar10(const std::filesystem::path& path, Split split);

/// Writes the official layout into `folder` (created if missing), each file whole or not at all. Data sets whose size
/// is not 50,000 + 10,000 get a `counts.txt` too. Throws if an image is not 32x32x3, there are more than 256 classes,
/// or a file cannot be written.
void write_cifar10(const std::filesystem::path& folder, const Splits& splits);

/// Turns an image folder into the official binary layout and returns what it wrote. The training images are shuffled
/// with seed 0, as the official release is, so that every batch holds every class.
Splits import_image_folder(const std::filesystem::path& from, const std::filesystem::path& to);

/// Appends the records in `bytes` to `into`, whose `classes` are set. `name` begins every error message; `records` is
/// the number expected.
void parse_cifar10_batch(std::span<const uint8_t> bytes, std::string_view name, int64_t records, Dataset& into);

/// Class names, one a line, blank lines passed over; at least 2 and at most 256, each once.
std::vector<std::string> parse_cifar10_classes(std::span<const uint8_t> bytes, std::string_view name);

/// Reads the official archive from memory, as cifar10() does from a file.
Splits parse_cifar10_archive(std::span<const uint8_t> bytes, std::string_view name);

/// The same from the archive once unzipped, a tar of the release.
Splits parse_cifar10_release(std::span<const uint8_t> tar, std::string_view name);

/// Where cifar10() would read a folder's batches from: the folder, its `cifar-10-batches-bin`, or an empty path if
/// neither holds a batch.
std::filesystem::path cifar10_batches_folder(const std::filesystem::path& folder);

/// The name of the official archive, `cifar-10-binary.tar.gz`, and of the folder in it, `cifar-10-batches-bin`.
inline constexpr const char* cifar10_archive_name = "cifar-10-binary.tar.gz";
inline constexpr const char* cifar10_folder_name = "cifar-10-batches-bin";

}  // namespace ranvier::data
