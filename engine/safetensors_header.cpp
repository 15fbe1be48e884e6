// Reading and checking of the safetensors header: a SAX handler, so that no hostile JSON is ever built as a tree.
#include <algorithm>
#include <cstring>
#include <limits>
#include <nlohmann/json.hpp>
#include <optional>
#include <set>

#include "engine/error.h"
#include "engine/safetensors.h"

namespace ranvier::safetensors {
namespace {

constexpr std::pair<std::string_view, DType> type_names[] = {
    {"F32", DType::f32}, {"F64", DType::f64}, {"F16", DType::f16}, {"BF16", DType::bf16},
    {"I32", DType::i32}, {"I64", DType::i64}, {"U8", DType::u8}};

/// Takes exactly the shape of a safetensors header: an object of objects, of which one may hold strings and the others
/// hold "dtype", "shape" and "data_offsets". Anything else is refused at the token that shows it.
class HeaderHandler : public nlohmann::json_sax<nlohmann::json> {
 public:
  HeaderHandler(const std::string& source, uint64_t data_bytes, Header& header)
      : source_(source), data_bytes_(data_bytes), header_(header) {}

  bool null() override { unexpected("null"); }
  bool boolean(bool) override { unexpected("true or false"); }
  bool number_integer(number_integer_t value) override { unexpected(fmt::format("the negative number {}", value)); }
  bool number_float(number_float_t, const string_t& text) override {
    unexpected(fmt::format("{}, which is no 64-bit count", in_quotes(text)));
  }
  bool binary(binary_t&) override { unexpected("binary data"); }

  bool number_unsigned(number_unsigned_t value) override {
    if (level_ != Level::list) unexpected("a number");
    if (value > static_cast<uint64_t>(std::numeric_limits<int64_t>::max()))
      bad(fmt::format("{} holds {}, beyond the 64-bit range", field_, value));
    std::vector<uint64_t>& list = *this->list();
    if (list.size() == (field_ == "shape" ? static_cast<size_t>(Shape::max_rank) : 2))
      bad(fmt::format("{} holds more than {} numbers", field_, list.size()));
    list.push_back(value);
    return true;
  }

  bool string(string_t& text) override {
    if (level_ == Level::metadata) {
      if (!header_.metadata.emplace(field_, text).second) bad(fmt::format("{} is there twice", in_quotes(field_)));
    } else if (level_ == Level::item && field_ == "dtype") {
      const auto* known = std::find_if(std::begin(type_names), std::end(type_names),
                                       [&](const auto& type) { return type.first == text; });
      if (known == std::end(type_names))
        bad(fmt::format("element type {} is unknown here; known are F32 F64 F16 BF16 I32 I64 U8", in_quotes(text)));
      dtype_ = known->second;
    } else {
      unexpected(fmt::format("the text {}", in_quotes(text)));
    }
    return true;
  }

  bool start_object(std::size_t) override {
    if (level_ == Level::before) {
      level_ = Level::top;
    } else if (level_ == Level::top) {
      level_ = name_ == "__metadata__" ? Level::metadata : Level::item;
      dtype_.reset(), shape_.reset(), offsets_.reset();
    } else {
      unexpected("an object");
    }
    return true;
  }

  bool key(string_t& key) override {
    if (level_ == Level::top) {
      if (key.size() > max_name_bytes) fail("{}: a tensor's name has {} bytes, too many", source_, key.size());
      if (!names_.insert(key).second) fail("{}: tensor {} is there twice", source_, in_quotes(key));
      name_ = key;
    } else if (level_ == Level::item) {
      const bool again = key == "dtype"          ? dtype_.has_value()
                         : key == "shape"        ? shape_.has_value()
                         : key == "data_offsets" ? offsets_.has_value()
                                                 : (bad(fmt::format("unknown key {}", in_quotes(key))), false);
      if (again) bad(key + " is there twice");
    }
    field_ = key;
    return true;
  }

  bool end_object() override {
    if (level_ == Level::item) finish_item();
    level_ = level_ == Level::top ? Level::after : Level::top;
    return true;
  }

  bool start_array(std::size_t) override {
    if (level_ != Level::item || field_ == "dtype") unexpected("a list");
    level_ = Level::list;
    list().emplace();
    return true;
  }
  bool end_array() override {
    level_ = Level::item;
    return true;
  }

  bool parse_error(std::size_t position, const std::string& token, const nlohmann::detail::exception&) override {
    fail("{}: the header is not JSON at offset {}, near {}", source_, 8 + position - std::min<size_t>(position, 1),
         in_quotes(token));
  }

 private:
  enum class Level { before, top, metadata, item, list, after };

  std::optional<std::vector<uint64_t>>& list() { return field_ == "shape" ? shape_ : offsets_; }

  [[noreturn]] void bad(const std::string& what) const {
    fail("{}: {}{}: {}", source_, name_ == "__metadata__" ? "" : "tensor ", in_quotes(name_), what);
  }
  [[noreturn]] void unexpected(const std::string& what) const {
    if (level_ == Level::before) fail("{}: the header is {}, not an object", source_, what);
    if (level_ == Level::top) bad(fmt::format("described by {}, not by an object", what));
    bad(fmt::format("{} does not take {}", in_quotes(field_), what));
  }

