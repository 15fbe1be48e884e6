// Fast f32 random fills: sixteen Philox blocks side by side in vector registers, shards of whole tiles over the
// threads.
#include <algorithm>
#if defined(__AVX512F__)
#include <immintrin.h>
#endif

#include "kernels/common/parallel.h"
#include "kernels/common/philox.h"
#include "kernels/random/random.h"

namespace ranvier::kernels::cpu {
namespace {

constexpr int kBlocks = 16;          // Philox blocks generated together
constexpr int kWords = 4 * kBlocks;  // words of a tile
constexpr int kTogether = 8;         // tiles
constexpr int64_t kGrain = int64_t{1} << 15;

#if defined(__AVX512F__)

constexpr __mmask8 kAll = 0xff;  // the unmasked forms draw false warnings from GCC 12; this mask costs nothing
constexpr uint32_t kFactor0 = 0xD2511F53u, kFactor1 = 0xCD9E8D57u;

/// A word in the low half of every 64-bit lane.
inline __m512i lanes(uint64_t value) { return _mm512_set1_epi64(static_cast<long long>(value)); }
inline __m512i high_half(__m512i x) { return _mm512_maskz_srli_epi64(kAll, x, 32); }
inline __m512i times(__m512i x, __m512i factor) { return _mm512_maskz_mul_epu32(kAll, x, factor); }
inline __m512i xor3(__m512i x, __m512i y, __m512i z) { return _mm512_xor_si512(_mm512_xor_si512(x, y), z); }

/// What the blocks of one draw share: the keys of the rounds, and the first two rounds of all words but the block's
/// number. Each in memory as the rounds take it, where an instruction finds and spreads it at once.
struct Draw {
  uint64_t key[2 * philox::kRounds];
  uint64_t first2;                     // round 0: words 2 and ...
  uint64_t second0, second2, second3;  // round 1

