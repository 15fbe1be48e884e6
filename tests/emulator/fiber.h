// Fibers: stacks of their own between which one OS thread switches. x86-64 switches by twelve instructions (45 ns a
// thread and barrier), other machines by ucontext (250 ns, for its system calls).
#pragma once
#include <cstddef>

#if !defined(__x86_64__) || defined(RANVIER_EMULATOR_UCONTEXT)
#include <ucontext.h>
#define RANVIER_EMULATOR_UCONTEXT 1
#else
#define RANVIER_EMULATOR_UCONTEXT 0
#endif

namespace emulator {

struct Fiber {
  unsigned char* stack = nullptr;  // its lowest page is a guard
  size_t size = 0;
  size_t stagger = 0;          // tops at equal offsets in a page would compete for the same cache sets
  void* fake_stack = nullptr;  // AddressSanitizer's
  int next_thread = -1;        // the kernel thread to begin when this fiber is entered or taken up again
#if RANVIER_EMULATOR_UCONTEXT
  ucontext_t context;
#else
  void* stack_pointer = nullptr;
#endif
};

/// The OS thread's own stack.
extern Fiber main_fiber;
extern Fiber* running_fiber;

/// Leaves the running fiber; returns when somebody switches back.
void switch_to(Fiber& to);
/// The first call of a fiber's entry function.
void fiber_entered();
/// An idle fiber, or a new one that begins in `entry` when first switched to. `entry` never returns.
Fiber& take_fiber(void (*entry)());
void give_back(Fiber& fiber);
/// Makes every fiber begin anew in `entry`, whatever it was doing.
void abandon_fibers(void (*entry)());

}  // namespace emulator
