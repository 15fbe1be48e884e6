// Counter-based random numbers (Philox4x32-10): every draw is a pure function of seed, stream, step and element.
#pragma once
#include <cstdint>
#include <string_view>

#include "kernels/common/hd.h"
#include "kernels/common/math.h"

// Generator: Salmon, Moraes, Dror, Shaw, "Parallel random numbers: as easy as 1, 2, 3", SC 2011.
//   key     = (seed low, seed high)
//   counter = (block, step low 32 bits, stream low, stream high), block below 2^32
// A uniform draw e takes word e % 4 of block e / 4. A normal draw e takes words 2 * (e % 2) and the next of block e
// / 2. All results are the same bits on every backend: integer arithmetic, and floating point whose every fma is
// written out.

namespace ranvier::kernels::philox {

/// The four 32-bit words of one block.
struct Words {
  uint32_t word[4];
};

/// One draw's place in the random sequence.
struct Key {
  uint64_t seed;
  uint64_t stream;
  uint64_t step;
};

/// Stream number of a scope path and name: FNV-1a, 64 bits.
constexpr uint64_t stream_hash(std::string_view name) {
  uint64_t hash = 0xcbf29ce484222325u;
  for (const char c : name) hash = (hash ^ static_cast<unsigned char>(c)) * 0x100000001b3u;
  return hash;
}

constexpr int kRounds = 10;

/// One round on the counter words.
RANVIER_HD_INLINE void round(uint32_t& c0, uint32_t& c1, uint32_t& c2, uint32_t& c3, uint32_t key0, uint32_t key1) {
  const uint64_t product0 = uint64_t{0xD2511F53u} * c0, product1 = uint64_t{0xCD9E8D57u} * c2;
  c0 = static_cast<uint32_t>(product1 >> 32) ^ c1 ^ key0;
  c2 = static_cast<uint32_t>(product0 >> 32) ^ c3 ^ key1;
  c1 = static_cast<uint32_t>(product1);
  c3 = static_cast<uint32_t>(product0);
}

/// The key of the next round: Weyl sequences of the golden ratio and of sqrt(3) - 1.
RANVIER_HD_INLINE void next_key(uint32_t& key0, uint32_t& key1) {
  key0 += 0x9E3779B9u;
  key1 += 0xBB67AE85u;
}

/// Ten rounds on a raw counter and key, as the paper defines them.
RANVIER_HD_INLINE Words philox4x32(Words counter, uint32_t key0, uint32_t key1) {
  Words w = counter;
#if defined(__CUDA_ARCH__)
#pragma unroll
#endif
  for (int i = 0; i < kRounds; ++i) {
    round(w.word[0], w.word[1], w.word[2], w.word[3], key0, key1);
    next_key(key0, key1);
  }
  return w;
}

/// The four words of block `block` of a draw.
RANVIER_HD_INLINE Words block_words(Key key, uint32_t block) {
  const Words counter{{block, static_cast<uint32_t>(key.step), static_cast<uint32_t>(key.stream),
                       static_cast<uint32_t>(key.stream >> 32)}};
  return philox4x32(counter, static_cast<uint32_t>(key.seed), static_cast<uint32_t>(key.seed >> 32));
}

/// The 32 random bits of element `element` (below 2^34) of a uniform draw.
RANVIER_HD_INLINE uint32_t bits(uint64_t seed, uint64_t stream, uint64_t step, uint64_t element) {
  const Words words = block_words({seed, stream, step}, static_cast<uint32_t>(element >> 2));
  return words.word[element & 3];
}

/// Uniform on {0, 1, ..., 2^24 - 1} / 2^24 from 32 bits: exact in f32, never 1.
RANVIER_HD_INLINE float uniform_of(uint32_t bits) {
  return product(static_cast<float>(static_cast<int32_t>(bits >> 8)), 0x1p-24f);
}

/// Uniform on {1, ..., 2^24} / 2^24 from 32 bits: never 0, for logarithms.
RANVIER_HD_INLINE float positive_uniform_of(uint32_t bits) {
  return product(static_cast<float>(static_cast<int32_t>((bits >> 8) + 1)), 0x1p-24f);
}

/// Uniform on [0, 1) with 53 bits from two words.
RANVIER_HD_INLINE double uniform53_of(uint32_t high, uint32_t low) {
  return product(static_cast<double>(static_cast<int64_t>(((uint64_t{high} << 32) | low) >> 11)), 0x1p-53);
}

/// Standard normal from two words by Box and Muller: sqrt(-2 log u1) cos(2 pi u2). |result| <= 5.77 since u1 >= 2^-24.
RANVIER_HD_INLINE float normal_of(uint32_t first, uint32_t second) {
  const float radius = root(product(-2.0f, math::log_normal_range(positive_uniform_of(first))));
  return product(radius, math::cos_turns(uniform_of(second)));
}

/// Exponential of rate 1 from 32 bits: -log u, at most 16.64.
RANVIER_HD_INLINE float exponential_of(uint32_t bits) {
  return 0.0f - math::log_normal_range(positive_uniform_of(bits));
}

/// Element of a uniform draw on [0, 1), 24 bits; an f64 draw is this value widened.
RANVIER_HD_INLINE float uniform(Key key, uint64_t element) {
  return uniform_of(bits(key.seed, key.stream, key.step, element));
}

/// Element (below 2^33) of a standard normal draw; an f64 draw is this value widened.
RANVIER_HD_INLINE float normal(Key key, uint64_t element) {
  const Words words = block_words(key, static_cast<uint32_t>(element >> 1));
  const bool odd = element & 1;
  return normal_of(odd ? words.word[2] : words.word[0], odd ? words.word[3] : words.word[1]);
}

/// Element of an exponential draw of rate 1; an f64 draw is this value widened.
RANVIER_HD_INLINE float exponential(Key key, uint64_t element) {
  return exponential_of(bits(key.seed, key.stream, key.step, element));
}

/// Whole number uniform on {low, ..., low + range - 1} from 32 bits, 1 <= range <= 2^32: the high word of bits * range,
/// so each value's probability is within 2^-32 of 1 / range.
RANVIER_HD_INLINE int32_t integer_of(uint32_t bits, int32_t low, uint64_t range) {
  return static_cast<int32_t>(low + static_cast<int64_t>((bits * range) >> 32));
}

/// log(k!) for k >= 0: table below 10, Stirling's series (4 terms, error under 1e-13) from there.
RANVIER_HD inline double log_factorial(double k) {
  constexpr double small[10] = {0.0,
                                0.0,
                                0.69314718055994530942,
                                1.7917594692280550008,
                                3.1780538303479456197,
                                4.7874917427820459943,
                                6.5792512120101009951,
                                8.5251613610654143002,
                                10.604602902745250228,
                                12.801827480081469611};
  if (k < 10.0) return small[static_cast<int>(k)];
  const double inverse = quotient(1.0, k), square = product(inverse, inverse);
  double tail = fused(square, -1.0 / 1680.0, 1.0 / 1260.0);
  tail = fused(square, tail, -1.0 / 360.0);
  tail = fused(square, tail, 1.0 / 12.0);
  const double half_log_two_pi = 0.91893853320467274178;
  return fused(k + 0.5, math::log(k), -k) + fused(inverse, tail, half_log_two_pi);
}

/// Words 0..3 of attempt `attempt` for element `element` (below 2^32) of a Poisson draw. Attempt 0 is the block of that
/// number; a later attempt moves to a stream of its own, since all four counter words are taken.
RANVIER_HD_INLINE Words attempt_words(Key key, uint64_t element, uint32_t attempt) {
  key.stream += attempt * 0x9E3779B97F4A7C15u;
  return block_words(key, static_cast<uint32_t>(element));
}

/// Element of a Poisson draw of mean `lambda` (0 <= lambda <= 1e15; otherwise NaN), a whole number in f64.
/// Below 10: inversion of the distribution by summing its terms, with one 53-bit uniform. From 10: the transformed
/// rejection PTRS of Hormann, "The transformed rejection method for generating Poisson random variables", Insurance:
/// Mathematics and Economics 12 (1993), 53-bit uniforms, a fresh block for each attempt.
RANVIER_HD inline double poisson(Key key, uint64_t element, double lambda) {
  if (!(lambda >= 0.0 && lambda <= 1e15)) return from_bits(uint64_t{0x7ff8000000000000u});
  if (lambda < 10.0) {
    const Words words = attempt_words(key, element, 0);
    const double u = uniform53_of(words.word[0], words.word[1]);
    double term = math::exp(-lambda), sum = term, count = 0.0;
    while (u >= sum && count < 200.0) {  // 200: far beyond the largest count that a 53-bit uniform reaches
      count += 1.0;
      term = product(term, quotient(lambda, count));
      sum += term;
    }
    return count;
  }
  const double b = fused(2.53, root(lambda), 0.931), a = fused(0.02483, b, -0.059);
  const double inverse_alpha = 1.1239 + quotient(1.1328, b - 3.4), v_r = 0.9277 - quotient(3.6224, b - 2.0);
  const double log_lambda = math::log(lambda);
  for (uint32_t attempt = 0;; ++attempt) {
    const Words words = attempt_words(key, element, attempt);
    const double u = uniform53_of(words.word[0], words.word[1]) - 0.5;
    const double v = uniform53_of(words.word[2], words.word[3]) + 0x1p-54;  // never 0: it goes into a logarithm
    const double us = 0.5 - ::fabs(u);
    if (us <= 0.0) continue;
    const double k = ::floor(fused(quotient(2.0 * a, us) + b, u, lambda + 0.43));
    if (us >= 0.07 && v <= v_r) return k;
    if (k < 0.0 || (us < 0.013 && v > us)) continue;
    const double spread = quotient(a, product(us, us)) + b;
    const double accept = math::log(product(v, quotient(inverse_alpha, spread)));
    if (accept <= fused(k, log_lambda, -lambda) - log_factorial(k)) return k;
  }
}

}  // namespace ranvier::kernels::philox
