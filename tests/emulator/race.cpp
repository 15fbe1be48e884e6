// Finds data races by happens-before: a vector clock a thread, and for every word of shared and device memory who wrote
// and who read it last. The kernels are compiled with -fsanitize=thread; this file answers the calls that GCC puts into
// them (libtsan is not linked). Elsewhere only accesses that the emulator makes itself are looked at.
#include <block.h>
#include <race.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <filesystem>
#include <map>
#include <memory>

#if defined(RANVIER_EMULATOR_ASAN)
#include <sanitizer/asan_interface.h>
extern "C" void __asan_report_load_n(const void* p, size_t bytes);
extern "C" void __asan_report_store_n(const void* p, size_t bytes);
#endif

#if !defined(RANVIER_EMULATOR_RACE)
namespace emulator {

void note_access(const void* p, size_t bytes, Access access) {
#if defined(RANVIER_EMULATOR_ASAN)
  void* const bad = bytes ? __asan_region_is_poisoned(const_cast<void*>(p), bytes) : nullptr;
  if (bad && access == Access::read) __asan_report_load_n(bad, 1);
  if (bad && access != Access::read) __asan_report_store_n(bad, 1);
#else
  (void)p, (void)bytes, (void)access;
#endif
}
void register_memory(const void*, size_t, const char*) {}
void unregister_memory(const void*) {}
void make_read_only(const void*) {}

}  // namespace emulator
#else

namespace emulator {
namespace race {
namespace {

// Time. An epoch ends with every barrier of a whole block, so that such a barrier costs nothing a thread; clocks order
// threads within an epoch.
uint32_t epoch = 1, block_epoch = 1, launch_epoch = 1;
std::vector<Clock> clocks;

/// An access: when, by which thread, at which of the thread's times, and where.
struct Stamp {
  uint32_t epoch = 0, time = 0, place = 0;
  int16_t thread = -1;
};

/// What is known of one unit of memory.
struct Cell {
  Stamp writer, reader;
  uint32_t more = 0;           // shared memory: its set of readers; device memory: the time of a second reader
  uint32_t foreign_epoch = 0;  // the last epoch in which a block before this one read it
  int16_t second = -1;         // device memory: the second reader
  bool atomic = false;         // the writer's access
};

/// A watched range. Its units are four bytes until an access is narrower.
struct Range {
  uintptr_t first, end;
  bool shared = false, read_only = false;
  std::string name;
  unsigned unit = 4;
  std::vector<Cell> cells;
};
std::vector<std::unique_ptr<Range> > ranges;
Range* last_range = nullptr;
std::unique_ptr<Range> arena;

// Sets of readers of shared cells: a thread's time each, dropped at every barrier of the whole block.
std::vector<uint32_t> sets;
uint32_t sets_used = 1;  // 0 means none

uint32_t* set_at(uint32_t index) { return sets.data() + size_t{index} * block.threads.size(); }
uint32_t new_set() {
  const uint32_t index = sets_used++;
  const size_t needed = size_t{sets_used} * block.threads.size();
  if (sets.size() < needed) sets.resize(2 * needed);
  std::fill_n(set_at(index), block.threads.size(), 0u);
  return index;
}

/// Halves the unit of a range's cells.
void refine(Range& range) {
  std::vector<Cell> cells;
  cells.reserve(2 * range.cells.size());
  for (const Cell& cell : range.cells) {
    cells.push_back(cell);
    cells.push_back(cell);
    if (range.shared && cell.more && cell.reader.epoch == epoch) {
      const uint32_t copy = new_set();
      std::copy_n(set_at(cell.more), block.threads.size(), set_at(copy));
      cells.back().more = copy;
    }
  }
  range.cells = std::move(cells);
  range.unit /= 2;
}

// Where an access was made, in four bytes: a place in the program, or (with the top bit) a line that the emulator works
// for.
constexpr uint32_t is_site = 1u << 31;
std::vector<Site> sites;
extern "C" const char __executable_start;

uint32_t place_of(const void* pc) {
  if (block.site.line == 0) return static_cast<uint32_t>(static_cast<const char*>(pc) - &__executable_start);
  static size_t last = 0;
  if (last >= sites.size() || !(sites[last] == block.site)) {
    last = static_cast<size_t>(std::find(sites.begin(), sites.end(), block.site) - sites.begin());
    if (last == sites.size()) sites.push_back(block.site);
  }
  return is_site | static_cast<uint32_t>(last);
}

/// "kernel.cu:12" by addr2line where it is installed, else the address within the program.
std::string line_of(uint32_t place) {
  char text[512];
  std::snprintf(text, sizeof text, "addr2line -e /proc/%d/exe 0x%x 2>/dev/null", static_cast<int>(getpid()), place - 1);
  std::string line;
  if (FILE* const pipe = popen(text, "r")) {
    if (std::fgets(text, sizeof text, pipe)) line = text;
    pclose(pipe);
  }
  line = line.substr(0, line.find_first_of(" \n"));
  if (!line.empty() && line[0] != '?') return std::filesystem::path(line).lexically_normal();
  std::snprintf(text, sizeof text, "program + 0x%x", place);
  return text;
}

std::string source_of(uint32_t place) {
  if (place & is_site) return to_string(sites[place & ~is_site]);
  static std::map<uint32_t, std::string> known;
  std::string& line = known[place];
  if (line.empty()) line = line_of(place);
  return line;
}

std::string name_of(const Range& range, uintptr_t at) {
  if (range.shared) return name_of_shared(reinterpret_cast<const void*>(at));
  return range.name + " byte " + std::to_string(at - range.first);
}

struct Accessor {
  Range& range;
  uintptr_t at;
  const void* pc;

