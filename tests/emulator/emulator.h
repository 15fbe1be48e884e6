// Runs CUDA kernels on the CPU in tests: what kernels/common/launch.h includes where a .cu file is compiled as plain
// C++. One OS thread; blocks run one after another; every CUDA thread is a fiber.
#pragma once
#if defined(__CUDACC__)
#error "emulator.h is for host compilation only"
#endif
#include <cuda_runtime_api.h>
#include <vector_functions.h>
#include <vector_types.h>

#include <bit>
#include <cmath>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <stdexcept>
#include <string>
#include <type_traits>
#include <utility>

// CUDA's headers make these empty or unusable for other compilers; kernels declare shared memory by RANVIER_SHARED.
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

#define RANVIER_SHARED(type, name, extents)                    \
  using name##_emulated = type extents;                        \
  static ::emulator::Slot<name##_emulated> name##_slot{#name}; \
  name##_emulated& name = name##_slot.get()
#define RANVIER_DYNAMIC_SHARED(name) unsigned char* const name = ::emulator::dyn_shared()

#define EMU_SITE const char *emu_f = __builtin_FILE(), int emu_l = __builtin_LINE()
#define EMU_S emu_f, emu_l

extern uint3 threadIdx, blockIdx;
extern dim3 blockDim, gridDim;
constexpr int warpSize = 32;

