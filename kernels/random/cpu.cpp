// Fast f32 random fills: sixteen Philox blocks side by side in vector registers, shards of whole tiles over the
// threads.
#include <algorithm>

#include "kernels/common/parallel.h"
#include "kernels/common/philox.h"
#include "kernels/random/random.h"

namespace ranvier::kernels::cpu {
namespace {

constexpr int kBlocks = 16;          // Philox blocks generated together: a vector of each of the four words
constexpr int kWords = 4 * kBlocks;  // words of a tile
constexpr int64_t kGrain = int64_t{1} << 15;

/// Words 4 * 16 of blocks first ... first + 15, block-major, so that element e of a uniform draw is word e - 4 * first.
inline void tile_words(philox::Key key, uint32_t first, uint32_t* words) {
  alignas(64) uint32_t c0[kBlocks], c1[kBlocks], c2[kBlocks], c3[kBlocks];
#pragma omp simd
  for (int i = 0; i < kBlocks; ++i) {
    const philox::Words block = philox::block_words(key, first + static_cast<uint32_t>(i));
    c0[i] = block.word[0];
    c1[i] = block.word[1];
    c2[i] = block.word[2];
    c3[i] = block.word[3];
  }
  for (int i = 0; i < kBlocks; ++i) {
    words[4 * i] = c0[i];
    words[4 * i + 1] = c1[i];
    words[4 * i + 2] = c2[i];
    words[4 * i + 3] = c3[i];
  }
}

/// Calls whole(begin, words) for each tile of `per_tile` elements that fits, then rest(begin, count, words) for the
/// last.
template <class Tile>
void for_each_tile(int64_t n, int per_tile, uint64_t stream, const int64_t* rng, Tile&& tile) {
  const philox::Key key{static_cast<uint64_t>(rng[0]), stream, static_cast<uint64_t>(rng[1])};
  const int64_t tiles = (n + per_tile - 1) / per_tile;
  const int64_t shards = tiles == 0 ? 0 : shard_count(n, kGrain);
  parallel_for(shards, [&](int64_t shard) {
    const int64_t end = shard_begin(tiles, shards, shard + 1);
    for (int64_t t = shard_begin(tiles, shards, shard); t < end; ++t) {
      alignas(64) uint32_t words[kWords];
      tile_words(key, static_cast<uint32_t>(t * kBlocks), words);
      tile(t * per_tile, static_cast<int>(std::min<int64_t>(per_tile, n - t * per_tile)), words);
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
  constexpr int per_tile = kWords / 2;
  for_each_tile(n, per_tile, stream, rng, [&](int64_t begin, int count, const uint32_t* words) {
    alignas(64) float draws[per_tile];
#pragma omp simd
    for (int i = 0; i < per_tile; ++i) {
      draws[i] = fused(deviation, philox::normal_of(words[2 * i], words[2 * i + 1]), mean);
    }
    std::copy(draws, draws + count, out + begin);
  });
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
  for_each_tile(n, kWords, stream, rng, [&](int64_t begin, int count, const uint32_t* words) {
    const float* from = x + begin;
    float* to = y + begin;
    if (count == kWords) {
#pragma omp simd
      for (int i = 0; i < kWords; ++i) to[i] = philox::uniform_of(words[i]) >= drop ? from[i] * scale : 0.0f;
    } else {
      for (int i = 0; i < count; ++i) to[i] = philox::uniform_of(words[i]) >= drop ? from[i] * scale : 0.0f;
    }
  });
}

}  // namespace ranvier::kernels::cpu