  [[noreturn]] void fail_for_race(const char* kind, int other, uint32_t other_place) const {
    const InEmulator guard(block.site);
    fail(std::string("data race (") + kind + "): " + name_of(range, at) + ", thread " +
         std::to_string(block.current->number) + " at " + source_of(place_of(pc)) +
         (other < 0 ? " and an earlier block"
                    : " and thread " + std::to_string(other) + (other_place ? " at " + source_of(other_place) : "")));
  }
  /// Whether an earlier access is not ordered before the running thread's.
  bool races(uint32_t when, int thread, uint32_t time) const {
    if (when < (range.shared ? block_epoch : launch_epoch)) return false;
    if (when < block_epoch) return true;  // by another block of this launch
    if (when < epoch || thread == block.current->number) return false;
    return clocks[static_cast<size_t>(block.current->number)][static_cast<size_t>(thread)] < time;
  }
  bool races(const Stamp& stamp) const { return stamp.thread >= 0 && races(stamp.epoch, stamp.thread, stamp.time); }

  Stamp now() const {
    const size_t me = static_cast<size_t>(block.current->number);
    return {epoch, clocks[me][me], place_of(pc), static_cast<int16_t>(me)};
  }

  void check_readers(const Cell& cell) const {
    if (races(cell.reader)) fail_for_race("write after read", cell.reader.thread, cell.reader.place);
    if (cell.foreign_epoch >= launch_epoch && !range.shared) fail_for_race("write after read", -1, 0);
    if (cell.more == 0 || cell.reader.epoch != epoch) return;
    if (!range.shared) {
      if (races(epoch, cell.second, cell.more)) fail_for_race("write after read", cell.second, 0);
      return;
    }
    const uint32_t* const set = set_at(cell.more);
    for (int thread = 0; thread < block.size(); ++thread)
      if (set[thread] && races(epoch, thread, set[thread])) fail_for_race("write after read", thread, 0);
  }

  void write(Cell& cell, bool atomic) const {
    if (!(atomic && cell.atomic) && races(cell.writer))
      fail_for_race("write after write", cell.writer.thread, cell.writer.place);
    check_readers(cell);
    cell = {now(), {}, 0, 0, -1, atomic};
  }

