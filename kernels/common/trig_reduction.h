// Exact reduction of huge angles modulo pi / 2 (Payne and Hanek 1983), for sine and cosine beyond the fast range.
#pragma once
#include <cstdint>

#include "kernels/common/hd.h"

namespace ranvier::kernels::math {

/// x = quadrant * pi / 2 + rest (modulo 2 pi), |rest| <= pi / 4.
struct Angle {
  uint32_t quadrant;  ///< modulo 4
  double rest;        ///< rounded once from 100 bits or more
};

/// Words of 32 bits of 2 / pi, most significant first, after one word of zeros for the integer part.
RANVIER_HD inline uint32_t two_over_pi_word(int index) {
  constexpr uint32_t words[42] = {0u,          0xa2f9836eu, 0x4e441529u, 0xfc2757d1u, 0xf534ddc0u, 0xdb629599u,
                                  0x3c439041u, 0xfe5163abu, 0xdebbc561u, 0xb7246e3au, 0x424dd2e0u, 0x06492eeau,
                                  0x09d1921cu, 0xfe1deb1cu, 0xb129a73eu, 0xe88235f5u, 0x2ebb4484u, 0xe99c7026u,
                                  0xb45f7e41u, 0x3991d639u, 0x835339f4u, 0x9c845f8bu, 0xbdf9283bu, 0x1ff897ffu,
                                  0xde05980fu, 0xef2f118bu, 0x5a0a6d1fu, 0x6d367ecfu, 0x27cb09b7u, 0x4f463f66u,
                                  0x9e5fea2du, 0x7527bac7u, 0xebe5f17bu, 0x3d0739f7u, 0x8a5292eau, 0x6bfb5fb1u,
                                  0x1f8d5d08u, 0x56033046u, 0xfc7b6babu, 0xf0cfbc20u, 0x9af4361du, 0xa9e39161u};
  return words[index];
}

/// Bits of |x| * 2 / pi at weights 2^31 ... 2^-192: limb 6 is the integer part modulo 2^32, limb 0 the least.
RANVIER_HD inline void quarter_turns(double x, uint32_t limb[7]) {
  const uint64_t bits = to_bits(x);
  const uint64_t mantissa = (bits & 0xfffffffffffffu) | 0x10000000000000u;
  const int exponent = static_cast<int>((bits >> 52) & 0x7ff) - 1075;  // |x| = mantissa * 2^exponent
  const int word = (exponent + 64) / 32 - 2, shift = exponent - 32 * word;
  const uint64_t low = (mantissa & 0xffffffffu) << shift, high = ((mantissa >> 32) << shift) + (low >> 32);
  const uint64_t factor[3] = {low & 0xffffffffu, high & 0xffffffffu, high >> 32};
  uint64_t sum = 0;
  for (int place = -6; place <= 0; ++place) {
    for (int i = 0; i < 3; ++i) {
      const int t = i + word - place;  // factor i is worth 2^(32 (i + word)), table word t 2^(-32 t)
      if (t >= 0) sum += (factor[i] * two_over_pi_word(t)) & 0xffffffffu;
      if (t >= -1) sum += (factor[i] * two_over_pi_word(t + 1)) >> 32;
    }
    limb[place + 6] = static_cast<uint32_t>(sum);
    sum >>= 32;
  }
}

/// Reduces a finite x with |x| >= 1.
RANVIER_HD inline Angle reduce_large(double x) {
  uint32_t limb[7];
  quarter_turns(x, limb);
  uint32_t quadrant = limb[6];
  const bool upper = limb[5] >> 31;  // a fraction from one half up counts down from the next quarter turn
  if (upper) {
    ++quadrant;
    uint64_t carry = 1;
    for (int i = 0; i < 6; ++i) {
      carry += static_cast<uint32_t>(~limb[i]);
      limb[i] = static_cast<uint32_t>(carry);
      carry >>= 32;
    }
  }
  int top = 5;
  while (top > 3 && limb[top] == 0) --top;  // at most two zero words occur for any f64
  double scale = 0x1p-32;
  for (int i = top; i < 5; ++i) scale = product(scale, 0x1p-32);
  // Four words, exactly: 64 leading bits and 64 more as two pairs of non-overlapping doubles.
  const double a = product(static_cast<double>(limb[top]), scale), b = product(limb[top - 1] * 0x1p-32, scale);
  const double c = product(limb[top - 2] * 0x1p-64, scale), d = product(limb[top - 3] * 0x1p-96, scale);
  const double head = a + b, tail = ((a - head) + b) + (c + d);
  const double half_pi = 0x1.921fb54442d18p+0, half_pi_low = 0x1.1a62633145c07p-54;
  const double rest = product(head, half_pi);
  const double error = fused(head, half_pi, -rest) + fused(head, half_pi_low, product(tail, half_pi));
  const bool negative = (to_bits(x) >> 63) != 0;
  const double magnitude = rest + error;
  if (negative) quadrant = 0u - quadrant;
  return {quadrant & 3u, upper != negative ? -magnitude : magnitude};
}

}  // namespace ranvier::kernels::math
