// Names, sizes and printing of element types and shapes.
#include "engine/type.h"

#include "engine/error.h"

namespace ranvier {
namespace {
struct DTypeInfo {
  std::string_view name;
  size_t bytes;
  bool floating;
};
constexpr DTypeInfo dtypes[] = {{"f32", 4, true},  {"f64", 8, true},  {"bf16", 2, true}, {"f16", 2, true},
                                {"i32", 4, false}, {"i64", 8, false}, {"u8", 1, false}};
}  // namespace

size_t size_of(DType dtype) { return dtypes[static_cast<int>(dtype)].bytes; }
std::string_view name_of(DType dtype) { return dtypes[static_cast<int>(dtype)].name; }
bool is_floating(DType dtype) { return dtypes[static_cast<int>(dtype)].floating; }

DType dtype_named(std::string_view name) {
  for (size_t i = 0; i < std::size(dtypes); ++i)
    if (dtypes[i].name == name) return static_cast<DType>(i);
  fail("unknown element type '{}'; known are f32 f64 bf16 f16 i32 i64 u8", name);
}

Shape::Shape(std::initializer_list<int64_t> extents) : Shape(std::span(extents.begin(), extents.size())) {}

Shape::Shape(std::span<const int64_t> extents) {
  for (int64_t extent : extents) push_back(extent);
}

int64_t Shape::numel() const {
  int64_t product = 1;
  for (int64_t extent : *this) product *= extent;
  return product;
}

void Shape::push_back(int64_t extent) {
  if (rank_ == max_rank) fail("a tensor has at most {} axes", max_rank);
  if (extent < 0) fail("a tensor has no negative extent, got {}", extent);
  extents_[rank_++] = extent;
}

std::string to_string(const Shape& shape) {
  std::string text = "(";
  for (int axis = 0; axis < shape.rank(); ++axis) text += fmt::format("{}{}", axis ? ", " : "", shape[axis]);
  return text + ")";
}

std::string to_string(const Type& type) { return std::string(name_of(type.dtype)) + to_string(type.shape); }

}  // namespace ranvier
