// What kernels/common/launch.h includes where a .cu file is compiled as plain C++: CUDA's words and device functions
// with the same meaning, for kernels that run on the CPU in tests. One OS thread; blocks run one after another; every
// CUDA thread is a fiber (core.h, block.h).
#pragma once
#if defined(__CUDACC__)
#error "emulator.h is for host compilation only"
#endif
#include <core.h>
#include <cuda_runtime_api.h>
#include <vector_functions.h>
#include <vector_types.h>

#include <bit>
#include <cmath>
#include <cstdint>
#include <cstdlib>
#include <type_traits>

// CUDA's headers make these empty or unusable for other compilers.
#undef __launch_bounds__
#define __launch_bounds__(...)
#undef __global__
#define __global__
#undef __device__
#define __device__
#undef __host__
#define __host__
#undef __constant__
#define __constant__ static
#undef __grid_constant__
#define __grid_constant__
#undef __forceinline__
#define __forceinline__ inline __attribute__((always_inline))
// Left empty it would turn a shared array into a private one of each thread, silently.
#undef __shared__
#define __shared__ static_assert(false, "declare shared memory by RANVIER_SHARED or RANVIER_DYNAMIC_SHARED");

#define RANVIER_SHARED(type, name, extents)                    \
  using name##_emulated = type extents;                        \
  static ::emulator::Slot<name##_emulated> name##_slot{#name}; \
  name##_emulated& name = name##_slot.get()
#define RANVIER_DYNAMIC_SHARED(name) unsigned char* const name = ::emulator::dynamic_shared()

constexpr int warpSize = 32;

namespace emulator {

template <class T>
struct Shuffle {
  T value;
  int from;
  T result;
};
/// The value of lane `from`, which must be in the mask.
template <class T>
T shuffle(unsigned mask, T value, int from, const char* what, Site site) {
  Shuffle<T> mine{value, from, value};
  warp_collective(
      mask, what, &mine,
      [](void** lanes, unsigned in) {
        for (int i = 0; i < 32; ++i) {
          if (!(in >> i & 1)) continue;
          auto* at = static_cast<Shuffle<T>*>(lanes[i]);
          if (!(in >> at->from & 1)) fail("lane " + std::to_string(i) + " shuffles from a lane outside the mask");
          at->result = static_cast<Shuffle<T>*>(lanes[at->from])->value;
        }
      },
      site);
  return mine.result;
}

/// The values of the mask's lanes combined in the order of lanes.
template <class Combine, class T>
T reduce(unsigned mask, T value, const char* what, Site site) {
  T mine = value;
  warp_collective(
      mask, what, &mine,
      [](void** lanes, unsigned in) {
        const int first = std::countr_zero(in);
        T all = *static_cast<T*>(lanes[first]);
        for (int i = first + 1; i < 32; ++i)
          if (in >> i & 1) all = Combine{}(all, *static_cast<T*>(lanes[i]));
        for (int i = 0; i < 32; ++i)
          if (in >> i & 1) *static_cast<T*>(lanes[i]) = all;
      },
      site);
  return mine;
}

struct Add {
  template <class T>
  T operator()(T a, T b) const {
    return a + b;
  }
};
struct Least {
  template <class T>
  T operator()(T a, T b) const {
    return b < a ? b : a;
  }
};
struct Greatest {
  template <class T>
  T operator()(T a, T b) const {
    return a < b ? b : a;
  }
};
struct And {
  template <class T>
  T operator()(T a, T b) const {
    return a & b;
  }
};
struct Or {
  template <class T>
  T operator()(T a, T b) const {
    return a | b;
  }
};
struct Xor {
  template <class T>
  T operator()(T a, T b) const {
    return a ^ b;
  }
};

/// *p = change(*p), the old value returned: atomic, since there is one OS thread and no fiber yields here.
template <class T, class Change>
T read_modify_write(T* p, Change change) {
  note_access(p, sizeof(T), Access::atomic);
  T old;
  raw_copy(&old, p, sizeof(T));
  const T changed = change(old);
  raw_copy(p, &changed, sizeof(T));
  return old;
}

}  // namespace emulator

// Barriers.

inline void __syncthreads(emulator::Site site = emulator::here()) {
  emulator::block_barrier(0, 0, false, nullptr, site);
}
inline int __syncthreads_count(int predicate, emulator::Site site = emulator::here()) {
  emulator::Votes votes;
  emulator::block_barrier(0, 0, predicate != 0, &votes, site);
  return votes.held;
}
inline int __syncthreads_or(int predicate, emulator::Site site = emulator::here()) {
  return __syncthreads_count(predicate, site) != 0;
}
inline int __syncthreads_and(int predicate, emulator::Site site = emulator::here()) {
  emulator::Votes votes;
  emulator::block_barrier(0, 0, predicate != 0, &votes, site);
  return votes.held == votes.arrived;
}
inline void __syncwarp(unsigned mask = 0xffffffffu, emulator::Site site = emulator::here()) {
  emulator::warp_collective(
      mask, "__syncwarp", nullptr, [](void**, unsigned) {}, site);
}
// Memory is sequentially consistent here: a missing fence goes unseen.
inline void __threadfence() {}
inline void __threadfence_block() {}

// Shuffles, votes and reductions of a warp; `width` cuts it into segments.

