// Safetensors files on disk: reading tensors one by one, writing them in one step, converting element types.
#include "engine/safetensors.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <bit>
#include <cerrno>
#include <cstring>
#include <nlohmann/json.hpp>
#include <set>
#include <system_error>

#include "engine/atomic_file.h"
#include "engine/error.h"

namespace ranvier::safetensors {

namespace {

std::string_view file_name_of(DType dtype) {
  switch (dtype) {
    case DType::f32:
      return "F32";
    case DType::f64:
      return "F64";
    case DType::bf16:
      return "BF16";
    case DType::f16:
      return "F16";
    case DType::i32:
      return "I32";
    case DType::i64:
      return "I64";
    case DType::u8:
      return "U8";
  }
  fail("an element type without a name in safetensors files");
}

/// JSON text of a string; names that are not UTF-8 cannot be said in JSON.
std::string json_text(const std::string& path, const std::string& text) {
  try {
    return nlohmann::json(text).dump();
  } catch (const nlohmann::json::exception&) {
    fail("{}: {} is not UTF-8 and cannot be written", path, in_quotes(text));
  }
}

std::string header_text(const std::string& path, const Metadata& metadata, const std::vector<const Source*>& order) {
  std::string text = "{";
  if (!metadata.empty()) {
    text += "\"__metadata__\":{";
    for (const auto& [key, value] : metadata)
      text += fmt::format("{}{}:{}", text.ends_with('{') ? "" : ",", json_text(path, key), json_text(path, value));
    text += "}";
  }
  uint64_t offset = 0;
  std::set<std::string_view> names = {"__metadata__"};
  for (const Source* source : order) {
    if (!names.insert(source->name).second || source->name.size() > max_name_bytes)
      fail("{}: a tensor cannot be named {}: the name is {}", path, in_quotes(source->name),
           source->name.size() > max_name_bytes ? "too long" : "taken");
    std::string shape;
    for (int64_t extent : source->type.shape) shape += fmt::format("{}{}", shape.empty() ? "" : ",", extent);
    const uint64_t end = offset + source->type.bytes();
    text += fmt::format("{}{}:{{\"dtype\":\"{}\",\"shape\":[{}],\"data_offsets\":[{},{}]}}", text == "{" ? "" : ",",
                        json_text(path, source->name), file_name_of(source->type.dtype), shape, offset, end);
    offset = end;
  }
  text += "}";
  text.append((8 - text.size() % 8) % 8, ' ');  // the data section starts on a multiple of 8
  if (text.size() > max_header_bytes) fail("{}: the header would have {} bytes", path, text.size());
  return text;
}

float from_half(uint16_t bits) {
  const uint32_t sign = static_cast<uint32_t>(bits & 0x8000u) << 16;
  const uint32_t exponent = bits >> 10 & 0x1Fu, mantissa = bits & 0x3FFu;
  if (exponent == 0) {  // zero and subnormals: mantissa * 2^-24
    const float magnitude = static_cast<float>(mantissa) * 0x1p-24f;
    return sign ? -magnitude : magnitude;
  }
  if (exponent == 0x1F) return std::bit_cast<float>(sign | 0x7F800000u | mantissa << 13);
  return std::bit_cast<float>(sign | (exponent + 112) << 23 | mantissa << 13);  // bias 127 - 15
}

template <class From, class To, class Convert>
void convert_as(const std::byte* from, std::byte* to, int64_t count, Convert convert_one) {
  for (int64_t i = 0; i < count; ++i) {
    From value;
    std::memcpy(&value, from + i * static_cast<int64_t>(sizeof(From)), sizeof value);
    const To result = static_cast<To>(convert_one(value));
    std::memcpy(to + i * static_cast<int64_t>(sizeof(To)), &result, sizeof result);
  }
}

template <class To>
void convert_to(DType from_type, const std::byte* from, std::byte* to, int64_t count) {
  switch (from_type) {
    case DType::f32:
      return convert_as<float, To>(from, to, count, [](float x) { return x; });
    case DType::f64:
      return convert_as<double, To>(from, to, count, [](double x) { return x; });
    case DType::f16:
      return convert_as<uint16_t, To>(from, to, count, from_half);
    case DType::bf16:
      return convert_as<uint16_t, To>(from, to, count,
                                      [](uint16_t x) { return std::bit_cast<float>(uint32_t{x} << 16); });
    default:
      fail("{} does not convert to a floating type", name_of(from_type));
  }
}

}  // namespace

File::File(std::string path) : path_(std::move(path)) {
  descriptor_ = ::open(path_.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK);  // O_NONBLOCK: a pipe must not wait here
  if (descriptor_ < 0) fail("{}: cannot be opened: {}", path_, std::generic_category().message(errno));
  try {
    struct stat status {};
    if (::fstat(descriptor_, &status) != 0) fail("{}: {}", path_, std::generic_category().message(errno));
    if (!S_ISREG(status.st_mode)) fail("{}: is not a regular file", path_);
    const auto bytes = static_cast<uint64_t>(status.st_size);
    std::array<std::byte, 8> start{};
    const std::span<std::byte> there = std::span(start).first(std::min<uint64_t>(8, bytes));
    read_at(0, there, "the header's length");
    const uint64_t length = header_length(there, bytes, path_);
    std::string text(length, '\0');
    read_at(8, std::as_writable_bytes(std::span(text)), "the header");
    header_ = parse_header(text, bytes - 8 - length, path_);
  } catch (...) {
    ::close(descriptor_);
    throw;
  }
}

File::~File() { ::close(descriptor_); }

void File::read_at(uint64_t offset, std::span<std::byte> to, const std::string& what) const {
  while (!to.empty()) {
    const ssize_t count = ::pread(descriptor_, to.data(), to.size(), static_cast<off_t>(offset));
    if (count < 0 && errno == EINTR) continue;
    if (count <= 0)
      fail("{}: cannot read {} at offset {}: {}", path_, what, offset,
           count < 0 ? std::generic_category().message(errno) : "the file ends there");
    to = to.subspan(static_cast<size_t>(count));
    offset += static_cast<uint64_t>(count);
  }
}

std::vector<std::byte> File::read(const Item& item) const {
  std::vector<std::byte> bytes(item.end - item.begin);
  read_at(header_.data + item.begin, bytes, "tensor " + in_quotes(item.name));
  return bytes;
}

void write(const std::string& path, const Metadata& metadata, std::span<const Source> sources) {
  std::vector<const Source*> order;
  size_t largest = 0;
  for (const Source& source : sources) {
    order.push_back(&source);
    largest = std::max(largest, source.type.bytes());
  }
  std::stable_sort(order.begin(), order.end(),
                   [](const Source* a, const Source* b) { return size_of(a->type.dtype) > size_of(b->type.dtype); });
  const std::string text = header_text(path, metadata, order);
  std::array<std::byte, 8> length{};
  for (size_t i = 0; i < 8; ++i) length[i] = static_cast<std::byte>(text.size() >> 8 * i);
  AtomicFile file(path);
  file.write(length, "the header's length");
  file.write(std::as_bytes(std::span(text)), "the header");
  std::vector<std::byte> buffer(largest);
  for (const Source* source : order) {
    source->copy(buffer.data());
    file.write(std::span(buffer).first(source->type.bytes()), "tensor " + in_quotes(source->name));
  }
  file.commit();
}

void convert(DType from_type, const std::byte* from, DType to_type, std::byte* to, int64_t count) {
  if (to_type == DType::f64) return convert_to<double>(from_type, from, to, count);
  if (to_type == DType::f32) return convert_to<float>(from_type, from, to, count);
  fail("{} does not convert to {}", name_of(from_type), name_of(to_type));
}

}  // namespace ranvier::safetensors