namespace emulator {
struct Error : std::runtime_error {
  using std::runtime_error::runtime_error;
};
enum Order { Ascending, Descending, Random };
struct Options {
  Order order = Ascending;  // order in which runnable threads are resumed
  unsigned seed = 1;
  bool lazy_async = true;   // cp.async/TMA/wgmma happen as late as allowed (false: at once)
  bool strict_exit = true;  // a barrier after some thread exited is an error
  bool strict_site = true;  // all threads must meet at the same source line
};
extern Options opt;
struct Stats {
  uint64_t threads, switches, barriers, warp_ops, hooks, blocks;
};
extern Stats stats;

void run_grid(dim3 grid, dim3 block, size_t dyn_smem, const std::function<void()>& body);
// runs at once, or is recorded where the stream is being captured (runtime.cpp)
void launch(cudaStream_t stream, dim3 grid, dim3 block, size_t dyn_smem, std::function<void()> body);
int lane();  // lane of the running thread
int linear_tid();
[[noreturn]] void fail(const std::string& msg);  // usable from a kernel thread

void block_barrier(int id, int count, int pred, int out[3], EMU_SITE);  // count 0 = whole block
using WarpFn = void (*)(void** lane_arg, unsigned mask);
void warp_collective(unsigned mask, const char* what, void* arg, WarpFn fn, EMU_SITE);
using GroupFn = void (*)(void** thread_arg, int n);
void group_collective(const char* what, void* arg, GroupFn fn, EMU_SITE);  // 128 threads (warpgroup)

void* shared_slot(const void* key, size_t bytes, size_t align, const char* name);
unsigned char* dyn_shared();
uint32_t shared_addr(const void* p);  // generic -> 32-bit shared window address
void* shared_ptr(uint32_t a);

// accesses made on behalf of a thread by the emulator (ldmatrix, cp.async ...), for the race checker
void note_access(const void* p, size_t n, bool write, bool atomic = false);
void register_global(const void* p, size_t n, const char* name);
void unregister_global(const void* p);
void freeze_global(const void* p);  // inputs: writes are errors, reads need no tracking

// asynchronous copies
void cp_async(void* dst, const void* src, int bytes, int src_bytes);
void cp_async_commit();
void cp_async_wait(int keep, EMU_SITE);
// mbarrier
void mbar_init(uint64_t* b, unsigned count);
void mbar_arrive(uint64_t* b, unsigned tx_bytes);
void mbar_wait(uint64_t* b, unsigned parity, EMU_SITE);
struct TensorMap2D {
  const void* base;
  int elem, inner, outer;
  long pitch_bytes;
  int box_inner, box_outer;
  bool swizzle128;
};
void tma_load_2d(void* dst, const TensorMap2D* m, uint64_t* bar, int c_inner, int c_outer);
void wgmma_commit();
void wgmma_wait(int keep, EMU_SITE);
void wgmma_issue(const char* what, void* arg, GroupFn fn, size_t arg_bytes, EMU_SITE);

template <class T>
struct Slot {
  const char* name;
  T& get() { return *static_cast<T*>(shared_slot(this, sizeof(T), alignof(T) < 16 ? 16 : alignof(T), name)); }
};
// device buffer with exact-size heap block (ASan redzones) and race registration
template <class T>
struct Buffer {
  T* p;
  size_t n;
  explicit Buffer(size_t n_, const char* name = "global") : n(n_) {
    p = static_cast<T*>(std::aligned_alloc(256, (n * sizeof(T) + 255) / 256 * 256));  // see note: exact under ASan
#ifdef __SANITIZE_ADDRESS__
    std::free(p);
    void* q = nullptr;
    if (posix_memalign(&q, 256, n * sizeof(T))) std::abort();
    p = static_cast<T*>(q);
#endif
    std::memset(static_cast<void*>(p), 0xff, n * sizeof(T));
    register_global(p, n * sizeof(T), name);
  }
  ~Buffer() {
    unregister_global(p);
    std::free(p);
  }
  Buffer(const Buffer&) = delete;
  void freeze() { freeze_global(p); }
  T& operator[](size_t i) { return p[i]; }
};

template <class T>
struct ShflArg {
  T v;
  int src;
  T out;
};
template <class T>
T shfl(unsigned mask, T v, int src, const char* what, const char* f, int l) {
  ShflArg<T> a{v, src, v};
  warp_collective(
      mask, what, &a,
      [](void** la, unsigned m) {
        for (int i = 0; i < 32; i++)
          if (m >> i & 1) {
            auto* me = static_cast<ShflArg<T>*>(la[i]);
            if (!(m >> me->src & 1)) fail("shuffle reads a lane outside its mask");
            me->out = static_cast<ShflArg<T>*>(la[me->src])->v;
          }
      },
      f, l);
  return a.out;
}
template <class T, class F>
T wreduce(unsigned mask, T v, const char* what, const char* f, int l) {
  struct A {
    T v, out;
  } a{v, v};
  warp_collective(
      mask, what, &a,
      [](void** la, unsigned m) {
        T r{};
        bool first = true;
        for (int i = 0; i < 32; i++)
          if (m >> i & 1) {
            T x = static_cast<A*>(la[i])->v;
            r = first ? x : F{}(r, x);
            first = false;
          }
        for (int i = 0; i < 32; i++)
          if (m >> i & 1) static_cast<A*>(la[i])->out = r;
      },
      f, l);
  return a.out;
}
struct Add {
  template <class T>
  T operator()(T a, T b) const {
    return a + b;
  }
};
struct Min {
  template <class T>
  T operator()(T a, T b) const {
    return b < a ? b : a;
  }
};
struct Max {
  template <class T>
  T operator()(T a, T b) const {
    return a < b ? b : a;
  }
};
struct Or {
  template <class T>
  T operator()(T a, T b) const {
    return a | b;
  }
};
struct And {
  template <class T>
  T operator()(T a, T b) const {
    return a & b;
  }
};
// one OS thread: a plain read-modify-write is atomic. Out of the instrumented TU's sight via memcpy helpers.
void raw_copy(void* d, const void* s, size_t n);
template <class T, class F>
T rmw(T* p, F f) {
  note_access(p, sizeof(T), true, true);
  T o;
  raw_copy(&o, p, sizeof(T));
  T n = f(o);
  raw_copy(p, &n, sizeof(T));
  return o;
}
}  // namespace emulator

