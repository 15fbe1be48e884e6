// Random fills, dropout and permutations on a CUDA device: the draws of philox.h, one thread to four elements.
#include "kernels/common/half.h"
#include "kernels/common/launch.h"
#include "kernels/common/pack.h"
#include "kernels/common/philox.h"
#include "kernels/random/random.h"

namespace ranvier::kernels::cuda {
namespace {

using philox::Key;
using philox::Words;

constexpr int threads = 256;

__device__ Key key_of(uint64_t stream, const int64_t* rng) {
  return {static_cast<uint64_t>(rng[0]), stream, static_cast<uint64_t>(rng[1])};
}

// ---- maps from a place in a draw to the four elements 4 quad ... 4 quad + 3 ----

/// A draw of one word an element: block `quad` holds the four.
template <class T, class Draw>
struct ByWord {
  Draw draw;
  __device__ Pack<T, 4> operator()(const Key& key, int64_t quad) const {
    const Words words = philox::block_words(key, static_cast<uint32_t>(quad));
    Pack<T, 4> result;
#pragma unroll
    for (int k = 0; k < 4; ++k) result.v[k] = draw(words.word[k]);
    return result;
  }
};

template <class T>
struct Uniform {
  compute_t<T> width, low;
  __device__ T operator()(uint32_t bits) const {
    return narrow<T>(fused(static_cast<compute_t<T>>(philox::uniform_of(bits)), width, low));
  }
};
template <class T>
struct Exponential {
  compute_t<T> rate;
  __device__ T operator()(uint32_t bits) const {
    return narrow<T>(quotient(static_cast<compute_t<T>>(philox::exponential_of(bits)), rate));
  }
};
template <class T>
struct Bernoulli {
  float drop;
  __device__ T operator()(uint32_t bits) const {
    return narrow<T>(static_cast<compute_t<T>>(philox::uniform_of(bits) >= drop ? 1 : 0));
  }
};
struct Integers {
  int32_t low;
  uint64_t range;
  __device__ int32_t operator()(uint32_t bits) const { return philox::integer_of(bits, low, range); }
};

/// Two words an element: two blocks hold the four.
template <class T>
struct Normal {
  compute_t<T> mean, deviation;
  __device__ Pack<T, 4> operator()(const Key& key, int64_t quad) const {
    Pack<T, 4> result;
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      const Words words = philox::block_words(key, static_cast<uint32_t>(2 * quad + half));
#pragma unroll
      for (int k = 0; k < 2; ++k) {
        const float draw = philox::normal_of(words.word[2 * k], words.word[2 * k + 1]);
        result.v[2 * half + k] = narrow<T>(fused(deviation, static_cast<compute_t<T>>(draw), mean));
      }
    }
    return result;
  }
};
template <class T>
struct Poisson {
  double lambda;
  __device__ Pack<T, 4> operator()(const Key& key, int64_t quad) const {
    Pack<T, 4> result;
#pragma unroll 1
    for (int k = 0; k < 4; ++k) {
      const double draw = philox::poisson(key, static_cast<uint64_t>(4 * quad + k), lambda);
      result.v[k] = narrow<T>(static_cast<compute_t<T>>(draw));
    }
    return result;
  }
};

/// x scaled where the coin of its element keeps it, else 0.
template <class T>
struct Dropout {
  float drop;
  compute_t<T> scale;
  const T* x;
  int64_t n;
  __device__ Pack<T, 4> operator()(const Key& key, int64_t quad) const {
    const Words words = philox::block_words(key, static_cast<uint32_t>(quad));
    Pack<T, 4> pack;
    if (4 * quad + 4 <= n) {
      pack = load_pack<4>(x + 4 * quad);
    } else {
      for (int k = 0; k < 4; ++k) pack.v[k] = x[4 * quad + k < n ? 4 * quad + k : n - 1];
    }
#pragma unroll
    for (int k = 0; k < 4; ++k) {
      const compute_t<T> scaled = widen(pack.v[k]) * scale;
      pack.v[k] = narrow<T>(philox::uniform_of(words.word[k]) >= drop ? scaled : compute_t<T>(0));
    }
    return pack;
  }
};

/// out[4 quad ...] = map(quad). About 110 integer instructions make 16 random bytes, as long as HBM takes to store
/// them.
template <class T, class Map>
__global__ void __launch_bounds__(threads)
    fill_kernel(int64_t n, uint64_t stream, const int64_t* rng, T* out, Map map) {
  const Key key = key_of(stream, rng);
  const int64_t quads = (n + 3) / 4, stride = int64_t{gridDim.x} * threads;
  for (int64_t quad = int64_t{blockIdx.x} * threads + threadIdx.x; quad < quads; quad += stride) {
    const Pack<T, 4> pack = map(key, quad);
    if (4 * quad + 4 <= n) {
      store_pack(out + 4 * quad, pack);
    } else {
#pragma unroll
      for (int k = 0; k < 4; ++k)
        if (4 * quad + k < n) out[4 * quad + k] = pack.v[k];
    }
  }
}

template <class T, class Map>
void fill(int64_t n, uint64_t stream, const int64_t* rng, T* out, const Map& map, CudaStream cuda) {
  launch(fill_kernel<T, Map>, {blocks_for((n + 3) / 4, threads), threads, 0, cuda}, n, stream, rng, out, map);
}

__global__ void bernoulli_at_kernel(int64_t n, float drop, uint64_t stream, const int64_t* rng, const int64_t* elements,
                                    uint8_t* out) {
  const Key key{static_cast<uint64_t>(rng[0]), stream, 0};
  const int64_t stride = int64_t{gridDim.x} * threads;
  for (int64_t i = int64_t{blockIdx.x} * threads + threadIdx.x; i < n; i += stride)
    out[i] = philox::uniform(key, static_cast<uint64_t>(elements[i])) >= drop ? 1 : 0;
}

__global__ void advance_kernel(const int64_t* from, int64_t* to) {
  to[0] = from[0];
  to[1] = from[1] + 1;
}

// ---- permutations: runs of one tile sorted in shared memory, then merged pairwise ----

constexpr int tile = 2048, sorters = tile / 4;  // a thread draws the keys of one Philox block

/// The keys (bits, index) of one tile in ascending order, by a bitonic network. Keys differ in their index, so that any
/// sort gives the same order. Places beyond n hold the greatest key and stay behind.
__global__ void __launch_bounds__(sorters)
    sort_tiles_kernel(int64_t n, uint64_t stream, const int64_t* rng, uint64_t* keys, int32_t* out) {
  RANVIER_SHARED(uint64_t, key, [tile]);
  const int64_t first = int64_t{blockIdx.x} * tile;
  const auto me = static_cast<int>(threadIdx.x);
  const Words words = philox::block_words(key_of(stream, rng), static_cast<uint32_t>(first / 4 + me));
#pragma unroll
  for (int k = 0; k < 4; ++k) {
    const int64_t i = first + 4 * me + k;
    key[4 * me + k] = i < n ? uint64_t{words.word[k]} << 32 | static_cast<uint64_t>(i) : ~uint64_t{0};
  }
  for (int size = 2; size <= tile; size *= 2) {
    for (int apart = size / 2; apart > 0; apart /= 2) {
      __syncthreads();
#pragma unroll
      for (int half = 0; half < 2; ++half) {
        const int pair = me + half * sorters;
        const int low = 2 * pair - (pair & (apart - 1)), high = low + apart;  // pair's bits around a 0 at `apart`
        const uint64_t a = key[low], b = key[high];
        const bool ascending = (low & size) == 0;
        if ((a > b) == ascending) key[low] = b, key[high] = a;
      }
    }
  }
  __syncthreads();
#pragma unroll
  for (int k = 0; k < 4; ++k) {
    const int64_t i = first + me + k * sorters;
    if (i >= n) continue;
    if (keys)
      keys[i] = key[me + k * sorters];
    else
      out[i] = static_cast<int32_t>(key[me + k * sorters] & 0xffffffffu);
  }
}

/// Keys below `value` among the `count` ascending ones at `keys`.
__device__ int64_t rank_of(uint64_t value, const uint64_t* keys, int64_t count) {
  int64_t low = 0, high = count;
  while (low < high) {
    const int64_t middle = (low + high) / 2;
    if (keys[middle] < value)
      low = middle + 1;
    else
      high = middle;
  }
  return low;
}

/// Merges neighbouring runs of `run` keys: each key goes to its place in its own run plus its rank in the other. The
/// last merge writes the permutation.
template <class Out>
__global__ void __launch_bounds__(threads) merge_kernel(int64_t n, int64_t run, const uint64_t* from, Out* to) {
  const int64_t stride = int64_t{gridDim.x} * threads;
  for (int64_t i = int64_t{blockIdx.x} * threads + threadIdx.x; i < n; i += stride) {
    const int64_t pair = i / (2 * run) * (2 * run), middle = min(pair + run, n), end = min(pair + 2 * run, n);
    const uint64_t key = from[i];
    const int64_t place = i < middle ? i + rank_of(key, from + middle, end - middle)
                                     : pair + (i - middle) + rank_of(key, from + pair, middle - pair);
    to[place] = static_cast<Out>(sizeof(Out) == 4 ? key & 0xffffffffu : key);
  }
}

}  // namespace

