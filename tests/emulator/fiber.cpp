// Context switches, the pool of fibers, and what AddressSanitizer must know of them.
#include <fiber.h>
#include <sys/mman.h>

#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <memory>
#include <vector>

#if defined(RANVIER_EMULATOR_ASAN)
#include <sanitizer/asan_interface.h>
#include <sanitizer/common_interface_defs.h>
#endif

namespace emulator {

Fiber main_fiber;
Fiber* running_fiber = &main_fiber;

namespace {

std::vector<std::unique_ptr<Fiber>> fibers;
std::vector<Fiber*> idle;

#if RANVIER_EMULATOR_UCONTEXT
void prepare(Fiber& fiber, void (*entry)()) {
  getcontext(&fiber.context);
  fiber.context.uc_stack.ss_sp = fiber.stack;
  fiber.context.uc_stack.ss_size = fiber.size - fiber.stagger;
  fiber.context.uc_link = nullptr;
  makecontext(&fiber.context, entry, 0);
}
void raw_switch(Fiber& from, Fiber& to) { swapcontext(&from.context, &to.context); }
#else
extern "C" void emulator_switch(void** save_stack_pointer, void* stack_pointer);
asm(R"(
.text
.globl emulator_switch
.type emulator_switch,@function
emulator_switch:
  pushq %rbp
  pushq %rbx
  pushq %r12
  pushq %r13
  pushq %r14
  pushq %r15
  movq %rsp, (%rdi)
  movq %rsi, %rsp
  popq %r15
  popq %r14
  popq %r13
  popq %r12
  popq %rbx
  popq %rbp
  ret
.size emulator_switch,.-emulator_switch
)");
void prepare(Fiber& fiber, void (*entry)()) {
  const uintptr_t top = (reinterpret_cast<uintptr_t>(fiber.stack + fiber.size) - fiber.stagger) & ~uintptr_t{15};
  auto** at = reinterpret_cast<void**>(top);
  *--at = nullptr;                              // a return address for `entry`, which aligns its frame
  *--at = reinterpret_cast<void*>(entry);       // where the switch's `ret` goes
  for (int i = 0; i < 6; ++i) *--at = nullptr;  // the six registers that the switch pops
  fiber.stack_pointer = at;
}
void raw_switch(Fiber& from, Fiber& to) { emulator_switch(&from.stack_pointer, to.stack_pointer); }
#endif

std::unique_ptr<Fiber> new_fiber() {
#if defined(RANVIER_EMULATOR_ASAN)
  constexpr size_t size = 256 * 1024;  // redzones make frames large
#else
  constexpr size_t size = 64 * 1024;
#endif
  constexpr size_t page = 4096, line = 64;
  auto fiber = std::make_unique<Fiber>();
  void* const stack =
      mmap(nullptr, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_STACK, -1, 0);
  if (stack == MAP_FAILED || mprotect(stack, page, PROT_NONE) != 0) {
    std::perror("emulator: no memory for the stack of a thread");
    std::abort();
  }
  fiber->stack = static_cast<unsigned char*>(stack);
  fiber->size = size;
  fiber->stagger = fibers.size() % 48 * 5 * line % (3 * page);
  return fiber;
}

}  // namespace

void switch_to(Fiber& to) {
  Fiber& from = *running_fiber;
  running_fiber = &to;
#if defined(RANVIER_EMULATOR_ASAN)
  __sanitizer_start_switch_fiber(&from.fake_stack, to.stack, to.size);
#endif
  raw_switch(from, to);
#if defined(RANVIER_EMULATOR_ASAN)
  __sanitizer_finish_switch_fiber(from.fake_stack, nullptr, nullptr);
#endif
}

void fiber_entered() {
#if defined(RANVIER_EMULATOR_ASAN)
  const void* lowest = nullptr;
  size_t size = 0;
  __sanitizer_finish_switch_fiber(nullptr, &lowest, &size);
  if (!main_fiber.stack) {  // the first fiber is entered from the OS thread's stack: these are its bounds
    main_fiber.stack = static_cast<unsigned char*>(const_cast<void*>(lowest));
    main_fiber.size = size;
  }
#endif
}

Fiber& take_fiber(void (*entry)()) {
  if (idle.empty()) {
    fibers.push_back(new_fiber());
    prepare(*fibers.back(), entry);
    return *fibers.back();
  }
  Fiber& fiber = *idle.back();
  idle.pop_back();
  return fiber;
}

void give_back(Fiber& fiber) { idle.push_back(&fiber); }

void abandon_fibers(void (*entry)()) {
  idle.clear();
  for (const auto& fiber : fibers) {
#if defined(RANVIER_EMULATOR_ASAN)
    __asan_unpoison_memory_region(fiber->stack, fiber->size);
    fiber->fake_stack = nullptr;
#endif
    prepare(*fiber, entry);
    idle.push_back(fiber.get());
  }
}

}  // namespace emulator
