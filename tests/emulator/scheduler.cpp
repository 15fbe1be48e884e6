// Runs grids: every thread a fiber, one at a time, each until it waits or ends.
#include <block.h>
#include <race.h>

#include <algorithm>
#include <map>
#include <numeric>

uint3 threadIdx, blockIdx;
dim3 blockDim, gridDim;

namespace emulator {

Options options;
Block block;

namespace {

/// Threads that can run, first to last: a ring of as many places as threads.
struct Queue {
  std::vector<int> ring;
  size_t first = 0, count = 0;

  void reset(size_t places) { ring.assign(places, 0), first = count = 0; }
  void push(int thread) { ring[(first + count++) % ring.size()] = thread; }
  void push_first(int thread) {
    first = (first + ring.size() - 1) % ring.size();
    ring[first] = thread;
    ++count;
  }
  int pop() {
    const int thread = ring[first];
    first = (first + 1) % ring.size();
    --count;
    return thread;
  }
};

Queue queue;
const std::function<void()>* kernel;
std::string error;
bool failed = false;

/// Unwinds a fiber after an error.
struct Abandon {};

std::string place(const uint3& at) {
  return "(" + std::to_string(at.x) + "," + std::to_string(at.y) + "," + std::to_string(at.z) + ")";
}

void mark_ready(int number) {
  Thread& thread = block.threads[static_cast<size_t>(number)];
  thread.state = thread.fiber ? Thread::State::ready : Thread::State::fresh;
}

/// The next thread to run, or -1. Late copies land when nobody else can run.
int next_thread() {
  while (queue.count == 0)
    if (!land_late_copy()) return -1;
  return queue.pop();
}

void set_current(Thread& thread) {
  block.current = &thread;
  threadIdx = thread.index;
  thread.state = Thread::State::running;
}

void fail_for_deadlock() { fail("deadlock: no thread can run" + whereabouts()); }

void end_thread() {
  Thread& thread = *block.current;
  check_copies_done(thread);
  thread.state = Thread::State::done;
  thread.fiber = nullptr;
  ++block.done;
  leave_barriers(thread);
}

/// Runs threads to their end on this one stack as long as the next has not begun; so a kernel without barriers needs no
/// switch at all. Returns the first that waits on a fiber of its own, or -1.
int run_threads(Fiber& self) {
  int next = self.next_thread;
  do {
    Thread& thread = block.threads[static_cast<size_t>(next)];
    thread.fiber = &self;
    set_current(thread);
    block.site = {"", 0};
    block.in_kernel = true;
    (*kernel)();
    block.in_kernel = false;
    end_thread();
    next = next_thread();
  } while (next >= 0 && !block.threads[static_cast<size_t>(next)].fiber);
  return next;
}

void fiber_entry() {
  fiber_entered();
  for (;;) {
    Fiber& self = *running_fiber;
    int next = -1;
    bool abandoned = false;
    try {
      next = run_threads(self);
      if (next < 0 && block.done != block.size()) fail_for_deadlock();
    } catch (Abandon&) {
      abandoned = true;
    }
    if (abandoned) switch_to(main_fiber);  // not from within the catch: the exception would live on
    give_back(self);
    switch_to(next < 0 ? main_fiber : *block.threads[static_cast<size_t>(next)].fiber);
  }
}

void begin_block(size_t shared_bytes) {
  reset_barriers();
  reset_hopper();
  reset_shared(shared_bytes);
  race::begin_block();
  for (Thread& thread : block.threads) {
    thread.state = Thread::State::fresh;
    thread.fiber = nullptr;
    thread.votes = nullptr;
    thread.open_copies.clear();
    thread.copy_groups.clear();
  }
  block.done = 0;
  queue.reset(block.threads.size());
  std::vector<int> all(block.threads.size());
  std::iota(all.begin(), all.end(), 0);
  make_all_ready(std::move(all));
}

void run_block(size_t shared_bytes) {
  try {
    begin_block(shared_bytes);
    Fiber& first = take_fiber(fiber_entry);
    first.next_thread = next_thread();
    switch_to(first);
    block.in_kernel = false;
    block.site = {"", 0};
    block.current = nullptr;
    if (!failed) {
      check_hopper_done();
      check_shared_gaps();
    }
  } catch (Abandon&) {  // `failed` says the rest
  }
  finish_bank_counts();
  if (failed) {
    failed = false;
    abandon_fibers(fiber_entry);
    throw Error(error);
  }
}

void check_limits(dim3 grid, dim3 size) {
  const size_t threads = size_t{size.x} * size.y * size.z;
  if (threads == 0 || threads > 1024 || size.z > 64)
    throw Error("a launch with blocks of " + place({size.x, size.y, size.z}) + " threads");
  if (!grid.x || !grid.y || !grid.z || grid.x > 0x7fffffffu || grid.y > 65535 || grid.z > 65535)
    throw Error("a launch with a grid of " + place({grid.x, grid.y, grid.z}) + " blocks");
}

}  // namespace

std::string to_string(Site site) {
  const char* file = site.file;
  while (std::strncmp(file, "../", 3) == 0) file += 3;  // of a build folder within the source tree
  return std::string(file) + ":" + std::to_string(site.line);
}

int lane() { return block.current->lane; }

void raw_copy(void* to, const void* from, size_t bytes) { std::memcpy(to, from, bytes); }

[[noreturn]] void fail(const std::string& message) {
  if (!failed) {
    failed = true;
    error = message;
    if (block.site.line) error += " [at " + to_string(block.site) + "]";
    if (block.current) error += " [thread " + place(block.current->index) + ", block " + place(blockIdx) + "]";
  }
  // The compiler takes ThreadSanitizer's hooks for functions that never throw: in the race build the fiber is left.
  if (race::enabled && running_fiber != &main_fiber) switch_to(main_fiber);
  throw Abandon{};
}

void make_ready(int thread) {
  mark_ready(thread);
  queue.push(thread);
}
void make_ready_first(int thread) {
  mark_ready(thread);
  queue.push_first(thread);
}
void make_all_ready(std::vector<int> threads) {
  if (options.order == Order::descending) std::reverse(threads.begin(), threads.end());
  if (options.order == Order::random) std::shuffle(threads.begin(), threads.end(), block.random);
  for (int thread : threads) make_ready(thread);
}

void wait(const char* what, Site site) {
  Thread& self = *block.current;
  self.state = Thread::State::waiting;
  self.waits_for = what;
  self.site = site;
  const int next = next_thread();
  block.current = &self;
  if (next < 0) fail_for_deadlock();
  Thread& thread = block.threads[static_cast<size_t>(next)];
  if (&thread != &self) {
    if (!thread.fiber) {
      thread.fiber = &take_fiber(fiber_entry);
      thread.fiber->next_thread = next;
    }
    const Site operation = block.site;
    block.current = &thread;
    switch_to(*thread.fiber);
    block.site = operation;
  }
  set_current(self);
}

std::string whereabouts() {
  struct Group {
    int count = 0;
    uint3 first{};
  };
  std::map<std::string, Group> groups;
  for (const Thread& thread : block.threads) {
    std::string at;
    if (thread.state == Thread::State::waiting)
      at = std::string(thread.waits_for) + " at " + to_string(thread.site);
    else if (thread.state == Thread::State::done)
      at = "ended";
    else
      at = "running";
    Group& group = groups[at];
    if (group.count++ == 0) group.first = thread.index;
  }
  std::string text;
  for (const auto& [at, group] : groups)
    text += "\n    " + std::to_string(group.count) + (group.count == 1 ? " thread, " : " threads from ") +
            place(group.first) + (group.count == 1 ? ": " : " on: ") + at;
  return text;
}

void run_grid(dim3 grid, dim3 size, size_t shared_bytes, const std::function<void()>& body, bool asked) {
  check_limits(grid, size);
  limit_shared(asked);
  kernel = &body;
  gridDim = grid;
  blockDim = size;
  block.random.seed(options.seed);
  block.threads.assign(size_t{size.x} * size.y * size.z, Thread{});
  for (int i = 0; i < block.size(); ++i) {
    Thread& thread = block.threads[static_cast<size_t>(i)];
    const auto n = static_cast<unsigned>(i);
    thread.number = i;
    thread.lane = i % warp_size;
    thread.warp = i / warp_size;
    thread.index = {n % size.x, n / size.x % size.y, n / (size.x * size.y)};
  }
  race::begin_launch();
  for (unsigned z = 0; z < grid.z; ++z)
    for (unsigned y = 0; y < grid.y; ++y)
      for (unsigned x = 0; x < grid.x; ++x) {
        blockIdx = {x, y, z};
        run_block(shared_bytes);
      }
}

}  // namespace emulator

/// The ways in which tests run every kernel: three orders of threads with late copies (0 to 2) and with early ones.
extern "C" int emulator_orders_take_turns() {
#if defined(RANVIER_EMULATOR_RACE) || defined(RANVIER_EMULATOR_ASAN)
  return 1;
#else
  return 0;
#endif
}
extern "C" void emulator_set_mode(int mode) {
  emulator::options.order = static_cast<emulator::Order>(mode % 3);
  emulator::options.late_copies = mode < 3;
  emulator::options.seed = 1u + static_cast<unsigned>(mode);
}