template <class T>
void fill_uniform(int64_t n, double low, double high, uint64_t stream, const int64_t* rng, T* out, CudaStream cuda) {
  using C = compute_t<T>;
  const C from = static_cast<C>(low);
  fill(n, stream, rng, out, ByWord<T, Uniform<T>>{{static_cast<C>(high) - from, from}}, cuda);
}

template <class T>
void fill_normal(int64_t n, double mean, double deviation, uint64_t stream, const int64_t* rng, T* out,
                 CudaStream cuda) {
  using C = compute_t<T>;
  fill(n, stream, rng, out, Normal<T>{static_cast<C>(mean), static_cast<C>(deviation)}, cuda);
}

template <class T>
void fill_exponential(int64_t n, double rate, uint64_t stream, const int64_t* rng, T* out, CudaStream cuda) {
  fill(n, stream, rng, out, ByWord<T, Exponential<T>>{{static_cast<compute_t<T>>(rate)}}, cuda);
}

template <class T>
void fill_poisson(int64_t n, double lambda, uint64_t stream, const int64_t* rng, T* out, CudaStream cuda) {
  fill(n, stream, rng, out, Poisson<T>{lambda}, cuda);
}

template <class T>
void fill_bernoulli(int64_t n, float drop, uint64_t stream, const int64_t* rng, T* out, CudaStream cuda) {
  fill(n, stream, rng, out, ByWord<T, Bernoulli<T>>{{drop}}, cuda);
}