  void read(Cell& cell) const {
    if (races(cell.writer)) fail_for_race("read after write", cell.writer.thread, cell.writer.place);
    if (range.shared && (cell.writer.thread < 0 || cell.writer.epoch < block_epoch)) {
      const InEmulator guard(block.site);
      fail("uninitialised read of " + name_of(range, at) + ", thread " + std::to_string(block.current->number) +
           " at " + source_of(place_of(pc)));
    }
    const Stamp stamp = now();
    if (cell.reader.thread < 0 || cell.reader.epoch != epoch || cell.reader.thread == stamp.thread) {
      if (cell.reader.thread >= 0 && cell.reader.epoch >= launch_epoch && cell.reader.epoch < block_epoch)
        cell.foreign_epoch = cell.reader.epoch;
      const bool same = cell.reader.epoch == epoch && cell.more;
      if (same && range.shared) set_at(cell.more)[stamp.thread] = stamp.time;
      if (!same) cell.more = 0;
      cell.reader = stamp;
    } else if (range.shared) {
      if (!cell.more) cell.more = new_set();
      set_at(cell.more)[stamp.thread] = stamp.time;
    } else {
      cell.second = stamp.thread;
      cell.more = stamp.time;
    }
  }
};

Range* find_range(uintptr_t at) {
  if (is_shared(reinterpret_cast<const void*>(at))) return arena.get();
  if (last_range && at >= last_range->first && at < last_range->end) return last_range;
  for (const auto& range : ranges)
    if (at >= range->first && at < range->end) return last_range = range.get();
  return nullptr;
}

void check(const void* p, size_t bytes, Access access, const void* pc) {
  const auto at = reinterpret_cast<uintptr_t>(p);
  Range* const range = find_range(at);
  if (!range) return;
  const auto refuse = [&](const std::string& what) {
    const InEmulator guard(block.site);
    fail(what + ": " + name_of(*range, at) + ", thread " + std::to_string(block.current->number) + " at " +
         source_of(place_of(pc)));
  };
  if (range->shared ? !is_allocated_shared(p, bytes) : at + bytes > range->end) refuse("access out of bounds");
  if (range->read_only) {
    if (access != Access::read) refuse("write to read-only memory");
    return;
  }
  const size_t offset = at - range->first;
  while ((offset | bytes) % range->unit) refine(*range);
  for (size_t i = offset / range->unit; i < (offset + bytes) / range->unit; ++i) {
    const Accessor accessor{*range, range->first + i * range->unit, pc};
    if (access == Access::read)
      accessor.read(range->cells[i]);
    else
      accessor.write(range->cells[i], access == Access::atomic);
  }
}

[[noreturn]] void refuse_misaligned(size_t bytes, const void* pc) {
  const InEmulator guard(block.site);
  fail("misaligned access of " + std::to_string(bytes) + " bytes at " + source_of(place_of(pc)));
}

void join(Clock& into, const Clock& from) {
  for (size_t i = 0; i < into.size(); ++i) into[i] = std::max(into[i], from[i]);
}

void next_epoch() {
  ++epoch;
  sets_used = 1;
}

}  // namespace

void begin_launch() {
  next_epoch();
  launch_epoch = epoch;
}

void begin_block() {
  if (!arena && shared_arena()) {
    const auto first = reinterpret_cast<uintptr_t>(shared_arena());
    arena = std::make_unique<Range>(Range{first, first + arena_bytes, true, false, "shared memory", 4, {}});
    arena->cells.resize(arena_bytes / arena->unit);
  }
  next_epoch();
  block_epoch = epoch;
  clocks.assign(block.threads.size(), Clock(block.threads.size(), 0));
  for (size_t i = 0; i < clocks.size(); ++i) clocks[i][i] = 1;
}

void order_block() { next_epoch(); }

void order_threads(const std::vector<int>& threads) {
  Clock all(block.threads.size(), 0);
  for (int thread : threads) join(all, clocks[static_cast<size_t>(thread)]);
  for (int thread : threads) {
    const auto i = static_cast<size_t>(thread);
    clocks[i] = all;
    ++clocks[i][i];
  }
}

void order_lanes(int warp, unsigned mask) {
  std::vector<int> threads;
  for (int i = 0; i < warp_size; ++i)
    if (mask >> i & 1) threads.push_back(warp * warp_size + i);
  order_threads(threads);
}

void release(int thread, Clock& clock) {
  const auto i = static_cast<size_t>(thread);
  clock.resize(block.threads.size());
  join(clock, clocks[i]);
  ++clocks[i][i];
}

void acquire(int thread, const Clock& clock) {
  if (!clock.empty()) join(clocks[static_cast<size_t>(thread)], clock);
}

}  // namespace race

void note_access(const void* p, size_t bytes, Access access) {
  if (block.current && bytes) race::check(p, bytes, access, __builtin_return_address(0));
}

void register_memory(const void* p, size_t bytes, const char* name) {
  if (!bytes) return;
  const auto first = reinterpret_cast<uintptr_t>(p);
  race::ranges.push_back(std::make_unique<race::Range>(race::Range{first, first + bytes, false, false, name, 4, {}}));
  race::ranges.back()->cells.resize((bytes + 3) / 4);
}

void unregister_memory(const void* p) {
  race::last_range = nullptr;
  std::erase_if(race::ranges, [p](const auto& range) { return range->first == reinterpret_cast<uintptr_t>(p); });
}

void make_read_only(const void* p) {
  for (const auto& range : race::ranges)
    if (range->first == reinterpret_cast<uintptr_t>(p)) range->read_only = true;
}

namespace {

void hook(const void* p, size_t bytes, Access access, const void* pc) {
  if (block.in_kernel) race::check(p, bytes, access, pc);
}
void aligned_hook(const void* p, size_t bytes, Access access, const void* pc) {
  if (block.in_kernel && reinterpret_cast<uintptr_t>(p) % bytes) race::refuse_misaligned(bytes, pc);
  hook(p, bytes, access, pc);
}

}  // namespace
}  // namespace emulator

