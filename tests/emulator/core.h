// The emulator's own interface: launches, options, barriers and collectives, shared memory, asynchronous copies, and
// what the race checker is told. CUDA's names for kernels are in emulator.h, built of these.
#pragma once
#include <cuda_runtime_api.h>

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <functional>
#include <stdexcept>
#include <string>

extern uint3 threadIdx, blockIdx;
extern dim3 blockDim, gridDim;

namespace emulator {

/// A rule of CUDA that a kernel broke. what() names the rule, the lines of the source, the thread and the block.
struct Error : std::runtime_error {
  using std::runtime_error::runtime_error;
};

/// A line of a kernel.
struct Site {
  const char* file;
  int line;
  bool operator==(const Site& other) const {
    return line == other.line && (file == other.file || std::strcmp(file, other.file) == 0);
  }
};
/// As a default argument: the line of the call.
constexpr Site here(const char* file = __builtin_FILE(), int line = __builtin_LINE()) { return {file, line}; }
std::string to_string(Site site);

/// In which order threads that can run are resumed. Ascending goes depth first (a warp runs on while it can),
/// descending breadth first; random takes either at each turn.
enum class Order { ascending, descending, random };

struct Options {
  Order order = Order::ascending;
  unsigned seed = 1;
  bool late_copies = true;  ///< asynchronous copies and products happen as late as is legal; else at once
  bool count_bank_conflicts = false;
};
extern Options options;

/// Runs every thread of the grid, block after block; throws Error. `body` is one thread's work.
/// Where the launch did not ask for it (`asked`), a block's shared memory of both kinds is at most 48 KiB.
void run_grid(dim3 grid, dim3 block, size_t shared_bytes, const std::function<void()>& body, bool asked = true);
/// The same in the order of a stream: recorded where the stream is being captured.
void launch(cudaStream_t stream, dim3 grid, dim3 block, size_t shared_bytes, std::function<void()> body,
            bool asked = true);

/// Ends the launch with an Error; for use while a kernel's thread runs.
[[noreturn]] void fail(const std::string& message);

/// Of the running thread: its place in its warp.
int lane();

/// How many threads of a block barrier there were, and for how many the predicate held.
struct Votes {
  int held = 0, arrived = 0;
};
/// Waits for all threads of the block, or for `count` threads at barrier `id`.
void block_barrier(int id, int count, bool predicate, Votes* votes, Site site);

/// A warp's operation: every lane of `mask` posts a pointer to its arguments, the last to come runs `operation` over
/// all.
using WarpOperation = void (*)(void** lanes, unsigned mask);
void warp_collective(unsigned mask, const char* what, void* arguments, WarpOperation operation, Site site);
/// The same for a warpgroup's 128 threads.
using GroupOperation = void (*)(void** threads, int count);
void group_collective(const char* what, void* arguments, GroupOperation operation, Site site);

/// The block's array that belongs to `key`: made on first use, filled with NaN.
void* shared_array(const void* key, size_t bytes, size_t alignment, const char* name);
/// The launch's dynamic shared memory, aligned to 1024 bytes.
unsigned char* dynamic_shared();
/// Address in the 32-bit shared window, and back; an address outside is an error.
uint32_t shared_addr(const void* p);
void* shared_ptr(uint32_t address);

/// A RANVIER_SHARED array: one for each instance of the kernel's template.
template <class T>
struct Slot {
  const char* name;
  T& get() { return *static_cast<T*>(shared_array(this, sizeof(T), alignof(T) < 16 ? 16 : alignof(T), name)); }
};

/// An access that the emulator makes for the running thread (ldmatrix, cp.async, atomics): checked like the kernel's
/// own.
enum class Access { read, write, atomic };
void note_access(const void* p, size_t bytes, Access access);
/// A copy of which no checker takes note.
void raw_copy(void* to, const void* from, size_t bytes);

/// Device memory that the race checker watches, and memory that kernels must not write.
void register_memory(const void* p, size_t bytes, const char* name);
void unregister_memory(const void* p);
void make_read_only(const void* p);

/// cp.async of 4, 8 or 16 bytes; bytes from `valid` on become zero.
void cp_async(void* to, const void* from, int bytes, int valid, Site site);
void cp_async_commit();
void cp_async_wait(int pending, Site site);

/// Eight 16-byte accesses to shared memory that a device serves in one cycle where no two of them fall into one group
/// of four banks; or the running thread's one of such eight.
void count_banks(const void* const (&addresses)[8], Site site);
void count_bank(const void* address, Site site);

}  // namespace emulator
