// The safetensors file format: 8 bytes of header length, a JSON header, then the tensors' bytes without holes.
#pragma once
#include <cstddef>
#include <cstdint>
#include <functional>
#include <map>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "engine/type.h"

/// Source of the format: https://github.com/huggingface/safetensors, README, "Format". Everything in a file is taken
/// for hostile: each defect is an Error of one line that names the file, the tensor and, where there is one, the
/// offset.
namespace ranvier::safetensors {

using Metadata = std::map<std::string, std::string>;

constexpr uint64_t max_header_bytes = 100'000'000;
constexpr size_t max_name_bytes = 1024;

/// One tensor of a file. The element types are F32 F64 F16 BF16 I32 I64 U8.
struct Item {
  std::string name;
  Type type;
  uint64_t begin = 0, end = 0;  ///< bytes from the start of the data section
};

/// All that a file says of itself.
struct Header {
  Metadata metadata;
  std::vector<Item> items;  ///< in the order of their data
  uint64_t data = 0;        ///< where the data section starts in the file

  /// Null where there is none of that name.
  const Item* find(std::string_view name) const;
};

/// Checks a whole file in memory; `source` names it in errors.
Header parse(std::span<const std::byte> file, const std::string& source);
/// Its two steps: the header's length from the first 8 bytes of a file of `file_bytes`, and the header's text, after
/// which `data_bytes` follow.
uint64_t header_length(std::span<const std::byte> start, uint64_t file_bytes, const std::string& source);
Header parse_header(std::string_view text, uint64_t data_bytes, const std::string& source);

/// An open file: its header is read and checked at once, tensors one by one on demand.
class File {
 public:
  /// Throws Error where the file cannot be read or is not whole.
  explicit File(std::string path);
  ~File();
  File(const File&) = delete;
  File& operator=(const File&) = delete;

  const std::string& path() const { return path_; }
  const Header& header() const { return header_; }
  /// The bytes of a tensor as they stand in the file.
  std::vector<std::byte> read(const Item&) const;

 private:
  void read_at(uint64_t offset, std::span<std::byte> to, const std::string& what) const;

  std::string path_;
  int descriptor_ = -1;
  Header header_;
};

/// A tensor to be written: `copy` puts its bytes at the given host address.
struct Source {
  std::string name;
  Type type;
  std::function<void(std::byte* to)> copy;
};

/// Writes a file in one step (see AtomicFile). Wider element types come first, so that every tensor is aligned; equal
/// contents give equal bytes. Throws Error naming the path and the reason; an earlier file then stays as it is.
void write(const std::string& path, const Metadata&, std::span<const Source>);

/// `name` in quotes, fit for one line of a message whatever bytes a file put into it.
std::string in_quotes(std::string_view name);

/// `count` floating elements (f32, f64, f16, bf16) at `from` as f32 or f64 at `to`; exact but for f64 to f32, which
/// rounds to nearest.
void convert(DType from_type, const std::byte* from, DType to_type, std::byte* to, int64_t count);

}  // namespace ranvier::safetensors