// What -fsanitize=thread calls.
extern "C" {
#define RANVIER_HOOKS(bytes)                                                                \
  void __tsan_read##bytes(void* p) {                                                        \
    emulator::aligned_hook(p, bytes, emulator::Access::read, __builtin_return_address(0));  \
  }                                                                                         \
  void __tsan_write##bytes(void* p) {                                                       \
    emulator::aligned_hook(p, bytes, emulator::Access::write, __builtin_return_address(0)); \
  }                                                                                         \
  void __tsan_unaligned_read##bytes(void* p) {                                              \
    emulator::hook(p, bytes, emulator::Access::read, __builtin_return_address(0));          \
  }                                                                                         \
  void __tsan_unaligned_write##bytes(void* p) {                                             \
    emulator::hook(p, bytes, emulator::Access::write, __builtin_return_address(0));         \
  }
RANVIER_HOOKS(1)
RANVIER_HOOKS(2)
RANVIER_HOOKS(4)
RANVIER_HOOKS(8)
RANVIER_HOOKS(16)
#undef RANVIER_HOOKS
void __tsan_read_range(void* p, long bytes) {
  emulator::hook(p, static_cast<size_t>(bytes), emulator::Access::read, __builtin_return_address(0));
}
void __tsan_write_range(void* p, long bytes) {
  emulator::hook(p, static_cast<size_t>(bytes), emulator::Access::write, __builtin_return_address(0));
}
void __tsan_func_entry(void*) {}
void __tsan_func_exit(void*) {}
void __tsan_vptr_update(void**, void*) {}
void __tsan_vptr_read(void**) {}
void __tsan_init() {}
}
#endif