void fill_integers(int64_t n, int32_t low, int32_t high, uint64_t stream, const int64_t* rng, int32_t* out,
                   CudaStream cuda) {
  const auto range = static_cast<uint64_t>(int64_t{high} - low + 1);
  fill(n, stream, rng, out, ByWord<int32_t, Integers>{{low, range}}, cuda);
}

template <class T>
void dropout(int64_t n, float drop, const T* x, uint64_t stream, const int64_t* rng, T* y, CudaStream cuda) {
  check_drop(drop);
  using C = compute_t<T>;
  fill(n, stream, rng, y, Dropout<T>{drop, C(1) / (C(1) - C(drop)), x, n}, cuda);
}

void fill_bernoulli_at(int64_t n, float drop, uint64_t stream, const int64_t* rng, const int64_t* elements,
                       uint8_t* out, CudaStream cuda) {
  launch(bernoulli_at_kernel, {blocks_for(n, threads), threads, 0, cuda}, n, drop, stream, rng, elements, out);
}

void advance(const int64_t* from, int64_t* to, CudaStream cuda) { launch(advance_kernel, {1, 1, 0, cuda}, from, to); }

void permutation(int64_t n, uint64_t stream, const int64_t* rng, uint64_t* workspace, int32_t* out, CudaStream cuda) {
  check_permutation(n);
  const LaunchConfig tiles{blocks_for(n, tile, int64_t{1} << 31), sorters, 0, cuda};
  const LaunchConfig merge{blocks_for(n, threads), threads, 0, cuda};
  if (n <= tile) {
    launch(sort_tiles_kernel, tiles, n, stream, rng, static_cast<uint64_t*>(nullptr), out);
    return;
  }
  uint64_t *from = workspace, *to = workspace + n;
  launch(sort_tiles_kernel, tiles, n, stream, rng, from, static_cast<int32_t*>(nullptr));
  int64_t run = tile;
  for (; 2 * run < n; run *= 2, std::swap(from, to)) launch(merge_kernel<uint64_t>, merge, n, run, from, to);
  launch(merge_kernel<int32_t>, merge, n, run, from, out);
}

#define RANVIER_INSTANTIATE(T)                                                                   \
  template void fill_uniform(int64_t, double, double, uint64_t, const int64_t*, T*, CudaStream); \
  template void fill_normal(int64_t, double, double, uint64_t, const int64_t*, T*, CudaStream);  \
  template void fill_bernoulli(int64_t, float, uint64_t, const int64_t*, T*, CudaStream);        \
  template void dropout(int64_t, float, const T*, uint64_t, const int64_t*, T*, CudaStream);
RANVIER_INSTANTIATE(float)
RANVIER_INSTANTIATE(double)
RANVIER_INSTANTIATE(bf16)
RANVIER_INSTANTIATE(f16)
#undef RANVIER_INSTANTIATE
template void fill_bernoulli(int64_t, float, uint64_t, const int64_t*, uint8_t*, CudaStream);
template void fill_exponential(int64_t, double, uint64_t, const int64_t*, float*, CudaStream);
template void fill_exponential(int64_t, double, uint64_t, const int64_t*, double*, CudaStream);
template void fill_poisson(int64_t, double, uint64_t, const int64_t*, float*, CudaStream);
template void fill_poisson(int64_t, double, uint64_t, const int64_t*, double*, CudaStream);

}  // namespace ranvier::kernels::cuda