  explicit Draw(philox::Key of) {
    uint32_t key0 = static_cast<uint32_t>(of.seed), key1 = static_cast<uint32_t>(of.seed >> 32);
    for (int round = 0; round < philox::kRounds; ++round) {
      key[2 * round] = key0, key[2 * round + 1] = key1;
      philox::next_key(key0, key1);
    }
    const uint64_t product1 = uint64_t{kFactor1} * static_cast<uint32_t>(of.stream);
    const uint64_t word0 = (product1 >> 32) ^ static_cast<uint32_t>(of.step) ^ key[0];
    first2 = (of.stream >> 32) ^ key[1];
    const uint64_t product0 = uint64_t{kFactor0} * word0;
    second0 = static_cast<uint32_t>(product1) ^ key[2];
    second2 = (product0 >> 32) ^ key[3];
    second3 = static_cast<uint32_t>(product0);
  }
};

/// Words 0, 1, 2, 3 of eight blocks as 16 and 16 words in order.
inline void store_blocks(__m512i c0, __m512i c1, __m512i c2, __m512i c3, uint32_t* words) {
  const __m512i front = _mm512_mask_blend_epi32(0xaaaa, c0, _mm512_maskz_slli_epi64(kAll, c1, 32));
  const __m512i back = _mm512_mask_blend_epi32(0xaaaa, c2, _mm512_maskz_slli_epi64(kAll, c3, 32));
  const __m512i low = _mm512_set_epi64(11, 3, 10, 2, 9, 1, 8, 0), high = _mm512_set_epi64(15, 7, 14, 6, 13, 5, 12, 4);
  _mm512_storeu_si512(words, _mm512_permutex2var_epi64(front, low, back));
  _mm512_storeu_si512(words + 16, _mm512_permutex2var_epi64(front, high, back));
}

/// The words of blocks first ... first + 15 in order: element e of a uniform draw is word e - 4 * first. Two times
/// eight blocks, one in each 64-bit lane, side by side, because a round waits for the one before. A 32 x 32 -> 64
/// multiplication reads only the low half of a lane, so the low word of a product needs no masking: whatever lies above
/// it never counts.
inline void tile_words(const Draw& draw, uint32_t first, uint32_t* words) {
  const __m512i m0 = lanes(kFactor0), m1 = lanes(kFactor1);
  __m512i c0[2], c1[2], c2[2], c3[2];
#pragma GCC unroll 2
  for (int i = 0; i < 2; ++i) {
    const __m512i blocks =
        _mm512_add_epi32(lanes(first + 8 * static_cast<uint32_t>(i)), _mm512_set_epi64(7, 6, 5, 4, 3, 2, 1, 0));
    const __m512i product0 = times(blocks, m0);
    c1[i] = times(_mm512_xor_si512(high_half(product0), lanes(draw.first2)), m1);
    c0[i] = _mm512_xor_si512(high_half(c1[i]), lanes(draw.second0));
    c2[i] = _mm512_xor_si512(product0, lanes(draw.second2));
    c3[i] = lanes(draw.second3);
  }
#pragma GCC unroll 10
  for (int round = 2; round < philox::kRounds; ++round) {
#pragma GCC unroll 2
    for (int i = 0; i < 2; ++i) {
      const __m512i product0 = times(c0[i], m0), product1 = times(c2[i], m1);
      c0[i] = xor3(high_half(product1), c1[i], lanes(draw.key[2 * round]));
      c2[i] = xor3(high_half(product0), c3[i], lanes(draw.key[2 * round + 1]));
      c1[i] = product1, c3[i] = product0;
    }
  }
  store_blocks(c0[0], c1[0], c2[0], c3[0], words);
  store_blocks(c0[1], c1[1], c2[1], c3[1], words + 32);
}

#else

using Draw = philox::Key;

/// The words of blocks first ... first + 15 in order: element e of a uniform draw is word e - 4 * first.
inline void tile_words(const Draw& draw, uint32_t first, uint32_t* words) {
  for (int i = 0; i < kBlocks; ++i) {
    const philox::Words block = philox::block_words(draw, first + static_cast<uint32_t>(i));
    std::copy(block.word, block.word + 4, words + 4 * i);
  }
}

#endif

/// Calls tile(begin, count, words) for each tile of `per_tile` elements; the last may be shorter. Words of several
/// tiles are made before the first is used, so that one tile's numbers need not wait for the other's.
template <class Tile>
void for_each_tile(int64_t n, int per_tile, uint64_t stream, const int64_t* rng, Tile&& tile, int64_t first_tile = 0) {
  const Draw draw(philox::Key{static_cast<uint64_t>(rng[0]), stream, static_cast<uint64_t>(rng[1])});
  const int64_t tiles = (n + per_tile - 1) / per_tile;
  const int64_t shards = tiles == 0 ? 0 : shard_count(n, kGrain);
  parallel_for(shards, [&](int64_t shard) {
    const int64_t end = shard_begin(tiles, shards, shard + 1);
    for (int64_t t = shard_begin(tiles, shards, shard); t < end; t += kTogether) {
      alignas(64) uint32_t words[kTogether][kWords];
      const int count = static_cast<int>(std::min<int64_t>(kTogether, end - t));
      for (int i = 0; i < count; ++i) tile_words(draw, static_cast<uint32_t>((first_tile + t + i) * kBlocks), words[i]);
      for (int64_t i = t; i < t + count; ++i)
        tile(i * per_tile, static_cast<int>(std::min<int64_t>(per_tile, n - i * per_tile)), words[i - t]);
    }
  });
}

/// out[i] = map(word i) for a draw that takes one word an element.
template <class Out, class Map>
void fill_by_word(int64_t n, uint64_t stream, const int64_t* rng, Out* out, Map map) {
  for_each_tile(n, kWords, stream, rng, [&](int64_t begin, int count, const uint32_t* words) {
    Out* to = out + begin;
    if (count == kWords) {
#pragma omp simd
      for (int i = 0; i < kWords; ++i) to[i] = map(words[i]);
    } else {
      for (int i = 0; i < count; ++i) to[i] = map(words[i]);
    }
  });
}

}  // namespace

void fill_uniform(int64_t n, float low, float high, uint64_t stream, const int64_t* rng, float* out) {
  const float width = high - low;
  fill_by_word(n, stream, rng, out, [=](uint32_t bits) { return fused(philox::uniform_of(bits), width, low); });
}

void fill_normal(int64_t n, float mean, float deviation, uint64_t stream, const int64_t* rng, float* out) {
  fill_normal_from(0, n, mean, deviation, stream, rng, out);
}

void fill_normal_from(int64_t first, int64_t n, float mean, float deviation, uint64_t stream, const int64_t* rng,
                      float* out) {
  constexpr int per_tile = kWords / 2;
  static_assert(per_tile == normal_tile);
  const auto tile = [&](int64_t begin, int count, const uint32_t* words) {
    alignas(64) float draws[per_tile];
#pragma omp simd
    for (int i = 0; i < per_tile; ++i) {
      draws[i] = fused(deviation, philox::normal_of(words[2 * i], words[2 * i + 1]), mean);
    }
    std::copy(draws, draws + count, out + begin);
  };
  for_each_tile(n, per_tile, stream, rng, tile, first / per_tile);
}

void fill_exponential(int64_t n, float rate, uint64_t stream, const int64_t* rng, float* out) {
  fill_by_word(n, stream, rng, out, [=](uint32_t bits) { return philox::exponential_of(bits) / rate; });
}

void fill_bernoulli(int64_t n, float drop, uint64_t stream, const int64_t* rng, float* out) {
  fill_by_word(n, stream, rng, out, [=](uint32_t bits) { return philox::uniform_of(bits) >= drop ? 1.0f : 0.0f; });
}

void fill_bernoulli(int64_t n, float drop, uint64_t stream, const int64_t* rng, uint8_t* out) {
  fill_by_word(n, stream, rng, out,
               [=](uint32_t bits) { return static_cast<uint8_t>(philox::uniform_of(bits) >= drop ? 1 : 0); });
}

void dropout(int64_t n, float drop, const float* x, uint64_t stream, const int64_t* rng, float* y) {
  check_drop(drop);
  const float scale = 1.0f / (1.0f - drop);
  for_each_tile(n, kWords, stream, rng, [=](int64_t begin, int count, const uint32_t* words) {
    const float threshold = drop, factor = scale;
    const float* from = x + begin;
    float* to = y + begin;
    if (count == kWords) {
#pragma omp simd
      for (int i = 0; i < kWords; ++i) {
        const float scaled = from[i] * factor;
        to[i] = philox::uniform_of(words[i]) >= threshold ? scaled : 0.0f;
      }
    } else {
      for (int i = 0; i < count; ++i) to[i] = philox::uniform_of(words[i]) >= threshold ? from[i] * factor : 0.0f;
    }
  });
}

}  // namespace ranvier::kernels::cpu