// ---- barriers ----
inline void __syncthreads(EMU_SITE) { emulator::block_barrier(0, 0, 0, nullptr, EMU_S); }
inline int __syncthreads_or(int p, EMU_SITE) {
  int o[3];
  emulator::block_barrier(0, 0, p, o, EMU_S);
  return o[0] != 0;
}
inline int __syncthreads_and(int p, EMU_SITE) {
  int o[3];
  emulator::block_barrier(0, 0, p, o, EMU_S);
  return o[0] == o[1];
}
inline int __syncthreads_count(int p, EMU_SITE) {
  int o[3];
  emulator::block_barrier(0, 0, p, o, EMU_S);
  return o[0];
}
inline void __syncwarp(unsigned m = 0xffffffffu, EMU_SITE) {
  char c;
  emulator::warp_collective(
      m, "__syncwarp", &c, [](void**, unsigned) {}, EMU_S);
}
inline void __threadfence() {}
inline void __threadfence_block() {}
// ---- shuffles / votes / reductions ----
template <class T>
T __shfl_sync(unsigned m, T v, int s, int w = 32, EMU_SITE) {
  int L = emulator::lane(), b = L & ~(w - 1);
  return emulator::shfl(m, v, b + (s & (w - 1)), "__shfl_sync", EMU_S);
}
template <class T>
T __shfl_up_sync(unsigned m, T v, unsigned d, int w = 32, EMU_SITE) {
  int L = emulator::lane(), b = L & ~(w - 1), s = L - int(d);
  return emulator::shfl(m, v, s < b ? L : s, "__shfl_up_sync", EMU_S);
}
template <class T>
T __shfl_down_sync(unsigned m, T v, unsigned d, int w = 32, EMU_SITE) {
  int L = emulator::lane(), b = L & ~(w - 1), s = L + int(d);
  return emulator::shfl(m, v, s >= b + w ? L : s, "__shfl_down_sync", EMU_S);
}
template <class T>
T __shfl_xor_sync(unsigned m, T v, int x, int w = 32, EMU_SITE) {
  int L = emulator::lane(), b = L & ~(w - 1), s = L ^ x;
  return emulator::shfl(m, v, s >= b + w ? L : s, "__shfl_xor_sync", EMU_S);
}
inline unsigned __ballot_sync(unsigned m, int p, EMU_SITE) {
  return emulator::wreduce<unsigned, emulator::Or>(m, p ? 1u << emulator::lane() : 0u, "__ballot_sync", EMU_S);
}
inline int __any_sync(unsigned m, int p, EMU_SITE) { return __ballot_sync(m, p, EMU_S) != 0; }
inline int __all_sync(unsigned m, int p, EMU_SITE) { return __ballot_sync(m, p, EMU_S) == m; }
template <class T>
T __reduce_add_sync(unsigned m, T v, EMU_SITE) {
  return emulator::wreduce<T, emulator::Add>(m, v, "__reduce_add_sync", EMU_S);
}
template <class T>
T __reduce_max_sync(unsigned m, T v, EMU_SITE) {
  return emulator::wreduce<T, emulator::Max>(m, v, "__reduce_max_sync", EMU_S);
}
template <class T>
T __reduce_min_sync(unsigned m, T v, EMU_SITE) {
  return emulator::wreduce<T, emulator::Min>(m, v, "__reduce_min_sync", EMU_S);
}
// ---- atomics ----
template <class T>
T atomicAdd(T* p, std::type_identity_t<T> v) {
  return emulator::rmw(p, [v](T o) { return T(o + v); });
}
template <class T>
T atomicMax(T* p, std::type_identity_t<T> v) {
  return emulator::rmw(p, [v](T o) { return o < v ? v : o; });
}
template <class T>
T atomicMin(T* p, std::type_identity_t<T> v) {
  return emulator::rmw(p, [v](T o) { return v < o ? v : o; });
}
template <class T>
T atomicExch(T* p, std::type_identity_t<T> v) {
  return emulator::rmw(p, [v](T) { return v; });
}
template <class T>
T atomicCAS(T* p, std::type_identity_t<T> c, std::type_identity_t<T> v) {
  return emulator::rmw(p, [c, v](T o) { return o == c ? v : o; });
}
// ---- scalar intrinsics (only those that CUDA headers do not already give to the host) ----
template <class T>
T __ldg(const T* p) {
  return *p;
}
template <class T>
T __ldcs(const T* p) {
  return *p;
}
template <class T>
void __stcs(T* p, T v) {
  *p = v;
}
inline float __expf(float x) { return std::exp(x); }
inline float __logf(float x) { return std::log(x); }
inline float __fdividef(float a, float b) { return a / b; }
inline float rsqrtf(float x) { return 1.0f / std::sqrt(x); }
inline int __float_as_int(float f) { return std::bit_cast<int>(f); }
inline float __int_as_float(int i) { return std::bit_cast<float>(i); }
inline int __popc(unsigned x) { return std::popcount(x); }
inline int __clz(int x) { return std::countl_zero(unsigned(x)); }
inline int __ffs(int x) { return x ? std::countr_zero(unsigned(x)) + 1 : 0; }
template <class T>
constexpr T min(T a, std::type_identity_t<T> b) {
  return b < a ? b : a;
}
template <class T>
constexpr T max(T a, std::type_identity_t<T> b) {
  return a < b ? b : a;
}
