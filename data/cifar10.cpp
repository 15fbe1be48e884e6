// Reads and writes the binary release; folder and archive differ only in where a file's bytes come from.
#include "data/cifar10.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <charconv>
#include <functional>
#include <map>
#include <optional>
#include <stdexcept>

#include "data/archive.h"
#include "data/batches.h"
#include "data/files.h"
#include "data/image_folder.h"
#include "kernels/common/parallel.h"

namespace ranvier::data {
namespace {

namespace fs = std::filesystem;

constexpr int64_t plane = 32 * 32;
constexpr std::array<const char*, 5> train_files = {"data_batch_1.bin", "data_batch_2.bin", "data_batch_3.bin",
                                                    "data_batch_4.bin", "data_batch_5.bin"};
constexpr const char* test_file = "test_batch.bin";
constexpr const char* classes_file = "batches.meta.txt";
constexpr const char* counts_file = "counts.txt";

// A file of the release: its bytes and the name that errors show.
struct Source {
  std::string name;
  std::span<const uint8_t> bytes;
  std::vector<uint8_t> owned;
};
// Gives a file, or nothing if there is none; a file above `limit` bytes is refused unread.
using Open = std::function<std::optional<Source>(const std::string& file, int64_t limit)>;

[[noreturn]] void wrong_size(std::string_view name, int64_t size, int64_t records) {
  const int64_t expected = records * cifar10_record_bytes;
  if (size < expected) {
    throw std::runtime_error(
        fmt::format("{}: truncated at offset {} in record {}: {} records of {} bytes make {} bytes", name, size,
                    size / cifar10_record_bytes, records, cifar10_record_bytes, expected));
  }
  throw std::runtime_error(fmt::format("{}: {} bytes too many from offset {}: {} records of {} bytes make {} bytes",
                                       name, size - expected, expected, records, cifar10_record_bytes, expected));
}

std::vector<std::string> lines(std::span<const uint8_t> bytes) {
  std::vector<std::string> result(1);
  for (const uint8_t byte : bytes) {
    if (byte == '\n') {
      result.emplace_back();
    } else if (byte != '\r') {
      result.back() += static_cast<char>(byte);
    }
  }
  return result;
}

// Lines of "file number".
std::map<std::string, int64_t> parse_counts(const Source& source) {
  std::map<std::string, int64_t> result;
  int64_t number = 0;
  for (const std::string& line : lines(source.bytes)) {
    ++number;
    if (line.empty()) continue;
    const size_t blank = line.find(' ');
    int64_t count = -1;
    if (blank != std::string::npos) {
      const char* end = line.data() + line.size();
      const auto [stop, code] = std::from_chars(line.data() + blank + 1, end, count);
      if (code != std::errc{} || stop != end) count = -1;
    }
    if (count < 0 || count > INT32_MAX) {
      throw std::runtime_error(fmt::format("{}: line {} is not '<file> <records>'", source.name, number));
    }
    result[line.substr(0, blank)] = count;
  }
  return result;
}

Source required(const Open& open, const std::string& file, int64_t limit, const std::string& where) {
  std::optional<Source> source = open(file, limit);
  if (!source) throw std::runtime_error(fmt::format("{}: {} is missing", where, file));
  return std::move(*source);
}

Splits read_release(const Open& open, const std::string& where) {
  constexpr int64_t text_limit = 1 << 16;
  std::map<std::string, int64_t> counts;
  if (const std::optional<Source> source = open(counts_file, text_limit)) counts = parse_counts(*source);
  const Source names = required(open, classes_file, text_limit, where);
  Splits splits;
  splits.train.classes = parse_cifar10_classes(names.bytes, names.name);
  splits.test.classes = splits.train.classes;
  const auto read = [&](const char* file, Dataset& into) {
    const auto found = counts.find(file);
    const int64_t records = found == counts.end() ? cifar10_batch_records : found->second;
    const Source source = required(open, file, records * cifar10_record_bytes, where);
    parse_cifar10_batch(source.bytes, source.name, records, into);
  };
  for (const char* file : train_files) read(file, splits.train);
  read(test_file, splits.test);
  if (splits.train.size() == 0 || splits.test.size() == 0) {
    throw std::runtime_error(
        fmt::format("{}: no images ({} training, {} test)", where, splits.train.size(), splits.test.size()));
  }
  splits.train.name = splits.test.name =
      splits.train.classes == cifar10_classes() ? "CIFAR-10" : "binary batches of " + where;
  splits.source = where;
  set_statistics(splits);
  return splits;
}

Splits read_folder(const fs::path& folder) {
  return read_release(
      [&](const std::string& file, int64_t limit) -> std::optional<Source> {
        const fs::path path = folder / file;
        std::error_code code;
        if (!fs::exists(path, code)) return std::nullopt;
        const int64_t size = static_cast<int64_t>(fs::file_size(path, code));
        if (!code && size > limit && limit % cifar10_record_bytes == 0) {
          wrong_size(path.string(), size, limit / cifar10_record_bytes);
        }
        Source source{path.string(), {}, read_file(path, limit)};
        source.bytes = source.owned;
        return source;
      },
      folder.string());
}

std::vector<uint8_t> batch_bytes(const Dataset& data, int64_t begin, int64_t end) {
  std::vector<uint8_t> bytes(static_cast<size_t>((end - begin) * cifar10_record_bytes));
  uint8_t* to = bytes.data();
  for (int64_t i = begin; i < end; ++i) {
    *to++ = static_cast<uint8_t>(data.labels[static_cast<size_t>(i)]);
    const std::span<const uint8_t> image = data.image(i);
    for (int64_t c = 0; c < 3; ++c) {
      for (int64_t p = 0; p < plane; ++p) *to++ = image[static_cast<size_t>(3 * p + c)];
    }
  }
  return bytes;
}

void check_writable(const Dataset& data) {
  if (data.height != 32 || data.width != 32 || data.channels != 3) {
    throw std::runtime_error(fmt::format("{}: the CIFAR-10 layout holds 32x32x3 images, not {}x{}x{}", data.name,
                                         data.height, data.width, data.channels));
  }
  if (data.classes.empty() || data.classes.size() > 256) {
    throw std::runtime_error(
        fmt::format("{}: the CIFAR-10 layout holds 1 to 256 classes, not {}", data.name, data.classes.size()));
  }
  for (const std::string& name : data.classes) {
    if (name.empty() || name.find_first_of("\r\n") != std::string::npos) {
      throw std::runtime_error(fmt::format("{}: class name '{}' does not fit on a line", data.name, name));
    }
  }
}

}  // namespace

void parse_cifar10_batch(std::span<const uint8_t> bytes, std::string_view name, int64_t records, Dataset& into) {
  const int64_t size = static_cast<int64_t>(bytes.size());
  if (size != records * cifar10_record_bytes) wrong_size(name, size, records);
  for (int64_t r = 0; r < records; ++r) {
    const size_t label = bytes[static_cast<size_t>(r * cifar10_record_bytes)];
    if (label >= into.classes.size()) {
      throw std::runtime_error(fmt::format("{}: label {} at offset {} (record {}), expected 0 to {}", name, label,
                                           r * cifar10_record_bytes, r, into.classes.size() - 1));
    }
  }
  const size_t first = into.labels.size();
  into.labels.resize(first + static_cast<size_t>(records));
  into.images.resize(into.labels.size() * static_cast<size_t>(3 * plane));
  const int64_t shards = kernels::shard_count(records, 512);
  kernels::parallel_for(shards, [&](int64_t shard) {
    const int64_t end = kernels::shard_begin(records, shards, shard + 1);
    for (int64_t r = kernels::shard_begin(records, shards, shard); r < end; ++r) {
      const uint8_t* record = bytes.data() + r * cifar10_record_bytes;
      uint8_t* to = into.images.data() + (static_cast<int64_t>(first) + r) * 3 * plane;
      into.labels[first + static_cast<size_t>(r)] = record[0];
      for (int64_t p = 0; p < plane; ++p) {
        for (int64_t c = 0; c < 3; ++c) to[3 * p + c] = record[1 + c * plane + p];
      }
    }
  });
}

std::vector<std::string> parse_cifar10_classes(std::span<const uint8_t> bytes, std::string_view name) {
  std::vector<std::string> result;
  for (const std::string& line : lines(bytes)) {
    if (line.empty()) continue;
    if (std::find(result.begin(), result.end(), line) != result.end()) {
      throw std::runtime_error(fmt::format("{}: class '{}' is named twice", name, line));
    }
    result.push_back(line);
  }
  if (result.size() < 2 || result.size() > 256) {
    throw std::runtime_error(fmt::format("{}: {} class names, expected 2 to 256", name, result.size()));
  }
  return result;
}

Splits parse_cifar10_archive(std::span<const uint8_t> bytes, std::string_view name) {
  return parse_cifar10_release(gunzip(bytes, name), name);
}

Splits parse_cifar10_release(std::span<const uint8_t> tar, std::string_view name) {
  std::map<std::string, Source> files;
  for (const auto& [path, content] : tar_files(tar, name)) {
    const std::string file = fs::path(path).filename().string();
    files[file] = Source{fmt::format("{}:{}", name, path), content, {}};
  }
  const Open open = [&](const std::string& file, int64_t) -> std::optional<Source> {
    const auto found = files.find(file);
    if (found == files.end()) return std::nullopt;
    return found->second;
  };
  return read_release(open, std::string(name));
}

fs::path cifar10_batches_folder(const fs::path& folder) {
  std::error_code code;
  for (const fs::path& place : {folder, folder / cifar10_folder_name}) {
    for (const char* file : {train_files[0], test_file, classes_file}) {
      if (fs::exists(place / file, code)) return place;
    }
  }
  return {};
}

Splits cifar10(const fs::path& path) {
  std::error_code code;
  if (!fs::is_directory(path, code)) return parse_cifar10_archive(read_file(path), path.string());
  const fs::path folder = cifar10_batches_folder(path);
  if (folder.empty()) {
    throw std::runtime_error(fmt::format("{}: no CIFAR-10 batch in it (data_batch_1.bin and so on)", path.string()));
  }
  return read_folder(folder);
}

Dataset cifar10(const fs::path& path, Split split) {
  Splits splits = cifar10(path);
  return split == Split::train ? std::move(splits.train) : std::move(splits.test);
}

void write_cifar10(const fs::path& folder, const Splits& splits) {
  check_writable(splits.train);
  check_writable(splits.test);
  if (splits.train.classes != splits.test.classes) {
    throw std::runtime_error(fmt::format("{}: training and test classes differ", splits.train.name));
  }
  make_folder(folder);
  std::string counts, classes;
  bool official = true;
  const auto write = [&](const char* file, const Dataset& data, int64_t begin, int64_t end) {
    write_file(folder / file, batch_bytes(data, begin, end));
    counts += fmt::format("{} {}\n", file, end - begin);
    official = official && end - begin == cifar10_batch_records;
  };
  for (int64_t b = 0; b < 5; ++b) {
    const int64_t size = splits.train.size();
    write(train_files[static_cast<size_t>(b)], splits.train, kernels::shard_begin(size, 5, b),
          kernels::shard_begin(size, 5, b + 1));
  }
  write(test_file, splits.test, 0, splits.test.size());
  const auto bytes = [](const std::string& text) {
    return std::span(reinterpret_cast<const uint8_t*>(text.data()), text.size());
  };
  std::error_code code;
  if (official) {
    fs::remove(folder / counts_file, code);
  } else {
    write_file(folder / counts_file, bytes(counts));
  }
  for (const std::string& name : splits.train.classes) classes += name + "\n";
  write_file(folder / classes_file, bytes(classes));
}

Splits import_image_folder(const fs::path& from, const fs::path& to) {
  Splits splits = image_folder(from);
  splits.train = shuffled(splits.train, 0);
  write_cifar10(to, splits);
  return splits;
}

}  // namespace ranvier::data
