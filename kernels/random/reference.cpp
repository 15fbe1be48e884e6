// Plain loops over the scalar draws of philox.h: the oracle of every other random fill.
#include <algorithm>
#include <stdexcept>
#include <string>

#include "kernels/common/philox.h"
#include "kernels/random/random.h"

namespace ranvier::kernels {
namespace {

philox::Key key_of(uint64_t stream, const int64_t* rng) {
  return {static_cast<uint64_t>(rng[0]), stream, static_cast<uint64_t>(rng[1])};
}

}  // namespace

namespace reference {

template <class T>
void fill_uniform(int64_t n, T low, T high, uint64_t stream, const int64_t* rng, T* out) {
  const philox::Key key = key_of(stream, rng);
  for (int64_t i = 0; i < n; ++i) out[i] = fused(T(philox::uniform(key, i)), high - low, low);
}

template <class T>
void fill_normal(int64_t n, T mean, T deviation, uint64_t stream, const int64_t* rng, T* out) {
  const philox::Key key = key_of(stream, rng);
  for (int64_t i = 0; i < n; ++i) out[i] = fused(deviation, T(philox::normal(key, i)), mean);
}

template <class T>
void fill_exponential(int64_t n, T rate, uint64_t stream, const int64_t* rng, T* out) {
  const philox::Key key = key_of(stream, rng);
  for (int64_t i = 0; i < n; ++i) out[i] = T(philox::exponential(key, i)) / rate;
}

template <class T>
void fill_poisson(int64_t n, double lambda, uint64_t stream, const int64_t* rng, T* out) {
  const philox::Key key = key_of(stream, rng);
  for (int64_t i = 0; i < n; ++i) out[i] = static_cast<T>(philox::poisson(key, i, lambda));
}

template <class T>
void fill_bernoulli(int64_t n, float drop, uint64_t stream, const int64_t* rng, T* out) {
  const philox::Key key = key_of(stream, rng);
  for (int64_t i = 0; i < n; ++i) out[i] = philox::uniform(key, i) >= drop ? T(1) : T(0);
}

void fill_integers(int64_t n, int32_t low, int32_t high, uint64_t stream, const int64_t* rng, int32_t* out) {
  const philox::Key key = key_of(stream, rng);
  const uint64_t range = static_cast<uint64_t>(int64_t{high} - low + 1);
  for (int64_t i = 0; i < n; ++i) {
    out[i] = philox::integer_of(philox::bits(key.seed, key.stream, key.step, i), low, range);
  }
}

void fill_bernoulli_at(int64_t n, float drop, uint64_t stream, const int64_t* rng, const int64_t* elements,
                       uint8_t* out) {
  const philox::Key key{static_cast<uint64_t>(rng[0]), stream, 0};
  for (int64_t i = 0; i < n; ++i) out[i] = philox::uniform(key, static_cast<uint64_t>(elements[i])) >= drop ? 1 : 0;
}

template <class T>
void dropout(int64_t n, float drop, const T* x, uint64_t stream, const int64_t* rng, T* y) {
  check_drop(drop);
  const philox::Key key = key_of(stream, rng);
  const T scale = T(1) / (T(1) - T(drop));
  for (int64_t i = 0; i < n; ++i) y[i] = philox::uniform(key, i) >= drop ? x[i] * scale : T(0);
}

#define RANVIER_INSTANTIATE(T)                                                   \
  template void fill_uniform<T>(int64_t, T, T, uint64_t, const int64_t*, T*);    \
  template void fill_normal<T>(int64_t, T, T, uint64_t, const int64_t*, T*);     \
  template void fill_exponential<T>(int64_t, T, uint64_t, const int64_t*, T*);   \
  template void fill_poisson<T>(int64_t, double, uint64_t, const int64_t*, T*);  \
  template void fill_bernoulli<T>(int64_t, float, uint64_t, const int64_t*, T*); \
  template void dropout<T>(int64_t, float, const T*, uint64_t, const int64_t*, T*);
RANVIER_INSTANTIATE(float)
RANVIER_INSTANTIATE(double)
#undef RANVIER_INSTANTIATE
template void fill_bernoulli<uint8_t>(int64_t, float, uint64_t, const int64_t*, uint8_t*);

}  // namespace reference

void permutation(int64_t n, uint64_t stream, const int64_t* rng, uint64_t* workspace, int32_t* out) {
  check_permutation(n);
  const philox::Key key = key_of(stream, rng);
  for (int64_t i = 0; i < n; ++i) {
    workspace[i] = (uint64_t{philox::bits(key.seed, key.stream, key.step, i)} << 32) | static_cast<uint64_t>(i);
  }
  std::sort(workspace, workspace + n);
  for (int64_t i = 0; i < n; ++i) out[i] = static_cast<int32_t>(workspace[i] & 0xffffffffu);
}

void check_permutation(int64_t n) {
  if (n >= int64_t{1} << 31) throw std::runtime_error("permutation: n = " + std::to_string(n) + " is not below 2^31");
}

void check_drop(float drop) {
  if (!(drop >= 0.0f && drop < 1.0f)) {
    throw std::runtime_error("dropout: the share dropped must lie in [0, 1), got " + std::to_string(drop));
  }
}

}  // namespace ranvier::kernels