template <class T>
T __shfl_sync(unsigned mask, T v, int from, int width = 32, emulator::Site site = emulator::here()) {
  const int segment = emulator::lane() & ~(width - 1);
  return emulator::shuffle(mask, v, segment + (from & (width - 1)), "__shfl_sync", site);
}
template <class T>
T __shfl_up_sync(unsigned mask, T v, unsigned delta, int width = 32, emulator::Site site = emulator::here()) {
  const int lane = emulator::lane(), from = lane - static_cast<int>(delta);
  return emulator::shuffle(mask, v, from < (lane & ~(width - 1)) ? lane : from, "__shfl_up_sync", site);
}
template <class T>
T __shfl_down_sync(unsigned mask, T v, unsigned delta, int width = 32, emulator::Site site = emulator::here()) {
  const int lane = emulator::lane(), from = lane + static_cast<int>(delta);
  return emulator::shuffle(mask, v, from >= (lane & ~(width - 1)) + width ? lane : from, "__shfl_down_sync", site);
}
template <class T>
T __shfl_xor_sync(unsigned mask, T v, int bits, int width = 32, emulator::Site site = emulator::here()) {
  const int lane = emulator::lane(), from = lane ^ bits;
  return emulator::shuffle(mask, v, from >= (lane & ~(width - 1)) + width ? lane : from, "__shfl_xor_sync", site);
}
inline unsigned __ballot_sync(unsigned mask, int predicate, emulator::Site site = emulator::here()) {
  const unsigned mine = predicate ? 1u << emulator::lane() : 0u;
  return emulator::reduce<emulator::Or>(mask, mine, "__ballot_sync", site);
}
inline int __any_sync(unsigned mask, int predicate, emulator::Site site = emulator::here()) {
  return __ballot_sync(mask, predicate, site) != 0;
}
inline int __all_sync(unsigned mask, int predicate, emulator::Site site = emulator::here()) {
  return __ballot_sync(mask, predicate, site) == mask;
}
template <class T>
T __reduce_add_sync(unsigned mask, T v, emulator::Site site = emulator::here()) {
  return emulator::reduce<emulator::Add>(mask, v, "__reduce_add_sync", site);
}
template <class T>
T __reduce_max_sync(unsigned mask, T v, emulator::Site site = emulator::here()) {
  return emulator::reduce<emulator::Greatest>(mask, v, "__reduce_max_sync", site);
}
template <class T>
T __reduce_min_sync(unsigned mask, T v, emulator::Site site = emulator::here()) {
  return emulator::reduce<emulator::Least>(mask, v, "__reduce_min_sync", site);
}
template <class T>
T __reduce_or_sync(unsigned mask, T v, emulator::Site site = emulator::here()) {
  return emulator::reduce<emulator::Or>(mask, v, "__reduce_or_sync", site);
}
template <class T>
T __reduce_and_sync(unsigned mask, T v, emulator::Site site = emulator::here()) {
  return emulator::reduce<emulator::And>(mask, v, "__reduce_and_sync", site);
}
template <class T>
T __reduce_xor_sync(unsigned mask, T v, emulator::Site site = emulator::here()) {
  return emulator::reduce<emulator::Xor>(mask, v, "__reduce_xor_sync", site);
}

// Atomics.

template <class T>
T atomicAdd(T* p, std::type_identity_t<T> v) {
  static_assert(std::is_integral_v<T>, "sums of floats by atomics depend on the order of threads");
  return emulator::read_modify_write(p, [v](T old) { return T(old + v); });
}
template <class T>
T atomicMax(T* p, std::type_identity_t<T> v) {
  return emulator::read_modify_write(p, [v](T old) { return old < v ? v : old; });
}
template <class T>
T atomicMin(T* p, std::type_identity_t<T> v) {
  return emulator::read_modify_write(p, [v](T old) { return v < old ? v : old; });
}
template <class T>
T atomicOr(T* p, std::type_identity_t<T> v) {
  return emulator::read_modify_write(p, [v](T old) { return old | v; });
}
template <class T>
T atomicExch(T* p, std::type_identity_t<T> v) {
  return emulator::read_modify_write(p, [v](T) { return v; });
}
template <class T>
T atomicCAS(T* p, std::type_identity_t<T> expected, std::type_identity_t<T> v) {
  return emulator::read_modify_write(p, [expected, v](T old) { return old == expected ? v : old; });
}

// Scalar functions: only those that CUDA's headers do not already give to the host.

template <class T>
T __ldg(const T* p) {
  return *p;
}
template <class T>
T __ldcs(const T* p) {
  return *p;
}
template <class T>
T __ldcg(const T* p) {
  return *p;
}
template <class T>
void __stcs(T* p, std::type_identity_t<T> v) {
  *p = v;
}
template <class T>
void __stcg(T* p, std::type_identity_t<T> v) {
  *p = v;
}
inline float __expf(float x) { return std::exp(x); }
inline float __logf(float x) { return std::log(x); }
inline float __fdividef(float a, float b) { return a / b; }
inline float rsqrtf(float x) { return 1.0f / std::sqrt(x); }
inline int __float_as_int(float x) { return std::bit_cast<int>(x); }
inline unsigned __float_as_uint(float x) { return std::bit_cast<unsigned>(x); }
inline float __int_as_float(int x) { return std::bit_cast<float>(x); }
inline float __uint_as_float(unsigned x) { return std::bit_cast<float>(x); }
inline int __popc(unsigned x) { return std::popcount(x); }
inline int __popcll(unsigned long long x) { return std::popcount(x); }
inline int __clz(int x) { return std::countl_zero(static_cast<unsigned>(x)); }
inline int __ffs(int x) { return x ? std::countr_zero(static_cast<unsigned>(x)) + 1 : 0; }
inline unsigned __umulhi(unsigned a, unsigned b) { return static_cast<unsigned>(uint64_t{a} * b >> 32); }
template <class T>
constexpr T min(T a, std::type_identity_t<T> b) {
  return b < a ? b : a;
}
template <class T>
constexpr T max(T a, std::type_identity_t<T> b) {
  return a < b ? b : a;
}