  void finish_item() {
    if (!dtype_ || !shape_ || !offsets_)
      bad(fmt::format("{} is missing", !dtype_ ? "dtype" : !shape_ ? "shape" : "data_offsets"));
    if (offsets_->size() != 2) bad(fmt::format("data_offsets holds {} numbers instead of 2", offsets_->size()));
    Item item{name_, {*dtype_, {}}, (*offsets_)[0], (*offsets_)[1]};
    int64_t bytes = static_cast<int64_t>(size_of(*dtype_));
    bool empty = false;
    for (uint64_t extent : *shape_) {
      item.type.shape.push_back(static_cast<int64_t>(extent));
      empty |= extent == 0;
      // an extent of 0 counts as 1 here: the product of the others must not overflow either
      if (__builtin_mul_overflow(bytes, std::max<int64_t>(1, static_cast<int64_t>(extent)), &bytes))
        bad("its shape has more elements than 64 bits can count");
    }
    if (empty) bytes = 0;
    if (item.begin > item.end) bad(fmt::format("begins at offset {}, after its end at {}", item.begin, item.end));
    if (item.end > data_bytes_)
      bad(fmt::format("ends at offset {} of the data, which has {} bytes", item.end, data_bytes_));
    if (item.end - item.begin != static_cast<uint64_t>(bytes))
      bad(fmt::format("{} takes {} bytes, its offsets {} to {} hold {}", to_string(item.type), bytes, item.begin,
                      item.end, item.end - item.begin));
    header_.items.push_back(std::move(item));
  }

  const std::string& source_;
  uint64_t data_bytes_;
  Header& header_;
  Level level_ = Level::before;
  std::set<std::string> names_;
  std::string name_, field_;
  std::optional<DType> dtype_;
  std::optional<std::vector<uint64_t>> shape_, offsets_;
};

/// The tensors must cover the data section exactly.
void check_cover(const std::vector<Item>& items, uint64_t data_bytes, const std::string& source) {
  uint64_t covered = 0;
  const Item* previous = nullptr;
  for (const Item& item : items) {
    if (item.begin < covered)
      fail("{}: tensor {} at offset {} overlaps tensor {}, which ends at {}", source, in_quotes(item.name), item.begin,
           in_quotes(previous->name), covered);
    if (item.begin > covered)
      fail("{}: no tensor covers the data from offset {} to tensor {} at {}", source, covered, in_quotes(item.name),
           item.begin);
    covered = item.end;
    previous = &item;
  }
  if (covered != data_bytes)
    fail("{}: {} bytes follow the last tensor, which ends at offset {}", source, data_bytes - covered, covered);
}

}  // namespace

std::string in_quotes(std::string_view name) {
  constexpr size_t longest = 120;
  std::string text = "'";
  for (unsigned char c : name.substr(0, longest)) {
    if (c < 0x20 || c == 0x7F)
      text += fmt::format("\\x{:02x}", c);
    else
      text += static_cast<char>(c);
  }
  return text + (name.size() > longest ? "'..." : "'");
}

const Item* Header::find(std::string_view name) const {
  const auto it = std::find_if(items.begin(), items.end(), [&](const Item& item) { return item.name == name; });
  return it == items.end() ? nullptr : &*it;
}

Header parse_header(std::string_view text, uint64_t data_bytes, const std::string& source) {
  if (!text.starts_with('{')) fail("{}: the header does not start with a brace at offset 8", source);
  Header header;
  header.data = 8 + text.size();
  HeaderHandler handler(source, data_bytes, header);
  nlohmann::json::sax_parse(text.begin(), text.end(), &handler);
  std::sort(header.items.begin(), header.items.end(), [](const Item& a, const Item& b) {
    return a.begin != b.begin ? a.begin < b.begin : a.end != b.end ? a.end < b.end : a.name < b.name;
  });
  check_cover(header.items, data_bytes, source);
  return header;
}

uint64_t header_length(std::span<const std::byte> start, uint64_t file_bytes, const std::string& source) {
  if (start.size() < 8) fail("{}: {} bytes are too few for a safetensors file", source, file_bytes);
  uint64_t length = 0;
  for (int i = 7; i >= 0; --i) length = length << 8 | std::to_integer<uint64_t>(start[static_cast<size_t>(i)]);
  if (length > max_header_bytes) fail("{}: a header of {} bytes at offset 0 is beyond any sense", source, length);
  if (length > file_bytes - 8)
    fail("{}: the header of {} bytes goes beyond the end of the file at {}", source, length, file_bytes);
  return length;
}

Header parse(std::span<const std::byte> file, const std::string& source) {
  const uint64_t length = header_length(file.first(std::min<size_t>(file.size(), 8)), file.size(), source);
  return parse_header({reinterpret_cast<const char*>(file.data()) + 8, static_cast<size_t>(length)},
                      file.size() - 8 - length, source);
}

}  // namespace ranvier::safetensors
