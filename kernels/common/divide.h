// Division of indices by a number that is known at launch: a multiplication and a shift instead of a device's slow
// integer division.
#pragma once
#include <cstdint>

#include "kernels/common/hd.h"

namespace ranvier::kernels {

/// Quotients and remainders by `divisor` >= 1. Of uint32_t: dividends below 2^31, by the round-up method of Granlund
/// and Montgomery (Division by Invariant Integers using Multiplication, 1994, figure 4.1). Of uint64_t: plain division,
/// for the rare tensors of more elements.
template <class Index>
struct Divider;

template <>
struct Divider<uint32_t> {
  Divider() = default;
  explicit Divider(uint64_t d) : divisor(static_cast<uint32_t>(d)) {
    while ((uint64_t{1} << shift) < d) ++shift;
    multiplier = static_cast<uint32_t>((((uint64_t{1} << shift) - d) << 32) / d + 1);
  }
  RANVIER_HD_INLINE uint32_t quotient(uint32_t n) const {
    const auto high = static_cast<uint32_t>(uint64_t{n} * multiplier >> 32);
    return (high + n) >> shift;  // high <= n < 2^31: the sum fits
  }
  RANVIER_HD_INLINE uint32_t remainder(uint32_t n, uint32_t quotient) const { return n - quotient * divisor; }
  uint32_t divisor = 1, multiplier = 1, shift = 0;
};

template <>
struct Divider<uint64_t> {
  Divider() = default;
  explicit Divider(uint64_t d) : divisor(d) {}
  RANVIER_HD_INLINE uint64_t quotient(uint64_t n) const { return n / divisor; }
  RANVIER_HD_INLINE uint64_t remainder(uint64_t n, uint64_t quotient) const { return n - quotient * divisor; }
  uint64_t divisor = 1;
};

/// The most elements that kernels address by 32-bit indices.
inline constexpr int64_t most_narrow = (int64_t{1} << 31) - 1;

}  // namespace ranvier::kernels
