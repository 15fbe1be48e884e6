// Element types, shapes and their product: what is known of a tensor before any memory exists.
#pragma once
#include <array>
#include <cstdint>
#include <initializer_list>
#include <span>
#include <string>
#include <string_view>
#include <type_traits>

#include "kernels/common/half.h"

namespace ranvier {

/// Element types. bf16 and f16 exist on CUDA only. Eight bytes wide, so that a Type has no padding: it is compared and
/// hashed as bytes where it is part of an op's attributes.
enum class DType : int64_t { f32, f64, bf16, f16, i32, i64, u8 };

/// Bytes of one element.
size_t size_of(DType);
/// "f32", "i64", ...
std::string_view name_of(DType);
/// The type of that name; throws Error on an unknown one.
DType dtype_named(std::string_view name);
/// True for f32, f64, bf16 and f16: types that carry gradients.
bool is_floating(DType);

/// The DType of a C++ element type.
template <class T>
constexpr DType dtype_of() {
  if constexpr (std::is_same_v<T, float>)
    return DType::f32;
  else if constexpr (std::is_same_v<T, double>)
    return DType::f64;
  else if constexpr (std::is_same_v<T, kernels::bf16>)
    return DType::bf16;
  else if constexpr (std::is_same_v<T, kernels::f16>)
    return DType::f16;
  else if constexpr (std::is_same_v<T, int32_t>)
    return DType::i32;
  else if constexpr (std::is_same_v<T, int64_t>)
    return DType::i64;
  else {
    static_assert(std::is_same_v<T, uint8_t>, "no DType for this element type");
    return DType::u8;
  }
}

/// Extents of a tensor, outermost first, at most six. Rank 0 is a scalar of one element; an extent may be 0.
class Shape {
 public:
  static constexpr int max_rank = 6;
  Shape() = default;
  Shape(std::initializer_list<int64_t> extents);
  explicit Shape(std::span<const int64_t> extents);

  int rank() const { return rank_; }
  /// Extent of axis `axis`; negative axes count from the end.
  int64_t operator[](int axis) const { return extents_[axis < 0 ? axis + rank_ : axis]; }
  int64_t& operator[](int axis) { return extents_[axis < 0 ? axis + rank_ : axis]; }
  int64_t numel() const;
  const int64_t* begin() const { return extents_.data(); }
  const int64_t* end() const { return extents_.data() + rank_; }
  /// Appends an extent; throws Error beyond max_rank.
  void push_back(int64_t extent);
  bool operator==(const Shape&) const = default;

 private:
  std::array<int64_t, max_rank> extents_{};  // unused extents stay 0, so that == and hashing see equal bytes
  int32_t rank_ = 0;
  int32_t unused_ = 0;
};

/// "(64, 32, 32, 3)".
std::string to_string(const Shape&);

/// Element type and shape.
struct Type {
  DType dtype = DType::f32;
  Shape shape;
  size_t bytes() const { return size_of(dtype) * static_cast<size_t>(shape.numel()); }
  bool operator==(const Type&) const = default;
};

static_assert(std::has_unique_object_representations_v<Type>);

/// "f32(64, 10)".
std::string to_string(const Type&);

/// Calls `body.operator()<T>()` with the C++ type of a CPU floating dtype (f32 or f64).
template <class Body>
decltype(auto) dispatch_floating(DType dtype, Body&& body) {
  if (dtype == DType::f64) return body.template operator()<double>();
  return body.template operator()<float>();
}

}  // namespace ranvier
