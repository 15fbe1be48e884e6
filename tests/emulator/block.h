// The running block: its threads, the queue of those that can run, and how a thread waits. Internal to the emulator.
#pragma once
#include <core.h>
#include <fiber.h>

#include <deque>
#include <random>
#include <vector>

namespace emulator {

constexpr int warp_size = 32, group_size = 128;

/// A copy under way: `valid` bytes of `from`, then zeros.
struct Copy {
  unsigned char* to;
  const unsigned char* from;
  int bytes, valid;
  Site site;
};

struct Thread {
  enum class State : uint8_t { fresh, ready, running, waiting, done };
  uint3 index;
  int number, lane, warp;
  State state;
  Fiber* fiber;
  const char* waits_for;  // while it waits: what for, and where in the kernel
  Site site;
  Votes* votes;
  std::vector<Copy> open_copies;
  std::deque<std::vector<Copy>> copy_groups;
};

struct Block {
  std::vector<Thread> threads;
  Thread* current = nullptr;  // null outside kernels
  int done = 0;
  bool in_kernel = false;  // the kernel's own code runs, not the emulator's on its behalf
  Site site{"", 0};        // of the operation that the emulator runs
  std::mt19937 random;
  int size() const { return static_cast<int>(threads.size()); }
};
extern Block block;

/// Held by every entry from a kernel into the emulator: the checkers' hooks stay silent meanwhile (the linker may have
/// merged inline library functions with the kernels' instrumented copies), and errors name `site`.
class InEmulator {
 public:
  explicit InEmulator(Site site = {"", 0}) : in_kernel_(block.in_kernel), site_(block.site) {
    block.in_kernel = false;
    block.site = site;
  }
  ~InEmulator() {
    block.in_kernel = in_kernel_;
    block.site = site_;
  }

 private:
  bool in_kernel_;
  Site site_;
};

/// Lets a thread run after all others that can, or before them; lets all of `threads` run, in the order of the options.
void make_ready(int thread);
void make_ready_first(int thread);
void make_all_ready(std::vector<int> threads);
/// The running thread gives way until another makes it ready.
void wait(const char* what, Site site);
/// "\n    96 threads from (0,0,0) on: __syncthreads at kernel.cu:12" for every place where threads are.
std::string whereabouts();

// What each part does as a block begins and as a thread ends.
void reset_barriers();
void leave_barriers(const Thread& thread);
void check_copies_done(const Thread& thread);
void reset_shared(size_t dynamic_bytes);
/// Of the launches to come: all the memory that a block can have, or what it has without asking.
void limit_shared(bool asked);
/// Fails where an array was written past its end.
void check_shared_gaps();
void reset_hopper();
void check_hopper_done();
/// Lands one late TMA copy where no thread can run; false where none is under way.
bool land_late_copy();
void finish_bank_counts();

/// Name and byte of a shared address for messages.
std::string name_of_shared(const void* p);
/// The arena of shared memory: its first byte, its size, how much of it the block uses.
unsigned char* shared_arena();
constexpr size_t arena_bytes = 512 * 1024;
bool is_shared(const void* p);
/// Whether every byte belongs to an array.
bool is_allocated_shared(const void* p, size_t bytes);

}  // namespace emulator
